//! `when` and `if`: whether a processor applies to an event.
//!
//! Comes in: a section of the configuration, then events. Goes out: true or false. The rules are Beats'
//! (`libbeat/conditions`): all fields of one condition have to fit; of several conditions in one place only the first one
//! counts, in the order of [`KINDS`], and that is said.
//!
//! Always holds: a condition changes nothing, and never fails on an event: what isn't there or is of another type
//! doesn't fit. Nesting is bounded by the configuration's.
//! Tested below and against Filebeat.

use std::net::IpAddr;

use pillion_config::{Error, Section};
use regex::bytes::Regex;
use serde_json::{Map, Value};

use crate::doc::{Doc, Got};
use crate::tree;

/// A condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Each field has this value.
    Equals(Vec<(String, Literal)>),
    /// Each field, or one of its texts, contains this text.
    Contains(Vec<(String, String)>),
    /// Each field, or one of its texts, matches.
    Regexp(Vec<(String, Regex)>),
    /// Each field is a number within these bounds; in 8 and 9 (true) a text that is a number counts, too.
    Range(Vec<(String, Bounds)>, bool),
    /// Each of these fields is there.
    HasFields(Vec<String>),
    /// Each field is an address in one of its networks; in 8 and 9 (true) what is no address is `public`.
    Network(Vec<(String, Vec<Network>)>, bool),
    /// One of them is true.
    Or(Vec<Condition>),
    /// All of them are true.
    And(Vec<Condition>),
    /// It isn't true.
    Not(Box<Condition>),
}

/// What `equals` compares with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// A whole number.
    Int(i128),
    /// A text.
    Text(String),
    /// A boolean.
    Bool(bool),
}

/// The bounds of `range`; what isn't set isn't checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    lt: Option<f64>,
    lte: Option<f64>,
    gt: Option<f64>,
    gte: Option<f64>,
}

/// One network of the condition `network`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// A name, such as `private`.
    Named(&'static str),
    /// `10.0.0.0/8`.
    Range(IpAddr, u8),
}

/// The kinds, in the order in which Beats looks for them.
pub const KINDS: &[&str] = &["equals", "contains", "regexp", "range", "has_fields", "network", "or", "and", "not"];

/// The names of networks (Beats' `conditions/network.go`).
const NAMED: &[&str] = &[
    "loopback",
    "global_unicast",
    "unicast",
    "link_local_unicast",
    "interface_local_multicast",
    "link_local_multicast",
    "multicast",
    "unspecified",
    "private",
    "public",
];

/// What a condition looks at.
pub trait Look {
    /// The value at a dotted path.
    ///
    /// # Errors
    /// Beats' words for why there is none.
    fn get(&mut self, path: &str) -> Result<Got<'_>, String>;
}

impl Look for Doc<'_> {
    fn get(&mut self, path: &str) -> Result<Got<'_>, String> {
        Doc::get(self, path)
    }
}

