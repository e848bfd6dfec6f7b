//! Autodiscovery: inputs that come and go with the containers of a node.
//!
//! Comes in: what happens to pods. Goes out: inputs that begin as soon as a container has an id, and end when it has been
//! gone, or its pod has ended, for `cleanup_timeout`: then what its files still hold is read, and nothing after it.
//!
//! Always holds: a container has its inputs once, however often its pod changes; one whose pod was gone before it was
//! looked at has them too. While [`ASKED`] inputs wait for the reader, pods wait as well ([`pillion_kube::news`]). What its events say of the pod
//! (`kubernetes.*`, `container.*`, as Filebeat adds them) is what was known when its input began. A configuration that
//! can't be used is said, and the container isn't read; the others are.
//! Tested below, and on a real cluster.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use pillion_config::{Config, Error};
use pillion_input::{InputId, InputSpec};
use pillion_kube::autodiscover::Provider;
use pillion_kube::metadata::Pods;
use pillion_kube::news::{News, Told};
use pillion_kube::pods::{Container, Fields, discovered, of_container};
use pillion_process::Shape;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

use crate::cluster::Cluster;

/// Inputs that the reader was asked for and hasn't begun yet, at most: more are asked for when it has.
const ASKED: usize = 256;

/// How long it takes until it is looked again whether the reader has begun.
const AGAIN: Duration = Duration::from_millis(100);

/// Begins and ends inputs: the readers.
pub(crate) trait Inputs {
    /// Begins to read; where the name of the input will come.
    fn add(&self, spec: InputSpec) -> Option<Receiver<Option<InputId>>>;
    /// Ends an input once its files are read to their end.
    fn end(&self, id: InputId);
}

/// Checks at the start that a provider's configurations are ones.
///
/// # Errors
/// What is wrong with the first that isn't.
pub(crate) fn check(config: &Config, provider: &Provider) -> Result<(), Error> {
    provider.examples().iter().try_for_each(|input| specs(config, input).map(drop))
}

/// The inputs of a configuration that was made for a container, under the general settings of the whole.
fn specs(config: &Config, input: &Value) -> Result<Vec<InputSpec>, Error> {
    // JSON is YAML, and a list of one input is what `filebeat.inputs` takes; of one module, `filebeat.modules`.
    let list = if input.get("module").is_some() { "modules" } else { "inputs" };
    let own = json!({"compat": config.compat().name(), "modules": {"version": config.modules_version()}});
    let text = json!({"pillion": own, "filebeat": {list: [input]}}).to_string();
    let own = Config::from_yaml(&text)?;
    // What is refused as a whole, such as a module, is told before what it lacks as an input.
    let specs = pillion_input::specs(&config.root(), &own.root(), &[])
        .map_err(|e| own.leftovers().refused.into_iter().next().unwrap_or(e))?;
    for warning in own.warnings().iter().chain(&own.leftovers().unknown) {
        tracing::debug!("autodiscover: {}", warning.one_line());
    }
    match own.leftovers().refused.into_iter().next() {
        Some(refused) => Err(refused),
        None => Ok(specs),
    }
}

struct Started {
    /// Its pod's uid.
    pod: String,
    /// Those that the reader hasn't begun yet.
    asked: Vec<Receiver<Option<InputId>>>,
    inputs: Vec<InputId>,
    /// When it ends.
    until: Option<Instant>,
}

/// The containers of one provider and their inputs.
pub(crate) struct Discovery<'a> {
    config: &'a Config,
    provider: &'a Provider,
    shape: &'a Arc<dyn Shape>,
    started: HashMap<String, Started>,
}

/// The providers, each with the pods that it is told of.
pub(crate) type Discoveries<'a> = Vec<(Discovery<'a>, Arc<Pods>)>;

