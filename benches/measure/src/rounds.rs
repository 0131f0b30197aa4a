//! Rounds: takes contestants, gives the time of one call of each.
//!
//! Shared machines slow down in phases. So all contestants take turns, round after round, and the limits of the core
//! (fused multiply-adds, the clock, streams) are contestants too: a percentage is a lowest time against the best that
//! the limit reached in the same rounds. A phase that lasts longer slows both; in one that is shorter both find a quiet
//! round. Not every phase slows both, though: on a shared core a loop that reads two operands a cycle was seen to lose
//! an eighth for 200 ms and more, while chains of multiply-adds in registers lost nothing. So the rounds of a full run
//! go on for seconds.

use crate::machine::{self, Width};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long a sample lasts at least.
const SAMPLE: Duration = Duration::from_micros(40);
/// A contestant this many times slower than the best of its row is hopeless.
const HOPELESS: f64 = 3.0;
/// Rounds in which everybody is timed.
const FIRST_ROUNDS: usize = 2;

/// The lowest and the median time of one call, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Lowest.
    pub min: f64,
    /// Median.
    pub median: f64,
}

/// Computes the output so many times, and says how long that took.
type Run<'a, O> = dyn Fn(&mut O, u64) -> Duration + 'a;

/// One way to compute a row. The first of a row is the generated kernel.
pub struct Contestant<'a, O> {
    /// What the output calls it.
    pub name: &'static str,
    run: Box<Run<'a, O>>,
}

impl<'a, O: 'a> Contestant<'a, O> {
    /// From one call. It must hide its arguments from the optimiser (`black_box`), its output is hidden already.
    pub fn new(name: &'static str, f: impl Fn(&mut O) + 'a) -> Self {
        // The loop is compiled with the call in it, so that a small kernel pays no indirect call.
        Contestant::timed(name, move |out: &mut O, calls: u64| {
            let start = Instant::now();
            for _ in 0..calls {
                f(black_box(&mut *out));
            }
            start.elapsed()
        })
    }

    /// From a function that makes so many calls, and says how long they took.
    pub fn timed(name: &'static str, run: impl Fn(&mut O, u64) -> Duration + 'a) -> Self {
        Contestant { name, run: Box::new(run) }
    }

    /// The same under another name.
    pub fn named(self, name: &'static str) -> Self {
        Contestant { name, ..self }
    }

    /// The same with something before each call, whose time does not count.
    pub fn after(self, name: &'static str, before: impl Fn() + 'a) -> Self {
        let run = self.run;
        Contestant::timed(name, move |out: &mut O, calls: u64| {
            let one = |_| {
                before();
                run(out, 1)
            };
            (0..calls).map(one).sum()
        })
    }

    /// One call.
    pub fn once(&self, out: &mut O) {
        (self.run)(out, 1);
    }
}

/// The samples of one contestant.
pub struct Samples {
    calls: u64,
    nanoseconds: Vec<f64>,
}

impl Samples {
    /// Finds out how many calls make a sample.
    pub fn calibrate<O>(contestant: &Contestant<O>, out: &mut O) -> Samples {
        let mut calls = 1;
        loop {
            let time = (contestant.run)(out, calls);
            if time >= SAMPLE / 2 {
                let calls = (calls as f64 * SAMPLE.as_secs_f64() / time.as_secs_f64()).ceil().max(1.0);
                return Samples { calls: calls as u64, nanoseconds: Vec::new() };
            }
            calls *= 2;
        }
    }

    /// One more.
    pub fn take<O>(&mut self, contestant: &Contestant<O>, out: &mut O) {
        if self.calls > 1 {
            // Code and branch history of the others go out of the way.
            (contestant.run)(out, self.calls.min(4));
        }
        let time = (contestant.run)(out, self.calls);
        self.nanoseconds.push(time.as_secs_f64() * 1e9 / self.calls as f64);
    }

