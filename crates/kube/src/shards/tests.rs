use pillion_shards::{Record, Shard};
use serde_json::Value;
use tokio::time::Instant;

use super::*;
use crate::testing::{FakeApi, HANGS, LATE};

const LIST: &str = "/apis/coordination.k8s.io/v1/namespaces/logging/leases";
const LEASE: Duration = Duration::from_secs(15);

fn leases_in(api: &FakeApi, member: &str, lease: Duration) -> Leases {
    let settings =
        Settings { namespace: "logging".into(), group: "group".into(), member: member.into(), lease, shards: Some(64) };
    Leases::new(World::real(), api.target(), &settings)
}

fn leases(api: &FakeApi, member: &str) -> Leases {
    leases_in(api, member, LEASE)
}

fn path(name: &str) -> String {
    format!("{LIST}/{name}")
}

fn table(epoch: u64) -> Table {
    Table::from([(Shard(3), Record { owner: Some("a-1".into()), epoch, registry: Some(format!("a-1/{epoch}")) })])
}

/// The requests since then, without their paths' beginning.
fn since(api: &FakeApi, before: usize) -> Vec<String> {
    api.requests().drain(before..).map(|r| r.replace(LIST, "…").replace(" application/json", "")).collect()
}

#[tokio::test]
async fn signs_of_life_are_seen_by_others_and_each_is_another() {
    let api = FakeApi::start().await;
    let (a, b) = (leases(&api, "a-1"), leases(&api, "b-2"));
    a.beat(false).await.unwrap();
    b.beat(false).await.unwrap();
    let first = a.look().await.unwrap();
    assert_eq!(first.beats.iter().map(|b| b.member.as_str()).collect::<Vec<_>>(), ["a-1", "b-2"]);
    assert_eq!(first.table, None);
    let before = api.requests().len();
    a.beat(false).await.unwrap();
    assert_eq!(since(&api, before), ["PUT …/group-a-1?"], "one request");
    b.beat(true).await.unwrap();
    let second = b.look().await.unwrap();
    assert!(first.beats.iter().zip(&second.beats).all(|(x, y)| x.stamp != y.stamp), "{second:?}");
    assert_eq!(second.beats.iter().map(|b| b.leaving).collect::<Vec<_>>(), [false, true]);
    // A Lease as everybody's tools show it.
    let lease = api.object(&path("group-a-1")).unwrap();
    assert_eq!((&lease["spec"]["holderIdentity"], &lease["spec"]["leaseDurationSeconds"]), (&json!("a-1"), &json!(15)));
    let times = ["acquireTime", "renewTime"].map(|key| lease["spec"][key].as_str().unwrap().len());
    assert_eq!(times, ["2026-11-24T10:00:00.000000Z".len(); 2]);
}

#[tokio::test]
async fn at_rest_a_look_is_one_request_past_the_cache() {
    let api = FakeApi::start().await;
    let a = leases(&api, "a-1");
    assert!(matches!(a.write(None, table(1)).await, Wrote::Done(_)));
    let before = api.requests().len();
    a.look().await.unwrap();
    let selector = "labelSelector=app.kubernetes.io/managed-by%3Dpillion%2Cpillion.dev/group%3Dgroup";
    assert_eq!(since(&api, before), [format!("GET …?{selector}&limit=500")]);
}

#[tokio::test]
async fn of_two_writers_one_is_refused() {
    let api = FakeApi::start().await;
    let (a, b) = (leases(&api, "a-1"), leases(&api, "b-2"));
    let Wrote::Done(first) = a.write(None, table(1)).await else { panic!("it isn't there") };
    assert_eq!(b.write(None, table(2)).await, Wrote::Conflict, "it is there");
    assert_eq!(b.look().await.unwrap().table, Some((first.clone(), table(1))));
    let Wrote::Done(second) = b.write(Some(first.clone()), table(2)).await else { panic!("it was read") };
    assert_eq!(a.write(Some(first), table(3)).await, Wrote::Conflict);
    assert_eq!(a.look().await.unwrap().table, Some((second.clone(), table(2))));
    // A deleted one isn't written anew by whoever has read it, nor one that was made again since.
    api.remove(&path("group"));
    assert_eq!(a.write(Some(second.clone()), table(4)).await, Wrote::Conflict);
    assert_eq!(a.look().await.unwrap().table, None);
    assert!(matches!(b.write(None, table(5)).await, Wrote::Done(_)));
    assert_eq!(a.write(Some(second), table(6)).await, Wrote::Conflict);
    assert_eq!(a.write(Some(Version("nonsense".into())), table(6)).await, Wrote::Unknown);
}

