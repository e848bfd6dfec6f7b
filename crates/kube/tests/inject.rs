//! What is planned for objects of every kind: what is added, what is refused, and that planning twice changes nothing.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is a failure of the test")]

use pillion_kube::inject::{ConfigSource, KubeVersion, Options, PREFIX, Plan, Refusal, SETTINGS, Way, apply, plan};
use serde_json::{Value, json};

const OLD: Option<KubeVersion> = Some(KubeVersion { major: 1, minor: 27 });

fn pod(restart: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "x"}},
        "spec": {
            "restartPolicy": restart,
            "containers": [{"name": "main", "image": "work:1", "command": ["./work"], "args": ["--fast"]}],
        },
    })
}

/// One object of each kind, and the pointer to its pod template.
fn objects() -> Vec<(Value, &'static str)> {
    let object = |version: &str, kind: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}, "spec": spec});
    let apps = |kind: &str| (object("apps/v1", kind, json!({"template": pod("Always")})), "/spec/template");
    let mut bare = pod("Never");
    bare["apiVersion"] = json!("v1");
    bare["kind"] = json!("Pod");
    let workflow = json!({"templates": [{"name": "a", "container": {"image": "work:1", "command": ["./work"]}}]});
    vec![
        (bare, ""),
        (object("batch/v1", "Job", json!({"template": pod("Never")})), "/spec/template"),
        (object("batch/v1", "Job", json!({"template": pod("OnFailure")})), "/spec/template"),
        (
            object("batch/v1", "CronJob", json!({"jobTemplate": {"spec": {"template": pod("Never")}}})),
            "/spec/jobTemplate/spec/template",
        ),
        apps("Deployment"),
        apps("StatefulSet"),
        apps("DaemonSet"),
        apps("ReplicaSet"),
        (object("v1", "ReplicationController", json!({"template": pod("Always")})), "/spec/template"),
        (
            object("keda.sh/v1alpha1", "ScaledJob", json!({"jobTargetRef": {"template": pod("Never")}})),
            "/spec/jobTargetRef/template",
        ),
        (object("argoproj.io/v1alpha1", "Workflow", workflow.clone()), "/spec/templates/0"),
        (object("argoproj.io/v1alpha1", "WorkflowTemplate", workflow.clone()), "/spec/templates/0"),
        (
            object("argoproj.io/v1alpha1", "CronWorkflow", json!({"workflowSpec": workflow})),
            "/spec/workflowSpec/templates/0",
        ),
    ]
}

fn with(settings: &[(&str, &str)]) -> Options {
    let mut options = Options::default();
    settings.iter().for_each(|(name, text)| options.set(name, text).unwrap());
    options
}

fn inject(object: &Value, options: &Options) -> Value {
    try_inject(object, options).unwrap().0
}

fn try_inject(object: &Value, options: &Options) -> Result<(Value, Plan), Refusal> {
    let plan = plan(object, options)?;
    let mut injected = object.clone();
    apply(&mut injected, &plan.edits).unwrap();
    Ok((injected, plan))
}

fn job(change: impl FnOnce(&mut Value)) -> Value {
    let mut template = pod("Never");
    change(&mut template);
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": {"template": template}})
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|item| item["name"] == name).unwrap_or(&Value::Null)
}

/// The sidecar, wherever it is.
fn sidecar(object: &Value) -> &Value {
    let spec = &object["spec"]["template"]["spec"];
    let lists = ["initContainers", "containers"].map(|key| &spec[key]);
    lists.into_iter().filter(|l| l.is_array()).map(|l| named(l, "pillion")).find(|c| !c.is_null()).unwrap()
}

