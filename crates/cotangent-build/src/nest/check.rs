//! The checker of nests: takes a nest, gives the first broken invariant of [`crate::nest`]. A failure is a bug of ours.

use super::*;
use crate::plain::Kernel;
use std::collections::BTreeSet;

/// Checks one function.
pub fn check(k: &Kernel, n: &Nest) -> Result<(), String> {
    // Functions that are tried alone stand in no kernel.
    if let Some(f) = k.functions.iter().find(|f| f.name == n.name)
        && (&f.reads, &f.writes) != (&n.reads, &n.writes)
    {
        return Err(format!("{}::{}::{}: other arguments than those of the function", k.op, k.name, n.name));
    }
    let mut c = Checker { k, n, running: BTreeSet::new(), set: BTreeSet::new(), tests: Vec::new() };
    c.nodes(&n.body).map_err(|what| format!("{}::{}::{}: {what}", k.op, k.name, n.name))
}

/// Whether the nodes add only to what they have set.
fn repeatable<'a>(nodes: &'a [Node], set: &mut Vec<&'a Access>) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Comment(..) => {}
            Node::Loop { body, .. } | Node::If { body, .. } => repeatable(body, set)?,
            Node::Update { place: Place::Element(a), how: Update::Set, .. } => set.push(a),
            Node::Update { place: Place::Element(a), .. } if set.contains(&a) => {}
            _ => return Err("a speculative block that cannot run again".into()),
        }
    }
    Ok(())
}

struct Checker<'a> {
    k: &'a Kernel,
    n: &'a Nest,
    running: BTreeSet<VarId>,
    set: BTreeSet<RegisterId>,
    /// The tests known to hold.
    tests: Vec<Test>,
}

