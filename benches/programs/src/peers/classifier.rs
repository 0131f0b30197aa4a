//! Classifiers by hand in `ndarray`: takes images, weights and the distributions that are wanted, gives the mean
//! cross-entropy and its gradient. Dense layers are products of matrices, convolutions are such products of columns
//! that hold the windows (im2col). All buffers are made once.

use super::{Element, Given, Peer, numbers};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// What follows a product and its bias.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Activation {
    None,
    Tanh,
    Relu,
}

/// Images that a window moves over: images, rows, columns, channels, in that order in memory.
#[derive(Clone, Copy)]
struct Window {
    images: usize,
    from: [usize; 2],
    channels: usize,
    taps: [usize; 2],
    to: [usize; 2],
    stride: usize,
    padding: usize,
}

impl Window {
    /// Calls `f` with each run of a window that lies in the image, the places of its start in the columns and in the
    /// images, and its length.
    fn runs(&self, mut f: impl FnMut(usize, usize, usize)) {
        let Window { images, from, channels, taps, to, stride, padding } = *self;
        let row = taps[1] * channels;
        let mut column = 0;
        for n in 0..images {
            for p in 0..to[0] {
                for q in 0..to[1] {
                    let first = (q * stride).max(padding);
                    let last = (q * stride + taps[1]).min(from[1] + padding);
                    for t in 0..taps[0] {
                        let y = p * stride + t;
                        if y >= padding && y < from[0] + padding {
                            let pixel = (n * from[0] + y - padding) * from[1] + first - padding;
                            let skipped = (first - q * stride) * channels;
                            f(column + skipped, pixel * channels, (last - first) * channels);
                        }
                        column += row;
                    }
                }
            }
        }
    }
}

/// A product with its bias, its activation, and the maximum over windows.
struct Layer<S> {
    names: [&'static str; 2],
    window: Option<Window>,
    weight: Array2<S>,
    bias: Array1<S>,
    activation: Activation,
    pool: Option<Pool>,
}

/// Windows that do not overlap, of pixels of images; what they do not fill is left out.
#[derive(Clone, Copy)]
struct Pool {
    images: usize,
    from: [usize; 2],
    extents: [usize; 2],
}

impl Pool {
    fn to(&self) -> [usize; 2] {
        [0, 1].map(|d: usize| self.from[d] / self.extents[d])
    }

    /// Calls `f` with the number of each window and its first pixel.
    fn windows(&self, mut f: impl FnMut(usize, usize)) {
        let [rows, columns] = self.to();
        for n in 0..self.images {
            for p in 0..rows {
                for q in 0..columns {
                    let pixel = (n * self.from[0] + p * self.extents[0]) * self.from[1] + q * self.extents[1];
                    f((n * rows + p) * columns + q, pixel);
                }
            }
        }
    }
}

/// What a layer computes.
struct Buffers<S> {
    columns: Array2<S>,
    value: Array2<S>,
    pooled: Vec<S>,
    winners: Vec<usize>,
    value_bar: Array2<S>,
    columns_bar: Array2<S>,
    input_bar: Vec<S>,
    weight_bar: Array2<S>,
    bias_bar: Array1<S>,
}

impl<S: Element> Layer<S> {
    fn buffers(&self, inputs: usize) -> Buffers<S> {
        let (depth, width) = self.weight.dim();
        let rows = match &self.window {
            Some(window) => window.images * window.to[0] * window.to[1],
            None => inputs / depth,
        };
        let columns = Array2::zeros((if self.window.is_some() { rows } else { 0 }, depth));
        let pooled = self.pool.map_or(0, |pool| pool.images * pool.to()[0] * pool.to()[1] * width);
        Buffers {
            columns_bar: columns.clone(),
            columns,
            value: Array2::zeros((rows, width)),
            pooled: vec![S::zero(); pooled],
            winners: vec![0; pooled],
            value_bar: Array2::zeros((rows, width)),
            input_bar: vec![S::zero(); inputs],
            weight_bar: Array2::zeros((depth, width)),
            bias_bar: Array1::zeros(width),
        }
    }

