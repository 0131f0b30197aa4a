//! The Cotangent compiler, for build scripts: takes a folder of op specs, gives the Rust of their kernels in `OUT_DIR`.
//!
//! ```no_run
//! // build.rs
//! cotangent_build::Build::new().ops("ops").compile();
//! ```
//!
//! The crate then says `cotangent::include_kernels!();` in `mod kernels`. Everything behind [`Build`] is public for the command line, tests and
//! tools; [`pipeline`] shows the stages in order.

pub mod certify;
pub mod derive;
pub mod diagnostic;
pub mod emit;
pub mod index;
pub mod nest;
pub mod pipeline;
pub mod plain;
pub mod source;
pub mod spec;
pub mod syntax;

use diagnostic::{Code, Diagnostic, Diagnostics};
use pipeline::{Files, Options};
use source::{SourceId, Sources};
use std::path::{Path, PathBuf};

/// A run of the compiler from a build script.
#[derive(Clone, Debug)]
pub struct Build {
    specs: Vec<PathBuf>,
    templates: Option<PathBuf>,
    module: String,
}

impl Default for Build {
    fn default() -> Self {
        Build { specs: Vec::new(), templates: None, module: "kernels".into() }
    }
}

/// Why a build failed: the rendered diagnostics, and how many errors they tell of.
#[derive(Debug)]
pub struct Failure {
    pub text: String,
    pub errors: usize,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl Build {
    /// A build without specs, for kernels in `crate::kernels`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a spec file, or every `.yaml` file of a folder. Relative paths start at the package.
    pub fn ops(mut self, path: impl Into<PathBuf>) -> Self {
        self.specs.push(path.into());
        self
    }

    /// A folder of templates that replace the shipped ones of the same name.
    pub fn templates(mut self, folder: impl Into<PathBuf>) -> Self {
        self.templates = Some(folder.into());
        self
    }

    /// The module of the crate that includes the kernels: `kernels` unless said otherwise, empty for the root.
    pub fn module(mut self, path: impl Into<String>) -> Self {
        self.module = path.into();
        self
    }

    /// Compiles to `$OUT_DIR/cotangent`, tells cargo what to watch, and ends the build script with the diagnostics if something is wrong.
    pub fn compile(self) {
        for path in self.specs.iter().chain(&self.templates) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        match self.try_compile() {
            Ok(warnings) => warnings.lines().for_each(|line| println!("cargo::warning={line}")),
            Err(failure) => {
                eprintln!("{failure}");
                let plural = if failure.errors == 1 { "" } else { "s" };
                println!("cargo::error={} error{plural} in the op specs (shown above)", failure.errors);
                std::process::exit(1);
            }
        }
    }

    /// Compiles to `$OUT_DIR/cotangent`; nothing is written unless everything is right. Gives the warnings.
    pub fn try_compile(&self) -> Result<String, Failure> {
        let out_dir = std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| Failure {
            text: "error: OUT_DIR is not set: this runs in a build script".into(),
            errors: 1,
        })?;
        let (files, warnings) = self.render()?;
        write(&out_dir.join("cotangent"), &files)
            .map_err(|e| Failure { text: format!("error: cannot write to {}: {e}", out_dir.display()), errors: 1 })?;
        Ok(warnings)
    }

    /// The generated files and the warnings.
    pub fn render(&self) -> Result<(Files, String), Failure> {
        let mut sources = Sources::default();
        let mut out = Diagnostics::default();
        let mut specs = Vec::new();
        for path in &self.specs {
            specs.extend(load(path, &mut sources, &mut out));
        }
        let templates = self.templates.as_deref().map(|folder| read_templates(folder, &mut out)).unwrap_or_default();
        let options = Options { module: self.module.clone(), templates };
        let files = if out.has_errors() { None } else { pipeline::compile(&specs, &sources, &options, &mut out) };
        let text = out.render(&sources);
        files.map(|files| (files, text.clone())).ok_or(Failure { text, errors: out.errors() })
    }
}

/// Reads a spec file, or every `.yaml` file of a folder in the order of their names.
pub fn load(path: &Path, sources: &mut Sources, out: &mut Diagnostics) -> Vec<SourceId> {
    let mut fail = |path: &Path, e: std::io::Error| {
        out.push(Diagnostic::general(Code::Io, format!("cannot read {}: {e}", path.display())));
    };
    let mut files = vec![path.to_path_buf()];
    if path.is_dir() {
        match std::fs::read_dir(path)
            .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>())
        {
            Ok(entries) => {
                files =
                    entries.into_iter().filter(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml")).collect()
            }
            Err(e) => {
                fail(path, e);
                return Vec::new();
            }
        }
        files.sort();
    }
    let mut specs = Vec::new();
    for file in files {
        match std::fs::read_to_string(&file) {
            // Slashes on every host: the path stands in the output.
            Ok(text) => specs.push(sources.add(&file.to_string_lossy().replace('\\', "/"), text)),
            Err(e) => fail(&file, e),
        }
    }
    specs
}

fn read_templates(folder: &Path, out: &mut Diagnostics) -> Vec<(String, String)> {
    let read = || -> std::io::Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "tera") {
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                all.push((name, std::fs::read_to_string(&path)?));
            }
        }
        all.sort();
        Ok(all)
    };
    read().unwrap_or_else(|e| {
        out.push(Diagnostic::general(Code::Io, format!("cannot read the templates of {}: {e}", folder.display())));
        Vec::new()
    })
}

/// Writes the files; one that has not changed keeps its time, one that no op makes any more goes.
fn write(folder: &Path, files: &Files) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let known = path.file_name().is_some_and(|n| files.contains_key(&*n.to_string_lossy()));
        if !known && path.extension().is_some_and(|e| e == "rs") {
            std::fs::remove_file(path)?;
        }
    }
    for (name, text) in files {
        let path = folder.join(name);
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text) {
            std::fs::write(path, text)?;
        }
    }
    Ok(())
}
