//! Two members of a board on a real API server, to see that it keeps the rules that the board relies on.
//!
//! ```text
//! kubectl proxy &
//! cargo run -p pillion-kube --example board -- http://127.0.0.1:8001 default
//! ```
//! Leaves nothing behind. Each step says what it saw; the first that differs ends it.

#![expect(clippy::print_stdout, reason = "what it saw is all it is for")]

use std::time::Duration;

use pillion_kube::client::{Client, Target};
use pillion_kube::shards::{Leases, Settings};
use pillion_shards::{Backend as _, Beat, Record, Shard, Table, Version, Wrote};
use pillion_world::World;
use serde_json::json;

type Outcome<T> = Result<T, String>;

fn table(epoch: u64, shards: u16) -> Table {
    let record = |epoch| Record { owner: Some("a-1".into()), epoch, registry: Some(format!("a-1/{epoch}")) };
    (0..shards).map(|shard| (Shard(shard), record(epoch))).collect()
}

fn done(wrote: Wrote) -> Outcome<Version> {
    match wrote {
        Wrote::Done(version) => Ok(version),
        other => Err(format!("{other:?} instead of done")),
    }
}

fn is(what: &str, holds: bool) -> Outcome<()> {
    println!("{} {what}", if holds { "ok  " } else { "FAIL" });
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn of<'a>(beats: &'a [Beat], member: &str) -> Outcome<&'a Beat> {
    beats.iter().find(|beat| beat.member == member).ok_or_else(|| format!("{member} isn't there"))
}

/// An API server and a namespace, with the Leases of one group there.
struct Try {
    client: Client,
    path: String,
    group: String,
}

impl Try {
    async fn delete(&mut self, name: &str) -> Outcome<()> {
        let path = format!("{}/{name}", self.path);
        self.client.delete(&path, &json!({})).await.map(drop).map_err(|e| e.to_string())
    }

    /// The reason why replacements name the uid.
    async fn shows_why(&mut self) -> Outcome<()> {
        let name = format!("{}-bare", self.group);
        let bare = |version: &str| {
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {},
                "metadata": {"name": name, "resourceVersion": version}})
        };
        let made = self.client.create(&self.path, &bare("")).await.map_err(|e| e.to_string())?;
        self.delete(&name).await?;
        let version = made["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let again = self.client.replace(&format!("{}/{name}", self.path), &bare(version)).await;
        let was_made = again.is_ok();
        println!(
            "     without a uid, the replacement of what was deleted {}",
            if was_made { "makes it" } else { "fails" }
        );
        if was_made { self.delete(&name).await } else { Ok(()) }
    }

    async fn tables(&mut self, a: &Leases, b: &Leases) -> Outcome<()> {
        let one = done(a.write(None, table(1, 64)).await)?;
        is("a table that is there isn't made", b.write(None, table(2, 64)).await == Wrote::Conflict)?;
        is("what was written is read", b.look().await?.table == Some((one.clone(), table(1, 64))))?;
        let two = done(b.write(Some(one.clone()), table(2, 64)).await)?;
        is("an old version isn't written over", a.write(Some(one), table(3, 64)).await == Wrote::Conflict)?;
        self.delete(&self.group.clone()).await?;
        let over = a.write(Some(two), table(4, 64)).await;
        is("a deleted table isn't made anew by a replacement", over == Wrote::Conflict)?;
        is("nor is it there", a.look().await?.table.is_none())?;
        let three = done(a.write(None, table(5, 64)).await)?;
        let large = done(a.write(Some(three), table(u64::MAX / 2, 1024)).await)?;
        is("1,024 shards fit", b.look().await?.table == Some((large, table(u64::MAX / 2, 1024))))?;
        self.delete(&self.group.clone()).await
    }

    async fn lives(&mut self, a: &Leases, b: &Leases) -> Outcome<()> {
        a.beat(false).await?;
        b.beat(false).await?;
        let first = b.look().await?;
        a.beat(false).await?;
        let second = b.look().await?;
        is("a renewed sign of life is another one", of(&first.beats, "a-1")? != of(&second.beats, "a-1")?)?;
        is("one that wasn't renewed is the same", of(&first.beats, "b-2")? == of(&second.beats, "b-2")?)?;
        self.delete(&format!("{}-a-1", self.group)).await?;
        a.beat(true).await?;
        let seen = b.look().await?;
        is("a deleted sign of life comes again", of(&seen.beats, "a-1")?.leaving)?;
        a.beat(false).await?;
        b.bury(of(&seen.beats, "a-1")?.clone()).await?;
        let seen = b.look().await?;
        is("one that was renewed isn't removed", of(&seen.beats, "a-1").is_ok())?;
        b.bury(of(&seen.beats, "a-1")?.clone()).await?;
        b.bury(of(&seen.beats, "b-2")?.clone()).await?;
        is("one that wasn't is", b.look().await?.beats.is_empty())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(namespace)) = (args.next(), args.next()) else {
        return Err("name the API server's URL and a namespace".to_owned());
    };
    let world = World::real();
    let target = || Target::at(&url).map_err(|e| e.to_string());
    let group = format!("pillion-try-{:08x}", world.random.u128() as u32);
    let member = |name: &str| -> Outcome<Leases> {
        let (namespace, group, member) = (namespace.clone(), group.clone(), name.to_owned());
        let settings = Settings { namespace, group, member, lease: Duration::from_secs(15), shards: None };
        Ok(Leases::new(world.clone(), target()?, &settings))
    };
    let (a, b) = (member("a-1")?, member("b-2")?);
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let mut with = Try { client: Client::new(world.clone(), target()?), path, group: group.clone() };
    is("nothing is there at first", a.look().await? == pillion_shards::Board::default())?;
    with.shows_why().await?;
    with.tables(&a, &b).await?;
    with.lives(&a, &b).await
}
