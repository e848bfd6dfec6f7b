//! Workers against scripted servers: real connections in memory, a paused clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use pillion_event::{Batch, Fate, Slice};
use pillion_lumberjack::{Received, ServerOptions, serve};
use pillion_queue::{Limits, Queue, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::*;
use crate::dial::{Dialing, Stream};
use crate::testing::{Books, Gated, List, context, lines};
use crate::work::Piece;

/// What the other side does with a connection.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Refuses it.
    Refuse,
    /// Takes it and closes it at once.
    Close,
    /// Takes windows and acknowledges each.
    Serve,
    /// Takes windows and acknowledges each after this many seconds (with keep-alives).
    Slow(u64),
    /// Acknowledges so many events in all, then closes.
    Die(usize),
    /// Never says anything.
    Silent,
    /// Speaks something else.
    Http,
}

/// Hosts whose connections follow scripts; the last act is repeated.
struct Hosts {
    scripts: Mutex<Vec<VecDeque<Act>>>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    /// Connections to each host.
    dialed: BTreeMap<usize, usize>,
    /// For each window: host and lines.
    windows: Vec<(usize, Vec<String>)>,
    /// The most windows of a connection that waited for an acknowledgement.
    most_waiting: usize,
}

impl Hosts {
    fn new(scripts: &[&[Act]]) -> Arc<Hosts> {
        let scripts = scripts.iter().map(|s| s.iter().copied().collect()).collect();
        Arc::new(Hosts { scripts: Mutex::new(scripts), log: Arc::default() })
    }
}

impl Dial for Hosts {
    fn name(&self, host: usize) -> String {
        format!("host-{host}")
    }

    fn dial(&self, host: usize) -> Dialing<'_> {
        *self.log.lock().unwrap().dialed.entry(host).or_default() += 1;
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
            let (near, far) = duplex(1 << 20);
            tokio::spawn(play(act, host, far, log));
            Ok(Box::new(near) as Stream)
        })
    }
}

async fn play(act: Act, host: usize, mut far: DuplexStream, log: Arc<Mutex<Log>>) {
    match act {
        Act::Refuse | Act::Close => {}
        Act::Silent => {
            let mut sink = vec![0; 4096];
            while far.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        }
        Act::Http => {
            let _ = far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let mut sink = vec![0; 4096];
            while far.read(&mut sink).await.is_ok_and(|n| n > 0) {}
        }
        Act::Serve | Act::Slow(_) | Act::Die(_) => {
            let (tx, rx) = mpsc::channel(64);
            tokio::select! {
                _ = serve(far, ServerOptions::default(), tx) => {}
                () = answer(act, host, rx, &log) => {}
            }
        }
    }
}

/// Ends when the connection is to be closed.
async fn answer(act: Act, host: usize, mut rx: mpsc::Receiver<Received>, log: &Mutex<Log>) {
    let mut left = if let Act::Die(n) = act { n } else { usize::MAX };
    while let Some(received) = rx.recv().await {
        let texts = received.window.events().map(message).collect();
        {
            let mut log = log.lock().unwrap();
            log.windows.push((host, texts));
            log.most_waiting = log.most_waiting.max(1 + rx.len());
        }
        if let Act::Slow(seconds) = act {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let mut log = log.lock().unwrap();
            log.most_waiting = log.most_waiting.max(1 + rx.len());
        }
        let count = received.window.len();
        if left < count {
            received.ack.partial(&received.window, left);
            // Long enough for the acknowledgement to leave.
            tokio::time::sleep(Duration::from_millis(10)).await;
            return;
        }
        left -= count;
        received.ack.done();
    }
}

fn message(json: &[u8]) -> String {
    let event: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(event["@metadata"]["beat"], "filebeat");
    event["message"].as_str().unwrap().to_owned()
}