#[test]
fn every_kind_is_injected_and_twice_changes_nothing() {
    for (object, template) in objects() {
        for options in [
            Options::default(),
            Options { kube_version: OLD, ..Options::default() },
            Options { config: ConfigSource::Text("output.console:\n".into()), ..with(&[("grace_period", "90")]) },
        ] {
            let what = format!("{} {:?}", object["kind"], options.kube_version);
            let (injected, plan_of_it) = try_inject(&object, &options).unwrap();
            assert!(!plan_of_it.edits.is_empty(), "{what}");
            let mark = injected.pointer(&format!("{template}/metadata/annotations/pillion.dev~1injected"));
            assert!(mark.is_some_and(Value::is_string), "{what}");
            let again = plan(&injected, &options).unwrap();
            assert!(again.edits.is_empty() && again.documents.is_empty(), "{what}: {:?}", again.edits);
            // What was there is there still, the command's place aside.
            for edit in &plan_of_it.edits {
                let replaced = matches!(edit, pillion_kube::inject::Edit::Replace { .. });
                assert!(!replaced || edit.at().ends_with("/command"), "{what}: {edit:?}");
            }
        }
    }
}

#[test]
fn a_list_is_injected_item_by_item() {
    let items: Vec<Value> = objects().into_iter().map(|(object, _)| object).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let injected = inject(&list, &Options::default());
    for (item, (object, _)) in injected["items"].as_array().unwrap().iter().zip(objects()) {
        assert_eq!(*item, inject(&object, &Options::default()));
    }
}

#[test]
fn objects_without_pods_are_left_alone() {
    for object in [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}),
        json!({"apiVersion": "example.org/v1", "kind": "Job", "spec": {"template": pod("Never")}}),
        json!([1, 2]),
        Value::Null,
    ] {
        assert_eq!(plan(&object, &Options::default()).unwrap(), Plan::default());
    }
}

