//! The command line: takes spec paths, checks and certifies them, prints a stage of one, or renders the kernels of all
//! to one file.

use cotangent_build::diagnostic::{Code, Diagnostics};
use cotangent_build::library::Library;
use cotangent_build::plain::passes::{PASSES, Pass};
use cotangent_build::source::{At, Sources};
use cotangent_build::types::InstanceSpec;
use cotangent_build::{Build, Core, DType, InstructionSet, Options};
use cotangent_build::{certify, cores, emit, index, load, nest, pipeline, plain, spec, write_changed};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod native;

const USAGE: &str = "\
The Cotangent compiler.

Usage:
  cotangent check PATH...                      parse, check and certify specs (files or folders)
  cotangent show PATH --stage STAGE            print a stage: index, rules, plain, nest or rust
                 [--instance NAME]             of one instance only
                 [--functions LIST]            of these functions only, with commas, or all;
                                               left out, of rust each kernel's first
                 [--after PASS]                of plain, as it is after a pass: lower, merge, split, gather,
                                               initialise, segment, gather-recurrences, prune, inline or
                                               mask
                 [--target-arch ARCH]          for one architecture, as cargo names it (every one)
                 [--tune CORE]                 with schedules for a core, as in render
  cotangent render PATH... [-o FILE]           write the kernels as one file that needs no crate, or print it
  cotangent explain CODE                       explain an error code
  cotangent --help | --version

Options of render:
  -o, --output FILE          where to; left out, standard output
  --tests FILE               write the tests of the kernels too: `cotangent::test_kernels!` includes them
  --check                    write nothing; fail if FILE is not what would be written
  --module PATH              the module, from the crate's root, that the file is; left out, what FILE after `src/` says
  --prefix WORD              what the names of the ops' modules begin with
  --dtype {types}the scalar type of instances without one (f32)
  --instruction-sets LIST    of {sets}, with commas (all)
  --portable                 the portable set alone: no unsafe code, the same bits on every machine
  --inline-limit N           kernels of at most N operations a function are inlined (1024)
  --no-validate              do not compare the loops with the formulas
  --tune CORE                schedules for a core: native, {cores}
                             (for several cores of each class of machines)
  --scratch-limit BYTES      a function's packed operands take at most so much of the stack
                             (what pays; without --std and with --portable 16384)
  --stack-limit BYTES        an op's locals take at most so much of the stack (65536)
  --std                      choose instructions at run time and make zeros on the heap
  --c-header FILE            wrappers for C too, and the header that declares them
  --c-prefix WORD            what names in the header begin with (cotangent_)
  --templates FOLDER         templates that replace the shipped ones of the same name

Exit code: 0 if all is well, 1 if a spec has errors, 2 for a wrong command line.
";

/// With the names that there are.
fn usage() -> String {
    let types: Vec<&str> = DType::ALL.iter().map(|t| t.name()).collect();
    let [others @ .., last] = InstructionSet::ALL.map(InstructionSet::name);
    let sets = format!("{} and {last}", others.join(", "));
    let cores: Vec<&str> = cores::CORES.iter().map(|core| core.name()).collect();
    let cores =
        cores.chunks(8).map(|line| line.join(", ")).collect::<Vec<_>>().join(",\n                             ");
    let usage = USAGE.replace("{cores}", &cores);
    usage.replace("{types}", &format!("{:<19}", types.join("|"))).replace("{sets}", &sets)
}

enum Command {
    Check(Vec<PathBuf>),
    Show(Box<Show>),
    Render { build: Box<Build>, output: Option<PathBuf>, tests: Option<PathBuf>, check: bool },
    Explain(String),
    Print(String),
}

/// What `show` was told.
struct Show {
    path: PathBuf,
    stage: String,
    instance: Option<String>,
    functions: Option<String>,
    after: Option<String>,
    options: Options,
}

/// What `render` was told.
#[derive(Default)]
struct Render {
    output: Option<PathBuf>,
    tests: Option<PathBuf>,
    check: bool,
    module: Option<String>,
    options: Vec<&'static str>,
    build: Build,
}

fn main() -> ExitCode {
    match parse() {
        Ok(Command::Check(paths)) => check(&paths),
        Ok(Command::Show(asked)) => show(&asked),
        Ok(Command::Render { build, output, tests, check }) => {
            render(&build, output.as_deref(), tests.as_deref(), check)
        }
        Ok(Command::Explain(code)) => explain(&code),
        Ok(Command::Print(text)) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(message) => {
            complain(&format!("error: {message}\n\n{}\n", usage()));
            ExitCode::from(2)
        }
    }
}

