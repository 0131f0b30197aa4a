//! Subjects: takes a kernel's functions, gives them as contestants over data that is the same for all of them, and
//! measures a kernel in rounds.

use crate::peers::{self, Peer};
use crate::products::products;
use crate::report::{self, Row};
use crate::variants;
use cotangent::{FunctionInfo, KernelInfo, Kind, Role, Scalar, Tensor};
use cotangent_measure::{Contestant, Core, Number, Places, Plan, core_contestants, core_of, fill, rounds};
use std::collections::BTreeMap;
use std::time::Duration;

/// Tensors by name, elements in storage order.
pub type Tensors = BTreeMap<&'static str, Vec<f64>>;

/// A kernel to measure.
pub struct Entry {
    /// Which.
    pub kernel: &'static KernelInfo,
    /// Its functions, over data of their own.
    pub subjects: fn() -> Vec<Subject>,
}

/// A function of a kernel.
pub struct Subject {
    /// What it is.
    pub info: &'static FunctionInfo,
    /// What it reads.
    pub inputs: Tensors,
    /// What it writes.
    pub results: Tensors,
    /// It, to be timed.
    pub contestant: Contestant<'static, ()>,
}

/// The function of that name, if it is measured: of those that take cotangents only the one that stores all of them.
pub fn wanted(kernel: &KernelInfo, name: &str) -> Option<&'static FunctionInfo> {
    let info = kernel.function(name)?;
    (info.kind != Kind::Vjp || info.name == "vjp_store").then_some(info)
}

/// Data for an argument, from its name alone: so all functions of a kernel work on the same.
///
/// Tangents and cotangents lie between -1 and 1. So do inputs of one dimension; those of more have the variance of one
/// over the number of elements that are summed up with them, as weights are initialised, so that activations do not
/// saturate. Where a tensor has a domain, inside it.
pub fn filled<T: Tensor<Scalar: Number>>(places: &mut Places, kernel: &KernelInfo, name: &str) -> &'static T {
    let memory = places.take::<T>();
    // FNV-1a.
    let seed = name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let Some(tensor) = kernel.tensor(name).filter(|t| t.role == Role::Input) else {
        fill(memory.flat_mut(), seed, -1.0, 1.0);
        return memory;
    };
    let summed: usize = tensor.shape.iter().rev().skip(1).product();
    let range = f64::min(1.0, (3.0 / summed as f64).sqrt());
    let (lo, hi) = match (tensor.domain.lo, tensor.domain.hi) {
        (lo, hi) if lo.is_finite() && hi.is_finite() => (lo + 0.1 * (hi - lo), hi - 0.1 * (hi - lo)),
        (lo, _) if lo.is_finite() => (lo + 0.5, lo + 1.5),
        (_, hi) if hi.is_finite() => (hi - 1.5, hi - 0.5),
        _ => (-range, range),
    };
    fill(memory.flat_mut(), seed, lo, hi);
    memory
}

/// All elements of a tensor.
pub fn numbers<T: Tensor<Scalar: Number>>(tensor: &T) -> Vec<f64> {
    tensor.flat().iter().map(|x| x.wide()).collect()
}

/// A subject of a function's data and path. The loop is compiled with the call in it.
macro_rules! function {
    (
        $info:ident, $reads:ident, $writes:ident, $workspace_value:ident, $path:path,
        ($($read:ident,)*), ($($write:ident,)*), ($($workspace:ident)?)
    ) => {{
        use std::hint::black_box;
        let (inputs, results) = {
            let ($($read,)*) = &$reads;
            let ($($write,)*) = &mut $writes;
            let ($($workspace,)?) = &mut $workspace_value;
            $path($(*$read,)* $(&mut **$write,)* $(&mut **$workspace)?);
            (
                $crate::subject::Tensors::from([$((stringify!($read), $crate::subject::numbers(*$read)),)*]),
                $crate::subject::Tensors::from([$((stringify!($write), $crate::subject::numbers(&**$write)),)*]),
            )
        };
        let state = std::cell::RefCell::new(($writes, $workspace_value));
        let contestant = cotangent_measure::Contestant::timed("cotangent", move |_: &mut (), calls: u64| {
            let state = &mut *state.borrow_mut();
            let start = std::time::Instant::now();
            for _ in 0..calls {
                // The optimiser knows none of the addresses, nor what stands there; to hide each by itself would cost
                // more than the smallest programs.
                let ($($read,)*) = black_box(&$reads);
                let (($($write,)*), ($($workspace,)?)) = black_box(&mut *state);
                $path($($read,)* $($write,)* $($workspace)?);
            }
            start.elapsed()
        });
        $crate::subject::Subject { info: $info, inputs, results, contestant }
    }};
}
pub(crate) use function;

