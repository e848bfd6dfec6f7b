//! `add_cloud_metadata`: in whose cloud, region and machine this is.
//!
//! Comes in: the options, then what a provider's metadata service answered ([`Provider::read`]). Goes out: `cloud.*`, as
//! Filebeat has it. Who asks is none of this crate's business: the binary asks once, beside all else, and tells
//! ([`Cloud::tell`]).
//!
//! Always holds: no line waits for an answer: an event that comes before it passes without. What the event has already
//! stays, unless `overwrite` says otherwise.
//! Tested below, with answers as the providers document them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pillion_config::{Error, Section};
use serde_json::{Map, Value, json};

use crate::action::{Action, Done};
use crate::doc::Doc;
use crate::options::Outside;

/// The options, by their first names.
pub(crate) const OPTIONS: &[&str] = &["timeout", "providers", "overwrite", "ssl", "host"];

/// A cloud whose metadata service is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// EC2, by a token (IMDSv2).
    Aws,
    /// Google's Compute Engine.
    Gcp,
    /// Azure's virtual machines.
    Azure,
    /// DigitalOcean's droplets.
    DigitalOcean,
}

/// Filebeat's names for them.
const NAMES: &[(&str, Provider)] = &[
    ("aws", Provider::Aws),
    ("ec2", Provider::Aws),
    ("eks", Provider::Aws),
    ("azure", Provider::Azure),
    ("aks", Provider::Azure),
    ("digitalocean", Provider::DigitalOcean),
    ("gcp", Provider::Gcp),
    ("gke", Provider::Gcp),
];

/// One request to a metadata service.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// `GET` or `PUT`.
    pub method: &'static str,
    /// Path and query.
    pub path: &'static str,
    /// A header that it wants, name and value.
    pub header: (&'static str, &'static str),
}

impl Provider {
    /// All of them.
    pub const ALL: [Provider; 4] = [Provider::Aws, Provider::Gcp, Provider::Azure, Provider::DigitalOcean];

    /// What has to be asked first; its answer is the value of this header of the next request.
    pub fn token(self) -> Option<(Request, &'static str)> {
        let header = ("X-aws-ec2-metadata-token-ttl-seconds", "60");
        let request = Request { method: "PUT", path: "/latest/api/token", header };
        (self == Provider::Aws).then_some((request, "X-aws-ec2-metadata-token"))
    }

    /// What is asked.
    pub fn request(self) -> Request {
        let (path, header) = match self {
            Provider::Aws => ("/latest/dynamic/instance-identity/document", ("Accept", "*/*")),
            Provider::Gcp => ("/computeMetadata/v1/?recursive=true&alt=json", ("Metadata-Flavor", "Google")),
            Provider::Azure => ("/metadata/instance/compute?api-version=2021-02-01", ("Metadata", "true")),
            Provider::DigitalOcean => ("/metadata/v1.json", ("Accept", "*/*")),
        };
        Request { method: "GET", path, header }
    }

