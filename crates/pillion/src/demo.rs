//! `pillion demo`: the main job, end to end, on one machine.
//!
//! Comes in: nothing, or a command of the user's own. Goes out: a receiver, a job, a shipper, each a real one; then the
//! receipt, what arrived, and whether both sides agree to the line. Exit code 0 only when they do.
//!
//! The job is `examples/job.sh` (or the user's command, with `LOG_DIR` in its environment and its output in files
//! there); the shipper is this program as a separate process, with `examples/filebeat.yml`, through Logstash's protocol.
//! Always holds: everything lies in one temporary folder, and only processes started here are ended.
//! Tested by the command line's tests and by whoever tries it.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pillion_receive::{Arrived, Kind, Listen, Options, Receiver, Sink};
use pillion_world::{Fs, World};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::cli::Demo;

const CONFIG: &str = include_str!("../../../examples/filebeat.yml");
const JOB: &str = include_str!("../../../examples/job.sh");
/// Most bytes of one log file that are compared.
const FILE_LIMIT: usize = 256 << 20;
/// Lines of the shipper's log that are shown when it fails.
const LOG_LINES: usize = 10;
/// How long the shipper may take after the job has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines and how often each was seen.
type Lines = BTreeMap<Vec<u8>, i64>;

pub(crate) fn demo(flags: &Demo) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(play(flags)));
    match outcome {
        Ok(true) => 0,
        Ok(false) => crate::work::INCOMPLETE,
        Err(e) => {
            crate::complain(&format!("error: the demo can't go on: {e}"));
            crate::work::FAILURE
        }
    }
}

/// The folder with everything; removed at the end unless it is to be kept.
struct Stage {
    dir: PathBuf,
    keep: bool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

async fn play(flags: &Demo) -> Result<bool, String> {
    let world = World::real();
    tell(
        "A job writes log files; a sidecar ships them with examples/filebeat.yml; a receiver takes the place of Logstash.\n",
    );
    let stage = stage(&world, flags.keep).map_err(|e| format!("its folder can't be made: {e}"))?;
    let logs = stage.dir.join("data");
    let arrived: Arc<Mutex<Vec<u8>>> = Arc::default();
    let receiver = receiver(&arrived).await.map_err(|e| format!("the receiver can't start: {e}"))?;
    let address = receiver.address(Kind::Lumberjack).ok_or("the receiver has no port")?;
    tell(&format!("receiver   Logstash's protocol on {address}"));
    let mut shipper = shipper(&stage.dir, &logs, &address.to_string()).map_err(|e| format!("the shipper: {e}"))?;
    tell(&format!(
        "shipper    pillion -e -c filebeat.yml --until {}, process {}",
        logs.join("completion-flag").display(),
        shipper.id().unwrap_or_default()
    ));
    let mut job = job(flags, &stage.dir, &logs).map_err(|e| format!("the job: {e}"))?;
    tell(&format!("job        process {}, writing to {}", job.id().unwrap_or_default(), logs.display()));
    let worked = watch(&receiver, &mut job, &mut shipper).await.map_err(|e| with_log(&world, &stage.dir, &e))?;
    if !flags.command.is_empty() {
        let code = worked.code().map_or_else(String::new, |c| c.to_string());
        world.fs.replace(&logs.join("completion-flag"), code.as_bytes(), 0o644).map_err(|e| e.to_string())?;
    }
    tell(&format!("job        ended ({worked}); the completion flag is there"));
    let ended = tokio::time::timeout(PATIENCE, shipper.wait()).await;
    let ended = match ended {
        Ok(ended) => ended.map_err(|e| e.to_string())?,
        Err(_) => {
            let _ = shipper.kill().await;
            return Err(format!("the shipper didn't end within {} s", PATIENCE.as_secs()));
        }
    };
    tell(&format!("shipper    ended ({ended})"));
    let counts = receiver.stop().await;
    let arrived = std::mem::take(&mut *arrived.lock().unwrap_or_else(PoisonError::into_inner));
    let good = report(&world, &stage.dir, &logs, &arrived, ended)?;
    tell(&format!("           in {} batches over {} connections", counts.batches, counts.connections));
    tell(if good { "           both sides agree to the line" } else { "           THE TWO SIDES DON'T AGREE" });
    if flags.keep {
        tell(&format!("kept       {}", stage.dir.display()));
    } else if !good {
        tell("           try again with --keep to look at its files");
    } else if flags.command.is_empty() {
        tell("\nNext: pillion demo -- YOUR COMMAND, or pillion -e -c filebeat.yml --until /data/done");
    }
    Ok(good)
}

fn stage(world: &World, keep: bool) -> io::Result<Stage> {
    let dir = std::env::temp_dir().join(format!("pillion-demo-{:016x}", world.random.u128() as u64));
    world.fs.create_dir_all(&dir.join("data"), 0o700)?;
    let stage = Stage { dir, keep };
    world.fs.replace(&stage.dir.join("filebeat.yml"), CONFIG.as_bytes(), 0o600)?;
    world.fs.replace(&stage.dir.join("job.sh"), JOB.as_bytes(), 0o700)?;
    Ok(stage)
}

/// Every event's JSON, one a line.
async fn receiver(arrived: &Arc<Mutex<Vec<u8>>>) -> io::Result<Receiver> {
    let to = Arc::clone(arrived);
    let call = move |event: Arrived<'_>| {
        let mut all = to.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(event.json);
        all.push(b'\n');
    };
    let listen = vec![Listen::loopback(Kind::Lumberjack)];
    Receiver::start(Options { listen, sink: Sink::Call(Arc::new(call)), ..Options::default() }).await
}

