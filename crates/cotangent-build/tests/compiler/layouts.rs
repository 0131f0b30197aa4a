//! Storage orders: takes programs and ops, each at sizes with and without `layout:`, runs every function of both on the
//! same elements, through the interpreters of plain functions and nests and as compiled Rust. What holds after it: a
//! layout changes where elements stand and nothing else, for tensors, their tangents and cotangents, and the tangents
//! of these; dense derivatives stand in declared order.

use crate::generated::{compile, folder, render};
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::nest::plan::Plan;
use cotangent_build::plain::{self, Function, Kernel, Kind};
use cotangent_build::source::Sources;
use cotangent_build::{Build, InstructionSet, Options, nest, pipeline};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

type Layout = &'static [(&'static str, &'static [&'static str])];

struct Case {
    name: &'static str,
    spec: &'static str,
    sizes: &'static [&'static str],
    layouts: &'static [Layout],
}

const CASES: &[Case] = &[
    Case {
        name: "products",
        spec: "program: products\ninputs: {x: [I, J], w: [J, K]}\noutputs: {z: []}\n\
               functions: [forward, jvp, vjp, value_and_grad, hvp, value_grad_and_hvp, jacobian, hessian]\nforward:\n\
               \x20 - a[i,k] = tanh(sum(j) x[i,j] * w[j,k])\n  - z = sum(i,k) a[i,k]^2 * (1 + sum(j) x[i,j] * x[i,j])\n",
        sizes: &["I: 2, J: 3, K: 1", "I: 2, J: 2, K: 2"],
        layouts: &[&[("x", &["J", "I"])], &[("w", &["K", "J"])], &[("x", &["J", "I"]), ("w", &["K", "J"])]],
    },
    // A group of dimensions, interleaved with axes; two outputs, of which a part of the way forward is of one alone.
    Case {
        name: "groups",
        spec: "program: groups\ninputs: {x: [N, S, C], k: [C, D]}\noutputs: {y: [N, S], u: [D, N]}\n\
               functions: [forward, jvp, vjp, jacobian]\nforward:\n\
               \x20 - a[n,s,d] = sum(c) x[n,s,c] * k[c,d]\n  - y[n,s] = sum(d) sin(a[n,s,d])\n  - u[d,n] = sum(s) a[n,s,d] * a[n,s,d]\n",
        sizes: &["N: 2, S: [2, 3], C: 3, D: 2", "N: 2, S: [2, 2], C: 2, D: 2"],
        layouts: &[
            &[("x", &["N", "C", "S.0", "S.1"])],
            &[("x", &["S.1", "N", "S.0", "C"]), ("k", &["D", "C"]), ("y", &["S.0", "N", "S.1"])],
            &[("y", &["S.1", "S.0", "N"]), ("u", &["N", "D"])],
        ],
    },
    Case {
        name: "recurrence",
        spec: "program: recurrence\ninputs: {x: [T, D], v: [D, K], u: [K, K]}\noutputs: {y: []}\n\
               functions: [forward, jvp, vjp, value_and_grad, hvp, value_grad_and_hvp, jacobian]\nforward:\n\
               \x20 - h[t,k] = tanh(sum(d) x[t,d] * v[d,k] + sum(j in K) h[t - 1, j] * u[j,k])\n  - y = sum(t,k) h[t,k]^2\n",
        sizes: &["T: 4, D: 2, K: 3", "T: 3, D: 3, K: 3"],
        layouts: &[&[("x", &["D", "T"]), ("v", &["K", "D"])]],
    },
    // Large enough to be cut into stages.
    Case {
        name: "staged",
        spec: "program: staged\ninputs: {x: [B, D], v: [D, H], w: [H, C]}\noutputs: {y: []}\nwrt: [v, w]\n\
               functions: [forward, jvp, vjp, value_and_grad, hvp, value_grad_and_hvp]\nforward:\n\
               \x20 - p = matmul(x, v)\n  - h[b,k in H] = max(p[b,k], 0)\n  - r[b,c] = sum(k in H) h[b,k] * w[k,c]\n\
               \x20 - y = sum(b,c) tanh(r[b,c])\n",
        sizes: &["B: 14, D: 3, H: 40, C: 2", "B: 24, D: 24, H: 24, C: 2"],
        layouts: &[&[("v", &["H", "D"]), ("w", &["C", "H"])], &[("x", &["D", "B"]), ("w", &["C", "H"])]],
    },
    Case {
        name: "rules",
        spec: "op: rules\ninputs: {x: [N, S, C], k: [C, D]}\noutputs: {y: [N, S, D]}\nforward:\n\
               \x20 - y[n,s,d] = sum(c) exp(x[n,s,c]) * k[c,d]\nadjoint: derived\n",
        sizes: &["N: 2, S: [2, 3], C: 5, D: 4", "N: 3, S: [3, 3], C: 3, D: 3"],
        layouts: &[
            &[("x", &["S.1", "N", "C", "S.0"]), ("y", &["D", "S.1", "N", "S.0"])],
            &[("k", &["D", "C"]), ("y", &["N", "D", "S.0", "S.1"])],
        ],
    },
];

