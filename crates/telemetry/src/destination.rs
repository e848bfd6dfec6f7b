//! Where the log goes: standard error, files that rotate, or the machine's syslog.
//!
//! Comes in: `logging.to_stderr`, `to_syslog`, `to_files`, `files.*`, then whole lines. Goes out: the same, once each.
//!
//! Always holds: without a word about it the log goes to standard error, where Kubernetes and a person look, other than with
//! Filebeat, which begins with files; `-e` and `--environment container` win over the file. A line that can't be written
//! where it belongs goes to standard error. Files have the names, sizes, numbers and rights of Filebeat's; other than there
//! a file that somebody else renames or removes is made anew with the next line, and not written on where nobody looks.
//! Tested below.

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pillion_config::{Compat, Config, Error};
use pillion_world::calendar::{civil_from_days, short_month};
use pillion_world::rotated::{Names, Naming};
use pillion_world::{File, FileKind, OpenHow, World};
use tracing::Level;

/// Where machines listen for messages of programs.
const SYSLOG: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// RFC 3164's facility "local use 0", times 8, as Filebeat's: rules of a machine's syslog go by it.
const LOCAL0: u8 = 16 << 3;

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
        // One that isn't absolute lies beneath `path.logs`, as with Filebeat.
        let folder = text("logging.files.path")?
            .map_or_else(|| config.paths().logs.clone(), |path| config.paths().logs.join(path));
        let interval = root.duration("logging.files.interval")?.filter(|interval| !interval.is_zero());
        if interval.is_some_and(|interval| interval < Duration::from_secs(1)) {
            let what = "files can't rotate more often than once a second";
            return Err(root.error("logging.files.interval", what, "give a time span such as `24h`, or leave it out"));
        }
        Ok(Files {
            folder,
            name,
            bytes: root.u64_in("logging.files.rotateeverybytes", 1..=u64::MAX)?.unwrap_or(10 << 20),
            keep: root.u64_in("logging.files.keepfiles", 0..=1024)?.unwrap_or(7) as usize,
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
    /// A line was written in part, and the next one must not go on in it.
    torn: bool,
}

struct Open {
    file: Box<dyn File>,
    path: PathBuf,
    bytes: u64,
    /// In which interval since 1970 it was opened.
    interval: u64,
}

impl LogFile {
    fn new(files: Files, world: World) -> LogFile {
        let (names, rotate_first) = (files.names(), files.rotate_first);
        LogFile { world, names, files, open: None, rotate_first, complained: false, torn: false }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let now = self.interval();
        if let Some(open) = self.open.take_if(|open| !open.is_at_its_path(&self.world)) {
            self.open = Some(self.open(&open.path, now)?);
            self.torn = false;
        }
        if self.open.is_none() {
            let path = self.names.active(&self.world).or_else(|_| {
                self.make_folder()?;
                self.names.active(&self.world)
            })?;
            // What it leads to may be anybody's: it is put aside, as Filebeat does.
            let is_link = self.world.fs.stat(&path, false).is_ok_and(|meta| meta.kind == FileKind::Symlink);
            let path = if is_link { self.names.rotate(&self.world)? } else { path };
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
            self.torn = false;
        }
        self.rotate_first = false;
        let Some(open) = &mut self.open else { return Ok(()) };
        let written = if self.torn { open.file.write_all(&[b"\n", line].concat()) } else { open.file.write_all(line) };
        if written.is_err() {
            self.torn |= open.file.stat().is_ok_and(|meta| meta.len > open.bytes);
            self.open = None;
        } else {
            open.bytes += bytes + u64::from(std::mem::take(&mut self.torn));
        }
        self.complained &= written.is_err();
        written
    }

    fn open(&self, path: &Path, interval: u64) -> io::Result<Open> {
        let how = OpenHow::Append(self.files.mode);
        let file = self.world.fs.open(path, how).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => self.make_folder().and_then(|()| self.world.fs.open(path, how)),
            _ => Err(e),
        })?;
        let bytes = file.stat()?.len;
        Ok(Open { file, path: path.into(), bytes, interval })
    }

    /// Who may read the files may look into their folder.
    fn make_folder(&self) -> io::Result<()> {
        let mode = [0o070, 0o007].iter().filter(|who| self.files.mode & **who > 0).map(|who| who & 0o055).sum::<u32>();
        self.world.fs.create_dir_all(&self.names.dir, 0o700 | mode)
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

impl Open {
    /// Whether its path still leads to it. Where that can't be said, it does.
    fn is_at_its_path(&self, world: &World) -> bool {
        match (self.file.stat(), world.fs.stat(&self.path, true)) {
            (Ok(own), Ok(there)) => (own.dev, own.ino) == (there.dev, there.ino),
            (_, Err(e)) => e.kind() != io::ErrorKind::NotFound,
            (Err(_), Ok(_)) => true,
        }
    }
}

/// `<134>Nov 28 22:10:05 filebeat[7]: …`: what a machine's own syslog takes, RFC 3164 without the host.
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
    let head = format!("<{}>{month} {day:2} {hour:02}:{minute:02}:{second:02} filebeat[{pid}]: ", LOCAL0 | severity);
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
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    use pillion_world::{Clock, Fs, Mono, UnixMillis};

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

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_somebody_else_renames_or_removes_is_made_anew() {
        for dated in [false, true] {
            let tmp = tempfile::tempdir().unwrap();
            let folder = tmp.path().join("logs");
            let mut log = LogFile::new(Files { bytes: 1000, ..files(&folder, dated) }, World::real());
            log.write(b"one\n").unwrap();
            let name = listing(&folder)[0].0.clone();
            let path = folder.join(&name);
            std::fs::rename(&path, folder.join("theirs")).unwrap();
            log.write(b"two\n").unwrap();
            let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
            assert_eq!(listing(&folder), [pair(&name, "two\n"), pair("theirs", "one\n")]);
            std::fs::remove_file(&path).unwrap();
            log.write(b"three\n").unwrap();
            log.write(b"four\n").unwrap();
            assert_eq!(listing(&folder)[0], pair(&name, "three\nfour\n"));
            assert_eq!(mode(&path), 0o600);
            // logrotate's copytruncate, and a new file in its place.
            std::fs::write(&path, "").unwrap();
            log.write(b"five\n").unwrap();
            std::fs::rename(&path, folder.join("theirs")).unwrap();
            std::fs::write(&path, "new\n").unwrap();
            log.write(b"six\n").unwrap();
            assert_eq!(listing(&folder), [pair(&name, "new\nsix\n"), pair("theirs", "five\n")]);
            std::fs::remove_dir_all(&folder).unwrap();
            log.write(b"seven\n").unwrap();
            assert_eq!(listing(&folder), [pair(&name, "seven\n")]);
        }
    }

    #[test]
    fn rights_are_those_that_are_set_and_let_nobody_else_into_the_folder() {
        let tmp = tempfile::tempdir().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap().trim();
        let umask = u32::from_str_radix(umask, 8).unwrap();
        for (i, (rights, folder_rights)) in
            [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755), (0o604, 0o705)].into_iter().enumerate()
        {
            let folder = tmp.path().join(i.to_string());
            LogFile::new(Files { mode: rights, ..files(&folder, false) }, World::real()).write(b"x\n").unwrap();
            assert_eq!(
                (mode(&folder.join("fb")), mode(&folder)),
                (rights & !umask, folder_rights & !umask),
                "{rights:o}"
            );
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_file_is_not_followed() {
        for dated in [false, true] {
            let tmp = tempfile::tempdir().unwrap();
            let (folder, other) = (tmp.path().join("logs"), tmp.path().join("other"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(&other, "").unwrap();
            let name = if dated { "fb-20200101.ndjson" } else { "fb" };
            std::os::unix::fs::symlink(&other, folder.join(name)).unwrap();
            LogFile::new(files(&folder, dated), World::real()).write(b"x\n").unwrap();
            assert_eq!(std::fs::read_to_string(&other).unwrap(), "", "{dated}");
        }
    }

    #[test]
    fn without_files_to_keep_there_is_one() {
        for dated in [false, true] {
            let tmp = tempfile::tempdir().unwrap();
            let mut log = LogFile::new(Files { keep: 0, ..files(tmp.path(), dated) }, World::real());
            for line in ["one, long\n", "two, long\n", "three, lo\n"] {
                log.write(line.as_bytes()).unwrap();
            }
            let all = listing(tmp.path());
            assert_eq!(all.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["three, lo\n"], "{dated}");
        }
    }

    /// A file system that is full now and then: half of a line fits.
    struct Full(World, Arc<AtomicBool>);
    struct FullFile(Box<dyn File>, Arc<AtomicBool>);

    impl Fs for Full {
        fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
            Ok(Box::new(FullFile(self.0.fs.open(path, how)?, Arc::clone(&self.1))))
        }

        pillion_world::pass_fs!(this => this.0.fs; stat read_dir canonicalize read_link kind rename remove create_dir_all sync_dir try_lock);
    }

    impl File for FullFile {
        fn write_all(&self, buf: &[u8]) -> io::Result<()> {
            if self.1.load(Ordering::SeqCst) {
                self.0.write_all(&buf[..buf.len() / 2])?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write_all(buf)
        }

        pillion_world::pass_file!(this => this.0; read_at stat sync set_len);
    }

    #[test]
    fn a_line_that_fits_in_part_spoils_no_other() {
        let tmp = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let world = World { fs: Arc::new(Full(World::real(), Arc::clone(&full))), ..World::real() };
        let mut log = LogFile::new(Files { bytes: 1000, ..files(tmp.path(), false) }, world);
        log.write(b"one\n").unwrap();
        full.store(true, Ordering::SeqCst);
        assert!(log.write(b"lost\n").is_err());
        full.store(false, Ordering::SeqCst);
        log.write(b"two\n").unwrap();
        log.write(b"three\n").unwrap();
        assert_eq!(listing(tmp.path())[0].1, "one\nlo\ntwo\nthree\n");
    }

    #[test]
    fn settings_as_filebeat_reads_them() {
        let read = |yaml: &str| {
            let yaml = format!("path.home: /h\npath.logs: /l\nlogging.to_files: true\n{yaml}");
            match Destination::from_config(&Config::from_yaml(&yaml).unwrap(), false) {
                Ok(Destination::Files(files)) => Ok((files.folder.display().to_string(), files.keep, files.mode)),
                other => Err(format!("{other:?}")),
            }
        };
        for (yaml, folder, keep, mode) in [
            ("", "/l", 7, 0o600),
            ("logging.files: {path: sub, keepfiles: 0}", "/l/sub", 0, 0o600),
            ("logging.files: {path: /var/log, keepfiles: 1024, permissions: 0644}", "/var/log", 1024, 0o644),
        ] {
            assert_eq!(read(yaml), Ok((folder.to_owned(), keep, mode)), "{yaml}");
        }
        assert!(read("logging.files.keepfiles: 1025").is_err());
        assert!(read("logging.files.rotateeverybytes: 0").is_err());
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
        assert_eq!(String::from_utf8_lossy(&message), "<132>Nov 23 18:40:23 filebeat[7]: a line");
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
