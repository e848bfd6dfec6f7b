//! Workers against a scripted cluster: real connections in memory, a paused clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use pillion_config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::broker::Dialing;
use super::records::Producer;
use super::records::tests::read;
use super::wire::Reader;
use super::*;
use crate::dial::Stream;
use crate::testing::{Books, Gated, List, context, lines};

/// What becomes of a request with records.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// It is answered with this code and, but for 0, not carried out.
    Code(i16),
    /// It is carried out, and the connection ends without an answer.
    Lost,
    /// More bytes of records than this are refused with 10.
    AtMost(usize),
    /// It is refused with 3, and topics have one partition from now on.
    Anew,
    /// It is read, and nobody answers.
    Hangs,
    /// It is carried out and not answered.
    Taken,
    /// Before it, the other broker becomes the leader of all that this one led; so often metadata doesn't show it yet.
    Moves(usize),
    /// The same after it was carried out, without an answer.
    MovesAfter(usize),
}

/// Who wrote, with which number, what.
type Written = (Producer, i32, String);

#[derive(Default)]
struct State {
    /// The next requests with records; all others succeed.
    script: VecDeque<Act>,
    /// What is on each partition.
    log: BTreeMap<(String, i32), Vec<Written>>,
    /// How often metadata was asked for, and connections were refused.
    asked: usize,
    refuse: usize,
    /// Topics have one partition, not three.
    small: bool,
    /// Producers so far.
    producers: i64,
    /// What the brokers led at first, the other one leads now; and so often metadata still says what was before.
    moved: bool,
    stale: usize,
    /// Hosts that take a connection and never answer, and how often they did.
    hung: BTreeMap<String, usize>,
}

/// Two brokers, `a:9092` with the partitions 0 and 2 of each topic and `b:9093` with 1; topics are there from the second
/// time that they are asked for, but for `missing`; to `denied` nobody may write.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

impl Reach for Fake {
    fn dial<'a>(&'a self, host: &'a Host) -> Dialing<'a> {
        Box::pin(async move {
            let mut state = self.0.lock().unwrap();
            if state.refuse > 0 || !["a:9092", "b:9093"].contains(&host.to_string().as_str()) {
                state.refuse = state.refuse.saturating_sub(1);
                return Err(Problem::bare("refused"));
            }
            let (near, far) = duplex(1 << 16);
            if let Some(times) = state.hung.get_mut(&host.to_string()) {
                *times += 1;
                tokio::spawn(async move {
                    let (_far, ()) = (far, std::future::pending::<()>().await);
                });
                return Ok(Box::new(near) as Stream);
            }
            tokio::spawn(self.clone().serve(far, if host.name == "a" { 1 } else { 2 }));
            Ok(Box::new(near) as Stream)
        })
    }
}

/// What comes back for a request with records.
enum Answer {
    Is(Out),
    /// The connection ends.
    Ends,
    /// Nothing, on a connection that stays.
    Never,
}

/// Who leads a partition.
fn leader(partition: i32, moved: bool) -> i32 {
    if (partition == 1) != moved { 2 } else { 1 }
}

/// An answer's bytes.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn i16(mut self, n: i16) -> Out {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }
    fn i32(mut self, n: i32) -> Out {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }
    fn i64(mut self, n: i64) -> Out {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }
    fn text(mut self, text: &str) -> Out {
        self = self.i16(text.len() as i16);
        self.0.extend_from_slice(text.as_bytes());
        self
    }
}

impl Fake {
    async fn serve(self, mut far: DuplexStream, node: i32) -> Option<()> {
        loop {
            let length = far.read_u32().await.ok()? as usize;
            let mut request = vec![0; length];
            far.read_exact(&mut request).await.ok()?;
            let mut r = Reader(&request);
            let (api, _version, correlation) = (r.i16().unwrap(), r.i16().unwrap(), r.i32().unwrap());
            assert_eq!(r.text().unwrap(), "beats");
            let body = match api {
                18 => [0, 3, 22].iter().fold(Out::default().i16(0).i32(3), |out, api| out.i16(*api).i16(0).i16(7)),
                3 => self.metadata(&mut r),
                22 => {
                    let mut state = self.0.lock().unwrap();
                    state.producers += 1;
                    Out::default().i32(0).i16(0).i64(state.producers).i16(0)
                }
                _ => match self.produce(&mut r, node) {
                    Answer::Is(body) => body,
                    Answer::Ends => return None,
                    Answer::Never => {
                        while far.read_u8().await.is_ok() {}
                        return None;
                    }
                },
            };
            let answer = [&((body.0.len() + 4) as u32).to_be_bytes()[..], &correlation.to_be_bytes(), &body.0].concat();
            far.write_all(&answer).await.ok()?;
        }
    }

