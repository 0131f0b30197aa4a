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
        if let Node::Tile(t) = node {
            out.extend(nodes(&called(t)));
            continue;
        }
        let mut node = node.clone();
        if let Some(body) = node.body_mut() {
            *body = nodes(body);
        }
        out.push(node);
    }
    out
}

/// What a tile does where it is called.
pub(super) fn called(t: &Tile) -> Vec<Node> {
    let of = |v: VarId| t.params.iter().find(|(p, _)| *p == v).map_or_else(|| Linear::var(v), |(_, l)| l.clone());
    let mut body = t.body.clone();
    walk::move_all(&mut body, &|l| l.substitute(&of));
    body
}