impl Checker<'_> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Comment(..) => {}
                Node::Loop { var, body } => {
                    if !self.running.insert(*var) {
                        return Err(format!("loop `{}` inside itself", self.n.vars[*var].name));
                    }
                    self.nodes(body)?;
                    self.running.remove(var);
                }
                Node::Tile(t) => self.tile(t)?,
                // Until the next iteration of the loop around it.
                Node::Let { var, value, most } => {
                    self.linear(value)?;
                    if value.range(&|v| self.n.vars[v].extent).0 < 0 || self.n.vars[*var].extent != most + 1 {
                        return Err(format!("`{}` is not within its extent", self.n.vars[*var].name));
                    }
                    self.running.insert(*var);
                }
                Node::If { tests, body } => {
                    let known = self.tests.len();
                    for t in tests {
                        self.test(t)?;
                        self.learn(t);
                    }
                    self.nodes(body)?;
                    self.tests.truncate(known);
                }
                Node::Speculative { body } => {
                    repeatable(body, &mut Vec::new())?;
                    self.nodes(body)?;
                }
                Node::Init { register, value } => {
                    let Register { lanes, dims, .. } = &self.n.registers[*register];
                    if let Some(var) = dims.iter().find(|v| !self.running.insert(**v)) {
                        return Err(format!("an array over `{}` inside its loop", self.n.vars[*var].name));
                    }
                    self.value(value)?;
                    self.same(*lanes, self.lanes(value))?;
                    dims.iter().for_each(|v| _ = self.running.remove(v));
                    self.set.insert(*register);
                }
                Node::Update { place, value, .. } => self.update(place, value)?,
                Node::Transpose(t) => self.transpose(t)?,
                Node::Fold { into, from, .. } => {
                    self.slot(into)?;
                    self.slot(from)?;
                    self.same(self.n.registers[into.register].lanes, None)?;
                    if self.n.registers[from.register].lanes.is_none_or(|l| !l.is_power_of_two()) {
                        return Err("a fold of what is not a power of two of lanes".into());
                    }
                }
                Node::Sums { into, from } => {
                    from.iter().try_for_each(|slot| self.slot(slot))?;
                    self.same(self.n.registers[*into].lanes, Some(from.len()))?;
                    let lanes = |slot: &Slot| self.n.registers[slot.register].lanes;
                    if from.iter().any(|slot| lanes(slot) != lanes(&from[0]) || lanes(slot).is_none()) {
                        return Err("sums of registers of several widths".into());
                    }
                    self.set.insert(*into);
                }
                Node::Fill(t) => self.written(*t)?,
            }
        }
        Ok(())
    }

    /// A value, and the place that it goes to.
    fn update(&mut self, place: &Place, value: &Value) -> Result<(), String> {
        self.value(value)?;
        match place {
            Place::Element(a) => {
                self.written(a.tensor)?;
                self.access(a, 1)?;
                self.same(None, self.lanes(value))?;
            }
            Place::Lanes(a, lanes) => {
                self.written(a.tensor)?;
                // The lanes that are not written may lie outside.
                let mut first = a.clone();
                let last = first.positions.last_mut().ok_or("lanes of a scalar")?;
                last.numerator.constant += lanes.start as i64;
                self.access(&first, lanes.len())?;
                match self.lanes(value) {
                    Some(width) if lanes.end <= width => {}
                    _ => return Err("lanes written of what has fewer".into()),
                }
            }
            Place::Register(slot) => {
                self.slot(slot)?;
                self.same(self.n.registers[slot.register].lanes, self.lanes(value))?;
            }
        }
        Ok(())
    }

    /// A block that is transposed, and its rows on both sides.
    fn transpose(&mut self, t: &BlockTranspose) -> Result<(), String> {
        let [rows, columns] = [t.row, t.column].map(|v| self.n.vars[v].extent);
        if rows != columns && rows != 2 * columns {
            return Err("a block that is transposed is neither square nor two squares".into());
        }
        self.readable(&t.from)?;
        self.written(t.to.tensor)?;
        for (var, access, count) in [(t.row, &t.from, columns), (t.column, &t.to, rows)] {
            self.running.insert(var);
            self.access(access, count)?;
            self.running.remove(&var);
        }
        Ok(())
    }

    fn learn(&mut self, t: &Test) {
        match t {
            Test::And(ts) => ts.iter().for_each(|t| self.learn(t)),
            t => self.tests.push(t.clone()),
        }
    }

    fn linear(&self, l: &Linear) -> Result<(), String> {
        match l.terms.iter().find(|(v, _)| !self.running.contains(v)) {
            Some((v, _)) => Err(format!("variable `{}` outside its loop", self.n.vars[*v].name)),
            None => Ok(()),
        }
    }

    /// A tile is a function: it knows what it is given, and sets its own registers. Where it is called its accesses are
    /// in bounds.
    fn tile(&mut self, t: &Tile) -> Result<(), String> {
        for (var, value) in &t.params {
            self.linear(value)?;
            let (lo, hi) = value.range(&|v| self.n.vars[v].extent);
            if lo < 0 || hi >= self.n.vars[*var].extent as i64 {
                return Err(format!("`{}` is given to a tile beyond its extent", self.n.vars[*var].name));
            }
        }
        let params: BTreeSet<VarId> = t.params.iter().map(|(v, _)| *v).collect();
        let outside = std::mem::replace(&mut self.running, params);
        let set = std::mem::take(&mut self.set);
        self.nodes(&t.body)?;
        self.running = outside.clone();
        self.nodes(&inline::called(t))?;
        (self.running, self.set) = (outside, set);
        Ok(())
    }

    fn slot(&self, slot: &Slot) -> Result<(), String> {
        let register = &self.n.registers[slot.register];
        if !self.set.contains(&slot.register) {
            return Err(format!("register `{}` is not set", register.name));
        }
        if slot.at.len() != register.dims.len() {
            return Err(format!("register `{}` has {} dimensions", register.name, register.dims.len()));
        }
        for (at, counts) in slot.at.iter().zip(&register.dims) {
            self.linear(at)?;
            let (lo, hi) = at.range(&|v| self.n.vars[v].extent);
            if lo < 0 || hi >= self.n.vars[*counts].extent as i64 {
                return Err(format!("register `{}` may be taken out of bounds", register.name));
            }
        }
        Ok(())
    }

    fn lanes(&self, v: &Value) -> Option<usize> {
        v.lanes(&self.n.registers)
    }

    fn same(&self, a: Option<usize>, b: Option<usize>) -> Result<(), String> {
        if a == b { Ok(()) } else { Err(format!("{a:?} lanes beside {b:?}")) }
    }

    fn written(&self, t: TensorId) -> Result<(), String> {
        if self.n.writes.contains(&t) || self.n.local(t).is_some() {
            Ok(())
        } else {
            Err(format!("`{}` is no result and no local", self.n.tensor(self.k, t)))
        }
    }

    /// An access of so many elements that follow each other.
    fn access(&self, a: &Access, count: usize) -> Result<(), String> {
        let name = self.n.tensor(self.k, a.tensor);
        let shape = self.n.shape(self.k, a.tensor);
        if a.joined.len() != a.positions.len() || a.joined.iter().sum::<usize>() != shape.len() {
            return Err(format!("`{name}` has {} dimensions here", shape.len()));
        }
        let extents = a.extents(shape);
        for (d, (p, size)) in a.positions.iter().zip(&extents).enumerate() {
            self.linear(&p.numerator)?;
            let (lo, hi) = p.numerator.range(&|v| self.n.vars[v].extent);
            let reach = if d + 1 == extents.len() { count as i64 - 1 } else { 0 };
            let proven = lo >= 0 && hi + reach < *size as i64 && p.divisor == 1;
            let within = Test::Within { numerator: p.numerator.clone(), divisor: p.divisor, extent: *size };
            let kept = p.guarded && reach == 0 && self.tests.contains(&within);
            if !proven && !kept {
                return Err(format!("`{name}` may be accessed out of bounds"));
            }
        }
        if extents.is_empty() && count > 1 { Err("lanes of a scalar".into()) } else { Ok(()) }
    }

    fn readable(&self, a: &Access) -> Result<(), String> {
        if self.n.reads.contains(&a.tensor) { Ok(()) } else { self.written(a.tensor) }
    }

    fn value(&mut self, v: &Value) -> Result<(), String> {
        match v {
            Value::Const(_) => Ok(()),
            Value::Load(a) => self.readable(a).and_then(|()| self.access(a, 1)),
            Value::Lanes(a, width, count) => {
                self.readable(a)?;
                self.access(a, *count)?;
                if count > width { Err("more elements than lanes".into()) } else { Ok(()) }
            }
            Value::Splat(a, _) => {
                self.value(a)?;
                self.same(None, self.lanes(a))
            }
            Value::Register(slot) => self.slot(slot),
            Value::Unary(_, a) | Value::Powf(a, _) => self.value(a),
            Value::Binary(_, a, b) => {
                self.value(a)?;
                self.value(b)?;
                self.same(self.lanes(a), self.lanes(b))
            }
            Value::Fused(a, b, c) => [a, b, c].into_iter().try_for_each(|a| {
                self.value(a)?;
                self.same(None, self.lanes(a))
            }),
            Value::Each(_, all) => {
                if !all.len().is_power_of_two() {
                    return Err("lanes that are no power of two".into());
                }
                all.iter().try_for_each(|a| {
                    self.value(a)?;
                    self.same(None, self.lanes(a))
                })
            }
            Value::Lane(slot, lane) => {
                self.slot(slot)?;
                let register = &self.n.registers[slot.register];
                match register.lanes {
                    Some(n) if *lane < n => Ok(()),
                    _ => Err(format!("register `{}` has no lane {lane}", register.name)),
                }
            }
            Value::Choose(_, all) => all.iter().try_for_each(|a| {
                self.value(a)?;
                self.same(self.lanes(&all[0]), self.lanes(a))
            }),
            Value::Select(t, a, b) => {
                self.test(t)?;
                let known = self.tests.len();
                self.learn(t);
                self.value(a)?;
                self.tests.truncate(known);
                self.learn(&Test::Not(t.clone()));
                self.value(b)?;
                self.tests.truncate(known);
                self.same(self.lanes(a), self.lanes(b))
            }
        }
    }

    fn test(&mut self, t: &Test) -> Result<(), String> {
        match t {
            Test::Within { numerator, .. } => self.linear(numerator),
            Test::Index(_, a, b) => {
                self.linear(a)?;
                self.linear(b)
            }
            Test::Value(_, a, b) => {
                self.value(a)?;
                self.value(b)
            }
            Test::And(ts) => {
                let known = self.tests.len();
                for t in ts {
                    self.test(t)?;
                    self.learn(t);
                }
                self.tests.truncate(known);
                Ok(())
            }
            Test::Or(ts) => ts.iter().try_for_each(|t| self.test(t)),
            Test::Not(t) => self.test(t),
        }
    }
}