    fn metadata(&self, r: &mut Reader<'_>) -> Out {
        let topics = r.list(Reader::text).unwrap();
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        let (later, small) = (state.asked > 1, state.small);
        let moved = if state.stale > 0 { !state.moved } else { state.moved };
        state.stale = state.stale.saturating_sub(1);
        let nodes = Out::default().i32(0).i32(2).i32(1).text("a").i32(9092).i16(-1).i32(2).text("b").i32(9093).i16(-1);
        topics.iter().fold(nodes.i16(-1).i32(1).i32(topics.len() as i32), |out, topic| {
            let there = later && topic != "missing";
            let mut out = out.i16(if there { 0 } else { 5 }).text(topic);
            out.0.push(0);
            let ids = if there { 0..if small { 1 } else { 3 } } else { 0..0 };
            let parts = out.i32(ids.end);
            ids.fold(parts, |out, id| out.i16(0).i32(id).i32(leader(id, moved)).i32(0).i32(0))
        })
    }

    fn produce(&self, r: &mut Reader<'_>, node: i32) -> Answer {
        r.i16().unwrap();
        r.i16().unwrap();
        r.i32().unwrap();
        let mut state = self.0.lock().unwrap();
        let act = state.script.pop_front().unwrap_or(Act::Code(0));
        state.small |= matches!(act, Act::Anew);
        if let Act::Moves(stale) = act {
            (state.moved, state.stale) = (!state.moved, stale);
        }
        let all = r.list(|r| {
            let topic = r.text()?;
            r.list(|r| Ok((topic.clone(), r.i32()?, r.bytes()?.to_vec())))
        });
        let mut out = Out::default().i32(0);
        let mut count = 0;
        for (topic, partition, bytes) in all.unwrap().into_iter().flatten() {
            let code = match act {
                _ if topic == "denied" => 29,
                Act::Hangs => break,
                Act::Anew => 3,
                _ if state.small && partition > 0 => 3,
                _ if leader(partition, state.moved) != node => 6,
                Act::Code(code @ (..=-1 | 1..)) => code,
                Act::AtMost(n) if bytes.len() > n => 10,
                _ => state.append(&topic, partition, &bytes),
            };
            out = out.text(&topic).i32(1).i32(partition).i16(code).i64(0).i64(-1).i64(0);
            count += 1;
        }
        if matches!(act, Act::AtMost(_)) {
            state.script.push_front(act);
        }
        if let Act::MovesAfter(stale) = act {
            (state.moved, state.stale) = (!state.moved, stale);
        }
        out.0[..4].copy_from_slice(&i32::to_be_bytes(count));
        match act {
            Act::Lost | Act::MovesAfter(_) => Answer::Ends,
            Act::Hangs | Act::Taken => Answer::Never,
            Act::Code(_) | Act::AtMost(_) | Act::Anew | Act::Moves(_) => Answer::Is(out.i32(0)),
        }
    }

    /// Each value with the partition it is in, sorted.
    fn values(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        let mut all: Vec<String> = state.log.values().flatten().map(|(_, _, value)| value.clone()).collect();
        all.sort();
        all
    }
}

impl State {
    /// As a broker does: numbers must follow each other, and a second sending is known.
    fn append(&mut self, topic: &str, partition: i32, bytes: &[u8]) -> i16 {
        let (producer, first, records) = read(bytes);
        let log = self.log.entry((topic.to_owned(), partition)).or_default();
        if producer.id >= 0 {
            let next = log.iter().filter(|(p, ..)| *p == producer).count() as i32;
            if first < next {
                return 46;
            }
            if first > next {
                return 45;
            }
        }
        for (i, (_, _, value, _)) in records.into_iter().enumerate() {
            log.push((producer, first + i as i32, String::from_utf8(value).unwrap()));
        }
        0
    }
}

fn options(yaml: &str) -> Result<KafkaOptions, String> {
    let config = Config::from_yaml(&format!("pillion.compat: 8\no:\n{yaml}")).unwrap();
    KafkaOptions::from_section(&config.root().section("o").unwrap().unwrap(), Compat::V8).map_err(|e| e.to_string())
}

