//! Several vectors in one call: takes loops over the vectors of a tile and blocks that are turned, gives calls of the
//! runtime that do all of them, or nothing where the text must say more.
//!
//! Holds after it: the calls do what the loops do, in the same order; rows are slices whose bounds are tested once.

use super::{INSTRUCTIONS, Writer, isa, let_mut, scalar};
use crate::emit::names::{BLOCKS, FLAG, ROWS};
use crate::emit::rust::{self, Expr, Path, Pattern, Stmt};
use crate::index::{Binary, ReduceOp};
use crate::nest::{Access, BlockTranspose, Node, Place, Position, Slot, Update, Value, VarId};
use crate::plain::Linear;
use std::collections::BTreeSet;

impl Writer<'_> {
    /// What a loop over the vectors of a tile does, where each of its statements is one call for all of them.
    pub(super) fn vectors(&self, var: VarId, body: &[Node]) -> Option<Vec<Stmt>> {
        self.tile.filter(|t| t.vector == var)?;
        let mut out = Vec::new();
        let mut written = BTreeSet::new();
        for node in body {
            let Node::Update { place, how, value } = node else { return None };
            match (place, how) {
                (Place::Lanes(a, range), _) => {
                    let Value::Register(slot) = value else { return None };
                    let width = self.n.registers[slot.register].lanes?;
                    if range.len() != width || !written.insert(a.tensor) {
                        return None;
                    }
                    let (row, at) = self.vectors_of(a, var, width, true)?;
                    let mut all = vec![self.vectors_in(slot, var)?, row, at];
                    let function = match how {
                        Update::Set => "write_all",
                        Update::Reduce(ReduceOp::Sum) if self.is_result(place) => {
                            all.push(Expr::name(FLAG));
                            "update_all"
                        }
                        Update::Reduce(ReduceOp::Sum) => "add_all",
                        Update::Reduce(_) => return None,
                    };
                    out.push(Stmt::Expr(isa(function).call(all)));
                }
                (Place::Register(slot), Update::Reduce(ReduceOp::Sum)) => {
                    let sum = self.vectors_in(slot, var)?;
                    // As sums of single vectors: the last term first.
                    let mut terms = Vec::new();
                    products(value, &mut terms)?;
                    for (a, b) in terms {
                        let (a, b) = match (self.lone(a, var), self.lone(b, var)) {
                            (Some(one), None) => (one, b),
                            (None, Some(one)) => (one, a),
                            _ => return None,
                        };
                        let Value::Register(each) = b else { return None };
                        let value = isa("mul_add_all").call([a, self.vectors_in(each, var)?, sum.clone()]);
                        out.push(Stmt::Assign(sum.clone(), value));
                    }
                }
                _ => return None,
            }
        }
        Some(out)
    }

    /// A value that is the same for every vector.
    fn lone(&self, v: &Value, var: VarId) -> Option<Expr> {
        let mut moves = false;
        v.vars(&mut |v| moves |= v == var);
        (!moves).then(|| self.value(v))
    }

    /// The registers of all vectors.
    fn vectors_in(&self, slot: &Slot, var: VarId) -> Option<Expr> {
        let (last, others) = slot.at.split_last()?;
        let fixed = others.iter().all(|l| l.terms.iter().all(|(v, _)| *v != var));
        let all = Slot { register: slot.register, at: others.to_vec() };
        (fixed && *last == Linear::var(var)).then(|| self.slot(&all))
    }

    /// The row of vectors that follow each other, and where the first starts.
    pub(super) fn vectors_of(&self, a: &Access, var: VarId, width: usize, mutable: bool) -> Option<(Expr, Expr)> {
        let coefficient = |l: &Linear| l.terms.iter().find(|(v, _)| *v == var).map_or(0, |(_, c)| *c);
        let (last, others) = a.positions.split_last()?;
        let fixed = others.iter().all(|p| coefficient(&p.numerator) == 0);
        if !fixed || last.divisor != 1 || last.guarded || coefficient(&last.numerator) != width as i64 {
            return None;
        }
        let mut first = a.clone();
        first.positions.last_mut()?.numerator.terms.retain(|(v, _)| *v != var);
        Some(self.row(&first, mutable))
    }

    /// Square blocks transposed, one or two beside each other.
    pub(super) fn transpose(&self, t: &BlockTranspose, out: &mut Vec<Stmt>) {
        let [rows, columns] = [t.row, t.column].map(|v| self.n.vars[v].extent);
        let ty = scalar(self.k.dtype);
        let name = |v: VarId| self.names.var(v);
        let blocks = &BLOCKS[..rows / columns];
        if let (Some((from, at, column)), Some((to, first, side))) =
            (self.plane(&t.from, t.row, false), self.plane(&t.to, t.column, true))
        {
            let block = |n: usize| {
                let at = match n * columns {
                    0 => at.clone(),
                    behind => at.clone().binary(rust::Binary::Add, Expr::whole(behind)),
                };
                Path::new(&[INSTRUCTIONS, "block"]).call([from.clone(), at, column.clone()])
            };
            let constants: [&dyn std::fmt::Display; 4] = [&ty, &columns, &rows, &"_"];
            let call = match rows == columns {
                true => isa("transpose_to").of(&[&ty, &columns, &"_"]).call([block(0), to, first, side]),
                false => isa("transpose_both_to").of(&constants).call([block(0), block(1), to, first, side]),
            };
            out.push(Stmt::Expr(call));
            return;
        }
        // No closure: one that is inlined late has bounds to check.
        let row_of = |at: Linear| {
            let moved = |l: &Linear| l.substitute(&|v| if v == t.row { at.clone() } else { Linear::var(v) });
            let positions = t.from.positions.iter().map(|p| Position { numerator: moved(&p.numerator), ..p.clone() });
            let (row, at) = self.row(&Access { positions: positions.collect(), ..t.from.clone() }, false);
            Path::new(&[INSTRUCTIONS, "row"]).call([row, at])
        };
        for (n, block) in blocks.iter().enumerate() {
            // Its rows are those behind the blocks before it.
            let first = (n * columns) as i64;
            out.push(let_mut(ROWS, row_of(Linear::constant(first)).repeat(Expr::whole(columns))));
            let set =
                Stmt::Assign(Expr::name(ROWS).at(Expr::name(name(t.row))), row_of(Linear::new([(t.row, 1)], first)));
            out.push(Stmt::For { var: Path::name(name(t.row)), extent: Expr::whole(columns), body: vec![set] });
            let value = isa("transpose").of(&[&ty, &columns]).call([Expr::name(ROWS)]);
            out.push(Stmt::Let { pattern: Pattern::name(block), mutable: false, value });
        }
        let column = || Expr::name(name(t.column));
        let mut lanes = blocks.iter().map(|block| Expr::name(block).at(column()));
        let lanes = match (lanes.next(), lanes.next()) {
            (Some(transposed), Some(beside)) => isa("join").of(&[&ty, &columns, &rows]).call([transposed, beside]),
            (transposed, _) => transposed.expect("there is a block"),
        };
        let (row, at) = self.row(&t.to, true);
        let body = vec![Stmt::Expr(isa("write").call([lanes, row, at]))];
        out.push(Stmt::For { var: Path::name(name(t.column)), extent: Expr::whole(columns), body });
    }

    /// The rows that a variable counts, the first of them and where in it an access starts; `None` where the variable
    /// counts something else.
    fn plane(&self, a: &Access, var: VarId, mutable: bool) -> Option<(Expr, Expr, Expr)> {
        let coefficient = |p: &Position| p.numerator.terms.iter().find(|(v, _)| *v == var).map_or(0, |(_, c)| *c);
        let [outer @ .., counted, last] = a.positions.as_slice() else { return None };
        let plain = |p: &Position| p.divisor == 1 && !p.guarded;
        let fixed = outer.iter().chain([last]).all(|p| coefficient(p) == 0);
        if !(fixed && coefficient(counted) == 1 && plain(counted) && plain(last) && a.joined.last() == Some(&1)) {
            return None;
        }
        let mut first = a.clone();
        first.positions.pop();
        first.joined.pop();
        first.positions.last_mut()?.numerator.terms.retain(|(v, _)| *v != var);
        let (rows, at) = self.steps(&first, mutable);
        let rows = match rows {
            // A slice or a reference already.
            rows @ (Expr::Method(..) | Expr::Path(_)) => rows,
            array => array.unary(if mutable { rust::Unary::RefMut } else { rust::Unary::Ref }),
        };
        Some((rows, at?, self.linear(&last.numerator, false)))
    }
}

/// The factors of each term of a sum of products, the last term first; `None` if it is another sum.
fn products<'a>(v: &'a Value, out: &mut Vec<(&'a Value, &'a Value)>) -> Option<()> {
    match v {
        Value::Binary(Binary::Add, a, b) => products(b, out).and_then(|()| products(a, out)),
        Value::Binary(Binary::Mul, a, b) => {
            out.push((a, b));
            Some(())
        }
        _ => None,
    }
}
