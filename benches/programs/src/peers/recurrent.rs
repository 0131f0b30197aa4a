//! Recurrences by hand in `ndarray`: takes a sequence, gives the states and what cotangents make of inputs and weights.
//! What does not depend on the state is one product for all steps; a step itself has products of a matrix and a vector;
//! gradients of weights are products over all steps at the end. All buffers are made once.

use super::{Element, Given, Peer, Results, numbers};
use ndarray::linalg::{general_mat_mul, general_mat_vec_mul};
use ndarray::{Array1, Array2, ArrayView1, Axis, Zip};

fn logistic<S: Element>(x: S) -> S {
    S::one() / (S::one() + (-x).exp())
}

/// The matrices of the gates, in the order of their letters.
struct Input<S> {
    letters: &'static [&'static str],
    x: Array2<S>,
    h0: Array1<S>,
    c0: Option<Array1<S>>,
    w: Vec<Array2<S>>,
    u: Vec<Array2<S>>,
    b: Vec<Array1<S>>,
    /// The bias beside the state's product in the candidate of a GRU.
    cn: Option<Array1<S>>,
    h_bar: Option<Array2<S>>,
    c_bar: Option<Array2<S>>,
}

/// What is kept of all steps, and the cotangents.
struct Out<S> {
    gates: Vec<Array2<S>>,
    /// States before each step.
    s: Array2<S>,
    /// The candidate's product with the state (GRU), or the hyperbolic tangent of the cell (LSTM).
    m: Array2<S>,
    h: Array2<S>,
    c: Array2<S>,
    /// Cotangents of what the gates' functions are of; of `m` for a GRU.
    gates_bar: Vec<Array2<S>>,
    m_bar: Array2<S>,
    state_bar: Array1<S>,
    cell_bar: Array1<S>,
    x_bar: Array2<S>,
    w_bar: Vec<Array2<S>>,
    u_bar: Vec<Array2<S>>,
    b_bar: Vec<Array1<S>>,
    cn_bar: Array1<S>,
}

