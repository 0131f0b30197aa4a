//! Texts of the emitter: what makes them harmless where they stand, and the stages that kernels have in common.

use cotangent_build::emit::shared::{END, stage, tile, unmarked};
use cotangent_build::emit::text::{code, doc, escaped, lines, remark};

#[test]
fn nothing_ends_what_it_stands_in() {
    assert_eq!(
        escaped("a\"b\\c\n\r\u{202e}*/ /*/ ???/"),
        r#"a\"b\\c\u{a}\u{d}\u{202e}*\u{2f} /\u{2a}\u{2f} ?\u{3f}\u{3f}/"#
    );
    assert_eq!(escaped("&'a [[f32; 3]; 4] × é"), "&'a [[f32; 3]; 4] × é");
    assert_eq!(remark("a*/*/b ???/ \\"), "a* / * /b ? ? ?/ \\u{5c}");
    assert_eq!(code("a`b\n"), "a\\u{60}b\\u{a}");
    assert_eq!(doc("  ```rust,ignore ~~~~ `x` **y**"), "\\`\\`\\`rust,ignore \\~\\~\\~\\~ `x` **y**");
    assert_eq!(doc("-     code\tx < 0, i<j, <b>"), "- code x < 0, i\\<j, \\<b>");
    // What is escaped already stays so.
    assert_eq!(doc(r"\<b> \\<b> \```"), r"\<b> \\\<b> \`\`\`");
    assert_eq!(lines("a\rb\r\n c\u{2028}d\n\n"), ["a", "b", "c", "d", ""]);
}

#[test]
fn a_stage_stands_once_with_its_tiles() {
    let of = |kernel: &str, name: &str| {
        let tiles = tile(kernel, &["k"], false) + "tile of it\n" + END + &tile(kernel, &["k"], true) + "tile\n" + END;
        tiles + &stage("k", kernel, name) + "body\n" + END + "rest\n"
    };
    let texts = [of("a::n", "forward_0"), of("b::n", "jvp_2")];
    let texts = [texts[0].as_str(), texts[1].as_str()];
    let whole = "tile of it\ntile\nbody\nrest\n";
    let other = "tile\npub(super) use super::super::super::a::n::stages::forward_0 as jvp_2;\nrest\n";
    assert_eq!(unmarked(&texts, true), [whole, other]);
    assert_eq!(unmarked(&texts, false), [whole, whole]);
}
