//! The Helm chart and the plain manifests, with the real helm.
//!
//! Comes in: `deploy/helm/pillion`, `e2e/helm` (helm as a Go module). Goes out: a line for each check, an error when one
//! failed; with `--write`, `deploy/webhook/webhook.yml` anew.
//! Always holds: the plain manifests are what the chart gives with its own values, in the namespace `pillion`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::Args;
use crate::filebeat::go_program;
use crate::{Outcome, root};

const HEAD: &str = "\
# The webhook with two replicas, in the namespace pillion (namespace.yml). Made from the chart deploy/helm/pillion by
# `cargo xtask e2e helm --write`; change it there, or here for yourself: the image, and in the command of the Deployment
# the settings (--set), such as --set=config=filebeat.
";

/// A way to use the chart: name, values, what has to be in what comes out, what mustn't.
type Rendering = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

const RENDERINGS: [Rendering; 9] = [
    (
        "defaults",
        &[],
        &[
            "replicas: 2",
            "failurePolicy: Ignore",
            "reinvocationPolicy: IfNeeded",
            "kind: PodDisruptionBudget",
            "resourceNames: [pillion-webhook-tls]",
            "values: [\"kube-node-lease\",\"kube-public\",\"kube-system\",\"pillion\"]",
            "matchConditions:",
            "--set=image=pillion:0.1.0",
        ],
        &[
            "kind: NetworkPolicy",
            "caBundle:",
            "objectSelector",
            "hostPath",
            "resources: [secrets]\n    verbs",
            "verbs: [\"*\"]",
        ],
    ),
    (
        "settings",
        &[
            "--set",
            "webhook.settings.config=filebeat",
            "--set",
            "webhook.settings.image=r/p:2",
            "--set",
            "image.tag=v9",
        ],
        &["--set=config=filebeat", "--set=image=r/p:2", "image: \"pillion:v9\""],
        &["--set=image=pillion"],
    ),
    (
        "digest",
        &[
            "--set",
            "image.repository=r/p",
            "--set",
            "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ],
        &["image: \"r/p@sha256:0000"],
        &[],
    ),
    (
        "cert-manager",
        &[
            "--set",
            "webhook.certificate.existingSecret=issued",
            "--set",
            "webhook.certificate.manageCaBundle=false",
            "--set",
            "webhook.configurationAnnotations.cert-manager\\.io/inject-ca-from=pillion/hook",
        ],
        &[
            "--cert-dir=/certificate",
            "--manage-ca-bundle=false",
            "secretName: issued",
            "cert-manager.io/inject-ca-from: pillion/hook",
        ],
        &["mutatingwebhookconfigurations]", "secrets]", "kind: Secret", "--cert-secret"],
    ),
    (
        "no-census",
        &["--set", "webhook.census=false"],
        &["--census=false", "mutatingwebhookconfigurations]"],
        &["leases", "resources: [namespaces, pods]"],
    ),
    ("one-replica", &["--set", "webhook.replicas=1"], &["replicas: 1"], &["kind: PodDisruptionBudget"]),
    ("network-policy", &["--set", "webhook.networkPolicy.enabled=true"], &["kind: NetworkPolicy", "port: 6443"], &[]),
    (
        "account",
        &["--set", "webhook.serviceAccount.name=mine"],
        &["serviceAccountName: mine", "name: mine\n    namespace: pillion"],
        &["kind: ServiceAccount\nmetadata"],
    ),
    ("old-cluster", &["--kube-version", "1.26"], &["objectSelector:"], &["matchConditions"]),
];

/// Values that the chart refuses, and the word that says why.
const REFUSED: [(&str, &str); 5] = [
    ("webhook.failurePolicy=Maybe", "failurePolicy"),
    ("webhook.replicas=0", "replicas"),
    ("webhook.excludedNamespaces={default}", "excludedNamespaces"),
    ("webhook.certificate.lifetime=soon", "lifetime"),
    ("webhook.replica=3", "replica"),
];

/// `--write`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let write = args.switch("--write");
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let helm = Helm::new()?;
    let mut failed = Vec::new();
    let mut say = |name: &str, outcome: Outcome| match outcome {
        Ok(()) => println!("ok      {name}"),
        Err(why) => {
            println!("FAILED  {name}: {why}");
            failed.push(name.to_owned());
        }
    };
    say("plain manifests", helm.plain(write));
    for rendering in &RENDERINGS {
        say(rendering.0, helm.rendering(rendering));
    }
    for (value, word) in REFUSED {
        say(&format!("refused: {value}"), helm.refuses(value, word));
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// helm and the chart.
pub(crate) struct Helm {
    program: PathBuf,
    chart: PathBuf,
    /// What helm keeps, so that nobody's own settings count.
    home: tempfile::TempDir,
}

impl Helm {
    /// Builds helm, when it isn't in the cache yet.
    pub(crate) fn new() -> Outcome<Helm> {
        let program = match std::env::var_os("PILLION_HELM") {
            Some(set) => PathBuf::from(set),
            None => go_program("helm")?,
        };
        let home = tempfile::tempdir().map_err(|e| e.to_string())?;
        Ok(Helm { program, chart: root().join("deploy/helm/pillion"), home })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let folder = |name: &str| self.home.path().join(name);
        command.args(words).env("HELM_CACHE_HOME", folder("cache")).env("HELM_CONFIG_HOME", folder("config"));
        command.env("HELM_DATA_HOME", folder("data")).env_remove("KUBECONFIG");
        command
    }

    /// What it prints, and whether it succeeded.
    fn output(&self, words: &[&str]) -> Outcome<(bool, String)> {
        let output = self.command(words).output().map_err(|e| format!("{}: {e}", self.program.display()))?;
        let said = if output.status.success() { output.stdout } else { [output.stdout, output.stderr].concat() };
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// The manifests with these values.
    pub(crate) fn template(&self, name: &str, namespace: &str, values: &[&str]) -> Outcome<String> {
        let chart = self.chart.display().to_string();
        let mut words = vec!["template", name, &chart, "--namespace", namespace];
        words.extend(values);
        match self.output(&words)? {
            (true, text) => Ok(text),
            (false, why) => Err(why),
        }
    }

    fn plain(&self, write: bool) -> Outcome {
        let path = root().join("deploy/webhook/webhook.yml");
        let text = format!("{HEAD}{}", self.template("pillion", "pillion", &[])?);
        if write {
            return fs::write(&path, text).map_err(|e| e.to_string());
        }
        same(&path, &text)
    }

    fn rendering(&self, (_, values, there, missing): &Rendering) -> Outcome {
        let chart = self.chart.display().to_string();
        let of_values: Vec<&str> = values.iter().copied().filter(|v| !v.contains("kube-version")).collect();
        if values.first() != Some(&"--kube-version") {
            let mut lint = vec!["lint", "--strict", &chart];
            lint.extend(&of_values);
            let (good, said) = self.output(&lint)?;
            if !good {
                return Err(said);
            }
        }
        let text = self.template("pillion", "pillion", values)?;
        if let Some(word) = there.iter().find(|word| !text.contains(**word)) {
            return Err(format!("{word:?} isn't in it:\n{text}"));
        }
        missing.iter().find(|word| text.contains(**word)).map_or(Ok(()), |word| Err(format!("{word:?} is in it")))
    }

    fn refuses(&self, value: &str, word: &str) -> Outcome {
        match self.template("pillion", "pillion", &["--set", value]) {
            Ok(_) => Err("it was taken".into()),
            Err(why) if why.contains(word) => Ok(()),
            Err(why) => Err(format!("refused for another reason: {why}")),
        }
    }
}

fn same(path: &Path, text: &str) -> Outcome {
    let there = fs::read_to_string(path).unwrap_or_default();
    match there.lines().zip(text.lines()).position(|(a, b)| a != b) {
        None if there.lines().count() == text.lines().count() => Ok(()),
        at => {
            let line = at.unwrap_or(there.lines().count().min(text.lines().count())) + 1;
            Err(format!("{}:{line} isn't what the chart gives: cargo xtask e2e helm --write", path.display()))
        }
    }
}
