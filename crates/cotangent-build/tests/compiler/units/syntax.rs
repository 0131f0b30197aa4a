//! What parses and to which tree, what does not and what is said of it, and that trees print to what they were.

use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::source::{At, SourceId, Sources, Span};
use cotangent_build::spec::Formula;
use cotangent_build::syntax::{
    Access, Assign, BinaryOp, Binder, Expr, ExprKind, Given, GivenValue, IndexArg, ReduceOp, Step, expression, step,
};
use std::fmt;

fn read<T>(text: &str, rule: fn(&Formula, &mut Diagnostics) -> Option<T>) -> Result<T, String> {
    let mut sources = Sources::default();
    let id = sources.add("f", text.to_owned());
    let mut out = Diagnostics::default();
    let tree = rule(&Formula::verbatim(id, 0, text), &mut out);
    tree.ok_or_else(|| out.render(&sources))
}

fn expr(text: &str) -> Expr {
    read(text, expression).unwrap_or_else(|e| panic!("{e}"))
}

/// The tree with every operation in parentheses.
fn full(e: &Expr) -> String {
    match &e.kind {
        ExprKind::Neg(a) => format!("(-{})", full(a)),
        ExprKind::Not(a) => format!("(not {})", full(a)),
        ExprKind::Binary(op, a, b) => format!("({} {} {})", full(a), op.symbol(), full(b)),
        ExprKind::Call(f, args, _) => {
            let args: Vec<String> = args.iter().map(full).collect();
            format!("{}({})", f.value, args.join(", "))
        }
        ExprKind::Reduce { op, binders, body } => {
            let names: Vec<&str> = binders.iter().map(|b| b.name.as_str()).collect();
            format!("{}[{}]({})", op.symbol(), names.join(","), full(body))
        }
        _ => e.to_string(),
    }
}

#[test]
fn operators_bind_as_the_grammar_says() {
    for (text, expected) in [
        ("a + b*c - d", "((a + (b * c)) - d)"),
        ("a/b/c*d", "(((a / b) / c) * d)"),
        ("-a^2", "(-(a ^ 2))"),
        ("a^-b*c", "((a ^ (-b)) * c)"),
        ("-a*b", "((-a) * b)"),
        ("a - -b", "(a - (-b))"),
        ("a < b and not c == d or e", "(((a < b) and (not (c == d))) or e)"),
        ("sum(j) a*b + c", "(sum[j]((a * b)) + c)"),
        ("2 * sum(j) a*b/c - d", "((2 * sum[j](((a * b) / c))) - d)"),
        ("sum(j,k in I) sum(m) a * b", "sum[j,k](sum[m]((a * b)))"),
        ("-sum(j) -a * b", "(-sum[j](((-a) * b)))"),
        ("max(a, b) - c", "(max(a, b) - c)"),
        ("max(j) a[j] - c", "(max[j](a[j]) - c)"),
        ("max(j) -a", "(max(j) - a)"),
        ("max(j) (-a)", "max[j]((-a))"),
        ("min(i, k in J) 2*x[i]", "min[i,k]((2 * x[i]))"),
        ("max(a, 0)", "max(a, 0)"),
        ("max(x[i], y)", "max(x[i], y)"),
        ("max(a,b) and c", "(max(a, b) and c)"),
        ("(a+b)*(c+d)", "((a + b) * (c + d))"),
        ("1.5e-3 + .5 + 2. + 1e3", "(((0.0015 + 0.5) + 2) + 1000)"),
        ("x[]", "x[]"),
        ("f()", "f()"),
    ] {
        assert_eq!(full(&expr(text)), expected, "{text}");
    }
}

#[test]
fn steps_keep_every_span() {
    let text = "s[l, m in L] += (a + bb)*x[l]";
    let step = read(text, step).unwrap_or_else(|e| panic!("{e}"));
    let at = |span: Span| &text[span.start as usize..span.end as usize];
    assert_eq!(at(step.span), text);
    assert_eq!(at(step.target.span), "s[l, m in L]");
    assert_eq!((step.assign.value, at(step.assign.span)), (Assign::Add, "+="));
    let axis = step.target.index[1].axis.as_ref().expect("an axis");
    assert_eq!((axis.as_str(), at(axis.span)), ("L", "L"));
    let ExprKind::Binary(BinaryOp::Mul, a, x) = &step.value.kind else {
        panic!("a product: {step}");
    };
    assert_eq!((at(a.span), at(x.span)), ("(a + bb)", "x[l]"));
    assert_eq!(at(step.value.span), "(a + bb)*x[l]");
    assert_eq!(step.to_string(), "s[l,m in L] += (a + bb) * x[l]");
}

