//! Inputs of further files that come and go while others are read (`reload.enabled`).
//!
//! Comes in: every `reload.period`, what the files hold now. Goes out: which inputs end where they stand and which begin
//! ([`Changes`]), to the readers; a file that is wrong is said once.
//!
//! ```text
//! look (stat, read what changed) ─▶ judge (parse, compare input by input) ─▶ replace (reading threads) ─▶ refused ones again
//! ```
//!
//! Always holds: an input whose text hasn't changed isn't touched, in whichever place of its file it stands; the old inputs of a
//! file that is wrong, or can't be read, go on; an input comes from the file that has it, and one that couldn't begin is tried
//! again each time. Once the end has begun nothing changes any more. Why it is so: docs/decisions/reload.md.
//! Tested below, and with real processes in `tests/run/further.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use pillion_config::{Config, Diagnostic, Error, Form, Further, Section, Strict, further_text};
use pillion_input::{Glob, InputSpec, Refused, names_of};
use pillion_output::tls::ServerTls;
use pillion_process::Shape;
use pillion_world::{FileKind, Fs, Meta, World};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::further::{MAX_FILES, One, parse, refuse_lasting};
use crate::harvesting::Harvesting;
use crate::work::secure;

/// How often it is looked whether the readers have answered.
const ANSWERS: Duration = Duration::from_millis(20);

/// How long they may take: one that hangs in its file system is told, and isn't waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// By what a file is known not to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    len: u64,
    mtime_ns: i128,
    rights: (u32, u32),
}

impl Stamp {
    fn of(meta: &Meta) -> Stamp {
        let (file, rights) = ((meta.dev, meta.ino), (meta.uid, meta.mode));
        Stamp { file, len: meta.len, mtime_ns: meta.mtime_ns, rights }
    }
}

/// A file that is there.
pub(crate) struct Seen {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// What it holds; `None`: what is known.
    text: Option<Result<String, Error>>,
}

/// What is there of each place; an error: it can't be listed.
type Look = Vec<Result<Vec<Seen>, String>>;

/// An input that is read.
struct Running {
    label: u64,
    spec: InputSpec,
    /// As it is written.
    text: Value,
}

/// A file as it was when it was looked at last.
struct File {
    place: usize,
    stamp: Option<Stamp>,
    text: Result<String, Error>,
    /// Its inputs aren't those of its text: it is judged again.
    pending: bool,
    inputs: Vec<Running>,
    /// What was said of it last.
    told: Option<String>,
    /// Why one of its inputs couldn't begin, as far as it was said.
    refused: Option<String>,
}

/// What is to be done.
#[derive(Default)]
pub(crate) struct Changes {
    /// The labels of inputs that end.
    pub(crate) go: Vec<u64>,
    /// Inputs that begin.
    pub(crate) come: Vec<InputSpec>,
    pub(crate) tls: Vec<(String, ServerTls)>,
    /// What is wrong with files, and wasn't said yet.
    pub(crate) wrong: Vec<Error>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Files that changed; how many of their inputs end, and how many begin.
    changed: Vec<(PathBuf, usize, usize)>,
}

/// The files that are looked at, and their inputs.
pub struct Watch {
    places: Vec<(Further, Option<Glob>)>,
    /// Inputs that stay.
    fixed: Vec<InputSpec>,
    files: BTreeMap<PathBuf, File>,
    /// What isn't known is wrong.
    pub(crate) strict: bool,
    last_label: u64,
    /// Places that couldn't be listed the last time.
    unlisted: HashSet<usize>,
}

impl Watch {
    /// Nothing is known of the files yet. `fixed`: the inputs beside which theirs have to fit.
    pub(crate) fn new(places: Vec<Further>, fixed: Vec<InputSpec>, strict: bool) -> Watch {
        // A pattern that is none was refused.
        let glob = |place: &Further| Glob::new(place.pattern.as_os_str(), false).ok();
        let places = places.into_iter().map(|place| (glob(&place), place)).map(|(glob, place)| (place, glob)).collect();
        Watch { places, fixed, files: BTreeMap::new(), strict, last_label: 0, unlisted: HashSet::new() }
    }

    /// Refuses what can't be used together.
    pub(crate) fn fits(&self, root: &Section<'_>, beside_logs: bool, shards: bool) -> Result<(), Error> {
        let with = match (beside_logs, shards) {
            (_, true) => "pillion.shards: every replica has to read the same paths",
            (true, _) => {
                "pillion.registry.beside_logs: its place follows from all inputs, and they have to be known at the start"
            }
            _ => return Ok(()),
        };
        if self.places.is_empty() { Ok(()) } else { Err(self.unfit(root, with)) }
    }

    /// It can't be used with that.
    pub(crate) fn unfit(&self, root: &Section<'_>, with: &str) -> Error {
        let key = self.places.first().map_or("filebeat.config", |(place, _)| place.key);
        let key = format!("{key}.reload.enabled");
        root.error(&key, format!("can't be used with {with}"), "set it to false: the files are read at the start")
    }

