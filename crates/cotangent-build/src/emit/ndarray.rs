//! Wrappers for `ndarray`: takes the shape of a tensor, gives the name of the type of its dimension, as `nd.rs.tera`
//! writes it.

/// The dimension of an array of this shape. The library counts at compile time up to six.
pub fn dimension(shape: &[usize]) -> String {
    match shape.len() {
        rank @ 0..=6 => format!("ndarray::Ix{rank}"),
        _ => "ndarray::IxDyn".into(),
    }
}
