//! Every stage against values that JAX computed: takes `cases/`, gives a failure for each tensor that a stage computes
//! otherwise. The stages are the interpreters of the index, plain and nest IRs and the generated kernels, in both
//! scalar types.
//!
//! Tolerances, with `m` the largest element of the tensor: 1e-12 `m` and at least 1e-12 in `f64`, 1e-5 `m` and at least
//! 1e-6 in `f32`, whose inputs are of the order of 1 and already rounded.

#[path = "../src/cases.rs"]
#[allow(dead_code, reason = "the build script uses the rest")]
mod cases;
mod edges;
mod meaning;
#[path = "../../support/mod.rs"]
#[allow(dead_code, reason = "the tests of the bundled kernels use the rest")]
mod support;

use cases::{Case, Layout, SCALARS};
use cotangent::{FunctionInfo, Kind, Role};
use cotangent_build::nest::machine::MACHINES;
use std::collections::BTreeSet;
use std::path::Path;
use support::{Buffers, Kernel, difference, largest, say};

cotangent_reference::kernels::for_each_kernel!(kernel_list);

/// The files of this package.
fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Counts comparisons, collects the failures.
#[derive(Default)]
struct Tally {
    checks: usize,
    failures: Vec<String>,
}

impl Tally {
    fn equal(&mut self, what: impl FnOnce() -> String, got: &[f64], wanted: &[f64], tolerance: f64) {
        self.checks += 1;
        if let Some((at, got, wanted)) = difference(got, wanted, tolerance) {
            let what = what();
            self.failures.push(format!("  {what}[{at}] is {got:e}, not {wanted:e} (tolerance {tolerance:e})"));
        }
    }

    fn finish(self, what: &str) {
        say(format!("{what}, {} checks", self.checks));
        assert!(self.failures.is_empty(), "{} failures\n{}", self.failures.len(), self.failures.join("\n"));
    }
}

/// What a kernel must compute, by argument.
fn expected(case: &Case, stored: impl Fn(&str, &[f64]) -> Vec<f64>) -> Buffers {
    let sections = [
        ("inputs", ""),
        ("tangents", "_dot"),
        ("outputs", ""),
        ("jvp", "_dot"),
        ("cotangents", "_bar"),
        ("vjp", "_bar"),
    ];
    let mut b = Buffers::new();
    for (section, suffix) in sections {
        for (name, data) in case.tensors(section) {
            let name = format!("{name}{suffix}");
            let data = stored(&name, &data);
            b.insert(name, data);
        }
    }
    b
}

/// Runs a function on the expected tensors, what it writes started anew, and compares what it wrote.
fn check(
    stage: &str,
    k: &Kernel,
    f: &FunctionInfo,
    expected: &Buffers,
    tally: &mut Tally,
    run: impl FnOnce(&str, &mut Buffers),
) {
    let mut b = expected.clone();
    for w in f.writes {
        let start = if f.accumulates { 0.0 } else { f64::NAN };
        b.get_mut(*w).expect("results are expected").fill(start);
    }
    run(f.name, &mut b);
    for w in f.writes {
        let size = largest(&expected[*w]);
        let tolerance = k.pick((1e-5 * size).max(1e-6), 1e-12 * size.max(1.0));
        tally.equal(|| format!("{} {} by {stage}: {w}", k.path(), f.name), &b[*w], &expected[*w], tolerance);
    }
}

#[test]
fn every_stage_computes_the_reference_values() {
    let cases = cases::all(&folder("cases"));
    let ops = meaning::ops();
    let meanings = meaning::meanings(&ops);
    let kernels = kernels();
    let mut tally = Tally::default();
    let mut used = BTreeSet::new();
    for case in &cases {
        for (scalar, layout) in SCALARS.into_iter().flat_map(|s| [(s, Layout::Declared), (s, Layout::Other)]) {
            let name = case.instance(scalar, layout);
            let Some(k) = kernels.iter().find(|k| k.info.op == case.op && k.info.name == name) else {
                assert!(layout == Layout::Other, "no kernel for case {} of {}", case.name, case.op);
                continue;
            };
            used.insert(k.path());
            let meaning = &meanings[&(case.op.clone(), name)];
            let expected = expected(case, |name, data| meaning.stored(name, data));
            let mut without: BTreeSet<String> = k.tensors(Role::Input).map(|t| format!("{}_bar", t.name)).collect();
            for f in k.info.functions {
                check("the kernel", k, f, &expected, &mut tally, |f, b| k.call(f, b));
                without.retain(|w| !f.writes.contains(&w.as_str()));
                if scalar == "f64" {
                    for machine in MACHINES {
                        let what = format!("the nest for {}", machine.name);
                        check(&what, k, f, &expected, &mut tally, |f, b| meaning.nest(machine, f, b));
                    }
                    check("the plain statements", k, f, &expected, &mut tally, |f, b| meaning.plain(f, b));
                }
            }
            // No function gives them, so they have to be zero.
            for w in &without {
                let zeros = vec![0.0; expected[w].len()];
                tally.equal(|| format!("{} lacks {w}", k.path()), &zeros, &expected[w], 0.0);
            }
            if scalar == "f64" {
                let mut b = expected.clone();
                meaning.index(&mut b);
                for (name, wanted) in &expected {
                    let tolerance = 1e-12 * largest(wanted).max(1.0);
                    tally.equal(|| format!("{} by the formula: {name}", k.path()), &b[name], wanted, tolerance);
                }
            }
        }
    }
    let covered: BTreeSet<&str> = cases.iter().map(|c| c.op.as_str()).collect();
    // Every op of the tests has values, every kernel a case or an edge.
    for entry in std::fs::read_dir(folder("ops")).expect("ops") {
        let path = entry.expect("an entry").path();
        let op = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let edge = folder("edges").join(format!("{op}.yaml")).exists();
        assert!(covered.contains(op.as_str()) || edge, "{op} is compared with nothing");
    }
    for k in kernels.iter().filter(|k| !k.info.name.starts_with("edge_")) {
        assert!(used.contains(&k.path()), "{} is compared with nothing", k.path());
    }
    assert!(kernels.iter().all(|k| k.function("forward").kind == Kind::Forward));
    tally.finish(&format!("reference: {} ops, {} cases, {} kernels", covered.len(), cases.len(), used.len()));
}

#[test]
fn every_instruction_set() {
    if std::env::var_os("COTANGENT_ISA").is_none() {
        support::on_every_instruction_set("every_instruction_set");
    }
}
