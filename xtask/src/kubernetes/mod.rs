//! `cargo xtask e2e kubernetes`: Pillion on a real one-node Kubernetes.
//!
//! Comes in: which cases. Goes out: a line for each, what wasn't run and why, and an error when one failed.
//! Always holds: nothing leaves the node's namespaces; what the machine lacks is said and is no success.

pub(crate) mod api;
mod build;
mod case;
mod cases;
pub(crate) mod endpoint;
pub(crate) mod example;
mod hundred;
pub(crate) mod look;
mod machine;
pub(crate) mod node;
pub(crate) mod pods;
pub(crate) mod surge;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use case::Case;
use endpoint::Endpoint;
use example::Example;
pub(crate) use machine::has;
use node::Node;

use crate::args::Args;
use crate::shipper::Shipper;
use crate::{Outcome, image};

/// How many cases run at a time: most wait for kubelet.
const AT_A_TIME: usize = 6;
const LUMBERJACK: u16 = 5044;
const BULK: u16 = 9200;

/// Why the suite can't run here; empty when it can.
pub(crate) fn missing() -> Vec<String> {
    machine::missing(build::is_ready())
}

/// `--only NAME` (a case, or the beginning of its name), `--all`, `--keep`, `--list`, `--jobs N`, `--times N`
/// (of `a-hundred`); `--missing` says
/// what a run would lack, a line each.
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
    let wanted = |name: &str, usual: bool| match &only {
        Some(only) => name.starts_with(only.as_str()),
        None => all || usual,
    };
    let (mut chosen, left): (Vec<Case>, Vec<Case>) = cases::all().into_iter().partition(|c| wanted(c.name, c.usual));
    if list {
        chosen.iter().chain(&left).for_each(|c| println!("{}{}", c.name, if c.usual { "" } else { " (--all)" }));
        return Ok(());
    }
    Node::sweep()?;
    if why {
        missing().iter().for_each(|why| println!("{why}"));
        if !build::is_ready() {
            println!("Kubernetes isn't built yet, which takes minutes");
        }
        return Ok(());
    }
    let missing = missing();
    if !missing.is_empty() {
        return Err(missing.iter().map(|why| format!("not run: {why}\n")).collect());
    }
    // A restart of kubelet is everybody's: those cases come last, by themselves.
    chosen.sort_by_key(|c| c.name.ends_with("kubelet-restart"));
    let hundred = if wanted("a-hundred", true) { times } else { 0 };
    let rig = Rig::up(keep)?;
    let verdict = rig.cases(&chosen, at_a_time, hundred);
    if !left.is_empty() && only.is_none() {
        let names: Vec<&str> = left.iter().map(|c| c.name).collect();
        println!("not run without --all: {}", names.join(", "));
    }
    verdict
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

    fn cases(&self, chosen: &[Case], at_a_time: usize, hundred: usize) -> Outcome {
        let mut examples = HashMap::new();
        for name in chosen.iter().map(|c| c.example) {
            if !examples.contains_key(name) {
                examples.insert(name, Example::read(&self.node, name)?);
            }
        }
        let failed = Mutex::new(Vec::new());
        let say = |name: &str, outcome: Outcome<String>| match outcome {
            Ok(compared) => println!("ok      {name}: {compared}"),
            Err(why) => {
                println!("FAILED  {name}: {why}");
                failed.lock().map(|mut f| f.push(name.to_owned())).unwrap_or_default();
            }
        };
        let alone = chosen.iter().position(|c| c.name.ends_with("kubelet-restart")).unwrap_or(chosen.len());
        let (together, apart) = chosen.split_at(alone);
        let queue: Mutex<VecDeque<(usize, &Case)>> = Mutex::new(together.iter().enumerate().collect());
        let next = || queue.lock().ok().and_then(|mut q| q.pop_front());
        std::thread::scope(|scope| {
            for _ in 0..at_a_time.min(together.len()) {
                scope.spawn(|| {
                    while let Some((i, case)) = next() {
                        say(case.name, self.case(case, i, &examples));
                    }
                });
            }
        });
        for nth in 1..=hundred {
            say("a-hundred", hundred::run(&self.node, &self.endpoint, nth));
        }
        for (i, case) in apart.iter().enumerate() {
            say(case.name, self.case(case, together.len() + i, &examples));
        }
        let failed = failed.into_inner().unwrap_or_default();
        println!("{} cases, {} failed", chosen.len() + hundred, failed.len());
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
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
