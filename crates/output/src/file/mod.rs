//! The file output (`output.file`).
//!
//! Comes in: requests. Goes out: one record for each event, in files that rotate; a request is settled when all of it is
//! synced (see `docs/decisions/file-output-syncs.md`).
//!
//! Always holds: see `writer.rs`. Waiting for the disk happens on a thread of its own, so that a hung file system stops
//! neither signals nor the drain. A full disk is waited for, with growing pauses.
//! Tested in `tests.rs`.

mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pillion_config::{Compat, Error, Section};

use crate::backoff::Backoff;
use crate::codec::{Codec, CodecOptions};
use crate::contract::{OutputContext, Requests};
use crate::format::Format;
use crate::problem::Problem;
use crate::settle::settle;
use crate::{AckSink, Request};
use pillion_world::rotated::Names;
pub use pillion_world::rotated::Naming;
use writer::{FileWriter, Progress};

/// Events in one request: one sync for as many as there are, and never more memory than their texts.
const BULK: usize = 2048;

/// What the user set in `output.file`.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// `path`: the folder; may hold dates and the agent's version, taken at the start.
    pub path: Format,
    /// `filename`: the beginning of the files' names.
    pub filename: String,
    /// `rotate_every_kb`, in bytes: a file that would grow beyond is rotated.
    pub rotate_bytes: u64,
    /// How many rotated files are kept beside the current one.
    pub keep: usize,
    /// `permissions` of new files.
    pub permissions: u32,
    /// `rotate_on_startup`: begin a new file when there is one with something in it.
    pub rotate_on_startup: bool,
    /// How files are named.
    pub naming: Naming,
    /// `codec`.
    pub codec: CodecOptions,
    /// The dialect.
    pub compat: Compat,
}

impl FileOptions {
    /// Reads `output.file`.
    pub fn from_section(section: &Section<'_>, compat: Compat) -> Result<FileOptions, Error> {
        let path = section
            .str("path")?
            .filter(|path| !path.is_empty())
            .ok_or_else(|| section.error("path", "there is no path", "give the folder for the files"))?;
        let path = Format::compile(&path)
            .map_err(|e| section.error("path", e.to_string(), "a path may hold dates, such as `%{+yyyy-MM-dd}`"))?;
        let filename = section.str("filename")?.unwrap_or_else(|| "filebeat".to_owned());
        if filename.is_empty() || filename.contains('/') {
            return Err(section.error("filename", "this isn't the name of a file", "put folders into `path`"));
        }
        let kb = section.u64_in("rotate_every_kb", 1..=u64::MAX / 1024)?.unwrap_or(10 * 1024);
        let files = section.u64_in("number_of_files", 2..=1024)?.unwrap_or(7) as usize;
        let permissions = section.file_mode("permissions")?.unwrap_or(0o600);
        let rotate_on_startup = section.bool("rotate_on_startup")?.unwrap_or(true);
        Ok(FileOptions {
            path,
            filename,
            rotate_bytes: kb * 1024,
            // 5.6 counts the current file too.
            keep: if compat == Compat::V5 { files - 1 } else { files },
            permissions,
            rotate_on_startup: rotate_on_startup || compat == Compat::V5,
            naming: if compat < Compat::V8 { Naming::Numbered } else { Naming::Dated },
            codec: CodecOptions::from_section(section, compat)?,
            compat,
        })
    }

    /// The folder, at this moment.
    fn folder(&self, context: &OutputContext) -> Result<PathBuf, Problem> {
        let mut path = Vec::new();
        self.path.write_static(context.world.clock.wall().0, &context.agent, &mut path).map_err(|missing| {
            Problem::new(
                format!("output.file.path needs `{}`, which isn't known at the start", missing.0),
                "use dates and fields of the agent only",
            )
        })?;
        Ok(PathBuf::from(String::from_utf8_lossy(&path).into_owned()))
    }
}

/// The file output.
pub struct FileOutput {
    context: OutputContext,
    writer: FileWriter,
    folder: PathBuf,
}

