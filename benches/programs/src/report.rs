//! The table: takes measured rows, gives their lines in Markdown, the means, the rows where a peer is faster, and the
//! CSV.

use cotangent::{FunctionInfo, KernelInfo, Kind};
use cotangent_measure::{Core, Time, fastest, machine};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A peer counts as faster beyond this ratio: what is below is noise.
const NOISE: f64 = 1.03;
/// Cycles are shown up to so many.
const SMALL: f64 = 100_000.0;

/// A function measured.
pub struct Row {
    /// Whose it is.
    pub kernel: &'static KernelInfo,
    /// The function.
    pub info: &'static FunctionInfo,
    /// Ours.
    pub ours: Time,
    /// `forward` of the same kernel, in the same rounds.
    pub forward: Option<Time>,
    /// Floating-point operations of the products.
    pub products: Option<f64>,
    /// The core in these rounds.
    pub core: Core,
    /// The others that computed the same.
    pub peers: Vec<(&'static str, Time)>,
}

/// `program::instance/function`
pub fn name(kernel: &KernelInfo, info: &FunctionInfo) -> String {
    format!("{}::{}/{}", kernel.op, kernel.name, info.name)
}

impl Row {
    /// `program::instance/function`
    pub fn name(&self) -> String {
        name(self.kernel, self.info)
    }
    /// Our time over that of `forward`.
    pub fn over_forward(&self) -> Option<f64> {
        (self.info.kind != Kind::Forward).then_some(self.ours.min / self.forward?.min)
    }
    /// Our time over that of a peer or a variant.
    pub fn over(&self, name: &str) -> Option<f64> {
        let (_, time) = self.peers.iter().find(|(peer, _)| *peer == name)?;
        Some(self.ours.min / time.min)
    }
    /// GFLOP/s in products.
    pub fn gflops(&self) -> Option<f64> {
        Some(self.products? / self.ours.min)
    }
    /// Percent of the core's fused multiply-adds.
    pub fn percent(&self) -> Option<f64> {
        Some(100.0 * self.gflops()? / self.core.peak)
    }
    /// Core cycles of a call.
    pub fn cycles(&self) -> Option<f64> {
        Some(self.ours.min * self.core.gigahertz?)
    }
}

/// A time as a person reads it.
fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        t if t < 999.5 => (t, "ns"),
        t if t < 999_500.0 => (t / 1e3, "µs"),
        t => (t / 1e6, "ms"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

fn optional(x: Option<f64>, digits: usize) -> String {
    x.map_or(String::new(), |x| format!("{x:.digits$}"))
}

/// The core, and the head of the table.
pub fn print_head() {
    let flops = |double| {
        let rates = machine::widths().into_iter().map(|width| {
            machine::multiply_add_flops(width, double) / fastest(|| machine::multiply_add(width, double)) / 1e9
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
    println!("kernels run as: {}", cotangent::isa::name());
    println!(
        "core: {} GHz, fused multiply-adds {:.1} GFLOP/s f32, {:.1} f64",
        optional(machine::count_cycles().then(clock), 2),
        flops(false),
        flops(true)
    );
    println!(
        "times are the lowest and the median of one call; products alone count as operations; below 1 we are faster than the peer\n"
    );
    print_line(
        ["program", "function", "time", "median", "cycles", "× forward", "GFLOP/s", "of FMA", "ours / peer"]
            .map(Into::into),
    );
    print_line(["---", "---", "--:", "--:", "--:", "--:", "--:", "--:", "---"].map(Into::into));
}

fn print_line(cells: [String; 9]) {
    let [program, function, cells @ .., peers] = cells;
    print!("| {program:<23} | {function:<20} |");
    for cell in cells {
        print!(" {cell:>9} |");
    }
    println!(" {peers} |");
}

/// A row's line.
pub fn print_row(row: &Row) {
    // Two digits that count.
    let ratio = |x: f64| if x < 0.095 { format!("{x:.3}") } else { format!("{x:.2}") };
    let peers: Vec<String> =
        row.peers.iter().map(|(name, time)| format!("{} {name}", ratio(row.ours.min / time.min))).collect();
    print_line([
        format!("{}::{}", row.kernel.op, row.kernel.name),
        format!("`{}`", row.info.name),
        time(row.ours.min),
        time(row.ours.median),
        optional(row.cycles().filter(|cycles| *cycles < SMALL), 0),
        optional(row.over_forward(), 2),
        optional(row.gflops(), 1),
        row.percent().map_or(String::new(), |percent| format!("{percent:.0}%")),
        peers.join(", "),
    ]);
}

/// The geometric mean.
fn mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|x| x.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

/// The means and the rows where a peer is faster.
pub fn print_end(rows: &[Row]) {
    println!("\ntime over that of forward: geometric mean, worst");
    let mut functions: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.over_forward().is_some()) {
        if !functions.contains(&row.info.name) {
            functions.push(row.info.name);
        }
    }
    let line = |name: &str, kept: &dyn Fn(&Row) -> bool| {
        let of = rows.iter().filter(|row| kept(row)).filter_map(|row| Some((row.over_forward()?, row.name())));
        let of: Vec<(f64, String)> = of.collect();
        if let Some((worst, row)) = of.iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
            let ratios: Vec<f64> = of.iter().map(|(ratio, _)| *ratio).collect();
            println!("  {name:<22} {:>6.2} {worst:>7.2} {row} ({} rows)", mean(&ratios), ratios.len());
        }
    };
    for function in functions {
        line(function, &|row| row.info.name == function);
    }
    // What the theory bounds by about 4: one direction, forward or back.
    line("all but second and full", &|row| matches!(row.info.kind, Kind::Jvp | Kind::Vjp | Kind::ValueAndGrad));

    println!("\nours / peer: geometric mean");
    let mut by_peer: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for row in rows {
        for (peer, time) in &row.peers {
            by_peer.entry((peer, row.info.name)).or_default().push(row.ours.min / time.min);
        }
    }
    for ((peer, function), ratios) in &by_peer {
        println!("  {peer:<20} {function:<20} {:>6.2} ({} rows)", mean(ratios), ratios.len());
    }
    let faster: Vec<(&Row, &str, f64)> = rows
        .iter()
        .flat_map(|row| row.peers.iter().map(move |(peer, time)| (row, *peer, row.ours.min / time.min)))
        .filter(|(_, _, ratio)| *ratio > NOISE)
        .collect();
    println!("\nrows where a peer is faster: {}", faster.len());
    for (row, peer, ratio) in faster {
        println!("  {:<40} {ratio:>6.2} of {peer}", row.name());
    }
}

/// All rows as data: one line for each contestant of each row, ours first.
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from(
        "program,instance,function,scalar,contestant,min_ns,median_ns,cycles,over_forward,gflops,peak_percent,ours_over_this\n",
    );
    for row in rows {
        for (name, time) in [("cotangent", row.ours)].iter().chain(&row.peers) {
            let gflops = row.products.map(|products| products / time.min);
            writeln!(
                text,
                "{},{},{},{:?},{name},{:.2},{:.2},{},{},{},{},{:.4}",
                row.kernel.op,
                row.kernel.name,
                row.info.name,
                row.kernel.scalar,
                time.min,
                time.median,
                optional(row.core.gigahertz.map(|ghz| time.min * ghz), 1),
                optional(row.forward.map(|forward| time.min / forward.min), 4),
                optional(gflops, 3),
                optional(gflops.map(|gflops| 100.0 * gflops / row.core.peak), 2),
                row.ours.min / time.min
            )
            .expect("a string grows");
        }
    }
    text
}
