//! Bytes in both directions, many sessions, services that come and go.
