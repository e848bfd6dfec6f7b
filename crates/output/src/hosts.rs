//! The `hosts` of an output: from what people write to what is connected to.
//!
//! Comes in: `es`, `es:9201`, `https://user:pw@es.example/path`, `[::1]:9200`, `::1`. Goes out: a [`Host`] with the
//! defaults of the output filled in. Always holds: credentials in a URL never appear in what is shown or logged.
//! Tested below.

use std::fmt;

/// One target of an output.
#[derive(Clone, PartialEq, Eq)]
pub struct Host {
    /// Whether TLS was asked for by `https` (or another scheme's TLS form); `None` when no scheme was given.
    pub scheme: Option<String>,
    /// The name or address, without brackets.
    pub name: String,
    /// The port, 1 to 65535.
    pub port: u16,
    /// The path, empty or with a leading slash and without one at its end.
    pub path: String,
    /// The query, without the question mark; empty when there is none.
    pub query: String,
    /// User and password in the URL, percent-decoded.
    pub user: Option<(String, String)>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({self})")
    }
}

impl fmt::Display for Host {
    /// `name:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl Host {
    /// Reads one entry of `hosts`. The error says what is wrong with it, without the text itself (it may hold a
    /// password).
    pub fn parse(text: &str, default_port: u16) -> Result<Host, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some((s, rest)) => (Some(s.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let tail = tail.split('#').next().unwrap_or_default();
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let (user, at) = match authority.rsplit_once('@') {
            Some((user, at)) => (Some(user), at),
            None => (None, authority),
        };
        let user = user.map(|u| {
            let (name, password) = u.split_once(':').unwrap_or((u, ""));
            (percent_decode(name), percent_decode(password))
        });
        let (name, port) = split_port(at)?;
        if name.is_empty() {
            return Err("it has no host name".into());
        }
        if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("the host name has a blank or a control character".into());
        }
        let port = match port {
            None => default_port,
            Some(p) => match p.parse::<u16>() {
                Ok(n) if n > 0 => n,
                _ => return Err(format!("the port {p:?} isn't a number from 1 to 65535")),
            },
        };
        let path = path.trim_end_matches('/').to_string();
        Ok(Host { scheme, name: name.to_string(), port, path, query: query.to_string(), user })
    }
}

/// `name:port`, `[v6]:port`, `[v6]`, a bare v6 address, or a name alone.
fn split_port(at: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = at.strip_prefix('[') {
        let Some((name, tail)) = rest.split_once(']') else {
            return Err("the bracket of the IPv6 address isn't closed".into());
        };
        return match tail.strip_prefix(':') {
            Some(port) => Ok((name, Some(port))),
            None if tail.is_empty() => Ok((name, None)),
            None => Err("there is text behind the IPv6 address".into()),
        };
    }
    if at.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((at, None));
    }
    match at.rsplit_once(':') {
        Some((name, _)) if name.contains(':') => Err("an IPv6 address with a port needs brackets".into()),
        Some((name, port)) => Ok((name, Some(port))),
        None => Ok((at, None)),
    }
}

/// Undoes `%41`; what isn't two hexadecimal digits stays as it is.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        let hex = text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (b, hex) {
            (b'%', Some(v)) => {
                out.push(v);
                i += 3;
            }
            _ => {
                out.push(b);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes text so that it can stand in a path segment or a query value.
pub fn percent_encode(text: &str, out: &mut String) {
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b',' | b'*' => {
                out.push(char::from(b))
            }
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(b >> 4)]));
                out.push(char::from(HEX[usize::from(b & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, shown, scheme, path, user) in [
            ("es", "es:9200", None, "", None),
            ("es:9201", "es:9201", None, "", None),
            ("https://es.example", "es.example:9200", Some("https"), "", None),
            ("HTTP://10.0.0.1:80/es/", "10.0.0.1:80", Some("http"), "/es", None),
            ("[::1]:9201", "[::1]:9201", None, "", None),
            ("::1", "[::1]:9200", None, "", None),
            ("http://[2001:db8::2]", "[2001:db8::2]:9200", Some("http"), "", None),
            ("https://a%40b:p%3Aw@es:1/x?y=z", "es:1", Some("https"), "/x", Some(("a@b", "p:w"))),
        ] {
            let h = Host::parse(text, 9200).unwrap();
            assert_eq!(h.to_string(), shown, "{text}");
            assert_eq!(h.scheme.as_deref(), scheme, "{text}");
            assert_eq!(h.path, path, "{text}");
            assert_eq!(h.user.as_ref().map(|(a, b)| (a.as_str(), b.as_str())), user, "{text}");
        }
    }

    #[test]
    fn what_is_refused_and_says_why_without_the_password() {
        for (text, why) in [
            ("", "no host name"),
            ("http://:9200", "no host name"),
            ("es:0", "1 to 65535"),
            ("es:http", "1 to 65535"),
            ("es:70000", "1 to 65535"),
            ("[::1", "closed"),
            ("[::1]x", "behind"),
            ("2001:db8::1:x:9200", "brackets"),
            ("a b", "blank"),
            ("u:secret@", "no host name"),
        ] {
            let e = Host::parse(text, 9200).unwrap_err();
            assert!(e.contains(why), "{text}: {e}");
            assert!(!e.contains("secret"));
        }
        assert!(!format!("{:?}", Host::parse("u:secret@h", 1).unwrap()).contains("secret"));
    }

    #[test]
    fn percent_both_ways() {
        let mut out = String::new();
        percent_encode("a b/ä&=", &mut out);
        assert_eq!(out, "a%20b%2F%C3%A4%26%3D");
        assert_eq!(percent_decode(&out), "a b/ä&=");
        assert_eq!(percent_decode("%zz%4"), "%zz%4");
    }
}