    /// How often to look.
    fn every(&self) -> Duration {
        self.places.iter().filter_map(|(place, _)| place.reload).min().unwrap_or(Duration::from_secs(10))
    }

    /// What looks at the files; it knows all that it needs, so that it can do it elsewhere.
    pub(crate) fn look(&self, config: &Config) -> impl FnOnce(&dyn Fs) -> Look + Send + 'static {
        let globs: Vec<Option<Glob>> = self.places.iter().map(|(_, glob)| glob.clone()).collect();
        // Why one can't be read may go without any change that is seen of it: a group, a folder above it, a disk.
        let read = self.files.iter().filter(|(_, file)| file.text.is_ok());
        let known = read.filter_map(|(path, file)| Some((path.clone(), file.stamp?))).collect();
        let strict = config.strict();
        move |fs| globs.iter().flatten().map(|glob| look_at(fs, glob, &known, strict)).collect()
    }

    /// What follows from a look.
    pub(crate) fn judge(&mut self, config: &Config, look: Look) -> Changes {
        let mut out = Changes::default();
        let mut there = HashSet::new();
        for (place, listed) in look.into_iter().enumerate() {
            match listed {
                Ok(seen) => {
                    self.unlisted.remove(&place);
                    for one in seen {
                        there.insert(one.path.clone());
                        self.note(place, one);
                    }
                }
                Err(why) if self.unlisted.insert(place) => {
                    out.wrong.push(Error::new(why, "let this user list the folder; its inputs go on as they are"));
                }
                Err(_) => {}
            }
        }
        let unlisted = &self.unlisted;
        let gone = self.files.extract_if(.., |path, file| !unlisted.contains(&file.place) && !there.contains(path));
        for (path, file) in gone {
            out.changed.push((path, file.inputs.len(), 0));
            out.go.extend(file.inputs.iter().map(|input| input.label));
        }
        self.judge_pending(config, &mut out);
        out
    }

    fn note(&mut self, place: usize, seen: Seen) {
        let Some(text) = seen.text else { return };
        let (stamp, pending) = (seen.stamp, true);
        match self.files.get_mut(&seen.path) {
            Some(file) => {
                (file.place, file.stamp, file.text, file.pending) = (place, stamp, text, pending);
                file.refused = None;
            }
            None => {
                let file = File { place, stamp, text, pending, inputs: Vec::new(), told: None, refused: None };
                self.files.insert(seen.path, file);
            }
        }
    }

    /// Judges the files that have changed, and those that were wrong: until no more of them fits beside the others, since an
    /// input may have moved from one file to another.
    fn judge_pending(&mut self, config: &Config, out: &mut Changes) {
        let mut errors: BTreeMap<PathBuf, Vec<Error>> = BTreeMap::new();
        loop {
            let pending: Vec<PathBuf> =
                self.files.iter().filter(|(_, file)| file.pending).map(|(path, _)| path.clone()).collect();
            let before = pending.len();
            errors.clear();
            for path in pending {
                match self.parse(config, &path) {
                    Ok(one) => self.change(&path, one, out),
                    Err(wrong) => drop(errors.insert(path, wrong)),
                }
            }
            if errors.is_empty() || errors.len() == before {
                break;
            }
        }
        for (path, wrong) in errors {
            let told: String = wrong.iter().map(Error::one_line).collect();
            if let Some(file) = self.files.get_mut(&path).filter(|file| file.told.as_ref() != Some(&told)) {
                file.told = Some(told);
                out.wrong.extend(wrong);
            }
        }
    }

    fn parse(&self, config: &Config, path: &Path) -> Result<One, Vec<Error>> {
        let Some(file) = self.files.get(path) else { return Err(Vec::new()) };
        let text = file.text.as_ref().map_err(|e| vec![e.clone()])?;
        let others = self.files.iter().filter(|(other, _)| *other != path).flat_map(|(_, file)| &file.inputs);
        let beside: Vec<&InputSpec> = self.fixed.iter().chain(others.map(|input| &input.spec)).collect();
        let form = self.places.get(file.place).map_or(Form::List, |(place, _)| place.form);
        let one = parse(config, (path, form), text, &beside, self.strict)?;
        refuse_lasting(path, &one.inputs).map_err(|e| vec![e])?;
        Ok(one)
    }

    /// A file's inputs are these now: those that it had already stay as they are.
    fn change(&mut self, path: &Path, one: One, out: &mut Changes) {
        let Some(file) = self.files.get_mut(path) else { return };
        let mut old = std::mem::take(&mut file.inputs);
        let mut begun = 0;
        for (mut spec, text) in one.inputs {
            if let Some(at) = old.iter().position(|running| running.text == text) {
                file.inputs.push(old.swap_remove(at));
                continue;
            }
            self.last_label += 1;
            begun += 1;
            spec.label = self.last_label;
            out.come.push(spec.clone());
            file.inputs.push(Running { label: spec.label, spec, text });
        }
        (file.pending, file.told) = (false, None);
        if begun + old.len() > 0 {
            out.changed.push((path.to_owned(), old.len(), begun));
        }
        out.go.extend(old.iter().map(|running| running.label));
        out.tls.extend(one.tls);
        out.warnings.extend(one.warnings);
    }

    /// An input couldn't begin: it is tried again with the next look. The text to be said, unless it was.
    fn refused(&mut self, label: u64, why: &str) -> Option<String> {
        let is_it = |file: &File| file.inputs.iter().any(|input| input.label == label);
        let (path, file) = self.files.iter_mut().find(|(_, file)| is_it(file))?;
        file.inputs.retain(|input| input.label != label);
        file.pending = true;
        let again = file.refused.replace(why.to_owned()).as_deref() == Some(why);
        (!again).then(|| format!("{}: {why}", path.display()))
    }
}

