//! Calls: takes a step `h = matmul(x, w)` and the op that it names, gives the op's statements over the caller's axes
//! and tensors.
//!
//! Axes are matched by where they stand: an axis that the first and the third argument have stands for one that the
//! op's first and third input have. An axis of the op stands for any number of the caller's; of one that a tensor has
//! twice the first stands for the first. What no axis of the op stands for is kept: the op runs for each of its values.
//!
//! Holds after it: statements as the author could have written them; the op's tangent rule besides, so that what it
//! declares holds for the call. What stands for the op's axes and parameters is found in `binding.rs`; `over.rs` writes
//! its statements in these terms.

mod binding;
mod over;

use super::*;

/// What stands for an op's axes and parameters.
struct Actuals {
    /// The name of what the call makes: the op's locals begin with it.
    result: String,
    /// For each axis the caller's that it stands for.
    axes: Vec<Option<Vec<AxisId>>>,
    /// The caller's axes that no axis of the op stands for.
    kept: Vec<AxisId>,
    params: Vec<Option<Value>>,
    /// What axes of derived sizes are to be called.
    named: BTreeMap<AxisId, Vec<At<String>>>,
}

/// What stands for a parameter.
#[derive(Clone)]
enum Value {
    /// In sizes and indices.
    Whole(Poly),
    Real(Expr),
}

/// A tensor of the op in the caller: which, and what each of its positions is.
struct Mapped {
    tensor: TensorId,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
enum Slot {
    /// A kept axis, by its place among them.
    Kept(usize),
    /// A position of the op's access, and which of the axes that its axis stands for.
    Position(usize, usize),
}

/// Where a call may say more.
struct SaidSoFar<'a> {
    f: &'a At<String>,
    call: Span,
    /// It says something already.
    any: bool,
}

impl SaidSoFar<'_> {
    /// The edit that lets the call say so.
    fn insert(&self, d: Diagnostic, given: &str) -> Diagnostic {
        let comma = if self.any { "," } else { ";" };
        d.suggest(self.call.inside_end(), format!("{comma} {given}"))
    }
}

