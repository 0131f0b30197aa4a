//! Self-attention by hand in `ndarray`: takes a batch of sequences, gives their values and what a cotangent makes of
//! inputs and weights. The heads of one sequence stand beside each other in one matrix; each head's part is a view. All
//! buffers are made once.

use super::{Element, Given, Peer, Results, numbers};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut2, Axis, s};

struct Input<S> {
    x: Array3<S>,
    /// For queries, keys and values, of D by H·E, and back, of H·E by D.
    projections: [Array2<S>; 3],
    back: Array2<S>,
    y_bar: Option<Array3<S>>,
    heads: usize,
}

struct Out<S> {
    y: Array3<S>,
    /// Queries, keys and values of a sequence; then their cotangents.
    projected: [Array2<S>; 3],
    projected_bar: [Array2<S>; 3],
    /// The weights of each head of a sequence.
    weights: Vec<Array2<S>>,
    weights_bar: Array2<S>,
    o: Array2<S>,
    o_bar: Array2<S>,
    x_bar: Array3<S>,
    projections_bar: [Array2<S>; 3],
    back_bar: Array2<S>,
}

/// `c = factor a b + beta c`
fn product<S: Element>(factor: S, a: ArrayView2<S>, b: ArrayView2<S>, beta: S, c: &mut ArrayViewMut2<S>) {
    general_mat_mul(factor, &a, &b, beta, c);
}

impl<S: Element> Input<S> {
    fn head(&self, h: usize) -> std::ops::Range<usize> {
        let width = self.back.nrows() / self.heads;
        h * width..(h + 1) * width
    }

    fn scale(&self) -> S {
        S::of(1.0 / ((self.back.nrows() / self.heads) as f64).sqrt())
    }

    fn forward(&self, n: usize, out: &mut Out<S>) {
        let x = self.x.index_axis(Axis(0), n);
        for (to, w) in out.projected.iter_mut().zip(&self.projections) {
            product(S::one(), x, w.view(), S::zero(), &mut to.view_mut());
        }
        let [q, k, v] = &out.projected;
        for h in 0..self.heads {
            let [q, k, v] = [q, k, v].map(|of| of.slice(s![.., self.head(h)]));
            let weights = &mut out.weights[h];
            product(self.scale(), q, k.t(), S::zero(), &mut weights.view_mut());
            for mut row in weights.rows_mut() {
                let top = row.fold(S::neg_infinity(), |m, x| m.max(*x));
                row.mapv_inplace(|x| (x - top).exp());
                let sum = row.sum();
                row /= sum;
            }
            product(S::one(), weights.view(), v, S::zero(), &mut out.o.slice_mut(s![.., self.head(h)]));
        }
        product(S::one(), out.o.view(), self.back.view(), S::zero(), &mut out.y.index_axis_mut(Axis(0), n));
    }

    fn vjp(&self, out: &mut Out<S>) {
        let y_bar = self.y_bar.as_ref().expect("a cotangent");
        for n in 0..self.x.len_of(Axis(0)) {
            self.forward(n, out);
            // The weights' cotangents add up over the sequences.
            let beta = if n == 0 { S::zero() } else { S::one() };
            let (x, y_bar) = (self.x.index_axis(Axis(0), n), y_bar.index_axis(Axis(0), n));
            product(S::one(), out.o.t(), y_bar, beta, &mut out.back_bar.view_mut());
            product(S::one(), y_bar, self.back.t(), S::zero(), &mut out.o_bar.view_mut());
            for h in 0..self.heads {
                let head = self.head(h);
                let [q, k, v] = [0, 1, 2].map(|n: usize| out.projected[n].slice(s![.., head.clone()]));
                let [q_bar, k_bar, v_bar] = &mut out.projected_bar;
                let o_bar = out.o_bar.slice(s![.., head.clone()]);
                let (weights, bar) = (&out.weights[h], &mut out.weights_bar);
                product(S::one(), weights.t(), o_bar, S::zero(), &mut v_bar.slice_mut(s![.., head.clone()]));
                product(S::one(), o_bar, v.t(), S::zero(), &mut bar.view_mut());
                for (p, mut bar) in weights.rows().into_iter().zip(bar.rows_mut()) {
                    let mean = p.dot(&bar);
                    bar.zip_mut_with(&p, |bar, p| *bar = (*bar - mean) * *p);
                }
                product(self.scale(), bar.view(), k, S::zero(), &mut q_bar.slice_mut(s![.., head.clone()]));
                product(self.scale(), bar.t(), q, S::zero(), &mut k_bar.slice_mut(s![.., head.clone()]));
            }
            for (m, bar) in out.projected_bar.iter().enumerate() {
                product(S::one(), x.t(), bar.view(), beta, &mut out.projections_bar[m].view_mut());
                let beta = if m == 0 { S::zero() } else { S::one() };
                let x_bar = &mut out.x_bar.index_axis_mut(Axis(0), n);
                product(S::one(), bar.view(), self.projections[m].t(), beta, x_bar);
            }
        }
    }
}

/// The peer of a function of `attention`.
pub fn peer<S: Element>(given: Given<S>, function: &str) -> Option<Peer> {
    let [n, t, d, heads] = ["N", "T", "D", "H"].map(|axis| given.size(&[axis]));
    let inner = given.size(&["H", "E"]);
    let input = Input {
        x: given.array("x", [n, t, d]),
        projections: ["wq", "wk", "wv"].map(|name| given.array(name, [d, inner])),
        back: given.array("wo", [inner, d]),
        y_bar: given.inputs.contains_key("y_bar").then(|| given.array("y_bar", [n, t, d])),
        heads,
    };
    let three = |rows, columns| [(); 3].map(|()| Array2::zeros((rows, columns)));
    let out = Out {
        y: Array3::zeros((n, t, d)),
        projected: three(t, inner),
        projected_bar: three(t, inner),
        weights: vec![Array2::zeros((t, t)); heads],
        weights_bar: Array2::zeros((t, t)),
        o: Array2::zeros((t, inner)),
        o_bar: Array2::zeros((t, inner)),
        x_bar: Array3::zeros((n, t, d)),
        projections_bar: three(d, inner),
        back_bar: Array2::zeros((inner, d)),
    };
    match function {
        "forward" => {
            let all =
                |input: &Input<S>, out: &mut Out<S>| (0..input.x.len_of(Axis(0))).for_each(|n| input.forward(n, out));
            Some(Peer::new("ndarray", input, out, all, |out| Results::from([("y".into(), numbers(&out.y))])))
        }
        "vjp_store" => {
            let results = |out: &Out<S>| {
                let weights = ["wq_bar", "wk_bar", "wv_bar"].into_iter().zip(&out.projections_bar);
                let all = weights.chain([("wo_bar", &out.back_bar)]).map(|(name, bar)| (name.into(), numbers(bar)));
                all.chain([("x_bar".into(), numbers(&out.x_bar))]).collect()
            };
            Some(Peer::new("ndarray", input, out, |input, out| input.vjp(out), results))
        }
        _ => None,
    }
}
