//! Masks: takes statements whose reads may fall outside of their tensors, gives them with what is present made data.
//!
//! A read outside of its tensor is an absent zero, as `index/eval.rs` says what that means. Holds after it: every read
//! that a guard keeps stands under a mask that demands what the guard does, so no value is computed of an absent one;
//! the masks at the root of a statement hold where its value is present, and a reduction passes over the coordinates at
//! which they do not. What does not hold anywhere else leaves the number 0. No later stage knows the rule.

use super::*;

/// What has to hold for a value to be present.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// The position, which its ranges do not prove, is in a dimension of so many elements.
    Within(Position, usize),
    /// All of one list, or all of the other: a sum has a term that is present.
    Either(Vec<Mask>, Vec<Mask>),
    /// All of the first list where the condition holds, else all of the second: what is taken is present.
    Taken(Box<Cond>, Vec<Mask>, Vec<Mask>),
}

/// A statement with masks.
pub fn masked(s: &Stmt, tensors: &[Tensor]) -> Stmt {
    let rule = Rule { tensors };
    let (mut masks, value) = rule.presence(&s.value);
    if s.reduce.is_some_and(ReduceOp::skips_outside) {
        // These pass over coordinates where any read that is evaluated falls outside, not just a factor.
        both(&mut masks, rule.evaluated(&s.value));
    }
    Stmt { value: value.under(masks), ..s.clone() }
}

/// What is present, and which reads are evaluated.
struct Rule<'a> {
    tensors: &'a [Tensor],
}

impl Rule<'_> {
    /// The masks under which a value is present, and the value there.
    fn presence(&self, e: &Expr) -> (Vec<Mask>, Expr) {
        match e {
            Expr::Const(_) => (Vec::new(), e.clone()),
            Expr::Read(a) => (self.within(a), e.clone()),
            // Absent where their operand is, or one of them.
            Expr::Unary(Unary::Neg, a) => {
                let (masks, a) = self.presence(a);
                (masks, Expr::Unary(Unary::Neg, Box::new(a)))
            }
            Expr::Binary(Binary::Mul, a, b) => {
                let ((mut masks, a), (more, b)) = (self.presence(a), self.presence(b));
                both(&mut masks, more);
                (masks, Expr::Binary(Binary::Mul, Box::new(a), Box::new(b)))
            }
            Expr::Binary(Binary::Div, a, b) => {
                let (masks, a) = self.presence(a);
                (masks, Expr::Binary(Binary::Div, Box::new(a), Box::new(self.number(b))))
            }
            // Absent where both terms are.
            Expr::Binary(f @ (Binary::Add | Binary::Sub), a, b) => {
                let ((left, a), (right, b)) = (self.presence(a), self.presence(b));
                if left == right {
                    return (left, Expr::Binary(*f, Box::new(a), Box::new(b)));
                }
                let masks = match left.is_empty() || right.is_empty() {
                    true => Vec::new(),
                    false => vec![Mask::Either(left.clone(), right.clone())],
                };
                (masks, Expr::Binary(*f, Box::new(a.under(left)), Box::new(b.under(right))))
            }
            // Absent where the branch that is taken is.
            Expr::Where(c, a, b) => {
                let c = Box::new(self.cond(c));
                let ((yes, a), (no, b)) = (self.presence(a), self.presence(b));
                let masks = taken(&c, yes.clone(), no.clone());
                // Each branch keeps its own masks: those of the whole do not say which of them holds.
                (masks, Expr::Where(c, Box::new(a.under(yes)), Box::new(b.under(no))))
            }
            // Never absent.
            Expr::Unary(f, a) => (Vec::new(), Expr::Unary(*f, Box::new(self.number(a)))),
            Expr::Powf(a, n) => (Vec::new(), Expr::Powf(Box::new(self.number(a)), *n)),
            Expr::Binary(f, a, b) => (Vec::new(), Expr::Binary(*f, Box::new(self.number(a)), Box::new(self.number(b)))),
            Expr::Masked(..) => unreachable!("a value is masked once"),
        }
    }

    /// A value that counts as zero where it is absent.
    fn number(&self, e: &Expr) -> Expr {
        let (masks, e) = self.presence(e);
        e.under(masks)
    }

    fn cond(&self, c: &Cond) -> Cond {
        let go = |c: &Cond| Box::new(self.cond(c));
        match c {
            Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => c.clone(),
            Cond::Value(op, a, b) => Cond::Value(*op, self.number(a), self.number(b)),
            Cond::And(a, b) => Cond::And(go(a), go(b)),
            Cond::Or(a, b) => Cond::Or(go(a), go(b)),
            Cond::Not(a) => Cond::Not(go(a)),
        }
    }

    /// The masks under which no read that the evaluation meets falls outside.
    fn evaluated(&self, e: &Expr) -> Vec<Mask> {
        match e {
            Expr::Const(_) => Vec::new(),
            Expr::Read(a) => self.within(a),
            Expr::Unary(_, a) | Expr::Powf(a, _) => self.evaluated(a),
            Expr::Binary(_, a, b) => [self.evaluated(a), self.evaluated(b)].concat(),
            Expr::Where(c, a, b) => {
                [self.evaluated_in(c), taken(&self.cond(c), self.evaluated(a), self.evaluated(b))].concat()
            }
            Expr::Masked(..) => unreachable!("a value is masked once"),
        }
    }

    /// The same of a condition: its second side is evaluated only where the first does not decide, `inside` is no read.
    fn evaluated_in(&self, c: &Cond) -> Vec<Mask> {
        match c {
            Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => Vec::new(),
            Cond::Value(_, a, b) => [self.evaluated(a), self.evaluated(b)].concat(),
            Cond::And(a, b) => [self.evaluated_in(a), taken(&self.cond(a), self.evaluated_in(b), Vec::new())].concat(),
            Cond::Or(a, b) => [self.evaluated_in(a), taken(&self.cond(a), Vec::new(), self.evaluated_in(b))].concat(),
            Cond::Not(a) => self.evaluated_in(a),
        }
    }

    fn within(&self, a: &Access) -> Vec<Mask> {
        let mut masks = Vec::new();
        both(&mut masks, guards(a, self.tensors).map(|(p, size)| Mask::Within(p.clone(), size)).collect());
        masks
    }
}

