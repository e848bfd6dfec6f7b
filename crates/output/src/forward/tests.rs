//! Workers against scripted servers: real connections in memory, a paused clock.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Mutex;

use pillion_config::Config;
use pillion_event::Fate;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::msgpack::{Item, Reader};
use super::*;
use crate::dial::{Dialing, Stream};
use crate::testing::{Books, Gated, List, context, lines};

/// What the other side does with a connection.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Refuses it.
    Refuse,
    /// Acknowledges all messages.
    Serve,
    /// Takes messages and never acknowledges one.
    Silent,
    /// Acknowledges so many messages, takes one more and closes.
    Die(usize),
    /// The same, and closes in the middle of that one's acknowledgement.
    DieWithin(usize),
    /// Answers each message with this.
    Say(&'static [u8]),
    /// Acknowledges two at a time, the later one first.
    Backwards,
    /// Acknowledges each message so many times.
    Times(usize),
    /// Closes the connection once it has acknowledged a message.
    Idle,
    /// Asks for the shared key `key`, and for the user `u` with the password `p` when this is set; whether it keeps the
    /// connection.
    Login(bool, bool),
    /// Greets, and lets in whoever comes without showing that it knows the key.
    Impostor,
}

/// A message as it came.
#[derive(Clone, Debug)]
struct Message {
    host: usize,
    raw: Vec<u8>,
    tag: String,
    chunk: String,
    size: usize,
    /// The texts of `message`.
    texts: Vec<String>,
}

/// Hosts whose connections follow scripts; the last act is repeated.
struct Hosts {
    scripts: Mutex<Vec<VecDeque<Act>>>,
    log: Arc<Mutex<Vec<Message>>>,
}

impl Hosts {
    fn new(scripts: &[&[Act]]) -> Arc<Hosts> {
        let scripts = scripts.iter().map(|s| s.iter().copied().collect()).collect();
        Arc::new(Hosts { scripts: Mutex::new(scripts), log: Arc::default() })
    }

    fn messages(&self) -> Vec<Message> {
        self.log.lock().unwrap().clone()
    }

    /// The lines that came, in order.
    fn values(&self) -> Vec<String> {
        self.messages().into_iter().flat_map(|message| message.texts).collect()
    }

    /// The lines, each counted once by its message's id; the messages that came again must be the same.
    fn once(&self) -> Vec<String> {
        let mut seen: Vec<Message> = Vec::new();
        for message in self.messages() {
            match seen.iter().find(|known| known.chunk == message.chunk) {
                Some(known) => assert_eq!(known.raw, message.raw, "another message with the same id"),
                None => seen.push(message),
            }
        }
        seen.into_iter().flat_map(|message| message.texts).collect()
    }
}

impl Dial for Hosts {
    fn name(&self, host: usize) -> String {
        format!("host-{host}")
    }

    fn dial(&self, host: usize) -> Dialing<'_> {
        let act = {
            let mut scripts = self.scripts.lock().unwrap();
            let script = &mut scripts[host];
            if script.len() > 1 { script.pop_front().unwrap() } else { script[0] }
        };
        let log = Arc::clone(&self.log);
        Box::pin(async move {
            if matches!(act, Act::Refuse) {
                return Err(Problem::bare("refused"));
            }
            let (near, far) = duplex(1 << 16);
            tokio::spawn(serve(far, host, act, log));
            Ok(Box::new(near) as Stream)
        })
    }
}

async fn serve(mut far: DuplexStream, host: usize, act: Act, log: Arc<Mutex<Vec<Message>>>) {
    let mut buffer = Vec::new();
    if !greet(&mut far, &mut buffer, act).await {
        return;
    }
    let (mut taken, mut held) = (0, None);
    while let Some(raw) = next(&mut far, &mut buffer).await {
        let message = message(host, raw);
        let chunk = message.chunk.clone();
        log.lock().unwrap().push(message);
        let ack = ack(&chunk);
        let answer = match act {
            Act::Silent => Vec::new(),
            Act::Die(n) if taken >= n => return,
            Act::DieWithin(n) if taken >= n => ack[..ack.len() - 3].to_vec(),
            Act::Say(text) => text.to_vec(),
            Act::Times(n) => ack.repeat(n),
            Act::Backwards => match held.take() {
                None => {
                    held = Some(ack);
                    Vec::new()
                }
                Some(first) => [ack, first].concat(),
            },
            _ => ack,
        };
        let dies = matches!(act, Act::DieWithin(n) if taken >= n);
        taken += 1;
        if far.write_all(&answer).await.is_err() || dies || matches!(act, Act::Idle | Act::Login(_, false)) {
            return;
        }
    }
}

