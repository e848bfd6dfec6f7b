//! From `pillion.shards` to a replica: its name, its seat on the shared file system, its board, and what drives it.
//!
//! Comes in: the configuration and what was assembled from it. Goes out: a [`Seat`] whose registry lies beneath the shared
//! root, and, once the reading threads run, [`Shared`].
//!
//! Always holds: a name is never used by two processes (a random part, or the lock of a fixed part's registry); what can't be
//! shared is refused before anything is opened.
//! Tested below and by the command line's tests (`tests/run/replicas.rs`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pillion_engine::ledger::Ledger;
use pillion_engine::run::Ending;
use pillion_event::InputKind;
use pillion_kube::client::{Target, own_namespace};
use pillion_kube::shards::{Leases, Settings as LeaseSettings};
use pillion_output::Requests;
use pillion_queue::Queue;
use pillion_registry::{Options, Registry, note};
use pillion_shards::files::Files;
use pillion_shards::{Backend, Member, Settings, Shard};
use pillion_world::{Beneath, Home, World};
use tokio::sync::{mpsc, watch};

use super::adopt::Disk;
use super::blocking::Threads;
use super::divided::part_name;
use super::drive::{Driver, Hands, mailbox};
use super::leave::Helm;
use super::rooted::Rooted;
use super::seats::Seats;
use super::settings::{Board, Sharing};
use super::tidy::Tidy;
use super::{Fenced, Ours};
use crate::assemble::Assembled;
use crate::harvesting::Harvesting;
use crate::seat::{Seat, hostname};
use crate::sweep::Root;
use crate::work::{RunFlags, fail, refuse};

/// The part of the host's name in a member's name.
const NAME_LENGTH: usize = 40;

/// One of several replicas, before it begins.
pub(crate) struct Replica {
    sharing: Sharing,
    disk: Arc<Disk>,
    backend: Option<Arc<dyn Backend>>,
    /// Until it drives.
    member: Mutex<Option<Member>>,
    seats: Arc<Seats>,
}

/// What can't be done while files are shared.
///
/// # Errors
/// What it is, with the remedy.
pub(crate) fn check(sharing: &Sharing, parts: &Assembled, flags: &RunFlags) -> Result<(), String> {
    let fixed = matches!(sharing.board, Board::Static { .. });
    let root = sharing.root.display();
    if flags.command.is_some() {
        return Err(
            "pillion.shards is for files that several replicas read: `exec` ships what one command writes; remove it"
                .into(),
        );
    }
    if flags.once && !fixed {
        return Err("--once ends when this replica's part is read, and what its part is changes while others come and go: give each a \
                    fixed part with --shard I/N"
            .into());
    }
    if !parts.providers.is_empty() {
        return Err(
            "pillion.shards and filebeat.autodiscover can't be used together: containers' files aren't shared".into()
        );
    }
    for input in &parts.inputs {
        let (id, kind) = (&input.desc.id, input.desc.kind);
        if kind == InputKind::Stdin {
            return Err("pillion.shards: standard input can't be shared; remove the input stdin".into());
        }
        if input.delete_after.is_some() {
            return Err(format!(
                "pillion.shards: the input {id:?} can't delete files, which may be another replica's by then; `pillion sweep` can"
            ));
        }
        if kind.is_network() {
            return Err(format!(
                "pillion.shards: what comes to the input {} of one replica can't be shared; give it a Pillion of its own",
                kind.as_str()
            ));
        }
        if let Some(outside) =
            input.paths.iter().map(pillion_input::Glob::folder).find(|f| !f.starts_with(&sharing.root))
        {
            return Err(format!(
                "pillion.shards.root is {root}, and the input {id:?} reads in {}: every path must lie beneath the shared root; \
                 move the input to a Pillion of its own",
                outside.display()
            ));
        }
    }
    Ok(())
}

/// A name that no other process has: the host's, and what is random.
fn member_name(host: &str, random: u128) -> String {
    let plain: String = host
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(NAME_LENGTH)
        .collect();
    let plain = plain.trim_matches('-');
    let plain = if plain.is_empty() { "pillion" } else { plain };
    format!("{plain}-{:010x}", random & 0xff_ffff_ffff)
}

