//! The comparison: takes a kernel with the loops that its spec says, gives a panic that tells each difference.
//!
//! Holds after it: every function was called at every point, under every instruction set, and each element that it
//! writes is as far from that of the loops as its error allows. In the generated file it stands behind `mod.rs`, in one
//! module with it.

use super::*;

pub struct Function {
    pub name: &'static str,
    pub reads: &'static [usize],
    pub writes: &'static [usize],
    /// It adds to what it writes.
    pub adds: bool,
    /// Where a NaN goes in and the loops have one there is one: not in unrolled graphs, where factors that are zero by
    /// the formula are left out.
    pub nan: bool,
    /// Which loops say what it computes.
    pub loops: usize,
}

type Loops<S> = (fn(&mut Run<S>), &'static [usize], u64);
type Call<S> = fn(usize, &mut [Vec<S>], &mut [Vec<S>]);

/// A kernel, and the loops that its spec says.
pub struct Kernel<S: 'static> {
    pub name: &'static str,
    /// File and line of the instance.
    pub place: &'static str,
    pub tensors: &'static [Tensor],
    pub functions: &'static [Function],
    /// Each with the tensors that are given to it besides inputs and seeds, and about how many operations it has.
    pub loops: &'static [Loops<S>],
    /// Calls a function by its number, with what it reads and what it writes, elements in the order of storage.
    pub call: Call<S>,
    /// Numbers of the formulas, where branches may part.
    pub kinks: &'static [f64],
    /// `forward` and `jvp` add in one order.
    pub one_order: bool,
    /// The instruction sets that a function may be run with: the one of this process, and all.
    pub set: fn() -> &'static str,
    pub sets: fn() -> &'static [&'static str],
    /// The module of the test.
    pub module: &'static str,
}

/// Numbers that are the same on every run: SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn new(seed: &str) -> Self {
        Random(seed.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)))
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    fn of(&mut self, choices: &[f64]) -> f64 {
        choices[self.below(choices.len())]
    }
}

/// Where the functions are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Where {
    /// As random, but so small that products with it of as many terms as a square matrix has rows stay about what they
    /// were.
    Gentle,
    Random,
    /// Few different values: kinks, ties, exact sums.
    Kinks,
    /// Zeros of both signs, subnormal numbers, the least normal ones.
    Small,
    /// A few huge numbers among others.
    Huge,
    /// An infinity in some inputs.
    Infinite,
    /// A NaN in one input.
    Nan,
}

/// In the order in which they are taken where work is bounded.
const POINTS: [Where; 9] = [
    Where::Gentle,
    Where::Kinks,
    Where::Random,
    Where::Small,
    Where::Huge,
    Where::Infinite,
    Where::Nan,
    Where::Random,
    Where::Kinks,
];

/// At most so many operations of loops for a kernel, at least one point.
const WORK: u64 = 12_000_000;

/// Set in a process that only writes down what the kernel computes.
const RESULTS: &str = "COTANGENT_TEST_RESULTS";

/// Another number draws other points.
const SEED: &str = "COTANGENT_TEST_SEED";

/// Values of inputs and seeds by tensor, in the order of the declaration.
struct Point {
    at: Where,
    seed: String,
    values: Vec<Vec<f64>>,
}

impl<S: Scalar> Kernel<S> {
    fn points(&self) -> Vec<Point> {
        let work: u64 = self.loops.iter().map(|l| l.2.max(1)).sum();
        let count = (WORK / work).clamp(1, POINTS.len() as u64) as usize;
        let base = std::env::var(SEED).unwrap_or_else(|_| "0".into());
        let point = |(n, at): (usize, &Where)| {
            let seed = format!("{base}/{}/{n}", self.name);
            let mut random = Random::new(&seed);
            let broken = random.below(self.tensors.iter().filter(|t| t.role == Role::Input).count());
            let mut inputs = 0;
            let mut value = |t: &Tensor| {
                let count = t.shape.iter().product();
                match t.role {
                    Role::Input => {
                        inputs += 1;
                        self.input(t, count, *at, inputs - 1 == broken, &mut random)
                    }
                    Role::Dot(of) if self.tensors[of].role == Role::Input => seeds::<S>(count, *at, &mut random),
                    Role::Bar(of) if self.tensors[of].role == Role::Output => seeds::<S>(count, *at, &mut random),
                    _ => Vec::new(),
                }
            };
            Point { at: *at, values: self.tensors.iter().map(&mut value).collect(), seed }
        };
        POINTS[..count].iter().enumerate().map(point).collect()
    }

