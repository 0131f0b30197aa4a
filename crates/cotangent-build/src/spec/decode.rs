//! Tree to [`Spec`]: takes the nodes of a file, gives the declarations in it, and an error for all that is not what the
//! key asks for.
//!
//! Holds after it: keys and kinds of values are right; what is dropped is told, and no spec is given where a later
//! stage would miss it.

use super::yaml::{Kind, Node, Scalar, bound_of, interval, is_null};
use super::{Adjoint, Formula, ProgramSpec, Spec, TensorDecl, Use, distinct};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, did_you_mean};
use crate::source::{At, SourceId, Sources, Span};
use crate::types::{DType, Domain, InstanceSpec, Layout, Numbers};
use std::collections::HashMap;

const KEYS: [&str; 16] = [
    "op",
    "program",
    "use",
    "doc",
    "params",
    "inputs",
    "outputs",
    "sizes",
    "domain",
    "forward",
    "adjoint",
    "tangent",
    "wrt",
    "checkpoint",
    "functions",
    "instances",
];
/// The keys that only a program has.
const PROGRAM_KEYS: [&str; 3] = ["wrt", "checkpoint", "functions"];
/// The keys of a file that uses an op.
const USE_KEYS: [&str; 2] = ["use", "instances"];
/// Most instances of an op in a file.
const MAX_INSTANCES: usize = 1000;

/// What is read of a spec so far.
struct Draft {
    op: Option<At<String>>,
    /// Its line; before that is read, the first key.
    span: Span,
    doc: Option<At<String>>,
    params: Vec<(At<String>, At<String>)>,
    inputs: Option<Vec<TensorDecl>>,
    outputs: Option<Vec<TensorDecl>>,
    sizes: Vec<(At<String>, Formula)>,
    domain: Vec<(At<String>, At<Domain>)>,
    forward: Option<Vec<Formula>>,
    adjoint: Adjoint,
    tangent: Option<Vec<Formula>>,
    /// There from the start, if any key is `program`.
    program: Option<ProgramSpec>,
    instances: Option<Vec<InstanceSpec>>,
    /// The keys that stand there, and those that a misspelt one was meant to be.
    seen: Vec<String>,
}

impl Draft {
    fn new(span: Span, program: Option<ProgramSpec>) -> Self {
        Draft {
            op: None,
            span,
            doc: None,
            params: Vec::new(),
            inputs: None,
            outputs: None,
            sizes: Vec::new(),
            domain: Vec::new(),
            forward: None,
            adjoint: Adjoint::Derived,
            tangent: None,
            program,
            instances: None,
            seen: Vec::new(),
        }
    }
}

pub(super) struct Decoder<'a> {
    pub(super) sources: &'a Sources,
    out: &'a mut Diagnostics,
    /// Whether something was dropped that later stages would miss.
    pub(super) broken: bool,
}

/// The entries of a mapping, in order, with keys as texts.
pub(super) type Entries = Vec<(At<String>, Node)>;

impl<'a> Decoder<'a> {
    pub(super) fn new(sources: &'a Sources, out: &'a mut Diagnostics) -> Self {
        Decoder { sources, out, broken: false }
    }
}

