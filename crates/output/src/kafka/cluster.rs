//! What is known of the cluster: who leads which partition, and the connections to those.
//!
//! Comes in: the configured hosts, topics that are asked for. Goes out: partitions, leaders, connections. Always holds:
//! a broker that the cluster names is connected to only when something is sent to it; a connection that failed is
//! forgotten, and what is known of its partitions is asked anew before the next attempt. At most [`MOST_TOPICS`] topics
//! are known. Tested in `tests.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pillion_world::Random;
use tokio::time::Instant;

use super::broker::{Broker, Client, Reach, malformed};
use super::refusal::explain;
use super::wire::{self, Api, Partition, Reader};
use crate::hosts::Host;
use crate::problem::Problem;

/// Beyond it all topics are forgotten, to be asked for again.
const MOST_TOPICS: usize = 10_000;

pub(super) struct Cluster {
    reach: Arc<dyn Reach>,
    client: Client,
    random: Arc<dyn Random>,
    /// The configured hosts, and the one to ask next.
    bootstrap: Vec<Host>,
    next: usize,
    /// The connection over which metadata is asked.
    asked: Option<Broker>,
    nodes: HashMap<i32, Host>,
    lines: HashMap<i32, Broker>,
    topics: HashMap<String, Vec<Partition>>,
    refreshed: Instant,
    /// See [`Cluster::take_passed`].
    passed: Vec<(String, Problem)>,
}

impl Cluster {
    pub(super) fn new(reach: Arc<dyn Reach>, client: Client, random: Arc<dyn Random>, bootstrap: Vec<Host>) -> Cluster {
        // Many shippers that begin together don't all begin with the first host.
        let next = (random.u128() % bootstrap.len().max(1) as u128) as usize;
        Cluster {
            reach,
            client,
            random,
            bootstrap,
            next,
            asked: None,
            nodes: HashMap::new(),
            lines: HashMap::new(),
            topics: HashMap::new(),
            refreshed: Instant::now(),
            passed: Vec::new(),
        }
    }

    /// The partitions of a topic; never empty.
    pub(super) fn partitions(&self, topic: &str) -> Option<&[Partition]> {
        self.topics.get(topic).map(Vec::as_slice)
    }

    /// Whether the partition is known; with or without a leader.
    pub(super) fn has(&self, topic: &str, partition: i32) -> bool {
        self.topics.get(topic).is_some_and(|of| of.iter().any(|p| p.id == partition))
    }

