//! The room from outside: its own public face against rustls' buffered connections, over real sockets.

mod connections;
mod handshakes;
mod identities;
mod resumption;
mod sets;
mod streams;
mod support;
mod watching;
mod wire;
