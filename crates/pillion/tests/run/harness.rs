//! A folder, an endpoint, and processes that are ended when the test is.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use pillion_receive::{Arrived, Kind, Listen, Options, Receiver, Sink};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::oneshot;

/// How long anything may take, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Waits until something is there.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(3));
    }
}

/// The program, as Cargo built it.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_pillion"))
}

/// A port where nobody listens.
pub(crate) fn dead_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An endpoint that speaks Lumberjack, or Elasticsearch's `_bulk`, where a second event of an id is refused.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    events: Arc<Mutex<Vec<Value>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Endpoint {
    pub(crate) fn start() -> Endpoint {
        Endpoint::at("127.0.0.1:0".parse().unwrap())
    }

    /// One that speaks `_bulk`; each event's id is added to it as `_id`.
    pub(crate) fn bulk() -> Endpoint {
        Endpoint::speaking(Kind::Elasticsearch, "127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn at(address: SocketAddr) -> Endpoint {
        Endpoint::speaking(Kind::Lumberjack, address)
    }

    fn speaking(kind: Kind, address: SocketAddr) -> Endpoint {
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let to = Arc::clone(&events);
        let call = move |event: Arrived<'_>| {
            let mut json: Value = serde_json::from_slice(event.json).unwrap();
            if let Some(id) = event.id {
                json["_id"] = id.into();
            }
            to.lock().unwrap().push(json);
        };
        let (started, address_of) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listen = vec![Listen { address, ..Listen::loopback(kind) }];
                let options = Options { listen, sink: Sink::Call(Arc::new(call)), ..Options::default() };
                let receiver = Receiver::start(options).await.unwrap();
                started.send(receiver.address(kind).unwrap()).unwrap();
                let _ = stopped.await;
                receiver.stop().await;
            });
        });
        let address = address_of.recv().unwrap();
        Endpoint { address, events, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }

    /// What the lines say, in order of arrival.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.events().iter().map(|e| e["message"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn wait(&self, n: usize) -> Vec<Value> {
        wait_for(&format!("{n} events"), || {
            let events = self.events();
            (events.len() >= n).then_some(events)
        })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A job's folder with logs, a configuration and what Pillion writes.
pub(crate) struct Job {
    dir: tempfile::TempDir,
}

impl Job {
    /// Ships `data/*.log` to that endpoint.
    pub(crate) fn new(target: SocketAddr) -> Job {
        let job = Job { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(job.path("data")).unwrap();
        let data = job.path("data").display().to_string();
        job.write(
            "filebeat.yml",
            &format!(
                "filebeat.inputs:\n- type: filestream\n  id: job\n  paths: ['{data}/*.log']\n\
                 output.logstash:\n  hosts: ['{target}']\n\
                 pillion.termination_log: {}\n",
                job.path("termination-log").display()
            ),
        );
        job
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The receipt, when it is there and whole.
    pub(crate) fn receipt(&self) -> Value {
        serde_json::from_str(&self.read("receipt.json")).unwrap_or_default()
    }

    /// Pillion with its configuration and these further arguments, by themselves when the first is a command.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(program());
        command
            .args(args.iter().take_while(|a| !a.as_ref().as_encoded_bytes().starts_with(b"-")))
            .args(["-c", "filebeat.yml", "--path.home", ".", "--receipt", "receipt.json"])
            .args(args.iter().skip_while(|a| !a.as_ref().as_encoded_bytes().starts_with(b"-")))
            .current_dir(self.dir.path())
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn start<S: AsRef<OsStr>>(&self, args: &[S]) -> Running {
        Running::start(&mut self.command(args), self.dir.path())
    }
}

/// A process; killed when it is dropped before its end.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub(crate) fn start(command: &mut Command, dir: &Path) -> Running {
        Running::start_to(command, dir, File::create(dir.join("stdout")).unwrap())
    }

    /// With this as its standard output.
    pub(crate) fn start_to(command: &mut Command, dir: &Path, stdout: impl Into<Stdio>) -> Running {
        let (out, err) = (dir.join("stdout"), dir.join("stderr"));
        command.stdout(stdout).stderr(File::create(&err).unwrap());
        Running { child: command.spawn().unwrap(), out, err }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) fn out(&self) -> String {
        text(&self.out)
    }

    pub(crate) fn err(&self) -> String {
        text(&self.err)
    }

    /// Waits until its log says this.
    pub(crate) fn says(&self, part: &str) {
        wait_for(part, || self.err().contains(part).then_some(()));
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn status(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < LIMIT, "it doesn't end; it said:\n{}", self.err());
            std::thread::park_timeout(Duration::from_millis(3));
        }
    }

    /// Waits for its end: the exit code.
    pub(crate) fn code(&mut self) -> i32 {
        self.status().code().unwrap()
    }

    /// Waits for its end with this exit code; shows what it said when it is another.
    pub(crate) fn ends_with(&mut self, code: i32) {
        let got = self.code();
        assert_eq!(got, code, "it said:\n{}", self.err());
    }
}

fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
