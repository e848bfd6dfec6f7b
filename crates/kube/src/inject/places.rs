//! Where the logs lie: which volumes the containers and the sidecar share, and how.
//!
//! Comes in: the paths asked for, the containers' mounts, the volumes. Goes out: what to mount where, in [`Places`].
//!
//! Always holds:
//! - A folder that a container already has on a volume is shared by that volume; only where none has it there is a new
//!   emptyDir.
//! - On a volume that pods share (a claim, a host's folder, NFS), each pod has a place of its own, by `subPathExpr`. What
//!   else lies on that volume stays where it is, unless the folder of logs was named and is the whole mount.
//! - Nothing is added that a pod's author couldn't have mounted: no new hostPath, no volume of another pod.
//!
//! Tested in `tests/inject.rs`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Refusal;
use super::options::{Options, Way};

/// Folders that are looked for when no path is named; the last one is made when no container has any of them.
const USUAL: &[&str] = &["/data", "/var/log/app"];

/// The variables by which a container of the work finds its own place.
const OWN_PLACE: &str = "$(PILLION_POD_NAME)_$(PILLION_POD_UID)";
/// The same in the sidecar.
const SIDECAR_PLACE: &str = "$(POD_NAME)_$(POD_UID)";

/// A container of the work, as far as it matters here.
pub(crate) struct Main<'a> {
    pub(crate) name: String,
    pub(crate) at: String,
    pub(crate) container: &'a Value,
    /// Mounts that it has beside its own `volumeMounts`.
    pub(crate) inherited: Vec<Value>,
}

/// What has to be mounted.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// New volumes.
    pub(crate) volumes: Vec<Value>,
    /// New mounts of the containers, by their place in the list.
    pub(crate) added: Vec<(usize, Value)>,
    /// Mounts of the containers that change: container, mount, what it becomes.
    pub(crate) changed: Vec<(usize, usize, Value)>,
    /// Containers that need the variables of [`OWN_PLACE`].
    pub(crate) with_own_place: BTreeSet<usize>,
    /// The sidecar's mounts.
    pub(crate) sidecar: Vec<Value>,
    /// Variables that the sidecar's mounts need.
    pub(crate) env: Vec<Value>,
    /// The folders of logs.
    pub(crate) folders: Vec<String>,
    /// Whether the containers write into folders of their own beneath [`Places::folders`].
    pub(crate) apart: bool,
    /// The first folder of logs on a volume that pods share, when the registry is to lie there.
    pub(crate) beside: Option<String>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// The folder above the first part with a wildcard; the path itself when it has none.
pub(crate) fn folder_of(path: &str) -> &str {
    let end = path.find(['*', '?', '[', '{']).map_or(path.len(), |at| path[..at].rfind('/').unwrap_or(0));
    let folder = path[..end].trim_end_matches('/');
    if folder.is_empty() { "/" } else { folder }
}

/// Finds a place for every path.
pub(crate) fn find(options: &Options, way: Way, mains: &[Main<'_>], volumes: &[Value]) -> Result<Places, Refusal> {
    let mut places = Places { folders: folders(options, mains), ..Places::default() };
    for folder in places.folders.clone() {
        let covering: Vec<(usize, Mount<'_>)> =
            mains.iter().enumerate().filter_map(|(i, main)| Some((i, main.mount_over(&folder)?))).collect();
        // What `exec` ships it finds in its own container.
        if covering.is_empty() && way != Way::Exec {
            places.make(&folder, mains, volumes);
        }
        for (i, mount) in covering {
            places.share(&folder, i, &mains[i], &mount, volumes, options)?;
        }
    }
    if options.beside_logs && places.beside.is_none() {
        places.notes.push(
            "`beside_logs` changes nothing: no logs lie on a volume that outlives the pod and that others see".into(),
        );
    }
    Ok(places)
}

/// The folders of logs, none beneath another.
fn folders(options: &Options, mains: &[Main<'_>]) -> Vec<String> {
    let mut folders: Vec<String> = options.paths.iter().map(|path| folder_of(path).to_owned()).collect();
    if folders.is_empty() {
        let there = |folder: &&str| mains.iter().any(|main| main.mount_over(folder).is_some());
        folders = USUAL.iter().copied().filter(there).map(str::to_owned).collect();
    }
    if folders.is_empty() {
        folders = USUAL.last().into_iter().map(|folder| (*folder).to_owned()).collect();
    }
    let all = folders.clone();
    let mut seen = BTreeSet::new();
    folders.retain(|f| seen.insert(f.clone()) && !all.iter().any(|other| other != f && is_within(f, other)));
    folders
}

/// Whether `path` lies in `folder`, or is it.
fn is_within(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A mount of a container.
struct Mount<'a> {
    /// Its place in the container's own list; `None` for one that is inherited.
    index: Option<usize>,
    value: &'a Value,
}

impl Mount<'_> {
    fn text(&self, key: &str) -> &str {
        self.value[key].as_str().unwrap_or_default()
    }

    fn path(&self) -> &str {
        self.text("mountPath").trim_end_matches('/')
    }
}

impl Main<'_> {
    /// The mount that a path lies in: the deepest one.
    fn mount_over(&self, path: &str) -> Option<Mount<'_>> {
        let own = self.container["volumeMounts"].as_array().into_iter().flatten();
        let own = own.enumerate().map(|(i, value)| Mount { index: Some(i), value });
        let inherited = self.inherited.iter().map(|value| Mount { index: None, value });
        own.chain(inherited)
            .filter(|mount| !mount.text("mountPath").is_empty() && is_within(path, mount.path()))
            .max_by_key(|mount| mount.path().len())
    }

    /// The definition of one of its variables.
    fn variable(&self, name: &str) -> Option<&Value> {
        self.container["env"].as_array()?.iter().find(|env| env["name"] == name)
    }

    /// Whether the expression names the pod: by its name or its uid.
    fn names_the_pod(&self, expression: &str) -> bool {
        variables(expression).any(|name| {
            let field = self.variable(name).and_then(|env| env.pointer("/valueFrom/fieldRef/fieldPath"));
            field.and_then(Value::as_str).is_some_and(|field| field == "metadata.name" || field == "metadata.uid")
        })
    }
}

