//! `cargo xtask e2e keystore`: Filebeat's keystore, handed to and fro between the real Filebeat and Pillion.
//!
//! Comes in: both programs. Goes out: a line for each step, or what is wrong. Always holds: each program reads what the
//! other has written, and both resolve a name that is in the keystore and in the environment alike.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::shipper::{Place, Shipper};
use crate::{Outcome, ports};

/// Runs it.
pub(crate) fn run(words: &[&str]) -> Outcome {
    if let Some(odd) = words.first() {
        return Err(format!("what is {odd}?"));
    }
    let (pillion, filebeat) = (Shipper::named("pillion")?, Shipper::named("filebeat")?);
    for (maker, user) in [(&filebeat, &pillion), (&pillion, &filebeat)] {
        let place = Place::new()?;
        place.configure("filebeat.inputs: [{type: log, paths: [/none]}]\noutput.elasticsearch.hosts: ['${HOST}']\n")?;
        let nobody = format!("127.0.0.1:{}", ports::free()?);
        call(maker, &place, "keystore create", "", &[])?;
        call(maker, &place, "keystore add HOST --stdin", &nobody, &[])?;
        call(maker, &place, "keystore add SECRET --stdin", "ä: [1, {2}] $\n", &[])?;
        call(user, &place, "keystore add MORE --stdin", "x", &[])?;
        call(user, &place, "keystore remove SECRET", "", &[])?;
        for program in [maker, user] {
            let listed = call(program, &place, "keystore list", "", &[])?;
            let mut names: Vec<&str> = listed.lines().collect();
            names.sort_unstable();
            if names != ["HOST", "MORE"] {
                return Err(format!("{}: the keystore holds {names:?}", program.name()));
            }
            for (env, host) in [(&[][..], nobody.as_str()), (&[("HOST", "127.0.0.1:1")][..], "127.0.0.1:1")] {
                let said = call(program, &place, "test output", "", env).unwrap_or_else(|said| said);
                if !said.contains(&format!("http://{host}...")) {
                    return Err(format!("{}: not the host {host}: {said}", program.name()));
                }
            }
        }
        println!("ok      made by {}, changed by {}", maker.name(), user.name());
    }
    Ok(())
}

/// What a program prints; an error when it fails.
fn call(program: &Shipper, place: &Place, line: &str, input: &str, env: &[(&str, &str)]) -> Outcome<String> {
    let mut command = Command::new(&program.path);
    command.args(line.split(' ')).arg("-c").arg(place.config()).arg("--path.home").arg(place.home());
    command.env_remove("HOST").envs(env.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who doesn't read it may be gone.
        let _ = stdin.write_all(input.as_bytes());
    }
    let out = child.wait_with_output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&[out.stdout.as_slice(), out.stderr.as_slice()].concat()).into_owned();
    if out.status.success() { Ok(said) } else { Err(format!("{} {line}: {said}", program.name())) }
}
