//! One worker: it makes batches of events, one for each partition, and sends them until brokers have them all.
//!
//! ```text
//! take events ──► topics known? ──► batches ──► to each leader, together ──► answers: settle
//!                  │ no: ask                       ▲                          │ some left
//!                  ▼                               └── wait, ask who leads ◄──┘
//!                wait (backoff)
//! ```
//!
//! Always holds: a batch is sent again as it is, with the number it had, until a broker has it or refuses it for good, or
//! its partition is there no more; of a partition at most one batch is on its way, so that order and numbers hold; an event
//! is settled by the answer for its batch. A leader that is away holds up this worker, not the others; a topic that isn't
//! there holds up none where events have topics of their own. Tested in `tests.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pillion_event::{Drop, DropKind, Event, Fate, Slice};

use super::absent::Absent;
use super::batch::{Batch, Growing};
use super::broker::malformed;
use super::cluster::{Cluster, is_topic};
use super::partition::{PartitionOptions, Partitioner};
use super::records::{Compression, Producer, Record};
use super::refusal::{Verdict, explain, verdict};
use super::wire::{Api, Produced, Reader, read_produced, read_producer};
use crate::backoff::Backoff;
use crate::choose::Choice;
use crate::codec::Codec;
use crate::contract::OutputContext;
use crate::format::Format;
use crate::problem::Problem;
use crate::settle::{Books, unencodable};
use crate::work::{PUT_OFF, Piece, Pool};

/// Batches are sent when they have grown beyond this together.
const ROUND_BYTES: usize = 8 << 20;
/// A topic that nobody has asked for before is asked for so often before its events are put off: asking may create it.
const ASKED: usize = 3;
/// We may see the topic, and not write to it.
const FORBIDDEN: i16 = 29;
/// A batch whose partition the cluster doesn't name this often in a row is divided among those that there are.
const HOMELESS: u32 = 10;
/// Numbers of more partitions than this aren't kept: then a new producer begins.
const MOST_NUMBERS: usize = 100_000;

/// How workers work.
pub(super) struct Settings {
    /// `required_acks`: -1, 0 or 1.
    pub(super) acks: i16,
    pub(super) broker_timeout: Duration,
    pub(super) compression: Compression,
    /// The most bytes of a batch before compression.
    pub(super) max_bytes: usize,
    pub(super) bulk_max_size: usize,
    pub(super) backoff: (Duration, Duration),
    /// How soon a topic is asked for again that isn't there yet.
    pub(super) metadata_backoff: Duration,
    pub(super) refresh: Duration,
    pub(super) topic: Choice,
    pub(super) key: Option<Format>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) codec: Codec,
    pub(super) partition: PartitionOptions,
    pub(super) idempotent: bool,
}

pub(super) struct Worker {
    pool: Arc<Pool<Piece>>,
    books: Books,
    settings: Arc<Settings>,
    context: OutputContext,
    cluster: Cluster,
    absent: Absent,
    partitioner: Partitioner,
    backoff: Backoff,
    producer: Option<Producer>,
    /// The next number of each partition.
    numbers: HashMap<(String, i32), i32>,
    /// The most bytes of a batch now: less than the setting while a broker refuses larger ones.
    limit: usize,
    /// It was said that a broker takes less than `max_message_bytes`.
    said_large: bool,
    /// Who doesn't work, as it was said.
    failing: Vec<String>,
}

impl Worker {
    pub(super) fn new(
        pool: Arc<Pool<Piece>>,
        books: Books,
        settings: Arc<Settings>,
        context: OutputContext,
        cluster: Cluster,
    ) -> Worker {
        let backoff = Backoff::new(settings.backoff.0, settings.backoff.1);
        let (partitioner, limit) = (Partitioner::new(settings.partition.clone()), settings.max_bytes);
        Worker {
            pool,
            books,
            settings,
            context,
            cluster,
            absent: Absent::default(),
            partitioner,
            backoff,
            producer: None,
            numbers: HashMap::new(),
            limit,
            said_large: false,
            failing: Vec::new(),
        }
    }

    /// Works until all is settled and nothing will come. It connects before there is work: the first line needn't wait,
    /// and a wrong host is said early.
    pub(super) async fn run(mut self) {
        let pool = Arc::clone(&self.pool);
        let topics: Vec<String> = self.settings.topic.constant().map(str::to_owned).into_iter().collect();
        tokio::select! {
            () = self.know(&topics) => {}
            () = pool.ended() => return,
        }
        while let Some(mut piece) = pool.next().await {
            while !piece.is_empty() {
                self.round(&mut piece).await;
            }
        }
    }