/// Fields that aren't an event's, such as those of a pod.
impl Look for &Map<String, Value> {
    fn get(&mut self, path: &str) -> Result<Got<'_>, String> {
        tree::get(self, path).map(Got::Value)
    }
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// None or an unknown one is there, or one that is made of the wrong things.
    pub fn from_section(s: &Section<'_>) -> Result<Condition, Error> {
        let mut found = KINDS.iter().filter(|kind| s.has(kind));
        let Some(kind) = found.next() else {
            let known = KINDS.join(", ");
            return Err(s.error_here("there is no condition here", format!("give one of {known}")));
        };
        if let Some(other) = found.next() {
            s.warn(
                other,
                format!("only the first condition of several in one place counts, as in Filebeat: here `{kind}`"),
                "join them with `and` or `or`",
            );
            found.chain([other]).for_each(|kind| drop(s.json(kind)));
        }
        Ok(match *kind {
            "equals" => Condition::Equals(each(s, kind, literal)?),
            "contains" => Condition::Contains(each(s, kind, text)?),
            "regexp" => Condition::Regexp(each(s, kind, regex)?),
            "range" => Condition::Range(ranges(s)?, s.compat().is_modern()),
            "has_fields" => Condition::HasFields(s.strings(kind)?),
            "network" => Condition::Network(each(s, kind, networks)?, s.compat().is_modern()),
            "or" => Condition::Or(list(s, kind)?),
            "and" => Condition::And(list(s, kind)?),
            _ => {
                let Some(inner) = s.section(kind)? else {
                    return Err(s.error(kind, "there is no condition here", "give one"));
                };
                Condition::Not(Box::new(Condition::from_section(&inner)?))
            }
        })
    }

    /// Whether it looks at these fields alone.
    pub(crate) fn is_about(&self, known: &[&str]) -> bool {
        let knows = |path: &String| known.contains(&path.as_str());
        match self {
            Condition::Equals(fields) => fields.iter().all(|(path, _)| knows(path)),
            Condition::Contains(fields) => fields.iter().all(|(path, _)| knows(path)),
            Condition::Regexp(fields) => fields.iter().all(|(path, _)| knows(path)),
            Condition::Range(fields, _) => fields.iter().all(|(path, _)| knows(path)),
            Condition::Network(fields, _) => fields.iter().all(|(path, _)| knows(path)),
            Condition::HasFields(paths) => paths.iter().all(knows),
            Condition::Or(all) | Condition::And(all) => all.iter().all(|c| c.is_about(known)),
            Condition::Not(inner) => inner.is_about(known),
        }
    }

    /// Whether it is true of an event.
    pub fn check(&self, doc: &mut impl Look) -> bool {
        match self {
            Condition::Equals(fields) => {
                fields.iter().all(|(path, wanted)| doc.get(path).is_ok_and(|got| equals(&got, wanted)))
            }
            Condition::Contains(fields) => fields
                .iter()
                .all(|(path, part)| any_text(doc, path, |text| memchr::memmem::find(text, part.as_bytes()).is_some())),
            Condition::Regexp(fields) => {
                fields.iter().all(|(path, pattern)| any_text(doc, path, |text| pattern.is_match(text)))
            }
            Condition::Range(fields, texts) => fields.iter().all(|(path, bounds)| {
                doc.get(path).is_ok_and(|got| number(&got, *texts).is_some_and(|n| bounds.hold(n)))
            }),
            Condition::HasFields(paths) => paths.iter().all(|path| doc.get(path).is_ok()),
            Condition::Network(fields, odd_is_public) => fields.iter().all(|(path, networks)| {
                let parsed = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok();
                any_text(doc, path, |text| match parsed(text) {
                    Some(ip) => networks.iter().any(|n| n.contains(ip)),
                    None => *odd_is_public && networks.contains(&Network::Named("public")),
                })
            }),
            Condition::Or(all) => all.iter().any(|c| c.check(doc)),
            Condition::And(all) => all.iter().all(|c| c.check(doc)),
            Condition::Not(inner) => !inner.check(doc),
        }
    }
}

/// A number, or, when `texts` count, a text that is one.
fn number(got: &Got<'_>, texts: bool) -> Option<f64> {
    match got {
        Got::Value(Value::Number(n)) => n.as_f64(),
        Got::Time(_) => None,
        got => std::str::from_utf8(got.text().filter(|_| texts)?).ok()?.parse().ok(),
    }
}

/// Whether a text, or one in a list of texts, fits.
fn any_text(doc: &mut impl Look, path: &str, mut fits: impl FnMut(&[u8]) -> bool) -> bool {
    match doc.get(path) {
        Ok(Got::Value(Value::Array(items))) => items.iter().filter_map(Value::as_str).any(|text| fits(text.as_bytes())),
        Ok(got) => got.text().is_some_and(fits),
        Err(_) => false,
    }
}

fn equals(got: &Got<'_>, wanted: &Literal) -> bool {
    match (got, wanted) {
        (Got::Value(Value::Bool(b)), Literal::Bool(wanted)) => b == wanted,
        (Got::Value(Value::Number(n)), Literal::Int(wanted)) => {
            n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from)) == Some(*wanted)
        }
        (got, Literal::Text(wanted)) => got.text() == Some(wanted.as_bytes()),
        _ => false,
    }
}

impl Bounds {
    /// Nothing is beyond a bound that isn't a number.
    fn hold(&self, n: f64) -> bool {
        if n.is_nan() {
            return true;
        }
        self.lt.is_none_or(|b| n < b)
            && self.lte.is_none_or(|b| n <= b)
            && self.gt.is_none_or(|b| n > b)
            && self.gte.is_none_or(|b| n >= b)
    }
}