#[test]
fn the_way_follows_cluster_and_pod() {
    let spec = |restart: &str, options: &Options| {
        inject(&job(|t| t["spec"]["restartPolicy"] = json!(restart)), options)["spec"]["template"]["spec"].clone()
    };
    let native = spec("Never", &with(&[("kube_version", "1.29")]));
    assert_eq!(named(&native["initContainers"], "pillion")["restartPolicy"], "Always");
    assert_eq!(native["containers"][0]["command"], json!(["./work"]));
    let old = with(&[("kube_version", "1.28")]);
    for (restart, flags) in [
        ("Never", "--until /run/pillion/done --until-released /run/pillion/lock"),
        (
            "OnFailure",
            "--until /run/pillion/done --until-released /run/pillion/lock -E pillion.completion.restarts=true",
        ),
        ("Always", "--until-released /run/pillion/lock -E pillion.completion.restarts=true"),
    ] {
        let flag = spec(restart, &old);
        let args: Vec<&str> = named(&flag["containers"], "pillion")["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a.as_str().unwrap())
            .collect();
        assert!(args.join(" ").ends_with(flags), "{restart}: {args:?}");
        let command = flag["containers"][0]["command"].as_array().unwrap();
        assert_eq!((&command[0], &command[4], command.len()), (&json!("/bin/sh"), &json!("./work"), 5));
        assert_eq!(flag["containers"][0]["args"], json!(["--fast"]));
    }
}

/// Work that has ended before it could be seen is told by the SIGTERM that only a native sidecar gets.
#[test]
fn beside_a_watched_process_the_sidecar_is_native() {
    let shared = job(|t| t["spec"]["shareProcessNamespace"] = json!(true));
    let injected = inject(&shared, &with(&[("way", "process")]));
    let spec = &injected["spec"]["template"]["spec"];
    let sidecar = named(&spec["initContainers"], "pillion");
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert!(sidecar["args"].as_array().unwrap().contains(&json!("--until-exit")));
}

#[test]
fn what_cannot_be_done_is_refused_with_its_place_and_a_remedy() {
    let no_command = job(|t| drop(t["spec"]["containers"][0].as_object_mut().unwrap().remove("command")));
    let plain = job(|_| ());
    let claim = job(|t| {
        t["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        t["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/data"}]);
    });
    let two = job(|t| t["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "b", "command": ["x"]})));
    let annotated = |key: &str, value: &str| {
        let key = format!("{PREFIX}{key}");
        job(|t| t["metadata"]["annotations"] = json!({ key: value }))
    };
    for (object, settings, at, words) in [
        (&no_command, vec![("way", "flag")], "/spec/template/spec/containers/0/command", "isn't written down"),
        (&plain, vec![("way", "native"), ("kube_version", "1.28")], "/spec/template/spec", "no native sidecars"),
        (&plain, vec![("way", "signal")], "/spec/template/spec/restartPolicy", "never end"),
        (&plain, vec![("way", "process")], "/spec/template/spec/shareProcessNamespace", "see each other"),
        (&plain, vec![("way", "process"), ("kube_version", "1.28")], "/spec/template/spec", "never end"),
        (&plain, vec![("way", "exec")], "/spec/template/spec", "no configuration"),
        (&two, vec![("way", "exec"), ("config", "c")], "/spec/template/spec/containers", "one container"),
        (&plain, vec![("containers", "other")], "/spec/template/spec/containers", "no container `other`"),
        (&claim, vec![], "/spec/template/spec/containers/0/volumeMounts/0", "other pods"),
        (&annotated("way", "magic"), vec![], "/spec/template/metadata/annotations/pillion.dev~1way", "isn't one of"),
        (
            &annotated("image", "evil"),
            vec![],
            "/spec/template/metadata/annotations/pillion.dev~1image",
            "no such annotation",
        ),
    ] {
        let refusal = plan(object, &with(&settings)).unwrap_err();
        assert_eq!(refusal.at, at, "{refusal}");
        assert!(refusal.reason.contains(words) && !refusal.remedy.is_empty(), "{refusal}");
    }
}

#[test]
fn the_sidecar_fits_the_restricted_policy() {
    let sidecar_of = |change: fn(&mut Value)| sidecar(&inject(&job(change), &Options::default())).clone();
    let context = &sidecar_of(|_| ())["securityContext"];
    assert_eq!(
        *context,
        json!({
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
            "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
        })
    );
    let user = |change: fn(&mut Value)| sidecar_of(change)["securityContext"]["runAsUser"].clone();
    assert_eq!(user(|t| t["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000})), 1000);
    assert_eq!(user(|t| t["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 0})), Value::Null);
    assert_eq!(user(|t| t["spec"]["securityContext"] = json!({"runAsUser": 1000})), Value::Null);
    assert_eq!(user(|t| t["spec"]["securityContext"] = json!({"runAsUser": 0})), 1000);
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let injected = inject(
        &job(|t| t["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": 1, "memory": "1Gi"}})),
        &Options::default(),
    );
    let resources = &sidecar(&injected)["resources"];
    assert_eq!(resources["limits"], resources["requests"]);
    assert!(resources["limits"]["cpu"].is_string() && resources["limits"]["memory"].is_string());
    let usual = &sidecar(&inject(&job(|_| ()), &Options::default()))["resources"].clone();
    assert_eq!(*usual, json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}));
}

#[test]
fn an_empty_dir_that_is_there_is_shared() {
    let object = job(|t| {
        t["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        t["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/data/", "subPath": "s"}]);
    });
    let injected = inject(&object, &Options::default());
    let mount = &sidecar(&injected)["volumeMounts"][0];
    assert_eq!(*mount, json!({"name": "v", "mountPath": "/data/", "subPath": "s", "readOnly": true}));
    assert_eq!(injected["spec"]["template"]["spec"]["containers"], object["spec"]["template"]["spec"]["containers"]);
}

#[test]
fn on_a_shared_volume_each_pod_has_a_place_of_its_own() {
    let with_mount = |mount: Value| {
        job(|t| {
            t["spec"]["volumes"] = json!([{"name": "v", "nfs": {"server": "s", "path": "/"}}]);
            t["spec"]["containers"][0]["volumeMounts"] = json!([mount]);
            t["spec"]["containers"][0]["env"] =
                json!([{"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
        })
    };
    let main = "$(PILLION_POD_NAME)_$(PILLION_POD_UID)";
    let side = "$(POD_NAME)_$(POD_UID)";
    for (mount, path, mounts, expression) in [
        // The folder is the whole mount.
        (
            json!({"name": "v", "mountPath": "/data"}),
            "/data",
            json!([{"name": "v", "mountPath": "/data", "subPathExpr": main}]),
            side.to_owned(),
        ),
        (
            json!({"name": "v", "mountPath": "/data", "subPath": "a$(b"}),
            "/data",
            json!([{"name": "v", "mountPath": "/data", "subPathExpr": format!("a$$(b/{main}")}]),
            format!("a$$(b/{side}"),
        ),
        // It lies beneath: the rest of the mount stays.
        (
            json!({"name": "v", "mountPath": "/data"}),
            "/data/logs/*.log",
            json!([
                {"name": "v", "mountPath": "/data"},
                {"name": "v", "mountPath": "/data/logs", "subPathExpr": format!("logs/{main}")},
            ]),
            format!("logs/{side}"),
        ),
        // It has its own place already.
        (
            json!({"name": "v", "mountPath": "/data", "subPathExpr": "$(ME)"}),
            "/data",
            json!([{"name": "v", "mountPath": "/data", "subPathExpr": "$(ME)"}]),
            "$(ME)".to_owned(),
        ),
    ] {
        let injected = inject(&with_mount(mount), &with(&[("paths", path)]));
        let container = &injected["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["volumeMounts"], mounts, "{path}");
        let sidecar = sidecar(&injected);
        assert_eq!(sidecar["volumeMounts"][0]["subPathExpr"], json!(expression), "{path}");
        // Every variable of an expression is there.
        for (container, mounts) in [(container, &container["volumeMounts"]), (sidecar, &sidecar["volumeMounts"])] {
            for mount in mounts.as_array().unwrap() {
                let expression = mount["subPathExpr"].as_str().unwrap_or_default().replace("$$(", "");
                for variable in expression.split("$(").skip(1) {
                    let name = variable.split(')').next().unwrap();
                    assert!(!named(&container["env"], name).is_null(), "{name}: {container}");
                }
            }
        }
    }
}

#[test]
fn the_registry_lies_beside_the_logs_where_others_can_find_it() {
    let on = |volume: Value| {
        job(|t| {
            t["spec"]["volumes"] = json!([volume]);
            t["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/data"}]);
        })
    };
    let options = with(&[("paths", "/data"), ("beside_logs", "true")]);
    let shared = inject(&on(json!({"name": "v", "nfs": {"server": "s", "path": "/"}})), &options);
    let own = inject(&on(json!({"name": "v", "emptyDir": {}})), &options);
    for (injected, beside) in [(shared, true), (own, false)] {
        let sidecar = sidecar(&injected);
        let args: Vec<&str> = sidecar["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        assert_eq!(args.contains(&"pillion.registry.beside_logs=\"/data\""), beside, "{args:?}");
        assert_eq!(args.contains(&"pillion.registry.name=$(POD_NAME)"), beside, "{args:?}");
        assert_eq!(sidecar["volumeMounts"][0]["readOnly"] == true, !beside, "{sidecar}");
    }
}

#[test]
fn several_containers_do_not_write_over_each_other() {
    let two = job(|t| t["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "b", "command": ["x"]})));
    let injected = inject(&two, &Options::default());
    let containers = &injected["spec"]["template"]["spec"]["containers"];
    let mounts: Vec<&Value> = containers.as_array().unwrap().iter().map(|c| &c["volumeMounts"][0]["subPath"]).collect();
    assert_eq!(mounts, [&json!("main"), &json!("b")]);
    assert_eq!(sidecar(&injected)["volumeMounts"][0].get("subPath"), None);
    let one = inject(&two, &with(&[("containers", "b")]));
    assert_eq!(one["spec"]["template"]["spec"]["containers"][0], two["spec"]["template"]["spec"]["containers"][0]);
}

#[test]
fn names_that_are_taken_are_not_taken_again() {
    let injected = inject(
        &job(|t| t["spec"]["volumes"] = json!([{"name": "pillion-logs", "emptyDir": {}}, {"name": "pillion-data"}])),
        &with(&[("config", "mine/x.yml")]),
    );
    let volumes = injected["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let names: Vec<&str> = volumes.iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pillion-logs", "pillion-data", "pillion-logs-2", "pillion-data-2", "pillion-config"]);
    assert_eq!(volumes[4]["configMap"]["name"], "mine");
    let args = sidecar(&injected)["args"].as_array().unwrap();
    assert!(args.contains(&json!("/etc/pillion/x.yml")));
}

#[test]
fn a_pod_that_has_a_pillion_is_left_alone() {
    for container in
        [json!({"name": "pillion", "image": "x"}), json!({"name": "y", "image": "host:5000/pillion:1@sha256:0"})]
    {
        let object = job(|t| t["spec"]["containers"].as_array_mut().unwrap().push(container));
        let plan = plan(&object, &Options::default()).unwrap();
        assert!(plan.edits.is_empty() && plan.notes[0].contains("of its own"), "{:?}", plan.notes);
    }
}

#[test]
fn exec_runs_the_command_in_its_own_container() {
    let injected = inject(&job(|_| ()), &with(&[("way", "exec"), ("config", "c")]));
    let spec = &injected["spec"]["template"]["spec"];
    let command = spec["containers"][0]["command"].as_array().unwrap();
    assert_eq!(command[..2], [json!("/opt/pillion/pillion"), json!("exec")]);
    assert_eq!(command[command.len() - 2..], [json!("--"), json!("./work")]);
    assert_eq!(spec["containers"].as_array().unwrap().len(), 1);
    assert_eq!(spec["initContainers"][0]["command"][1], "install");
}

#[test]
fn annotations_win_over_options_and_add_no_power() {
    let injected = inject(
        &job(|t| {
            t["metadata"]["annotations"] = json!({
                "pillion.dev/paths": "/logs/*.log", "pillion.dev/output": "logstash=lg:5044",
                "pillion.dev/resources": "limits.memory=99Mi", "pillion.dev/way": "flag",
            });
        }),
        &with(&[("paths", "/other"), ("way", "native")]),
    );
    let sidecar = sidecar(&injected);
    assert_eq!(sidecar["resources"]["limits"]["memory"], "99Mi");
    assert_eq!(sidecar["volumeMounts"][0]["mountPath"], "/logs");
    assert_eq!(named(&sidecar["env"], "LOGSTASH_HOSTS")["value"], "lg:5044");
    assert!(sidecar["args"].as_array().unwrap().contains(&json!("filebeat.inputs.0.paths=[\"/logs/*.log\"]")));
    // Whatever an annotation says, there is no new host path, image or privilege.
    for setting in SETTINGS.iter().filter(|s| s.annotation) {
        for text in ["true", "/etc", "evil/x", "elasticsearch=evil", "process", "exec", "limits.cpu=1", "privileged"] {
            let key = format!("{PREFIX}{}", setting.name);
            let object = job(|t| t["metadata"]["annotations"] = json!({ key: text }));
            let Ok((injected, _)) = try_inject(&object, &with(&[("image", "good:1")])) else { continue };
            let text = injected["spec"].to_string();
            assert!(!text.contains("hostPath") && !text.contains("\"privileged\":"), "{text}");
            assert!(!text.contains("\"image\":\"evil"), "{text}");
        }
    }
}

#[test]
fn opt_in_asks_for_the_annotation() {
    let options = Options { opt_in: true, ..Options::default() };
    assert!(plan(&job(|_| ()), &options).unwrap().edits.is_empty());
    let asked = job(|t| t["metadata"]["annotations"] = json!({"pillion.dev/inject": "true"}));
    assert!(!plan(&asked, &options).unwrap().edits.is_empty());
}

#[test]
fn workflows_get_a_sidecar_of_argo_s_kind() {
    let object = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"generateName": "w-"},
    "spec": {"volumeClaimTemplates": [{"metadata": {"name": "work"}}], "templates": [
        {"name": "set", "containerSet": {"volumeMounts": [{"name": "tmp", "mountPath": "/data"}],
            "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}, "volumes": [{"name": "tmp", "emptyDir": {}}]},
        {"name": "dag", "dag": {}},
    ]}});
    let injected = inject(&object, &Options::default());
    let template = &injected["spec"]["templates"][0];
    let sidecar = named(&template["sidecars"], "pillion");
    assert!(sidecar["command"].is_array() && sidecar.get("restartPolicy").is_none());
    assert_eq!(sidecar["volumeMounts"][0]["name"], "tmp");
    assert_eq!(injected["spec"]["templates"][1], object["spec"]["templates"][1]);
    let refusal = plan(&object, &Options { way: Way::Flag, ..Options::default() }).unwrap_err();
    assert!(refusal.reason.contains("workflows"));
}

#[test]
fn a_configuration_given_as_text_becomes_a_config_map() {
    let (injected, plan) = try_inject(
        &objects()[1].0,
        &Options { config: ConfigSource::Text("output.console: {}\n".into()), ..Options::default() },
    )
    .unwrap();
    assert_eq!(plan.documents[0]["metadata"], json!({"name": "x-pillion", "namespace": "n"}));
    assert_eq!(plan.documents[0]["data"]["filebeat.yml"], "output.console: {}\n");
    let volumes = &injected["spec"]["template"]["spec"]["volumes"];
    assert_eq!(named(volumes, "pillion-config")["configMap"]["name"], "x-pillion");
}

#[test]
fn the_grace_period_is_told_and_only_raised_when_asked() {
    let grace = |asked: Option<u32>| {
        let object = job(|t| t["spec"]["terminationGracePeriodSeconds"] = json!(60));
        let injected = inject(&object, &Options { grace_period: asked, ..Options::default() });
        let told = named(&sidecar(&injected)["env"], "PILLION_GRACE_PERIOD_SECONDS")["value"].clone();
        (injected["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].clone(), told)
    };
    assert_eq!(grace(None), (json!(60), json!("60")));
    assert_eq!(grace(Some(30)), (json!(60), json!("60")));
    assert_eq!(grace(Some(120)), (json!(120), json!("120")));
}

#[test]
fn a_hook_keeps_the_sidecar_until_the_work_has_ended_where_it_ends_by_itself() {
    let hook = json!({"preStop": {"exec": {"command": ["sleep", "86400"]}}});
    let old = KubeVersion { major: 1, minor: 27 };
    // Way, restart policy, the pod's grace period; whether there is a hook, and what Pillion is told.
    for (way, restart, grace, hooked, told) in [
        (Way::Flag, "Never", 30, true, "2"),
        (Way::Flag, "Never", 3600, true, "2"),
        // Kubelet gives two seconds at least: nothing to win.
        (Way::Flag, "Never", 2, false, "2"),
        (Way::Flag, "Never", 0, false, "0"),
        // A try that fails isn't the end before SIGTERM: the hook would take the whole grace period.
        (Way::Flag, "OnFailure", 30, false, "30"),
        (Way::Flag, "Always", 30, false, "30"),
        (Way::Signal, "Always", 30, false, "30"),
        (Way::Exec, "Never", 30, false, "30"),
    ] {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {
            "restartPolicy": restart, "terminationGracePeriodSeconds": grace,
            "containers": [{"name": "main", "image": "i", "command": ["./work"]}]}});
        let config = ConfigSource::ConfigMap { name: "c".into(), key: "filebeat.yml".into() };
        let options = Options { way, config, kube_version: Some(old), ..Options::default() };
        let injected = inject(&object, &options);
        let containers = &injected["spec"]["containers"];
        let ours = if way == Way::Exec { named(containers, "main") } else { named(containers, "pillion") };
        let case = format!("{way:?} {restart} {grace}");
        assert_eq!(ours.get("lifecycle"), hooked.then_some(&hook), "{case}");
        assert_eq!(named(&ours["env"], "PILLION_GRACE_PERIOD_SECONDS")["value"], told, "{case}");
        assert_eq!(injected["spec"]["terminationGracePeriodSeconds"], grace, "{case}");
        assert!(plan(&injected, &options).unwrap().edits.is_empty(), "{case}");
    }
}