    /// Sends as much of a piece's front as goes at once, and settles it.
    async fn round(&mut self, piece: &mut Piece) {
        let topics = self.topics(piece);
        let mut unknown: Vec<String> = topics
            .iter()
            .filter_map(|t| t.as_ref().ok())
            .filter(|topic| self.cluster.partitions(topic).is_none() && !self.absent.waits(topic))
            .cloned()
            .collect();
        unknown.sort();
        unknown.dedup();
        let old = self.cluster.is_older_than(self.settings.refresh);
        if !unknown.is_empty() || old {
            self.know(&unknown).await;
        }
        if self.settings.idempotent && (self.producer.is_none() || self.numbers.len() > MOST_NUMBERS) {
            self.new_producer().await;
        }
        let batches = self.batches(piece, topics);
        self.deliver(batches).await;
    }

    /// The topics of the events at a piece's front.
    fn topics(&self, piece: &Piece) -> Vec<Result<String, Fate>> {
        let (topic, codec) = (&self.settings.topic, &self.settings.codec);
        let events = piece.events().take(self.settings.bulk_max_size);
        if let Some(constant) = topic.constant() {
            return events.map(|_| Ok(constant.to_owned())).collect();
        }
        let of = |name: Vec<u8>| String::from_utf8(name).ok().filter(|name| is_topic(name));
        let invalid =
            || Fate::Dropped(Drop { kind: DropKind::Unencodable, type_name: "invalid_topic".to_owned(), field: None });
        events
            .map(|(batch, _, event)| match topic.of(codec.renderer(), batch, event) {
                Ok(name) => of(name).ok_or_else(invalid),
                Err(missing) => Err(unencodable(&missing)),
            })
            .collect()
    }

    /// Asks until the cluster knows these topics, or, where events have topics of their own, which of them it hasn't.
    async fn know(&mut self, topics: &[String]) {
        let mut backoff = Backoff::new(self.settings.metadata_backoff, self.settings.backoff.1);
        let is_only = self.settings.topic.constant().is_some();
        let asked = if topics.iter().all(|topic| self.absent.has(topic)) { 1 } else { ASKED };
        let mut times = 0;
        loop {
            times += 1;
            let problem = match self.cluster.refresh(topics).await {
                Ok(None) => break,
                Ok(Some(problem)) if !is_only && times >= asked => {
                    self.without_topic(&problem);
                    break;
                }
                Ok(Some(problem)) | Err(problem) => problem,
            };
            let wait = backoff.wait(&*self.context.world.random);
            self.pause("the cluster", &problem, wait).await;
        }
        topics.iter().for_each(|topic| self.absent.note(topic, self.cluster.partitions(topic).is_some()));
        self.works("the cluster");
        self.say_passed();
    }

    /// A topic isn't there; each kind of that is said once.
    fn without_topic(&self, problem: &Problem) {
        self.context.stats.failed.add(1);
        if self.context.stats.fails_with("a topic", problem) {
            tracing::warn!("kafka: {problem} (its events wait, and it is asked for every {PUT_OFF:?})");
        }
    }

    /// Asks until a broker gives this worker a name of its own, and begins to count anew.
    async fn new_producer(&mut self) {
        self.numbers.clear();
        loop {
            let asked = self.cluster.ask(Api::InitProducerId, 0, |r| {
                r.null();
                r.i32(60_000);
            });
            let answer = asked.await.and_then(|answer| read_producer(&mut Reader(&answer)).map_err(malformed));
            let problem = match answer {
                Ok((0, producer)) => {
                    self.producer = Some(producer);
                    return self.works("the cluster");
                }
                Ok((code, _)) => explain(code, "a producer that is told apart"),
                Err(problem) => problem,
            };
            let wait = self.backoff.wait(&*self.context.world.random);
            self.pause("the cluster", &problem, wait).await;
        }
    }

