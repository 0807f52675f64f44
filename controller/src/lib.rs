//! The Portolan controller.
