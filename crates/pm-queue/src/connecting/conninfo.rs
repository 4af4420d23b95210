//! Parsing a connection string: a URL, or `key=value` pairs.

use super::parameters::{self, Parameters};
use crate::Error;
use percent_encoding::percent_decode_str;

/// Parses a connection string as libpq does. The empty string sets no parameter. Errors: `Invalid`. No error shows a
/// value, which could be part of a password.
pub(super) fn parse(text: &str) -> Result<Parameters, Error> {
    if text.contains('\0') {
        return Err(invalid("it contains a NUL character"));
    }
    if let Some(rest) = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
        return url(rest);
    }
    let scheme = text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains(['=', ' ']));
    match scheme || (!text.contains('=') && !text.trim().is_empty()) {
        true => Err(Error::invalid(
            "this is not a Postgres URL: write it like postgres://user@host:5432/database, or as key=value pairs",
        )),
        false => pairs(text),
    }
}

fn invalid(why: &str) -> Error {
    Error::bad_url(why)
}

fn url(rest: &str) -> Result<Parameters, Error> {
    if rest.contains(char::is_control) {
        return Err(invalid("it contains a control character"));
    }
    let mut found = Parameters::default();
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.matches('@').count() > 1 {
        return Err(invalid("it has more than one @ before the host; write an @ inside a name or password as %40"));
    }
    let (credentials, hosts) = authority.split_once('@').unwrap_or(("", authority));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    read_hosts(hosts, &mut found)?;
    for (name, value) in [("user", user), ("password", password), ("dbname", database)] {
        if !value.is_empty() {
            found.set(name, decoded(value, name)?);
        }
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(invalid("a parameter after the ? has no =; write an & inside a value as %26"));
        };
        let name = decoded(name, "a parameter name")?;
        read_parameter(&name, decoded(value, &name)?, &mut found)?;
    }
    Ok(found)
}

/// Parses `host:port,host:port`.
fn read_hosts(text: &str, found: &mut Parameters) -> Result<(), Error> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for entry in text.split(',') {
        let (host, port) = match entry.strip_prefix('[') {
            Some(rest) => {
                let closed = rest.split_once(']').filter(|(_, after)| after.is_empty() || after.starts_with(':'));
                let (host, after) = closed.ok_or_else(|| invalid("an IPv6 address has no closing bracket"))?;
                (host, after.strip_prefix(':').unwrap_or_default())
            }
            None => entry.split_once(':').unwrap_or((entry, "")),
        };
        if port.contains(':') {
            return Err(invalid("a host has more than one colon; write an IPv6 address in brackets, like [::1]:5432"));
        }
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid(
                "a port is not a number; inside a name or password write / as %2F, ? as %3F, @ as %40 and : as %3A",
            ));
        }
        hosts.push(decoded(host, "host")?);
        ports.push(port);
    }
    if hosts.iter().any(|host| !host.is_empty()) {
        found.set("host", hosts.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        found.set("port", ports.join(","));
    }
    Ok(())
}

/// Stores one parameter of a URL's query or of a pair, under libpq's name.
fn read_parameter(name: &str, value: String, found: &mut Parameters) -> Result<(), Error> {
    if let Some(setting) = name.strip_prefix("options[").and_then(|rest| rest.strip_suffix(']')) {
        let before = found.value("options").map_or(String::new(), |before| format!("{before} "));
        let escaped = value.replace('\\', "\\\\").replace(' ', "\\ ");
        found.set("options", format!("{before}-c {setting}={escaped}"));
        return Ok(());
    }
    // libpq accepts this spelling of JDBC.
    let (name, value) = match (name, value.as_str()) {
        ("ssl", "true") => ("sslmode", "require".to_owned()),
        _ => (name, value),
    };
    match parameters::known(name) {
        Some(name) => found.set(name, value),
        None => return Err(parameters::unknown(name, "the connection string")),
    }
    Ok(())
}

fn pairs(text: &str) -> Result<Parameters, Error> {
    let mut found = Parameters::default();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((name, after)) =
            rest.split_once('=').filter(|(name, _)| !name.trim_end().contains(char::is_whitespace))
        else {
            return Err(invalid("a parameter has no =; put a value with blanks in single quotes"));
        };
        let (value, after) = pair_value(after.trim_start())?;
        read_parameter(name.trim_end(), value, &mut found)?;
        rest = after.trim_start();
    }
    Ok(found)
}