/// The positions of an access that ranges do not prove, each with the extent of its dimension.
pub fn guards<'a>(a: &'a Access, tensors: &'a [Tensor]) -> impl Iterator<Item = (&'a Position, usize)> {
    a.positions.iter().zip(tensors[a.tensor.0].shape.iter().copied()).filter(|(p, _)| p.guard.any())
}

fn taken(c: &Cond, yes: Vec<Mask>, no: Vec<Mask>) -> Vec<Mask> {
    if yes.is_empty() && no.is_empty() { Vec::new() } else { vec![Mask::Taken(Box::new(c.clone()), yes, no)] }
}

/// Each mask once.
fn both(masks: &mut Vec<Mask>, more: Vec<Mask>) {
    for m in more {
        if !masks.contains(&m) {
            masks.push(m);
        }
    }
}

impl Expr {
    /// The value where the masks hold, else nothing.
    pub fn under(self, masks: Vec<Mask>) -> Expr {
        if masks.is_empty() { self } else { Expr::Masked(masks, Box::new(self)) }
    }
    /// The masks at the root of a value, and the value under them.
    pub fn unmasked(&self) -> (&[Mask], &Expr) {
        match self {
            Expr::Masked(masks, e) => (masks, e),
            e => (&[], e),
        }
    }
    /// Without the masks that the ranges of the variables prove, after these have become smaller.
    pub fn settled(&self, extent: &impl Fn(usize) -> usize) -> Expr {
        let go = |e: &Expr| Box::new(e.settled(extent));
        match self {
            Expr::Const(_) | Expr::Read(_) => self.clone(),
            Expr::Unary(f, a) => Expr::Unary(*f, go(a)),
            Expr::Powf(a, n) => Expr::Powf(go(a), *n),
            Expr::Binary(f, a, b) => Expr::Binary(*f, go(a), go(b)),
            Expr::Where(c, a, b) => Expr::Where(Box::new(settled_in(c, extent)), go(a), go(b)),
            Expr::Masked(masks, a) => a.settled(extent).under(left(masks, extent)),
        }
    }
}

fn settled_in(c: &Cond, extent: &impl Fn(usize) -> usize) -> Cond {
    let go = |c: &Cond| Box::new(settled_in(c, extent));
    match c {
        Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => c.clone(),
        Cond::Value(op, a, b) => Cond::Value(*op, a.settled(extent), b.settled(extent)),
        Cond::And(a, b) => Cond::And(go(a), go(b)),
        Cond::Or(a, b) => Cond::Or(go(a), go(b)),
        Cond::Not(a) => Cond::Not(go(a)),
    }
}

/// The masks that are not proven.
fn left(masks: &[Mask], extent: &impl Fn(usize) -> usize) -> Vec<Mask> {
    let mut all = Vec::new();
    for m in masks {
        let more = match m {
            Mask::Within(p, size) => {
                let p = Position::new(p.numerator.clone(), p.divisor, *size, extent);
                if p.guard.any() { vec![Mask::Within(p, *size)] } else { Vec::new() }
            }
            Mask::Either(a, b) => match (left(a, extent), left(b, extent)) {
                (a, b) if a == b => a,
                (a, b) if a.is_empty() || b.is_empty() => Vec::new(),
                (a, b) => vec![Mask::Either(a, b)],
            },
            Mask::Taken(c, a, b) => taken(&settled_in(c, extent), left(a, extent), left(b, extent)),
        };
        both(&mut all, more);
    }
    all
}
