//! The room from outside: its own public face against rustls' buffered connections, over real sockets.

mod handshakes;
mod resumption;
mod streams;
mod support;
mod wire;
