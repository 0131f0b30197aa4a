//! Every kernel against the loops of its spec: what runs in parts computes what the whole does.

cotangent::test_kernels!(cotangent_threads::kernels);
