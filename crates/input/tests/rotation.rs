//! Each line of the table in `src/harvest/rules.rs`, with real files.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failing call is a failing test")]

mod common;

use std::time::Duration;

use common::Rig;
use pillion_input::{Budget, Glob, Hint, Identity, InputSpec};

const NONE: [&str; 0] = [];

#[test]
fn a_new_file_and_appends() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\ntwo\nthr");
    assert_eq!(rig.settle(), ["one", "two"]);
    rig.append("a.log", "ee\nfour\n");
    assert_eq!(rig.search(), ["three", "four"]);
    assert_eq!(rig.search(), NONE);
    rig.append("b.log", "other\n");
    assert_eq!(rig.search(), ["other"]);
}

#[test]
fn appends_are_seen_between_searches_without_a_watch() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.append("a.log", "two\n");
    assert_eq!(rig.settle(), NONE);
    rig.advance(Duration::from_secs(1));
    assert_eq!(rig.settle(), ["two"]);
}

#[test]
fn rotation_by_rename() {
    let mut rig = Rig::log();
    rig.append("a.log", "1\n");
    assert_eq!(rig.settle(), ["1"]);
    rig.append("a.log", "2\n");
    rig.rename("a.log", "a.log.1");
    rig.append("a.log", "3\n");
    let mut lines = rig.search();
    lines.sort();
    assert_eq!(lines, ["2", "3"]);
    let sources: Vec<_> = rig.registry.entries().iter().map(|e| e.source.clone()).collect();
    assert!(sources.iter().any(|s| s.ends_with("a.log.1")) && sources.iter().any(|s| s.ends_with("a.log")));
    rig.append("a.log.1", "4\n");
    assert_eq!(rig.search(), ["4"]);
    assert_eq!(rig.lost(), 0);
}

#[test]
fn rotation_out_of_the_patterns_is_read_to_its_end() {
    let mut rig = Rig::log();
    rig.append("a.log", "1\n");
    assert_eq!(rig.settle(), ["1"]);
    rig.append("a.log", "2\n");
    rig.rename("a.log", "elsewhere");
    rig.append("a.log", "3\n");
    let mut lines = rig.search();
    lines.sort();
    assert_eq!(lines, ["2", "3"]);
    assert_eq!(rig.lost(), 0);
}

/// Nobody can tell it from a file that only begins alike: it is read, and the truncation loses nothing.
#[test]
fn a_copy_that_is_seen_before_the_truncation_is_another_file() {
    let text = format!("{}\nlast\n", "a beginning that is longer than a fingerprint's 64 bytes".repeat(2));
    for mut rig in [Rig::log(), Rig::fingerprint(true)] {
        rig.append("a.log", &text);
        assert_eq!(rig.settle().len(), 2);
        std::fs::copy(rig.path("a.log"), rig.path("a.log.1")).unwrap();
        assert_eq!(rig.search().len(), 2);
        rig.truncate("a.log", 0);
        rig.append("a.log", "new\n");
        assert_eq!(rig.search(), ["new"]);
        assert_eq!(rig.lost(), 0);
    }
}

#[test]
fn copytruncate_to_less() {
    let mut rig = Rig::log();
    rig.append("a.log", "first line\n");
    assert_eq!(rig.settle(), ["first line"]);
    let before = rig.batches[0].source.incarnation;
    rig.truncate("a.log", 0);
    rig.append("a.log", "new\n");
    assert_eq!(rig.search(), ["new"]);
    assert_ne!(rig.batches[1].source.incarnation, before);
    assert_eq!(rig.lost(), 0);
}

#[test]
fn copytruncate_to_the_same_size_and_to_more() {
    for text in ["other line\n", "other line\nand one more\n"] {
        let mut rig = Rig::log();
        rig.append("a.log", "first line\n");
        assert_eq!(rig.settle(), ["first line"]);
        rig.truncate("a.log", 0);
        rig.append("a.log", text);
        assert_eq!(rig.search(), text.lines().collect::<Vec<_>>());
        assert_ne!(rig.batches[0].source.incarnation, rig.batches[1].source.incarnation);
        rig.ack();
        assert_eq!(rig.registry.entries()[0].offset, text.len() as u64);
    }
}