fn options(hosts: usize) -> LogstashOptions {
    LogstashOptions {
        hosts: (0..hosts).map(|i| Host::parse(&format!("h{i}"), 5044).unwrap()).collect(),
        load_balance: false,
        workers: 1,
        bulk_max_size: 10,
        slow_start: false,
        pipelining: 2,
        timeout: Duration::from_secs(30),
        ttl: None,
        compression: Level::new(3),
        backoff: (Duration::from_secs(1), Duration::from_secs(60)),
        escape_html: false,
        index: "filebeat".into(),
        proxy: None,
        tls: None,
        compat: Compat::V8,
    }
}

struct Run {
    books: Arc<Books>,
    context: OutputContext,
    log: Arc<Mutex<Log>>,
    took: Duration,
}

async fn ship(hosts: &Arc<Hosts>, options: LogstashOptions, n: usize) -> Run {
    let (context, books) = (context(), Arc::new(Books::default()));
    let output = Logstash { options, context: context.clone(), dial: Arc::clone(hosts) as _ };
    let begin = tokio::time::Instant::now();
    let day = Duration::from_secs(86_400);
    tokio::time::timeout(day, output.run(List::of(lines(n)), Arc::clone(&books) as _)).await.unwrap().unwrap();
    Run { books, context, log: Arc::clone(&hosts.log), took: begin.elapsed() }
}

