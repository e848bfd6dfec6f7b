use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pillion_output::Problem;
use pillion_world::{Mono, UnixMillis};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};

use super::generation::{Bundle, Generation, MOST};
use super::keeper::{Ask, Keeper, Now, Rules};
use crate::client::Error;

const START: i64 = 1_795_459_223;
const NAME: &str = "pillion-webhook.pillion.svc";
const LIFETIME: u64 = 3600;
/// The longest that an API server goes on with an older configuration, in seconds.
const LAG: u64 = 30;

fn rules(settle: u64) -> Rules {
    Rules {
        names: vec![NAME.into()],
        lifetime: Duration::from_secs(LIFETIME),
        settle: Duration::from_secs(settle),
        poll: Duration::from_secs(10),
        make: true,
        publish: true,
    }
}

/// Does an API server that trusts this bundle accept that certificate at that second?
fn verifies(generation: &Generation, bundle: &Bundle, at: i64) -> bool {
    let mut roots = RootCertStore::empty();
    let text = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, bundle.text()).unwrap();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&text).flatten());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return false;
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(generation.chain.as_bytes()).flatten().collect();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap()));
    verifier.verify_server_cert(&chain[0], &chain[1..], &NAME.try_into().unwrap(), &[], at).is_ok()
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % (n + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.up_to(n - 1) == 0
    }
}

/// The two objects, as the API server keeps them.
struct Objects {
    version: u64,
    secret: Option<Value>,
    configuration: Value,
    /// Since when each bundle was the newest.
    bundles: Vec<(u64, Bundle)>,
    /// A planted defect: whoever comes last wins.
    careless: bool,
}

impl Objects {
    fn new(careless: bool) -> Objects {
        let hook = json!({"name": "pods", "clientConfig": {"service": {"name": "pillion-webhook"}}});
        let configuration = json!({"metadata": {"resourceVersion": "1"}, "webhooks": [hook.clone(), hook]});
        Objects { version: 1, secret: None, configuration, bundles: vec![(0, Bundle::default())], careless }
    }

