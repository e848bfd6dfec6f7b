//! The binary's parts that can be tested without starting it.
//!
//! - [`cli`]: from arguments to a command.
//! - [`assemble`]: from a configuration to everything that a run is made of; [`work`]: the run.
//! - [`further`]: inputs of further files; [`reload`]: what becomes of them when a file changes.
//! - [`cluster`], [`discover`]: what is known of pods, and inputs that come and go with them.
//! - [`sh`] and [`entry`]: called by the name of a shell, or of an image's entry point.
//! - [`wrapped`]: a command that is wrapped. [`receiving`]: the endpoint for trying things out. [`injecting`]:
//!   manifests. [`webhook`]: the admission webhook.
//! - [`seat`]: whose registry a run works with, its own or a dead one's. [`sweep`]: what the dead left.
//! - [`sharing`]: one of several replicas. [`shards`]: what they have, shown.
//! - [`monitoring`]: what a run says of itself while it lasts.
//! - [`setting_up`], [`keystore`]: what is done around shipping, by hand.
//! - [`install`]: a copy for other images. [`lasting`]: what becomes of the data path.

pub mod assemble;
pub mod cli;
mod clouds;
mod cluster;
mod company;
mod demo;
mod discover;
mod entry;
mod further;
mod harvesting;
mod hung;
mod injecting;
mod install;
mod keystore;
mod lasting;
mod modules;
mod monitoring;
mod receiving;
mod reload;
mod rest;
mod seat;
mod setting_up;
mod several;
mod sh;
mod shards;
pub mod sharing;
mod sweep;
mod webhook;
pub mod work;
mod wrapped;

use std::io::Write as _;

use pillion_config::{Config, Error};
use pillion_world::World;

use crate::cli::{Command, Process, Run};

/// The exit code of a command line or configuration that can't be used.
pub const BAD_CONFIGURATION: u8 = 2;

/// Has a panic of any thread end the program, with SIGABRT after the message, as an executable that is built to abort does.
/// Else a run whose reading thread is gone would wait for it for ever. For the start of the process: it concerns all of it.
pub fn end_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// Does what the command line asks for, and returns the exit code.
pub fn run(process: Process) -> u8 {
    rest::one_heap();
    if sh::is_shell(process.name()) {
        return sh::run(&process);
    }
    let process = match process.name() {
        entry::NAME => match entry::filebeat(process) {
            Ok(process) => process,
            Err(code) => return code,
        },
        _ => process,
    };
    let command = match cli::parse(&process) {
        Ok(command) => command,
        Err(usage) => {
            complain(&usage.text);
            return usage.code;
        }
    };
    match command {
        Command::Say(text) => say(&text),
        Command::Run(run) => ship(&run, None),
        Command::Exec { run, command } => ship(&run, Some(command)),
        Command::TestConfig(run) => test_config(&run),
        Command::TestOutput(run) => test_output(&run),
        Command::ExportConfig { run, reveal } => match Config::load(&World::real(), &run.load) {
            Ok(config) => say(&config.export(reveal)),
            Err(e) => refuse(&[e]),
        },
        Command::Receive(options) => receiving::receive(&options),
        Command::Inject(flags) => injecting::inject(&flags),
        Command::Webhook(flags) => webhook::webhook(&flags, &process),
        Command::Install(dir) => install::install(&dir),
        Command::Sweep(flags) => sweep::sweep(&flags),
        Command::Shards(flags) => shards::shards(&flags),
        Command::Demo(options) => demo::demo(&options),
        Command::Around(task) => setting_up::around(&task),
    }
}

fn ship(run: &Run, command: Option<Vec<std::ffi::OsString>>) -> u8 {
    let world = World::real();
    let config = match Config::load(&world, &run.load) {
        Ok(config) => config,
        Err(e) => return refuse(&[e]),
    };
    let options = match assemble::log_options(&config, &run.log) {
        Ok(options) => options,
        Err(e) => return refuse(&[e]),
    };
    let log = options.destination.names();
    pillion_telemetry::init(options, &world);
    for warning in &run.warnings {
        tracing::warn!("{warning}");
    }
    match assemble::assemble(&config, run.strict, command.is_none()) {
        Ok(parts) => work::work(&config, parts, &work::RunFlags { once: run.once, command, log }),
        Err(errors) => refuse(&errors),
    }
}

fn test_config(run: &Run) -> u8 {
    let config = match Config::load(&World::real(), &run.load) {
        Ok(config) => config,
        Err(e) => return refuse(&[e]),
    };
    match assemble::assemble(&config, true, true) {
        Ok(parts) => {
            for warning in &parts.warnings {
                complain(&format!("warning: {warning}"));
            }
            for output in parts.further.iter().map(|one| &one.parts.output).chain([&parts.output]) {
                match output.check(&World::real()) {
                    Ok(missing) => missing.iter().for_each(|file| {
                        complain(&format!(
                            "warning: {file} isn't there: is it mounted where this configuration is used?"
                        ));
                    }),
                    Err(problem) => {
                        complain(&format!("error: {}\nremedy: {}\n", problem.reason, problem.remedy));
                        return BAD_CONFIGURATION;
                    }
                }
            }
            say("Config OK\n")
        }
        Err(errors) => refuse(&errors),
    }
}

fn test_output(run: &Run) -> u8 {
    let config = match Config::load(&World::real(), &run.load) {
        Ok(config) => config,
        Err(e) => return refuse(&[e]),
    };
    match assemble::assemble(&config, run.strict, false) {
        Ok(parts) => work::test_output(&config, parts),
        Err(errors) => refuse(&errors),
    }
}

/// Tells every error, and returns the exit code for them.
fn refuse(errors: &[Error]) -> u8 {
    for error in errors {
        complain(&format!("error: {error}\n"));
    }
    BAD_CONFIGURATION
}

/// Writes to standard output. A reader that has gone isn't our failure.
fn say(text: &str) -> u8 {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    0
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
}
