//! What the pods ship to: Pillion's own receiver, or a real search server, on the node's address.
//!
//! Comes in: ports. Goes out: which lines of which case have arrived, how often.
//! Always holds: an event is in the receiver's file, or in the server's log, before it is acknowledged, so that the end of a
//! Job finds all of its lines.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::node::Node;
use crate::child::Child;
use crate::servers::{Kind, Server};
use crate::{Outcome, wait};

/// What is shipped to.
pub(crate) struct Endpoint(What);

enum What {
    Receiver(Receiver),
    /// The files of a receiver that somebody else has started.
    Files(PathBuf),
    Search(Box<Server>),
}

/// A receiver of both protocols.
struct Receiver {
    program: PathBuf,
    folder: PathBuf,
    lumberjack: u16,
    bulk: u16,
    child: Option<Child>,
}

impl Endpoint {
    /// Starts a receiver that writes into this folder.
    pub(crate) fn start(program: &Path, folder: PathBuf, lumberjack: u16, bulk: u16) -> Outcome<Endpoint> {
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut receiver = Receiver { program: program.to_owned(), folder, lumberjack, bulk, child: None };
        receiver.again()?;
        Ok(Endpoint(What::Receiver(receiver)))
    }

    /// The events of a receiver that somebody else has started.
    pub(crate) fn reader(folder: PathBuf) -> Endpoint {
        Endpoint(What::Files(folder))
    }

    /// Starts a real server, with an empty data folder, from a thread that is in the node's network.
    pub(crate) fn search(kind: Kind) -> Outcome<Endpoint> {
        let hosts = format!("http.bind_host=127.0.0.1,{}", Node::ADDRESS);
        Ok(Endpoint(What::Search(Box::new(Server::start(kind, &[&hosts, "http.publish_host=127.0.0.1"])?))))
    }

    /// The port on the node's address that speaks `_bulk`; 0 where somebody else has started it.
    pub(crate) fn bulk(&self) -> u16 {
        match &self.0 {
            What::Receiver(receiver) => receiver.bulk,
            What::Files(_) => 0,
            What::Search(server) => server.port(),
        }
    }

    /// Starts it again on the same ports, with what it had.
    pub(crate) fn again(&mut self) -> Outcome {
        match &mut self.0 {
            What::Receiver(receiver) => receiver.again(),
            What::Files(_) => Ok(()),
            What::Search(server) => server.start_again(),
        }
    }

    /// Kills it: connections break, and nobody listens any more.
    pub(crate) fn stop(&mut self) -> Outcome {
        match &mut self.0 {
            What::Receiver(receiver) => {
                if let Some(child) = receiver.child.take() {
                    child.signal(Signal::KILL);
                }
                Ok(())
            }
            What::Files(_) => Err("this receiver is everybody's".into()),
            What::Search(server) => server.stop(true),
        }
    }

    /// The lines that begin with this word, and how often each has arrived.
    pub(crate) fn lines(&self, word: &str) -> Outcome<HashMap<String, usize>> {
        let prefix = format!("{word} ");
        match &self.0 {
            What::Receiver(receiver) => in_files(&receiver.folder, &prefix),
            What::Files(folder) => in_files(folder, &prefix),
            What::Search(server) => in_indices(server, &prefix),
        }
    }
}

impl Receiver {
    fn again(&mut self) -> Outcome {
        let mut command = Command::new(&self.program);
        command.args(["receive", "--lumberjack", &format!("{}:{}", Node::ADDRESS, self.lumberjack)]);
        command.args(["--elasticsearch", &format!("{}:{}", Node::ADDRESS, self.bulk), "--to"]).arg(&self.folder);
        let child = self.child.insert(Child::start(&mut command, &self.folder.join("receiver.log"))?);
        let address = (Node::ADDRESS, self.lumberjack);
        wait::until("the receiver to listen", Duration::from_secs(20), || {
            if child.ended()?.is_some() {
                return Err("the receiver ended".into());
            }
            Ok(std::net::TcpStream::connect(address).ok().map(drop))
        })
    }
}

fn in_files(folder: &Path, prefix: &str) -> Outcome<HashMap<String, usize>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir(folder).map_err(|e| e.to_string())?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "ndjson") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        // Most lines are of other cases: only a line that has the word is parsed.
        for line in text.lines().filter(|l| l.contains(prefix)) {
            // The file's last line may still be written.
            let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
            if let Some(message) = event["message"].as_str().filter(|m| m.starts_with(prefix)) {
                *all.entry(message.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(all)
}

/// What a search finds, held against the server's own count.
fn in_indices(server: &Server, prefix: &str) -> Outcome<HashMap<String, usize>> {
    let mut all = HashMap::new();
    // With a `*` an index that isn't there yet is none found.
    let documents = server.documents("ride*")?;
    let count = server.ask("GET", "/ride*/_count", &Value::Null)?.good()?.json()["count"].as_u64();
    if count.is_none_or(|count| count < documents.len() as u64) {
        return Err(format!("the server found {} documents and counts {count:?}", documents.len()));
    }
    for message in documents.iter().filter_map(|(_, source)| source["message"].as_str()) {
        if message.starts_with(prefix) {
            *all.entry(message.to_owned()).or_default() += 1;
        }
    }
    Ok(all)
}
