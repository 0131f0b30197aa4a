//! The harness: takes the contestants of a row, all of which compute the same, gives their times and the limits of the
//! core at that time.
//!
//! The rounds are those of `cotangent-measure`. Beside the core's limits streams over a row's own arrays take their
//! turns. A row of the full run takes two seconds.

use crate::machine::{self, Streams, Width};
use cotangent::Tensor;
pub use cotangent_measure::{Aligned, Contestant, Time};
use cotangent_measure::{Core, Number, Plan, Samples, core_contestants, core_of, rounds};
use std::hint::black_box;
use std::time::Duration;

/// What a row writes: a tensor, or several.
pub trait Output {
    /// All elements, to compare.
    fn numbers(&self) -> Vec<f64>;
    /// Makes every element something that nobody computes.
    fn spoil(&mut self);
}

impl<T: Tensor<Scalar: Number>> Output for Box<Aligned<T>> {
    fn numbers(&self) -> Vec<f64> {
        self.flat().iter().map(|x| x.wide()).collect()
    }
    fn spoil(&mut self) {
        self.flat_mut().fill(T::Scalar::of(7777.0));
    }
}

impl<A: Output, B: Output> Output for (A, B) {
    fn numbers(&self) -> Vec<f64> {
        [self.0.numbers(), self.1.numbers()].concat()
    }
    fn spoil(&mut self) {
        self.0.spoil();
        self.1.spoil();
    }
}

impl<A: Output, B: Output, C: Output> Output for (A, B, C) {
    fn numbers(&self) -> Vec<f64> {
        [self.0.numbers(), self.1.numbers(), self.2.numbers()].concat()
    }
    fn spoil(&mut self) {
        self.0.spoil();
        self.1.spoil();
        self.2.spoil();
    }
}

/// Rows whose geometric mean is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// `z = x y` in `f32`
    ProductNn,
    /// `x_bar = z_bar yᵀ` in `f32`
    ProductNt,
    /// `y_bar = xᵀ z_bar` in `f32`
    ProductTn,
    /// `z = x y` in `f64`
    ProductF64,
    /// Value and tangent of a product.
    ProductJvp,
    /// Products over a batch.
    Batch,
    /// Loops over small products.
    Many,
    /// Convolution.
    ConvForward,
    /// Its cotangent of the image.
    ConvX,
    /// Its cotangent of the kernel.
    ConvK,
    /// Value and tangent of a convolution.
    ConvJvp,
    /// Element by element, and sums.
    Elementwise,
    /// Softmax and normalisation.
    Rows,
}

impl Group {
    /// Every group, in the order of the output.
    pub const ALL: [Group; 13] = [
        Group::ProductNn,
        Group::ProductNt,
        Group::ProductTn,
        Group::ProductF64,
        Group::ProductJvp,
        Group::Batch,
        Group::Many,
        Group::ConvForward,
        Group::ConvX,
        Group::ConvK,
        Group::ConvJvp,
        Group::Elementwise,
        Group::Rows,
    ];

    /// What the output calls it.
    pub fn name(self) -> &'static str {
        match self {
            Group::ProductNn => "products NN f32",
            Group::ProductNt => "products NT f32",
            Group::ProductTn => "products TN f32",
            Group::ProductF64 => "products NN f64",
            Group::ProductJvp => "products jvp",
            Group::Batch => "batched products",
            Group::Many => "loops over small products",
            Group::ConvForward => "conv forward",
            Group::ConvX => "conv x_bar",
            Group::ConvK => "conv k_bar",
            Group::ConvJvp => "conv jvp",
            Group::Elementwise => "elementwise",
            Group::Rows => "softmax, layer norm",
        }
    }
}

/// What a row computes.
pub struct Spec {
    /// The op.
    pub op: &'static str,
    /// Its extents.
    pub shape: String,
    /// `forward`, `jvp`, `vjp_x`, ...
    pub mode: &'static str,
    /// Where it counts.
    pub group: Group,
    /// Whether the scalars are `f64`.
    pub double: bool,
    /// Arithmetic operations: those of the definition, padding counted in, a function as one.
    pub flops: f64,
    /// Bytes that must be read or written at least: each argument once.
    pub bytes: f64,
    /// Elements, where cycles per element are of interest.
    pub elements: Option<f64>,
    /// Of a product the most scalars that a vector can have from one place of memory: those of a row of its result, or of
    /// the rows that it sums along.
    pub lanes: Option<usize>,
    /// Of a single product of matrices, its extents.
    pub product: Option<Product>,
}

/// A product of matrices.
#[derive(Clone, Copy)]
pub struct Product {
    /// Rows of the result.
    pub rows: usize,
    /// Scalars of a row of the result.
    pub columns: usize,
    /// Whether vectors along the rows of the result come from an operand that must be transposed for it.
    pub transposed: bool,
}

