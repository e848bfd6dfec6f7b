//! `keystore create`, `add`, `list`, `remove`: Filebeat's keystore from the command line.
//!
//! Comes in: the task, what a terminal or standard input says. Goes out: the file, and the exit code. Always holds: a
//! secret is read without an echo and never printed; nobody is asked where standard input isn't a terminal; of several
//! commands at once each changes what the one before it has written (Filebeat's lose each other's secrets, and say that they
//! were kept). Tested in `tests/around.rs`, and beside the real Filebeat by `cargo xtask e2e keystore`.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use pillion_config::{Error, Keystore, Load, Strict};
use pillion_world::World;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cli::Task;

/// The longest secret, bytes: far more than a certificate's key.
const SECRET_LIMIT: u64 = 256 << 10;

/// Carries a task out; what is to be printed.
pub(crate) fn keystore(load: &Load, task: &Task) -> Result<String, Error> {
    let world = World::real();
    let (path, strict) = load.keystore(&world)?;
    match task {
        Task::KeystoreCreate { force } => create(&world, &path, *force),
        Task::KeystoreAdd { key, force, stdin } => add(&world, &path, strict, key, (*force, *stdin)),
        Task::KeystoreRemove(keys) => {
            let _alone = alone(&world, &path)?;
            let mut store = there(&world, &path, strict)?;
            for key in keys {
                if !store.remove(key) {
                    return Err(Error::new(format!("`{key}` isn't in the keystore"), "see `keystore list`"));
                }
            }
            store.save(&world)?;
            Ok(keys.iter().map(|key| format!("successfully removed key: {key}\n")).collect())
        }
        _ => Ok(there(&world, &path, strict)?.names().map(|name| format!("{name}\n")).collect()),
    }
}

fn there(world: &World, path: &Path, strict: Strict) -> Result<Keystore, Error> {
    let none = || Error::new(format!("there is no keystore {}", path.display()), "make one: `keystore create`");
    Keystore::load(&*world.fs, path, strict)?.ok_or_else(none)
}

fn create(world: &World, path: &Path, force: bool) -> Result<String, Error> {
    let exists = world.fs.stat(path, false).is_ok();
    if exists && !force && !agreed("A keystore already exists, Overwrite? [y/N]: ", "--force overwrites it")? {
        return Ok("Exiting without creating keystore.\n".to_owned());
    }
    let _alone = alone(world, path)?;
    // What was agreed to is to overwrite what was there then.
    if !exists && !force && world.fs.stat(path, false).is_ok() {
        return Err(Error::new("another command has just made the keystore", "--force overwrites it"));
    }
    Keystore::empty(path).save(world)?;
    Ok("Created filebeat keystore\n".to_owned())
}

fn add(world: &World, path: &Path, strict: Strict, key: &str, (force, stdin): (bool, bool)) -> Result<String, Error> {
    if key.is_empty() {
        return Err(Error::new("a secret needs a name", "`keystore add KEY`"));
    }
    let mut said = String::new();
    let store = match Keystore::load(&*world.fs, path, strict)? {
        Some(store) => store,
        None => {
            let question = "The keystore does not exist. Do you want to create it? [y/N]: ";
            if !force && !agreed(question, "make it first: `keystore create`, or pass --force")? {
                return Err(Error::new("there is no keystore", "make it: `keystore create`"));
            }
            said.push_str("Created keystore\n");
            Keystore::empty(path)
        }
    };
    if store.get(key).is_some() && !force {
        if stdin {
            return Err(Error::new(format!("`{key}` is in the keystore already"), "--force replaces it"));
        }
        if !agreed(&format!("Setting {key} already exists, Overwrite? [y/N]: "), "--force replaces it")? {
            return Ok("Exiting without modifying keystore.\n".to_owned());
        }
    }
    let secret = if stdin { all_of_stdin()? } else { typed(key)? };
    world.fs.create_dir_all(store.folder(), 0o750).map_err(|e| store.unwritable(&e))?;
    let _alone = alone(world, path)?;
    let mut now = Keystore::load(&*world.fs, path, strict)?.unwrap_or_else(|| Keystore::empty(path));
    if now.get(key).is_some() && store.get(key).is_none() && !force {
        return Err(Error::new(format!("`{key}` is in the keystore already"), "--force replaces it"));
    }
    now.put(key, secret);
    now.save(world)?;
    said.push_str("Successfully updated the keystore\n");
    Ok(said)
}

/// How long another command is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until no other command changes a keystore in that folder, which takes as long as one reads and writes such a file: who
/// is asked is asked before. Where the file system has no locks for folders, or the folder isn't there, nobody waits.
#[expect(clippy::disallowed_methods, reason = "flock has no limit of its own: it is asked again")]
fn alone(world: &World, path: &Path) -> Result<Option<OwnedFd>, Error> {
    let Some(folder) = path.parent() else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fd) = rustix::fs::open(folder, flags, Mode::empty()) else { return Ok(None) };
    let begin = world.clock.mono();
    loop {
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(fd)),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if world.clock.mono().since(begin) < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::new(
                    format!("somebody holds a lock on {} for {PATIENCE:?} already", folder.display()),
                    "end that command, or the `flock` around this one",
                ));
            }
            Err(_) => return Ok(None),
        }
    }
}

/// All of standard input as it is: a line end at its end belongs to it, as with Filebeat.
fn all_of_stdin() -> Result<Vec<u8>, Error> {
    let mut secret = Vec::new();
    let read = std::io::stdin().lock().take(SECRET_LIMIT + 1).read_to_end(&mut secret);
    read.map_err(|e| Error::new(format!("standard input: {e}"), ""))?;
    if secret.len() as u64 > SECRET_LIMIT {
        return Err(Error::new(format!("the secret is longer than {SECRET_LIMIT} bytes"), "is it the right file?"));
    }
    Ok(secret)
}

/// A line from the terminal, without its echo.
fn typed(key: &str) -> Result<Vec<u8>, Error> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::new("standard input isn't a terminal", "pass the secret there with --stdin"));
    }
    let failed = |e: Errno| Error::new(format!("the terminal: {e}"), "pass the secret with --stdin");
    ask(&format!("Enter value for {key}: "));
    let before = tcgetattr(&stdin).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(failed)?;
    let line = line();
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before).map_err(failed);
    ask("\n");
    restored?;
    Ok(line?.into_bytes())
}

/// Asks a person; where there is none it is an error with the remedy.
fn agreed(question: &str, remedy: &str) -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        let question = question.trim_end_matches("[y/N]: ").trim_end();
        return Err(Error::new(format!("{question} There is nobody to ask"), remedy));
    }
    ask(question);
    Ok(matches!(line()?.to_lowercase().as_str(), "y" | "yes"))
}

fn ask(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn line() -> Result<String, Error> {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|e| Error::new(format!("standard input: {e}"), ""))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
