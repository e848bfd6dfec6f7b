//! What a broker's error codes mean and what becomes of the records.
//!
//! Comes in: a code. Goes out: a [`Verdict`], and words. Facts: kafka.apache.org/protocol, "Error codes".
//! Always holds: a code that isn't known is tried again. Tested below.

use crate::problem::Problem;

/// What becomes of the records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The broker has them.
    Taken,
    /// They are sent again, as they are.
    Again,
    /// They are more than the broker takes at once.
    TooLarge,
    /// The broker no longer knows who sends: a new producer, and again.
    NewProducer,
    /// The broker will never take one of these records.
    Refused,
}

/// What an answer means.
pub(super) fn verdict(code: i16) -> Verdict {
    match code {
        // 46: it had them already, from the first sending.
        0 | 46 => Verdict::Taken,
        10 | 18 => Verdict::TooLarge,
        45 | 47 | 59 | 90 => Verdict::NewProducer,
        // A record that isn't valid, such as one without a key in a compacted topic.
        87 => Verdict::Refused,
        _ => Verdict::Again,
    }
}

/// The code in words, with what helps. `what`: the topic, or what was asked.
pub(super) fn explain(code: i16, what: &str) -> Problem {
    let (name, remedy) = match code {
        3 => (
            "there is no such topic or partition",
            "Create the topic, or let brokers do so (auto.create.topics.enable).",
        ),
        5 => ("it has no leader now", "Are enough brokers running?"),
        6 => ("another broker leads it now", ""),
        7 => ("the replicas didn't answer in time", "Are enough brokers running, or is broker_timeout too short?"),
        10 | 18 => {
            ("the records are larger than the broker takes", "Raise message.max.bytes or max.message.bytes there.")
        }
        14..=16 => ("the coordinator is starting or moving", ""),
        17 => ("not a name that a topic can have", "Letters, digits, `.`, `_` and `-`, at most 249."),
        19 | 20 => ("too few replicas are in sync", "Are enough brokers running (min.insync.replicas)?"),
        29 => ("the user may not write to it", "Allow WRITE and DESCRIBE on the topic for the user."),
        31 => ("the user may not do this in the cluster", "Allow IDEMPOTENT_WRITE, or set idempotent: false."),
        33 => {
            ("the mechanism isn't switched on at the broker", "Set sasl.mechanism to one of sasl.enabled.mechanisms.")
        }
        34 => ("it wants another state of the login", "Does the listener want SASL?"),
        35 => ("the broker is too old for the request", "Kafka 0.11 and later are spoken to; zstd needs 2.1."),
        56 => ("the broker can't use its disk", ""),
        58 => ("user or password are wrong", "Put output.kafka.username and password right."),
        65 => ("the user may not use the transactional id", ""),
        76 => ("the broker doesn't know this compression", "Set another `compression`."),
        87 => ("a record isn't valid there", "A compacted topic wants a `key`."),
        _ => ("an error", ""),
    };
    Problem::new(format!("{what}: {name} ({code})"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (code, want) in [
            (0, Verdict::Taken),
            (46, Verdict::Taken),
            (10, Verdict::TooLarge),
            (45, Verdict::NewProducer),
            (59, Verdict::NewProducer),
            (87, Verdict::Refused),
            (3, Verdict::Again),
            (6, Verdict::Again),
            (29, Verdict::Again),
            (-1, Verdict::Again),
            (999, Verdict::Again),
        ] {
            assert_eq!(verdict(code), want, "{code}");
        }
        let said = explain(29, "topic logs").to_string();
        assert!(said.contains("topic logs: the user may not write") && said.contains("Allow WRITE"), "{said}");
    }
}
