//! Which values must never be shown, and how they are masked.
//!
//! Comes in: an option's name, or a line of a configuration's text. Goes out: whether it is secret; the line with
//! what is secret replaced by [`MASK`].
//!
//! Always holds: masking works on text alone, so that it also holds for a text that can't be parsed. It errs on the
//! side of hiding: after a secret key the rest of the line goes, and everything indented under one.
//! Tested below.

use std::borrow::Cow;

/// What stands in the place of a secret.
pub(crate) const MASK: &str = "********";

/// Words of option names whose values are secret; words are what stands between `_`, `-` and `.`.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "secret",
    "token",
    "credential",
    "credentials",
    "authorization",
    "cookie",
];

/// The same, for two words in a row.
const SECRET_PAIRS: &[(&str, &str)] = &[
    ("api", "key"),
    ("private", "key"),
    ("cloud", "auth"),
    ("ssl", "key"),
    ("secret", "key"),
    ("access", "key"),
    ("shared", "key"),
];

/// Is the value of this option secret? Takes a bare key or a whole path.
pub(crate) fn is_secret(key: &str) -> bool {
    let lower = key.to_lowercase();
    let words: Vec<&str> = lower.split(['_', '-', '.']).collect();
    words.iter().any(|word| SECRET_WORDS.contains(word))
        || words.windows(2).any(|pair| matches!(pair, [a, b] if SECRET_PAIRS.contains(&(*a, *b))))
}

/// A line of a text, ready to be shown. `number` is its number from 1.
pub(crate) fn mask_line<'a>(text: &str, number: usize, line: &'a str) -> Cow<'a, str> {
    if under_secret_key(text, number) {
        let indent = line.len() - line.trim_start().len();
        return Cow::Owned(format!("{}{MASK}", &line[..indent]));
    }
    mask_text(line)
}

/// A piece of text with what follows a secret key masked, and the user and password of URLs.
pub(crate) fn mask_text(line: &str) -> Cow<'_, str> {
    let line = match secret_value_start(line) {
        Some(at) if !is_plain_reference(&line[at..]) => Cow::Owned(format!("{}{MASK}", &line[..at])),
        _ => Cow::Borrowed(line),
    };
    mask_urls(line)
}

/// Where the value of the first secret key of this line begins.
fn secret_value_start(line: &str) -> Option<usize> {
    let is_key = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    for (at, _) in line.match_indices([':', '=']) {
        let before = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let key_at =
            before.rfind(|c| !is_key(c)).map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let key = &before[key_at..];
        if !key.is_empty() && is_secret(key) {
            let value = at + 1;
            let blanks = line[value..].len() - line[value..].trim_start().len();
            return (value + blanks < line.len()).then_some(value + blanks);
        }
    }
    None
}

/// `${NAME}` alone, without a default: the name isn't the secret, and it helps to see it.
fn is_plain_reference(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    value
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|name| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.')))
}

/// `https://user:password@host` becomes `https://********@host`.
fn mask_urls(line: Cow<'_, str>) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest: &str = &line;
    let mut changed = false;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',')).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                changed = true;
                out.push_str(MASK);
                &after[at..]
            }
            None => after,
        };
    }
    if !changed {
        return line;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Is this line indented under a secret key (a block scalar, a list)?
fn under_secret_key(text: &str, number: usize) -> bool {
    let before: Vec<&str> = text.split('\n').take(number).collect();
    let Some((line, above)) = before.split_last() else { return false };
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut limit = indent(line);
    // An item of a list may stand as far left as its key.
    if line.trim_start().starts_with("- ") {
        limit += 1;
    }
    for line in above.iter().rev() {
        if line.trim().is_empty() || indent(line) >= limit {
            continue;
        }
        limit = indent(line);
        let head = line.trim_start().trim_start_matches("- ");
        if let Some((key, _)) = head.split_once(':')
            && (is_secret(key.trim_matches(['"', '\''])) || key == "key")
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for secret in [
            "password",
            "output.elasticsearch.api_key",
            "ssl.key_passphrase",
            "cloud.auth",
            "ssl.key",
            "Authorization",
            "X-Auth-Token",
            "output.redis.password",
            "output.forward.shared_key",
            "aws_secret_access_key",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for open in ["hosts", "tokenizer", "key", "output.kafka.key", "keystore", "username"] {
            assert!(!is_secret(open), "{open}");
        }
    }

    #[test]
    fn lines() {
        for (line, shown) in [
            ("  password: hunter2", "  password: ********"),
            ("  password: hunter2 # old: x", "  password: ********"),
            ("  password: ${ES_PASSWORD}", "  password: ${ES_PASSWORD}"),
            ("  password: \"${ES_PASSWORD}\"", "  password: \"${ES_PASSWORD}\""),
            ("  password: ${ES_PASSWORD:hunter2}", "  password: ********"),
            ("{hosts: [a], \"api_key\" : \"id:key\", x: 1}", "{hosts: [a], \"api_key\" : ********"),
            ("output.elasticsearch.password=hunter2", "output.elasticsearch.password=********"),
            (
                "hosts: [\"https://elastic:p@ss@h:9200\", 'http://h2']",
                "hosts: [\"https://********@h:9200\", 'http://h2']",
            ),
            ("hosts: [h:1, h:2]", "hosts: [h:1, h:2]"),
            ("é-password: ü", "é-password: ********"),
        ] {
            assert_eq!(mask_text(line), shown);
        }
    }

    #[test]
    fn what_is_indented_under_a_secret_key() {
        let text =
            "ssl:\n  key: |\n    MIIabc\n    def: x\n  verification_mode: full\npasswords_none: 1\ntoken:\n- abc\n";
        let shown: Vec<String> =
            text.lines().enumerate().map(|(i, line)| mask_line(text, i + 1, line).into_owned()).collect();
        assert_eq!(
            shown,
            [
                "ssl:",
                "  key: |",
                "    ********",
                "    ********",
                "  verification_mode: full",
                "passwords_none: 1",
                "token:",
                "********"
            ]
        );
    }
}
