//! Passes of the plain IR: for each a small spec, and the lines of one of its functions that it changes. What holds
//! after it: each pass does what its name says where the table has it, and what the last leaves is the plain IR that
//! later stages take.

use cotangent_build::certify::Certified;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::plain::passes::{PASSES, Pass};
use cotangent_build::source::Sources;
use cotangent_build::{Options, pipeline, plain};

/// A pass, a spec, a function of it, and what it has in place of what.
struct Case {
    pass: &'static str,
    spec: &'static str,
    function: &'static str,
    before: &'static [&'static str],
    after: &'static [&'static str],
}

const PRODUCT: &str = "inputs: {w: [I, J], x: [J]}
outputs: {y: [I]}
forward:
  - y[i] = sum(j) w[i, j] * x[j]
instances: [{name: n, I: 2, J: 3}]
";
const STRIDE: &str = "inputs: {x: [S], k: [T]}
outputs: {y: [O]}
sizes:
  O: (S - T) / 2 + 1
forward:
  - y[o] = sum(t) x[2*o + t] * k[t]
instances: [{name: n, S: 9, T: 3}]
";
const CHOICE: &str = "inputs: {a: [I, J], b: [I, J]}
outputs: {y: [I]}
forward:
  - y[i] = sum(j) where(j == 0, a[i, j], b[i, j])
instances: [{name: n, I: 2, J: 3}]
";
const CHAIN: &str = "inputs: {x: [T, K], u: [K, K], v: [K, K]}
outputs: {h: [T, K]}
forward:
  - h[t, k] = x[t, k] + sum(j in K) where(t == 0, u[j, k], v[j, k] * h[t - 1, j])
instances: [{name: n, T: 4, K: 3}]
";
const SMEAR: &str = "inputs: {x: [T, K], u: [D]}
outputs: {h: [T, K]}
forward:
  - h[t, k] = x[t, k] + sum(d) u[d] * h[t - 1, k + d - 1]
instances: [{name: n, T: 4, K: 5, D: 3}]
";
const HEAD: &str = "inputs: {x: [I]}
outputs: {y: [I]}
forward:
  - z[i] = exp(x[i])
  - y[i] = where(i < 5, x[i], z[i])
instances: [{name: n, I: 4}]
";
const POOL: &str = "inputs: {x: [S]}
outputs: {y: [P]}
sizes:
  P: S / W
forward:
  - b = relu(x)
  - y[p] = max(w) b[p*W + w]
instances: [{name: n, S: 4, W: 2}]
";

const BESIDE: &str = "inputs: {x: [I], w: [I]}
outputs: {y: [I]}
forward:
  - y[i] = x[i - 1] * w[i] + exp(x[i + 1])
instances: [{name: n, I: 4}]
";

