//! The certificate: takes an op and the rules derived from its formula, gives a proof that the declared rules equal
//! them, or an error at the rule with the smallest counterexample found and the derived rule as the fix.
//!
//! Equal normal forms certify. Otherwise both are evaluated: rational formulas exactly, in the integers modulo 2^61 -
//! 1; the others in `f64` over the declared domain; at groups of rank 0, 1 and 2, extents pairwise distinct, parameters
//! above 1 and asymmetric. Where formulas have ties or kinks, points on them are tried too (`kinks.rs`).

pub mod entries;
pub mod field;
mod kinks;
mod normal;
mod probe;
pub mod rounded;
pub mod rules;
pub mod shapes;
pub mod split;

use crate::derive::Derived;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::index::bind::{Binding, ParamValue};
use crate::index::eval::{DoubleWrite, Interpreter, Number};
use crate::index::*;
use crate::spec::Spec;
use crate::types::Domain;
use field::M61;
use probe::Probe;
use std::collections::BTreeMap;

/// How a declared rule was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// The same formula up to renaming: proved for every shape.
    NormalForm,
    /// Equal in the field at random points, at this many shapes.
    Exact(usize),
    /// Equal in `f64` at random points, at this many shapes.
    Sampled(usize),
    /// Not declared: derived, nothing to prove.
    Derived,
}

/// What the build proved of an op's adjoint and tangent.
#[derive(Clone, Copy, Debug)]
pub struct Certificate {
    pub adjoint: Method,
    pub tangent: Method,
}

/// An op whose declared rules are proved, with the spec that it came from.
pub struct Certified {
    pub spec: Spec,
    pub op: Op,
    pub derived: Derived,
    pub certificate: Certificate,
    /// Of the instances that are split, by name.
    pub splits: BTreeMap<String, split::Split>,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Method::NormalForm => write!(f, "equal to the derived rule"),
            Method::Exact(n) => {
                write!(f, "equal to the derived rule in the field of integers modulo 2^61 - 1, at {n} shapes")
            }
            Method::Sampled(n) => write!(f, "equal to the derived rule in f64, at {n} shapes"),
            Method::Derived => write!(f, "derived"),
        }
    }
}

/// A rule that is compared: what it reads, what it writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Adjoint,
    Tangent,
}

/// Certifies the declared rules of an op; errors go to `out`.
pub fn certify(op: &Op, derived: &Derived, out: &mut Diagnostics) -> Option<Certificate> {
    let mut shapes = shapes::sample(op);
    // The formula itself must make sense at a shape before a rule is compared with it there. Where it writes an element
    // twice at some shapes only, those are not meant; instances are checked on their own.
    let affine = |s: &Stmt| !s.accumulate && s.index.iter().any(|a| a.as_var().is_none());
    if op.forward.iter().any(affine) {
        let twice = |b: &Binding| point::<f64>(op, b, 1, &mut Sampler::ordinary).1.err();
        let wide = |b: &Binding| b.extents.iter().all(|e| !e.is_empty() && e.iter().all(|n| *n > 1));
        let (bad, good): (Vec<_>, Vec<_>) = shapes.into_iter().partition(|b| twice(b).is_some());
        let first = bad.iter().find(|b| wide(b)).filter(|_| !good.iter().any(wide));
        if let Some((binding, d)) = first.and_then(|b| Some((b, twice(b)?))) {
            let coordinate = coordinate(op, binding, &d, &op.forward);
            let message = format!("this writes {coordinate} twice");
            out.push(
                Diagnostic::error(Code::DoubleWrite, d.span, message, format!("at {}", describe(op, binding)))
                    .help("write `+=` if the contributions add up"),
            );
            return None;
        }
        shapes = good;
    }
    // A rule through calls is made of declared ones.
    let called = !op.calls.is_empty();
    let adjoint = if op.adjoint.declared || called {
        rule(op, Side::Adjoint, &op.adjoint, &derived.adjoint, &shapes, out)
    } else {
        Some(Method::Derived)
    };
    let tangent = if op.tangent.declared || called {
        rule(op, Side::Tangent, &op.tangent, &derived.tangent, &shapes, out)
    } else {
        Some(Method::Derived)
    };
    let certificate = Certificate { adjoint: adjoint?, tangent: tangent? };
    if let Some(broken) = entries::check(op, &shapes) {
        panic!("`{}` of the program `{}` is broken: {broken:?}", broken.entry.name(), op.name);
    }
    if op.adjoint.declared && op.tangent.declared && (kinks::any(&op.forward) || kinks::any(&op.tangent.stmts)) {
        let found = shapes.iter().find_map(|binding| Some((binding, kinks::disagree(op, binding)?)));
        if let (Some((binding, (adjoint, tangent))), Some(at)) = (found, op.tangent.stmts.last()) {
            let message = "tangent and adjoint disagree where `forward` has a tie or a kink";
            let label = format!(
                "cotangents times tangents come to {} over the outputs, to {} over the inputs",
                tangent.show(),
                adjoint.show()
            );
            out.push(
                Diagnostic::error(Code::WrongTangent, at.span, message, label)
                    .note(format!("smallest shape that shows it: {}", describe(op, binding)))
                    .help("leave `tangent` out: it then follows the convention of the adjoint"),
            );
            return None;
        }
    }
    Some(certificate)
}

