//! cargo xtask test and friends.
fn main() {}
