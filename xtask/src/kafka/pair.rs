//! Two brokers and a controller of their own: partitions change their leader while records come.
//!
//! Comes in: what the single broker was built from. Goes out: who leads what, what is on a topic. Always holds: each
//! partition has a replica on both brokers, half of them are led by each where both are well, and Kafka moves them back
//! there by itself within seconds.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::server::{Broker, CLUSTER, records};
use crate::child::{self, Child};
use crate::shipper::Place;
use crate::stage::LIMIT;
use crate::{Outcome, ports, wait};

const READY_WITHIN: Duration = Duration::from_secs(120);
/// The controller's number; the brokers' are 1 and 2.
const CONTROLLER: usize = 3;

/// Two brokers; they end with their value.
pub(super) struct Pair<'a> {
    of: &'a Broker,
    place: Place,
    /// Of the brokers.
    pub(super) ports: [u16; 2],
    children: BTreeMap<usize, Child>,
}

impl<'a> Pair<'a> {
    pub(super) fn start(of: &'a Broker) -> Outcome<Pair<'a>> {
        let (ports, controller) = ([ports::free()?, ports::free()?], ports::free()?);
        let mut pair = Pair { of, place: Place::new()?, ports, children: BTreeMap::new() };
        for node in [CONTROLLER, 1, 2] {
            pair.configure(node, controller)?;
            let mut format = of.java("kafka.tools.StorageTool")?;
            child::run(format.args(["format", "-t", CLUSTER, "-c", &pair.path(&format!("{node}.properties"))]))?;
            pair.start_node(node)?;
        }
        wait::until("two brokers", READY_WITHIN, || Ok((pair.brokers(1)? == 2).then_some(())))?;
        Ok(pair)
    }

    fn path(&self, name: &str) -> String {
        self.place.folder().join(name).display().to_string()
    }

    fn configure(&self, node: usize, controller: u16) -> Outcome {
        let role = match node {
            CONTROLLER => format!("process.roles=controller\nlisteners=CONTROLLER://127.0.0.1:{controller}\n"),
            broker => format!(
                "process.roles=broker\nlisteners=PLAIN://127.0.0.1:{}\ninter.broker.listener.name=PLAIN\n",
                self.ports[broker - 1]
            ),
        };
        let text = format!(
            "{role}node.id={node}\ncontroller.quorum.voters={CONTROLLER}@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
             min.insync.replicas=1\noffsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\nreplica.lag.time.max.ms=5000\nbroker.session.timeout.ms=6000\n\
             leader.imbalance.check.interval.seconds=2\nleader.imbalance.per.broker.percentage=0\n",
            self.path(&format!("data-{node}"))
        );
        fs::write(self.path(&format!("{node}.properties")), text).map_err(|e| e.to_string())
    }

    fn start_node(&mut self, node: usize) -> Outcome {
        let mut java = self.of.java("kafka.Kafka")?;
        java.arg(self.path(&format!("{node}.properties")));
        let log = self.place.folder().join(format!("{node}.log"));
        self.children.insert(node, Child::start(&mut java, &log)?);
        Ok(())
    }

    /// A topic with four partitions, two led by each broker.
    pub(super) fn create(&self, topic: &str) -> Outcome {
        let mut create = self.of.java("org.apache.kafka.tools.TopicCommand")?;
        create.args(["--bootstrap-server", &format!("127.0.0.1:{}", self.ports[0]), "--create", "--topic", topic]);
        child::run(create.args(["--replica-assignment", "1:2,2:1,1:2,2:1"])).map(drop)
    }

    /// Ends a broker by this signal, or stops it for a while, until the other one leads everything.
    pub(super) fn strike(&mut self, broker: usize, signal: Signal, topic: &str) -> Outcome {
        let child = self.children.get_mut(&broker).ok_or("there is no such broker")?;
        child.signal(signal);
        if signal != Signal::STOP {
            child.wait(LIMIT)?;
            self.children.remove(&broker);
        }
        let other = 3 - broker as u64;
        wait::until("the other one to lead", LIMIT, || {
            let leads = self.partitions(3 - broker, topic)?;
            Ok((leads.len() == 4 && leads.iter().all(|(leader, _)| *leader == other)).then_some(()))
        })
    }

    /// Brings a broker back, until it leads again what is its own.
    pub(super) fn heal(&mut self, broker: usize, topic: &str) -> Outcome {
        match self.children.get(&broker) {
            Some(stopped) => stopped.signal(Signal::CONT),
            None => self.start_node(broker)?,
        }
        wait::until("leaders as at first", READY_WITHIN, || {
            let leads: Vec<(u64, usize)> = self.partitions(3 - broker, topic)?;
            Ok((leads == [(1, 2), (2, 2), (1, 2), (2, 2)]).then_some(()))
        })
    }

    fn metadata(&self, broker: usize) -> Value {
        let mut kcat = Command::new("kcat");
        kcat.args(["-b", &format!("127.0.0.1:{}", self.ports[broker - 1]), "-L", "-J", "-m", "2"]);
        // Not yet, or not for the moment.
        child::run(&mut kcat).ok().and_then(|said| serde_json::from_str(&said).ok()).unwrap_or_default()
    }

    fn brokers(&self, asked: usize) -> Outcome<usize> {
        Ok(self.metadata(asked)["brokers"].as_array().map_or(0, Vec::len))
    }

    /// Leader and replicas in sync of each partition, as this broker knows them.
    fn partitions(&self, asked: usize, topic: &str) -> Outcome<Vec<(u64, usize)>> {
        let said = self.metadata(asked);
        let topics = said["topics"].as_array().cloned().unwrap_or_default();
        let Some(found) = topics.iter().find(|t| t["topic"] == topic) else { return Ok(Vec::new()) };
        let mut all = found["partitions"].as_array().cloned().unwrap_or_default();
        all.sort_by_key(|p| p["partition"].as_u64());
        let of = |p: &Value| (p["leader"].as_u64().unwrap_or(0), p["isrs"].as_array().map_or(0, Vec::len));
        Ok(all.iter().map(of).collect())
    }

    /// All records of a topic, one a line.
    pub(super) fn read(&self, topic: &str) -> Outcome<String> {
        records(self.ports[0], topic, "%s\n")
    }
}
