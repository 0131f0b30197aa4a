//! Tiles on machines made at random: takes contractions of some size and classes of machines with few registers and
//! tiny caches, so that blocks, panels and borders appear that real caches want at large sizes only; demands that each
//! nest computes what the plain statements say.

use cotangent_build::certify::Sampler;
use cotangent_build::cores::{Cache, Core};
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::nest::Tuning;
use cotangent_build::nest::machine::{Machine, NARROW, SCALAR};
use cotangent_build::nest::schedule::{Target, schedule};
use cotangent_build::source::Sources;
use cotangent_build::{Options, nest, pipeline, plain};
use std::collections::{BTreeMap, BTreeSet};

const PRODUCT: &str = "\
op: random
inputs: {x: [B, I, J], y: [J, K]}
outputs: {z: [B, I, K]}
forward:
  - z[b,i,k] = sum(j) x[b,i,j] * y[j,k]
adjoint:
  - x_bar[b,i,j] += sum(k) z_bar[b,i,k] * y[j,k]
  - y_bar[j,k] += sum(b,i) x[b,i,j] * z_bar[b,i,k]
";

const WINDOW: &str = "\
op: random
inputs: {x: [N, S, C], k: [T, C, D]}
outputs: {y: [N, S, D]}
forward:
  - y[n,s,d] = sum(t,c) x[n, s + t - 1, c] * k[t,c,d]
adjoint:
  - x_bar[n, s + t - 1, c] += sum(d) y_bar[n,s,d] * k[t,c,d]
  - k_bar[t,c,d] += sum(n,s) y_bar[n,s,d] * x[n, s + t - 1, c]
";

fn below(random: &mut Sampler, n: usize) -> usize {
    (random.bits() % n as u64) as usize
}

fn pick<T: Copy>(random: &mut Sampler, all: &[T]) -> T {
    all[below(random, all.len())]
}

fn machine(random: &mut Sampler) -> &'static Machine {
    let cache = |bytes: usize| Cache { bytes, ways: 2, cycles: 4.0 };
    let (first, second) = (pick(random, &[256, 512, 1024]), pick(random, &[4096, 16384, 65536]));
    let caches = [cache(first), cache(second)];
    // Nests refer to their machine for as long as the program runs.
    let core: &'static Core = Box::leak(Box::new(Core::SKYLAKE.with_caches(caches)));
    let machine = Machine {
        name: "Wide",
        bytes: pick(random, &[8, 16, 32]),
        registers: pick(random, &[8, 16, 32]),
        cores: Box::leak(Box::new([core])),
        caches,
        packs_from: pick(random, &[0, 5000]),
        ..NARROW
    };
    Box::leak(Box::new(machine))
}

fn specs(random: &mut Sampler) -> Vec<String> {
    let mut extent = |most: usize| 1 + below(random, most);
    let (b, i, j, k) = (extent(3), extent(48), extent(64), extent(32));
    let product = format!("{PRODUCT}instances: [{{name: p, B: [{b}], I: [{i}], J: [{j}], K: [{k}]}}]\n");
    let (n, s, r, c, d) = (extent(2), extent(9), extent(9), extent(12), extent(12));
    let window = format!("{WINDOW}instances: [{{name: w, N: [{n}], S: [{s}, {r}], T: [3, 3], C: [{c}], D: [{d}]}}]\n");
    vec![product, window]
}

#[test]
fn nests_of_any_machine_mean_the_statements() {
    let mut random = Sampler::new(7);
    let mut seen = BTreeSet::new();
    for round in 0..6 {
        let limit = pick(&mut random, &[0, 1000, usize::MAX]);
        let machines = vec![machine(&mut random), machine(&mut random)];
        // One without vectors, that adds as the first.
        let scalar = Machine {
            same_order_as: Some(machines[0]),
            caches: machines[0].caches,
            cores: machines[0].cores,
            ..SCALAR
        };
        let machines = [machines, vec![Box::leak(Box::new(scalar))]].concat();
        let target = Target { machines, tuning: Tuning { scratch: limit, ..Tuning::default() } };
        for text in specs(&mut random) {
            let mut sources = Sources::default();
            let mut out = Diagnostics::default();
            let spec = sources.add("random.yaml", text);
            let certified = pipeline::certified(spec, &sources, &mut out);
            let certified = certified.unwrap_or_else(|| panic!("{}", out.render(&sources)));
            for planned in pipeline::kernels(&certified, &Options::default(), &mut out) {
                let nests = schedule(&planned, &target).nests;
                let kernel = planned.kernel;
                for (f, nests) in kernel.functions.iter().zip(nests) {
                    let mut tensor = |t: &_| {
                        let n = kernel.tensor(*t).shape.iter().product();
                        (*t, (0..n).map(|_| random.ordinary(None)).collect::<Vec<f64>>())
                    };
                    let given: BTreeMap<_, _> = f.reads.iter().chain(&f.writes).map(&mut tensor).collect();
                    let mut meaning = given.clone();
                    plain::eval::run(&kernel, f, &mut meaning);
                    let mut results = Vec::new();
                    for n in nests {
                        nest::check::check(&kernel, &n).unwrap_or_else(|e| panic!("round {round}, {}: {e}", f.name));
                        let panels: usize = n
                            .locals
                            .iter()
                            .filter(|l| l.tensor.0 >= kernel.tensors.len())
                            .map(|l| l.shape.iter().product::<usize>())
                            .sum();
                        assert!(panels * 4 <= limit, "{}: {} elements of panels within {limit} bytes", f.name, panels);
                        seen.extend(
                            n.locals.iter().filter_map(|l| l.name.rsplit_once('_').map(|(_, kind)| kind.to_string())),
                        );
                        let mut got = given.clone();
                        nest::eval::run(&kernel, &n, &mut got);
                        for t in &f.writes {
                            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * (1.0 + b.abs());
                            assert!(
                                got[t].iter().zip(&meaning[t]).all(near),
                                "round {round}, {} of {:?}\n{}",
                                f.name,
                                kernel.extents,
                                nest::print::nest(&kernel, &n)
                            );
                        }
                        results.push((n, got));
                    }
                    let of =
                        |m: &Machine| results.iter().find(|(n, _)| n.machines.contains(&m)).expect("a nest for each");
                    let (own, kept) = (of(target.machines[2]), of(target.machines[0]));
                    let bits = |r: &BTreeMap<_, Vec<f64>>| -> Vec<u64> {
                        f.writes.iter().flat_map(|t| r[t].iter().map(|x| x.to_bits())).collect()
                    };
                    let (a, b) = (nest::print::nest(&kernel, &own.0), nest::print::nest(&kernel, &kept.0));
                    assert_eq!(bits(&own.1), bits(&kept.1), "round {round}, bits of\n{a}\nand of\n{b}");
                }
            }
        }
    }
    // Otherwise the rounds show nothing.
    assert!(seen.contains("panel") && seen.contains("rows"), "{seen:?}");
}