impl Run {
    /// Each line came at least once; those that came twice.
    fn twice(&self, n: usize) -> Vec<usize> {
        assert_eq!(self.books.acked(), n);
        let mut came = vec![0; n];
        for (_, texts) in &self.log.lock().unwrap().windows {
            for text in texts {
                came[text.strip_prefix("line ").unwrap().parse::<usize>().unwrap()] += 1;
            }
        }
        assert!(came.iter().all(|c| *c > 0), "{came:?}");
        (0..n).filter(|i| came[*i] > 1).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn delivers_in_order_in_windows() {
    let run = ship(&Hosts::new(&[&[Act::Serve]]), options(1), 25).await;
    assert_eq!(run.twice(25), [0; 0]);
    let log = run.log.lock().unwrap();
    let lens: Vec<usize> = log.windows.iter().map(|(_, w)| w.len()).collect();
    assert_eq!(lens, [10, 10, 5]);
    let all: Vec<String> = log.windows.iter().flat_map(|(_, w)| w.clone()).collect();
    assert_eq!(all, (0..25).map(|i| format!("line {i}")).collect::<Vec<_>>());
    assert_eq!((run.context.stats.acked.get(), run.context.stats.requests.get()), (25, 3));
    assert_eq!((log.dialed[&0], run.context.stats.retried.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_is_waited_for_and_windows_are_pipelined() {
    for (pipelining, waiting) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
        let mut options = options(1);
        options.pipelining = pipelining;
        let run = ship(&Hosts::new(&[&[Act::Slow(300)]]), options, 60).await;
        assert_eq!(run.twice(60), [0; 0]);
        assert_eq!(run.log.lock().unwrap().most_waiting, waiting, "pipelining {pipelining}");
        assert_eq!(run.log.lock().unwrap().dialed[&0], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_anothers_by_the_next_attempt_is_not_sent_again() {
    // With answers before it broke, and without any.
    for (act, taken) in [(Act::Die(3), 3), (Act::Close, 0)] {
        let hosts = Hosts::new(&[&[act, Act::Serve]]);
        let (context, books, gated) = (context(), Arc::new(Books::default()), Gated::of(lines(30)));
        let options = LogstashOptions { pipelining: 1, ..options(1) };
        let output = Logstash { options, context: context.clone(), dial: Arc::clone(&hosts) as _ };
        let run = output.run(Arc::clone(&gated) as _, Arc::clone(&books) as _);
        let broke = |stats: &crate::Stats| stats.failed.get() > 0 || stats.acked.get() == 3;
        let (ended, ()) = tokio::join!(run, gated.closes(&context.stats, broke, taken..10));
        ended.unwrap();
        assert_eq!(books.acked(), 20 + taken, "{act:?}");
        let windows = hosts.log.lock().unwrap().windows.split_off(usize::from(taken > 0));
        assert_eq!(windows.iter().map(|(_, texts)| texts.len()).collect::<Vec<_>>(), [10, 10], "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_in_part_is_not_sent_again() {
    for level in [None, Level::new(3)] {
        let mut options = options(1);
        options.compression = level;
        let run = ship(&Hosts::new(&[&[Act::Die(13), Act::Die(4), Act::Serve]]), options, 40).await;
        // 13 are done; of the window 10..20 the rest goes again, and the window 20..30 if it was on its way.
        let twice = run.twice(40);
        assert!(twice.iter().all(|i| (13..40).contains(i)), "{twice:?}");
        assert!(twice.contains(&13));
        assert_eq!(run.log.lock().unwrap().dialed[&0], 3);
        assert!(run.took < Duration::from_secs(1), "a server that answers is reconnected to at once: {:?}", run.took);
        assert!(run.context.stats.retried.get() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_no_host_or_no_protocol_is_tried_again_with_growing_pauses() {
    for (act, least, most) in [(Act::Refuse, 1, 13), (Act::Close, 1, 13), (Act::Http, 1, 13), (Act::Silent, 91, 110)] {
        let run = ship(&Hosts::new(&[&[act, act, act, Act::Serve]]), options(1), 5).await;
        assert_eq!(run.books.acked(), 5);
        let took = run.took.as_secs();
        assert!((least..=most).contains(&took), "{act:?}: {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn without_load_balancing_another_host_takes_over_at_once() {
    let hosts = Hosts::new(&[&[Act::Refuse], &[Act::Serve], &[Act::Refuse]]);
    let run = ship(&hosts, options(3), 30).await;
    assert_eq!(run.twice(30), [0; 0]);
    assert!(run.took < Duration::from_millis(100));
    let log = run.log.lock().unwrap();
    assert!(log.windows.iter().all(|(host, _)| *host == 1));
}

#[tokio::test(start_paused = true)]
async fn with_load_balancing_all_hosts_work_and_none_waits_for_one_that_is_down() {
    let mut options = options(3);
    options.load_balance = true;
    options.workers = 2;
    let hosts = Hosts::new(&[&[Act::Slow(1)], &[Act::Refuse], &[Act::Slow(1)]]);
    let run = ship(&hosts, options.clone(), 200).await;
    assert_eq!(run.twice(200), [0; 0]);
    {
        let log = run.log.lock().unwrap();
        let of = |host| log.windows.iter().filter(|(h, _)| *h == host).count();
        assert!(of(0) >= 5 && of(2) >= 5 && of(1) == 0);
        assert_eq!((log.dialed[&0], log.dialed[&2]), (2, 2));
    }
    // One host takes work and dies with it, again and again; the other one finishes it.
    let hosts = Hosts::new(&[&[Act::Silent], &[Act::Serve], &[Act::Close]]);
    let run = ship(&hosts, options, 200).await;
    assert_eq!(run.books.acked(), 200);
    assert!(run.took < Duration::from_secs(120), "{:?}", run.took);
}

#[tokio::test(start_paused = true)]
async fn slow_start_grows_and_shrinks() {
    let mut options = options(1);
    (options.bulk_max_size, options.slow_start, options.pipelining) = (100, true, 0);
    let run = ship(&Hosts::new(&[&[Act::Die(60), Act::Serve]]), options, 300).await;
    run.twice(300);
    let log = run.log.lock().unwrap();
    let lens: Vec<usize> = log.windows.iter().map(|(_, w)| w.len()).collect();
    assert_eq!(lens[..4], [10, 15, 23, 35], "the fourth is acknowledged in part");
    assert_eq!(lens[4], 17, "half of what was tried");
    assert!(lens.iter().all(|n| *n <= 100));
}

#[tokio::test(start_paused = true)]
async fn connections_are_renewed_after_their_time() {
    let mut options = options(1);
    options.ttl = Some(Duration::from_secs(5));
    let run = ship(&Hosts::new(&[&[Act::Slow(2)]]), options, 100).await;
    assert_eq!(run.twice(100), [0; 0]);
    assert!(run.log.lock().unwrap().dialed[&0] >= 3);
    assert_eq!(run.context.stats.failed.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_the_server_closes_is_no_failure() {
    let queue = Queue::new(Limits { events: 1000, bytes: 1 << 20, flush: None });
    let hosts = Hosts::new(&[&[Act::Serve]]);
    let (context, books) = (context(), Arc::new(Books::default()));
    let output = Logstash { options: options(1), context: context.clone(), dial: Arc::clone(&hosts) as _ };
    let running = tokio::spawn(output.run(Arc::new(Arc::clone(&queue)), Arc::clone(&books) as _));
    let put = |n| {
        let batch: Arc<Batch> = lines(n);
        queue.reserve(&batch);
        queue.push(batch);
    };
    // Logstash gives a quiet client 60 s.
    tokio::time::sleep(Duration::from_secs(300)).await;
    put(1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(books.acked(), 1);
    queue.close();
    running.await.unwrap().unwrap();
    assert_eq!(context.stats.failed.get(), 0);
    assert_eq!(hosts.log.lock().unwrap().dialed[&0], 2, "it isn't connected to again before there is work");
}

#[tokio::test(start_paused = true)]
async fn ends_without_work_even_when_no_host_is_there() {
    let run = ship(&Hosts::new(&[&[Act::Refuse]]), options(1), 0).await;
    assert!(run.took < Duration::from_secs(5));
    // Closed only after a while, when the worker has no host and so asks for no work.
    let queue = Queue::new(Limits { events: 1000, bytes: 1 << 20, flush: None });
    let dial = Hosts::new(&[&[Act::Refuse]]);
    let output = Logstash { options: options(1), context: context(), dial };
    let running = tokio::spawn(output.run(Arc::new(Arc::clone(&queue)), Arc::new(Books::default())));
    tokio::time::sleep(Duration::from_secs(100)).await;
    queue.close();
    tokio::time::timeout(Duration::from_millis(10), running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_it_settles_nothing_more() {
    let (context, books) = (context(), Arc::new(Books::default()));
    let hosts = Hosts::new(&[&[Act::Slow(100)]]);
    let output = Logstash { options: options(1), context, dial: Arc::clone(&hosts) as _ };
    let running = output.run(List::of(lines(50)), Arc::clone(&books) as _);
    assert!(tokio::time::timeout(Duration::from_secs(150), running).await.is_err());
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(books.acked(), 10);
}

/// A list whose first slice is one event, so that pieces of several slices are met.
struct Split(Mutex<VecDeque<Slice>>);

impl Requests for Split {
    fn take(&self, _max: usize) -> crate::Taking<'_> {
        Box::pin(async move {
            let slices: Vec<Slice> = self.0.lock().unwrap().drain(..).collect();
            (!slices.is_empty()).then_some(Request { slices, in_flight: None })
        })
    }
}

#[test]
fn pieces_split_within_and_between_slices() {
    let batch = lines(10);
    let cut = |events| Slice { batch: Arc::clone(&batch), events };
    let requests = Arc::new(Split(Mutex::new([cut(0..1), cut(1..4), cut(6..10)].into())));
    let books = Arc::new(Books::default());
    let pool: Arc<Pool<Piece>> = Pool::new(requests, 100);
    let told = crate::settle::Books::new(Arc::clone(&books) as _, Arc::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut piece = runtime.block_on(pool.next()).unwrap();
    let mut front = piece.take_front(5);
    assert_eq!((front.len(), piece.len()), (5, 3));
    told.settle_front(&mut front, 2, &Fate::Acked);
    told.settle_front(&mut front, 3, &Fate::Acked);
    assert!(front.is_empty());
    assert_eq!(books.acked(), 5);
    let mut todo: VecDeque<_> = [piece].into();
    pool.put_all(&mut todo);
    drop(front);
    let mut again = runtime.block_on(pool.next()).unwrap();
    told.settle_front(&mut again, 99, &Fate::Acked);
    assert_eq!(books.acked(), 8);
    drop(again);
    assert!(runtime.block_on(pool.next()).is_none());
    runtime.block_on(pool.ended());
}

fn read(yaml: &str, compat: Compat) -> Result<LogstashOptions, String> {
    let config = pillion_config::Config::from_yaml(yaml).unwrap();
    let section = config.root().section("output.logstash").unwrap().unwrap();
    LogstashOptions::from_section(&section, compat).map_err(|e| e.to_string())
}

#[test]
fn options_and_defaults_of_each_dialect() {
    let hosts = "output.logstash.hosts: [a, 'b:7', '[::1]']";
    let o = read(hosts, Compat::V8).unwrap();
    let shown: Vec<String> = o.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["a:5044", "b:7", "[::1]:5044"]);
    assert_eq!((o.pipelining, o.bulk_max_size, o.workers, o.load_balance), (2, 2048, 1, false));
    assert_eq!((o.compression, o.timeout, o.ttl), (Level::new(3), Duration::from_secs(30), None));
    assert_eq!((o.escape_html, o.index.as_str(), o.slow_start), (false, "filebeat", false));
    let o = read(hosts, Compat::V5).unwrap();
    assert_eq!((o.hosts[0].port, o.pipelining, o.escape_html), (10_200, 0, true));
    assert_eq!(read(&format!("{hosts}\noutput.logstash.port: 9"), Compat::V5).unwrap().hosts[0].port, 9);
    let o = read(
        "output.logstash: {hosts: a, worker: 3, loadbalance: true, bulk_max_size: 0, slow_start: true, pipelining: 5, \
         compression_level: 0, ttl: 60s, timeout: 90, backoff.init: 2s, backoff.max: 5m, index: X, escape_html: true, \
         proxy_url: 'socks5://p:1080', max_retries: -1, ssl.enabled: false}",
        Compat::V9,
    )
    .unwrap();
    assert_eq!((o.workers, o.bulk_max_size, o.pipelining, o.compression), (3, 65_536, 5, None));
    assert_eq!((o.ttl, o.timeout), (Some(Duration::from_secs(60)), Duration::from_secs(90)));
    assert_eq!((o.backoff, o.index.as_str()), ((Duration::from_secs(2), Duration::from_secs(300)), "x"));
    assert!(o.slow_start && o.load_balance && o.escape_html && o.proxy.is_some() && o.tls.is_none());
    assert!(read("output.logstash: {hosts: a, ssl: {}}", Compat::V9).is_ok());
    for (yaml, part) in [
        ("output.logstash.worker: 1", "no host"),
        ("output.logstash.hosts: ['http://a']", "URL"),
        ("output.logstash.hosts: ['a:0']", "1 to 65535"),
        ("output.logstash: {hosts: a, compression_level: 10}", "out of range"),
        ("output.logstash: {hosts: a, proxy_url: 'ftp://u:secret@p'}", "isn't known"),
    ] {
        let e = read(yaml, Compat::V8).unwrap_err();
        assert!(e.contains(part), "{yaml}: {e}");
    }
}

#[tokio::test]
async fn over_a_real_connection_and_tested_before() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tx, mut rx) = mpsc::channel::<Received>(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, ServerOptions::default(), tx.clone()));
        }
    });
    let server = tokio::spawn(async move {
        let mut texts = Vec::new();
        while texts.len() < 3000 {
            let received = rx.recv().await.unwrap();
            texts.extend(received.window.events().map(message));
            received.ack.done();
        }
        texts
    });
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = read(&format!("output.logstash.hosts: ['{address}', '{free}']"), Compat::V8).unwrap();
    let results = Logstash::new(options.clone(), context()).unwrap().test().await;
    assert_eq!(results[0], (address.to_string(), Ok(())));
    assert!(results[1].1.as_ref().unwrap_err().reason.contains("refused"));
    options.bulk_max_size = 1000;
    let books = Arc::new(Books::default());
    let output = Logstash::new(options, context()).unwrap();
    output.run(List::of(lines(3000)), Arc::clone(&books) as _).await.unwrap();
    assert_eq!(books.acked(), 3000);
    assert_eq!(server.await.unwrap(), (0..3000).map(|i| format!("line {i}")).collect::<Vec<_>>());
}
