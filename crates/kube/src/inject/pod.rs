//! One pod: what is in it, which way fits it, and what is added.
//!
//! Comes in: an object, where it describes a pod, options. Goes out: the object with Pillion in it, or a refusal.
//!
//! Always holds: a pod that has the mark, or a Pillion of its own, isn't touched. A refused pod may be half changed: the
//! caller throws the object away.
//! Tested in `tests/inject.rs`.

use serde_json::{Map, Value, json};

use super::kinds::{Place, Shape};
use super::options::{ConfigSource, KubeVersion, Options, Way};
use super::places::{self, Main, Places, free_name};
use super::sidecar::{self, About};
use super::wrapper::{self, Restart};
use super::{CONTAINER, MARK, Plan, Refusal};

/// Kubernetes' own default of `terminationGracePeriodSeconds`.
const GRACE: u64 = 30;

/// A pod as it is described, before anything is changed.
struct Pod<'a> {
    object: &'a Value,
    place: &'a Place,
    /// What holds containers and volumes.
    spec: &'a Value,
    /// JSON pointer to it.
    at: String,
    restart: Restart,
    grace: u64,
}

/// Puts Pillion into the pod at `place` of `object`.
pub(crate) fn inject(object: &mut Value, place: &Place, options: &Options, plan: &mut Plan) -> Result<(), Refusal> {
    let before = object.clone();
    let Some(pod) = Pod::of(&before, place) else { return Ok(()) };
    let options = pod.options(options)?;
    let say = |plan: &mut Plan, text: &str| plan.notes.push(format!("{}: {text}", pod.name()));
    if !options.inject {
        return Ok(());
    }
    if let Some(version) = pod.mark() {
        say(plan, &format!("has been injected already, by version {version}"));
        return Ok(());
    }
    if pod.has_its_own() {
        say(plan, "has a Pillion of its own: left alone");
        return Ok(());
    }
    let mut notes = Vec::new();
    let way = pod.way(&options, &mut notes)?;
    let mains = pod.mains(&options)?;
    let volumes = pod.volumes();
    let found = places::find(&options, way, &mains, &volumes)?;
    notes.extend(found.notes.iter().cloned());
    let about = pod.about(&options, way, &mains, &volumes, &found)?;
    let mut change = Change { object, pod: &pod, options: &options, about: &about, mains: &mains, found: &found };
    change.mains(&volumes)?;
    change.containers()?;
    change.volumes()?;
    change.rest()?;
    if let Some(document) = pod.config_map(&options).filter(|d| !plan.documents.contains(d)) {
        plan.documents.push(document);
    }
    if options.config == ConfigSource::Image && options.output.is_none() && options.secret.is_none() {
        notes.push("nothing says where the logs go: name it with `output` or `config`".into());
    }
    notes.iter().for_each(|note| say(plan, note));
    Ok(())
}