impl Network {
    /// By its name or its range.
    pub(crate) fn parse(text: &str) -> Option<Network> {
        if let Some(name) = NAMED.iter().find(|name| **name == text) {
            return Some(Network::Named(name));
        }
        let (ip, bits) = text.split_once('/')?;
        let (ip, bits) = (ip.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
        (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Network::Range(ip, bits))
    }

    /// Whether an address belongs to it.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match self {
            Network::Named(name) => named(name, ip),
            Network::Range(net, bits) => match (net.to_canonical(), ip) {
                (IpAddr::V4(net), IpAddr::V4(ip)) => {
                    (u32::from(net) ^ u32::from(ip)).checked_shr(32 - u32::from(*bits)).unwrap_or(0) == 0
                }
                (IpAddr::V6(net), IpAddr::V6(ip)) => {
                    (u128::from(net) ^ u128::from(ip)).checked_shr(128 - u32::from(*bits)).unwrap_or(0) == 0
                }
                _ => false,
            },
        }
    }
}

/// Go's `net.IP` predicates, as Beats uses them.
fn named(name: &str, ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let private = match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    let multicast_scope =
        |scope: u8| matches!(ip, IpAddr::V6(v6) if v6.is_multicast() && v6.octets()[1] & 0xf == scope);
    let global = !broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !link_local;
    match name {
        "loopback" => ip.is_loopback(),
        "global_unicast" | "unicast" => global,
        "link_local_unicast" => link_local,
        "interface_local_multicast" => multicast_scope(1),
        "link_local_multicast" => multicast_scope(2) || matches!(ip, IpAddr::V4(v4) if v4.octets()[..3] == [224, 0, 0]),
        "multicast" => ip.is_multicast(),
        "unspecified" => ip.is_unspecified(),
        "private" => private,
        _ => !(private || ip.is_loopback() || ip.is_unspecified() || link_local || ip.is_multicast()),
    }
}

type Read<T> = fn(&Section<'_>, &str, &str, &Value) -> Result<T, Error>;

/// The fields of a condition by their dotted paths.
fn each<T>(s: &Section<'_>, kind: &str, read: Read<T>) -> Result<Vec<(String, T)>, Error> {
    let fields = fields_of(s, kind)?;
    tree::flatten(&fields).into_iter().map(|(path, value)| Ok((path.clone(), read(s, kind, &path, &value)?))).collect()
}

fn fields_of(s: &Section<'_>, kind: &str) -> Result<Map<String, Value>, Error> {
    match s.json(kind)? {
        Some(Value::Object(map)) => Ok(map),
        _ => Err(s.error(kind, "there are no fields to look at", format!("write `{kind}: {{field: value}}`"))),
    }
}

/// An error at one field of a condition.
fn wrong<T>(s: &Section<'_>, kind: &str, path: &str, remedy: &str) -> Result<T, Error> {
    Err(s.error(&format!("{kind}.{path}"), format!("`{kind}` can't compare with this"), remedy.to_owned()))
}

fn literal(s: &Section<'_>, kind: &str, path: &str, value: &Value) -> Result<Literal, Error> {
    match value {
        Value::Bool(b) => Ok(Literal::Bool(*b)),
        Value::String(text) => Ok(Literal::Text(text.clone())),
        Value::Number(n) if !n.is_f64() => {
            let int = n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
            Ok(Literal::Int(int.unwrap_or_default()))
        }
        _ => wrong(s, kind, path, "give a text, a whole number or a boolean"),
    }
}

fn text(s: &Section<'_>, kind: &str, path: &str, value: &Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => wrong(s, kind, path, "give a text; put numbers in quotes"),
    }
}

fn regex(s: &Section<'_>, kind: &str, path: &str, value: &Value) -> Result<Regex, Error> {
    let pattern = text(s, kind, path, value)?;
    Regex::new(&pattern).map_err(|e| {
        let why = e.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        s.error(&format!("{kind}.{path}"), format!("not a regular expression: {why}"), "write it in Go's RE2 syntax")
    })
}

fn networks(s: &Section<'_>, kind: &str, path: &str, value: &Value) -> Result<Vec<Network>, Error> {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let all: Option<Vec<Network>> = items.iter().map(|item| Network::parse(item.as_str()?)).collect();
    match all {
        Some(all) if !all.is_empty() => Ok(all),
        _ => wrong(s, kind, path, &format!("give a network such as 10.0.0.0/8, or one of {}", NAMED.join(", "))),
    }
}

