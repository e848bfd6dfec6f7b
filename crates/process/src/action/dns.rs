//! dns: names of addresses, and since 8 the addresses and texts of names.
//!
//! Comes in: events with an address or a name. Goes out: the same with what the nameservers answered.
//!
//! Always holds: nobody but the nameservers is asked, one after the other, over UDP or TLS, each for at most `timeout`; while one is
//! asked,
//! the input's reading waits, as Filebeat's does. What was answered is kept as long as it says, what failed for
//! `failure_cache.ttl`, by the events' read times; both tables are bounded. A line that is sent again may find another
//! answer; its id is the same.
//! Tested below with a nameserver on loopback.

mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use pillion_config::{Error, Section};
use pillion_world::World;
use rustls::ClientConfig;
use serde_json::Value;

use crate::action::{Action, Done, mappings, tag};
use crate::doc::Doc;
use crate::generations::Generations;

/// The largest answer over UDP, bytes.
const ANSWER: usize = 64 << 10;
/// The longest name, bytes: 255 of them, each as `\DDD`. A longer text isn't asked for, nor kept: the tables bound entries alone.
const NAME: usize = 4 * 255;
/// The most entries that a table may be set to.
const CAPACITY_MAX: u64 = 1_000_000;

/// What the nameservers say of a text, in the order in which they say it.
type Answer = Result<Vec<String>, String>;

#[derive(Debug)]
struct Dns {
    kind: RecordType,
    /// Sources and targets.
    fields: Vec<(String, String)>,
    replace: bool,
    servers: Vec<SocketAddr>,
    /// Asked over TLS, when there is one.
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    tags: Vec<String>,
    found: Cache,
    failed: Cache,
}

/// Answers that were given.
#[derive(Debug)]
struct Cache {
    known: Mutex<Generations<String, Answer>>,
    /// How long one holds at least, ms.
    ttl_ms: i64,
}

impl Cache {
    fn get(&self, name: &str, now_ms: i64) -> Option<Answer> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name, now_ms).cloned()
    }

    fn put(&self, name: String, now_ms: i64, ttl_ms: i64, answer: Answer) {
        let until_ms = now_ms.saturating_add(ttl_ms.max(self.ttl_ms));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).put(name, answer, until_ms);
    }
}

impl Action for Dns {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        let mut failed = false;
        for (source, target) in &self.fields {
            let Ok(Value::String(name)) = doc.get(source).map(|got| got.to_value()) else { continue };
            failed |= self.add(doc, target, name).is_err();
        }
        if failed && !self.tags.is_empty() {
            tag(doc, "tags", &self.tags)?;
        }
        Ok(Done::Keep)
    }
}

impl Dns {
    fn add(&self, doc: &mut Doc<'_>, target: &str, name: String) -> Result<(), String> {
        let answer = self.look_up(name, doc.read_ms())?;
        let new = match (self.kind, answer.as_slice()) {
            (RecordType::PTR, [host, ..]) => Value::String(host.clone()),
            _ => Value::from(answer),
        };
        let old = doc.get(target).map(|got| got.to_value());
        let both = match (old, self.replace) {
            (Ok(Value::String(old)), false) => joined(vec![Value::String(old)], new),
            (Ok(Value::Array(old)), false) => joined(old, new),
            _ => new,
        };
        doc.put(target, both)
    }

    fn look_up(&self, name: String, now_ms: i64) -> Answer {
        if name.len() > NAME {
            return Err("no name or address is that long".to_owned());
        }
        if let Some(known) = self.found.get(&name, now_ms).or_else(|| self.failed.get(&name, now_ms)) {
            return known;
        }
        match self.ask(&name) {
            Ok((answer, ttl_s)) => {
                self.found.put(name, now_ms, i64::from(ttl_s) * 1000, Ok(answer.clone()));
                Ok(answer)
            }
            Err(why) => {
                tracing::debug!("dns: {name}: {why}");
                self.failed.put(name, now_ms, 0, Err(why.clone()));
                Err(why)
            }
        }
    }

