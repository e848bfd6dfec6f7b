//! Help that teaches, and the version.

use clap::builder::StyledStr;
use pillion_config::Compat;

use super::Usage;
use super::flags::{self, Kind};

/// `--help` without a command.
pub(super) fn overview(name: &str) -> String {
    let mut flags = flags::command(Kind::Run).help_template("{options}");
    let flags = flags.render_help();
    format!(
        "Ships a job's log files to the last line, and ends when the job ends.
Reads filebeat.yml; stands in for Filebeat 5.6 to 9 as a sidecar.

Usage: {name} [COMMAND] [FLAGS]

Commands:
  run              Ship (what happens without a command)
  exec -- CMD      Run a command, pass its output through and ship it, exit with its code
  test config      Read the configuration and say everything that is wrong with it
  test output      Connect to the output and say what works
  export config    Print the configuration after merging and expansion, secrets masked
  export template  Print the index template; `ilm-policy`, `index-pattern` likewise
  setup            Put index template and lifecycle policy into Elasticsearch, once, for sidecars that may not
  keystore create  Keep secrets in Filebeat's keystore; `add KEY`, `list`, `remove KEY`
  modules list     Filebeat's modules: which are read; `enable MODULE`, `disable MODULE`
  receive          An endpoint for trying things out: Lumberjack and _bulk
  inject -f FILE   Put Pillion beside the work in Kubernetes manifests; comments and order stay
  webhook          Give pods their sidecar when a cluster creates them (mutating admission)
  sweep PATH       Ship what dead pods left on a shared volume, from where they stopped
  shards           Show which replica has which files, and how far behind it is
  install DIR      Copy this program to a shared volume, for `exec` in other images
  demo [-- CMD]    See it work, with a receiver and a job of its own, or with your command
  completion       For bash, zsh or fish
  version, help    `help COMMAND` tells more

Flags of run:
{flags}
Examples:
  {name} -e -c filebeat.yml                       follow the files, log to standard error
  {name} -e -c filebeat.yml --until /data/done    end when the job has touched that file, all lines shipped
  {name} -c filebeat.yml --once                   ship what is there, then end
  {name} exec -c filebeat.yml -- ./work.sh        ship what a command prints
  {name} -E output.logstash.hosts=[lg:5044] …     set an option
  {name} test config -c filebeat.yml              look before you start

Exit codes:
  0  every line that was read has been acknowledged by the target
  3  not all of them: the receipt says which (0 with --on-incomplete succeed)
  2  the configuration or the command line is wrong: what, where and the remedy are printed
  1  any other failure
  exec: the command's own code; 3 if that was 0 and lines are missing

One dash or two are the same: -path.home, --path.home.
"
    )
}

/// `help COMMAND`, `COMMAND --help`.
pub(super) fn of(name: &str, kind: Kind) -> String {
    let injection = super::inject::more();
    let texts = shipping(kind).or_else(|| super::around::help(kind)).or_else(|| beside(kind, &injection));
    let Some((usage, about, more)) = texts else { return overview(name) };
    let flags: StyledStr = flags::command(kind).help_template("{options}").render_help();
    format!("{about}\n\nUsage: {name} {usage}\n\nFlags:\n{flags}\n{more}")
}

/// How a command is used, what it does, and more about it.
pub(super) type Texts<'a> = (&'a str, &'a str, &'a str);

/// Of commands that read a configuration.
fn shipping(kind: Kind) -> Option<Texts<'static>> {
    Some(match kind {
        Kind::TestConfig => (
            "test config [FLAGS]",
            "Reads the configuration as a run would, prints every error and warning with its place and remedy.\nAn unknown option is an \
             error here. Exits with 0 when a run would start, else with 2.",
            "",
        ),
        Kind::TestOutput => (
            "test output [FLAGS]",
            "Connects to every host of the output as a run would (name, TLS, login, version) and prints each step.\nExits with 0 when \
             all of them work, with 2 for a bad configuration, else with 1.",
            "",
        ),
        Kind::Export => (
            "export config [FLAGS]",
            "Prints the configuration after merging files and settings and expanding variables. Passwords and keys are masked.",
            "",
        ),
        Kind::Exec => (
            "exec [FLAGS] -- CMD [ARGS…]",
            "Runs a command. Its output goes where it always goes, and to the target as well: it is spooled to a file of bounded \
             size\nand shipped from there. Signals are passed on. When the command has ended and the last line is acknowledged, exits \
             with its code.",
            "Example:\n  pillion exec -c filebeat.yml --receipt receipt.json -- ./work.sh --fast\n",
        ),
        Kind::Shards => (
            "shards [FLAGS]",
            "Shows how replicas share the files of one file system (pillion.shards): which replica has which shard, since which epoch,\nwhose \
             sign of life moves between two looks, and how many bytes lie between cursors and the ends of files. It writes nothing.\nThe \
             configuration is the one that the replicas have; run it in one of them, or where the same folder is mounted.\n\nalive: \
             it moved. still: it didn't; after a lease others take its shards. leaving: it gives them back. gone: it has no sign of \
             life.\nfixed: parts are fixed (--shard I/N). Files that no replica has begun yet aren't counted.\n\nExits with 0 when every \
             shard has an owner that lives, with 3 when one hasn't, with 2 for a bad configuration, with 1 when\nthe board can't be \
             read.",
            "Examples:\n  kubectl exec pillion-0 -- pillion shards -c /etc/pillion/filebeat.yml\n  pillion shards -c filebeat.yml --json | \
             jq .behind_bytes\n  pillion shards -c filebeat.yml --behind=false      only the board: no registry, no file is looked at\n",
        ),
        _ => return None,
    })
}

