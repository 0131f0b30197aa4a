//! Every kernel of this package against the formulas of its spec: under a prefix, in `f64`, for two instruction sets.

cotangent::test_kernels!(downstream_layers::nn);
