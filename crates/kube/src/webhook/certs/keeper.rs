//! One replica's part in keeping certificates: which it serves, when the next is made, what the API server trusts.
//!
//! Comes in: the time, and what the API server answers. Goes out: what to ask of it next ([`Ask`]), and the
//! [`Generation`] to serve. A state machine without I/O, so that the simulation in `tests.rs` drives it call by call.
//!
//! ```text
//!         ┌──────────────────────── poll ───────────────────────────┐
//!         ▼                                                         │
//!    ReadSecret ──▶ (WriteSecret) ──▶ ReadConfiguration ──▶ (Patch) ─▶ Rest
//! ```
//! The overlap of a renewal needs no agreement between replicas:
//! 1. When a third of its life is left, whoever is first puts the next generation beside the old one in the Secret; the
//!    Secret's `resourceVersion` makes one of several first. Nobody serves it yet.
//! 2. Every replica publishes every authority in the Secret, beside what is published already; an authority leaves the
//!    `caBundle` only when it has ended. So a replica that was asleep can take none away.
//! 3. A replica serves the new one when it has seen it published for [`Rules::settle`]: longer than any API server takes
//!    to hear of it.
//! 4. The old one goes when it has ended: until then whoever still serves it is trusted. A replica that has just started
//!    serves it too, since it has been published for longest, but not in the last twelfth of its life: clocks differ.
//!
//! Always holds, while each replica reaches the API server at least once in the third of a life: what a ready replica
//! serves is valid, and verifies against what any API server trusts.

use std::time::Duration;

use pillion_world::{Mono, UnixMillis};
use serde_json::{Value, json};

use super::generation::{Bundle, Generation};
use crate::client::Error;

/// What this replica is told.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The names that the API server calls us by.
    pub(crate) names: Vec<String>,
    /// How long a certificate lives.
    pub(crate) lifetime: Duration,
    /// How long an authority has to be published before its certificate is served.
    pub(crate) settle: Duration,
    /// The pause between two looks.
    pub(crate) poll: Duration,
    /// Certificates are made and kept in the Secret; else they come from files.
    pub(crate) make: bool,
    /// Whether authorities are published by us.
    pub(crate) publish: bool,
}

/// What to ask of the API server, or how long to do nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    /// The Secret.
    ReadSecret,
    /// Make the Secret with this `data`.
    CreateSecret(Value),
    /// Replace the Secret by this, at the version that was read.
    ReplaceSecret(Value),
    /// The `MutatingWebhookConfiguration`.
    ReadConfiguration,
    /// A JSON Patch of it.
    Patch(Value),
    /// Nothing for so long.
    Rest(Duration),
}

#[derive(Debug)]
enum State {
    ReadSecret,
    WriteSecret { object: Value, exists: bool },
    ReadConfiguration,
    Patch(Value),
    Rest(Mono),
}

/// The time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall: UnixMillis,
    pub(crate) mono: Mono,
}

impl Now {
    fn seconds(self) -> i64 {
        self.wall.0.div_euclid(1000)
    }
}

/// An authority that is published, and since when this replica has seen it so.
struct Published {
    authority: Vec<u8>,
    since: Mono,
}

/// The state machine.
pub(crate) struct Keeper {
    rules: Rules,
    state: State,
    /// Oldest first.
    generations: Vec<Generation>,
    published: Vec<Published>,
    serving: Option<Generation>,
    /// Why the last pass didn't end well.
    trouble: Option<String>,
    failures: u32,
}

impl Keeper {
    pub(crate) fn new(rules: Rules) -> Keeper {
        let state = State::Rest(Mono(0));
        Keeper {
            rules,
            state,
            generations: Vec::new(),
            published: Vec::new(),
            serving: None,
            trouble: None,
            failures: 0,
        }
    }

    /// What is to be served.
    pub(crate) fn serving(&self) -> Option<&Generation> {
        self.serving.as_ref()
    }

