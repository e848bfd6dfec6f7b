//! registered_domain: of `www.example.co.uk` the part that somebody registered, `example.co.uk`.
//!
//! Always holds: a domain's suffix is what the longest rule of `data/suffixes.txt` says that fits it, an exception before
//! all, and else its last label: as golang.org/x/net/publicsuffix, which Filebeat asks, with its words for what is wrong.
//! Names are compared as they are: a list of lower-case names knows no others.

use pillion_config::{Error, Section};
use serde_json::Value;

use crate::action::{Action, Done, required};
use crate::doc::Doc;

const LIST: &str = include_str!("../../data/suffixes.txt");

#[derive(Debug)]
struct RegisteredDomain {
    field: String,
    target: String,
    subdomain: Option<String>,
    etld: Option<String>,
    ignore_missing: bool,
    ignore_failure: bool,
}

impl Action for RegisteredDomain {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        match self.add(doc) {
            Err(_) if self.ignore_failure => Ok(Done::Keep),
            added => added.map(|()| Done::Keep),
        }
    }
}

impl RegisteredDomain {
    fn add(&self, doc: &mut Doc<'_>) -> Result<(), String> {
        let field = &self.field;
        let domain = match doc.get(field) {
            Err(_) if self.ignore_missing => return Ok(()),
            Err(e) => return Err(format!("registered_domain source field [{field}] not found: {e}")),
            Ok(got) => match got.to_value() {
                Value::String(domain) => domain,
                _ => return Err(format!("registered_domain source field [{field}] is not a string")),
            },
        };
        let (registered, suffix) =
            registered(&domain).map_err(|e| format!("failed to determine the registered domain: {e}"))?;
        let target = |what: &str, to: &str, e: String| format!("failed to write {what} to target field [{to}]: {e}");
        doc.put(&self.target, registered.into()).map_err(|e| target("registered domain", &self.target, e))?;
        if let Some(etld) = &self.etld {
            doc.put(etld, suffix.into()).map_err(|e| target("effective top-level domain", etld, e))?;
        }
        let below = domain.strip_suffix(registered).map(|below| below.strip_suffix('.').unwrap_or(below));
        if let (Some(to), Some(below @ [_, ..])) = (&self.subdomain, below.map(str::as_bytes)) {
            let below = Value::String(String::from_utf8_lossy(below).into_owned());
            doc.put(to, below).map_err(|e| target("subdomain", to, e))?;
        }
        Ok(())
    }
}

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let named = |key: &str| Ok::<_, Error>(s.str(key)?.filter(|name| !name.is_empty()));
    s.str("id")?;
    Ok(Box::new(RegisteredDomain {
        field: required(s, "field")?,
        target: required(s, "target_field")?,
        subdomain: named("target_subdomain_field")?,
        etld: named("target_etld_field")?,
        ignore_missing: s.bool("ignore_missing")?.unwrap_or(false),
        ignore_failure: s.bool("ignore_failure")?.unwrap_or(false),
    }))
}

/// The suffix with the label before it, and the suffix.
fn registered(domain: &str) -> Result<(&str, &str), String> {
    if domain.starts_with('.') || domain.ends_with('.') || domain.contains("..") {
        return Err(format!("publicsuffix: empty label in domain {domain:?}"));
    }
    let suffix = suffix(domain);
    let Some(before) = domain.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')) else {
        return Err(format!("publicsuffix: cannot derive eTLD+1 for domain {domain:?}"));
    };
    let label = before.rfind('.').map_or(0, |dot| dot + 1);
    Ok((domain.get(label..).unwrap_or(domain), suffix))
}

/// The longest suffix of the list that the domain ends with; its last label when there is none.
fn suffix(domain: &str) -> &str {
    let rules = LIST.split_once("\n\n").map_or(LIST, |(_, rules)| rules);
    let has = |rule: &str| is_line(rules.as_bytes(), rule.as_bytes());
    let mut rest = domain;
    loop {
        let above = rest.split_once('.').map(|(_, above)| above);
        match above {
            Some(above) if has(&format!("!{rest}")) => return above,
            _ if has(rest) => return rest,
            Some(above) if has(&format!("*.{above}")) => return rest,
            Some(above) => rest = above,
            None => return rest,
        }
    }
}

