//! `cargo xtask bench shared`: very many pods write very many files into one shared folder, and one central shipper is
//! killed midway.
//!
//! Comes in: how many pods, files and lines, and which rows. Goes out, for each row: how long the work and the delivery took,
//! how many files had been seen when the work ended, what a real Elasticsearch counts in the end: missing lines, doubled
//! ones, files that lack some; memory, processor time, requests to the API server. As text, and into a file.
//! Always holds: all pods write at the same time, which a gate sees to; a central shipper is killed when half of the lines are
//! there; of Pillion a missing or doubled line is an error. Filebeat's are only told.
//!
//! The cases `replicas-…` of `cargo xtask e2e kubernetes` are here too: [`cases`].

mod cases;
mod count;
mod door;
mod folder;
mod replicas;
mod row;
mod traffic;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(super) use cases::Shared;
use count::Found;
use folder::{Folder, Side};
use row::Row;

use super::surge::gauge::{self, Gauge, Memory};
use super::surge::{self, keda, ride};
use super::{Node, Rig, api, example, look, pods};
use crate::args::Args;
use crate::servers::{Kind, Server};
use crate::{Outcome, image, root};

/// The server that counts. Filebeat 7.17 speaks to it through a [`door`].
const SERVER: Kind = Kind::Elasticsearch7;
/// A row ends when everything is there, or nothing has come for so long.
const QUIET: Duration = Duration::from_secs(240);
/// A row's longest time.
const LIMIT: Duration = Duration::from_secs(900);
/// How long more is waited for what comes twice.
const MORE: Duration = Duration::from_secs(5);
/// How often the server is asked.
const LOOK: Duration = Duration::from_millis(500);
/// In how many parts each file is written, a second apart.
const ROUNDS: usize = 10;

/// How much is written.
#[derive(Clone, Copy, Debug)]
struct Size {
    pods: usize,
    /// Of all pods together.
    files: usize,
    /// Of each file.
    lines: usize,
}

impl Size {
    fn all(self) -> usize {
        self.files * self.lines
    }
}

/// What one row took. Times are seconds since the pods began to write.
#[derive(Default)]
struct Measured {
    killed: Option<f64>,
    /// When the work had ended: with sidecars, their delivery too.
    worked: f64,
    /// Files seen by then.
    files: u64,
    /// When the last line came.
    arrived: f64,
    /// What happened, in order.
    told: Vec<String>,
}

/// `--pods N` (200), `--files N` (5,000), `--lines N` (200), `--only NAME,NAME`, `--out FILE`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let size = Size {
        pods: args.number("--pods", 200)?,
        files: args.number("--files", 5000)?,
        lines: args.number("--lines", 200)?,
    };
    let out = args.value("--out")?.map_or_else(|| root().join("target/shared.md"), PathBuf::from);
    let rows = chosen(args.value("--only")?.as_deref())?;
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    if size.pods == 0 || !size.files.is_multiple_of(size.pods) || size.lines == 0 {
        return Err("each pod writes as many files as the others, and no file is empty".into());
    }
    super::ready()?;
    let schema = keda::schema("scaledjobs")?;
    SERVER.ready()?;
    let peer = if rows.iter().any(|r| r.is_filebeat()) { vec![image::filebeat(ride::FILEBEAT)?] } else { Vec::new() };
    let rig = Rig::with(false, &peer)?;
    surge::know(&rig, &schema)?;
    let hosts = format!("http.bind_host=127.0.0.1,{}", Node::ADDRESS);
    let server = Server::start(SERVER, &[&hosts, "http.publish_host=127.0.0.1"])?;
    let mut text = head(size);
    print!("{text}");
    let (mut story, mut failed) = (String::new(), Vec::new());
    for row in rows {
        let (line, told) = one(&rig, &server, row, size).unwrap_or_else(|why| {
            failed.push(row.name());
            (format!("| {} | failed: {} |\n", row.title(), why.lines().next().unwrap_or_default()), why)
        });
        print!("{line}");
        text.push_str(&line);
        story.push_str(&format!("\n{}:\n{told}\n", row.name()));
        let all = format!("{text}\nHow it went, in seconds since the pods began to write:\n```{story}```\n");
        fs::write(&out, &all).map_err(|e| format!("{}: {e}", out.display()))?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}: see {}", failed.join(", "), out.display())) }
}

