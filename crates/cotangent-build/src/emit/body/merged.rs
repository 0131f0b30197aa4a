//! Several bodies in one: takes what each class of machines does, gives the statements that all of them share.
//!
//! Holds after it: for each class the statements that run are its own, in their order; what classes have in common
//! stands once, the rest under a test of the class.

use super::isa;
use crate::emit::rust::{self, Expr, Stmt};

/// The bodies of several classes of machines in one: what they have in common stands once, the rest where the class is
/// theirs.
pub fn merged(all: &[(Vec<&'static str>, Vec<Stmt>)]) -> Vec<Stmt> {
    let [(_, first), others @ ..] = all else { return Vec::new() };
    let comments = |body: &[Stmt]| body.iter().filter(|s| matches!(s, Stmt::Comment(_))).cloned().collect::<Vec<_>>();
    let said = comments(first);
    if said.is_empty() || others.iter().any(|(_, body)| comments(body) != said) {
        return merged_segment(all);
    }
    let mut rest: Vec<(&Vec<&'static str>, &[Stmt])> = all.iter().map(|(m, body)| (m, body.as_slice())).collect();
    let mut out = Vec::new();
    for comment in said.into_iter().map(Some).chain([None]) {
        let end = |body: &[Stmt]| body.iter().position(|s| matches!(s, Stmt::Comment(_))).unwrap_or(body.len());
        let segments: Vec<_> = rest.iter().map(|(m, body)| ((*m).clone(), body[..end(body)].to_vec())).collect();
        out.extend(merged_segment(&segments));
        out.extend(comment);
        rest.iter_mut().for_each(|(_, body)| *body = &body[(end(body) + 1).min(body.len())..]);
    }
    out
}

/// The same of bodies without comments outside of loops.
fn merged_segment(all: &[(Vec<&'static str>, Vec<Stmt>)]) -> Vec<Stmt> {
    let [(_, first), others @ ..] = all else { return Vec::new() };
    let shortest = all.iter().map(|(_, body)| body.len()).min().unwrap_or(0);
    let same = |n: &usize| others.iter().all(|(_, body)| body[*n] == first[*n]);
    let before = (0..shortest).take_while(same).count();
    let mut out = first[..before].to_vec();
    let rest: Vec<(Vec<&'static str>, &[Stmt])> = all.iter().map(|(m, body)| (m.clone(), &body[before..])).collect();
    // Loops that differ in what is in them, one after the other.
    let loops = |(_, body): &(Vec<&'static str>, &[Stmt]), n: usize| match body.get(n) {
        Some(Stmt::For { var, extent, .. }) => Some((var.clone(), extent.clone())),
        _ => None,
    };
    let count = rest[0].1.len();
    let alike = |n: usize| loops(&rest[0], n).is_some() && rest.iter().all(|r| loops(r, n) == loops(&rest[0], n));
    if rest.iter().all(|(_, body)| body.len() == count) && (0..count).all(alike) {
        for n in 0..count {
            let inner = |(m, body): &(Vec<&'static str>, &[Stmt])| match &body[n] {
                Stmt::For { body, .. } => (m.clone(), body.clone()),
                _ => unreachable!("all are loops"),
            };
            let body = merged(&rest.iter().map(inner).collect::<Vec<_>>());
            let (var, extent) = loops(&rest[0], n).expect("all are loops");
            out.push(Stmt::For { var, extent, body });
        }
        return out;
    }
    let mut groups: Vec<(Vec<&'static str>, &[Stmt])> = Vec::new();
    let complete = rest.iter().all(|(_, body)| !body.is_empty());
    for (machines, body) in rest.into_iter().filter(|(_, body)| !body.is_empty()) {
        match groups.iter_mut().find(|(_, other)| *other == body) {
            Some((all, _)) => all.extend(machines),
            None => groups.push((machines, body)),
        }
    }
    // Where every class does something, the one that most of them do needs no test.
    groups.sort_by_key(|(machines, _)| machines.len());
    let mut otherwise = Vec::new();
    if complete && groups.len() > 1 {
        otherwise = groups.pop().expect("more than one").1.to_vec();
    }
    for (machines, body) in groups.into_iter().rev() {
        let each = machines.iter().map(|m| Expr::Path(isa(&m.to_uppercase())));
        let test = Expr::joined(rust::Binary::Or, each).expect("a class of machines");
        let test = if machines.len() > 1 { Expr::Const(Box::new(test)) } else { test };
        let last = Stmt::If { test, body: body.to_vec(), otherwise: std::mem::take(&mut otherwise) };
        otherwise = vec![last];
    }
    out.extend(otherwise);
    out
}
