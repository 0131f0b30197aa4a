//! The Cotangent compiler, for build scripts: takes op specs, gives the Rust of their kernels in `OUT_DIR`.
//!
//! ```no_run
//! // build.rs
//! cotangent_build::Build::new().ops("ops").compile();
//! ```
//!
//! The crate then says `cotangent::include_kernels!();` in `mod kernels`.
//!
//! What users need stands here: [`Build`] with its options, the [`Output`] of a build, and the [`Report`] of what is
//! wrong. Versions follow semver for these items, for the language of the specs, and for what generated code offers its
//! callers. The text of generated code, of diagnostics and of schedules may change with any version.
//!
//! The modules are the stages of the compiler. They are public for the command line, tests and tools, and hidden here:
//! they may change with any version. ARCHITECTURE.md describes them.
#![deny(missing_docs)]

#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod cache;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod certify;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod compiled;
#[doc(hidden)]
pub mod cores;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod derive;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod diagnostic;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod emit;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod functions;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod index;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod instructions;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod library;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod nest;
#[doc(hidden)]
pub mod options;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod pipeline;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod plain;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod program;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod shipped;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod source;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod spec;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod syntax;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod types;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod validate;
#[doc(hidden)]
#[allow(missing_docs, reason = "a stage")]
pub mod words;

pub use cores::Core;
pub use diagnostic::Report;
pub use emit::Files;
pub use instructions::InstructionSet;
pub use options::Options;
pub use types::DType;

use diagnostic::{Code, Diagnostic, Diagnostics};
use source::{SourceId, Sources};
use std::path::{Path, PathBuf};

/// A run of the compiler: what to compile, and how.
///
/// Each method takes the build and gives it back with one thing changed. Relative paths start at the package, where
/// cargo runs build scripts.
///
/// ```no_run
/// use cotangent_build::{Build, DType};
///
/// Build::new().ops("ops").dtype(DType::F64).compile();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Build {
    specs: Vec<PathBuf>,
    templates: Option<PathBuf>,
    out_dir: Option<PathBuf>,
    cache: Option<PathBuf>,
    silent: bool,
    options: Options,
}

/// What a build made.
#[derive(Debug)]
pub struct Output {
    /// The generated files, by their names in the output folder. `mod.rs` is the one to include.
    pub files: Files,
    /// Warnings. Without any, its text is empty.
    pub warnings: Report,
}

impl Build {
    /// A build without specs, with the default of every option. Its kernels stand in `crate::kernels`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a spec file, or every `.yaml` and `.yml` file of a folder in the order of their names. Folders in it are
    /// not read. A path that cannot be read is an error of the build.
    #[must_use]
    pub fn ops(mut self, path: impl Into<PathBuf>) -> Self {
        self.specs.push(path.into());
        self
    }

    /// Sets a folder of templates. A file `NAME.tera` there replaces the shipped template of that name.
    #[must_use]
    pub fn templates(mut self, folder: impl Into<PathBuf>) -> Self {
        self.templates = Some(folder.into());
        self
    }