#[test]
fn truncation_before_it_was_read_is_counted() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.append("a.log", "unfinished");
    assert_eq!(rig.search(), NONE);
    rig.truncate("a.log", 0);
    assert_eq!(rig.search(), NONE);
    assert_eq!(rig.lost(), 10);
    assert_eq!(rig.harvester.stats().tally.lost, 10);
}

#[test]
fn deletion_while_unread_is_read_from_the_descriptor() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
    rig.append("a.log", "two\nlast");
    rig.remove("a.log");
    assert_eq!(rig.search(), ["two"]);
    rig.advance(Duration::from_secs(2));
    assert_eq!(rig.settle(), ["last"]);
    rig.advance(Duration::from_secs(2));
    rig.settle();
    assert_eq!((rig.lost(), rig.harvester.stats().open), (0, 0));
    rig.ack();
    rig.search();
    assert!(rig.registry.entries().is_empty());
    assert!(rig.harvester.accounts().is_empty(), "all of it was read: nothing to tell but the numbers");
    assert_eq!((rig.harvester.stats().tally.lines, rig.harvester.stats().files), (3, 0));
}

#[test]
fn deletion_without_a_descriptor_is_counted() {
    let mut rig = Rig::with(|spec| spec.close.eof = true);
    rig.append("a.log", "one\nunfinished");
    assert_eq!(rig.settle(), ["one"]);
    rig.remove("a.log");
    assert_eq!(rig.search(), NONE);
    assert_eq!(rig.lost(), 10);
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    let mut rig = Rig::with(|spec| spec.close.eof = true);
    for round in 0..20 {
        let text = format!("the same length {round:02}\n");
        std::fs::write(rig.path("a.log"), &text).unwrap();
        assert_eq!(rig.search(), [text.trim_end()]);
        rig.remove("a.log");
    }
    assert_eq!(rig.lost(), 0);
    let lives: std::collections::BTreeSet<_> = rig.batches.iter().map(|b| b.source.incarnation).collect();
    assert_eq!(lives.len(), 20);
}

#[test]
fn a_file_replaced_within_one_search() {
    let mut rig = Rig::log();
    rig.append("a.log", "old 1\n");
    assert_eq!(rig.settle(), ["old 1"]);
    rig.append("a.log", "old 2\n");
    rig.append("a.new", "new 1\n");
    rig.rename("a.new", "a.log");
    let mut lines = rig.search();
    lines.sort();
    assert_eq!(lines, ["new 1", "old 2"]);
    assert_eq!(rig.lost(), 0);
}

#[test]
fn hard_links_and_links_are_read_once() {
    let mut rig = Rig::with(|spec| spec.symlinks = true);
    rig.append("a.log", "one\n");
    std::fs::hard_link(rig.path("a.log"), rig.path("b.log")).unwrap();
    std::os::unix::fs::symlink(rig.path("a.log"), rig.path("c.log")).unwrap();
    assert_eq!(rig.settle(), ["one"]);
    rig.append("b.log", "two\n");
    assert_eq!(rig.search(), ["two"]);
    rig.search();
    assert_eq!(rig.harvester.stats().files, 1);
}

#[test]
fn links_are_followed_only_where_they_may_be() {
    for (symlinks, want) in [(false, vec![]), (true, vec!["one"])] {
        let mut rig = Rig::with(|spec| spec.symlinks = symlinks);
        std::fs::write(rig.tmp.path().join("target"), "one\n").unwrap();
        std::os::unix::fs::symlink(rig.tmp.path().join("target"), rig.path("a.log")).unwrap();
        assert_eq!(rig.settle(), want);
    }
}

#[test]
fn what_is_no_file_and_what_is_our_own_is_not_read() {
    let mut rig = Rig::log();
    std::fs::create_dir(rig.path("dir.log")).unwrap();
    let fifo = std::ffi::CString::new(rig.path("fifo.log").to_str().unwrap()).unwrap();
    let made = std::process::Command::new("mkfifo").arg(fifo.to_str().unwrap()).status().unwrap();
    assert!(made.success());
    rig.append("pillion-own.log", "x\n");
    rig.append("a.log", "one\n");
    assert_eq!(rig.settle(), ["one"]);
}

