//! Leases as JSON: what is written into them, and what is believed of what stands there.
//!
//! Comes in: a table, a sign of life, or an object that anybody may have changed by hand. Goes out: the object, or what it
//! says. Always holds: what makes no sense counts as not there, with a word that says why; nothing grows beyond what a list
//! may hold. Tested in `tests.rs`.

use std::time::Duration;

use pillion_shards::{Beat, NAME_LIMIT, Rules, Table, Version, is_name, read_table, table_text};
use serde_json::{Value, json};

use super::Settings;

/// The annotation with the table of all shards.
const SHARDS: &str = "pillion.dev/shards";
/// The annotation that counts a member's signs of life.
const BEATS: &str = "pillion.dev/beats";
/// The annotation with the number of shards into which a member divides the files.
const COUNT: &str = "pillion.dev/shard-count";
/// The annotation of a member that is about to end.
const LEAVING: &str = "pillion.dev/leaving";
/// The label with the group's name.
const GROUP: &str = "pillion.dev/group";
/// The label of all that Pillion makes.
const MANAGED: &str = "app.kubernetes.io/managed-by";
/// The longest text of a stamp's parts that is believed.
const STAMP: usize = 64;
/// What is said of at most so many Leases at once.
const SAID: usize = 8;

/// How the Leases of a group are called.
pub(super) struct Names {
    pub(super) group: String,
    pub(super) member: String,
    /// The path of the list.
    pub(super) list: String,
    /// The query's value that selects them.
    pub(super) selector: String,
    lease: Duration,
    shards: Option<u16>,
}

impl Names {
    pub(super) fn new(settings: &Settings) -> Names {
        let Settings { namespace, group, member, lease, shards } = settings;
        Names {
            group: group.clone(),
            member: member.clone(),
            list: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            selector: format!("{MANAGED}%3Dpillion%2C{GROUP}%3D{group}"),
            lease: *lease,
            shards: *shards,
        }
    }

    /// The Lease of a member.
    pub(super) fn life(&self, member: &str) -> String {
        format!("{}-{member}", self.group)
    }

    /// The path of a Lease.
    pub(super) fn object(&self, name: &str) -> String {
        format!("{}/{name}", self.list)
    }
}

/// One object in one version. The `uid` keeps a replacement from making a deleted Lease anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: String,
    pub(super) resource: String,
}

impl Identity {
    /// Of an object as the server gives it.
    pub(super) fn of(object: &Value) -> Option<Identity> {
        let text = |key: &str| object["metadata"][key].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        Some(Identity { uid: text("uid")?, resource: text("resourceVersion")? })
    }

    pub(super) fn version(&self) -> Version {
        Version(format!("{}/{}", self.uid, self.resource))
    }

    pub(super) fn of_version(version: &Version) -> Option<Identity> {
        let (uid, resource) = version.0.rsplit_once('/')?;
        Some(Identity { uid: uid.to_owned(), resource: resource.to_owned() })
    }
}

/// A sign of life.
pub(super) struct Life {
    pub(super) count: u64,
    /// When the process began, and now: for people. Nobody compares them.
    pub(super) since: String,
    pub(super) now: String,
    pub(super) leaving: bool,
}

fn lease(names: &Names, name: &str, identity: Option<&Identity>, annotations: &Value, spec: &Value) -> Value {
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "labels": {MANAGED: "pillion", GROUP: names.group},
            "annotations": annotations,
        },
        "spec": spec,
    });
    if let Some(identity) = identity {
        lease["metadata"]["uid"] = identity.uid.clone().into();
        lease["metadata"]["resourceVersion"] = identity.resource.clone().into();
    }
    lease
}

/// The own sign of life, over `identity`.
pub(super) fn life_lease(names: &Names, identity: Option<&Identity>, life: &Life) -> Value {
    let mut annotations = json!({BEATS: life.count.to_string()});
    if life.leaving {
        annotations[LEAVING] = "true".into();
    }
    if let Some(count) = names.shards {
        annotations[COUNT] = count.to_string().into();
    }
    let spec = json!({
        "holderIdentity": names.member,
        "leaseDurationSeconds": names.lease.as_secs().max(1),
        "acquireTime": life.since,
        "renewTime": life.now,
    });
    lease(names, &names.life(&names.member), identity, &annotations, &spec)
}

/// The table, over `identity`; `None`: it can't be written.
pub(super) fn table_lease(names: &Names, identity: Option<&Identity>, table: &Table) -> Option<Value> {
    let annotations = json!({SHARDS: table_text(table)?});
    Some(lease(names, &names.group, identity, &annotations, &json!({})))
}

/// What a look found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) lives: Vec<(Beat, Identity)>,
    pub(super) table: Option<(Identity, Table)>,
    /// What made no sense, for the log.
    pub(super) nonsense: Vec<String>,
}

impl Found {
    /// Takes one Lease in.
    pub(super) fn take(&mut self, names: &Names, lease: &Value) {
        let Some(identity) = Identity::of(lease) else { return self.say("a Lease", "it has no uid or version") };
        let name = lease["metadata"]["name"].as_str().unwrap_or_default();
        if name == names.group {
            return self.take_table(identity, lease);
        }
        match life(names, name, lease) {
            Ok(beat) => self.lives.push((beat, identity)),
            Err(why) => self.say(name, why),
        }
    }

    fn take_table(&mut self, identity: Identity, lease: &Value) {
        let text = lease["metadata"]["annotations"][SHARDS].as_str();
        let (table, nonsense) = text.map_or_else(
            || (Table::new(), Some(format!("it has no annotation {SHARDS}"))),
            |text| read_table(text.as_bytes()),
        );
        if let Some(nonsense) = nonsense {
            self.say("the table", &nonsense);
        }
        self.table = Some((identity, table));
    }

    fn say(&mut self, of: &str, what: &str) {
        if self.nonsense.len() < SAID {
            self.nonsense.push(format!("Lease {}: {what}", of.chars().take(NAME_LIMIT).collect::<String>()));
        }
    }
}

fn life(names: &Names, name: &str, lease: &Value) -> Result<Beat, &'static str> {
    let member = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    if !is_name(member) {
        return Err("its holderIdentity is no member's name");
    }
    if names.life(member) != name {
        return Err("it isn't the Lease of its holder");
    }
    let annotations = &lease["metadata"]["annotations"];
    let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (count, time) = (part(&annotations[BEATS]), part(&lease["spec"]["renewTime"]));
    if count.len() > STAMP || time.len() > STAMP || count.is_empty() && time.is_empty() {
        return Err("it shows no time and no count");
    }
    let leaving = annotations[LEAVING].as_str() == Some("true");
    let rules = Rules {
        shards: annotations[COUNT].as_str().and_then(|count| count.parse().ok()),
        lease: lease["spec"]["leaseDurationSeconds"].as_u64().map(Duration::from_secs),
    };
    Ok(Beat { member: member.to_owned(), stamp: format!("{count}@{time}"), leaving, rules })
}