/// Of the others.
fn beside(kind: Kind, injection: &str) -> Option<Texts<'_>> {
    Some(match kind {
        Kind::Receive => (
            "receive [FLAGS]",
            "Listens as Logstash (Lumberjack) and as Elasticsearch (_bulk) do, and writes what arrives as NDJSON.\nFor trying things \
             out, not for production: nothing is synced to the disk. Stop it with Ctrl-C.",
            "Examples:\n  pillion receive\n  pillion receive --lumberjack 127.0.0.1:5044 --to arrived/ --delay 200ms --reject-every 10\n",
        ),
        Kind::Inject => (
            "inject -f FILE [FLAGS]",
            "Adds the sidecar to every Job, CronJob, Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, ScaledJob and Argo \
             Workflow\nof the manifests, and leaves all else as it is. Running it twice changes nothing.",
            injection,
        ),
        Kind::Webhook => (
            "webhook [FLAGS]",
            "A mutating admission webhook: pods of namespaces that opted in get the same sidecar as `inject` writes.\nRuns in the \
             cluster, usually two replicas; the Helm chart in deploy/helm/pillion sets it up. It makes its certificate itself, \
             renews it\nand keeps the caBundle. It never refuses a pod: what can't be injected starts without, with a warning.",
            "Opting in:\n  kubectl label namespace team pillion.dev/inject=enabled      all pods of a namespace\n  pillion.dev/inject: \
             \"true\"                                  annotation: this pod (\"false\": not this one)\n\nExamples:\n  pillion webhook \
             --listen 0.0.0.0:8443 --status 0.0.0.0:8080 --set config=filebeat --set image=registry/pillion:1\n  pillion webhook \
             --cert-dir /certs --manage-ca-bundle=false      certificate and caBundle by cert-manager\n",
        ),
        Kind::Sweep => (
            "sweep PATH [FLAGS]",
            "Finds beneath PATH the registries that lie beside logs (pillion.registry.beside_logs) and whose owners are dead, \
             and\nships of each what is left, from where it stopped, with the same ids. Then it writes a receipt there, and marks it \
             as done.\nThe configuration is the one that the pods had; its variables POD_NAME and the like are theirs. Once, or as a \
             CronJob.\n\nDead is an owner whose lock is free and of whom nothing has changed for the time of --grace. Exits with 0 \
             when nothing is\nleft, with 3 when something is: the log and the receipts say what.",
            "Examples:\n  pillion sweep --dry-run /volume\n  pillion sweep -e -c filebeat.yml --grace 2m /volume\n  pillion sweep -e -c filebeat.yml \
             --delete-after 24h /volume      and let shipped files go\n",
        ),
        Kind::Install => (
            "install DIR",
            "Copies this program to DIR/pillion, whole or not at all, executable by everybody; does nothing when it is there.\nFor an \
             init container, so that an image that isn't Pillion's can run its command under `exec`. It takes no flags.",
            "Example:\n  pillion install /shared\n",
        ),
        Kind::Demo => (
            "demo [FLAGS] [-- CMD [ARGS…]]",
            "Starts a receiver and a job that writes log files (or your command), ships them, and shows the receipt and what \
             arrived.\nExits with 0 when both agree to the line.",
            "Examples:\n  pillion demo\n  pillion demo -- sh -c 'seq 100000'\n",
        ),
        _ => return None,
    })
}

/// `help [COMMAND]`.
pub(super) fn topic(name: &str, words: &[&str]) -> Result<String, Usage> {
    let kind = match words {
        [] => return Ok(overview(name)),
        ["run"] => Kind::Run,
        ["test"] | ["test", "config"] => Kind::TestConfig,
        ["test", "output"] => Kind::TestOutput,
        ["export"] | ["export", "config"] => Kind::Export,
        ["exec"] => Kind::Exec,
        ["receive"] => Kind::Receive,
        ["demo"] => Kind::Demo,
        ["inject"] => Kind::Inject,
        ["webhook"] => Kind::Webhook,
        ["install"] => Kind::Install,
        ["sweep"] => Kind::Sweep,
        ["shards"] => Kind::Shards,
        words => {
            if let Some(kind) = super::around::kind(words, true) {
                return kind.map(|kind| of(name, kind));
            }
            return Err(Usage::new(
                &format!("there is no help for `{}`", words.join(" ")),
                "see --help for what there is",
            ));
        }
    };
    Ok(of(name, kind))
}

/// `version`. Called as `filebeat`, the first words are Filebeat's, since scripts look at them.
pub(super) fn version(name: &str) -> String {
    let own = env!("CARGO_PKG_VERSION");
    if name == "filebeat" {
        let version = Compat::V8.agent_version();
        return format!("filebeat version {version} ({}), libbeat {version} [pillion {own}]\n", architecture());
    }
    let all = [Compat::V5, Compat::V7, Compat::V8, Compat::V9].map(Compat::agent_version).join(", ");
    format!("pillion {own} ({}), stands in for Filebeat {all}\n", architecture())
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
