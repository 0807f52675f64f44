//! A real Kubernetes for tests: upstream's own etcd, kube-apiserver and friends, on loopback, with
//! generated certificates, RBAC and an audit log, in one temporary folder that goes away again; and
//! a lab with nodes, pods and a client outside; a load balancer for what runs in the test itself.
//!
//! It decides nothing about Portolan: the same suites run on it and on the embedded API server,
//! and where the two disagree this one is right.

mod audit;
pub mod balancer;
mod certificates;
pub mod invariants;
mod keeper;
pub mod lab;
mod plane;

pub use audit::{AuditLine, Consulted, ObjectRef};
pub use k8s::{Binary, NotAvailable, VERSION};
pub use lab::{Lab, LabOptions, ProxyMode};
pub use plane::{ControlPlane, Options};