#[tokio::test]
async fn a_sign_of_life_that_was_deleted_or_changed_comes_again() {
    let api = FakeApi::start().await;
    let a = leases(&api, "a-1");
    let own = path("group-a-1");
    a.beat(false).await.unwrap();
    api.remove(&own);
    a.beat(false).await.unwrap();
    let mut lease = api.object(&own).unwrap();
    lease["metadata"]["labels"] = Value::Null;
    lease["spec"] = json!({"holderIdentity": "somebody"});
    api.put(&own, lease);
    assert!(a.look().await.unwrap().beats.is_empty());
    a.beat(false).await.unwrap();
    assert_eq!(a.look().await.unwrap().beats.len(), 1);
    // One that was made, though the answer was lost.
    let b = leases_in(&api, "b-2", Duration::from_millis(300));
    api.fail_next(&[LATE]);
    assert!(b.beat(false).await.unwrap_err().contains("no answer"));
    b.beat(false).await.unwrap();
    assert_eq!(a.look().await.unwrap().beats.len(), 2);
}

#[tokio::test]
async fn a_hung_server_holds_nothing_up_beyond_a_third_of_the_lease() {
    let api = FakeApi::start().await;
    let a = leases_in(&api, "a-1", Duration::from_millis(600));
    a.beat(false).await.unwrap();
    let board = a.look().await.unwrap();
    let begin = Instant::now();
    for _ in 0..2 {
        api.fail_next(&[HANGS]);
        assert!(a.beat(false).await.is_err());
        api.fail_next(&[HANGS]);
        assert!(a.look().await.is_err());
        api.fail_next(&[HANGS]);
        assert_eq!(a.write(None, table(1)).await, Wrote::Unknown);
        api.fail_next(&[HANGS]);
        assert!(a.bury(board.beats[0].clone()).await.is_err());
    }
    assert!(begin.elapsed() < Duration::from_millis(8 * 200 + 2000), "{:?}", begin.elapsed());
    // It works again at once.
    a.beat(false).await.unwrap();
    assert!(matches!(a.write(None, table(1)).await, Wrote::Done(_)));
    api.fail_next(&[LATE]);
    let (version, _) = a.look().await.unwrap_or_default().table.unwrap_or_else(|| (Version(String::new()), table(0)));
    assert_eq!(version, Version(String::new()), "that answer was lost");
    assert_eq!(a.look().await.unwrap().table.unwrap().1, table(1));
}

#[tokio::test]
async fn refusals_are_said_and_pretend_nothing() {
    let api = FakeApi::start().await;
    let a = leases(&api, "a-1");
    for code in [400, 403, 413, 422, 429, 500, 503] {
        api.fail_next(&[code]);
        assert!(a.beat(false).await.unwrap_err().contains(&code.to_string()), "{code}");
        api.fail_next(&[code]);
        assert!(a.look().await.unwrap_err().contains(&code.to_string()), "{code}");
        api.fail_next(&[code]);
        assert_eq!(a.write(None, table(1)).await, Wrote::Unknown, "{code}");
        assert_eq!(api.object(&path("group")), None);
    }
    api.fail_next(&[403]);
    assert!(a.look().await.unwrap_err().contains("leases.coordination.k8s.io"), "what is missing is said");
    // A namespace that isn't there isn't a lost race.
    api.fail_next(&[404]);
    assert_eq!(a.write(None, table(1)).await, Wrote::Unknown);
}

#[tokio::test]
async fn only_the_same_sign_of_life_is_removed() {
    let api = FakeApi::start().await;
    let (a, b) = (leases(&api, "a-1"), leases(&api, "b-2"));
    b.beat(false).await.unwrap();
    let seen = a.look().await.unwrap().beats[0].clone();
    b.beat(false).await.unwrap();
    a.bury(seen).await.unwrap();
    assert!(api.object(&path("group-b-2")).is_some(), "it lives");
    let seen = a.look().await.unwrap().beats[0].clone();
    a.bury(Beat { stamp: "another".into(), ..seen.clone() }).await.unwrap();
    assert!(api.object(&path("group-b-2")).is_some());
    api.fail_next(&[500]);
    assert!(a.bury(seen.clone()).await.is_err());
    a.bury(seen.clone()).await.unwrap();
    assert_eq!(api.object(&path("group-b-2")), None);
    a.bury(seen).await.unwrap();
}

