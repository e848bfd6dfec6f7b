use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pillion_world::{File, Fs, OpenHow, World};
use proptest::prelude::*;

use super::*;
use crate::testing::{Books, List, context, lines};

/// The real files, with failures: the call that the countdown ends at fails, a write after half of its bytes.
struct Faulty {
    real: World,
    countdown: Arc<Mutex<Vec<u32>>>,
    /// Bytes written since the last sync.
    unsynced: Arc<AtomicBool>,
}

struct FaultyFile {
    file: Box<dyn File>,
    countdown: Arc<Mutex<Vec<u32>>>,
    unsynced: Arc<AtomicBool>,
}

/// Books that may only be written when everything is synced.
struct Strict {
    books: Arc<Books>,
    unsynced: Arc<AtomicBool>,
}

impl AckSink for Strict {
    fn settled(&self, slice: &pillion_event::Slice, fates: crate::Fates) {
        assert!(!self.unsynced.load(Ordering::SeqCst), "settled before the sync");
        self.books.settled(slice, fates);
    }
}

fn fails(countdown: &Mutex<Vec<u32>>) -> bool {
    let mut countdown = countdown.lock().unwrap();
    let Some(left) = countdown.first_mut() else { return false };
    *left = left.saturating_sub(1);
    if *left == 0 {
        countdown.remove(0);
        return true;
    }
    false
}

fn full() -> std::io::Error {
    std::io::ErrorKind::StorageFull.into()
}

/// Fails when the countdown says so.
fn step(countdown: &Mutex<Vec<u32>>) -> std::io::Result<()> {
    if fails(countdown) { Err(full()) } else { Ok(()) }
}

impl Fs for Faulty {
    fn open(&self, path: &Path, how: OpenHow) -> std::io::Result<Box<dyn File>> {
        step(&self.countdown)?;
        let file = self.real.fs.open(path, how)?;
        let (countdown, unsynced) = (Arc::clone(&self.countdown), Arc::clone(&self.unsynced));
        Ok(Box::new(FaultyFile { file, countdown, unsynced }))
    }

    pillion_world::pass_fs!(this => this.real.fs; canonicalize read_link kind try_lock);

    pillion_world::pass_fs!(this => { step(&this.countdown)?; &this.real.fs }; stat read_dir rename remove create_dir_all sync_dir);
}

impl File for FaultyFile {
    fn write_all(&self, buf: &[u8]) -> std::io::Result<()> {
        self.unsynced.store(true, Ordering::SeqCst);
        if fails(&self.countdown) {
            self.file.write_all(&buf[..buf.len() / 2])?;
            return Err(full());
        }
        self.file.write_all(buf)
    }
    fn sync(&self) -> std::io::Result<()> {
        step(&self.countdown)?;
        self.file.sync()?;
        self.unsynced.store(false, Ordering::SeqCst);
        Ok(())
    }

    pillion_world::pass_file!(this => { step(&this.countdown)?; &this.file }; read_at stat set_len);
}

fn options(dir: &Path, naming: Naming, rotate_bytes: u64) -> FileOptions {
    FileOptions {
        path: Format::compile(dir.to_str().unwrap()).unwrap(),
        filename: "fb".into(),
        rotate_bytes,
        keep: 1000,
        permissions: 0o600,
        rotate_on_startup: true,
        naming,
        codec: CodecOptions::Format(Format::compile("%{[message]}").unwrap()),
        compat: Compat::V8,
    }
}

fn ship(options: FileOptions, world: World, n: usize) -> Arc<Books> {
    ship_strictly(options, world, n, Arc::default())
}

fn ship_strictly(options: FileOptions, world: World, n: usize, unsynced: Arc<AtomicBool>) -> Arc<Books> {
    let mut context = context();
    context.world = world;
    let books = Arc::new(Books::default());
    let sink = Arc::new(Strict { books: Arc::clone(&books), unsynced });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let output = FileOutput::new(options, context).unwrap();
    runtime.block_on(output.run(List::of(lines(n)), sink)).unwrap();
    books
}

