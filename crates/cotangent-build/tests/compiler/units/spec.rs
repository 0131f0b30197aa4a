//! What the front end reads, and what it says of files that are wrong or damaged.

use cotangent_build::DType;
use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::source::Sources;
use cotangent_build::spec::{Adjoint, Spec, TensorDecl, parse};
use cotangent_build::syntax;

const CONV: &str = "\
op: conv
doc: >-
  Cross-correlation
  with stride.
params: {stride: S, lo: S, eps: real}
inputs:
  x: [N, S, Cx]
  k: [T, Cx, Cy]
outputs:
  y: [N, O, Cy]
sizes:
  O: (S + lo - T) / stride + 1
domain: {x: (0, inf), k: [-1, 1]}
forward:
  - y[n,o,cy] = sum(t,cx) x[n, o*stride + t - lo, cx] * k[t,cx,cy]
adjoint:
  - x_bar[n,s,cx] += y_bar[n,s,cy]   # a comment
instances:
  - {name: conv3x3, N: 1, S: [28, 28], T: [3, 3], Cx: 1, Cy: 8, stride: 2, lo: 1, eps: 1e-5, layout: {x: [N, Cx, S.0, S.1]}}
  - name: empty
    dtype: f64
    S: []
";

/// The spec, and what was reported.
fn read(path: &str, text: &str) -> (Option<Spec>, String, Sources) {
    let mut sources = Sources::default();
    let id = sources.add(path, text.to_owned());
    let mut out = Diagnostics::default();
    let spec = parse(id, &sources, &mut out);
    let text = out.render(&sources);
    (spec, text, sources)
}

fn good(path: &str, text: &str) -> (Spec, Sources) {
    let (spec, errors, sources) = read(path, text);
    assert_eq!(errors, "");
    (spec.expect("a spec"), sources)
}

#[test]
fn reads_every_key_in_order() {
    let (spec, sources) = good("ops/conv.yaml", CONV);
    assert_eq!(spec.op.as_str(), "conv");
    assert_eq!(sources.snippet(spec.span), "op: conv");
    assert_eq!(spec.doc.map(|d| d.value).as_deref(), Some("Cross-correlation with stride."));
    let params: Vec<_> = spec.params.iter().map(|(p, a)| (p.as_str(), a.as_str())).collect();
    assert_eq!(params, [("stride", "S"), ("lo", "S"), ("eps", "real")]);
    assert_eq!(spec.inputs[1].name.as_str(), "k");
    assert_eq!(sources.snippet(spec.inputs[1].axes[2].span), "Cy");
    assert_eq!(spec.sizes[0].1.text, "(S + lo - T) / stride + 1");
    let (name, domain) = &spec.domain[0];
    assert_eq!((name.as_str(), sources.snippet(domain.span)), ("x", "(0, inf)"));
    assert_eq!((domain.lo, domain.lo_closed, domain.hi, domain.hi_closed), (0.0, false, f64::INFINITY, false));
    let domain = spec.domain[1].1.value;
    assert_eq!((domain.lo, domain.lo_closed, domain.hi, domain.hi_closed), (-1.0, true, 1.0, true));
    let Adjoint::Declared(rules) = &spec.adjoint else {
        panic!("declared");
    };
    assert_eq!(rules[0].text, "x_bar[n,s,cx] += y_bar[n,s,cy]");
    let [conv, empty] = spec.instances.as_slice() else {
        panic!("two instances");
    };
    assert!(sources.snippet(conv.span).starts_with("{name: conv3x3"));
    assert!(sources.snippet(conv.span).ends_with("S.1]}}"));
    let (key, size) = &conv.values[1];
    let sizes: Vec<f64> = size.values.iter().map(|n| n.value).collect();
    assert_eq!((key.as_str(), size.list, sizes), ("S", true, vec![28.0, 28.0]));
    assert_eq!(sources.snippet(size.span), "[28, 28]");
    assert_eq!((conv.values[0].1.list, conv.values[7].1.values[0].value), (false, 1e-5));
    let dims: Vec<&str> = conv.layout[0].1.iter().map(|d| d.as_str()).collect();
    assert_eq!(dims, ["N", "Cx", "S.0", "S.1"]);
    assert_eq!((conv.dtype, empty.dtype), (None, Some(DType::F64)));
    assert!(empty.values[0].1.list && empty.values[0].1.values.is_empty());
    assert_eq!(spec.tangent, None);
}