    /// Whether what is served is trusted, as far as this replica has seen.
    pub(crate) fn is_ready(&self, now: Now) -> bool {
        let trusted = |g: &Generation| (!self.rules.make && !self.rules.publish) || self.since(g).is_some();
        self.serving.as_ref().is_some_and(|g| g.is_valid(now.seconds()) && trusted(g))
    }

    /// Why the last pass didn't end well, if it didn't.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// A certificate from files, in the place of the Secret's; the one before it may be served until this one is trusted.
    pub(crate) fn take_files(&mut self, generation: Generation, now: Now) {
        self.generations.retain(|g| g.is_valid(now.seconds()) && g.authority != generation.authority);
        self.generations.drain(..self.generations.len().saturating_sub(1));
        self.generations.push(generation);
        self.choose(now);
    }

    /// What to do now.
    pub(crate) fn next(&mut self, now: Now) -> Ask {
        self.choose(now);
        match &self.state {
            State::Rest(until) if now.mono < *until => return Ask::Rest(until.since(now.mono)),
            State::Rest(_) if self.rules.make => self.state = State::ReadSecret,
            State::Rest(_) if self.rules.publish => self.state = State::ReadConfiguration,
            State::Rest(_) => return Ask::Rest(self.rules.poll),
            _ => {}
        }
        match &self.state {
            State::ReadSecret | State::Rest(_) => Ask::ReadSecret,
            State::WriteSecret { object, exists: false } => Ask::CreateSecret(object.clone()),
            State::WriteSecret { object, exists: true } => Ask::ReplaceSecret(object.clone()),
            State::ReadConfiguration => Ask::ReadConfiguration,
            State::Patch(patch) => Ask::Patch(patch.clone()),
        }
    }

    /// Takes the answer to what [`Keeper::next`] has asked.
    pub(crate) fn answered(&mut self, now: Now, answer: Result<Value, Error>) {
        let state = std::mem::replace(&mut self.state, State::Rest(now.mono));
        match (state, answer) {
            (State::ReadSecret, Ok(secret)) => self.read_secret(now, secret, true),
            (State::ReadSecret, Err(e)) if e.is_not_found() => self.read_secret(now, json!({}), false),
            (State::WriteSecret { .. }, Ok(secret)) => {
                self.generations = Generation::all_in(&secret);
                self.state = State::ReadConfiguration;
            }
            (State::ReadConfiguration, Ok(configuration)) => self.read_configuration(now, &configuration),
            (State::Patch(_), Ok(configuration)) => {
                self.see(now, &configuration);
                self.rest(now);
            }
            (State::Rest(_), _) => self.rest(now),
            // Somebody was faster: look again, soon.
            (_, Err(e)) if e.is_conflict() => self.fail(now, None, &e),
            (State::ReadSecret, Err(e)) => self.fail(now, Some("reading the Secret"), &e),
            (State::WriteSecret { .. }, Err(e)) => self.fail(now, Some("writing the Secret"), &e),
            (State::ReadConfiguration, Err(e)) => self.fail(now, Some("reading the webhook's configuration"), &e),
            (State::Patch(_), Err(e)) => self.fail(now, Some("publishing the authority"), &e),
        }
        self.choose(now);
    }

    fn rest(&mut self, now: Now) {
        self.failures = 0;
        self.trouble = None;
        self.state = State::Rest(now.mono.plus(self.rules.poll));
    }

    /// Tries again soon, and ever later up to the usual pause.
    fn fail(&mut self, now: Now, doing: Option<&str>, e: &Error) {
        if let Some(doing) = doing {
            self.trouble = Some(format!("{doing}: {e}"));
        }
        let pause = self.rules.poll / 16 * 2u32.saturating_pow(self.failures.min(4));
        self.failures += 1;
        self.state = State::Rest(now.mono.plus(pause.min(self.rules.poll)));
    }

