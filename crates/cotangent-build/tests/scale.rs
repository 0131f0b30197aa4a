//! Scale: takes specs of many steps, and of large numbers, gives their nests. What holds after it: compile time is
//! about linear in the steps, and does not know the numbers. The ceilings are many times what it takes.

use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::nest::schedule::{Target, schedule};
use cotangent_build::source::Sources;
use cotangent_build::{Options, pipeline};
use std::time::{Duration, Instant};

/// Compiles a spec to nests; gives how long that took.
fn compiled(text: &str) -> Duration {
    let begin = Instant::now();
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let source = sources.add("scale.yaml", text.to_string());
    let certified = pipeline::certified(source, &sources, &mut out);
    let certified = certified.unwrap_or_else(|| panic!("{}", out.render(&sources)));
    let kernels = pipeline::kernels(&certified, &Options::default(), &mut out);
    assert_eq!(kernels.len(), certified.spec.instances.len(), "{}", out.render(&sources));
    kernels.iter().for_each(|k| _ = schedule(k, &Target::default()));
    begin.elapsed()
}

#[test]
fn numbers_cost_nothing() {
    let shift =
        "inputs: {x: [I]}\nparams: {lo: I}\nsizes: {J: I + 2*lo}\noutputs: {y: [J]}\nforward: [\"y[j] = x[j - lo]\"]\n";
    let window = "inputs: {x: [N, S, C], k: [T, C, D]}\nparams: {lo: S, stride: S, dilation: S}\noutputs: {y: [N, O, D]}\n\
                  sizes: {O: (S + 2*lo - dilation*(T - 1) - 1) / stride + 1}\n\
                  forward: [\"y[n,o,d] = sum(t,c) x[n, o*stride + t*dilation - lo, c] * k[t,c,d]\"]\n";
    let product =
        "inputs: {x: [I], w: [J], v: [K]}\noutputs: {y: []}\nforward: [\"y = sum(i,j,k) x[i] * w[j] * v[k]\"]\n";
    let spread = "inputs: {x: [I]}\nparams: {rate: int}\noutputs: {y: [J]}\nforward: [\"y[j] = x[j / rate]\"]\n";
    for (head, instance) in [
        (shift, "I: 9, lo: 100000000"),
        (shift, "I: 1000000000, lo: 3"),
        (shift, "I: 2000000011, lo: 5"),
        (window, "N: 2, S: 16, C: 1, D: 1, T: 3, lo: 100000000, stride: 1, dilation: 1"),
        (window, "N: 1, S: 100000000, C: 2, D: 3, T: 3, lo: 1, stride: 1000000, dilation: 1000000"),
        (window, "N: 1, S: 2000000000, C: 1, D: 1, T: 5, lo: 2, stride: 999983, dilation: 7919"),
        (product, "I: 1000000000, J: 1000000000, K: 2"),
        (product, "I: 999999937, J: 3, K: 5"),
        (product, "I: 2147483647, J: 2147483647, K: 2147483647"),
        (spread, "I: 2000, J: 2000000000, rate: 1000000"),
        (spread, "I: 1000000000, J: 7, rate: 3"),
        (spread, "I: 3, J: 1000000000, rate: 500000003"),
    ] {
        let took = compiled(&format!("op: scale\n{head}instances: [{{name: a, {instance}}}]\n"));
        assert!(took < Duration::from_secs(30), "{took:?}: {instance} of\n{head}");
    }
}

/// A sum of as many terms as there are outputs is no expression as deep.
#[test]
fn a_thousand_outputs_fit_the_stack() {
    let all = |text: &dyn Fn(usize) -> String, between: &str| (0..1000).map(text).collect::<Vec<_>>().join(between);
    let outputs = all(&|k| format!("y{k}: [I]"), ", ");
    let steps = all(&|k| format!("  - y{k}[i] = x[i] * {k}.5"), "\n");
    let spec = format!(
        "op: scale\ninputs: {{x: [I]}}\noutputs: {{{outputs}}}\nforward:\n{steps}\ninstances: [{{name: a, I: 8}}]\n"
    );
    compiled(&spec);
}

/// A chain of `n` steps.
fn steps(head: &str, n: usize) -> String {
    let name = |k: usize| if k == n { "y".to_string() } else { format!("h{k}") };
    let before = |k: usize| if k == 1 { "x".to_string() } else { name(k - 1) };
    let step = |k: usize| format!("  - {}[i] = 0.5 * {b}[i] + sin({b}[i])\n", name(k), b = before(k));
    let steps: String = (1..=n).map(step).collect();
    format!("{head}: scale\ninputs: {{x: [I]}}\noutputs: {{y: [I]}}\nforward:\n{steps}instances: [{{name: a, I: 4}}]\n")
}

#[test]
fn five_times_the_steps_take_about_five_times_as_long() {
    for head in ["op", "program"] {
        let [few, many] = [400, 2000].map(|n| compiled(&steps(head, n)).as_secs_f64());
        // Were it quadratic it would be 25 times.
        assert!(many < 13.0 * few.max(0.2), "{few:.2} s and {many:.2} s: {head}");
    }
}