/// The spec with an instance for each size as declared, `s0`, and in each layout, `s0_l0`.
fn text(case: &Case, layouts: &[Layout]) -> String {
    let mut text = format!("{}instances:\n", case.spec);
    for (s, sizes) in case.sizes.iter().enumerate() {
        let _ = writeln!(text, "  - {{name: s{s}, {sizes}, dtype: f64}}");
        for (l, layout) in layouts.iter().enumerate() {
            let all: Vec<_> = layout.iter().map(|(t, dims)| format!("{t}: [{}]", dims.join(", "))).collect();
            let _ = writeln!(text, "  - {{name: s{s}_l{l}, {sizes}, dtype: f64, layout: {{{}}}}}", all.join(", "));
        }
    }
    text
}

/// What a tangent or cotangent is of, by its name.
fn primal(name: &str) -> &str {
    match name.strip_suffix("_dot").or(name.strip_suffix("_bar")) {
        Some(of) => primal(of),
        None => name,
    }
}

/// For each dimension of storage the declared one: as the layout says.
fn storage(name: &str, declared: &[String], layout: Layout) -> Vec<usize> {
    match layout.iter().find(|(t, _)| *t == primal(name)) {
        Some((_, dims)) => {
            dims.iter().map(|d| declared.iter().position(|o| o == d).expect("a declared dimension")).collect()
        }
        None => (0..declared.len()).collect(),
    }
}

/// A value for each element in declared order, the same wherever it stands.
fn values(name: &str, elements: usize) -> Vec<f64> {
    let seed = name.bytes().map(usize::from).sum::<usize>();
    (0..elements).map(|n| ((seed * 31 + n * 17) % 41) as f64 / 41.0 - 0.45).collect()
}

/// The declared elements in storage order.
fn stored(values: &[f64], shape: &[usize], order: &[usize]) -> Vec<f64> {
    let extents: Vec<usize> = order.iter().map(|d| shape[*d]).collect();
    let mut out = Vec::new();
    for n in 0..values.len() {
        let (mut rest, mut at) = (n, vec![0; shape.len()]);
        for (place, extent) in extents.iter().enumerate().rev() {
            at[order[place]] = rest % extent;
            rest /= extent;
        }
        out.push(values[at.iter().zip(shape).fold(0, |flat, (i, extent)| flat * extent + i)]);
    }
    out
}

/// A tensor as declared, in storage order of a layout.
struct Laid {
    name: String,
    /// As declared.
    shape: Vec<usize>,
    order: Vec<usize>,
}

impl Laid {
    fn new(declared: &Kernel, t: cotangent_build::index::TensorId, layout: Layout) -> Laid {
        let tensor = declared.tensor(t);
        assert!(tensor.order.iter().copied().eq(0..tensor.shape.len()), "`{}` has no layout", tensor.name);
        let order = storage(&tensor.name, &tensor.dims, layout);
        Laid { name: tensor.name.clone(), shape: tensor.shape.clone(), order }
    }
    fn ty(&self) -> String {
        self.order.iter().rev().fold("f64".to_string(), |inner, d| format!("[{inner}; {}]", self.shape[*d]))
    }
    /// The element at `n0`, `n1`...
    fn element(&self, of: &str) -> String {
        self.order.iter().fold(of.to_string(), |place, d| format!("{place}[n{d}]"))
    }
    /// Loops over all elements in declared order; in them `n` counts.
    fn each(&self, body: &str) -> String {
        let mut text = "{ let mut n = 0; ".to_string();
        self.shape.iter().enumerate().for_each(|(d, extent)| _ = write!(text, "for n{d} in 0..{extent} {{ "));
        format!("{text}{body} n += 1;{} }}\n", " }".repeat(self.shape.len()))
    }
}

