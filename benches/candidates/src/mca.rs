//! The cost model against a simulation of cores that are not at hand: takes the assembly of the kernels that
//! `candidates` measures, gives for each shape, function and core what the inner loop of the chosen schedule loses
//! against that of the best candidate, as `llvm-mca` has it, beside what the model says. `ci/mca.sh` calls it.
//!
//!     mca ASSEMBLY SET LLVM-MCA CPU=CORE...
//!
//! `SET` names the instruction set whose bodies count. `CPU` is LLVM's name of a core, `CORE` the model's. Of a
//! function the loop with most multiply-adds counts; an iteration costs its cycles for each multiply-add of a lane.
//! Exits with 1 if a chosen schedule loses more than 10%.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// What a chosen schedule may lose on a core.
const MOST: f64 = 1.10;
/// Iterations that are simulated.
const ITERATIONS: usize = 64;

/// LLVM's names of cores on which a scalar that is loaded into every lane is simulated as a load: LLVM 19 counts a
/// shuffle besides, on a unit of the multiply-adds. On a Zen 4 core tiles full of such loads reach the peak of the
/// multiply-adds (`benches/roofline`), which they could not with it; for Zen 3 and Zen 5 it is assumed.
const BROADCASTS_ARE_LOADS: [&str; 3] = ["znver3", "znver4", "znver5"];

/// What the model says of each candidate: `op/shape/function number core ratio`.
const MODEL: &str = include_str!(concat!(env!("OUT_DIR"), "/model.txt"));

/// The inner loop of a candidate.
struct Inner {
    /// `op/shape/function`, and the number of the candidate.
    name: String,
    number: usize,
    lines: Vec<String>,
    /// Multiply-adds of an iteration, by lanes.
    lanes: usize,
}

/// The length and the name that stand at the front of a mangled path.
fn segment(text: &str) -> Option<(&str, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let length: usize = text.get(..digits)?.parse().ok()?;
    let rest = &text[digits..];
    // A name that begins with `_` or a digit stands behind one `_` more.
    let at = usize::from(rest.starts_with('_'));
    Some((rest.get(at..at + length)?, rest.get(at + length..)?))
}

/// The name of a candidate and its number, by the symbol of its body for an instruction set.
fn candidate(symbol: &str, set: &str) -> Option<(String, usize)> {
    let (_, path) = symbol.split_once("7kernels")?;
    if !path.contains(&format!("{}{set}", set.len())) {
        return None;
    }
    let (op, path) = segment(path)?;
    let (kernel, path) = segment(path)?;
    let (function, path) = segment(path)?;
    // What adds and what stores, in one.
    let function = if function == "either" { segment(path)?.0 } else { function };
    let (shape, number) = kernel.rsplit_once("_c")?;
    Some((format!("{op}/{shape}/{}", function.strip_prefix('_')?), number.parse().ok()?))
}

/// Lanes of the multiply-adds of an instruction.
fn lanes(line: &str) -> usize {
    let Some((name, operands)) = line.trim_start().split_once(char::is_whitespace) else { return 0 };
    let double = name.ends_with('d');
    let fused = name.starts_with("vfmadd") || name.starts_with("vfnmadd");
    let packed = name.ends_with("ps") || name.ends_with("pd");
    if !fused || !packed {
        return 0;
    }
    let bytes = if operands.contains("%zmm") {
        64
    } else if operands.contains("%ymm") {
        32
    } else {
        16
    };
    bytes / if double { 8 } else { 4 }
}

/// The innermost loops of a function: from a label to the jump back to it.
fn loops<'a>(lines: &[&'a str]) -> Vec<Vec<&'a str>> {
    let labels: BTreeMap<&str, usize> =
        lines.iter().enumerate().filter_map(|(n, l)| Some((l.strip_suffix(':')?, n))).collect();
    let jump = |l: &str| -> Option<usize> {
        let (name, target) = l.trim_start().split_once(char::is_whitespace)?;
        if name.starts_with('j') { labels.get(target.trim()).copied() } else { None }
    };
    let back: Vec<(usize, usize)> =
        lines.iter().enumerate().filter_map(|(n, l)| jump(l).filter(|to| *to < n).map(|to| (to, n))).collect();
    let inner =
        back.iter().filter(|(from, to)| !back.iter().any(|(f, t)| (f, t) != (from, to) && f >= from && t <= to));
    inner.map(|(from, to)| lines[*from..=*to].to_vec()).collect()
}

