//! The instruction sets: takes every operation of `Isa` at every width that fills a register and some that do not, and
//! compares it with loops over scalars; bit by bit, NaN and the signs of zeros included where the operation fixes them.
//!
//! The test binary runs itself again under each instruction set of the machine. Under Miri, which starts no processes,
//! only the portable set and the one that `dispatch1` chooses there are checked.

use cotangent::isa::{self, Aligned, Body1, Isa, Portable};
use cotangent::lanes::Lanes;
use cotangent::real::Real;
use std::array::from_fn;
use std::fmt::Debug;

/// What the comparisons need of a scalar.
trait Scalar: Real + Debug {
    fn of(x: f64) -> Self;
    fn bits(self) -> u64;
    fn fused(self, b: Self, c: Self) -> Self;
    fn root(self) -> Self;
    /// A NaN that no operation makes: moving must keep its bits.
    const MARKED: Self;
    /// The least positive number.
    const TINY: Self;
}

macro_rules! scalar {
    ($($T:ident)*) => {$(
        impl Scalar for $T {
            fn of(x: f64) -> Self {
                x as $T
            }
            fn bits(self) -> u64 {
                self.to_bits().into()
            }
            fn fused(self, b: Self, c: Self) -> Self {
                $T::mul_add(self, b, c)
            }
            fn root(self) -> Self {
                $T::sqrt(self)
            }
            const MARKED: Self = $T::from_bits($T::NAN.to_bits() | 0x5a5);
            const TINY: Self = $T::from_bits(1);
        }
    )*};
}
scalar! { f32 f64 }

fn nan<T: Scalar>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}

/// Bit by bit, but any NaN for a NaN.
#[track_caller]
fn same<T: Scalar>(got: T, want: T) {
    assert!(got.bits() == want.bits() || (nan(got) && nan(want)), "{got:?}, not {want:?}");
}

#[track_caller]
fn all_same<T: Scalar, const N: usize>(got: Lanes<T, N>, want: impl Fn(usize) -> T) {
    for (l, got) in got.to_array().into_iter().enumerate() {
        same(got, want(l));
    }
}

/// Values that operations treat differently, and enough ordinary ones that every pair of neighbours occurs.
fn values<T: Scalar>() -> Vec<T> {
    let special = [0.0, -0.0, f64::INFINITY, -f64::INFINITY, f64::NAN, 1.0, -1.0, 0.1, -3.7, 1e30, -1e30, 1e-30, 7.0];
    let mut out: Vec<T> = special.map(T::of).to_vec();
    out.extend([T::TINY, -T::TINY, T::MARKED, -T::MARKED]);
    let mut x = 0.37;
    for _ in 0..48 {
        x = 3.99 * x * (1.0 - x);
        out.push(T::of((x - 0.5) * 1e3));
    }
    out
}

/// Every operation on lanes of one kind.
#[inline(always)]
fn check<S: Isa, T: Scalar, const N: usize>() {
    let values = values::<T>();
    let count = values.len();
    let pick = |from: usize, step: usize| -> [T; N] { from_fn(|l| values[(from + l * step) % count]) };
    let lanes = |x: &[T; N]| S::load(x);
    let fused = |a: T, b: T, c: T| if S::FUSED { a.fused(b, c) } else { a * b + c };
    for start in 0..count {
        let (a, b, c) = (pick(start, 1), pick(2 * start + 1, 3), pick(5 * start + 2, 7));
        // Moves keep all bits.
        let mut to = [T::ZERO; N];
        S::store(lanes(&a), &mut to);
        for (to, a) in to.iter().zip(&a) {
            assert_eq!(to.bits(), a.bits());
        }
        for x in S::splat::<T, N>(a[0]).to_array() {
            assert_eq!(x.bits(), a[0].bits());
        }
        // Arithmetic.
        let (x, y, z) = (lanes(&a), lanes(&b), lanes(&c));
        all_same(S::lanes_add(x, y), |l| a[l] + b[l]);
        all_same(S::lanes_sub(x, y), |l| a[l] - b[l]);
        all_same(S::lanes_mul(x, y), |l| a[l] * b[l]);
        all_same(S::lanes_mul_add(x, y, z), |l| fused(a[l], b[l], c[l]));
        same(S::mul_add(a[0], b[0], c[0]), fused(a[0], b[0], c[0]));
        same(S::sqrt(a[0]), a[0].root());
        // The extremes: of two zeros either one.
        let (greatest, least) = (S::lanes_max(x, y).to_array(), S::lanes_min(x, y).to_array());
        for l in 0..N {
            if nan(a[l]) || nan(b[l]) {
                assert!(nan(greatest[l]) && nan(least[l]), "{:?} {:?}: {:?} {:?}", a[l], b[l], greatest[l], least[l]);
            } else if a[l] == b[l] {
                assert!(greatest[l] == a[l] && least[l] == a[l]);
                assert!([a[l].bits(), b[l].bits()].contains(&greatest[l].bits()));
                assert!([a[l].bits(), b[l].bits()].contains(&least[l].bits()));
            } else {
                same(greatest[l], if a[l] > b[l] { a[l] } else { b[l] });
                same(least[l], if a[l] > b[l] { b[l] } else { a[l] });
            }
        }
        // The order of a sum is fixed: halves onto each other.
        let mut folded = a.to_vec();
        while folded.len() > 1 {
            let upper = folded.split_off(folded.len() / 2);
            for (x, y) in folded.iter_mut().zip(upper) {
                *x += y;
            }
        }
        same(S::sum(x), folded[0]);
    }
    // A transpose only moves.
    let rows: [[T; N]; N] = from_fn(|i| pick(3 * i + 1, 1));
    let columns = S::transpose(rows.each_ref());
    for (i, row) in rows.iter().enumerate() {
        for (j, x) in row.iter().enumerate() {
            assert_eq!(columns[j][i].bits(), x.bits(), "row {i}, column {j}");
        }
    }
    slices::<S, T, N>(&values);
}