impl Product {
    /// Bytes that must be loaded for each multiply-add of a vector, at least: of the tiles that the registers hold, the
    /// one that loads least, with a vector or a scalar for each of its columns and rows in each iteration. What is
    /// transposed is loaded once more.
    fn bytes_per_vector(&self, vector: usize, registers: usize, size: usize) -> f64 {
        let tiles = (1..=self.columns.div_ceil(vector / size)).flat_map(|v| {
            let most = (registers - 1).saturating_sub(v) / v;
            (1..=most.min(self.rows)).map(move |r| (r + v) as f64 / (r * v) as f64)
        });
        let again = if self.transposed { 1.0 / self.rows as f64 } else { 0.0 };
        (tiles.fold(2.0, f64::min) + again) * vector as f64
    }
}

impl Spec {
    /// `op/shape/mode`
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.op, self.shape, self.mode)
    }
}

/// A row measured.
pub struct Row {
    /// What it computes.
    pub spec: Spec,
    /// The generated kernel.
    pub ours: Time,
    /// The others that computed the same.
    pub peers: Vec<(&'static str, Time)>,
    /// The core's best in the rounds of this row, in GFLOP/s.
    pub peak: f64,
    /// The same in vectors of 32 bytes.
    pub half: f64,
    /// The best stream over the same arrays in the rounds of this row, in GB/s.
    pub bandwidth: Option<f64>,
    /// Core clock in the rounds of this row.
    pub gigahertz: Option<f64>,
}

impl Row {
    /// GFLOP/s at the lowest time.
    pub fn gflops(&self) -> f64 {
        self.spec.flops / self.ours.min
    }
    /// GB/s at the lowest time.
    pub fn gbytes(&self) -> f64 {
        self.spec.bytes / self.ours.min
    }
    /// Percent of the core's fused multiply-adds.
    pub fn peak_percent(&self) -> f64 {
        100.0 * self.gflops() / self.peak
    }
    /// GFLOP/s that the row can have, and what bounds it. `loads`: GB/s from the first-level cache. Where no vector of
    /// more than 32 bytes comes from one place, a wider one takes two loads of scalars for each operation, which halves
    /// the rate again. A small product has tiles that load nearly as often as they multiply.
    pub fn roof(&self, loads: f64) -> (f64, &'static str) {
        let size = if self.spec.double { 8 } else { 4 };
        if self.spec.lanes.is_some_and(|lanes| lanes * size <= 32) {
            return (self.half, "FMA peak of 32 bytes");
        }
        let (vector, registers) = machine::widths().last().map_or((16, 16), |width| width.registers());
        let bound = self
            .spec
            .product
            .map(|product| 2.0 * (vector / size) as f64 * loads / product.bytes_per_vector(vector, registers, size));
        bound.filter(|bound| *bound < self.peak).map_or((self.peak, "FMA peak"), |bound| (bound, "loads from L1"))
    }
    /// Percent of the stream over the same arrays.
    pub fn bandwidth_percent(&self) -> Option<f64> {
        self.bandwidth.map(|b| 100.0 * self.gbytes() / b)
    }
    /// Core cycles for each element.
    pub fn cycles_per_element(&self) -> Option<f64> {
        Some(self.ours.min * self.gigahertz? / self.spec.elements?)
    }
    /// Our time over that of a peer.
    pub fn ratio(&self, peer: &str) -> Option<f64> {
        self.peers.iter().find(|(name, _)| *name == peer).map(|(_, time)| self.ours.min / time.min)
    }
    /// The fastest peer, loops built for this very machine aside: what a default build runs is compared.
    pub fn best_peer(&self) -> Option<(&'static str, f64)> {
        let ratios = self
            .peers
            .iter()
            .filter(|(name, _)| *name != FOR_THIS_MACHINE)
            .map(|(name, time)| (*name, self.ours.min / time.min));
        ratios.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// The hand-written loops as a build with AVX2 and FMA for every function makes them: shown, but no peer of a default
/// build.
pub const FOR_THIS_MACHINE: &str = "plain-fma";

/// The run: what is asked for, and what has been measured.
pub struct Bench {
    filter: Option<String>,
    budget: Duration,
    /// Rows measured so far.
    pub rows: Vec<Row>,
    /// Contestants that computed something else than the generated kernel, and were not timed.
    pub wrong: Vec<String>,
}

impl Bench {
    /// Rows whose id contains `filter`, each measured for about `budget`.
    pub fn new(filter: Option<String>, budget: Duration) -> Bench {
        Bench { filter, budget, rows: Vec::new(), wrong: Vec::new() }
    }

    /// Whether a row is asked for.
    pub fn wants(&self, spec: &Spec) -> bool {
        self.filter.as_ref().is_none_or(|filter| spec.id().contains(filter.as_str()))
    }

    /// Measures a row bounded by arithmetic.
    pub fn row<O: Output>(&mut self, spec: Spec, out: &mut O, contestants: Vec<Contestant<O>>) {
        self.measure(spec, out, contestants, Vec::new());
    }

    /// Measures a row bounded by memory. `stream` runs over the row's own arrays, as many read and written as the row
    /// does.
    pub fn row_of_streams<'a, O: Output + 'a>(
        &mut self,
        spec: Spec,
        out: &mut O,
        contestants: Vec<Contestant<O>>,
        stream: impl Fn(Width, &mut O) + Copy + 'a,
    ) {
        let widths = machine::widths().into_iter();
        let streams = widths.map(|width| Contestant::new("stream", move |out| stream(width, out))).collect();
        self.measure(spec, out, contestants, streams);
    }

    fn measure<O: Output>(
        &mut self,
        spec: Spec,
        out: &mut O,
        contestants: Vec<Contestant<O>>,
        streams: Vec<Contestant<O>>,
    ) {
        let contestants = self.correct(&spec, out, contestants);
        let mut limits = core_contestants(spec.double);
        let core = limits.len();
        limits.extend(streams);
        let rows = [contestants];
        let (of_limits, of_rows) = rounds(out, &limits, &rows, Plan { budget: self.budget, hopeless: None, calls: 1 });
        let Core { peak, half, gigahertz } = core_of(&of_limits[..core], spec.double);
        let bandwidth = of_limits[core..].iter().map(|time| spec.bytes / time.min).reduce(f64::max);
        let mut times = rows[0].iter().zip(&of_rows[0]).map(|(c, time)| (c.name, *time));
        let (_, ours) = times.next().expect("the generated kernel");
        let row = Row { ours, peers: times.collect(), peak, half, bandwidth, gigahertz, spec };
        crate::report::print_row(&row);
        self.rows.push(row);
    }

    /// The contestants that compute the same as the first.
    fn correct<'a, O: Output>(
        &mut self,
        spec: &Spec,
        out: &mut O,
        contestants: Vec<Contestant<'a, O>>,
    ) -> Vec<Contestant<'a, O>> {
        let tolerance = if spec.double { 1e-10 } else { 1e-3 };
        let mut expected: Option<Vec<f64>> = None;
        let mut correct = Vec::new();
        for contestant in contestants {
            out.spoil();
            contestant.once(out);
            let got = out.numbers();
            let want = expected.get_or_insert_with(|| got.clone());
            // Written so that a NaN is wrong.
            let same = |(got, want): (&f64, &f64)| (got - want).abs() <= tolerance * (1.0 + want.abs());
            match got.iter().zip(want.iter()).position(|pair| !same(pair)) {
                None => correct.push(contestant),
                Some(n) => {
                    let (name, got, want) = (contestant.name, got[n], want[n]);
                    self.wrong.push(format!("{}: element {n} of {name} is {got}, not {want}", spec.id()));
                }
            }
        }
        correct
    }
}

/// The bandwidth of streams over arrays of `bytes` in all, in GB/s: the best of a few rounds.
pub fn bandwidth(streams: Streams, bytes: usize) -> f64 {
    const ALIGNED: usize = 64;
    let (reads, writes) = streams.counts();
    let elements = (bytes / size_of::<f32>() / (reads + writes)).next_multiple_of(128);
    let array = |used: bool| vec![1.0f32; if used { elements + ALIGNED / size_of::<f32>() } else { 0 }];
    let (u, v, mut y) = (array(reads > 0), array(reads > 1), array(writes > 0));
    let aligned = |x: &[f32]| if x.is_empty() { 0..0 } else { x.as_ptr().align_offset(ALIGNED)..x.len() };
    let piece = |x: &[f32]| aligned(x).start..aligned(x).end.min(aligned(x).start + elements);
    let (u, v, written) = (&u[piece(&u)], &v[piece(&v)], piece(&y));
    let y = &mut y[written];

    let bytes = (elements * size_of::<f32>() * (reads + writes)) as f64;
    let rates = machine::widths().into_iter().map(|width| {
        let mut out = &mut *y;
        let contestant =
            Contestant::new("stream", |y: &mut &mut [f32]| machine::stream(width, streams, black_box(u), v, y));
        let mut samples = Samples::calibrate(&contestant, &mut out);
        (0..8).for_each(|_| samples.take(&contestant, &mut out));
        bytes / samples.min()
    });
    rates.fold(0.0, f64::max)
}