/// To standard output. A reader that has seen enough (`| head`) is no error.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// To standard error, which may be closed as well.
fn complain(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn parse() -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let mut words: Vec<PathBuf> = Vec::new();
    let (mut stage, mut instance, mut functions, mut target_arch, mut tune) = (None, None, None, None, None);
    let mut after: Option<String> = None;
    let mut render = Render::default();
    while let Some(arg) = parser.next()? {
        if let Some(name) = render_option(&arg) {
            render.options.push(name);
        }
        match arg {
            Short('h') | Long("help") => return Ok(Command::Print(usage())),
            Short('V') | Long("version") => {
                return Ok(Command::Print(format!("cotangent {}\n", env!("CARGO_PKG_VERSION"))));
            }
            Long("stage") => stage = Some(parser.value()?.string()?),
            Long("instance") => instance = Some(parser.value()?.string()?),
            Long("functions") => functions = Some(parser.value()?.string()?),
            Long("after") => after = Some(parser.value()?.string()?),
            Long("target-arch") => target_arch = Some(parser.value()?.string()?),
            Short('o') | Long("output") => render.output = Some(parser.value()?.into()),
            Long("tests") => render.tests = Some(parser.value()?.into()),
            Long("check") => render.check = true,
            Long("module") => render.module = Some(parser.value()?.string()?),
            Long("prefix") => render.build = render.build.prefix(parser.value()?.string()?),
            Long("dtype") => {
                render.build = render.build.dtype(parser.value()?.parse_with(str::parse::<DType>)?);
            }
            Long("instruction-sets") => {
                let read = |text: &str| text.split(',').map(str::parse).collect::<Result<Vec<InstructionSet>, _>>();
                render.build = render.build.instruction_sets(parser.value()?.parse_with(read)?);
            }
            Long("portable") => render.build = render.build.instruction_sets([InstructionSet::Portable]),
            Long("inline-limit") => render.build = render.build.inline_limit(parser.value()?.parse()?),
            Long("no-validate") => render.build = render.build.validate(false),
            Long("tune") => {
                let named = |text: &str| match text {
                    "native" => native::core(),
                    name => Core::named(name).ok_or_else(|| unknown_core(name)),
                };
                tune = Some(parser.value()?.parse_with(named)?);
            }
            Long("scratch-limit") => render.build = render.build.scratch_limit(parser.value()?.parse()?),
            Long("stack-limit") => render.build = render.build.stack_limit(parser.value()?.parse()?),
            Long("std") => render.build = render.build.std(true),
            Long("c-header") => render.build = render.build.c_header(parser.value()?),
            Long("c-prefix") => render.build = render.build.c_prefix(parser.value()?.string()?),
            Long("templates") => render.build = render.build.templates(parser.value()?),
            Value(word) => words.push(word.into()),
            other => return Err(other.unexpected()),
        }
    }
    let mut words = words.into_iter();
    let command = words.next().map(|w| w.to_string_lossy().into_owned());
    let rest: Vec<PathBuf> = words.collect();
    if let Some(option) = render.options.first().filter(|_| command.as_deref() != Some("render")) {
        return Err(format!("{option} is an option of render").into());
    }
    if after.is_some() && (command.as_deref(), stage.as_deref()) != (Some("show"), Some("plain")) {
        return Err("--after is an option of show --stage plain".into());
    }
    match (command.as_deref(), rest.as_slice()) {
        (Some("render"), []) => Err("render takes spec files or folders".into()),
        (Some("render"), _) if render.check && render.output.is_none() => Err("--check takes -o FILE".into()),
        (Some("render"), _) => {
            let module = render.module.unwrap_or_else(|| module(render.output.as_deref()));
            let build = render.build.self_contained(true).module(module);
            let build = tune.into_iter().fold(build, Build::tune);
            let build = rest.into_iter().fold(build, Build::ops);
            let Render { output, tests, check, .. } = render;
            Ok(Command::Render { build: Box::new(build), output, tests, check })
        }
        (Some("check"), [_, ..]) => Ok(Command::Check(rest)),
        (Some("check"), []) => Err("check takes spec files or folders".into()),
        (Some("show"), [path]) => {
            let stage = stage.ok_or("show takes --stage index, rules, plain, nest or rust")?;
            let options = Options { target_arch, tune, ..Options::default() };
            Ok(Command::Show(Box::new(Show { path: path.clone(), stage, instance, functions, after, options })))
        }
        (Some("show"), _) => Err("show takes one spec file".into()),
        (Some("explain"), [code]) => Ok(Command::Explain(code.to_string_lossy().into_owned())),
        (Some("explain"), _) => Err("explain takes one code, like E012".into()),
        (Some(other), _) => Err(format!("no command `{other}`").into()),
        (None, _) => Err("a command is missing".into()),
    }
}

