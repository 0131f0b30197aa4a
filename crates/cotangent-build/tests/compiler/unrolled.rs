//! Unrolled code and elements by number: takes small specs and the scalar programs, demands of each simplification
//! that it is made, and where it would be wrong that it is not; of the nests that they mean what the plain statements
//! mean, and of the programs that they are the physics that they claim to be.

use crate::generated::{compile, folder, render, run};
use cotangent_build::certify::Sampler;
use cotangent_build::compiled::Compiled;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::{Role, TensorId};
use cotangent_build::nest::unrolled::Graph;
use cotangent_build::source::Sources;
use cotangent_build::{Build, Options, nest, pipeline, plain};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Calls `f` for every kernel of a spec.
fn kernels(name: &str, text: &str, mut f: impl FnMut(&Compiled)) {
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let id = sources.add(&format!("{name}.yaml"), text.into());
    let certified = pipeline::certified(id, &sources, &mut out).unwrap_or_else(|| panic!("{}", out.render(&sources)));
    let kernels = pipeline::kernels(&certified, &Options::default(), &mut out);
    assert!(!out.has_errors(), "{}", out.render(&sources));
    pipeline::schedule(&certified, kernels, &Options::default(), &mut out).iter().for_each(&mut f);
}

fn program(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../programs/{name}.yaml"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The text of a function without loops, for machines of 32 bytes a register, comments aside.
fn lines(function: &str, declarations: &str, steps: &[&str]) -> Vec<String> {
    let steps: String = steps.iter().map(|s| format!("  - \"{s}\"\n")).collect();
    let text = format!("op: t\n{declarations}\nforward:\n{steps}adjoint: derived\ninstances:\n");
    let text = text + "  - {name: t, S: 4, T: 2, dtype: f64}\n";
    let mut lines = Vec::new();
    kernels("t", &text, |c| {
        let f = c.kernel.functions.iter().find(|f| f.name == function).expect("the function");
        let n = Graph::of(&c.kernel, f).expect("a graph").nest(&nest::machine::WIDE);
        nest::check::check(&c.kernel, &n).expect("a nest in order");
        let all = nest::print::nest(&c.kernel, &n);
        let code = |l: &&str| !l.starts_with(['#', ';']);
        lines = all.lines().skip(1).map(str::trim).filter(code).map(str::to_owned).collect();
    });
    lines
}

/// The lines that compute `y` from `x` and `u`.
fn forward(steps: &[&str]) -> Vec<String> {
    lines("forward", "inputs: {x: [S], u: [T]}\noutputs: {y: [T]}", steps)
}

#[test]
fn what_is_common_is_computed_once() {
    let found = forward(&["y[0] = (x[0] + u[0]) * x[1]", "y[1] = (u[0] + x[0]) * x[2] * x[3]"]);
    let expected = ["v0 := (x[0] + u[0])", "y[0] = v0 * x[1]", "y[1] = v0 * x[2] * x[3]"];
    assert_eq!(found, expected);
    // A difference is not that of the other order.
    let found = forward(&["y[0] = x[0] - x[1]", "y[1] = x[1] - x[0]"]);
    assert_eq!(found, ["y[0] = (x[0] - x[1])", "y[1] = (x[1] - x[0])"]);
}

#[test]
fn zeros_and_ones_vanish() {
    // `x[9]` is absent, and so is what it is multiplied by; an element that no step reaches is a zero.
    let found = forward(&["h[0 in S] = x[0]", "y[0] = 1 * (sum(s) h[s] * x[s]) + x[9] * u[1]", "y[1] = 0 - u[0] / 1"]);
    assert_eq!(found, ["y[0] = x[0] * x[0]", "y[1] = neg(u[0])"]);
    // What the author calls zero where a condition on coordinates is not met.
    let found = forward(&["y[t] = sum(s) where(s == t, 1, 0) * x[s]"]);
    assert_eq!(found, ["y[0] = x[0]", "y[1] = x[1]"]);
}

#[test]
fn signs_cancel() {
    let found = forward(&["y[0] = -(-x[0] * -x[1]) - -u[0]", "y[1] = -(x[0] - x[1])"]);
    assert_eq!(found, ["y[0] = fused(neg(x[0]) * x[1] + u[0])", "y[1] = (x[1] - x[0])"]);
}

#[test]
fn constants_are_folded() {
    let found = forward(&["y[0] = (2 * 3 + 1) * x[0]", "y[1] = x[1] / 4 + x[2] / 3"]);
    assert_eq!(found, ["y[0] = 7.0 * x[0]", "y[1] = fused(x[1] * 0.25 + x[2] / 3.0)"]);
}

#[test]
fn infinities_are_left_to_loops() {
    let text = "op: t\ninputs: {x: [S]}\noutputs: {y: [S]}\nforward:\n  - y[s] = 0 * (x[s] + max(q in S) x[q + 9])\n\
                adjoint: derived\ninstances:\n  - {name: t, S: 2, dtype: f64}\n";
    kernels("t", text, |c| assert!(Graph::of(&c.kernel, &c.kernel.functions[0]).is_none()));
}

#[test]
fn products_are_fused_with_sums_by_their_formula_alone() {
    // The product is needed by itself too; of two products the second is fused.
    let found = forward(&["y[0] = x[0] * x[1] + u[0]", "y[1] = x[0] * x[1]"]);
    assert_eq!(found, ["y[0] = fused(x[0] * x[1] + u[0])", "y[1] = x[0] * x[1]"]);
    let found = forward(&["y[0] = x[0] * x[1] + x[2] * x[3]", "y[1] = x[2] * x[3] - x[0] * x[1]"]);
    let expected = ["y[0] = fused(x[2] * x[3] + x[0] * x[1])", "y[1] = fused(neg(x[0]) * x[1] + x[2] * x[3])"];
    assert_eq!(found, expected);
}

#[test]
fn small_powers_are_products() {
    let found = forward(&["y[0] = x[0]^2", "y[1] = x[0]^3 + x[1]^0.5"]);
    assert_eq!(found, ["v0 := x[0] * x[0]", "y[0] = v0", "y[1] = fused(x[0] * v0 + (x[1])^0.5)"]);
}

#[test]
fn functions_run_on_lanes() {
    let found = forward(&["y[0] = sin(x[0]) + cos(x[0])", "y[1] = sin(x[1]) + cos(sin(x[1]))"]);
    let expected = ["f0<2> := sin<x[0], x[1]>", "y[0] = (f0<0> + cos(x[0]))", "y[1] = (f0<1> + cos(f0<1>))"];
    assert_eq!(found, expected);
}

/// Whatever stands between the steps: side by side they are emitted as one function.
#[test]
fn sines_stand_beside_their_cosines() {
    let found = forward(&[
        "y[0] = cos(x[0]) * cos(x[1]) + u[0] * u[1]",
        "y[1] = exp(u[0] * x[2]) * sin(x[0]) + u[1] * sin(x[1])",
    ]);
    let at = |f: &str| found.iter().position(|l| l.contains(&format!(":= {f}<"))).expect("on lanes");
    assert_eq!(at("sin").abs_diff(at("cos")), 1, "{found:?}");
}

#[test]
fn a_side_that_is_used_alone_runs_where_it_is_taken() {
    let found = forward(&["y[0] = where(x[0] > 0, log(x[0]), u[0])", "y[1] = where(x[0] > 0, u[0], u[0])"]);
    assert_eq!(found, ["y[0] = (x[0] > 0.0 ? log(x[0]) : u[0])", "y[1] = u[0]"]);
}

#[test]
fn mostly_zeros_are_filled() {
    let text = "inputs: {x: [S], u: [T]}\noutputs: {y: [S]}";
    assert_eq!(lines("forward", text, &["y[2] = x[0] + u[0]"]), ["y[..] = 0", "y[2] = (x[0] + u[0])"]);
    assert_eq!(lines("vjp_u", text, &["y[2] = x[0] + u[0]"]), ["u_bar[0] += y_bar[2]"]);
}

#[test]
fn elements_by_number_need_no_zeros_where_all_are_written() {
    let text = "op: t\ninputs: {x: [S]}\noutputs: {y: [S], z: [S]}\nforward:\n  - y[1] = x[0]\n  - y[0] = x[1]\n  - z[1] = y[0]\n\
                adjoint: derived\ninstances:\n  - {name: t, S: 2, dtype: f64}\n";
    kernels("t", text, |c| {
        let fills: Vec<_> = c.kernel.functions[0]
            .steps
            .iter()
            .filter_map(|s| if let plain::Step::Fill(t) = s { Some(c.kernel.tensor(*t).name.as_str()) } else { None })
            .collect();
        assert_eq!(fills, ["z"]);
    });
}

/// Random arguments of a function, away from where the programs are singular.
fn arguments(c: &Compiled, f: &plain::Function, random: &mut Sampler) -> BTreeMap<TensorId, Vec<f64>> {
    let all = f.reads.iter().chain(&f.writes);
    all.map(|t| (*t, (0..c.kernel.tensor(*t).elements()).map(|_| 2.0 * random.unit() - 1.0).collect())).collect()
}

/// What every program's nests compute, against the plain statements.
#[test]
fn programs_mean_what_their_statements_mean() {
    let mut unrolled = 0;
    for name in ["quadrotor", "arm", "scalar", "mlp_tiny"] {
        let mut compared = 0;
        kernels(name, &program(name), |c| {
            for (f, nests) in c.kernel.functions.iter().zip(&c.nests) {
                let given = arguments(c, f, &mut Sampler::new(7));
                let mut wanted = given.clone();
                plain::eval::run(&c.kernel, f, &mut wanted);
                for n in nests {
                    unrolled += usize::from(n.vars.is_empty() && n.notes.iter().any(|n| n.starts_with("unrolled")));
                    let mut found = given.clone();
                    nest::eval::run(&c.kernel, n, &mut found);
                    for t in &f.writes {
                        for (a, b) in found[t].iter().zip(&wanted[t]) {
                            compared += 1;
                            assert!((a - b).abs() <= 1e-12 * (1.0 + b.abs()), "{name} {}: {a} is not {b}", f.name);
                        }
                    }
                }
            }
        });
        assert!(compared > 0, "{name}");
    }
    assert!(unrolled > 30, "quadrotor and arm are unrolled graphs");
}

/// The outputs of the function `forward`, by name.
fn outputs(name: &str, instance: &str, inputs: &[(&str, Vec<f64>)]) -> BTreeMap<String, Vec<f64>> {
    let mut out = BTreeMap::new();
    kernels(name, &program(name), |c| {
        if c.kernel.name != instance {
            return;
        }
        let tensor = |name: &str| TensorId(c.kernel.tensors.iter().position(|t| t.name == name).expect("a tensor"));
        let mut tensors: BTreeMap<TensorId, Vec<f64>> = inputs.iter().map(|(n, v)| (tensor(n), v.clone())).collect();
        nest::eval::run(&c.kernel, &c.nests[0][0], &mut tensors);
        for t in &c.kernel.functions[0].writes {
            assert_eq!(c.kernel.tensor(*t).role, Role::Output);
            out.insert(c.kernel.tensor(*t).name.clone(), tensors[t].clone());
        }
    });
    out
}

type Matrix = [[f64; 4]; 4];

fn product(a: Matrix, b: Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..4).map(|k| a[i][k] * b[k][j]).sum()))
}

