//! What only a real control plane can show. Each sentence has one of its own; see `lab` and `speaker`
//! for what needs nodes.

#![cfg(test)]

mod admission;
mod chart;
mod cluster_ips;
mod common;
mod conformance;
mod control_plane;
mod controller;
mod faults;
mod handover;
mod node_ports;
mod rbac;
mod repair;
mod webhook;