fn chosen(only: Option<&str>) -> Outcome<Vec<Row>> {
    let Some(only) = only else { return Ok(Row::ALL.to_vec()) };
    let one = |name: &str| {
        Row::ALL.into_iter().find(|r| r.name() == name).ok_or_else(|| {
            let all: Vec<String> = Row::ALL.into_iter().map(Row::name).collect();
            format!("there is no row {name}: {}", all.join(", "))
        })
    };
    only.split(',').map(one).collect()
}

fn head(size: Size) -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{} Jobs at once of a ScaledJob (the schema of KEDA {}) write {} files of {} lines, {} lines in all, within {ROUNDS} s; one \
         node on {cpus} processors, which are the server's too (load before: {}).\n\n\
         | who ships | one shipper killed after | the work ended after | files seen by then | the last line came after | documents \
         | lines missing | doubled | files that lack lines | memory, at most: all / one | CPU of all pods | API requests by \
         shippers |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        size.pods,
        keda::VERSION,
        size.files,
        size.lines,
        size.all(),
        surge::load(),
    )
}

/// Runs a row; its line of the table, and what happened.
fn one(rig: &Rig, server: &Server, row: Row, size: Size) -> Outcome<(String, String)> {
    count::make(server, &row.index())?;
    let folder = Folder::mount(&rig.node, &row.name())?;
    let seen = ship(rig, server, row, size, &folder);
    // The next row has the node for itself, whatever became of this one.
    for namespace in [row.work(), row.shippers()] {
        if api::get(&format!("/api/v1/namespaces/{namespace}")).is_ok() {
            surge::delete(&namespace)?;
        }
    }
    seen
}

fn ship(rig: &Rig, server: &Server, row: Row, size: Size, folder: &Folder) -> Outcome<(String, String)> {
    let port = if row.is_filebeat() { door::open(server.port())? } else { server.port() };
    row.begin(rig, folder, port)?;
    example::namespace(&row.work(), "restricted")?;
    folder.claim(&row.work(), Side::Writers)?;
    surge::apply(rig, &row.work(), &row.manifest(rig, server.port())?, &work(size))?;
    let mut gauge = Gauge::new(row.program());
    surge::gather(rig, &row.work(), size.pods, || gauge.look())?;
    let cpu = gauge::cpu();
    let measured = follow(rig, server, row, size, &mut gauge)?;
    let cpu = gauge::cpu() - cpu;
    let requests = gauge::requests(rig, &row.shippers());
    let found = count::found(server, &row.index(), size.files, size.lines)?;
    let line = told(row, size, &measured, &found, gauge.most, cpu, requests);
    let story = measured.told.join("\n");
    if row.is_filebeat() && found.documents == 0 {
        return Err(format!("Filebeat ships nothing at all\n{}", look::look(&rig.node, &row.shippers())));
    }
    if row.is_filebeat() || row == Row::Nobody || (found.lines, found.documents) == (size.all(), size.all()) {
        return Ok((line, story));
    }
    Err(format!("{line}{story}\n{}", look::look(&rig.node, &row.shippers())))
}

fn told(row: Row, size: Size, took: &Measured, found: &Found, memory: Memory, cpu: f64, requests: usize) -> String {
    if row == Row::Nobody {
        return format!(
            "| {} | – | {:.0} s | – | – | – | – | – | – | – | {cpu:.0} s | – |\n",
            row.title(),
            took.worked
        );
    }
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "| {} | {} | {:.0} s | {} | {:.0} s | {} | {} | {} | {} | {:.0} MB of {} / {:.1} MB | {cpu:.0} s | {requests} |\n",
        row.title(),
        took.killed.map_or_else(|| "–".to_owned(), |at| format!("{at:.0} s")),
        took.worked,
        took.files,
        took.arrived,
        found.documents,
        size.all() - found.lines,
        found.documents - found.lines,
        found.short,
        megabytes(memory.all.0),
        memory.all.1,
        megabytes(memory.one),
    )
}

