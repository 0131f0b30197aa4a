//! How much text a function will be: takes its statements and those that are written already, gives the lines that it
//! adds. Sizes and schedules matter little to it, so that it is known before any loop is.

use super::{Access, Cond, Expr, Function, Stmt, Tensor};
use crate::index::TensorId;
use std::collections::HashSet;

/// The lines of a sum, or of another reduction: a tile for each class of machines, and what is left at the borders.
/// With it the estimates of all second derivatives in `programs/`, and of networks for digits, sentences and keywords,
/// are 0.6 to 1.4 times what is generated, where that is a thousand lines or more.
const LINES_OF_REDUCTION: u64 = 64;

/// The statements of the functions that a kernel has so far.
#[derive(Default)]
pub struct Written(HashSet<String>);

impl Written {
    /// The lines that a function adds, about. Entry points share stages that do the same to the same tensors, as the
    /// way forward; of the others those are one function that do the same to tensors of the same shapes.
    pub fn lines(&self, f: &Function, tensors: &[Tensor]) -> u64 {
        let mut seen = HashSet::new();
        let own = stmts(f).filter(|s| !self.0.contains(&text(s, &|t| t)));
        let fresh = own.filter(|s| seen.insert(anonymous(s, tensors)));
        fresh.map(|s| symbols(&s.value) + if s.reduce.is_some() { LINES_OF_REDUCTION } else { 0 }).sum()
    }

    /// From here on the kernel has the function.
    pub fn add(&mut self, f: &Function) {
        self.0.extend(stmts(f).map(|s| text(s, &|t| t)));
    }
}

fn stmts(f: &Function) -> impl Iterator<Item = &Stmt> {
    f.steps.iter().flat_map(|s| s.stmts())
}

/// A statement without the names of its variables, its tensors by other numbers.
fn text(s: &Stmt, number: &impl Fn(TensorId) -> TensorId) -> String {
    let renamed = |a: &Access| Access { tensor: number(a.tensor), ..a.clone() };
    let value = s.value.moved(&renamed, &Clone::clone);
    let extents: Vec<usize> = s.vars.iter().map(|v| v.extent).collect();
    format!("{extents:?} {} {:?} {} {:?} {value:?}", s.free, s.reduce, s.accumulate, renamed(&s.target))
}

/// A statement that says of its tensors nothing but their shapes, and which are the same.
fn anonymous(s: &Stmt, tensors: &[Tensor]) -> String {
    let mut seen = vec![s.target.tensor];
    s.value.accesses(&mut |a| {
        if !seen.contains(&a.tensor) {
            seen.push(a.tensor);
        }
    });
    let number = |t: TensorId| TensorId(seen.iter().position(|s| *s == t).expect("it was seen"));
    let shapes: Vec<&[usize]> = seen.iter().map(|t| tensors[t.0].shape.as_slice()).collect();
    format!("{shapes:?} {}", text(s, &number))
}

/// Operations, numbers and elements. Each is about a line where elementwise steps run on lanes.
fn symbols(e: &Expr) -> u64 {
    match e {
        Expr::Const(_) | Expr::Read(_) => 1,
        Expr::Masked(_, a) => symbols(a),
        Expr::Unary(_, a) | Expr::Powf(a, _) => 1 + symbols(a),
        Expr::Binary(_, a, b) => 1 + symbols(a) + symbols(b),
        Expr::Where(c, a, b) => 1 + tests(c) + symbols(a) + symbols(b),
    }
}

fn tests(c: &Cond) -> u64 {
    match c {
        Cond::Const(_) | Cond::Index(..) | Cond::Inside(_) => 1,
        Cond::Value(_, a, b) => 1 + symbols(a) + symbols(b),
        Cond::And(a, b) | Cond::Or(a, b) => 1 + tests(a) + tests(b),
        Cond::Not(a) => 1 + tests(a),
    }
}
