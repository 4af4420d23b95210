//! Hides passwords in messages.

use percent_encoding::percent_decode_str;

/// The replacement for a password.
const HIDDEN: &str = "***";
/// Shorter passwords are not replaced: they would match too much of a message.
const SHORTEST: usize = 3;

/// The known passwords.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Returns the passwords in a connection string, a URL or `key=value` pairs, as written and percent-decoded.
    pub(crate) fn of_connection(text: &str) -> Self {
        let mut secrets = Vec::new();
        if let Some((_, rest)) = text.split_once("://") {
            let credentials = rest.split_once('@').map_or("", |(credentials, _)| credentials);
            secrets.extend(credentials.split_once(':').map(|(_, password)| password.to_owned()));
            // With a second @, the first one belongs to the password.
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let longest = authority.rsplit_once('@').and_then(|(credentials, _)| credentials.split_once(':'));
            secrets.extend(longest.map(|(_, password)| password.to_owned()));
        }
        for (at, key) in text.match_indices("password") {
            let Some(value) = text[at + key.len()..].trim_start().strip_prefix('=') else { continue };
            let value = value.trim_start();
            let quoted = value.strip_prefix('\'').and_then(|value| value.split('\'').next());
            let plain = value.split(['&', ' ', '\t', '\n']).next().unwrap_or_default();
            secrets.push(quoted.unwrap_or(plain).to_owned());
        }
        let decode = |secret: &String| percent_decode_str(secret).decode_utf8_lossy().into_owned();
        let decoded: Vec<_> = secrets.iter().map(decode).collect();
        Secrets::default().and(secrets.into_iter().chain(decoded))
    }

    /// Adds passwords.
    pub(crate) fn and(mut self, passwords: impl IntoIterator<Item = String>) -> Self {
        self.0.extend(passwords.into_iter().filter(|password| password.len() >= SHORTEST));
        self.0.sort_by_key(|password| std::cmp::Reverse(password.len()));
        self
    }

    /// Returns the text with these passwords, and those of URLs in it, replaced.
    pub(crate) fn hide(&self, text: &str) -> String {
        let hidden = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN));
        hide_in_urls(&hidden)
    }
}

/// Replaces `secret` in every `scheme://user:secret@`.
pub(crate) fn hide_in_urls(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + "://".len());
        hidden.push_str(before);
        let end = url.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '<' | '>'));
        let (url, after) = url.split_at(end.unwrap_or(url.len()));
        match url.rsplit_once('@').and_then(|(credentials, host)| Some((credentials.split_once(':')?.0, host))) {
            Some((user, host)) => hidden.push_str(&format!("{user}:{HIDDEN}@{host}")),
            None => hidden.push_str(url),
        }
        rest = after;
    }
    hidden.push_str(rest);
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_all_forms_are_hidden() {
        for (connection, message) in [
            ("postgres://ada:hunter2@db/app", "hunter2"),
            ("postgres://ada:hunt%20er2@db/app", "hunt er2 and hunt%20er2"),
            ("postgres://ada:hun@ter2@db/app", "no host ter2@db for hun@ter2"),
            ("postgres://db/app?user=ada&password=hunter2&x=y", "hunter2"),
            ("host=db password=hunter2 user=ada", "hunter2"),
            ("host=db password='hunter 2' user=ada", "hunter 2"),
        ] {
            let hidden = Secrets::of_connection(connection).hide(&format!("{message}; {connection}"));
            for trace in ["hunter2", "hunt er2", "hunt%20er2", "hunter 2", "hun@ter2"] {
                assert!(!hidden.contains(trace), "{connection} -> {hidden}");
            }
        }
    }

    #[test]
    fn only_the_password_of_a_url_is_hidden() {
        let hidden = hide_in_urls("unexpected argument 'postgres://ada:hunter2@db:5432/app' found; see https://a/b@c");
        assert_eq!(hidden, "unexpected argument 'postgres://ada:***@db:5432/app' found; see https://a/b@c");
        assert_eq!(hide_in_urls("no url: a@b"), "no url: a@b");
    }
}
