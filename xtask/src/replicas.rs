//! Several Pillions over one shared folder, end to end, while some are killed, paused and ended.
//!
//! Comes in: how many rounds. Goes out: a line for each case, and an error when one failed. Always holds: the target isn't
//! Pillion's own code; a line counts by its text, a document by its id.
//!
//! | case | what happens in each round | what must hold |
//! |---|---|---|
//! | `killed` | SIGKILL, and a new one | each line once; another one ships the dead one's files within the lease and 2 s |
//! | `paused` | SIGSTOP for longer than the lease | each line once |
//! | `rolling` | SIGTERM, and a new one | each line once, and none was even sent twice |
//! | `without-ids` | SIGKILL, to Logstash's protocol | nothing lost; twice only what may have been on its way |

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::args::Args;
use crate::child::Child;
use crate::peer::{Score, tail};
use crate::shipper::{Place, Shipper, output};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, job, wait};

/// How long anything that isn't measured may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(3);
/// Within the lease's time and this, somebody else goes on.
const TAKEOVER: Duration = Duration::from_secs(2);
const REPLICAS: usize = 3;
const FILES: usize = 200;
/// Between two lines of each file.
const PACE: Duration = Duration::from_millis(100);
/// What may be on its way from one replica at most: `queue.mem.events`.
const IN_FLIGHT: usize = 3200;

/// Runs all cases.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let rounds = args.number("--rounds", 2)?;
    let only = args.value("--case")?;
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let shipper = Shipper::named("pillion")?;
    let mut score = Score::new(only);
    score.case("killed", || killed(&shipper, rounds));
    score.case("paused", || paused(&shipper, rounds));
    score.case("rolling", || rolling(&shipper, rounds));
    score.case("without-ids", || without_ids(&shipper, rounds));
    score.end()
}

/// A shared folder that is written to, its target, and who reads it.
struct Scene<'a> {
    shipper: &'a Shipper,
    place: Place,
    sink: Sink,
    replicas: Vec<Child>,
    started: usize,
    over: std::sync::Arc<AtomicBool>,
    writer: Option<JoinHandle<Outcome<usize>>>,
}

fn line(file: usize, n: usize) -> String {
    format!("file {file:03} line {n:06}")
}

/// Appends a line to each file, in turn, until it is told to stop: how many lines each has.
fn write(logs: &Path, over: &AtomicBool) -> Outcome<usize> {
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        for file in 0..FILES {
            job::append(&logs.join(format!("job-{file:03}.log")), &[line(file, n)])?;
        }
        n += 1;
        // A pace of writing, not a wait for something.
        std::thread::sleep(PACE.saturating_sub(begin.elapsed()));
    }
    Ok(n)
}

