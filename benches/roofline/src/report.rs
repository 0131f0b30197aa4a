//! The table: takes measured rows and the roofs, gives their lines, the means, the rows where a peer is faster, and the
//! CSV.

use crate::harness::{self, Bench, Group, Row};
use crate::machine::{self, Streams};
use cotangent_measure::fastest;
use std::fmt::Write;

/// A peer counts as faster beyond this ratio: what is below is noise.
pub const NOISE: f64 = 1.03;

/// A level of the memory.
#[derive(Clone, Debug)]
pub struct Level {
    /// `L1`, ... or `memory`
    pub name: String,
    /// GB/s of each of [`Streams::ALL`] over a footprint that only it holds.
    pub bandwidth: [f64; 4],
}

/// The limits of the core.
#[derive(Clone, Debug)]
pub struct Roofs {
    /// GFLOP/s in `f32`.
    pub single: f64,
    /// GFLOP/s in `f64`.
    pub double: f64,
    /// Core clock, where it can be measured.
    pub gigahertz: Option<f64>,
    /// The caches, then the memory.
    pub levels: Vec<Level>,
}

impl Roofs {
    /// Measures all of them, in about a second.
    pub fn measure() -> Roofs {
        let flops = |double| {
            let rates = machine::widths().into_iter().map(|width| {
                let seconds = fastest(|| machine::multiply_add(width, double));
                machine::multiply_add_flops(width, double) / seconds / 1e9
            });
            rates.fold(0.0, f64::max)
        };
        let clock = || {
            machine::CYCLES
                / fastest(|| {
                    machine::count_cycles();
                })
                / 1e9
        };
        let caches = cache_sizes();
        let last = caches[caches.len() - 1];
        let mut levels = Vec::new();
        for (n, size) in caches.iter().enumerate() {
            // A footprint of half the cache; of a shared one no more than a core's fair part.
            let footprint = if n == 2 { size / 8 } else { size / 2 };
            levels.push(level(format!("L{}", n + 1), footprint));
        }
        levels.push(level("memory".into(), 4 * last));
        Roofs { single: flops(false), double: flops(true), gigahertz: machine::count_cycles().then(clock), levels }
    }

    /// GB/s that loads from the first-level cache reach.
    pub fn loads(&self) -> f64 {
        let of_load = |(streams, rate): (&Streams, f64)| matches!(streams, Streams::Load).then_some(rate);
        Streams::ALL.iter().zip(self.levels[0].bandwidth).find_map(of_load).expect("one of the kinds")
    }

    /// The better of two measurements, figure by figure.
    pub fn best(mut self, other: Roofs) -> Roofs {
        self.single = self.single.max(other.single);
        self.double = self.double.max(other.double);
        self.gigahertz = self.gigahertz.into_iter().chain(other.gigahertz).reduce(f64::max);
        for (level, other) in self.levels.iter_mut().zip(other.levels) {
            for (rate, other) in level.bandwidth.iter_mut().zip(other.bandwidth) {
                *rate = rate.max(other);
            }
        }
        self
    }
}

fn level(name: String, footprint: usize) -> Level {
    Level { name, bandwidth: Streams::ALL.map(|streams| harness::bandwidth(streams, footprint)) }
}

/// Bytes of the data caches, level by level; where the system does not say, those of a common core.
fn cache_sizes() -> Vec<usize> {
    let mut sizes = vec![32 << 10, 512 << 10, 16 << 20];
    for index in 0..8 {
        let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        let read = |name| std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
        let level = read("level").trim().parse::<usize>().ok().filter(|level| (1..=3).contains(level));
        let size = read("size").trim().strip_suffix('K').and_then(|size| size.parse::<usize>().ok());
        if let (Some(level), Some(size), true) = (level, size, read("type").trim() != "Instruction") {
            sizes[level - 1] = size << 10;
        }
    }
    sizes
}

/// The level that holds the data of a row.
fn level_of(bytes: f64) -> String {
    let caches = cache_sizes();
    caches.iter().position(|size| bytes <= *size as f64).map_or("memory".into(), |n| format!("L{}", n + 1))
}

fn optional(x: Option<f64>, digits: usize) -> String {
    x.map_or(String::new(), |x| format!("{x:.digits$}"))
}

