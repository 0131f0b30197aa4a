//! Functions of negations, quotients and other functions: takes formulas that need brackets in Rust, gives them to
//! every path of the emitter (scalars, lanes, speculative blocks), compiled and run. What holds after it: values are
//! those of the same formula written by hand with the functions of std, and gradients are slopes of these.

use crate::generated::{folder, render, run, rustc};
use cotangent_build::Build;
use std::fmt::Write;
use std::process::Command;

/// A formula of `x`, in the language and in Rust.
const FORMULAS: [(&str, &str); 18] = [
    ("exp(-x[i])", "(-x).exp()"),
    ("2 / (x[i] / 3)", "2.0 / (x / 3.0)"),
    ("exp(-x[i] / (x[i] / 3 / 2))", "(-x / (x / 3.0 / 2.0)).exp()"),
    ("-(x[i] / (1 + x[i]^2))", "-(x / (1.0 + x * x))"),
    ("(-x[i])^2 / -(x[i] + 9)", "(-x).powi(2) / -(x + 9.0)"),
    ("(-(x[i] / 5))^3 - (1 - (x[i] - 2))", "(-(x / 5.0)).powi(3) - (1.0 - (x - 2.0))"),
    ("tanh(-tanh(x[i] / 2) / 2)", "(-(x / 2.0).tanh() / 2.0).tanh()"),
    ("max(-x[i], x[i] / 2 / 3)", "(-x).max(x / 2.0 / 3.0)"),
    ("where(-x[i] > 1 / (x[i] / 2), exp(-x[i]), -x[i])", "if -x > 1.0 / (x / 2.0) { (-x).exp() } else { -x }"),
    ("pow(abs(-x[i]), x[i] / 4 / 2)", "(-x).abs().powf(x / 4.0 / 2.0)"),
    ("sin(sin(x[i]))", "x.sin().sin()"),
    ("sin(-cos(x[i] / 2))", "(-(x / 2.0).cos()).sin()"),
    ("sin(x[i]) * cos(sin(x[i]))", "x.sin() * x.sin().cos()"),
    ("sin(cos(sin(cos(x[i])) + cos(x[i])))", "(x.cos().sin() + x.cos()).cos().sin()"),
    ("max(sin(cos(x[i])), cos(tan(sin(x[i]))))", "x.cos().sin().max(x.sin().tan().cos())"),
    (
        "where(sin(x[i]) > 0, cos(tan(x[i] / 9)), sin(sin(x[i])))",
        "if x.sin() > 0.0 { (x / 9.0).tan().cos() } else { x.sin().sin() }",
    ),
    (
        "where(sin(cos(x[i])) > 0 and not cos(sin(x[i])) < sin(x[i] / 3), sin(x[i]), cos(where(x[i] > 0, sin(x[i]), 1)))",
        "if x.cos().sin() > 0.0 && !(x.sin().cos() < (x / 3.0).sin()) { x.sin() } else { (if x > 0.0 { x.sin() } else { 1.0 }).cos() }",
    ),
    (
        "(1 + sin(sin(x[i])))^2 / (2 + cos(sin(x[i])) / 3)",
        "(1.0 + x.sin().sin()).powi(2) / (2.0 + x.sin().cos() / 3.0)",
    ),
];

/// As many elements as fill vectors and speculative blocks, with a rest.
const N: usize = 277;

/// Elements, their sum and their product: what is set, what is added in lanes, and a recurrence of scalars.
fn spec(name: &str, formula: &str) -> String {
    format!(
        "op: {name}\ninputs: {{x: [I]}}\noutputs: {{y: [I], z: []}}\nforward:\n  - y[i] = {formula}\n  - z = sum(i) ({formula})\nadjoint: derived\n\
         instances: [{{name: a, I: {N}, dtype: f64}}]\n"
    )
}

