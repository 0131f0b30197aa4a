//! The cost model against measurement: takes kernels that are the same but for their schedule, gives for each shape and
//! function the time of the chosen schedule over that of the best of its candidates. After it, the shapes at which
//! another candidate is more than 5% faster are known.
//!
//!     cargo bench -p cotangent-candidates --bench candidates
//!
//! All candidates of a function take turns in each of the rounds; the lowest time counts.

use cotangent::Tensor;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

#[allow(missing_docs)]
mod kernels {
    cotangent::include_kernels!();
}

/// Rounds of all candidates, and the time that one sample should take.
const ROUNDS: usize = 24;
const SAMPLE: f64 = 60e-6;

#[repr(C, align(64))]
struct Aligned<T>(T);

/// Numbers between -1 and 1.
fn filled<T: Tensor>() -> Box<Aligned<T>>
where
    T::Scalar: From<i8> + std::ops::Div<Output = T::Scalar>,
{
    let mut all: Vec<Aligned<T>> = vec![Aligned(T::ZERO)];
    for (n, x) in all[0].0.flat_mut().iter_mut().enumerate() {
        *x = T::Scalar::from(((n * 7 + 3) % 21) as i8 - 10) / T::Scalar::from(10);
    }
    let Ok(one) = <Box<[Aligned<T>; 1]>>::try_from(all.into_boxed_slice()) else { unreachable!("there is one") };
    let [one] = *one;
    Box::new(one)
}

/// One schedule of one function.
struct Candidate {
    number: usize,
    run: Box<dyn FnMut()>,
    calls: usize,
    best: f64,
}

impl Candidate {
    fn sample(&mut self) -> f64 {
        let begin = Instant::now();
        for _ in 0..self.calls {
            (self.run)();
        }
        begin.elapsed().as_secs_f64() / self.calls as f64
    }
}

macro_rules! candidates {
    ($({
        $($segment:tt)::+, $op:ident, $kernel:ident, $scalar:ident;
        $(fn $function:ident($($read:ident: $read_type:ident,)* => $($write:ident: $write_type:ident,)*);)*
    })*) => {
        fn add(all: &mut BTreeMap<String, Vec<Candidate>>, wanted: &str) {
            $({
                use kernels::$op::$kernel as kernel;
                let (shape, number) = stringify!($kernel).rsplit_once("_c").expect("names are numbered");
                let number = number.parse().expect("a number");
                $({
                    let name = format!("{}/{shape}/{}", stringify!($op), stringify!($function));
                    // Storing and whole adjoints run the same tiles.
                    let same = stringify!($function).ends_with("_store") || stringify!($function) == "vjp";
                    if !same && name.contains(wanted) {
                        $(let $read = filled::<kernel::$read_type>();)*
                        $(let mut $write = filled::<kernel::$write_type>();)*
                        let run = move || kernel::$function($(black_box(&$read.0),)* $(black_box(&mut $write.0),)*);
                        let candidate = Candidate { number, run: Box::new(run), calls: 1, best: f64::INFINITY };
                        all.entry(name).or_default().push(candidate);
                    }
                })*
            })*
        }
    };
}
kernels::for_each_kernel!(candidates);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    let wanted = match words.as_slice() {
        [] => String::new(),
        [word] => word.clone(),
        _ => {
            eprintln!("usage: candidates [PART OF A NAME]");
            std::process::exit(2);
        }
    };
    let mut all = BTreeMap::new();
    add(&mut all, &wanted);
    println!("kernels run as: {}", cotangent::isa::name());
    println!(
        "{:<60} {:>12}  each candidate's time over the best one's, the chosen one first",
        "op/shape/function", "best ns"
    );
    let mut behind = Vec::new();
    for (name, candidates) in &mut all {
        for c in candidates.iter_mut() {
            let once = c.sample().min(c.sample());
            c.calls = (SAMPLE / once).ceil().max(1.0) as usize;
        }
        for _ in 0..ROUNDS {
            for c in candidates.iter_mut() {
                c.best = c.best.min(c.sample());
            }
        }
        candidates.sort_by_key(|c| c.number);
        let best = candidates.iter().map(|c| c.best).fold(f64::INFINITY, f64::min);
        let ratios: Vec<_> = candidates.iter().map(|c| format!("{:.2}", c.best / best)).collect();
        println!("{name:<60} {:>12.1}  {}", best * 1e9, ratios.join("  "));
        let ratio = candidates[0].best / best;
        if ratio > 1.05 {
            behind.push(format!("  {name:<60} {ratio:.2}"));
        }
    }
    println!("\n{} of {} functions have a candidate that is more than 5% faster", behind.len(), all.len());
    behind.iter().for_each(|b| println!("{b}"));
}
