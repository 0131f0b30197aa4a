//! Diagnostics: takes some with labels at usual and odd places, gives a panic where the text, the order or a code is not
//! as expected.

use cotangent_build::diagnostic::{Code, Diagnostic, Diagnostics, did_you_mean};
use cotangent_build::source::{SourceId, Sources, Span};

const TEXT: &str = "op: layer_norm
doc: d
inputs:
  x: [B, D]
  g: [D]
outputs:
  y: [B, D]
forward:
  - y[b,d] = g[d] * (x[b,q] - mu[b])
";

fn sources() -> Sources {
    let mut sources = Sources::default();
    sources.add("ops/layer_norm.yaml", TEXT.to_owned());
    sources
}

fn span(of: &str, n: usize) -> Span {
    let start = TEXT.match_indices(of).nth(n).expect("text is there").0 as u32;
    Span { source: SourceId(0), start, end: start + of.len() as u32 }
}

fn unknown_index() -> Diagnostic {
    let at = span("q", 0);
    let message = "index `q` has no axis here";
    Diagnostic::error(Code::UnknownIndex, at, message, "not an index of any axis")
        .label(span("[B, D]", 0), "axes in scope: B, D")
        .help("did you mean `d`?")
}

#[test]
fn renders_in_the_style_of_rustc() {
    let mut all = Diagnostics::default();
    all.push(unknown_index());
    let expected = "\
error[E009]: index `q` has no axis here
 --> ops/layer_norm.yaml:9:26
  |
4 |   x: [B, D]
  |      ------ axes in scope: B, D
...
9 |   - y[b,d] = g[d] * (x[b,q] - mu[b])
  |                          ^ not an index of any axis
  |
help: did you mean `d`?
";
    assert_eq!(all.render(&sources()), expected);
}

#[test]
fn sorts_drops_repeats_and_counts_errors() {
    let mut all = Diagnostics::default();
    assert!(all.is_empty() && !all.has_errors());
    all.push(unknown_index());
    let early = Diagnostic::warning(Code::UnusedInput, span("x", 0), "unread", "").note("a");
    all.extend([early, unknown_index()]);
    assert_eq!((all.errors(), all.iter().count()), (1, 2));
    let text = all.render(&sources());
    assert!(text.starts_with("warning[E031]: unread\n"), "{text}");
    assert!(text.contains("= note: a\n\nerror[E009]"), "{text}");
    assert_eq!(text.matches("error[E009]").count(), 1);
}

#[test]
fn spans_at_odd_places_render() {
    let mut sources = sources();
    let empty = sources.add("ops/none.yaml", String::new());
    let crlf = sources.add("ops/crlf.yaml", "\u{feff}é: x\r\n\tb: y\r\n".to_owned());
    for (source, start, end) in [
        (empty, 0, 0),
        (empty, 5, 9),
        (crlf, 0, 1),
        (crlf, 4, 5),
        (crlf, 8, 9),
        (crlf, 9, 10),
        (crlf, 15, 17),
        (crlf, 17, 17),
        (crlf, 0, 900),
    ] {
        let span = Span { source, start, end };
        let mut all = Diagnostics::default();
        all.push(unknown_index().label(span, "there"));
        all.push(Diagnostic::error(Code::Io, span, "a\u{1b}[31m\tb\nc", "d\ne"));
        let text = all.render(&sources);
        assert!(text.contains("error[E033]") && !text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn every_code_is_numbered_and_explained() {
    for (n, code) in Code::ALL.iter().enumerate() {
        assert_eq!(code.as_str(), format!("E{:03}", n + 1));
        assert_eq!(code.as_str().to_lowercase().parse(), Ok(*code));
        assert!(!code.title().is_empty());
        let text = code.explanation();
        assert!(text.lines().any(|line| line.starts_with("    ")), "{code}");
        assert!(text.matches(":\n").count() >= 2, "{code}: two examples");
    }
    assert_eq!(Code::ALL.len(), 46);
    let message = "E047".parse::<Code>().map_err(|e| e.to_string());
    let expected = "there is no code `E047`; codes run from E001 to E046";
    assert_eq!(message, Err(expected.to_owned()));
}

#[test]
fn suggests_only_what_is_near() {
    let keys = ["op", "inputs", "outputs", "forward"];
    let near = |word| did_you_mean(word, keys);
    assert_eq!(near("forwrad").as_deref(), Some("forward"));
    assert_eq!(near("input").as_deref(), Some("inputs"));
    assert_eq!(near("OUTPUTS").as_deref(), Some("outputs"));
    assert_eq!(near("backward"), None);
    assert_eq!(near(""), None);
    assert_eq!(did_you_mean("op", ["op"]), None);
}