#[test]
fn formulas_are_computed_as_they_are_bracketed() {
    let names: Vec<String> = (0..FORMULAS.len()).map(|n| format!("f{n}")).collect();
    let specs: Vec<(&str, String)> = names.iter().zip(FORMULAS).map(|(n, f)| (n.as_str(), spec(n, f.0))).collect();
    let specs: Vec<(&str, &str)> = specs.iter().map(|(n, s)| (*n, s.as_str())).collect();
    let folder = folder("formulas", &specs);
    render(&folder, "every", Build::new());
    std::fs::write(folder.join("main.rs"), main_text("every")).expect("the file is written");
    run(rustc()
        .args(["--edition", "2024", "-C", "debuginfo=0", "-D", "warnings", "main.rs", "-o", "main"])
        .current_dir(&folder));
    let main = || Command::new(folder.join("main"));
    let (sets, _) = run(main().arg("sets"));
    assert!(sets.lines().count() > 0);
    for set in sets.lines() {
        let (said, _) = run(main().env("COTANGENT_ISA", set));
        assert_eq!(said, format!("{} formulas by {set}\n", FORMULAS.len()));
    }
}

/// Every formula at points on both sides of zero and of one, and at arguments that are rare for sines.
fn main_text(module: &str) -> String {
    let mut text = format!(
        r#"mod {module};

fn close(what: &str, got: f64, want: f64, tolerance: f64) {{
    assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{{what}}: {{got}} is not {{want}}");
}}

fn main() {{
    if std::env::args().len() > 1 {{
        return {module}::cotangent::isa::names().iter().for_each(|name| println!("{{name}}"));
    }}
    // None is a kink or a pole of a formula.
    let mut moderate = [0.0; {N}];
    for (i, x) in moderate.iter_mut().enumerate() {{
        *x = ((i as f64 * 0.618033988749895).fract() - 0.5) * 5.9 + 0.003;
    }}
    // One rare argument in the first block, one in the rest.
    let mut rare = moderate;
    rare[3] = 1e9;
    rare[{N} - 2] = -7e8;
    let mut formulas = 0;
"#
    );
    for (n, (formula, hand)) in FORMULAS.iter().enumerate() {
        let _ = writeln!(
            text,
            r#"    {{
        use {module}::f{n}::a::*;
        let f = |x: f64| -> f64 {{ {hand} }};
        let what = "{formula}";
        let trigonometric = what.contains("sin") || what.contains("cos");
        for x in [moderate, rare].into_iter().take(if trigonometric {{ 2 }} else {{ 1 }}) {{
            let (mut y, mut z) = ([f64::NAN; {N}], f64::NAN);
            forward(&x, &mut y, &mut z);
            let sum: f64 = x.iter().map(|x| f(*x)).sum();
            let size: f64 = x.iter().map(|x| f(*x).abs()).sum();
            y.iter().zip(x).for_each(|(y, x)| close(what, *y, f(x), 1e-13));
            assert!((z - sum).abs() < 1e-13 * size.max(1.0), "the sum of {{what}}: {{z}} is not {{sum}}");
        }}
        let x = moderate;
        let (mut x_dot, mut y_dot, mut z_dot) = ([0.0; {N}], [f64::NAN; {N}], f64::NAN);
        x_dot.iter_mut().enumerate().for_each(|(i, d)| *d = (i as f64 * 0.37).sin());
        let (mut y, mut z) = ([f64::NAN; {N}], f64::NAN);
        jvp(&x, &x_dot, &mut y, &mut z, &mut y_dot, &mut z_dot);
        let slope = |x: f64| {{ let h = 2e-6 * x.abs(); (f(x + h) - f(x - h)) / (2.0 * h) }};
        y_dot.iter().zip(x).zip(x_dot).for_each(|((got, x), d)| close(what, *got, slope(x) * d, 2e-8));
        let sum: f64 = x.iter().zip(x_dot).map(|(x, d)| slope(*x) * d).sum();
        let size: f64 = x.iter().zip(x_dot).map(|(x, d)| (slope(*x) * d).abs()).sum();
        assert!((z_dot - sum).abs() < 2e-8 * size.max(1.0), "the sum of {{what}}: {{z_dot}} is not {{sum}}");
        let mut x_bar = [f64::NAN; {N}];
        vjp_store(&x, &x_dot, &0.75, &mut x_bar);
        x_bar.iter().zip(x).zip(x_dot).for_each(|((got, x), d)| close(what, *got, slope(x) * (d + 0.75), 2e-8));
        formulas += 1;
    }}"#
        );
    }
    text + "    println!(\"{formulas} formulas by {}\", std::env::var(\"COTANGENT_ISA\").unwrap());\n}\n"
}
