//! Suites: conformance, end to end, crash and load.
