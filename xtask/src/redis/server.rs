//! A real Redis on loopback.
//!
//! Comes in: its settings. Goes out: a running server, and what redis-cli says of it. Always holds: what it has
//! acknowledged is on disk (`appendfsync always`); it listens on a free port and is asked whether it is ready. Debian's
//! package `redis-tools` is enough: its `redis-check-rdb` is the server by another name, and nothing starts when it is
//! installed.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;

use crate::child::{self, Child};
use crate::stage::{LIMIT, Stage};
use crate::{Outcome, kubernetes, ports, wait};

/// A server; it ends with its value.
pub(super) struct Server {
    child: Option<Child>,
    /// Its port on 127.0.0.1.
    pub(super) port: u16,
    words: Vec<String>,
    /// What redis-cli needs besides the port.
    cli: Vec<String>,
    log: std::path::PathBuf,
}

impl Server {
    /// Starts one. `settings`: `--name value`; `cli`: words for redis-cli. With TLS `--port` is 0.
    pub(super) fn start(stage: &Stage<'_>, name: &str, settings: &[&str], cli: &[&str]) -> Outcome<Server> {
        let (port, folder) = (ports::free()?, stage.place.folder().join(name));
        std::fs::create_dir(&folder).map_err(|e| e.to_string())?;
        let kind = if settings.contains(&"--tls-cert-file") { "--tls-port" } else { "--port" };
        let folder_text = folder.display().to_string();
        let mut words: Vec<String> =
            [kind, &port.to_string(), "--bind", "127.0.0.1", "--dir", &folder_text, "--save", ""]
                .map(str::to_owned)
                .to_vec();
        words.extend(["--appendonly", "yes", "--appendfsync", "always"].map(str::to_owned));
        words.extend(settings.iter().map(|&s| s.to_owned()));
        let cli = cli.iter().map(|&s| s.to_owned()).collect();
        let mut server =
            Server { child: None, port, words, cli, log: stage.place.folder().join(format!("{name}.log")) };
        server.start_again()?;
        Ok(server)
    }

    /// Starts it on the same data, after [`Server::stop`].
    pub(super) fn start_again(&mut self) -> Outcome {
        let mut command = if kubernetes::has("redis-server") {
            Command::new("redis-server")
        } else {
            let mut other = Command::new("redis-check-rdb");
            other.arg0("redis-server");
            other
        };
        let mut child = Child::start(command.args(&self.words), &self.log)?;
        wait::until("Redis to be ready", LIMIT, || {
            if let Some(ended) = child.ended()? {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("Redis ended: {}\n{log}", ended.status));
            }
            Ok(self.ask(&["PING"]).ok().filter(|said| said.trim() == "PONG").map(drop))
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

    /// redis-cli with these words.
    pub(super) fn cli(&self, words: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(&self.cli).args(words);
        command
    }

    /// What it answers.
    pub(super) fn ask(&self, words: &[&str]) -> Outcome<String> {
        child::run(&mut self.cli(words))
    }

    /// Has it do something that it must be able to.
    pub(super) fn tell(&self, words: &[&str]) -> Outcome {
        let said = self.ask(words)?;
        if said.trim() == "OK" { Ok(()) } else { Err(format!("Redis says {said} to {words:?}")) }
    }

    /// How long a list is.
    pub(super) fn length(&self, key: &str) -> Outcome<usize> {
        self.ask(&["LLEN", key])?.trim().parse().map_err(|e| format!("LLEN: {e}"))
    }

    /// A list's values, one a line.
    pub(super) fn list(&self, key: &str) -> Outcome<String> {
        Ok(self.ask(&["--raw", "LRANGE", key, "0", "-1"])?.trim_end_matches('\n').to_owned())
    }
}