/// The inner loops of all candidates.
fn inner_loops(assembly: &str, set: &str) -> Vec<Inner> {
    let mut out = Vec::new();
    let mut lines = assembly.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(symbol) = line.strip_suffix(':').filter(|s| !s.starts_with(['.', ' ', '\t'])) else { continue };
        let Some((name, number)) = candidate(symbol, set) else { continue };
        let mut body: Vec<&str> = Vec::new();
        while let Some(line) = lines.next_if(|l| !l.starts_with(".Lfunc_end")) {
            body.push(line);
        }
        let all = loops(&body).into_iter().map(|l| (l.iter().map(|l| lanes(l)).sum::<usize>(), l));
        let Some((lanes, most)) = all.max_by_key(|(lanes, _)| *lanes).filter(|(lanes, _)| *lanes > 0) else { continue };
        let instruction = |l: &&&str| l.starts_with(['\t', ' ']) && !l.trim_start().starts_with(['.', '#', 'j']);
        let lines = most.iter().filter(instruction).map(|l| l.to_string()).collect();
        out.push(Inner { name, number, lines, lanes });
    }
    out
}

/// A line as it is simulated on a core.
fn simulated(line: &str, cpu: &str) -> String {
    let broadcast = line.contains("vbroadcasts") && line.contains('(');
    if broadcast && BROADCASTS_ARE_LOADS.contains(&cpu) {
        line.replace("vbroadcasts", "vmovup")
    } else {
        line.to_string()
    }
}

/// The cycles of each loop on a core.
fn cycles(all: &[Inner], program: &str, cpu: &str) -> Vec<f64> {
    let mut text = String::new();
    for (n, inner) in all.iter().enumerate() {
        let lines: Vec<String> = inner.lines.iter().map(|l| simulated(l, cpu)).collect();
        text += &format!("# LLVM-MCA-BEGIN r{n}\n{}\n# LLVM-MCA-END\n", lines.join("\n"));
    }
    let arguments = [format!("-mcpu={cpu}"), format!("-iterations={ITERATIONS}"), "-resource-pressure=0".into()];
    let mut child = Command::new(program)
        .args(arguments)
        .args(["-instruction-info=0", "-skip-unsupported-instructions=any"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut input = child.stdin.take().expect("it is piped");
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it runs");
    writer.join().expect("no panic").expect("it reads all");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let totals = report.lines().filter_map(|l| l.strip_prefix("Total Cycles:")?.trim().parse::<f64>().ok());
    let totals: Vec<f64> = totals.collect();
    assert_eq!(totals.len(), all.len(), "{program} reads every loop");
    totals.iter().zip(all).map(|(total, inner)| total / ITERATIONS as f64 / inner.lanes as f64).collect()
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [assembly, set, program, cores @ ..] = words.as_slice() else {
        eprintln!("usage: mca ASSEMBLY SET LLVM-MCA CPU=CORE...");
        std::process::exit(2);
    };
    let assembly = std::fs::read_to_string(assembly).unwrap_or_else(|e| panic!("{assembly}: {e}"));
    let all = inner_loops(&assembly, set);
    let model: BTreeMap<(&str, usize, &str), f64> = MODEL
        .lines()
        .filter_map(|l| {
            let mut words = l.split(' ');
            let mut next = || words.next();
            Some(((next()?, next()?.parse().ok()?, next()?), next()?.parse().ok()?))
        })
        .collect();
    assert!(!all.is_empty(), "no body for {set} in the assembly");
    println!("{} inner loops of {} lines", all.len(), all.iter().map(|i| i.lines.len()).sum::<usize>());
    println!("what the chosen schedule loses against the best candidate: simulated, by the model; which is best");
    let mut worst = (0.0, String::new());
    for core in cores {
        let (cpu, core) = core.split_once('=').expect("CPU=CORE");
        let cycles = cycles(&all, program, cpu);
        let mut rows: BTreeMap<&str, BTreeMap<usize, f64>> = BTreeMap::new();
        for (inner, cycles) in all.iter().zip(cycles) {
            rows.entry(&inner.name).or_default().insert(inner.number, cycles);
        }
        let mut losses: Vec<(f64, f64, &str, usize)> = Vec::new();
        for (name, candidates) in &rows {
            let Some(chosen) = candidates.get(&0) else { continue };
            let (best, least) = candidates.iter().min_by(|a, b| a.1.total_cmp(b.1)).expect("there is the chosen one");
            let by_model = model.get(&(name, 0, core)).copied().unwrap_or(f64::NAN);
            losses.push((chosen / least, by_model, name, *best));
        }
        losses.sort_by(|a, b| b.0.total_cmp(&a.0));
        let over = losses.iter().filter(|(loss, ..)| *loss > MOST).count();
        println!("\n{core} ({cpu}): {} functions, {over} lose more than {:.0}%", losses.len(), (MOST - 1.0) * 100.0);
        for (loss, by_model, name, best) in losses.iter().take(8) {
            println!("  {name:<60} {loss:.2}  {by_model:.2}  candidate {best}");
        }
        if let Some((loss, _, name, _)) = losses.first().filter(|(loss, ..)| *loss > worst.0) {
            worst = (*loss, format!("{name} on {core}"));
        }
    }
    println!("\nworst: {:.2}, {}", worst.0, worst.1);
    std::process::exit(i32::from(worst.0 > MOST));
}