    /// An input. `broken`: the one that is to hold what is no number.
    fn input(&self, t: &Tensor, count: usize, at: Where, broken: bool, random: &mut Random) -> Vec<f64> {
        let [(lo, lo_in), (hi, hi_in)] = t.domain;
        let (low, high) = match (lo.is_finite(), hi.is_finite()) {
            (true, true) => (lo, hi),
            (true, false) => (lo, lo + 3.0),
            (false, true) => (hi - 3.0, hi),
            (false, false) => (-2.0, 2.0),
        };
        let inside = |v: f64| (v > lo || lo_in && v == lo) && (v < hi || hi_in && v == hi);
        let whole = lo == f64::NEG_INFINITY && hi == f64::INFINITY;
        let margin = 0.05 * (high - low);
        let scale = if at == Where::Gentle && t.shape.len() > 1 { (count as f64).powf(-0.25) } else { 1.0 };
        let usual = |random: &mut Random| {
            // Poles of formulas that are defined everywhere else stand at zero.
            let v = if whole {
                scale * random.of(&[-1.0, 1.0]) * random.uniform(margin, high)
            } else {
                random.uniform(low + margin, high - margin)
            };
            S::of(v).get()
        };
        let rounded = |v: &f64| S::of(*v).get();
        let kept = |list: &[f64]| list.iter().map(rounded).filter(|v| inside(*v)).collect::<Vec<f64>>();
        let mut few = kept(&[self.kinks, &[-1.0, 0.0, 1.0]].concat());
        if few.len() < 2 {
            few.extend(kept(&[low + margin, high - margin, 0.5 * (low + high)]));
        }
        let n = S::NORMAL;
        let ends = [lo, hi].map(|end| if end.is_finite() { end } else { 0.0 });
        let small = kept(&[0.0, -0.0, 0.0, -0.0, n, -n, 0.25 * n, -0.25 * n, S::UNIT, -S::UNIT, ends[0], ends[1]]);
        let root = S::MAX.sqrt();
        let huge = kept(&[root, -root, 0.2 * S::MAX, -0.2 * S::MAX, 1e9, -1e9, 0.9 * hi.min(S::MAX)]);
        // One in so many, of all tensors of some size at least one.
        let rare = 1 + count / 40;
        let mut all: Vec<f64> = (0..count)
            .map(|_| match at {
                Where::Kinks => random.of(&few),
                Where::Small if !small.is_empty() && random.below(2) == 0 => random.of(&small),
                _ => usual(random),
            })
            .collect();
        let special: &[f64] = match at {
            Where::Huge => &huge,
            Where::Infinite if whole && random.below(2) == 0 => &[f64::INFINITY, f64::NEG_INFINITY],
            Where::Nan if whole && broken => &[f64::NAN],
            _ => &[],
        };
        if !special.is_empty() {
            (0..if at == Where::Huge { rare } else { 1 }).for_each(|_| all[random.below(count)] = random.of(special));
        }
        all
    }

    /// Elements as they are stored.
    fn stored(&self, t: usize, values: &[f64]) -> Vec<S> {
        self.places(t).map(|at| S::of(values[at])).collect()
    }

    /// The place in the order of the declaration of each stored element.
    fn places(&self, t: usize) -> impl Iterator<Item = usize> {
        let Tensor { shape, order, .. } = self.tensors[t];
        let count: usize = shape.iter().product();
        (0..count).map(move |n| {
            let (mut rest, mut index) = (n, vec![0; shape.len()]);
            for d in order.iter().rev() {
                index[*d] = rest % shape[*d];
                rest /= shape[*d];
            }
            index.iter().zip(shape).fold(0, |at, (n, extent)| at * extent + n)
        })
    }

