//! Text that is safe on a terminal, and how wide it is there.

use std::borrow::Cow;
use unicode_truncate::UnicodeTruncateStr;
use unicode_width::UnicodeWidthStr;

/// Returns the text with every character escaped that could move the cursor, or reorder or hide text.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_unsafe(c) {
            true => safe.extend(c.escape_default()),
            false => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Returns whether a terminal may interpret the character, or show nothing for it.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Returns the text quoted as one argument of a shell command.
pub(crate) fn shell_quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('-') {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// Returns an option and its value quoted as arguments of a shell command.
pub(crate) fn shell_option(name: &str, value: &str) -> String {
    // After a space, a value that begins with a dash would be taken for an option.
    let separator = if value.starts_with('-') { '=' } else { ' ' };
    format!("{name}{separator}{}", shell_quoted(value))
}

/// Returns the width in columns; an emoji of several characters counts as one.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Returns the text cut to `columns`, ending in `…` when something is missing.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let (kept, _) = text.unicode_truncate(columns.saturating_sub(1));
    Cow::Owned(format!("{kept}…"))
}

/// Returns the text in pieces of at most `columns`.
pub(crate) fn wrapped(text: &str, columns: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        // A character wider than `columns` is a piece by itself.
        let least = text.chars().next().map_or(0, char::len_utf8);
        let (piece, more) = text.split_at(text.unicode_truncate(columns).0.len().max(least));
        rest = Some(more).filter(|more| !more.is_empty());
        Some(piece)
    })
}

/// Returns the problem, and below it the text with a caret under the byte `at`.
pub(crate) fn with_caret(text: &str, at: usize, problem: &str) -> String {
    let before = width(&printable(&text[..at]));
    format!("{problem}\n  {}\n  {}^", printable(text), " ".repeat(before))
}

/// Formats a size as Postgres does: `326 MB`; a kB has 1024 bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1_023.5 && unit + 1 < UNITS.len() {
        size /= 1_024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && size < 9.95);
    format!("{size:.digits$} {}", UNITS[unit])
}

/// Formats a rate; small ones have one decimal place.
pub(crate) fn rate(times: f64) -> String {
    match times {
        0.0 => "0".to_owned(),
        ..0.05 => "<0.1".to_owned(),
        ..9.95 => format!("{times:.1}"),
        _ => format!("{times:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_or_three_significant_digits() {
        for (size, text) in [
            (0, "0 bytes"),
            (1_023, "1023 bytes"),
            (1_024, "1.0 kB"),
            (10_200, "10 kB"),
            (1_048_000, "1023 kB"),
            (1_048_500, "1.0 MB"),
            (342_000_000, "326 MB"),
            (u64::MAX, "16777216 TB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn a_rate_is_zero_only_when_nothing_happened() {
        for (times, text) in [(0.0, "0"), (0.01, "<0.1"), (0.2, "0.2"), (9.94, "9.9"), (9.96, "10"), (1234.5, "1234")] {
            assert_eq!(rate(times), text);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let odd = "a\u{1b}[31mred\u{9b}0m\r\n\t\u{7f}\u{202e}txt\u{0}";
        let safe = printable(odd);
        assert!(!safe.chars().any(is_unsafe), "{safe}");
        assert_eq!(safe, "a\\u{1b}[31mred\\u{9b}0m\\r\\n\\t\\u{7f}\\u{202e}txt\\u{0}");
    }

    #[test]
    fn a_shell_takes_quoted_text_as_one_argument() {
        for (name, argument) in
            [("mail", "mail"), ("my mail", "'my mail'"), ("-rf", "'-rf'"), ("a$b", "'a$b'"), ("", "''")]
        {
            assert_eq!(shell_quoted(name), argument);
        }
        assert_eq!(shell_quoted("o'clock"), r"'o'\''clock'");
        assert_eq!(shell_option("--schema", "my jobs"), "--schema 'my jobs'");
        assert_eq!(shell_option("--schema", "-rf"), "--schema='-rf'");
    }

    #[test]
    fn invisible_and_reordering_characters_are_escaped() {
        for odd in
            "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{180b}\u{180e}\u{200b}\u{3164}\u{ffa0}\u{e0100}".chars()
        {
            assert_eq!(printable(&format!("a{odd}b")), format!("a{}b", odd.escape_default()));
        }
    }

    #[test]
    fn safe_text_is_unchanged() {
        for text in ["", "plain", "Grüße 🦀 日本", "a \\ \"b\"", "👩\u{200d}🚀", "❤\u{fe0f}"] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn cut_text_fits_and_is_marked() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("日本語", 4), "日…");
        for columns in 1..8 {
            assert!(width(&cut("a日b本c語", columns)) <= columns);
        }
    }

    #[test]
    fn an_emoji_of_several_characters_is_cut_as_one() {
        let crew = "👩\u{200d}🚀❤\u{fe0f}🇩🇪";
        assert_eq!(width(crew), 6);
        assert_eq!(cut(crew, 5), "👩\u{200d}🚀❤\u{fe0f}…");
        assert_eq!(cut(crew, 3), "👩\u{200d}🚀…");
        assert_eq!(cut(crew, 2), "…");
    }

    #[test]
    fn wrapped_text_is_complete() {
        for (text, columns) in
            [("", 3), ("abc", 3), ("abcdefg", 3), ("a日本b語", 3), ("日本", 1), ("👩\u{200d}🚀👩\u{200d}🚀", 3)]
        {
            let pieces: Vec<_> = wrapped(text, columns).collect();
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|piece| width(piece) <= columns.max(2)), "{pieces:?}");
        }
        assert_eq!(wrapped("abcdefg", 3).collect::<Vec<_>>(), ["abc", "def", "g"]);
        assert_eq!(wrapped("", 3).count(), 1, "an empty line is a line");
    }
}