    fn apply(&mut self, t: u64, ask: &Ask) -> Result<Value, Error> {
        let refused = |code: u16| Err(Error::Refused { code, reason: String::new(), message: String::new() });
        match ask {
            Ask::ReadSecret => self.secret.clone().map_or_else(|| refused(404), Ok),
            Ask::ReadConfiguration => Ok(self.configuration.clone()),
            Ask::CreateSecret(_) if self.secret.is_some() => refused(409),
            Ask::ReplaceSecret(object)
                if !self.careless
                    && object["metadata"]["resourceVersion"]
                        != self.secret.as_ref().unwrap()["metadata"]["resourceVersion"] =>
            {
                refused(409)
            }
            Ask::CreateSecret(object) | Ask::ReplaceSecret(object) => {
                let mut object = object.clone();
                self.version += 1;
                object["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.secret = Some(object.clone());
                Ok(object)
            }
            Ask::Patch(patch) => {
                let operations = patch.as_array().unwrap();
                assert_eq!(operations[0]["op"], "test");
                if !self.careless && operations[0]["value"] != self.configuration["metadata"]["resourceVersion"] {
                    return refused(422);
                }
                for op in &operations[1..] {
                    let (parent, key) = op["path"].as_str().unwrap().rsplit_once('/').unwrap();
                    self.configuration.pointer_mut(parent).unwrap()[key] = op["value"].clone();
                }
                self.version += 1;
                self.configuration["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.bundles.push((t, self.bundle()));
                Ok(self.configuration.clone())
            }
            Ask::Rest(_) => unreachable!(),
        }
    }

    fn bundle(&self) -> Bundle {
        Bundle::read(self.configuration["webhooks"][1]["clientConfig"]["caBundle"].as_str().unwrap_or_default())
    }

    /// All that some API server may still go by.
    fn views(&self, t: u64) -> impl Iterator<Item = (usize, &Bundle)> {
        let last = self.bundles.iter().rposition(|(since, _)| since + LAG <= t).unwrap_or(0);
        self.bundles.iter().map(|(_, bundle)| bundle).enumerate().skip(last)
    }
}

/// A call on its way.
struct Call {
    ask: Ask,
    arrives: u64,
    returns: u64,
    answer: Option<Result<Value, Error>>,
}

struct Replica {
    keeper: Keeper,
    /// Seconds that its wall clock is ahead.
    skew: i64,
    call: Option<Call>,
    asleep_until: u64,
    ready_seconds: u64,
}

impl Replica {
    fn now(&self, t: u64) -> Now {
        Now { wall: UnixMillis((START + self.skew + t as i64) * 1000), mono: Mono(t * 1_000_000_000) }
    }
}

struct Simulation {
    dice: Dice,
    objects: Objects,
    replicas: Vec<Replica>,
    settle: u64,
    outage: (u64, u64),
    known: BTreeMap<(i64, usize), bool>,
    made: BTreeSet<i64>,
}

impl Simulation {
    fn new(seed: u64, settle: u64, careless: bool) -> Simulation {
        let mut dice = Dice(seed);
        let replica = |dice: &mut Dice| Replica {
            keeper: Keeper::new(rules(settle)),
            skew: dice.up_to(40) as i64 - 20,
            call: None,
            asleep_until: dice.up_to(20),
            ready_seconds: 0,
        };
        let replicas = vec![replica(&mut dice), replica(&mut dice)];
        let begin = dice.up_to(4 * LIFETIME);
        let outage = (begin, begin + dice.up_to(LIFETIME / 6));
        let objects = Objects::new(careless);
        Simulation { dice, objects, replicas, settle, outage, known: BTreeMap::new(), made: BTreeSet::new() }
    }

    /// One second of one replica.
    fn step(&mut self, t: u64, i: usize) {
        let dice = &mut self.dice;
        let replica = &mut self.replicas[i];
        if dice.one_in(3000) {
            replica.keeper = Keeper::new(rules(self.settle));
            replica.call = None;
            replica.asleep_until = t + dice.up_to(60);
        }
        let now = replica.now(t);
        if let Some(call) = &mut replica.call {
            if call.arrives <= t && call.answer.is_none() {
                let unreachable = || Err(Error::Unreachable(Problem::bare("no answer")));
                let out = (self.outage.0..self.outage.1).contains(&t);
                call.answer = Some(match dice.up_to(19) {
                    _ if out => unreachable(),
                    0 => unreachable(),
                    // Done, and not said.
                    1 => self.objects.apply(t, &call.ask).and_then(|_| unreachable()),
                    _ => self.objects.apply(t, &call.ask),
                });
            }
            if call.returns <= t
                && let Some(answer) = call.answer.take()
            {
                replica.call = None;
                replica.keeper.answered(now, answer);
            }
            return;
        }
        if t < replica.asleep_until {
            return;
        }
        match replica.keeper.next(now) {
            Ask::Rest(d) => replica.asleep_until = t + d.as_secs().clamp(1, 10),
            ask => {
                // Now and then it is stopped for two minutes with what it has read in hand.
                let mut delay = || if dice.one_in(15) { dice.up_to(120) } else { dice.up_to(2) };
                let arrives = t + delay();
                replica.call = Some(Call { ask, arrives, returns: arrives + delay(), answer: None });
            }
        }
    }

    /// Whether what is served is trusted now, everywhere.
    fn check(&mut self, t: u64) -> Result<(), String> {
        let at = START + t as i64;
        for (i, replica) in self.replicas.iter_mut().enumerate() {
            let Some(serving) = replica.keeper.serving().filter(|_| replica.keeper.is_ready(replica.now(t))) else {
                continue;
            };
            replica.ready_seconds += 1;
            self.made.insert(serving.made);
            if at >= serving.valid.1 {
                return Err(format!("second {t}: replica {i} serves {serving:?}, which has ended"));
            }
            for (n, view) in self.objects.views(t) {
                let good = *self.known.entry((serving.made, n)).or_insert_with(|| verifies(serving, view, at));
                if !good {
                    return Err(format!("second {t}: replica {i} serves {serving:?}, which isn't trusted"));
                }
            }
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        let mut ready_at_all = false;
        for t in 0..4 * LIFETIME {
            for i in 0..self.replicas.len() {
                self.step(t, i);
            }
            // At the very beginning an API server may not have heard of the first bundle.
            ready_at_all |= self.objects.bundles.get(1).is_some_and(|(since, _)| since + LAG <= t);
            if ready_at_all {
                self.check(t)?;
            }
            if t % 60 == 0
                && let Some(secret) = &self.objects.secret
            {
                assert!(Generation::all_in(secret).len() <= 3, "second {t}");
            }
        }
        Ok(())
    }
}

#[test]
fn what_is_served_is_trusted_at_each_instant() {
    let seeds = std::env::var("PILLION_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        let mut simulation = Simulation::new(seed, 60, false);
        simulation.run().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(simulation.made.len() >= 5, "seed {seed}: {:?}", simulation.made);
        for replica in &simulation.replicas {
            assert!(replica.ready_seconds > 4 * LIFETIME * 8 / 10, "seed {seed}: {}", replica.ready_seconds);
        }
    }
}

#[test]
fn the_simulation_finds_planted_defects() {
    let found = |settle, careless| (0..60).find(|seed| Simulation::new(*seed, settle, careless).run().is_err());
    // Served as soon as it is published, before every API server has heard of it.
    assert!(found(0, false).is_some());
    // Nobody looks whether somebody else was faster.
    assert!(found(60, true).is_some());
}

/// Lets a keeper do one pass against the objects; what it asked.
fn pass(keeper: &mut Keeper, objects: &mut Objects, t: u64) -> Vec<Ask> {
    let now = Now { wall: UnixMillis((START + t as i64) * 1000), mono: Mono(t * 1_000_000_000) };
    let mut asked = Vec::new();
    loop {
        match keeper.next(now) {
            Ask::Rest(_) => return asked,
            ask => {
                keeper.answered(now, objects.apply(t, &ask));
                asked.push(ask);
            }
        }
    }
}

#[test]
fn a_bundle_that_somebody_wiped_and_a_secret_that_somebody_emptied_come_back() {
    let (mut keeper, mut objects) = (Keeper::new(rules(60)), Objects::new(false));
    assert_eq!(pass(&mut keeper, &mut objects, 0).len(), 4);
    let first = keeper.serving().unwrap().clone();
    assert!(verifies(&first, &objects.bundle(), START));
    assert_eq!(pass(&mut keeper, &mut objects, 10), [Ask::ReadSecret, Ask::ReadConfiguration]);
    for (wiped, t) in [(json!(null), 20), (json!("bm90IFBFTQ=="), 30), (json!("%"), 40)] {
        objects.configuration["webhooks"][0]["clientConfig"]["caBundle"] = wiped.clone();
        objects.configuration["webhooks"][1]["clientConfig"]["caBundle"] = wiped;
        pass(&mut keeper, &mut objects, t);
        assert!(objects.bundle().has(&first.authority));
    }
    objects.secret.as_mut().unwrap()["data"] = json!({"other": "a2VwdA==", "x.ca.crt": "", "7.ca.crt": "%%"});
    pass(&mut keeper, &mut objects, 60);
    let secret = objects.secret.clone().unwrap();
    assert_eq!(Generation::all_in(&secret), [first]);
    assert_eq!(secret["data"]["other"], "a2VwdA==");
}

#[test]
fn what_others_published_stays_until_it_ends_but_not_without_limit() {
    let make = |made: i64, lifetime: i64| Generation::make(&[NAME.into()], made, lifetime).unwrap();
    let (foreign, ended, ours) = (make(START, 100), make(START - 200, 100), make(START, 1000));
    let old = Bundle::default().with(&[ended.clone(), foreign.clone()], START - 150);
    let new = old.with(std::slice::from_ref(&ours), START);
    assert_eq!([&foreign, &ended, &ours].map(|g| new.has(&g.authority)), [true, false, true]);
    assert_eq!(Bundle::read(&new.text()), new);
    let crowd: Vec<Generation> = (0..MOST as i64 + 3).map(|i| make(START + i, 1000)).collect();
    let full = Bundle::default().with(&crowd, START).with(std::slice::from_ref(&ours), START);
    assert!(full.has(&ours.authority) && !full.has(&crowd[0].authority) && full.has(&crowd[MOST + 2].authority));
}

#[test]
fn trouble_is_told_and_tried_again_ever_later() {
    let (mut keeper, mut t) = (Keeper::new(rules(60)), 0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let now = Now { wall: UnixMillis(START * 1000 + t), mono: Mono(t as u64 * 1_000_000) };
        match keeper.next(now) {
            Ask::Rest(d) => {
                pauses.push(d.as_millis());
                t += d.as_millis() as i64;
            }
            _ => keeper
                .answered(now, Err(Error::Refused { code: 403, reason: "Forbidden".into(), message: "no".into() })),
        }
    }
    assert_eq!(pauses, [625, 1250, 2500, 5000]);
    assert!(keeper.trouble().unwrap().starts_with("reading the Secret: the API server says 403"));
    assert!(keeper.serving().is_none());
}
