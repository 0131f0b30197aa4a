//! What the printer writes, read back by another parser: the trees are the same, brackets aside.

use cotangent_build::emit::rust::{Binary, Block, Expr, Number, Path, Pattern, Stmt, Unary, lines};
use std::fmt::Display;
use syn::parse::Parser;

/// A tree without brackets for the reader.
fn bare(e: &Expr) -> Expr {
    let boxed = |e: &Expr| Box::new(bare(e));
    let all = |es: &[Expr]| es.iter().map(bare).collect();
    match e {
        Expr::Bracket(a) => bare(a),
        Expr::Path(_) | Expr::Number(_) | Expr::Bool(_) => e.clone(),
        Expr::Unary(op, a) => Expr::Unary(*op, boxed(a)),
        Expr::Binary(op, a, b) => Expr::Binary(*op, boxed(a), boxed(b)),
        Expr::Call(f, es) => Expr::Call(boxed(f), all(es)),
        Expr::Method(a, name, es) => Expr::Method(boxed(a), name.clone(), all(es)),
        Expr::Field(a, n) => Expr::Field(boxed(a), *n),
        Expr::Index(a, i) => Expr::Index(boxed(a), boxed(i)),
        Expr::Whole(a) => Expr::Whole(boxed(a)),
        Expr::Array(es) => Expr::Array(all(es)),
        Expr::Repeat(a, n) => Expr::Repeat(boxed(a), n.clone()),
        Expr::If(t, a, b) => Expr::If(boxed(t), Box::new(bare_block(a)), Box::new(bare_block(b))),
        Expr::Block(b) => Expr::Block(Box::new(bare_block(b))),
        Expr::Const(a) => Expr::Const(boxed(a)),
        Expr::Closure(names, a) => Expr::Closure(names.clone(), boxed(a)),
    }
}
fn bare_block(b: &Block) -> Block {
    Block { stmts: b.stmts.iter().map(bare_stmt).collect(), value: b.value.as_ref().map(bare) }
}
fn bare_stmt(s: &Stmt) -> Stmt {
    let body = |b: &[Stmt]| b.iter().map(bare_stmt).collect();
    match s {
        Stmt::Comment(text) => Stmt::Comment(text.clone()),
        Stmt::Let { pattern, mutable, value } => {
            Stmt::Let { pattern: pattern.clone(), mutable: *mutable, value: bare(value) }
        }
        Stmt::Assign(a, b) => Stmt::Assign(bare(a), bare(b)),
        Stmt::Change(a, op, b) => Stmt::Change(bare(a), *op, bare(b)),
        // A choice whose value nobody takes reads as a statement.
        Stmt::Expr(Expr::If(test, a, b)) => {
            let all = |b: &Block| {
                let value = b.value.iter().map(|e| bare_stmt(&Stmt::Expr(e.clone())));
                b.stmts.iter().map(bare_stmt).chain(value).collect()
            };
            Stmt::If { test: bare(test), body: all(a), otherwise: all(b) }
        }
        Stmt::Expr(e) => Stmt::Expr(bare(e)),
        Stmt::For { var, extent, body: b } => Stmt::For { var: var.clone(), extent: extent.clone(), body: body(b) },
        Stmt::If { test, body: b, otherwise } => {
            Stmt::If { test: bare(test), body: body(b), otherwise: body(otherwise) }
        }
    }
}