impl<'a> Pod<'a> {
    /// `None` where a place holds nothing that can be read as a pod; the API server has the word then.
    fn of(object: &'a Value, place: &'a Place) -> Option<Pod<'a>> {
        let template = object.pointer(&place.at)?;
        let (spec, at) = match place.shape {
            Shape::Pod => (&template["spec"], format!("{}/spec", place.at)),
            Shape::Argo => (template, place.at.clone()),
        };
        let restart = match (place.shape, spec["restartPolicy"].as_str()) {
            (Shape::Argo, _) | (_, Some("Never")) => Restart::Never,
            (_, Some("OnFailure")) => Restart::OnFailure,
            _ => Restart::Always,
        };
        let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(GRACE);
        Some(Pod { object, place, spec, at, restart, grace })
    }

    /// As a person would call it: `Job orders`.
    fn name(&self) -> String {
        let object = self.object.pointer(&self.place.object).unwrap_or(&Value::Null);
        let meta = &object["metadata"];
        let name = meta["name"].as_str().or_else(|| meta["generateName"].as_str()).unwrap_or("without a name");
        let kind = object["kind"].as_str().unwrap_or_default();
        match self.place.shape {
            Shape::Pod => format!("{kind} {name}"),
            Shape::Argo => format!("{kind} {name}, template {}", self.spec["name"].as_str().unwrap_or("?")),
        }
    }

    fn refuse(&self, below: &str, reason: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal::new(format!("{}{below}", self.at), reason, remedy)
    }

    fn annotations(&self) -> &Value {
        self.object.pointer(&format!("{}/metadata/annotations", self.place.at)).unwrap_or(&Value::Null)
    }

    fn options(&self, options: &Options) -> Result<Options, Refusal> {
        options.with_annotations(self.annotations()).map_err(|(key, reason)| {
            let at = format!("{}/metadata/annotations/{}", self.place.at, super::edits::escape(&key));
            Refusal::new(at, reason, "see `pillion help inject`")
        })
    }

    fn mark(&self) -> Option<String> {
        let mark = self.annotations().get(MARK)?;
        Some(mark.as_str().map_or_else(|| mark.to_string(), str::to_owned))
    }

    /// All containers by the key of their list.
    fn lists(&self) -> impl Iterator<Item = (&'static str, &'a Vec<Value>)> {
        let keys = ["containers", "initContainers", "sidecars"];
        keys.into_iter().filter_map(|key| Some((key, self.spec[key].as_array()?)))
    }

    fn has_its_own(&self) -> bool {
        let is_ours = |image: &str| {
            let name = image.rsplit('/').next().unwrap_or(image);
            name.split([':', '@']).next() == Some("pillion")
        };
        self.lists()
            .flat_map(|(_, list)| list)
            .any(|container| container["name"] == CONTAINER || container["image"].as_str().is_some_and(is_ours))
    }

    fn way(&self, options: &Options, notes: &mut Vec<String>) -> Result<Way, Refusal> {
        let windows = self.spec["os"]["name"] == "windows"
            || self.spec["nodeSelector"].get("kubernetes.io/os").is_some_and(|os| os == "windows");
        if windows {
            return Err(self.refuse("", "a pod for Windows", "Pillion runs on Linux; leave this pod out"));
        }
        match (self.place.shape, options.way) {
            (Shape::Argo, Way::Auto | Way::Signal) => Ok(Way::Signal),
            (Shape::Argo, way) => Err(self.refuse(
                "",
                format!("the way `{}` isn't for workflows", way.as_str()),
                "Argo ends sidecars itself when the work is done: leave the way to `auto`",
            )),
            (Shape::Pod, Way::Auto) => Ok(self.best_way(options, notes)),
            (Shape::Pod, way) => self.fitting(way, options),
        }
    }

    fn best_way(&self, options: &Options, notes: &mut Vec<String>) -> Way {
        if has_native(options) {
            if options.kube_version.is_none() {
                notes.push("taken for a cluster of version 1.29 or later; else say `--kube-version`".into());
            }
            return Way::Native;
        }
        let unknown = |list: &Vec<Value>| list.iter().any(|container| !container["command"].is_array());
        if self.restart == Restart::Always && self.spec["containers"].as_array().is_some_and(unknown) {
            notes.push(
                "Pillion ends at the same SIGTERM as the work, whose last lines may miss it: write down the \
                 containers' `command`"
                    .into(),
            );
            return Way::Signal;
        }
        Way::Flag
    }

    /// A way that was asked for, if it fits.
    fn fitting(&self, way: Way, options: &Options) -> Result<Way, Refusal> {
        match way {
            Way::Native if !has_native(options) => Err(self.refuse(
                "",
                "this version of Kubernetes has no native sidecars: the pod would never get beyond its init containers",
                "take the way `auto` or `flag`",
            )),
            Way::Signal if self.restart != Restart::Always => Err(self.refuse(
                "/restartPolicy",
                "the way `signal` is for pods that run until they are deleted: this one would never end",
                "take the way `auto`",
            )),
            Way::Process if !has_native(options) => Err(self.refuse(
                "",
                "this version of Kubernetes has no native sidecars: work that ends before Pillion has started isn't seen, \
                 and the pod would never end",
                "take the way `auto` or `flag`",
            )),
            Way::Process if self.restart != Restart::Never => Err(self.refuse(
                "/restartPolicy",
                "the way `process` takes the end of one try for the end of the work",
                "take the way `native` or `flag`, or restartPolicy Never",
            )),
            Way::Process if self.spec["shareProcessNamespace"] != true => Err(self.refuse(
                "/shareProcessNamespace",
                "the way `process` needs containers that see each other's processes",
                "write `shareProcessNamespace: true` into the pod's spec: it changes what process 1 is in each \
                 container, so it isn't done by itself",
            )),
            way => Ok(way),
        }
    }

    /// The containers whose logs are shipped.
    fn mains(&self, options: &Options) -> Result<Vec<Main<'a>>, Refusal> {
        let mut mains = Vec::new();
        let mut add = |below: String, container: &'a Value, inherited: Vec<Value>| {
            let name = container["name"].as_str().unwrap_or("main").to_owned();
            if options.containers.is_empty() || options.containers.contains(&name) {
                mains.push(Main { name, at: format!("{}{below}", self.at), container, inherited });
            }
        };
        for (i, container) in self.spec["containers"].as_array().into_iter().flatten().enumerate() {
            add(format!("/containers/{i}"), container, Vec::new());
        }
        if self.place.shape == Shape::Argo {
            for key in ["container", "script"] {
                if self.spec[key].is_object() {
                    add(format!("/{key}"), &self.spec[key], Vec::new());
                }
            }
            let set = &self.spec["containerSet"];
            let inherited = set["volumeMounts"].as_array().cloned().unwrap_or_default();
            for (i, container) in set["containers"].as_array().into_iter().flatten().enumerate() {
                add(format!("/containerSet/containers/{i}"), container, inherited.clone());
            }
        }
        if let Some(bad) = mains.iter().find(|main| !main.container.is_object()) {
            return Err(Refusal::new(&bad.at, "a container is a mapping", "complete the manifest"));
        }
        if let Some(missing) = options.containers.iter().find(|name| !mains.iter().any(|main| main.name == **name)) {
            return Err(self.refuse("/containers", format!("there is no container `{missing}`"), "see `containers`"));
        }
        if mains.is_empty() {
            return Err(self.refuse("/containers", "a pod without containers", "complete the manifest"));
        }
        Ok(mains)
    }

    /// All volumes that a container may name.
    fn volumes(&self) -> Vec<Value> {
        let mut volumes: Vec<Value> = self.spec["volumes"].as_array().cloned().unwrap_or_default();
        let above = match self.place.shape {
            Shape::Argo => self.place.at.rsplit_once("/templates/").map(|(spec, _)| spec),
            Shape::Pod => self.place.at.strip_suffix("/template"),
        };
        let Some(above) = above.and_then(|at| self.object.pointer(at)) else { return volumes };
        volumes.extend(above["volumes"].as_array().into_iter().flatten().cloned());
        // A set's pods have a claim each; a workflow's pods share it.
        let key = if self.place.shape == Shape::Pod { "volumeClaimTemplate" } else { "persistentVolumeClaim" };
        for claim in above["volumeClaimTemplates"].as_array().into_iter().flatten() {
            volumes.push(json!({"name": claim["metadata"]["name"], key: {}}));
        }
        volumes
    }

    fn about(
        &self,
        options: &Options,
        way: Way,
        mains: &[Main<'_>],
        volumes: &[Value],
        found: &Places,
    ) -> Result<About, Refusal> {
        let taken = |name: &str| volumes.iter().chain(&found.volumes).any(|v| v["name"] == name);
        let process = match way {
            Way::Process => Some(self.process(mains)?),
            _ => None,
        };
        if way == Way::Exec && options.config == ConfigSource::Image {
            return Err(self.refuse(
                "",
                "the way `exec` runs in the work's own image, which has no configuration",
                "name one with `config`",
            ));
        }
        if way == Way::Exec && mains.len() > 1 {
            return Err(self.refuse("/containers", "the way `exec` is for one container", "name it with `containers`"));
        }
        let pod_user = self.spec.pointer("/securityContext/runAsUser").and_then(Value::as_u64);
        let users = mains.iter().map(|main| main.container.pointer("/securityContext/runAsUser")?.as_u64());
        Ok(About {
            way,
            restart: self.restart,
            argo: self.place.shape == Shape::Argo,
            grace: self.grace.max(options.grace_period.map_or(0, u64::from)),
            user: sidecar::user(options, users.flatten().next(), pod_user),
            guaranteed: self.is_guaranteed(),
            process,
            patterns: patterns(options, found),
            mounts: found.sidecar.clone(),
            env: found.env.clone(),
            beside: found.beside.clone().filter(|_| way != Way::Exec),
            data: free_name("pillion-data", taken),
            config: (options.config != ConfigSource::Image).then(|| free_name("pillion-config", taken)),
            run: (way == Way::Flag).then(|| free_name("pillion-run", taken)),
        })
    }

    /// The name of the work's process.
    fn process(&self, mains: &[Main<'_>]) -> Result<String, Refusal> {
        let [main] = mains else {
            return Err(self.refuse(
                "/containers",
                "the way `process` is for one container",
                "name it with `containers`",
            ));
        };
        let command = command_of(main, Way::Process)?;
        let program = command.first().map(String::as_str).unwrap_or_default();
        Ok(program.rsplit('/').next().unwrap_or(program).to_owned())
    }

    /// Whether every container's requests are its limits, for processor and memory (Kubernetes' class `Guaranteed`).
    fn is_guaranteed(&self) -> bool {
        let mut containers = self.lists().flat_map(|(_, list)| list).peekable();
        containers.peek().is_some()
            && containers.all(|container| {
                ["cpu", "memory"].iter().all(|resource| {
                    let limit = &container["resources"]["limits"][resource];
                    let request = &container["resources"]["requests"][resource];
                    !limit.is_null() && (request.is_null() || request == limit)
                })
            })
    }

    /// The ConfigMap that a configuration given as text needs.
    fn config_map(&self, options: &Options) -> Option<Value> {
        let ConfigSource::Text(text) = &options.config else { return None };
        let mut metadata = Map::new();
        metadata.insert("name".into(), json!(self.config_map_name()));
        if let Some(namespace) = self.object.pointer(&format!("{}/metadata/namespace", self.place.object)) {
            metadata.insert("namespace".into(), namespace.clone());
        }
        Some(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"filebeat.yml": text}}))
    }

    fn config_map_name(&self) -> String {
        let meta = self.object.pointer(&format!("{}/metadata", self.place.object)).unwrap_or(&Value::Null);
        let name = meta["name"].as_str().or_else(|| meta["generateName"].as_str()).unwrap_or_default();
        let name = name.trim_end_matches('-');
        if name.is_empty() { "pillion".into() } else { format!("{name}-pillion") }
    }
}

