//! Specs for the check of the cost model: takes the roofline's lists of products and convolutions, gives each instance
//! once for every candidate that the scheduler names, with that schedule asked for. `COTANGENT_CANDIDATES` (`narrow`,
//! `wide`, `widest`) says for which class of machines; left out, for the widest. A debug build, which lints and never
//! measures, has the first instance of each list.

use cotangent_build::diagnostic::Diagnostics;
use cotangent_build::nest::machine::MACHINES;
use cotangent_build::pipeline;
use cotangent_build::source::Sources;
use cotangent_build::{InstructionSet, Options};
use std::collections::BTreeMap;
use std::path::PathBuf;

const INSTANCES: &str = "\ninstances:";
const LISTS: &str = "../roofline/instances";

fn main() {
    println!("cargo::rerun-if-changed=../../ops");
    println!("cargo::rerun-if-changed={LISTS}");
    println!("cargo::rerun-if-env-changed=COTANGENT_CANDIDATES");
    let debug = std::env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    let class = std::env::var("COTANGENT_CANDIDATES").unwrap_or_else(|_| "widest".into());
    let machine = MACHINES.iter().find(|m| m.name.eq_ignore_ascii_case(&class));
    let machine = machine.unwrap_or_else(|| panic!("no class of machines `{class}`"));
    let set = match machine.name {
        "Wide" => InstructionSet::Avx2,
        "Widest" => InstructionSet::Avx512,
        _ => InstructionSet::Portable,
    };
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let specs = out.join("specs");
    // What the model says: function, number of the candidate, core, loss.
    let mut model = String::new();
    std::fs::create_dir_all(&specs).expect("OUT_DIR can be written");
    for op in ["matmul", "conv"] {
        let read = |path: String| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let declaration = read(format!("../../ops/{op}.yaml"));
        let list = read(format!("{LISTS}/{op}.yaml"));
        let (declaration, _) = declaration.split_once(INSTANCES).expect("a spec has instances");
        let (_, list) = list.split_once(INSTANCES).expect("a list has instances");
        let named = list.lines().filter(|l| l.contains("name:"));
        let named: Vec<&str> = named.take(if debug { 1 } else { usize::MAX }).collect();
        let text = format!("{declaration}{INSTANCES}\n{}\n", named.join("\n"));
        let options = Options { stack_limit: 1 << 20, ..Options::default() };
        let (mut sources, mut errors) = (Sources::default(), Diagnostics::default());
        let id = sources.add(&format!("{op}.yaml"), text);
        let certified = pipeline::certified(id, &sources, &mut errors).expect("a bundled op");
        let kernels = pipeline::kernels(&certified, &options, &mut errors);
        let mut all = String::new();
        for (line, compiled) in named.iter().zip(pipeline::schedule(&certified, kernels, &options, &mut errors)) {
            // By number, the schedule of each function.
            let mut numbered: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for nest in compiled.nests.iter().flatten().filter(|n| n.machines.contains(machine)) {
                // What stands before the second choice is of the first statement, whole.
                let first = nest
                    .notes
                    .iter()
                    .enumerate()
                    .take_while(|(n, note)| *n == 0 || !note.starts_with("chosen"))
                    .map(|(_, note)| note);
                for (n, note) in first.enumerate() {
                    let text = note.split_once(": ").map_or(note.as_str(), |(_, text)| text);
                    let text = text.rsplit_once(": ").map_or(text, |(text, _)| text);
                    numbered.entry(n).or_default().push(format!("{}: \"{text}\"", nest.name));
                }
            }
            let (before, rest) = line.split_once("name: ").expect("an instance has a name");
            let (name, rest) = rest.split_once(',').expect("an instance has sizes");
            for nest in compiled.nests.iter().flatten().filter(|n| n.machines.contains(machine)) {
                let first =
                    nest.notes.iter().enumerate().take_while(|(n, note)| *n == 0 || !note.starts_with("chosen"));
                for (n, note) in first {
                    let losses = note.rsplit_once(": ").map_or("", |(_, costs)| costs).split(", ").skip(1);
                    model.extend(losses.map(|loss| format!("{op}/{name}/{} {n} {loss}\n", nest.name)));
                }
            }
            let rest = rest.trim_end().trim_end_matches('}');
            for (n, schedule) in numbered {
                all.push_str(&format!("\n{before}name: {name}_c{n},{rest}, schedule: {{{}}}}}", schedule.join(", ")));
            }
        }
        assert!(!errors.has_errors(), "{}", errors.render(&sources));
        std::fs::write(specs.join(format!("{op}.yaml")), format!("{declaration}{INSTANCES}{all}\n"))
            .expect("OUT_DIR can be written");
    }
    std::fs::write(out.join("model.txt"), model).expect("OUT_DIR can be written");
    std::env::set_current_dir(&out).expect("OUT_DIR is a folder");
    let build = cotangent_build::Build::new()
        .ops("specs")
        .stack_limit(1 << 20)
        .instruction_sets([set])
        .scratch_limit(usize::MAX)
        .cargo_metadata(false);
    if let Err(failure) = build.try_compile() {
        eprintln!("{failure}");
        std::process::exit(1);
    }
}