/// Whether sorted lines have this one.
fn is_line(mut lines: &[u8], line: &[u8]) -> bool {
    while !lines.is_empty() {
        let (before, after) = lines.split_at(lines.len() / 2);
        let begin = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let length = after.iter().position(|b| *b == b'\n').map_or(after.len(), |at| at + 1);
        let (before, rest) = lines.split_at(begin);
        let (middle, after) = rest.split_at((lines.len() / 2 - begin) + length);
        match middle.strip_suffix(b"\n").unwrap_or(middle).cmp(line) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => lines = after,
            std::cmp::Ordering::Greater => lines = before,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::processed;
    use serde_json::json;

    #[test]
    fn each_line_of_the_list_is_found_and_nothing_else() {
        let rules = LIST.split_once("\n\n").unwrap().1;
        assert!(rules.lines().is_sorted() && rules.lines().count() > 10_000);
        for rule in rules.lines() {
            assert!(is_line(rules.as_bytes(), rule.as_bytes()), "{rule}");
            let longer = format!("{rule}x-");
            assert!(!is_line(rules.as_bytes(), longer.as_bytes()), "{longer}");
        }
        assert!(!is_line(rules.as_bytes(), b"") && !is_line(b"", b"a") && !is_line(rules.as_bytes(), b"~"));
    }

    #[test]
    fn as_filebeat_7_17_29() {
        let processor = "[{registered_domain: {field: message, target_field: rd, target_subdomain_field: sub, \
                         target_etld_field: etld}}]";
        for (domain, rd, sub, etld) in [
            ("www.google.com", "google.com", "www", "com"),
            ("www.google.co.uk", "google.co.uk", "www", "co.uk"),
            ("google.com", "google.com", "", "com"),
            ("a.b.ck", "a.b.ck", "", "b.ck"),
            ("www.ck", "www.ck", "", "ck"),
            ("x.www.ck", "www.ck", "x", "ck"),
            ("b.c.kobe.jp", "b.c.kobe.jp", "", "c.kobe.jp"),
            ("x.city.kobe.jp", "city.kobe.jp", "x", "kobe.jp"),
            ("foo.github.io", "foo.github.io", "", "github.io"),
            ("192.168.1.1", "1.1", "192.168", "1"),
            ("WWW.Google.CO.UK", "CO.UK", "WWW.Google", "UK"),
            ("xn--e1afmkfd.xn--p1ai", "xn--e1afmkfd.xn--p1ai", "", "xn--p1ai"),
            ("a b.com", "a b.com", "", "com"),
            ("%PDF-1.4", "%PDF-1.4", "", "4"),
        ] {
            let mut want = json!({"message": domain, "rd": rd, "etld": etld});
            if !sub.is_empty() {
                want["sub"] = sub.into();
            }
            assert_eq!(processed(processor, json!({"message": domain})), want);
        }
        for domain in ["com", ".", "localhost", "", "a..b", ".com", "com."] {
            assert_eq!(processed(processor, json!({"message": domain})), json!({"message": domain}));
        }
    }

    #[test]
    fn what_is_missing_ends_what_follows_unless_that_is_ignored() {
        for (ignore, tagged) in [("", false), (", ignore_missing: true", true), (", ignore_failure: true", true)] {
            let steps = format!(
                "[{{if: {{has_fields: [message]}}, then: [{{registered_domain: {{field: zz, target_field: \
                 rd{ignore}}}}}, {{add_tags: {{tags: [t]}}}}]}}]"
            );
            let want = if tagged { json!({"message": "m", "tags": ["t"]}) } else { json!({"message": "m"}) };
            assert_eq!(processed(&steps, json!({"message": "m"})), want, "{ignore}");
        }
        let number = "[{registered_domain: {field: n, target_field: rd}}]";
        assert_eq!(processed(number, json!({"message": "m", "n": 5})), json!({"message": "m", "n": 5}));
    }
}