    /// The lowest time of a call.
    pub fn min(&self) -> f64 {
        self.nanoseconds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn time(&self) -> Time {
        let mut sorted = self.nanoseconds.clone();
        sorted.sort_by(f64::total_cmp);
        Time { min: sorted[0], median: sorted[sorted.len() / 2] }
    }
}

/// How long rounds go on, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// About how long.
    pub budget: Duration,
    /// A hopeless contestant is timed in the first rounds, and in each round whose number this divides.
    pub hopeless: Option<usize>,
    /// How many calls a sample has at least. With more than one there are calls before it that are not timed: what
    /// other contestants drove out of the caches is there again.
    pub calls: u64,
}

/// Lets all contestants take turns: limits, which are never hopeless, and those of each row, of which the first is
/// timed to the end. Gives their times in the same order.
pub fn rounds<O>(
    out: &mut O,
    limits: &[Contestant<O>],
    rows: &[Vec<Contestant<O>>],
    plan: Plan,
) -> (Vec<Time>, Vec<Vec<Time>>) {
    let calibrate = |out: &mut O, row: &[Contestant<O>]| -> Vec<Samples> {
        let mut samples: Vec<_> = row.iter().map(|contestant| Samples::calibrate(contestant, out)).collect();
        samples.iter_mut().for_each(|samples| samples.calls = samples.calls.max(plan.calls));
        samples
    };
    let mut of_limits = calibrate(out, limits);
    let mut of_rows: Vec<Vec<Samples>> = rows.iter().map(|row| calibrate(out, row)).collect();
    let start = Instant::now();
    for round in (0..).take_while(|round: &usize| *round < FIRST_ROUNDS || start.elapsed() <= plan.budget) {
        for (samples, limit) in of_limits.iter_mut().zip(limits) {
            samples.take(limit, out);
        }
        let everybody = round < FIRST_ROUNDS || plan.hopeless.is_some_and(|every| round.is_multiple_of(every));
        for (row_samples, row) in of_rows.iter_mut().zip(rows) {
            let best = row_samples.iter().map(Samples::min).fold(f64::INFINITY, f64::min);
            for (n, (samples, contestant)) in row_samples.iter_mut().zip(row).enumerate() {
                if n == 0 || everybody || samples.min() <= HOPELESS * best {
                    samples.take(contestant, out);
                }
            }
        }
    }
    let times = |samples: &Vec<Samples>| samples.iter().map(Samples::time).collect();
    (times(&of_limits), of_rows.iter().map(times).collect())
}

/// What a core did at best in some rounds.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    /// Fused multiply-adds, in GFLOP/s.
    pub peak: f64,
    /// Those of vectors of 32 bytes, where the core has wider ones; `peak` where it has not.
    pub half: f64,
    /// Its clock, where it can be measured.
    pub gigahertz: Option<f64>,
}

/// The limits of the core: its multiply-adds at each width, then its clock.
pub fn core_contestants<'a, O: 'a>(double: bool) -> Vec<Contestant<'a, O>> {
    let chain = |width| Contestant::new("peak", move |_: &mut O| machine::multiply_add(width, double));
    let clock = machine::count_cycles().then(|| {
        Contestant::new("clock", |_: &mut O| {
            machine::count_cycles();
        })
    });
    machine::widths().into_iter().map(chain).chain(clock).collect()
}

/// The limits from the times of [`core_contestants`].
pub fn core_of(times: &[Time], double: bool) -> Core {
    let widths = machine::widths();
    let peak = |(width, time): (&Width, &Time)| machine::multiply_add_flops(*width, double) / time.min;
    let peaks: Vec<f64> = widths.iter().zip(times).map(peak).collect();
    Core {
        peak: peaks.iter().copied().fold(0.0, f64::max),
        half: peaks[0],
        gigahertz: times.get(widths.len()).map(|time| machine::CYCLES / time.min),
    }
}

/// Seconds of the fastest of many calls.
pub fn fastest(f: impl Fn()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < Duration::from_millis(20) {
        let start = Instant::now();
        // Long enough for the clock's own cost to vanish.
        (0..16).for_each(|_| f());
        best = f64::min(best, start.elapsed().as_secs_f64() / 16.0);
    }
    best
}