impl<S: Element> Input<S> {
    fn new(given: &Given<S>, letters: &'static [&'static str]) -> Self {
        let [t, d, h] = ["T", "D", "H"].map(|axis| given.size(&[axis]));
        let optional = |name: &str| given.inputs.contains_key(name).then(|| given.array(name, [h]));
        let all = |name: &str| given.inputs.contains_key(name).then(|| given.array(name, [t, h]));
        Input {
            letters,
            x: given.array("x", [t, d]),
            h0: given.array("h0", [h]),
            c0: optional("c0"),
            w: letters.iter().map(|l| given.array(&format!("w{l}"), [d, h])).collect(),
            u: letters.iter().map(|l| given.array(&format!("u{l}"), [h, h])).collect(),
            b: letters.iter().map(|l| given.array(&format!("b{l}"), [h])).collect(),
            cn: optional("cn"),
            h_bar: all("h_bar"),
            c_bar: all("c_bar"),
        }
    }

    fn out(&self) -> Out<S> {
        let (t, d, h, gates) = (self.x.nrows(), self.x.ncols(), self.h0.len(), self.letters.len());
        let all = || Array2::zeros((t, h));
        Out {
            gates: vec![all(); gates],
            s: all(),
            m: all(),
            h: all(),
            c: all(),
            gates_bar: vec![all(); gates],
            m_bar: all(),
            state_bar: Array1::zeros(h),
            cell_bar: Array1::zeros(h),
            x_bar: Array2::zeros((t, d)),
            w_bar: vec![Array2::zeros((d, h)); gates],
            u_bar: vec![Array2::zeros((h, h)); gates],
            b_bar: vec![Array1::zeros(h); gates],
            cn_bar: Array1::zeros(h),
        }
    }

    /// What of the gates does not depend on the state.
    fn before_steps(&self, out: &mut Out<S>) {
        for ((to, w), b) in out.gates.iter_mut().zip(&self.w).zip(&self.b) {
            general_mat_mul(S::one(), &self.x, w, S::zero(), to);
            *to += b;
        }
    }

    /// `to += s u`
    fn add_state(u: &Array2<S>, s: ArrayView1<S>, to: &mut ndarray::ArrayViewMut1<S>) {
        general_mat_vec_mul(S::one(), &u.t(), &s, S::one(), to);
    }

    fn gru_forward(&self, out: &mut Out<S>) {
        self.before_steps(out);
        let cn = self.cn.as_ref().expect("a GRU's bias");
        for t in 0..self.x.nrows() {
            let state = if t == 0 { self.h0.to_owned() } else { out.h.row(t - 1).to_owned() };
            out.s.row_mut(t).assign(&state);
            for gate in 0..2 {
                let mut row = out.gates[gate].row_mut(t);
                Self::add_state(&self.u[gate], state.view(), &mut row);
                row.mapv_inplace(logistic);
            }
            let mut m = out.m.row_mut(t);
            m.assign(cn);
            Self::add_state(&self.u[2], state.view(), &mut m);
            let [z, r, n] = &mut out.gates[..] else { unreachable!("three gates") };
            let mut n = n.row_mut(t);
            Zip::from(&mut n).and(r.row(t)).and(&m).for_each(|n, r, m| *n = (*n + *r * *m).tanh());
            Zip::from(out.h.row_mut(t))
                .and(&n)
                .and(z.row(t))
                .and(&state)
                .for_each(|h, n, z, s| *h = *n + *z * (*s - *n));
        }
    }

    fn gru_vjp(&self, out: &mut Out<S>) {
        self.gru_forward(out);
        let h_bar = self.h_bar.as_ref().expect("a cotangent");
        out.state_bar.fill(S::zero());
        for t in (0..self.x.nrows()).rev() {
            out.state_bar += &h_bar.row(t);
            let one = S::one();
            for k in 0..self.h0.len() {
                let [z, r, n] = [0, 1, 2].map(|gate: usize| out.gates[gate][[t, k]]);
                let (s, m, bar) = (out.s[[t, k]], out.m[[t, k]], out.state_bar[k]);
                let n_bar = bar * (one - z) * (one - n * n);
                out.gates_bar[0][[t, k]] = bar * (s - n) * z * (one - z);
                out.gates_bar[1][[t, k]] = n_bar * m * r * (one - r);
                out.gates_bar[2][[t, k]] = n_bar;
                out.m_bar[[t, k]] = n_bar * r;
                out.state_bar[k] = bar * z;
            }
            for (u, bar) in self.u.iter().zip([&out.gates_bar[0], &out.gates_bar[1], &out.m_bar]) {
                general_mat_vec_mul(one, u, &bar.row(t), one, &mut out.state_bar);
            }
        }
        self.after_steps(out, true);
    }

    fn lstm_forward(&self, out: &mut Out<S>) {
        self.before_steps(out);
        for t in 0..self.x.nrows() {
            let state = if t == 0 { self.h0.to_owned() } else { out.h.row(t - 1).to_owned() };
            out.s.row_mut(t).assign(&state);
            for (gate, u) in self.u.iter().enumerate() {
                let mut row = out.gates[gate].row_mut(t);
                Self::add_state(u, state.view(), &mut row);
                row.mapv_inplace(if gate == 2 { S::tanh } else { logistic });
            }
            for k in 0..self.h0.len() {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate: usize| out.gates[gate][[t, k]]);
                let c = f * self.cell(out, t, k) + i * g;
                out.c[[t, k]] = c;
                out.m[[t, k]] = c.tanh();
                out.h[[t, k]] = o * out.m[[t, k]];
            }
        }
    }

    /// The cell before a step.
    fn cell(&self, out: &Out<S>, t: usize, k: usize) -> S {
        if t == 0 { self.c0.as_ref().expect("a cell")[k] } else { out.c[[t - 1, k]] }
    }

    fn lstm_vjp(&self, out: &mut Out<S>) {
        self.lstm_forward(out);
        let (h_bar, c_bar) = (self.h_bar.as_ref().expect("a cotangent"), self.c_bar.as_ref().expect("a cotangent"));
        out.state_bar.fill(S::zero());
        out.cell_bar.fill(S::zero());
        let one = S::one();
        for t in (0..self.x.nrows()).rev() {
            out.state_bar += &h_bar.row(t);
            out.cell_bar += &c_bar.row(t);
            for k in 0..self.h0.len() {
                let [i, f, g, o] = [0, 1, 2, 3].map(|gate: usize| out.gates[gate][[t, k]]);
                let (a, bar) = (out.m[[t, k]], out.state_bar[k]);
                let cell_bar = out.cell_bar[k] + bar * o * (one - a * a);
                out.gates_bar[0][[t, k]] = cell_bar * g * i * (one - i);
                out.gates_bar[1][[t, k]] = cell_bar * self.cell(out, t, k) * f * (one - f);
                out.gates_bar[2][[t, k]] = cell_bar * i * (one - g * g);
                out.gates_bar[3][[t, k]] = bar * a * o * (one - o);
                out.cell_bar[k] = cell_bar * f;
            }
            out.state_bar.fill(S::zero());
            for (u, bar) in self.u.iter().zip(&out.gates_bar) {
                general_mat_vec_mul(one, u, &bar.row(t), one, &mut out.state_bar);
            }
        }
        self.after_steps(out, false);
    }

    /// The cotangents that are sums over the steps.
    fn after_steps(&self, out: &mut Out<S>, gru: bool) {
        for gate in 0..self.letters.len() {
            let bar = &out.gates_bar[gate];
            let of_state = if gru && gate == 2 { &out.m_bar } else { bar };
            let beta = if gate == 0 { S::zero() } else { S::one() };
            general_mat_mul(S::one(), bar, &self.w[gate].t(), beta, &mut out.x_bar);
            general_mat_mul(S::one(), &self.x.t(), bar, S::zero(), &mut out.w_bar[gate]);
            general_mat_mul(S::one(), &out.s.t(), of_state, S::zero(), &mut out.u_bar[gate]);
            out.b_bar[gate].assign(&bar.sum_axis(Axis(0)));
        }
        if gru {
            out.cn_bar.assign(&out.m_bar.sum_axis(Axis(0)));
        }
    }
}

