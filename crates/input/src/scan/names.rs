//! The names that a folder's listing gave, until each had its turn.
//!
//! Comes in: names, in the folder's order. Goes out: the same, each once. A folder of a hundred thousand files is listed
//! at once, and looked at piece by piece: so the names lie beside each other in blocks, without an allocation for each,
//! and a block is given back when its last name is taken.
//!
//! Always holds: a name comes out as it went in, in the order in which it went in. Tested below.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// One name that a pattern looks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: OsString,
    /// The inode number in the folder's listing; 0 = not listed.
    pub(crate) ino: u64,
}

/// Bytes of a block; a longer name has one of its own.
const BLOCK: usize = 32 * 1024;

/// Bytes before a name: inode and length.
const HEAD: usize = 12;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Names {
    blocks: VecDeque<Vec<u8>>,
    /// Where the next name begins in the first block.
    at: usize,
}

impl Names {
    pub(crate) fn push(&mut self, name: &OsStr, ino: u64) {
        let bytes = name.as_bytes();
        // No system has a name of 4 GiB.
        let Ok(len) = u32::try_from(bytes.len()) else { return };
        let needed = HEAD + bytes.len();
        if self.blocks.back().is_none_or(|block| block.capacity() - block.len() < needed) {
            self.blocks.push_back(Vec::with_capacity(needed.max(BLOCK)));
        }
        if let Some(block) = self.blocks.back_mut() {
            block.extend_from_slice(&ino.to_ne_bytes());
            block.extend_from_slice(&len.to_ne_bytes());
            block.extend_from_slice(bytes);
        }
    }

    /// The first one.
    pub(crate) fn pop(&mut self) -> Option<Found> {
        let block = self.blocks.front()?;
        let (ino, rest) = block.get(self.at..)?.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = u32::from_ne_bytes(*len) as usize;
        let found = Found { name: OsString::from_vec(rest.get(..len)?.to_vec()), ino: u64::from_ne_bytes(*ino) };
        self.at += HEAD + len;
        if self.at >= block.len() {
            self.blocks.pop_front();
            self.at = 0;
        }
        Some(found)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any names, in any order of coming and going: a queue of names.
        #[test]
        fn is_a_queue(steps in prop::collection::vec((prop::option::of((0..70_000_usize, any::<u64>())), 1..40_usize), 1..30)) {
            let (mut names, mut model) = (Names::default(), VecDeque::new());
            for (put, times) in steps {
                for n in 0..times {
                    if let Some((len, ino)) = put {
                        // Many short ones, and now and then one that fits in no block.
                        let name = OsString::from_vec(vec![b'a' + n as u8 % 26; if n == 0 { len } else { len % 300 }]);
                        names.push(&name, ino);
                        model.push_back(Found { name, ino });
                    } else {
                        prop_assert_eq!(names.pop(), model.pop_front());
                    }
                    prop_assert_eq!(names.is_empty(), model.is_empty());
                }
            }
            while let Some(found) = names.pop() {
                prop_assert_eq!(Some(found), model.pop_front());
            }
            prop_assert!(model.is_empty());
        }
    }

    #[test]
    fn a_hundred_thousand_names_cost_their_bytes() {
        let mut names = Names::default();
        (0..100_000_u64).for_each(|n| names.push(OsStr::new(&format!("q{n:06}.log")), n));
        let bytes: usize = names.blocks.iter().map(Vec::capacity).sum();
        assert!(bytes < 100_000 * (HEAD + 12), "{bytes} bytes");
        let before = names.blocks.len();
        (0..50_000).for_each(|_| drop(names.pop()));
        assert!(names.blocks.len() <= before / 2 + 1, "what was taken is given back");
    }
}