fn turn(axis: usize, angle: f64) -> Matrix {
    let (s, c) = angle.sin_cos();
    let (u, v) = ((axis + 1) % 3, (axis + 2) % 3);
    let mut m: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(i == j)));
    (m[u][u], m[u][v], m[v][u], m[v][v]) = (c, -s, s, c);
    m
}

fn shift(by: [f64; 3]) -> Matrix {
    let mut m = turn(0, 0.0);
    by.into_iter().enumerate().for_each(|(i, d)| m[i][3] = d);
    m
}

/// The arm against products of homogeneous matrices: about z, along z, along x, about x, six times.
#[test]
fn the_arm_is_a_chain_of_frames() {
    let quarter = std::f64::consts::FRAC_PI_2;
    let d = [0.089159, 0.0, 0.0, 0.10915, 0.09465, 0.0823];
    let a = [0.0, -0.425, -0.39225, 0.0, 0.0, 0.0];
    let alpha = [quarter, 0.0, 0.0, quarter, -quarter, 0.0];
    let q = [0.3, -1.1, 0.7, 2.0, -0.4, 1.3];
    let mut frame = turn(0, 0.0);
    for i in 0..6 {
        for step in [turn(2, q[i]), shift([0.0, 0.0, d[i]]), shift([a[i], 0.0, 0.0]), turn(0, alpha[i])] {
            frame = product(frame, step);
        }
    }
    let out = outputs("arm", "ur5", &[("q", q.to_vec())]);
    for i in 0..3 {
        assert!((out["position"][i] - frame[i][3]).abs() < 1e-14);
        for j in 0..3 {
            assert!((out["rotation"][3 * i + j] - frame[i][j]).abs() < 1e-14, "{i} {j}");
        }
    }
}