/// What a parser that knows nothing of this printer makes of text.
fn read(e: &syn::Expr) -> Expr {
    let boxed = |e: &syn::Expr| Box::new(read(e));
    match e {
        syn::Expr::Paren(e) => read(&e.expr),
        syn::Expr::Path(p) => Expr::Path(read_path(&p.path)),
        syn::Expr::Lit(l) => match &l.lit {
            syn::Lit::Bool(b) => Expr::Bool(b.value),
            literal @ (syn::Lit::Int(_) | syn::Lit::Float(_)) => Expr::Number(read_number(literal)),
            other => panic!("{other:?}"),
        },
        syn::Expr::Unary(u) => {
            let op = match &u.op {
                syn::UnOp::Neg(_) => Unary::Neg,
                syn::UnOp::Not(_) => Unary::Not,
                syn::UnOp::Deref(_) => Unary::Deref,
                other => panic!("{other:?}"),
            };
            Expr::Unary(op, boxed(&u.expr))
        }
        syn::Expr::Reference(r) => {
            Expr::Unary(if r.mutability.is_some() { Unary::RefMut } else { Unary::Ref }, boxed(&r.expr))
        }
        syn::Expr::Binary(b) => Expr::Binary(read_op(&b.op).0, boxed(&b.left), boxed(&b.right)),
        syn::Expr::Call(c) => Expr::Call(boxed(&c.func), c.args.iter().map(read).collect()),
        syn::Expr::MethodCall(m) => {
            let arguments = m.turbofish.as_ref().map_or(Vec::new(), |t| t.args.iter().map(read_argument).collect());
            let name = path(&m.method.to_string(), &arguments);
            Expr::Method(boxed(&m.receiver), name, m.args.iter().map(read).collect())
        }
        syn::Expr::Field(f) => match &f.member {
            syn::Member::Unnamed(n) => Expr::Field(boxed(&f.base), n.index as usize),
            other => panic!("{other:?}"),
        },
        syn::Expr::Index(i) => match &*i.index {
            syn::Expr::Range(r) if r.start.is_none() && r.end.is_none() => Expr::Whole(boxed(&i.expr)),
            index => Expr::Index(boxed(&i.expr), boxed(index)),
        },
        syn::Expr::Array(a) => Expr::Array(a.elems.iter().map(read).collect()),
        syn::Expr::Repeat(r) => match read(&r.len) {
            length @ (Expr::Number(_) | Expr::Path(_)) => Expr::Repeat(boxed(&r.expr), Box::new(length)),
            other => panic!("{other:?}"),
        },
        syn::Expr::If(i) => {
            let syn::Expr::Block(no) = &*i.else_branch.as_ref().expect("a value has both").1 else { panic!() };
            let no = read_block(&no.block);
            Expr::If(boxed(&i.cond), Box::new(read_block(&i.then_branch)), Box::new(no))
        }
        syn::Expr::Block(b) => Expr::Block(Box::new(read_block(&b.block))),
        syn::Expr::Closure(c) => Expr::Closure(c.inputs.iter().map(read_name).collect(), boxed(&c.body)),
        other => panic!("{other:?}"),
    }
}
fn read_path(p: &syn::Path) -> Path {
    let root = p.leading_colon.as_ref().map(|_| String::new());
    let names: Vec<String> = root.into_iter().chain(p.segments.iter().map(|s| s.ident.to_string())).collect();
    let arguments = match &p.segments.last().unwrap().arguments {
        syn::PathArguments::AngleBracketed(a) => a.args.iter().map(read_argument).collect(),
        _ => Vec::new(),
    };
    path(&names.join("::"), &arguments)
}
fn path(names: &str, arguments: &[String]) -> Path {
    Path::new(&[names]).of(&arguments.iter().map(|a| a as &dyn Display).collect::<Vec<_>>())
}
/// A number, whose text the literal is.
fn read_number(literal: &syn::Lit) -> Number {
    let (number, text) = match literal {
        syn::Lit::Int(n) => {
            let value = n.base10_parse().expect("a whole number");
            let number =
                if n.suffix().is_empty() { Number::whole(value) } else { Number::integer(value as u64, n.suffix()) };
            (number, n.to_string())
        }
        syn::Lit::Float(n) => (Number::real(n.base10_parse().expect("a number"), n.suffix()), n.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(Expr::Number(number.clone()).to_string(), text);
    number
}
fn read_argument(a: &syn::GenericArgument) -> String {
    match a {
        syn::GenericArgument::Type(syn::Type::Path(p)) => read_path(&p.path).to_string(),
        syn::GenericArgument::Const(e) => read(e).to_string(),
        other => panic!("{other:?}"),
    }
}
fn read_name(p: &syn::Pat) -> Path {
    let syn::Pat::Ident(name) = p else { panic!("{p:?}") };
    Path::name(&name.ident.to_string())
}
/// The operator, and whether it assigns.
fn read_op(op: &syn::BinOp) -> (Binary, bool) {
    match op {
        syn::BinOp::Or(_) => (Binary::Or, false),
        syn::BinOp::And(_) => (Binary::And, false),
        syn::BinOp::Lt(_) => (Binary::Lt, false),
        syn::BinOp::Le(_) => (Binary::Le, false),
        syn::BinOp::Gt(_) => (Binary::Gt, false),
        syn::BinOp::Ge(_) => (Binary::Ge, false),
        syn::BinOp::Eq(_) => (Binary::Eq, false),
        syn::BinOp::Ne(_) => (Binary::Ne, false),
        syn::BinOp::Add(_) => (Binary::Add, false),
        syn::BinOp::Sub(_) => (Binary::Sub, false),
        syn::BinOp::Mul(_) => (Binary::Mul, false),
        syn::BinOp::Div(_) => (Binary::Div, false),
        syn::BinOp::Rem(_) => (Binary::Rem, false),
        syn::BinOp::AddAssign(_) => (Binary::Add, true),
        syn::BinOp::SubAssign(_) => (Binary::Sub, true),
        syn::BinOp::MulAssign(_) => (Binary::Mul, true),
        syn::BinOp::DivAssign(_) => (Binary::Div, true),
        syn::BinOp::RemAssign(_) => (Binary::Rem, true),
        other => panic!("{other:?}"),
    }
}
fn read_block(b: &syn::Block) -> Block {
    let (stmts, value) = match b.stmts.split_last() {
        // A condition without a value, or a block, is a statement as well as a value: which it is, the printed tree
        // says.
        Some((syn::Stmt::Expr(e, None), rest)) if !matches!(e, syn::Expr::ForLoop(_)) => match e {
            syn::Expr::If(i) if i.else_branch.is_none() => (&b.stmts[..], None),
            e => (rest, Some(read(e))),
        },
        _ => (&b.stmts[..], None),
    };
    Block { stmts: stmts.iter().map(read_stmt).collect(), value }
}
fn read_stmt(s: &syn::Stmt) -> Stmt {
    match s {
        syn::Stmt::Local(l) => {
            let value = read(&l.init.as_ref().unwrap().expr);
            let mutable = matches!(&l.pat, syn::Pat::Ident(name) if name.mutability.is_some());
            Stmt::Let { pattern: read_pattern(&l.pat), mutable, value }
        }
        syn::Stmt::Expr(syn::Expr::Assign(a), Some(_)) => Stmt::Assign(read(&a.left), read(&a.right)),
        syn::Stmt::Expr(syn::Expr::Binary(b), Some(_)) if read_op(&b.op).1 => {
            Stmt::Change(read(&b.left), read_op(&b.op).0, read(&b.right))
        }
        syn::Stmt::Expr(syn::Expr::ForLoop(l), None) => {
            let syn::Expr::Range(r) = &*l.expr else { panic!() };
            let extent = read(r.end.as_ref().unwrap());
            let body = l.body.stmts.iter().map(read_stmt).collect();
            Stmt::For { var: read_name(&l.pat), extent, body }
        }
        syn::Stmt::Expr(syn::Expr::If(i), None) => read_if(i),
        syn::Stmt::Expr(e, _) => Stmt::Expr(read(e)),
        other => panic!("{other:?}"),
    }
}

fn read_pattern(p: &syn::Pat) -> Pattern {
    match p {
        syn::Pat::Tuple(t) => Pattern::Tuple(t.elems.iter().map(read_pattern).collect()),
        syn::Pat::Slice(s) => Pattern::Array(s.elems.iter().map(read_pattern).collect()),
        syn::Pat::Wild(_) => Pattern::Unnamed,
        syn::Pat::Rest(_) => Pattern::Rest,
        name => Pattern::Name(read_name(name)),
    }
}

fn read_if(i: &syn::ExprIf) -> Stmt {
    let body = |b: &syn::Block| b.stmts.iter().map(read_stmt).collect();
    let otherwise = match i.else_branch.as_ref().map(|(_, e)| &**e) {
        None => Vec::new(),
        Some(syn::Expr::If(chained)) => vec![read_if(chained)],
        Some(syn::Expr::Block(b)) => body(&b.block),
        Some(other) => panic!("{other:?}"),
    };
    Stmt::If { test: read(&i.cond), body: body(&i.then_branch), otherwise }
}

/// Trees at random.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
    fn name(&mut self) -> String {
        ["x", "y_bar", "_a", "acc0", "Isa_"][self.below(5)].into()
    }
    fn path(&mut self) -> Path {
        match self.below(4) {
            0 => Path::new(&["math", &self.name()]).of(&[&"Isa_"]),
            1 => Path::new(&["::cotangent::isa", "read"]).of(&[&"f32", &8]),
            _ => Path::name(&self.name()),
        }
    }
    fn method(&mut self) -> Path {
        let name = Path::name(&self.name());
        if self.below(2) == 0 { name.of(&[&"Isa_"]) } else { name }
    }
    fn some<T>(&mut self, most: usize, mut f: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| f(self)).collect()
    }
    fn expr(&mut self, depth: usize) -> Expr {
        let kind = if depth == 0 { self.below(4) } else { self.below(24) };
        let inner = |r: &mut Self| Box::new(r.expr(depth.saturating_sub(1)));
        match kind {
            0 => Expr::Path(self.path()),
            1 => Expr::Number(Number::whole(self.below(100))),
            2 => Expr::Number(Number::real([0.0, 2.5, 1e-7, 1e300][self.below(4)], "f64")),
            3 => Expr::Bool(self.below(2) == 0),
            4..=8 => {
                use Unary::{Deref, Neg, Not, Ref, RefMut};
                Expr::Unary([Neg, Not, Deref, Ref, RefMut][self.below(5)], inner(self))
            }
            9..=14 => {
                use Binary::{Add, And, Div, Eq, Ge, Gt, Le, Lt, Mul, Ne, Or, Rem, Sub};
                let op = [Or, And, Lt, Le, Gt, Ge, Eq, Ne, Add, Sub, Mul, Div, Rem][self.below(13)];
                Expr::Binary(op, inner(self), inner(self))
            }
            15 => Expr::Call(inner(self), self.some(3, |r| *inner(r))),
            16 => Expr::Method(inner(self), self.method(), self.some(2, |r| *inner(r))),
            17 => Expr::Field(inner(self), self.below(3)),
            18 => Expr::Index(inner(self), inner(self)),
            19 => Expr::Whole(inner(self)),
            20 => match self.below(2) {
                0 => Expr::Array(self.some(3, |r| *inner(r))),
                _ => Expr::Repeat(inner(self), Box::new(self.length())),
            },
            21 => {
                let valued = |r: &mut Self| Box::new(Block { value: Some(*inner(r)), ..r.block(depth - 1) });
                Expr::If(Box::new(Expr::name("x")), valued(self), valued(self))
            }
            22 => match self.below(2) {
                0 => Expr::Block(Box::new(Block { value: Some(*inner(self)), ..self.block(depth - 1) })),
                _ => Expr::Closure(self.some(2, |r| Path::name(&r.name())), inner(self)),
            },
            _ => Expr::Bracket(inner(self)),
        }
    }
    fn length(&mut self) -> Expr {
        match self.below(3) {
            0 => Expr::whole(self.below(9)),
            1 => Expr::Number(Number::integer(self.below(9) as u64, "i64")),
            _ => Expr::name("x"),
        }
    }
    fn pattern(&mut self, depth: usize) -> Pattern {
        let kind = if depth == 0 { self.below(2) } else { self.below(5) };
        match kind {
            0 => Pattern::Unnamed,
            1 | 2 => Pattern::name(&self.name()),
            3 => Pattern::Tuple((0..2 + self.below(2)).map(|_| self.pattern(depth - 1)).collect()),
            _ => Pattern::array((0..1 + self.below(5)).map(|_| self.pattern(depth - 1)).collect()),
        }
    }
    fn block(&mut self, depth: usize) -> Block {
        Block { stmts: self.some(2, |r| r.stmt(depth)), value: None }
    }
    fn stmt(&mut self, depth: usize) -> Stmt {
        let inner = depth.saturating_sub(1);
        let kind = if depth == 0 { 3 + self.below(3) } else { self.below(7) };
        match kind {
            0 => {
                let extent = self.length();
                Stmt::For { var: Path::name("i"), extent, body: self.some(3, |r| r.stmt(inner)) }
            }
            1 => {
                let mut body = || self.some(3, |r| r.stmt(inner));
                let (body, otherwise) = (body(), body());
                Stmt::If { test: self.expr(inner), body, otherwise }
            }
            2 => {
                // A choice of what is done, in one line.
                let body = |r: &mut Self| Box::new(Block { stmts: vec![r.stmt(0)], value: None });
                Stmt::Expr(Expr::If(Box::new(self.expr(inner)), body(self), body(self)))
            }
            3 => Stmt::Assign(self.expr(inner), self.expr(inner)),
            4 => Stmt::Change(self.expr(inner), Binary::Sub, self.expr(inner)),
            5 => {
                let pattern = self.pattern(2);
                let mutable = matches!(pattern, Pattern::Name(_)) && self.below(2) == 0;
                Stmt::Let { pattern, mutable, value: self.expr(inner) }
            }
            _ => Stmt::Expr(self.expr(inner)),
        }
    }
}

