//! `pillion run` and `pillion exec`: opens what [`crate::assemble`] has read, runs, and ends with the right code.
//!
//! Comes in: [`Assembled`], what the command line says about the end, and the [`Seat`]: whose registry it is, and through
//! what its files are seen. Goes out: an exit code (0 complete, 1 failure, 3 incomplete, or the wrapped command's own).
//!
//! Always holds: the threads and tasks are the harvest thread, the registrar thread, and this thread with the async
//! runtime; the registry is closed after the last acknowledgement is in it.
//! Tested by the command line's tests and end to end.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pillion_config::Config;
use pillion_engine::drain::Cause;
use pillion_engine::exec::child::Handle;
use pillion_engine::exec::spool::Spool;
use pillion_engine::ledger::Ledger;
use pillion_engine::receipt::Verdict;
use pillion_engine::run::{Ending, LAST_WORDS, Outcome, Run, Settings, Signals};
use pillion_engine::settings::{DRAIN_TIMEOUT, EngineSettings, OnIncomplete};
use pillion_engine::termination::Termination;
use pillion_engine::trigger::flag::{Flag, pod_start};
use pillion_engine::trigger::lock::Lock;
use pillion_engine::trigger::process;
use pillion_engine::trigger::work::Work;
use pillion_event::InputKind;
use pillion_input::InputSpec;
use pillion_kube::autodiscover::Provider;
use pillion_output::any::AnyOptions;
use pillion_output::render::{RenderOptions, Renderer, Target};
use pillion_output::tls::ServerTls;
use pillion_output::{Agent, OutputContext, Requests, Stats};
use pillion_process::Shape;
use pillion_queue::disk::{DiskQueue, OpenError};
use pillion_queue::{AckSink, Queue};
use pillion_registry::Registry;
use pillion_world::World;
use pillion_world::rotated::{Names, Naming};
use tokio::sync::{Mutex, mpsc, watch};

use crate::assemble::Assembled;
use crate::cluster::{Cluster, machine_name};
use crate::company;
use crate::discover::{self, Discoveries, Discovery};
use crate::harvesting::{self, Harvesting, Later};
use crate::hung;
use crate::modules;
use crate::monitoring::Monitor;
use crate::reload::{self, Watch};
use crate::rest;
use crate::seat::{Seat, hostname};
use crate::sharing::{self, Replica};
use crate::wrapped;

/// The exit code of a run that didn't deliver everything.
pub const INCOMPLETE: u8 = 3;
/// The exit code of any failure that isn't the configuration's.
pub const FAILURE: u8 = 1;

/// How long a run that is over may take to give its shards back.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// What the command line says about a run, beyond the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunFlags {
    /// `--once`.
    pub once: bool,
    /// `exec -- CMD…`.
    pub command: Option<Vec<OsString>>,
    /// The files of the program's own log, when it goes to files.
    pub log: Option<Names>,
}

/// Runs to the end, and says with which code the process ends.
pub fn work(config: &Config, parts: Assembled, flags: &RunFlags) -> u8 {
    for warning in &parts.warnings {
        tracing::warn!("{}", warning.one_line());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("the runtime can't start: {e}")),
    };
    let code = runtime.block_on(start(config, parts, flags)).unwrap_or_else(|code| code);
    // A hung file system or target may still hold a blocking thread: the process' end doesn't wait for it.
    runtime.shutdown_background();
    code
}

pub(crate) fn fail(why: &str) -> u8 {
    tracing::error!("{why}");
    FAILURE
}

/// A certificate or key that can't be used: as any other wrong setting.
pub(crate) fn refuse(why: &str) -> u8 {
    tracing::error!("{why}");
    crate::BAD_CONFIGURATION
}

