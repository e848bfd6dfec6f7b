//! Where the log goes: standard error, files that rotate, or the machine's syslog.
//!
//! Comes in: `logging.to_stderr`, `to_syslog`, `to_files`, `files.*`, then whole lines. Goes out: the same, once each.
//!
//! Always holds: without a word about it the log goes to standard error, where Kubernetes and a person look, other than with
//! Filebeat, which begins with files; `-e` and `--environment container` win over the file. A line that can't be written
//! where it belongs goes to standard error. Files have the names, sizes and numbers of Filebeat's.
//! Tested below.

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pillion_config::{Compat, Config, Error};
use pillion_world::calendar::{civil_from_days, short_month};
use pillion_world::rotated::{Names, Naming};
use pillion_world::{File, OpenHow, World};
use tracing::Level;

/// Where machines listen for messages of programs.
const SYSLOG: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// RFC 3164's facility "system daemons", times 8, as Filebeat's.
const DAEMON: u8 = 3 << 3;

/// Writes a line of this level.
pub(crate) type Write = Box<dyn Fn(Level, &[u8]) + Send + Sync>;

/// What the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    Stderr,
    /// The machine's syslog.
    Syslog,
    /// Files.
    Files(Files),
}

/// `logging.files.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// `path`, else `path.logs`.
    pub folder: PathBuf,
    /// `name`: `filebeat`.
    pub name: String,
    /// `rotateeverybytes`: 10 MiB.
    pub bytes: u64,
    /// `keepfiles`: 7.
    pub keep: usize,
    /// `permissions`: 0600.
    pub mode: u32,
    /// `interval`; none = by size alone.
    pub interval: Option<Duration>,
    /// `rotateonstartup`: true.
    pub rotate_first: bool,
    /// `filebeat`, `filebeat.1` up to 7, `filebeat-20260101.ndjson` from 8 on.
    pub dated: bool,
}

impl Destination {
    /// Reads the options; `stderr`: a flag says that it is standard error whatever they are.
    ///
    /// # Errors
    /// The first option that is wrong.
    pub fn from_config(config: &Config, stderr: bool) -> Result<Destination, Error> {
        let root = config.root();
        let [to_stderr, to_syslog] = [root.bool("logging.to_stderr")?, root.bool("logging.to_syslog")?];
        let to_files = root.bool("logging.to_files")?;
        let files = Files::from_config(config)?;
        Ok(if stderr || to_stderr == Some(true) {
            Destination::Stderr
        } else if to_syslog == Some(true) {
            Destination::Syslog
        } else if to_files == Some(true) {
            Destination::Files(files)
        } else {
            Destination::Stderr
        })
    }

    /// The files, when it is files.
    pub fn names(&self) -> Option<Names> {
        match self {
            Destination::Files(files) => Some(files.names()),
            Destination::Stderr | Destination::Syslog => None,
        }
    }

    /// What writes a line of this level there.
    pub(crate) fn writer(self, world: World) -> Write {
        match self {
            Destination::Stderr => Box::new(|_, line| stderr(line)),
            Destination::Syslog => {
                let pid = std::process::id();
                let socket = Mutex::new(None);
                Box::new(move |level, line| {
                    let message = syslog_message(level, world.clock.wall().0, pid, line);
                    let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
                    if to_syslog(&mut socket, &SYSLOG, &message).is_err() {
                        stderr(line);
                    }
                })
            }
            Destination::Files(files) => {
                let log = Mutex::new(LogFile::new(files, world));
                Box::new(move |_, line| {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Err(e) = log.write(line) {
                        log.complain(&e);
                        stderr(line);
                    }
                })
            }
        }
    }
}

fn stderr(line: &[u8]) {
    // A closed pipe ends no shipping.
    drop(io::stderr().lock().write_all(line));
}

impl Files {
    fn names(&self) -> Names {
        let naming = if self.dated { Naming::Dated } else { Naming::Numbered };
        Names { dir: self.folder.clone(), name: self.name.clone(), naming, keep: self.keep }
    }

