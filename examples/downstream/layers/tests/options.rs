//! The options of the build script reach the kernels.

use cotangent::Scalar;
use downstream_layers::nn;

/// What the build script wrote for the op.
const MATMUL: &str = include_str!(concat!(env!("OUT_DIR"), "/cotangent/my_matmul.rs"));

#[test]
fn documentation_is_ours() {
    let line = "/// matmul (f64) of the downstream house: `z[i,k] = sum(j) x[i,j] * y[j,k]`\npub mod small {";
    assert!(MATMUL.contains(line));
}

#[test]
fn two_classes_of_machines_are_left() {
    assert!(!MATMUL.contains("f64, 16>") && MATMUL.contains("_body!(_forward: Body3 for AVX2 = "));
    assert!(MATMUL.contains("_isa::dispatch3::<_forward, "));
}

#[test]
fn names_and_scalars_follow_the_options() {
    let kernels: Vec<_> = nn::MY_KERNELS.iter().map(|k| (k.op, k.name, k.scalar)).collect();
    assert_eq!(kernels, [("matmul", "small", Scalar::F64), ("scale_shift", "small", Scalar::F64)]);
    macro_rules! count {
        ($({ $kernel:path, $($rest:tt)* })*) => { [$(stringify!($kernel)),*].len() };
    }
    assert_eq!(nn::my_for_each_kernel!(count), kernels.len());
}
