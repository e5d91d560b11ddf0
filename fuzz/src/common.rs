//! The tests' checkers, which need nothing else of the tests.

#![allow(dead_code)]

#[path = "../../tests/it/common/media_playlist.rs"]
pub(crate) mod media_playlist;
#[path = "../../tests/it/common/ts_check.rs"]
pub(crate) mod ts_check;
