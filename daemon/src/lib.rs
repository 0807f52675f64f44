//! What Portolan's controller and speaker have in common as processes: where the API server is, what
//! signals mean, the admin port, what a watch's error says. Nothing here knows what either is for.

mod admin;
mod config;
mod signals;
mod watching;

pub use admin::Admin;
pub use config::config;
pub use signals::until_signalled;
pub use watching::{refuses_streaming, status};
