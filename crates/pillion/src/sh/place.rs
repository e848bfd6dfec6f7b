//! Whether this process is the first of its container.
//!
//! Comes in: `/proc`. Goes out: yes or no.
//! Always holds: a container's first process has no parent within its namespace, also where the pod shares its process
//! namespace and it isn't process 1. So has each process that `kubectl exec` puts into the container: that one finds the
//! first already there, older and in the same mount namespace (or control group, where the namespace can't be looked at).

use std::fs;

use super::procs::{self, Proc};

/// Whether this process is its container's first.
pub(super) fn is_first_of_container() -> bool {
    if rustix::process::getppid().is_some() {
        return false;
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    own == 1 || is_oldest(own, &procs::all(), shares_container)
}

/// Whether no process without a parent that is of this container is older.
fn is_oldest(own: i32, all: &[Proc], same: impl Fn(i32) -> bool) -> bool {
    let Some(me) = all.iter().find(|p| p.pid == own) else { return false };
    let age = |p: &Proc| (p.started, p.pid);
    !all.iter().any(|p| p.parent == 0 && p.pid != own && age(p) < age(me) && same(p.pid))
}

fn shares_container(pid: i32) -> bool {
    let mount = |who: &str| fs::read_link(format!("/proc/{who}/ns/mnt"));
    if let (Ok(own), Ok(other)) = (mount("self"), mount(&pid.to_string())) {
        return own == other;
    }
    let group = |who: &str| procs::read(format!("/proc/{who}/cgroup"));
    matches!((group("self"), group(&pid.to_string())), (Ok(own), Ok(other)) if own == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_there_before_in_the_same_container_is_first() {
        let template = Proc::read(std::process::id() as i32).unwrap();
        let proc = |pid, parent, started| Proc { pid, parent, started, ..template.clone() };
        // The pause container, this container's first, its child, one that was put into it, and another container's.
        let all = [proc(1, 0, 10), proc(7, 0, 20), proc(8, 7, 21), proc(30, 0, 40), proc(9, 0, 20)];
        let same = |pid: i32| [7, 8, 30].contains(&pid);
        assert!(is_oldest(7, &all, same));
        assert!(!is_oldest(30, &all, same));
        assert!(is_oldest(9, &all, |pid| pid == 9));
        assert!(!is_oldest(99, &all, same), "one that isn't seen knows nothing");
        // Both within one tick: the lower id came first.
        let both = [proc(7, 0, 20), proc(8, 0, 20)];
        assert!(is_oldest(7, &both, |_| true) && !is_oldest(8, &both, |_| true));
    }

    #[test]
    fn this_process_shares_with_itself_and_is_not_first() {
        assert!(shares_container(std::process::id() as i32));
        assert!(!is_first_of_container(), "a test has a parent");
    }
}