fn ack(chunk: &str) -> Vec<u8> {
    let mut out = b"\x81\xa3ack".to_vec();
    msgpack::text(chunk, &mut out);
    out
}

/// The server's side of the handshake; false = the client isn't let in.
async fn greet(far: &mut DuplexStream, buffer: &mut Vec<u8>, act: Act) -> bool {
    let (user, keepalive) = match act {
        Act::Login(user, keepalive) => (user, keepalive),
        Act::Impostor => (false, true),
        _ => return true,
    };
    let mut hello = b"\x92\xa4HELO\x83\xa5nonce\xc4\x03abc\xa4auth".to_vec();
    msgpack::text(if user { "salt" } else { "" }, &mut hello);
    hello.extend_from_slice(if keepalive { b"\xa9keepalive\xc3" } else { b"\xa9keepalive\xc2" });
    far.write_all(&hello).await.unwrap();
    let Some(ping) = next(far, buffer).await else { return false };
    let (Item::List(ping), _) = Reader::read(&ping).unwrap().unwrap() else { panic!("no ping") };
    let at = |i: usize| if let Item::Bytes(b) = &ping[i] { b.to_vec() } else { panic!("{ping:?}") };
    let known = Login { shared_key: "key".into(), hostname: "us".into(), user: "u".into(), password: "p".into() };
    let salt = String::from_utf8(at(2)).unwrap();
    let auth: &[u8] = if user { b"salt" } else { b"" };
    let right = [at(1), at(3), at(4), at(5)] == {
        let want = known.ping(&salt, b"abc", auth);
        let (Item::List(want), _) = Reader::read(&want).unwrap().unwrap() else { panic!() };
        [1, 3, 4, 5].map(|i| if let Item::Bytes(b) = &want[i] { b.to_vec() } else { panic!() })
    };
    // What a server shows is made like what a client shows, with its own name.
    let of_server = Login { hostname: "them".into(), ..known }.ping(&salt, b"abc", b"");
    let (Item::List(of_server), _) = Reader::read(&of_server).unwrap().unwrap() else { panic!() };
    let Item::Bytes(digest) = &of_server[3] else { panic!() };
    let digest = if matches!(act, Act::Impostor) { "0".repeat(128) } else { String::from_utf8_lossy(digest).into() };
    let welcome = right || matches!(act, Act::Impostor);
    let mut pong = b"\x95\xa4PONG".to_vec();
    pong.push(if welcome { 0xc3 } else { 0xc2 });
    for text in [if welcome { "" } else { "shared_key mismatch" }, "them", &digest] {
        msgpack::text(text, &mut pong);
    }
    far.write_all(&pong).await.unwrap();
    welcome
}