#[test]
fn errors_say_what_was_expected_and_what_to_write() {
    for (text, parts) in [
        ("", &["the name of a tensor to write, found the end"][..]),
        ("y[i] := x", &["expected `=` or `+=`, found `:=`", "written `=`"]),
        ("y[i] -= x", &["found `-=`", "`+= -(...)`"]),
        ("y[i] == x", &["found `==`", "an assignment is written `=`"]),
        ("y[i] *= x", &["only `=` and `+=` write"]),
        ("y(i) = x", &["indices in brackets"]),
        ("y = 2 x", &["found `x`", "a product is written with `*`"]),
        ("y = (a)(b)", &["found `(`", "a product is written with `*`"]),
        ("y = a**2", &["found `**`", "`x^2`"]),
        ("y = a^b^c", &["powers do not chain"]),
        ("y = a < b < c", &["comparisons do not chain"]),
        ("y = where(a = b, c, d)", &["a comparison is written `==`", "opened here"]),
        ("y = (a + b", &["expected `)`, found the end", "opened here"]),
        ("y = a)", &["nothing is open"]),
        ("y = x[i", &["expected `]`", "opened here"]),
        ("y = sum x[i]", &["`sum(j) x[j]`"]),
        ("y = sum() x", &["expected an index, found `)`"]),
        ("y = sum(x[i])", &["expected `,` or `)`", "only indices stand"]),
        ("y = sum(j)", &["expected a value, found the end"]),
        ("y = x[k in I]", &["in a target or a reduction only"]),
        ("y = sum(k in 3) x", &["expected the name of an axis, found `3`"]),
        ("y = a × b", &["`×` is not part", "write `*`"]),
        ("y = a && b", &["write `and`"]),
        ("y = +a", &["no unary `+`"]),
        ("y = a = b", &["one assignment a step"]),
        ("y = 1e999", &["too large"]),
        ("y = \u{1b}", &["`\\u{1b}` is not part"]),
        ("y = a +", &["expected a value, found the end of the formula"]),
        ("1 = a", &["expected the name of a tensor to write, found `1`"]),
    ] {
        let error = read(text, step).expect_err(text);
        assert!(error.starts_with("error[E007]: "), "{error}");
        for part in parts {
            assert!(error.contains(part), "{text}: {part} is not in\n{error}");
        }
    }
    let error = read("z = a + 1", expression).expect_err("an assignment");
    assert!(error.contains("write the right-hand side alone"), "{error}");
}

#[test]
fn depth_and_length_are_bounded() {
    for text in [
        "(".repeat(100_000),
        "-".repeat(100_000) + "a",
        "not ".repeat(100_000) + "a",
        "sum(j) ".repeat(100_000) + "a",
        "f(".repeat(500),
        "x[".repeat(500),
        "-".repeat(500) + "a",
        "not ".repeat(500) + "a",
        "sum(j)".repeat(150) + "a",
        "a+".repeat(100_000) + "a",
        "a^-".repeat(100_000) + "a",
    ] {
        let error = read(&text, expression).expect_err("too deep or too long");
        let head = error.lines().next().unwrap_or("").to_owned();
        assert!(head.contains("too") || head.contains("other than"), "{head}");
    }
    let long = "a+".repeat(400) + "a";
    assert_eq!(expr(&long).to_string(), long.replace('+', " + "));
    expr(&("(".repeat(60) + "a" + &")".repeat(60)));
}

