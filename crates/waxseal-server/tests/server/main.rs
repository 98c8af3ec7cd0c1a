//! The server over loopback, with services that live in the tests.

mod relay;
mod sessions;
mod support;
mod timing;