/// The bytes of the next value.
async fn next(far: &mut DuplexStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some((_, length)) = Reader::read(buffer).unwrap() {
            return Some(buffer.drain(..length).collect());
        }
        if far.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn message(host: usize, raw: Vec<u8>) -> Message {
    let (item, _) = Reader::read(&raw).unwrap().unwrap();
    let Item::List(parts) = &item else { panic!("{item:?}") };
    let [Item::Bytes(tag), Item::Bytes(entries), Item::Map(options)] = parts.as_slice() else { panic!("{item:?}") };
    let option = |name: &[u8]| options.iter().find(|(key, _)| *key == Item::Bytes(name)).map(|(_, value)| value);
    let Some(Item::Bytes(chunk)) = option(b"chunk") else { panic!("no chunk") };
    assert!(option(b"size").is_some());
    let mut plain = entries.to_vec();
    if option(b"compressed") == Some(&Item::Bytes(b"gzip")) {
        plain.clear();
        flate2::read::GzDecoder::new(*entries).read_to_end(&mut plain).unwrap();
    }
    let (mut rest, mut texts) = (plain.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (entry, length) = Reader::read(rest).unwrap().unwrap();
        let Item::List(entry) = entry else { panic!("{entry:?}") };
        let [Item::Other, Item::Map(record)] = entry.as_slice() else { panic!("{entry:?}") };
        let text = record.iter().find(|(key, _)| *key == Item::Bytes(b"message"));
        let Some((_, Item::Bytes(text))) = text else { panic!("no message") };
        texts.push(String::from_utf8_lossy(text).into_owned());
        rest = &rest[length..];
    }
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let (tag, chunk, size) = (text(tag), text(chunk), texts.len());
    Message { host, tag, chunk, size, texts, raw }
}

fn options(yaml: &str) -> Result<ForwardOptions, String> {
    let config = Config::from_yaml(&format!("pillion.compat: 8\no:\n{yaml}")).unwrap();
    let section = config.root().section("o").unwrap().unwrap();
    ForwardOptions::from_section(&section, Compat::V8).map_err(|e| e.to_string())
}

fn forward(hosts: &Arc<Hosts>, yaml: &str) -> Forward {
    let names = vec!["h"; hosts.scripts.lock().unwrap().len()].join(",");
    let options = options(&format!(" self_hostname: us\n{yaml}\n hosts: [{names}]")).unwrap();
    Forward { options, context: context(), dial: Arc::clone(hosts) as _ }
}

/// Ships so many lines and returns what became of them and the trouble that was left.
async fn ship(hosts: &Arc<Hosts>, yaml: &str, n: usize) -> (Arc<Books>, Arc<crate::Stats>) {
    let forward = forward(hosts, yaml);
    let (books, stats) = (Arc::new(Books::default()), Arc::clone(&forward.context.stats));
    forward.run(List::of(lines(n)), Arc::clone(&books) as _).await.unwrap();
    (books, stats)
}

fn want(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("line {i}")).collect()
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn events_with_one_tag_share_a_message_plain_or_compressed() {
    let mut bytes = Vec::new();
    for more in ["", " compression: gzip", " compression: gzip\n compression_level: 9"] {
        let hosts = Hosts::new(&[&[Act::Serve]]);
        let (books, stats) = ship(&hosts, more, 5000).await;
        assert_eq!((books.acked(), hosts.values()), (5000, want(5000)));
        let messages = hosts.messages();
        let sizes: Vec<usize> = messages.iter().map(|m| m.size).collect();
        assert_eq!((sizes, stats.requests.get()), (vec![2048, 2048, 904], 3));
        assert!(messages.iter().all(|m| m.tag == "filebeat" && m.chunk.len() == 24));
        assert_eq!(stats.bytes.get() as usize, messages.iter().map(|m| m.raw.len()).sum::<usize>());
        bytes.push(stats.bytes.get());
    }
    assert!(bytes[1] * 5 < bytes[0] && bytes[2] < bytes[1], "{bytes:?}");
}

#[test]
fn an_entry_byte_by_byte() {
    let batch = lines(1);
    let requests = List::of(Arc::clone(&batch));
    let pool: Arc<Pool<crate::work::Piece>> = Pool::new(requests, 1);
    let piece = futures_now(pool.next()).unwrap();
    let format = CodecOptions::Json { pretty: false, escape_html: false };
    let codec = Codec::new(format, Compat::V8, &context());
    let tag = crate::format::Selector::new(Arc::new(Format::compile("app.%{[message]}").unwrap()));
    let mut out = Vec::new();
    message::Maker::new(tag, None).make(&codec, &piece, 10, "id", &mut out);
    let mut json = Vec::new();
    codec.encode(&batch, &batch.events[0], &mut json).unwrap();
    let mut entry = b"\x92\xd7\x00".to_vec();
    let ms = batch.events[0].time_ms;
    entry.extend_from_slice(&((ms / 1000) as u32).to_be_bytes());
    entry.extend_from_slice(&((ms % 1000) as u32 * 1_000_000).to_be_bytes());
    msgpack::json(&json, &mut entry).unwrap();
    let mut want = b"\x93\xaaapp.line 0\xc5".to_vec();
    want.extend_from_slice(&(entry.len() as u16).to_be_bytes());
    want.extend_from_slice(&entry);
    want.extend_from_slice(b"\x82\xa4size\x01\xa5chunk\xa2id");
    assert_eq!(out, want);
    // The record is what the other outputs write.
    let record: Value = serde_json::from_slice(&json).unwrap();
    assert!(record["@timestamp"].is_string() && record["message"] == "line 0" && record["agent"].is_object());
}

/// What a future gives that is ready at once.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("not ready"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_ends_where_the_tag_changes_and_what_has_none_is_dropped() {
    let hosts = Hosts::new(&[&[Act::Serve]]);
    let (books, _) = ship(&hosts, " tag: 'app.%{[message]}'\n pipelining: 3", 10).await;
    assert_eq!((books.acked(), hosts.values()), (10, want(10)));
    let tags: Vec<String> = hosts.messages().into_iter().map(|m| m.tag).collect();
    assert_eq!(tags, want(10).iter().map(|line| format!("app.{line}")).collect::<Vec<_>>());
    let hosts = Hosts::new(&[&[Act::Serve]]);
    let (books, stats) = ship(&hosts, " tag: '%{[no.such]}'", 3).await;
    assert_eq!((books.acked(), books.dropped(), stats.dropped.get()), (0, vec![0, 1, 2], 3));
    assert!(matches!(&books.all()[0], Fate::Dropped(d) if d.field.as_deref() == Some("no.such")));
    assert!(hosts.messages().is_empty() && stats.requests.get() == 0);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_may_come_in_any_order() {
    let hosts = Hosts::new(&[&[Act::Backwards]]);
    let (books, stats) = ship(&hosts, " tag: 'app.%{[message]}'\n pipelining: 2", 10).await;
    assert_eq!((books.acked(), hosts.values(), stats.failed.get()), (10, want(10), 0));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_said_twice_doubles_nothing_and_one_said_for_ever_is_not_waited_for() {
    let yaml = " tag: 'app.%{[message]}'\n pipelining: 2";
    let hosts = Hosts::new(&[&[Act::Times(2)]]);
    let (books, stats) = ship(&hosts, yaml, 10).await;
    assert_eq!((books.acked(), hosts.values(), stats.failed.get()), (10, want(10), 0));
    let hosts = Hosts::new(&[&[Act::Times(1_000), Act::Serve]]);
    let (books, stats) = ship(&hosts, yaml, 10).await;
    assert_eq!((books.acked(), sorted(hosts.once()), stats.failed.get()), (10, sorted(want(10)), 1));
}

#[tokio::test(start_paused = true)]
async fn what_isnt_acknowledged_comes_again_as_the_same_message() {
    let scripts: [&[Act]; 7] = [
        &[Act::Die(2), Act::Refuse, Act::Die(1), Act::Serve],
        &[Act::DieWithin(1), Act::DieWithin(0), Act::Serve],
        &[Act::Silent, Act::Silent, Act::Serve],
        &[Act::Say(b"\x81\xa3ack\xa5other"), Act::Serve],
        &[Act::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Act::Serve],
        &[Act::Say(b"\x81\xa3ack\xdb\xff\xff\xff\xff"), Act::Serve],
        &[Act::Say(b"\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91"), Act::Serve],
    ];
    for (more, script) in ["", " compression: gzip"].iter().flat_map(|more| scripts.map(|script| (more, script))) {
        let hosts = Hosts::new(&[script]);
        let (books, stats) = ship(&hosts, &format!(" bulk_max_size: 10\n{more}"), 60).await;
        assert_eq!((books.acked(), sorted(hosts.once())), (60, sorted(want(60))), "{script:?}");
        assert!(hosts.values().len() > 60, "{script:?}: nothing came twice");
        assert!(stats.retried.get() > 0 && stats.failed.get() > 0 && stats.last_error().is_none(), "{script:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_answer_is_given_up() {
    static HUGE: [u8; 100_000] = {
        let mut huge = [b'x'; 100_000];
        let head = *b"\x81\xa3ack\xdb\x00\xff\xff\xff";
        let mut at = 0;
        while at < head.len() {
            huge[at] = head[at];
            at += 1;
        }
        huge
    };
    let hosts = Hosts::new(&[&[Act::Say(&HUGE), Act::Serve]]);
    let (books, stats) = ship(&hosts, "", 5).await;
    assert_eq!((books.acked(), stats.failed.get()), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_anothers_by_the_next_attempt_is_not_sent_again() {
    let hosts = Hosts::new(&[&[Act::Die(0), Act::Serve]]);
    let forward = forward(&hosts, " bulk_max_size: 10");
    let (books, stats, gated) = (Arc::new(Books::default()), Arc::clone(&forward.context.stats), Gated::of(lines(30)));
    let run = forward.run(Arc::clone(&gated) as _, Arc::clone(&books) as _);
    let (ended, ()) = tokio::join!(run, gated.closes(&stats, |stats| stats.failed.get() > 0, 0..10));
    ended.unwrap();
    assert_eq!((books.acked(), hosts.values()), (20, [want(10), want(30).split_off(10)].concat()));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_down_or_never_answers_holds_up_nothing_for_ever() {
    for bad in [Act::Refuse, Act::Silent, Act::Say(b"\xc1"), Act::Die(0)] {
        for more in [" loadbalance: true", " loadbalance: false"] {
            let hosts = Hosts::new(&[&[bad], &[Act::Serve]]);
            let (books, _) = ship(&hosts, &format!("{more}\n bulk_max_size: 10"), 60).await;
            assert_eq!((books.acked(), sorted(hosts.once())), (60, sorted(want(60))), "{bad:?} {more}");
            let good: usize = hosts.messages().iter().filter(|m| m.host == 1).map(|m| m.size).sum();
            assert_eq!(good, 60);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_at_rest_is_no_failure() {
    let hosts = Hosts::new(&[&[Act::Idle]]);
    let (books, stats) = ship(&hosts, " bulk_max_size: 10\n pipelining: 1", 10).await;
    assert_eq!((books.acked(), stats.failed.get()), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn a_login_with_shared_key_and_user() {
    for (act, more) in [
        (Act::Login(false, true), " shared_key: key"),
        (Act::Login(true, true), " shared_key: key\n username: u\n password: p"),
        // The server keeps no connection: each message has its own.
        (Act::Login(false, false), " shared_key: key\n bulk_max_size: 10"),
    ] {
        let hosts = Hosts::new(&[&[act]]);
        let (books, stats) = ship(&hosts, more, 50).await;
        assert_eq!((books.acked(), hosts.values(), stats.failed.get()), (50, want(50), 0), "{act:?}");
        let tested = forward(&hosts, more).test().await;
        assert!(tested.iter().all(|(_, outcome)| outcome.is_ok()), "{tested:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_fails_says_why_without_a_secret() {
    for (act, more, reason, remedy) in [
        (Act::Login(false, true), " shared_key: topsecret", "shared_key mismatch", "shared_key right"),
        (Act::Login(true, true), " shared_key: key", "asks for a user", "username and password"),
        (Act::Login(true, true), " shared_key: key\n username: u\n password: topsecret", "refuses", "shared_key"),
        (Act::Impostor, " shared_key: topsecret", "doesn't show", "shared_key"),
        (Act::Serve, " shared_key: topsecret", "no answer within 30s", "leave shared_key out"),
        (Act::Refuse, " shared_key: topsecret", "refused", ""),
    ] {
        let hosts = Hosts::new(&[&[act]]);
        let tested = forward(&hosts, more).test().await;
        let [(_, Err(problem))] = tested.as_slice() else { panic!("{act:?}: {tested:?}") };
        assert!(problem.reason.contains(reason) && problem.remedy.contains(remedy), "{problem}");
        assert!(!problem.to_string().contains("topsecret") && hosts.messages().is_empty());
    }
    // Without a key of ours the greeting comes in the place of an acknowledgement.
    let hosts = Hosts::new(&[&[Act::Login(false, true), Act::Serve]]);
    let (books, stats) = ship(&hosts, "", 5).await;
    assert_eq!((books.acked(), stats.failed.get()), (5, 1));
}

#[test]
fn settings() {
    let ok = options(" hosts: [a, 'b:1']\n tag: x\n shared_key: k\n username: u\n password: topsecret").unwrap();
    assert_eq!(ok.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:24224", "b:1"]);
    assert!(!format!("{ok:?}").contains("topsecret") && ok.level.is_none());
    for (yaml, why) in [
        (" tag: x", "there is no host"),
        (" hosts: ['tcp://a']", "a URL isn't expected"),
        (" hosts: [a]\n tag: '%{[x'", "`}` is missing"),
        (" hosts: [a]\n require_ack_response: false", "nobody knows what has arrived"),
        (" hosts: [a]\n username: u\n password: topsecret", "without a shared key"),
        (" hosts: [a]\n compression: snappy", "snappy"),
        (" hosts: [a]\n compression_level: 10", "10"),
        (" hosts: [a]\n pipelining: 0", "0"),
    ] {
        let error = options(yaml).unwrap_err();
        assert!(error.contains(why) && !error.contains("topsecret"), "{yaml}: {error}");
    }
}
