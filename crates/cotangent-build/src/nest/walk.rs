//! The walk of nests: takes nodes, a value or a test, gives what stands in it, values before the places that they go
//! to. Whatever goes through nests without asking what they mean is written in these terms, so it knows a new kind of
//! value or node as soon as `below` does.
//!
//! Holds after it: each part is met once; what is rebuilt differs from what was there in what the caller changed alone.

use super::*;

/// What nodes are made of.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    Node(&'a Node),
    Value(&'a Value),
    Test(&'a Test),
    /// Elements that are read.
    Read(&'a Access),
    /// Elements that are written.
    Written(&'a Access),
    /// A tensor that is written whole.
    Filled(&'a TensorId),
    /// A register that is read.
    Slot(&'a Slot),
    /// A register that has a value and gets another.
    Changed(&'a Slot),
    /// A coordinate, or the value of a variable.
    Linear(&'a Linear),
}

/// The same, to be changed.
pub enum PartMut<'a> {
    Node(&'a mut Node),
    Value(&'a mut Value),
    Test(&'a mut Test),
    Read(&'a mut Access),
    Written(&'a mut Access),
    Filled(&'a mut TensorId),
    Slot(&'a mut Slot),
    Changed(&'a mut Slot),
    Linear(&'a mut Linear),
}

// One text for both: parts that are read and parts that are changed are the same.
macro_rules! below {
    ($part:ident $($mutable:tt)?) => {
        impl<'a> $part<'a> {
            /// What stands right below.
            pub fn below(self, f: &mut dyn FnMut($part<'a>)) {
                match self {
                    $part::Node(n) => Self::in_node(n, f),
                    $part::Value(v) => Self::in_value(v, f),
                    $part::Test(t) => Self::in_test(t, f),
                    $part::Read(a) | $part::Written(a) => {
                        for p in &$($mutable)? a.positions {
                            f($part::Linear(&$($mutable)? p.numerator));
                        }
                    }
                    $part::Slot(slot) | $part::Changed(slot) => {
                        for at in &$($mutable)? slot.at {
                            f($part::Linear(at));
                        }
                    }
                    $part::Filled(_) | $part::Linear(_) => {}
                }
            }
            fn in_node(n: &'a $($mutable)? Node, f: &mut dyn FnMut($part<'a>)) {
                match n {
                    Node::Comment(..) => {}
                    Node::Loop { body, .. } | Node::Speculative { body } => {
                        for n in body {
                            f($part::Node(n));
                        }
                    }
                    Node::Tile(Tile { params, body, .. }) => {
                        for (_, value) in params {
                            f($part::Linear(value));
                        }
                        for n in body {
                            f($part::Node(n));
                        }
                    }
                    Node::Let { value, .. } => f($part::Linear(value)),
                    Node::If { tests, body } => {
                        for t in tests {
                            f($part::Test(t));
                        }
                        for n in body {
                            f($part::Node(n));
                        }
                    }
                    Node::Init { value, .. } => f($part::Value(value)),
                    Node::Update { place, value, .. } => {
                        f($part::Value(value));
                        match place {
                            Place::Element(a) | Place::Lanes(a, _) => f($part::Written(a)),
                            Place::Register(slot) => f($part::Changed(slot)),
                        }
                    }
                    Node::Fold { into, from, .. } => {
                        f($part::Slot(from));
                        f($part::Changed(into));
                    }
                    Node::Sums { from, .. } => {
                        for slot in from {
                            f($part::Slot(slot));
                        }
                    }
                    Node::Transpose(BlockTranspose { from, to, .. }) => {
                        f($part::Read(from));
                        f($part::Written(to));
                    }
                    Node::Fill(t) => f($part::Filled(t)),
                }
            }
            fn in_value(v: &'a $($mutable)? Value, f: &mut dyn FnMut($part<'a>)) {
                match v {
                    Value::Const(_) => {}
                    Value::Load(a) | Value::Lanes(a, ..) => f($part::Read(a)),
                    Value::Register(slot) | Value::Lane(slot, _) => f($part::Slot(slot)),
                    Value::Unary(_, a) | Value::Powf(a, _) | Value::Splat(a, _) => f($part::Value(a)),
                    Value::Binary(_, a, b) => {
                        f($part::Value(a));
                        f($part::Value(b));
                    }
                    Value::Fused(a, b, c) => {
                        f($part::Value(a));
                        f($part::Value(b));
                        f($part::Value(c));
                    }
                    Value::Each(_, all) => {
                        for a in all {
                            f($part::Value(a));
                        }
                    }
                    Value::Choose(_, all) => {
                        for a in &$($mutable)? **all {
                            f($part::Value(a));
                        }
                    }
                    Value::Select(t, a, b) => {
                        f($part::Test(t));
                        f($part::Value(a));
                        f($part::Value(b));
                    }
                }
            }
            fn in_test(t: &'a $($mutable)? Test, f: &mut dyn FnMut($part<'a>)) {
                match t {
                    Test::Within { numerator, .. } => f($part::Linear(numerator)),
                    Test::Index(_, a, b) => {
                        f($part::Linear(a));
                        f($part::Linear(b));
                    }
                    Test::Value(_, a, b) => {
                        f($part::Value(a));
                        f($part::Value(b));
                    }
                    Test::And(all) | Test::Or(all) => {
                        for t in all {
                            f($part::Test(t));
                        }
                    }
                    Test::Not(t) => f($part::Test(t)),
                }
            }
        }
    };
}
below!(Part);
below!(PartMut mut);

impl<'a> Part<'a> {
    /// Itself and every part within, outermost first.
    pub fn all(self, f: &mut dyn FnMut(Part<'a>)) {
        f(self);
        self.below(&mut |part| part.all(f));
    }
    fn loads(self, f: &mut dyn FnMut(&'a Access)) {
        self.all(&mut |part| {
            if let Part::Read(a) = part {
                f(a);
            }
        });
    }
    fn vars(self, f: &mut dyn FnMut(VarId)) {
        self.all(&mut |part| {
            if let Part::Linear(l) = part {
                l.terms.iter().for_each(|(v, _)| f(*v));
            }
        });
    }
    pub fn any(self, is: &dyn Fn(Part) -> bool) -> bool {
        let mut found = false;
        self.all(&mut |part| found = found || is(part));
        found
    }
}

impl PartMut<'_> {
    /// Every part within and itself, innermost first.
    pub fn all(self, f: &mut dyn FnMut(PartMut)) {
        let go = &mut |part: PartMut| part.all(f);
        match self {
            PartMut::Node(n) => {
                PartMut::Node(n).below(go);
                f(PartMut::Node(n));
            }
            PartMut::Value(v) => {
                PartMut::Value(v).below(go);
                f(PartMut::Value(v));
            }
            PartMut::Test(t) => {
                PartMut::Test(t).below(go);
                f(PartMut::Test(t));
            }
            PartMut::Read(a) => {
                PartMut::Read(a).below(go);
                f(PartMut::Read(a));
            }
            PartMut::Written(a) => {
                PartMut::Written(a).below(go);
                f(PartMut::Written(a));
            }
            PartMut::Slot(slot) => {
                PartMut::Slot(slot).below(go);
                f(PartMut::Slot(slot));
            }
            PartMut::Changed(slot) => {
                PartMut::Changed(slot).below(go);
                f(PartMut::Changed(slot));
            }
            leaf @ (PartMut::Filled(_) | PartMut::Linear(_)) => f(leaf),
        }
    }
}

/// The nodes and every part within, outermost first.
pub fn parts<'a>(nodes: &'a [Node], f: &mut dyn FnMut(Part<'a>)) {
    nodes.iter().for_each(|n| Part::Node(n).all(f));
}

/// Every coordinate in nodes through `f`.
pub fn move_all(nodes: &mut [Node], f: &dyn Fn(&Linear) -> Linear) {
    for n in nodes {
        PartMut::Node(n).all(&mut |part| {
            if let PartMut::Linear(l) = part {
                *l = f(l);
            }
        });
    }
}

impl Node {
    /// The nodes within.
    pub fn body(&self) -> &[Node] {
        match self {
            Node::Loop { body, .. } | Node::If { body, .. } | Node::Speculative { body } => body,
            Node::Tile(t) => &t.body,
            Node::Comment(..) | Node::Let { .. } | Node::Init { .. } | Node::Update { .. } => &[],
            Node::Fold { .. } | Node::Sums { .. } | Node::Transpose(_) | Node::Fill(_) => &[],
        }
    }
    /// Those of the nodes within; none of a node that has none.
    pub fn body_mut(&mut self) -> Option<&mut Vec<Node>> {
        match self {
            Node::Loop { body, .. } | Node::If { body, .. } | Node::Speculative { body } => Some(body),
            Node::Tile(t) => Some(&mut t.body),
            Node::Comment(..) | Node::Let { .. } | Node::Init { .. } | Node::Update { .. } => None,
            Node::Fold { .. } | Node::Sums { .. } | Node::Transpose(_) | Node::Fill(_) => None,
        }
    }
    /// The register that it gives its first value.
    pub fn begins(&self) -> Option<RegisterId> {
        match self {
            Node::Init { register, .. } | Node::Sums { into: register, .. } => Some(*register),
            Node::Comment(..) | Node::Loop { .. } | Node::Tile(_) | Node::Let { .. } | Node::If { .. } => None,
            Node::Speculative { .. } | Node::Update { .. } | Node::Fold { .. } | Node::Transpose(_) | Node::Fill(_) => {
                None
            }
        }
    }
    /// Its parts, the nodes within and theirs aside.
    pub fn own_parts<'a>(&'a self, f: &mut dyn FnMut(Part<'a>)) {
        Part::Node(self).below(&mut |part| {
            if !matches!(part, Part::Node(_)) {
                part.all(f);
            }
        });
    }
}

impl Value {
    /// Every access of an element, tests included.
    pub fn loads<'a>(&'a self, f: &mut dyn FnMut(&'a Access)) {
        Part::Value(self).loads(f);
    }
    /// Every register that it reads, in tests too.
    pub fn slots<'a>(&'a self, f: &mut dyn FnMut(&'a Slot)) {
        Part::Value(self).all(&mut |part| {
            if let Part::Slot(slot) = part {
                f(slot);
            }
        });
    }
    /// Every variable that it depends on.
    pub fn vars(&self, f: &mut dyn FnMut(VarId)) {
        Part::Value(self).vars(f);
    }
    /// Whether itself or a part within is so.
    pub fn any(&self, is: &dyn Fn(Part) -> bool) -> bool {
        Part::Value(self).any(is)
    }
    /// With every load that `f` gives another value for replaced by it, in tests too.
    #[must_use]
    pub fn replaced(mut self, f: &dyn Fn(&Access) -> Option<Value>) -> Value {
        PartMut::Value(&mut self).all(&mut |part| {
            if let PartMut::Value(v) = part
                && let Value::Load(a) = v
                && let Some(value) = f(a)
            {
                *v = value;
            }
        });
        self
    }
}

impl Test {
    pub fn loads<'a>(&'a self, f: &mut dyn FnMut(&'a Access)) {
        Part::Test(self).loads(f);
    }
    /// Every variable that it depends on.
    pub fn vars(&self, f: &mut dyn FnMut(VarId)) {
        Part::Test(self).vars(f);
    }
    /// Whether itself or a part within is so.
    pub fn any(&self, is: &dyn Fn(Part) -> bool) -> bool {
        Part::Test(self).any(is)
    }
    /// The values that it compares.
    pub fn values<'a>(&'a self, f: &mut dyn FnMut(&'a Value)) {
        Part::Test(self).below(&mut |part| match part {
            Part::Value(v) => f(v),
            Part::Test(t) => t.values(f),
            _ => {}
        });
    }
}
