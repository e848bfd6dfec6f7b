//! Workers against scripted servers: real connections in memory, a paused clock.

use std::collections::VecDeque;
use std::sync::Mutex;

use pillion_config::Config;
use pillion_event::Fate;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::dial::{Dialing, Stream};
use crate::testing::{Books, Gated, List, context, lines};

/// What the other side does with a connection.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Refuses it.
    Refuse,
    /// Takes all commands.
    Serve,
    /// Answers the first so many commands that carry events with this, then takes all.
    Errors(usize, &'static str),
    /// Takes so many commands that carry events and closes at the next, which it has carried out.
    Die(usize),
    /// Answers each command with this.
    Say(&'static str),
    /// Never says anything.
    Silent,
    /// Closes the connection once it is logged in.
    Idle,
    /// Takes all commands, and answers those that carry events twice.
    Twice,
    /// Answers commands with this key with this, and takes all others.
    Key(&'static str, &'static str),
}

type Command = Vec<Vec<u8>>;

/// Hosts whose connections follow scripts; the last act is repeated.
struct Hosts {
    scripts: Mutex<Vec<VecDeque<Act>>>,
    log: Arc<Mutex<Vec<(usize, Command)>>>,
}

impl Hosts {
    fn new(scripts: &[&[Act]]) -> Arc<Hosts> {
        let scripts = scripts.iter().map(|s| s.iter().copied().collect()).collect();
        Arc::new(Hosts { scripts: Mutex::new(scripts), log: Arc::default() })
    }

    /// The commands that carried events, as texts.
    fn pushed(&self) -> Vec<Vec<String>> {
        let text = |c: &Command| c.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        let log = self.log.lock().unwrap();
        log.iter().filter(|(_, c)| carries(c)).map(|(_, c)| text(c)).collect()
    }

    /// The lines on lists and channels, in order.
    fn values(&self) -> Vec<String> {
        self.pushed().into_iter().flat_map(|c| c.into_iter().skip(2)).collect()
    }
}

fn carries(command: &Command) -> bool {
    command.first().is_some_and(|name| name == b"RPUSH" || name == b"PUBLISH")
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

async fn serve(mut far: DuplexStream, host: usize, act: Act, log: Arc<Mutex<Vec<(usize, Command)>>>) {
    let mut carried = 0;
    while let Some(command) = read_command(&mut far).await {
        let carries = carries(&command);
        let values = command.len() - 2.min(command.len());
        // What is refused isn't carried out.
        let refused = carries
            && match act {
                Act::Errors(n, _) => carried < n,
                Act::Key(key, _) => command[1] == key.as_bytes(),
                _ => false,
            };
        if !refused && !matches!(act, Act::Say(_) | Act::Silent) {
            log.lock().unwrap().push((host, command));
        }
        let answer = match act {
            Act::Silent => continue,
            Act::Say(text) => text.to_owned(),
            Act::Errors(_, text) | Act::Key(_, text) if refused => format!("-{text}\r\n"),
            Act::Die(n) if carries && carried >= n => return,
            Act::Twice if carries => format!(":{values}\r\n:{values}\r\n"),
            _ if carries => format!(":{values}\r\n"),
            _ => "+OK\r\n".to_owned(),
        };
        carried += usize::from(carries);
        if far.write_all(answer.as_bytes()).await.is_err() || matches!(act, Act::Idle) {
            return;
        }
    }
}

async fn read_command(far: &mut DuplexStream) -> Option<Command> {
    let parts = read_number(far, b'*').await?;
    let mut command = Vec::new();
    for _ in 0..parts {
        let length = read_number(far, b'$').await?;
        let mut part = vec![0; length + 2];
        far.read_exact(&mut part).await.ok()?;
        assert_eq!(part.split_off(length), b"\r\n");
        command.push(part);
    }
    Some(command)
}

async fn read_number(far: &mut DuplexStream, kind: u8) -> Option<usize> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(far.read_u8().await.ok()?);
    }
    assert_eq!(line[0], kind);
    Some(String::from_utf8_lossy(&line[1..line.len() - 2]).parse().unwrap())
}