    fn from_config(config: &Config) -> Result<Files, Error> {
        let root = config.root();
        let text = |key: &str| Ok::<_, Error>(root.str(key)?.filter(|text| !text.is_empty()));
        let name = text("logging.files.name")?.unwrap_or_else(|| "filebeat".to_owned());
        if name.contains('/') {
            let remedy = "put folders into `logging.files.path`";
            return Err(root.error("logging.files.name", "this isn't the name of a file", remedy));
        }
        let folder = text("logging.files.path")?.map_or_else(|| config.paths().logs.clone(), PathBuf::from);
        let interval = root.duration("logging.files.interval")?.filter(|interval| !interval.is_zero());
        if interval.is_some_and(|interval| interval < Duration::from_secs(1)) {
            let what = "files can't rotate more often than once a second";
            return Err(root.error("logging.files.interval", what, "give a time span such as `24h`, or leave it out"));
        }
        Ok(Files {
            folder,
            name,
            bytes: root.u64_in("logging.files.rotateeverybytes", 1..=u64::MAX)?.unwrap_or(10 << 20),
            keep: root.u64_in("logging.files.keepfiles", 1..=1024)?.unwrap_or(7) as usize,
            mode: root.file_mode("logging.files.permissions")?.unwrap_or(0o600),
            interval,
            rotate_first: root.bool("logging.files.rotateonstartup")?.unwrap_or(true),
            dated: config.compat() >= Compat::V8,
        })
    }
}

/// A log file that rotates.
struct LogFile {
    world: World,
    names: Names,
    files: Files,
    open: Option<Open>,
    rotate_first: bool,
    /// What is wrong was said.
    complained: bool,
}

struct Open {
    file: Box<dyn File>,
    bytes: u64,
    /// In which interval since 1970 it was opened.
    interval: u64,
}

impl LogFile {
    fn new(files: Files, world: World) -> LogFile {
        LogFile { world, names: files.names(), rotate_first: files.rotate_first, files, open: None, complained: false }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let now = self.interval();
        if self.open.is_none() {
            self.world.fs.create_dir_all(&self.names.dir, 0o750)?;
            let path = self.names.active(&self.world)?;
            self.open = Some(self.open(&path, now)?);
        }
        let bytes = line.len() as u64;
        let full = self.open.as_ref().is_some_and(|open| {
            open.bytes > 0 && (self.rotate_first || open.bytes + bytes > self.files.bytes || open.interval != now)
        });
        if full {
            self.open = None;
            let path = self.names.rotate(&self.world)?;
            self.open = Some(self.open(&path, now)?);
        }
        self.rotate_first = false;
        let Some(open) = &mut self.open else { return Ok(()) };
        let written = open.file.write_all(line);
        open.bytes += bytes;
        if written.is_err() {
            self.open = None;
        }
        self.complained &= written.is_err();
        written
    }

    fn open(&self, path: &std::path::Path, interval: u64) -> io::Result<Open> {
        let file = self.world.fs.open(path, OpenHow::Append(self.files.mode))?;
        let bytes = file.stat()?.len;
        Ok(Open { file, bytes, interval })
    }

    fn interval(&self) -> u64 {
        let now = u64::try_from(self.world.clock.wall().0).unwrap_or(0);
        let length = self.files.interval.map_or(u64::MAX, |interval| interval.as_millis() as u64);
        now / length.max(1)
    }

    /// Says once that the log's own files fail.
    fn complain(&mut self, e: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            let folder = self.names.dir.display();
            stderr(format!("the log goes to standard error: {folder}: {e}; see `logging.files`\n").as_bytes());
        }
    }
}

/// `<30>Nov 28 22:10:05 filebeat[7]: …`: what a machine's own syslog takes, RFC 3164 without the host.
fn syslog_message(level: Level, now_ms: i64, pid: u32, line: &[u8]) -> Vec<u8> {
    let severity = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    let (_, month, day) = civil_from_days(now_ms.div_euclid(86_400_000));
    let month = short_month(month);
    let of_day = now_ms.rem_euclid(86_400_000) / 1000;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let head = format!("<{}>{month} {day:2} {hour:02}:{minute:02}:{second:02} filebeat[{pid}]: ", DAEMON | severity);
    [head.as_bytes(), line.strip_suffix(b"\n").unwrap_or(line)].concat()
}

