use super::{Pair, Score};
pub(super) fn suite(_s: &mut Score, _p: &Pair) {}
