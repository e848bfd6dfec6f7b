//! The receipt: the proof of what a run delivered.
//!
//! Comes in: the accounts, what is read and not acknowledged, how the drain ended. Goes out: one log line
//! ([`Receipt::line`]), a JSON document ([`Receipt::json`]) and a message for the pod's status
//! ([`Receipt::termination_message`]).
//!
//! Always holds: the verdict comes first in each form. It is `complete` only when everything that was there is read and
//! acknowledged, and nothing was dropped, dead-lettered or lost. It holds paths, types, field names and counts, never
//! values, credentials or headers. The message is at most [`TERMINATION_MESSAGE_MAX`] bytes.
//!
//! Tested below.

use std::fmt::Write as _;

use pillion_event::{Drop, DropKind};
use pillion_world::{UnixMillis, rfc3339};
use serde_json::{Map, Value, json};

use crate::account::{Accounts, Counts, FileAccount};
use crate::ack::Unacked;
use crate::drain::{Cause, Phase};
use crate::ledger::InQueue;

/// Bytes of the termination message. Kubernetes takes 4,096 for a container, 12 KiB for all of a pod; 1 KiB leaves room
/// for the others.
pub const TERMINATION_MESSAGE_MAX: usize = 1024;

/// Files named in the JSON form; those that aren't complete come first.
pub const MAX_FILES: usize = 10_000;

/// Whether everything was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was there is delivered.
    Complete,
    /// Something is not; the receipt says what.
    Incomplete,
}

impl Verdict {
    /// `complete` or `incomplete`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Complete => "complete",
            Verdict::Incomplete => "incomplete",
        }
    }
}

/// A part of a file that was there and wasn't read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The file's path.
    pub path: String,
    /// The first byte that wasn't read.
    pub from: u64,
    /// The first byte behind the file as it was last seen.
    pub to: u64,
}

/// Everything that the receipt says.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Pillion's version.
    pub version: &'static str,
    /// The agent's id.
    pub agent_id: String,
    /// The phase in which it was written; only a final one is a final receipt.
    pub phase: Phase,
    /// What started the drain.
    pub cause: Option<Cause>,
    /// Whether "stop now" ended it.
    pub stopped: bool,
    /// Start of the run, and of this receipt: milliseconds since 1970.
    pub started_ms: i64,
    /// When this receipt was written.
    pub written_ms: i64,
    /// How long the drain took so far, ms.
    pub drain_ms: u64,
    /// The accounts.
    pub accounts: Accounts,
    /// What is read and not acknowledged.
    pub unacked: Vec<Unacked>,
    /// What is there and not read.
    pub unread: Vec<Unread>,
    /// What may not be looked at, so that it isn't known whether there is something to read: the first paths, and how many more.
    pub unseen: (Vec<String>, u64),
    /// The registry couldn't be written: the next run sends again what this one delivered.
    pub registry_error: Option<String>,
    /// Events weren't sent since the registry couldn't be written (`exactly_once`).
    pub held_back: bool,
    /// What the disk queue holds, where there is one.
    pub queue: Option<InQueue>,
    /// The last error of the target, without values.
    pub target_error: Option<String>,
    /// Whether a later run on the same data path goes on where this one ended (a lasting volume).
    pub resumable: bool,
}

