//! The filesets of Filebeat's modules that are here: where their files lie on Linux, and how their lines are read.
//!
//! Facts of Filebeat 7.17.29, compared with it fileset by fileset (`cargo xtask e2e differential --case modules`); 8 and 9
//! differ from it as [`Fileset::entrypoint`] and [`Fileset::exclude_files_8`] say, and in how Kibana's JSON is read.
//! Always holds: a module's filesets stand together, in the order of their names.

use super::Form;
use super::Form::{Audit, File, KibanaAudit, Pensando, Service, Syslog};

/// One fileset.
pub(crate) struct Fileset {
    pub(crate) module: &'static str,
    pub(crate) name: &'static str,
    /// `{kafka_home}` and `{hostname}` are filled in.
    pub(crate) paths: &'static [&'static str],
    /// Beside compressed files.
    pub(crate) exclude_files: &'static [&'static str],
    /// In 8 and 9 these too.
    pub(crate) exclude_files_8: &'static [&'static str],
    pub(crate) exclude_lines: &'static [&'static str],
    /// A pattern; true: lines that don't match belong to the one before, false: those that do.
    pub(crate) multiline: Option<(&'static str, bool)>,
    pub(crate) json: &'static [(&'static str, bool)],
    pub(crate) zone: Zone,
    pub(crate) form: Form,
    /// What beside `paths` may stand below `var`.
    pub(crate) vars: &'static [&'static str],
    /// The version from which on its entry pipeline is called `entrypoint`, not `pipeline`.
    pub(crate) entrypoint: Option<(u32, u32)>,
    /// Its inputs say of themselves which version of ECS they follow.
    pub(crate) ecs: bool,
}

/// Whose events say which time zone this machine is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    None,
    All,
    /// Those of lines that aren't JSON.
    Plain,
}

const BASE: Fileset = Fileset {
    module: "",
    name: "",
    paths: &[],
    exclude_files: &[],
    exclude_files_8: &[],
    exclude_lines: &[],
    multiline: None,
    json: &[],
    zone: Zone::None,
    form: File,
    vars: &[],
    entrypoint: None,
    ecs: true,
};

/// Lines of Elasticsearch's logs: a date in brackets, or JSON.
const STAMP_OR_JSON: &str = r"^(\[[0-9]{4}-[0-9]{2}-[0-9]{2}|\{)";
/// The same with or without the bracket.
const DATE_OR_JSON: &str = r"^(\[?[0-9]{4}-[0-9]{2}-[0-9]{2}|\{)";

/// `json` where the decoded fields stay below it: Kibana's log, and from 8 on its audit log too.
pub(crate) const JSON_BELOW: &[(&str, bool)] = &[("keys_under_root", false), ("add_error_key", true)];