/// Opens everything, runs, closes everything. The exit code; as an error when it never came to a run.
async fn start(config: &Config, mut parts: Assembled, flags: &RunFlags) -> Result<u8, u8> {
    let world = World::real();
    // First of all: a signal during the start drains too.
    let signals = Signals::listen(&world).map_err(|e| fail(&format!("signals can't be received: {e}")))?;
    if let Some(sharing) = &parts.sharing {
        sharing::check(sharing, &parts, flags).map_err(|why| refuse(&why))?;
        sharing::check_board(sharing, &world).await;
    }
    prepare_tls(&world, &mut parts)?;
    let seat = Seat::own(&world, config, &parts).await?;
    let further = std::mem::take(&mut parts.further);
    if !further.is_empty() {
        return company::all((&world, config), (parts, further), flags, (seat, signals)).await;
    }
    let (on_incomplete, wraps) = (parts.engine.on_incomplete, flags.command.is_some());
    let ended = ride(config, parts, flags, &seat, signals).await?;
    seat.leave(&ended.receipt);
    Ok(exit_code(&ended, on_incomplete, (wraps, None)))
}

/// Runs in a seat to the end.
///
/// # Errors
/// An exit code, when it never came to a run; why is said.
pub(crate) async fn ride(
    config: &Config,
    parts: Assembled,
    flags: &RunFlags,
    seat: &Seat,
    signals: Signals,
) -> Result<Outcome, u8> {
    let (world, data) = (World::real(), &config.paths().data);
    let monitor = Monitor::open(config, &parts, seat).await?;
    let (registry, queue) = (&seat.registry, Queue::new(parts.engine.queue));
    let ledger = ledger(&world, config, &parts.engine, registry, &queue)?;
    let registrar = registrar_thread(&ledger, parts.engine.registry_flush);
    say_start(config, &parts.output, parts.inputs.len());
    let context = context(&world, config, &parts, seat);
    let (stats, hurry, shape) = (Arc::clone(&context.stats), Arc::clone(&context.hurry), shape(config, &context));
    let Assembled { engine, inputs, limits, output, providers, watch, .. } = parts;
    let watch = watch.filter(|_| !flags.once); // then what is there now is all that there will be
    let (tell, endings) = mpsc::channel(8);
    start_output(output, context.clone(), seat.requests(&queue, &ledger), &ledger, &tell)?;
    let stdin = inputs.iter().any(|i| i.desc.kind == InputKind::Stdin);
    let spool_dir = std::path::absolute(data).unwrap_or_else(|_| data.clone()).join("exec"); // as the registry knows files
    let mut inputs = with_spool(config, inputs, flags, &spool_dir)?;
    let (cluster, discoveries) = join_cluster(config, (seat, parts.full_name), &mut inputs, &providers, &shape).await?;
    let own = own_files_of_all(config, &engine, seat, (&spool_dir, flags));
    let place = harvesting::Place { seat, ledger: &ledger, queue: &queue, tell: &tell };
    let harvesting = start_reading(&place, inputs, limits, &own, Later::of(watch.is_some(), !providers.is_empty()))?;
    let reading = Arc::new(seat.begin(&harvesting, &ledger, &tell));
    let _monitoring = monitor.begin(&place, &context, &harvesting);
    let (terminated, sigterm) = watch::channel(false);
    let flag = watch_work(&world, &engine, &tell, sigterm);
    tokio::spawn(rest::watch(world.clone(), Arc::clone(&ledger)));
    seat.live(&ledger, &tell);
    let place = wrapped::Place { world: &seat.world, dir: &spool_dir, registry, ledger: &ledger, tell: &tell };
    let command = flags.command.as_deref().map(|command| start_command(config, &place, command));
    let (spools, handle) = command.transpose()?.unzip();
    begin_end(flags, &tell).await;
    let run = Run {
        end_command: end_command(world.clone(), handle),
        world,
        ledger: Arc::clone(&ledger),
        queue,
        reading: Arc::clone(&reading) as _,
        settings: settings(&engine, flags, stdin, seat),
        flag,
        hurry: Box::new(move || hurry.begin()),
        terminated,
        signals,
        endings,
        agent_id: seat.agent_id().to_owned(),
        target_error: Arc::new(move || stats.last_error()),
    };
    let outcome = tokio::select! {
        outcome = run.run() => outcome,
        () = further_inputs((config, discoveries, watch), &harvesting, &cluster, &shape) => return Err(FAILURE),
    };
    reading.end(GIVE_BACK).await;
    harvesting.quit();
    end_books(&ledger, registrar, spools.as_ref()).await;
    Ok(outcome)
}