/// The quadrotor against rotation matrices: thrust along the body's axis, Euler's equations, and the rates of the
/// angles as those of the matrix.
#[test]
fn the_quadrotor_is_a_rigid_body() {
    let x: Vec<f64> = (0..12).map(|i| 0.3 - 0.11 * f64::from(i)).collect();
    let u = [6.0, 0.02, -0.03, 0.01];
    let rate = &outputs("quadrotor", "double", &[("x", x.clone()), ("u", u.to_vec())])["x_rate"];
    let body = |x: &[f64]| product(product(turn(2, x[8]), turn(1, x[7])), turn(0, x[6]));
    let r = body(&x);
    let close = |a: f64, b: f64, what: &str| assert!((a - b).abs() < 1e-8, "{what}: {a} is not {b}");
    for i in 0..3 {
        close(rate[i], x[3 + i], "velocity");
        close(rate[3 + i], r[i][2] * u[0] / 0.5 - if i == 2 { 9.81 } else { 0.0 }, "force");
    }
    // dR/dt = R [w]x.
    let moved = |h: f64| body(&x.iter().zip(rate).map(|(x, v)| x + h * v).collect::<Vec<_>>());
    let (up, down) = (moved(1e-6), moved(-1e-6));
    let w = &x[9..];
    let cross = [[0.0, -w[2], w[1], 0.0], [w[2], 0.0, -w[0], 0.0], [-w[1], w[0], 0.0, 0.0], [0.0; 4]];
    let turned = product(r, cross);
    for i in 0..3 {
        for j in 0..3 {
            close((up[i][j] - down[i][j]) / 2e-6, turned[i][j], "rotation");
        }
    }
    let inertia = [0.0023, 0.0023, 0.004];
    for i in 0..3 {
        let (j, k) = ((i + 1) % 3, (i + 2) % 3);
        close(inertia[i] * rate[9 + i] + (inertia[k] - inertia[j]) * w[j] * w[k], u[1 + i], "torque");
    }
}

