//! The custom resources of portolan.dev and their CEL rules.
