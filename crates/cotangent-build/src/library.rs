//! The ops that steps may call: takes the specs of a build, gives the op of a name with both rules, read when it is
//! first asked for. The build's own come before those that ship with the compiler.
//!
//! Holds after it: an op that is given has no errors; no op is made of itself.

use crate::derive;
use crate::diagnostic::Diagnostics;
use crate::index::Op;
use crate::index::resolve::{self, Missing, resolve};
use crate::source::{SourceId, Sources, shipped_ops};
use crate::spec::{self, Declaration, Spec};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// See the module.
pub struct Library<'a> {
    specs: &'a [Spec],
    sources: &'a Sources,
    /// What was asked for; `None` has errors.
    found: RefCell<BTreeMap<String, Option<Rc<Op>>>>,
    /// What is being read.
    open: RefCell<Vec<String>>,
    /// Ops that are made of themselves, each way once around.
    cycles: RefCell<Vec<Vec<String>>>,
    /// Whether what is being read calls too deep.
    deep: Cell<bool>,
}

/// Ops that call each other are read to this depth.
const MOST_DEPTH: usize = 32;

impl<'a> Library<'a> {
    /// The ops of a build and those that ship.
    #[must_use]
    pub fn new(specs: &'a [Spec], sources: &'a Sources) -> Self {
        Library {
            specs,
            sources,
            found: RefCell::default(),
            open: RefCell::default(),
            cycles: RefCell::default(),
            deep: Cell::default(),
        }
    }

    /// Whether an op of this name is the build's own.
    #[must_use]
    pub fn has_own(&self, name: &str) -> bool {
        self.specs.iter().any(|spec| spec.op.value == name)
    }

    /// Resolves an op; what it calls cannot call it.
    pub fn resolve(&self, spec: &Spec, out: &mut Diagnostics) -> Option<Op> {
        self.open.borrow_mut().push(spec.op.value.clone());
        let op = resolve(spec, self, out);
        self.open.borrow_mut().pop();
        op
    }

    fn read(&self, name: &str) -> Option<Rc<Op>> {
        // Errors of an op are told where it stands.
        let mut out = Diagnostics::default();
        let own = self.specs.iter().find(|spec| spec.op.value == name).cloned();
        let spec = own.or_else(|| match spec::declaration(SourceId::shipped(name)?, self.sources, &mut out)? {
            Declaration::Op(spec) => Some(*spec),
            Declaration::Use(_) => None,
        })?;
        let mut op = self.resolve(&spec, &mut out)?;
        derive::complete(&mut op, &mut out);
        (!out.has_errors()).then(|| Rc::new(op))
    }
}

impl resolve::Library for Library<'_> {
    fn op(&self, name: &str) -> Result<Rc<Op>, Missing> {
        if let Some(found) = self.found.borrow().get(name) {
            return found.clone().ok_or(Missing::Broken);
        }
        let open = self.open.borrow().clone();
        if let Some(at) = open.iter().position(|o| o == name) {
            self.cycles.borrow_mut().push(open[at..].to_vec());
            return Err(Missing::Cycle(open[at..].to_vec()));
        }
        if !self.has(name) {
            return Err(Missing::Unknown);
        }
        if open.len() > MOST_DEPTH {
            self.deep.set(true);
            return Err(Missing::Deep(MOST_DEPTH));
        }
        let op = self.read(name);
        // From another place it may not be too deep: this is told where the calls begin.
        if op.is_none() && self.deep.get() {
            self.deep.set(open.len() > 1);
            return Err(Missing::Deep(MOST_DEPTH));
        }
        let cycle = self.cycles.borrow().iter().find(|way| way.iter().any(|n| n == name)).cloned();
        if let Some(way) = cycle.filter(|way| open.iter().any(|o| way.contains(o))) {
            return Err(Missing::Cycle(way));
        }
        self.found.borrow_mut().insert(name.to_owned(), op.clone());
        op.ok_or(Missing::Broken)
    }

    fn has(&self, name: &str) -> bool {
        self.specs.iter().any(|spec| spec.op.value == name) || SourceId::shipped(name).is_some()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.specs.iter().map(|spec| spec.op.value.clone()).collect();
        names.extend(shipped_ops().map(str::to_owned));
        names.sort();
        names.dedup();
        names
    }
}
