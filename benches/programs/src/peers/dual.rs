//! Small programs with `num-dual`: takes a function written once in plain Rust, generic over its numbers, gives its
//! value with the scalars themselves and its derivatives with the dual numbers that fit: one direction, all of them at
//! once, all second derivatives.

use super::{Element, Peer, Results};
use crate::subject::Tensors;
use cotangent::{FunctionInfo, KernelInfo, Kind, Scalar};
use nalgebra::{SMatrix, SVector};
use num_dual::{Dual, Dual2SVec, DualNum, DualNumFloat, DualSVec, gradient, hessian, jacobian};

/// The scalar types.
trait Float: Element + DualNumFloat + DualNum<Primitive = Self> {}
impl Float for f32 {}
impl Float for f64 {}

/// A function of `I` numbers, with `O` results.
trait Program<F: Float, const I: usize, const O: usize>: Copy + 'static {
    /// The tensors that derivatives are taken by, in the order of the numbers.
    const INPUTS: &'static [&'static str];
    /// The results' tensors.
    const OUTPUTS: &'static [&'static str];

    fn run<D: DualNum<Primitive = F> + Copy>(&self, x: &[D; I]) -> [D; O];
}

#[derive(Clone, Copy)]
struct Scalars;

impl<F: Float> Program<F, 3, 1> for Scalars {
    const INPUTS: &'static [&'static str] = &["x", "a", "b"];
    const OUTPUTS: &'static [&'static str] = &["y"];

    fn run<D: DualNum<Primitive = F> + Copy>(&self, [x, a, b]: &[D; 3]) -> [D; 1] {
        [(*x + *a) * (*x + *b)]
    }
}

#[derive(Clone, Copy)]
struct Rosenbrock;

impl<F: Float, const N: usize> Program<F, N, 1> for Rosenbrock {
    const INPUTS: &'static [&'static str] = &["x"];
    const OUTPUTS: &'static [&'static str] = &["y"];

    fn run<D: DualNum<Primitive = F> + Copy>(&self, x: &[D; N]) -> [D; 1] {
        let mut y = D::from(F::of(0.0));
        for [a, b] in x.array_windows() {
            let (c, d) = (*b - *a * *a, -*a + F::of(1.0));
            y += c * c * F::of(100.0) + d * d;
        }
        [y]
    }
}

/// With the numbers of `quadrotor.yaml`.
#[derive(Clone, Copy)]
struct Quadrotor;

impl<F: Float> Program<F, 16, 12> for Quadrotor {
    const INPUTS: &'static [&'static str] = &["x", "u"];
    const OUTPUTS: &'static [&'static str] = &["x_rate"];

    fn run<D: DualNum<Primitive = F> + Copy>(&self, x: &[D; 16]) -> [D; 12] {
        let [mass, ixx, iyy, izz, gravity] = [0.5, 0.0023, 0.0023, 0.004, 9.81].map(F::of);
        let one = F::of(1.0);
        let [_, _, _, vx, vy, vz, roll, pitch, yaw, p, q, r, thrust, tx, ty, tz] = *x;
        let ((s_roll, c_roll), (s_pitch, c_pitch), (s_yaw, c_yaw)) = (roll.sin_cos(), pitch.sin_cos(), yaw.sin_cos());
        let lift = thrust * (one / mass);
        let turn = (q * s_roll + r * c_roll) / c_pitch;
        [
            vx,
            vy,
            vz,
            lift * (c_roll * s_pitch * c_yaw + s_roll * s_yaw),
            lift * (c_roll * s_pitch * s_yaw - s_roll * c_yaw),
            lift * (c_roll * c_pitch) - gravity,
            p + s_pitch * turn,
            q * c_roll - r * s_roll,
            turn,
            (tx + q * r * (iyy - izz)) * (one / ixx),
            (ty + p * r * (izz - ixx)) * (one / iyy),
            (tz + p * q * (ixx - iyy)) * (one / izz),
        ]
    }
}

/// With the lengths of `arm.yaml`.
#[derive(Clone, Copy)]
struct Arm;

