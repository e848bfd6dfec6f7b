//! `pillion inject` on the cluster: manifests as users have them, injected, taken by the API server, and run.
//!
//! Comes in: a [`Plain`] manifest of the table. Goes out: what was compared, or what didn't hold.
//! Always holds: what is injected passes the policy `restricted` and the server's own dry run; injected twice it is the same
//! to the byte; each has a namespace of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Rig, api, example, look, pods};
use crate::{Outcome, child, wait};

const LIMIT: Duration = Duration::from_secs(180);
/// How many lines each pod writes.
const LINES: usize = 100;

/// A manifest as a user has it, and what must become of it.
pub(super) struct Plain {
    /// Its name, and its namespace's.
    pub(super) name: &'static str,
    /// What `inject` is told beside image and target.
    told: &'static [&'static str],
    kind: Kind,
    /// Further lines of the pod's specification.
    spec: &'static str,
    volume: Volume,
    /// The work's exit code.
    code: u8,
    /// The container that ships.
    shipper: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Job,
    /// Two pods at a time.
    Twins,
    CronJob,
    Deployment,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Volume {
    EmptyDir,
    /// One claim for all pods.
    Shared,
}

const NATIVE: Plain = Plain {
    name: "inject-native",
    told: &["--kube-version", "cluster"],
    kind: Kind::Job,
    spec: "",
    volume: Volume::EmptyDir,
    code: 0,
    shipper: "pillion",
};
const FLAG: Plain = Plain { name: "inject-flag", told: &["--kube-version", "1.27"], ..NATIVE };
/// The work's own image has no configuration.
const EXEC: Plain =
    Plain { name: "inject-exec", told: &["--set", "way=exec", "--config", CONFIG], shipper: "work", ..NATIVE };
const CONFIG: &str = "filebeat.yml";
/// Each pod gets a place of its own in the folder that is named.
const SHARED: &[&str] = &["--kube-version", "cluster", "--set", "paths=/data"];
const SHARED_FLAG: &[&str] = &["--kube-version", "1.27", "--set", "paths=/data"];

/// All of them.
pub(super) fn all() -> Vec<Plain> {
    vec![
        NATIVE,
        Plain { name: "inject-native-fails", code: 3, ..NATIVE },
        FLAG,
        Plain { name: "inject-flag-fails", code: 3, ..FLAG },
        EXEC,
        Plain { name: "inject-exec-fails", code: 3, ..EXEC },
        Plain {
            name: "inject-process",
            told: &["--set", "way=process"],
            spec: "shareProcessNamespace: true",
            ..NATIVE
        },
        Plain { name: "inject-shared", told: SHARED, kind: Kind::Twins, volume: Volume::Shared, ..NATIVE },
        Plain { name: "inject-shared-flag", told: SHARED_FLAG, kind: Kind::Twins, volume: Volume::Shared, ..NATIVE },
        Plain { name: "inject-cron", kind: Kind::CronJob, ..NATIVE },
        Plain { name: "inject-deployment", kind: Kind::Deployment, ..NATIVE },
    ]
}

impl Plain {
    /// Injects it, has the server look at it, and runs it.
    pub(super) fn run(&self, rig: &Rig) -> Outcome<String> {
        let begin = Instant::now();
        example::namespace(self.name, "restricted")?;
        rig.kubectl(&["label", "namespace", self.name, "pod-security.kubernetes.io/warn=restricted"])?;
        let folder = rig.node.folder("injected").join(self.name);
        fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let (plain, injected) = (folder.join("plain.yml"), folder.join("injected.yml"));
        fs::write(&plain, self.manifest(&folder)?).map_err(|e| e.to_string())?;
        fs::write(folder.join(CONFIG), FILEBEAT).map_err(|e| e.to_string())?;
        let text = self.inject(rig, &plain)?;
        fs::write(&injected, &text).map_err(|e| e.to_string())?;
        if self.inject(rig, &injected)? != text {
            return Err(format!("injected twice it is another: {}", injected.display()));
        }
        self.apply(rig, &injected, &["--dry-run=server"])?;
        if self.kind == Kind::CronJob {
            return Ok("taken by the server".into());
        }
        self.apply(rig, &injected, &[])?;
        let seen = self.ended(rig).and_then(|()| self.compare(rig));
        let lines = seen.map_err(|why| format!("{why}; {}", look::look(&rig.node, self.name)))?;
        Ok(format!("{lines} lines, {:.0} s", begin.elapsed().as_secs_f64()))
    }

    fn inject(&self, rig: &Rig, manifest: &Path) -> Outcome<String> {
        let mut inject = Command::new(&rig.program);
        inject.current_dir(manifest.parent().unwrap_or(Path::new("/")));
        inject.args(["inject", "-f"]).arg(manifest).args(["--set", "image=localhost/pillion:0.1.0"]);
        inject.args(["--set", "pull_policy=Never", "--set", "output=logstash=logstash.logging:5044"]).args(self.told);
        // `--kube-version cluster` asks the cluster that the user's kubectl talks to.
        let kubectl = rig.node.kubectl();
        let bin = Path::new(kubectl.get_program()).parent().unwrap_or(Path::new("/")).to_owned();
        let usual = std::env::var("PATH").unwrap_or_default();
        inject.env("PATH", format!("{}:{usual}", bin.display())).env("KUBECONFIG", rig.node.folder("kubeconfig"));
        child::run(&mut inject)
    }