/// Parses a value, quoted or not; returns it and the rest of the text.
fn pair_value(text: &str) -> Result<(String, &str), Error> {
    let is_quoted = text.starts_with('\'');
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(usize::from(is_quoted)) {
        match c {
            _ if is_escaped => {
                value.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '\'' if is_quoted => return Ok((value, &text[at + 1..])),
            c if !is_quoted && c.is_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    match is_quoted {
        true => Err(invalid("a quoted value has no closing quote")),
        false => Ok((value, "")),
    }
}

/// Decodes the `%xx` sequences of a text; errors call it `what`.
fn decoded(text: &str, what: &str) -> Result<String, Error> {
    let is_escape =
        |rest: &str| matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        let problem = format!("in {what} a % is not followed by two hexadecimal digits; write a literal % as %25");
        return Err(invalid(&problem));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if decoded.contains('\0') => Err(invalid(&format!("{what} contains %00"))),
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(invalid(&format!("the percent-encoding of {what} is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[track_caller]
    fn reads_as(text: &str, expected: &[(&str, &str)]) {
        let found = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(found.all().collect::<BTreeMap<_, _>>(), expected.iter().copied().collect(), "{text}");
    }

    #[test]
    fn urls_are_parsed_as_libpq_does() {
        reads_as("postgres://", &[]);
        reads_as("postgresql:///app", &[("dbname", "app")]);
        reads_as("postgres://db/app", &[("host", "db"), ("dbname", "app")]);
        reads_as("postgres://ada:s%40c%3Aret@db", &[("host", "db"), ("user", "ada"), ("password", "s@c:ret")]);
        reads_as("postgres://a:1,b,[::1]:3/", &[("host", "a,b,::1"), ("port", "1,,3")]);
        reads_as("postgres://%2Ftmp%2Fpm:5433/app", &[("host", "/tmp/pm"), ("port", "5433"), ("dbname", "app")]);
        reads_as("postgres:///app?host=/tmp,b&port=1,2", &[("host", "/tmp,b"), ("port", "1,2"), ("dbname", "app")]);
        reads_as("postgres://h?ssl=true", &[("host", "h"), ("sslmode", "require")]);
        reads_as("postgres://h?sslmode=disable&sslmode=require&", &[("host", "h"), ("sslmode", "require")]);
        reads_as("postgres://h?options=-c%20geqo%3Doff", &[("host", "h"), ("options", "-c geqo=off")]);
        reads_as("postgres://h?options[a]=1&options[b]=x%20y", &[("host", "h"), ("options", "-c a=1 -c b=x\\ y")]);
    }

    #[test]
    fn pairs_are_parsed_as_libpq_does() {
        reads_as("", &[]);
        reads_as("host=db user = ada", &[("host", "db"), ("user", "ada")]);
        reads_as("host = 'a b'\n password='hun\\'ter\\\\'", &[("host", "a b"), ("password", "hun'ter\\")]);
        reads_as("password=a\\ b user=", &[("password", "a b"), ("user", "")]);
        reads_as("host=a,b password=x://y", &[("host", "a,b"), ("password", "x://y")]);
    }

    #[test]
    fn errors_show_no_values() {
        for bad in [
            "nonsense",
            "mysql://ada:hunter2@db/app",
            "postgres://ada:hunter2@x@db/app",
            "postgres://ada:hun/ter2@db/app",
            "postgres://hunter2:x/app",
            "postgres://a:1:2/app",
            "postgres://[::1/app",
            "postgres://[::1]x/app",
            "postgres://a\nb/c",
            "postgres://ada:hunter2%@db",
            "postgres://ada:hunter2%zz@db",
            "postgres://ada:hunter2%00@db",
            "postgres://ada:hunter2%ff@db",
            "postgres://db?password",
            "host=db password=hunter2 hunter2",
            "host=db password='hunter2",
            "a\0b=c",
        ] {
            let error = parse(bad).err().expect(bad).to_string();
            assert!(!error.contains("hunter2") && !error.contains("hun/ter2"), "{bad}: {error}");
        }
    }
}