impl<F: Float> Program<F, 6, 12> for Arm {
    const INPUTS: &'static [&'static str] = &["q"];
    const OUTPUTS: &'static [&'static str] = &["position", "rotation"];

    fn run<D: DualNum<Primitive = F> + Copy>(&self, q: &[D; 6]) -> [D; 12] {
        let [d1, a2, a3, d4, d5, d6] = [0.089159, -0.425, -0.39225, 0.10915, 0.09465, 0.0823].map(F::of);
        let [(s1, c1), (s2, c2), (s3, c3), (s4, c4), (s5, c5), (s6, c6)] = q.map(|q| q.sin_cos());
        // Turns two axes of a frame.
        let turn = |c: D, s: D, x: [D; 3], y: [D; 3]| -> [[D; 3]; 2] {
            [[0, 1, 2].map(|d| x[d] * c + y[d] * s), [0, 1, 2].map(|d| y[d] * c - x[d] * s)]
        };
        let zero = D::from(F::of(0.0));
        let (x1, y1, z1) = ([c1, s1, zero], [zero, zero, D::from(F::of(1.0))], [s1, -c1, zero]);
        let [x2, y2] = turn(c2, s2, x1, y1);
        let [x3, y3] = turn(c3, s3, x2, y2);
        let [x4, y4] = turn(c4, s4, x3, y3);
        let z4 = y4.map(|y| -y);
        let [x5, z5] = turn(c5, s5, x4, z1);
        let position = |d: usize| {
            let base = if d == 2 { d1 } else { F::of(0.0) };
            x2[d] * a2 + x3[d] * a3 + z1[d] * d4 + z4[d] * d5 + z5[d] * d6 + base
        };
        let [x6, y6] = turn(c6, s6, x5, z4.map(|z| -z));
        // The last joint turns x5 and -z4 about z5.
        let [p0, p1, p2] = [0, 1, 2].map(position);
        [p0, p1, p2, x6[0], y6[0], z5[0], x6[1], y6[1], z5[1], x6[2], y6[2], z5[2]]
    }
}

/// The network with its weights: derivatives by the input alone.
#[derive(Clone, Copy)]
struct MlpTiny<F> {
    w1: [[F; 16]; 4],
    b1: [F; 16],
    w2: [[F; 16]; 16],
    b2: [F; 16],
    w3: [[F; 2]; 16],
    b3: [F; 2],
}

impl<F: Float> MlpTiny<F> {
    fn new(inputs: &Tensors) -> Self {
        fn fill<F: Float, const K: usize, const M: usize>(from: &[f64]) -> [[F; M]; K] {
            std::array::from_fn(|k| std::array::from_fn(|m| F::of(from[k * M + m])))
        }
        let [b1, b2] = ["b1", "b2"].map(|name| fill::<F, 1, 16>(&inputs[name])[0]);
        // The cotangents of a linear layer do not depend on its bias: some functions do not read it.
        let b3 = inputs.get("b3").map_or([F::of(0.0); 2], |b3| fill::<F, 1, 2>(b3)[0]);
        MlpTiny { w1: fill(&inputs["w1"]), b1, w2: fill(&inputs["w2"]), b2, w3: fill(&inputs["w3"]), b3 }
    }
}

/// `b + x w`
fn dense<D: DualNum + Copy, const K: usize, const M: usize>(
    x: &[D; K],
    w: &[[D::Primitive; M]; K],
    b: &[D::Primitive; M],
) -> [D; M] {
    let mut y = b.map(D::from);
    for (x, w) in x.iter().zip(w) {
        for (y, w) in y.iter_mut().zip(w) {
            *y += *x * *w;
        }
    }
    y
}

impl<F: Float> Program<F, 4, 2> for MlpTiny<F> {
    const INPUTS: &'static [&'static str] = &["x"];
    const OUTPUTS: &'static [&'static str] = &["y"];

    fn run<D: DualNum<Primitive = F> + Copy>(&self, x: &[D; 4]) -> [D; 2] {
        let h1 = dense(x, &self.w1, &self.b1).map(|h| h.tanh());
        let h2 = dense(&h1, &self.w2, &self.b2).map(|h| h.tanh());
        dense(&h2, &self.w3, &self.b3)
    }
}

/// One observation, with its feature.
#[derive(Clone, Copy)]
struct Bundle<F>([F; 2]);

impl<F: Float> Program<F, 15, 3> for Bundle<F> {
    const INPUTS: &'static [&'static str] = &["camera", "point", "weight"];
    const OUTPUTS: &'static [&'static str] = &["error", "weight_error"];

    fn run<D: DualNum<Primitive = F> + Copy>(&self, x: &[D; 15]) -> [D; 3] {
        let [r0, r1, r2, c0, c1, c2, focal, u0, v0, k1, k2, p0, p1, p2, weight] = *x;
        let one = F::of(1.0);
        let (axis, v) = ([r0, r1, r2], [p0 - c0, p1 - c1, p2 - c2]);
        let square = r0 * r0 + r1 * r1 + r2 * r2;
        let (c, s, g) = if square.is_zero() {
            let zero = D::from(F::of(0.0));
            (zero + one, zero + one, zero)
        } else {
            let angle = square.sqrt();
            let (sin, cos) = angle.sin_cos();
            (cos, sin / angle, (-cos + one) / square)
        };
        let along = (r0 * v[0] + r1 * v[1] + r2 * v[2]) * g;
        let cross = |d: usize| axis[(d + 1) % 3] * v[(d + 2) % 3] - axis[(d + 2) % 3] * v[(d + 1) % 3];
        let [x, y, z] = [0, 1, 2].map(|d| c * v[d] + s * cross(d) + along * axis[d]);
        let (x, y) = (x / z, y / z);
        let b = x * x + y * y;
        let t = focal * (k1 * b + k2 * b * b + one);
        let error = [(t * x + u0 - self.0[0]) * weight, (t * y + v0 - self.0[1]) * weight];
        [error[0], error[1], -weight * weight + one]
    }
}

