//! A small in-process Kubernetes API server for tests and the demo.
