//! Unrolling: takes the statements of a function, gives the value of each element that they write, every loop run here.
//!
//! Holds after it: guards and conditions on coordinates are decided; what is absent stands in no value.

use super::*;

impl Graph<'_> {
    /// A statement, for each of its coordinates.
    pub(super) fn stmt(&mut self, s: &Stmt) -> Result<(), Unfit> {
        let mut env = vec![0i64; s.vars.len()];
        let mut written = Vec::new();
        loop {
            if let Some(at) = locate(&s.target, &self.kernel.tensor(s.target.tensor).shape, &env) {
                let v = match s.reduce {
                    None => self.expr(&s.value, &env)?,
                    Some(r) => self.reduce(s, r, &mut env)?,
                };
                written.push((at, v.unwrap_or_else(|| self.constant(0.0))));
            }
            if !turn(&s.vars, 0..s.free, &mut env) {
                break;
            }
        }
        // A statement reads what others have left, not what its own earlier turns have.
        for (at, v) in written {
            let old = self.cells.get(&s.target.tensor).ok_or(Unfit)?[at];
            let new = match (old, s.accumulate) {
                (_, false) => Cell::Set(v),
                (Cell::Unset, true) if self.function.locals.contains(&s.target.tensor) => return Err(Unfit),
                (Cell::Unset, true) => Cell::Added(v),
                (Cell::Set(a), true) => Cell::Set(self.add(a, v)),
                (Cell::Added(a), true) => Cell::Added(self.add(a, v)),
            };
            self.cells.get_mut(&s.target.tensor).ok_or(Unfit)?[at] = new;
        }
        Ok(())
    }

    /// The value of a reduction, in the order of its loops.
    fn reduce(&mut self, s: &Stmt, r: ReduceOp, env: &mut [i64]) -> Result<Option<Id>, Unfit> {
        let mut total: Option<Id> = None;
        env[s.free..].fill(0);
        loop {
            let skipped = r.skips_outside() && self.outside(&s.value, env)?;
            if !skipped {
                let v = self.expr(&s.value, env)?;
                total = match (r, total, v) {
                    (ReduceOp::Sum, total, None) => total,
                    (_, None, v) => Some(v.unwrap_or_else(|| self.constant(0.0))),
                    (ReduceOp::Sum, Some(a), Some(v)) => Some(self.add(a, v)),
                    (r, Some(a), v) => {
                        let v = v.unwrap_or_else(|| self.constant(0.0));
                        Some(match r {
                            ReduceOp::Max => self.binary(Binary::Max, a, v),
                            ReduceOp::Min => self.binary(Binary::Min, a, v),
                            _ => self.mul(a, v),
                        })
                    }
                };
            }
            if !turn(&s.vars, s.free..s.vars.len(), env) {
                break;
            }
        }
        env[s.free..].fill(0);
        Ok(Some(total.unwrap_or_else(|| self.constant(r.identity()))))
    }

    /// A value; `None` where it is absent.
    fn expr(&mut self, e: &Expr, env: &[i64]) -> Result<Option<Id>, Unfit> {
        Ok(match e {
            Expr::Const(c) => Some(self.constant(*c)),
            Expr::Read(a) => match locate(a, &self.kernel.tensor(a.tensor).shape, env) {
                None => None,
                Some(at) => Some(match self.cells.get(&a.tensor) {
                    None => self.intern(Op::Load(a.tensor, at)),
                    Some(cells) => match cells[at] {
                        Cell::Set(v) => v,
                        Cell::Unset | Cell::Added(_) => return Err(Unfit),
                    },
                }),
            },
            Expr::Unary(Unary::Neg, a) => self.expr(a, env)?.map(|a| self.neg(a)),
            Expr::Unary(f, a) => {
                let a = self.number(a, env)?;
                Some(self.unary(*f, a))
            }
            Expr::Powf(a, n) => {
                let a = self.number(a, env)?;
                Some(self.powf(a, *n))
            }
            Expr::Binary(f, a, b) => {
                let (a, b) = (self.expr(a, env)?, self.expr(b, env)?);
                match (f, a, b) {
                    (Binary::Mul, a, b) => match (a, b) {
                        (Some(a), Some(b)) => Some(self.mul(a, b)),
                        _ => None,
                    },
                    (Binary::Div, None, _) | (Binary::Add | Binary::Sub, None, None) => None,
                    (f, a, b) => {
                        let zero = self.constant(0.0);
                        Some(self.binary(*f, a.unwrap_or(zero), b.unwrap_or(zero)))
                    }
                }
            }
            Expr::Where(c, a, b) => match self.cond(c, env)? {
                Decided::Known(true) => self.expr(a, env)?,
                Decided::Known(false) => self.expr(b, env)?,
                Decided::Asked(t) => match (self.expr(a, env)?, self.expr(b, env)?) {
                    (Some(a), Some(b)) => Some(self.select(t, a, b)),
                    (None, None) => None,
                    // Whether it is present is known at run time only.
                    _ => return Err(Unfit),
                },
            },
        })
    }

    /// A value that counts as zero where it is absent.
    fn number(&mut self, e: &Expr, env: &[i64]) -> Result<Id, Unfit> {
        Ok(self.expr(e, env)?.unwrap_or_else(|| self.constant(0.0)))
    }

    fn cond(&mut self, c: &Cond, env: &[i64]) -> Result<Decided, Unfit> {
        use Decided::{Asked as Open, Known};
        Ok(match c {
            Cond::Const(b) => Known(*b),
            Cond::Index(op, a, b) => Known(op.holds(&a.eval(env), &b.eval(env))),
            Cond::Inside(a) => Known(locate(a, &self.kernel.tensor(a.tensor).shape, env).is_some()),
            Cond::Value(op, a, b) => {
                let (a, b) = (self.number(a, env)?, self.number(b, env)?);
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

    /// Whether a read that the evaluation meets falls outside.
    fn outside(&mut self, e: &Expr, env: &[i64]) -> Result<bool, Unfit> {
        Ok(match e {
            Expr::Const(_) => false,
            Expr::Read(a) => locate(a, &self.kernel.tensor(a.tensor).shape, env).is_none(),
            Expr::Unary(_, a) | Expr::Powf(a, _) => self.outside(a, env)?,
            Expr::Binary(_, a, b) => self.outside(a, env)? || self.outside(b, env)?,
            Expr::Where(c, a, b) => {
                self.outside_test(c, env)? || {
                    match self.cond(c, env)? {
                        Decided::Known(taken) => self.outside(if taken { a } else { b }, env)?,
                        Decided::Asked(_) => match (self.outside(a, env)?, self.outside(b, env)?) {
                            (a, b) if a == b => a,
                            _ => return Err(Unfit),
                        },
                    }
                }
            }
        })
    }

    fn outside_test(&mut self, c: &Cond, env: &[i64]) -> Result<bool, Unfit> {
        Ok(match c {
            Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => false,
            Cond::Value(_, a, b) => self.outside(a, env)? || self.outside(b, env)?,
            // The second side is met only where the first does not decide.
            Cond::And(a, b) | Cond::Or(a, b) => {
                self.outside_test(a, env)?
                    || match self.cond(a, env)? {
                        Decided::Known(holds) => holds == matches!(c, Cond::And(..)) && self.outside_test(b, env)?,
                        Decided::Asked(_) if self.outside_test(b, env)? => return Err(Unfit),
                        Decided::Asked(_) => false,
                    }
            }
            Cond::Not(a) => self.outside_test(a, env)?,
        })
    }
}

/// The next setting of some variables; `false` after the last.
fn turn(vars: &[plain::Var], range: std::ops::Range<usize>, env: &mut [i64]) -> bool {
    for v in range.rev() {
        env[v] += 1;
        if (env[v] as usize) < vars[v].extent {
            return true;
        }
        env[v] = 0;
    }
    false
}