/// Tensors one after the other: names and numbers of elements.
type Parts = Vec<(&'static str, usize)>;

/// Part by part what stands in one list.
fn parts<'a, T: Copy>(parts: &'a Parts, all: &'a [T]) -> impl Iterator<Item = (&'static str, &'a [T])> {
    parts.iter().scan(all, |rest, (name, length)| {
        let (part, after) = rest.split_at(*length);
        *rest = after;
        Some((*name, part))
    })
}

/// The block of a matrix for each part of its rows and each of its columns, named by `name`.
fn blocks<F: Float, const R: usize, const C: usize>(
    of: &SMatrix<F, R, C>,
    rows: &Parts,
    columns: &Parts,
    name: impl Fn(&str, &str) -> String,
) -> Results {
    let (every_row, every_column): (Vec<usize>, Vec<usize>) = ((0..R).collect(), (0..C).collect());
    let mut results = Results::new();
    for (row_name, rows) in parts(rows, &every_row) {
        for (column_name, columns) in parts(columns, &every_column) {
            let block = rows.iter().flat_map(|r| columns.iter().map(move |c| of[(*r, *c)].wide())).collect();
            results.insert(name(row_name, column_name), block);
        }
    }
    results
}

/// Numbers of each part, named by `name`.
fn named<F: Float>(all: &[F], of: &Parts, name: impl Fn(&str) -> String) -> Results {
    parts(of, all).map(|(part, of)| (name(part), of.iter().map(|x| x.wide()).collect())).collect()
}

/// The names and sizes of a program's inputs and outputs, and the arguments of a function.
struct Call<'a> {
    kernel: &'static KernelInfo,
    function: &'a FunctionInfo,
    inputs: &'a Tensors,
}