fn rule(
    op: &Op,
    side: Side,
    declared: &Rule,
    derived: &[Stmt],
    shapes: &[Binding],
    out: &mut Diagnostics,
) -> Option<Method> {
    let Rule { stmts: declared, declared: own } = declared;
    if normal::equal(op, declared, derived) {
        return Some(Method::NormalForm);
    }
    if shapes.is_empty() {
        out.push(no_shape(op));
        return None;
    }
    let exact = [&op.forward, declared, derived].iter().all(|s| rational(s));
    // At kinks the rules of the ops that are called hold, each proved where it stands.
    let kinks = *own && [&op.forward, declared].iter().any(|s| kinks::any(s));
    let differs = |binding: &Binding| {
        let run = |seed: u64, draw: Draw<f64>| compare::<f64>(op, side, declared, derived, binding, seed, draw);
        if exact {
            let wrong = compare::<M61>(op, side, declared, derived, binding, 4, &mut Sampler::field);
            // Small numbers read better than elements of the field.
            let small = if wrong.is_empty() { Vec::new() } else { run(3, &mut Sampler::small) };
            return if small.len() < wrong.len() { wrong } else { small };
        }
        let mut wrong = run(5, &mut Sampler::ordinary);
        if wrong.is_empty() {
            wrong = run(6, &mut Sampler::ordinary);
        }
        if wrong.is_empty() {
            wrong = run(7, &mut Sampler::with_bounds);
        }
        if wrong.is_empty() && kinks {
            let found = kinks::check(op, side, declared, derived, binding);
            wrong.extend(found.map(|(point, disagreement)| Wrong::at(op, &point, &disagreement)));
        }
        wrong
    };
    let compared = Comparison { op, side, declared, derived, shapes };
    if shapes.iter().any(|binding| compared.told(binding, &differs, out)) {
        return None;
    }
    if *own && !compared.bends(exact, out) {
        return None;
    }
    Some(if exact { Method::Exact(shapes.len()) } else { Method::Sampled(shapes.len()) })
}

/// A declared rule and what it is compared with.
struct Comparison<'a> {
    op: &'a Op,
    side: Side,
    declared: &'a [Stmt],
    derived: &'a [Stmt],
    shapes: &'a [Binding],
}