    /// Whether what is known is older than this.
    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        self.refreshed.elapsed() > age
    }

    /// The node that leads a partition.
    pub(super) fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let of = self.topics.get(topic)?.iter().find(|p| p.id == partition)?;
        self.nodes.contains_key(&of.leader).then_some(of.leader)
    }

    /// The connection to a node, made when there is none.
    pub(super) async fn line(&mut self, node: i32) -> Result<&mut Broker, Problem> {
        if let Some(line) = self.lines.get_mut(&node)
            && line.is_stale().await
        {
            self.lines.remove(&node);
        }
        if !self.lines.contains_key(&node) {
            let host = self.nodes.get(&node).ok_or_else(|| Problem::bare("the partition's leader isn't known"))?;
            let line = Broker::open(&*self.reach, host, &self.client, &*self.random).await?;
            self.lines.insert(node, line);
        }
        self.lines.get_mut(&node).ok_or_else(|| Problem::bare("the connection is gone"))
    }

    /// The connection on which something was sent and an answer is to come.
    pub(super) fn open_line(&mut self, node: i32) -> Option<&mut Broker> {
        self.lines.get_mut(&node)
    }

    /// A connection failed.
    pub(super) fn drop_line(&mut self, node: i32) {
        self.lines.remove(&node);
    }

    /// The host's name, for messages.
    pub(super) fn name(&self, node: i32) -> String {
        self.nodes.get(&node).map(ToString::to_string).unwrap_or_default()
    }

    /// Asks for these topics, and for all that are known. What is wrong with the first one that can't be had.
    ///
    /// # Errors
    /// No broker answers.
    pub(super) async fn refresh(&mut self, topics: &[String]) -> Result<Option<Problem>, Problem> {
        if self.topics.len() > MOST_TOPICS {
            self.topics.clear();
        }
        let mut wanted: Vec<String> = self.topics.keys().cloned().collect();
        wanted.extend(topics.iter().filter(|topic| !self.topics.contains_key(*topic)).cloned());
        wanted.sort();
        wanted.dedup();
        let answer = self.ask(Api::Metadata, 4, |r| wire::metadata(wanted.iter().map(String::as_str), r)).await?;
        let (nodes, found) = wire::read_metadata(&mut Reader(&answer)).map_err(malformed)?;
        let host = |host: String, port: i32| {
            let port = u16::try_from(port).ok()?;
            Some(Host { scheme: None, name: host, port, path: String::new(), query: String::new(), user: None })
        };
        self.nodes = nodes.into_iter().filter_map(|n| Some((n.id, host(n.host, n.port)?))).collect();
        let nodes = &self.nodes;
        self.lines.retain(|id, line| nodes.get(id).is_some_and(|host| host.to_string() == line.name));
        self.refreshed = Instant::now();
        let mut trouble = None;
        for topic in found {
            if topic.error == 0 && !topic.partitions.is_empty() {
                self.topics.insert(topic.name, topic.partitions);
            } else {
                self.topics.remove(&topic.name);
                trouble = trouble.or_else(|| Some(explain(topic.error, &format!("topic {}", topic.name))));
            }
        }
        Ok(trouble)
    }

    /// Asks any broker; each host is tried once, the one that hung last.
    pub(super) async fn ask(
        &mut self,
        api: Api,
        version: i16,
        fill: impl Fn(&mut wire::Request),
    ) -> Result<Vec<u8>, Problem> {
        let mut hung = None;
        if let Some(mut line) = self.asked.take()
            && !line.is_stale().await
        {
            match line.call(api, version, &fill).await {
                Ok(answer) => {
                    self.asked = Some(line);
                    return Ok(answer);
                }
                Err(problem) => {
                    let problem = problem.during(&line.name);
                    hung = Some((line.name, problem));
                }
            }
        }
        let mut last = hung.as_ref().map_or_else(|| Problem::bare("there is no host"), |(_, problem)| problem.clone());
        let hosts = self.hosts(hung.as_ref().map(|(name, _)| name.as_str()));
        let mut passed: Vec<(String, Problem)> = hung.into_iter().collect();
        for (at, host) in hosts {
            self.next = at;
            let mut opened = Broker::open(&*self.reach, &host, &self.client, &*self.random).await;
            let answer = match &mut opened {
                Ok(line) => line.call(api, version, &fill).await.map_err(|p| p.during(&host)),
                Err(problem) => Err(problem.clone()),
            };
            match answer {
                Ok(answer) => {
                    self.asked = opened.ok();
                    self.passed = passed;
                    return Ok(answer);
                }
                Err(problem) => {
                    passed.push((host.to_string(), problem.clone()));
                    last = problem;
                }
            }
        }
        self.next = self.next.wrapping_add(1);
        Err(last)
    }

    /// The hosts that may be asked, in the order to try them, each once, with its place.
    fn hosts(&self, hung: Option<&str>) -> Vec<(usize, Host)> {
        let mut all: Vec<Host> = Vec::new();
        for host in self.bootstrap.iter().chain(self.nodes.values()) {
            if !all.iter().any(|known| known.name == host.name && known.port == host.port) {
                all.push(host.clone());
            }
        }
        let first = self.next % all.len().max(1);
        let mut hosts: Vec<(usize, Host)> = all.into_iter().enumerate().collect();
        hosts.rotate_left(first);
        hosts.sort_by_key(|(_, host)| Some(host.to_string().as_str()) == hung);
        hosts
    }

    /// Hosts that didn't answer, in whose place another one did, since this was asked last.
    pub(super) fn take_passed(&mut self) -> Vec<(String, Problem)> {
        std::mem::take(&mut self.passed)
    }
}

/// Whether brokers take this as a topic's name.
pub(super) fn is_topic(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(good)
}