/// `range: {field: {gte: 1}}` and `range: {field.gte: 1}` are the same.
fn ranges(s: &Section<'_>) -> Result<Vec<(String, Bounds)>, Error> {
    let mut out: Vec<(String, Bounds)> = Vec::new();
    for (path, value) in tree::flatten(&fields_of(s, "range")?) {
        let number = value.as_f64().or_else(|| value.as_str()?.parse().ok());
        let (Some((field, bound)), Some(number)) = (path.rsplit_once('.'), number) else {
            return wrong(s, "range", &path, "write `range: {field: {gte: 400, lt: 500}}`");
        };
        let at = out.iter().position(|(known, _)| known == field).unwrap_or_else(|| {
            out.push((field.to_owned(), Bounds::default()));
            out.len() - 1
        });
        let Some((_, bounds)) = out.get_mut(at) else { continue };
        match bound {
            "lt" => bounds.lt = Some(number),
            "lte" => bounds.lte = Some(number),
            "gt" => bounds.gt = Some(number),
            "gte" => bounds.gte = Some(number),
            _ => return wrong(s, "range", &path, "the bounds are lt, lte, gt and gte"),
        }
    }
    Ok(out)
}

fn list(s: &Section<'_>, kind: &str) -> Result<Vec<Condition>, Error> {
    s.sections(kind)?.iter().map(Condition::from_section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{config, on_event};
    use serde_json::json;

    fn holds(condition: &str, event: Value) -> bool {
        let config = config(&format!("when: {{{condition}}}"));
        let section = config.root().section("when").unwrap().unwrap();
        let condition = Condition::from_section(&section).unwrap();
        on_event(event, |doc| condition.check(doc))
    }

    /// What Filebeat 7.17.29 says of the same.
    #[test]
    fn the_table() {
        let event = json!({"message": "line", "j": {"a": 1, "f": 1.5, "s": "abcdéf", "n": "42", "arr": ["q", ""],
            "o": {"p": 1}, "b": true, "nul": null, "ip": "10.0.0.1", "ip6": "fe80::1", "e": ""}});
        for (condition, want) in [
            ("equals.j.a: 1", true),
            ("equals.j.a: '1'", false),
            ("equals.j.n: 42", false),
            ("equals.j.b: true", true),
            ("equals.j.nul: x", false),
            ("equals: {j.a: 1, j.s: x}", false),
            ("contains.j.s: bcd", true),
            ("contains.j.arr: q", true),
            ("contains.tags: x", false),
            ("contains.message: in", true),
            ("regexp.j.s: '^abc'", true),
            ("regexp.j.arr: '^q'", true),
            ("regexp.message: '^$'", false),
            ("range.j.a: {gte: 1, lt: 2}", true),
            ("range.j.f.gt: 1", true),
            ("range.j.n.gt: 1", false),
            ("range: {j.a: {gt: 1}}", false),
            ("network.j.ip: private", true),
            ("network.j.ip: [loopback, 10.0.0.0/8]", true),
            ("network.j.ip: 11.0.0.0/8", false),
            ("network.j.ip: unicast", true),
            ("network.j.ip: public", false),
            ("network.j.ip6: link_local_unicast", true),
            ("network.j.ip6: 'fe80::/10'", true),
            ("has_fields: [j.a, j.s]", true),
            ("has_fields: [j.nul]", true),
            ("has_fields: [j.zz]", false),
            ("has_fields: ['@timestamp']", true),
            ("not.equals.j.a: 2", true),
            ("or: [{equals.j.a: 2},{equals.j.a: 1}]", true),
            ("and: [{equals.j.a: 2},{equals.j.a: 1}]", false),
            ("equals.j.a: 1, contains.j.s: zzz", true),
        ] {
            assert_eq!(holds(condition, event.clone()), want, "{condition}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for condition in [
            "equals.j.f: 1.5",
            "contains.j.a: 1",
            "regexp.a: '('",
            "range.a: 1",
            "range.a.ge: 1",
            "network.a: nowhere",
            "network.a: 10.0.0.0/33",
            "equal.a: 1",
            "not: {}",
        ] {
            let config = config(&format!("when: {{{condition}}}"));
            let section = config.root().section("when").unwrap().unwrap();
            assert!(Condition::from_section(&section).is_err(), "{condition}");
        }
    }
}