/// Lets inputs come and go, of containers and of files that change; doesn't end by itself.
async fn further_inputs(
    (config, discoveries, watch): (&Config, Discoveries<'_>, Option<Watch>),
    harvesting: &Harvesting,
    cluster: &Mutex<Cluster>,
    shape: &Arc<dyn Shape>,
) {
    tokio::join!(
        discover::all(discoveries, harvesting, cluster),
        reload::run(config, watch, (harvesting, cluster, shape))
    );
}

/// The books, over a disk queue where there is one.
fn ledger(
    world: &World,
    config: &Config,
    engine: &EngineSettings,
    registry: &Arc<Registry>,
    queue: &Arc<Queue>,
) -> Result<Arc<Ledger>, u8> {
    let (queue, registry, exactly_once) = (Arc::clone(queue), Arc::clone(registry), engine.exactly_once);
    let dir = queue_dir(config, engine);
    let Some(options) = &engine.disk else {
        if DiskQueue::holds_something(world, &dir) {
            tracing::warn!(
                dir = %dir.display(),
                "a disk queue was left here, and queue.disk isn't set: what is in it isn't sent; run once with queue.disk to \
                 send it, or remove the folder"
            );
        }
        return Ok(Ledger::new(queue, registry, exactly_once));
    };
    let opened = DiskQueue::open(world, &dir, options).map_err(|e| match e {
        OpenError::Io(..) | OpenError::Locked(_) => fail(&e.to_string()),
        _ => refuse(&e.to_string()),
    })?;
    let events = opened.0.status().events;
    if events > 0 {
        tracing::info!(events, dir = %dir.display(), "the disk queue holds events of an earlier run: they are sent first");
    }
    Ok(Ledger::with_disk(queue, registry, exactly_once, opened, options))
}

/// Where the disk queue is, or would be.
fn queue_dir(config: &Config, engine: &EngineSettings) -> PathBuf {
    let set = engine.disk.as_ref().and_then(|disk| disk.path.clone());
    set.unwrap_or_else(|| config.paths().data.join("diskqueue"))
}

/// `--once`: the drain begins at once.
async fn begin_end(flags: &RunFlags, tell: &mpsc::Sender<Ending>) {
    if flags.once {
        let _ = tell.send(Ending::Drain(Cause::Once)).await;
    }
}

/// Reads the certificates of inputs that listen with TLS.
fn prepare_tls(world: &World, parts: &mut Assembled) -> Result<(), u8> {
    let Assembled { inputs, server_tls, .. } = parts;
    inputs.iter_mut().try_for_each(|input| secure(world, input, server_tls)).map_err(|why| refuse(&why))
}

/// Reads the certificate of an input that listens with TLS.
///
/// # Errors
/// What can't be used of it.
pub(crate) fn secure(world: &World, input: &mut InputSpec, all: &[(String, ServerTls)]) -> Result<(), String> {
    let Some(listen) = &mut input.listen else { return Ok(()) };
    if let Some((_, tls)) = all.iter().find(|(key, _)| Some(key) == listen.ssl.as_ref()) {
        listen.tls = Some(tls.build(world).map_err(|e| format!("{}: {e}", listen.name))?);
    }
    Ok(())
}

fn say_start(config: &Config, output: &AnyOptions, inputs: usize) {
    let (compat, why) = (config.compat().name(), config.compat_reason());
    tracing::info!(output = output.name(), inputs, compat, "started; {why}");
}

fn start_reading(
    place: &harvesting::Place<'_>,
    inputs: Vec<InputSpec>,
    limits: pillion_input::Limits,
    own: &pillion_input::Own,
    later: Later,
) -> Result<Arc<Harvesting>, u8> {
    place.seat.replica.as_ref().map_or(Ok(()), Replica::take_fixed)?;
    let harvesting = Harvesting::start(place, inputs, limits, own, later);
    let harvesting = harvesting.map_err(|e| fail(&format!("the reading threads can't start: {e}")))?;
    tokio::spawn(hung::watch(Arc::downgrade(&harvesting)));
    Ok(harvesting)
}

/// Removes what a wrapped command's spools still hold.
fn clean(spools: &wrapped::Ended) {
    std::mem::take(&mut *spools.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().for_each(Spool::clean);
}

/// Has the last acknowledgements written down, and removes what they made superfluous.
async fn end_books(ledger: &Ledger, registrar: std::thread::JoinHandle<()>, spools: Option<&wrapped::Ended>) {
    ledger.stop();
    let finished = tokio::task::spawn_blocking(move || registrar.join());
    let _ = tokio::time::timeout(Duration::from_secs(2), finished).await;
    spools.into_iter().for_each(clean);
}

/// Joins what asks for pods to whoever knows them, and makes the processors ready.
async fn join_cluster<'a>(
    config: &'a Config,
    (seat, full_name): (&Seat, bool),
    inputs: &mut [InputSpec],
    providers: &'a [Provider],
    shape: &'a Arc<dyn Shape>,
) -> Result<(Mutex<Cluster>, Discoveries<'a>), u8> {
    let world = &World::real();
    // A dead pod's name is all that is known of it.
    let host = machine_name(world, &seat.host, full_name && seat.pod.is_none()).await;
    let mut cluster = Cluster::new(world, seat.pod.clone(), host);
    cluster.connect(inputs);
    inputs.iter_mut().for_each(|input| input.bind(shape));
    let mut discoveries = Vec::new();
    for provider in providers {
        let pods = cluster.pods(&provider.scope, &[]).map_err(|why| refuse(&why))?;
        discoveries.push((Discovery::new(config, provider, shape), pods));
    }
    cluster.known().await;
    Ok((Mutex::new(cluster), discoveries))
}

fn end_command(world: World, handle: Option<Handle>) -> Box<dyn Fn() + Send + Sync> {
    Box::new(move || handle.iter().for_each(|handle| handle.kill(&world)))
}

/// Makes the output and lets it run; when it can't go on, that ends the run.
fn start_output(
    output: AnyOptions,
    context: OutputContext,
    requests: Arc<dyn Requests>,
    ledger: &Arc<Ledger>,
    tell: &mpsc::Sender<Ending>,
) -> Result<(), u8> {
    let name = output.name();
    let output = output.build(context).map_err(|e| refuse(&format!("output.{name}: {e}")))?;
    let acks: Arc<dyn AckSink> = Arc::clone(ledger) as Arc<dyn AckSink>;
    let failed = tell.clone();
    tokio::spawn(async move {
        if let Err(e) = output.run(requests, acks).await {
            let _ = failed.send(Ending::Failed(e.to_string())).await;
        }
    });
    Ok(())
}

/// The inputs, and for a wrapped command those that read its spool.
fn with_spool(
    config: &Config,
    mut inputs: Vec<InputSpec>,
    flags: &RunFlags,
    spool_dir: &Path,
) -> Result<Vec<InputSpec>, u8> {
    if flags.command.is_some() {
        if inputs.iter().any(|i| i.desc.kind == InputKind::Stdin) {
            return Err(refuse(
                "standard input is the command's: it can't be an input of `exec`; remove the input stdin",
            ));
        }
        inputs.extend(wrapped::inputs(config, spool_dir).map_err(|e| fail(&e.to_string()))?);
    }
    Ok(inputs)
}

fn start_command(
    config: &Config,
    place: &wrapped::Place<'_>,
    command: &[OsString],
) -> Result<(wrapped::Ended, Handle), u8> {
    let rule = wrapped::Rule::from_config(config).map_err(|e| fail(&e.to_string()))?;
    wrapped::start(place, command, rule).map_err(|e| {
        tracing::error!(command = ?command.first(), "the command can't be started: {e}");
        // As a shell: 127 when there is no such command, 126 when it can't be run.
        if e.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }
    })
}