    /// Sets the folder that files are written to. The default is `$OUT_DIR/cotangent`, where `include_kernels!` finds
    /// them; from elsewhere, include the file `mod.rs` of the folder.
    ///
    /// The build deletes generated files there that no op makes any more. It leaves other files alone.
    #[must_use]
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(folder.into());
        self
    }

    /// Sets the module of the crate that includes the kernels, as a path from the root: `nn::kernels`. The default is
    /// `kernels`; an empty path is the root itself.
    #[must_use]
    pub fn module(mut self, path: impl Into<String>) -> Self {
        self.options.module = path.into();
        self
    }

    /// Sets what the names of the ops' modules begin with, and those of `KERNELS` and `for_each_kernel!`. So two sets
    /// of kernels can stand in one module. The default is nothing. Lower-case letters, digits and `_` are allowed.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.options.prefix = prefix.into();
        self
    }

    /// Sets the scalar type of instances without a `dtype`. The default is `f32`.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.options.dtype = dtype;
        self
    }

    /// Sets the architecture that kernels are made for, as `CARGO_CFG_TARGET_ARCH` calls it: `x86_64`, `aarch64`,
    /// `arm`. The output has no schedules for others.
    ///
    /// In a build script the default is the architecture of the target. Self-contained output is for every
    /// architecture by default.
    #[must_use]
    pub fn target_arch(mut self, arch: impl Into<String>) -> Self {
        self.options.target_arch = Some(arch.into());
        self
    }

    /// Sets the instruction sets that kernels are made for. The default is all of them; fewer sets are less code.
    ///
    /// A kernel uses the best set that is there: the machine's at run time, or the build's without `std`.
    /// [`InstructionSet::Portable`] is always there. If it is the only one, results are the same bits on every machine,
    /// whatever the build enables.
    #[must_use]
    pub fn instruction_sets(mut self, sets: impl IntoIterator<Item = InstructionSet>) -> Self {
        self.options.instruction_sets = sets.into_iter().collect();
        self
    }

    /// Sets the core that kernels are tuned for: of its class of machines, schedules are weighed on this core alone. The
    /// default weighs each on several cores, and takes what loses least on the core where it loses most.
    ///
    /// Kernels run on every core all the same, and the order of sums may differ from that of other tunings.
    ///
    /// ```
    /// use cotangent_build::{Build, Core};
    /// Build::new().tune(&Core::ZEN_5);
    /// ```
    #[must_use]
    pub fn tune(mut self, core: &'static Core) -> Self {
        self.options.tune = Some(core);
        self
    }

    /// Sets the most operations of a function that is inlined. The default is 1024; 0 inlines none.
    ///
    /// A kernel is inlined into its callers if none of its functions has more operations. It then uses the
    /// instructions that the build enables. Other kernels choose theirs at each call. Those that only stream memory
    /// beyond the caches are portable.
    #[must_use]
    pub fn inline_limit(mut self, flops: u64) -> Self {
        self.options.inline_limit = flops;
        self
    }

    /// Sets the most bytes of packed operands that a schedule may keep on the stack in one function. 0 allows none.
    ///
    /// The default is what pays, up to 352 KiB. It is 16 KiB if only portable kernels are made, and in self-contained
    /// output without `std`. Locals of a formula have [a limit of their own](Build::stack_limit). `KERNEL.functions`
    /// tells what each function has.
    #[must_use]
    pub fn scratch_limit(mut self, bytes: usize) -> Self {
        self.options.scratch_limit = Some(bytes);
        self
    }

    /// Sets the most bytes of locals of its formula that a function of an op may keep on the stack. The default is
    /// 64 KiB. An op that needs more is an error (E045).
    ///
    /// Functions of programs keep at most 4 KiB. They work in a workspace that their caller provides.
    #[must_use]
    pub fn stack_limit(mut self, bytes: usize) -> Self {
        self.options.stack_limit = bytes;
        self
    }

    /// Sets whether the build runs the loops of every kernel and compares them with the certified formulas. The default
    /// is true. A build without it is a little faster, and trusts the scheduler.
    #[must_use]
    pub fn validate(mut self, yes: bool) -> Self {
        self.options.validate = yes;
        self
    }

    /// Sets whether the output is one file, `mod.rs`, that includes the runtime and needs no crate but `core`. Such a
    /// file can be vendored, or read. The default is false.
    #[must_use]
    pub fn self_contained(mut self, yes: bool) -> Self {
        self.options.self_contained = yes;
        self
    }

    /// Sets whether self-contained output may use `std`: to choose instructions at run time, and to make zeros on the
    /// heap. The default is false. In other output it is an error; there the feature `std` of the crate `cotangent`
    /// decides.
    #[must_use]
    pub fn std(mut self, yes: bool) -> Self {
        self.options.std = yes;
        self
    }

    /// Adds wrappers for C to every kernel, and a header that declares them. The path of the header ends in `.h`,
    /// `.hh`, `.hpp` or `.hxx`. A relative path starts at the output folder; for the crate's own folder write
    /// `concat!(env!("CARGO_MANIFEST_DIR"), "/include/kernels.h")`.
    ///
    /// The wrappers are `extern "C"` functions in a module `c` of each kernel. They are called
    /// `cotangent_<op>_<kernel>_<function>`.
    #[must_use]
    pub fn c_header(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.c_header = Some(path.into().to_string_lossy().into_owned());
        self
    }

    /// Sets what the names in the C header begin with. The default is `cotangent_`. Two sets of kernels in one program
    /// need two.
    #[must_use]
    pub fn c_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.options.c_prefix = prefix.into();
        self
    }

    /// Sets whether every kernel has wrappers for arrays and views of `ndarray`, in a module `nd`. The default is
    /// false. They need the feature `ndarray` of the crate `cotangent`; self-contained output cannot have them.
    #[must_use]
    pub fn ndarray(mut self, yes: bool) -> Self {
        self.options.ndarray = yes;
        self
    }

    /// Sets whether the build prints lines for cargo: what to watch, and warnings. The default is true.
    #[must_use]
    pub fn cargo_metadata(mut self, yes: bool) -> Self {
        self.silent = !yes;
        self
    }

    /// Sets the folder that keeps what was made of each op, so that the next build makes only what has changed. In a
    /// build script the default is a folder in `OUT_DIR`; elsewhere there is none.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Compiles, writes the files, and tells cargo what to watch. If something is wrong, it prints the diagnostics and
    /// ends the process with exit code 1.
    pub fn compile(&self) {
        if let Err(report) = self.try_compile() {
            eprintln!("{report}");
            let plural = if report.errors() == 1 { "" } else { "s" };
            println!("cargo::error={} error{plural} in the op specs (shown above)", report.errors());
            std::process::exit(1);
        }
    }

    /// Compiles, writes the files, and tells cargo what to watch. If something is wrong, it writes nothing.
    ///
    /// # Errors
    /// What is wrong in the specs, the templates or the options, and what could not be read or written. A folder for
    /// the output is missing if neither `OUT_DIR` nor [`Build::out_dir`] names one.
    pub fn try_compile(&self) -> Result<Output, Report> {
        if !self.silent {
            for path in self.specs.iter().chain(&self.templates) {
                let path = path.display().to_string();
                // What follows a line break would be a line for cargo of its own.
                if path.contains(['\n', '\r']) {
                    let message = format!("cargo cannot watch `{}`: a line breaks in it", source::visible(&path));
                    return Err(Report::general(Code::BadOption, message));
                }
                println!("cargo::rerun-if-changed={path}");
            }
        }
        let out_dir = match (&self.out_dir, std::env::var_os("OUT_DIR")) {
            (Some(folder), _) => folder.clone(),
            (None, Some(folder)) => Path::new(&folder).join("cotangent"),
            (None, None) => {
                let message = "OUT_DIR is not set: this is no build script, so name a folder by `out_dir`";
                return Err(Report::general(Code::Io, message));
            }
        };
        let mut options = self.options.clone();
        if !options.self_contained && options.target_arch.is_none() {
            options.target_arch = std::env::var("CARGO_CFG_TARGET_ARCH").ok();
        }
        let out_dir_of_script = || std::env::var_os("OUT_DIR").map(|folder| Path::new(&folder).join("cotangent.cache"));
        let cache = self.cache.clone().or_else(out_dir_of_script);
        let output = self.render_with(options, cache.as_deref())?;
        write(&out_dir, &output.files)
            .map_err(|e| Report::general(Code::Io, format!("cannot write to {}: {e}", named(&out_dir))))?;
        if !self.silent {
            output.warnings.to_string().lines().for_each(|line| println!("cargo::warning={line}"));
        }
        Ok(output)
    }

    /// Compiles, and gives the generated files in memory. It writes and prints nothing.
    ///
    /// # Errors
    /// What is wrong in the specs, the templates or the options, and what could not be read.
    pub fn render(&self) -> Result<Output, Report> {
        self.render_with(self.options.clone(), None)
    }

    fn render_with(&self, mut options: Options, cache: Option<&Path>) -> Result<Output, Report> {
        let mut sources = Sources::default();
        let mut out = Diagnostics::default();
        let specs: Vec<SourceId> = self.specs.iter().flat_map(|path| load(path, &mut sources, &mut out)).collect();
        if let Some(folder) = &self.templates {
            options.templates = read_templates(folder, &mut out);
        }
        let files =
            if out.has_errors() { None } else { pipeline::compile(&specs, &sources, &options, cache, &mut out) };
        let report = Report::new(out, sources);
        match files {
            Some(files) => Ok(Output { files, warnings: report }),
            None => Err(report),
        }
    }
}

