//! What happens on the two sides of a network file system, and what must arrive.
//!
//! Comes in: the mounts of the guest. Goes out: a line for each case. Always holds: each case has a folder of its own, and
//! all but the last run side by side, since they mostly wait for caches; what hangs is made to hang alone, at the end.
//! Nothing waits for a time to pass: each waits for what is to be seen, with a limit.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::nfs::On;
use crate::nfs::ride::{Ride, SEEN};
use crate::peer::Score;
use crate::shipper::{Place, Shipper};
use crate::sweep::{self, Layout, Scene};
use crate::{Outcome, child, job, wait};

/// One case's folder, as each client sees it, and as the server does.
struct Field {
    a: PathBuf,
    b: PathBuf,
    slow: PathBuf,
    /// A client that forgets names when it is asked.
    fresh: PathBuf,
    export: PathBuf,
    on: On,
}

impl Field {
    /// How many lines may come twice where files are told by their inodes: sshfs makes these of paths, so that a file that
    /// was renamed is a new one (docs/decisions/network-file-systems.md).
    fn by_inode(&self, most: usize) -> usize {
        if self.on == On::Sshfs { most } else { 0 }
    }
}

type Case = fn(&Field) -> Outcome<String>;

const SIDE_BY_SIDE: [(&str, Case); 12] = [
    ("appends", appends),
    ("new-files", new_files),
    ("rotation", rotation),
    ("rotation-at-once", rotation_at_once),
    ("rotation-by-fingerprint", rotation_by_fingerprint),
    ("truncation", truncation),
    ("unlinked-while-read", unlinked_while_read),
    ("stale-handle", stale_handle),
    ("drain-after-close", drain_after_close),
    ("flag-before-data", flag_before_data),
    ("stale-attributes", stale_attributes),
    ("left-by-the-dead", left_by_the_dead),
];

const ALONE: [(&str, Case); 1] = [("server-away", server_away)];

/// The case that takes minutes, and runs when it is asked for.
pub(super) const LONG: &str = "server-away-for-a-minute";

/// Runs the cases, inside of the guest.
pub(super) fn run(on: On, only: Option<&str>) -> Outcome {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let field = |name: &str| field(on, name);
    let mut score = Score::new(only.map(str::to_owned));
    std::thread::scope(|scope| {
        let running: Vec<_> = SIDE_BY_SIDE
            .into_iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, case)| (name, scope.spawn(move || field(name).and_then(|field| case(&field)))))
            .collect();
        for (name, case) in running {
            score.case(name, || case.join().map_err(|_| "it panicked".to_owned())?);
        }
    });
    for (name, case) in ALONE {
        score.case(name, || case(&field(name)?));
    }
    if only == Some(LONG) {
        score.case(LONG, || server_away_for_a_minute(&field(LONG)?));
    }
    score.end()
}

fn field(on: On, name: &str) -> Outcome<Field> {
    let place = |mount: &str| Path::new("/mnt").join(mount).join(name);
    let (a, b, slow) = (place("a"), place("b"), place("slow"));
    let field = Field { a, b, slow, fresh: place("fresh"), export: place("export"), on };
    fs::create_dir(&field.a).map_err(|e| format!("{}: {e}", field.a.display()))?;
    Ok(field)
}

fn io<T>(path: &Path, done: std::io::Result<T>) -> Outcome<T> {
    done.map_err(|e| format!("{}: {e}", path.display()))
}

/// Appends and closes, as a shell's `>>` does; the data is at the server then.
fn append(path: &Path, lines: &[String]) -> Outcome {
    job::append(path, lines)
}

/// A file that is read grows, by a writer that keeps it open.
fn appends(field: &Field) -> Outcome<String> {
    let (path, lines) = (field.a.join("app.log"), job::lines(0, 400, 100));
    let mut file = io(&path, File::create(&path))?;
    let mut ride = Ride::start(&[field.b.join("*.log")], &[])?;
    for (i, part) in lines.chunks(100).enumerate() {
        io(&path, file.write_all((part.join("\n") + "\n").as_bytes()).and_then(|()| file.sync_data()))?;
        ride.until((i + 1) * 100, SEEN)?;
    }
    ride.finish(&lines)?;
    Ok("400 lines in 4 bursts".into())
}

/// Files that the reader's client knows not to be there.
fn new_files(field: &Field) -> Outcome<String> {
    let lines = job::lines(0, 60, 100);
    let paths = [field.b.join("one.log"), field.b.join("deep/*.log")];
    let mut ride = Ride::start(&paths, &[])?;
    let here = field.a.join("here.log");
    append(&here, &lines[..1])?;
    // Its absence is known for sure to whoever has asked for it.
    for path in ["one.log", "deep/1.log"] {
        let _ = fs::metadata(field.b.join(path));
    }
    append(&field.a.join("one.log"), &lines[..20])?;
    io(&field.a, fs::create_dir(field.a.join("deep")))?;
    append(&field.a.join("deep/1.log"), &lines[20..40])?;
    ride.until(40, SEEN)?;
    append(&field.a.join("deep/2.log"), &lines[40..])?;
    ride.until(60, SEEN)?;
    ride.finish(&lines)?;
    Ok("60 lines of three files".into())
}