/// Reads and writes within a slice, at offsets that are multiples of nothing.
#[inline(always)]
fn slices<S: Isa, T: Scalar, const N: usize>(values: &[T]) {
    let blank = T::of(-77.0);
    for at in [0, 1, 3, 7] {
        let x = S::read::<T, N>(values, at);
        for l in 0..N {
            assert_eq!(x[l].bits(), values[at + l].bits());
        }
        let mut to = vec![blank; values.len()];
        S::write(x, &mut to, at);
        for (i, &to) in to.iter().enumerate() {
            let want = if (at..at + N).contains(&i) { values[i] } else { blank };
            assert_eq!(to.bits(), want.bits());
        }
        S::add_to(x, &mut to, at);
        for (i, &to) in to.iter().enumerate() {
            same(to, if (at..at + N).contains(&i) { values[i] + values[i] } else { blank });
        }
        for end in 0..=N {
            let part = S::read_part::<T, N>(&values[..at + end], at, end);
            for l in 0..N {
                assert_eq!(part[l].bits(), if l < end { values[at + l].bits() } else { T::ZERO.bits() });
            }
            for start in 0..=end {
                let inside = |i: usize| (at + start..at + end).contains(&i);
                let mut to = vec![blank; at + end];
                S::write_part(x, &mut to, at, start, end);
                for (i, &to) in to.iter().enumerate() {
                    assert_eq!(to.bits(), if inside(i) { values[i].bits() } else { blank.bits() });
                }
                let mut to = vec![blank; at + end];
                S::add_part(x, &mut to, at, start, end);
                for (i, &to) in to.iter().enumerate() {
                    same(to, if inside(i) { blank + values[i] } else { blank });
                }
            }
        }
    }
    assert_eq!(isa::row::<T, N>(values, 2).map(T::bits), from_fn(|l| values[2 + l].bits()));
    assert_eq!(std::ptr::from_ref(&Aligned([T::ZERO; N])).addr() % 64, 0);
}

/// Two blocks below each other: a transpose only moves, with nothing written beside.
#[inline(always)]
fn blocks<S: Isa, T: Scalar, const N: usize, const M: usize>() {
    let rows: [[T; N]; M] = from_fn(|i| from_fn(|j| T::of((N * i + j) as f64)));
    let block = |first: usize| -> [&[T; N]; N] { from_fn(|i| &rows[first + i]) };
    let mut to = [[T::of(-1.0); 40]; 10];
    S::transpose_both_to::<T, N, M, 40>(block(0), block(N), &mut to, 1, 3);
    for (j, row) in to.iter().enumerate() {
        for (i, x) in row.iter().enumerate() {
            let inside = (1..=N).contains(&j) && (3..3 + M).contains(&i);
            let want = if inside { rows[i - 3][j - 1] } else { T::of(-1.0) };
            assert_eq!(x.bits(), want.bits(), "row {i}, column {j}");
        }
    }
}

/// Every width that fills a register of some machine, and the neighbours that go lane by lane.
struct Operations;

impl Body1<()> for Operations {
    #[inline(always)]
    fn run<S: Isa>(_: S, (): ()) {
        check::<S, f32, 1>();
        check::<S, f32, 2>();
        check::<S, f32, 4>();
        check::<S, f32, 8>();
        check::<S, f32, 16>();
        check::<S, f64, 1>();
        check::<S, f64, 2>();
        check::<S, f64, 4>();
        check::<S, f64, 8>();
        check::<S, f64, 16>();
        blocks::<S, f32, 4, 8>();
        blocks::<S, f32, 8, 16>();
        blocks::<S, f64, 2, 4>();
        blocks::<S, f64, 4, 8>();
    }
}

#[test]
fn portable_operations() {
    Operations::run(Portable, ());
    assert_eq!(Portable::NAME, "portable");
}

/// What the test binary run again is told to expect.
const EXPECTED: &str = "COTANGENT_TEST_EXPECTED_ISA";

#[test]
fn dispatched_operations() {
    struct Named;
    impl Body1<&str> for Named {
        #[inline(always)]
        fn run<S: Isa>(_: S, name: &str) {
            assert_eq!(S::NAME, name);
        }
    }
    isa::dispatch1::<Named, _>(isa::name());
    isa::dispatch1::<Operations, _>(());
    assert!(isa::names().contains(&isa::name()));
    if let Ok(expected) = std::env::var(EXPECTED) {
        assert_eq!(isa::name(), expected);
    }
}

#[test]
#[cfg_attr(miri, ignore = "starts processes")]
fn every_instruction_set_of_the_machine() {
    let this = std::env::current_exe().expect("the path of the test binary");
    for name in isa::names() {
        let run = std::process::Command::new(&this)
            .args(["--exact", "dispatched_operations"])
            .env("COTANGENT_ISA", name)
            .env(EXPECTED, name)
            .output()
            .expect("the test binary runs");
        let out = String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success() && out.contains("1 passed"),
            "{name}: {out}{}",
            String::from_utf8_lossy(&run.stderr)
        );
    }
}
