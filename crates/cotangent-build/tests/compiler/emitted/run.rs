//! What was compiled, run: takes the cases of a crate and what they shall compute, gives what became of each, under
//! every instruction set of the machine.

use super::meaning::{Meaning, entry};
use super::tally::Tally;
use super::{Built, Outcome, ROUNDS};
use cotangent_build::compiled::Compiled;
use cotangent_build::derive;
use cotangent_build::index::{Op, Role, Stmt, TensorId};
use cotangent_build::plain::{Kernel, Kind};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The elements of a tensor in storage order, given those in the order of its declaration: `from[n]` is the `n`th of
/// the storage.
fn storage(kernel: &Kernel, t: TensorId) -> Vec<usize> {
    let tensor = kernel.tensor(t);
    let rank = tensor.shape.len();
    // Extents and strides by declaration.
    let extents: Vec<usize> = tensor.order.iter().map(|d| tensor.shape[*d]).collect();
    let mut strides = vec![1; rank];
    for d in (0..rank.saturating_sub(1)).rev() {
        strides[d] = strides[d + 1] * extents[d + 1];
    }
    let mut declared = vec![0; rank];
    tensor.order.iter().enumerate().for_each(|(d, s)| declared[*s] = d);
    (0..tensor.elements())
        .map(|n| {
            let mut rest = n;
            let mut at = 0;
            for s in (0..rank).rev() {
                at += rest % tensor.shape[s] * strides[declared[s]];
                rest /= tensor.shape[s];
            }
            at
        })
        .collect()
}