const CASES: [Case; 9] = [
    Case {
        pass: "merge",
        spec: PRODUCT,
        function: "jvp",
        before: &[],
        after: &[
            "[i:2] y[i] = sum(j:3) w[i, j] * x[j]",
            "[i:2] y_dot[i] = sum(j:3) (w_dot[i, j] * x[j] + w[i, j] * x_dot[j])",
        ],
    },
    Case {
        pass: "split",
        spec: CHOICE,
        function: "forward",
        before: &["[i:2] y[i] = sum(j:3) where(j == 0, a[i, j], b[i, j])"],
        after: &["[i:2] y[i] = a[i, 0]", "[i:2] y[i] += sum(j:2) b[i, j + 1]"],
    },
    Case {
        pass: "gather",
        spec: STRIDE,
        function: "vjp_x_store",
        before: &["[o:4 t:3] x_bar[2*o + t] += y_bar[o] * k[t]"],
        after: &["[s:5] x_bar[2*s] += sum(t:2) y_bar[s - t?] * k[2*t]", "[s:4] x_bar[2*s + 1] += y_bar[s] * k[1]"],
    },
    Case {
        pass: "initialise",
        spec: CHAIN,
        function: "vjp_v_store",
        before: &["[j:3 k:3] v_bar[j, k] += sum(t:3) h_dot_t[t + 1, k] * h[t, j]"],
        after: &["[j:3 k:3] v_bar[j, k] = sum(t:3) h_dot_t[t + 1, k] * h[t, j]"],
    },
    Case {
        pass: "segment",
        spec: CHAIN,
        function: "forward",
        before: &["along t: 4 in turn", "[t:4 k:3] h[t, k] += sum(j:3) where(t == 0, u[j, k], v[j, k] * h[t - 1?, j])"],
        after: &[
            "along t: 1 in turn",
            "[k:3] h[0, k] += sum(j:3) u[j, k]",
            "along t: 3 in turn",
            "[t:3 k:3] h[t + 1, k] += sum(j:3) v[j, k] * h[t, j]",
        ],
    },
    Case {
        pass: "gather-recurrences",
        spec: SMEAR,
        function: "vjp_x_store",
        before: &["[t:4 k:5 d:3] h_dot_t[-t + 2?, k + d - 1?] += u[d] * h_dot_t[-t + 3, k]"],
        after: &["[t:4 k:5] h_dot_t[-t + 2?, k] += sum(d:3) u[d] * h_dot_t[-t + 3, k - d + 1?]"],
    },
    Case { pass: "prune", spec: HEAD, function: "forward", before: &["[i:4] z[i] = exp(x[i])"], after: &[] },
    Case {
        pass: "inline",
        spec: POOL,
        function: "vjp_store",
        before: &[
            "[p:2 w:2] b_bar[2*p + w] = where(b[2*p + w] == t[p], t2_t[p], 0.0)",
            "[s:4] x_bar[s] = where(x[s] <= 0.0, 0.0, b_bar[s])",
        ],
        after: &["[p:2 w:2] x_bar[2*p + w] = where(x[2*p + w] <= 0.0, 0.0, where(b[2*p + w] == t[p], t2_t[p], 0.0))"],
    },
    Case {
        pass: "mask",
        spec: BESIDE,
        function: "forward",
        before: &["[i:4] y[i] = (x[i - 1?] * w[i] + exp(x[i + 1?]))"],
        after: &["[i:4] y[i] = (masked(i - 1 in 0..4, x[i - 1?] * w[i]) + exp(masked(i + 1 in 0..4, x[i + 1?])))"],
    },
];

fn certified(spec: &str) -> Certified {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add("case.yaml", format!("op: case\n{spec}"));
    pipeline::certified(id, &sources, &mut out).unwrap_or_else(|| panic!("{}", out.render(&sources)))
}

/// The lines of a function after a pass.
fn lines(c: &Certified, pass: &Pass, function: &str) -> Vec<String> {
    let kernels = pipeline::plain_after(c, pass, &mut Diagnostics::default());
    let text = plain::print::kernel(&kernels[0]);
    let own = text.lines().skip_while(|l| !l.starts_with(&format!("{function}("))).skip(1);
    own.take_while(|l| l.starts_with(' ')).map(|l| l.trim().to_string()).collect()
}

#[test]
fn each_pass_does_what_it_is_called() {
    assert_eq!(CASES.map(|c| c.pass), PASSES.each_ref().map(|p| p.name));
    for (n, case) in CASES.iter().enumerate() {
        let c = certified(case.spec);
        let before = n.checked_sub(1).map_or_else(Vec::new, |n| lines(&c, &PASSES[n], case.function));
        let after = lines(&c, &PASSES[n], case.function);
        let gone: Vec<&String> = before.iter().filter(|l| !after.contains(l)).collect();
        let new: Vec<&String> = after.iter().filter(|l| !before.contains(l)).collect();
        assert!(gone == case.before && new == case.after, "{}: {gone:#?} became {new:#?}", case.pass);
    }
}

#[test]
fn the_last_pass_leaves_what_later_stages_take() {
    let last = PASSES.last().expect("there are passes");
    for case in &CASES {
        let c = certified(case.spec);
        let mut out = Diagnostics::default();
        let print = |kernels: Vec<plain::Kernel>| kernels.iter().map(plain::print::kernel).collect::<String>();
        let after = print(pipeline::plain_after(&c, last, &mut out));
        let planned = pipeline::kernels(&c, &Options::default(), &mut out);
        assert_eq!(after, print(planned.into_iter().map(|k| k.kernel).collect()));
    }
}
