//! The output to Elasticsearch (5.6 to 9) and OpenSearch (2, 3): `_bulk` requests over kept-alive HTTP connections.
//!
//! The way of an event: [`work`] takes it from the queue, [`names`] says its index, [`request`] renders and compresses it, [`target`] sends it,
//! [`answer`] reads what the target says, [`settle`] rules on it, [`worker`] drives all that, and waits when it must.
//!
//! Always holds:
//! - What isn't known to be delivered is sent again, the same bytes for each event, for as long as the output lives.
//! - "Exists already" (409) counts as delivered only where the event may have been sent before.
//! - An event that is refused for good is never silently gone: dropped and reported, or in a dead-letter index or file.
//! - Memory: one rendered piece and one compressed body for each worker, bodies of at most 8 MiB before compression.
//!
//! No request is made but `_bulk`, `GET /` by `test output`, and before the first event what [`setup`] needs: the dialect
//! says what the target is, and the target's answer corrects it (`_type` in action lines). Tested in `tests.rs` against a
//! scripted server.

mod answer;
mod check;
pub(crate) mod cloud;
mod dead_letter;
mod json;
mod names;
mod request;
mod settings;
mod settle;
mod setup;
mod target;
#[cfg(test)]
mod tests;
mod work;
mod worker;

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

pub use answer::{AnswerParser, Item, ItemError, Verdict, fuzz_answer};
pub use check::test_output;
pub use request::BODY_LIMIT;
pub use settings::{MOST_EVENTS, NonIndexable, Settings};
pub use setup::{Overwrite, Setup, SetupSettings, Version, run_setup};

use crate::backoff::Backoff;
use crate::format::Format;
use crate::problem::Problem;
use crate::render::{RenderOptions, Renderer, Target as RenderTarget};
use crate::tls::TlsClient;
use crate::{AckSink, OutputContext, Requests};
use dead_letter::DeadLetterFile;
use names::NameOptions;
use request::Builder;
use settle::Judge;
use target::Target;
use work::Pool;
use worker::{Shared, Worker};

/// A configured output, ready to run.
pub struct Elasticsearch {
    settings: Settings,
    context: OutputContext,
    tls: Option<TlsClient>,
    setup: Option<Setup>,
}

impl Elasticsearch {
    /// Reads the certificates and the user's own template. An error is one of the configuration.
    pub fn new(settings: Settings, context: OutputContext) -> Result<Elasticsearch, Problem> {
        let tls = match settings.uses_tls() {
            true => Some(settings.tls.build(&context.world, &["http/1.1"])?),
            false => None,
        };
        let setup = Some(Setup::new(settings.setup.clone(), &context)?).filter(Setup::is_needed);
        Ok(Elasticsearch { settings, context, tls, setup })
    }

    /// Delivers until the requests have ended and everything is settled; only then it returns. Dropping the future
    /// stops at once and leaves unsettled what is in flight.
    pub async fn run(mut self, requests: Arc<dyn Requests>, sink: Arc<dyn AckSink>) -> Result<(), Problem> {
        let setup = self.setup.take();
        let s = &self.settings;
        let mut options = RenderOptions::new(RenderTarget::Elasticsearch, s.compat);
        options.escape_html = s.escape_html;
        let renderer = Arc::new(Renderer::new(options, Arc::clone(&self.context.agent)));
        let dead_letters = match &s.non_indexable {
            NonIndexable::File(path, limit) => {
                let world = self.context.world.clone();
                Some(Mutex::new(DeadLetterFile::new(world, path.clone(), *limit, Arc::clone(&renderer))))
            }
            NonIndexable::Drop | NonIndexable::Index(_) => None,
        };
        let index = s.index_for(&self.context.agent.version)?;
        let groups = self.targets()?;
        let shared = Arc::new(Shared {
            context: self.context.clone(),
            sink,
            pool: Pool::new(requests, s.bulk_max_size.clamp(1, MOST_EVENTS)),
            setup,
            judge: Judge { compat: s.compat, exactly_once: self.context.exactly_once, shared: self.context.shared },
            non_indexable: s.non_indexable.clone(),
            dead_letters,
            idle_timeout: s.idle_timeout,
            several: groups.len() > 1,
        });
        let mut workers = JoinSet::new();
        for targets in groups {
            let worker = Worker {
                shared: Arc::clone(&shared),
                targets,
                at: 0,
                builder: self.builder(&renderer, &index),
                body: Vec::new(),
                backoff: Backoff::new(s.backoff.0, s.backoff.1),
                failing: false,
                mute: false,
            };
            workers.spawn(worker.run());
        }
        while let Some(ended) = workers.join_next().await {
            ended.map_err(|e| Problem::bare(format!("a worker of the output failed: {e}")))?;
        }
        Ok(())
    }

    /// The hosts of each worker: with load balancing each host has its own workers, without there is one worker that
    /// goes from host to host.
    fn targets(&self) -> Result<Vec<Vec<Target>>, Problem> {
        let s = &self.settings;
        let gzip = s.compression.is_some();
        let make = |host| Target::new(s, host, self.tls.clone(), &self.context.world, gzip);
        if !s.load_balance {
            return Ok(vec![s.hosts.iter().map(make).collect::<Result<_, _>>()?]);
        }
        let mut groups = Vec::new();
        for _ in 0..s.workers.max(1) {
            for host in &s.hosts {
                groups.push(vec![make(host)?]);
            }
        }
        Ok(groups)
    }

    fn builder(&self, renderer: &Arc<Renderer>, index: &Arc<Format>) -> Builder {
        let s = &self.settings;
        let dead_index = match &s.non_indexable {
            NonIndexable::Index(name) => Some(name.clone()),
            NonIndexable::Drop | NonIndexable::File(..) => None,
        };
        let names = NameOptions {
            index: Arc::clone(index),
            indices: Arc::clone(&s.indices),
            pipeline: s.pipeline.clone(),
            pipelines: Arc::clone(&s.pipelines),
            compat: s.compat,
        };
        Builder::new(Arc::clone(renderer), names, dead_index, self.context.exactly_once, s.compression)
    }
}
