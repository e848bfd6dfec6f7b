//! `cargo xtask e2e kubernetes`: Pillion on a real one-node Kubernetes.
//!
//! Comes in: which cases. Goes out: a line for each, what wasn't run and why, and an error when one failed.
//! Always holds: nothing leaves the node's namespaces; what the machine lacks is said and is no success.

pub(crate) mod api;
mod boards;
mod build;
mod case;
mod cases;
pub(crate) mod endpoint;
pub(crate) mod example;
mod hundred;
mod injected;
pub(crate) mod look;
mod machine;
pub(crate) mod node;
pub(crate) mod pods;
pub(crate) mod shared;
pub(crate) mod surge;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use boards::Board;
use case::Case;
use endpoint::Endpoint;
use example::Example;
use injected::Plain;
pub(crate) use machine::has;
use node::Node;
use shared::Shared;

use crate::args::Args;
use crate::servers::Kind;
use crate::shipper::Shipper;
use crate::{Outcome, image};

/// How many cases run at a time: most wait for kubelet.
const AT_A_TIME: usize = 6;
const LUMBERJACK: u16 = 5044;
const BULK: u16 = 9200;

/// Why the suite can't run here; empty when it can.
fn missing() -> Vec<String> {
    machine::missing(build::is_ready())
}

/// Ends what a crashed run has left behind; an error with the reasons when no node can be started here and now.
pub(crate) fn ready() -> Outcome {
    if !Node::sweep()? {
        return Err(node::TAKEN.into());
    }
    let missing = missing();
    if missing.is_empty() { Ok(()) } else { Err(missing.iter().map(|why| format!("not run: {why}\n")).collect()) }
}

/// What is tried.
enum Try {
    Case(Case),
    Injected(Plain),
    Board(Board),
    Shared(Shared),
    /// For this time.
    Hundred(usize),
}

impl Try {
    fn name(&self) -> &'static str {
        match self {
            Try::Case(case) => case.name,
            Try::Injected(plain) => plain.name,
            Try::Board(board) => board.name(),
            Try::Shared(shared) => shared.name(),
            Try::Hundred(_) => "a-hundred",
        }
    }

    /// Whether it runs without `--all`.
    fn usual(&self) -> bool {
        if let Try::Case(case) = self { case.usual } else { true }
    }

    /// Why it can't run here, although the suite can.
    fn missing(&self) -> Option<String> {
        if let Try::Case(case) = self { case.server()?.missing() } else { None }
    }

    /// What must run by itself: a restart of kubelet is everybody's, and a hundred Jobs are enough.
    fn alone(&self) -> bool {
        matches!(self, Try::Hundred(_)) || self.name().ends_with("kubelet-restart")
    }
}

fn everything(times: usize) -> Vec<Try> {
    let cases = cases::all().into_iter().map(Try::Case);
    let plain = injected::all().into_iter().map(Try::Injected);
    let replicas = Board::ALL.map(Try::Board).into_iter().chain(Shared::ALL.map(Try::Shared));
    let all = cases.chain(plain).chain(replicas).chain((1..=times).map(Try::Hundred));
    let (alone, together): (Vec<Try>, Vec<Try>) = all.partition(Try::alone);
    together.into_iter().chain(alone).collect()
}

/// `--only NAME` (a case, or the beginning of its name; several with commas), `--all`, `--keep`, `--list`, `--jobs N`,
/// `--times N` (of `a-hundred`); `--missing` says what a run would lack, a line each.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let why = args.switch("--missing");
    let (all, keep, list) = (args.switch("--all"), args.switch("--keep"), args.switch("--list"));
    let only = args.value("--only")?;
    let at_a_time = args.number("--jobs", AT_A_TIME)?.max(1);
    let times = args.number("--times", 1)?;
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let wanted = |t: &Try| match &only {
        Some(only) => only.split(',').any(|only| t.name().starts_with(only)),
        None => all || t.usual(),
    };
    let (chosen, left): (Vec<Try>, Vec<Try>) = everything(times).into_iter().partition(wanted);
    if list {
        chosen.iter().chain(&left).for_each(|t| println!("{}{}", t.name(), if t.usual() { "" } else { " (--all)" }));
        return Ok(());
    }
    if why {
        Node::sweep()?;
        missing().iter().for_each(|why| println!("{why}"));
        if !build::is_ready() {
            println!("Kubernetes isn't built yet, which takes minutes");
        }
        return Ok(());
    }
    ready()?;
    let (lacking, chosen): (Vec<Try>, Vec<Try>) = chosen.into_iter().partition(|t| t.missing().is_some());
    fetch(&chosen)?;
    let verdict = Rig::up(keep)?.try_all(&chosen, at_a_time);
    for t in &lacking {
        println!("SKIPPED {}: {}", t.name(), t.missing().unwrap_or_default());
    }
    if !left.is_empty() && only.is_none() {
        println!("not run without --all: {}", left.iter().map(Try::name).collect::<Vec<_>>().join(", "));
    }
    verdict
}