fn unknown_core(name: &str) -> String {
    let known: Vec<&str> = cores::CORES.iter().map(|core| core.name()).collect();
    format!("no core `{name}`: native, {}", known.join(", "))
}

/// The name of an option that only `render` has.
fn render_option(arg: &lexopt::Arg) -> Option<&'static str> {
    use lexopt::prelude::*;
    const LONG: [&str; 16] = [
        "--output",
        "--tests",
        "--check",
        "--module",
        "--prefix",
        "--dtype",
        "--instruction-sets",
        "--portable",
        "--inline-limit",
        "--scratch-limit",
        "--stack-limit",
        "--no-validate",
        "--std",
        "--c-header",
        "--c-prefix",
        "--templates",
    ];
    match arg {
        Short('o') => Some("-o"),
        Long(name) => LONG.into_iter().find(|option| &option[2..] == *name),
        _ => None,
    }
}

/// The module that a file is by its place: what stands after `src`, or the file alone; `mod.rs` is its folder.
fn module(file: Option<&Path>) -> String {
    let Some(file) = file else { return "kernels".into() };
    let path = file.with_extension("");
    let mut parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    let start = parts.iter().rposition(|part| part == "src").map_or(parts.len() - 1, |at| at + 1);
    match parts[start..].join("::").as_str() {
        "lib" | "main" => String::new(),
        module => module.into(),
    }
}