    /// Asks one nameserver after the other until one answers; also says for how many seconds that holds.
    fn ask(&self, name: &str) -> Result<(Vec<String>, u32), String> {
        let question = match self.kind {
            RecordType::PTR => Name::from(name.parse::<IpAddr>().map_err(|e| e.to_string())?),
            _ => {
                let mut name = Name::from_utf8(name).map_err(|e| e.to_string())?;
                name.set_fqdn(true);
                name
            }
        };
        let mut why = "no dns servers configured".to_owned();
        for server in &self.servers {
            match self.exchange(&question, *server) {
                Ok(answer) => return records(&answer, self.kind, server),
                Err(e) => why = format!("{server}: {e}"),
            }
        }
        Err(why)
    }
}

impl Dns {
    /// Sends a question to a nameserver and waits for its answer; what else comes is passed over.
    fn exchange(&self, name: &Name, server: SocketAddr) -> io::Result<Message> {
        let Some(config) = &self.tls else { return ask(name, self.kind, server, self.timeout) };
        let question = question(name, self.kind);
        let bytes = question.to_vec().map_err(io::Error::other)?;
        tls::exchange(config, &bytes, server, self.timeout, answer_to(&question))
    }
}

/// Asks a nameserver over UDP.
pub(crate) fn ask(name: &Name, kind: RecordType, server: SocketAddr, timeout: Duration) -> io::Result<Message> {
    let question = question(name, kind);
    let bytes = question.to_vec().map_err(io::Error::other)?;
    over_udp(&bytes, server, timeout, answer_to(&question))
}

fn question(name: &Name, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    question
}

/// Reads what came, when it is the answer to this question.
fn answer_to(question: &Message) -> impl Fn(&[u8]) -> Option<Message> + '_ {
    |bytes| {
        Message::from_vec(bytes).ok().filter(|a| {
            a.metadata.id == question.metadata.id
                && a.metadata.message_type == MessageType::Response
                && a.queries == question.queries
        })
    }
}

fn joined(mut old: Vec<Value>, new: Value) -> Value {
    match new {
        Value::Array(new) => old.extend(new),
        one => old.push(one),
    }
    Value::Array(old)
}

/// Sends a question, and gives what comes, one datagram after another, until `take` takes one.
fn over_udp<R>(
    question: &[u8],
    server: SocketAddr,
    timeout: Duration,
    take: impl Fn(&[u8]) -> Option<R>,
) -> io::Result<R> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(question)?;
    let clock = World::real().clock;
    let begin = clock.mono();
    let mut buffer = vec![0; ANSWER];
    loop {
        let left = timeout.saturating_sub(clock.mono().since(begin));
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let size = match socket.recv(&mut buffer) {
            Ok(size) => size,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(e) => return Err(e),
        };
        if let Some(answer) = buffer.get(..size).and_then(&take) {
            return Ok(answer);
        }
    }
}

/// What an answer says, and for how many seconds.
fn records(answer: &Message, kind: RecordType, server: &SocketAddr) -> Result<(Vec<String>, u32), String> {
    let code = answer.metadata.response_code;
    if code != ResponseCode::NoError {
        return Err(format!("nameserver {server} returned {code}"));
    }
    let mut ttl_s = u32::MAX;
    let mut found = Vec::new();
    for record in &answer.answers {
        match &record.data {
            RData::PTR(name) if kind == RecordType::PTR => {
                found.push(name.to_string().trim_end_matches('.').to_owned())
            }
            RData::A(address) if kind == RecordType::A => found.push(address.to_string()),
            RData::AAAA(address) if kind == RecordType::AAAA => found.push(address.to_string()),
            RData::TXT(text) if kind == RecordType::TXT => found.extend(text.txt_data.iter().map(|part| master(part))),
            _ => continue,
        }
        ttl_s = ttl_s.min(record.ttl);
    }
    if found.is_empty() {
        return Err(format!("no {kind} record was found in the response"));
    }
    Ok((found, ttl_s))
}

/// A part of a text as Filebeat has it: as zone files write it (RFC 1035, 5.1). Each part stands by itself.
fn master(part: &[u8]) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\{byte:03}")),
        }
    }
    out
}