    fn forward(&self, input: &[S], to: &mut Buffers<S>) {
        let Buffers { columns, value, pooled, winners, .. } = to;
        match &self.window {
            Some(window) => {
                // What lies outside was zero when the buffer was made.
                let to = flat_mut(columns);
                window.runs(|column, pixel, length| {
                    to[column..column + length].copy_from_slice(&input[pixel..pixel + length]);
                });
                general_mat_mul(S::one(), columns, &self.weight, S::zero(), value);
            }
            None => general_mat_mul(S::one(), &matrix(input, self.weight.nrows()), &self.weight, S::zero(), value),
        }
        *value += &self.bias;
        match self.activation {
            Activation::None => {}
            Activation::Tanh => value.mapv_inplace(S::tanh),
            Activation::Relu => value.mapv_inplace(|x| if x > S::zero() { x } else { S::zero() }),
        }
        if let Some(pool) = self.pool {
            let (width, value) = (self.weight.ncols(), flat(value));
            pool.windows(|window, first| {
                for c in 0..width {
                    let (mut winner, mut best) = (0, S::neg_infinity());
                    for row in 0..pool.extents[0] {
                        for column in 0..pool.extents[1] {
                            let place = (first + row * pool.from[1] + column) * width + c;
                            if value[place] > best {
                                (winner, best) = (place, value[place]);
                            }
                        }
                    }
                    (winners[window * width + c], pooled[window * width + c]) = (winner, best);
                }
            });
        }
    }

    /// From the cotangent of what the layer gave, which is in `value_bar` unless `pooled_bar` is given.
    fn backward(&self, input: &[S], pooled_bar: Option<&[S]>, input_wanted: bool, of: &mut Buffers<S>) {
        let Buffers { columns, value, winners, value_bar, columns_bar, input_bar, weight_bar, bias_bar, .. } = of;
        if let Some(pooled_bar) = pooled_bar {
            let to = flat_mut(value_bar);
            if self.pool.is_some() {
                to.fill(S::zero());
                winners.iter().zip(pooled_bar).for_each(|(winner, bar)| to[*winner] = *bar);
            } else {
                to.copy_from_slice(pooled_bar);
            }
        }
        match self.activation {
            Activation::None => {}
            Activation::Tanh => value_bar.zip_mut_with(value, |bar, y| *bar *= S::one() - *y * *y),
            Activation::Relu => value_bar.zip_mut_with(value, |bar, y| {
                if *y <= S::zero() {
                    *bar = S::zero();
                }
            }),
        }
        bias_bar.assign(&value_bar.sum_axis(Axis(0)));
        let depth = self.weight.nrows();
        match &self.window {
            Some(window) => {
                general_mat_mul(S::one(), &columns.t(), value_bar, S::zero(), weight_bar);
                if input_wanted {
                    general_mat_mul(S::one(), value_bar, &self.weight.t(), S::zero(), columns_bar);
                    input_bar.fill(S::zero());
                    let from = flat(columns_bar);
                    window.runs(|column, pixel, length| {
                        let from = &from[column..column + length];
                        input_bar[pixel..pixel + length].iter_mut().zip(from).for_each(|(to, from)| *to += *from);
                    });
                }
            }
            None => {
                general_mat_mul(S::one(), &matrix(input, depth).t(), value_bar, S::zero(), weight_bar);
                if input_wanted {
                    let rows = input_bar.len() / depth;
                    let mut input_bar = ndarray::ArrayViewMut2::from_shape((rows, depth), input_bar).expect("rows");
                    general_mat_mul(S::one(), value_bar, &self.weight.t(), S::zero(), &mut input_bar);
                }
            }
        }
    }

    /// What the next layer reads.
    fn given<'a>(&self, buffers: &'a Buffers<S>) -> &'a [S] {
        if self.pool.is_some() { &buffers.pooled } else { flat(&buffers.value) }
    }
}

fn flat<S>(array: &Array2<S>) -> &[S] {
    array.as_slice().expect("stored by rows")
}

fn flat_mut<S>(array: &mut Array2<S>) -> &mut [S] {
    array.as_slice_mut().expect("stored by rows")
}

fn matrix<S>(elements: &[S], columns: usize) -> ArrayView2<'_, S> {
    ArrayView2::from_shape((elements.len() / columns, columns), elements).expect("rows of equal length")
}

/// A network, its input, and the distributions that are wanted.
struct Net<S> {
    x: Vec<S>,
    t: Array2<S>,
    layers: Vec<Layer<S>>,
}

struct Out<S> {
    loss: S,
    buffers: Vec<Buffers<S>>,
}

impl<S: Element> Net<S> {
    /// The loss; where `gradient` the cotangent of the logits goes into the last layer.
    fn value(&self, out: &mut Out<S>, gradient: bool) {
        for (n, layer) in self.layers.iter().enumerate() {
            let (before, at) = out.buffers.split_at_mut(n);
            layer.forward(self.input(before, n), &mut at[0]);
        }
        let last = out.buffers.last_mut().expect("a layer");
        let batch = S::of(self.t.nrows() as f64);
        let mut loss = S::zero();
        for ((z, t), mut bar) in last.value.rows().into_iter().zip(self.t.rows()).zip(last.value_bar.rows_mut()) {
            let top = z.fold(S::neg_infinity(), |m, z| m.max(*z));
            bar.assign(&z);
            bar.mapv_inplace(|z| (z - top).exp());
            let sum = bar.sum();
            let log = sum.ln();
            loss += z.iter().zip(t).map(|(z, t)| *t * (log - (*z - top))).fold(S::zero(), |a, b| a + b);
            if gradient {
                let factor = t.sum() / sum;
                bar.zip_mut_with(&t, |e, t| *e = (*e * factor - *t) / batch);
            }
        }
        out.loss = loss / batch;
    }

