//! The walk of the plain IR: takes a value or a condition, gives what stands in it, in the order of its text. Whatever
//! goes through expressions without asking what they mean is written in these terms, so it knows a new kind of
//! expression as soon as [`Part::below`] does.
//!
//! Holds after it: each part is met once; what is rebuilt differs from what was there in what the caller changed alone.

use super::mask::Mask;
use super::*;

/// What an expression is made of.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    Expr(&'a Expr),
    Cond(&'a Cond),
    /// Of a read, or of a condition that asks for the place of an element.
    Access(&'a Access),
    /// A coordinate that is compared, or that a mask keeps inside.
    Linear(&'a Linear),
    Mask(&'a Mask),
}

/// The same, to be changed.
pub enum PartMut<'a> {
    Expr(&'a mut Expr),
    Cond(&'a mut Cond),
    Access(&'a mut Access),
    Linear(&'a mut Linear),
    Mask(&'a mut Mask),
}

// One text for both: parts that are read and parts that are changed are the same.
macro_rules! below {
    ($part:ident) => {
        impl<'a> $part<'a> {
            /// What stands right below.
            pub fn below(self, f: &mut dyn FnMut($part<'a>)) {
                match self {
                    $part::Expr(e) => match e {
                        Expr::Const(_) => {}
                        Expr::Read(a) => f($part::Access(a)),
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
                        Expr::Masked(masks, a) => {
                            for m in masks {
                                f($part::Mask(m));
                            }
                            f($part::Expr(a));
                        }
                    },
                    $part::Mask(m) => match m {
                        Mask::Within(Position { numerator, .. }, _) => f($part::Linear(numerator)),
                        Mask::Either(a, b) => {
                            for m in a.into_iter().chain(b) {
                                f($part::Mask(m));
                            }
                        }
                        Mask::Taken(c, a, b) => {
                            f($part::Cond(c));
                            for m in a.into_iter().chain(b) {
                                f($part::Mask(m));
                            }
                        }
                    },
                    $part::Cond(c) => match c {
                        Cond::Const(_) => {}
                        Cond::Index(_, a, b) => {
                            f($part::Linear(a));
                            f($part::Linear(b));
                        }
                        Cond::Value(_, a, b) => {
                            f($part::Expr(a));
                            f($part::Expr(b));
                        }
                        Cond::Inside(a) => f($part::Access(a)),
                        Cond::And(a, b) | Cond::Or(a, b) => {
                            f($part::Cond(a));
                            f($part::Cond(b));
                        }
                        Cond::Not(a) => f($part::Cond(a)),
                    },
                    $part::Access(_) | $part::Linear(_) => {}
                }
            }
        }
    };
}
below!(Part);
below!(PartMut);

impl<'a> Part<'a> {
    /// Itself and every part within, outermost first; what a mask reads, the value under it reads, so masks are passed
    /// over.
    fn all(self, f: &mut dyn FnMut(Part<'a>)) {
        if matches!(self, Part::Mask(_)) {
            return;
        }
        f(self);
        self.below(&mut |part| part.all(f));
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
            PartMut::Mask(m) => PartMut::Mask(m).below(go),
            leaf @ (PartMut::Access(_) | PartMut::Linear(_)) => f(leaf),
        }
    }
}

impl Expr {
    /// Itself and every part within, outermost first.
    pub fn parts<'a>(&'a self, f: &mut dyn FnMut(Part<'a>)) {
        Part::Expr(self).all(f);
    }
    /// The expressions that the value is computed from, without those that its condition compares.
    pub fn operands<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        Part::Expr(self).below(&mut |part| {
            if let Part::Expr(e) = part {
                f(e);
            }
        });
    }
    /// Every access, conditions included.
    pub fn accesses<'a>(&'a self, f: &mut dyn FnMut(&'a Access)) {
        self.parts(&mut |part| {
            if let Part::Access(a) = part {
                f(a);
            }
        });
    }
    /// Every element read, in conditions too; `inside` asks for the place of an element, not for its value.
    pub fn reads<'a>(&'a self, f: &mut dyn FnMut(&'a Access)) {
        self.parts(&mut |part| {
            if let Part::Expr(Expr::Read(a)) = part {
                f(a);
            }
        });
    }
    /// Every condition, those that a condition is made of included.
    pub fn conds<'a>(&'a self, f: &mut dyn FnMut(&'a Cond)) {
        self.parts(&mut |part| {
            if let Part::Cond(c) = part {
                f(c);
            }
        });
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
                *e = f(e.take());
            }
        });
        e
    }
    /// The same value of other elements: each access and each coordinate that is compared through its function.
    #[must_use]
    pub fn moved(&self, access: &dyn Fn(&Access) -> Access, linear: &dyn Fn(&Linear) -> Linear) -> Expr {
        let mut e = self.clone();
        e.change(&mut |part| match part {
            PartMut::Access(a) => *a = access(a),
            PartMut::Linear(l) => *l = linear(l),
            PartMut::Expr(_) | PartMut::Cond(_) | PartMut::Mask(_) => {}
        });
        e
    }
    /// Every variable numbered anew, of the same extent as before.
    #[must_use]
    pub fn renamed(&self, number: &impl Fn(usize) -> usize) -> Expr {
        self.moved(&|a| a.renamed(number), &|l| l.renamed(number))
    }
    /// The expression, for another to be put in its place.
    pub fn take(&mut self) -> Expr {
        std::mem::replace(self, Expr::Const(0.0))
    }
}

impl Cond {
    /// The condition, for another to be put in its place.
    pub fn take(&mut self) -> Cond {
        std::mem::replace(self, Cond::Const(false))
    }
}