/// From the moment that all pods write until everything has arrived, or nothing comes any more.
fn follow(rig: &Rig, server: &Server, row: Row, size: Size, gauge: &mut Gauge) -> Outcome<Measured> {
    let (begin, mut took) = (Instant::now(), Measured::default());
    let (mut count, mut changed, mut complete) = (0, begin, 0);
    let (mut next, mut jobs) = (Duration::ZERO, Duration::ZERO);
    let said = |now: f64, what: &str| format!("  {now:6.1}  {what}");
    while begin.elapsed() < LIMIT {
        let now = begin.elapsed().as_secs_f64();
        let before = std::mem::replace(&mut count, count::documents(server, &row.index())?);
        if count != before {
            (changed, took.arrived) = (Instant::now(), now);
        }
        if begin.elapsed() >= next {
            next += Duration::from_secs(10);
            took.told.push(said(now, &format!("{count} documents")));
        }
        if row.is_hurt() && took.killed.is_none() && count * 2 >= size.all() {
            took.told.push(said(now, &format!("{count} documents: SIGKILL to {}", kill(row)?)));
            took.killed = Some(now);
        }
        if complete < size.pods && begin.elapsed() >= jobs {
            jobs += Duration::from_secs(2);
            complete = surge::completed(&row.work())?;
            if complete == size.pods {
                (took.worked, took.files) = (now, count::files(server, &row.index())?);
                took.told.push(said(now, &format!("all Jobs are complete, {} files seen", took.files)));
            }
        }
        let done = complete == size.pods;
        if done
            && ((count >= size.all() && changed.elapsed() > MORE) || changed.elapsed() > QUIET || row == Row::Nobody)
        {
            took.told.push(said(took.arrived, &format!("{count} documents: the last one came")));
            if count < size.all() && row != Row::Nobody {
                println!("{}", look::look(&rig.node, &row.shippers()));
            }
            return Ok(took);
        }
        gauge.look();
        std::thread::sleep(LOOK);
    }
    let why = format!("{complete} of {} Jobs are complete, {count} of {} lines there", size.pods, size.all());
    Err(format!("{why}\n{}{}", took.told.join("\n"), look::look(&rig.node, &row.work())))
}

/// Kills a shipper, any; gives its pod's name.
fn kill(row: Row) -> Outcome<String> {
    let container = row.program();
    for pod in pods::all(&row.shippers())? {
        if !pods::processes(&pod, container).is_empty() {
            pods::kill(&pod, container)?;
            return Ok(pods::name(&pod).to_owned());
        }
    }
    Err(format!("no shipper runs in {}", row.shippers()))
}

/// The work of one pod: it waits for all others, then all its files grow in turn.
fn work(size: Size) -> String {
    let script = format!(
        "BEGIN {{ for (r = 0; r < {ROUNDS}; r++) {{ for (f = 1; f <= {files}; f++) {{ file = \"/data/\" host \"-\" f \".log\"; \
         for (i = int(r * {lines} / {ROUNDS}) + 1; i <= int((r + 1) * {lines} / {ROUNDS}); i++) \
         print host, f, i, \"was written by one of very many pods into one shared folder\" >> file; fflush(file) }} \
         if (r < {ROUNDS} - 1) system(\"sleep 1\") }} }}",
        files = size.files / size.pods,
        lines = size.lines,
    );
    format!(
        "#!/bin/sh\nnc {} {} </dev/null || exit 9\nexec awk -v host=\"$HOSTNAME\" '{script}'\n",
        Node::ADDRESS,
        surge::GATE
    )
}
