//! Unrolling: takes the statements of a function, gives the value of each element that they write, every loop run here.
//!
//! Holds after it: masks and conditions on coordinates are decided; what is absent stands in no value.

use super::*;
use crate::plain::mask::Mask;

impl Graph<'_> {
    /// A statement, for each of its coordinates.
    pub(super) fn stmt(&mut self, s: &Stmt) -> Result<(), NotUnrolled> {
        let mut env = vec![0i64; s.vars.len()];
        let mut written = Vec::new();
        loop {
            if let Some(at) = locate(&s.target, &self.kernel.tensor(s.target.tensor).shape, &env) {
                let v = match s.reduce {
                    None => self.expr(&s.value, &env)?,
                    Some(r) => self.reduce(s, r, &mut env)?,
                };
                written.push((at, v));
            }
            if !advance(&s.vars, 0..s.free, &mut env) {
                break;
            }
        }
        // A statement reads what others have left, not what its own earlier iterations have.
        for (at, v) in written {
            let old = self.cells.get(&s.target.tensor).ok_or(NotUnrolled)?[at];
            let new = match (old, s.accumulate) {
                (_, false) => Cell::Set(v),
                (Cell::Unset, true) if self.function.locals.contains(&s.target.tensor) => return Err(NotUnrolled),
                (Cell::Unset, true) => Cell::Added(v),
                (Cell::Set(a), true) => Cell::Set(self.add(a, v)),
                (Cell::Added(a), true) => Cell::Added(self.add(a, v)),
            };
            self.cells.get_mut(&s.target.tensor).ok_or(NotUnrolled)?[at] = new;
        }
        Ok(())
    }

    /// The value of a reduction, in the order of its loops.
    fn reduce(&mut self, s: &Stmt, r: ReduceOp, env: &mut [i64]) -> Result<Id, NotUnrolled> {
        let (masks, value) = s.value.unmasked();
        let mut total: Option<Id> = None;
        env[s.free..].fill(0);
        loop {
            if self.all(masks, env)? {
                let v = self.expr(value, env)?;
                total = Some(match (r, total) {
                    (_, None) => v,
                    (ReduceOp::Sum, Some(a)) => self.add(a, v),
                    (ReduceOp::Max, Some(a)) => self.binary(Binary::Max, a, v),
                    (ReduceOp::Min, Some(a)) => self.binary(Binary::Min, a, v),
                    (ReduceOp::Prod, Some(a)) => self.mul(a, v),
                });
            }
            if !advance(&s.vars, s.free..s.vars.len(), env) {
                break;
            }
        }
        env[s.free..].fill(0);
        Ok(total.unwrap_or_else(|| self.constant(r.identity())))
    }

    fn expr(&mut self, e: &Expr, env: &[i64]) -> Result<Id, NotUnrolled> {
        Ok(match e {
            Expr::Const(c) => self.constant(*c),
            Expr::Read(a) => {
                let at = locate(a, &self.kernel.tensor(a.tensor).shape, env).expect("masks keep reads inside");
                match self.cells.get(&a.tensor).map(|cells| cells[at]) {
                    None => self.intern(Definition::Load(a.tensor, at)),
                    Some(Cell::Set(v)) => v,
                    Some(Cell::Unset | Cell::Added(_)) => return Err(NotUnrolled),
                }
            }
            Expr::Unary(f, a) => {
                let a = self.expr(a, env)?;
                self.unary(*f, a)
            }
            Expr::Powf(a, n) => {
                let a = self.expr(a, env)?;
                self.powf(a, *n)
            }
            Expr::Binary(f, a, b) => {
                let (a, b) = (self.expr(a, env)?, self.expr(b, env)?);
                self.binary(*f, a, b)
            }
            Expr::Where(c, a, b) => match self.cond(c, env)? {
                Decided::Known(taken) => self.expr(if taken { a } else { b }, env)?,
                Decided::Asked(t) => {
                    let (a, b) = (self.expr(a, env)?, self.expr(b, env)?);
                    self.select(t, a, b)
                }
            },
            Expr::Masked(masks, a) => {
                if self.all(masks, env)? {
                    self.expr(a, env)?
                } else {
                    self.constant(0.0)
                }
            }
        })
    }

    /// Whether masks hold, here.
    fn all(&mut self, masks: &[Mask], env: &[i64]) -> Result<bool, NotUnrolled> {
        for m in masks {
            let holds = match m {
                Mask::Within(p, size) => p.at(*size, env).is_some(),
                Mask::Either(a, b) => self.all(a, env)? || self.all(b, env)?,
                Mask::Taken(c, a, b) => match self.cond(c, env)? {
                    Decided::Known(taken) => self.all(if taken { a } else { b }, env)?,
                    Decided::Asked(_) => match (self.all(a, env)?, self.all(b, env)?) {
                        (a, b) if a == b => a,
                        // Whether it is present is known at run time only.
                        _ => return Err(NotUnrolled),
                    },
                },
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn cond(&mut self, c: &Cond, env: &[i64]) -> Result<Decided, NotUnrolled> {
        use Decided::{Asked as Open, Known};
        Ok(match c {
            Cond::Const(b) => Known(*b),
            Cond::Index(op, a, b) => Known(op.holds(&a.eval(env), &b.eval(env))),
            Cond::Inside(a) => Known(locate(a, &self.kernel.tensor(a.tensor).shape, env).is_some()),
            Cond::Value(op, a, b) => {
                let (a, b) = (self.expr(a, env)?, self.expr(b, env)?);
                match (self.known(a), self.known(b)) {
                    (Some(a), Some(b)) => Known(op.holds(&a, &b)),
                    _ => Open(self.ask(Asked::Compare(*op, a, b))),
                }
            }
            Cond::And(a, b) => match self.cond(a, env)? {
                Known(false) => Known(false),
                Known(true) => self.cond(b, env)?,
                Open(a) => match self.cond(b, env)? {
                    Known(false) => Known(false),
                    Known(true) => Open(a),
                    Open(b) => Open(self.ask(Asked::And(a, b))),
                },
            },
            Cond::Or(a, b) => match self.cond(a, env)? {
                Known(true) => Known(true),
                Known(false) => self.cond(b, env)?,
                Open(a) => match self.cond(b, env)? {
                    Known(true) => Known(true),
                    Known(false) => Open(a),
                    Open(b) => Open(self.ask(Asked::Or(a, b))),
                },
            },
            Cond::Not(a) => match self.cond(a, env)? {
                Known(b) => Known(!b),
                Open(a) => Open(self.ask(Asked::Not(a))),
            },
        })
    }
}

/// The next setting of some variables; `false` after the last.
fn advance(vars: &[plain::Var], range: std::ops::Range<usize>, env: &mut [i64]) -> bool {
    for v in range.rev() {
        env[v] += 1;
        if (env[v] as usize) < vars[v].extent {
            return true;
        }
        env[v] = 0;
    }
    false
}
