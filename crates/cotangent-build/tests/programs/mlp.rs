//! A generated program with a workspace: its gradient and second derivatives against differences, and steps down the
//! gradient that lower the loss.

mod programs;

use programs::cotangent::Tensor;
use programs::mlp::small::{self as mlp, B1, B2, W1, W2};

fn fill<T: Tensor<Scalar = f64>>(seed: &mut u64) -> T {
    let mut tensor = T::ZERO;
    for x in tensor.flat_mut() {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *x = (*seed >> 33) as f64 / f64::from(1 << 30) - 1.0;
    }
    tensor
}

#[derive(Clone)]
struct Parameters {
    w1: W1,
    b1: B1,
    w2: W2,
    b2: B2,
}

impl Parameters {
    fn filled(seed: &mut u64) -> Self {
        Parameters { w1: fill(seed), b1: fill(seed), w2: fill(seed), b2: fill(seed) }
    }
    fn all(&mut self) -> [&mut [f64]; 4] {
        [self.w1.flat_mut(), self.b1.flat_mut(), self.w2.flat_mut(), self.b2.flat_mut()]
    }
    fn add(&mut self, by: f64, mut other: Parameters) {
        for (to, from) in self.all().into_iter().zip(other.all()) {
            to.iter_mut().zip(from).for_each(|(x, d)| *x += by * *d);
        }
    }
}

fn main() {
    let mut seed = 7;
    let (x, t): (mlp::X, mlp::T) = (fill(&mut seed), fill(&mut seed));
    let mut p = Parameters::filled(&mut seed);
    let direction = Parameters::filled(&mut seed);
    let mut workspace = mlp::value_and_grad::Workspace::new();
    assert_eq!(align_of_val(&workspace), 64);
    // What a workspace holds before does not matter.
    workspace.scalars().fill(f64::NAN);
    let mut gradient = |p: &Parameters| {
        let (mut loss, mut g) = (f64::NAN, p.clone());
        mlp::value_and_grad(
            &x, &p.w1, &p.b1, &p.w2, &p.b2, &t, &mut loss, &mut g.w1, &mut g.b1, &mut g.w2, &mut g.b2, &mut workspace,
        );
        (loss, g)
    };
    let at = |by: f64| {
        let mut q = p.clone();
        q.add(by, direction.clone());
        q
    };
    let (up, down) = (gradient(&at(1e-6)), gradient(&at(-1e-6)));
    let (mut loss, mut g) = gradient(&p);
    let slope: f64 = g.all().iter().zip(direction.clone().all()).map(|(g, d)| dot(g, d)).sum();
    let difference = (up.0 - down.0) / 2e-6;
    assert!((slope - difference).abs() < 1e-6 * (1.0 + slope.abs()), "{slope} and {difference}");
    let (mut h, d) = (p.clone(), &direction);
    let mut second = mlp::hvp::Workspace::new();
    mlp::hvp(
        &x, &p.w1, &p.b1, &p.w2, &p.b2, &t, &d.w1, &d.b1, &d.w2, &d.b2, &mut h.w1, &mut h.b1, &mut h.w2, &mut h.b2,
        &mut second,
    );
    let (mut up, mut down) = (up.1, down.1);
    for ((h, up), down) in h.all().into_iter().zip(up.all()).zip(down.all()) {
        for ((h, up), down) in h.iter().zip(up).zip(down) {
            let difference = (*up - *down) / 2e-6;
            assert!((h - difference).abs() < 1e-5 * (1.0 + h.abs()), "{h} and {difference}");
        }
    }
    for _ in 0..20 {
        p.add(-0.02, g);
        let next = gradient(&p);
        assert!(next.0 < loss, "{} after {loss}", next.0);
        (loss, g) = next;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
