//! The pod's termination message, of one run or of several that share a process.
//!
//! Comes in: receipts. Goes out: the message, written anew each time.
//!
//! Always holds: what isn't complete comes first, and a run that has said nothing yet isn't complete; the message of all is at
//! most [`TERMINATION_MESSAGE_MAX`] bytes, and each has its share. Tested below.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pillion_world::{OpenHow, World};

use crate::receipt::{Receipt, TERMINATION_MESSAGE_MAX, Verdict, cut};

/// What several runs have said: whether it is complete, and how it is told.
type Parts = BTreeMap<String, (bool, String)>;

/// Where a run's part of the message goes.
#[derive(Clone, Debug)]
pub struct Termination {
    path: PathBuf,
    /// Of several runs: which this is, and what all have said.
    part: Option<(String, Arc<Mutex<Parts>>)>,
}

impl Termination {
    /// Of one run.
    pub fn new(path: PathBuf) -> Termination {
        Termination { path, part: None }
    }

    /// Of several runs, by their names.
    pub fn of_several(path: &Path, names: &[&str]) -> Vec<Termination> {
        let silent = |name: &&str| ((*name).to_owned(), (false, format!("pillion ({name}): incomplete; it goes on\n")));
        let all = Arc::new(Mutex::new(names.iter().map(silent).collect::<Parts>()));
        let one =
            |name: &&str| Termination { path: path.to_owned(), part: Some(((*name).to_owned(), Arc::clone(&all))) };
        names.iter().map(one).collect()
    }

    /// Writes what a receipt says.
    pub(crate) fn write(&self, world: &World, receipt: &Receipt) {
        let message = self.message(receipt);
        // Kubernetes mounts this file itself: it can't be replaced by a rename, and isn't synced by anybody.
        let open = world.fs.open(&self.path, OpenHow::Truncate(0o666));
        if let Err(e) = open.and_then(|f| f.write_all(message.as_bytes())) {
            tracing::debug!(path = %self.path.display(), error = %e, "no termination message");
        }
    }

    fn message(&self, receipt: &Receipt) -> String {
        let own = receipt.termination_message();
        let Some((name, all)) = &self.part else { return own };
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        let own = own.replacen("pillion:", &format!("pillion ({name}):"), 1);
        all.insert(name.clone(), (receipt.verdict() == Verdict::Complete, own));
        let mut parts: Vec<&(bool, String)> = all.values().collect();
        parts.sort_by_key(|(complete, _)| *complete);
        let share = TERMINATION_MESSAGE_MAX / parts.len().max(1);
        parts.iter().map(|(_, text)| cut(text, share)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Phase;
    use crate::receipt::tests::empty;

    #[test]
    fn what_is_not_complete_comes_first() {
        let path = Path::new("/dev/termination-log");
        let [a, b]: [Termination; 2] = Termination::of_several(path, &["a", "b"]).try_into().unwrap();
        let message = a.message(&empty(Phase::Committed));
        assert!(
            message.starts_with("pillion (b): incomplete; it goes on\npillion (a): complete; 0 events"),
            "{message}"
        );
        let message = b.message(&empty(Phase::Committed));
        assert!(
            message.starts_with("pillion (a): complete") && message.contains("\npillion (b): complete"),
            "{message}"
        );
        let message = a.message(&empty(Phase::TimedOut));
        assert!(
            message.starts_with("pillion (a): incomplete") && message.len() <= TERMINATION_MESSAGE_MAX,
            "{message}"
        );
        let alone = Termination::new(path.to_owned());
        assert!(alone.message(&empty(Phase::Committed)).starts_with("pillion: complete"));
    }
}