/// The options, by their first names.
pub(super) const OPTIONS: &[&str] = &[
    "type",
    "action",
    "fields",
    "success_cache",
    "failure_cache",
    "nameservers",
    "timeout",
    "tag_on_failure",
    "transport",
];

pub(super) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let over_tls = s.choice("transport", &["udp", "tls"])? == Some("tls");
    let tls = match over_tls.then(|| tls::trusting_system(&World::real())) {
        Some(None) => {
            return Err(s.error(
                "transport",
                "this system has no bundle of the authorities that it trusts, and nameservers have to prove who they are",
                "set the variable SSL_CERT_FILE, or install the package ca-certificates",
            ));
        }
        config => config.flatten(),
    };
    let fields = if s.has("fields") { mappings(s, "fields")? } else { Vec::new() };
    let timeout = s.duration("timeout")?.filter(|timeout| !timeout.is_zero());
    Ok(Box::new(Dns {
        kind: kind(s)?,
        fields,
        replace: s.choice("action", &["append", "replace"])? == Some("replace"),
        servers: servers(s, if over_tls { tls::PORT } else { 53 })?,
        tls,
        timeout: timeout.unwrap_or(Duration::from_millis(500)),
        tags: s.strings("tag_on_failure")?,
        found: cache(s, "success_cache", "min_ttl")?,
        failed: cache(s, "failure_cache", "ttl")?,
    }))
}

fn kind(s: &Section<'_>) -> Result<RecordType, Error> {
    let modern = s.compat().is_modern();
    match s.str("type")?.unwrap_or_default().to_ascii_lowercase().as_str() {
        "reverse" | "ptr" => Ok(RecordType::PTR),
        "a" if modern => Ok(RecordType::A),
        "aaaa" if modern => Ok(RecordType::AAAA),
        "txt" if modern => Ok(RecordType::TXT),
        _ => {
            let valid = if modern { "`reverse`, `A`, `AAAA` or `TXT`" } else { "`reverse`" };
            Err(s.error("type", "this isn't a kind of question to a nameserver", format!("write {valid}")))
        }
    }
}

fn cache(s: &Section<'_>, name: &str, ttl: &str) -> Result<Cache, Error> {
    let [ttl, other, most, initial] = [
        format!("{name}.{ttl}"),
        format!("{name}.{}", if ttl == "ttl" { "min_ttl" } else { "ttl" }),
        format!("{name}.capacity.max"),
        format!("{name}.capacity.initial"),
    ];
    // They say how Filebeat's tables begin, and what it doesn't look at.
    s.u64(&initial)?;
    s.duration(&other)?;
    let holds = s.duration(&ttl)?.unwrap_or(Duration::from_secs(60));
    if holds.is_zero() {
        return Err(s.error(&ttl, "an answer has to hold for some time", "give a time span such as `1m`"));
    }
    let capacity = s.u64(&most)?.unwrap_or(10_000);
    if capacity == 0 || capacity > CAPACITY_MAX {
        return Err(s.error(&most, "this isn't between 1 and 1,000,000", "give a number of entries such as 10000"));
    }
    Ok(Cache {
        known: Mutex::new(Generations::new(usize::try_from(capacity).unwrap_or(usize::MAX))),
        ttl_ms: i64::try_from(holds.as_millis()).unwrap_or(i64::MAX),
    })
}