    /// The fields in an answer; `None` when it isn't this provider's.
    pub fn read(self, answer: &[u8]) -> Option<Map<String, Value>> {
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let text = |path: &str| match answer.pointer(path)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        };
        let last = |path: &str| text(path).map(|t| t.rsplit('/').next().unwrap_or_default().to_owned());
        let (name, service, proof) = self.names();
        text(proof)?;
        let mut cloud = Map::new();
        let known = [("provider", Some(name.to_owned())), ("service.name", Some(service.to_owned()))];
        let region = |zone: String| Some(zone.rsplit_once('-')?.0.to_owned());
        let told = self.places().iter().map(|(path, at, how)| {
            (
                *path,
                match how {
                    How::Whole => text(at),
                    How::Last => last(at),
                    How::Region => last(at).and_then(region),
                },
            )
        });
        for (path, value) in known.into_iter().chain(told) {
            if let Some(value) = value {
                crate::tree::put(&mut cloud, path, Value::String(value)).ok()?;
            }
        }
        Some([("cloud".to_owned(), json!(cloud))].into_iter().collect())
    }

    /// `cloud.provider`, `cloud.service.name`, and what every answer of it has.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Provider::Aws => ("aws", "EC2", "/instanceId"),
            Provider::Gcp => ("gcp", "GCE", "/instance/id"),
            Provider::Azure => ("azure", "Virtual Machines", "/vmId"),
            Provider::DigitalOcean => ("digitalocean", "Droplets", "/droplet_id"),
        }
    }

    /// Where in an answer each field below `cloud` stands.
    fn places(self) -> &'static [(&'static str, &'static str, How)] {
        match self {
            Provider::Aws => &[
                ("instance.id", "/instanceId", How::Whole),
                ("machine.type", "/instanceType", How::Whole),
                ("region", "/region", How::Whole),
                ("availability_zone", "/availabilityZone", How::Whole),
                ("account.id", "/accountId", How::Whole),
                ("image.id", "/imageId", How::Whole),
            ],
            Provider::Gcp => &[
                ("instance.id", "/instance/id", How::Whole),
                ("instance.name", "/instance/name", How::Whole),
                ("machine.type", "/instance/machineType", How::Last),
                ("region", "/instance/zone", How::Region),
                ("availability_zone", "/instance/zone", How::Last),
                ("project.id", "/project/projectId", How::Whole),
                ("account.id", "/project/projectId", How::Whole),
            ],
            Provider::Azure => &[
                ("account.id", "/subscriptionId", How::Whole),
                ("instance.id", "/vmId", How::Whole),
                ("instance.name", "/name", How::Whole),
                ("machine.type", "/vmSize", How::Whole),
                ("region", "/location", How::Whole),
            ],
            Provider::DigitalOcean => &[("instance.id", "/droplet_id", How::Whole), ("region", "/region", How::Whole)],
        }
    }
}

/// How a field is taken from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Whole,
    /// The last part of a path: `projects/1/zones/europe-west1-b` → `europe-west1-b`.
    Last,
    /// Of a zone: `europe-west1-b` → `europe-west1`.
    Region,
}

/// What the answer is told to.
type Slot = Arc<OnceLock<Map<String, Value>>>;

/// One `add_cloud_metadata`.
#[derive(Debug)]
pub struct Cloud {
    /// How long an answer may take.
    pub timeout: Duration,
    /// Who is asked.
    pub providers: Vec<Provider>,
    /// `address:port` of the metadata service.
    pub host: String,
    overwrite: bool,
    known: Slot,
    asked: AtomicBool,
}

impl Cloud {
    /// Where the answer goes; `None` when somebody asks already.
    pub fn tell(&self) -> Option<impl FnOnce(Map<String, Value>) + Send + use<>> {
        let known = Arc::clone(&self.known);
        let first = !self.asked.swap(true, Ordering::Relaxed);
        first.then_some(move |fields| drop(known.set(fields)))
    }
}

impl Action for Cloud {
    fn run(&self, doc: &mut Doc<'_>) -> Result<Done, String> {
        for (key, value) in self.known.get().into_iter().flatten() {
            if self.overwrite || doc.get(key).is_err() {
                doc.put(key, value.clone())?;
            }
        }
        Ok(Done::Keep)
    }

    fn outside(&self) -> Option<Outside<'_>> {
        Some(Outside::Cloud(self))
    }
}