/// The variables of a `subPathExpr`.
fn variables(expression: &str) -> impl Iterator<Item = &str> {
    expression.split("$(").skip(1).filter_map(|rest| rest.split_once(')').map(|(name, _)| name))
}

/// What a volume is like, from the keys of its definition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Each pod has its own.
    Own,
    /// Other pods may have it too.
    Shared,
    /// Nothing can be written to it.
    Fixed,
}

fn kind_of(volume: &Value) -> Kind {
    let has = |keys: &[&str]| keys.iter().any(|key| volume.get(key).is_some());
    if has(&["emptyDir", "ephemeral", "volumeClaimTemplate"]) {
        Kind::Own
    } else if has(&["configMap", "secret", "projected", "downwardAPI", "image"]) {
        Kind::Fixed
    } else if volume.as_object().is_some_and(|v| v.len() == 1) {
        Kind::Own // a volume without a source is an emptyDir
    } else {
        Kind::Shared
    }
}

impl Places {
    /// A new volume for a folder that no container has on one.
    fn make(&mut self, folder: &str, mains: &[Main<'_>], volumes: &[Value]) {
        let taken = |name: &str| volumes.iter().chain(&self.volumes).any(|v| v["name"] == name);
        let name = free_name("pillion-logs", taken);
        self.apart |= mains.len() > 1;
        for (i, main) in mains.iter().enumerate() {
            let mut mount = json!({"name": name, "mountPath": folder});
            if mains.len() > 1 {
                mount["subPath"] = json!(main.name);
            }
            self.added.push((i, mount));
        }
        self.sidecar.push(json!({"name": name, "mountPath": folder, "readOnly": true}));
        self.volumes.push(json!({"name": name, "emptyDir": {}}));
        let apart = if mains.len() > 1 { "; each container has a folder of its own in it" } else { "" };
        self.notes.push(format!(
            "{folder} is a new, empty volume in the container: what the image has there is hidden{apart}"
        ));
    }

    /// The volume that a container has over a folder.
    fn share(
        &mut self,
        folder: &str,
        index: usize,
        main: &Main<'_>,
        mount: &Mount<'_>,
        volumes: &[Value],
        options: &Options,
    ) -> Result<(), Refusal> {
        let named = !options.paths.is_empty();
        let at = format!("{}/volumeMounts", main.at);
        let at = mount.index.map_or(at.clone(), |i| format!("{at}/{i}"));
        let name = mount.text("name");
        let Some(volume) = volumes.iter().find(|v| v["name"] == name) else {
            return Err(Refusal::new(at, format!("there is no volume `{name}`"), "complete the manifest"));
        };
        let kind = kind_of(volume);
        if kind == Kind::Fixed || mount.value["readOnly"] == true {
            return Err(Refusal::new(
                at,
                format!("no log can be written to {folder}: the volume `{name}` is only for reading"),
                "name the folders that logs are written to with `paths`",
            ));
        }
        let expression = mount.text("subPathExpr");
        let beside = options.beside_logs && kind == Kind::Shared && self.beside.as_ref().is_none_or(|f| f == folder);
        if kind == Kind::Own || main.names_the_pod(expression) {
            self.share_as_it_is(main, mount, &at, beside)?;
            self.beside = self.beside.take().or_else(|| beside.then(|| folder.to_owned()));
            return Ok(());
        }
        if !named {
            return Err(Refusal::new(
                at,
                format!("{folder} lies on the volume `{name}`, which other pods may have too"),
                "say with `paths` which folder the logs are written to: each pod is given a place of its own there",
            ));
        }
        if mount.index.is_none() {
            return Err(Refusal::new(
                at,
                format!("{folder} lies on the shared volume `{name}`, mounted for several containers at once"),
                "mount it in the container itself",
            ));
        }
        self.give_own_place(folder, index, main, mount, beside)?;
        self.beside = self.beside.take().or_else(|| beside.then(|| folder.to_owned()));
        Ok(())
    }

    /// The sidecar has what the container has, at the same place.
    fn share_as_it_is(&mut self, main: &Main<'_>, mount: &Mount<'_>, at: &str, writes: bool) -> Result<(), Refusal> {
        let mut own = Map::new();
        for key in ["name", "mountPath", "subPath", "subPathExpr"] {
            if let Some(value) = mount.value.get(key).filter(|v| !v.is_null()) {
                own.insert(key.to_owned(), value.clone());
            }
        }
        if !writes {
            own.insert("readOnly".to_owned(), json!(true));
        }
        for name in variables(mount.text("subPathExpr")) {
            let Some(env) = main.variable(name) else {
                return Err(Refusal::new(
                    at,
                    format!("the variable `{name}` of `subPathExpr` isn't among this container's `env`"),
                    "define it there, so that the sidecar can have it too",
                ));
            };
            if !self.env.contains(env) {
                self.env.push(env.clone());
            }
        }
        self.mount(Value::Object(own), at)
    }

    /// A place of its own for this pod, on a volume that pods share.
    fn give_own_place(
        &mut self,
        folder: &str,
        index: usize,
        main: &Main<'_>,
        mount: &Mount<'_>,
        writes: bool,
    ) -> Result<(), Refusal> {
        let at = format!("{}/volumeMounts", main.at);
        let mut base = match mount.text("subPathExpr") {
            "" => mount.text("subPath").replace("$(", "$$("),
            expression => expression.to_owned(),
        };
        let relative = folder[mount.path().len()..].trim_matches('/');
        if !base.is_empty() && !relative.is_empty() {
            base.push('/');
        }
        base.push_str(relative);
        let place = |own: &str| if base.is_empty() { own.to_owned() } else { format!("{base}/{own}") };
        let name = mount.text("name");
        match mount.index.filter(|_| relative.is_empty()) {
            Some(i) => {
                let mut changed = mount.value.clone();
                if let Some(changed) = changed.as_object_mut() {
                    changed.shift_remove("subPath");
                    changed.insert("subPathExpr".to_owned(), json!(place(OWN_PLACE)));
                }
                self.changed.push((index, i, changed));
                self.notes.push(format!(
                    "{folder} of container {} is now a folder for this pod alone on the volume {name}: what lies there \
                     already isn't seen any more",
                    main.name
                ));
            }
            None => {
                let new = json!({"name": name, "mountPath": folder, "subPathExpr": place(OWN_PLACE)});
                self.added.push((index, new));
            }
        }
        self.with_own_place.insert(index);
        let mut own = json!({"name": name, "mountPath": folder, "subPathExpr": place(SIDECAR_PLACE)});
        if !writes {
            own["readOnly"] = json!(true);
        }
        self.mount(own, &at)
    }

    /// A mount of the sidecar, once.
    fn mount(&mut self, mount: Value, at: &str) -> Result<(), Refusal> {
        match self.sidecar.iter().find(|other| other["mountPath"] == mount["mountPath"]) {
            Some(other) if *other == mount => {}
            Some(other) => {
                return Err(Refusal::new(
                    at,
                    format!(
                        "two containers have different volumes at {}: `{}` and `{}`",
                        mount["mountPath"].as_str().unwrap_or_default(),
                        other["name"].as_str().unwrap_or_default(),
                        mount["name"].as_str().unwrap_or_default()
                    ),
                    "say with `containers` whose logs are shipped",
                ));
            }
            None => self.sidecar.push(mount),
        }
        Ok(())
    }
}

/// The name, or with a number after it the first that isn't taken.
pub(crate) fn free_name(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_path() {
        for (path, folder) in [
            ("/data", "/data"),
            ("/data/", "/data"),
            ("/data/*.log", "/data"),
            ("/data/**/x-?.log", "/data"),
            ("/a/b*/c", "/a"),
            ("/*.log", "/"),
            ("/", "/"),
        ] {
            assert_eq!(folder_of(path), folder, "{path}");
        }
    }

    #[test]
    fn a_path_lies_in_a_folder_or_beside_it() {
        assert!(is_within("/data/a", "/data") && is_within("/data", "/data/") && is_within("/x", "/"));
        assert!(!is_within("/data2", "/data") && !is_within("/", "/data"));
    }
}