#[test]
fn a_copytruncate_that_grew_beyond_the_old_size_lost_nothing_that_was_read() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\ntwo\n");
    assert_eq!(rig.settle(), ["one", "two"]);
    rig.truncate("a.log", 0);
    rig.append("a.log", "three\nfour\nfive\n");
    assert_eq!(rig.search(), ["three", "four", "five"]);
    assert_eq!(rig.lost(), 0);
}

#[test]
fn what_waited_and_was_seen_is_lost_by_a_copytruncate() {
    let mut rig = Rig::log();
    rig.append("a.log", "one\n");
    rig.settle();
    // Two looks while the queue is full, then a truncation.
    for line in ["two\n", "three\n"] {
        rig.append("a.log", line);
        rig.advance(Duration::from_secs(11));
        rig.settle_with(Budget { bytes: 0, events: 0 });
    }
    rig.truncate("a.log", 0);
    rig.append("a.log", "six\n");
    assert_eq!(rig.search(), ["six"]);
    assert_eq!(rig.lost(), 10);
}

#[test]
fn a_touched_file_is_sent_again_where_that_is_wanted() {
    let touch = |rig: &Rig, seconds| {
        let later = std::time::SystemTime::now() + Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(rig.path("a.log")).unwrap().set_modified(later).unwrap();
    };
    for (resends, fingerprint) in [(true, false), (true, true), (false, false)] {
        let mut rig = Rig::with(|spec| {
            spec.resend_on_touch = resends;
            if fingerprint {
                spec.identity = Identity::Fingerprint { offset: 0, length: 64, growing: true };
            }
        });
        rig.append("a.log", "one\ntwo\nhalf");
        assert_eq!(rig.settle(), ["one", "two"]);
        rig.ack();
        touch(&rig, 5);
        let again: &[&str] = if resends { &["one", "two"] } else { &[] };
        assert_eq!(rig.search(), again, "{resends} {fingerprint}");
        assert_eq!(rig.search(), NONE);
        let ids: std::collections::HashSet<_> = rig.batches.iter().map(|b| b.source.incarnation).collect();
        rig.ack();
        rig.append("a.log", " a line\n");
        touch(&rig, 9);
        assert_eq!(rig.search(), ["half a line"]);
        assert!(rig.batches.iter().all(|b| ids.is_empty() || ids.contains(&b.source.incarnation)));
        assert_eq!(rig.lost(), 0);
    }
}

/// A file that is read, closed and has lost its name lies there as a quiet one until a search has shown what became of it.
#[test]
fn a_quiet_file_without_a_name_comes_back_or_is_forgotten() {
    let mut rig = Rig::log();
    // One descriptor that is in use, so that all others are closed.
    rig.limits.descriptors = 2;
    rig.restart();
    for name in ["away.log", "back.log", "there.log", "x.log", "y.log"] {
        rig.append(name, "one\n");
    }
    assert_eq!(rig.settle().len(), 5);
    rig.ack();
    rig.search();
    let known = rig.harvester.stats().files;
    std::fs::rename(rig.path("back.log"), rig.tmp.path().join("elsewhere")).unwrap();
    rig.remove("away.log");
    rig.rename("there.log", "there.log.1");
    // Each step follows a hint: the search that they ask for hasn't begun.
    for name in ["away.log", "back.log", "there.log"] {
        rig.harvester.hint(Hint::Path(rig.path(name)));
        rig.harvester.step(Budget::UNLIMITED);
    }
    assert_eq!(rig.harvester.accounts().iter().filter(|f| f.gone).count(), 3);
    std::fs::rename(rig.tmp.path().join("elsewhere"), rig.path("back.log")).unwrap();
    rig.append("there.log.1", "two\n");
    let mut lines = rig.search();
    lines.extend(rig.search());
    assert_eq!(lines, ["two"], "none is read again");
    rig.ack();
    rig.search();
    assert_eq!((rig.harvester.stats().files, rig.lost()), (known - 1, 0), "what was deleted is forgotten");
    assert_eq!(rig.registry.len(), known - 1);
    rig.append("back.log", "three\n");
    assert_eq!(rig.search(), ["three"]);
}