/// Contents whose 64 bytes before the reader's place are the same can't be told apart where inodes don't tell: lines of this
/// width are short enough for their numbers to be among these.
const NARROW: usize = 40;

fn rotation(field: &Field) -> Outcome<String> {
    let lines = job::lines(0, 300, NARROW);
    let (path, mut parts) = (field.a.join("app.log"), lines.chunks(50));
    let mut ride = Ride::start(&[field.b.join("app.log*")], &[])?;
    for turn in 1..=3 {
        append(&path, parts.next().unwrap_or_default())?;
        ride.until(turn * 100 - 50, SEEN)?;
        // More, and another name in the same moment: the reader has seen neither.
        append(&path, parts.next().unwrap_or_default())?;
        io(&path, fs::rename(&path, field.a.join(format!("app.log.{turn}"))))?;
        ride.until(turn * 100, SEEN)?;
    }
    let doubled = ride.finish_doubling(&lines, field.by_inode(150))?;
    Ok(format!("300 lines over 3 rotations, {doubled} of them twice"))
}

fn rotation_at_once(field: &Field) -> Outcome<String> {
    let ride = Ride::start(&[field.b.join("app.log*")], &[])?;
    generations(field, ride, NARROW, field.by_inode(160))
}

fn rotation_by_fingerprint(field: &Field) -> Outcome<String> {
    generations(field, Ride::by_fingerprint(&[field.b.join("app.log*")])?, 100, 0)
}

/// Rotations as they are usual: each name goes on by one, and a new file is there at once, so that the next look finds
/// another file at each path. `most`: how many lines may come twice.
fn generations(field: &Field, mut ride: Ride, width: usize, most: usize) -> Outcome<String> {
    let lines = job::lines(0, 200, width);
    let name = |n: usize| field.a.join(if n == 0 { "app.log".into() } else { format!("app.log.{n}") });
    append(&name(0), &lines[..20])?;
    for (turn, part) in lines[20..].chunks(60).enumerate() {
        append(&name(0), &part[..20])?;
        ride.until(turn * 60 + 40, SEEN)?;
        append(&name(0), &part[20..40])?;
        for n in (0..=turn).rev() {
            io(&name(n), fs::rename(name(n), name(n + 1)))?;
        }
        append(&name(0), &part[40..])?;
        ride.until(turn * 60 + 80, SEEN)?;
    }
    let doubled = ride.finish_doubling(&lines, most)?;
    Ok(format!("200 lines, 4 files and 3 rotations, {doubled} lines twice"))
}

/// What the dead leave: pods on one client, some of them killed, and sweepers on others. One of the living is stopped
/// meanwhile: that it lives is what its lock says alone. On sshfs no lock reaches another client, and a file has other
/// numbers there: the beat tells who lives, and the content which file it is.
fn left_by_the_dead(field: &Field) -> Outcome<String> {
    let scene = Scene {
        layout: Layout::Own,
        pods: 5,
        killed: 2,
        lines: 200,
        stopped: field.on != On::Sshfs,
        by_fingerprint: field.on == On::Sshfs,
        logs: field.a.clone(),
        swept: vec![field.b.clone(), field.fresh.clone()],
    };
    sweep::killed(&Shipper::named("pillion")?, &Place::new()?, &scene)
}

/// Cut off and written anew, shorter and longer than before.
fn truncation(field: &Field) -> Outcome<String> {
    let lines = job::lines(0, 170, NARROW);
    let path = field.a.join("app.log");
    let mut ride = Ride::start(&[field.b.join("*.log")], &[])?;
    let mut from = 0;
    for to in [100, 120, 170] {
        io(&path, File::create(&path))?;
        append(&path, &lines[from..to])?;
        ride.until(to, SEEN)?;
        from = to;
    }
    ride.finish(&lines)?;
    Ok("three contents at one inode".into())
}

/// How clients call what was deleted and is open.
const OWN_NAMES: [&str; 2] = [".nfs", ".fuse_hidden"];

