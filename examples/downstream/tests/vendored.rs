//! The vendored file is what its specs give, and computes the same bits as the build script's kernels.

use cotangent::Tensor;
use cotangent_build::{Build, InstructionSet};
use downstream::{portable, vendored};

/// `BLESS=1 cargo test` writes it anew, as `cotangent render vendor --portable -o src/vendored.rs` does.
#[test]
fn the_file_is_up_to_date() {
    let made = Build::new()
        .ops("vendor")
        .self_contained(true)
        .module("vendored")
        .instruction_sets([InstructionSet::Portable])
        .render()
        .expect("the specs are right");
    let text = &made.files["mod.rs"];
    if std::env::var_os("BLESS").is_some() {
        cotangent_build::write_changed("src/vendored.rs".as_ref(), text).expect("the file is written");
    }
    let there = std::fs::read_to_string("src/vendored.rs").unwrap_or_default();
    assert!(there == *text, "src/vendored.rs is out of date: BLESS=1 writes it anew");
    assert!(!text.contains("unsafe"));
}

fn fill<T: Tensor<Scalar = f32>>(seed: u32) -> T {
    let mut x = T::ZERO;
    let values = (0..).map(|i| (f64::from(seed) * 0.37 + f64::from(i) * 0.618_033_988_749_895).fract());
    x.flat_mut().iter_mut().zip(values).for_each(|(x, v)| *x = (2.0 * v - 1.0) as f32);
    x
}

/// Bits, so that no difference hides.
fn bits<T: Tensor<Scalar = f32>>(x: &T) -> Vec<u32> {
    x.flat().iter().map(|x| x.to_bits()).collect()
}

/// Both forms take plain arrays, so one call serves them.
macro_rules! both {
    ($op:ident :: $kernel:ident :: $function:ident($($x:expr),*; $Out:ty)) => {{
        let (mut ours, mut theirs) = (<$Out>::ZERO, <$Out>::ZERO);
        portable::$op::$kernel::$function($($x,)* &mut ours);
        vendored::$op::$kernel::$function($($x,)* &mut theirs);
        assert_eq!(bits(&ours), bits(&theirs));
        assert!(ours.flat().iter().any(|x| *x != 0.0));
    }};
}

#[test]
fn both_forms_give_the_same_bits() {
    use portable::{matvec::layer, softsign::nine};
    let (w, v, y_bar): (layer::W, layer::V, layer::Y) = (fill(1), fill(2), fill(3));
    both!(matvec::layer::forward(&w, &v; layer::Y));
    both!(matvec::layer::vjp_w(&v, &y_bar; layer::W));
    both!(matvec::layer::vjp_v(&w, &y_bar; layer::V));
    let (x, y_bar): (nine::X, nine::Y) = (fill(4), fill(5));
    both!(softsign::nine::forward(&x; nine::Y));
    both!(softsign::nine::vjp(&x, &y_bar; nine::X));
    // Its own copy of what kernels stand on.
    assert_eq!(vendored::KERNELS.len(), portable::KERNELS.len());
    assert_eq!(<nine::X as vendored::cotangent::Tensor>::LEN, 9);
}

#[test]
fn a_second_package_has_kernels_of_its_own() {
    use downstream_layers::nn::{my_matmul, my_scale_shift};
    let (x, y): (my_matmul::small::X, my_matmul::small::Y) = ([[1.0, 2.0]; 3], [[3.0], [4.0]]);
    let mut z = [[0.0]; 3];
    my_matmul::small::forward(&x, &y, &mut z);
    assert_eq!(z, [[11.0]; 3]);
    let mut shifted = [[0.0]; 3];
    my_scale_shift::small::forward(&z, &2.0, &0.5, &mut shifted);
    assert_eq!(shifted, [[22.5]; 3]);
}