#[test]
fn keys_that_yaml_1_1_would_type_are_names() {
    let text = "op: y\ninputs: {n: [N], y: [No, On], no: [], on: []}\noutputs: {null: [Y], off: []}\nadjoint: derived\nforward: [y]\ninstances: [{name: n, N: 3, Y: 1}]\n";
    let (spec, _) = good("y.yaml", text);
    let names = |list: &[TensorDecl]| -> Vec<String> { list.iter().map(|t| t.name.value.clone()).collect() };
    assert_eq!(names(&spec.inputs), ["n", "y", "no", "on"]);
    assert_eq!(names(&spec.outputs), ["null", "off"]);
    assert_eq!(spec.instances[0].values[1].0.as_str(), "Y");
    assert_eq!(spec.adjoint, Adjoint::Derived);
}

#[test]
fn every_byte_of_a_formula_is_found_in_the_file() {
    let head = "op: f\ninputs: {x: [I]}\noutputs: {y: [I]}\ninstances: []\nforward:\n";
    let step = "y[i] = éx[i] + it's + \"zz\" * x[i]";
    for scalar in [
        "  - y[i] = éx[i] + it's + \"zz\" * x[i] # comment\n",
        "  - y[i] =\n     éx[i]  + it's\n\n     + \"zz\" *\n     x[i]\n",
        "  - 'y[i] = éx[i] + it''s\n     + \"zz\" * x[i]'\n",
        "  - \"y[i] = \\u00e9x[i] \\\n     + it's + \\\"zz\\\"\\t*\n     x[i]\"\n",
        "  - |\n    y[i] = éx[i]\n       + it's + \"zz\"\n     * x[i]\n",
        "  - >-\n\n    y[i] = éx[i]\n    + it's + \"zz\"\n\n    * x[i]\n\n",
        "  - |2-\n      y[i] = éx[i] + it's\r\n      + \"zz\" * x[i]",
        "  - >+\r\n    y[i] = éx[i] +\r\n    it's + \"zz\" * x[i]\r\n",
    ] {
        let (spec, sources) = good("f.yaml", &format!("{head}{scalar}"));
        let f = &spec.forward[0];
        let words = |t: &str| t.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&f.text), step, "{scalar}");
        for (at, c) in f.text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
            let place = sources.snippet(f.span(at, at + c.len_utf8()));
            let read = match place {
                "''" => "'",
                "\\\"" => "\"",
                "\\u00e9" => "é",
                plain => plain,
            };
            assert_eq!(read, c.to_string(), "{scalar}");
        }
        let end = f.text.len();
        let x = f.text.rfind('x').expect("x");
        assert_eq!(sources.snippet(f.span(x, end)), "x[i]", "{scalar}");
        assert!(sources.snippet(f.whole()).starts_with("y[i]"));
        assert!(sources.snippet(f.whole()).ends_with("x[i]"));
        assert_eq!(sources.snippet(f.span(end, end)), "");
        assert_eq!(f.span(end, end).start, f.whole().end);
    }
}

#[test]
fn block_scalars_that_look_quoted_keep_their_quotes() {
    let text =
        "op: f\ndoc: |\n  \"a\"\ninputs: {x: []}\noutputs: {y: []}\nforward:\n  - \"y = 1\"\n  - '3'\ninstances: []\n";
    let (spec, _) = good("f.yaml", text);
    assert_eq!(spec.doc.map(|d| d.value).as_deref(), Some("\"a\"\n"));
    assert_eq!(spec.forward[1].text, "3");
}