impl Replica {
    /// Opens a replica's registry, and the way to its board.
    ///
    /// # Errors
    /// An exit code; why is said.
    pub(crate) fn open(sharing: &Sharing, parts: &Assembled) -> Result<(Replica, Seat), u8> {
        let real = World::real();
        let root = &sharing.root;
        let cannot = |e: std::io::Error| fail(&format!("pillion.shards.root: {}: {e}", root.display()));
        // What lies beneath the root was written by whoever may write there: nothing of it leads out.
        let beneath = World { fs: Arc::new(Beneath::open(root, root).map_err(cannot)?), ..real.clone() };
        let home = World { fs: Arc::new(Home::of(Arc::clone(&real.fs), root).map_err(cannot)?), ..real.clone() };
        let name = match sharing.board {
            Board::Static { index, of } => part_name(index, of),
            _ => member_name(&hostname(), real.random.u128()),
        };
        let data = note::data_path(root, &name).unwrap_or_default();
        beneath.fs.create_dir_all(&data, 0o700).map_err(|e| {
            let why = "replicas keep their registries there, so that this user must be able to write to it";
            fail(&format!("{} can't be made: {e}; {why}", data.display()))
        })?;
        let options = Options { path: Options::default().path, ..parts.engine.registry.clone() };
        let (registry, opened) = Registry::open(&beneath, &data, &options).map_err(|e| fail(&e.to_string()))?;
        opened.lines().iter().for_each(|line| tracing::info!("{line}"));
        registry.sync().map_err(|e| fail(&format!("{} can't be written: {e}", data.display())))?;
        let registry = Arc::new(registry);
        let backend = backend(sharing, &beneath, &name)?;
        let settings = Settings { member: name.clone(), shards: sharing.count, lease: sharing.lease };
        let member = backend.is_some().then(|| Member::new(settings, real.clock.mono()));
        let ours = Ours::new(&beneath, root, &name, sharing.count, member.as_ref().map(Member::fence));
        tracing::info!(member = name, root = %root.display(), shards = sharing.count, "shares its files with other replicas");
        let disk = Disk {
            world: beneath,
            root: root.clone(),
            member: name,
            registry: Arc::clone(&registry),
            ours,
            busy: Mutex::default(),
            current: Mutex::default(),
            divided: Mutex::default(),
        };
        let swept = Root::open(root).map_err(|why| fail(&format!("pillion.shards.root: {why}")))?;
        let seats = Arc::new(Seats::new(swept, &disk.member, &disk.registry, sharing.grace));
        disk.ours.look_beside(Arc::clone(&seats));
        let member = Mutex::new(member);
        let replica = Replica { sharing: sharing.clone(), disk: Arc::new(disk), backend, member, seats };
        Ok((replica, Seat::shared(home, data, registry, parts.engine.receipt.clone())))
    }

    /// Which files are this replica's.
    pub(crate) fn ours(&self) -> &Arc<Ours> {
        &self.disk.ours
    }

    /// Where outputs take their work from.
    pub(crate) fn requests(&self, queue: &Arc<Queue>, ledger: &Arc<Ledger>) -> Arc<dyn Requests> {
        Arc::new(Fenced::new(queue, ledger, &self.disk.ours))
    }

    /// Takes a fixed part, before anything is read.
    ///
    /// # Errors
    /// An exit code; why is said.
    pub(crate) fn take_fixed(&self) -> Result<(), u8> {
        let Board::Static { index, of } = self.sharing.board else { return Ok(()) };
        let shards: Vec<Shard> = (0..self.sharing.count).filter(|n| n % of == index - 1).map(Shard).collect();
        self.disk.take_fixed(&shards).map_err(|why| fail(&format!("pillion.shards.index: part {index} of {of}: {why}")))
    }