/// Copies a file and cuts it off, told by a hint, so many steps into a search: of another input, or of its own.
fn copytruncate_after(steps: usize, others: bool) -> (Vec<String>, u64) {
    let mut rig = Rig::fingerprint(true);
    let long = "a line that is longer than the fingerprint, which is made of sixty-four bytes";
    rig.append("a.log", format!("{long}\ntwo\n"));
    for n in 0..100 {
        let kind = if others { "txt" } else { "log" };
        rig.append(&format!("{n}.{kind}"), format!("{n} {}", "x".repeat(80)));
    }
    if others {
        let paths = vec![Glob::new(rig.path("*.txt").as_os_str(), true).unwrap()];
        let other = InputSpec { paths, scan_every: Duration::from_secs(3), ..rig.specs[0].clone() };
        rig.harvester.add(other).unwrap();
    }
    rig.settle();
    rig.harvester.watched(&rig.path(""), true);
    rig.settle();
    rig.advance(Duration::from_secs(600));
    rig.settle();
    rig.advance(Duration::from_secs(if others { 4 } else { 11 }));
    for _ in 0..steps {
        rig.harvester.step(Budget::UNLIMITED);
    }
    rig.append("a.log", "three\n");
    std::fs::copy(rig.path("a.log"), rig.path("a.log.1")).unwrap();
    rig.truncate("a.log", 0);
    rig.append("a.log", "new\n");
    rig.harvester.hint(Hint::Path(rig.path("a.log")));
    let mut seen = rig.settle();
    seen.extend(rig.search());
    (seen, rig.lost())
}

#[test]
fn a_copytruncate_in_the_midst_of_any_search_repeats_nothing() {
    for (steps, others) in (0..40).map(|steps| (steps, steps < 8)) {
        let (mut seen, lost) = copytruncate_after(steps, others);
        seen.sort();
        assert_eq!((seen, lost), (vec!["new".to_owned(), "three".to_owned()], 0), "{steps} {others}");
    }
}

/// The next search is an hour away: the drain's own search, and the descriptor, tell all the same.
#[test]
fn a_deleted_file_is_read_or_counted_at_the_drain_however_far_the_next_search_is() {
    let nothing = Budget { bytes: 0, events: 0 };
    for opened in [true, false] {
        for hinted in [true, false] {
            let mut rig = Rig::with(|spec| spec.scan_every = Duration::from_secs(3600));
            rig.append("a.log", "one\n");
            assert_eq!(rig.settle(), ["one"]);
            rig.ack();
            if !opened {
                rig.advance(Duration::from_secs(600));
                rig.settle();
            }
            assert_eq!(rig.harvester.stats().open, usize::from(opened));
            rig.append("a.log", "two\nhalf");
            if opened {
                rig.harvester.hint(Hint::Path(rig.path("a.log")));
                rig.settle_with(nothing);
            }
            rig.remove("a.log");
            if hinted {
                rig.harvester.hint(Hint::Path(rig.path("a.log")));
                rig.settle_with(nothing);
            }
            let (lines, what) = (rig.drain(), format!("opened: {opened}, hinted: {hinted}"));
            // Of a file that nobody has open, and whose new bytes nobody saw, nothing is known to be lost.
            let read: &[&str] = if opened { &["two", "half"] } else { &[] };
            assert_eq!((lines, rig.lost()), (read.iter().map(|l| (*l).to_owned()).collect(), 0), "{what}");
        }
    }
    // Seen, not open, and gone: that is a loss.
    let mut rig = Rig::with(|spec| spec.scan_every = Duration::from_secs(3600));
    rig.limits.descriptors = 2;
    rig.restart();
    ["a", "b", "c", "d"].iter().for_each(|name| rig.append(&format!("{name}.log"), "text\n"));
    rig.settle_with(nothing);
    assert_eq!((rig.harvester.stats().unread, rig.harvester.stats().open), (20, 2));
    ["a", "b", "c", "d"].iter().for_each(|name| rig.remove(&format!("{name}.log")));
    assert_eq!((rig.drain(), rig.lost()), (vec!["text".to_owned(), "text".to_owned()], 10));
}