fn render(build: &Build, output: Option<&Path>, tests: Option<&Path>, check: bool) -> ExitCode {
    let made = match build.render() {
        Ok(made) => made,
        Err(report) => {
            complain(&report.to_string());
            return ExitCode::FAILURE;
        }
    };
    complain(&made.warnings.to_string());
    for (name, text) in &made.files {
        // Beside the root there are its tests, and the C header, which has a path of its own.
        let file = match name.as_str() {
            emit::ROOT => output,
            emit::REFERENCE if tests.is_none() => continue,
            emit::REFERENCE => tests,
            header => Some(Path::new(header)),
        };
        match file {
            None => say(text),
            Some(file) if check => {
                if std::fs::read_to_string(file).ok().as_ref() != Some(text) {
                    complain(&format!(
                        "error: {} is not what the specs and options give: render it again\n",
                        file.display()
                    ));
                    return ExitCode::FAILURE;
                }
            }
            Some(file) => {
                if let Err(e) = write_changed(file, text) {
                    complain(&format!("error: cannot write {}: {e}\n", file.display()));
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}

fn check(paths: &[PathBuf]) -> ExitCode {
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let specs: Vec<_> = paths.iter().flat_map(|p| load(p, &mut sources, &mut out)).collect();
    let (mut ops, mut kernels) = (0, 0);
    let specs = spec::all(&specs, &sources, &mut out);
    let library = Library::new(&specs, &sources);
    for spec in &specs {
        let source = spec.source;
        if let Some(c) = pipeline::certified_spec(spec.clone(), &library, &mut out) {
            ops += 1;
            let made = pipeline::kernels(&c, &Options::default(), &mut out);
            kernels += made.len();
            say(&format!("{:<40} adjoint {}\n", sources.path(source), c.certificate.adjoint));
            let all = made.iter().map(|planned| &planned.kernel);
            let left_out = all.flat_map(|k| k.left_out.iter().map(move |l| (k, l)));
            for (kernel, left) in left_out.filter(|(_, l)| matches!(l.why, plain::TooMuch::Lines(..))) {
                say(&format!("  {}::{} has no `{}`: {}\n", kernel.op, kernel.name, left.name, left.why));
            }
            pipeline::check_schedules(&c, made, &Options::default(), &mut out);
        }
    }
    complain(&out.render(&sources));
    say(&format!("{ops} ops certified, {kernels} instances, {} errors\n", out.errors()));
    if out.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show(Show { path, stage, instance, functions, after, options }: &Show) -> ExitCode {
    let pass = after.as_deref().map(|name| Pass::named(name).ok_or(name)).transpose();
    let pass = match pass {
        Ok(pass) => pass,
        Err(name) => {
            let names: Vec<_> = PASSES.iter().map(|p| p.name).collect();
            complain(&format!("error: no pass `{name}`: the passes are {}\n", names.join(", ")));
            return ExitCode::from(2);
        }
    };
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let specs = load(path, &mut sources, &mut out);
    let mut text = String::new();
    let specs = spec::all(&specs, &sources, &mut out);
    let library = Library::new(&specs, &sources);
    for spec in &specs {
        let source = spec.source;
        let Some(mut c) = pipeline::certified_spec(spec.clone(), &library, &mut out) else { continue };
        if let Some(name) = instance {
            c.spec.instances.retain(|i| i.name.value == *name);
            if c.spec.instances.is_empty() {
                complain(&format!("error: no instance `{name}` in {}\n", sources.path(source)));
                return ExitCode::FAILURE;
            }
        }
        match functions.as_deref() {
            Some("all") => {}
            Some(list) => c.spec.instances.iter_mut().for_each(|i| only(i, list.split(','))),
            None if stage == "rust" => text.push_str(&first_alone(&mut c, options)),
            None => {}
        }
        match stage.as_str() {
            "index" => text.push_str(&index::print::op(&c.op)),
            "rules" => text.push_str(&certify::rules::text(&c)),
            "plain" => {
                let kernels: Vec<_> = match pass {
                    Some(pass) => pipeline::plain_after(&c, pass, &mut out),
                    // With the stages of the plan.
                    None => pipeline::kernels(&c, options, &mut out).into_iter().map(|k| k.kernel).collect(),
                };
                kernels.iter().for_each(|k| text.push_str(&plain::print::kernel(k)));
            }
            "nest" => {
                let kernels = pipeline::kernels(&c, options, &mut out);
                for compiled in pipeline::schedule(&c, kernels, options, &mut out) {
                    text.push_str(&format!("kernel {}::{}\n", compiled.kernel.op, compiled.kernel.name));
                    compiled
                        .nests
                        .iter()
                        .flatten()
                        .for_each(|n| text.push_str(&nest::print::nest(&compiled.kernel, n)));
                }
            }
            "rust" => {
                let kernels = pipeline::kernels(&c, options, &mut out);
                if out.has_errors() {
                    break;
                }
                let compiled = pipeline::schedule(&c, kernels, options, &mut out);
                match emit::op_file(&sources, &c, &compiled, options) {
                    Ok(rust) => text.push_str(&rust),
                    Err(e) => {
                        complain(&format!("error: {e}\n"));
                        return ExitCode::FAILURE;
                    }
                }
            }
            other => {
                complain(&format!("error: no stage `{other}`: the stages are index, rules, plain, nest and rust\n"));
                return ExitCode::from(2);
            }
        }
    }
    complain(&out.render(&sources));
    say(&text);
    if out.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Leaves these functions of an instance.
fn only<'a>(instance: &mut InstanceSpec, names: impl Iterator<Item = &'a str>) {
    let names = names.map(|name| At::new(name.to_string(), instance.span)).collect();
    instance.functions = Some(At::new(names, instance.span));
}

/// Leaves the first function of each instance: a reader looks for the loops, and those of the others are alike. Gives
/// what says so.
fn first_alone(c: &mut certify::Certified, options: &Options) -> String {
    let mut said = String::new();
    // What is wrong is told when the rest is made.
    for compiled in pipeline::kernels(c, options, &mut Diagnostics::default()) {
        let kernel = compiled.kernel;
        let [first, others @ ..] = kernel.functions.as_slice() else { continue };
        let Some(instance) = c.spec.instances.iter_mut().find(|i| i.name.value == kernel.name) else { continue };
        only(instance, std::iter::once(first.name.as_str()));
        if !others.is_empty() {
            let entry = |f: &&plain::Function| f.kind != plain::Kind::Stage;
            let others: Vec<&str> = others.iter().filter(entry).map(|f| f.name.as_str()).collect();
            said += &format!("// {}::{} has besides {}: --functions all\n", kernel.op, kernel.name, others.join(", "));
        }
    }
    said
}

fn explain(code: &str) -> ExitCode {
    match code.parse::<Code>() {
        Ok(code) => {
            say(&format!("{}: {}\n\n{}\n", code.as_str(), code.title(), code.explanation()));
            ExitCode::SUCCESS
        }
        Err(_) => {
            let known: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
            complain(&format!("error: no code `{code}`: the codes are {}\n", known.join(", ")));
            ExitCode::FAILURE
        }
    }
}