/// The run: what is asked for, and what has been measured.
pub struct Bench {
    filter: Option<String>,
    budget: Duration,
    /// Rows measured so far.
    pub rows: Vec<Row>,
    /// Peers that computed something else than we, and were not timed; and what of ours is no number.
    pub wrong: Vec<String>,
}

impl Bench {
    /// Rows whose name contains `filter`, the functions of a kernel measured for about `budget` together.
    pub fn new(filter: Option<String>, budget: Duration) -> Bench {
        Bench { filter, budget, rows: Vec::new(), wrong: Vec::new() }
    }

    /// Measures the functions of a kernel that are asked for, with `forward` beside them. `all`: where variants are.
    pub fn kernel(&mut self, entry: &Entry, all: &[Entry]) {
        let kernel = entry.kernel;
        let name = |info: &FunctionInfo| report::name(kernel, info);
        let asked =
            |info: &FunctionInfo| self.filter.as_ref().is_none_or(|filter| name(info).contains(filter.as_str()));
        if !kernel.functions.iter().any(|info| wanted(kernel, info.name).is_some() && asked(info)) {
            return;
        }
        let mut infos = Vec::new();
        let mut contestants = Vec::new();
        let mut variants = variants::of(entry, all);
        for subject in (entry.subjects)() {
            let Subject { info, inputs, results, contestant } = subject;
            if info.kind != Kind::Forward && !asked(info) {
                continue;
            }
            let mut all = vec![contestant];
            if results.values().flatten().any(|x| !x.is_finite()) {
                self.wrong.push(format!("{}: not a number", name(info)));
            }
            let own = variants.extract_if(.., |(function, _)| *function == info.name).map(|(_, peer)| peer);
            for peer in peers::of(kernel, info, &inputs).into_iter().chain(own) {
                match difference(kernel.scalar, &results, &peer) {
                    None => all.push(peer.contestant),
                    Some(text) => self.wrong.push(format!("{}: {text}", name(info))),
                }
            }
            infos.push(info);
            contestants.push(all);
        }

        let double = kernel.scalar == Scalar::F64;
        // What is slow is timed now and then all the same: the first rounds of a kernel may be noisy ones. The
        // functions of a network need more than a cache holds.
        let plan = Plan { budget: self.budget, hopeless: Some(8), calls: 3 };
        let (limits, times) = rounds(&mut (), &core_contestants(double), &contestants, plan);
        let core: Core = core_of(&limits, double);
        let forward = infos.iter().position(|info| info.kind == Kind::Forward).map(|n| times[n][0]);
        for ((info, contestants), times) in infos.into_iter().zip(&contestants).zip(times) {
            let peers = contestants.iter().zip(&times).skip(1).map(|(c, time)| (c.name, *time)).collect();
            let products = products(kernel, info);
            // The generated code's own count has all operations in it; of each sum that is stored it has one addition
            // less than terms.
            let written = |name: &&str| kernel.tensor(name).map_or(0, |t| t.shape.iter().product::<usize>());
            let sums: usize = if info.accumulates { 0 } else { info.writes.iter().map(written).sum() };
            if products.is_some_and(|products| products > (info.flops + sums as u64) as f64) {
                self.wrong.push(format!(
                    "{}: more products than the {} operations",
                    report::name(kernel, info),
                    info.flops
                ));
            }
            let row = Row { kernel, info, ours: times[0], forward, products, core, peers };
            report::print_row(&row);
            self.rows.push(row);
        }
    }
}

/// Where a peer's results are not ours.
fn difference(scalar: Scalar, ours: &Tensors, peer: &Peer) -> Option<String> {
    let tolerance = match scalar {
        Scalar::F32 => 1e-3,
        Scalar::F64 => 1e-9,
    };
    ours.iter().find_map(|(name, ours)| {
        let who = peer.contestant.name;
        let Some(theirs) = peer.results.get(*name) else { return Some(format!("{who} has no `{name}`")) };
        if theirs.len() != ours.len() {
            return Some(format!("`{name}` of {who} has {} elements, not {}", theirs.len(), ours.len()));
        }
        // Against the largest element: small ones are differences of large ones. Written so that a NaN is wrong.
        let scale = ours.iter().fold(0.0, |m, x| f64::max(m, x.abs()));
        let same = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * scale;
        let n = ours.iter().zip(theirs).position(|pair| !same(pair))?;
        Some(format!("element {n} of `{name}` of {who} is {}, not {}", theirs[n], ours[n]))
    })
}