impl Scene<'_> {
    fn new(shipper: &Shipper, protocol: Protocol) -> Outcome<Scene<'_>> {
        let (place, sink) = (Place::new()?, Sink::start(protocol, Depth::Lines)?);
        let logs = place.logs();
        place.configure(&format!(
            "filebeat.inputs:\n- type: filestream\n  id: jobs\n  paths: ['{logs}/*.log']\n  \
             prospector.scanner.check_interval: 200ms\n\
             pillion:\n  exactly_once: {}\n  shards: {{root: '{logs}', board: files, lease: {}s}}\n{}",
            protocol == Protocol::Bulk,
            LEASE.as_secs(),
            output(protocol, sink.port()),
            logs = logs.display(),
        ))?;
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let (told, folder) = (std::sync::Arc::clone(&over), logs);
        let writer = std::thread::spawn(move || write(&folder, &told));
        let mut scene = Scene { shipper, place, sink, replicas: Vec::new(), started: 0, over, writer: Some(writer) };
        for _ in 0..REPLICAS {
            scene.start()?;
        }
        scene.settled()?;
        Ok(scene)
    }

    fn start(&mut self) -> Outcome {
        self.started += 1;
        let mut command = self.shipper.command(&self.place);
        command.env_remove("KUBERNETES_SERVICE_HOST");
        self.replicas.push(Child::start(&mut command, &self.log(self.started))?);
        Ok(())
    }

    fn log(&self, n: usize) -> std::path::PathBuf {
        self.place.folder().join(format!("replica-{n}.err"))
    }

    /// What `pillion shards` shows: how many live with a part, and whether every shard has an owner that lives.
    fn shown(&self) -> Outcome<Option<(usize, bool)>> {
        let mut command = std::process::Command::new(&self.shipper.path);
        command.args(["shards", "--json", "--behind=false", "--strict.perms=false", "-c"]).arg(self.place.config());
        let said = command.env_remove("KUBERNETES_SERVICE_HOST").output().map_err(|e| e.to_string())?;
        let Ok(shown) = serde_json::from_slice::<serde_json::Value>(&said.stdout) else { return Ok(None) };
        let replicas = shown["replicas"].as_array().map_or(&[][..], Vec::as_slice);
        let have = |r: &&serde_json::Value| r["life"] == "alive" && r["shards"].as_u64().is_some_and(|n| n > 0);
        Ok(Some((replicas.iter().filter(have).count(), shown["whole"] == true)))
    }

    /// Waits until all that run have a part, and nobody else has any.
    fn settled(&self) -> Outcome {
        let want = self.replicas.len();
        wait::until("replicas that have all shards", LIMIT, || {
            Ok(self.shown()?.filter(|(have, whole)| *have == want && *whole).map(drop))
        })
    }

    /// How long it takes until a line of each file has arrived that is written from now on.
    fn all_files_move(&self) -> Outcome<Duration> {
        let begin = Instant::now();
        let before = self.newest();
        wait::until("a new line of each file", LIMIT, || {
            let now = self.newest();
            let moved = |file: usize| now.get(&file) > before.get(&file).or(Some(&0));
            Ok((0..FILES).all(moved).then_some(()))
        })?;
        Ok(begin.elapsed())
    }

    /// The newest line of each file that has arrived.
    fn newest(&self) -> HashMap<usize, usize> {
        let mut newest = HashMap::new();
        for text in self.sink.tally().lines().keys() {
            let mut words = text.split(' ').skip(1).step_by(2).filter_map(|word| word.parse::<usize>().ok());
            if let (Some(file), Some(n)) = (words.next(), words.next()) {
                let most = newest.entry(file).or_insert(n);
                *most = n.max(*most);
            }
        }
        newest
    }

    /// Ends the writing, waits for all lines, ends the replicas: how many lines there are, and how often each arrived.
    fn end(mut self) -> Outcome<(usize, HashMap<String, usize>, String)> {
        self.over.store(true, Ordering::Relaxed);
        let writer = self.writer.take().ok_or("it has ended")?;
        let each = writer.join().map_err(|_| "the writer panicked".to_owned())??;
        let outcome = self.finish(each);
        let said = tail(&self.log(self.started));
        outcome.map_err(|why| format!("{why}; {said}"))
    }

    fn finish(&mut self, each: usize) -> Outcome<(usize, HashMap<String, usize>, String)> {
        let total = each * FILES;
        let there = || self.sink.tally().lines();
        let complete = wait::until("all lines", LIMIT, || Ok((there().len() >= total).then_some(())));
        if let Err(why) = complete {
            let lines = there();
            let lost = (0..FILES).flat_map(|file| (0..each).map(move |n| line(file, n)));
            let lost: Vec<String> = lost.filter(|line| !lines.contains_key(line)).take(5).collect();
            return Err(format!("{why}: {} of {total}, among the missing: {lost:?}", lines.len()));
        }
        for replica in &mut self.replicas {
            replica.signal(Signal::TERM);
            let status = replica.wait(LIMIT)?.status;
            if status.code() != Some(0) {
                return Err(format!("a replica ended with {status}"));
            }
        }
        let mut said = String::new();
        for n in 1..=self.started {
            said += &fs::read_to_string(self.log(n)).unwrap_or_default();
        }
        Ok((total, there(), said))
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Every line is there once.
fn once(total: usize, lines: &HashMap<String, usize>) -> Outcome {
    let odd: Vec<_> = lines.iter().filter(|(_, times)| **times != 1).take(5).collect();
    match odd.is_empty() && lines.len() == total {
        true => Ok(()),
        false => Err(format!("{} of {total} lines; not once: {odd:?}", lines.len())),
    }
}

fn killed(shipper: &Shipper, rounds: usize) -> Outcome<String> {
    let mut scene = Scene::new(shipper, Protocol::Bulk)?;
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let mut dead = scene.replicas.remove(0);
        dead.signal(Signal::KILL);
        dead.wait(LIMIT)?;
        slowest = slowest.max(scene.all_files_move()?);
        if slowest > LEASE + TAKEOVER {
            return Err(format!("the dead one's files went on after {slowest:.1?}, lease {LEASE:?}"));
        }
        scene.start()?;
        scene.settled()?;
    }
    let (total, lines, _) = scene.end()?;
    once(total, &lines)?;
    Ok(format!(
        "{total} lines of {FILES} files, each once; {rounds} kills, taken over after {slowest:.1?} at most (lease {LEASE:?})"
    ))
}