    fn input<'a>(&'a self, before: &'a [Buffers<S>], n: usize) -> &'a [S] {
        if n == 0 { &self.x } else { self.layers[n - 1].given(&before[n - 1]) }
    }

    fn value_and_grad(&self, out: &mut Out<S>) {
        self.value(out, true);
        for (n, layer) in self.layers.iter().enumerate().rev() {
            let (before, at) = out.buffers.split_at_mut(n);
            let (of, after) = at.split_first_mut().expect("this layer");
            let bar = after.first().map(|after| after.input_bar.as_slice());
            layer.backward(self.input(before, n), bar, n > 0, of);
        }
    }
}

/// The peer of a function of `mlp`, `cnn` or `lenet`.
pub fn peer<S: Element>(given: Given<S>, function: &str) -> Option<Peer> {
    let dense = |names: [&'static str; 2], depth: &[&str], width: &str, activation| Layer {
        names,
        window: None,
        weight: given.array(names[0], [given.size(depth), given.size(&[width])]),
        bias: given.array(names[1], [given.size(&[width])]),
        activation,
        pool: None,
    };
    let pair = |name: &str| -> [usize; 2] { given.axis(name).try_into().expect("images have two dimensions") };
    let conv = |names: [&'static str; 2], from: &str, channels: &str, to: &str, width: &str, stride, padded| {
        let window = Window {
            images: given.size(&["N"]),
            from: pair(from),
            channels: given.size(&[channels]),
            taps: pair("T"),
            to: pair(to),
            stride,
            padding: if padded { pair("T")[0] / 2 } else { 0 },
        };
        let weight = given.array(names[0], [given.size(&["T", channels]), given.size(&[width])]);
        let bias = given.array(names[1], [given.size(&[width])]);
        Layer { names, window: Some(window), weight, bias, activation: Activation::Relu, pool: None }
    };
    let pooled = |layer: Layer<S>| {
        let pool = layer.window.map(|w| Pool { images: w.images, from: w.to, extents: pair("W") });
        Layer { pool, ..layer }
    };
    let (batch, layers) = match given.kernel.op {
        "mlp" => (
            "B",
            vec![
                dense(["w1", "b1"], &["D"], "H", Activation::Tanh),
                dense(["w2", "b2"], &["H"], "C", Activation::None),
            ],
        ),
        "cnn" => (
            "N",
            vec![
                conv(["k1", "b1"], "S", "Cx", "P", "E", 2, true),
                conv(["k2", "b2"], "P", "E", "Q", "F", 2, true),
                dense(["w3", "b3"], &["Q", "F"], "C", Activation::None),
            ],
        ),
        "lenet" => (
            "N",
            vec![
                pooled(conv(["k1", "b1"], "S", "Cx", "O", "E", 1, true)),
                pooled(conv(["k2", "b2"], "P", "E", "O2", "F", 1, false)),
                dense(["w3", "b3"], &["Q", "F"], "G", Activation::Relu),
                dense(["w4", "b4"], &["G"], "H", Activation::Relu),
                dense(["w5", "b5"], &["H"], "C", Activation::None),
            ],
        ),
        _ => return None,
    };
    let x = given.inputs["x"].iter().map(|x| S::of(*x)).collect();
    let net = Net { x, t: given.array("t", [given.size(&[batch]), given.size(&["C"])]), layers };
    let mut out = Out { loss: S::zero(), buffers: Vec::new() };
    for (n, layer) in net.layers.iter().enumerate() {
        let inputs = net.input(&out.buffers, n).len();
        out.buffers.push(layer.buffers(inputs));
    }
    match function {
        "forward" => Some(Peer::new("ndarray", net, out, |net, out| net.value(out, false), |out| loss(out).into())),
        "value_and_grad" => {
            let names: Vec<_> = net.layers.iter().map(|layer| layer.names).collect();
            let results = move |out: &Out<S>| {
                let gradient = names.iter().zip(&out.buffers).flat_map(|([w, b], of)| {
                    [(format!("{w}_bar"), numbers(&of.weight_bar)), (format!("{b}_bar"), numbers(&of.bias_bar))]
                });
                gradient.chain(loss(out)).collect()
            };
            Some(Peer::new("ndarray", net, out, |net, out| net.value_and_grad(out), results))
        }
        _ => None,
    }
}

fn loss<S: Element>(out: &Out<S>) -> [(String, Vec<f64>); 1] {
    [("loss".into(), vec![out.loss.wide()])]
}
