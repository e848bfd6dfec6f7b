//! Scenarios as written, each with a crash of either kind in the middle of any step of the file system.
//!
//! None of them loses or doubles a line. What an application destroys is destroyed only after it was acknowledged here,
//! or not at all.
#![allow(clippy::panic, reason = "a broken promise fails the test")]

use std::time::Duration;

use pillion_sim::run::{Act, Habits, Identity, Plan, play};
use pillion_sim::world::{Crash, Faults};

use Act::{
    CopyTruncate, CopyTruncateWithin, Delete, Kill, PowerFails, Read, Register, Rotate, Send, SendUnanswered, Wait,
    Write, WritePart,
};

const SECOND: Duration = Duration::from_secs(1);
/// From when a run begins (18:40) to behind midnight.
const PAST_MIDNIGHT: Duration = Duration::from_secs(6 * 3600);

/// Two lines of the same length each time: offsets repeat.
#[rustfmt::skip]
const COPYTRUNCATE: &[Act] = &[
    Write("a.log", 2), Read, Register, Send, Register,
    CopyTruncate("a.log"), Write("a.log", 2), Wait(SECOND), Read, Register, SendUnanswered,
];

/// The same while nobody looks.
#[rustfmt::skip]
const COPYTRUNCATE_UNSEEN: &[Act] = &[
    Write("a.log", 2), Read, Register, Send, Register, Kill,
    CopyTruncate("a.log"), Write("a.log", 3), Read, Register, SendUnanswered, Kill, Read,
];

/// A new file with the inode of a deleted one, under its name and under another.
#[rustfmt::skip]
const INODE_REUSED: &[Act] = &[
    Write("a.log", 3), Read, Register, Send, Register,
    Delete("a.log"), Write("a.log", 3), Wait(SECOND), Read, Register, Send, Register,
    Delete("a.log"), Write("b.log", 4), Wait(SECOND), Read, Register, SendUnanswered,
];

/// The same while nobody looks.
#[rustfmt::skip]
const INODE_REUSED_UNSEEN: &[Act] = &[
    Write("a.log", 3), Read, Register, Send, Register, PowerFails,
    Delete("a.log"), Write("a.log", 4), Read, Register, SendUnanswered,
];

/// Sent before midnight, sent again behind it: the same index, since the read time is the same.
#[rustfmt::skip]
const MIDNIGHT: &[Act] = &[
    Write("a.log", 3), Read, Register, SendUnanswered, Wait(PAST_MIDNIGHT), Kill, Read, Register, SendUnanswered,
    Write("a.log", 1), Wait(PAST_MIDNIGHT), PowerFails, Read,
];

/// Rotated by renaming, with lines that come in between and a last one without an end.
#[rustfmt::skip]
const ROTATED: &[Act] = &[
    Write("a.log", 2), Read, Register, SendUnanswered, Rotate("a.log"), Write("a.log", 2), Wait(SECOND), Read, Register,
    Send, WritePart("a.log"), Rotate("a.log"), WritePart("a.log"), Wait(SECOND), Read, Register, Kill, Write("a.log", 1),
];

/// Copied to where it is read, too: with fingerprints the copy goes on, nothing is read twice.
#[rustfmt::skip]
const COPIED_WITHIN: &[Act] = &[
    Write("a.log", 6), Read, Register, Send, Register, Write("a.log", 2),
    CopyTruncateWithin("a.log"), Write("a.log", 3), Wait(SECOND), Read, Register, SendUnanswered,
];

/// In each call.
const ALWAYS_SO: u32 = 10_000;
const OLD_SIZES: Act = Act::Faults(Faults { stale_size: ALWAYS_SO, ..Faults::NONE });
const SIZES_AHEAD: Act = Act::Faults(Faults { size_ahead: ALWAYS_SO, ..Faults::NONE });
const OLD_NAMES: Act = Act::Faults(Faults { stale_name: ALWAYS_SO, ..Faults::NONE });
const OLD_LISTINGS: Act = Act::Faults(Faults { stale_dir: ALWAYS_SO, ..Faults::NONE });
const STALE: Act = Act::Faults(Faults { stale_handle: ALWAYS_SO, ..Faults::NONE });
const FORGOTTEN: Act = Act::Faults(Faults { forgotten: ALWAYS_SO, ..Faults::NONE });
const TRUTH: Act = Act::Faults(Faults::NONE);

/// All sizes that a cache tells are smaller than what was read, to the end of the drain.
#[rustfmt::skip]
const SMALLER_SIZES: &[Act] = &[
    Write("a.log", 3), Write("a.log", 2), Read, Register, Send, Register, OLD_SIZES, Read, Wait(SECOND), Read,
    Write("a.log", 1), Wait(SECOND), Read, Register, SendUnanswered, Write("a.log", 2),
];

/// All sizes are ahead of the data, to the end of the drain: an unfinished line isn't cut at them.
#[rustfmt::skip]
const SIZES_BEFORE_DATA: &[Act] = &[
    SIZES_AHEAD, Write("a.log", 2), Read, Wait(SECOND), Read, Register, Send, Register,
    WritePart("a.log"), Wait(SECOND), Read, Register, SendUnanswered, Write("a.log", 1),
];

