//! A long short-term memory over 16 steps: what the generated kernel computes against a loop written by hand, and its
//! derivatives against differences of that loop. Fails by a panic.
#![allow(clippy::needless_range_loop)]

mod programs;
use programs::cotangent::Tensor;
use programs::lstm::steps as k;

const T: usize = 16;
const D: usize = 5;
const H: usize = 7;

#[derive(Clone)]
struct Inputs {
    x: k::X,
    h0: k::H0,
    c0: k::C0,
    w: [[[f64; H]; D]; 4],
    u: [[[f64; H]; H]; 4],
    b: [[f64; H]; 4],
}

fn filled<A: Tensor<Scalar = f64>>(seed: &mut f64) -> A {
    let mut a = A::ZERO;
    for v in a.flat_mut() {
        *seed += 0.618033988749895;
        *v = seed.fract() - 0.5;
    }
    a
}

fn inputs(mut seed: f64) -> Inputs {
    let s = &mut seed;
    let (x, h0, c0) = (filled(s), filled(s), filled(s));
    Inputs { x, h0, c0, w: filled(s), u: filled(s), b: filled(s) }
}

/// Gates in the order input, forget, candidate, output.
fn by_hand(i: &Inputs) -> ([[f64; H]; T], [[f64; H]; T]) {
    let logistic = |v: f64| 1.0 / (1.0 + (-v).exp());
    let (mut hs, mut cs) = ([[0.0; H]; T], [[0.0; H]; T]);
    let (mut h, mut c) = (i.h0, i.c0);
    for t in 0..T {
        let mut gates = i.b;
        for g in 0..4 {
            for n in 0..H {
                gates[g][n] += (0..D).map(|d| i.x[t][d] * i.w[g][d][n]).sum::<f64>();
                gates[g][n] += (0..H).map(|j| h[j] * i.u[g][j][n]).sum::<f64>();
            }
        }
        for n in 0..H {
            c[n] = logistic(gates[1][n]) * c[n] + logistic(gates[0][n]) * gates[2][n].tanh();
            h[n] = logistic(gates[3][n]) * c[n].tanh();
        }
        (hs[t], cs[t]) = (h, c);
    }
    (hs, cs)
}

fn moved(i: &Inputs, by: &Inputs, step: f64) -> Inputs {
    fn add<A: Tensor<Scalar = f64>>(a: &mut A, b: &A, step: f64) {
        a.flat_mut().iter_mut().zip(b.flat()).for_each(|(a, b)| *a += step * b);
    }
    let mut m = i.clone();
    add(&mut m.x, &by.x, step);
    add(&mut m.h0, &by.h0, step);
    add(&mut m.c0, &by.c0, step);
    add(&mut m.w, &by.w, step);
    add(&mut m.u, &by.u, step);
    add(&mut m.b, &by.b, step);
    m
}

fn near(what: &str, a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}: {a} is not {b}");
    }
}

fn dot<A: Tensor<Scalar = f64>>(a: &A, b: &A) -> f64 {
    a.flat().iter().zip(b.flat()).map(|(a, b)| a * b).sum()
}

fn main() {
    let (i, d) = (inputs(0.1), inputs(0.7));
    let (h_ref, c_ref) = by_hand(&i);
    let (mut h, mut c) = (k::H::ZERO, k::C::ZERO);
    let [wi, wf, wg, wo] = &i.w;
    let [ui, uf, ug, uo] = &i.u;
    let [bi, bf, bg, bo] = &i.b;
    k::forward(&i.x, &i.h0, &i.c0, wi, wf, wg, wo, ui, uf, ug, uo, bi, bf, bg, bo, &mut h, &mut c);
    near("h", h.flat(), h_ref.as_flattened(), 1e-13);
    near("c", c.flat(), c_ref.as_flattened(), 1e-13);

    let (mut h_dot, mut c_dot) = (k::H::ZERO, k::C::ZERO);
    let ([vi, vf, vg, vo], [ti, tf, tg, to], [si, sf, sg, so]) = (&d.w, &d.u, &d.b);
    k::jvp(
        &i.x, &i.h0, &i.c0, wi, wf, wg, wo, ui, uf, ug, uo, bi, bf, bg, bo, &d.x, &d.h0, &d.c0, vi, vf, vg, vo, ti, tf, tg,
        to, si, sf, sg, so, &mut h, &mut c, &mut h_dot, &mut c_dot,
    );
    let step = 1e-5;
    let ((up, up_c), (down, down_c)) = (by_hand(&moved(&i, &d, step)), by_hand(&moved(&i, &d, -step)));
    let slope = |a: &[[f64; H]; T], b: &[[f64; H]; T]| -> Vec<f64> {
        a.as_flattened().iter().zip(b.as_flattened()).map(|(a, b)| (a - b) / (2.0 * step)).collect()
    };
    near("h_dot", h_dot.flat(), &slope(&up, &down), 1e-8);
    near("c_dot", c_dot.flat(), &slope(&up_c, &down_c), 1e-8);

    // The transpose of what differences confirm.
    let mut seed = 0.3;
    let (h_bar, c_bar): (k::H, k::C) = (filled(&mut seed), filled(&mut seed));
    let mut bar = inputs(0.0);
    let [wi_, wf_, wg_, wo_] = &mut bar.w;
    let [ui_, uf_, ug_, uo_] = &mut bar.u;
    let [bi_, bf_, bg_, bo_] = &mut bar.b;
    k::vjp_store(
        &i.x, &i.h0, &i.c0, wi, wf, wg, wo, ui, uf, ug, uo, bi, bf, bg, bo, &h, &c, &h_bar, &c_bar,
        &mut bar.x, &mut bar.h0, &mut bar.c0, wi_, wf_, wg_, wo_, ui_, uf_, ug_, uo_, bi_, bf_, bg_, bo_,
    );
    let outputs = dot(&h_dot, &h_bar) + dot(&c_dot, &c_bar);
    let inputs = dot(&d.x, &bar.x) + dot(&d.h0, &bar.h0) + dot(&d.c0, &bar.c0) + dot(&d.w, &bar.w) + dot(&d.u, &bar.u) + dot(&d.b, &bar.b);
    near("pairing", &[inputs], &[outputs], 1e-12);
}
