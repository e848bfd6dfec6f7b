//! The output that the user configured, whichever it is.
//!
//! Comes in: the configuration's root. Goes out: exactly one output, made, tested or run the same way for all targets.
//! Tested below and in each output's own module.

use std::fmt::Write as _;
use std::sync::Arc;

use pillion_config::{Error, Section};
use pillion_world::World;

use crate::console::{ConsoleOptions, ConsoleOutput};
use crate::contract::{OutputContext, Requests};
use crate::elasticsearch::{Elasticsearch, Settings, cloud};
use crate::file::{FileOptions, FileOutput};
use crate::forward::{Forward, ForwardOptions};
use crate::kafka::{Kafka, KafkaOptions};
use crate::logstash::{Logstash, LogstashOptions};
use crate::redis::{Redis, RedisOptions};
use crate::{AckSink, Problem, elasticsearch};

/// The options of the configured output.
#[derive(Clone, Debug)]
pub enum AnyOptions {
    /// `output.elasticsearch`.
    Elasticsearch(Box<Settings>),
    /// `output.logstash`.
    Logstash(Box<LogstashOptions>),
    /// `output.kafka`.
    Kafka(Box<KafkaOptions>),
    /// `output.redis`.
    Redis(Box<RedisOptions>),
    /// `output.forward`.
    Forward(Box<ForwardOptions>),
    /// `output.file`.
    File(FileOptions),
    /// `output.console`.
    Console(ConsoleOptions),
}

/// The configured output.
pub enum AnyOutput {
    /// `output.elasticsearch`.
    Elasticsearch(Box<Elasticsearch>),
    /// `output.logstash`.
    Logstash(Box<Logstash>),
    /// `output.kafka`.
    Kafka(Box<Kafka>),
    /// `output.redis`.
    Redis(Box<Redis>),
    /// `output.forward`.
    Forward(Box<Forward>),
    /// `output.file`.
    File(FileOutput),
    /// `output.console`.
    Console(ConsoleOutput),
}

/// Names of outputs that are read here, each with how.
const KNOWN: &[&str] = &["console", "elasticsearch", "file", "forward", "kafka", "logstash", "redis"];

impl AnyOptions {
    /// Reads the one output that is there and enabled.
    pub fn from_root(root: &Section<'_>) -> Result<AnyOptions, Error> {
        let none = || {
            root.error(
                "output",
                "no output is configured",
                "add one, such as `output.logstash: {hosts: [\"logstash:5044\"]}`",
            )
        };
        let in_cloud = cloud::from_root(root)?.is_some();
        let outputs = root.section("output")?;
        if outputs.is_none() && !in_cloud {
            return Err(none());
        }
        let (mut enabled, mut off) = (Vec::new(), None);
        for (name, section) in outputs.iter().map(Section::named_sections).collect::<Result<Vec<_>, _>>()?.concat() {
            if section.is_on("enabled")? {
                enabled.push((name, section));
            } else {
                section.ignore();
                off.get_or_insert(section);
            }
        }
        if in_cloud && enabled.is_empty() {
            enabled.push(("elasticsearch", root.absent("output.elasticsearch")));
        }
        if let Some((name, _)) = enabled.iter().find(|(name, _)| in_cloud && *name != "elasticsearch") {
            let reason = format!("it means output.elasticsearch, and output.{name} is enabled");
            return Err(root.error("cloud.id", reason, "remove one of the two"));
        }
        let (name, section) = match <[_; 1]>::try_from(enabled) {
            Ok([one]) => one,
            Err(all) if all.is_empty() => return Err(off.map_or_else(none, |first| none_is_on(&first))),
            Err(all) => {
                let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
                let reason = format!("several outputs are enabled: {}", names.join(", "));
                return Err(root.error("output", reason, "enable one; set `enabled: false` for the others"));
            }
        };
        let compat = root.compat();
        match name {
            "elasticsearch" => Settings::from_section(root, &section).map(|s| AnyOptions::Elasticsearch(Box::new(s))),
            "logstash" => LogstashOptions::from_section(&section, compat).map(|o| AnyOptions::Logstash(Box::new(o))),
            "kafka" => KafkaOptions::from_section(&section, compat).map(|o| AnyOptions::Kafka(Box::new(o))),
            "redis" => RedisOptions::from_section(&section, compat).map(|o| AnyOptions::Redis(Box::new(o))),
            "forward" => ForwardOptions::from_section(&section, compat).map(|o| AnyOptions::Forward(Box::new(o))),
            "file" => FileOptions::from_section(&section, compat).map(AnyOptions::File),
            "console" => ConsoleOptions::from_section(&section, compat).map(AnyOptions::Console),
            other => Err(root.error(
                &format!("output.{other}"),
                format!("there is no output `{other}` here"),
                format!("the outputs are {}", KNOWN.join(", ")),
            )),
        }
    }

