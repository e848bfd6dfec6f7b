//! Replicas on the real API server while files grow: killed, paused, scaled, their board damaged by hand.
//!
//! Comes in: the node. Goes out: what was seen.
//! Always holds: in each case 64 files grow steadily from before its first act to after its last one, every line of them
//! arrives, and none twice; each has a namespace, a folder and a receiver of its own.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::folder::Folder;
use super::replicas::{LEASE, NAME, Replicas, SHARDS};
use super::traffic::Traffic;
use crate::kubernetes::endpoint::Endpoint;
use crate::kubernetes::node::Node;
use crate::kubernetes::surge::gauge;
use crate::kubernetes::{Rig, api, pods};
use crate::{Outcome, wait};

/// How much longer than the lease a take-over may last.
const BEYOND: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(90);
/// The first receiver's port.
const PORT: u16 = 7400;
/// Requests a second and replica, as docs/decisions/shards.md has them: a LIST a fifteenth of the lease, a PUT a fifth.
const REQUESTS: f64 = 20.0 / 15.0;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kubernetes) enum Shared {
    /// One of two, and one of three, is killed.
    Kill,
    /// All processes of a replica's pod end from outside.
    NodeDeath,
    /// The table's Lease is deleted by hand, then a sign of life.
    Board,
    /// A replica is stopped for longer than the lease, and woken.
    Pause,
    /// From two to four to one, and a rolling restart.
    Scale,
    /// Requests to the API server at rest, and `pillion shards` in a pod.
    Load,
    /// What is behind, as the pods tell those who scale them.
    Backlog,
}

impl Shared {
    pub(in crate::kubernetes) const ALL: [Shared; 7] =
        [Shared::Kill, Shared::NodeDeath, Shared::Board, Shared::Pause, Shared::Scale, Shared::Load, Shared::Backlog];

    pub(in crate::kubernetes) fn name(self) -> &'static str {
        match self {
            Shared::Kill => "replicas-kill",
            Shared::NodeDeath => "replicas-node-death",
            Shared::Board => "replicas-board",
            Shared::Pause => "replicas-pause",
            Shared::Scale => "replicas-scale",
            Shared::Load => "replicas-load",
            Shared::Backlog => "replicas-backlog",
        }
    }

    pub(in crate::kubernetes) fn run(self, rig: &Rig) -> Outcome<String> {
        let n = if self == Shared::Kill { 3 } else { 2 };
        let scene = Scene::begin(rig, self, n)?;
        let seen = match self {
            Shared::Kill => scene.kill(),
            Shared::NodeDeath => scene.node_death(),
            Shared::Board => scene.board(),
            Shared::Pause => scene.pause(),
            Shared::Scale => scene.scale(),
            Shared::Load => scene.load(rig),
            Shared::Backlog => scene.backlog(),
        };
        let seen = seen.and_then(|seen| scene.traffic.finish().map(|compared| format!("{seen}; {compared}")));
        let seen = seen.map_err(|why| format!("{why}; {}", scene.replicas.look()));
        // They end before their folder does.
        scene.replicas.scale(0).and_then(|()| scene.replicas.up(0)).and(seen)
    }
}

struct Scene<'a> {
    replicas: Replicas<'a>,
    traffic: Traffic,
    _endpoint: Endpoint,
    _folder: Folder,
}

