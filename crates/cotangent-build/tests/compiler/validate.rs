//! Validation of translations: what of the library is validated, and that faults planted in nests are found.

use crate::panics::caught;
use cotangent_build::certify::Certified;
use cotangent_build::compiled::Compiled;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::index::{Binary, ReduceOp};
use cotangent_build::library::Library;
use cotangent_build::nest::{Node, Place, Test, Tile, Update, Value};
use cotangent_build::plain::Kind;
use cotangent_build::source::Sources;
use cotangent_build::{Options, pipeline, spec, validate};
use std::path::Path;

/// The kernels of every spec of a folder, or of one text, after scheduling.
fn each(specs: &[(String, String)], f: &mut dyn FnMut(&Certified, Compiled)) {
    let (mut sources, mut out) = (Sources::default(), Diagnostics::default());
    let ids: Vec<_> = specs.iter().map(|(path, text)| sources.add(path, text.clone())).collect();
    let specs = spec::all(&ids, &sources, &mut out);
    let library = Library::new(&specs, &sources);
    for s in &specs {
        let c = pipeline::certified_spec(s.clone(), &library, &mut out).expect("the spec is right");
        let kernels = pipeline::kernels(&c, &Options::default(), &mut out);
        pipeline::schedule(&c, kernels, &Options::default(), &mut out).into_iter().for_each(|k| f(&c, k));
    }
}

#[test]
fn nearly_all_of_the_library() {
    let (mut validated, mut all, mut exact) = (0, 0, 0);
    for folder in ["../../ops", "../../tests/reference/instances", "../../programs"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let paths = std::fs::read_dir(folder).expect("the library").map(|e| e.expect("an entry").path());
        let text = |p: &Path| std::fs::read_to_string(p).expect("a spec");
        let specs: Vec<_> = paths.map(|p| (p.display().to_string(), text(&p))).collect();
        each(&specs, &mut |c, compiled| {
            let v = validate::validate(c, &compiled);
            validated += v.whole + v.pieces;
            all += v.whole + v.pieces + v.none;
            exact += v.exact;
        });
    }
    println!("{validated} of {all} functions validated, {exact} of them in the field");
    assert!(validated * 100 >= all * 95 && exact * 3 > all, "{validated} of {all}, {exact} exact");
}

/// Loops may sum in another order and fuse products: what that changes is no fault, however much it is.
#[test]
fn rounding_is_no_fault() {
    // A sine of what is known to nothing but its magnitude; a derivative below the normal numbers; what cancels but for
    // the rounding.
    let chain: String =
        (1..400).map(|k| format!("  - h{k}[i] = 0.01 * h{}[i] + 0.001 * sin(h{}[i])\n", k - 1, k - 1)).collect();
    let specs = [
        "op: huge\ninputs: {x: [I, J]}\noutputs: {y: [I]}\nforward:\n  - h[i] = sum(j) 1e17 * x[i,j]\n  - y[i] = sin(h[i])\n".to_string(),
        "op: cancels\ninputs: {x: [I, J]}\noutputs: {y: [I]}\nforward:\n  - y[i] = exp(1e3 * sum(j) (x[i,j] * (1e16 + x[i,j]) - 1e16 * x[i,j]))\n"
            .to_string(),
        format!("op: tiny\ninputs: {{x: [I]}}\noutputs: {{y: [I]}}\nforward:\n  - h0[i] = sin(x[i])\n{chain}  - y[i] = exp(h399[i])\n"),
    ];
    for text in specs {
        let text = format!("{text}instances: [{{name: a, I: 5, J: 37}}, {{name: b, I: 3, J: 100}}]\n");
        let text = if text.contains("tiny") { text.replace(", J: 37", "").replace(", J: 100", "") } else { text };
        let mut all = 0;
        each(&[("rounding.yaml".to_string(), text)], &mut |c, compiled| {
            let v = validate::validate(c, &compiled);
            all += v.whole + v.pieces;
        });
        assert!(all >= 6, "{all}");
    }
}