/// A program on the reader's own machine deletes a file that is open: the client keeps it under a name of its own.
fn unlinked_while_read(field: &Field) -> Outcome<String> {
    let lines = job::lines(0, 60, 100);
    append(&field.a.join("a.log"), &lines[..30])?;
    let mut ride = Ride::start(&[field.b.join("*")], &[])?;
    ride.until(30, SEEN)?;
    io(&field.b, fs::remove_file(field.b.join("a.log")))?;
    append(&field.a.join("b.log"), &lines[30..])?;
    ride.until(60, SEEN)?;
    let left = || -> Outcome<Option<()>> {
        let names = io(&field.b, fs::read_dir(&field.b))?.flatten().map(|entry| entry.file_name());
        Ok((!names.into_iter().any(|name| OWN_NAMES.iter().any(|own| name.to_string_lossy().starts_with(own))))
            .then_some(()))
    };
    wait::until("the client's own name for it to go away", SEEN, left)
        .map_err(|why| format!("{why}; {}", ride.tail()))?;
    ride.finish(&lines)?;
    Ok("30 lines before, 30 of another file after it; nothing keeps the deleted one".into())
}

/// Deleted at the server, which no client hears of.
fn stale_handle(field: &Field) -> Outcome<String> {
    let lines = job::lines(0, 90, 100);
    append(&field.a.join("a.log"), &lines[..30])?;
    append(&field.a.join("b.log"), &lines[30..60])?;
    let mut ride = Ride::start(&[field.b.join("*.log")], &[])?;
    ride.until(60, SEEN)?;
    io(&field.export, fs::remove_file(field.export.join("a.log")))?;
    append(&field.a.join("b.log"), &lines[60..])?;
    ride.until(90, SEEN)?;
    ride.finish(&lines)?;
    Ok("a file that is gone holds up nothing, and the drain ends".into())
}

/// The drain begins in the moment after the writer's close: of a file that is known, and of one that isn't.
fn drain_after_close(field: &Field) -> Outcome<String> {
    let lines = job::lines(0, 600, 100);
    let mut known = 0;
    for (i, part) in lines.chunks(200).enumerate() {
        let old = field.a.join(format!("old-{i}.log"));
        append(&old, &part[..50])?;
        let mut ride = Ride::start(&[field.fresh.join(format!("*-{i}.log"))], &[])?;
        ride.until(50, SEEN)?;
        append(&old, &part[50..100])?;
        append(&field.a.join(format!("new-{i}.log")), &part[100..])?;
        ride.end(Some(Signal::INT), 0)?;
        ride.compare(part)?;
        known += 1;
    }
    Ok(format!("{known} rounds of 200 lines, 150 of them in the last moment"))
}

/// The flag is on the reader's machine and shows at once; what was written before it shows late.
fn flag_before_data(field: &Field) -> Outcome<String> {
    let lines = job::lines(0, 200, 100);
    let flags = tempfile::tempdir().map_err(|e| e.to_string())?;
    let flag = flags.path().join("flag");
    append(&field.a.join("a.log"), &lines[..50])?;
    let word = flag.display().to_string();
    let mut ride = Ride::start(&[field.fresh.join("*.log")], &["--until", &word])?;
    ride.until(50, SEEN)?;
    append(&field.a.join("a.log"), &lines[50..100])?;
    append(&field.a.join("b.log"), &lines[100..])?;
    io(&flag, File::create(&flag))?;
    ride.end(None, 0)?;
    ride.compare(&lines)?;
    Ok("150 lines that didn't show yet".into())
}

/// A client that believes what it knows of a file for ten minutes: the drain asks anew.
fn stale_attributes(field: &Field) -> Outcome<String> {
    let lines = job::lines(0, 100, 100);
    append(&field.a.join("a.log"), &lines[..50])?;
    let mut ride = Ride::start(&[field.slow.join("*.log")], &[])?;
    ride.until(50, SEEN)?;
    append(&field.a.join("a.log"), &lines[50..])?;
    ride.finish(&lines)?;
    Ok("50 lines behind a size that was believed".into())
}

/// The way to the server: the network, or what sshfs talks to. Back when this is dropped.
struct Away(On);

impl Away {
    fn begin(on: On) -> Outcome<Away> {
        let away = Away(on);
        away.set(false)?;
        Ok(away)
    }

    fn set(&self, answers: bool) -> Outcome {
        match self.0 {
            On::Nfs | On::GlusterFs => {
                let state = if answers { "up" } else { "down" };
                child::run(Command::new("ip").args(["link", "set", "lo", state])).map(drop)
            }
            On::Sshfs => {
                let signal = if answers { Signal::CONT } else { Signal::STOP };
                for client in ["a", "b", "slow", "fresh"] {
                    let path = PathBuf::from(format!("/run/sftp-{client}.pid"));
                    let pid = io(&path, fs::read_to_string(&path))?.trim().parse().ok().and_then(Pid::from_raw);
                    let pid = pid.ok_or_else(|| format!("{}: no process id", path.display()))?;
                    io(&path, kill_process(pid, signal).map_err(Into::into))?;
                }
                Ok(())
            }
        }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if let Err(why) = self.set(true) {
            println!("{why}");
        }
    }
}

