//! Who has a folder beside logs: owner, sweeper and replica, each paused before every call of the file system while the others
//! go on, where no lock parts them.
//!
//! Always holds, whoever was paused where: when all have beaten twice, one at most goes on; the mark that everything is shipped,
//! and the word that nobody need be waited for, are there only when they are of whoever came last.

#![expect(clippy::unwrap_used, reason = "a failing call is a failing test")]

#[expect(dead_code, reason = "two threads are kept apart here by what is done before a call alone")]
mod steps;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use pillion_registry::beside::{Beat, Heart, is_done, is_released};
use pillion_sim::world::SimWorld;
use pillion_world::World;
use serde_json::json;

const DIR: &str = "/logs/.pillion/job-1";

/// What one of them does last, having claimed the folder.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Claim,
    Beat,
    Release,
    Done,
}

/// More calls than anybody makes.
const NEVER: u64 = 1 << 40;

const ACTS: [Act; 4] = [Act::Claim, Act::Beat, Act::Release, Act::Done];

/// One who came.
struct One {
    heart: Heart,
    /// What it has said of the folder, as far as it was its to say.
    ended: Option<Act>,
}

/// The folder, and who came to it.
#[derive(Clone)]
struct Seat {
    world: World,
    came: Arc<Mutex<Vec<One>>>,
}

impl Seat {
    fn new() -> Seat {
        let sim = SimWorld::new(1);
        sim.app().create_dir_all(DIR).unwrap();
        Seat { world: sim.world(), came: Arc::default() }
    }

    /// Somebody comes and acts; before its call number `at`, counted from the claim or from the act behind it, somebody else
    /// does what `meanwhile` says. Whether there were so many calls.
    fn comes(&self, act: Act, at: u64, meanwhile: Option<&(dyn Fn() + Send + Sync)>) -> bool {
        std::thread::scope(|scope| {
            let (reach, reached) = mpsc::channel();
            let (resume, resumed) = mpsc::channel();
            let (reach, resumed) = (Arc::new(Mutex::new(Some(reach))), Mutex::new(resumed));
            let left = Arc::new(AtomicI64::new(if act == Act::Claim { at } else { NEVER }.try_into().unwrap()));
            let (count, at_call) = (Arc::clone(&left), Arc::clone(&reach));
            let world = steps::before(self.world.clone(), move || {
                let is_now = count.fetch_sub(1, Ordering::SeqCst) == 1;
                if let Some(reach) = at_call.lock().unwrap().take_if(|_| is_now) {
                    reach.send(()).unwrap();
                    resumed.lock().unwrap().recv().unwrap();
                }
            });
            let acts = scope.spawn(move || {
                self.acts(act, &world, &|| left.store(at.try_into().unwrap(), Ordering::SeqCst));
                reach.lock().unwrap().take();
            });
            let was_reached = reached.recv().is_ok();
            if was_reached {
                meanwhile.iter().for_each(|meanwhile| meanwhile());
                resume.send(()).unwrap();
            }
            acts.join().unwrap();
            was_reached
        })
    }

    fn acts(&self, act: Act, world: &World, begins: &dyn Fn()) {
        let mut heart = Heart::claim(world, Path::new(DIR)).unwrap();
        if act != Act::Claim {
            begins();
        }
        let ours = match act {
            Act::Claim | Act::Beat => {
                let _ = if act == Act::Beat { heart.beat().unwrap() } else { Beat::Ours };
                false
            }
            Act::Release => matches!(heart.release(), Ok(Beat::Ours)),
            Act::Done => matches!(heart.done(&json!({"verdict": "complete"})), Ok(Beat::Ours)),
        };
        self.came.lock().unwrap().push(One { heart, ended: ours.then_some(act) });
    }

    /// What doesn't hold, when all beat, in this order or the other.
    fn judge(&self, backwards: bool) -> Result<(), String> {
        let mut came = self.came.lock().unwrap();
        if backwards {
            came.reverse();
        }
        let (done, released) = (is_done(&self.world, Path::new(DIR)), is_released(&self.world, Path::new(DIR)));
        let mut going = Vec::new();
        for _ in 0..2 {
            going = came
                .iter_mut()
                .filter_map(|one| (one.heart.beat().unwrap() == Beat::Ours).then_some(one.ended))
                .collect();
        }
        match going.as_slice() {
            [_, _, ..] => Err(format!("{} have it", going.len())),
            // Whoever comes next finds a claim whose owner beats no more.
            [] if done || released => Err("nobody has what is marked".to_owned()),
            [last] if done && *last != Some(Act::Done) => Err(format!("it is done, by one who did {last:?}")),
            [last] if released && *last != Some(Act::Release) => {
                Err(format!("it is released, by one who did {last:?}"))
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn whoever_is_paused_where_one_at_most_goes_on_and_no_mark_hides_what_is_owed() {
    let (mut cases, mut wrong) = (0, Vec::new());
    for first in ACTS {
        for second in ACTS {
            for third in [None, Some(Act::Claim), Some(Act::Release), Some(Act::Done)] {
                let mut at = 1;
                loop {
                    let mut reached = false;
                    let mut inner = 1;
                    loop {
                        let seat = Seat::new();
                        let (within, deeper) = (seat.clone(), Mutex::new(false));
                        let meanwhile = || {
                            let other = within.clone();
                            let third = move || {
                                if let Some(third) = third {
                                    other.comes(third, 0, None);
                                }
                            };
                            *deeper.lock().unwrap() = within.comes(second, inner, Some(&third));
                        };
                        reached |= seat.comes(first, at, Some(&meanwhile));
                        cases += 1;
                        if let Err(why) = seat.judge(cases % 2 == 0) {
                            wrong.push(format!("{first:?} paused at {at}, {second:?} at {inner}, {third:?}: {why}"));
                        }
                        let deeper = *deeper.lock().unwrap();
                        if third.is_none() || !deeper {
                            break;
                        }
                        inner += 1;
                    }
                    if !reached {
                        break;
                    }
                    at += 1;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cases}:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(cases > 1000, "{cases}");
}
