//! What a server's refusal means and what helps.
//!
//! Comes in: the text of an error answer. Goes out: a [`Problem`]. Always holds: no value, key or credential gets into it:
//! the server's text ends before the first thing that it quotes. Tested below.

use crate::problem::Problem;

/// As much of a server's text is shown.
const SHOWN: usize = 120;

/// The codes that are known, and what helps. All of them are tried again: each can be put right at the server.
const KNOWN: [(&str, &str); 16] = [
    ("OOM", "Raise maxmemory, have the list read faster, or let Redis evict other keys (maxmemory-policy)."),
    ("NOAUTH", "Set output.redis.password, and username for a user of its own."),
    ("WRONGPASS", "Put user and password right."),
    ("NOPERM", "The user needs the key or channel, and the commands PING, SELECT, and RPUSH or PUBLISH (ACL SETUSER)."),
    ("READONLY", "This is a replica: write to its master."),
    ("LOADING", "It reads its data from disk after a start: it is waited for."),
    ("MASTERDOWN", "The replica has lost its master."),
    ("NOREPLICAS", "Too few replicas are there for what min-replicas-to-write asks."),
    ("MISCONF", "Redis can't save its data (a full disk?) and takes no writes until it can."),
    ("BUSY", "A script keeps Redis busy: SCRIPT KILL ends it."),
    ("WRONGTYPE", "The key holds something else than a list: use another key, or delete it."),
    ("MOVED", "This is a Redis Cluster, and the key belongs to another node: name that one in output.redis.hosts."),
    ("ASK", "This is a Redis Cluster whose slots are moving: name the new node in output.redis.hosts."),
    ("CLUSTERDOWN", "The Redis Cluster has no owner for the key's slot."),
    ("TRYAGAIN", "The Redis Cluster moves the key's slot."),
    ("DENIED", "Redis is in protected mode: give it a password, or bind it to an address on purpose."),
];

/// Whether a refusal is about the command's key alone, so that commands with other keys may be taken.
pub(super) fn is_of_key(text: &str) -> bool {
    ["WRONGTYPE", "MOVED", "ASK", "TRYAGAIN", "NOPERM"].iter().any(|code| text.split(' ').next() == Some(code))
}

/// What a refusal means.
pub(super) fn explain(text: &str) -> Problem {
    let code = text.split(' ').next().unwrap_or_default().trim_start_matches('-');
    let remedy = KNOWN.iter().find(|(known, _)| *known == code).map(|(_, remedy)| *remedy);
    let end = text.find(['\'', '"', '`']).unwrap_or(text.len()).min(SHOWN);
    let end = (0..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let shown: String = text.get(..end).unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let remedy = remedy.or_else(|| of_text(text)).unwrap_or_default();
    Problem::new(format!("Redis refuses: {}", shown.trim_end()), remedy)
}

/// Refusals that have the common code `ERR`.
fn of_text(text: &str) -> Option<&'static str> {
    [
        ("without any password configured", "The server has no password: take output.redis.password away."),
        ("invalid password", "Put output.redis.password right."),
        ("max number of clients", "Raise Redis' maxclients, or use fewer workers."),
        ("DB index is out of range", "Put output.redis.db right: the server has fewer databases."),
        ("SELECT is not allowed", "A Redis Cluster has the database 0 alone."),
        (
            "invalid bulk length",
            "An event is larger than Redis' proto-max-bulk-len: raise it, or lower max_bytes of the input.",
        ),
        ("unknown command", "The command is renamed or switched off at the server (rename-command)."),
    ]
    .into_iter()
    .find(|(part, _)| text.contains(part))
    .map(|(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_helps_and_none_says_a_value() {
        for (text, reason, remedy) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "OOM command not allowed when used memory >",
                "Raise maxmemory",
            ),
            ("NOAUTH Authentication required.", "NOAUTH Authentication required.", "password"),
            ("READONLY You can't write against a read only replica.", "READONLY You can", "master"),
            (
                "ERR unknown command 'RPUSH', with args beginning with: 'k' 'secret'",
                "ERR unknown command",
                "rename-command",
            ),
            (
                "ERR AUTH <password> called without any password configured",
                "ERR AUTH",
                "take output.redis.password away",
            ),
            ("ERR something new", "ERR something new", ""),
            ("", "Redis refuses:", ""),
        ] {
            let problem = explain(text);
            assert!(problem.reason.contains(reason) && problem.remedy.contains(remedy), "{problem}");
            assert!(!problem.to_string().contains("secret"), "{problem}");
        }
        assert!(explain(&"ä".repeat(500)).reason.len() < 200);
    }
}