    /// The target in a few words, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            AnyOptions::Elasticsearch(_) => "elasticsearch",
            AnyOptions::Logstash(_) => "logstash",
            AnyOptions::Kafka(_) => "kafka",
            AnyOptions::Redis(_) => "redis",
            AnyOptions::Forward(_) => "forward",
            AnyOptions::File(_) => "file",
            AnyOptions::Console(_) => "console",
        }
    }

    /// Reads what the options name beside themselves: certificates and keys (`test config`). Whatever is there must be
    /// usable; files that aren't there are returned: they may be mounted only where the configuration is used.
    pub fn check(&self, world: &World) -> Result<Vec<String>, Problem> {
        let tls = match self {
            AnyOptions::Elasticsearch(settings) => settings.uses_tls().then(|| settings.tls.clone()),
            AnyOptions::Logstash(options) => options.tls.clone(),
            AnyOptions::Kafka(options) => options.tls.clone(),
            AnyOptions::Redis(options) => options.tls(),
            AnyOptions::Forward(options) => options.tls.clone(),
            AnyOptions::File(_) | AnyOptions::Console(_) => None,
        };
        tls.map_or(Ok(Vec::new()), |tls| tls.check(world).map_err(|p| p.during(format_args!("output.{}", self.name()))))
    }

    /// Tries the way to the target step by step and writes what it finds (`test output`). Whether all is good.
    pub async fn test(self, context: OutputContext, report: &mut String) -> bool {
        let steps = match self {
            AnyOptions::Elasticsearch(settings) => {
                return elasticsearch::test_output(&settings, &context.world, report).await;
            }
            AnyOptions::Logstash(options) => match Logstash::new(*options, context) {
                Ok(output) => output.test().await,
                Err(e) => vec![("logstash".to_owned(), Err(e))],
            },
            AnyOptions::Kafka(options) => match Kafka::new(*options, context) {
                Ok(output) => output.test().await,
                Err(e) => vec![("kafka".to_owned(), Err(e))],
            },
            AnyOptions::Redis(options) => match Redis::new(*options, context) {
                Ok(output) => output.test().await,
                Err(e) => vec![("redis".to_owned(), Err(e))],
            },
            AnyOptions::Forward(options) => match Forward::new(*options, context) {
                Ok(output) => output.test().await,
                Err(e) => vec![("forward".to_owned(), Err(e))],
            },
            AnyOptions::File(options) => {
                vec![("file".to_owned(), FileOutput::new(options, context).and_then(|output| output.test()))]
            }
            AnyOptions::Console(options) => {
                vec![("console".to_owned(), ConsoleOutput::new(options, context).map(drop))]
            }
        };
        for (place, outcome) in &steps {
            let _ = match outcome {
                Ok(()) => writeln!(report, "{place}... OK"),
                Err(e) => writeln!(report, "{place}... ERROR {e}"),
            };
        }
        steps.iter().all(|(_, outcome)| outcome.is_ok())
    }

    /// Makes the output; nothing is opened or connected before the first request.
    pub fn build(self, context: OutputContext) -> Result<AnyOutput, Problem> {
        match self {
            AnyOptions::Elasticsearch(settings) => {
                Elasticsearch::new(*settings, context).map(|o| AnyOutput::Elasticsearch(Box::new(o)))
            }
            AnyOptions::Logstash(options) => Logstash::new(*options, context).map(|o| AnyOutput::Logstash(Box::new(o))),
            AnyOptions::Kafka(options) => Kafka::new(*options, context).map(|o| AnyOutput::Kafka(Box::new(o))),
            AnyOptions::Redis(options) => Redis::new(*options, context).map(|o| AnyOutput::Redis(Box::new(o))),
            AnyOptions::Forward(options) => Forward::new(*options, context).map(|o| AnyOutput::Forward(Box::new(o))),
            AnyOptions::File(options) => FileOutput::new(options, context).map(AnyOutput::File),
            AnyOptions::Console(options) => ConsoleOutput::new(options, context).map(AnyOutput::Console),
        }
    }
}