    /// Makes batches of the events at a piece's front, and settles those that can't be sent.
    fn batches(&mut self, piece: &mut Piece, topics: Vec<Result<String, Fate>>) -> Vec<Batch> {
        let settings = Arc::clone(&self.settings);
        let mut growing: HashMap<(String, i32), Growing> = HashMap::new();
        let (mut dropped, mut off, mut done, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
        let (mut value, mut key) = (Vec::new(), Vec::new());
        for ((batch, at, event), topic) in piece.events().zip(topics) {
            let slice = || Slice { batch: Arc::clone(batch), events: at..at + 1 };
            let (renderer, encode) =
                (settings.codec.renderer(), |value: &mut Vec<u8>| settings.codec.encode(batch, event, value));
            value.clear();
            key.clear();
            let has_key = settings.key.as_ref().is_some_and(|f| f.write(renderer, batch, event, &mut key).is_ok());
            let encoded = topic.and_then(|topic| encode(&mut value).map_err(|m| unencodable(&m)).map(|()| topic));
            // An empty one is none: so it is in Filebeat.
            let key = (has_key && !key.is_empty()).then_some(key.as_slice());
            let record = Record { time_ms: event.time_ms, key, value: &value, headers: &settings.headers };
            let size = record.size();
            let place = encoded.and_then(|topic| self.place(topic, &record, batch, event));
            match place {
                Err(fate) => dropped.push((slice(), fate)),
                Ok(None) => off.push(slice()),
                Ok(Some(place)) => {
                    let batch = growing.entry(place).or_default();
                    if batch.events > 0 && batch.records.size() + size > self.limit {
                        break;
                    }
                    batch.add(&record, slice());
                    bytes += size;
                }
            }
            done += 1;
            if bytes >= ROUND_BYTES {
                break;
            }
        }
        let front = piece.take_front(done);
        for (slice, fate) in dropped {
            self.books.settle_front(&mut front.with(vec![slice]), 1, &fate);
        }
        self.context.stats.retried.add(off.len());
        self.pool.put_off(front.with(off));
        let filled = growing.into_iter().filter(|(_, batch)| batch.events > 0);
        filled.map(|((topic, partition), batch)| batch.finish(topic, partition, &front, settings.compression)).collect()
    }

    /// Where a record goes. `None`: not now, as the cluster doesn't have its topic, or we may not write to it.
    fn place(
        &mut self,
        topic: String,
        record: &Record<'_>,
        batch: &pillion_event::Batch,
        event: &Event,
    ) -> Result<Option<(String, i32)>, Fate> {
        let settings = &self.settings;
        if record.size() > settings.max_bytes {
            return Err(dropped_as(DropKind::TooLarge, "max_message_bytes"));
        }
        let known = self.cluster.partitions(&topic).filter(|_| !self.absent.waits(&topic));
        let Some(partitions) = known else { return Ok(None) };
        let field =
            |name: &str, out: &mut Vec<u8>| settings.codec.renderer().write_hashed_field(batch, event, name, out);
        let random = &*self.context.world.random;
        let partition = self.partitioner.choose(&topic, partitions, record.key, field, random);
        Ok(partition.map(|partition| (topic, partition)))
    }

    /// Sends batches until brokers have them all, or refuse them for good.
    async fn deliver(&mut self, mut batches: Vec<Batch>) {
        let (mut again, mut any_refused) = (false, false);
        while !batches.is_empty() {
            if again {
                self.context.stats.retried.add(batches.iter().map(|b| b.events).sum());
            }
            again = true;
            batches = self.admit(batches).await;
            let (answers, mut trouble) = self.send(&batches).await;
            let (mut forgotten, mut any_taken) = (false, false);
            let mut left = Vec::new();
            for mut batch in batches {
                let of = |p: &&Produced| p.topic == batch.topic && p.partition == batch.partition;
                let Some(code) = answers.iter().find(of).map(|p| p.error) else {
                    left.push(batch);
                    continue;
                };
                let verdict = verdict(code);
                if verdict == Verdict::Taken {
                    self.books.settle_front(&mut batch.piece, batch.events, &Fate::Acked);
                    self.absent.note(&batch.topic, true);
                    any_taken = true;
                    continue;
                }
                let problem = explain(code, &format!("topic {}", batch.topic));
                if matches!(verdict, Verdict::TooLarge | Verdict::Refused) {
                    any_refused = true;
                    self.refused(batch, verdict, &problem);
                    continue;
                }
                if code == FORBIDDEN && self.settings.topic.constant().is_none() {
                    self.forbidden(batch, &problem);
                    continue;
                }
                let node = self.cluster.leader(&batch.topic, batch.partition).unwrap_or(-1);
                trouble.get_or_insert_with(|| (self.cluster.name(node), problem));
                if verdict == Verdict::NewProducer && self.settings.idempotent {
                    // It was taken by nobody; of another one whose answer was lost nobody knows: that keeps its number.
                    batch.sequence = None;
                    forgotten = true;
                }
                left.push(batch);
            }
            batches = left;
            if any_taken {
                self.works("the cluster");
            }
            if let Some((host, problem)) = trouble {
                batches = self.look_again(batches, &host, &problem).await;
            }
            if forgotten {
                tracing::warn!("kafka: a broker has forgotten what came before: an event may be there twice");
                self.new_producer().await;
            }
        }
        if !any_refused {
            self.limit = (self.limit + self.settings.max_bytes / 64).min(self.settings.max_bytes);
        }
    }

    /// Waits, and asks who leads now; what is wrong with that is told by the next attempt.
    async fn look_again(&mut self, batches: Vec<Batch>, host: &str, problem: &Problem) -> Vec<Batch> {
        let wait = self.backoff.wait(&*self.context.world.random);
        self.pause(host, problem, wait).await;
        let topics: Vec<String> = batches.iter().map(|batch| batch.topic.clone()).collect();
        let refreshed = self.cluster.refresh(&topics).await;
        self.say_passed();
        if refreshed.is_ok() { self.housed(batches) } else { batches }
    }

    /// Hosts that another one answered for, each kind of problem once: they cost their timeout.
    fn say_passed(&mut self) {
        for (host, problem) in self.cluster.take_passed() {
            if self.fails_with(&host, &problem) {
                tracing::warn!("kafka: {problem} (another host answers in its place)");
            }
        }
    }

    /// Only this topic may not be written to: its events wait. A later batch must not look like this one sent again.
    fn forbidden(&mut self, batch: Batch, problem: &Problem) {
        self.without_topic(problem);
        self.absent.note(&batch.topic, false);
        self.context.stats.retried.add(batch.events);
        self.producer = None;
        self.pool.put_off(batch.piece);
    }

    /// Batches but those whose partition is gone: the topic was deleted, perhaps made anew with fewer partitions. Their
    /// events go back, to get another one.
    fn housed(&mut self, batches: Vec<Batch>) -> Vec<Batch> {
        let mut left = Vec::new();
        for mut batch in batches {
            let has = self.cluster.has(&batch.topic, batch.partition);
            batch.homeless = if has { 0 } else { batch.homeless + 1 };
            if batch.homeless < HOMELESS {
                left.push(batch);
                continue;
            }
            tracing::warn!("kafka: partition {} of topic {} is gone: its events go on", batch.partition, batch.topic);
            // Its numbers were another partition's.
            self.producer = None;
            self.pool.put(batch.piece);
        }
        left
    }

    /// Waits until batches may be sent, and numbers those that have none yet. Of which somebody else sends a part by now,
    /// the rest is made into another one later.
    async fn admit(&mut self, batches: Vec<Batch>) -> Vec<Batch> {
        let mut left = Vec::new();
        for mut batch in batches {
            batch.piece = self.pool.admit(batch.piece).await;
            if batch.piece.len() == batch.events {
                left.push(batch);
                continue;
            }
            if batch.sequence.is_some() {
                // A broker may have it or not: who counts on could leave a gap.
                self.producer = None;
            }
            self.pool.put(batch.piece);
        }
        self.number(&mut left);
        left
    }

    /// The broker doesn't take the batch as it is: smaller ones are tried, down to one event, which is dropped.
    fn refused(&mut self, mut batch: Batch, verdict: Verdict, problem: &Problem) {
        self.context.stats.failed.add(1);
        if !std::mem::replace(&mut self.said_large, true) {
            tracing::warn!("kafka: {problem} (smaller batches are tried)");
        }
        if let Some(sequence) = batch.sequence.filter(|_| Some(batch.producer) == self.producer) {
            // It took none of the numbers.
            self.numbers.insert((batch.topic.clone(), batch.partition), sequence);
        }
        if batch.events > 1 {
            self.limit = (self.limit.min(batch.size) / 2).max(1);
            self.pool.put(batch.piece);
            return;
        }
        let fate = match verdict {
            Verdict::TooLarge => dropped_as(DropKind::TooLarge, "message_too_large"),
            _ => dropped_as(DropKind::Unencodable, "invalid_record"),
        };
        self.books.settle_front(&mut batch.piece, 1, &fate);
    }

    /// Numbers the batches that have none yet.
    fn number(&mut self, batches: &mut [Batch]) {
        let producer = self.producer.filter(|_| self.settings.idempotent);
        for batch in batches.iter_mut().filter(|batch| batch.sequence.is_none()) {
            let first = match producer {
                None => -1,
                Some(_) => {
                    let next = self.numbers.entry((batch.topic.clone(), batch.partition)).or_insert(0);
                    let first = *next;
                    // After the last number comes 0.
                    *next = (i64::from(first) + batch.events as i64).rem_euclid(1 << 31) as i32;
                    first
                }
            };
            batch.number(producer.unwrap_or(Producer::NONE), first);
        }
    }

    /// Sends each batch to the leader of its partition, all leaders together; what they say, and the first trouble with
    /// the host that it is about.
    async fn send(&mut self, batches: &[Batch]) -> (Vec<Produced>, Option<(String, Problem)>) {
        let (mut answers, mut trouble, mut sent) = (Vec::new(), None, Vec::new());
        let mut nodes: HashMap<i32, Vec<&Batch>> = HashMap::new();
        for batch in batches {
            match self.cluster.leader(&batch.topic, batch.partition) {
                Some(node) => nodes.entry(node).or_default().push(batch),
                None => {
                    let code = if self.cluster.has(&batch.topic, batch.partition) { 5 } else { 3 };
                    trouble.get_or_insert_with(|| (String::new(), explain(code, &format!("topic {}", batch.topic))));
                }
            }
        }
        for (node, batches) in nodes {
            match self.send_to(node, &batches).await {
                Ok(version) => sent.push((node, version, batches)),
                Err(problem) => drop(trouble.get_or_insert((self.cluster.name(node), problem))),
            }
        }
        for (node, version, batches) in sent {
            if self.settings.acks == 0 {
                // Nobody answers: they count as taken when they are sent.
                let taken = |b: &&Batch| Produced { topic: b.topic.clone(), partition: b.partition, error: 0 };
                answers.extend(batches.iter().map(taken));
                continue;
            }
            let Some(line) = self.cluster.open_line(node) else { continue };
            let answer = line.receive().await;
            match answer.and_then(|bytes| read_produced(&mut Reader(&bytes), version).map_err(malformed)) {
                Ok(mut produced) => answers.append(&mut produced),
                Err(problem) => {
                    self.cluster.drop_line(node);
                    trouble.get_or_insert((self.cluster.name(node), problem));
                }
            }
        }
        (answers, trouble)
    }

    async fn send_to(&mut self, node: i32, batches: &[&Batch]) -> Result<i16, Problem> {
        let (acks, limit) = (self.settings.acks, self.settings.broker_timeout.as_millis());
        let line = self.cluster.line(node).await?;
        let sent = line.produce(|r| {
            r.null();
            r.i16(acks);
            r.i32(i32::try_from(limit).unwrap_or(i32::MAX));
            // A topic may be named once for each of its partitions.
            r.count(batches.len());
            for batch in batches {
                r.text(&batch.topic);
                r.count(1);
                r.i32(batch.partition);
                r.bytes(&batch.bytes);
            }
        });
        let sent = sent.await;
        match sent {
            Ok((bytes, version)) => {
                self.context.stats.requests.add(1);
                self.context.stats.bytes.add(bytes);
                Ok(version)
            }
            Err(problem) => {
                self.cluster.drop_line(node);
                Err(problem)
            }
        }
    }

    /// Says what is wrong, each kind of problem with a host once, and waits.
    async fn pause(&mut self, host: &str, problem: &Problem, wait: Duration) {
        self.context.stats.failed.add(1);
        let problem = if host.is_empty() { problem.clone() } else { problem.clone().during(host) };
        if self.fails_with(host, &problem) {
            tracing::warn!("kafka: {problem} (trying again in {wait:.1?}, and until it works)");
        } else {
            tracing::debug!("kafka: {problem} (trying again in {wait:.1?})");
        }
        self.context.hurry.pause(wait, &*self.context.world.random).await;
    }

    /// Notes what is wrong with a host; whether that kind of problem is new.
    fn fails_with(&mut self, host: &str, problem: &Problem) -> bool {
        if !self.failing.iter().any(|known| known == host) {
            self.failing.push(host.to_owned());
        }
        self.context.stats.fails_with(host, problem)
    }

    /// Brokers answer again.
    fn works(&mut self, host: &str) {
        self.backoff.reset();
        let known = self.failing.iter().filter(|host| self.context.stats.works(host)).count();
        if known > 0 {
            tracing::info!("kafka: {host} answers again");
        }
        self.failing.clear();
    }
}

fn dropped_as(kind: DropKind, why: &str) -> Fate {
    Fate::Dropped(Drop { kind, type_name: why.to_owned(), field: None })
}
