//! Scenarios as written, each with a crash of either kind in the middle of any step of the file system.
//!
//! None of them loses or doubles a line. What an application destroys is destroyed only after it was acknowledged here,
//! or not at all.
#![allow(clippy::panic, reason = "a broken promise fails the test")]

use std::time::Duration;

use pillion_sim::run::{Act, Habits, Identity, Plan, play};
use pillion_sim::world::Crash;

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
        habits: Habits { gentle: false, fixed_lines: !groups, groups },
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