fn paused(shipper: &Shipper, rounds: usize) -> Outcome<String> {
    let scene = Scene::new(shipper, Protocol::Bulk)?;
    for round in 0..rounds {
        let sleeper = &scene.replicas[round % REPLICAS];
        sleeper.signal(Signal::STOP);
        scene.all_files_move()?;
        scene.replicas[round % REPLICAS].signal(Signal::CONT);
        scene.settled()?;
    }
    let (total, lines, said) = scene.end()?;
    once(total, &lines)?;
    let slept = said.matches("it pauses until").count();
    if slept < rounds {
        return Err(format!("{slept} of {rounds} pauses were noticed"));
    }
    Ok(format!("{total} lines, each once; {rounds} pauses beyond the lease"))
}

fn rolling(shipper: &Shipper, rounds: usize) -> Outcome<String> {
    let mut scene = Scene::new(shipper, Protocol::Bulk)?;
    for _ in 0..rounds * REPLICAS {
        scene.start()?;
        scene.settled()?;
        let mut old = scene.replicas.remove(0);
        old.signal(Signal::TERM);
        let status = old.wait(LIMIT)?.status;
        if status.code() != Some(0) {
            return Err(format!("a replica that was told to end ended with {status}"));
        }
        scene.settled()?;
    }
    let (total, lines, said) = scene.end()?;
    once(total, &lines)?;
    if let Some(twice) = said.lines().find(|line| line.contains("were there already")) {
        return Err(format!("lines were sent twice: {twice}"));
    }
    Ok(format!("{total} lines, each sent once; {} replicas replaced one by one", rounds * REPLICAS))
}

fn without_ids(shipper: &Shipper, rounds: usize) -> Outcome<String> {
    let mut scene = Scene::new(shipper, Protocol::Lumberjack)?;
    for _ in 0..rounds {
        let mut dead = scene.replicas.remove(0);
        dead.signal(Signal::KILL);
        dead.wait(LIMIT)?;
        scene.all_files_move()?;
        scene.start()?;
        scene.settled()?;
    }
    let (total, lines, _) = scene.end()?;
    let twice = lines.values().map(|times| times - 1).sum::<usize>();
    // What was acknowledged and not yet written down counts too: a second of it.
    let bound = rounds * (IN_FLIGHT + FILES * 20);
    if twice > bound {
        return Err(format!("{twice} lines came twice, at most {bound} may"));
    }
    Ok(format!("{total} lines, none lost; {twice} of them twice after {rounds} kills"))
}
