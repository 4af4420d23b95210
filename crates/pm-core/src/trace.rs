//! The trace in which a job was enqueued, by the W3C recommendation Trace Context.

use crate::Error;
use std::fmt;
use std::sync::Arc;

/// What precedes the stored context of a job that must not become part of its trace: a copy, or a restarted job. The
/// part `link_only` of the statements has it, too.
const LINK: &str = "link ";

/// The length of a traceparent of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// The span in which a job is enqueued: the values of the headers `traceparent` and `tracestate` of the W3C
/// recommendation Trace Context. A clone shares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext(Arc<str>);

impl TraceContext {
    /// The maximum length of both values and the space between them, in bytes. A state of 512 bytes always fits.
    pub const MAX_BYTES: usize = 600 - LINK.len();

    /// Returns the context with these values of `traceparent` and `tracestate`.
    ///
    /// A state that is too long, or has other characters than printable ASCII, is left out, as the recommendation
    /// allows. What the state means is not checked.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the traceparent is not one of version 00, `00-TRACE-SPAN-FLAGS` in lower-case hex, or
    /// when the id of the trace or the span is zero.
    pub fn new(traceparent: &str, tracestate: Option<&str>) -> Result<Self, Error> {
        if !is_traceparent(traceparent) {
            let shown: String = traceparent.chars().take(60).collect();
            return Err(Error::invalid(format!("the traceparent {shown:?}"), "is not one of version 00"));
        }
        let is_printable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let tracestate = tracestate.map(str::trim).filter(|state| !state.is_empty() && is_printable(state));
        let fitting = tracestate.filter(|state| TRACEPARENT_BYTES + 1 + state.len() <= Self::MAX_BYTES);
        Ok(TraceContext(fitting.map_or_else(|| traceparent.into(), |state| format!("{traceparent} {state}").into())))
    }

    /// Returns the value of `traceparent`.
    pub fn traceparent(&self) -> &str {
        self.0.get(..TRACEPARENT_BYTES).unwrap_or_default()
    }

    /// Returns the value of `tracestate`, if there is one.
    pub fn tracestate(&self) -> Option<&str> {
        self.0.get(TRACEPARENT_BYTES + 1..)
    }

    /// Returns both as they are stored: the traceparent, and after a space the tracestate.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an attempt at a job relates to the span in which the job was enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobTrace {
    /// The job was enqueued in this span and has its first attempt, which belongs to the same trace: the span is its
    /// parent.
    Parent(TraceContext),
    /// The attempt is a retry, or one after a snooze or a restart, or the job is a copy: it begins a trace of its own,
    /// with a link to this span.
    Link(TraceContext),
}

impl JobTrace {
    /// Returns the span in which the job was enqueued; for a copy, that of the job that was copied.
    pub fn context(&self) -> &TraceContext {
        match self {
            JobTrace::Parent(context) | JobTrace::Link(context) => context,
        }
    }

    /// Reads the trace of a job from its column. Returns `None` for a text that pm would not have written.
    pub(crate) fn from_stored(stored: &str, is_first_attempt: bool) -> Option<Self> {
        let (text, is_marked) = stored.strip_prefix(LINK).map_or((stored, false), |text| (text, true));
        let (traceparent, tracestate) =
            text.split_once(' ').map_or((text, None), |(parent, state)| (parent, Some(state)));
        let context = TraceContext::new(traceparent, tracestate).ok().filter(|context| context.as_str() == text)?;
        Some(if is_first_attempt && !is_marked { JobTrace::Parent(context) } else { JobTrace::Link(context) })
    }
}

fn is_traceparent(text: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = |id: &str, length| id.len() == length && is_hex(id) && id.bytes().any(|byte| byte != b'0');
    let mut parts = text.split('-');
    let [version, trace, span, flags] = [(); 4].map(|()| parts.next().unwrap_or_default());
    parts.next().is_none()
        && version == "00"
        && is_id(trace, 32)
        && is_id(span, 16)
        && flags.len() == 2
        && is_hex(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(tracestate: &str) -> TraceContext {
        TraceContext::new(PARENT, Some(tracestate)).unwrap()
    }

    #[test]
    fn a_context_has_its_two_values() {
        let both = context(" a=1, b=2 ");
        assert_eq!(both.as_str(), format!("{PARENT} a=1, b=2"));
        assert_eq!((both.traceparent(), both.tracestate()), (PARENT, Some("a=1, b=2")));
        let alone = TraceContext::new(PARENT, None).unwrap();
        assert_eq!((alone.traceparent(), alone.tracestate()), (PARENT, None));
    }

    #[test]
    fn a_state_that_cannot_be_stored_is_left_out() {
        let state = |bytes| "s".repeat(bytes);
        let most = TraceContext::MAX_BYTES - TRACEPARENT_BYTES - 1;
        assert!(most >= 512);
        assert_eq!(context(&state(most)).as_str().len() + LINK.len(), 600);
        for dropped in [&state(most + 1), "", " ", "é=1", "a=\nb"] {
            assert_eq!(context(dropped).tracestate(), None, "{dropped:?}");
        }
    }

    #[test]
    fn only_a_traceparent_of_version_00_is_taken() {
        let zeros = |digits| "0".repeat(digits);
        let (no_trace, no_span) = (PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros(32)), zeros(16));
        for wrong in [
            "",
            "00",
            &PARENT[1..],
            &format!("{PARENT}-"),
            &format!("{PARENT}-00"),
            &PARENT.replacen("00-", "01-", 1),
            &PARENT.to_uppercase(),
            &PARENT.replace('-', "_"),
            &PARENT.replace('7', "é"),
            &no_trace,
            &PARENT.replace("00f067aa0ba902b7", &no_span),
            &PARENT.replace("-01", "-1"),
            &PARENT.replace("-01", "-0x"),
        ] {
            assert!(TraceContext::new(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_stored_is_read_and_anything_else_is_none() {
        for context in [context("a=1"), context("")] {
            let marked = format!("{LINK}{context}");
            let read = |text: &str, is_first| JobTrace::from_stored(text, is_first);
            assert_eq!(read(context.as_str(), true), Some(JobTrace::Parent(context.clone())));
            for read in [read(context.as_str(), false), read(&marked, true), read(&marked, false)] {
                assert_eq!(read.as_ref().map(JobTrace::context), Some(&context));
                assert!(matches!(read, Some(JobTrace::Link(_))));
            }
        }
        let long = format!("{PARENT} {}", "s".repeat(600));
        let twice = format!("{LINK}{LINK}{PARENT}");
        for odd in ["", LINK, &long, &twice, &format!("{PARENT} "), &format!("{PARENT}  a=1"), &format!("{PARENT} é")]
        {
            assert_eq!(JobTrace::from_stored(odd, true), None, "{odd}");
        }
    }
}
