//! A real Kafka on loopback: one node, broker and controller.
//!
//! Comes in: the folder for its data. Goes out: a running broker, and what kcat reads from it. Always holds: it listens on
//! free ports, plain, with login (PLAIN and SCRAM) and with TLS; it is asked whether it is ready.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::child::{self, Child};
use crate::endpoints::lumber::certificates;
use crate::servers::java;
use crate::shipper::Place;
use crate::stage::LIMIT;
use crate::{Outcome, cache, ports, root, wait};

const READY_WITHIN: Duration = Duration::from_secs(120);
/// Any name of 16 bytes will do.
pub(super) const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";

/// A broker; it ends with its value.
pub(super) struct Broker {
    built: PathBuf,
    /// Data, certificates, settings.
    pub(super) place: Place,
    child: Option<Child>,
    /// The ports: plain, with login, with TLS.
    pub(super) plain: u16,
    pub(super) login: u16,
    pub(super) tls: u16,
}

impl Broker {
    /// Starts one without data.
    pub(super) fn start() -> Outcome<Broker> {
        let pom = root().join("e2e/servers/kafka-3.9/pom.xml");
        let pom = fs::read_to_string(&pom).map_err(|e| format!("{}: {e}", pom.display()))?;
        let built = cache::built("kafka-3.9", &[&pom], |dir| {
            fs::write(dir.join("pom.xml"), &pom).map_err(|e| e.to_string())?;
            let mut maven = Command::new("mvn");
            maven.current_dir(dir).args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"]);
            child::run(&mut maven).map(drop)
        })?;
        let place = Place::new()?;
        let (plain, login, tls) = (ports::free()?, ports::free()?, ports::free()?);
        let mut broker = Broker { built, place, child: None, plain, login, tls };
        broker.configure(ports::free()?)?;
        let scram = |bits: &str| format!("SCRAM-SHA-{bits}=[name=ship,password=shipsecret]");
        let mut format = broker.java("kafka.tools.StorageTool")?;
        format.args(["format", "-t", CLUSTER, "--add-scram", &scram("256"), "--add-scram", &scram("512"), "-c"]);
        child::run(format.arg(broker.settings()))?;
        broker.start_again()?;
        Ok(broker)
    }

    fn settings(&self) -> PathBuf {
        self.place.folder().join("server.properties")
    }

    fn configure(&self, controller: u16) -> Outcome {
        certificates(&self.place)?;
        let read = |name: &str| fs::read_to_string(self.place.folder().join(name)).map_err(|e| e.to_string());
        let store = self.place.folder().join("store.pem");
        fs::write(&store, read("server.key")? + &read("server.pem")?).map_err(|e| e.to_string())?;
        let Broker { plain, login, tls, .. } = self;
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAIN://127.0.0.1:{plain},LOGIN://127.0.0.1:{login},TLS://localhost:{tls},CONTROLLER://127.0.0.1:{controller}\n\
             listener.security.protocol.map=PLAIN:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=PLAIN\nlog.dirs={}\nnum.partitions=3\nauto.create.topics.enable=true\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_ship=\"shipsecret\";\n\
             listener.name.login.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             ssl.keystore.type=PEM\nssl.keystore.location={}\n",
            self.place.folder().join("data").display(),
            store.display()
        );
        fs::write(self.settings(), text).map_err(|e| e.to_string())
    }

    /// Java, with Kafka's classes, about to run this one.
    pub(super) fn java(&self, main: &str) -> Outcome<Command> {
        let mut java = Command::new(java(17..=99)?);
        java.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        java.arg(format!("{}/lib/*", self.built.display())).arg(main);
        Ok(java)
    }

    /// Starts it on the same data, after [`Broker::stop`].
    pub(super) fn start_again(&mut self) -> Outcome {
        let log = self.place.folder().join("server.log");
        let mut child = Child::start(self.java("kafka.Kafka")?.arg(self.settings()), &log)?;
        wait::until("Kafka to be ready", READY_WITHIN, || {
            if let Some(ended) = child.ended()? {
                return Err(format!("Kafka ended: {}\n{}", ended.status, fs::read_to_string(&log).unwrap_or_default()));
            }
            let mut kcat = self.kcat();
            kcat.args(["-L", "-m", "2"]);
            Ok(child::run(&mut kcat).ok().filter(|said| said.contains("1 brokers")).map(drop))
        })?;
        self.child = Some(child);
        Ok(())
    }

    /// Ends it; `hard` = by SIGKILL.
    pub(super) fn stop(&mut self, hard: bool) -> Outcome {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.signal(if hard { Signal::KILL } else { Signal::TERM });
        child.wait(LIMIT).map(drop)
    }

    fn kcat(&self) -> Command {
        let mut kcat = Command::new("kcat");
        kcat.args(["-b", &format!("127.0.0.1:{}", self.plain)]);
        kcat
    }

    /// All records of a topic, as [`records`] has them.
    pub(super) fn read(&self, topic: &str, format: &str) -> Outcome<String> {
        records(self.plain, topic, format)
    }
}

/// All records of a topic of the broker at this port, one a line; `format` is kcat's: `%p` the partition, `%k` the key, `%h`
/// headers, `%s` the value.
pub(super) fn records(port: u16, topic: &str, format: &str) -> Outcome<String> {
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", &format!("127.0.0.1:{port}"), "-C", "-t", topic, "-o", "beginning", "-e", "-q"]);
    child::run(kcat.args(["-X", "check.crcs=true", "-f", format]))
}
