//! One of several replicas: a `Lease` that one of them holds.
//!
//! Comes in: the API server, the monotonic clock. Goes out: whether this replica is the one. Always holds: a Lease is
//! taken over only when it hasn't changed for its whole time as seen on our own clock (clocks of machines are never
//! compared); the Lease's `resourceVersion` makes one of several takers the holder; who can't renew gives up before
//! anybody else may take it. Tested below.

use std::time::Duration;

use pillion_world::{Clock, Mono, rfc3339};
use serde_json::{Value, json};

use crate::client::{Client, Error};

/// How long a Lease is valid without a renewal.
pub(crate) const TERM: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub(crate) const RENEW: Duration = Duration::from_secs(5);

/// A replica's view of the Lease.
pub(crate) struct Lease {
    /// `/apis/coordination.k8s.io/v1/namespaces/NAMESPACE/leases`.
    list: String,
    name: String,
    /// This replica.
    me: String,
    /// The version that was seen last, and when it was new to us.
    seen: Option<(String, Mono)>,
    /// When we last renewed it.
    held: Option<Mono>,
}

impl Lease {
    pub(crate) fn new(namespace: &str, name: &str, me: String) -> Lease {
        let list = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        Lease { list, name: name.to_owned(), me, seen: None, held: None }
    }

    /// Takes or renews it, if that is possible; whether this replica holds it now.
    pub(crate) async fn hold(&mut self, client: &mut Client) -> (bool, Option<Error>) {
        let clock = std::sync::Arc::clone(&client.world().clock);
        let begin = clock.mono();
        match self.attempt(client, &*clock).await {
            Ok(true) => self.held = Some(begin),
            Ok(false) => self.held = None,
            Err(e) if e.is_conflict() => self.held = None,
            Err(e) => return (self.holds_at(clock.mono()), Some(e)),
        }
        (self.held.is_some(), None)
    }

    /// Gives up one renewal before the others may take it.
    fn holds_at(&self, now: Mono) -> bool {
        self.held.is_some_and(|held| now.since(held) < TERM - RENEW)
    }

    async fn attempt(&mut self, client: &mut Client, clock: &dyn Clock) -> Result<bool, Error> {
        let path = format!("{}/{}", self.list, self.name);
        let mut lease = match client.get(&path).await {
            Ok(lease) => lease,
            Err(e) if e.is_not_found() => {
                let mut lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": self.name}, "spec": {}});
                self.sign(&mut lease, clock);
                client.create(&self.list, &lease).await?;
                return Ok(true);
            }
            Err(e) => return Err(e),
        };
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let now = clock.mono();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => now,
        };
        self.seen = Some((version, since));
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if !holder.is_empty() && holder != self.me && now.since(since) < TERM {
            return Ok(false);
        }
        self.sign(&mut lease, clock);
        client.replace(&path, &lease).await?;
        Ok(true)
    }

    fn sign(&self, lease: &mut Value, clock: &dyn Clock) {
        // A MicroTime has six digits behind the point.
        let now = rfc3339(clock.wall()).replace('Z', "000Z");
        if !lease["spec"].is_object() {
            lease["spec"] = json!({});
        }
        let spec = &mut lease["spec"];
        if spec["holderIdentity"] != self.me.as_str() {
            spec["acquireTime"] = now.clone().into();
            spec["leaseTransitions"] = (spec["leaseTransitions"].as_u64().unwrap_or(0) + 1).into();
        }
        spec["holderIdentity"] = self.me.clone().into();
        spec["leaseDurationSeconds"] = TERM.as_secs().into();
        spec["renewTime"] = now.into();
    }

    /// Hands it back, so that another replica needn't wait.
    pub(crate) async fn release(&mut self, client: &mut Client) {
        if self.held.take().is_none() {
            return;
        }
        let path = format!("{}/{}", self.list, self.name);
        let Ok(mut lease) = client.get(&path).await else { return };
        if lease["spec"]["holderIdentity"] == self.me.as_str() {
            lease["spec"]["holderIdentity"] = "".into();
            // Whoever changed it meanwhile is right.
            let _ = client.replace(&path, &lease).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use pillion_world::{UnixMillis, World};

    use super::*;
    use crate::testing::FakeApi;

    #[derive(Default)]
    struct Hands(AtomicU64);
    impl Clock for Hands {
        fn mono(&self) -> Mono {
            Mono(self.0.load(Relaxed) * 1_000_000_000)
        }
        fn wall(&self) -> UnixMillis {
            UnixMillis(0)
        }
    }

    #[tokio::test]
    async fn one_holds_it_and_another_takes_over_when_it_falls_silent() {
        let api = FakeApi::start().await;
        let clock = Arc::new(Hands::default());
        let client = || api.client_in(World { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..World::real() });
        let (mut one, mut two) = (client(), client());
        let mut a = Lease::new("ns", "x", "a".into());
        let mut b = Lease::new("ns", "x", "b".into());
        assert!(a.hold(&mut one).await.0);
        assert!(!b.hold(&mut two).await.0);
        // As long as it is renewed nobody else gets it, however late it is.
        for second in [5, 14, 28, 42] {
            clock.0.store(second, Relaxed);
            assert!(a.hold(&mut one).await.0);
            assert!(!b.hold(&mut two).await.0, "{second}");
        }
        // The holder gives up before the other may take it.
        clock.0.store(51, Relaxed);
        api.fail_next(&[500]);
        assert!(matches!(a.hold(&mut one).await, (true, Some(_))));
        clock.0.store(53, Relaxed);
        api.fail_next(&[500]);
        assert!(!a.hold(&mut one).await.0);
        assert!(!b.hold(&mut two).await.0);
        clock.0.store(57, Relaxed);
        assert!(b.hold(&mut two).await.0);
        assert!(!a.hold(&mut one).await.0);
        // Handed back, it is there at once.
        b.release(&mut two).await;
        assert!(a.hold(&mut one).await.0);
    }
}