/// Elements have names where an array is taken apart; of a long array of which few elements are used they have none.
#[test]
fn compiled_elements_are_those_of_the_formula() {
    let spec = "program: elements\ninputs: {u: [S], long: [L], x_0: []}\noutputs: {y: [R, T], z: []}\n\
                functions: [forward, jacobian]\nforward:\n\
                \x20 - m[0 in S, 1 in S] = sin(u[0])\n  - m[1, 0] = u[3]\n\
                \x20 - h[i in S] = sum(j in S, k in S) m[i,j] * m[j,k] * u[k]\n\
                \x20 - y[0,0] = h[0]\n  - y[0,1] = long[30] * x_0\n  - y[2,1] = -h[1] * x_0\n\
                \x20 - z = h[1] * h[1] + long[30] * long[3]\n\
                instances: [{name: n, S: 6, L: 40, R: 3, T: 2, dtype: f64}]\n";
    let folder = folder("elements", &[("elements", spec)]);
    let text = render(&folder, "kernels", Build::new().std(true));
    // An output is taken apart after it is filled. A tensor may have the name of an element.
    let filled = "_Tensor::flat_mut(&mut *z_long).fill(0.0);";
    for part in ["let [u_0, u_1, _, u_3, ..] = *u;", "let [[y_0_0, y_0_1], ", "long[30] * *x_0", filled] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let main = "mod kernels;
use kernels::elements::n::*;
fn main() {
    let (u, x) = ([0.5, 0.7, -1.5, 2.0, -0.3, 4.0], 3.0);
    let mut long = [0.0; 40];
    (long[3], long[30]) = (5.0, 7.0);
    let (mut y, mut z) = ([[f64::NAN; 2]; 3], f64::NAN);
    forward(&u, &long, &x, &mut y, &mut z);
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, \"{a} {b}\");
    let (s, c) = (f64::sin(0.5), f64::cos(0.5));
    close(y[0][0], s);
    close(y[2][1], -4.2 * s);
    assert_eq!((y[0][1], y[1], y[2][0]), (21.0, [0.0; 2], 0.0));
    close(z, 1.96 * s * s + 35.0);
    let (mut y_u, mut y_long, mut y_x, mut z_u, mut z_long, mut z_x) =
        ([[[1.0; 6]; 2]; 3], [[[1.0; 40]; 2]; 3], [[1.0; 2]; 3], [1.0; 6], [1.0; 40], 1.0);
    jacobian(&u, &long, &x, &mut y, &mut z, &mut y_u, &mut y_long, &mut y_x, &mut z_u, &mut z_long, &mut z_x);
    let all = |got: [f64; 6], wanted: [f64; 6]| got.into_iter().zip(wanted).for_each(|(a, b)| close(a, b));
    all(y_u[0][0], [2.0 * s + c, 0.0, 0.0, 0.5 * s, 0.0, 0.0]);
    all(y_u[2][1], [-4.2 * c, -6.0 * s, 0.0, -2.1 * s, 0.0, 0.0]);
    all(z_u, [3.92 * s * c, 5.6 * s * s, 0.0, 1.96 * s * s, 0.0, 0.0]);
    let others = [y_u[0][1], y_u[1][0], y_u[1][1], y_u[2][0]];
    assert_eq!(others, [[0.0; 6]; 4]);
    close(y_x[2][1], -1.4 * s);
    assert_eq!((y_x[0], y_x[1], y_x[2][0], z_x), ([0.0, 7.0], [0.0; 2], 0.0, 0.0));
    let sum = |all: &[f64]| all.iter().sum::<f64>();
    assert_eq!((y_long[0][1][30], sum(y_long.as_flattened().as_flattened())), (3.0, 3.0));
    assert_eq!((z_long[3], z_long[30], sum(&z_long)), (7.0, 5.0, 12.0));
}
";
    std::fs::write(folder.join("main.rs"), main).expect("the file is written");
    compile(&folder, "2024", "main.rs", &["-o", "main", "-Aunused"]);
    run(&mut Command::new(folder.join("main")));
}