fn registrar_thread(ledger: &Arc<Ledger>, flush: Duration) -> std::thread::JoinHandle<()> {
    let ledger = Arc::clone(ledger);
    std::thread::spawn(move || ledger.registrar(flush))
}

fn context(world: &World, config: &Config, parts: &Assembled, seat: &Seat) -> OutputContext {
    context_of(world, config, parts, (seat.host.clone(), seat.agent_id()))
}

fn context_of(
    world: &World,
    config: &Config,
    parts: &Assembled,
    (hostname, agent_id): (String, &str),
) -> OutputContext {
    let agent = Agent {
        version: config.agent_version().to_owned(),
        name: parts.name.clone().unwrap_or_else(|| hostname.clone()),
        hostname,
        id: agent_id.to_owned(),
        ephemeral_id: uuid(world.random.u128()),
    };
    OutputContext {
        world: world.clone(),
        agent: Arc::new(agent),
        exactly_once: parts.engine.exactly_once,
        shared: parts.sharing.is_some(),
        data_path: config.paths().data.clone(),
        stats: Arc::new(Stats::default()),
        hurry: Arc::default(),
    }
}

/// What events look like before any processor: what the outputs would write.
fn shape(config: &Config, context: &OutputContext) -> Arc<dyn Shape> {
    let options = RenderOptions::new(Target::Elasticsearch, config.compat());
    Arc::new(Renderer::new(options, Arc::clone(&context.agent)))
}