impl Comparison<'_> {
    /// Reports what differs at a shape, each tensor at the smallest one that shows it; gives whether something does.
    fn told(&self, binding: &Binding, differs: &dyn Fn(&Binding) -> Vec<Wrong>, out: &mut Diagnostics) -> bool {
        let Comparison { op, side, declared, derived, .. } = *self;
        let wrong = differs(binding);
        for tensor in wrong.iter().map(|w| w.tensor) {
            let here = |b: &Binding| differs(b).into_iter().find(|w| w.tensor == tensor);
            let smallest = shapes::shrink(op, binding, &|b| here(b).is_some());
            if let Some(wrong) = here(&smallest) {
                report(op, side, declared, derived, &smallest, &wrong, out);
            }
        }
        !wrong.is_empty()
    }

    /// Compares rules where one of them or `forward` bends, and at other magnitudes; gives whether they agree. Branches
    /// that no point takes are warned of.
    fn bends(&self, exact: bool, out: &mut Diagnostics) -> bool {
        let Comparison { op, side, declared, derived, shapes } = *self;
        let mut probe = Probe::new(op, side, declared, derived);
        // What is equal in a field is so at every magnitude.
        if exact && probe.is_smooth() {
            return true;
        }
        let whole = |b: &&Binding| b.extents.iter().all(|e| e.len() == 1 && e[0] > 1);
        let first = shapes.iter().find(whole).or(shapes.first());
        let mut doubtful = None;
        let others = shapes.iter().filter(|b| first.is_some_and(|f| f.extents != b.extents));
        for (n, binding) in first.into_iter().chain(others).enumerate() {
            if n > 0 && probe.all_seen() {
                break;
            }
            // Ordinary points take what coordinates decide.
            if n > MAX_SEARCHES {
                probe.visit(binding);
                continue;
            }
            match probe.search(binding) {
                Some(found) if found.disagreement.what == kinks::What::NotFinite => {
                    doubtful = doubtful.or(Some((binding, found.wrong(op))));
                }
                Some(_) => {
                    let again = |b: &Binding| {
                        let found = Probe::new(op, side, declared, derived).search(b);
                        let found = found.filter(|f| f.disagreement.what != kinks::What::NotFinite);
                        found.map(|f| f.wrong(op)).into_iter().collect()
                    };
                    return !self.told(binding, &again, out);
                }
                None => {}
            }
        }
        if let Some((binding, wrong)) = doubtful {
            let span =
                declared.iter().find(|s| s.target == wrong.tensor).map_or(op.tensor(wrong.tensor).span, |s| s.span);
            let element = element_name(op, binding, wrong.tensor, wrong.element);
            let message = "this rule is not finite where `forward` and the derived rule are";
            let mut d = Diagnostic::warning(Code::NotFinite, span, message, format!("here {element} {}", wrong.text));
            for note in wrong.notes {
                d = d.note(note);
            }
            out.push(
                d.help("write it so that nothing in it overflows or is divided by zero there, or state the `domain`"),
            );
        }
        for unseen in probe.unseen() {
            let how = if unseen.holds { "holds" } else { "fails" };
            let message = format!("no point was found at which `{}` {how}", unseen.condition);
            let d = Diagnostic::warning(Code::NotTaken, unseen.span, message, "a branch of this was never compared");
            out.push(d.help("drop the branch if it is never taken; else what it computes is not proved"));
        }
        true
    }
}

/// Shapes beside the first at which inputs are solved for, as long as a branch was not taken.
const MAX_SEARCHES: usize = 2;

/// Nothing to compare rules at.
fn no_shape(op: &Op) -> Diagnostic {
    let axis = op.axes.iter().find(|a| a.size.is_some());
    let span = axis.or(op.axes.first()).map(|a| a.span).or(op.forward.first().map(|s| s.span));
    let span = span.unwrap_or(crate::source::Span { source: op.source, start: 0, end: 0 });
    let message = "no small sizes were found at which the declared rules could be checked";
    let label =
        axis.map_or(String::new(), |a| format!("the size of `{}` stays below 1, or sizes get too large", a.name));
    Diagnostic::error(Code::Unsupported, span, message, label)
        .help("write a large number in `sizes:` or in an index as a parameter: the check can make that small")
}

/// What a rule writes.
fn targets(op: &Op, side: Side) -> Vec<TensorId> {
    let wanted = |t: &TensorId| match op.tensor(*t).role {
        Role::Cotangent(u) => side == Side::Adjoint && op.tensor(u).role == Role::Input,
        Role::Tangent(u) => side == Side::Tangent && op.tensor(u).role == Role::Output,
        _ => false,
    };
    (0..op.tensors.len()).map(TensorId).filter(wanted).collect()
}

/// Whether the field can evaluate it.
pub(crate) fn rational(stmts: &[Stmt]) -> bool {
    stmts.iter().all(|s| {
        let mut ok = matches!(s.reduce, None | Some(ReduceOp::Sum | ReduceOp::Prod));
        let mut cond_ok = true;
        s.value.visit(&mut |e| {
            ok &= match e {
                Expr::Const(c) => c.is_finite(),
                Expr::Unary(f, _) => *f == Unary::Neg,
                Expr::Binary(f, ..) => matches!(f, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div),
                Expr::Powf(_, n) => n.fract() == 0.0 && n.abs() < 2f64.powi(20),
                Expr::Where(c, ..) => {
                    cond_ok &= coordinates_only(c);
                    true
                }
                Expr::Param(_) | Expr::Extent(_) | Expr::Read(..) | Expr::Reduce(..) => true,
            }
        });
        ok && cond_ok
    })
}

fn coordinates_only(c: &Cond) -> bool {
    !c.any(&|c| matches!(c, Cond::Value(..)))
}

