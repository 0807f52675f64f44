//! The `prober` binary.

use std::{io::BufRead as _, sync::mpsc, time::Instant};

use clap::Parser as _;
use prober::Arguments;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (sender, marks) = mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send((Instant::now(), line)).is_err() {
                return;
            }
        }
    });
    prober::run(&arguments, &marks, &mut std::io::stdout().lock())
}
