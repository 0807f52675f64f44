//! cargo demo: the controller on an embedded API server.
fn main() {}
