//! Stand-ins for tests.

mod api;

pub(crate) use api::{FakeApi, HANGS, LATE};