/// Specs whose nests have tiles, tails, panels, guards, phases, folds, speculative blocks, recurrences, stages and
/// unrolled graphs.
const SUBJECTS: [&str; 9] = [
    "op: product
inputs: {x: [I, J], y: [J, K]}
outputs: {z: [I, K]}
forward:
  - z[i,k] = sum(j) x[i,j] * y[j,k]
instances:
  - {name: a, I: 7, J: 5, K: 19}
",
    "op: large
inputs: {x: [I, J], y: [K, J]}
outputs: {z: [I, K]}
forward:
  - z[i,k] = sum(j) x[i,j] * y[k,j]
instances:
  - {name: a, I: 29, J: 40, K: 37}
",
    "op: windows
inputs: {x: [S], k: [T]}
outputs: {y: [O]}
params: {lo: int}
sizes: {O: (S - T + 2*lo) / 2 + 1}
forward:
  - y[o] = sum(t) x[2*o + t - lo] * k[t]
instances:
  - {name: a, S: 21, T: 3, lo: 1}
",
    "op: rows
inputs: {x: [N, I]}
outputs: {y: [N, I]}
forward:
  - m[n] = max(i) x[n,i]
  - e[n,i] = exp(x[n,i] - m[n])
  - s[n] = sum(i) e[n,i]
  - y[n,i] = m[n] + e[n,i] / s[n]
instances:
  - {name: a, N: 3, I: 21, dtype: f64}
",
    "op: waves
inputs: {x: [I]}
outputs: {y: [I]}
forward:
  - y[i] = sin(x[i]) - 0.5 * x[i]
instances:
  - {name: a, I: 300}
",
    "op: running
inputs: {x: [T, I], w: [I]}
outputs: {h: [T, I]}
forward:
  - h[t,i] = x[t,i] - w[i] * h[t - 1, i]
instances:
  - {name: a, T: 6, I: 9}
",
    "op: chosen
inputs: {x: [I, J]}
outputs: {z: [I]}
forward:
  - z[i] = sum(j) where(j < 3, x[i,j] / 4, 2 - x[i,j])
instances:
  - {name: a, I: 5, J: 18}
",
    "op: quotient
inputs: {x: [I], y: [I]}
outputs: {z: []}
forward:
  - z = sum(i) x[i] / (y[i] - 3)
instances:
  - {name: a, I: 37}
",
    "program: staged
inputs: {x: [N, I], w: [I, H], v: [H, O]}
outputs: {loss: []}
wrt: [w, v]
forward:
  - h = tanh(matmul(x, w))
  - z = matmul(h, v)
  - loss = mean(n in N, o in O) z[n,o]^2
instances:
  - {name: a, N: 16, I: 24, H: 33, O: 9}
",
];

/// In how many places a nest is spoiled at most, evenly spread.
const PLACES: usize = 6;

/// Every way to spoil a nest once: the `n`-th calls `spoil`; gives what was done, or `None` when there are fewer.
struct Planter {
    left: usize,
    done: Option<&'static str>,
    detail: String,
}

impl Planter {
    /// Whether this place is the one.
    fn here(&mut self, what: &'static str) -> bool {
        if self.done.is_none() && self.left == 0 {
            self.done = Some(what);
            return true;
        }
        self.left = self.left.wrapping_sub(usize::from(self.done.is_none()));
        false
    }

    fn nodes(&mut self, nodes: &mut Vec<Node>) {
        for n in 0..nodes.len() {
            let counts = !matches!(nodes[n], Node::Comment(..) | Node::Speculative { .. });
            if counts && self.here("a lost step") {
                self.detail = format!("{:?}", nodes.remove(n));
                return;
            }
            match &mut nodes[n] {
                Node::Loop { body, .. } | Node::Speculative { body } | Node::Tile(Tile { body, .. }) => {
                    self.nodes(body)
                }
                Node::If { tests, body } => {
                    if self.here("a guard dropped") {
                        let inner = body.clone();
                        nodes.splice(n..=n, inner);
                        return;
                    }
                    for t in tests {
                        self.test(t);
                    }
                    self.nodes(body);
                }
                Node::Init { value, .. } => self.value(value),
                Node::Update { place, how, value } => {
                    if self.here("a store for an add, or an add for a store") {
                        self.detail = format!("{place:?}");
                        *how = if *how == Update::Set { Update::Reduce(ReduceOp::Sum) } else { Update::Set };
                        return;
                    }
                    if let Place::Lanes(_, lanes) = place
                        && lanes.len() > 1
                        && self.here("a lane that is not written")
                    {
                        lanes.start += 1;
                        return;
                    }
                    self.value(value);
                }
                _ => {}
            }
        }
    }