/// Follows the containers of all providers until it is dropped.
pub(crate) async fn all(
    mut discoveries: Vec<(Discovery<'_>, Arc<Pods>)>,
    inputs: &dyn Inputs,
    cluster: &Mutex<Cluster>,
) {
    let Some((discovery, pods)) = discoveries.pop() else { return std::future::pending().await };
    let this = async {
        // What is beside pods, above all: an input has what was known when it began.
        pods.known().await;
        discovery.run(pods.listen(), inputs, cluster).await;
    };
    tokio::join!(this, Box::pin(all(discoveries, inputs, cluster)));
}

impl<'a> Discovery<'a> {
    pub(crate) fn new(config: &'a Config, provider: &'a Provider, shape: &'a Arc<dyn Shape>) -> Discovery<'a> {
        Discovery { config, provider, shape, started: HashMap::new() }
    }

    /// Follows the pods for ever.
    pub(crate) async fn run(mut self, mut news: News, inputs: &dyn Inputs, cluster: &Mutex<Cluster>) {
        loop {
            if self.asked() >= ASKED {
                // The reader is slow, or a file system hangs.
                tokio::time::sleep(AGAIN).await;
                self.end_due(Instant::now(), inputs);
                continue;
            }
            let due = self.started.values().filter_map(|s| s.until).min();
            let sleep = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = news.next() => self.told(&told, inputs, &mut *cluster.lock().await),
                () = sleep => self.end_due(Instant::now(), inputs),
            }
        }
    }

    /// How many inputs the reader hasn't begun yet.
    fn asked(&mut self) -> usize {
        self.started.values_mut().for_each(Started::hear);
        self.started.values().map(|s| s.asked.len()).sum()
    }

    fn told(&mut self, told: &Told, inputs: &dyn Inputs, cluster: &mut Cluster) {
        let until = Instant::now() + self.provider.scope.cleanup_timeout;
        let (pod, uid) = (&told.pod, told.uid());
        let phase = pod.pointer("/status/phase").and_then(Value::as_str);
        let over = told.gone || matches!(phase, Some("Succeeded" | "Failed"));
        let there = discovered(pod);
        for container in &there {
            if !self.started.contains_key(&container.id) {
                let asked = self.start(pod, &told.kubernetes, container, inputs, cluster);
                let started = Started { pod: uid.clone(), asked, inputs: Vec::new(), until: None };
                self.started.insert(container.id.clone(), started);
            }
        }
        // A container that was started anew has another id.
        for (_, started) in
            self.started.iter_mut().filter(|(id, s)| s.pod == uid && (over || !there.iter().any(|c| c.id == **id)))
        {
            started.until.get_or_insert(until);
        }
    }

    fn start(
        &self,
        pod: &Value,
        kubernetes: &Fields,
        container: &Container,
        inputs: &dyn Inputs,
        cluster: &mut Cluster,
    ) -> Vec<Receiver<Option<InputId>>> {
        let mut names = Vec::new();
        for input in self.provider.inputs(pod, kubernetes, container) {
            match specs(self.config, &input) {
                Err(error) => tracing::warn!(
                    pod = name_of(pod),
                    container = container.name,
                    error = error.one_line(),
                    "the container isn't read: its configuration can't be used"
                ),
                Ok(specs) => {
                    cluster.connect(&specs);
                    for mut spec in specs {
                        self.describe(&mut spec, kubernetes, container);
                        names.extend(inputs.add(spec));
                    }
                }
            }
        }
        tracing::debug!(pod = name_of(pod), container = container.name, inputs = names.len(), "a container was found");
        names
    }

    /// Adds what is known of the container to its events.
    fn describe(&self, spec: &mut InputSpec, kubernetes: &Fields, container: &Container) {
        let desc = Arc::make_mut(&mut spec.desc);
        for (key, value) in of_container(kubernetes, container) {
            desc.root_fields.entry(key).or_insert(value);
        }
        spec.bind(self.shape);
    }

    fn end_due(&mut self, now: Instant, inputs: &dyn Inputs) {
        self.started.retain(|_, started| {
            if started.until.is_none_or(|until| until > now) {
                return true;
            }
            started.hear();
            started.inputs.drain(..).for_each(|id| inputs.end(id));
            // The reader hasn't answered yet: a file system hangs.
            started.until = Some(now + Duration::from_secs(1));
            !started.asked.is_empty()
        });
    }
}

impl Started {
    /// Hears which of its inputs have begun.
    fn hear(&mut self) {
        let begun = &mut self.inputs;
        self.asked.retain(|asked| match asked.try_recv() {
            Ok(Some(id)) => {
                begun.push(id);
                false
            }
            Ok(None) => {
                tracing::error!(pod = self.pod, "there are too many inputs: a container isn't read");
                false
            }
            Err(TryRecvError::Disconnected) => false,
            Err(TryRecvError::Empty) => true,
        });
    }
}

fn name_of(pod: &Value) -> String {
    let at = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", at("/metadata/namespace"), at("/metadata/name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::sync::mpsc::channel;

    use pillion_output::render::{RenderOptions, Renderer, Target};
    use pillion_world::World;

    #[derive(Default)]
    struct Fake {
        added: RefCell<Vec<InputSpec>>,
    }

    impl Inputs for Fake {
        fn add(&self, spec: InputSpec) -> Option<Receiver<Option<InputId>>> {
            self.added.borrow_mut().push(spec);
            let (tell, name) = channel();
            tell.send(None).unwrap();
            Some(name)
        }
        fn end(&self, _: InputId) {}
    }

    fn shape() -> Arc<dyn Shape> {
        let agent = pillion_output::Agent {
            version: "8.0.0".into(),
            name: "n".into(),
            hostname: "h".into(),
            id: "i".into(),
            ephemeral_id: "e".into(),
        };
        Arc::new(Renderer::new(RenderOptions::new(Target::Elasticsearch, pillion_config::Compat::V8), Arc::new(agent)))
    }

    fn told(ids: &[&str], gone: bool) -> Told {
        let status = |id: &&str| json!({"name": "main", "image": "i", "containerID": format!("containerd://{id}")});
        let pod = json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "status": {"containerStatuses": ids.iter().map(status).collect::<Vec<_>>()},
        });
        let fields = json!({"pod": {"name": "p"}}).as_object().unwrap().clone();
        Told { pod: Arc::new(pod), kubernetes: Arc::new(fields), gone }
    }

    #[tokio::test]
    async fn a_container_has_its_input_once_until_it_is_gone() {
        let yaml = "pillion.compat: 8\ntags: [all]\nfilebeat.autodiscover.providers: [{type: kubernetes, hints.enabled: true}]\n";
        let config = Config::from_yaml(yaml).unwrap();
        let providers = pillion_kube::autodiscover::providers(&config.root()).unwrap();
        check(&config, &providers[0]).unwrap();
        let shape = shape();
        let mut discovery = Discovery::new(&config, &providers[0], &shape);
        let (inputs, mut cluster) = (Fake::default(), Cluster::new(&World::real(), None, "h".to_owned()));
        for ids in [&["a"][..], &["a"], &["b"], &["b"]] {
            discovery.told(&told(ids, false), &inputs, &mut cluster);
        }
        {
            let added = inputs.added.borrow();
            assert_eq!(added.len(), 2);
            assert_eq!(added[0].desc.tags, ["all"]);
            assert_eq!(
                added[0].desc.root_fields["kubernetes"],
                json!({"pod": {"name": "p"}, "container": {"name": "main"}})
            );
            assert_eq!(added[0].desc.root_fields["container"]["id"], "a");
        }
        assert_eq!(discovery.started.values().filter(|s| s.until.is_some()).count(), 1, "the former container");
        discovery.end_due(Instant::now() + Duration::from_secs(61), &inputs);
        assert_eq!(discovery.started.len(), 1);
        discovery.told(&told(&["b", "c"], true), &inputs, &mut cluster);
        assert_eq!(inputs.added.borrow().len(), 3, "one that was gone before it was looked at is read");
        discovery.end_due(Instant::now() + Duration::from_secs(61), &inputs);
        assert!(discovery.started.is_empty());
    }

    #[test]
    fn a_template_may_be_a_module() {
        let config = Config::from_yaml("pillion: {compat: 8, modules.version: 8.1.0}\n").unwrap();
        let module = json!({"module": "nginx", "access": {"input": {"type": "container", "paths": ["/c/*.log"]}}});
        let found = specs(&config, &module).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].desc.pipeline.as_deref(), Some("filebeat-8.1.0-nginx-access-pipeline"));
        assert_eq!(found[0].desc.kind, pillion_event::InputKind::Container);
        assert!(specs(&config, &json!({"module": "none", "log": {}})).is_err());
    }

    #[test]
    fn a_template_that_is_no_input_is_refused_at_the_start() {
        let yaml = "filebeat.autodiscover.providers: [{type: kubernetes, templates: [{config: [{type: log, encoding: no-such-one, \
                    paths: ['/x/${data.kubernetes.container.id}']}]}]}]\n";
        let config = Config::from_yaml(yaml).unwrap();
        let providers = pillion_kube::autodiscover::providers(&config.root()).unwrap();
        assert!(check(&config, &providers[0]).is_err());
    }
}
