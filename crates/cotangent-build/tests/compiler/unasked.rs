//! What nobody asks for: entry points above the bounds are left out, the documentation says so, and `functions` makes
//! them.

use crate::generated::emptied as folder;
use cotangent_build::Build;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::plain::specialise::MOST_LINES;
use cotangent_build::plain::{Kernel, TooMuch};
use cotangent_build::source::Sources;
use cotangent_build::{Options, pipeline};

/// So many layers of different sizes are too much.
const LAYERS: usize = 24;

/// A network of so many layers, no two of one size. `program` and `instance` are keys besides.
fn network(layers: usize, program: &str, instance: &str) -> String {
    of_sizes(layers, program, instance, |n| n + 2)
}

/// A network whose layers take so many numbers each.
fn of_sizes(layers: usize, program: &str, instance: &str, size: fn(usize) -> usize) -> String {
    let inputs: Vec<String> = (0..layers).map(|n| format!("w{n}: [H{n}, H{}]", n + 1)).collect();
    let wrt: Vec<String> = (0..layers).map(|n| format!("w{n}")).collect();
    let steps: Vec<String> = (0..layers).map(|n| format!("  - a{} = tanh(matmul(a{n}, w{n}))\n", n + 1)).collect();
    let sizes: Vec<String> = (0..=layers).map(|n| format!("H{n}: {}", size(n))).collect();
    format!(
        "program: network\ninputs: {{a0: [B, H0], {}}}\noutputs: {{loss: []}}\nwrt: [{}]\n{program}forward:\n{}\
         \x20 - loss = sum(b,h{layers}) a{layers}[b,h{layers}]^2\n\
         instances: [{{name: n, B: 2, {}, dtype: f64{instance}}}]\n",
        inputs.join(", "),
        wrt.join(", "),
        steps.concat(),
        sizes.join(", ")
    )
}

fn kernel(text: &str) -> Kernel {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add("network.yaml", text.to_string());
    let certified = pipeline::certified(id, &sources, &mut out);
    let kernels = certified.map(|c| pipeline::kernels(&c, &Options::default(), &mut out));
    kernels.unwrap_or_default().pop().unwrap_or_else(|| panic!("{}", out.render(&sources))).kernel
}

fn has(kernel: &Kernel, name: &str) -> bool {
    kernel.functions.iter().any(|f| f.name == name)
}

/// Why an entry point is not there; nothing where it is.
fn why(kernel: &Kernel, name: &str) -> Option<TooMuch> {
    let why = kernel.left_out.iter().find(|l| l.name == name).map(|l| l.why);
    assert_eq!(why.is_some(), !has(kernel, name), "{name} of {:?}", kernel.left_out);
    why
}

#[test]
fn small_programs_have_everything() {
    let small = kernel(&network(1, "", ""));
    for name in ["forward", "jvp", "vjp", "vjp_store", "value_and_grad", "hvp", "jacobian", "hessian"] {
        assert_eq!(why(&small, name), None);
    }
}