impl Receipt {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        let c = self.accounts.totals();
        let clean = c.dropped == 0 && c.dead_lettered == 0 && c.lost() == 0 && c.unacked() == 0;
        if self.phase == Phase::Committed && clean && self.unacked.is_empty() && self.is_all_read() {
            Verdict::Complete
        } else {
            Verdict::Incomplete
        }
    }

    fn is_all_read(&self) -> bool {
        self.unread.is_empty() && self.unseen() == 0
    }

    fn unseen(&self) -> u64 {
        self.unseen.0.len() as u64 + self.unseen.1
    }

    fn reasons(&self) -> Vec<String> {
        let c = self.accounts.totals();
        let mut reasons = Vec::new();
        match self.phase {
            Phase::Committed => {}
            Phase::TimedOut if self.stopped => reasons.push("stopped by a second signal".to_owned()),
            Phase::TimedOut => reasons.push("the time for the drain was up".to_owned()),
            phase => reasons.push(format!("still {phase}")),
        }
        let mut count = |n: u64, what: &str| {
            if n > 0 {
                reasons.push(format!("{n} {what}"));
            }
        };
        let queued = self.queue.as_ref().map_or(0, |queue| queue.events).min(c.unacked());
        count(c.unacked() - queued, "events read and not acknowledged");
        count(queued, "events in the disk queue and not acknowledged: the next run on it sends them first");
        count(self.unread_bytes(), "bytes not read");
        count(self.unseen(), "folders or files that may not be looked at");
        count(c.dropped, "events refused by the target");
        count(c.dead_lettered, "events refused by the target and kept as dead letters");
        count(c.lost_bytes, "bytes destroyed before they could be read");
        count(c.lost_datagrams, "datagrams that the kernel dropped");
        count(c.cut_off_senders, "senders cut off while they were sending");
        count(c.lost_events, "events lost in the disk queue, whose files are damaged");
        if let Some(error) = self.queue.as_ref().and_then(|queue| queue.error.as_ref()) {
            reasons.push(format!("the disk queue can't be written: {error}"));
        }
        if self.held_back && self.queue.is_some() {
            reasons.push("the registry can't be written, and nothing is queued before it is".to_owned());
        } else if self.held_back {
            reasons.push("the registry can't be written, and exactly_once sends nothing before it is".to_owned());
        } else if self.registry_error.is_some() {
            reasons.push("the registry can't be written".to_owned());
        }
        reasons
    }

    fn unread_bytes(&self) -> u64 {
        self.unread.iter().map(|u| u.to.saturating_sub(u.from)).sum()
    }

    /// One line for the log.
    pub fn line(&self) -> String {
        let c = self.accounts.totals();
        let mut s = format!(
            "receipt: {}; {} events of {} bytes from {} files, {} acknowledged",
            self.verdict().as_str(),
            c.events,
            c.bytes,
            self.accounts.len() as u64 + self.accounts.omitted(),
            c.acked
        );
        if c.carried > 0 {
            let _ = write!(s, " ({} of the events were in the disk queue at the start)", c.carried);
        }
        if c.duplicates > 0 {
            let _ = write!(s, " ({} of them were there already)", c.duplicates);
        }
        if c.filtered > 0 {
            let _ = write!(s, ", {} more left out by the configuration", c.filtered);
        }
        if c.rate_limited > 0 {
            let _ = write!(s, ", {} more dropped by rate_limit", c.rate_limited);
        }
        if c.cut_messages > 0 {
            let _ = write!(s, ", {} messages cut to max_message_size", c.cut_messages);
        }
        if c.handed_over > 0 {
            let _ = write!(s, ", {} handed over to other replicas (the target may have got them twice)", c.handed_over);
        }
        for reason in self.reasons() {
            s.push_str("; ");
            s.push_str(&reason);
        }
        if let Some(cause) = &self.cause {
            let _ = write!(s, "; drain by {} took {} ms", cause.as_str(), self.drain_ms);
            if let Some(code) = cause.work_exit_code() {
                let _ = write!(s, "; the work's exit code was {code}");
            }
        }
        s
    }

    /// For `/dev/termination-log`: the verdict first, then what fits.
    pub fn termination_message(&self) -> String {
        let mut s = format!("pillion: {}\n", self.line().trim_start_matches("receipt: "));
        let mut add = |line: String| {
            if s.len() + line.len() < TERMINATION_MESSAGE_MAX - 16 {
                s.push_str(&line);
            } else if !s.ends_with("…\n") {
                s.push_str("…\n");
            }
        };
        if let Some(e) = &self.target_error {
            add(format!("target: {}\n", cut(e, 200)));
        }
        for u in &self.unacked {
            let what = if u.queued { "queued, not acknowledged" } else { "not acknowledged" };
            add(format!("{what}: {} {}-{} ({} events)\n", u.path, u.from, u.to, u.events));
        }
        for u in &self.unread {
            add(format!("not read: {} {}-{}\n", u.path, u.from, u.to));
        }
        for path in &self.unseen.0 {
            add(format!("not looked at: {path} (permission denied)\n"));
        }
        for (path, file) in self.accounts.files() {
            for ((why, _), d) in file.drops() {
                add(format!("refused: {path} {} events, {}\n", d.count, reason(why)));
            }
        }
        cut(&s, TERMINATION_MESSAGE_MAX).to_owned()
    }

    /// The whole receipt.
    pub fn json(&self) -> Value {
        let mut files: Vec<_> = self.accounts.files().collect();
        files.sort_by(|(path, f), (other, g)| (is_clean(f), path).cmp(&(is_clean(g), other)));
        let named = files.len().min(MAX_FILES);
        let files_json: Vec<Value> = files.iter().take(MAX_FILES).map(|(path, f)| self.file_json(path, f)).collect();
        let ranges = |path: &str, from: u64, to: u64| json!({"path": path, "from": from, "to": to});
        let unread: Vec<_> = self.unread.iter().map(|u| ranges(&u.path, u.from, u.to)).collect();
        json!({
            "verdict": self.verdict().as_str(),
            "reasons": self.reasons(),
            "final": self.phase.is_final(),
            "phase": self.phase.to_string(),
            "cause": self.cause.as_ref().map(Cause::as_str),
            "work_exit_code": self.cause.as_ref().and_then(Cause::work_exit_code),
            "totals": counts_json(self.accounts.totals()),
            "unread": unread,
            "unseen": self.unseen.0,
            "unseen_omitted": self.unseen.1,
            "registry_error": self.registry_error,
            "queue": self.queue.as_ref().map(|q| json!({"events": q.events, "bytes": q.bytes, "error": q.error})),
            "target_error": self.target_error,
            "resumable": self.resumable,
            "started": rfc3339(UnixMillis(self.started_ms)),
            "written": rfc3339(UnixMillis(self.written_ms)),
            "drain_ms": self.drain_ms,
            "agent": {"id": self.agent_id, "version": self.version},
            "files": files_json,
            "files_omitted": self.accounts.omitted() + (files.len() - named) as u64,
        })
    }

    fn file_json(&self, path: &str, file: &FileAccount) -> Value {
        let mut o = Map::new();
        o.insert("path".into(), path.into());
        if let Value::Object(counts) = counts_json(&file.counts()) {
            o.extend(counts);
        }
        let unacked: Vec<Value> = self
            .unacked
            .iter()
            .filter(|u| *u.path == *path)
            .map(|u| json!({"from": u.from, "to": u.to, "events": u.events, "queued": u.queued}))
            .collect();
        if !unacked.is_empty() {
            o.insert("not_acknowledged".into(), unacked.into());
        }
        let refused: Vec<Value> = file
            .drops()
            .iter()
            .map(|((why, dead_lettered), d)| {
                json!({
                    "reason": kind(why.kind),
                    "type": why.type_name,
                    "field": why.field,
                    "dead_lettered": dead_lettered,
                    "events": d.count,
                    "first_ranges": d.ranges,
                })
            })
            .collect();
        if !refused.is_empty() {
            o.insert("refused".into(), refused.into());
        }
        Value::Object(o)
    }
}