pub(crate) fn read(s: &Section<'_>) -> Result<Box<dyn Action>, Error> {
    let mut providers = Vec::new();
    for name in s.strings("providers")? {
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, provider)) if !providers.contains(provider) => providers.push(*provider),
            Some(_) => {}
            None => {
                let here = NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                return Err(s.error("providers", format!("`{name}` can't be asked"), format!("here are {here}")));
            }
        }
    }
    if s.json("ssl")?.is_some_and(|ssl| ssl["enabled"] != Value::Bool(false)) {
        s.warn("ssl", "has no effect: the providers that can be asked are asked without TLS", "remove it");
    }
    let host = s.str("host")?.filter(|host| !host.is_empty()).unwrap_or_else(|| "169.254.169.254".to_owned());
    Ok(Box::new(Cloud {
        timeout: s.duration("timeout")?.unwrap_or(Duration::from_secs(3)),
        providers: if providers.is_empty() { Provider::ALL.to_vec() } else { providers },
        host: if host.contains(':') { host } else { format!("{host}:80") },
        overwrite: s.bool("overwrite")?.unwrap_or(false),
        known: Slot::default(),
        asked: AtomicBool::new(false),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{config, on_event};

    /// `provider_*_test.go`, 9.
    #[test]
    fn answers_as_the_providers_give_them() {
        let aws = r#"{"accountId": "1", "imageId": "ami-1", "availabilityZone": "us-east-1c", "region": "us-east-1",
            "instanceId": "i-11", "instanceType": "t2.medium", "privateIp": "10.0.0.1"}"#;
        let gcp = r#"{"instance": {"id": 3910564293633576924, "name": "gke-1", "machineType": "projects/1/machineTypes/n1",
            "zone": "projects/1/zones/us-east1-b", "attributes": {"secret": "x"}}, "project": {"projectId": "p"}}"#;
        let azure = r#"{"location": "eastus2", "name": "vm", "subscriptionId": "s", "vmId": "04ab", "vmSize": "D2"}"#;
        for (provider, answer, want) in [
            (
                Provider::Aws,
                aws,
                json!({"provider": "aws", "service": {"name": "EC2"}, "instance": {"id": "i-11"},
                    "machine": {"type": "t2.medium"}, "region": "us-east-1", "availability_zone": "us-east-1c",
                    "account": {"id": "1"}, "image": {"id": "ami-1"}}),
            ),
            (
                Provider::Gcp,
                gcp,
                json!({"provider": "gcp", "service": {"name": "GCE"}, "machine": {"type": "n1"}, "region": "us-east1",
                    "instance": {"id": "3910564293633576924", "name": "gke-1"}, "availability_zone": "us-east1-b",
                    "project": {"id": "p"}, "account": {"id": "p"}}),
            ),
            (
                Provider::Azure,
                azure,
                json!({"provider": "azure", "service": {"name": "Virtual Machines"}, "account": {"id": "s"},
                    "instance": {"id": "04ab", "name": "vm"}, "machine": {"type": "D2"}, "region": "eastus2"}),
            ),
            (
                Provider::DigitalOcean,
                r#"{"droplet_id": 1111111, "hostname": "x", "region": "nyc3"}"#,
                json!({"provider": "digitalocean", "service": {"name": "Droplets"}, "instance": {"id": "1111111"},
                    "region": "nyc3"}),
            ),
        ] {
            assert_eq!(provider.read(answer.as_bytes()).map(Value::Object), Some(json!({"cloud": want})));
            for other in Provider::ALL.into_iter().filter(|other| *other != provider) {
                assert_eq!(other.read(answer.as_bytes()), None, "{other:?} takes {provider:?}'s answer for its own");
            }
        }
        assert_eq!(Provider::Aws.read(b"<html>"), None);
    }

    #[test]
    fn what_the_event_has_stays_unless_it_is_said_otherwise() {
        for (options, own, want) in [
            ("{}", Value::Null, json!({"provider": "aws"})),
            ("{}", json!({"x": 1}), json!({"x": 1})),
            ("{overwrite: true}", json!({"x": 1}), json!({"provider": "aws"})),
        ] {
            let config = config(&format!("cloud: {options}"));
            let section = config.root().named_sections().unwrap().pop().unwrap().1;
            let action = read(&section).unwrap();
            let Some(Outside::Cloud(cloud)) = action.outside() else { panic!("no cloud") };
            let tell = cloud.tell().unwrap();
            assert!(cloud.tell().is_none());
            let event = if own.is_null() { json!({"message": "m"}) } else { json!({"message": "m", "cloud": own}) };
            let seen = |event: &Value| {
                on_event(event.clone(), |doc| {
                    action.run(doc).unwrap();
                    doc.get("cloud").map(|got| got.to_value()).unwrap_or_default()
                })
            };
            assert_eq!(seen(&event), own, "before it is known");
            tell([("cloud".to_owned(), json!({"provider": "aws"}))].into_iter().collect());
            assert_eq!(seen(&event), want, "{options}");
        }
    }
}