/// It is not even derived, and nobody is told.
#[test]
fn all_three_at_once_are_made_for_those_who_ask() {
    let name = "value_grad_and_hvp";
    let unasked = kernel(&network(1, "", ""));
    assert!(!has(&unasked, name) && unasked.left_out.is_empty());
    let derived = |text: &str| {
        let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
        let id = sources.add("network.yaml", text.to_string());
        let certified =
            pipeline::certified(id, &sources, &mut out).unwrap_or_else(|| panic!("{}", out.render(&sources)));
        certified.op.program.iter().flat_map(|p| &p.functions).any(|f| f.entry.name() == name)
    };
    assert!(!derived(&network(1, "", "")));
    for (program, instance) in
        [("functions: [forward, value_grad_and_hvp]\n", ""), ("", ", functions: [value_grad_and_hvp]")]
    {
        let text = network(1, program, instance);
        assert!(derived(&text) && has(&kernel(&text), name), "{program}{instance}");
    }
    // Another instance may ask.
    let two = network(1, "", "")
        .replace("dtype: f64}]", "dtype: f64}, {name: m, B: 3, H0: 2, H1: 3, functions: [hvp, value_grad_and_hvp]}]");
    assert!(derived(&two), "{two}");
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add("network.yaml", two);
    let certified = pipeline::certified(id, &sources, &mut out).expect("it is right");
    let kernels = pipeline::kernels(&certified, &Options::default(), &mut out);
    assert_eq!(kernels.iter().map(|k| has(&k.kernel, name)).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn second_derivatives_are_left_out_above_a_size_of_code() {
    assert_eq!(why(&kernel(&network(5, "", "")), "hvp"), None);
    let large = kernel(&network(LAYERS, "", ""));
    assert!(
        matches!(why(&large, "hvp"), Some(TooMuch::Lines(n, MOST_LINES)) if n > MOST_LINES),
        "{:?}",
        large.left_out
    );
    for name in ["jacobian", "hessian"] {
        assert!(matches!(why(&large, name), Some(TooMuch::Elements(n, 64)) if n > 64), "{:?}", large.left_out);
    }
    for name in ["forward", "jvp", "vjp", "vjp_store", "value_and_grad"] {
        assert_eq!(why(&large, name), None);
    }
}

/// They share their stages, so that they are few lines.
#[test]
fn layers_of_one_size_count_once() {
    assert_eq!(why(&kernel(&of_sizes(LAYERS, "", "", |_| 9)), "hvp"), None);
}

/// The program asks for it, or the instance does; then nothing is left out.
#[test]
fn what_is_asked_for_is_made_whatever_its_size() {
    let program = network(LAYERS, "functions: [forward, hvp]\n", "");
    let instance = network(LAYERS, "", ", functions: [forward, hvp]");
    for text in [program, instance] {
        let made = kernel(&text);
        let entries: Vec<&str> = made.functions.iter().map(|f| f.name.as_str()).take(2).collect();
        assert_eq!(entries, ["forward", "hvp"]);
        assert!(made.left_out.is_empty() && !has(&made, "jvp"));
    }
    // So are dense derivatives: here by 70 elements.
    let dense = |instance: &str| {
        kernel(&format!(
            "program: many\ninputs: {{x: [N]}}\noutputs: {{y: []}}\nforward:\n  - y = sum(n) sin(x[n])\n\
             instances: [{{name: n, N: 70{instance}}}]\n"
        ))
    };
    assert_eq!(why(&dense(""), "hessian"), Some(TooMuch::Elements(70, 64)));
    let asked = dense(", functions: [hessian]");
    assert!(has(&asked, "hessian") && asked.left_out.is_empty());
}

/// Lines say which kernel lacks what, why, and how to ask for it.
#[test]
fn the_documentation_says_what_is_left_out() {
    let render = |name: &str, text: &str| {
        let ops = folder(&format!("unasked/{name}"));
        std::fs::write(ops.join("network.yaml"), text).expect("a spec");
        let build = Build::new().ops(&ops).self_contained(true).module("kernels").validate(false);
        let files = build.c_header("network.h").render().unwrap_or_else(|report| panic!("{report}")).files;
        [cotangent_build::emit::ROOT, "network.h"].map(|file| files[file].clone())
    };
    let [rust, header] = render("large", &network(LAYERS, "", ""));
    for text in [&rust, &header] {
        let line = text.lines().find(|l| l.contains("Left out")).expect("a line that says so");
        assert!(line.contains("`hvp` (about "), "{line}");
        assert!(line.contains(&format!("lines of code, unasked at most {MOST_LINES})")), "{line}");
        assert!(line.contains("`hessian` (of "), "{line}");
    }
    let asks = "`functions: [forward, jvp, vjp, vjp_store, value_and_grad, hvp]`";
    assert!(rust.contains(asks), "no {asks}");
    assert!(!rust.contains("pub fn hvp("));
    let [rust, header] = render("small", &network(1, "", ""));
    assert!(rust.contains("pub fn hvp(") && !rust.contains("Left out") && !header.contains("Left out"));
}
