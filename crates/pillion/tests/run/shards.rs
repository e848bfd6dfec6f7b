//! `pillion shards`, over a board of files with replicas that this test plays.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pillion_event::Incarnation;
use pillion_registry::{Entry, FilestreamState, Identifier, Kind, Options, Registry, note};
use pillion_shards::files::{Blocking, Files, Job as Work};
use pillion_shards::{Backend, Later, Record, Shard, Table, Wrote, shard_of};
use pillion_world::World;
use serde_json::{Value, json};

use crate::harness::{Job, dead_port, program};

const LEASE: Duration = Duration::from_secs(1);

struct Inline;

impl Blocking for Inline {
    fn run(&self, work: Work, _: Duration) -> Later<'_, ()> {
        work();
        Box::pin(async {})
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match Box::pin(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("it is done where it is"),
    }
}

/// A shared folder with a configuration beside it.
struct Shared(Job);

impl Shared {
    fn new(board: &str) -> Shared {
        let job = Job::new(dead_port());
        let root = job.path("logs");
        std::fs::create_dir(&root).unwrap();
        let shards = format!("pillion.shards: {{root: '{}', count: 4, lease: 1s, {board}}}\n", root.display());
        job.write("shards.yml", &shards);
        Shared(job)
    }

    fn root(&self) -> PathBuf {
        self.0.path("logs")
    }

    fn files(&self, member: &str) -> Files<Inline> {
        Files::new(World::real(), &self.root(), member, LEASE, Some(64), Inline)
    }

    /// A file with so many bytes, whose name is one of this shard.
    fn log(&self, shard: u16, bytes: usize) -> PathBuf {
        let name = (0..).map(|n| format!("job-{n}.log")).find(|n| shard_of(n.as_bytes(), 4) == Shard(shard)).unwrap();
        let path = self.root().join(name);
        std::fs::write(&path, vec![b'x'; bytes]).unwrap();
        path
    }

    /// A replica's registry with these cursors.
    fn registry(&self, member: &str, cursors: &[(&Path, u64)]) {
        let data = note::data_path(&self.root(), member).unwrap();
        let (registry, _) = Registry::open(&World::real(), &data, &Options::default()).unwrap();
        for (path, offset) in cursors {
            let ino = World::real().fs.stat(path, true).map_or(7, |meta| meta.ino);
            let kind = Kind::Filestream(FilestreamState::default());
            let id = Identifier::Native { ino, dev: 0 };
            let source = path.to_str().unwrap().into();
            let mut entry = Entry::new(kind, "job", &id, source, Incarnation(u128::from(ino) + 1));
            entry.offset = *offset;
            registry.upsert(entry);
        }
        registry.sync().unwrap();
    }