/// What a function computes, over all inputs.
type Compute<S> = fn(&Input<S>, &mut Out<S>);

fn peer<S: Element>(
    given: Given<S>,
    function: &str,
    letters: &'static [&'static str],
    forward: Compute<S>,
    vjp: Compute<S>,
) -> Option<Peer> {
    let compute = match function {
        "forward" => forward,
        "vjp_store" => vjp,
        _ => return None,
    };
    let input = Input::new(&given, letters);
    let out = input.out();
    let results = move |out: &Out<S>| -> Results {
        let mut results = Results::from([
            ("h".into(), numbers(&out.h)),
            ("c".into(), numbers(&out.c)),
            ("x_bar".into(), numbers(&out.x_bar)),
            ("h0_bar".into(), numbers(&out.state_bar)),
            ("c0_bar".into(), numbers(&out.cell_bar)),
            ("cn_bar".into(), numbers(&out.cn_bar)),
        ]);
        for (gate, letter) in letters.iter().enumerate() {
            results.insert(format!("w{letter}_bar"), numbers(&out.w_bar[gate]));
            results.insert(format!("u{letter}_bar"), numbers(&out.u_bar[gate]));
            results.insert(format!("b{letter}_bar"), numbers(&out.b_bar[gate]));
        }
        results
    };
    Some(Peer::new("ndarray", input, out, compute, results))
}

/// The peer of a function of `gru`.
pub fn gru<S: Element>(given: Given<S>, function: &str) -> Option<Peer> {
    peer(given, function, &["z", "r", "n"], Input::gru_forward, Input::gru_vjp)
}

/// The peer of a function of `lstm`.
pub fn lstm<S: Element>(given: Given<S>, function: &str) -> Option<Peer> {
    peer(given, function, &["i", "f", "g", "o"], Input::lstm_forward, Input::lstm_vjp)
}
