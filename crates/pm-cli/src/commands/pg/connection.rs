//! Connection strings without their password, for what others may see.

/// A connection string, split.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// May stand among the arguments of a process.
    pub(super) without_password: String,
    pub(super) password: Option<String>,
}

impl Connection {
    /// Takes the password out of a URL or `key=value` pairs.
    pub(super) fn new(text: &str) -> Self {
        match text.split_once("://") {
            Some((scheme, rest)) => of_url(scheme, rest),
            None => of_pairs(text),
        }
    }
}

fn of_url(scheme: &str, rest: &str) -> Connection {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let mut password = None;
    let authority = match authority.rsplit_once('@') {
        Some((credentials, host)) => {
            let (user, given) = credentials.split_once(':').map_or((credentials, None), |(user, it)| (user, Some(it)));
            password = given.map(decoded);
            format!("{user}@{host}")
        }
        None => authority.to_owned(),
    };
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut kept = Vec::new();
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        match parameter.split_once('=') {
            Some((key, value)) if decoded(key) == "password" => password = Some(decoded(value)),
            _ => kept.push(parameter),
        }
    }
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    let password = password.filter(|password| !password.is_empty());
    Connection { without_password: format!("{scheme}://{authority}{path}{query}"), password }
}

fn of_pairs(text: &str) -> Connection {
    let (mut kept, mut password) = (Vec::new(), None);
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, length) = pair_value(after.trim_start());
        let begin = after.len() - after.trim_start().len();
        let pair = &rest[..key.len() + 1 + begin + length];
        match key.trim() {
            "password" => password = Some(value),
            _ => kept.push(pair),
        }
        rest = rest[pair.len()..].trim_start();
    }
    // What is no pair is not ours to judge, and may be part of a password.
    Connection { without_password: kept.join(" "), password: password.filter(|password| !password.is_empty()) }
}

/// Reads a value, quoted or not, and returns how long it is as written.
fn pair_value(text: &str) -> (String, usize) {
    let is_quoted = text.starts_with('\'');
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(usize::from(is_quoted)) {
        match c {
            _ if is_escaped => {
                value.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '\'' if is_quoted => return (value, at + 1),
            c if !is_quoted && c.is_whitespace() => return (value, at),
            c => value.push(c),
        }
    }
    (value, text.len())
}

fn decoded(text: &str) -> String {
    crate::redact::percent_decoded(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_taken_out_of_every_form() {
        for (text, without_password, password) in [
            ("postgres://ada:hunter2@db:5432/app", "postgres://ada@db:5432/app", Some("hunter2")),
            ("postgres://ada:a%40b%3A@db/app?sslmode=disable", "postgres://ada@db/app?sslmode=disable", Some("a@b:")),
            ("postgres://ada@%2Ftmp/app", "postgres://ada@%2Ftmp/app", None),
            ("postgres://ada:@db", "postgres://ada@db", None),
            ("postgres://db/app?user=ada&password=x%26y&a=b", "postgres://db/app?user=ada&a=b", Some("x&y")),
            ("postgres://db/app?pass%77ord=xyz", "postgres://db/app", Some("xyz")),
            ("host=db password=hunter2 user=ada", "host=db user=ada", Some("hunter2")),
            ("host = 'a b' password = 'hun\\'ter 2'  user=ada", "host = 'a b' user=ada", Some("hun'ter 2")),
            ("password=x", "", Some("x")),
            ("host=db password='unclosed", "host=db", Some("unclosed")),
        ] {
            let expected = Connection { without_password: without_password.into(), password: password.map(Into::into) };
            assert_eq!(Connection::new(text), expected, "{text}");
        }
    }
}