/// A number for one element, from a generator, the domain of its tensor and whether the tensor is an input.
type Draw<'a, N> = &'a mut dyn FnMut(&mut Sampler, Option<Domain>) -> N;

/// A deterministic generator (SplitMix64, Steele, Lea and Flood 2014): a build must not depend on luck.
pub struct Sampler(u64);

impl Sampler {
    pub fn new(seed: u64) -> Self {
        Sampler(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 2f64.powi(53)
    }
    fn field(&mut self, _: Option<Domain>) -> M61 {
        M61::new(self.bits())
    }
    /// A small whole number other than zero.
    fn small(&mut self, _: Option<Domain>) -> f64 {
        let n = (self.bits() % 10) as f64 - 5.0;
        if n >= 0.0 { n + 1.0 } else { n }
    }
    /// A point of the domain, away from its bounds.
    pub fn ordinary(&mut self, domain: Option<Domain>) -> f64 {
        let u = self.unit();
        match domain.map(|d| (d.lo, d.hi)) {
            None => 4.0 * u - 2.0,
            Some((lo, hi)) if lo.is_finite() && hi.is_finite() => lo + (hi - lo) * (0.05 + 0.9 * u),
            Some((lo, _)) if lo.is_finite() => lo + 0.1 + 3.0 * u,
            Some((_, hi)) if hi.is_finite() => hi - 0.1 - 3.0 * u,
            Some(_) => 4.0 * u - 2.0,
        }
    }
    /// Now and then a bound that belongs to the domain.
    fn with_bounds(&mut self, domain: Option<Domain>) -> f64 {
        let pick = self.bits() % 8;
        match domain {
            Some(d) if pick == 0 && d.lo_closed && d.lo.is_finite() => d.lo,
            Some(d) if pick == 1 && d.hi_closed && d.hi.is_finite() => d.hi,
            d => self.ordinary(d),
        }
    }
}

/// Random inputs, tangents and cotangents, and the forward formula run on them.
fn point<'a, N: Number>(
    op: &'a Op,
    binding: &'a Binding,
    seed: u64,
    draw: Draw<N>,
) -> (Interpreter<'a, N>, Result<(), DoubleWrite>) {
    let mut sampler = Sampler::new(seed);
    let mut interpreter = Interpreter::new(op, binding);
    for (n, t) in op.tensors.iter().enumerate() {
        let of_interface = |u: TensorId| matches!(op.tensor(u).role, Role::Input | Role::Output);
        let domain = match t.role {
            Role::Input => t.domain,
            Role::Tangent(u) if op.tensor(u).role == Role::Input => None,
            Role::Cotangent(u) if op.tensor(u).role == Role::Output && of_interface(u) => None,
            _ => continue,
        };
        let id = TensorId(n);
        let data = (0..binding.elements(op, id)).map(|_| draw(&mut sampler, domain)).collect();
        interpreter.tensors.insert(id, data);
    }
    let result = interpreter.run(&op.forward);
    (interpreter, result)
}

/// Where two rules differ.
struct Wrong {
    tensor: TensorId,
    element: usize,
    /// What it comes to, and what it should be: the end of a sentence about the element.
    text: String,
    /// Facts.
    notes: Vec<String>,
    /// Real parameters, where they are others than those of the shape.
    params: Vec<(ParamId, f64)>,
}

impl Wrong {
    /// At a point of few elements the point is told.
    fn at(op: &Op, point: &kinks::Point, disagreement: &kinks::Disagreement) -> Self {
        let number = |v: f64| if v.is_nan() { "NaN".to_string() } else { print::number(v).to_string() };
        let (lo, hi) = (number(disagreement.around.0), number(disagreement.around.1));
        let declared = number(disagreement.declared);
        let (text, note) = match disagreement.what {
            kinks::What::Value | kinks::What::NotFinite => (format!("comes to {declared}, it should be {hi}"), None),
            kinks::What::Total => (
                format!("is wrong: the sum of all elements comes to {declared}, around this point it is {hi}"),
                Some("this is at a tie or a kink of `forward`, where a rule shares out what it shares out around it"),
            ),
            kinks::What::Kink => (
                format!("comes to {declared}, around this point it is between {lo} and {hi}"),
                Some("this is at a tie or a kink of `forward`, where a rule lies between its values around it"),
            ),
        };
        let mut notes: Vec<String> = note.into_iter().map(str::to_string).collect();
        let values = |(t, v): (&TensorId, &Vec<f64>)| {
            // Parameters stand behind the tensors of the op, and are told with the sizes.
            let name = op.tensors.get(t.0).map(|t| &t.name);
            let list = v.iter().map(|v| number(*v)).collect::<Vec<_>>().join(", ");
            name.map(|name| if v.len() == 1 { format!("`{name}` = {list}") } else { format!("`{name}` = [{list}]") })
        };
        if point.inputs.values().chain(point.duals.values()).map(Vec::len).sum::<usize>() <= MAX_TOLD {
            let all: Vec<String> = point.inputs.iter().chain(&point.duals).filter_map(values).collect();
            notes.push(format!("at {}", all.join(", ")));
        }
        Wrong { tensor: disagreement.tensor, element: disagreement.element, text, notes, params: Vec::new() }
    }
}