impl<'a> Scene<'a> {
    fn begin(rig: &'a Rig, case: Shared, n: usize) -> Outcome<Scene<'a>> {
        let name = case.name();
        let at = Shared::ALL.iter().position(|c| *c == case).and_then(|at| u16::try_from(at).ok()).unwrap_or_default();
        let (port, arrived) = (PORT + 2 * at, rig.node.folder("arrived").join(name));
        let endpoint = Endpoint::start(&rig.program, arrived.clone(), port + 1, port)?;
        let folder = Folder::mount(&rig.node, name)?;
        let output = format!("output.elasticsearch.hosts: ['http://{}:{port}']", Node::ADDRESS);
        let replicas = Replicas::create(rig, name, &folder, (n, true), &output)?;
        let traffic = Traffic::start(name, folder.server(), arrived);
        traffic.goes_on(Instant::now(), LIMIT).map_err(|why| format!("{why}; {}", replicas.look()))?;
        Ok(Scene { replicas, traffic, _endpoint: endpoint, _folder: folder })
    }

    /// Something ends a replica; its files go on at the others.
    fn taken_over(&self, what: &str, end: impl FnOnce(&Value) -> Outcome) -> Outcome<String> {
        let victim = self.replicas.first()?;
        let began = Instant::now();
        end(&victim)?;
        let took = self.traffic.goes_on(began, LIMIT)?;
        if took > LEASE + BEYOND {
            return Err(format!("{what}: some file stood still for {:.1} s", took.as_secs_f64()));
        }
        if took < LEASE / 3 {
            return Err(format!(
                "{what}: no file stood still for longer than {:.1} s: had it any?",
                took.as_secs_f64()
            ));
        }
        Ok(format!("{what}: all files go on within {:.1} s", took.as_secs_f64()))
    }

    fn kill(&self) -> Outcome<String> {
        let kill = |pod: &Value| pods::kill(pod, "pillion");
        let of_three = self.taken_over("one of three killed", kill)?;
        self.replicas.up(3)?;
        self.replicas.even(3)?;
        self.replicas.scale(2)?;
        self.replicas.up(2)?;
        self.replicas.even(2)?;
        Ok(format!("{of_three}; {}", self.taken_over("one of two killed", kill)?))
    }

    fn node_death(&self) -> Outcome<String> {
        let seen =
            self.taken_over("a pod's processes killed, its sandbox with them", |pod| pods::kill_all(pod, "pillion"))?;
        self.replicas.up(2)?;
        self.replicas.even(2)?;
        Ok(seen)
    }

    fn board(&self) -> Outcome<String> {
        let owners = self.replicas.owners()?;
        api::delete(&self.replicas.lease("pillion"))?;
        let deleted = Instant::now();
        self.replicas.even(2)?;
        let (back, silent) = (deleted.elapsed(), self.traffic.goes_on(deleted, LIMIT)?);
        let member = owners.keys().next().ok_or("nobody owned anything")?;
        let life = self.replicas.lease(&format!("pillion-{member}"));
        let uid = api::get(&life)?["metadata"]["uid"].clone();
        api::delete(&life)?;
        let deleted = Instant::now();
        wait::until("the sign of life to come again", LEASE, || {
            Ok(api::get(&life).ok().filter(|lease| lease["metadata"]["uid"] != uid))
        })?;
        let again = deleted.elapsed();
        self.replicas.even(2)?;
        if self.replicas.owners()? != owners {
            return Err(format!("shards have moved: {owners:?}, then {:?}", self.replicas.owners()?));
        }
        Ok(format!(
            "the table is back {:.1} s after it was deleted, no file silent for longer than {:.1} s; the sign of life after {:.1} s; \
             no shard moved",
            back.as_secs_f64(),
            silent.as_secs_f64(),
            again.as_secs_f64()
        ))
    }

    fn pause(&self) -> Outcome<String> {
        let before = self.replicas.owners()?;
        let mut pids = Vec::new();
        let seen = self.taken_over("one of two stopped", |pod| {
            pids = pods::processes(pod, "pillion");
            pods::signal(&pids, Signal::STOP);
            Ok(())
        });
        // Longer than the lease: until the table has nothing of it any more, and some more.
        let gone = wait::until("the other one to own all", LIMIT, || {
            std::thread::sleep(Duration::from_millis(200));
            Ok((self.replicas.owners()?.len() == 1).then_some(()))
        });
        std::thread::sleep(Duration::from_secs(5));
        pods::signal(&pids, Signal::CONT);
        let woken = Instant::now();
        let seen = seen.and_then(|seen| gone.map(|()| seen))?;
        self.replicas.even(2)?;
        let back = woken.elapsed().as_secs_f64();
        self.traffic.goes_on(Instant::now(), LIMIT)?;
        let after = self.replicas.owners()?;
        if !after.keys().eq(before.keys()) {
            return Err(format!("it woke up as somebody else: {before:?}, then {after:?}"));
        }
        Ok(format!("{seen}; it has its part {back:.1} s after it was woken"))
    }

    fn scale(&self) -> Outcome<String> {
        let mut silent = Duration::ZERO;
        for n in [4, 1, 2] {
            let began = Instant::now();
            self.replicas.scale(n)?;
            silent = silent.max(self.traffic.goes_on(began, LIMIT)?);
            self.replicas.up(n)?;
            self.replicas.even(n)?;
            silent = silent.max(self.traffic.goes_on(Instant::now(), LIMIT)?);
        }
        self.replicas.kubectl(&["rollout", "restart", "deployment", NAME])?;
        self.replicas.kubectl(&["rollout", "status", "deployment", NAME, "--timeout=180s"])?;
        self.replicas.up(2)?;
        self.replicas.even(2)?;
        silent = silent.max(self.traffic.goes_on(Instant::now(), LIMIT)?);
        Ok(format!("2 → 4 → 1 → 2 and a rolling restart, no file waited for longer than {:.1} s", silent.as_secs_f64()))
    }

    fn load(&self, rig: &Rig) -> Outcome<String> {
        const SECONDS: u64 = 45;
        let count = || gauge::requests(rig, &self.replicas.namespace);
        let before = count();
        let began = Instant::now();
        std::thread::sleep(Duration::from_secs(SECONDS));
        let rate = (count() - before) as f64 / began.elapsed().as_secs_f64() / 2.0;
        if (rate - REQUESTS).abs() > REQUESTS * 0.1 {
            return Err(format!("{rate:.2} requests a second and replica, {REQUESTS:.2} are promised"));
        }
        let shown = self.replicas.shown()?;
        let lives: Vec<&Value> = shown["replicas"].as_array().into_iter().flatten().map(|r| &r["life"]).collect();
        let owned = shown["shards"].as_array().map_or(0, Vec::len);
        if shown["whole"] != true || lives != ["alive", "alive"] || owned != SHARDS {
            return Err(format!("`pillion shards` shows another picture: {shown}"));
        }
        Ok(format!(
            "{rate:.2} requests a second and replica; `pillion shards` shows both alive and {owned} shards owned"
        ))
    }

    fn backlog(&self) -> Outcome<String> {
        let path = format!("/api/v1/namespaces/{}/pods", self.replicas.namespace);
        let mut behind = Vec::new();
        for pod in self.replicas.pods()? {
            let ask = |what: &str| {
                let words = ["get", "--raw", &format!("{path}/{}:5066/proxy/{what}", pods::name(&pod))];
                self.replicas.kubectl(&words)
            };
            let said = ask("backlog")?;
            let told: Value = serde_json::from_str(&said).map_err(|e| format!("/backlog: {e}: {said}"))?;
            behind.push(told["lag_bytes"].as_u64().ok_or_else(|| format!("/backlog has no lag_bytes: {said}"))?);
            let metrics = ask("metrics")?;
            if !metrics.lines().any(|line| line.starts_with("pillion_backlog_bytes")) {
                return Err(format!("/metrics has no pillion_backlog_bytes: {metrics}"));
            }
        }
        Ok(format!("both pods tell what is behind: {behind:?} bytes"))
    }
}
