//! What the harvesters of one process ask each other before a file is deleted (`delete.rs`): each sees the inputs of its own
//! thread alone, and a mount can lie under patterns of several.
//!
//! Comes in: questions of the others, each whether all inputs here that read a path have what is there. Goes out: answers, at
//! the next step.
//!
//! Always holds: nobody waits for an answer: a file without one stays, and is asked for again after a later search. One that
//! hangs is asked only about folders that its patterns can reach. An answer counts for the very file, size and time that
//! was asked for. At most [`MAX_ASKED`] questions wait with each. Tested in `tests/delete.rs`.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::harvest::Harvester;
use crate::harvest::file::FileState;
use crate::harvest::live::Life;
use crate::spec::InputSpec;

/// How many questions wait with one harvester, answered ones included; beyond, files stay until there is room.
const MAX_ASKED: usize = 4096;

/// How many folders are told apart; with more, a harvester is asked about every file.
const MAX_ROOTS: usize = 1024;

/// What a file is when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    dev: u64,
    ino: u64,
    len: u64,
    mtime_ns: i64,
}

impl State {
    fn of(f: &FileState) -> State {
        State { dev: f.dev, ino: f.ino, len: f.len, mtime_ns: f.mtime_ns }
    }
}

/// One harvester, as the others see it.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    desk: Mutex<Desk>,
    /// Something isn't answered.
    asked: AtomicBool,
}

#[derive(Debug, Default)]
struct Desk {
    /// The folders in which its patterns begin, `None` = too many.
    roots: Option<BTreeSet<PathBuf>>,
    questions: HashMap<PathBuf, (State, Option<bool>)>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked between two changes left whole ones behind.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    /// It reads a further input.
    pub(crate) fn reads(&self, spec: &InputSpec) {
        let mut desk = lock(&self.desk);
        if let Some(roots) = &mut desk.roots {
            roots.extend(spec.paths.iter().map(|glob| glob.root()));
            if roots.len() > MAX_ROOTS {
                desk.roots = None;
            }
        }
    }

    /// Whether it has all of what is at a path, or can't read it; false: it hasn't, or its answer is still to come.
    fn has_all(&self, path: &Path, state: State) -> bool {
        let mut desk = lock(&self.desk);
        if desk.roots.as_ref().is_some_and(|roots| !roots.iter().any(|root| path.starts_with(root))) {
            return true;
        }
        match desk.questions.get(path) {
            Some((of, Some(true))) if *of == state => return true,
            // It has just said no: asked again after the next search.
            Some((of, Some(false))) if *of == state => drop(desk.questions.remove(path)),
            Some((of, None)) if *of == state => {}
            _ => {
                if desk.questions.len() >= MAX_ASKED {
                    desk.questions.retain(|_, (_, answer)| answer.is_none());
                }
                if desk.questions.len() < MAX_ASKED {
                    desk.questions.insert(path.to_owned(), (state, None));
                    self.asked.store(true, Ordering::Release);
                }
            }
        }
        false
    }
}

/// All harvesters whose batches meet.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<Vec<Weak<Peer>>>);

impl Peers {
    /// One more.
    pub(crate) fn join(&self) -> Arc<Peer> {
        let desk = Desk { roots: Some(BTreeSet::new()), ..Desk::default() };
        let peer = Arc::new(Peer { desk: Mutex::new(desk), asked: AtomicBool::new(false) });
        let mut all = lock(&self.0);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&peer));
        peer
    }

    fn have_all(&self, but: &Arc<Peer>, path: &Path, state: State) -> bool {
        let others: Vec<Arc<Peer>> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        // Each is asked, so that all answers come at once.
        let others = others.iter().filter(|peer| !Arc::ptr_eq(peer, but));
        others.filter(|peer| !peer.has_all(path, state)).count() == 0
    }

    /// Whether patterns of another one can reach a path, or it isn't known.
    pub(crate) fn reach(&self, but: &Arc<Peer>, path: &Path) -> bool {
        let others: Vec<Arc<Peer>> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        let reaches = |peer: &Arc<Peer>| match &lock(&peer.desk).roots {
            Some(roots) => roots.iter().any(|root| path.starts_with(root)),
            None => true,
        };
        others.iter().any(|peer| !Arc::ptr_eq(peer, but) && reaches(peer))
    }

    fn forget(&self, path: &Path) {
        for peer in lock(&self.0).iter().filter_map(Weak::upgrade) {
            lock(&peer.desk).questions.remove(path);
        }
    }
}

impl Harvester {
    /// Whether all inputs of other keys that read a file, in whatever thread, have all of it, too.
    pub(crate) fn is_read_by_others(&self, f: &FileState) -> bool {
        let state = State::of(f);
        self.have_all(&f.path, state, Some(f.group)) && self.numbers.peers.have_all(&self.peer, &f.path, state)
    }

    /// Whether all inputs of this harvester that read what is at a path, but for those of one group, have all of it; so, too,
    /// those that know the file by another path.
    fn have_all(&self, path: &Path, state: State, but: Option<u16>) -> bool {
        let has_all = |other: &FileState| {
            State::of(other) == state
                && other.pos == other.len
                && other.replays.is_none()
                && self.is_acknowledged(other)
        };
        let mut others = self.inputs.iter().filter(|i| i.life != Life::Over && Some(i.group) != but);
        others.all(|i| {
            let here = self.table.peek_at(i.group, path, has_all);
            let elsewhere = self.table.peek_inode(i.group, state.dev, state.ino, has_all);
            here.or(elsewhere).unwrap_or(!i.spec.has_path(path)) && elsewhere.unwrap_or(true)
        })
    }

    /// Answers what the others have asked. Costs nothing while nobody has.
    pub(crate) fn answer_peers(&self) {
        if !self.peer.asked.swap(false, Ordering::AcqRel) {
            return;
        }
        let open: Vec<(PathBuf, State)> = {
            let desk = lock(&self.peer.desk);
            let open = desk.questions.iter().filter(|(_, (_, answer))| answer.is_none());
            open.map(|(path, (state, _))| (path.clone(), *state)).collect()
        };
        for (path, state) in open {
            let all = self.have_all(&path, state, None);
            if let Some((of, answer)) = lock(&self.peer.desk).questions.get_mut(&path)
                && *of == state
            {
                *answer = Some(all);
            }
        }
    }

    /// A file was deleted: nobody has to be asked for it any more.
    pub(crate) fn forget_asked(&self, path: &Path) {
        self.numbers.peers.forget(path);
    }
}