/// The machine's limits and the head of the table.
pub fn print_head(roofs: &Roofs) {
    println!("kernels run as: {}", cotangent::isa::name());
    print_roofs(roofs);
    println!();
    println!(
        "{:<44} {:>11} {:>11} {:>13} {:>14} {:>6}  ours/peer: below 1 we are faster",
        "op/shape/mode", "min ns", "median ns", "rate", "of limit", "c/elem"
    );
}

fn print_roofs(roofs: &Roofs) {
    println!(
        "core: {} GHz, fused multiply-adds {:.1} GFLOP/s f32, {:.1} f64",
        roofs.gigahertz.map_or("?".into(), |g| format!("{g:.2}")),
        roofs.single,
        roofs.double
    );
    for level in &roofs.levels {
        print!("{:<7}", level.name);
        for (streams, rate) in Streams::ALL.iter().zip(level.bandwidth) {
            print!("  {} {rate:.1}", streams.name());
        }
        println!("  GB/s");
    }
}

/// A row's line.
pub fn print_row(row: &Row) {
    let (rate, limit) = match row.bandwidth_percent() {
        None => (format!("{:.1} GFLOP/s", row.gflops()), format!("{:.1}% of FMA", row.peak_percent())),
        Some(percent) => {
            (format!("{:.1} GB/s", row.gbytes()), format!("{percent:.1}% of {}", level_of(row.spec.bytes)))
        }
    };
    print!(
        "{:<44} {:>11.1} {:>11.1} {rate:>13} {limit:>14} {:>6} ",
        row.spec.id(),
        row.ours.min,
        row.ours.median,
        optional(row.cycles_per_element(), 2)
    );
    for (name, time) in &row.peers {
        print!(" {name} {:.2}", row.ours.min / time.min);
    }
    println!();
}

/// The geometric mean.
pub fn mean(ratios: &[f64]) -> Option<f64> {
    let sum: f64 = ratios.iter().map(|x| x.ln()).sum();
    (!ratios.is_empty()).then(|| (sum / ratios.len() as f64).exp())
}

/// Our time over the best peer's, of each row of these groups.
pub fn best_ratios(rows: &[Row], groups: &[Group]) -> Vec<f64> {
    let rows = rows.iter().filter(|row| groups.contains(&row.spec.group));
    rows.filter_map(|row| row.best_peer().map(|(_, ratio)| ratio)).collect()
}

/// The means and the rows where a peer is faster.
pub fn print_end(bench: &Bench, roofs: &Roofs) {
    println!("\nthe roofs, best of before and after");
    print_roofs(roofs);
    println!("\ngeometric mean of ours / best peer");
    for group in Group::ALL {
        let ratios = best_ratios(&bench.rows, &[group]);
        if let Some(mean) = mean(&ratios) {
            println!("  {:<22} {mean:>6.2}  ({} rows)", group.name(), ratios.len());
        }
    }
    let faster = |row: &&Row| row.best_peer().is_some_and(|(_, ratio)| ratio > NOISE);
    let lost: Vec<&Row> = bench.rows.iter().filter(faster).collect();
    println!("\nrows where a peer is faster: {} of {}", lost.len(), bench.rows.len());
    for row in lost {
        let (name, ratio) = row.best_peer().expect("it is faster");
        println!("  {:<44} {ratio:>6.2} of {name}", row.spec.id());
    }
}

/// All rows as data: one line for each contestant of each row, ours first.
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from(
        "op,shape,mode,group,contestant,min_ns,median_ns,gflops,gbytes_per_s,peak_percent,bandwidth_percent,level,\
         cycles_per_element,ours_over_this\n",
    );
    for row in rows {
        let spec = &row.spec;
        for (name, time) in [("cotangent", row.ours)].iter().chain(&row.peers) {
            let gflops = spec.flops / time.min;
            let gbytes = spec.bytes / time.min;
            let cycles = row.gigahertz.zip(spec.elements).map(|(ghz, elements)| time.min * ghz / elements);
            writeln!(
                text,
                "{},{},{},{:?},{name},{:.2},{:.2},{gflops:.3},{gbytes:.3},{:.2},{},{},{},{:.4}",
                spec.op,
                spec.shape,
                spec.mode,
                spec.group,
                time.min,
                time.median,
                100.0 * gflops / row.peak,
                optional(row.bandwidth.map(|b| 100.0 * gbytes / b), 2),
                level_of(spec.bytes),
                optional(cycles, 3),
                row.ours.min / time.min
            )
            .expect("a string grows");
        }
    }
    text
}
