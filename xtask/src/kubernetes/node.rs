//! The node: a real Kubernetes in namespaces of its own, up and down.
//!
//! Comes in: the executables, images. Goes out: a [`Node`] that answers at [`Node::PORT`] on loopback, once this thread has
//! [entered](Node::enter) its network.
//! Always holds: nothing leaves its network namespace; it ends with this process, unless it is kept; one node at a time on
//! a machine, and one that an earlier run left behind is ended first; the kernel's settings that kubelet changes are
//! put back.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::api;
use crate::child::{Child, run};
use crate::{Outcome, cache, root, wait};

/// Why there is no node now.
pub(crate) const TAKEN: &str = "another run has the node: one at a time on a machine";
const LIMIT: Duration = Duration::from_secs(120);
/// The kernel's settings that kubelet sets for the whole machine.
const SYSCTLS: [&str; 5] = [
    "vm.overcommit_memory",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
];
const TEMPLATES: [(&str, &str); 7] = [
    ("Corefile", "Corefile"),
    ("containerd.toml", "containerd.toml"),
    ("cni.conflist", "cni/10-pods.conflist"),
    ("kubelet.yaml", "kubelet.yaml"),
    ("kube-proxy.yaml", "kube-proxy.yaml"),
    ("kubeconfig", "kubeconfig"),
    ("audit.yaml", "audit.yaml"),
];
/// Names and addresses of the API server.
const API_SERVER: [&str; 8] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "10.89.0.1",
    "10.96.0.1",
];

/// A node that runs.
pub(crate) struct Node {
    run: PathBuf,
    bin: PathBuf,
    child: Option<Child>,
    proxy: Option<Child>,
    keep: bool,
    _only: File,
}

impl Node {
    /// Where `kubectl proxy` answers on the node's loopback: the API without TLS and tokens.
    pub(crate) const PORT: u16 = 8001;
    /// The node's own address, where endpoints of tests listen.
    pub(crate) const ADDRESS: &str = "10.89.0.1";

    /// Ends what an earlier run left behind, kept or crashed; false when another run has the node now.
    pub(crate) fn sweep() -> Outcome<bool> {
        let cache = cache::folder()?;
        let only = File::create(cache.join("cluster.lock")).map_err(|e| e.to_string())?;
        if only.try_lock().is_err() {
            return Ok(false);
        }
        end(&cache.join("cluster")).map(|()| true)
    }

    /// Starts a node that knows these images (tars), and waits until it takes pods.
    pub(crate) fn up(bin: &Path, images: &[PathBuf], keep: bool) -> Outcome<Node> {
        let cache = cache::folder()?;
        let only = File::create(cache.join("cluster.lock")).map_err(|e| e.to_string())?;
        only.try_lock().map_err(|_| TAKEN)?;
        let run = cache.join("cluster");
        end(&run)?;
        let node = Node { run, bin: bin.to_owned(), child: None, proxy: None, keep, _only: only };
        node.prepare(images).map_err(|e| format!("{}: {e}", node.run.display()))?;
        node.start()
    }