/// A kernel, and the plan and the nests of each of its functions.
type Made = (Kernel, Vec<Plan>, Vec<Vec<nest::Nest>>);

fn kernels(case: &Case, layouts: &[Layout]) -> Vec<Made> {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let id = sources.add(&format!("{}.yaml", case.name), text(case, layouts));
    let Some(certified) = pipeline::certified(id, &sources, &mut out) else { panic!("{}", out.render(&sources)) };
    let options = Options::default();
    let kernels = pipeline::kernels(&certified, &options, &mut out);
    let compiled = pipeline::schedule(&certified, kernels, &options, &mut out);
    assert_eq!(out.errors(), 0, "{}", out.render(&sources));
    compiled.into_iter().map(|c| (c.kernel, c.plans, c.nests)).collect()
}

fn near(what: &str, got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (n, (a, b)) in got.iter().zip(wanted).enumerate() {
        assert!((a - b).abs() <= 1e-10 * (1.0 + b.abs()), "{what}[{n}] is {a}, not {b}");
    }
}

/// Each kernel as declared with those of its layouts.
fn families(case: &Case, layouts: &[Layout]) -> Vec<(Made, Vec<(Layout, Made)>)> {
    let mut all = kernels(case, layouts).into_iter();
    let mut next = || all.next().expect("one for each instance");
    case.sizes.iter().map(|_| (next(), layouts.iter().map(|l| (*l, next())).collect())).collect()
}

fn entries(kernel: &Kernel) -> impl Iterator<Item = (usize, &Function)> {
    kernel.functions.iter().enumerate().filter(|(_, f)| f.kind != Kind::Stage)
}

#[test]
fn a_layout_moves_elements_and_nothing_else() {
    for case in CASES {
        for ((declared, ..), laid) in families(case, case.layouts) {
            for (n, f) in entries(&declared) {
                let mut wanted: BTreeMap<_, Vec<f64>> = BTreeMap::new();
                for t in f.reads.iter().chain(&f.writes) {
                    wanted.insert(*t, values(&declared.tensor(*t).name, declared.tensor(*t).elements()));
                }
                let given = wanted.clone();
                plain::eval::run(&declared, f, &mut wanted);
                for (layout, (kernel, _, nests)) in &laid {
                    let g = &kernel.functions[n];
                    assert_eq!((&f.name, &f.reads, &f.writes), (&g.name, &g.reads, &g.writes));
                    let laid = |t| Laid::new(&declared, t, layout);
                    let place = |t, values: &[f64]| stored(values, &laid(t).shape, &laid(t).order);
                    let given: BTreeMap<_, _> = given.iter().map(|(t, v)| (*t, place(*t, v))).collect();
                    let mut runs = vec![("plain", given.clone())];
                    plain::eval::run(kernel, g, &mut runs[0].1);
                    for n in &nests[n] {
                        let mut got = given.clone();
                        nest::eval::run(kernel, n, &mut got);
                        runs.push((n.machines[0].name, got));
                    }
                    for t in &f.writes {
                        let order = laid(*t).order;
                        let tensor = kernel.tensor(*t);
                        let shape: Vec<usize> = order.iter().map(|d| declared.tensor(*t).shape[*d]).collect();
                        let what = format!("{}::{}::{}: {}", case.name, kernel.name, f.name, tensor.name);
                        assert_eq!(tensor.shape, shape, "{what}");
                        for (stage, got) in &runs {
                            near(&format!("{what} of {stage}"), &got[t], &place(*t, &wanted[t]));
                        }
                    }
                }
            }
        }
    }
}