/// Elements without names are told together where most of them stand beside each other.
#[test]
fn arrays_name_the_elements_that_are_used() {
    let array = |names: &str| {
        let element = |c: char| if c == '_' { Pattern::Unnamed } else { Pattern::name(&c.to_string()) };
        Pattern::array(names.chars().map(element).collect()).to_string()
    };
    for (names, text) in [
        ("ab", "[a, b]"),
        ("a_", "[a, _]"),
        ("a__", "[a, ..]"),
        ("__a___b_", "[_, _, a, .., b, _]"),
        ("___a", "[.., a]"),
        ("___", "_"),
    ] {
        assert_eq!(array(names), text);
    }
}

#[test]
fn expressions_parse_to_what_they_were() {
    let mut r = Random(1);
    for _ in 0..4_000 {
        let depth = 1 + r.below(4);
        let e = r.expr(depth);
        let text = e.to_string();
        let parsed = syn::parse_str::<syn::Expr>(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(read(&parsed), bare(&e), "{text}");
    }
}

#[test]
fn statements_parse_to_what_they_were() {
    let mut r = Random(2);
    for _ in 0..1_000 {
        let stmts = r.some(4, |r| r.stmt(3));
        let text = lines(&stmts, 1);
        let parsed = syn::Block::parse_within.parse_str(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(
            parsed.iter().map(read_stmt).collect::<Vec<_>>(),
            stmts.iter().map(bare_stmt).collect::<Vec<_>>(),
            "{text}"
        );
    }
}

#[test]
fn brackets_stand_where_they_must() {
    let [a, b, c] = ["a", "b", "c"].map(Expr::name);
    let all = [
        (a.clone().unary(Unary::Neg).method(Path::name("exp"), []), "(-a).exp()"),
        (a.clone().binary(Binary::Div, b.clone().binary(Binary::Div, c.clone())), "a / (b / c)"),
        (a.clone().binary(Binary::Div, b.clone()).binary(Binary::Div, c.clone()), "a / b / c"),
        (a.clone().binary(Binary::Div, b.clone()).unary(Unary::Neg), "-(a / b)"),
        (a.clone().unary(Unary::Deref).at(b.clone()), "(*a)[b]"),
        (a.clone().at(b.clone()).unary(Unary::Deref), "*a[b]"),
        (a.clone().unary(Unary::Neg).unary(Unary::Neg), "-(-a)"),
        (a.clone().binary(Binary::Sub, b.unary(Unary::Neg)), "a - -b"),
        (Expr::when(Expr::Bool(true), a, c).binary(Binary::Add, Expr::whole(1)), "(if true { a } else { c }) + 1"),
    ];
    for (e, text) in all {
        assert_eq!(e.to_string(), text);
    }
}

#[test]
#[should_panic(expected = "is no name")]
fn names_are_names() {
    Path::name("a - b");
}