fn is_clean(f: &FileAccount) -> bool {
    let counts = f.counts();
    counts.unacked() == 0 && f.drops().is_empty() && counts.lost() == 0
}

fn counts_json(c: &Counts) -> Value {
    json!({
        "bytes": c.bytes,
        "events": c.events,
        "acknowledged": c.acked,
        "duplicates": c.duplicates,
        "dead_lettered": c.dead_lettered,
        "dropped": c.dropped,
        "unacknowledged": c.unacked(),
        "lost_bytes": c.lost_bytes,
        "lost_events": c.lost_events,
        "carried": c.carried,
        "filtered": c.filtered,
        "rate_limited": c.rate_limited,
        "lost_datagrams": c.lost_datagrams,
        "cut_messages": c.cut_messages,
        "cut_off_senders": c.cut_off_senders,
        "handed_over": c.handed_over,
    })
}

fn kind(kind: DropKind) -> String {
    match kind {
        DropKind::Rejected(status) => format!("rejected with status {status}"),
        DropKind::TooLarge => "too large for the target".into(),
        DropKind::IdTaken => "another event has its id".into(),
        DropKind::Unencodable => "can't be written in the target's form".into(),
    }
}

fn reason(why: &Drop) -> String {
    let mut s = kind(why.kind);
    if !why.type_name.is_empty() {
        let _ = write!(s, ", {}", why.type_name);
    }
    if let Some(field) = &why.field {
        let _ = write!(s, ", field {field}");
    }
    s
}