/// What an output needs to know where nothing is shipped.
pub fn context_by_hand(config: &Config, parts: &Assembled) -> OutputContext {
    context_of(&World::real(), config, parts, (hostname(), ""))
}

/// `test output`: tries the way to the target, step by step.
pub fn test_output(config: &Config, mut parts: Assembled) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("the runtime can't start: {e}")),
    };
    let context = context_by_hand(config, &parts);
    if let AnyOptions::Elasticsearch(settings) = &mut parts.output {
        settings.needed = modules::pipelines(&parts.inputs);
    }
    let mut report = String::new();
    let mut good = runtime.block_on(parts.output.test(context, &mut report));
    for further in parts.further {
        report.push_str(&format!("\n{} (pillion.outputs):\n", further.name));
        let context = context_by_hand(&further.config, &further.parts);
        good &= runtime.block_on(further.parts.output.test(context, &mut report));
    }
    crate::say(&report);
    if good { 0 } else { FAILURE }
}

/// A random UUID (RFC 9562, version 4).
fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// What this run and those beside it write.
fn own_files_of_all(
    config: &Config,
    engine: &EngineSettings,
    seat: &Seat,
    (spool, flags): (&Path, &RunFlags),
) -> pillion_input::Own {
    let mut own = own_files(config, engine, &seat.data, flags.command.is_none().then_some(spool));
    own.rotated.extend(flags.log.clone());
    seat.part.iter().for_each(|part| part.add_to(&mut own));
    own
}

/// What Pillion itself writes, which no input may read.
pub(crate) fn own_files(
    config: &Config,
    engine: &EngineSettings,
    data: &Path,
    spool: Option<&Path>,
) -> pillion_input::Own {
    let mut dirs = vec![data.join(&engine.registry.path), config.paths().data.join(&engine.registry.path)];
    dirs.extend(spool.map(Path::to_path_buf));
    dirs.push(queue_dir(config, engine));
    let mut files: Vec<_> = ["filebeat.lock", "meta.json", "filebeat.keystore"].map(|name| data.join(name)).into();
    files.extend(engine.receipt.clone());
    files.extend(engine.flag.clone());
    files.extend(engine.lock.clone());
    let text = |key: &str| config.root().str(key).ok().flatten();
    files.extend(text("keystore.path").map(PathBuf::from));
    files.extend(text("output.elasticsearch.non_indexable_policy.dead_letter_file.path").map(PathBuf::from));
    let rotated = text("output.file.path").map(|folder| Names {
        dir: folder.into(),
        name: text("output.file.filename").unwrap_or_else(|| "filebeat".into()),
        naming: Naming::Numbered,
        keep: 0,
    });
    pillion_input::Own { dirs, files, rotated: rotated.into_iter().collect(), ..Default::default() }
}

