//! Files and spans: takes texts with wide characters and spans out of bounds, gives a panic where a place is wrong.

use cotangent_build::source::{SourceId, Sources, Span};

fn span(start: u32, end: u32) -> Span {
    Span { source: SourceId(0), start, end }
}

#[test]
fn lines_and_columns_count_characters_from_one() {
    let mut sources = Sources::default();
    let id = sources.add("a.yaml", "é: 1\nb: ü\n".to_owned());
    assert_eq!(sources.path(id), "a.yaml");
    assert_eq!(sources.line_column(span(0, 2)), (1, 1));
    assert_eq!(sources.line_column(span(2, 3)), (1, 2));
    assert_eq!(sources.line_column(span(9, 11)), (2, 4));
    assert_eq!(sources.snippet(span(9, 11)), "ü");
    assert_eq!(sources.line(span(12, 12)), 3);
    assert_eq!(sources.place(id, 2, 4), span(9, 11));
    assert_eq!(span(1, 2).to(span(7, 9)), span(1, 9));
}

#[test]
fn shipped_ops_are_in_every_build() {
    let id = SourceId::shipped("conv").expect("it ships");
    let sources = Sources::default();
    assert_eq!(sources.path(id), "<cotangent>/ops/conv.yaml");
    assert!(sources.text(id).starts_with("op: conv\n") && id.is_shipped());
    assert_eq!(SourceId::shipped("convolution"), None);
}

#[test]
fn spans_out_of_the_text_are_clamped() {
    let mut sources = Sources::default();
    let id = sources.add("a", "é".to_owned());
    assert_eq!(sources.snippet(span(1, 900)), "é");
    assert_eq!(sources.snippet(span(800, 900)), "");
    assert_eq!(sources.line_column(span(800, 900)), (1, 2));
    assert_eq!(sources.place(id, 77, 77), span(2, 2));
}