/// What they need from outside: the node's network leads nowhere.
fn fetch(chosen: &[Try]) -> Outcome {
    for t in chosen {
        match t {
            Try::Case(case) => case.server().into_iter().try_for_each(Kind::ready)?,
            Try::Board(Board::Manifests) => drop(surge::keda::schema("scaledobjects")?),
            _ => {}
        }
    }
    Ok(())
}

/// The node with what the pods ship to.
pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) program: PathBuf,
    pub(crate) endpoint: Endpoint,
}

impl Rig {
    /// Starts them. The calling thread is in the node's network from now on.
    pub(crate) fn up(keep: bool) -> Outcome<Rig> {
        Rig::with(keep, &[])
    }

    /// The same with further images (tars) on the node.
    pub(crate) fn with(keep: bool, images: &[PathBuf]) -> Outcome<Rig> {
        let begin = Instant::now();
        let bin = build::ready()?;
        let (program, image) = (Shipper::named("pillion")?.path, image_tar()?);
        println!("built and packed after {:.1} s", begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let images: Vec<PathBuf> = std::iter::once(image).chain(images.iter().cloned()).collect();
        let node = Node::up(&bin, &images, keep)?;
        let endpoint = Endpoint::start(&program, node.folder("arrived"), LUMBERJACK, BULK)?;
        example::namespace("logging", "restricted")?;
        example::service("logging", "logstash", LUMBERJACK)?;
        example::service("logging", "elasticsearch", BULK)?;
        println!("a node with Kubernetes 1.34 after {:.1} s", begin.elapsed().as_secs_f64());
        Ok(Rig { node, program, endpoint })
    }

    /// What kubectl says on the node.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Outcome<String> {
        crate::child::run(self.node.kubectl().args(words))
    }

    fn try_all(&self, chosen: &[Try], at_a_time: usize) -> Outcome {
        let begin = Instant::now();
        let mut examples = HashMap::new();
        for t in chosen {
            if let Try::Case(case) = t
                && !examples.contains_key(case.example)
            {
                examples.insert(case.example, Example::read(&self.node, case.example)?);
            }
        }
        let failed = Mutex::new(Vec::new());
        let try_one = |i: usize, t: &Try| match self.try_one(t, i, &examples) {
            Ok(compared) => println!("ok      {}: {compared}", t.name()),
            Err(why) => {
                println!("FAILED  {}: {why}", t.name());
                failed.lock().map(|mut f| f.push(t.name())).unwrap_or_default();
            }
        };
        let alone = chosen.iter().position(Try::alone).unwrap_or(chosen.len());
        let (together, apart) = chosen.split_at(alone);
        let queue: Mutex<VecDeque<(usize, &Try)>> = Mutex::new(together.iter().enumerate().collect());
        let next = || queue.lock().ok().and_then(|mut q| q.pop_front());
        std::thread::scope(|scope| {
            for _ in 0..at_a_time.min(together.len()) {
                scope.spawn(|| {
                    while let Some((i, t)) = next() {
                        try_one(i, t);
                    }
                });
            }
        });
        apart.iter().enumerate().for_each(|(i, t)| try_one(together.len() + i, t));
        let failed = failed.into_inner().unwrap_or_default();
        println!("{} cases, {} failed, {:.0} s", chosen.len(), failed.len(), begin.elapsed().as_secs_f64());
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
    }

    fn try_one(&self, t: &Try, index: usize, examples: &HashMap<&str, Example>) -> Outcome<String> {
        match t {
            Try::Case(case) => self.case(case, index, examples),
            Try::Injected(plain) => plain.run(self),
            Try::Board(board) => board.run(self),
            Try::Shared(shared) => shared.run(self),
            Try::Hundred(nth) => hundred::run(&self.node, &self.endpoint, *nth),
        }
    }

    /// Each case has a receiver or a server of its own, so that it can take it away.
    fn case(&self, case: &Case, index: usize, examples: &HashMap<&str, Example>) -> Outcome<String> {
        let mut example = examples.get(case.example).cloned().ok_or_else(|| format!("no {}", case.example))?;
        let port = |base: u16| base + u16::try_from(index).unwrap_or(0);
        let (lumberjack, bulk) = (port(6000), port(7000));
        let mut endpoint = if case.name.ends_with("-success") {
            // By the names and ports of the manifest, through DNS and a service.
            Endpoint::reader(self.node.folder("arrived"))
        } else if let Some(kind) = case.server() {
            let endpoint = Endpoint::search(kind)?;
            example.ship_to_search(&format!("http://{}:{}", Node::ADDRESS, endpoint.bulk()));
            endpoint
        } else {
            example.configure("logstash.logging:5044", &format!("{}:{lumberjack}", Node::ADDRESS));
            example.configure("elasticsearch.logging:9200", &format!("{}:{bulk}", Node::ADDRESS));
            Endpoint::start(&self.program, self.node.folder("arrived").join(case.name), lumberjack, bulk)?
        };
        case::run(case, &self.node, &mut endpoint, example)
    }
}

/// The image's tar: `$PILLION_IMAGE`, else built.
fn image_tar() -> Outcome<PathBuf> {
    match std::env::var_os("PILLION_IMAGE") {
        Some(set) => Ok(PathBuf::from(set)),
        None => image::make(),
    }
}