    /// Decides whether the Secret has to change.
    fn read_secret(&mut self, now: Now, mut secret: Value, exists: bool) {
        let seconds = now.seconds();
        let held = Generation::all_in(&secret);
        let mut wanted: Vec<Generation> = held.iter().filter(|g| g.valid.1 > seconds).cloned().collect();
        if wanted.is_empty() {
            // What somebody has emptied is put back.
            wanted = self.generations.iter().filter(|g| g.is_valid(seconds)).cloned().collect();
        }
        if wanted.iter().all(|g| g.is_due(seconds)) {
            let lifetime = i64::try_from(self.rules.lifetime.as_secs()).unwrap_or(i64::MAX);
            match Generation::make(&self.rules.names, seconds, lifetime) {
                Ok(made) => wanted.push(made),
                Err(why) => {
                    self.trouble = Some(why);
                    self.state = State::Rest(now.mono.plus(self.rules.poll));
                    return;
                }
            }
        }
        if wanted == held {
            self.generations = held;
            self.state = State::ReadConfiguration;
            return;
        }
        Generation::write(&mut secret, &wanted);
        self.state = State::WriteSecret { object: secret, exists };
    }

    /// Decides whether the `caBundle` has to change.
    fn read_configuration(&mut self, now: Now, configuration: &Value) {
        self.see(now, configuration);
        let mut patch = vec![json!({
            "op": "test", "path": "/metadata/resourceVersion", "value": configuration["metadata"]["resourceVersion"],
        })];
        for (i, hook) in configuration["webhooks"].as_array().into_iter().flatten().enumerate() {
            let text = hook["clientConfig"]["caBundle"].as_str().unwrap_or_default();
            let wanted = Bundle::read(text).with(&self.generations, now.seconds());
            if wanted != Bundle::read(text) {
                let path = format!("/webhooks/{i}/clientConfig/caBundle");
                patch.push(json!({"op": "add", "path": path, "value": wanted.text()}));
            }
        }
        if patch.len() > 1 && self.rules.publish {
            self.state = State::Patch(patch.into());
        } else {
            self.rest(now);
        }
    }

    /// Remembers what is published, and since when: in all of the configuration's webhooks.
    fn see(&mut self, now: Now, configuration: &Value) {
        let bundles: Vec<Bundle> = configuration["webhooks"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|hook| Bundle::read(hook["clientConfig"]["caBundle"].as_str().unwrap_or_default()))
            .collect();
        let mut published = Vec::new();
        for generation in &self.generations {
            if !bundles.is_empty() && bundles.iter().all(|b| b.has(&generation.authority)) {
                let since = self.since(generation).unwrap_or(now.mono);
                published.push(Published { authority: generation.authority.clone(), since });
            }
        }
        self.published = published;
    }

    fn since(&self, generation: &Generation) -> Option<Mono> {
        self.published.iter().find(|p| p.authority == generation.authority).map(|p| p.since)
    }

    /// Chooses what is served: the newest that is settled; else what is served, as long as it is published; else the
    /// oldest that is published (it has been so for longest), unless it ends soon; else the newest that is published;
    /// else, since nothing is known, what is served, or the oldest.
    fn choose(&mut self, now: Now) {
        let seconds = now.seconds();
        let valid: Vec<&Generation> = self.generations.iter().filter(|g| g.is_valid(seconds)).collect();
        let settled = |g: &&&Generation| self.since(g).is_some_and(|s| now.mono.since(s) >= self.rules.settle);
        let published = |g: &&&Generation| self.since(g).is_some();
        let lasting = |g: &&&Generation| published(g) && !g.ends_soon(seconds);
        let served = self.serving.as_ref().and_then(|s| valid.iter().find(|g| g.authority == s.authority));
        let unwatched = (!self.rules.make && !self.rules.publish).then(|| valid.last()).flatten();
        let chosen = unwatched
            .or_else(|| valid.iter().rev().find(settled))
            .or_else(|| served.filter(lasting))
            .or_else(|| valid.iter().find(lasting))
            .or_else(|| valid.iter().rev().find(published))
            .or(served)
            .or_else(|| valid.first());
        if let Some(chosen) = chosen.map(|g| (*g).clone())
            && self.serving.as_ref() != Some(&chosen)
        {
            self.serving = Some(chosen);
        }
    }
}