/// Reads a spec file, or every spec file of a folder in the order of their names.
#[doc(hidden)]
pub fn load(path: &Path, sources: &mut Sources, out: &mut Diagnostics) -> Vec<SourceId> {
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
                out.push(unreadable(path, e));
                return Vec::new();
            }
        }
        files.sort();
    }
    let mut specs = Vec::new();
    for file in files {
        match read(&file) {
            Ok(Some(text)) => specs.push(sources.add(&shown(&file), text)),
            Ok(None) => out.push(spec::too_large(sources.add(&shown(&file), String::new()))),
            Err(e) => out.push(unreadable(&file, e)),
        }
    }
    specs
}

/// The text of a spec file, if it is not larger than any spec. No more of it is read than that.
fn read(path: &Path) -> std::io::Result<Option<String>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(spec::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > spec::MAX_BYTES {
        return Ok(None);
    }
    String::from_utf8(bytes).map(Some).map_err(|e| {
        let message = format!("byte {} is not text in UTF-8", e.utf8_error().valid_up_to());
        std::io::Error::new(std::io::ErrorKind::InvalidData, message)
    })
}

fn unreadable(path: &Path, e: std::io::Error) -> Diagnostic {
    Diagnostic::general(Code::Io, format!("cannot read {}: {e}", named(path)))
}

