//! Bytes from the network.
#![no_main]

#[path = "../bpf.rs"]
mod bpf;
#[path = "../frame.rs"]
mod frame;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    frame::frame(data);
});