/// Sends to the first of these sockets that is there; a syslog that doesn't read isn't waited for.
fn to_syslog(socket: &mut Option<UnixDatagram>, paths: &[&str], message: &[u8]) -> io::Result<()> {
    if let Some(open) = &socket
        && open.send(message).is_ok()
    {
        return Ok(());
    }
    // It was started again, or it isn't there.
    let new = UnixDatagram::unbound()?;
    new.set_nonblocking(true)?;
    let mut connected = Err(io::ErrorKind::NotFound.into());
    for path in paths {
        connected = connected.or_else(|_: io::Error| new.connect(path));
    }
    connected?;
    new.send(message)?;
    *socket = Some(new);
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the real files")]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use pillion_world::{Clock, Mono, UnixMillis};

    use super::*;

    fn files(folder: &Path, dated: bool) -> Files {
        let name = "fb".to_owned();
        Files {
            folder: folder.into(),
            name,
            bytes: 10,
            keep: 2,
            mode: 0o600,
            interval: None,
            rotate_first: true,
            dated,
        }
    }

    fn listing(folder: &Path) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut all: Vec<(String, String)> = entries
            .map(|e| (e.file_name().into_string().unwrap(), std::fs::read_to_string(e.path()).unwrap()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn files_rotate_by_size_and_at_the_start() {
        let tmp = tempfile::tempdir().unwrap();
        let folder = tmp.path().join("a/b");
        let mut log = LogFile::new(files(&folder, false), World::real());
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            log.write(line.as_bytes()).unwrap();
        }
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(listing(&folder), [pair("fb", "four\n"), pair("fb.1", "three\n"), pair("fb.2", "one\ntwo\n")]);
        LogFile::new(files(&folder, false), World::real()).write(b"five\n").unwrap();
        assert_eq!(listing(&folder), [pair("fb", "five\n"), pair("fb.1", "four\n"), pair("fb.2", "three\n")]);
        let mut append = files(&folder, false);
        append.rotate_first = false;
        LogFile::new(append, World::real()).write(b"six\n").unwrap();
        assert_eq!(listing(&folder)[0], pair("fb", "five\nsix\n"));
        let dated = tmp.path().join("dated");
        LogFile::new(files(&dated, true), World::real()).write(b"x\n").unwrap();
        assert!(listing(&dated)[0].0.ends_with(".ndjson"), "{:?}", listing(&dated));
    }

    struct Hand(AtomicI64);

    impl Clock for Hand {
        fn mono(&self) -> Mono {
            Mono(0)
        }
        fn wall(&self) -> UnixMillis {
            UnixMillis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn files_rotate_by_time() {
        let tmp = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand(AtomicI64::new(3_599_999)));
        let world = World { clock: clock.clone(), ..World::real() };
        let hourly = Files { bytes: 1000, interval: Some(Duration::from_secs(3600)), ..files(tmp.path(), false) };
        let mut log = LogFile::new(hourly, world);
        log.write(b"one\n").unwrap();
        clock.0.store(3_600_000, Ordering::Relaxed);
        log.write(b"two\n").unwrap();
        log.write(b"three\n").unwrap();
        let texts: Vec<String> = listing(tmp.path()).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["two\nthree\n", "one\n"]);
    }

    #[test]
    fn a_line_that_is_longer_than_a_file_has_one_of_its_own() {
        let tmp = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(files(tmp.path(), false), World::real());
        for line in ["a line that is longer\n", "b\n"] {
            log.write(line.as_bytes()).unwrap();
        }
        assert_eq!(listing(tmp.path()).len(), 2);
    }

    #[test]
    fn a_folder_that_is_in_the_way_is_an_error_and_later_none() {
        let tmp = tempfile::tempdir().unwrap();
        let folder = tmp.path().join("logs");
        std::fs::write(&folder, "a file").unwrap();
        let mut log = LogFile::new(files(&folder, false), World::real());
        assert!(log.write(b"x\n").is_err());
        std::fs::remove_file(&folder).unwrap();
        log.write(b"y\n").unwrap();
        assert_eq!(listing(&folder), [("fb".to_owned(), "y\n".to_owned())]);
    }

    #[test]
    fn syslog_gets_one_message_for_each_line_also_after_it_was_started_again() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("log");
        let paths = [tmp.path().join("none"), path.clone()];
        let paths: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        let message = syslog_message(Level::WARN, 1_795_459_223_656, 7, b"a line\n");
        assert_eq!(String::from_utf8_lossy(&message), "<28>Nov 23 18:40:23 filebeat[7]: a line");
        let mut socket = None;
        assert!(to_syslog(&mut socket, &paths, &message).is_err());
        for _ in 0..2 {
            let listener = UnixDatagram::bind(&path).unwrap();
            to_syslog(&mut socket, &paths, &message).unwrap();
            let mut buffer = [0; 100];
            let size = listener.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..size], message[..]);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