impl FileOutput {
    /// The output; nothing is opened before the first request.
    pub fn new(options: FileOptions, context: OutputContext) -> Result<FileOutput, Problem> {
        let folder = options.folder(&context)?;
        let codec = Arc::new(Codec::new(options.codec, options.compat, &context));
        let names = Names { dir: folder.clone(), name: options.filename, naming: options.naming, keep: options.keep };
        let writer = FileWriter::new(
            context.world.clone(),
            codec,
            names,
            options.rotate_bytes,
            options.permissions,
            options.rotate_on_startup,
        );
        Ok(FileOutput { context, writer, folder })
    }

    /// Tries whether the folder can be written to, and leaves nothing behind (`test output`).
    pub fn test(&self) -> Result<(), Problem> {
        let attempt = || {
            self.context.world.fs.create_dir_all(&self.folder, 0o700)?;
            let probe = self.folder.join(format!(".pillion-test-{:016x}", self.context.world.random.u128() as u64));
            self.context.world.fs.open(&probe, pillion_world::OpenHow::Append(0o600))?.write_all(b"test\n")?;
            self.context.world.fs.remove(&probe)
        };
        attempt().map_err(|e: std::io::Error| {
            Problem::new(
                format!("{} can't be written to: {e}", self.folder.display()),
                "check the folder, its permissions and the space left",
            )
        })
    }

    /// Runs until the source is closed and everything is settled.
    ///
    /// # Errors
    /// When the output can't go on at all; what isn't settled isn't delivered.
    pub async fn run(self, requests: Arc<dyn Requests>, acks: Arc<dyn AckSink>) -> Result<(), Problem> {
        let FileOutput { context, mut writer, folder } = self;
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        'requests: while let Some(request) = requests.take(BULK).await {
            let mut job = Job { writer, request, progress: Progress::default(), bytes: 0 };
            let mut failures = 0u32;
            loop {
                let (back, done) = job.attempt().await?;
                job = back;
                context.stats.requests.add(1);
                context.stats.bytes.add(std::mem::take(&mut job.bytes));
                let Err(e) = done else { break };
                context.stats.failed.add(1);
                failures += 1;
                let wait = backoff.wait(&*context.world.random);
                let problem = Problem::bare(format!("writing to the output file in {} failed: {e}", folder.display()));
                if context.stats.fails_with("file", &problem) {
                    tracing::warn!("{problem}; trying again, and until it works");
                } else {
                    tracing::debug!(folder = %folder.display(), failures, "writing failed again: {e}");
                }
                context.hurry.pause(wait, &*context.world.random).await;
                if is_gone(&*requests, &job.request).await {
                    writer = job.writer;
                    continue 'requests;
                }
                context.stats.retried.add(job.request.len());
            }
            if failures > 0 {
                context.stats.works("file");
                tracing::info!(folder = %folder.display(), failures, "writing to the output file works again");
                backoff.reset();
            }
            settle(&job.request.slices, &job.progress.dropped, &*acks, &context.stats);
            writer = job.writer;
        }
        Ok(())
    }
}

/// Waits until a request may be tried again; whether somebody else ships all of it by now. Where that is a part, it is
/// written all the same: what of it stands in the file already isn't known here.
async fn is_gone(requests: &dyn Requests, request: &Request) -> bool {
    let Some(gate) = requests.gate() else { return false };
    loop {
        let changed = gate.changed();
        if request.slices.iter().all(|slice| gate.is_gone(slice)) {
            request.slices.iter().for_each(|slice| gate.forget(slice));
            return true;
        }
        if gate.is_open() {
            return false;
        }
        changed.await;
    }
}

/// What goes to the blocking thread and comes back.
struct Job {
    writer: FileWriter,
    request: Request,
    progress: Progress,
    bytes: usize,
}

impl Job {
    async fn attempt(mut self) -> Result<(Job, std::io::Result<()>), Problem> {
        let working = tokio::task::spawn_blocking(move || {
            let done = self.writer.write(&self.request.slices, &mut self.progress, &mut self.bytes);
            (self, done)
        });
        working.await.map_err(|e| Problem::bare(format!("the file output's thread ended: {e}")))
    }
}

#[cfg(test)]
mod tests;
