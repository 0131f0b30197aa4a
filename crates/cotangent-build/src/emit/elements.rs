//! Elements with names: takes a nest, gives the elements of arguments that its text names once, where the array is
//! taken apart, and the patterns that do that. An index is a trait to rustc: checking one takes as long as several
//! operations, and straight-line code has as many indices as operations.
//!
//! Holds after it: of a tensor with such an element every access is a single element with a name; a tensor that is
//! filled is filled before it is taken apart.

use super::rust::Pattern;
use crate::index::TensorId;
use crate::nest::walk::{self, Part};
use crate::nest::{Access, Nest, Node, Place, Value};
use crate::plain::Kernel;
use std::collections::{BTreeMap, BTreeSet};

/// An array is taken apart where it has at most so many elements for each that has a name.
const SPARSE: usize = 8;

/// Where an element stands in its tensor.
pub(super) type Position = Vec<usize>;

/// The elements that have names: none where there are loops, whose elements move.
pub(super) fn named(k: &Kernel, n: &Nest) -> BTreeMap<TensorId, BTreeSet<Position>> {
    let mut all: BTreeMap<TensorId, BTreeSet<Position>> = BTreeMap::new();
    if !n.vars.is_empty() {
        return all;
    }
    // How often a tensor is met, and how often as a single element.
    let (mut met, mut single): (BTreeMap<TensorId, usize>, BTreeMap<TensorId, usize>) = Default::default();
    let mut fixed = |a: &Access| {
        if let Some(at) = position(a) {
            all.entry(a.tensor).or_default().insert(at);
            *single.entry(a.tensor).or_default() += 1;
        }
    };
    walk::parts(&n.body, &mut |part| match part {
        Part::Read(a) | Part::Written(a) => *met.entry(a.tensor).or_default() += 1,
        Part::Value(Value::Load(a)) | Part::Node(Node::Update { place: Place::Element(a), .. }) => fixed(a),
        _ => {}
    });
    all.retain(|t, elements| {
        let whole = single[t] == met[t] && !k.tensor(*t).shape.is_empty() && n.local(*t).is_none();
        whole && filled_first(&n.body, *t) && k.tensor(*t).elements() <= SPARSE * elements.len()
    });
    all
}

/// The place of an element that is the same whatever the loops do.
pub(super) fn position(a: &Access) -> Option<Position> {
    let fixed = |p: &crate::nest::Position| {
        let one = p.numerator.terms.is_empty() && p.divisor == 1 && !p.guarded;
        one.then(|| usize::try_from(p.numerator.constant).ok()).flatten()
    };
    a.joined.iter().all(|n| *n == 1).then(|| a.positions.iter().map(fixed).collect()).flatten()
}

/// Whether a tensor is never filled, or once, before all else that is done with it.
fn filled_first(nodes: &[Node], t: TensorId) -> bool {
    let (mut fills, mut touched) = (0, false);
    walk::parts(nodes, &mut |part| match part {
        Part::Filled(other) if *other == t => {
            fills += if touched { 2 } else { 1 };
        }
        Part::Read(a) | Part::Written(a) if a.tensor == t => touched = true,
        _ => {}
    });
    fills == 0 || fills == 1 && nodes.contains(&Node::Fill(t))
}

/// The pattern that names elements of an array.
pub(super) fn pattern(shape: &[usize], name: &dyn Fn(&[usize]) -> Option<Pattern>) -> Pattern {
    within(shape, &mut Vec::new(), name)
}

fn within(shape: &[usize], at: &mut Position, name: &dyn Fn(&[usize]) -> Option<Pattern>) -> Pattern {
    let Some((extent, inner)) = shape.split_first() else { return name(at).unwrap_or(Pattern::Unnamed) };
    let mut all = Vec::new();
    for n in 0..*extent {
        at.push(n);
        all.push(within(inner, at, name));
        at.pop();
    }
    Pattern::array(all)
}