impl Call<'_> {
    fn parts(&self, names: &[&'static str]) -> Parts {
        let length = |name: &str| self.kernel.tensor(name).map_or(0, |tensor| tensor.shape.iter().product());
        names.iter().map(|name| (*name, length(name))).collect()
    }

    /// Arguments one after the other, each with an ending to its name; zero where the function does not read it.
    fn list<F: Float, const N: usize>(&self, parts: &Parts, ending: &str) -> [F; N] {
        let elements = parts.iter().flat_map(|(name, length)| {
            let given = self.inputs.get(format!("{name}{ending}").as_str());
            given.cloned().unwrap_or_else(|| vec![0.0; *length])
        });
        let elements: Vec<F> = elements.map(F::of).collect();
        elements.try_into().unwrap_or_else(|all: Vec<F>| panic!("{N} elements, not {}", all.len()))
    }

    /// The value, in plain numbers.
    fn plain<F: Float, P: Program<F, I, O>, const I: usize, const O: usize>(&self, program: P) -> Option<Peer> {
        let (inputs, outputs) = (self.parts(P::INPUTS), self.parts(P::OUTPUTS));
        let x: [F; I] = self.list(&inputs, "");
        let zeros = [F::of(0.0); O];
        let results = move |y: &[F; O]| named(y, &outputs, str::to_owned);
        (self.function.kind == Kind::Forward)
            .then(|| Peer::new("plain", (program, x), zeros, |(program, x), y| *y = program.run(x), results))
    }

    /// The value in plain numbers, derivatives in dual ones.
    fn dual<F: Float, P: Program<F, I, O>, const I: usize, const O: usize>(&self, program: P) -> Option<Peer> {
        const NAME: &str = "num-dual";
        let (inputs, outputs) = (self.parts(P::INPUTS), self.parts(P::OUTPUTS));
        let x: [F; I] = self.list(&inputs, "");
        let vector = SVector::from(x);
        let zero = F::of(0.0);
        match self.function.kind {
            Kind::Forward => self.plain(program),
            Kind::Jvp => {
                let x_dot: [F; I] = self.list(&inputs, "_dot");
                let compute = |(program, x, x_dot): &(P, [F; I], [F; I]), to: &mut [[F; O]; 2]| {
                    let y = program.run::<Dual<F>>(&std::array::from_fn(|i| Dual::new(x[i], x_dot[i])));
                    *to = [y.map(|y| y.re), y.map(|y| y.eps)];
                };
                Some(Peer::new(NAME, (program, x, x_dot), [[zero; O]; 2], compute, move |[y, y_dot]| {
                    let mut results = named(y, &outputs, str::to_owned);
                    results.extend(named(y_dot, &outputs, |name| format!("{name}_dot")));
                    results
                }))
            }
            Kind::Vjp | Kind::ValueAndGrad => {
                // The gradient of the product of the results with their cotangents, or of the only result.
                let scalar = self.function.kind == Kind::ValueAndGrad;
                let y_bar: [F; O] = if scalar { [F::of(1.0); O] } else { self.list(&outputs, "_bar") };
                let compute = |(program, x, y_bar): &(P, SVector<F, I>, [F; O]), to: &mut (F, SVector<F, I>)| {
                    let product = |x: SVector<DualSVec<F, I>, I>| {
                        let terms = program.run(&x.into()).into_iter().zip(y_bar).map(|(y, bar)| y * *bar);
                        terms.reduce(|a, b| a + b).expect("a result")
                    };
                    *to = gradient(product, x);
                };
                Some(Peer::new(NAME, (program, vector, y_bar), (zero, vector), compute, move |(y, x_bar)| {
                    let mut results = named(x_bar.as_slice(), &inputs, |name| format!("{name}_bar"));
                    results.extend(scalar.then(|| (outputs[0].0.into(), vec![y.wide()])));
                    results
                }))
            }
            Kind::Jacobian => {
                let zeros = (SVector::<F, O>::repeat(zero), SMatrix::<F, O, I>::repeat(zero));
                let compute = |(program, x): &(P, SVector<F, I>), to: &mut (SVector<F, O>, SMatrix<F, O, I>)| {
                    *to = jacobian(|x: SVector<DualSVec<F, I>, I>| SVector::from(program.run(&x.into())), x);
                };
                Some(Peer::new(NAME, (program, vector), zeros, compute, move |(y, all)| {
                    let mut results = named(y.as_slice(), &outputs, str::to_owned);
                    results.extend(blocks(all, &outputs, &inputs, |y, x| format!("{y}_{x}")));
                    results
                }))
            }
            Kind::Hessian => {
                let zeros = (zero, vector, SMatrix::<F, I, I>::repeat(zero));
                let compute = |(program, x): &(P, SVector<F, I>), to: &mut (F, SVector<F, I>, SMatrix<F, I, I>)| {
                    *to = hessian(|x: SVector<Dual2SVec<F, I>, I>| program.run(&x.into())[0], x);
                };
                Some(Peer::new(NAME, (program, vector), zeros, compute, move |(y, x_bar, all)| {
                    let mut results = named(x_bar.as_slice(), &inputs, |name| format!("{name}_bar"));
                    results.insert(outputs[0].0.into(), vec![y.wide()]);
                    results.extend(blocks(all, &inputs, &inputs, |a, b| format!("{}_{a}_{b}", outputs[0].0)));
                    results
                }))
            }
            Kind::Hvp | Kind::ValueGradAndHvp => None,
        }
    }
}

/// The peers of a function, of the programs that are small.
pub fn peers(kernel: &'static KernelInfo, function: &FunctionInfo, inputs: &Tensors) -> Option<Peer> {
    let call = Call { kernel, function, inputs };
    match (kernel.op, kernel.name, kernel.scalar) {
        ("scalar", _, Scalar::F64) => call.dual::<f64, _, 3, 1>(Scalars),
        ("rosenbrock", "n2", Scalar::F64) => call.dual::<f64, _, 2, 1>(Rosenbrock),
        ("rosenbrock", "n10", Scalar::F64) => call.dual::<f64, _, 10, 1>(Rosenbrock),
        ("rosenbrock", "n1000", Scalar::F64) => call.plain::<f64, _, 1000, 1>(Rosenbrock),
        ("quadrotor", _, Scalar::F32) => call.dual::<f32, _, 16, 12>(Quadrotor),
        ("quadrotor", _, Scalar::F64) => call.dual::<f64, _, 16, 12>(Quadrotor),
        ("arm", _, Scalar::F64) => call.dual::<f64, _, 6, 12>(Arm),
        // Derivatives by all of the weights are not what dual numbers are for.
        ("mlp_tiny", _, Scalar::F32) => call.plain::<f32, _, 4, 2>(MlpTiny::new(inputs)),
        ("mlp_tiny", _, Scalar::F64) => call.plain::<f64, _, 4, 2>(MlpTiny::new(inputs)),
        ("mlp_tiny_input", _, Scalar::F32) => call.dual::<f32, _, 4, 2>(MlpTiny::new(inputs)),
        ("mlp_tiny_input", _, Scalar::F64) => call.dual::<f64, _, 4, 2>(MlpTiny::new(inputs)),
        ("bundle", "single", Scalar::F64) => {
            let feature = std::array::from_fn(|f| inputs.get("feature").map_or(0.0, |all| all[f]));
            call.dual::<f64, _, 15, 3>(Bundle(feature))
        }
        _ => None,
    }
}
