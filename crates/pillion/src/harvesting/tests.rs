//! Readers of several threads, of which one may hang.

use super::*;
use pillion_event::{Fate, InputDesc};
use pillion_input::Glob;
use pillion_input::parse::{Chain, ChainOptions};
use pillion_queue::{AckSink, Fates, Limits as QueueLimits};
use pillion_registry::{Options, Registry};
use pillion_world::{DirEntry, File, Fs, FsKind, Meta, OpenHow};
use std::sync::Condvar;

const LIMIT: Duration = Duration::from_secs(20);

/// The real file system, in which each folder of this name is a mount of its own: those that hang don't come back from
/// any call until they are let go.
struct Mounted {
    real: Arc<dyn Fs>,
    root: PathBuf,
    hung: Mutex<Vec<&'static str>>,
    let_go: Condvar,
}

impl Mounted {
    /// Waits while the path's mount hangs, if it is on one.
    fn call<'p>(&self, path: &'p Path) -> &'p Path {
        let mount = path.strip_prefix(&self.root).ok().and_then(|p| p.iter().next());
        let hangs = |hung: &mut Vec<&str>| hung.iter().any(|name| mount.is_some_and(|m| m == *name));
        drop(self.let_go.wait_while(self.hung.lock().unwrap(), |hung| hangs(hung)).unwrap());
        path
    }

    fn hang(&self, names: &[&'static str]) {
        *self.hung.lock().unwrap() = names.to_vec();
        self.let_go.notify_all();
    }
}

impl Fs for Mounted {
    fn open(&self, path: &Path, how: OpenHow) -> io::Result<Box<dyn File>> {
        if path == Path::new("/proc/self/mountinfo") {
            let line = |(i, name)| {
                let (id, dir) = (i + 2, self.root.join(name));
                format!("{id} 1 0:{id} / {} rw - nfs4 s:/ rw\n", dir.display())
            };
            let mounts: String = ["a", "b", "c"].into_iter().enumerate().map(line).collect();
            let table = self.root.join("table");
            self.real.replace(&table, format!("1 0 8:1 / / rw - ext4 / rw\n{mounts}").as_bytes(), 0o600)?;
            return self.real.open(&table, how);
        }
        self.real.open(self.call(path), how)
    }
    fn stat(&self, path: &Path, follow: bool) -> io::Result<Meta> {
        self.real.stat(self.call(path), follow)
    }
    fn read_dir(&self, path: &Path, each: &mut dyn FnMut(DirEntry<'_>) -> bool) -> io::Result<()> {
        self.real.read_dir(self.call(path), each)
    }
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.real.canonicalize(self.call(path))
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.real.read_link(self.call(path))
    }
    fn kind(&self, path: &Path) -> io::Result<FsKind> {
        self.real.kind(self.call(path)).map(|_| FsKind::Network)
    }

    pillion_world::pass_fs!(this => this.real; rename remove create_dir_all sync_dir try_lock);
}

struct Rig {
    fs: Arc<Mounted>,
    harvesting: Arc<Harvesting>,
    ledger: Arc<Ledger>,
    queue: Arc<Queue>,
    _tmp: tempfile::TempDir,
}

fn seat(world: World, registry: Arc<Registry>, root: &Path) -> Seat {
    Seat {
        world,
        data: root.join("data"),
        registry,
        host: "h".into(),
        pod: None,
        believed: Arc::default(),
        watches: true,
        receipt: None,
        resumable: true,
        pulse: None,
        replica: None,
        part: None,
    }
}

