//! Writing: takes a graph, gives its nest: a register for each value that is used twice or lies deep, functions in
//! batches of lanes.
//!
//! Holds after it: each value is set before it is used; the nest has no loop.

use super::*;

impl Graph<'_> {
    /// The results: which element, how it is written, its value; in storage order.
    fn results(&self) -> Vec<(TensorId, usize, Update, Id)> {
        let mut out = Vec::new();
        for t in &self.function.writes {
            for (at, cell) in self.cells[t].iter().enumerate() {
                match cell {
                    Cell::Unset => {}
                    Cell::Set(v) => out.push((*t, at, Update::Set, *v)),
                    Cell::Added(v) if self.is(*v, 0.0) => {}
                    Cell::Added(v) => out.push((*t, at, Update::Reduce(ReduceOp::Sum), *v)),
                }
            }
        }
        out
    }

    /// The values that the results need.
    fn live(&self) -> BTreeSet<Id> {
        let mut live: BTreeSet<Id> = BTreeSet::new();
        let mut open: Vec<Id> = self.results().into_iter().map(|(.., v)| v).collect();
        while let Some(v) = open.pop() {
            if live.insert(v) {
                open.extend(self.parts(v));
            }
        }
        live
    }

    /// The operations that the results need, one for each that is written, functions of one kind batched by four.
    pub(super) fn operations(&self) -> u64 {
        let live = self.live();
        let single = |v: &Id| match self.ops[*v] {
            Definition::Const(_) | Definition::Load(..) => 0,
            Definition::Unary(f, _) if batches(f) => 0,
            Definition::Unary(f, _) => cost_of(f.cost()),
            Definition::Powf(..) => FUNCTION,
            Definition::Binary(f, ..) => cost_of(f.cost()),
            Definition::Fused { .. } => 1,
            Definition::Select(..) => 2,
        };
        let batches: u64 = self.batches(&live, 4).iter().map(|_| FUNCTION).sum();
        let results = self.results();
        let zeros = results.iter().filter(|(.., v)| self.is(*v, 0.0)).count();
        // Zeros are filled in, several at a time.
        let written = (results.len() - zeros + zeros.div_ceil(4)) as u64;
        live.iter().map(single).sum::<u64>() + batches + written
    }

    /// Calls of one function that do not depend on each other, at most `width` together, one alone included.
    fn batches(&self, live: &BTreeSet<Id>, width: usize) -> Vec<Vec<Id>> {
        // How many functions in a row lead to a value: what has the same number cannot depend on each other.
        let mut level: HashMap<Id, usize> = HashMap::new();
        let mut groups: BTreeMap<(usize, usize), Vec<Id>> = BTreeMap::new();
        for v in live {
            let below = self.parts(*v).iter().map(|p| level[p]).max().unwrap_or(0);
            let own = match self.ops[*v] {
                Definition::Unary(f, _) if batches(f) => {
                    groups.entry((below, f as usize)).or_default().push(*v);
                    1
                }
                _ => 0,
            };
            level.insert(*v, below + own);
        }
        let argument = |v: &Id| self.parts(*v)[0];
        groups.values_mut().for_each(|g| g.sort_by_key(argument));
        groups.values().flat_map(|g| g.chunks(width)).map(<[Id]>::to_vec).collect()
    }

    /// The nest for a class of machines.
    pub fn nest(&self, machine: &'static Machine) -> Nest {
        let f = self.function;
        let live = self.live();
        let size = self.kernel.dtype.bytes();
        let mut batch: BTreeMap<Id, (Id, usize)> = BTreeMap::new();
        let mut groups: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
        for group in self.batches(&live, (machine.bytes / size).max(1)) {
            if group.len() > 1 {
                batch.extend(group.iter().enumerate().map(|(lane, v)| (*v, (group[0], lane))));
                groups.insert(group[0], group);
            }
        }
        let results = self.results();
        let mut uses: HashMap<Id, usize> = HashMap::new();
        let needed = live.iter().flat_map(|v| self.parts(*v)).chain(results.iter().map(|(.., v)| *v));
        needed.for_each(|v| *uses.entry(v).or_insert(0) += 1);
        let nest = Nest {
            name: f.name.clone(),
            kind: f.kind,
            machines: vec![machine],
            notes: vec![format!(
                "unrolled graph: {} operations, {} as loops",
                self.operations(),
                in_loops(self.kernel, f).1.round()
            )],
            reads: f.reads.clone(),
            writes: f.writes.clone(),
            locals: Vec::new(),
            vars: Vec::new(),
            registers: Vec::new(),
            body: Vec::new(),
        };
        let (registers, depth) = (HashMap::new(), HashMap::new());
        let mut w = Writer { g: self, nest, batch, groups, uses, registers, depth };
        for step in &f.steps {
            let node = match step {
                Step::Fill(t) => Node::Comment(format!("{} = 0", self.kernel.tensor(*t).name), None),
                Step::Stmt(s) => Node::Comment(plain::print::brief(&self.kernel.tensors, s), Some(s.span)),
                Step::Scan(_) => unreachable!("a function with a recurrence has no graph"),
            };
            w.nest.body.push(node);
        }
        // Mostly zeros: filled, and the others set after it.
        let mut filled = BTreeSet::new();
        for t in &f.writes {
            let own = || results.iter().filter(|(r, _, how, _)| r == t && *how == Update::Set);
            let zeros = own().filter(|(.., v)| self.is(*v, 0.0)).count();
            if zeros > 1 && 2 * zeros > own().count() && own().count() == self.kernel.tensor(*t).elements() {
                w.nest.body.push(Node::Fill(*t));
                filled.insert(*t);
            }
        }
        for (t, at, how, v) in results {
            if filled.contains(&t) && self.is(v, 0.0) {
                continue;
            }
            w.need(v);
            let value = w.value(v);
            w.nest.body.push(Node::Update { place: Place::Element(self.access(t, at)), how, value });
        }
        w.nest
    }

    pub(super) fn access(&self, t: TensorId, flat: usize) -> Access {
        let mut rest = flat;
        let mut at: Vec<usize> = Vec::new();
        for n in self.kernel.tensor(t).shape.iter().rev() {
            at.push(rest % n);
            rest /= n;
        }
        at.reverse();
        let position = |n: &usize| Position { numerator: Linear::constant(*n as i64), divisor: 1, guarded: false };
        Access { tensor: t, positions: at.iter().map(position).collect(), joined: vec![1; at.len()] }
    }
}

