//! The IO: against an emulated AWS, and against a server that says what it is told.
#![cfg(test)]

mod admission;
mod adoption;
mod chain;
mod emulated;
mod faults;
mod features;
mod lab;
mod scripted;