/// Readers of `a/*.log`, `b/*.log`, `c/*.log` by one input, and of `local/*.log` by another one.
fn rig(hung: &[&'static str]) -> Rig {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().canonicalize().unwrap();
    let real = World::real();
    for name in ["a", "b", "c", "local"] {
        real.fs.create_dir_all(&root.join(name), 0o700).unwrap();
    }
    let (hung, let_go) = (Mutex::new(hung.to_vec()), Condvar::new());
    let fs = Arc::new(Mounted { real: Arc::clone(&real.fs), root: root.clone(), hung, let_go });
    let world = World { fs: Arc::clone(&fs) as Arc<dyn Fs>, ..real };
    let chain = Arc::new(Chain::new(ChainOptions::default()));
    let input = |id: &str, names: &[&str]| {
        let glob = |name: &&str| Glob::new(root.join(name).join("*.log").as_os_str(), false).unwrap();
        let desc = Arc::new(InputDesc::bare(InputKind::Filestream, id));
        let mut spec = InputSpec::new(desc, Arc::clone(&chain), names.iter().map(glob).collect());
        spec.scan_every = Duration::from_millis(20);
        spec
    };
    let inputs = vec![input("mounts", &["a", "b", "c"]), input("local", &["local"])];
    let (registry, _) = Registry::open(&world, &root.join("data"), &Options::default()).unwrap();
    let queue = Queue::new(QueueLimits { events: 100, bytes: 1 << 20, flush: None });
    let seat = seat(world, Arc::new(registry), &root);
    let ledger = Ledger::new(Arc::clone(&queue), Arc::clone(&seat.registry), false);
    let (tell, _) = mpsc::channel(1);
    let place = Place { seat: &seat, ledger: &ledger, queue: &queue, tell: &tell };
    // What isn't read lies on a mount that may hang, too.
    let own = Own { files: vec![root.join("b/flag")], dirs: vec![root.join("data")], ..Own::default() };
    let harvesting = Harvesting::start(&place, inputs, Limits::default(), &own, Later::default()).unwrap();
    Rig { fs, harvesting, ledger, queue, _tmp: tmp }
}

impl Rig {
    fn write(&self, name: &str, text: &str) {
        self.fs.real.replace(&self.fs.root.join(name), text.as_bytes(), 0o600).unwrap();
    }

    /// Takes so many lines, and acknowledges them.
    async fn lines(&self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let request = tokio::time::timeout(LIMIT, self.queue.take(100, usize::MAX)).await.unwrap().unwrap();
            for slice in request.slices {
                let text = |e| String::from_utf8_lossy(slice.batch.text(e)).into_owned();
                lines.extend(slice.events().iter().map(text));
                self.ledger.settled(&slice, Fates::All(Fate::Acked));
            }
        }
        lines.sort();
        lines
    }

    async fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let begin = self.harvesting.world.clock.mono();
        while !is() {
            assert!(self.harvesting.world.clock.mono().since(begin) < LIMIT, "{what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_mount_that_hangs_holds_up_no_other() {
    let rig = rig(&[]);
    assert_eq!(rig.harvesting.readers.len(), 4);
    rig.write("a/1.log", "a1\n");
    rig.write("b/1.log", "b1\n");
    assert_eq!(rig.lines(2).await, ["a1", "b1"]);
    rig.fs.hang(&["b"]);
    rig.until("b hangs", || {
        let work = rig.harvesting.work();
        work.iter().any(|(work, at)| work.is_some() && at.starts_with(rig.fs.root.join("b")))
    })
    .await;
    let mut seen = Vec::new();
    (0..2).for_each(|_| crate::hung::look(&rig.harvesting, &mut seen));
    assert!(rig.harvesting.hung().iter().any(|path| path.starts_with(rig.fs.root.join("b"))));
    // Where it stands is known though a thread hangs.
    rig.until("nothing is unread", || rig.harvesting.standing().unread_bytes == 0).await;
    for (name, text) in [("a/2.log", "a2\n"), ("b/2.log", "b2\n"), ("c/1.log", "c1\n"), ("local/1.log", "l1\n")] {
        rig.write(name, text);
    }
    assert_eq!(rig.lines(3).await, ["a2", "c1", "l1"]);
    // The drain: the others end, and what hangs is named without being waited for.
    rig.harvesting.begin_drain();
    rig.write("c/2.log", "c2");
    assert_eq!(rig.lines(1).await, ["c2"]);
    rig.until("the others have drained", || rig.harvesting.reading.load(Ordering::Acquire) == 1).await;
    let begin = rig.harvesting.world.clock.mono();
    let report = rig.harvesting.report();
    assert!(rig.harvesting.world.clock.mono().since(begin) < 4 * ANSWER);
    assert_eq!(rig.harvesting.progress(), (false, false));
    let unread: Vec<_> = report.unread.iter().map(|u| u.path.as_str()).collect();
    let b = rig.fs.root.join("b").display().to_string();
    assert!(matches!(unread[..], [path] if path.starts_with(&b) && path.contains("doesn't answer")), "{unread:?}");
    // It comes back: nothing is lost, nothing comes twice.
    rig.fs.hang(&[]);
    assert_eq!(rig.lines(1).await, ["b2"]);
    rig.until("all have drained", || rig.harvesting.progress() == (true, true)).await;
    rig.until("nothing hangs", || {
        crate::hung::look(&rig.harvesting, &mut seen);
        rig.harvesting.hung().is_empty()
    })
    .await;
    assert!(rig.harvesting.report().unread.is_empty() && rig.queue.waiting() == 0);
}

#[tokio::test]
async fn mounts_that_hang_from_the_start_hold_up_no_other() {
    let rig = rig(&["b", "c"]);
    rig.write("a/1.log", "a1\n");
    rig.write("b/1.log", "b1\n");
    assert_eq!(rig.lines(1).await, ["a1"]);
    rig.fs.hang(&["c"]);
    assert_eq!(rig.lines(1).await, ["b1"]);
    rig.fs.hang(&[]);
}
