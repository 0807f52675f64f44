//! The IO: against an emulated AWS (`--ignored`, at the URL in `PORTOLAN_AWS_ENDPOINT`), and against
//! a server that says what it is told. Both with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` of
//! any value in the environment: credentials come by AWS's own chain.
#![cfg(test)]

mod emulated;
mod lab;
mod scripted;
