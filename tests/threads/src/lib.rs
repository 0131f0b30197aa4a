//! Kernels for tests: takes nothing, gives programs and ops whose instances are split along a batch, in two, three and
//! four parts: means, sums, gradients that a part has alone, second derivatives.

/// A module an op, a module in it for each instance.
pub mod kernels {
    cotangent::include_kernels!();
}