/// At most `max` bytes of `s`, cut between characters.
pub(crate) fn cut(s: &str, max: usize) -> &str {
    s.get(..s.floor_char_boundary(max)).unwrap_or(s)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ack::Books;
    use crate::testing::{batch, source, source_of_life};
    use pillion_event::{Fate, Slice};
    use pillion_queue::Fates;
    use std::sync::Arc;

    fn receipt(books: &Books, phase: Phase) -> Receipt {
        Receipt {
            version: "0.1.0",
            agent_id: "id".into(),
            phase,
            cause: Some(Cause::Flag(Some(3))),
            stopped: false,
            started_ms: 0,
            written_ms: 1000,
            drain_ms: 12,
            accounts: books.accounts().clone(),
            unacked: books.unacked(),
            unread: vec![],
            unseen: Default::default(),
            registry_error: None,
            held_back: false,
            queue: None,
            target_error: None,
            resumable: false,
        }
    }

    /// Of a run that had nothing to do.
    pub(crate) fn empty(phase: Phase) -> Receipt {
        receipt(&Books::default(), phase)
    }

    #[test]
    fn complete_when_all_is_acknowledged() {
        let src = source("/x/a.log");
        let b = batch(&src, 1, 0, &[10, 10]);
        let mut books = Books::default();
        books.accept(&b);
        let open = receipt(&books, Phase::TimedOut);
        assert_eq!(open.verdict(), Verdict::Incomplete);
        assert!(open.line().starts_with("receipt: incomplete; 2 events"));
        assert!(open.termination_message().starts_with("pillion: incomplete; "));
        assert!(open.termination_message().contains("not acknowledged: /x/a.log 0-20 (2 events)"));
        assert_eq!(open.json()["files"][0]["not_acknowledged"][0]["to"], 20);
        books.settle(&Slice { batch: b, events: 0..2 }, &Fates::All(Fate::Acked));
        let r = receipt(&books, Phase::Committed);
        assert_eq!(r.verdict(), Verdict::Complete);
        let json = r.json();
        assert_eq!(json.as_object().unwrap().keys().next().unwrap(), "verdict");
        assert_eq!((&json["verdict"], &json["work_exit_code"]), (&"complete".into(), &3.into()));
        assert_eq!(json["totals"]["acknowledged"], 2);
    }

    #[test]
    fn a_dropped_event_makes_it_incomplete_and_is_named() {
        let src = source("/x/a.log");
        let b = batch(&src, 1, 0, &[10, 10]);
        let mut books = Books::default();
        books.accept(&b);
        let why = Drop { kind: DropKind::Rejected(400), type_name: "mapper".into(), field: Some("n".into()) };
        let fates = Fates::Each(vec![(1, Fate::Dropped(why))], Fate::Acked);
        books.settle(&Slice { batch: b, events: 0..2 }, &fates);
        let r = receipt(&books, Phase::Committed);
        assert_eq!(r.verdict(), Verdict::Incomplete);
        assert!(
            r.termination_message().contains("refused: /x/a.log 1 events, rejected with status 400, mapper, field n")
        );
        assert_eq!(r.json()["files"][0]["refused"][0]["first_ranges"], json!([[10, 20]]));
    }

    #[test]
    fn what_may_not_be_looked_at_makes_it_incomplete_and_is_named() {
        let r = Receipt { unseen: (vec!["/x/private".into()], 2), ..receipt(&Books::default(), Phase::Committed) };
        assert_eq!(r.verdict(), Verdict::Incomplete);
        assert!(r.line().contains("; 3 folders or files that may not be looked at"), "{}", r.line());
        assert!(r.termination_message().contains("not looked at: /x/private (permission denied)"));
        assert_eq!((&r.json()["unseen"], &r.json()["unseen_omitted"]), (&json!(["/x/private"]), &2.into()));
    }

    #[test]
    fn what_was_left_out_as_wanted_is_told_apart_from_what_is_lost() {
        let wanted = Counts { filtered: 1, rate_limited: 2, cut_messages: 3, ..Counts::default() };
        let lost = [
            (Counts { lost_datagrams: 4, ..Counts::default() }, "4 datagrams that the kernel dropped"),
            (Counts { cut_off_senders: 5, ..Counts::default() }, "5 senders cut off while they were sending"),
        ];
        let mut books = Books::default();
        books.accounts_mut().counted("udp://:1", &wanted);
        let r = receipt(&books, Phase::Committed);
        assert_eq!(r.verdict(), Verdict::Complete);
        assert!(
            r.line().contains("1 more left out by the configuration, 2 more dropped by rate_limit, 3 messages cut")
        );
        let totals = &r.json()["totals"];
        assert_eq!([&totals["filtered"], &totals["rate_limited"], &totals["cut_messages"]], [1, 2, 3]);
        for (counts, want) in lost {
            books.accounts_mut().counted("udp://:2", &counts);
            let r = receipt(&books, Phase::Committed);
            assert_eq!((r.verdict(), &r.json()["totals"]["lost_bytes"]), (Verdict::Incomplete, &0.into()));
            assert!(r.line().contains(want), "{}", r.line());
        }
        assert_eq!(receipt(&books, Phase::Committed).json()["files"][0]["path"], "udp://:2");
    }

    #[test]
    fn what_is_queued_is_told_apart_and_makes_it_incomplete() {
        let src = source("/x/a.log");
        let b = batch(&src, 1, 0, &[10, 10]);
        let mut books = Books::default();
        books.accept(&b);
        books.stored(&b);
        let queue = InQueue { events: 2, bytes: 300, limit: 0, error: Some("no space".into()) };
        let r = Receipt { queue: Some(queue), ..receipt(&books, Phase::TimedOut) };
        assert_eq!(r.verdict(), Verdict::Incomplete);
        assert!(r.line().contains("; 2 events in the disk queue and not acknowledged"), "{}", r.line());
        assert!(!r.line().contains("events read and not acknowledged") && r.line().contains("no space"));
        assert!(r.termination_message().contains("queued, not acknowledged: /x/a.log 0-20 (2 events)"));
        let json = r.json();
        assert_eq!((&json["queue"]["events"], &json["queue"]["bytes"]), (&2.into(), &300.into()));
        assert_eq!(json["files"][0]["not_acknowledged"][0]["queued"], true);
        books.lost_in_queue("(disk queue)", 2, Some(&(Arc::clone(&src), 20)));
        let r = receipt(&books, Phase::Committed);
        assert_eq!((r.verdict(), &r.json()["totals"]["lost_events"]), (Verdict::Incomplete, &2.into()));
        assert!(books.all_settled());
    }

    #[test]
    fn the_message_is_bounded() {
        let mut books = Books::default();
        for i in 0..200 {
            let source = source_of_life(&format!("/very/long/päth/of/a/file/{i}.log"), u128::from(i));
            books.accept(&batch(&source, i, 0, &[10]));
        }
        let message = receipt(&books, Phase::TimedOut).termination_message();
        assert!(message.len() <= TERMINATION_MESSAGE_MAX && message.ends_with("…\n"), "{message}");
    }
}