    fn apply(&self, rig: &Rig, manifest: &Path, more: &[&str]) -> Outcome {
        let mut apply = rig.node.kubectl();
        apply.args(["apply", "-n", self.name, "-f"]).arg(manifest).args(more);
        let out = apply.output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        // What a Job or a Deployment would make is only warned of.
        if !out.status.success() || said.contains("Warning") {
            return Err(format!("kubectl apply {}: {said}", more.join(" ")));
        }
        Ok(())
    }

    /// Waits until the Job has ended as its work did; a Deployment goes on.
    fn ended(&self, rig: &Rig) -> Outcome {
        if self.kind == Kind::Deployment {
            return wait::until("the Deployment's lines", LIMIT, || {
                let there = rig.endpoint.lines(self.name)?.len() >= LINES;
                if !there {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Ok(there.then_some(()))
            });
        }
        let path = format!("/apis/batch/v1/namespaces/{}/jobs/work", self.name);
        let end = wait::until("the Job's end", LIMIT, || {
            let job = api::get(&path)?;
            let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let mut ends = conditions.iter().filter(|c| c["status"] == "True").filter_map(|c| c["type"].as_str());
            let end = ends.find(|end| ["Complete", "Failed"].contains(end)).map(str::to_owned);
            if end.is_none() {
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(end)
        })?;
        let expected = if self.code == 0 { "Complete" } else { "Failed" };
        if end == expected { Ok(()) } else { Err(format!("the Job is {end}, not {expected}")) }
    }

    /// Every line of every pod once, and a complete receipt of each pod that has ended.
    fn compare(&self, rig: &Rig) -> Outcome<usize> {
        let lines = rig.endpoint.lines(self.name)?;
        let expected = if self.kind == Kind::Twins { 2 * LINES } else { LINES };
        let again: usize = lines.values().map(|n| n - 1).sum();
        if lines.len() != expected || again > 0 {
            return Err(format!("{} of {expected} lines arrived, {again} again", lines.len()));
        }
        if self.kind == Kind::Deployment {
            return Ok(expected);
        }
        let receipts = wait::until("every pod's receipt", LIMIT, || {
            let pods = pods::all(self.name)?;
            let all: BTreeSet<String> = pods.iter().map(|p| pods::message(p, self.shipper)).collect();
            Ok((!all.is_empty() && !all.contains("")).then_some(all))
        })?;
        match receipts.iter().find(|r| !r.starts_with("pillion: complete")) {
            Some(other) => Err(format!("a receipt: {other}")),
            None => Ok(expected),
        }
    }

    fn manifest(&self, folder: &Path) -> Outcome<String> {
        let (volume, before) = match self.volume {
            Volume::EmptyDir => ("emptyDir: {}", String::new()),
            Volume::Shared => ("persistentVolumeClaim: {claimName: logs}", shared(self.name, folder)?),
        };
        let (restart, then) = match self.kind {
            Kind::Deployment => ("Always", "; exec sleep 86400".to_owned()),
            _ => ("Never", format!("; exit {}", self.code)),
        };
        let pod = POD
            .replace("RESTART", restart)
            .replace("SPEC", self.spec)
            .replace("VOLUME", volume)
            .replace("WORK", &format!("for i in $(seq {LINES}); do echo \"{} $HOSTNAME $i\"; done", self.name))
            .replace("THEN", &then);
        let indented = |by: usize| {
            let lines = pod.lines().filter(|l| !l.trim().is_empty());
            lines.map(|l| format!("{}{l}\n", " ".repeat(by))).collect::<String>()
        };
        let text = match self.kind {
            Kind::Job => format!("{JOB}spec:\n  backoffLimit: 0\n  template:\n{}", indented(4)),
            Kind::Twins => {
                format!(
                    "{JOB}spec:\n  completions: 2\n  parallelism: 2\n  backoffLimit: 0\n  template:\n{}",
                    indented(4)
                )
            }
            Kind::CronJob => format!("{CRON}{}", indented(8)),
            Kind::Deployment => format!("{DEPLOYMENT}{}", indented(4)),
        };
        Ok(before + &text)
    }
}

const FILEBEAT: &str = "filebeat.inputs:
- type: filestream
  id: work
  paths: [/data/*.log]
output.logstash.hosts: [elsewhere:5044]
";
const JOB: &str =
    "# The nightly import.\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: work # the team's name for it\n";
const CRON: &str = "apiVersion: batch/v1
kind: CronJob
metadata: {name: work}
spec:
  schedule: \"0 3 * * *\" # at night
  jobTemplate:
    spec:
      template:
";
const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: work}
spec:
  selector: {matchLabels: {app: work}}
  template:
";
const POD: &str = "metadata: {labels: {app: work}}
spec:
  restartPolicy: RESTART
  SPEC
  securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: work
    image: busybox:1
    command: [sh, -c]
    args:
    - |
      (WORK) >>/data/app.log THEN
    securityContext:
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
    volumeMounts:
    - {name: data, mountPath: /data}
  volumes:
  - name: data
    VOLUME
";

/// A folder of the node as a volume, which is shared by all who claim it.
fn shared(name: &str, folder: &Path) -> Outcome<String> {
    let path = folder.join("volume");
    fs::create_dir_all(&path).map_err(|e| e.to_string())?;
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&path, everybody).map_err(|e| e.to_string())?;
    Ok(format!(
        "apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteMany]
  storageClassName: \"\"
  hostPath: {{path: {}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: logs}}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: \"\"
  volumeName: {name}
  resources: {{requests: {{storage: 1Gi}}}}
---
",
        path.display()
    ))
}