/// A schedule for several cores says what each loses; one for a core at hand loses nothing there, and other classes keep
/// theirs.
#[test]
fn schedules_are_weighed_on_the_cores_that_are_asked_for() {
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let text = format!("{PRODUCT}instances: [{{name: p, B: [1], I: [32], J: [128], K: [100]}}]\n");
    let spec = sources.add("product.yaml", text);
    let certified = pipeline::certified(spec, &sources, &mut out).unwrap_or_else(|| panic!("{}", out.render(&sources)));
    let planned = pipeline::kernels(&certified, &Options::default(), &mut out).pop().expect("a kernel");
    let chosen = |core: Option<&'static Core>| -> Vec<(&'static str, String)> {
        let target = Target { tuning: Tuning { core, ..Tuning::default() }, ..Target::default() };
        let nests = schedule(&planned, &target).nests.into_iter().flatten();
        let own = nests.flat_map(|n| n.notes.into_iter().map(move |note| (n.machines[0].name, note)));
        own.filter(|(_, note)| note.starts_with("chosen")).collect()
    };
    let every = chosen(None);
    for core in [&Core::ZEN_4, &Core::ZEN_5, &Core::SAPPHIRE_RAPIDS] {
        let tuned = chosen(Some(core));
        let of = |all: &[(&str, String)], class: &str| -> Vec<String> {
            all.iter().filter(|(name, _)| (*name == "Widest") == (class == "Widest")).map(|(_, n)| n.clone()).collect()
        };
        assert_eq!(of(&tuned, "others"), of(&every, "others"));
        let widest = of(&tuned, "Widest");
        assert!(!widest.is_empty());
        for note in widest {
            assert!(note.ends_with(&format!(", {} 1.00", core.name())) && note.matches(", ").count() < 4, "{note}");
        }
        assert!(of(&every, "Widest").iter().all(|note| note.contains(&format!(", {} 1.", core.name()))));
    }
}

/// What small kernels need on a microcontroller: their operands where they are.
#[test]
fn small_portable_kernels_have_no_panels() {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let mut small = 0;
    for spec in crate::ops_and_lists(&mut sources, &mut out) {
        let certified = pipeline::certified(spec, &sources, &mut out).expect("a shipped op is right");
        for planned in pipeline::kernels(&certified, &Options::default(), &mut out) {
            let iterations = |s: &plain::Step| match s {
                plain::Step::Stmt(s) => s.vars.iter().map(|v| v.extent).product(),
                _ => 0,
            };
            let nests = schedule(&planned, &Target::default()).nests;
            let kernel = planned.kernel;
            for (f, nests) in kernel.functions.iter().zip(nests) {
                if f.steps.iter().map(iterations).max().unwrap_or(0) > 4096 {
                    continue;
                }
                small += 1;
                for n in nests.iter().filter(|n| n.machines.iter().any(|m| ["Narrow", "Scalar"].contains(&m.name))) {
                    let panels = n.locals.iter().filter(|l| l.name.ends_with("_panel") || l.name.ends_with("_rows"));
                    let elements: usize = panels.map(|l| l.shape.iter().product::<usize>()).sum();
                    // As much as registers hold.
                    assert!(elements * kernel.dtype.bytes() <= 64, "{}::{}::{}", kernel.op, kernel.name, f.name);
                }
            }
        }
    }
    assert!(small > 100, "{small} functions are small");
}
