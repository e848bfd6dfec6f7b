//! Names of users and groups by their numbers.
//!
//! Comes in: a number. Goes out: its name in `/etc/passwd` or `/etc/group`, if it has one there. Always holds: no call into
//! the C library, which would load whatever the machine is set up to ask for names. Tested below.

use std::path::Path;

use crate::World;

/// A larger file isn't read, bytes.
const LIMIT: usize = 16 << 20;

/// The name of a user.
pub fn user(world: &World, number: u32) -> Option<String> {
    name(&read(world, "/etc/passwd"), number)
}

/// The name of a group.
pub fn group(world: &World, number: u32) -> Option<String> {
    name(&read(world, "/etc/group"), number)
}

/// The number of a group.
pub fn group_number(world: &World, name: &str) -> Option<u32> {
    let table = read(world, "/etc/group");
    entries(&table).find(|(known, _)| *known == name).map(|(_, number)| number)
}

fn read(world: &World, path: &str) -> String {
    let bytes = world.fs.read(Path::new(path), LIMIT).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn name(table: &str, number: u32) -> Option<String> {
    entries(table).find(|(_, known)| *known == number).map(|(name, _)| name.to_owned())
}

/// Names and numbers: the first and the third part of each line.
fn entries(table: &str) -> impl Iterator<Item = (&str, u32)> {
    table.lines().filter_map(|line| {
        let mut parts = line.split(':');
        Some((parts.next()?, parts.nth(1)?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_names() {
        let table = "root:x:0:0:root:/root:/bin/sh\n# a comment\napp:x:1000:1000::/:/bin/sh\nbroken:x\nlast:x:7:";
        for (number, want) in [(0, Some("root")), (1000, Some("app")), (7, Some("last")), (8, None)] {
            assert_eq!(name(table, number).as_deref(), want, "{number}");
        }
        let world = World::real();
        assert_eq!((user(&world, 0).as_deref(), group_number(&world, "root")), (Some("root"), Some(0)));
        assert_eq!(group(&world, 0).as_deref(), Some("root"));
    }
}