/// A linear congruential generator (Knuth, MMIX): enough to vary trees.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005);
        self.0 = self.0.wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % sides
    }

    fn word(&mut self, words: &[&str]) -> At<String> {
        At::new(words[self.roll(words.len())].to_owned(), NOWHERE)
    }

    fn given(&mut self, depth: usize) -> Given {
        let value = match self.roll(2) {
            0 => GivenValue::Axes((0..self.roll(3)).map(|_| self.word(&["B", "D"])).collect()),
            _ => GivenValue::Value(self.expr(depth - 1)),
        };
        Given { name: self.word(&["J", "stride"]), value, span: NOWHERE }
    }

    fn axis(&mut self) -> Option<At<String>> {
        (self.roll(4) == 0).then(|| self.word(&["I", "Cx"]))
    }

    fn expr(&mut self, depth: usize) -> Expr {
        let forms = if depth == 0 { 3 } else { 14 };
        let kind = match self.roll(forms) {
            0 => ExprKind::Number([0.0, 2.0, 0.5, 1e-9, 3e20, 0.1][self.roll(6)]),
            1 => ExprKind::Name(self.word(&["a", "max", "pi", "I"]).value),
            2 => {
                let n = self.roll(3);
                let index = (0..n).map(|_| IndexArg { expr: self.expr(depth.saturating_sub(1)), axis: None });
                ExprKind::Access(Access {
                    index: index.collect(),
                    name: self.word(&["x", "y_bar"]),
                    brackets: true,
                    span: NOWHERE,
                })
            }
            3 => ExprKind::Neg(self.boxed(depth)),
            4 => ExprKind::Not(self.boxed(depth)),
            5 => {
                let name = self.word(&["exp", "max", "min", "where"]);
                let n = self.roll(4);
                let args = (0..n).map(|_| self.expr(depth - 1)).collect();
                ExprKind::Call(name, args, (0..self.roll(3)).map(|_| self.given(depth)).collect())
            }
            6..=8 => {
                use ReduceOp::*;
                let op = [Sum, Prod, Max, Min, Mean][self.roll(5)];
                let binders =
                    (0..=self.roll(2)).map(|_| Binder { name: self.word(&["i", "j", "cx"]), axis: self.axis() });
                ExprKind::Reduce { binders: binders.collect(), op: At::new(op, NOWHERE), body: self.boxed(depth) }
            }
            _ => {
                use BinaryOp::*;
                let ops = [Add, Sub, Mul, Div, Pow, Lt, Le, Gt, Ge, Eq, Ne, And, Or];
                let op = ops[self.roll(ops.len())];
                ExprKind::Binary(op, self.boxed(depth), self.boxed(depth))
            }
        };
        Expr { kind, span: NOWHERE }
    }

    fn boxed(&mut self, depth: usize) -> Box<Expr> {
        Box::new(self.expr(depth - 1))
    }
}

const NOWHERE: Span = Span { source: SourceId(0), start: 0, end: 0 };

/// Debug text without spans and what holds them.
fn shape(tree: &impl fmt::Debug) -> String {
    let text = format!("{tree:?}");
    let mut parts = text.split("Span { source: SourceId(0), start: ");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        out.push_str(part.split_once('}').map_or("", |(_, rest)| rest));
    }
    out
}

#[test]
fn what_is_printed_reads_as_the_same_tree() {
    let mut dice = Dice(7);
    for round in 0..6000 {
        let value = dice.expr(round % 6);
        let printed = value.to_string();
        assert_eq!(shape(&expr(&printed)), shape(&value), "{printed}");
        let index = IndexArg { expr: Expr { kind: ExprKind::Name("m".to_owned()), span: NOWHERE }, axis: dice.axis() };
        let tree = Step {
            target: Access { name: dice.word(&["x", "y_bar"]), brackets: true, index: vec![index], span: NOWHERE },
            assign: At::new([Assign::Set, Assign::Add][dice.roll(2)], NOWHERE),
            value,
            span: NOWHERE,
        };
        let again = read(&tree.to_string(), step).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(shape(&again), shape(&tree), "{tree}");
    }
}

#[test]
fn printing_adds_no_needless_parentheses() {
    for text in [
        "sum(j) a * b + c",
        "2 * sum(j) a * b / c",
        "-(sum(j) a) * b",
        "(sum(j) a)^2",
        "a^-b * c^2",
        "a - (b - c) - d",
        "a / (b * c)",
        "not a < b and (c or d)",
        "(-a)^2 - -a^2",
        "where(i <= j, max(i) (-x), 0.5)",
        "a[i,j] / x[n, o*stride + (t + 1)*dilation - lo, cx]",
    ] {
        assert_eq!(expr(text).to_string(), text);
    }
}