#[tokio::test]
async fn a_table_that_lost_its_labels_is_still_the_table() {
    let api = FakeApi::start().await;
    let a = leases(&api, "a-1");
    assert!(matches!(a.write(None, table(1)).await, Wrote::Done(_)));
    let mut lease = api.object(&path("group")).unwrap();
    lease["metadata"]["labels"] = Value::Null;
    api.put(&path("group"), lease);
    let (version, found) = a.look().await.unwrap().table.unwrap();
    assert_eq!(found, table(1));
    assert!(matches!(a.write(Some(version), table(2)).await, Wrote::Done(_)));
    assert!(!api.object(&path("group")).unwrap()["metadata"]["labels"].is_null());
}

#[tokio::test]
async fn nonsense_counts_as_not_there() {
    let api = FakeApi::start().await;
    let a = leases(&api, "a-1");
    a.beat(false).await.unwrap();
    let labels = json!({"app.kubernetes.io/managed-by": "pillion", "pillion.dev/group": "group"});
    let long = "x".repeat(1000);
    for (name, annotations, spec) in [
        ("group-1", json!(null), json!(null)),
        ("group-2", json!([]), json!("text")),
        ("group-3", json!({}), json!({"holderIdentity": 3})),
        ("group-4", json!({}), json!({"holderIdentity": "../etc", "renewTime": "now"})),
        ("group-5", json!({"pillion.dev/beats": "1"}), json!({"holderIdentity": "a-1"})),
        ("group-6", json!({}), json!({"holderIdentity": "6"})),
        ("group-7", json!({"pillion.dev/beats": long}), json!({"holderIdentity": "7"})),
        ("group-8", json!({}), json!({"holderIdentity": "8", "renewTime": long})),
        ("other", json!({}), json!({"holderIdentity": "other", "renewTime": "now"})),
    ] {
        let lease = json!({"metadata": {"name": name, "labels": labels, "annotations": annotations}, "spec": spec});
        api.put(&path(name), lease);
        let board = a.look().await.unwrap();
        assert_eq!(board.beats.len(), 1, "{name}: {board:?}");
    }
    // A table that makes no sense is there, so that it can be replaced, and is empty.
    for annotations in [json!(null), json!({"pillion.dev/shards": 7}), json!({"pillion.dev/shards": "{"})] {
        api.put(&path("group"), json!({"metadata": {"name": "group", "labels": labels, "annotations": annotations}}));
        let (version, found) = a.look().await.unwrap().table.unwrap();
        assert!(found.is_empty());
        assert!(matches!(a.write(Some(version), table(9)).await, Wrote::Done(_)));
        assert_eq!(a.look().await.unwrap().table.unwrap().1, table(9));
    }
    let wild = Table::from([(Shard(0), Record { owner: Some("a b".into()), epoch: 1, registry: None })]);
    assert_eq!(a.write(None, wild).await, Wrote::Unknown);
}

#[tokio::test]
async fn many_members_come_in_pages_and_not_without_end() {
    let api = FakeApi::start().await;
    let a = leases(&api, "a-1");
    let labels = json!({"app.kubernetes.io/managed-by": "pillion", "pillion.dev/group": "group"});
    for n in 0..PAGE * PAGES + 100 {
        let name = format!("group-m{n:05}");
        let spec = json!({"holderIdentity": format!("m{n:05}"), "renewTime": "now"});
        api.put(&path(&name), json!({"metadata": {"name": name, "labels": labels}, "spec": spec}));
    }
    let before = api.requests().len();
    assert_eq!(a.look().await.unwrap().beats.len(), PAGE * PAGES);
    assert_eq!(since(&api, before).len(), PAGES + 1, "and the table by its name");
    // Tokens are the server's own: whatever they hold, they are one value of the query.
    assert_eq!(percent("a=b&c d/é+"), "a%3Db%26c%20d%2F%C3%A9%2B");
}