/// All filesets.
pub(crate) const FILESETS: &[Fileset] = &[
    Fileset {
        module: "apache",
        name: "access",
        paths: &[
            "/var/log/apache2/access.log*",
            "/var/log/apache2/other_vhosts_access.log*",
            "/var/log/httpd/access_log*",
        ],
        ..BASE
    },
    Fileset {
        module: "apache",
        name: "error",
        paths: &["/var/log/apache2/error.log*", "/var/log/httpd/error_log*"],
        zone: Zone::All,
        ..BASE
    },
    Fileset { module: "auditd", name: "log", paths: &["/var/log/audit/audit.log*"], ..BASE },
    Fileset {
        module: "elasticsearch",
        name: "audit",
        paths: &[
            "/var/log/elasticsearch/*_access.log",
            "/var/log/elasticsearch/*_audit.log",
            "/var/log/elasticsearch/*_audit.json",
        ],
        zone: Zone::All,
        form: Audit,
        ..BASE
    },
    Fileset {
        module: "elasticsearch",
        name: "deprecation",
        paths: &["/var/log/elasticsearch/*_deprecation.log", "/var/log/elasticsearch/*_deprecation.json"],
        exclude_files: &["_slowlog.log$", "_access.log$"],
        multiline: Some((STAMP_OR_JSON, true)),
        zone: Zone::Plain,
        ..BASE
    },
    Fileset {
        module: "elasticsearch",
        name: "gc",
        paths: &["/var/log/elasticsearch/gc.log.[0-9]*", "/var/log/elasticsearch/gc.log"],
        exclude_lines: &["^(OpenJDK|Java HotSpot).* Server VM ", "^CommandLine flags: ", "^Memory: ", r"^\{"],
        multiline: Some((DATE_OR_JSON, true)),
        ..BASE
    },
    Fileset {
        module: "elasticsearch",
        name: "server",
        paths: &["/var/log/elasticsearch/*.log", "/var/log/elasticsearch/*_server.json"],
        exclude_files: &["_slowlog.log$", "_access.log$", "_deprecation.log$"],
        exclude_files_8: &["gc.log$", "_audit.log$"],
        multiline: Some((STAMP_OR_JSON, true)),
        zone: Zone::Plain,
        ..BASE
    },
    Fileset {
        module: "elasticsearch",
        name: "slowlog",
        paths: &[
            "/var/log/elasticsearch/*_index_search_slowlog.log",
            "/var/log/elasticsearch/*_index_indexing_slowlog.log",
            "/var/log/elasticsearch/*_index_search_slowlog.json",
            "/var/log/elasticsearch/*_index_indexing_slowlog.json",
        ],
        multiline: Some((DATE_OR_JSON, true)),
        zone: Zone::Plain,
        ..BASE
    },
    Fileset {
        module: "haproxy",
        name: "log",
        paths: &["/var/log/haproxy.log"],
        zone: Zone::All,
        form: Syslog,
        vars: &["input", "syslog_host", "syslog_port"],
        ..BASE
    },
    Fileset {
        module: "icinga",
        name: "debug",
        paths: &["/var/log/icinga2/debug.log*"],
        multiline: Some((r"^\[", true)),
        ..BASE
    },
    Fileset {
        module: "icinga",
        name: "main",
        paths: &["/var/log/icinga2/icinga2.log*"],
        multiline: Some((r"^\[", true)),
        ..BASE
    },
    Fileset {
        module: "icinga",
        name: "startup",
        paths: &["/var/log/icinga2/startup.log"],
        multiline: Some((r"^[a-z]*\/[a-zA-Z]*:", true)),
        ..BASE
    },
    Fileset { module: "iis", name: "access", exclude_lines: &["^#"], ..BASE },
    Fileset { module: "iis", name: "error", exclude_lines: &["^#"], ..BASE },
    Fileset {
        module: "kafka",
        name: "log",
        paths: &[
            "{kafka_home}/logs/controller.log*",
            "{kafka_home}/logs/server.log*",
            "{kafka_home}/logs/state-change.log*",
            "{kafka_home}/logs/kafka-*.log*",
        ],
        multiline: Some((r"^\[", true)),
        zone: Zone::All,
        vars: &["kafka_home"],
        ..BASE
    },
    Fileset {
        module: "kibana",
        name: "audit",
        paths: &["/var/log/kibana/*_audit.json"],
        zone: Zone::All,
        form: KibanaAudit,
        ..BASE
    },
    Fileset { module: "kibana", name: "log", paths: &["/var/log/kibana/kibana.stdout"], json: JSON_BELOW, ..BASE },
    Fileset {
        module: "logstash",
        name: "log",
        paths: &["/var/log/logstash/logstash-plain*.log", "/var/log/logstash/logstash-json*.log"],
        multiline: Some((r"^((\[[0-9]{4}-[0-9]{2}-[0-9]{2}[^\]]+\])|(\{.+\}))", true)),
        zone: Zone::Plain,
        ..BASE
    },
    Fileset {
        module: "logstash",
        name: "slowlog",
        paths: &["/var/log/logstash/logstash-slowlog-plain*.log", "/var/log/logstash/logstash-slowlog-json*.log"],
        zone: Zone::Plain,
        ..BASE
    },
    Fileset { module: "mongodb", name: "log", paths: &["/var/log/mongodb/mongodb.log"], ..BASE },
    Fileset {
        module: "mysql",
        name: "error",
        paths: &["/var/log/mysql/error.log*", "/var/log/mysqld.log*"],
        multiline: Some(("^([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{6})", true)),
        zone: Zone::All,
        ..BASE
    },
    Fileset {
        module: "mysql",
        name: "slowlog",
        paths: &["/var/log/mysql/mysql-slow.log*", "/var/lib/mysql/{hostname}-slow.log"],
        exclude_lines: &[r"^[\/\w\.]+, Version: .* started with:.*", "^# Time:.*"],
        multiline: Some(("^(# User@Host: |# Time: )", true)),
        ..BASE
    },
    Fileset { module: "nats", name: "log", paths: &["/var/log/nats/nats.log*"], ..BASE },
    Fileset { module: "nginx", name: "access", paths: &["/var/log/nginx/access.log*"], zone: Zone::All, ..BASE },
    Fileset {
        module: "nginx",
        name: "error",
        paths: &["/var/log/nginx/error.log*"],
        multiline: Some((r"^\d{4}\/\d{2}\/\d{2} ", true)),
        zone: Zone::All,
        ..BASE
    },
    Fileset {
        module: "nginx",
        name: "ingress_controller",
        paths: &["/var/log/nginx/access.log*"],
        zone: Zone::All,
        ..BASE
    },
    Fileset {
        module: "osquery",
        name: "result",
        paths: &["/var/log/osquery/osqueryd.results.log*"],
        json: &[("overwrite_keys", true), ("add_error_key", true)],
        ..BASE
    },
    Fileset {
        module: "pensando",
        name: "dfw",
        zone: Zone::All,
        form: Pensando,
        vars: &["input", "syslog_host", "syslog_port"],
        ..BASE
    },
    Fileset {
        module: "postgresql",
        name: "log",
        paths: &["/var/log/postgresql/postgresql-*-*.log*", "/var/log/postgresql/postgresql-*-*.csv*"],
        multiline: Some((r"^\d{4}-\d{2}-\d{2} ", true)),
        ..BASE
    },
    Fileset {
        module: "redis",
        name: "log",
        paths: &["/var/log/redis/redis-server.log*"],
        exclude_lines: &[r"^\s+[\-`('.|_]"],
        ..BASE
    },
    Fileset { module: "redis", name: "slowlog", form: Service, vars: &["hosts", "password"], ..BASE },
    Fileset {
        module: "santa",
        name: "log",
        paths: &["/var/log/santa.log", "/var/db/santa/santa.log"],
        vars: &["input"],
        ..BASE
    },
    Fileset {
        module: "system",
        name: "auth",
        paths: &["/var/log/auth.log*", "/var/log/secure*"],
        multiline: Some((r"^\s", false)),
        zone: Zone::All,
        vars: &["tags", "use_journald"],
        entrypoint: Some((8, 17)),
        ecs: false,
        ..BASE
    },
    Fileset {
        module: "system",
        name: "syslog",
        paths: &["/var/log/messages*", "/var/log/syslog*"],
        multiline: Some((r"^\s", false)),
        zone: Zone::All,
        vars: &["use_journald"],
        entrypoint: Some((8, 17)),
        ..BASE
    },
    Fileset { module: "traefik", name: "access", paths: &["/var/log/traefik/access.log*"], ..BASE },
];

/// Modules of Filebeat that aren't here: they take what devices send over the network, or ask a service for it.
pub(crate) const ELSEWHERE: &[&str] = &[
    "activemq",
    "aws",
    "awsfargate",
    "azure",
    "barracuda",
    "bluecoat",
    "cef",
    "checkpoint",
    "cisco",
    "citrix",
    "coredns",
    "crowdstrike",
    "cyberark",
    "cyberarkpas",
    "cylance",
    "envoyproxy",
    "f5",
    "fortinet",
    "gcp",
    "google_workspace",
    "googlecloud",
    "gsuite",
    "ibmmq",
    "imperva",
    "infoblox",
    "iptables",
    "juniper",
    "microsoft",
    "misp",
    "mssql",
    "mysqlenterprise",
    "netflow",
    "netscout",
    "o365",
    "okta",
    "oracle",
    "panw",
    "proofpoint",
    "rabbitmq",
    "radware",
    "salesforce",
    "snort",
    "snyk",
    "sonicwall",
    "sophos",
    "squid",
    "suricata",
    "symantec",
    "threatintel",
    "tomcat",
    "zeek",
    "zookeeper",
    "zoom",
    "zscaler",
];