impl Decoder<'_> {
    pub(super) fn error(&mut self, d: Diagnostic) {
        self.out.push(d);
    }

    fn wrong_type(&mut self, what: &str, expected: &str, found: &Node) -> Diagnostic {
        self.broken = true;
        let message = format!("expected {expected} for {what}, found {}", found.noun());
        Diagnostic::error(Code::WrongType, found.span, message, format!("expected {expected}"))
    }

    /// The entries of a mapping; keys that stand twice are reported and dropped.
    pub(super) fn entries(&mut self, what: &str, help: &str, node: Node) -> Option<Entries> {
        let Kind::Map(map) = node.kind else {
            let d = self.wrong_type(what, "a mapping", &node).help(help);
            self.error(d);
            return None;
        };
        let mut entries = Entries::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        for (key, value) in map {
            let span = key.span;
            let Kind::Scalar(Scalar { text, .. }) = key.kind else {
                let d = self.wrong_type("a key", "a name", &key);
                self.error(d);
                continue;
            };
            if let Some(&first) = seen.get(&text) {
                self.error(
                    Diagnostic::error(
                        Code::Yaml,
                        span,
                        format!("the key `{text}` stands twice in {what}"),
                        "again here",
                    )
                    .label(first, "first here"),
                );
                self.broken = true;
                continue;
            }
            seen.insert(text.clone(), span);
            entries.push((At::new(text, span), value));
        }
        Some(entries)
    }

    fn list(&mut self, what: &str, help: &str, node: Node) -> Option<At<Vec<Node>>> {
        let span = node.span;
        match node.kind {
            Kind::List(items) => Some(At::new(items, span)),
            _ => {
                let d = self.wrong_type(what, "a list", &node).help(help);
                self.error(d);
                None
            }
        }
    }

    fn text(&mut self, what: &str, expected: &str, node: Node) -> Option<At<String>> {
        if node.is_nothing() || !matches!(node.kind, Kind::Scalar(_)) {
            let d = self.wrong_type(what, expected, &node);
            self.error(d);
            return None;
        }
        match node.kind {
            Kind::Scalar(s) => Some(At::new(s.text, node.span)),
            _ => None,
        }
    }

    fn formula(&mut self, what: &str, node: Node) -> Option<Formula> {
        let span = node.span;
        let scalar = match node.kind {
            Kind::Scalar(s) if !(s.text.trim().is_empty() || s.plain && is_null(&s.text)) => s,
            _ => {
                let d = self.wrong_type(what, "a formula", &node);
                let d = match node.kind {
                    Kind::Map(_) => d.help("YAML reads `: ` as a mapping: quote the formula"),
                    Kind::List(_) => d.help("one formula after each `- `"),
                    Kind::Scalar(_) => d,
                };
                self.error(d);
                return None;
            }
        };
        let from = scalar.text.len() - scalar.text.trim_start().len();
        let text = scalar.text.trim().to_owned();
        let map = scalar.map[from..from + text.len()].to_vec();
        Some(Formula { text, source: span.source, map, at: span.start })
    }

    fn formulas(&mut self, key: &str, node: Node) -> Option<At<Vec<Formula>>> {
        let what = format!("`{key}`");
        let help = "write one formula a line, each after `- `";
        let list = self.list(&what, help, node)?;
        let what = format!("a step of `{key}`");
        let formulas = list.value.into_iter().filter_map(|item| self.formula(&what, item)).collect();
        Some(At::new(formulas, list.span))
    }

    fn names(&mut self, what: &str, help: &str, node: Node) -> Option<At<Vec<At<String>>>> {
        let list = self.list(what, help, node)?;
        let names = list.value.into_iter().filter_map(|item| self.text(what, "a name", item)).collect();
        Some(At::new(names, list.span))
    }

    pub(super) fn spec(&mut self, source: SourceId, root: Node) -> Option<Spec> {
        let help = "a spec is a mapping that begins with `op: name`";
        let entries = self.entries("a spec", help, root)?;
        let start = entries.first().map_or(Span { source, start: 0, end: 0 }, |(key, _)| key.span);
        let program = entries.iter().any(|(key, _)| key.as_str() == "program").then(ProgramSpec::default);
        let mut draft = Draft::new(start, program);
        for (key, value) in entries {
            draft.seen.push(key.value.clone());
            self.key(&mut draft, &key, value);
        }
        self.missing_keys(&draft);
        if let Some(op) = &draft.op {
            self.op_name(source, op);
        }
        let spec = Spec {
            source,
            op: draft.op?,
            doc: draft.doc,
            params: draft.params,
            inputs: draft.inputs?,
            outputs: draft.outputs?,
            sizes: draft.sizes,
            domain: draft.domain,
            forward: draft.forward?,
            adjoint: draft.adjoint,
            tangent: draft.tangent,
            program: draft.program,
            instances: draft.instances.unwrap_or_default(),
            span: draft.span,
        };
        self.names_differ(&spec);
        self.axes_differ(&spec);
        (!self.broken).then_some(spec)
    }

    /// One key of a spec.
    fn key(&mut self, draft: &mut Draft, key: &At<String>, value: Node) {
        match key.as_str() {
            head @ ("op" | "program") => {
                if draft.op.is_some() {
                    let message = "a spec declares an op or a program, not both";
                    let d = Diagnostic::error(Code::Duplicate, key.span, message, "the second");
                    self.error(d.label(draft.span, "the first").help("leave one of them out"));
                }
                draft.span = key.span.to(value.span);
                draft.op = self.text(&format!("`{head}`"), "a name", value);
                draft.seen.push("op".into());
            }
            word if PROGRAM_KEYS.contains(&word) => match &mut draft.program {
                Some(program) => self.program_key(program, key, value),
                None => {
                    let message = format!("an op has no key `{word}`");
                    let d = Diagnostic::error(Code::UnknownKey, key.span, message, "only a program has it");
                    self.error(d.help("begin the spec with `program: name` instead of `op: name`"));
                }
            },
            "doc" => draft.doc = self.text("`doc`", "a text", value),
            "params" => draft.params = self.params(value),
            "inputs" => draft.inputs = self.tensors(key, value),
            "outputs" => draft.outputs = self.tensors(key, value),
            "sizes" => draft.sizes = self.sizes(value),
            "domain" => draft.domain = self.domains(value),
            "forward" => draft.forward = self.steps(key, value),
            "adjoint" | "tangent" if draft.program.is_some() && !is_derived(&value) => {
                let message = format!("a program has no `{}` of its own", key.value);
                let d = Diagnostic::error(Code::BadProgram, key.span, message, "its rules are derived");
                self.error(d.help("leave it out, or declare the rule in an op that the program calls"));
            }
            "adjoint" if is_derived(&value) => {}
            "adjoint" => {
                if let Some(steps) = self.formulas("adjoint", value) {
                    draft.adjoint = Adjoint::Declared(steps);
                }
            }
            "tangent" if is_derived(&value) => {}
            "tangent" => draft.tangent = self.formulas("tangent", value).map(|steps| steps.value),
            "instances" => draft.instances = self.instances(value),
            _ => {
                let slip = did_you_mean(key, KEYS);
                self.unknown_key(key, "a spec", &KEYS);
                // What is misspelt is not missing too.
                self.broken |= slip.is_some();
                draft.seen.extend(slip);
            }
        }
    }

    /// One of the keys that only a program has.
    fn program_key(&mut self, program: &mut ProgramSpec, key: &At<String>, value: Node) {
        match key.as_str() {
            "wrt" => {
                let names = self.names("`wrt`", "the inputs to derive by: `wrt: [w, b]`", value);
                program.wrt = names;
            }
            "functions" => {
                let names = self.names("`functions`", "their names: `functions: [forward, value_and_grad]`", value);
                program.functions = names;
            }
            "checkpoint" => {
                let help = "a local and what becomes of it: `checkpoint: {h: recompute}`";
                for (local, how) in self.entries("`checkpoint`", help, value).unwrap_or_default() {
                    let Some(how) = self.text(&format!("`{}`", local.value), "`save` or `recompute`", how) else {
                        continue;
                    };
                    program.checkpoint.push((local, how));
                }
            }
            other => unreachable!("`{other}` is no key of programs"),
        }
    }

    /// The keys that a spec lacks.
    fn missing_keys(&mut self, draft: &Draft) {
        for (name, example) in [
            ("op", "op: matmul"),
            ("inputs", "inputs: {x: [I, J]}"),
            ("outputs", "outputs: {y: [I]}"),
            ("forward", "forward:\n  - y[i] = sum(j) x[i,j]"),
            ("instances", "instances: []"),
        ] {
            if !draft.seen.iter().any(|key| key == name) {
                self.broken |= name != "instances";
                self.error(
                    Diagnostic::error(
                        Code::MissingKey,
                        draft.span,
                        format!("the key `{name}` is missing"),
                        "this spec needs it",
                    )
                    .help(format!("for example:\n{example}")),
                );
            }
        }
    }

    pub(super) fn used(&mut self, root: Node) -> Option<Use> {
        let entries = self.entries("a spec", "", root)?;
        let (mut op, mut span, mut instances) = (None, None, None);
        for (key, value) in entries {
            match key.as_str() {
                "use" => {
                    span = Some(key.span.to(value.span));
                    op = self.text("`use`", "the name of an op", value);
                }
                "instances" => instances = Some(self.instances(value)),
                other if KEYS.contains(&other) => {
                    self.broken = true;
                    let message = format!("a spec with `use` has no key `{other}`");
                    let label = "comes from the op that is used";
                    let help =
                        "leave it out: a spec with `use` states instances alone; one that declares an op has no `use`";
                    self.error(Diagnostic::error(Code::UnknownKey, key.span, message, label).help(help));
                }
                _ => {
                    // What is misspelt is not missing too.
                    self.broken |= did_you_mean(&key, USE_KEYS).is_some();
                    self.unknown_key(&key, "a spec with `use`", &USE_KEYS);
                }
            }
        }
        if instances.is_none()
            && !self.broken
            && let Some(span) = span
        {
            let message = "the key `instances` is missing";
            let d = Diagnostic::error(Code::MissingKey, span, message, "no kernel is asked for");
            self.error(d.help("for example:\ninstances:\n  - {name: small, I: 8}"));
            return None;
        }
        (!self.broken).then_some(Use { op: op?, instances: instances?? })
    }

    fn unknown_key(&mut self, key: &At<String>, what: &str, known: &[&str]) {
        let d = Diagnostic::error(
            Code::UnknownKey,
            key.span,
            format!("{what} has no key `{}`", key.value.escape_debug()),
            "unknown key",
        );
        let d = match did_you_mean(&key.value, known.iter().copied()) {
            Some(word) => d.help(format!("did you mean `{word}`?")).suggest(key.span, word),
            None => d.help(format!("the keys are {}", known.join(", "))),
        };
        self.error(d);
    }

    /// A number where the kind of a parameter stands: it is a value, which instances state.
    fn value_for_kind(&mut self, name: &At<String>, value: &Node) -> bool {
        let Kind::Scalar(scalar) = &value.kind else { return false };
        let text = scalar.text.trim();
        let Ok(number) = text.parse::<f64>() else { return false };
        let kind = if number.fract() == 0.0 && !text.contains(['.', 'e', 'E']) { "`int` or `real`" } else { "`real`" };
        self.broken = true;
        let message = format!("the parameter `{}` is declared by its kind, not by a value", name.value.escape_debug());
        let help = format!(
            "here stands its kind, {kind}, and in each entry of `instances` `{}: {}`; a number that never changes may stand in the formula itself",
            name.value.escape_debug(),
            text.escape_debug()
        );
        self.error(Diagnostic::error(Code::WrongType, value.span, message, "a value").help(help));
        true
    }

    fn params(&mut self, node: Node) -> Vec<(At<String>, At<String>)> {
        let help = "for example `params: {stride: S}`: one number per dimension of S";
        let Some(entries) = self.entries("`params`", help, node) else {
            return Vec::new();
        };
        let mut params = Vec::new();
        for (name, value) in entries {
            self.lower_name(&name, "a parameter", true);
            if self.value_for_kind(&name, &value) {
                continue;
            }
            let what = format!("the parameter `{}`", name.value);
            if let Some(axis) = self.text(&what, "an axis, `int` or `real`", value) {
                if !matches!(axis.as_str(), "int" | "real") {
                    self.axis_name(&axis);
                }
                params.push((name, axis));
            }
        }
        params
    }

    fn tensors(&mut self, key: &At<String>, node: Node) -> Option<Vec<TensorDecl>> {
        let what = format!("`{}`", key.value);
        let help = format!("for example `{}: {{x: [I, J]}}`", key.value);
        let span = node.span;
        let entries = self.entries(&what, &help, node)?;
        if entries.is_empty() {
            let message = format!("{what} declares no tensor");
            let d = Diagnostic::error(Code::MissingKey, key.span.to(span), message, "at least one");
            self.error(d.help(help));
            return None;
        }
        let mut tensors = Vec::new();
        for (name, value) in entries {
            self.lower_name(&name, "a tensor", true);
            let what = format!("the axes of `{}`", name.value);
            if let Kind::Scalar(s) = &value.kind
                && !value.is_nothing()
            {
                let list = format!("[{}]", s.text.trim());
                let d = self.wrong_type(&what, "a list", &value).help(format!("write `{}: {list}`", name.value));
                self.error(d.suggest(value.span, list));
                continue;
            }
            let help = format!("a scalar has no axes: write `{}: []`", name.value);
            let Some(items) = self.list(&what, &help, value) else {
                continue;
            };
            let mut axes = Vec::new();
            for item in items.value {
                if let Some(axis) = self.text("an axis", "a name", item) {
                    self.axis_name(&axis);
                    axes.push(axis);
                }
            }
            tensors.push(TensorDecl { name, axes });
        }
        Some(tensors)
    }

    fn sizes(&mut self, node: Node) -> Vec<(At<String>, Formula)> {
        let help = "for example `sizes: {O: S + lo + hi}`";
        let Some(entries) = self.entries("`sizes`", help, node) else {
            return Vec::new();
        };
        let mut sizes = Vec::new();
        for (axis, value) in entries {
            self.axis_name(&axis);
            let what = format!("the size of `{}`", axis.value);
            if let Some(formula) = self.formula(&what, value) {
                sizes.push((axis, formula));
            }
        }
        sizes
    }

    fn domains(&mut self, node: Node) -> Vec<(At<String>, At<Domain>)> {
        let help = "for example `domain: {x: \"(0, inf)\"}`";
        let Some(entries) = self.entries("`domain`", help, node.rejoined(self.sources)) else {
            return Vec::new();
        };
        let mut domains = Vec::new();
        for (name, value) in entries {
            let span = value.span;
            let read = match &value.kind {
                Kind::Scalar(s) => interval(&s.text),
                Kind::List(items) => match items.as_slice() {
                    [lo, hi] => bound_of(lo).zip(bound_of(hi)).map(|(lo, hi)| Domain {
                        lo,
                        lo_closed: true,
                        hi,
                        hi_closed: true,
                    }),
                    _ => None,
                },
                Kind::Map(_) => None,
            };
            let Some(domain) = read else {
                let message = format!("the domain of `{}` is not an interval", name.value);
                let label = "expected two bounds in brackets";
                let help = "for example `(0, inf)`, `\"[0, inf)\"`, `(-1, 1]` or `[-1, 1]`";
                self.error(Diagnostic::error(Code::BadDomain, span, message, label).help(help));
                continue;
            };
            let point = domain.lo == domain.hi && domain.lo_closed && domain.hi_closed;
            if !(domain.lo < domain.hi || point) {
                let message = format!("the domain of `{}` is empty", name.value);
                let label = "the lower bound is not below the upper";
                self.error(Diagnostic::error(Code::BadDomain, span, message, label));
                continue;
            }
            if domain.lo_closed && domain.lo.is_infinite() || domain.hi_closed && domain.hi.is_infinite() {
                let message = format!("the domain of `{}` includes infinity", name.value);
                let help = "write `(` or `)` at an infinite end";
                let label = "an infinite end is open";
                self.error(Diagnostic::error(Code::BadDomain, span, message, label).help(help));
                continue;
            }
            domains.push((name, At::new(domain, span)));
        }
        domains
    }

    fn steps(&mut self, key: &At<String>, node: Node) -> Option<Vec<Formula>> {
        let empty = matches!(&node.kind, Kind::List(items) if items.is_empty());
        if empty {
            let message = format!("`{}` has no step", key.value);
            let span = key.span.to(node.span);
            let d = Diagnostic::error(Code::MissingKey, span, message, "at least one");
            self.error(d.help("for example:\nforward:\n  - y[i] = 2 * x[i]"));
            return None;
        }
        self.formulas(&key.value, node).map(|steps| steps.value)
    }

    fn instances(&mut self, node: Node) -> Option<Vec<InstanceSpec>> {
        let help = "for example `- {name: small, I: 8, J: [2, 3]}`, or `instances: []`";
        let items = self.list("`instances`", help, node)?;
        let mut instances: Vec<InstanceSpec> = Vec::new();
        if let Some(item) = items.value.get(MAX_INSTANCES) {
            let message = format!("there are too many instances: {}", items.value.len());
            let label = format!("from here on more than {MAX_INSTANCES}");
            self.error(Diagnostic::error(Code::TooLarge, item.span, message, label));
            return None;
        }
        for item in items.value {
            for instance in self.instance(help, item) {
                distinct(&instances, &instance, self.out);
                instances.push(instance);
            }
        }
        Some(instances)
    }

    /// An instance, and behind it that of a part if it is split.
    fn instance(&mut self, help: &str, node: Node) -> Vec<InstanceSpec> {
        let span = node.span;
        let Some(entries) = self.entries("an instance", help, node) else { return Vec::new() };
        let mut name = None;
        let mut named = false;
        let mut dtype = None;
        let mut values = Vec::new();
        let mut layout = Vec::new();
        let mut schedule = Vec::new();
        let mut functions = None;
        let mut split = None;
        for (key, value) in entries {
            match key.as_str() {
                "name" => {
                    named = true;
                    name = self.text("the name of an instance", "a name", value);
                }
                "dtype" => {
                    let Some(word) = self.text("`dtype`", &DType::choice("`"), value) else {
                        continue;
                    };
                    match word.parse() {
                        Ok(known) => dtype = Some(known),
                        Err(_) => {
                            let message = format!("there is no scalar type `{}`", word.value);
                            let label = format!("expected {}", DType::choice("`"));
                            self.error(Diagnostic::error(Code::WrongType, word.span, message, label));
                        }
                    }
                }
                "layout" => layout = self.layout(value),
                "schedule" => schedule = self.schedule(value),
                "split" => split = self.split(value),
                "functions" => {
                    functions = self.names("`functions`", "their names: `functions: [forward, vjp_x]`", value);
                }
                _ => {
                    if let Some(numbers) = self.numbers(&key, value) {
                        values.push((key, numbers));
                    }
                }
            }
        }
        let Some(name) = name else {
            if !named {
                self.broken = true;
                let message = "an instance has no name";
                let d = Diagnostic::error(Code::MissingKey, span, message, "`name:` is missing");
                self.error(d.help("for example `name: small`: it names the kernel's module"));
            }
            return Vec::new();
        };
        self.lower_name(&name, "an instance", false);
        let whole = InstanceSpec { name, dtype, values, layout, functions, schedule, split: None, span };
        match split.and_then(|split| self.parts(&whole, split)) {
            Some((split, part)) => vec![InstanceSpec { split: Some(split), ..whole }, part],
            None => vec![whole],
        }
    }

    fn schedule(&mut self, node: Node) -> Vec<(At<String>, At<String>)> {
        let help = "for example `schedule: {forward: \"lanes k 2x8, rows i 6\"}`";
        let entries = self.entries("`schedule`", help, node).unwrap_or_default();
        let mut out = Vec::new();
        for (function, value) in entries {
            let what = format!("the schedule of `{}`", function.value);
            out.extend(
                self.text(&what, "a schedule as `cotangent show` prints it", value).map(|text| (function, text)),
            );
        }
        out
    }

    fn layout(&mut self, node: Node) -> Vec<Layout> {
        let help = "for example `layout: {x: [N, Cx, S.0, S.1]}`";
        let Some(entries) = self.entries("`layout`", help, node) else {
            return Vec::new();
        };
        let mut layout = Vec::new();
        for (tensor, value) in entries {
            let what = format!("the layout of `{}`", tensor.value);
            let Some(items) = self.list(&what, help, value) else {
                continue;
            };
            let mut dims = Vec::new();
            for item in items.value {
                dims.extend(self.text("a dimension of a layout", "an axis or `S.0`", item));
            }
            layout.push((tensor, At::new(dims, items.span)));
        }
        layout
    }

    pub(super) fn numbers(&mut self, key: &At<String>, node: Node) -> Option<At<Numbers>> {
        let what = format!("`{}`", key.value.escape_debug());
        let expected = "a number or a list of numbers";
        let span = node.span;
        let (items, list) = match node.kind {
            Kind::List(items) => (items, true),
            _ => (vec![node], false),
        };
        let mut values = Vec::new();
        for item in items {
            match bound_of(&item) {
                Some(value) => values.push(At::new(value, item.span)),
                None => {
                    let d = self.wrong_type(&what, expected, &item);
                    self.error(d);
                    return None;
                }
            }
        }
        Some(At::new(Numbers { values, list }, span))
    }
}

/// `derived`.
fn is_derived(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(s) if s.text == "derived")
}