fn options(yaml: &str) -> Result<RedisOptions, String> {
    let config = Config::from_yaml(&format!("pillion.compat: 8\no:\n{yaml}")).unwrap();
    let section = config.root().section("o").unwrap().unwrap();
    RedisOptions::from_section(&section, Compat::V8).map_err(|e| e.to_string())
}

/// Ships so many lines and returns what became of them and the trouble that was left.
async fn ship(hosts: &Arc<Hosts>, yaml: &str, n: usize) -> (Arc<Books>, Arc<crate::Stats>) {
    let codec = if yaml.contains("codec") { "" } else { " codec.format.string: '%{[message]}'\n" };
    let options =
        options(&format!("{codec}{yaml}\n hosts: [{}]", vec!["h"; hosts.scripts.lock().unwrap().len()].join(",")));
    let redis = Redis { options: options.unwrap(), context: context(), dial: Arc::clone(hosts) as _ };
    let (books, stats) = (Arc::new(Books::default()), Arc::clone(&redis.context.stats));
    redis.run(List::of(lines(n)), Arc::clone(&books) as _).await.unwrap();
    (books, stats)
}

fn want(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("line {i}")).collect()
}

#[tokio::test(start_paused = true)]
async fn values_with_one_key_share_a_command() {
    let hosts = Hosts::new(&[&[Act::Serve]]);
    let (books, stats) = ship(&hosts, " db: 3\n username: u\n password: p", 5000).await;
    assert_eq!((books.acked(), hosts.values()), (5000, want(5000)));
    let sizes: Vec<usize> = hosts.pushed().iter().map(|c| c.len() - 2).collect();
    assert_eq!((sizes, stats.requests.get()), (vec![2048, 2048, 904], 3));
    assert!(hosts.pushed().iter().all(|c| c[..2] == ["RPUSH", "filebeat"]));
    let login: Vec<Command> = hosts.log.lock().unwrap().iter().take(3).map(|(_, c)| c.clone()).collect();
    let text = |words: &[&str]| words.iter().map(|w| w.as_bytes().to_vec()).collect::<Command>();
    assert_eq!(login, [text(&["AUTH", "u", "p"]), text(&["PING"]), text(&["SELECT", "3"])]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_gets_each_event_by_itself_and_nobody_needs_to_listen() {
    let hosts = Hosts::new(&[&[Act::Serve]]);
    let (books, _) = ship(&hosts, " datatype: channel\n key: c", 10).await;
    assert_eq!((books.acked(), hosts.values()), (10, want(10)));
    assert!(hosts.pushed().iter().all(|c| c.len() == 3 && c[..2] == ["PUBLISH", "c"]));
}

#[tokio::test(start_paused = true)]
async fn keys_by_event_and_what_has_none_is_dropped() {
    let hosts = Hosts::new(&[&[Act::Serve]]);
    let keys = " key: '%{[no.such]}'\n keys:\n - {key: even, when.regexp.message: '[02468]$'}\n - {key: '%{[message]}', \
                mappings: {line 1: one, line 3: one}}";
    let (books, stats) = ship(&hosts, keys, 6).await;
    let of = |key: &str| {
        let all = hosts.pushed();
        all.iter().filter(|c| c[1] == key).flat_map(|c| c[2..].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(
        (of("even"), of("one")),
        (vec!["line 0".into(), "line 2".into(), "line 4".into()], vec!["line 1".into(), "line 3".into()])
    );
    assert_eq!((books.acked(), books.dropped(), stats.dropped.get()), (5, vec![5], 1));
    assert!(matches!(&books.all()[5], Fate::Dropped(d) if d.field.as_deref() == Some("no.such")));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_sent_again_and_each_event_is_there_once() {
    for why in ["OOM command not allowed", "READONLY x", "LOADING x", "NOAUTH x", "WRONGTYPE x", "ERR x"] {
        let hosts = Hosts::new(&[&[Act::Errors(2, why), Act::Errors(1, why), Act::Serve]]);
        let (books, stats) = ship(&hosts, " bulk_max_size: 10", 35).await;
        let mut got = hosts.values();
        got.sort();
        let mut all = want(35);
        all.sort();
        assert_eq!((books.acked(), got), (35, all), "{why}");
        assert_eq!((stats.failed.get(), stats.last_error()), (2, None), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn part_of_a_request_may_be_refused() {
    // One command for each event: the first two are refused, the others aren't sent again.
    let hosts = Hosts::new(&[&[Act::Errors(2, "OOM x"), Act::Serve]]);
    let (books, stats) = ship(&hosts, " datatype: channel", 5).await;
    let want = ["line 2", "line 3", "line 4", "line 0", "line 1"];
    assert_eq!((books.acked(), hosts.values()), (5, want.map(str::to_owned).to_vec()));
    assert_eq!(stats.retried.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_connection_left_unanswered_is_sent_again() {
    let hosts = Hosts::new(&[&[Act::Die(2), Act::Refuse, Act::Die(1), Act::Serve]]);
    let (books, _) = ship(&hosts, " bulk_max_size: 10", 60).await;
    assert_eq!(books.acked(), 60);
    // The command at which the server died was carried out: only its values come again.
    let mut got = hosts.values();
    assert_eq!(got.len(), 80);
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 60);
}

#[tokio::test(start_paused = true)]
async fn what_is_anothers_by_the_next_attempt_is_not_sent_again() {
    let hosts = Hosts::new(&[&[Act::Errors(1, "OOM x"), Act::Serve]]);
    let options = options(" codec.format.string: '%{[message]}'\n bulk_max_size: 10\n hosts: [h]").unwrap();
    let redis = Redis { options, context: context(), dial: Arc::clone(&hosts) as _ };
    let (books, stats, gated) = (Arc::new(Books::default()), Arc::clone(&redis.context.stats), Gated::of(lines(30)));
    let run = redis.run(Arc::clone(&gated) as _, Arc::clone(&books) as _);
    let (ended, ()) = tokio::join!(run, gated.closes(&stats, |stats| stats.failed.get() > 0, 0..10));
    ended.unwrap();
    assert_eq!((books.acked(), hosts.values()), (20, want(30).split_off(10)));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_down_or_no_redis_holds_up_nothing() {
    let garbage = [Act::Say("HTTP/1.1 400 Bad Request\r\n\r\n")];
    for bad in [&garbage[..], &[Act::Refuse], &[Act::Silent], &[Act::Say("-NOAUTH x\r\n")], &[Act::Say("+OK\r\n")]] {
        for more in [" loadbalance: true", " loadbalance: false", " worker: 3"] {
            let hosts = Hosts::new(&[bad, &[Act::Serve]]);
            let (books, _) = ship(&hosts, more, 100).await;
            assert_eq!((books.acked(), hosts.values().len()), (100, 100), "{bad:?} {more}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_at_rest_does_no_harm() {
    let hosts = Hosts::new(&[&[Act::Idle, Act::Idle, Act::Serve]]);
    let (books, _) = ship(&hosts, "", 10).await;
    assert_eq!((books.acked(), hosts.values()), (10, want(10)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_many_does_not_count_for_the_next_command() {
    let hosts = Hosts::new(&[&[Act::Twice, Act::Twice, Act::Serve]]);
    let (books, _) = ship(&hosts, " bulk_max_size: 10", 30).await;
    assert_eq!((books.acked(), hosts.values()), (30, want(30)));
    let connections = hosts.log.lock().unwrap().iter().filter(|(_, c)| c[0] == b"PING").count();
    assert_eq!(connections, 3, "each is given up when more comes than was asked");
}

#[tokio::test(start_paused = true)]
async fn a_number_below_nothing_is_no_acknowledgement() {
    let hosts = Hosts::new(&[&[Act::Say(":-1\r\n")], &[Act::Serve]]);
    let (books, _) = ship(&hosts, "", 5).await;
    assert_eq!((books.acked(), hosts.values()), (5, want(5)));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_holds_up_no_other() {
    for why in ["WRONGTYPE x", "MOVED 3999 127.0.0.1:6381", "NOPERM x"] {
        let hosts = Hosts::new(&[&[Act::Key("line 1", why)]]);
        let yaml = " codec.format.string: '%{[message]}'\n key: '%{[message]}'\n bulk_max_size: 2\n hosts: [h]";
        let redis = Redis { options: options(yaml).unwrap(), context: context(), dial: Arc::clone(&hosts) as _ };
        let (books, stats) = (Arc::new(Books::default()), Arc::clone(&redis.context.stats));
        let run = redis.run(List::of(lines(6)), Arc::clone(&books) as _);
        assert!(tokio::time::timeout(Duration::from_secs(20), run).await.is_err(), "it is tried until it is taken");
        let others: Vec<String> = want(6).into_iter().filter(|line| line != "line 1").collect();
        assert_eq!((books.acked(), hosts.values()), (5, others), "{why}");
        assert!(stats.failed.get() > 10 && stats.last_error().is_some_and(|e| e.contains("Redis refuses")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_quotes_the_password_does_not_get_it_into_the_log() {
    let hosts = Hosts::new(&[&[Act::Say("-ERR invalid pair joe topsecret\r\n")]]);
    let options = options(" hosts: [a]\n username: joe\n password: topsecret").unwrap();
    let results = Redis { options, context: context(), dial: hosts }.test().await;
    let said = results[0].1.as_ref().unwrap_err().to_string();
    assert!(said.contains("ERR invalid pair joe") && !said.contains("topsecret"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn test_output_names_what_is_wrong_with_each_host() {
    let hosts = Hosts::new(&[&[Act::Serve], &[Act::Say("-NOAUTH Authentication required.\r\n")], &[Act::Silent]]);
    let options = options(" hosts: [a, b, c]").unwrap();
    let results = Redis { options, context: context(), dial: hosts }.test().await;
    assert_eq!(results[0], ("a:6379".to_owned(), Ok(())));
    let said: Vec<String> = results[1..].iter().map(|(_, r)| r.as_ref().unwrap_err().to_string()).collect();
    assert!(said[0].contains("NOAUTH") && said[0].contains("output.redis.password"), "{said:?}");
    assert!(said[1].contains("no answer within 5s"), "{said:?}");
}

#[test]
fn options_as_people_write_them() {
    let o = options(" hosts: ['a', 'redis://b:1', 'rediss://u:p@c']\n ssl.verification_mode: none\n index: Jobs\n")
        .unwrap();
    let tls: Vec<bool> = o.hosts.iter().map(|host| o.tls_of(host).is_some()).collect();
    assert_eq!(tls, [true, false, true]);
    assert_eq!((o.key.constant(), o.bulk_max_size, o.load_balance), (Some("Jobs"), 2048, true));
    assert_eq!(o.index, "jobs", "`@metadata.beat` is in lower case, the key isn't");
    let redis = Redis::new(options(" hosts: ['redis://u:p@c', d]\n password: q").unwrap(), context()).unwrap();
    let logins = redis.settings().logins;
    assert_eq!((logins[0].user.as_str(), logins[0].password.as_str()), ("u", "p"));
    assert_eq!((logins[1].user.as_str(), logins[1].password.as_str()), ("", "q"));
    for (yaml, why) in [
        (" hosts: []", "no host"),
        (" hosts: ['http://a']", "isn't known"),
        (" hosts: ['redis://u:secret@a/2']", "set by `db`"),
        (" hosts: [a]\n datatype: stream", "datatype"),
        (" hosts: [a]\n keys: [{when.contains.message: x}]", "without `key`"),
    ] {
        let said = options(yaml).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}
