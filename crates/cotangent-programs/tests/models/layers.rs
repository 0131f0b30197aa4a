//! Layers of networks: takes batches of vectors or images, channels last, gives what the layer makes of them.

use super::{Number, Point, real, zeros};

/// Where the inputs of a network are drawn: targets are distributions, or near to one; weights so small that no layer
/// saturates.
pub fn range(tensor: &str) -> (f64, f64) {
    match tensor {
        "x" => (-1.0, 1.0),
        "t" => (0.0, 0.2),
        _ => (-0.3, 0.3),
    }
}

/// `x: [n, d]` times `w: [d, h]`, and the bias of each of `h` units.
pub fn dense<D: Number>(x: &[D], w: &[D], bias: &[D]) -> Vec<D> {
    let h = bias.len();
    let d = w.len() / h;
    let mut y = Vec::with_capacity(x.len() / d * h);
    for row in x.chunks(d) {
        let mut sums = bias.to_vec();
        for (x, w) in row.iter().zip(w.chunks(h)) {
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum += *x * *w;
            }
        }
        y.extend(sums);
    }
    y
}

/// What is above zero; at zero and below it zero, as constant.
pub fn relu<D: Number>(x: &[D]) -> Vec<D> {
    x.iter().map(|x| if x.re() > 0.0 { *x } else { real(0.0) }).collect()
}

/// Images of `rows` by `columns` pixels.
#[derive(Clone, Copy)]
pub struct Images {
    /// How many.
    pub n: usize,
    pub rows: usize,
    pub columns: usize,
    pub channels: usize,
}

impl Images {
    /// The images of an input `x: [N, S, Cx]`.
    pub fn of<D: Number>(p: &Point<D>) -> Self {
        let &[rows, columns] = p.extents("S") else { panic!("images") };
        Images { n: p.size("N"), rows, columns, channels: p.size("Cx") }
    }

    fn at(self, n: usize, row: usize, column: usize, channel: usize) -> usize {
        ((n * self.rows + row) * self.columns + column) * self.channels + channel
    }

    fn len(self) -> usize {
        self.n * self.rows * self.columns * self.channels
    }

    /// Cross-correlation with square kernels `k: [t, t, cx, cy]` and a bias for each of `cy` channels; zeros around the
    /// image.
    pub fn conv<D: Number>(
        self,
        x: &[D],
        k: &[D],
        bias: &[D],
        t: usize,
        stride: usize,
        padding: usize,
    ) -> (Self, Vec<D>) {
        let extent = |s: usize| (s + 2 * padding - t) / stride + 1;
        let (rows, columns, channels) = (extent(self.rows), extent(self.columns), bias.len());
        let out = Images { rows, columns, channels, ..self };
        assert_eq!((x.len(), k.len()), (self.len(), t * t * self.channels * channels));
        let mut y = zeros(out.len());
        for n in 0..self.n {
            for row in 0..rows {
                for column in 0..columns {
                    let from = out.at(n, row, column, 0);
                    let sums = &mut y[from..from + channels];
                    sums.copy_from_slice(bias);
                    for (dr, dc) in (0..t * t).map(|tap| (tap / t, tap % t)) {
                        let (r, c) = (row * stride + dr, column * stride + dc);
                        if r < padding || c < padding || r - padding >= self.rows || c - padding >= self.columns {
                            continue;
                        }
                        for channel in 0..self.channels {
                            let x = x[self.at(n, r - padding, c - padding, channel)];
                            let from = ((dr * t + dc) * self.channels + channel) * channels;
                            for (sum, k) in sums.iter_mut().zip(&k[from..from + channels]) {
                                *sum += x * *k;
                            }
                        }
                    }
                }
            }
        }
        (out, y)
    }

    /// The largest of each window of `w` by `w`; what does not fill one is left out.
    pub fn largest<D: Number>(self, x: &[D], w: usize) -> (Self, Vec<D>) {
        let out = Images { rows: self.rows / w, columns: self.columns / w, ..self };
        let mut y = Vec::with_capacity(out.len());
        for n in 0..out.n {
            for row in 0..out.rows {
                for column in 0..out.columns {
                    for channel in 0..out.channels {
                        let window = (0..w * w).map(|d| x[self.at(n, row * w + d / w, column * w + d % w, channel)]);
                        // The first of them: equal ones are zeros of `relu`, which do not depend on anything.
                        y.push(window.reduce(|a, b| if b.re() > a.re() { b } else { a }).expect("a window"));
                    }
                }
            }
        }
        (out, y)
    }
}

/// The logarithm of the sum of the exponentials.
pub fn logsumexp<D: Number>(z: &[D]) -> D {
    let shift = z.iter().map(|z| z.re()).fold(f64::NEG_INFINITY, f64::max);
    z.iter().map(|z| (*z - shift).exp()).sum::<D>().ln() + shift
}

/// The mean over rows of `z: [n, c]` of the cross-entropy between its softmax and `t: [n, c]`.
pub fn loss<D: Number>(z: &[D], t: &[D], c: usize) -> D {
    let n = z.len() / c;
    let mut sum = real::<D>(0.0);
    for (z, t) in z.chunks(c).zip(t.chunks(c)) {
        let total = logsumexp(z);
        z.iter().zip(t).for_each(|(z, t)| sum -= *t * (*z - total));
    }
    sum / n as f64
}
