//! The shell around the work's command, for the flag way.
//!
//! Comes in: which containers there are, and whether they are started again. Goes out: a script for `sh -c`, whose
//! arguments are the work's command and its arguments.
//!
//! Always holds:
//! - The command gets its arguments as they are, standard input as it is, and TERM, INT, HUP, QUIT, USR1 and USR2 when
//!   the shell gets them; the shell ends with its exit code.
//! - The lock (a FIFO, see `pillion.completion.lock`) is held from before the command begins until it and all that it
//!   has started are gone, a kill included.
//! - The flag is written after the command has ended, with its exit code. Of several containers the last one writes it,
//!   with the first code that isn't 0. A container that is started again for ever leaves none: its end isn't the pod's.
//! - Of several containers each holds the same FIFO, which becomes the lock when all have begun.
//! - Where `mkfifo` or `mv` is missing, the flag works without them.
//! - There is no `$(` in it, which Kubernetes would expand.
//!
//! Tested with real shells in `tests/wrapper.rs`.

/// The folder that the containers share.
pub(crate) const RUN: &str = "/run/pillion";
/// The flag.
pub(crate) const FLAG: &str = "/run/pillion/done";
/// The lock.
pub(crate) const LOCK: &str = "/run/pillion/lock";

/// Whether a container is started again when it has ended: `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Never,
    OnFailure,
    Always,
}

const SHELL: &str = "/bin/sh";

const HOLD_ALONE: &str = r#"me=; rm -f "$d/done" "$d/pid" "$d/code" "$d/lock.new"
{ mkfifo -m 644 "$d/lock.new" && exec 9<>"$d/lock.new" && mv -f "$d/lock.new" "$d/lock"; } 2>/dev/null
"#;

const HOLD_TOGETHER: &str = r#"rm -f "$d/ended.$me" "$d/pid$me" "$d/code$me"
{ [ -p "$d/held" ] || mkfifo -m 666 "$d/held"; } 2>/dev/null
[ -p "$d/held" ] && [ -w "$d/held" ] && exec 9<>"$d/held"
: >"$d/begun.$me"; a=1
for o in $all; do [ -e "$d/begun.$o" ] || a=; done
[ -z "$a" ] || ln "$d/held" "$d/lock" 2>/dev/null
"#;

/// A shell looks at signals only between foreground commands, so the command runs in the background, with the input that
/// a background command wouldn't have. Between the two is a second shell that no signal reaches: a `wait` that a signal
/// ends tells no code, and bash's loses it for good when the command ends at that moment.
const WORK: &str = r#"s=
pass() {
  if read -r q <"$d/pid$me"; then kill -$1 "$q"; else s="$s $1"; fi 2>/dev/null
}
for n in TERM INT HUP QUIT USR1 USR2; do trap "pass $n" $n; done
exec 8<&0
( "$@" <&8 8<&- & echo $! >"$d/pid$me"; wait $!; echo $? >"$d/code$me" ) & p=$!
exec 8<&-
until [ -s "$d/pid$me" ] || [ ! -d "/proc/$p" ]; do sleep 0.01; done
for n in $s; do pass $n; done
wait "$p"; c=$?
while [ -d "/proc/$p" ]; do wait "$p"; c=$?; done
read -r n <"$d/code$me" && c=$n
"#;

const TELL_ALONE: &str = "echo $c >\"$d/done\"\n";

const TELL_TOGETHER: &str = r#"echo $c >"$d/ended.$me"; a=1 z=0
for o in $all; do
  if [ -e "$d/ended.$o" ]; then read -r n <"$d/ended.$o"; [ "$z" != 0 ] || z=${n:-0}; else a=; fi
done
[ -z "$a" ] || echo "$z" >"$d/done"
"#;

/// The command that runs `command` in the shell; `me` is one of `all`, the names of the containers whose end is awaited.
pub(crate) fn wrap(command: &[String], me: &str, all: &[String], restart: Restart) -> Vec<String> {
    let together = all.len() > 1;
    let mut script = String::from("# Pillion: holds a lock while the work runs, and tells how it ended.\n");
    script.push_str(&format!("d={RUN}\n"));
    if together {
        script.push_str(&format!("me={me} all='{}'\n", all.join(" ")));
    }
    script.push_str(if together { HOLD_TOGETHER } else { HOLD_ALONE });
    script.push_str(WORK);
    match (restart, together) {
        (Restart::Always, _) => {}
        (_, false) => script.push_str(TELL_ALONE),
        // A try that fails is followed by another one: only a success is the container's end.
        (Restart::OnFailure, true) => script.push_str(&format!("[ $c != 0 ] || {{\n{TELL_TOGETHER}}}\n")),
        (Restart::Never, true) => script.push_str(TELL_TOGETHER),
    }
    script.push_str("exit $c\n");
    let mut words = vec![SHELL.to_owned(), "-c".to_owned(), script, "sh".to_owned()];
    words.extend(command.iter().cloned());
    words
}