/// Waits for flag and lock, and for the process, in tasks of their own.
fn watch_work(
    world: &World,
    engine: &EngineSettings,
    tell: &mpsc::Sender<Ending>,
    terminated: watch::Receiver<bool>,
) -> Option<Flag> {
    if let Some(watched) = engine.process.clone() {
        let (world, tell) = (world.clone(), tell.clone());
        tokio::spawn(async move {
            let ending = match process::wait(&world, &watched).await {
                Ok(()) => Ending::Drain(Cause::ProcessEnd),
                Err(e) => Ending::Failed(format!("the process to wait for can't be watched: {e}")),
            };
            let _ = tell.send(ending).await;
        });
    }
    let not_before = pod_start(world, in_kubernetes() && !engine.accept_stale);
    let flag = engine.flag.clone().map(|path| Flag::new(world.clone(), path, not_before));
    let lock = engine.lock.clone().map(Lock::new);
    let work = Work { flag: flag.clone(), lock, restarts: engine.restarts, terminated };
    let tell = tell.clone();
    tokio::spawn(async move { tell.send(Ending::Drain(work.ended().await)).await });
    flag
}

fn settings(engine: &EngineSettings, flags: &RunFlags, stdin: bool, seat: &Seat) -> Settings {
    let ends_by_itself = flags.once || stdin;
    let grace = engine.grace_period.or_else(|| {
        let seconds = std::env::var("PILLION_GRACE_PERIOD_SECONDS").ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds)).filter(|d| !d.is_zero())
    });
    Settings {
        limit: engine.drain_timeout.or((!ends_by_itself).then_some(DRAIN_TIMEOUT)),
        grace,
        awaits_work: engine.flag.is_some()
            || engine.lock.is_some()
            || engine.process.is_some()
            || flags.command.is_some(),
        wraps_command: flags.command.is_some(),
        last_words: if in_kubernetes() { LAST_WORDS } else { Duration::ZERO },
        receipt: seat.receipt.clone(),
        termination: termination(engine, seat),
        resumable: seat.resumable,
        // Of several runs each would write over the others'.
        progress_line: std::io::stderr().is_terminal() && !flags.once && seat.part.is_none(),
    }
}

/// Where the pod's termination message goes, when there is a place for it.
fn termination(engine: &EngineSettings, seat: &Seat) -> Option<Termination> {
    let path = Some(&engine.termination_log).filter(|path| seat.is_own() && path.exists())?;
    Some(seat.part.as_ref().map_or_else(|| Termination::new(path.clone()), |part| part.termination.clone()))
}

/// Whether this is a container of a pod.
pub(crate) fn in_kubernetes() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// The exit code of a run, whose receipt is said. `wraps`: it had a command; `output`: which of several it was.
pub(crate) fn exit_code(outcome: &Outcome, on_incomplete: OnIncomplete, (wraps, output): (bool, Option<&str>)) -> u8 {
    let receipt = &outcome.receipt;
    let complete = receipt.verdict() == Verdict::Complete;
    let of = output.map(|output| format!("{output}: ")).unwrap_or_default();
    if complete {
        tracing::info!("{of}{}", receipt.line());
    } else {
        tracing::error!("{of}{}", receipt.line());
    }
    let command = receipt.cause.as_ref().and_then(Cause::work_exit_code).filter(|_| wraps);
    match (command, &outcome.failure) {
        // The command's code is the process' code, whatever became of its lines, unless the user wants otherwise.
        (Some(code @ 1..), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (_, Some(_)) => FAILURE,
        _ if complete || on_incomplete == OnIncomplete::Succeed => 0,
        _ => INCOMPLETE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_that_it_is_random() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
