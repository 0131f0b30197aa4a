//! The text of what was certified: takes an op with its certificate, gives its rules, those that derivation gives
//! besides, and how the declared ones were proved.

use super::{Certified, Method};
use crate::index::Stmt;
use crate::index::print::list;
use std::fmt::Write;

/// The rules of an op: what it uses, how it was proved, and what derivation gives.
pub fn text(Certified { op, derived, certificate, .. }: &Certified) -> String {
    let mut out = format!("op {}\n", op.name);
    let mut section = |title: String, stmts: &[Stmt]| {
        let _ = writeln!(out, "{title}");
        out.push_str(&list(op, stmts));
    };
    section("forward".into(), &op.forward);
    let source = |declared: bool, method: &Method| {
        if declared { format!("declared, {method}") } else { "not declared".into() }
    };
    section(format!("adjoint ({})", source(op.adjoint.declared, &certificate.adjoint)), &op.adjoint.stmts);
    section(format!("tangent ({})", source(op.tangent.declared, &certificate.tangent)), &op.tangent.stmts);
    section("derived adjoint".into(), &derived.adjoint);
    section("derived tangent".into(), &derived.tangent);
    out
}