    /// What each function writes at a point, as it is stored.
    fn results(&self, p: &Point) -> Vec<Vec<Vec<S>>> {
        let mut outputs: Vec<Option<Vec<S>>> = vec![None; self.tensors.len()];
        // Where no function makes what another is given, the loops do.
        let made = |t: usize| self.functions[0].writes.contains(&t);
        for t in self.functions.iter().flat_map(|f| f.reads).copied() {
            if self.tensors[t].role == Role::Output && !made(t) && outputs[t].is_none() {
                let r = self.run(self.loops[0].0, p);
                let values: Vec<f64> = (0..r.arrays[t].values.len()).map(|at| r.arrays[t].get(at).value).collect();
                outputs[t] = Some(self.stored(t, &values));
            }
        }
        let mut all = Vec::new();
        for (n, f) in self.functions.iter().enumerate() {
            let argument = |t: &usize| match &outputs[*t] {
                Some(made) if self.tensors[*t].role == Role::Output => made.clone(),
                _ => self.stored(*t, &p.values[*t]),
            };
            let mut reads: Vec<Vec<S>> = f.reads.iter().map(argument).collect();
            let start = |t: &usize| match f.adds {
                true => self.stored(*t, &self.start(f, *t, p)),
                // Whatever was there.
                false => vec![S::NAN; self.tensors[*t].shape.iter().product()],
            };
            let mut writes: Vec<Vec<S>> = f.writes.iter().map(start).collect();
            (self.call)(n, &mut reads, &mut writes);
            if n == 0 {
                f.writes.iter().zip(&writes).for_each(|(t, v)| outputs[*t] = Some(v.clone()));
            }
            all.push(writes);
        }
        all
    }

    /// What a function that adds starts from.
    fn start(&self, f: &Function, t: usize, p: &Point) -> Vec<f64> {
        let tensor = &self.tensors[t];
        let at = if p.at == Where::Kinks { Where::Kinks } else { Where::Random };
        seeds::<S>(
            tensor.shape.iter().product(),
            at,
            &mut Random::new(&format!("{}/{}/{}", p.seed, f.name, tensor.name)),
        )
    }

    /// What loops start from at a point.
    fn given(&self, p: &Point) -> Run<S> {
        let mut r = Run::new(self.tensors);
        for (t, values) in p.values.iter().enumerate() {
            r.arrays[t].values = values.iter().map(|v| Near::exact(S::of(*v).get())).collect();
        }
        r
    }

    /// What loops give at a point that need nothing of others.
    fn run(&self, loops: fn(&mut Run<S>), p: &Point) -> Run<S> {
        let mut r = self.given(p);
        loops(&mut r);
        r
    }

    /// What the loops give at a point, by loops and tensor.
    fn expected(&self, p: &Point) -> Vec<Run<S>> {
        let mut runs: Vec<Run<S>> = Vec::new();
        for (run, given, _) in self.loops {
            let mut r = self.given(p);
            for t in *given {
                let made = &runs[0].arrays[*t];
                let round = |v: Near<S>| Near { error: v.error + Near::<S>::step(v.value), ..v };
                r.arrays[*t].values = (0..made.values.len()).map(|at| round(made.get(at))).collect();
            }
            run(&mut r);
            runs.push(r);
        }
        runs
    }
}

/// A tangent, a cotangent, or what is added to.
fn seeds<S: Scalar>(count: usize, at: Where, random: &mut Random) -> Vec<f64> {
    let draw = |_| match at {
        Where::Kinks => random.of(&[-1.0, 0.0, 1.0, 2.0]),
        Where::Small if random.below(4) == 0 => random.of(&[0.0, -0.0]),
        _ => S::of(random.uniform(-1.0, 1.0)).get(),
    };
    (0..count).map(draw).collect()
}

/// Whether this process runs a kernel for another one, under the instruction set that it was told.
pub fn is_elsewhere() -> bool {
    std::env::var_os(RESULTS).is_some()
}

