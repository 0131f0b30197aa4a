//! What a build chooses besides its specs: takes the user's wishes, gives one struct that goes through every stage.
//! After [`Options::check`] names in it are Rust's.

use crate::cores::Core;
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::instructions::InstructionSet;
use crate::types::DType;
use crate::words::is_keyword;

/// Everything that decides the output besides the specs. [`Build`](crate::Build) has a method for each field, and says
/// what it does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The module that includes the kernels, as a path from the crate's root. Empty for the root itself.
    pub module: String,
    /// What the names of the ops' modules begin with.
    pub prefix: String,
    /// The scalar type of an instance that names none.
    pub dtype: DType,
    /// The architecture that kernels are made for, as `CARGO_CFG_TARGET_ARCH` names it; every one if `None`.
    pub target_arch: Option<String>,
    /// The instruction sets that kernels are made for. The portable one is always among them.
    pub instruction_sets: Vec<InstructionSet>,
    /// The most operations of each function of an inlined kernel. All functions of a kernel use the same instructions,
    /// so that what one computes again of another has the same bits.
    pub inline_limit: u64,
    /// The most bytes of packed operands that a function may keep on the stack; what pays if `None`.
    pub scratch_limit: Option<usize>,
    /// The core that schedules are weighed on, for the class of machines that it is of; every core of a class if `None`.
    pub tune: Option<&'static Core>,
    /// The most bytes of locals that a function of an op may keep on the stack.
    pub stack_limit: usize,
    /// Whether the nests of each kernel are run and compared with its formulas.
    pub validate: bool,
    /// Whether the output is one file with the runtime in it, which needs no crate.
    pub self_contained: bool,
    /// Whether a self-contained file uses `std`: to choose instructions at run time, and to make zeros on the heap.
    pub std: bool,
    /// The path of the C header, from the output folder. With it, kernels have wrappers for C.
    pub c_header: Option<String>,
    /// What the names in the header begin with.
    pub c_prefix: String,
    /// Whether the kernels have wrappers for the arrays of `ndarray`.
    pub ndarray: bool,
    /// Templates that replace shipped ones: name and text.
    pub templates: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            module: "kernels".into(),
            prefix: String::new(),
            dtype: DType::F32,
            target_arch: None,
            instruction_sets: InstructionSet::ALL.to_vec(),
            inline_limit: 1024,
            scratch_limit: None,
            tune: None,
            stack_limit: 64 * 1024,
            validate: true,
            self_contained: false,
            std: false,
            c_header: None,
            c_prefix: "cotangent_".into(),
            ndarray: false,
            templates: Vec::new(),
        }
    }
}

/// Bytes of packed operands that fit a thread of 64 KiB beside all else.
const SMALL_SCRATCH: usize = 16 * 1024;

impl Options {
    /// Whether kernels are made for these instructions.
    #[must_use]
    pub fn has(&self, set: InstructionSet) -> bool {
        set == InstructionSet::Portable || self.instruction_sets.contains(&set)
    }

    /// Whether kernels are made for the portable instructions alone.
    #[must_use]
    pub fn portable(&self) -> bool {
        InstructionSet::ALL.into_iter().all(|s| s == InstructionSet::Portable || !self.has(s))
    }

    /// The most bytes of packed operands that a function may keep on the stack: [`Options::scratch_limit`] or its
    /// default. The default is small without `std`, and without an instruction set to choose: threads may have small
    /// stacks there.
    #[must_use]
    pub fn scratch(&self) -> usize {
        let small = self.portable() || self.self_contained && !self.std;
        self.scratch_limit.unwrap_or(if small { SMALL_SCRATCH } else { usize::MAX })
    }

    /// Adds an error to `out` for each name that Rust or C would refuse, and for options that exclude each other.
    #[doc(hidden)]
    pub fn check(&self, out: &mut Diagnostics) {
        let word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !self.module.is_empty() && !self.module.split("::").all(|part| word(part) && !is_keyword(part)) {
            let message = format!("`{}` cannot be the module of the kernels", self.module);
            out.push(
                Diagnostic::general(Code::BadOption, message)
                    .help("a path from the crate's root: `kernels`, `nn::kernels`"),
            );
        }
        if let Some(arch) = self.target_arch.as_ref().filter(|arch| !word(arch)) {
            let message = format!("`{arch}` cannot be an architecture");
            let help = "as `CARGO_CFG_TARGET_ARCH` calls it: `x86_64`, `aarch64`, `arm`";
            out.push(Diagnostic::general(Code::BadOption, message).help(help));
        }
        let lower = |text: &str| text == text.to_lowercase();
        if !(self.prefix.is_empty() || word(&self.prefix) && lower(&self.prefix)) {
            let message = format!("`{}` cannot begin the names of modules", self.prefix);
            out.push(Diagnostic::general(Code::BadOption, message).help("lower-case letters, digits and `_`: `net_`"));
        }
        if self.std && !self.self_contained {
            let message = "`std` is an option of self-contained output";
            let help = "elsewhere it is a feature of the crate `cotangent`";
            out.push(Diagnostic::general(Code::BadOption, message).help(help));
        }
        if !(self.c_prefix.is_empty() || word(&self.c_prefix)) {
            let message = format!("`{}` cannot begin names in C", self.c_prefix);
            out.push(Diagnostic::general(Code::BadOption, message).help("letters, digits and `_`: `net_`"));
        }
        // Else it could take the place of a file that Rust includes.
        if let Some(header) = self.c_header.as_ref().filter(|path| !is_header(path)) {
            let message = format!("`{header}` cannot be the C header");
            out.push(Diagnostic::general(Code::BadOption, message).help("a file ending in `.h`: `kernels.h`"));
        }
        if self.ndarray && self.self_contained {
            let message = "self-contained output has no wrappers for `ndarray`";
            let help = "they stand on the crate `cotangent` and its feature `ndarray`";
            out.push(Diagnostic::general(Code::BadOption, message).help(help));
        }
    }
}

/// Whether a path names a C or C++ header.
fn is_header(path: &str) -> bool {
    let extension = std::path::Path::new(path).extension();
    extension.is_some_and(|e| ["h", "hh", "hpp", "hxx"].iter().any(|known| e == *known))
}