/// Whether several calls of the function are worth one on lanes.
fn batches(f: Unary) -> bool {
    f.cost() == Cost::Call
}

struct Writer<'g, 'a> {
    g: &'g Graph<'a>,
    nest: Nest,
    /// The first value of the batch that one is in, and its lane.
    batch: BTreeMap<Id, (Id, usize)>,
    groups: BTreeMap<Id, Vec<Id>>,
    uses: HashMap<Id, usize>,
    /// Where a value is: of a batch, that of its first.
    registers: HashMap<Id, RegisterId>,
    /// How deep the expression of a value is.
    depth: HashMap<Id, usize>,
}

impl Writer<'_, '_> {
    /// Writes what a value needs before it, each after what it needs itself: deepest first, so that values are
    /// short-lived.
    fn need(&mut self, v: Id) {
        let mut open = vec![(v, false)];
        while let Some((v, ready)) = open.pop() {
            let first = self.batch.get(&v).map_or(v, |(first, _)| *first);
            if self.depth.contains_key(&first) {
                continue;
            }
            if ready {
                self.write(first);
                continue;
            }
            open.push((first, true));
            let own = [first];
            let members = self.groups.get(&first).map_or(own.as_slice(), Vec::as_slice);
            open.extend(members.iter().flat_map(|m| self.g.parts(*m)).rev().map(|p| (p, false)));
        }
    }

    /// A value whose parts are written: a register, or part of the expressions that use it.
    fn write(&mut self, v: Id) {
        if let Some(group) = self.groups.get(&v).cloned() {
            self.write_batch(&group);
            if let Some(other) = self.other_half(&group) {
                self.write_batch(&other);
            }
            return;
        }
        let depth = 1 + self.g.parts(v).iter().map(|p| self.depth[p]).max().unwrap_or(0);
        // A sign is part of the instruction that takes it. An element has a name.
        let free = match self.g.ops[v] {
            Definition::Const(_) | Definition::Load(..) => true,
            Definition::Unary(Unary::Neg, _) => depth < DEEPEST,
            _ => self.uses.get(&v).is_some_and(|n| *n == 1) && depth < DEEPEST,
        };
        if free {
            self.depth.insert(v, depth);
            return;
        }
        let value = self.formula(v);
        let register = self.register("v", None, value);
        self.registers.insert(v, register);
        self.depth.insert(v, 0);
    }