    fn prepare(&self, images: &[PathBuf]) -> Result<(), Box<dyn std::error::Error>> {
        for folder in ["logs", "log", "pki", "cni", "images", "kubelet", "containerd", "etcd"] {
            fs::create_dir_all(self.run.join(folder))?;
        }
        let before: String = SYSCTLS.iter().filter_map(|s| Some(format!("{s}={}\n", sysctl(s)?))).collect();
        fs::write(self.run.join("sysctls"), before)?;
        let token = keys(&self.run.join("pki"))?;
        for (template, path) in TEMPLATES {
            let text = fs::read_to_string(root().join("e2e/cluster").join(template))?;
            let text = text.replace("@RUN@", &self.run.display().to_string()).replace("@TOKEN@", &token);
            fs::write(self.run.join(path), text)?;
        }
        fs::write(self.run.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
        run(Command::new(root().join("e2e/cluster/images.sh")).arg(self.run.join("images")))?;
        for (i, image) in images.iter().enumerate() {
            fs::copy(image, self.run.join(format!("images/{i}.tar")))?;
        }
        Ok(())
    }

    fn start(mut self) -> Outcome<Node> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--fork", "--pid", "--mount", "--net", "--uts", "--ipc", "--mount-proc", "--kill-child"]);
        unshare.arg(root().join("e2e/cluster/init.sh")).env("RUN", &self.run).env("BIN", &self.bin);
        unshare.env("PAUSE", self.run.join("images/pause"));
        let log = self.run.join("logs/init.log");
        let id = if self.keep {
            let log = File::create(log).map_err(|e| e.to_string())?;
            unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
            unshare.spawn().map_err(|e| format!("unshare: {e}"))?.id()
        } else {
            // Killed with this process, and the node with it.
            self.child.insert(Child::start(&mut unshare, &log)?).id()
        };
        let first = wait::until("the node's first process", LIMIT, || {
            let path = format!("/proc/{id}/task/{id}/children");
            let children = fs::read_to_string(path).map_err(|e| format!("unshare ended: {e}"))?;
            Ok(children.split_whitespace().next().and_then(|c| c.parse::<i32>().ok()))
        })?;
        let identity = format!("{first} {}", started(first).ok_or("the node ended at once")?);
        fs::write(self.run.join("pid"), identity).map_err(|e| e.to_string())?;
        wait::until("the first process to be the reaper", LIMIT, || {
            let program = fs::read_link(format!("/proc/{first}/exe")).map_err(|_| self.said("init"))?;
            Ok((program == self.run.join("images/pause")).then_some(()))
        })?;
        self.enter()?;
        let mut proxy = self.kubectl();
        proxy.args(["proxy", "--port", &Node::PORT.to_string(), "--disable-filter"]);
        self.wait_for_api()?;
        self.proxy = Some(Child::start(&mut proxy, &self.run.join("logs/proxy.log"))?);
        self.wait_for_node()?;
        Ok(self)
    }

    fn wait_for_api(&self) -> Outcome {
        wait::until("the API server", LIMIT, || {
            let ready = self.kubectl().args(["get", "--raw", "/readyz"]).output().map_err(|e| e.to_string())?;
            // A part that can't start says so in its log at once.
            if let Some(why) = self.log("kube-apiserver").lines().find(|l| l.contains("command failed")) {
                return Err(why.to_owned());
            }
            Ok(ready.status.success().then_some(()))
        })
        .map_err(|why| format!("{why}; {}", self.said("kube-apiserver")))
    }

    fn wait_for_node(&self) -> Outcome {
        wait::until("the node to be ready", LIMIT, || {
            let Ok(node) = api::get("/api/v1/nodes/node1") else { return Ok(None) };
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            let account = api::get("/api/v1/namespaces/default/serviceaccounts/default").is_ok();
            Ok((ready && account).then_some(()))
        })
        .map_err(|why| format!("{why}; {}", self.said("kubelet")))
    }

    /// Moves this thread, and those that it starts from now on, into the node's network.
    pub(crate) fn enter(&self) -> Outcome {
        let pid = self.first().ok_or("the node has ended")?;
        let net = File::open(format!("/proc/{pid}/ns/net")).map_err(|e| e.to_string())?;
        move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| format!("setns: {e}"))
    }

    /// The first process' id outside of the node.
    fn first(&self) -> Option<i32> {
        alive(&self.run)
    }

    /// A command among the node's mounts and processes: it ends with the node.
    pub(crate) fn inside(&self, program: &str) -> Outcome<Command> {
        let pid = self.first().ok_or("the node has ended")?;
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &pid.to_string(), "--mount", "--pid", "--", program]);
        Ok(nsenter)
    }

    /// Whether something is mounted at this path within the node.
    pub(crate) fn has_mounted(&self, path: &Path) -> bool {
        let pid = self.first().unwrap_or_default();
        let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap_or_default();
        mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
    }

    /// `kubectl` as the cluster's administrator; from a thread that has entered the node's network.
    pub(crate) fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(self.bin.join("kubectl"));
        kubectl.arg("--kubeconfig").arg(self.run.join("kubeconfig")).env("HOME", &self.run);
        kubectl
    }

    /// A folder of the run.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    /// A part's log.
    pub(crate) fn log(&self, part: &str) -> String {
        fs::read_to_string(self.run.join(format!("logs/{part}.log"))).unwrap_or_default()
    }

    /// The last lines of a part's log.
    pub(crate) fn said(&self, part: &str) -> String {
        let text = self.log(part);
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        format!("{part} said last: {}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// Kills kubelet; the node starts it again.
    pub(crate) fn kill_kubelet(&self) -> Outcome {
        let mark = format!("--root-dir={}", self.run.join("kubelet").display());
        let found = processes().into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).any(|word| word == mark.as_bytes())
        });
        kill(found.ok_or("kubelet doesn't run")?);
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.proxy = None;
        if self.keep {
            let pid = self.first().unwrap_or_default();
            let (kubectl, config) = (self.bin.join("kubectl"), self.run.join("kubeconfig"));
            println!("the node is kept; the next run ends it. To look around:");
            println!("  nsenter -t {pid} -n {} --kubeconfig {} get pods -A", kubectl.display(), config.display());
        } else if let Err(why) = end(&self.run) {
            eprintln!("the node's end: {why}");
        }
    }
}

