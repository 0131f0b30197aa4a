//! Functions that are given their instructions: takes bundled kernels, dispatched and inlined ones, and holds what
//! `forward_with` and its like write to what the plain functions write, bit by bit; for every instruction set of the
//! machine, in a process of its own each. How right the values are is for `tests/kernels.rs`, which gives inlined
//! kernels the instructions too.

use cotangent::Tensor;
use cotangent::isa::{self, Body, Isa, Native};
use cotangent::kernels::{matmul::digits_logits as product, quadratic_scalar::scalar_f32 as scalar, softmax::i32_j10};

/// The arguments of a product and its derivatives, and what these write.
#[derive(Clone, Debug, PartialEq)]
struct Products {
    x: product::X,
    y: product::Y,
    z: product::Z,
    x_dot: product::X,
    y_dot: product::Y,
    z_dot: product::Z,
    z_bar: product::Z,
    x_bar: [product::X; 3],
    y_bar: [product::Y; 3],
    s: i32_j10::Y,
}

impl Products {
    fn new() -> Box<Self> {
        let mut new = Box::new(Products {
            x: product::X::ZERO,
            y: product::Y::ZERO,
            z: product::Z::ZERO,
            x_dot: product::X::ZERO,
            y_dot: product::Y::ZERO,
            z_dot: product::Z::ZERO,
            z_bar: product::Z::ZERO,
            x_bar: [product::X::ZERO; 3],
            y_bar: [product::Y::ZERO; 3],
            s: i32_j10::Y::ZERO,
        });
        let mut number = 0.3f32;
        let mut fill = |to: &mut [f32]| {
            for x in to {
                number = 3.99 * number * (1.0 - number);
                *x = number - 0.5;
            }
        };
        fill(new.x.flat_mut());
        fill(new.y.flat_mut());
        fill(new.x_dot.flat_mut());
        fill(new.y_dot.flat_mut());
        fill(new.z_bar.flat_mut());
        new
    }

    fn plainly(&mut self) {
        let Products { x, y, z, x_dot, y_dot, z_dot, z_bar, x_bar, y_bar, s } = self;
        product::forward(x, y, z);
        product::jvp(x, y, x_dot, y_dot, z, z_dot);
        product::vjp(x, y, z_bar, &mut x_bar[0], &mut y_bar[0]);
        product::vjp_store(x, y, z_bar, &mut x_bar[1], &mut y_bar[1]);
        product::vjp_x_store(y, z_bar, &mut x_bar[2]);
        product::vjp_y(x, z_bar, &mut y_bar[2]);
        i32_j10::forward(z, s);
    }
}

impl Body for &mut Products {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Products { x, y, z, x_dot, y_dot, z_dot, z_bar, x_bar, y_bar, s } = self;
        product::forward_with(isa, x, y, z);
        product::jvp_with(isa, x, y, x_dot, y_dot, z, z_dot);
        product::vjp_with(isa, x, y, z_bar, &mut x_bar[0], &mut y_bar[0]);
        product::vjp_store_with(isa, x, y, z_bar, &mut x_bar[1], &mut y_bar[1]);
        product::vjp_x_store_with(isa, y, z_bar, &mut x_bar[2]);
        product::vjp_y_with(isa, x, z_bar, &mut y_bar[2]);
        i32_j10::forward_with(isa, z, s);
    }
}

#[track_caller]
fn same(got: &Products, want: &Products) {
    // No NaN and no zero is computed, so equal numbers have equal bits.
    assert!(want.z.flat().iter().chain(want.s.flat()).all(|x| x.abs() > 0.0));
    assert_eq!(got, want);
}

/// A dispatched kernel given what the machine was found to have does what it does when it asks itself.
#[test]
fn dispatched_kernels() {
    let (mut got, mut want) = (Products::new(), Products::new());
    want.plainly();
    isa::dispatch(&mut *got);
    same(&got, &want);
}

/// A caller with instructions of its own gives them, and needs no choice.
#[test]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "calls into functions with instructions of their own")]
fn callers_with_instructions() {
    #[target_feature(enable = "avx2,fma")]
    fn wide(on: &mut Products) {
        isa::avx2(on);
    }
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    fn widest(on: &mut Products) {
        isa::avx512(on);
    }
    let (mut got, mut want) = (Products::new(), Products::new());
    want.plainly();
    match isa::name() {
        // SAFETY: the machine was found to have the instructions.
        "avx512" => unsafe { widest(&mut got) },
        // SAFETY: as above.
        "avx2" => unsafe { wide(&mut got) },
        _ => (&mut *got).run(isa::Portable),
    }
    same(&got, &want);
}

/// An inlined kernel uses what the build enables; a loop gives each call what the machine has.
#[test]
fn inlined_kernels() {
    struct Each<'a>(&'a [f32], &'a mut [f32]);
    impl Body for Each<'_> {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            for (x, y) in self.0.iter().zip(self.1) {
                scalar::forward_with(isa, x, &0.5, &0.25, y);
            }
        }
    }
    let x: Vec<f32> = (0..1000).map(|n| n as f32).collect();
    let (mut plain, mut native, mut chosen) = ([0.0; 1000], [0.0; 1000], [0.0; 1000]);
    for (x, y) in x.iter().zip(&mut plain) {
        scalar::forward(x, &0.5, &0.25, y);
    }
    Each(&x, &mut native).run(Native);
    assert_eq!(native, plain);
    isa::dispatch(Each(&x, &mut chosen));
    // Numbers of few bits: fused or not, nothing is rounded.
    assert_eq!(chosen, plain);
}

#[test]
fn every_instruction_set_of_the_machine() {
    let this = std::env::current_exe().expect("the path of the test binary");
    for name in isa::names() {
        for test in ["dispatched_kernels", "callers_with_instructions", "inlined_kernels"] {
            let run = std::process::Command::new(&this).args(["--exact", test]).env("COTANGENT_ISA", name).output();
            let run = run.expect("the test binary runs");
            let out = String::from_utf8_lossy(&run.stdout);
            assert!(run.status.success(), "{test} under {name}: {out}{}", String::from_utf8_lossy(&run.stderr));
        }
    }
}