    /// The sines of the same angles as these cosines, or the other way round: side by side they are one function.
    fn other_half(&self, group: &[Id]) -> Option<Vec<Id>> {
        let function = |g: &[Id]| match self.g.ops[g[0]] {
            Definition::Unary(f, _) => f,
            _ => unreachable!("batches are of functions"),
        };
        let arguments = |g: &[Id]| g.iter().map(|v| self.g.parts(*v)[0]).collect::<Vec<_>>();
        let wanted = match function(group) {
            Unary::Sin => Unary::Cos,
            Unary::Cos => Unary::Sin,
            _ => return None,
        };
        let same = |g: &&Vec<Id>| function(g) == wanted && arguments(g) == arguments(group);
        self.groups.values().find(same).filter(|g| !self.depth.contains_key(&g[0])).cloned()
    }

    fn write_batch(&mut self, group: &[Id]) {
        let Definition::Unary(f, _) = self.g.ops[group[0]] else { unreachable!("batches are of functions") };
        let mut arguments: Vec<Id> = group.iter().map(|v| self.g.parts(*v)[0]).collect();
        let lanes = arguments.len().next_power_of_two();
        arguments.resize(lanes, arguments[arguments.len() - 1]);
        let value = Value::Each(f, arguments.iter().map(|a| self.value(*a)).collect());
        let register = self.register("f", Some(lanes), value);
        self.registers.insert(group[0], register);
        group.iter().for_each(|v| _ = self.depth.insert(*v, 0));
    }

    fn register(&mut self, name: &str, lanes: Option<usize>, value: Value) -> RegisterId {
        let register = self.nest.registers.len();
        self.nest.registers.push(Register { name: name.to_string(), lanes, dims: Vec::new() });
        self.nest.body.push(Node::Init { register, value });
        register
    }

    /// A value that is written: its register, or its formula.
    fn value(&self, v: Id) -> Value {
        if let Some((first, lane)) = self.batch.get(&v) {
            return Value::Lane(self.registers[first].into(), *lane);
        }
        match self.registers.get(&v) {
            Some(r) => Value::register(*r),
            None => self.formula(v),
        }
    }

    fn formula(&self, v: Id) -> Value {
        let value = |v: Id| Box::new(self.value(v));
        let signed = |minus: bool, v: Id| match (minus, self.g.known(v)) {
            (true, Some(c)) => Box::new(Value::Const(-c)),
            (true, None) => Box::new(Value::Unary(Unary::Neg, value(v))),
            (false, _) => value(v),
        };
        match self.g.ops[v] {
            Definition::Const(bits) => Value::Const(f64::from_bits(bits)),
            Definition::Load(t, at) => Value::Load(self.g.access(t, at)),
            Definition::Unary(f, a) => Value::Unary(f, value(a)),
            Definition::Binary(f, a, b) => Value::Binary(f, value(a), value(b)),
            Definition::Powf(a, n) => Value::Powf(value(a), f64::from_bits(n)),
            Definition::Fused { minus, a, b, less, c } => Value::Fused(signed(minus, a), value(b), signed(less, c)),
            Definition::Select(t, a, b) => Value::Select(Box::new(self.test(t)), value(a), value(b)),
        }
    }

    fn test(&self, t: Test) -> super::super::Test {
        match self.g.tests[t] {
            Asked::Compare(op, a, b) => super::super::Test::Value(op, self.value(a), self.value(b)),
            Asked::And(a, b) => super::super::Test::And(vec![self.test(a), self.test(b)]),
            Asked::Or(a, b) => super::super::Test::Or(vec![self.test(a), self.test(b)]),
            Asked::Not(a) => super::super::Test::Not(Box::new(self.test(a))),
        }
    }
}