/// Compares every function of a kernel with its loops, under every instruction set of the machine.
pub fn check<S: Scalar>(k: &Kernel<S>) {
    let points = k.points();
    if let Some(path) = std::env::var_os(RESULTS) {
        let all = points.iter().flat_map(|p| k.results(p)).flatten().flatten();
        let bytes: Vec<u8> = all.flat_map(|v| v.get().to_bits().to_le_bytes()).collect();
        return std::fs::write(path, bytes).expect("the folder for temporary files can be written");
    }
    // The others in processes of their own: a process chooses once.
    let own = (k.set)();
    let others: Vec<_> = (k.sets)().iter().filter(|set| **set != own).map(|set| (*set, elsewhere(k, set))).collect();
    let mut failures = Failures { text: String::new(), count: 0 };
    let mut theirs: Vec<(&str, std::vec::IntoIter<f64>)> = Vec::new();
    let mut told: Vec<Vec<bool>> = k.functions.iter().map(|f| vec![false; f.writes.len()]).collect();
    let expected: Vec<Vec<Run<S>>> = points.iter().map(|p| k.expected(p)).collect();
    let mine: Vec<Vec<Vec<Vec<S>>>> = points.iter().map(|p| k.results(p)).collect();
    for (set, process) in others {
        match process.results() {
            Ok(values) => theirs.push((set, values.into_iter())),
            Err(message) => failures.tell(|text| _ = writeln!(text, "  under {set}: {message}")),
        }
    }
    for ((p, runs), mine) in points.iter().zip(&expected).zip(mine) {
        compare(k, p, runs, own, &mine, &mut told, &mut failures);
        for (set, values) in &mut theirs {
            let mut next = |v: &Vec<S>| values.by_ref().take(v.len()).map(S::of).collect();
            let results: Vec<Vec<Vec<S>>> = mine.iter().map(|f| f.iter().map(&mut next).collect()).collect();
            compare(k, p, runs, set, &results, &mut told, &mut failures);
        }
    }
    for (f, told) in k.functions.iter().zip(&told) {
        for (t, _) in f.writes.iter().zip(told).filter(|(_, told)| !**told) {
            failures.tell(|text| {
                let name = k.tensors[*t].name;
                let _ = writeln!(
                    text,
                    "  {}: at no point two digits of an element of {name} are certain, so none is tested",
                    f.name
                );
            });
        }
    }
    assert!(
        failures.count == 0,
        "{} of {} is not what its spec says, at {} elements\n{}  {SEED}=N draws other points\n",
        k.name,
        k.place,
        failures.count,
        failures.text
    );
}

/// So many differences of a kernel are printed.
const PRINTED: usize = 8;

struct Failures {
    text: String,
    count: usize,
}

impl Failures {
    fn tell(&mut self, print: impl FnOnce(&mut String)) {
        self.count += 1;
        if self.count <= PRINTED {
            print(&mut self.text);
        }
    }
}

/// What a kernel computes at a point against what its loops give.
fn compare<S: Scalar>(
    k: &Kernel<S>,
    p: &Point,
    runs: &[Run<S>],
    set: &str,
    results: &[Vec<Vec<S>>],
    told: &mut [Vec<bool>],
    failures: &mut Failures,
) {
    for (n, f) in k.functions.iter().enumerate() {
        for (w, t) in f.writes.iter().enumerate() {
            let (tensor, array) = (&k.tensors[*t], &runs[f.loops].arrays[*t]);
            let start = if f.adds { k.start(f, *t, p) } else { Vec::new() };
            for (at, got) in k.places(*t).zip(&results[n][w]) {
                let of_loops = if array.values.is_empty() { Near::exact(0.0) } else { array.get(at) };
                let near = start.get(at).map_or(of_loops, |s| Near::exact(*s).add(of_loops));
                told[n][w] |= near.is_plain() && allowed(near) <= 0.01 * near.value.abs().max(S::NORMAL);
                if agrees(got.get(), near) || near.value.is_nan() && !f.nan {
                    continue;
                }
                failures.tell(|text| {
                    let _ = writeln!(
                        text,
                        "  {}, under {set}: {}{} is {:?}, not {:?} (within {:.1e}); {:?} point, seed {}",
                        f.name,
                        tensor.name,
                        index(at, tensor.shape),
                        got,
                        near.value,
                        allowed(near),
                        p.at,
                        p.seed
                    );
                });
            }
        }
    }
    let function = |name: &str| k.functions.iter().position(|f| f.name == name);
    let Some(jvp) = function("jvp") else { return };
    if let Some(forward) = function("forward").filter(|_| k.one_order) {
        for (w, t) in k.functions[forward].writes.iter().enumerate() {
            let other = k.functions[jvp].writes.iter().position(|u| u == t).map(|v| &results[jvp][v]);
            let same =
                |(a, b): (&S, &S)| a.get().to_bits() == b.get().to_bits() || a.get().is_nan() && b.get().is_nan();
            if let Some(n) = other.and_then(|other| results[forward][w].iter().zip(other).position(|pair| !same(pair)))
            {
                let name = k.tensors[*t].name;
                failures.tell(|text| {
                    let _ = writeln!(text, "  under {set}: stored element {n} of {name} has other bits in jvp than in forward; {:?} point, seed {}", p.at, p.seed);
                });
            }
        }
    }
    if let Some(vjp) = function("vjp_store") {
        pairing(k, p, runs, set, [jvp, vjp], results, failures);
    }
}

