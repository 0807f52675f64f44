//! The Portolan controller: `core` decides, `shell` talks to the API server.

pub mod core;
pub mod shell;
