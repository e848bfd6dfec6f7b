//! What the pods ship to: Pillion's own receiver, on the node's address.
//!
//! Comes in: ports. Goes out: which lines of which case have arrived, how often.
//! Always holds: an event is in the file before it is acknowledged, so that the end of a Job finds all of its lines.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::node::Node;
use crate::child::Child;
use crate::{Outcome, wait};

/// A receiver of both protocols.
pub(crate) struct Endpoint {
    program: PathBuf,
    folder: PathBuf,
    lumberjack: u16,
    bulk: u16,
    child: Option<Child>,
}

impl Endpoint {
    /// Starts one that writes into this folder.
    pub(crate) fn start(program: &Path, folder: PathBuf, lumberjack: u16, bulk: u16) -> Outcome<Endpoint> {
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut endpoint = Endpoint { program: program.to_owned(), folder, lumberjack, bulk, child: None };
        endpoint.again()?;
        Ok(endpoint)
    }

    /// The events of a receiver that somebody else has started.
    pub(crate) fn reader(folder: PathBuf) -> Endpoint {
        Endpoint { program: PathBuf::new(), folder, lumberjack: 0, bulk: 0, child: None }
    }

    /// Starts it again on the same ports.
    pub(crate) fn again(&mut self) -> Outcome {
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

    /// Ends it: connections break, and nobody listens any more.
    pub(crate) fn stop(&mut self) {
        if let Some(child) = self.child.take() {
            child.signal(Signal::KILL);
        }
    }

    /// The lines that begin with this word, and how often each has arrived.
    pub(crate) fn lines(&self, word: &str) -> Outcome<HashMap<String, usize>> {
        let mut all = HashMap::new();
        let prefix = format!("{word} ");
        for entry in fs::read_dir(&self.folder).map_err(|e| e.to_string())?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "ndjson") {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            // Most lines are of other cases: only a line that has the word is parsed.
            for line in text.lines().filter(|l| l.contains(&prefix)) {
                // The file's last line may still be written.
                let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
                if let Some(message) = event["message"].as_str().filter(|m| m.starts_with(&prefix)) {
                    *all.entry(message.to_owned()).or_default() += 1;
                }
            }
        }
        Ok(all)
    }
}