/// All files of the folder, name and content, by name.
fn files(dir: &Path) -> Vec<(String, String)> {
    let world = World::real();
    let mut found = Vec::new();
    world
        .fs
        .read_dir(dir, &mut |e| {
            found.push(e.name.to_str().unwrap().to_owned());
            true
        })
        .unwrap();
    found.sort();
    let read = |name: &String| String::from_utf8(world.fs.read(&dir.join(name), 1 << 24).unwrap()).unwrap();
    found.iter().map(|name| (name.clone(), read(name))).collect()
}

fn numbered(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("line {i}\n")).collect()
}

#[test]
fn writes_and_rotates_by_size_and_at_the_start() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("a/b");
    // Seven bytes a line: three of them fit.
    assert_eq!(ship(options(&dir, Naming::Numbered, 22), World::real(), 8).acked(), 8);
    let want = [("fb", numbered(6..8)), ("fb.1", numbered(3..6)), ("fb.2", numbered(0..3))];
    assert_eq!(files(&dir), want.map(|(name, text)| (name.to_owned(), text)));
    let meta = World::real().fs.stat(&dir.join("fb"), true).unwrap();
    assert_eq!(meta.mode, 0o600);
    assert_eq!(World::real().fs.stat(&dir, true).unwrap().mode, 0o700);
    ship(options(&dir, Naming::Numbered, 22), World::real(), 1);
    assert_eq!(files(&dir)[0].1, numbered(0..1));
    assert_eq!(files(&dir).len(), 4);
    let mut append = options(&dir, Naming::Numbered, 22);
    append.rotate_on_startup = false;
    ship(append, World::real(), 1);
    assert_eq!(files(&dir)[0].1, "line 0\nline 0\n");
    assert_eq!(files(&dir).len(), 4);
}

#[test]
fn a_record_larger_than_a_file_gets_one_of_its_own() {
    let tmp = tempfile::tempdir().unwrap();
    assert_eq!(ship(options(tmp.path(), Naming::Dated, 3), World::real(), 3).acked(), 3);
    let texts: Vec<String> = files(tmp.path()).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), 3);
    assert!(texts.iter().all(|text| text.len() == 7), "{texts:?}");
}

#[test]
fn a_half_written_record_of_a_crash_is_cut_off() {
    let tmp = tempfile::tempdir().unwrap();
    let world = World::real();
    for (before, kept) in [("line x\nhalf", "line x\n"), ("half", ""), ("whole\n", "whole\n")] {
        world.fs.replace(&tmp.path().join("fb"), before.as_bytes(), 0o600).unwrap();
        let mut append = options(tmp.path(), Naming::Numbered, 1000);
        append.rotate_on_startup = false;
        ship(append, world.clone(), 1);
        assert_eq!(files(tmp.path())[0].1, format!("{kept}line 0\n"));
    }
    let long = format!("whole\n{}", "x".repeat(200_000));
    world.fs.replace(&tmp.path().join("fb"), long.as_bytes(), 0o600).unwrap();
    ship(options(tmp.path(), Naming::Numbered, 1000), world, 1);
    assert_eq!(files(tmp.path())[1], ("fb.1".to_owned(), "whole\n".to_owned()));
}