/// The server stops answering: local files go on, the path is named, the drain's limit holds, and nothing is lost.
fn server_away(field: &Field) -> Outcome<String> {
    let quick = Duration::from_secs(10);
    let lines = job::lines(0, 150, 100);
    append(&field.a.join("a.log"), &lines[..50])?;
    let local = tempfile::tempdir().map_err(|e| e.to_string())?;
    let here = local.path().join("here.log");
    let patterns = [field.b.join("*.log"), local.path().join("*.log")];
    let mut ride = Ride::start(&patterns, &["--drain-timeout", "3s"])?;
    ride.until(50, SEEN)?;

    let away = Away::begin(field.on)?;
    ride.until_said("doesn't return", Duration::from_secs(40))?;
    append(&here, &lines[50..80])?;
    ride.until(80, quick)?;
    drop(away);
    ride.until_said("answers again", SEEN)?;
    append(&field.a.join("a.log"), &lines[80..100])?;
    ride.until(100, SEEN)?;

    append(&field.a.join("b.log"), &lines[100..120])?;
    let away = Away::begin(field.on)?;
    append(&here, &lines[120..])?;
    let took = match field.on {
        On::Nfs => ride.end(Some(Signal::INT), 3)?,
        On::GlusterFs | On::Sshfs => ride.told_to_end("the time for the drain was up", quick)?,
    };
    let receipt = ride.receipt()?;
    drop(away);
    if field.on != On::Nfs {
        // The kernel lets no process end whose call a FUSE server has taken and not answered.
        ride.end(None, 3)?;
    }
    let b = field.b.display().to_string();
    if took > quick || !receipt.contains("doesn't answer") || !receipt.contains(&b) {
        return Err(format!("the drain took {:.1} s; the receipt says {receipt}", took.as_secs_f64()));
    }
    let arrived = ride.arrived()?;
    if let Some(line) = lines[120..].iter().find(|line| !arrived.contains(line)) {
        return Err(format!("the local file wasn't drained: {line:.20} is missing"));
    }
    ride.again(&[])?;
    ride.until(150, SEEN)?;
    ride.finish(&lines)?;
    Ok(format!("local files went on; the drain ended after {:.1} s of 3 s, naming {b}", took.as_secs_f64()))
}

/// The server doesn't answer for a whole minute, while somebody writes to local files and, before it, to the server's; what
/// was there but unseen when it went arrives when it is back, and so does what is written after it.
fn server_away_for_a_minute(field: &Field) -> Outcome<String> {
    let minute = Duration::from_secs(60);
    let (quick, turn) = (Duration::from_secs(10), Duration::from_millis(300));
    let lines = job::lines(0, 400, 100);
    append(&field.a.join("a.log"), &lines[..50])?;
    let local = tempfile::tempdir().map_err(|e| e.to_string())?;
    let here = local.path().join("here.log");
    let mut ride = Ride::start(&[field.b.join("*.log"), local.path().join("*.log")], &[])?;
    ride.until(50, SEEN)?;
    append(&field.a.join("a.log"), &lines[50..100])?;
    append(&field.a.join("b.log"), &lines[100..150])?;

    let begin = Instant::now();
    let away = Away::begin(field.on)?;
    let before = ride.arrived()?.len();
    let (mut written, mut slowest) = (150_usize, Duration::ZERO);
    // All through the minute, one line after the other: each is the question whether local files still go on.
    for line in &lines[150..350] {
        wait::until("its turn", minute, || Ok((begin.elapsed() >= turn * (written as u32 - 150)).then_some(())))?;
        let since = Instant::now();
        append(&here, std::slice::from_ref(line))?;
        let arrived = || Ok(ride.arrived()?.contains(line).then_some(()));
        wait::until("a local line", quick, arrived).map_err(|why| format!("{why}; {}", ride.tail()))?;
        slowest = slowest.max(since.elapsed());
        written += 1;
    }
    ride.until_said("doesn't return", minute)?;
    let gone = wait::until("the minute's end", minute, || Ok((begin.elapsed() >= minute).then(|| begin.elapsed())))?;
    let b = field.b.display().to_string();
    if !ride.log().lines().any(|line| line.contains("doesn't return") && line.contains(&b)) {
        return Err(format!("the log doesn't name {b}; {}", ride.tail()));
    }
    drop(away);
    ride.until_said("answers again", SEEN)?;
    append(&field.a.join("a.log"), &lines[written..])?;
    ride.until(lines.len(), SEEN)?;
    ride.finish(&lines)?;
    Ok(format!(
        "away for {:.0} s with {} lines unseen; {} local lines meanwhile, the slowest after {:.1} s; each once",
        gone.as_secs_f64(),
        150_usize.saturating_sub(before),
        written - 150,
        slowest.as_secs_f64()
    ))
}
