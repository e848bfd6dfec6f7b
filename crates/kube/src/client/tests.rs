use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use pillion_world::World;
use serde_json::json;

use super::*;
use crate::testing::FakeApi;

const LIST: &str = "/api/v1/namespaces/a/things";

#[test]
fn the_cluster_is_found_in_the_environment() {
    let table = [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")];
    for (address, expected) in table {
        let variable = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some(address.to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        };
        let target = Target::in_cluster(&variable).unwrap();
        assert_eq!(format!("https://{}", target.host), expected);
        assert!(target.token.unwrap().starts_with(SERVICE_ACCOUNT));
    }
    assert!(Target::in_cluster(&|_| None).err().unwrap().reason.contains("isn't a pod"));
}

#[tokio::test]
async fn objects_with_optimistic_concurrency() {
    let api = FakeApi::start().await;
    let mut client = api.client();
    let one = json!({"metadata": {"name": "x"}, "a": 1});
    let made = client.create(LIST, &one).await.unwrap();
    assert!(client.create(LIST, &one).await.unwrap_err().is_conflict());
    let path = format!("{LIST}/x");
    assert_eq!(client.get(&path).await.unwrap(), made);
    let mut mine = made.clone();
    mine["a"] = 2.into();
    client.replace(&path, &mine).await.unwrap();
    // Somebody who still has the first version loses.
    assert!(client.replace(&path, &made).await.unwrap_err().is_conflict());
    let patch = json!([{"op": "test", "path": "/a", "value": 7}, {"op": "replace", "path": "/a", "value": 8}]);
    assert!(client.patch(&path, Patch::Json, &patch).await.unwrap_err().is_conflict());
    assert!(client.get(&format!("{LIST}/none")).await.unwrap_err().is_not_found());
    api.fail_next(&[403]);
    let refused = client.get(&path).await.unwrap_err();
    assert!(refused.is_forbidden() && refused.to_string().contains("said the server"), "{refused}");
}

#[tokio::test]
async fn the_token_is_read_for_each_request_and_never_shown() {
    let api = FakeApi::start().await;
    api.put(&format!("{LIST}/x"), json!({"metadata": {"name": "x"}}));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let mut client = api.client();
    client.target.token = Some(file.clone());
    let missing = client.get(&format!("{LIST}/x")).await.unwrap_err().to_string();
    assert!(missing.contains("token") && missing.contains("mounted"), "{missing}");
    let world = World::real();
    for token in ["first\n", "second"] {
        world.fs.replace(&file, token.as_bytes(), 0o600).unwrap();
        let request = client.request(&Method::GET, "/x", JSON, None).unwrap();
        let sent = request.headers().get(AUTHORIZATION).unwrap();
        assert_eq!(sent.to_str().unwrap(), format!("Bearer {}", token.trim()));
        assert!(!format!("{request:?}").contains(token.trim()));
        client.get(&format!("{LIST}/x")).await.unwrap();
    }
    world.fs.replace(&file, b"bro\x01ken", 0o600).unwrap();
    let bad = client.get("/x").await.unwrap_err().to_string();
    assert!(bad.contains("isn't a token") && !bad.contains("bro"), "{bad}");
}

/// What a follower that believes every change knows.
#[derive(Default)]
struct Known {
    names: BTreeSet<String>,
    seen: BTreeSet<String>,
    complete: bool,
}

impl Known {
    fn take(&mut self, change: Change) {
        let name = |o: &Value| o["metadata"]["name"].as_str().unwrap().to_owned();
        match change {
            Change::Listing => (self.complete, self.seen) = (false, BTreeSet::new()),
            Change::Seen(o) => {
                self.names.insert(name(&o));
                self.seen.insert(name(&o));
            }
            Change::Gone(o) => drop(self.names.remove(&name(&o))),
            Change::Listed => {
                self.complete = true;
                self.names = self.seen.clone();
            }
        }
    }
}

#[tokio::test]
async fn a_follower_knows_what_there_is_however_the_watch_breaks() {
    let api = FakeApi::start().await;
    let put = |n: usize| api.put(&format!("{LIST}/{n:04}"), json!({"metadata": {"name": format!("{n:04}")}}));
    (0..600).for_each(put);
    let known = RefCell::new(Known::default());
    let (told, mut news) = tokio::sync::watch::channel(());
    let mut client = api.client();
    let what = Watched { path: LIST.into(), labels: "!y,a in (b)".into(), ..Watched::default() };
    let following = follow(
        &mut client,
        &what,
        |change| {
            known.borrow_mut().take(change);
            told.send_replace(());
        },
        |_| {},
    );
    let script = async {
        let mut wait = async |names: usize| {
            let limit = tokio::time::timeout(Duration::from_secs(30), async {
                while !(known.borrow().complete && known.borrow().names.len() == names) {
                    news.changed().await.unwrap();
                }
            });
            assert!(limit.await.is_ok(), "{} of {names}", known.borrow().names.len());
        };
        wait(600).await;
        put(1000);
        wait(601).await;
        api.remove(&format!("{LIST}/0007"));
        wait(600).await;
        // What happens while no watch runs is caught up; first from the history, then by a new list.
        for forget in [false, true] {
            api.break_watches(forget);
            api.remove(&format!("{LIST}/{:04}", 10 + usize::from(forget)));
            wait(599 - usize::from(forget)).await;
        }
        api.fail_next(&[500, 429]);
        api.break_watches(false);
        put(2000);
        wait(599).await;
    };
    tokio::select! { _ = following => {}, () = script => {} }
    let lists = api.requests().iter().filter(|r| !r.contains("watch=1") && !r.contains("continue")).count();
    assert_eq!(lists, 2, "{:#?}", api.requests());
    assert!(api.requests()[0].contains("labelSelector=%21y%2Ca%20in%20%28b%29"), "{}", api.requests()[0]);
}

#[tokio::test]
async fn objects_too_large_for_a_page_come_in_smaller_pages() {
    let api = FakeApi::start().await;
    let text = "x".repeat(300 << 10);
    for n in 0..40 {
        let meta = json!({"name": format!("{n:02}"), "annotations": {"a": text}});
        api.put(&format!("{LIST}/{n:02}"), json!({"metadata": meta}));
    }
    let (told, mut listed) = tokio::sync::watch::channel(0);
    let mut client = api.client();
    let what = Watched { path: LIST.into(), ..Watched::default() };
    let mut seen = 0;
    let each = |change| match change {
        Change::Seen(_) => seen += 1,
        Change::Listed => drop(told.send_replace(seen)),
        _ => {}
    };
    let following = follow(&mut client, &what, each, |e| panic!("{e}"));
    tokio::select! { _ = following => {}, all = listed.wait_for(|n| *n > 0) => assert_eq!(*all.unwrap(), 40) }
}

#[tokio::test]
async fn metadata_alone_is_asked_for_by_its_media_type() {
    let api = FakeApi::start().await;
    let what = Watched { path: LIST.into(), metadata_only: true, ..Watched::default() };
    let (told, mut news) = tokio::sync::watch::channel(());
    let mut client = api.client();
    let following = follow(&mut client, &what, |_| told.send_replace(()), |_| {});
    let asked = async {
        while api.requests().len() < 2 {
            news.changed().await.unwrap();
            tokio::task::yield_now().await;
            api.put(&format!("{LIST}/x"), json!({"metadata": {"name": "x"}}));
        }
    };
    tokio::select! { _ = following => {}, () = asked => {} }
    let all = api.requests();
    assert!(all[0].contains("PartialObjectMetadataList") && all[1].contains("as=PartialObjectMetadata;"), "{all:?}");
}
