//! File systems that don't answer, said while it lasts.
//!
//! Comes in: at which piece of work each reading thread is. Goes out: a warning with the path when one stays at the same for
//! long, and a word when it goes on; and where they hang, for whoever asks. Always holds: once for each time that it hangs; nothing is asked of the file system.
//! Tested below and by `cargo xtask e2e nfs`.

use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

use crate::harvesting::Harvesting;

/// A piece of work that lasts from one look to the next hangs: each is bounded by a chunk of a file.
const LOOK: Duration = Duration::from_secs(5);

/// What was seen of one thread.
#[derive(Default)]
pub(crate) struct Seen {
    work: Option<u64>,
    hangs: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Hangs,
    GoesOn,
}

impl Seen {
    /// Looks at the number of the piece of work that the thread is at.
    fn look(&mut self, work: Option<u64>) -> Option<News> {
        let stays = work.is_some() && work == self.work;
        self.work = work;
        match (std::mem::replace(&mut self.hangs, stays), stays) {
            (false, true) => Some(News::Hangs),
            (true, false) => Some(News::GoesOn),
            _ => None,
        }
    }
}

/// Looks at all reading threads for as long as they are there.
pub(crate) async fn watch(harvesting: Weak<Harvesting>) {
    let mut seen: Vec<Seen> = Vec::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(harvesting) = harvesting.upgrade() else { return };
        look(&harvesting, &mut seen);
    }
}

/// Looks once at each thread.
pub(crate) fn look(harvesting: &Harvesting, seen: &mut Vec<Seen>) {
    let threads: Vec<(Option<u64>, PathBuf)> = harvesting.work();
    seen.resize_with(threads.len(), Seen::default);
    let mut hung = Vec::new();
    for (seen, (work, at)) in seen.iter_mut().zip(threads) {
        let path = at.display();
        match seen.look(work) {
            Some(News::Hangs) => tracing::warn!(
                %path,
                "a call into a file system doesn't return for seconds; what else is on this mount waits for it, other \
                 network mounts and local files don't"
            ),
            Some(News::GoesOn) => tracing::info!(%path, "the file system answers again"),
            None => {}
        }
        if seen.hangs {
            hung.push(at);
        }
    }
    harvesting.set_hung(hung);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_for_each_time() {
        let mut seen = Seen::default();
        let looks = [None, None, Some(3), Some(5), Some(5), Some(5), Some(7), Some(7), None, None];
        let news: Vec<_> = looks.into_iter().map(|work| seen.look(work)).collect();
        let (hangs, goes_on) = (|| Some(News::Hangs), || Some(News::GoesOn));
        assert_eq!(news, [None, None, None, None, hangs(), None, goes_on(), hangs(), goes_on(), None]);
    }
}
