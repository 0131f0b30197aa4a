//! Syntax tree to text: takes a [`Step`] or an [`Expr`], gives its formula.
//!
//! Holds after it: the text parses to the same tree. Parentheses stand where the grammar asks for them, and nowhere
//! else.

use super::{Access, Assign, BinaryOp, Expr, ExprKind, GivenValue, IndexArg, ReduceOp, Step};
use crate::source::At;
use std::fmt;

// Levels of binding, loosest first.
const OR: u8 = 0;
const AND: u8 = 1;
const NOT: u8 = 2;
const COMPARE: u8 = 3;
const SUM: u8 = 4;
const PRODUCT: u8 = 5;
const UNARY: u8 = 6;
const POWER: u8 = 7;
const PRIMARY: u8 = 8;

impl BinaryOp {
    fn level(self) -> u8 {
        match self {
            BinaryOp::Or => OR,
            BinaryOp::And => AND,
            BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge | BinaryOp::Eq | BinaryOp::Ne => COMPARE,
            BinaryOp::Add | BinaryOp::Sub => SUM,
            BinaryOp::Mul | BinaryOp::Div => PRODUCT,
            BinaryOp::Pow => POWER,
        }
    }
}

impl Expr {
    /// Level of the form itself. A reduction counts as a primary; `followed` in [`Expr::print`] cares for its open end.
    fn level(&self) -> u8 {
        match &self.kind {
            ExprKind::Number(v) if v.is_sign_negative() => UNARY,
            ExprKind::Neg(_) => UNARY,
            ExprKind::Not(_) => NOT,
            ExprKind::Binary(op, ..) => op.level(),
            _ => PRIMARY,
        }
    }

    /// Prints where only forms of `level` or tighter may stand. `followed`: a `*`, `/` or `^` comes right after, which
    /// a reduction without parentheses would swallow. `tight`: in an index, where products have no spaces.
    fn print(&self, out: &mut String, level: u8, followed: bool, tight: bool) {
        let open_end = followed && matches!(self.kind, ExprKind::Reduce { .. });
        if self.level() < level || open_end {
            out.push('(');
            self.print(out, OR, false, tight);
            out.push(')');
            return;
        }
        match &self.kind {
            ExprKind::Number(v) => {
                if *v == v.trunc() && v.abs() < 1e15 {
                    out.push_str(&format!("{v}"));
                } else {
                    out.push_str(&format!("{v:?}"));
                }
            }
            ExprKind::Name(name) => out.push_str(name),
            ExprKind::Access(access) => access.print(out),
            ExprKind::Neg(e) => {
                out.push('-');
                e.print(out, UNARY, followed, tight);
            }
            ExprKind::Not(e) => {
                out.push_str("not ");
                e.print(out, NOT, false, tight);
            }
            ExprKind::Binary(BinaryOp::Pow, base, exponent) => {
                base.print(out, PRIMARY, true, tight);
                out.push('^');
                match &exponent.kind {
                    ExprKind::Neg(e) => {
                        out.push('-');
                        e.print(out, PRIMARY, followed, tight);
                    }
                    _ => exponent.print(out, PRIMARY, followed, tight),
                }
            }
            ExprKind::Binary(op, left, right) => {
                let level = op.level();
                let product = level == PRODUCT;
                // Comparisons do not chain, so both sides must bind tighter.
                let left_level = if level == COMPARE { SUM } else { level };
                left.print(out, left_level, product, tight);
                let gap = if product && tight { "" } else { " " };
                for part in [gap, op.symbol(), gap] {
                    out.push_str(part);
                }
                right.print(out, level + 1, product && followed, tight);
            }
            ExprKind::Call(name, args, given) => {
                out.push_str(name);
                out.push('(');
                separated(out, args, ", ", |out, e| e.print(out, OR, false, tight));
                out.push_str(if given.is_empty() { "" } else { "; " });
                separated(out, given, ", ", |out, g| {
                    out.push_str(&g.name);
                    out.push_str(" = ");
                    match &g.value {
                        GivenValue::Axes(axes) => {
                            out.push('[');
                            separated(out, axes, ", ", |out, a| out.push_str(a));
                            out.push(']');
                        }
                        GivenValue::Value(e) => e.print(out, OR, false, tight),
                    }
                });
                out.push(')');
            }
            ExprKind::Reduce { op, binders, body } => {
                out.push_str(op.symbol());
                out.push('(');
                separated(out, binders, ",", |out, b| {
                    out.push_str(&b.name);
                    print_axis(out, b.axis.as_ref());
                });
                out.push_str(") ");
                let from = out.len();
                body.print(out, PRODUCT, false, tight);
                // `max(j) -x` would read as a call less `x`.
                if out[from..].starts_with('-') && matches!(op.value, ReduceOp::Max | ReduceOp::Min) {
                    out.insert(from, '(');
                    out.push(')');
                }
            }
        }
    }
}

impl Access {
    fn print(&self, out: &mut String) {
        out.push_str(&self.name);
        if self.brackets {
            out.push('[');
            let short = |arg: &IndexArg| matches!(arg.expr.kind, ExprKind::Name(_));
            let by = if self.index.iter().all(short) { "," } else { ", " };
            separated(out, &self.index, by, |out, arg| {
                arg.expr.print(out, OR, false, true);
                print_axis(out, arg.axis.as_ref());
            });
            out.push(']');
        }
    }
}

fn print_axis(out: &mut String, axis: Option<&At<String>>) {
    if let Some(axis) = axis {
        out.push_str(" in ");
        out.push_str(axis);
    }
}

fn separated<T>(out: &mut String, items: &[T], by: &str, mut print: impl FnMut(&mut String, &T)) {
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push_str(by);
        }
        print(out, item);
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.print(&mut out, OR, false, false);
        f.write_str(&out)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.print(&mut out);
        f.write_str(&out)
    }
}

impl fmt::Display for Assign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Assign::Set => "=",
            Assign::Add => "+=",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.target, self.assign.value, self.value)
    }
}