/// Calls a function of a kernel on the same elements and keeps what it wrote, in declared order.
fn call(f: &Function, module: &str, laid: &dyn Fn(cotangent_build::index::TensorId) -> Laid, staged: bool) -> String {
    let mut text = "{\n".to_string();
    let mut arguments = Vec::new();
    for (t, how) in f.reads.iter().map(|t| (t, "&")).chain(f.writes.iter().map(|t| (t, "&mut "))) {
        let tensor = laid(*t);
        let (name, ty) = (&tensor.name, tensor.ty());
        // Safe for any shape: zero is the default of no long array.
        let zero =
            tensor.order.iter().rev().fold("0.0".to_string(), |inner, d| format!("[{inner}; {}]", tensor.shape[*d]));
        let _ = writeln!(text, "let mut {name}: {ty} = {zero};");
        text += &tensor.each(&format!("{} = value({name:?}, n);", tensor.element(name)));
        arguments.push(format!("{how}{name}"));
    }
    if staged {
        let _ = writeln!(text, "let mut workspace = kernels::{module}::{}::Workspace::new();", f.name);
        arguments.push("&mut workspace".into());
    }
    let _ = writeln!(text, "kernels::{module}::{}({});", f.name, arguments.join(", "));
    text += "let mut out = Vec::new();\n";
    for t in &f.writes {
        let tensor = laid(*t);
        text += &tensor.each(&format!("out.push({});", tensor.element(&tensor.name)));
    }
    text + "out\n}"
}

#[test]
fn compiled_functions_write_in_the_order_of_their_types() {
    // The layout that moves most.
    let last = |case: &Case| case.layouts[case.layouts.len() - 1..].to_vec();
    let specs: Vec<(&str, String)> = CASES.iter().map(|c| (c.name, text(c, &last(c)))).collect();
    let specs: Vec<(&str, &str)> = specs.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let mut main = "mod kernels;\n\
        fn value(name: &str, n: usize) -> f64 {\n    let seed = name.bytes().map(usize::from).sum::<usize>();\n\
        \x20   ((seed * 31 + n * 17) % 41) as f64 / 41.0 - 0.45\n}\n\
        fn same(what: &str, a: &[f64], b: &[f64]) {\n    assert_eq!(a.len(), b.len(), \"{what}\");\n\
        \x20   for (n, (a, b)) in a.iter().zip(b).enumerate() {\n\
        \x20       assert!((a - b).abs() <= 1e-10 * (1.0 + b.abs()), \"{what}[{n}]: {a} and {b}\");\n    }\n}\n"
        .to_string();
    let mut calls = String::new();
    for case in CASES {
        for ((declared, plans, _), laid) in families(case, &last(case)) {
            for (n, f) in entries(&declared) {
                let test = format!("{}_{}_{}", case.name, declared.name, f.name);
                let module = |kernel: &Kernel| format!("{}::{}", case.name, kernel.name);
                let staged = |plans: &[Plan]| plans[n].workspace().is_some();
                let as_declared = call(f, &module(&declared), &|t| Laid::new(&declared, t, &[]), staged(&plans));
                let _ = writeln!(main, "fn {test}() {{\nlet declared = {as_declared};");
                for (layout, (kernel, plans, _)) in &laid {
                    let got = call(f, &module(kernel), &|t| Laid::new(&declared, t, layout), staged(plans));
                    let _ = writeln!(main, "same({:?}, &{got}, &declared);", format!("{test} of {}", kernel.name));
                }
                main += "}\n";
                let _ = writeln!(calls, "    {test}();");
            }
        }
    }
    let _ = writeln!(main, "fn main() {{\n{calls}}}");
    let folder = folder("layouts", &specs);
    std::fs::write(folder.join("main.rs"), &main).expect("the file is written");
    render(&folder, "kernels", Build::new().std(true).inline_limit(0).instruction_sets(InstructionSet::ALL.to_vec()));
    compile(&folder, "2024", "main.rs", &["-o", "main", "-Aunused"]);
    for set in InstructionSet::ALL {
        crate::generated::run(Command::new(folder.join("main")).env("COTANGENT_ISA", set.name()));
    }
}