    /// Takes part, from now until the process ends; `None`: parts are fixed.
    pub(crate) fn begin(
        &self,
        harvesting: &Arc<Harvesting>,
        ledger: &Arc<Ledger>,
        endings: &mpsc::Sender<Ending>,
    ) -> Option<Helm> {
        tokio::spawn(look_after(Arc::clone(&self.seats), Arc::clone(&self.disk.ours), Arc::clone(harvesting)));
        let member = self.member.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        member.zip(self.backend.clone()).map(|(member, backend)| {
            let (tell, told) = mailbox();
            let (stand, stands) = watch::channel(super::Stand::default());
            let hands = Arc::new(Hands {
                clock: Arc::clone(&self.disk.world.clock),
                backend,
                disk: Arc::clone(&self.disk),
                harvesting: Arc::clone(harvesting),
                ledger: Arc::clone(ledger),
                tell: tell.clone(),
                endings: endings.clone(),
                closing: Mutex::default(),
            });
            let driver = Driver::new(member, Arc::clone(&hands), told, stand, Tidy::default());
            tokio::spawn(driver.run());
            Helm { hands, tell, stand: stands, lease: self.sharing.lease }
        })
    }
}

/// How often what dead sidecars left is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Looks after what dead sidecars left, for as long as the process runs.
async fn look_after(seats: Arc<Seats>, ours: Arc<Ours>, harvesting: Arc<Harvesting>) {
    let runtime = tokio::runtime::Handle::current();
    loop {
        tokio::time::sleep(LOOK_AFTER).await;
        let (seats, ours, runtime) = (Arc::clone(&seats), Arc::clone(&ours), runtime.clone());
        let looked = tokio::task::spawn_blocking(move || seats.look_after(&ours, &runtime)).await;
        if looked.unwrap_or(false) {
            harvesting.shares_grew();
        }
    }
}

/// The way to the board; `None`: there is none, since parts are fixed.
fn backend(sharing: &Sharing, beneath: &World, member: &str) -> Result<Option<Arc<dyn Backend>>, u8> {
    Ok(match &sharing.board {
        Board::Static { .. } => None,
        Board::Files => Some(Arc::new(Files::new(
            beneath.clone(),
            &sharing.root,
            member,
            sharing.lease,
            Some(sharing.count),
            Threads,
        )) as Arc<dyn Backend>),
        Board::Kubernetes { namespace, group } => {
            let target = Target::in_cluster(&|name| std::env::var(name).ok())
                .map_err(|problem| refuse(&format!("pillion.shards.board: kubernetes: {problem}")))?;
            let namespace = namespace.clone().or_else(|| own_namespace(&World::real()));
            let Some(namespace) = namespace else {
                return Err(refuse("the namespace of the Leases isn't known: set pillion.shards.namespace"));
            };
            let settings = LeaseSettings {
                namespace,
                group: group.clone(),
                member: member.to_owned(),
                lease: sharing.lease,
                shards: Some(sharing.count),
            };
            let leases = Arc::new(Leases::new(World::real(), target, &settings));
            // A board of files says by itself that the root hangs; this one doesn't.
            let (world, root) = (beneath.clone(), sharing.root.clone());
            let ask = Arc::new(move || world.fs.stat(&root, true).map(drop));
            Some(Arc::new(Rooted::new(leases, &beneath.clock, sharing.lease, Box::new(Threads), ask)))
        }
    })
}

/// Says at the start what a board of files needs that isn't there.
pub(crate) async fn check_board(sharing: &Sharing, world: &World) {
    if sharing.board == Board::Files {
        let files = Files::new(world.clone(), &sharing.root, "check", sharing.lease, None, Threads);
        if let Err(why) = files.check().await {
            tracing::warn!("the board of files may not work here: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_everywhere() {
        for (host, want) in [
            ("pillion-replicas-7d9f-abcde", "pillion-replicas-7d9f-abcde-00000000ff"),
            ("Node_1.example.org", "node-1-example-org-00000000ff"),
            ("", "pillion-00000000ff"),
            ("--", "pillion-00000000ff"),
        ] {
            let name = member_name(host, 0xff);
            assert_eq!(name, want);
            assert!(pillion_shards::is_name(&name) && note::name(&name, 1).is_some());
        }
        let long = member_name(&"x".repeat(300), u128::MAX);
        assert!(long.len() <= NAME_LENGTH + 11, "{long}");
    }
}