/// The first process of the node in this folder, when it still runs: its id is of the very same process.
fn alive(run: &Path) -> Option<i32> {
    let text = fs::read_to_string(run.join("pid")).ok()?;
    let (pid, start) = text.split_once(' ')?;
    let pid = pid.parse().ok()?;
    (started(pid)?.to_string() == start).then_some(pid)
}

/// When a process started, in the kernel's ticks; `None` when it has ended.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if rest.first() == Some(&"Z") { None } else { rest.get(19)?.parse().ok() }
}

fn processes() -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn sysctl(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(path).ok().map(|v| v.trim().to_owned())
}

/// Ends the node of a run's folder, whoever started it, and puts the machine back as it was.
fn end(run: &Path) -> Outcome {
    if let Some(pid) = alive(run) {
        // The kernel ends all that is in its process namespace, and unmounts what only its mount namespace had.
        kill(pid);
        wait::until("the node's end", LIMIT, || Ok(started(pid).is_none().then_some(())))?;
    }
    for line in fs::read_to_string(run.join("sysctls")).unwrap_or_default().lines() {
        if let Some((name, value)) =
            line.split_once('=').filter(|(name, value)| sysctl(name).as_deref() != Some(*value))
        {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            fs::write(&path, value).map_err(|e| format!("{path}: {e}"))?;
        }
    }
    if run.exists() {
        // Cgroups are ours only where the node was.
        wait::until("the pods' cgroups to be empty", LIMIT, || Ok(remove_cgroups().then_some(())))?;
        fs::remove_dir_all(run).map_err(|e| format!("{}: {e}", run.display()))?;
    }
    Ok(())
}

/// Removes kubelet's cgroups, which hold no process any more. True when none is left.
fn remove_cgroups() -> bool {
    let top = Path::new("/sys/fs/cgroup");
    let mut all = vec![top.join("kubepods")];
    all.extend(fs::read_dir(top).into_iter().flatten().flatten().map(|e| e.path().join("kubepods")));
    all.iter().all(|path| !path.exists() || remove_tree(path))
}

fn remove_tree(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok()
}

/// An authority, the API server's certificate, the key of service accounts, and the administrator's token.
fn keys(folder: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "the node's authority");
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.crt"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let names: Vec<String> = API_SERVER.iter().map(|&n| n.to_owned()).collect();
    fs::write(folder.join("apiserver.crt"), CertificateParams::new(names)?.signed_by(&key, &issuer)?.pem())?;
    fs::write(folder.join("apiserver.key"), key.serialize_pem())?;
    let key = KeyPair::generate()?;
    fs::write(folder.join("sa.key"), key.serialize_pem())?;
    fs::write(folder.join("sa.pub"), key.public_key_pem())?;
    let mut random = [0; 16];
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut random)?;
    let token: String = random.iter().map(|b| format!("{b:02x}")).collect();
    fs::write(folder.join("tokens.csv"), format!("{token},admin,admin,\"system:masters\"\n"))?;
    Ok(token)
}