/// The most numbers of a point in a message.
const MAX_TOLD: usize = 24;

pub(crate) trait Close: Number {
    /// Equal, given the largest magnitude among the elements compared.
    fn close(self, other: Self, scale: f64) -> bool;
    fn magnitude(self) -> f64;
    /// How far apart they are; infinitely so where numbers are not near each other.
    fn distance(self, other: Self) -> f64;
    fn show(self) -> String;
}

impl Close for M61 {
    fn close(self, other: Self, _: f64) -> bool {
        self == other
    }
    fn magnitude(self) -> f64 {
        0.0
    }
    fn distance(self, other: Self) -> f64 {
        if self == other { 0.0 } else { f64::INFINITY }
    }
    fn show(self) -> String {
        format!("{} (mod 2^61 - 1)", self.signed())
    }
}

impl Close for f64 {
    /// A billionth of the larger of the two, plus rounding of sums that cancelled. At a bound of the domain a
    /// derivative may be infinite: then either rule may say so in its own way.
    fn close(self, other: Self, scale: f64) -> bool {
        if !self.is_finite() || !other.is_finite() {
            return !self.is_finite() && !other.is_finite();
        }
        (self - other).abs() <= 1e-9 * self.abs().max(other.abs()) + 1e-11 * scale
    }
    fn magnitude(self) -> f64 {
        if self.is_finite() { self.abs() } else { 0.0 }
    }
    fn distance(self, other: Self) -> f64 {
        if self.to_bits() == other.to_bits() { 0.0 } else { (self - other).abs() }
    }
    fn show(self) -> String {
        let digits = format!("{self:.6}");
        let digits = digits.trim_end_matches('0').trim_end_matches('.').to_string();
        let small = self != 0.0 && self.abs() < 1e-3;
        if digits.parse() == Ok(self) {
            digits
        } else if small {
            format!("{self:e}")
        } else {
            format!("{self:.6}")
        }
    }
}

fn compare<N: Close>(
    op: &Op,
    side: Side,
    declared: &[Stmt],
    derived: &[Stmt],
    binding: &Binding,
    seed: u64,
    draw: Draw<N>,
) -> Vec<Wrong> {
    let (mut a, _) = point::<N>(op, binding, seed, draw);
    let mut b = Interpreter::new(op, binding);
    b.tensors = a.tensors.clone();
    // Rules accumulate, so a double write cannot be in them; in their locals it would show as a difference.
    let _ = (a.run(declared), b.run(derived));
    let mut wrong = Vec::new();
    for t in targets(op, side) {
        let zeros = vec![N::from_f64(0.0); binding.elements(op, t)];
        let (x, y) = (a.tensors.get(&t).unwrap_or(&zeros), b.tensors.get(&t).unwrap_or(&zeros));
        let scale = y.iter().map(|v| v.magnitude()).fold(0.0, f64::max);
        if let Some(element) = x.iter().zip(y).position(|(x, y)| !x.close(*y, scale)) {
            let text = format!("comes to {}, it should be {}", x[element].show(), y[element].show());
            wrong.push(Wrong { tensor: t, element, text, notes: Vec::new(), params: Vec::new() });
        }
    }
    wrong
}