#[test]
fn all_errors_come_at_once() {
    let text = "\
op: con
params: {self: s, p: [S]}
input: {x: [N]}
inputs:
  x: N
  w_bar: [N, n]
  Z: []
  sum: [Sum]
  x: [N]
  e:
outputs: {w: [N], x: [2]}
domain: {x: (1, 0), w: nowhere, e: [0], q: \"[0, inf]\"}
forward:
  - a: b
  -
  - [y]
adjoint: y[i] = x[i]
instances:
  - {name: a, N: x, dtype: f61}
  - {name: a, name: b}
  - {N: 1}
  - {name: fn, layout: [N]}
  - {name: q, N: \"3\", M: 1e999, K: .nan}
  - 3
";
    let (spec, errors, _) = read("conv.yaml", text);
    assert_eq!(spec, None);
    for part in [
        "error[E005]: the op `con` is in a file named `conv`",
        "rename the file to `con.yaml`, or write `op: conv`",
        "error[E005]: `self` cannot name a parameter",
        "error[E005]: `s` cannot name an axis",
        "error[E004]: expected an axis, `int` or `real` for the parameter `p`, found a list",
        "error[E002]: a spec has no key `input`",
        "did you mean `inputs`?",
        "error[E004]: expected a list for the axes of `x`, found a text",
        "write `x: [N]`",
        "`_bar` and `_dot` mark cotangents and tangents",
        "error[E005]: `Z` cannot name a tensor",
        "error[E005]: `sum` cannot name a tensor",
        "its index would be `sum`",
        "error[E001]: the key `x` stands twice in `inputs`",
        "write `e: []`",
        "error[E005]: `2` cannot name an axis",
        "error[E028]: the domain of `x` is empty",
        "error[E028]: the domain of `w` is not an interval",
        "error[E028]: the domain of `e` is not an interval",
        "error[E028]: the domain of `q` includes infinity",
        "YAML reads `: ` as a mapping: quote the formula",
        "expected a formula for a step of `forward`, found nothing",
        "expected a formula for a step of `forward`, found a list",
        "expected a list for `adjoint`, found a text",
        "for `N`, found a text",
        "there is no scalar type `f61`",
        "the key `name` stands twice in an instance",
        "error[E006]: two instances are named `a`",
        "error[E003]: an instance has no name",
        "error[E005]: `fn` cannot name an instance",
        "expected a mapping for `layout`, found a list",
        "for `M`, found a text",
        "expected a mapping for an instance, found a number",
    ] {
        assert!(errors.contains(part), "{part} is not in\n{errors}");
    }
}

#[test]
fn missing_keys_and_clashing_names() {
    let (spec, errors, _) = read("a.yaml", "doc: nothing else\n");
    assert_eq!(spec, None);
    for key in ["op", "inputs", "outputs", "forward", "instances"] {
        assert!(errors.contains(&format!("error[E003]: the key `{key}` is missing")));
    }
    let text = "op: a\nparams: {y: I}\ninputs: {x: [Cx]}\noutputs: {y: [CX], x: []}\nsizes: {cX: 1}\nforward: [a]\ninstances: []\n";
    let (_, errors, _) = read("a.yaml", text);
    for part in [
        "error[E006]: `x` is declared twice",
        "error[E006]: `y` is declared twice",
        "an output here",
        "error[E006]: the axes `Cx` and `CX` have one index",
        "error[E005]: `cX` cannot name an axis",
    ] {
        assert!(errors.contains(part), "{part} is not in\n{errors}");
    }
    let text = "op: a\ninputs: {}\noutputs: {y: []}\nforward: []\ninstances: []\n";
    let (spec, errors, _) = read("a.yaml", text);
    assert_eq!((spec, errors.matches("error[E003]").count()), (None, 2));
}

#[test]
fn hostile_yaml_is_reported() {
    let deep = "op: ".to_owned() + &"[".repeat(40) + &"]".repeat(40) + "\n";
    let blocks: String = (0..50).map(|n| " ".repeat(n) + "a:\n").collect();
    for (text, part) in [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("\u{feff}", "the file is empty"),
        ("- a\n- b\n", "expected a mapping for a spec, found a list"),
        ("text", "expected a mapping for a spec, found a text"),
        ("op: a\n\tdoc: b\n", "error[E001]"),
        ("op:\n\t- a\n", "YAML allows no tabs there"),
        ("op: &x a\ndoc: *x\n", "anchors and aliases are not part"),
        ("op: *x\n", "error[E001]"),
        ("op: a\n---\nop: b\n", "one file holds one spec"),
        ("op: !secret a\n", "error[E001]"),
        ("<<: {op: a}\n", "a spec has no key `<<`"),
        ("op: [a, b\ndoc: c\n", "error[E001]: not valid YAML"),
        ("op: a: b\n", "error[E001]: not valid YAML"),
        ("op: \"a\n", "error[E001]: not valid YAML"),
        ("op: a\0b\n", "error[E001]"),
        ("? [a]\n: b\n", "expected a name for a key, found a list"),
        ("? {a: b}\n: b\n", "expected a name for a key, found a mapping"),
        ("forward: [y[i] = x[i]]\n", "formulas stand one on a line"),
        ("domain:\n  x: [0, inf)\nop: a\n", "quote it: `\"[0, inf)\"`"),
        ("domain: {x: (-1, 1]}\n", "quote it: `\"(-1, 1]\"`"),
        (&deep, "nested too deeply"),
        (&blocks, "nested too deeply"),
        (&"[".repeat(200_000), "error[E001]"),
        (&"{a: ".repeat(100_000), "error[E001]"),
        (&"- ".repeat(100_000), "error[E001]"),
        (&"a".repeat(2_000_000), "error[E044]: the file is too large"),
        (&("op: ".to_owned() + &"a".repeat(500_000)), "error[E005]"),
    ] {
        let (spec, errors, _) = read("a.yaml", text);
        let head: String = text.chars().take(60).collect();
        assert_eq!(spec, None, "{head}");
        assert!(errors.contains(part), "{head}: {part} is not in\n{errors:.2000}");
    }
}

#[test]
fn byte_order_mark_and_crlf_are_read() {
    let text = "\u{feff}".to_owned() + &CONV.replace('\n', "\r\n");
    let (spec, sources) = good("conv.yaml", &text);
    assert_eq!(sources.snippet(spec.op.span), "conv");
    assert_eq!(sources.line_column(spec.forward[0].whole()), (15, 5));
    let (_, errors, _) = read("a.yaml", "\u{feff}op: a: b\r\n");
    assert!(errors.contains("a.yaml:1:"), "{errors}");
}

#[test]
fn half_open_domains_outside_braces_need_no_quotes() {
    let text = CONV.replace("{x: (0, inf), k: [-1, 1]}", "\n  x: (-1, 1]\n  k: '[0, inf)'");
    let (spec, _) = good("conv.yaml", &text);
    let ends = |n: usize| (spec.domain[n].1.lo_closed, spec.domain[n].1.hi_closed);
    assert_eq!((ends(0), ends(1)), ((false, true), (true, false)));
}

/// No file, however damaged, makes the front end panic.
#[test]
fn damaged_files_are_survived() {
    let pieces = [
        "\"", "'", "[", "]", "{", "}", ":", ": ", "\n", "\n  ", "- ", "#", " #", "|", ">", "&a", "*a", "!", "\t", "\r",
        "é", "\u{feff}", "\0", "(", ")", ",", "1e999", "\\", "%", "@", "---\n", "? ", "~", "<<", "\u{2028}", "\u{85}",
    ];
    let mut state = 1_u64;
    let mut roll = |sides: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % sides
    };
    for _ in 0..3000 {
        let mut text = CONV.to_owned();
        for _ in 0..=roll(4) {
            let at = text.floor_char_boundary(roll(text.len() + 1));
            let end = text.ceil_char_boundary((at + roll(6)).min(text.len()));
            text.replace_range(at..end, pieces[roll(pieces.len())]);
        }
        let mut sources = Sources::default();
        let id = sources.add("conv.yaml", text);
        let mut out = Diagnostics::default();
        let spec = parse(id, &sources, &mut out);
        assert!(spec.is_some() || out.has_errors());
        for f in spec.iter().flat_map(|spec| &spec.forward) {
            syntax::step(f, &mut out);
        }
        let _ = out.render(&sources);
    }
}
