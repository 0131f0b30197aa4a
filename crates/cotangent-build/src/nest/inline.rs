//! Tiles without their calls: takes nests, gives them with the bodies of tiles where these are called. It is what
//! analyses look at that follow a coordinate through all loops around it.
//!
//! Holds after it: no node is a [`Node::Tile`], and the nest does what it did.

use super::*;

/// The nest without calls.
pub fn inlined(n: &Nest) -> Nest {
    Nest { body: nodes(&n.body), ..n.clone() }
}

fn nodes(all: &[Node]) -> Vec<Node> {
    let mut out = Vec::new();
    for node in all {
        match node {
            Node::Tile(t) => out.extend(nodes(&called(t))),
            Node::Loop { var, body } => out.push(Node::Loop { var: *var, body: nodes(body) }),
            Node::If { tests, body } => out.push(Node::If { tests: tests.clone(), body: nodes(body) }),
            Node::Trial { body } => out.push(Node::Trial { body: nodes(body) }),
            node => out.push(node.clone()),
        }
    }
    out
}

/// What a tile does where it is called.
pub(super) fn called(t: &Tile) -> Vec<Node> {
    let of = |v: VarId| t.params.iter().find(|(p, _)| *p == v).map_or_else(|| Linear::var(v), |(_, l)| l.clone());
    let mut body = t.body.clone();
    substitute(&mut body, &|l| l.substitute(&of));
    body
}

/// Every variable that nodes depend on.
pub(super) fn vars(all: &[Node], f: &mut impl FnMut(VarId)) {
    let mut body = all.to_vec();
    let seen = std::cell::RefCell::new(f);
    substitute(&mut body, &|l| {
        l.terms.iter().for_each(|(v, _)| (seen.borrow_mut())(*v));
        l.clone()
    });
}

/// Every coordinate through `f`.
pub(super) fn substitute(nodes: &mut [Node], f: &impl Fn(&Linear) -> Linear) {
    for node in nodes {
        match node {
            Node::Comment(..) | Node::Fill(_) => {}
            Node::Loop { body, .. } | Node::Trial { body } => substitute(body, f),
            Node::Tile(t) => {
                t.params.iter_mut().for_each(|(_, value)| *value = f(value));
                substitute(&mut t.body, f);
            }
            Node::Let { value, .. } => *value = f(value),
            Node::If { tests, body } => {
                tests.iter_mut().for_each(|t| in_test(t, f));
                substitute(body, f);
            }
            Node::Init { value, .. } => in_value(value, f),
            Node::Update { place, value, .. } => {
                match place {
                    Place::Element(a) | Place::Lanes(a, _) => in_access(a, f),
                    Place::Register(slot) => in_slot(slot, f),
                }
                in_value(value, f);
            }
            Node::Fold { into, from, .. } => [into, from].into_iter().for_each(|slot| in_slot(slot, f)),
            Node::Sums { from, .. } => from.iter_mut().for_each(|slot| in_slot(slot, f)),
            Node::Transpose(Turned { from, to, .. }) => [from, to].into_iter().for_each(|a| in_access(a, f)),
        }
    }
}

fn in_slot(slot: &mut Slot, f: &impl Fn(&Linear) -> Linear) {
    slot.at.iter_mut().for_each(|l| *l = f(l));
}

fn in_access(a: &mut Access, f: &impl Fn(&Linear) -> Linear) {
    a.positions.iter_mut().for_each(|p| p.numerator = f(&p.numerator));
}

fn in_value(v: &mut Value, f: &impl Fn(&Linear) -> Linear) {
    match v {
        Value::Const(_) => {}
        Value::Register(slot) | Value::Lane(slot, _) => in_slot(slot, f),
        Value::Fused(a, b, c) => [a, b, c].into_iter().for_each(|a| in_value(a, f)),
        Value::Each(_, all) => all.iter_mut().for_each(|a| in_value(a, f)),
        Value::Choose(_, all) => all.iter_mut().for_each(|a| in_value(a, f)),
        Value::Load(a) | Value::Lanes(a, ..) => in_access(a, f),
        Value::Unary(_, a) | Value::Powf(a, _) | Value::Splat(a, _) => in_value(a, f),
        Value::Binary(_, a, b) => {
            in_value(a, f);
            in_value(b, f);
        }
        Value::Select(t, a, b) => {
            in_test(t, f);
            in_value(a, f);
            in_value(b, f);
        }
    }
}

fn in_test(t: &mut Test, f: &impl Fn(&Linear) -> Linear) {
    match t {
        Test::Within { numerator, .. } => *numerator = f(numerator),
        Test::Index(_, a, b) => {
            *a = f(a);
            *b = f(b);
        }
        Test::Value(_, a, b) => {
            in_value(a, f);
            in_value(b, f);
        }
        Test::And(ts) | Test::Or(ts) => ts.iter_mut().for_each(|t| in_test(t, f)),
        Test::Not(t) => in_test(t, f),
    }
}