fn report(
    op: &Op,
    side: Side,
    declared: &[Stmt],
    derived: &[Stmt],
    binding: &Binding,
    wrong: &Wrong,
    out: &mut Diagnostics,
) {
    let name = &op.tensor(wrong.tensor).name;
    let rules: Vec<&Stmt> = declared.iter().filter(|s| s.target == wrong.tensor).collect();
    let (Role::Tangent(of) | Role::Cotangent(of)) = op.tensor(wrong.tensor).role else {
        unreachable!("targets of rules are tangents and cotangents")
    };
    let primal = &op.tensor(of).name;
    let (code, message) = match side {
        Side::Adjoint => (
            Code::WrongAdjoint,
            format!("the adjoint of `{primal}` is not the transpose of the derivative of `forward`"),
        ),
        Side::Tangent => (Code::WrongTangent, format!("the tangent of `{primal}` is not the derivative of `forward`")),
    };
    let element = element_name(op, binding, wrong.tensor, wrong.element);
    let label = format!("here {element} {}", wrong.text);
    let mut d = match rules.first() {
        Some(s) => Diagnostic::error(code, s.span, message, label),
        None => Diagnostic::error(code, op.tensor(of).span, message, format!("no rule adds to `{name}`; {label}")),
    };
    for s in rules.iter().skip(1) {
        d = d.label(s.span, "adds to it too");
    }
    for note in &wrong.notes {
        d = d.note(note);
    }
    let mut shown = binding.clone();
    wrong.params.iter().for_each(|(p, v)| shown.params[p.0] = ParamValue::Real(*v));
    d = d.note(format!("smallest shape that shows it: {}", describe(op, &shown)));
    let wanted = std::collections::BTreeSet::from([wrong.tensor]);
    let rule = crate::derive::live(derived, &wanted);
    let fix: Vec<String> =
        crate::derive::with_definitions(op, &rule).iter().map(|s| format!("  - {}", print::stmt(op, s))).collect();
    d = d.help(if fix.is_empty() {
        format!("`{primal}` has no derivative: drop the rule")
    } else {
        format!("the derived rule is\n{}", fix.join("\n"))
    });
    if !rule.iter().all(|s| writable(op, s)) {
        let key = if side == Side::Adjoint { "adjoint" } else { "tangent" };
        d = d.help(format!("an index of it has no name in a spec: leave `{key}` out, and it is derived"));
    }
    out.push(d);
}

/// Whether a statement can be written in a spec: an index on the left is that of its axis, or stands alone, where `k in
/// I` binds it.
pub fn writable(op: &Op, s: &Stmt) -> bool {
    // A recurrence is written at the index along its axis.
    s.scan.is_none_or(|t| s.index.iter().any(|a| a.as_var() == Some(t.var)))
        && s.vars[..s.free]
            .iter()
            .enumerate()
            .all(|(v, var)| var.name == op.axis(var.axis).index || s.index.iter().any(|a| a.as_var() == Some(VarId(v))))
}

fn coordinate(op: &Op, binding: &Binding, d: &DoubleWrite, stmts: &[Stmt]) -> String {
    let target = stmts.iter().find(|s| s.span == d.span).map(|s| s.target);
    target.map_or_else(|| "an element".into(), |t| element_name(op, binding, t, d.element))
}

/// `x_bar[0, (1, 2)]`: a group of rank other than 1 in parentheses.
fn element_name(op: &Op, binding: &Binding, t: TensorId, mut flat: usize) -> String {
    let tensor = op.tensor(t);
    let mut groups = Vec::new();
    for a in tensor.axes.iter().rev() {
        let mut coords = Vec::new();
        for n in binding.extents[a.0].iter().rev() {
            coords.push((flat % n).to_string());
            flat /= n;
        }
        coords.reverse();
        groups.push(if coords.len() == 1 { coords.remove(0) } else { format!("({})", coords.join(", ")) });
    }
    groups.reverse();
    if groups.iter().all(|g| g == "()") {
        format!("`{}`", tensor.name)
    } else {
        format!("`{}[{}]`", tensor.name, groups.join(", "))
    }
}

/// The sizes and parameters of a binding, as an instance would state them.
fn describe(op: &Op, binding: &Binding) -> String {
    let list = |v: Vec<String>| if v.len() == 1 { v[0].clone() } else { format!("[{}]", v.join(", ")) };
    let sizes = op
        .axes
        .iter()
        .zip(&binding.extents)
        .map(|(a, e)| format!("{} = {}", a.name, list(e.iter().map(usize::to_string).collect())));
    let params = op.params.iter().zip(&binding.params).map(|(p, v)| {
        let v = match v {
            ParamValue::Ints(v) => list(v.iter().map(i64::to_string).collect()),
            ParamValue::Int(n) => n.to_string(),
            ParamValue::Real(v) => format!("{v}"),
        };
        format!("{} = {v}", p.name)
    });
    let all: Vec<_> = sizes.chain(params).collect();
    if all.is_empty() { "scalars".into() } else { all.join(", ") }
}
