//! The command line: takes spec paths, checks and certifies them or prints a stage of one.

use cotangent_build::diagnostic::{Code, Diagnostics};
use cotangent_build::source::Sources;
use cotangent_build::{emit, index, load, nest, pipeline, plain};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
The Cotangent compiler.

Usage:
  cotangent check PATH...                      parse, check and certify specs (files or folders)
  cotangent show PATH --stage STAGE            print a stage: index, rules, plain, nest or rust
                 [--instance NAME]             of one instance only
  cotangent explain CODE                       explain an error code
  cotangent --help | --version

Exit code: 0 if all is well, 1 if a spec has errors, 2 for a wrong command line.
";

enum Command {
    Check(Vec<PathBuf>),
    Show { path: PathBuf, stage: String, instance: Option<String> },
    Explain(String),
    Print(String),
}

fn main() -> ExitCode {
    match parse() {
        Ok(Command::Check(paths)) => check(&paths),
        Ok(Command::Show { path, stage, instance }) => show(&path, &stage, instance.as_deref()),
        Ok(Command::Explain(code)) => explain(&code),
        Ok(Command::Print(text)) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// To standard output. A reader that has seen enough (`| head`) is no error.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn parse() -> Result<Command, lexopt::Error> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let mut words: Vec<PathBuf> = Vec::new();
    let (mut stage, mut instance) = (None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Print(USAGE.into())),
            Short('V') | Long("version") => {
                return Ok(Command::Print(format!("cotangent {}\n", env!("CARGO_PKG_VERSION"))));
            }
            Long("stage") => stage = Some(parser.value()?.string()?),
            Long("instance") => instance = Some(parser.value()?.string()?),
            Value(word) => words.push(word.into()),
            other => return Err(other.unexpected()),
        }
    }
    let mut words = words.into_iter();
    let command = words.next().map(|w| w.to_string_lossy().into_owned());
    let rest: Vec<PathBuf> = words.collect();
    match (command.as_deref(), rest.as_slice()) {
        (Some("check"), [_, ..]) => Ok(Command::Check(rest)),
        (Some("check"), []) => Err("check takes spec files or folders".into()),
        (Some("show"), [path]) => {
            let stage = stage.ok_or("show takes --stage index, rules, plain, nest or rust")?;
            Ok(Command::Show { path: path.clone(), stage, instance })
        }
        (Some("show"), _) => Err("show takes one spec file".into()),
        (Some("explain"), [code]) => Ok(Command::Explain(code.to_string_lossy().into_owned())),
        (Some("explain"), _) => Err("explain takes one code, like E012".into()),
        (Some(other), _) => Err(format!("no command `{other}`").into()),
        (None, _) => Err("a command is missing".into()),
    }
}

fn check(paths: &[PathBuf]) -> ExitCode {
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let specs: Vec<_> = paths.iter().flat_map(|p| load(p, &mut sources, &mut out)).collect();
    let (mut ops, mut kernels) = (0, 0);
    for spec in specs {
        if let Some(c) = pipeline::certified(spec, &sources, &mut out) {
            ops += 1;
            kernels += pipeline::kernels(&c, &mut out).len();
            println!("{:<40} adjoint {}", sources.path(spec), c.certificate.adjoint);
        }
    }
    eprint!("{}", out.render(&sources));
    println!("{ops} ops certified, {kernels} instances, {} errors", out.errors());
    if out.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show(path: &Path, stage: &str, instance: Option<&str>) -> ExitCode {
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let specs = load(path, &mut sources, &mut out);
    let mut text = String::new();
    for spec in specs {
        let Some(mut c) = pipeline::certified(spec, &sources, &mut out) else { continue };
        if let Some(name) = instance {
            c.spec.instances.retain(|i| i.name.value == name);
            if c.spec.instances.is_empty() {
                eprintln!("error: no instance `{name}` in {}", sources.path(spec));
                return ExitCode::FAILURE;
            }
        }
        match stage {
            "index" => text.push_str(&index::print::op(&c.op)),
            "rules" => text.push_str(&index::print::rules(&c.op, &c.derived, &c.certificate)),
            "plain" => pipeline::kernels(&c, &mut out).iter().for_each(|k| text.push_str(&plain::print::kernel(k))),
            "nest" => {
                let kernels = pipeline::kernels(&c, &mut out);
                for compiled in pipeline::schedule(&c, kernels, &mut out) {
                    text.push_str(&format!("kernel {}::{}\n", compiled.kernel.op, compiled.kernel.name));
                    compiled
                        .nests
                        .iter()
                        .flatten()
                        .for_each(|n| text.push_str(&nest::print::nest(&compiled.kernel, n)));
                }
            }
            "rust" => {
                let kernels = pipeline::kernels(&c, &mut out);
                if out.has_errors() {
                    break;
                }
                let compiled = pipeline::schedule(&c, kernels, &mut out);
                match emit::templates(&[]).and_then(|tera| emit::op_file(&tera, &sources, &c, &compiled)) {
                    Ok(rust) => text.push_str(&rust),
                    Err(e) => {
                        eprintln!("error: {e}");
                        return ExitCode::FAILURE;
                    }
                }
            }
            other => {
                eprintln!("error: no stage `{other}`: the stages are index, rules, plain, nest and rust");
                return ExitCode::from(2);
            }
        }
    }
    eprint!("{}", out.render(&sources));
    say(&text);
    if out.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn explain(code: &str) -> ExitCode {
    match code.parse::<Code>() {
        Ok(code) => {
            println!("{}: {}\n\n{}", code.as_str(), code.title(), code.explanation());
            ExitCode::SUCCESS
        }
        Err(_) => {
            let known: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
            eprintln!("error: no code `{code}`: the codes are {}", known.join(", "));
            ExitCode::FAILURE
        }
    }
}
