//! The programs that ship with Cotangent, at the sizes of their specs: a module a program, a module in it for each instance. A program of one's own
//! sizes is two lines in one's own crate, `use: mlp` and `instances: [...]`.
//!
//! `no_std`, no allocation: what a program keeps between its steps stands in a [`cotangent::Workspace`] that the caller provides.
#![no_std]

cotangent::include_kernels!();