    fn ask(&self, more: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(program());
        command.args(["shards", "-c"]).arg(self.0.path("shards.yml")).args(["--strict.perms=false"]).args(more);
        let output = command.current_dir(self.0.path("data")).env_remove("KUBERNETES_SERVICE_HOST").output().unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

fn owned(owner: &str, epoch: u64) -> Record {
    Record { owner: Some(owner.into()), epoch, registry: Some(format!("{owner}/{epoch}")) }
}

/// Lets members live until it is dropped.
struct Living(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Living {
    fn new(shared: &Shared, members: &[&str]) -> Living {
        let files: Vec<_> = members.iter().map(|member| shared.files(member)).collect();
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        files.iter().for_each(|files| now(files.beat(false)).unwrap());
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                files.iter().for_each(|files| now(files.beat(false)).unwrap());
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        Living(over, Some(thread))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap();
    }
}

#[test]
fn it_shows_who_has_what_and_how_far_behind() {
    let shared = Shared::new("board: files");
    let (zero, one) = (shared.log(0, 100), shared.log(1, 50));
    let outside = shared.0.write("outside.log", &"x".repeat(1000));
    symlink(&outside, shared.root().join("link.log")).unwrap();
    shared.registry("a", &[(&zero, 30), (&outside, 0), (&shared.root().join("link.log"), 0)]);
    shared.registry("b", &[(&one, 50), (&zero, 0)]);
    let mut table = Table::from([0, 2, 3].map(|shard| (Shard(shard), owned("a", 3))));
    table.insert(Shard(1), owned("b", 1));
    assert!(matches!(now(shared.files("a").write(None, table.clone())), Wrote::Done(_)));
    let living = Living::new(&shared, &["a", "b"]);
    let (code, out, err) = shared.ask(&["--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap_or_else(|e| unreachable!("{e}: {out}{err}"));
    assert_eq!((code, &shown["whole"], &shown["problems"]), (0, &json!(true), &json!([])), "{out}");
    let of = |member: usize| {
        ["member", "life", "shards", "files", "behind_bytes"].map(|key| shown["replicas"][member][key].clone())
    };
    // What lies outside, and what another replica's registry says of a shard that it doesn't have, don't count.
    assert_eq!(of(0), [json!("a"), json!("alive"), json!(3), json!(1), json!(70)], "{out}");
    assert_eq!(of(1), [json!("b"), json!("alive"), json!(1), json!(1), json!(0)]);
    assert_eq!(shown["behind_bytes"], 70);
    let (code, out, _) = shared.ask(&[]);
    assert!(code == 0 && out.contains("4 shards of") && out.contains("70 B"), "{out}");
    drop(living);
    // Nobody lives, and a registry is broken.
    let data = note::data_path(&shared.root(), "b").unwrap();
    std::fs::remove_dir_all(data.join("registry")).unwrap();
    let (code, out, _) = shared.ask(&["--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &shown["whole"], &shown["replicas"][0]["life"]), (3, &json!(false), &json!("still")));
    assert_eq!((&shown["behind_bytes"], &shown["shards"][0]["behind_bytes"]), (&Value::Null, &json!(70)));
    assert!(shown["problems"][0].as_str().unwrap().contains("registry of b"), "{out}");
    let (code, out, _) = shared.ask(&["--behind=false"]);
    assert!(code == 3 && out.contains("still") && !out.contains("not known"), "{out}");
}

#[test]
fn without_a_board_the_notes_on_the_disk_say_it() {
    let shared = Shared::new("index: 1/2");
    let zero = shared.log(0, 10);
    shared.registry("a", &[(&zero, 4)]);
    for shard in 0..3 {
        note::write(&World::real(), &shared.root(), shard, 1, "a/1").unwrap();
    }
    let (code, out, _) = shared.ask(&["--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &shown["unowned"], &shown["behind_bytes"]), (3, &json!([3]), &json!(6)), "{out}");
    assert_eq!(shown["replicas"][0]["life"], "fixed");
    note::write(&World::real(), &shared.root(), 3, 1, "a/1").unwrap();
    assert_eq!(shared.ask(&["--behind=false"]).0, 0);
}

#[test]
fn what_cant_be_shown_is_explained() {
    let shared = Shared::new("board: kubernetes");
    let (code, _, err) = shared.ask(&[]);
    assert!(code == 1 && err.contains("kubectl exec"), "{err}");
    let (code, _, err) = shared.ask(&["--api-server", "http://127.0.0.1:1"]);
    assert!(code == 1 && err.contains("pillion.shards.namespace"), "{err}");
    let (code, _, err) = shared.ask(&["--api-server", "http://127.0.0.1:1", "-E", "pillion.shards.namespace=x"]);
    assert!(code == 1 && err.contains("the board can't be read"), "{err}");
    std::fs::remove_dir(shared.root()).unwrap();
    let (code, _, err) = shared.ask(&[]);
    assert!(code == 1 && err.contains("pillion.shards.root"), "{err}");
    shared.0.write("shards.yml", "filebeat.inputs: []\n");
    let (code, _, err) = shared.ask(&[]);
    assert!(code == 2 && err.contains("shares no files"), "{err}");
}