    fn value(&mut self, v: &mut Value) {
        match v {
            Value::Const(c) => {
                if *c != 0.0 && c.is_finite() && self.here("a wrong constant") {
                    *c *= 1.5;
                }
            }
            Value::Load(a) | Value::Lanes(a, ..) => {
                // One back where that is in bounds at every iteration.
                if let Some(p) = a.positions.last_mut()
                    && p.numerator.constant > 0
                    && self.here("an offset")
                {
                    p.numerator.constant -= 1;
                }
            }
            Value::Binary(Binary::Sub | Binary::Div, a, b) => {
                if self.here("swapped operands") {
                    std::mem::swap(a, b);
                    return;
                }
                self.value(a);
                self.value(b);
            }
            Value::Binary(_, a, b) => {
                self.value(a);
                self.value(b);
            }
            Value::Fused(a, b, c) => [a, b, c].into_iter().for_each(|v| self.value(v)),
            Value::Unary(_, a) | Value::Powf(a, _) | Value::Splat(a, _) => self.value(a),
            Value::Select(t, a, b) => {
                if self.here("swapped branches") {
                    std::mem::swap(a, b);
                    return;
                }
                self.test(t);
                self.value(a);
                self.value(b);
            }
            Value::Lane(_, lane) => {
                if *lane > 0 && self.here("a wrong lane") {
                    *lane -= 1;
                }
            }
            Value::Each(_, all) => all.iter_mut().for_each(|v| self.value(v)),
            Value::Choose(_, all) => {
                if self.here("swapped choices") {
                    all.swap(2, 3);
                }
            }
            Value::Register(_) => {}
        }
    }

    fn test(&mut self, t: &mut Test) {
        if let Test::Within { extent, .. } = t
            && *extent > 1
            && self.here("a guard one short")
        {
            *extent -= 1;
        }
    }
}

#[test]
fn planted_faults_are_found() {
    let (mut found, mut missed) = (0, Vec::new());
    for text in SUBJECTS.into_iter() {
        each(
            &[(format!("{}.yaml", text.split_whitespace().nth(1).expect("a name")), text.to_string())],
            &mut |c, compiled| {
                let clean = caught(|| validate::validate(c, &compiled));
                assert!(clean.is_ok(), "{text} is fine");
                for f in 0..compiled.nests.len() {
                    for n in 0..compiled.nests[f].len() {
                        let mut counter = Planter { left: usize::MAX, done: None, detail: String::new() };
                        counter.nodes(&mut compiled.nests[f][n].body.clone());
                        let places = usize::MAX - counter.left;
                        let machine = compiled.nests[f][n].machines[0];
                        let entry = compiled.plans.iter().enumerate().position(|(g, plan)| {
                            compiled.kernel.functions[g].kind != Kind::Stage && plan.parts(g).contains(&f)
                        });
                        let entry = entry.expect("a stage is of an entry point");
                        for place in (0..places).step_by(places.div_ceil(PLACES).max(1)) {
                            let mut nests = compiled.nests.clone();
                            let mut planter = Planter { left: place, done: None, detail: String::new() };
                            planter.nodes(&mut nests[f][n].body);
                            let what = planter.done.expect("there are so many places");
                            // For that class of machines alone.
                            nests.iter_mut().for_each(|nests| nests.retain(|n| n.machines.contains(&machine)));
                            let (kernel, plans) = (compiled.kernel.clone(), compiled.plans.clone());
                            let spoiled = Compiled { kernel, plans, nests, ..compiled };
                            if caught(|| validate::function(c, &spoiled, entry)).is_err() {
                                found += 1;
                            } else {
                                missed.push(format!(
                                    "{} {} {}: {what}, place {place} {}",
                                    compiled.kernel.op, compiled.nests[f][n].name, machine.name, planter.detail
                                ));
                            }
                        }
                    }
                }
            },
        );
    }
    println!("{found} planted faults found, {} not:\n{}", missed.len(), missed.join("\n"));
    // Some change nothing: a guard that always holds one iteration earlier, a first value that is added to zero, an
    // element that is not the maximum, a lane that two vectors write, sums that are zero whatever the numbers.
    assert!(found > 1000 && missed.len() * 20 < found, "{found} found, {} not", missed.len());
}