fn servers(s: &Section<'_>, port: u16) -> Result<Vec<SocketAddr>, Error> {
    const KEY: &str = "nameservers";
    let named = s.strings(KEY)?;
    let mut servers = Vec::new();
    for text in &named {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let address = text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, port)));
        servers.push(address.ok_or_else(|| {
            s.error(KEY, format!("`{text}` isn't an address"), "write `192.0.2.1`, or `192.0.2.1:53`")
        })?);
    }
    if servers.is_empty() {
        let (system, _) = read_system_conf().unwrap_or_default();
        servers.extend(system.name_servers().iter().map(|server| SocketAddr::new(server.ip, port)));
    }
    if servers.is_empty() {
        return Err(s.error(KEY, "/etc/resolv.conf names no nameserver", "write `nameservers: ['192.0.2.1']`"));
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::{A, PTR, TXT};
    use serde_json::json;

    use super::*;
    use crate::pipeline::testing::{config, on_event, processed};

    /// A nameserver that knows 192.0.2.1 and one.example, is silent about 192.0.2.9, and counts the questions.
    fn nameserver() -> (SocketAddr, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let (size, from) = socket.recv_from(&mut buffer).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let mut answer = Message::from_vec(&buffer[..size]).unwrap().into_response();
                let query = answer.queries[0].clone();
                let name = query.name().to_string();
                let data = match (name.as_str(), query.query_type()) {
                    ("1.2.0.192.in-addr.arpa.", RecordType::PTR) => {
                        vec![RData::PTR(PTR(Name::from_ascii("one.example.").unwrap()))]
                    }
                    ("one.example.", RecordType::A) => {
                        vec![RData::A(A::new(192, 0, 2, 1)), RData::A(A::new(192, 0, 2, 2))]
                    }
                    ("one.example.", RecordType::TXT) => vec![
                        RData::TXT(TXT::new(vec!["a ".into(), "te\"x\\t".into()])),
                        RData::TXT(TXT::new(vec!["\u{e4}~\n".into()])),
                    ],
                    ("9.2.0.192.in-addr.arpa.", _) => continue,
                    _ => {
                        answer.metadata.response_code = ResponseCode::NXDomain;
                        Vec::new()
                    }
                };
                // What isn't the answer to the question is passed over.
                let mut other = answer.clone();
                other.metadata.id ^= 1;
                socket.send_to(&other.to_vec().unwrap(), from).unwrap();
                socket.send_to(b"no message", from).unwrap();
                for data in data {
                    answer.add_answer(Record::from_rdata(query.name().clone(), 300, data));
                }
                socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
            }
        });
        (address, asked)
    }

    #[test]
    fn addresses_get_names() {
        let (server, _) = nameserver();
        let steps = |more: &str| {
            format!("[{{dns: {{type: reverse, nameservers: ['{server}'], timeout: 5s, fields: {{a: name}}{more}}}}}]")
        };
        for (more, event, name) in [
            ("", json!({"message": "m", "a": "192.0.2.1"}), json!("one.example")),
            ("", json!({"message": "m", "a": "192.0.2.1", "name": "x"}), json!(["x", "one.example"])),
            ("", json!({"message": "m", "a": "192.0.2.1", "name": ["x", "y"]}), json!(["x", "y", "one.example"])),
            (", action: replace", json!({"message": "m", "a": "192.0.2.1", "name": "x"}), json!("one.example")),
        ] {
            let mut want = event.clone();
            want["name"] = name;
            assert_eq!(processed(&steps(more), event), want);
        }
        for odd in [
            json!({"message": "m", "b": 1}),
            json!({"message": "m", "a": 5}),
            json!({"message": "m", "a": "192.0.2.7"}),
            json!({"message": "m", "a": "no address"}),
        ] {
            assert_eq!(processed(&steps(""), odd.clone()), odd);
        }
        let tagged = processed(&steps(", tag_on_failure: [_failed]"), json!({"message": "m", "a": "192.0.2.7"}));
        assert_eq!(tagged, json!({"message": "m", "a": "192.0.2.7", "tags": ["_failed"]}));
    }

    fn dns(kind: RecordType, server: SocketAddr) -> Dns {
        let cache = |ttl_ms| Cache { known: Mutex::new(Generations::new(2)), ttl_ms };
        Dns {
            kind,
            fields: vec![("a".into(), "of".into())],
            replace: false,
            servers: vec![server],
            tls: None,
            timeout: Duration::from_secs(5),
            tags: Vec::new(),
            found: cache(60_000),
            failed: cache(10_000),
        }
    }

    #[test]
    fn a_text_that_is_too_long_for_a_name_is_not_kept() {
        let (server, asked) = nameserver();
        for kind in [RecordType::PTR, RecordType::A] {
            let dns = dns(kind, server);
            assert!(dns.look_up("x".repeat(NAME + 1), 0).is_err());
            assert_eq!(dns.failed.known.lock().unwrap().len(), 0);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn names_get_addresses_and_texts() {
        let (server, _) = nameserver();
        for (kind, want) in [
            (RecordType::A, json!(["x", "192.0.2.1", "192.0.2.2"])),
            // Filebeat 9.5 beside a nameserver that answers so.
            (RecordType::TXT, json!(["x", "a ", "te\\\"x\\\\t", "\\195\\164~\\010"])),
            (RecordType::AAAA, json!("x")),
        ] {
            let got = on_event(json!({"message": "m", "a": "one.example", "of": "x"}), |doc| {
                assert_eq!(dns(kind, server).run(doc), Ok(Done::Keep));
                doc.get("of").map(|got| got.to_value())
            });
            assert_eq!(got, Ok(want));
        }
    }

    #[test]
    fn a_nameserver_that_is_silent_holds_nothing_up_for_long_and_the_next_one_is_asked() {
        let (silent, _) = nameserver();
        let steps =
            format!("[{{dns: {{type: reverse, nameservers: ['{silent}'], timeout: 20ms, fields: {{a: name}}}}}}]");
        assert_eq!(
            processed(&steps, json!({"message": "m", "a": "192.0.2.9"})),
            json!({"message": "m", "a": "192.0.2.9"})
        );
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (server, _) = nameserver();
        let nobody = nobody.local_addr().unwrap();
        let steps = format!(
            "[{{dns: {{type: reverse, nameservers: ['{nobody}', '{server}'], timeout: 1s, fields: {{a: name}}}}}}]"
        );
        let want = json!({"message": "m", "a": "192.0.2.1", "name": "one.example"});
        assert_eq!(processed(&steps, json!({"message": "m", "a": "192.0.2.1"})), want);
    }

    #[test]
    fn answers_and_failures_are_kept_for_their_time() {
        let (server, asked) = nameserver();
        let dns = dns(RecordType::PTR, server);
        let asks = |name: &str, now_ms: i64| {
            let before = asked.load(Ordering::Relaxed);
            let answer = dns.look_up(name.to_owned(), now_ms);
            (answer.is_ok(), asked.load(Ordering::Relaxed) - before)
        };
        assert_eq!(
            (asks("192.0.2.1", 0), asks("192.0.2.1", 299_999), asks("192.0.2.1", 300_000)),
            ((true, 1), (true, 0), (true, 1))
        );
        assert_eq!(
            (asks("192.0.2.7", 0), asks("192.0.2.7", 9_999), asks("192.0.2.7", 10_000)),
            ((false, 1), (false, 0), (false, 1))
        );
        for n in 10..50 {
            asks(&format!("192.0.2.{n}"), 20_000);
        }
        assert!(dns.failed.known.lock().unwrap().len() <= 2);
    }

    #[test]
    fn over_tls_nameservers_have_a_port_of_their_own() {
        let config = config("dns: {type: reverse, transport: tls, nameservers: [127.0.0.1, '127.0.0.1:53']}");
        let section = config.root().named_sections().unwrap().pop().unwrap().1;
        let ports: Vec<u16> = servers(&section, tls::PORT).unwrap().iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [853, 53]);
    }

    #[test]
    fn options_that_are_wrong() {
        for (options, want) in [
            ("{fields: {a: b}}", "kind of question"),
            ("{type: mx, fields: {a: b}}", "kind of question"),
            ("{type: reverse, transport: tcp}", "transport"),
            ("{type: reverse, nameservers: [a.b]}", "isn't an address"),
            ("{type: reverse, nameservers: [127.0.0.1], success_cache.min_ttl: 0}", "some time"),
            ("{type: reverse, nameservers: [127.0.0.1], failure_cache.capacity.max: 0}", "between 1 and"),
        ] {
            let config = config(&format!("dns: {options}"));
            let section = config.root().named_sections().unwrap().pop().unwrap().1;
            let error = read(&section).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(want), "{options}: {error}");
        }
    }
}