/// What is there of one pattern, with the texts of what has changed.
fn look_at(fs: &dyn Fs, glob: &Glob, known: &HashMap<PathBuf, Stamp>, strict: Strict) -> Result<Vec<Seen>, String> {
    let names = names_of(fs, glob).map_err(|e| e.to_string())?;
    if names.len() > MAX_FILES {
        return Err(format!("more than {MAX_FILES} files of inputs"));
    }
    let mut seen = Vec::with_capacity(names.len());
    for path in names {
        // First what tells a change, then the text: a change in between is seen the next time.
        let meta = fs.stat(&path, true).ok();
        if meta.is_some_and(|meta| meta.kind == FileKind::Dir) {
            continue;
        }
        let stamp = meta.as_ref().map(Stamp::of);
        if stamp.is_some() && known.get(&path) == stamp.as_ref() {
            seen.push(Seen { path, stamp, text: None });
            continue;
        }
        if let Some(text) = further_text(fs, &path, strict).transpose() {
            seen.push(Seen { path, stamp, text: Some(text) });
        }
    }
    Ok(seen)
}

impl Changes {
    /// Says what is wrong.
    fn say(&self) {
        for warning in &self.warnings {
            tracing::warn!("{}", warning.one_line());
        }
        for wrong in &self.wrong {
            tracing::error!("{}; what it gave before goes on", wrong.one_line());
        }
    }
}

/// Looks at the files for as long as it is polled; for ever when there are none.
pub(crate) async fn run(
    config: &Config,
    watch: Option<Watch>,
    (harvesting, cluster, shape): (&Harvesting, &Mutex<Cluster>, &Arc<dyn Shape>),
) {
    let Some(mut watch) = watch else { return std::future::pending().await };
    let world = World::real();
    loop {
        tokio::time::sleep(watch.every()).await;
        if harvesting.is_draining() {
            return std::future::pending().await;
        }
        let (look, fs) = (watch.look(config), Arc::clone(&world.fs));
        // A hung file system holds up the look, and nothing else.
        let Ok(seen) = tokio::task::spawn_blocking(move || look(&*fs)).await else { continue };
        let mut changes = watch.judge(config, seen);
        changes.say();
        let mut refused = Refused::new();
        changes.come.retain_mut(|spec| {
            let secured = secure(&world, spec, &changes.tls);
            spec.bind(shape);
            refused.extend(secured.err().map(|why| (spec.label, why)));
            refused.last().is_none_or(|(label, _)| *label != spec.label)
        });
        if !changes.go.is_empty() || !changes.come.is_empty() {
            cluster.lock().await.connect(&changes.come);
            let not_begun = answers(harvesting.replace(&changes.go, changes.come)).await;
            harvesting.not_begun(not_begun.len());
            refused.extend(not_begun);
        }
        // Whoever reads it can count on it: the readers have the new inputs by now.
        for (path, ended, begun) in &changes.changed {
            tracing::info!(path = %path.display(), ended, begun, "a file of inputs has changed");
        }
        harvesting.looked(changes.changed.len());
        for (label, why) in refused.iter().filter(|_| !harvesting.is_draining()) {
            if let Some(told) = watch.refused(*label, why) {
                tracing::error!("{told}; an input can't begin: it is tried again");
            }
        }
    }
}

/// What the readers couldn't begin.
async fn answers(mut asked: Vec<Receiver<Refused>>) -> Refused {
    let (until, mut all) = (Instant::now() + ANSWER_LIMIT, Refused::new());
    while !asked.is_empty() && Instant::now() < until {
        asked.retain(|answer| match answer.try_recv() {
            Ok(refused) => {
                all.extend(refused);
                false
            }
            Err(TryRecvError::Disconnected) => false,
            Err(TryRecvError::Empty) => true,
        });
        if !asked.is_empty() {
            tokio::time::sleep(ANSWERS).await;
        }
    }
    all
}

#[cfg(test)]
mod tests;
