//! At rest: what a start or a burst of lines needed goes back to the system.
//!
//! Comes in: how many events the ledger has seen. Goes out: memory that the allocator holds and nobody uses, and the
//! pages of the executable that this process has touched.
//!
//! Always holds: nothing changes but the resident size. The pages are the page cache's, as before; what is needed again
//! is mapped again when it is touched, without reading a disk as long as the file is cached. Why and what it gives:
//! docs/decisions/resident-at-rest.md. Tested below, and `cargo xtask e2e resident` holds the sizes.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pillion_engine::ledger::Ledger;
use pillion_world::World;

/// How often it is looked whether the process rests.
const LOOK: Duration = Duration::from_secs(5);

/// With fewer new events than this since the last look it does: the pages that they touch again cost less than a
/// millisecond.
const FEW: u64 = 1000;

/// Larger descriptions of this process' memory aren't read, in bytes.
const MAX_DESCRIPTION: usize = 1 << 20;

/// So often also in the midst of work, beginning with the first look: what the start needed is never needed again, and to
/// map again what is costs less than a millisecond.
const EVERY: u32 = 3;

/// Watches the ledger for as long as the runtime lives, and gives back once after each time of work, and now and then in it.
pub(crate) async fn watch(world: World, ledger: Arc<Ledger>) {
    let (mut last, mut given) = (ledger.totals(), None);
    for look in (0..EVERY).cycle() {
        tokio::time::sleep(LOOK).await;
        let now = ledger.totals();
        let rests = now.events - last.events < FEW || look == 0;
        last = now;
        if rests && given != Some(now) {
            given = Some(now);
            give_back(&world);
        }
    }
}

fn give_back(world: &World) {
    trim();
    let described = world.fs.read(Path::new("/proc/self/smaps"), MAX_DESCRIPTION).unwrap_or_default();
    let here = give_back as *const () as usize;
    unwritten(&String::from_utf8_lossy(&described), here).into_iter().for_each(unmap);
}

/// The parts of the address space that show the file which holds `here`, can't be written to, and have no page of their
/// own: what is in them is in the file.
fn unwritten(smaps: &str, here: usize) -> Vec<Range<usize>> {
    let mut parts: Vec<(Range<usize>, &str, &str)> = Vec::new();
    let mut clean = Vec::new();
    for line in smaps.lines() {
        if let Some(part) = parse_head(line) {
            parts.push(part);
        } else if let Some((range, permissions, file)) = parts.last()
            && line.strip_prefix("Anonymous:").is_some_and(|size| size.trim() == "0 kB")
            && permissions.starts_with("r-")
            && permissions.ends_with('p')
        {
            clean.push((range.clone(), *file));
        }
    }
    let Some((_, _, own)) = parts.iter().find(|(range, ..)| range.contains(&here)) else { return Vec::new() };
    clean.into_iter().filter(|(_, file)| file == own).map(|(range, _)| range).collect()
}

/// `55d0c8a00000-55d0c8c59000 r-xp 00258000 fe:00 1234 /usr/bin/pillion`: the range, the permissions, and device with
/// inode; `None` when the line is another one, or about memory without a file.
fn parse_head(line: &str) -> Option<(Range<usize>, &str, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    let range = address(from)?..address(to)?;
    let (permissions, rest) = rest.split_once(' ')?;
    let (_, rest) = rest.split_once(' ')?;
    // Device and inode, and no further: the path may hold anything.
    let inode_at = rest.find(' ')? + 1;
    let inode = rest.get(inode_at..)?.split(' ').next()?;
    let file = rest.get(..inode_at + inode.len())?;
    Some((range, permissions, if inode == "0" { "" } else { file }))
}

/// Takes a part of the executable out of this process' pages until it is touched again.
#[expect(unsafe_code, reason = "the kernel's call has no safe form: of other memory it would destroy the content")]
fn unmap(part: Range<usize>) {
    use rustix::mm::{Advice, madvise};
    let start = std::ptr::with_exposed_provenance_mut(part.start);
    // SAFETY: the part is a private mapping of a file that nothing was written to, as the kernel itself has said (not
    // writable, no anonymous page), and that nothing here ever makes writable: a page that is touched again is read from
    // the file and holds the same bytes. An executable that is mapped can't be written to (`ETXTBSY`).
    let _ = unsafe { madvise(start, part.len(), Advice::LinuxDontNeed) };
}

/// Has the allocator give back what it holds and nobody uses, also between what is used.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator's call has no safe form")]
fn trim() {
    // SAFETY: it touches nothing but the allocator's own free memory, and takes its locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// Memory that is given back at once when it is freed, in bytes; what is smaller comes from the heap. The allocator would
/// raise this limit by itself, up to 32 MB, and then the space of every table that has grown stays in the heap. Chunks of
/// files are smaller: they aren't mapped anew each time.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 192 << 10;

/// Has the allocator keep one heap for all threads, and give back large parts at once: what it would save in waiting for
/// each other is nothing for a few threads, and holes in several heaps cost 4 MB with 100,000 files. To be called before
/// there are threads.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator's call has no safe form")]
pub(crate) fn one_heap() {
    for (what, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, MAPPED), (libc::M_TRIM_THRESHOLD, 2 * MAPPED)]
    {
        // SAFETY: it sets a number of the allocator's, under its lock.
        unsafe { libc::mallopt(what, value) };
    }
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn one_heap() {}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f94f9800000-7f94f9a59000 r--p 00000000 fe:00 1234                       /a file (deleted)
Size:               2404 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
7f94f9a59000-7f94fa20c000 r-xp 00258000 fe:00 1234                       /a file (deleted)
Anonymous:             0 kB
7f94fa20c000-7f94fa25e000 r--p 00a0a000 fe:00 1234                       /a file (deleted)
Anonymous:           328 kB
7f94fa25e000-7f94fa263000 rw-p 00a5b000 fe:00 1234                       /a file (deleted)
Anonymous:             0 kB
7f94fa263000-7f94fa26f000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f94fa300000-7f94fa301000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f94fa400000-7f94fa401000 r--s 00000000 fe:00 1234                       /a file (deleted)
Anonymous:             0 kB
7f94fa500000-7f94fa501000 r--p 00000000 fe:00 77                         /another
Anonymous:             0 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Anonymous:             0 kB
";

    #[test]
    fn only_what_the_file_holds_unchanged_is_given_back() {
        let code = 0x7f94_f9a5_9000..0x7f94_fa20_c000;
        assert_eq!(unwritten(SMAPS, 0x7f94_f9a5_9010), [0x7f94_f980_0000..code.start, code.clone()]);
        assert!(unwritten(SMAPS, code.end - code.len() - 0x259_001).is_empty(), "no such place");
        assert!(unwritten("", 0).is_empty() && unwritten("7f-80 r-xp\nAnonymous: 0 kB", 0x7f).is_empty());
        // One page that was written to, and the part stays.
        let written = SMAPS.replacen("Anonymous:             0 kB", "Anonymous:             4 kB", 1);
        assert_eq!(unwritten(&written, 0x7f94_f9a5_9010), [code]);
    }

    #[test]
    fn this_process_goes_on() {
        let world = World::real();
        let smaps = world.fs.read(Path::new("/proc/self/smaps"), MAX_DESCRIPTION).unwrap();
        let here = this_process_goes_on as *const () as usize;
        let parts = unwritten(&String::from_utf8(smaps).unwrap(), here);
        assert!(parts.iter().any(|part| part.contains(&here)), "{parts:?}");
        let before = "what was there";
        give_back(&world);
        assert_eq!(before.to_owned() + &1.5_f64.to_string(), "what was there1.5");
    }
}