/// Whether the cluster has native sidecars, as far as is known.
fn has_native(options: &Options) -> bool {
    options.kube_version.is_none_or(|version| version >= KubeVersion::NATIVE)
}

/// The command of a container, for a way that runs it itself.
fn command_of(main: &Main<'_>, way: Way) -> Result<Vec<String>, Refusal> {
    let command = main.container["command"].as_array();
    let words: Option<Vec<String>> = command.map(|c| c.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    words.filter(|words| !words.is_empty()).ok_or_else(|| {
        let image = main.container["image"].as_str().unwrap_or("IMAGE");
        Refusal::new(
            format!("{}/command", main.at),
            format!(
                "the way `{}` runs the command of container `{}`, which isn't written down",
                way.as_str(),
                main.name
            ),
            format!(
                "write the image's own into `command` (docker image inspect shows Entrypoint and Cmd of {image}), or \
                 take the way `native`, for clusters of version 1.29 or later"
            ),
        )
    })
}

/// Files that the image's own configuration doesn't look for.
fn patterns(options: &Options, found: &Places) -> Vec<String> {
    if options.config != ConfigSource::Image || options.paths.is_empty() {
        return Vec::new();
    }
    let mut patterns = Vec::new();
    for path in &options.paths {
        let folder = places::folder_of(path);
        if folder == path.trim_end_matches('/') {
            patterns.push(format!("{folder}/**/*.log"));
            continue;
        }
        patterns.push(path.clone());
        if found.apart && !path.contains("**") {
            patterns.push(format!("{folder}/*{}", &path[folder.len()..]));
        }
    }
    patterns
}

/// The object while it is being changed.
struct Change<'a> {
    object: &'a mut Value,
    pod: &'a Pod<'a>,
    options: &'a Options,
    about: &'a About,
    mains: &'a [Main<'a>],
    found: &'a Places,
}