fn fnv(parts: &[&str]) -> u64 {
    parts
        .iter()
        .flat_map(|s| s.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Runs what was compiled, under each instruction set, and compares.
pub(super) fn ran(good: &[(usize, Built)], folder: &Path) -> Vec<(usize, Outcome)> {
    let mut numbers: Vec<u64> = vec![ROUNDS as u64];
    for (_, built) in good {
        for (k, rounds) in built.compiled.iter().flatten().zip(&built.meanings) {
            rounds.iter().for_each(|m| arguments(k, m.as_ref(), &mut numbers));
        }
    }
    let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    std::fs::write(folder.join("arguments"), bytes).expect("the arguments are written");
    let sets = ["portable", "avx2", "avx512"].into_iter().filter(|set| available(set));
    let mut outcomes: Vec<(usize, Outcome)> = Vec::new();
    let results: Vec<(&str, Result<Vec<f64>, String>)> = sets
        .map(|set| {
            let mut command = Command::new(folder.join("main"));
            let output = command
                .current_dir(folder)
                .args(["arguments", set])
                .env("COTANGENT_ISA", set)
                .output()
                .expect("the program starts");
            if !output.status.success() {
                return (set, Err(String::from_utf8_lossy(&output.stderr).into_owned()));
            }
            let bytes = std::fs::read(folder.join(set)).expect("results");
            let number = |b: &[u8]| f64::from_bits(u64::from_le_bytes(b.try_into().expect("eight")));
            (set, Ok(bytes.chunks_exact(8).map(number).collect()))
        })
        .collect();
    let mut at = vec![0; results.len()];
    for (n, built) in good {
        let (mut failure, mut tally) = (None, built.tally.clone());
        for (s, (set, results)) in results.iter().enumerate() {
            let results = match results {
                Ok(results) => results,
                Err(said) => {
                    failure = failure.or(Some(("crash", format!("under {set}: {said}"))));
                    continue;
                }
            };
            for (k, rounds) in built.compiled.iter().flatten().zip(&built.meanings) {
                for (round, meaning) in rounds.iter().enumerate() {
                    let (used, wrong) = compared(k, meaning.as_ref(), round, &results[at[s]..], &mut tally);
                    at[s] += used;
                    if let Some((kind, what)) = wrong {
                        failure =
                            failure.or(Some((kind, format!("{}, round {round}, under {set}: {what}", k.kernel.name))));
                    }
                }
            }
        }
        outcomes.push((*n, failure.map_or(Outcome::Right(tally), |(kind, what)| Outcome::Wrong(kind, what))));
    }
    for (s, (set, results)) in results.iter().enumerate() {
        assert!(results.as_ref().map_or(true, |r| r.len() == at[s]), "{set}: results that nothing expects");
    }
    outcomes
}

fn available(set: &str) -> bool {
    match set {
        #[cfg(target_arch = "x86_64")]
        "avx2" => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        #[cfg(target_arch = "x86_64")]
        "avx512" => {
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            wide && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq")
        }
        set => set == "portable",
    }
}

/// The arguments of every function of a kernel, in the order in which the program takes them.
fn arguments(k: &Compiled, meaning: Option<&Meaning>, numbers: &mut Vec<u64>) {
    let op = &k.certified.op;
    for f in k.kernel.functions.iter().filter(|f| f.kind != Kind::Stage) {
        numbers.push(fnv(&[&op.name, &k.kernel.name, &f.name]));
        let value = |t: TensorId, numbers: &mut Vec<u64>| {
            let from = storage(&k.kernel, t);
            numbers.push(from.len() as u64);
            let drawn = meaning.and_then(|m| m.drawn.get(&t));
            numbers.extend(from.iter().map(|at| drawn.map_or(0.0, |d| d[*at]).to_bits()));
        };
        for t in &f.reads {
            // An output that a rule reads is what `forward` gave.
            match op.tensor(*t).role {
                Role::Output => numbers.push(u64::MAX),
                _ => value(*t, numbers),
            }
        }
        for t in &f.writes {
            if f.accumulated.contains(t) {
                value(*t, numbers);
            } else {
                let len = k.kernel.tensor(*t).elements();
                numbers.push(len as u64);
                numbers.extend(std::iter::repeat_n(f64::NAN.to_bits(), len));
            }
        }
    }
}

/// The steps by which an entry point of a program computes the outputs. Where these are the same, so are the bits: a step
/// that one puts into the sum that reads it, and another keeps for a derivative, may round otherwise.
fn steps(op: &Op, kind: Kind) -> Option<Vec<Stmt>> {
    let function = op.program.as_ref()?.functions.iter().find(|f| entry(kind) == Some(f.entry))?;
    let stmts = derive::live(&function.stmts, &op.outputs().into_iter().collect());
    // Recurrences have numbers of their own in each.
    Some(stmts.into_iter().map(|s| Stmt { scan: None, ..s }).collect())
}

/// Results of every function of a kernel against what they shall be: how many there were, and the first that is wrong.
fn compared(
    k: &Compiled,
    meaning: Option<&Meaning>,
    round: usize,
    results: &[f64],
    tally: &mut Tally,
) -> (usize, Option<(&'static str, String)>) {
    let op = &k.certified.op;
    let kernel = &k.kernel;
    let unit = kernel.dtype.unit();
    let mut wrong = None;
    let mut at = 0;
    let mut first: BTreeMap<TensorId, Vec<f64>> = BTreeMap::new();
    for (n, f) in kernel.functions.iter().filter(|f| f.kind != Kind::Stage).enumerate() {
        for t in &f.writes {
            let from = storage(kernel, *t);
            let got = &results[at..at + from.len()];
            at += from.len();
            let Some(meaning) = meaning else { continue };
            let name = &op.tensor(*t).name;
            // The same value, the same bits.
            if op.tensor(*t).role == Role::Output {
                match first.get(t) {
                    None => _ = first.insert(*t, got.to_vec()),
                    Some(y) => {
                        tally.add("bits", got.len());
                        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                        if !y.iter().zip(got).all(same)
                            && matches!(f.kind, Kind::Jvp | Kind::ValueAndGrad | Kind::ValueGradAndHvp)
                            && wrong.is_none()
                            && steps(op, f.kind) == steps(op, Kind::Forward)
                        {
                            let (a, b) = y.iter().zip(got).find(|(a, b)| !same((a, b))).expect("one differs");
                            wrong = Some(("bits", format!("{} gives {name} {b:e}, forward {a:e}", f.name)));
                        }
                    }
                }
            }
            let (expected, doubt) = &meaning.expected[n];
            if *doubt {
                tally.add("in doubt", got.len());
                continue;
            }
            for (n, (got, element)) in got.iter().zip(&from).enumerate() {
                let mut wanted = expected[t][*element];
                if f.accumulated.contains(t) {
                    let before = meaning.drawn[t][*element];
                    wanted.value += before;
                    wanted.error += unit * (before.abs() + wanted.value.abs());
                }
                let bound = 4.0 * wanted.error + 4.0 * unit * wanted.value.abs() + kernel.dtype.least();
                let (kind, right) = match wanted.value.is_finite() {
                    _ if bound.is_nan()
                        || bound.is_infinite() && wanted.value.is_finite()
                        || wanted.error.is_infinite() =>
                    {
                        ("unbounded", true)
                    }
                    true => ("compared", (got - wanted.value).abs() <= bound),
                    false if round < 2 => {
                        ("not finite", got.is_nan() == wanted.value.is_nan() && (got.is_nan() || *got == wanted.value))
                    }
                    false => ("not finite", true),
                };
                tally.add(kind, 1);
                if kind == "compared" && bound > 1e-3 * (1e-3 + wanted.value.abs()) {
                    tally.add("loose", 1);
                }
                if !right && wrong.is_none() {
                    let value = wanted.value;
                    wrong = Some((
                        "value",
                        format!(
                            "{}: {name}[{n}] is {got:e}, not {value:e}, off by {:e}, bound {bound:e}",
                            f.name,
                            (got - value).abs()
                        ),
                    ));
                }
            }
        }
    }
    (at, wrong)
}