async fn ship(fake: &Fake, yaml: &str, n: usize) -> (Arc<Books>, Arc<crate::Stats>) {
    let codec = " codec.format.string: '%{[message]}'\n compression: none\n hosts: [gone, a]\n";
    let topic = if yaml.contains("topic") { "" } else { " topic: t\n" };
    let options = options(&format!("{codec}{topic}{yaml}")).unwrap();
    let kafka = Kafka { options, context: context(), reach: Arc::new(fake.clone()) };
    let (books, stats) = (Arc::new(Books::default()), Arc::clone(&kafka.context.stats));
    kafka.run(List::of(lines(n)), Arc::clone(&books) as _).await.unwrap();
    (books, stats)
}

fn scripted(script: &[Act]) -> Fake {
    let fake = Fake::default();
    fake.0.lock().unwrap().script = script.iter().copied().collect();
    fake
}

fn want(n: usize) -> Vec<String> {
    let mut all: Vec<String> = (0..n).map(|i| format!("line {i}")).collect();
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn events_spread_over_partitions_and_each_is_there_once() {
    let fake = Fake::default();
    let (books, stats) = ship(&fake, " partition.round_robin: {}", 3000).await;
    assert_eq!((books.acked(), fake.values()), (3000, want(3000)));
    let sizes: Vec<usize> = fake.0.lock().unwrap().log.values().map(Vec::len).collect();
    assert_eq!((sizes, stats.last_error()), (vec![1000; 3], None));
}

#[tokio::test(start_paused = true)]
async fn a_key_keeps_its_partition_and_its_order() {
    let fake = Fake::default();
    let (books, _) = ship(&fake, " key: '%{[agent.type]}'\n bulk_max_size: 10", 100).await;
    let state = fake.0.lock().unwrap();
    assert_eq!((books.acked(), state.log.len()), (100, 1));
    let got: Vec<String> = state.log.values().flatten().map(|(_, _, v)| v.clone()).collect();
    assert_eq!(got, (0..100).map(|i| format!("line {i}")).collect::<Vec<_>>());
}

/// As in Filebeat: all events whose key is empty would share a partition.
#[tokio::test(start_paused = true)]
async fn an_empty_key_is_none() {
    let fake = Fake::default();
    let (books, _) = ship(&fake, " key: '%{[no.such]:}'\n bulk_max_size: 10", 100).await;
    assert!(books.acked() == 100 && fake.0.lock().unwrap().log.len() > 1);
}

#[tokio::test(start_paused = true)]
async fn topics_by_rules_and_what_has_none_is_dropped() {
    let fake = Fake::default();
    let rules = " topics:\n - {topic: even, when.regexp.message: '[02468]$'}\n - {topic: 'x %{[message]}', \
                 when.contains.message: '3'}\n";
    let (books, _) = ship(&fake, rules, 6).await;
    // `x line 3` isn't a name that a topic can have; 1 and 5 have none.
    assert_eq!(
        (books.acked(), books.dropped(), fake.values()),
        (3, vec![1, 3, 5], vec!["line 0".into(), "line 2".into(), "line 4".into()])
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_now_is_sent_again() {
    for code in [3, 5, 6, 7, 19, 20, 29, 56, -1] {
        let fake = scripted(&[Act::Code(code), Act::Code(code), Act::Code(code)]);
        fake.0.lock().unwrap().refuse = 2;
        let (books, stats) = ship(&fake, "", 500).await;
        assert_eq!((books.acked(), fake.values(), stats.last_error()), (500, want(500), None), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_there_or_denied_holds_up_no_other() {
    for topic in ["missing", "denied"] {
        let fake = Fake::default();
        let rules = format!(
            " topic: t\n topics: [{{topic: {topic}, when.contains.message: '1'}}]\n bulk_max_size: 4\n hosts: [a]\n \
             codec.format.string: '%{{[message]}}'\n compression: none\n idempotent: true"
        );
        let kafka = Kafka { options: options(&rules).unwrap(), context: context(), reach: Arc::new(fake.clone()) };
        let (books, stats) = (Arc::new(Books::default()), Arc::clone(&kafka.context.stats));
        let run = kafka.run(List::of(lines(20)), Arc::clone(&books) as _);
        assert!(tokio::time::timeout(Duration::from_secs(60), run).await.is_err(), "it is waited for");
        let others: Vec<String> = want(20).into_iter().filter(|line| !line.contains('1')).collect();
        assert_eq!((books.acked(), fake.values()), (others.len(), others));
        assert!(stats.last_error().is_some_and(|e| e.contains(topic)), "{:?}", stats.last_error());
        let tried = fake.0.lock().unwrap().asked + stats.requests.get() as usize;
        assert!((30..200).contains(&tried), "{tried} times in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_anew_with_fewer_partitions_gets_what_was_meant_for_others() {
    for idempotent in [true, false] {
        let fake = scripted(&[Act::Code(0), Act::Anew]);
        let yaml = format!(" idempotent: {idempotent}\n partition.round_robin: {{}}\n bulk_max_size: 30");
        let (books, _) = ship(&fake, &yaml, 300).await;
        assert_eq!((books.acked(), fake.values()), (300, want(300)), "{idempotent}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_idempotent_a_lost_answer_doubles_nothing() {
    for idempotent in [true, false] {
        let fake = scripted(&[Act::Lost, Act::Code(0), Act::Lost, Act::Lost, Act::Code(6), Act::Lost]);
        let yaml = format!(" idempotent: {idempotent}\n bulk_max_size: 100\n partition.random.group_events: 30");
        let (books, _) = ship(&fake, &yaml, 1000).await;
        assert_eq!(books.acked(), 1000);
        let mut got = fake.values();
        assert_eq!(got.len() > 1000, !idempotent);
        got.dedup();
        assert_eq!(got, want(1000), "{idempotent}");
    }
}

#[tokio::test(start_paused = true)]
async fn leaders_that_move_die_and_hang_lose_nothing_and_with_idempotent_double_nothing() {
    let mut doubled = 0;
    for seed in 0..300 {
        let mut seeded = seed * 7919 + 1;
        // xorshift; the fake's fate follows from the seed.
        let mut random = move |below: usize| {
            seeded ^= seeded << 13;
            seeded ^= seeded >> 7;
            seeded ^= seeded << 17;
            (seeded % below as u64) as usize
        };
        let script: Vec<Act> = (0..40)
            .map(|_| match random(12) {
                0 => Act::Moves(random(4)),
                1 => Act::MovesAfter(random(4)),
                2 => Act::Lost,
                3 => Act::Hangs,
                4 => Act::Taken,
                5 => Act::Code([5, 6, 7, 19][random(4)]),
                _ => Act::Code(0),
            })
            .collect();
        let idempotent = seed % 3 > 0;
        let fake = scripted(&script);
        let yaml = format!(
            " idempotent: {idempotent}\n bulk_max_size: 50\n partition.random.group_events: 7\n worker: {}",
            1 + seed % 2
        );
        let (books, stats) = ship(&fake, &yaml, 1000).await;
        assert_eq!((books.acked(), stats.last_error()), (1000, None), "{seed}");
        let mut got = fake.values();
        if idempotent {
            assert_eq!(got.len(), 1000, "{seed}: {script:?}");
        }
        doubled += got.len() - 1000;
        got.dedup();
        assert_eq!(got, want(1000), "{seed}: {script:?}");
    }
    assert!(doubled > 0, "without idempotent the same trouble doubles");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_hangs_is_named_also_when_another_one_answers_for_it() {
    // Which one is asked first is chance.
    for hosts in ["'b:9093', a", "a, 'b:9093'"].into_iter().cycle().take(16) {
        // Only metadata is asked of `b`; the first records wait, so that there is time to look.
        let fake = scripted(&[Act::Hangs]);
        fake.0.lock().unwrap().small = true;
        fake.0.lock().unwrap().hung.insert("b:9093".into(), 0);
        let yaml = format!(" topic: t\n hosts: [{hosts}]\n codec.format.string: '%{{[message]}}'\n compression: none");
        let kafka = Kafka { options: options(&yaml).unwrap(), context: context(), reach: Arc::new(fake.clone()) };
        let (books, stats) = (Arc::new(Books::default()), Arc::clone(&kafka.context.stats));
        let began = tokio::time::Instant::now();
        let look = async {
            while stats.requests.get() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (stats.last_error(), fake.0.lock().unwrap().hung["b:9093"], began.elapsed())
        };
        let run = kafka.run(List::of(lines(300)), Arc::clone(&books) as _);
        let (ended, (said, times, took)) = tokio::join!(run, look);
        ended.unwrap();
        assert_eq!((books.acked(), fake.values()), (300, want(300)));
        let said = said.unwrap_or_default();
        let named = said.contains("b:9093: no answer within 30s");
        assert!(took < Duration::from_secs(40), "{took:?}");
        if took > Duration::from_secs(30) {
            assert!(times > 0 && named, "{times} {said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_was_forgotten_by_one_broker_doubles_nothing_at_another() {
    for _ in 0..16 {
        // The answer of the second broker is lost, while the first one has forgotten who sends.
        let fake = scripted(&[Act::Code(0), Act::Code(0), Act::Code(59), Act::Lost]);
        let yaml = " idempotent: true\n bulk_max_size: 30\n partition.round_robin: {}";
        let (books, _) = ship(&fake, yaml, 300).await;
        assert_eq!((books.acked(), fake.values()), (300, want(300)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_was_forgotten_begins_anew() {
    let fake = scripted(&[Act::Code(0), Act::Code(59), Act::Code(45)]);
    let (books, _) = ship(&fake, " idempotent: true\n bulk_max_size: 50", 500).await;
    assert_eq!((books.acked(), fake.values()), (500, want(500)));
    assert!(fake.0.lock().unwrap().producers > 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_anothers_by_the_next_attempt_is_not_sent_again_and_numbers_begin_anew() {
    // The broker has the first ten and never says so.
    let fake = scripted(&[Act::Lost]);
    let yaml = " topic: t\n hosts: [a]\n compression: none\n codec.format.string: '%{[message]}'\n idempotent: true\n bulk_max_size: 10\n key: '%{[agent.type]}'";
    let kafka = Kafka { options: options(yaml).unwrap(), context: context(), reach: Arc::new(fake.clone()) };
    let (books, stats, gated) = (Arc::new(Books::default()), Arc::clone(&kafka.context.stats), Gated::of(lines(30)));
    let run = kafka.run(Arc::clone(&gated) as _, Arc::clone(&books) as _);
    let lost = |_: &crate::Stats| !fake.values().is_empty();
    let (ended, ()) = tokio::join!(run, gated.closes(&stats, lost, 0..10));
    ended.unwrap();
    assert_eq!((books.acked(), fake.values()), (20, want(30)));
    let producers: BTreeSet<i64> = fake.0.lock().unwrap().log.values().flatten().map(|(p, _, _)| p.id).collect();
    assert_eq!(producers.len(), 2, "a new one counts anew");
}

#[tokio::test(start_paused = true)]
async fn batches_shrink_until_the_broker_takes_them() {
    for idempotent in [true, false] {
        let fake = scripted(&[Act::AtMost(400)]);
        let (books, _) = ship(&fake, &format!(" idempotent: {idempotent}"), 300).await;
        assert_eq!((books.acked(), fake.values()), (300, want(300)));
        // One event alone is 61 bytes of head and 13 of its own; from `line 10` on 14.
        let fake = scripted(&[Act::AtMost(74)]);
        let (books, _) = ship(&fake, &format!(" idempotent: {idempotent}"), 15).await;
        assert_eq!((books.acked(), fake.values()), (10, want(10)));
        assert_eq!(books.dropped(), [10, 11, 12, 13, 14]);
    }
    let (books, _) = ship(&Fake::default(), " max_message_bytes: 103", 12).await;
    assert_eq!(books.dropped(), [10, 11], "an event larger than max_message_bytes isn't sent");
}

#[tokio::test(start_paused = true)]
async fn without_answers_what_is_sent_counts() {
    let fake = Fake::default();
    let (books, _) = ship(&fake, " required_acks: 0", 100).await;
    assert_eq!(books.acked(), 100);
}

#[test]
fn options_as_people_write_them() {
    let o =
        options(" hosts: [a, 'b:1']\n topic: t\n username: u\n password: p\n sasl.mechanism: scram-sha-512\n").unwrap();
    assert_eq!(
        (o.acks, o.idempotent, o.max_bytes, o.client.login.unwrap().0),
        (1, false, 1_000_000, Mechanism::Scram512)
    );
    assert_eq!(options(" hosts: [a]\n topic: t\n idempotent: true").unwrap().acks, -1);
    for (yaml, why) in [
        (" topic: t", "no host"),
        (" hosts: ['http://a']\n topic: t", "URL"),
        (" hosts: [a]", "no topic"),
        (" hosts: [a]\n topic: 'a b'", "not a name"),
        (" hosts: [a]\n topic: t\n idempotent: true\n required_acks: 1", "all replicas"),
        (" hosts: [a]\n topic: t\n required_acks: 2", "not a number of answers"),
        (" hosts: [a]\n topic: t\n username: u", "no password"),
        (" hosts: [a]\n topic: t\n password: p", "no user"),
        (" hosts: [a]\n topic: t\n username: u\n password: p\n sasl.mechanism: GSSAPI", "mechanism"),
        (" hosts: [a]\n topic: t\n version: new", "not a version"),
    ] {
        let said = options(yaml).unwrap_err();
        assert!(said.contains(why) && !said.contains("secret"), "{yaml}: {said}");
    }
}