impl Resolver<'_> {
    /// Whether a step calls an op; scalars in the arguments of what is a function too mean the function.
    pub(super) fn is_call(&self, step: &syntax::Step) -> bool {
        !step.target.brackets && self.calls_op(&step.value)
    }

    fn calls_op(&self, e: &syntax::Expr) -> bool {
        let ExprKind::Call(f, args, given) = &e.kind else { return false };
        let function = Unary::from_name(f).is_some() || Binary::from_name(f).is_some() || f.value == "where";
        let whole = |e: &syntax::Expr| match &e.kind {
            ExprKind::Name(name) => self.visible(name).is_some_and(|t| !self.op.tensor(t).axes.is_empty()),
            _ => self.calls_op(e),
        };
        let known = self.library.has(f) && (!function || !given.is_empty());
        known || !OTHER_NAMES.iter().any(|(other, _)| *other == f.value) && args.iter().any(whole)
    }

    /// A step that calls an op.
    pub(super) fn call_step(&mut self, step: &syntax::Step, stmts: &mut Vec<Stmt>) -> Option<TensorId> {
        if step.assign.value == Assign::Add {
            let d = Diagnostic::error(Code::BadCall, step.assign.span, "a call does not add", "writes its result");
            self.out.push(d.help("call it into a new local, and add that in a step of its own"));
            return None;
        }
        let name = &step.target.name;
        let known = self.writable(name)?;
        let target = self.apply(&step.value, known, name, stmts)?;
        if known.is_none() {
            self.locals.insert(name.value.clone(), target);
        }
        self.record_write(target, &step.assign, Touch { span: step.target.span, index: Vec::new() })?;
        Some(target)
    }

    /// Appends the statements of a call; the result goes to `known`, or to a new local called `name`.
    fn apply(
        &mut self,
        call: &syntax::Expr,
        known: Option<TensorId>,
        name: &At<String>,
        stmts: &mut Vec<Stmt>,
    ) -> Option<TensorId> {
        let ExprKind::Call(f, args, given) = &call.kind else { unreachable!("a call") };
        let callee = self.callee(f)?;
        let (inputs, outputs) = (callee.inputs(), callee.outputs());
        let args: Vec<Option<TensorId>> = args.iter().map(|a| self.argument(a, stmts)).collect();
        if args.len() != inputs.len() {
            let names: Vec<_> = inputs.iter().map(|t| callee.tensor(*t).name.as_str()).collect();
            let n = inputs.len();
            let message =
                format!("`{}` takes {n} {}, here it has {}", f.value, plural(n, "tensor", "tensors"), args.len());
            let d = Diagnostic::error(Code::Arity, call.span, message, format!("takes {n}"));
            self.out.push(d.help(format!("its inputs are {}", list(names.into_iter()))));
            return None;
        }
        let args: Vec<TensorId> = args.into_iter().collect::<Option<_>>()?;
        let &[output] = outputs.as_slice() else {
            let message = format!("`{}` has {} outputs: a step writes one", f.value, outputs.len());
            self.out.push(Diagnostic::error(Code::BadCall, f.span, message, "cannot be called"));
            return None;
        };
        if stmts.len() + callee.forward.len() > MOST_STATEMENTS {
            let message =
                format!("`{}` is too large: with this call it has more than {MOST_STATEMENTS} steps", self.op.name);
            let label = format!("`{}` has {}", f.value, callee.forward.len());
            self.out.push(Diagnostic::error(Code::TooLarge, f.span, message, label));
            return None;
        }
        let said = SaidSoFar { f, call: call.span, any: !given.is_empty() };
        let mut binding = self.binding(&callee, &said, given, &args, known)?;
        binding.result.clone_from(&name.value);
        self.complete(&callee, f, &mut binding, known)?;
        // after this: every axis and parameter of the op has something that stands for it
        let mut places: BTreeMap<TensorId, Mapped> = BTreeMap::new();
        for (input, arg) in inputs.iter().zip(&args) {
            let place = self.place(&callee, &said, &binding, *input, *arg)?;
            places.insert(*input, place);
        }
        let target = known.unwrap_or_else(|| {
            let axes = binding.all(&callee, output);
            self.op.add_tensor(&name.value, axes, Role::Local, name.span)
        });
        let place = self.place(&callee, &said, &binding, output, target)?;
        places.insert(output, place);
        self.iterations(&callee, f, &binding)?;
        // after this: recurrences run along one axis
        let from = stmts.len();
        for s in &callee.forward {
            let s = self.over(&callee, &binding, &mut places, s, call.span);
            stmts.push(self.sized(s, call.span)?);
        }
        let mut tangent = Vec::new();
        for s in &callee.tangent.stmts {
            let s = self.over(&callee, &binding, &mut places, s, call.span);
            tangent.push(self.sized(s, call.span)?);
        }
        scan::renumber(&mut self.op, &mut stmts[from..]);
        scan::renumber(&mut self.op, &mut tangent);
        self.op.calls.push(Call { stmts: from..stmts.len(), tangent });
        Some(target)
    }

    fn callee(&mut self, f: &At<String>) -> Option<Rc<Op>> {
        match self.library.op(&f.value) {
            Ok(op) => return Some(op),
            // Its errors are told where it stands.
            Err(Missing::Broken) => {}
            Err(Missing::Unknown) => {
                let names = self.library.names();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let message = format!("there is no op `{}` to call", f.value);
                let d = Diagnostic::error(Code::UnknownOp, f.span, message, "neither in this build nor shipped");
                let function = Unary::from_name(&f.value).is_some() || Binary::from_name(&f.value).is_some();
                self.out.push(if function {
                    let of = "it is a function of elements: make its argument a step of its own, `h = ...`, and write";
                    d.help(format!("{of} `y[i] = {}(h[i])`", f.value))
                } else {
                    d.did_you_mean(&f.value, f.span, &names, "ops")
                });
            }
            Err(Missing::Deep(depth)) => {
                let message = format!("`{}` is too large: its calls go more than {depth} ops deep", self.op.name);
                self.out.push(Diagnostic::error(Code::TooLarge, f.span, message, "calls what calls what calls"));
            }
            Err(Missing::Cycle(path)) => {
                let way: Vec<_> = path.iter().chain(path.first()).map(|n| format!("`{n}`")).collect();
                let message = format!("`{}` is made of itself: {}", path[0], way.join(" calls "));
                self.out.push(Diagnostic::error(Code::BadCall, f.span, message, "calls itself"));
            }
        }
        None
    }

    /// An argument: a tensor, or a call that makes one.
    fn argument(&mut self, e: &syntax::Expr, stmts: &mut Vec<Stmt>) -> Option<TensorId> {
        match &e.kind {
            ExprKind::Name(name) => {
                let t = self.readable(name, e.span)?;
                self.history.entry(t).or_default().reads.push(Touch { span: e.span, index: Vec::new() });
                self.used.push(t);
                Some(t)
            }
            ExprKind::Call(f, ..) if self.calls_op(e) => {
                self.apply(e, None, &At { value: f.value.clone(), span: e.span }, stmts)
            }
            ExprKind::Access(a) if self.targets.iter().skip(self.current).any(|t| t.value == a.name.value) => {
                self.call_within(e.span, e.span, "");
                None
            }
            _ => {
                let message = "an argument of a call is a whole tensor";
                let d = Diagnostic::error(Code::BadCall, e.span, message, "not the name of a tensor");
                self.out.push(d.help("write this as a step of its own, and its name here, without indices"));
                None
            }
        }
    }

    /// All axes, for a message.
    pub(super) fn axis_names(&self) -> String {
        list(self.op.axes.iter().map(|a| a.name.as_str()))
    }
}

impl Actuals {
    fn of(&self, a: AxisId) -> &[AxisId] {
        self.axes[a.0].as_deref().unwrap_or_default()
    }

    /// The caller's axes of one of the op's tensors, kept ones first.
    fn all(&self, callee: &Op, t: TensorId) -> Vec<AxisId> {
        let own = callee.tensor(t).axes.iter().flat_map(|a| self.of(*a));
        self.kept.iter().chain(own).copied().collect()
    }

    /// A polynomial of the op in one of the dimensions that its axes stand for.
    fn poly(&self, p: &Poly, d: usize) -> Option<Poly> {
        let atom = |a: &Atom| -> Option<Poly> {
            match a {
                Atom::Axis(a) => {
                    let axes = self.of(*a);
                    axes.get(d).or(axes.first()).map(|c| Poly::atom(Atom::Axis(*c)))
                }
                Atom::Param(p) => match &self.params[p.0] {
                    Some(Value::Whole(p)) => Some(p.clone()),
                    _ => None,
                },
            }
        };
        p.0.iter().try_fold(Poly::default(), |sum, (atoms, c)| {
            let product = atoms.iter().try_fold(Poly::int(*c), |x, a| x.mul(&atom(a)?))?;
            sum.add(&product)
        })
    }
}
