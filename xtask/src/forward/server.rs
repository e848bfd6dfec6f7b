//! A real server of the forward protocol on loopback: the Fluent project's own package for Node.
//!
//! Comes in: its settings. Goes out: a running server, and the events that it got. Always holds: what it has acknowledged is
//! in its file; it listens on a free port and has said that it is ready. `e2e/forward` is the program.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::child::{self, Child};
use crate::stage::{LIMIT, Stage};
use crate::{Outcome, cache, ports, root, wait};

/// A server; it ends with its value.
pub(super) struct Server {
    child: Option<Child>,
    /// Its port on 127.0.0.1.
    pub(super) port: u16,
    settings: Value,
    log: PathBuf,
    out: PathBuf,
}

/// The folder with the program and the package that it needs.
fn program() -> Outcome<PathBuf> {
    let source = root().join("e2e/forward");
    let text = |file: &str| fs::read_to_string(source.join(file)).map_err(|e| format!("e2e/forward/{file}: {e}"));
    let (package, server) = (text("package.json")?, text("server.js")?);
    cache::built("forward", &[&package, &server], |dir| {
        fs::write(dir.join("package.json"), &package).map_err(|e| e.to_string())?;
        fs::write(dir.join("server.js"), &server).map_err(|e| e.to_string())?;
        let words = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"];
        child::run(Command::new("npm").current_dir(dir).args(words)).map(drop)
    })
}

impl Server {
    /// Starts one. `more`: settings beside port and file.
    pub(super) fn start(stage: &Stage<'_>, name: &str, more: &Value) -> Outcome<Server> {
        let (port, file) = (ports::free()?, |end: &str| stage.place.folder().join(format!("{name}.{end}")));
        let mut settings = json!({"port": port, "out": file("ndjson")});
        if let (Some(all), Some(more)) = (settings.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        let mut server = Server { child: None, port, settings, log: file("log"), out: file("ndjson") };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it on the same port and file, after [`Server::kill`].
    pub(super) fn start_again(&mut self) -> Outcome {
        let program = program()?;
        let said = || fs::read_to_string(&self.log).unwrap_or_default();
        let before = said().len();
        let mut node = Command::new("node");
        node.arg(program.join("server.js")).arg(self.settings.to_string());
        let mut child = Child::start(&mut node, &self.log)?;
        wait::until("the server to be ready", LIMIT, || {
            if let Some(ended) = child.ended()? {
                return Err(format!("the server ended: {}\n{}", ended.status, said()));
            }
            Ok(said().get(before..).is_some_and(|new| new.contains("ready")).then_some(()))
        })?;
        self.child = Some(child);
        Ok(())
    }

    /// From here on it takes messages and answers none. How many events it had by then since its start.
    pub(super) fn deafen(&self) -> Outcome<usize> {
        let said = || fs::read_to_string(&self.log).unwrap_or_default();
        let before = said().len();
        if let Some(child) = &self.child {
            child.signal(Signal::USR2);
        }
        wait::until("the server to be deaf", LIMIT, || {
            let all = said();
            let line = all.get(before..).unwrap_or_default().lines().find_map(|line| line.strip_prefix("deaf after "));
            Ok(line.and_then(|count| count.parse().ok()))
        })
    }

    /// Ends it in the midst of whatever it does; half a line that it wrote goes.
    pub(super) fn kill(&mut self) -> Outcome {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.signal(Signal::KILL);
        child.wait(LIMIT)?;
        fs::write(&self.out, self.events()).map_err(|e| e.to_string())
    }

    /// The events that it got, one a line.
    pub(super) fn events(&self) -> String {
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        // It may be about to write the last one.
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        text.get(..end).unwrap_or_default().to_owned()
    }
}