fn shipper(dir: &Path, logs: &Path, address: &str) -> io::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("pillion.log"))?;
    Command::new(std::env::current_exe()?)
        .args(["-e", "-c", "filebeat.yml", "--path.home", ".", "--receipt", "receipt.json", "--until"])
        .arg(logs.join("completion-flag"))
        .current_dir(dir)
        .env("LOG_DIR", logs)
        .env("LOGSTASH_HOST", address)
        .stdin(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
}

fn job(flags: &Demo, dir: &Path, logs: &Path) -> io::Result<Child> {
    let mut command = match flags.command.split_first() {
        None => {
            let mut command = Command::new("/bin/sh");
            command.arg(dir.join("job.sh")).arg(logs);
            command
        }
        Some((program, args)) => {
            let output = |name: &str| std::fs::OpenOptions::new().create(true).append(true).open(logs.join(name));
            let mut command = Command::new(program);
            command.args(args).stdout(output("stdout.log")?).stderr(output("stderr.log")?);
            command
        }
    };
    command.env("LOG_DIR", logs).stdin(Stdio::null()).kill_on_drop(true).spawn()
}

/// Waits for the job's end, and shows what has arrived meanwhile.
async fn watch(receiver: &Receiver, job: &mut Child, shipper: &mut Child) -> Result<ExitStatus, String> {
    let shows = io::stdout().is_terminal();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let ended = loop {
        tokio::select! {
            ended = job.wait() => break ended.map_err(|e| e.to_string())?,
            ended = shipper.wait() => {
                return Err(format!("the shipper ended before the job did ({:?})", ended.ok()));
            }
            _ = tick.tick() => if shows {
                let _ = write!(io::stdout().lock(), "\r\x1b[K           {} events arrived", receiver.counts().events);
                let _ = io::stdout().lock().flush();
            }
        }
    };
    if shows {
        let _ = write!(io::stdout().lock(), "\r\x1b[K");
    }
    Ok(ended)
}

/// The error, and the end of the shipper's log.
fn with_log(world: &World, dir: &Path, error: &str) -> String {
    let log = world.fs.read(&dir.join("pillion.log"), FILE_LIMIT).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let end = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    format!("{error}; its log ends:\n{}", end.join("\n"))
}

/// Compares what was written with what arrived, and shows the receipt.
fn report(world: &World, dir: &Path, logs: &Path, arrived: &[u8], ended: ExitStatus) -> Result<bool, String> {
    let (mut written, files) = written(&*world.fs, logs).map_err(|e| e.to_string())?;
    let total: i64 = written.values().sum();
    let mut events = 0;
    for json in arrived.split(|b| *b == b'\n').filter(|j| !j.is_empty()) {
        let event: Value = serde_json::from_slice(json).map_err(|e| format!("an event isn't JSON: {e}"))?;
        let message = event.get("message").and_then(Value::as_str).unwrap_or_default();
        events += 1;
        for line in message.split('\n').filter(|l| !l.is_empty()) {
            *written.entry(line.as_bytes().to_vec()).or_default() -= 1;
        }
    }
    let receipt = world.fs.read(&dir.join("receipt.json"), FILE_LIMIT).map_err(|e| format!("no receipt: {e}"))?;
    let receipt: Value = serde_json::from_slice(&receipt).map_err(|e| format!("the receipt: {e}"))?;
    tell("");
    tell(&format!("receipt    {}", receipt["verdict"].as_str().unwrap_or("none")));
    for file in receipt["files"].as_array().into_iter().flatten() {
        let name = file["path"].as_str().and_then(|p| p.rsplit('/').next()).unwrap_or_default();
        let number = |key: &str| file[key].as_u64().unwrap_or_default();
        let (bytes, events, acknowledged) = (number("bytes"), number("events"), number("acknowledged"));
        tell(&format!("           {name:<14} {bytes:>9} bytes {events:>7} events {acknowledged:>7} acknowledged"));
    }
    let lost: i64 = written.values().filter(|n| **n > 0).sum();
    let doubled: i64 = -written.values().filter(|n| **n < 0).sum::<i64>();
    let good = lost == 0 && doubled == 0 && ended.success() && receipt["verdict"] == "complete";
    tell(&format!("written    {total} lines in {files} files"));
    tell(&format!("arrived    {events} events (a stack trace is one): {lost} lines lost, {doubled} doubled"));
    Ok(good)
}

fn written(fs: &dyn Fs, logs: &Path) -> io::Result<(Lines, usize)> {
    let mut names = Vec::new();
    fs.read_dir(logs, &mut |entry| {
        names.extend(entry.name.to_str().filter(|n| n.contains(".log")).map(|n| logs.join(n)));
        true
    })?;
    let mut lines = Lines::new();
    for name in &names {
        let content = fs.read(name, FILE_LIMIT)?;
        for line in content.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)) {
            if !line.is_empty() {
                let shown = String::from_utf8_lossy(line).into_owned();
                *lines.entry(shown.into_bytes()).or_default() += 1;
            }
        }
    }
    Ok((lines, names.len()))
}

fn tell(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
