//! The arithmetic of gathered windows: takes every small case, gives a panic where trying all numbers finds another.

use cotangent_build::plain::gather::next_within;

#[test]
fn the_next_number_within_is_found_without_trying_all() {
    for m in 1..24 {
        for (step, size, start) in (0..m).flat_map(|d| (1..=m).flat_map(move |n| (0..m).map(move |s| (d, n, s)))) {
            let tried = (0..m).find(|n| (start + step * n) % m < size);
            assert_eq!(next_within(start, step, m, size), tried, "{start} + {step} * n mod {m} < {size}");
            assert_eq!(next_within(start - m, step - m, m, size), tried);
        }
    }
    let far = next_within(999_999_999, 2, 1_000_000_007, 1);
    assert_eq!(far, Some(4));
}