/// The tangent and the adjoint are each other's transpose, within what their elements may be off.
fn pairing<S: Scalar>(
    k: &Kernel<S>,
    p: &Point,
    runs: &[Run<S>],
    set: &str,
    [jvp, vjp]: [usize; 2],
    results: &[Vec<Vec<S>>],
    failures: &mut Failures,
) {
    // Of a function's results those that the role gives with the seed that each is paired with; the sum, and how far it
    // may be off.
    let paired = |n: usize, other: fn(Role) -> Option<(usize, bool)>| {
        let (mut sum, mut off) = (0.0, 0.0);
        for (w, t) in k.functions[n].writes.iter().enumerate() {
            let Some((of, bar)) = other(k.tensors[*t].role) else { continue };
            let seed = if bar { Role::Bar(of) } else { Role::Dot(of) };
            let Some(seed) = k.tensors.iter().position(|t| t.role == seed) else { continue };
            let array = &runs[k.functions[n].loops].arrays[*t];
            for (at, got) in k.places(*t).zip(&results[n][w]) {
                let (got, by) = (got.get(), p.values[seed][at]);
                let near = if array.values.is_empty() { Near::exact(0.0) } else { array.get(at) };
                sum += got * by;
                off += (allowed(near) + 1e-15 * got.abs()) * by.abs();
            }
        }
        (sum, off)
    };
    let (forward, a) = paired(jvp, |r| if let Role::Dot(of) = r { Some((of, true)) } else { None });
    let (back, b) = paired(vjp, |r| if let Role::Bar(of) = r { Some((of, false)) } else { None });
    // Where an element is not known nothing is.
    if (a + b).is_finite() && (forward - back).is_finite() && (forward - back).abs() > a + b {
        failures.tell(|text| {
            let _ = writeln!(
                text,
                "  under {set}: <z_bar, z_dot> is {forward:e}, <x_bar, x_dot> {back:e} (within {:.1e}); {:?} point, seed {}",
                a + b,
                p.at,
                p.seed
            );
        });
    }
}

/// How far a kernel's result may be from the value.
fn allowed<S: Scalar>(near: Near<S>) -> f64 {
    4.0 * near.error + Near::<S>::step(near.value)
}

fn agrees<S: Scalar>(got: f64, near: Near<S>) -> bool {
    if near.is_unknown() {
        return true;
    }
    if near.value.is_nan() {
        return got.is_nan();
    }
    got == near.value || (got - near.value).abs() <= allowed(near)
}

/// An element's index as it is written.
fn index(at: usize, shape: &[usize]) -> String {
    let mut rest = at;
    let mut all: Vec<String> = Vec::new();
    for extent in shape.iter().rev() {
        all.push(format!("[{}]", rest % extent));
        rest /= extent;
    }
    all.reverse();
    all.concat()
}

/// A process that runs one kernel under one instruction set.
struct Elsewhere {
    started: std::io::Result<std::process::Child>,
    file: std::path::PathBuf,
}

fn elsewhere<S: Scalar>(k: &Kernel<S>, set: &str) -> Elsewhere {
    // The test's name: its path without the crate.
    let name = format!("{}::agrees", k.module.split_once("::").map_or("", |(_, rest)| rest));
    let file = std::env::temp_dir().join(format!("cotangent-{}-{}-{set}", std::process::id(), name.replace("::", "-")));
    let run = |this| {
        std::process::Command::new::<std::path::PathBuf>(this)
            .args([&name, "--exact"])
            .env("COTANGENT_ISA", set)
            .env(RESULTS, &file)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
    };
    Elsewhere { started: std::env::current_exe().and_then(run), file }
}

impl Elsewhere {
    fn results(self) -> Result<Vec<f64>, String> {
        let output = self.started.and_then(|child| child.wait_with_output()).map_err(|e| e.to_string())?;
        let bytes = std::fs::read(&self.file);
        let _ = std::fs::remove_file(&self.file);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match bytes {
            Ok(bytes) if output.status.success() => {
                Ok(bytes.as_chunks().0.iter().map(|b| f64::from_bits(u64::from_le_bytes(*b))).collect())
            }
            _ => Err(format!("the process failed\n{}{}", text(&output.stdout), text(&output.stderr))),
        }
    }
}