impl AnyOutput {
    /// Runs until the source is closed and everything is settled.
    pub async fn run(self, requests: Arc<dyn Requests>, acks: Arc<dyn AckSink>) -> Result<(), Problem> {
        match self {
            AnyOutput::Elasticsearch(output) => output.run(requests, acks).await,
            AnyOutput::Logstash(output) => output.run(requests, acks).await,
            AnyOutput::Kafka(output) => output.run(requests, acks).await,
            AnyOutput::Redis(output) => output.run(requests, acks).await,
            AnyOutput::Forward(output) => output.run(requests, acks).await,
            AnyOutput::File(output) => output.run(requests, acks).await,
            AnyOutput::Console(output) => output.run(requests, acks).await,
        }
    }
}

/// There are outputs, all switched off; this is the first.
fn none_is_on(first: &Section<'_>) -> Error {
    first.error(
        "enabled",
        "no output is switched on, so nothing says where to ship to",
        "switch one on, or where a variable does that, set it: ELASTICSEARCH_HOSTS=https://es:9200 or \
         LOGSTASH_HOSTS=logstash:5044 in the image's own filebeat.yml",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pillion_config::Config;

    fn read(yaml: &str) -> Result<&'static str, String> {
        let config = Config::from_yaml(yaml).unwrap();
        AnyOptions::from_root(&config.root()).map(|o| o.name()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_cloud_id_is_an_output() {
        // found.io:9243$es$kibana
        const ID: &str = "cloud.id: 'x:Zm91bmQuaW86OTI0MyRlcyRraWJhbmE='";
        for output in ["", "output.elasticsearch:\n", "output.elasticsearch.hosts: [localhost]\n"] {
            let config = Config::from_yaml(&format!("{ID}\ncloud.auth: u:p\n{output}")).unwrap();
            let AnyOptions::Elasticsearch(settings) = AnyOptions::from_root(&config.root()).unwrap() else { panic!() };
            assert_eq!(settings.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["es.found.io:9243"]);
            assert!(settings.uses_tls() && settings.authorization.as_deref() == Some("Basic dTpw"), "{output}");
        }
        assert!(read(&format!("{ID}\noutput.file.path: /x")).unwrap_err().contains("output.file is enabled"));
    }

    #[test]
    fn what_concerns_elasticsearch_alone_may_stand_beside_others() {
        let yaml = "setup.template.settings.index.number_of_shards: 1\nsetup.ilm.enabled: true\noutput.file.path: /x";
        let config = Config::from_yaml(yaml).unwrap();
        AnyOptions::from_root(&config.root()).unwrap();
        let left = config.leftovers();
        assert!(left.unasked.is_empty() && left.unknown.is_empty(), "{left:?}");
    }

    #[test]
    fn there_is_exactly_one() {
        assert_eq!(read("output.file.path: /x"), Ok("file"));
        assert_eq!(read("output.logstash.hosts: [a, b:5045]"), Ok("logstash"));
        assert_eq!(read("output.kafka: {hosts: [a], topic: t}"), Ok("kafka"));
        assert_eq!(read("output.redis.hosts: [a, 'rediss://b']"), Ok("redis"));
        assert_eq!(read("output:\n  console:\n"), Ok("console"));
        assert_eq!(read("output.file.path: /x\noutput.console.enabled: false"), Ok("file"));
        assert!(read("filebeat.inputs: []").unwrap_err().contains("no output"));
        assert_eq!(read("output.file.path: /x\noutput.console.enabled: ${NO_SUCH_VARIABLE:+true}"), Ok("file"));
        let off = read("output.file.enabled: false\noutput.console.enabled: ''").unwrap_err();
        assert!(off.contains("output.file.enabled: no output is switched on"), "{off}");
        assert!(read("output.file.path: /x\noutput.console: {}").unwrap_err().contains("console"));
        assert!(read("output.fiel.path: /x").unwrap_err().contains("no output `fiel`"));
    }
}
