//! The walk of the index IR: takes a value or a condition, gives what stands in it, in the order of its text. Whatever
//! goes through expressions without asking what they mean is written in these terms, so it knows a new kind of
//! expression as soon as [`Part::below`] does.
//!
//! Holds after it: each part is met once; what is rebuilt differs from what was there in what the caller changed alone.

use super::*;

/// What an expression is made of.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    Expr(&'a Expr),
    Cond(&'a Cond),
    Position(&'a Affine),
    /// A variable that a reduction binds.
    Bound(&'a VarId),
}

/// The same, to be changed.
pub enum PartMut<'a> {
    Expr(&'a mut Expr),
    Cond(&'a mut Cond),
    Position(&'a mut Affine),
    Bound(&'a mut VarId),
}

// One text for both: parts that are read and parts that are changed are the same.
macro_rules! below {
    ($part:ident) => {
        impl<'a> $part<'a> {
            /// What stands right below.
            pub fn below(self, f: &mut dyn FnMut($part<'a>)) {
                match self {
                    $part::Expr(e) => match e {
                        Expr::Const(_) | Expr::Param(_) | Expr::Extent(_) => {}
                        Expr::Read(_, index) => {
                            for a in index {
                                f($part::Position(a));
                            }
                        }
                        Expr::Unary(_, a) | Expr::Powf(a, _) => f($part::Expr(a)),
                        Expr::Binary(_, a, b) => {
                            f($part::Expr(a));
                            f($part::Expr(b));
                        }
                        Expr::Where(c, a, b) => {
                            f($part::Cond(c));
                            f($part::Expr(a));
                            f($part::Expr(b));
                        }
                        Expr::Reduce(_, vars, a) => {
                            for v in vars {
                                f($part::Bound(v));
                            }
                            f($part::Expr(a));
                        }
                    },
                    $part::Cond(c) => match c {
                        Cond::Index(_, a, b) => {
                            f($part::Position(a));
                            f($part::Position(b));
                        }
                        Cond::Inside(_, index) => {
                            for a in index {
                                f($part::Position(a));
                            }
                        }
                        Cond::Value(_, a, b) => {
                            f($part::Expr(a));
                            f($part::Expr(b));
                        }
                        Cond::And(a, b) | Cond::Or(a, b) => {
                            f($part::Cond(a));
                            f($part::Cond(b));
                        }
                        Cond::Not(a) => f($part::Cond(a)),
                    },
                    $part::Position(_) | $part::Bound(_) => {}
                }
            }
        }
    };
}
below!(Part);
below!(PartMut);

impl<'a> Part<'a> {
    /// Itself and every part within, outermost first.
    fn all(self, f: &mut dyn FnMut(Part<'a>)) {
        f(self);
        self.below(&mut |part| part.all(f));
    }
    /// The expressions right below; of a condition those that it compares.
    fn children(self, f: &mut dyn FnMut(&'a Expr)) {
        self.below(&mut |part| match part {
            Part::Expr(e) => f(e),
            Part::Cond(_) => part.children(f),
            Part::Position(_) | Part::Bound(_) => {}
        });
    }
    fn visit(self, f: &mut dyn FnMut(&'a Expr)) {
        self.all(&mut |part| {
            if let Part::Expr(e) = part {
                f(e);
            }
        });
    }
    fn positions(self, f: &mut dyn FnMut(&'a Affine)) {
        self.all(&mut |part| {
            if let Part::Position(a) = part {
                f(a);
            }
        });
    }
}

impl PartMut<'_> {
    /// Every part within and itself, innermost first.
    fn all(self, f: &mut dyn FnMut(PartMut)) {
        let go = &mut |part: PartMut| part.all(f);
        match self {
            PartMut::Expr(e) => {
                PartMut::Expr(e).below(go);
                f(PartMut::Expr(e));
            }
            PartMut::Cond(c) => {
                PartMut::Cond(c).below(go);
                f(PartMut::Cond(c));
            }
            leaf @ (PartMut::Position(_) | PartMut::Bound(_)) => f(leaf),
        }
    }
}

impl Expr {
    /// The expressions right below; of a condition those that it compares.
    pub fn children<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        Part::Expr(self).children(f);
    }
    /// Every sub-expression, itself included, outermost first.
    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        Part::Expr(self).visit(f);
    }
    /// Whether one of them is so.
    pub fn any(&self, is: &dyn Fn(&Expr) -> bool) -> bool {
        let mut found = false;
        self.visit(&mut |e| found = found || is(e));
        found
    }
    /// Every tensor read, conditions included.
    pub fn reads<'a>(&'a self, f: &mut dyn FnMut(TensorId, &'a [Affine])) {
        self.visit(&mut |e| {
            if let Expr::Read(t, index) = e {
                f(*t, index);
            }
        });
    }
    /// Every index position, conditions included.
    pub fn positions<'a>(&'a self, f: &mut dyn FnMut(&'a Affine)) {
        Part::Expr(self).positions(f);
    }
    /// Every tensor of which a condition asks whether an element exists.
    pub fn insides(&self, f: &mut dyn FnMut(TensorId)) {
        self.visit(&mut |e| {
            if let Expr::Where(c, ..) = e {
                c.tests(&mut |c| {
                    if let Cond::Inside(t, _) = c {
                        f(*t);
                    }
                });
            }
        });
    }
    /// Every variable that occurs in a position, bound ones included.
    pub fn vars(&self) -> BTreeSet<VarId> {
        let mut vars = BTreeSet::new();
        self.positions(&mut |a| vars.extend(a.vars()));
        vars
    }
    /// Every part through `f`, innermost first.
    pub fn change(&mut self, f: &mut dyn FnMut(PartMut)) {
        PartMut::Expr(self).all(f);
    }
    /// Rebuilt through `f`, innermost first.
    #[must_use]
    pub fn map(&self, f: &mut dyn FnMut(Expr) -> Expr) -> Expr {
        let mut e = self.clone();
        e.change(&mut |part| {
            if let PartMut::Expr(e) = part {
                *e = f(std::mem::replace(e, Expr::zero()));
            }
        });
        e
    }
    /// The same value of other coordinates: each index position through `f`.
    #[must_use]
    pub fn moved(&self, f: &dyn Fn(&Affine) -> Affine) -> Expr {
        let mut e = self.clone();
        e.change(&mut |part| match part {
            PartMut::Position(a) => *a = f(a),
            PartMut::Bound(v) => *v = f(&Affine::var(*v)).as_var().expect("bound variables are renamed to variables"),
            PartMut::Expr(_) | PartMut::Cond(_) => {}
        });
        e
    }
}

impl Cond {
    /// Every expression that it compares, and their sub-expressions.
    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        Part::Cond(self).visit(f);
    }
    /// Every tensor that they read.
    pub fn reads<'a>(&'a self, f: &mut dyn FnMut(TensorId, &'a [Affine])) {
        self.visit(&mut |e| {
            if let Expr::Read(t, index) = e {
                f(*t, index);
            }
        });
    }
    /// Itself and the conditions that it is made of, those of compared values aside.
    pub fn tests<'a>(&'a self, f: &mut dyn FnMut(&'a Cond)) {
        f(self);
        Part::Cond(self).below(&mut |part| {
            if let Part::Cond(c) = part {
                c.tests(f);
            }
        });
    }
    /// Whether one of them is so.
    pub fn any(&self, is: &dyn Fn(&Cond) -> bool) -> bool {
        let mut found = false;
        self.tests(&mut |c| found = found || is(c));
        found
    }
}