/// After a rotation both names lead to what they led to before, to the end of the drain.
#[rustfmt::skip]
const OLD_INODE_FOR_NEW_FILE: &[Act] = &[
    Write("a.log", 3), Read, Register, Send, Register, OLD_NAMES, Write("a.log", 2), Rotate("a.log"), Write("a.log", 2),
    Wait(SECOND), Read, Register, SendUnanswered, Rotate("a.log"), Write("a.log", 1),
];

/// A file that comes just before the drain isn't in an old listing, and a rotated one is in it under its old name.
#[rustfmt::skip]
const OLD_LISTING_AT_DRAIN: &[Act] = &[
    Write("a.log", 2), Read, Register, Send, Register, OLD_LISTINGS, Rotate("a.log"), Wait(SECOND), Read,
    Write("b.log", 2), Write("a.log", 1),
];

/// Open files become stale while they have something to read; their names lead to them still, or to others.
#[rustfmt::skip]
const STALE_DESCRIPTORS: &[Act] = &[
    Write("a.log", 2), Write("b.log", 2), Read, Register, Send, Register, Write("a.log", 2), Write("b.log", 1), STALE,
    Wait(SECOND), Read, Rotate("b.log"), Write("b.log", 1), Read, TRUTH, Wait(SECOND), Read, Register, SendUnanswered,
];

/// The server forgets a file that is open when it is deleted, and uses its inode again, under its name and another.
#[rustfmt::skip]
const FORGOTTEN_BY_SERVER: &[Act] = &[
    Write("a.log", 3), Read, Register, Send, Register, FORGOTTEN,
    Delete("a.log"), Write("a.log", 3), Wait(SECOND), Read, Register, Send, Register,
    Delete("a.log"), Write("b.log", 4), Wait(SECOND), Read, Register, SendUnanswered,
];

fn check(name: &str, acts: &[Act], plan: Plan) {
    let steps = play(plan, acts, None).unwrap_or_else(|f| panic!("{name}, no crash: {f}")).fs_steps;
    for how in [Crash::Process, Crash::Machine] {
        for step in 1..=steps {
            play(plan, acts, Some((step, how))).unwrap_or_else(|f| panic!("{name}, {how:?} at step {step}: {f}"));
        }
    }
}

fn plan(identity: Identity, groups: bool) -> Plan {
    Plan {
        identity,
        exactly_once: true,
        habits: Habits { gentle: false, fixed_lines: !groups, groups, renames: false },
        ..Plan::calm(1)
    }
}

/// What holds whatever tells files apart.
const ALWAYS: [(&str, &[Act]); 6] = [
    ("copytruncate", COPYTRUNCATE),
    ("copytruncate unseen", COPYTRUNCATE_UNSEEN),
    ("inode reused", INODE_REUSED),
    ("inode reused unseen", INODE_REUSED_UNSEEN),
    ("midnight", MIDNIGHT),
    ("rotated", ROTATED),
];

fn check_all(identity: Identity, groups: bool) {
    for (name, acts) in ALWAYS {
        check(name, acts, plan(identity, groups));
    }
}

#[test]
fn no_line_is_lost_or_doubled_with_inodes() {
    check_all(Identity::Native, false);
}

#[test]
fn no_group_is_lost_or_doubled_with_inodes() {
    check_all(Identity::Native, true);
}

#[test]
fn no_line_is_lost_or_doubled_with_fingerprints() {
    check_all(Identity::Fingerprint, false);
    check("copied within", COPIED_WITHIN, plan(Identity::Fingerprint, false));
}

#[test]
fn no_group_is_lost_or_doubled_with_fingerprints() {
    check_all(Identity::Fingerprint, true);
}

/// What a network file system's caches say, at its worst.
const LIES: [(&str, &[Act]); 6] = [
    ("smaller sizes", SMALLER_SIZES),
    ("sizes before data", SIZES_BEFORE_DATA),
    ("old inode for a new file", OLD_INODE_FOR_NEW_FILE),
    ("old listing at the drain", OLD_LISTING_AT_DRAIN),
    ("stale descriptors", STALE_DESCRIPTORS),
    ("forgotten by the server", FORGOTTEN_BY_SERVER),
];

fn check_lies(identity: Identity) {
    let plan = Plan { network: true, ..plan(identity, false) };
    for (name, acts) in LIES {
        check(&format!("{name}, {identity:?}"), acts, plan);
    }
}

#[test]
fn no_line_is_lost_or_doubled_where_caches_lie_with_inodes() {
    check_lies(Identity::Native);
}

#[test]
fn no_line_is_lost_or_doubled_where_caches_lie_with_fingerprints() {
    check_lies(Identity::Fingerprint);
}

#[test]
fn no_line_is_lost_or_doubled_where_births_are_not_told() {
    for (name, acts) in ALWAYS {
        check(&format!("{name}, network"), acts, Plan { network: true, ..plan(Identity::Native, false) });
    }
}