impl Change<'_> {
    fn at(&mut self, at: &str) -> Result<&mut Value, Refusal> {
        self.object.pointer_mut(at).ok_or_else(|| Refusal::new(at, "nothing there", "complete the manifest"))
    }

    /// The list at a key of a mapping; made when it isn't there.
    fn list(&mut self, at: &str, key: &str) -> Result<&mut Vec<Value>, Refusal> {
        let refusal = Refusal::new(format!("{at}/{key}"), "this has to be a list", "correct the manifest");
        let map = self.at(at)?.as_object_mut().ok_or_else(|| refusal.clone())?;
        let list = map.entry(key).or_insert(Value::Null);
        if list.is_null() {
            *list = json!([]);
        }
        list.as_array_mut().ok_or(refusal)
    }

    /// A mapping at a key of a mapping; made when it isn't there.
    fn map(&mut self, at: &str, key: &str) -> Result<&mut Map<String, Value>, Refusal> {
        let refusal = Refusal::new(format!("{at}/{key}"), "this has to be a mapping", "correct the manifest");
        let map = self.at(at)?.as_object_mut().ok_or_else(|| refusal.clone())?;
        let inner = map.entry(key).or_insert(Value::Null);
        if inner.is_null() {
            *inner = json!({});
        }
        inner.as_object_mut().ok_or(refusal)
    }

    /// Mounts, variables and commands of the work's containers.
    fn mains(&mut self, volumes: &[Value]) -> Result<(), Refusal> {
        let (mains, found, about) = (self.mains, self.found, self.about);
        for (i, mount, value) in &found.changed {
            *self.at(&format!("{}/volumeMounts/{mount}", mains[*i].at))? = value.clone();
        }
        for (i, mount) in &found.added {
            self.list(&mains[*i].at, "volumeMounts")?.push(mount.clone());
        }
        for i in &found.with_own_place {
            let env = self.list(&mains[*i].at, "env")?;
            for (name, field) in [("PILLION_POD_NAME", "metadata.name"), ("PILLION_POD_UID", "metadata.uid")] {
                if !env.iter().any(|e| e["name"] == name) {
                    env.push(json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}));
                }
            }
        }
        match about.way {
            Way::Flag => self.wrap(),
            Way::Exec => self.exec(volumes),
            _ => Ok(()),
        }
    }

    fn wrap(&mut self) -> Result<(), Refusal> {
        let (mains, about) = (self.mains, self.about);
        let all: Vec<String> = mains.iter().map(|main| main.name.clone()).collect();
        for main in mains {
            let command = command_of(main, Way::Flag)?;
            let words = wrapper::wrap(&command, &main.name, &all, about.restart);
            self.at(&main.at)?["command"] = json!(words);
            let run = about.run.as_deref().unwrap_or_default();
            self.list(&main.at, "volumeMounts")?.push(json!({"name": run, "mountPath": wrapper::RUN}));
        }
        Ok(())
    }

    fn exec(&mut self, volumes: &[Value]) -> Result<(), Refusal> {
        let (mains, about, options) = (self.mains, self.about, self.options);
        let Some(main) = mains.first() else { return Ok(()) };
        let command = command_of(main, Way::Exec)?;
        self.at(&main.at)?["command"] = json!(sidecar::exec(options, about, &command));
        let bin = bin_volume(volumes);
        let mounts = self.list(&main.at, "volumeMounts")?;
        mounts.extend(sidecar::own_mounts(about));
        mounts.push(json!({"name": bin, "mountPath": sidecar::BIN, "readOnly": true}));
        let env = self.list(&main.at, "env")?;
        for variable in sidecar::variables(options, about) {
            if !env.iter().any(|e| e["name"] == variable["name"]) {
                env.push(variable);
            }
        }
        if let Some(secret) = &options.secret {
            self.list(&main.at, "envFrom")?.push(json!({"secretRef": {"name": secret}}));
        }
        let installer = sidecar::installer(options, about.user, &bin);
        let at = self.pod.at.clone();
        self.list(&at, "initContainers")?.push(installer);
        self.list(&at, "volumes")?.push(json!({"name": bin, "emptyDir": {}}));
        Ok(())
    }

    /// Our own container: the last of its list, so that it starts after a mesh's proxy, and ends before it.
    fn containers(&mut self) -> Result<(), Refusal> {
        let key = match (self.about.way, self.pod.place.shape) {
            (Way::Exec, _) => return Ok(()),
            (_, Shape::Argo) => "sidecars",
            _ if self.about.is_native() => "initContainers",
            _ => "containers",
        };
        let container = sidecar::container(self.options, self.about);
        let at = self.pod.at.clone();
        self.list(&at, key)?.push(container);
        Ok(())
    }

    fn volumes(&mut self) -> Result<(), Refusal> {
        let about = self.about;
        let mut new = self.found.volumes.clone();
        new.push(json!({"name": about.data, "emptyDir": {}}));
        if let Some(run) = &about.run {
            new.push(json!({"name": run, "emptyDir": {}}));
        }
        if let Some(config) = &about.config {
            let name = match &self.options.config {
                ConfigSource::ConfigMap { name, .. } => name.clone(),
                _ => self.pod.config_map_name(),
            };
            new.push(json!({"name": config, "configMap": {"name": name}}));
        }
        let at = self.pod.at.clone();
        self.list(&at, "volumes")?.extend(new);
        Ok(())
    }

    /// The grace period, and the mark.
    fn rest(&mut self) -> Result<(), Refusal> {
        let (at, place) = (self.pod.at.clone(), self.pod.place);
        if self.options.grace_period.is_some_and(|asked| u64::from(asked) > self.pod.grace) && !self.about.argo {
            self.at(&at)?["terminationGracePeriodSeconds"] = json!(self.about.grace);
        }
        self.map(&place.at, "metadata")?;
        let annotations = self.map(&format!("{}/metadata", place.at), "annotations")?;
        annotations.insert(MARK.to_owned(), json!(env!("CARGO_PKG_VERSION")));
        Ok(())
    }
}

fn bin_volume(volumes: &[Value]) -> String {
    free_name("pillion-bin", |name| volumes.iter().any(|v| v["name"] == name))
}