/// A path as output and diagnostics show it: the same on every host, so with slashes, and within the folder that the
/// build runs in or writes to without what leads there.
fn shown(path: &Path) -> String {
    let out_dir = std::env::var_os("OUT_DIR").map(PathBuf::from);
    let folders = [out_dir, std::env::current_dir().ok()];
    let within = folders.iter().flatten().find_map(|folder| path.strip_prefix(folder).ok());
    within.unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// A path within a message.
fn named(path: &Path) -> String {
    source::visible(&path.display().to_string())
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
        out.push(Diagnostic::general(Code::Io, format!("cannot read the templates of {}: {e}", named(folder))));
        Vec::new()
    })
}

/// What every generated file begins with, in Rust and in C.
const MARKS: [&str; 2] = ["// @generated by cotangent", "/* @generated by cotangent"];

/// Writes the files; one that has not changed keeps its time, a generated one that no op makes any more goes.
fn write(folder: &Path, files: &Files) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let known = path.file_name().is_some_and(|n| files.contains_key(&*n.to_string_lossy()));
        if !known
            && path.extension().is_some_and(|e| e == "rs" || e == "h")
            && std::fs::read_to_string(&path).is_ok_and(|text| MARKS.iter().any(|mark| text.starts_with(mark)))
        {
            std::fs::remove_file(path)?;
        }
    }
    files.iter().try_for_each(|(name, text)| {
        let path = folder.join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        write_changed(&path, text)
    })
}

/// Writes a file unless it has this text already: then it keeps its time.
///
/// # Errors
/// Those of the file system.
#[doc(hidden)]
pub fn write_changed(path: &Path, text: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(path).ok().as_deref() == Some(text) { Ok(()) } else { std::fs::write(path, text) }
}
