//! A static library of kernels: what C sees of it is in `include/layer.h`.

pub mod kernels {
    cotangent::include_kernels!();
}