#[test]
fn a_file_that_was_removed_or_emptied_meanwhile_is_made_anew() {
    let tmp = tempfile::tempdir().unwrap();
    let world = World::real();
    let o = options(tmp.path(), Naming::Numbered, 1000);
    let mut context = context();
    context.world = world.clone();
    let mut writer = FileOutput::new(o, context).unwrap().writer;
    let batch = lines(3);
    let mut write = |at: usize| {
        let slice = pillion_event::Slice { batch: Arc::clone(&batch), events: at..at + 1 };
        writer.write(&[slice], &mut Progress::default(), &mut 0).unwrap();
    };
    write(0);
    world.fs.remove(&tmp.path().join("fb")).unwrap();
    write(1);
    assert_eq!(files(tmp.path()), [("fb".to_owned(), numbered(1..2))]);
    world.fs.open(&tmp.path().join("fb"), OpenHow::Truncate(0o600)).unwrap();
    write(2);
    assert_eq!(files(tmp.path()), [("fb".to_owned(), numbered(2..3))]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn every_line_once_and_whole_whatever_fails(
        faults in proptest::collection::vec(1..60u32, 0..12),
        dated: bool,
        limit in prop_oneof![Just(40u64), Just(200), Just(100_000)],
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let naming = if dated { Naming::Dated } else { Naming::Numbered };
        let mut world = World::real();
        let countdown = Arc::new(Mutex::new(faults));
        let unsynced = Arc::new(AtomicBool::new(false));
        world.fs = Arc::new(Faulty { real: World::real(), countdown, unsynced: Arc::clone(&unsynced) });
        let books = ship_strictly(options(tmp.path(), naming, limit), world, 100, unsynced);
        prop_assert_eq!(books.acked(), 100);
        let mut all: Vec<String> =
            files(tmp.path()).into_iter().flat_map(|(_, text)| text.lines().map(String::from).collect::<Vec<_>>()).collect();
        all.sort();
        let mut want: Vec<String> = (0..100).map(|i| format!("line {i}")).collect();
        want.sort();
        prop_assert_eq!(all, want);
    }
}

#[test]
fn options_and_defaults_of_each_dialect() {
    let read = |yaml: &str, compat| {
        let config = pillion_config::Config::from_yaml(yaml).unwrap();
        let section = config.root().section("output.file").unwrap().unwrap();
        FileOptions::from_section(&section, compat).map_err(|e| e.to_string())
    };
    let o = read("output.file.path: /x", Compat::V5).unwrap();
    assert_eq!((o.filename.as_str(), o.rotate_bytes, o.keep, o.permissions), ("filebeat", 10 << 20, 6, 0o600));
    assert_eq!((o.naming, o.rotate_on_startup), (Naming::Numbered, true));
    assert_eq!(read("output.file.path: /x", Compat::V7).unwrap().naming, Naming::Numbered);
    let o = read(
        "output.file: {path: '/x/%{+yyyy}', filename: f, rotate_every_kb: 3, number_of_files: 2, permissions: 0640, \
         rotate_on_startup: false, codec.format.string: '%{[message]}'}",
        Compat::V8,
    )
    .unwrap();
    assert_eq!((o.filename.as_str(), o.rotate_bytes, o.keep, o.permissions), ("f", 3072, 2, 0o640));
    assert_eq!((o.naming, o.rotate_on_startup), (Naming::Dated, false));
    assert!(matches!(o.codec, CodecOptions::Format(_)));
    assert!(o.folder(&context()).unwrap().to_str().unwrap().starts_with("/x/20"));
    let escaping = |yaml: &str, compat| match read(yaml, compat).unwrap().codec {
        CodecOptions::Json { pretty, escape_html } => (pretty, escape_html),
        CodecOptions::Format(_) => panic!("another codec"),
    };
    assert_eq!(escaping("output.file: {path: /x, codec.json.pretty: true}", Compat::V8), (true, false));
    assert_eq!(escaping("output.file: {path: /x, codec.json.escape_html: true}", Compat::V8), (false, true));
    assert_eq!(escaping("output.file: {path: /x}", Compat::V5), (false, true));
    for (yaml, part) in [
        ("output.file.filename: f", "no path"),
        ("output.file: {path: /x, filename: a/b}", "isn't the name"),
        ("output.file: {path: /x, number_of_files: 1}", "out of range"),
        ("output.file: {path: /x, permissions: 01777}", "isn't a file mode"),
        ("output.file: {path: '%{[x'}", "missing"),
        ("output.file: {path: /x, codec: {json: {}, format.string: a}}", "one codec"),
        ("output.file: {path: /x, codec.format.string: '%{'}", "missing"),
    ] {
        let e = read(yaml, Compat::V8).unwrap_err();
        assert!(e.contains(part), "{yaml}: {e}");
    }
    let needs = read("output.file.path: '/x/%{[fields.team]}'", Compat::V8).unwrap();
    assert!(FileOutput::new(needs, context()).is_err());
}

#[test]
fn test_output_leaves_nothing_behind() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("new");
    FileOutput::new(options(&dir, Naming::Dated, 100), context()).unwrap().test().unwrap();
    assert_eq!(files(&dir), []);
    let blocked = tmp.path().join("file/below");
    World::real().fs.replace(&tmp.path().join("file"), b"", 0o600).unwrap();
    assert!(FileOutput::new(options(&blocked, Naming::Dated, 100), context()).unwrap().test().is_err());
}
