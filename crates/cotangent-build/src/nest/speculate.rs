//! Speculation: takes the loops of a function, gives them with those cut into blocks that call functions with a branch
//! for rare arguments, each block a [`Node::Speculative`]. The branch would keep the compiler from running the loop in
//! lanes; so a whole block is tried without it.
//!
//! Holds after it: a speculative block can run again. What it writes it sets, and it reads of that only what it has set
//! before. An element that is added to is set to its sum in scratch, from where it is copied once the speculative block
//! holds.

use super::builder::Builder;
use super::*;
use std::collections::BTreeMap;

/// Iterations of a block at most: many beside the test at its end, few to do again where an argument is rare.
const BLOCK: usize = 256;
/// Blocks are multiples of this where they can be: whole vectors of any machine.
const GRAIN: usize = 16;

impl Builder<'_> {
    /// Tries every innermost loop that can be tried and gains by it.
    pub fn speculate(&mut self, nodes: Vec<Node>) -> Vec<Node> {
        let mut out = Vec::new();
        for node in nodes {
            match node {
                Node::Loop { var, body } => match sums(var, &body) {
                    Some(sums) => out.extend(self.in_blocks(var, &body, &sums)),
                    None => {
                        let body = self.speculate(body);
                        out.push(Node::Loop { var, body });
                    }
                },
                Node::If { tests, body } => {
                    let body = self.speculate(body);
                    out.push(Node::If { tests, body });
                }
                // A tile has its functions in lanes.
                node => out.push(node),
            }
        }
        out
    }

    /// A loop as blocks of equal size and a rest.
    fn in_blocks(&mut self, var: VarId, body: &[Node], sums: &[Access]) -> Vec<Node> {
        let Var { name, extent, .. } = self.nest.vars[var].clone();
        let divides = |size: &usize| extent.is_multiple_of(*size);
        let size = match extent {
            ..=BLOCK => extent,
            _ => (BLOCK / 4..=BLOCK).rev().step_by(GRAIN).find(divides).unwrap_or(BLOCK),
        };
        let scratch: Vec<TensorId> = sums.iter().map(|a| self.scratch(a, size)).collect();
        let (count, rest) = (extent / size, extent % size);
        let mut out = if count == 1 {
            self.try_block(var, Linear::default(), size, body, sums, &scratch)
        } else {
            let block = self.var(&format!("{name}_block"), count);
            let body = self.try_block(var, Linear::new([(block, size as i64)], 0), size, body, sums, &scratch);
            vec![Node::Loop { var: block, body }]
        };
        if rest > 0 {
            let silent: Vec<Node> = body.iter().filter(|n| !matches!(n, Node::Comment(..))).cloned().collect();
            out.extend(self.try_block(var, Linear::constant((count * size) as i64), rest, &silent, sums, &scratch));
        }
        out
    }

    /// The iterations of the loop over `var` from `start` on, `size` of them.
    fn try_block(
        &mut self,
        var: VarId,
        start: Linear,
        size: usize,
        body: &[Node],
        sums: &[Access],
        scratch: &[TensorId],
    ) -> Vec<Node> {
        let iteration = self.var(&self.nest.vars[var].name.clone(), size);
        let at = Linear::new(start.terms.into_iter().chain([(iteration, 1)]), start.constant);
        let moved = |l: &Linear| l.substitute(&|v| if v == var { at.clone() } else { Linear::var(v) });
        let slot = |a: &Access| {
            let at = Position { numerator: Linear::var(iteration), divisor: 1, guarded: false };
            let n = sums.iter().position(|sum| sum == a)?;
            Some(Access { tensor: scratch[n], positions: vec![at], joined: vec![1] })
        };
        let mut begun = Vec::new();
        let mut tried = body.to_vec();
        replace(&mut tried, &mut |place, how, value| {
            let Some(slot) = slot(&place) else {
                return vec![Node::Update { place: Place::Element(place), how, value }];
            };
            let add = Node::Update { place: Place::Element(slot.clone()), how, value };
            if begun.contains(&slot) {
                return vec![add];
            }
            begun.push(slot.clone());
            vec![set(slot, Value::Load(place)), add]
        });
        let mut out = vec![Node::Speculative { body: vec![Node::Loop { var: iteration, body: tried }] }];
        if !sums.is_empty() {
            let mut copies: Vec<Node> = body.iter().filter(|n| !matches!(n, Node::Comment(..))).cloned().collect();
            replace(&mut copies, &mut |place, _, _| {
                // Once each, where the first addition stands.
                let Some(slot) = slot(&place).filter(|slot| begun.contains(slot)) else { return Vec::new() };
                begun.retain(|b| *b != slot);
                vec![set(place, Value::Load(slot))]
            });
            out.push(Node::Loop { var: iteration, body: copies });
        }
        walk::move_all(&mut out, &moved);
        out
    }

    /// Room for the sums of a block, one an iteration.
    fn scratch(&mut self, to: &Access, size: usize) -> TensorId {
        let name = format!("{}_sums", self.space.kernel.tensor(to.tensor).name);
        self.local(name, vec![size])
    }
}

