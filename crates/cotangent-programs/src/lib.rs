//! The programs that ship with Cotangent, at the sizes of their specs: a module a program, a module in it for each instance. A program of one's own
//! sizes is two lines in one's own crate, `use: mlp` and `instances: [...]`.
//!
//! `no_std`, no allocation: what a program keeps between its steps stands in a [`cotangent::Workspace`] that the caller provides.
#![no_std]
// All of it is generated, by the templates of the kernels in `cotangent`, where the lints see what they make.
#![allow(clippy::all)]

cotangent::include_kernels!();