fn set(place: Access, value: Value) -> Node {
    Node::Update { place: Place::Element(place), how: Update::Set, value }
}

/// The elements that a iteration of the loop over `var` adds to, if its body can be tried and calls a function that has
/// a branch.
fn sums(var: VarId, body: &[Node]) -> Option<Vec<Access>> {
    let mut r = Effects {
        var,
        targets: BTreeMap::new(),
        set: Accesses::default(),
        begun: Accesses::default(),
        sums: Accesses::default(),
        branches: false,
    };
    r.targets(body)?;
    r.read(body, true)?;
    r.branches.then(|| r.sums.order.into_iter().cloned().collect())
}

/// Accesses in order, found by their tensor: a body has thousands.
#[derive(Default)]
struct Accesses<'a> {
    order: Vec<&'a Access>,
    of: BTreeMap<TensorId, Vec<&'a Access>>,
}

impl<'a> Accesses<'a> {
    fn push(&mut self, a: &'a Access) {
        self.order.push(a);
        self.of.entry(a.tensor).or_default().push(a);
    }
    fn contains(&self, a: &Access) -> bool {
        self.of.get(&a.tensor).is_some_and(|all| all.contains(&a))
    }
    fn truncate(&mut self, len: usize) {
        for a in self.order.drain(len..) {
            self.of.get_mut(&a.tensor).and_then(Vec::pop);
        }
    }
}

/// Follows a body in its order; `None` from its functions says that it cannot be tried.
struct Effects<'a> {
    var: VarId,
    /// Every element that the body writes, and how, by tensor.
    targets: BTreeMap<TensorId, Vec<(&'a Access, Update)>>,
    /// What is set by now, and what is added to, whatever the tests were.
    set: Accesses<'a>,
    begun: Accesses<'a>,
    sums: Accesses<'a>,
    branches: bool,
}

impl<'a> Effects<'a> {
    fn targets(&mut self, body: &'a [Node]) -> Option<()> {
        body.iter().try_for_each(|node| match node {
            Node::Comment(..) => Some(()),
            Node::If { body, .. } => self.targets(body),
            Node::Update { place: Place::Element(a), how, .. } => {
                self.targets.entry(a.tensor).or_default().push((a, *how));
                Some(())
            }
            _ => None,
        })
    }

    /// `still`: no test so far reads an element, so all of them can be made once more where sums are copied.
    fn read(&mut self, body: &'a [Node], still: bool) -> Option<()> {
        for node in body {
            match node {
                Node::If { tests, body } => {
                    let mut still = still;
                    for t in tests {
                        t.loads(&mut |_| still = false);
                        self.branches |= t.any(&calls_branch);
                        let mut ok = true;
                        t.loads(&mut |a| ok &= self.readable(a));
                        ok.then_some(())?;
                    }
                    let known = (self.set.order.len(), self.begun.order.len());
                    self.read(body, still)?;
                    self.set.truncate(known.0);
                    self.begun.truncate(known.1);
                }
                Node::Update { place: Place::Element(a), how, value } => {
                    let mut ok = true;
                    value.loads(&mut |a| ok &= self.readable(a));
                    self.branches |= value.any(&calls_branch);
                    match how {
                        Update::Set => self.set.push(a),
                        Update::Reduce(_) if self.set.contains(a) || self.begun.contains(a) => {}
                        Update::Reduce(_) => {
                            ok &= still && self.apart(a) && !self.sums.contains(a);
                            self.begun.push(a);
                            self.sums.push(a);
                        }
                    }
                    ok.then_some(())?;
                }
                _ => {}
            }
        }
        Some(())
    }

    /// Whether a iteration reads the same when it runs again.
    fn readable(&self, a: &Access) -> bool {
        !self.targets.contains_key(&a.tensor) || self.set.contains(a)
    }

    /// Whether each iteration has an element of its own, and the tensor is only added to, there.
    fn apart(&self, a: &Access) -> bool {
        let moves = |p: &Position| p.divisor == 1 && p.numerator.coefficient(self.var) != 0;
        let added = |(t, how): &(&Access, Update)| *t == a && *how != Update::Set;
        self.targets.get(&a.tensor).is_none_or(|all| all.iter().all(added)) && a.positions.iter().any(moves)
    }
}

/// Whether it is a function that has a branch.
pub(crate) fn calls_branch(part: walk::Part) -> bool {
    matches!(part, walk::Part::Value(Value::Unary(f, _) | Value::Each(f, _)) if f.branches())
}

/// Every update of an element as `f` gives it.
fn replace(nodes: &mut Vec<Node>, f: &mut impl FnMut(Access, Update, Value) -> Vec<Node>) {
    *nodes = std::mem::take(nodes)
        .into_iter()
        .flat_map(|node| match node {
            Node::Update { place: Place::Element(a), how, value } => f(a, how, value),
            Node::If { tests, mut body } => {
                replace(&mut body, f);
                if body.is_empty() { Vec::new() } else { vec![Node::If { tests, body }] }
            }
            node => vec![node],
        })
        .collect();
}
