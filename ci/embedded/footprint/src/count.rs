//! Takes a linked WebAssembly module that exports its kernels; gives one that computes the same and besides counts the
//! instructions of each call.
//!
//! A global counts instructions: where a run of instructions ends that is executed as a whole, at one that may go
//! elsewhere or that others may go to, its length is added before the last of them. So it is right whatever follows: a
//! branch, a return, a call. `end` and `else` close what others open and are not instructions; `loop` is executed when
//! it is entered, not at each turn.
//!
//! Holds after it: for each kernel that ran, the exported global `instructions NAME` has the count of its last call,
//! from its first instruction to its return, with all that it called. A wrapper that takes the kernel's place, for
//! exports and callers alike, sets it.

use crate::{Failure, reported};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, GlobalType, ImportSection, Instruction, MemorySection, Module, StartSection,
    TableSection, TypeSection, ValType,
};
use wasmparser::{ExternalKind, FunctionBody, Operator, Parser, Payload, Validator, WasmFeatures};

/// Before a kernel's name in that of the global with its count.
const INSTRUCTIONS: &str = "instructions ";
const COUNT: GlobalType = GlobalType { val_type: ValType::I64, mutable: true, shared: false };

/// What is put where.
struct Counting {
    /// The global that counts.
    counter: u32,
    /// The function in place of each kernel.
    wrappers: BTreeMap<u32, u32>,
}

impl Reencode for Counting {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        Ok(self.wrappers.get(&function).copied().unwrap_or(function))
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: FunctionBody) -> Result<(), Error> {
        let mut out = self.new_function_with_parsed_locals(&body)?;
        let mut run = 0;
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            run += i64::from(!matches!(operator, Operator::End | Operator::Else));
            if ends_run(&operator) && run > 0 {
                out.instruction(&Instruction::GlobalGet(self.counter))
                    .instruction(&Instruction::I64Const(run))
                    .instruction(&Instruction::I64Add)
                    .instruction(&Instruction::GlobalSet(self.counter));
                run = 0;
            }
            out.instruction(&self.instruction(operator)?);
        }
        code.function(&out);
        Ok(())
    }
}

/// Whether what follows is not executed whenever this is: every control instruction of WebAssembly 2.0.
fn ends_run(operator: &Operator) -> bool {
    use Operator::*;
    matches!(
        operator,
        Unreachable
            | Block { .. }
            | Loop { .. }
            | If { .. }
            | Else
            | End
            | Br { .. }
            | BrIf { .. }
            | BrTable { .. }
            | Return
            | Call { .. }
            | CallIndirect { .. }
    )
}

/// The module that counts. A module with features beyond WebAssembly 2.0, which has no other control instructions, is
/// an error.
pub fn instrument(program: &[u8]) -> Result<Vec<u8>, Failure> {
    let types = Validator::new_with_features(WasmFeatures::WASM2).validate_all(program)?;
    let types = types.as_ref();
    let mut kernels = Vec::new();
    let mut signatures = Vec::new();
    for payload in Parser::new(0).parse_all(program) {
        match payload? {
            Payload::FunctionSection(section) => signatures = section.into_iter().collect::<Result<_, _>>()?,
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if let (ExternalKind::Func, Some(name)) = (export.kind, reported(export.name)) {
                        kernels.push((export.index, name));
                    }
                }
            }
            _ => {}
        }
    }
    // One function may have several names.
    let wrapped: BTreeSet<u32> = kernels.iter().map(|(function, _)| *function).collect();
    let counter = types.global_count();
    let wrappers = wrapped.iter().copied().zip(types.function_count()..).collect();
    let results: BTreeMap<u32, u32> = wrapped.iter().copied().zip(counter + 1..).collect();
    let mut counting = Counting { counter, wrappers };

    let mut s = Sections::default();
    for payload in Parser::new(0).parse_all(program) {
        s.add(&mut counting, payload?)?;
    }
    let imported = types.function_count() - u32::try_from(signatures.len())?;
    for function in &wrapped {
        let own = function.checked_sub(imported).ok_or("a kernel is imported")?;
        let parameters = types[types.core_function_at(*function)].unwrap_func().params().len();
        s.functions.function(signatures[own as usize]);
        s.code.function(&wrapper(*function, u32::try_from(parameters)?, counter, results[function]));
    }
    for _ in 0..=wrapped.len() {
        s.globals.global(COUNT, &ConstExpr::i64_const(0));
    }
    for (function, name) in &kernels {
        s.exports.export(&format!("{INSTRUCTIONS}{name}"), ExportKind::Global, results[function]);
    }
    Ok(s.finish())
}

/// Calls a kernel and sets the global `result` to what `counter` grew by.
fn wrapper(kernel: u32, parameters: u32, counter: u32, result: u32) -> Function {
    let mut out = Function::new([(1, ValType::I64)]);
    out.instruction(&Instruction::GlobalGet(counter)).instruction(&Instruction::LocalSet(parameters));
    for parameter in 0..parameters {
        out.instruction(&Instruction::LocalGet(parameter));
    }
    out.instruction(&Instruction::Call(kernel))
        .instruction(&Instruction::GlobalGet(counter))
        .instruction(&Instruction::LocalGet(parameters))
        .instruction(&Instruction::I64Sub)
        .instruction(&Instruction::GlobalSet(result))
        .instruction(&Instruction::End);
    out
}

/// The sections of a module, of which some may be empty.
#[derive(Default)]
struct Sections {
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    globals: GlobalSection,
    exports: ExportSection,
    start: Option<StartSection>,
    elements: ElementSection,
    data_count: Option<DataCountSection>,
    code: CodeSection,
    data: DataSection,
}

impl Sections {
    /// Adds what the program has; custom sections, such as names, are left out.
    fn add(&mut self, counting: &mut Counting, payload: Payload) -> Result<(), Error> {
        match payload {
            Payload::TypeSection(section) => counting.parse_type_section(&mut self.types, section),
            Payload::ImportSection(section) => counting.parse_import_section(&mut self.imports, section),
            Payload::FunctionSection(section) => counting.parse_function_section(&mut self.functions, section),
            Payload::TableSection(section) => counting.parse_table_section(&mut self.tables, section),
            Payload::MemorySection(section) => counting.parse_memory_section(&mut self.memories, section),
            Payload::GlobalSection(section) => counting.parse_global_section(&mut self.globals, section),
            Payload::ExportSection(section) => counting.parse_export_section(&mut self.exports, section),
            Payload::StartSection { func, .. } => {
                self.start = Some(StartSection { function_index: counting.start_section(func)? });
                Ok(())
            }
            Payload::ElementSection(section) => counting.parse_element_section(&mut self.elements, section),
            Payload::DataCountSection { count, .. } => {
                self.data_count = Some(DataCountSection { count });
                Ok(())
            }
            Payload::CodeSectionEntry(body) => counting.parse_function_body(&mut self.code, body),
            Payload::DataSection(section) => counting.parse_data_section(&mut self.data, section),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Vec<u8> {
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions).section(&self.tables);
        module.section(&self.memories).section(&self.globals).section(&self.exports);
        if let Some(start) = &self.start {
            module.section(start);
        }
        module.section(&self.elements);
        if let Some(count) = &self.data_count {
            module.section(count);
        }
        module.section(&self.code).section(&self.data);
        module.finish()
    }
}

#[cfg(test)]
mod tests {
    //! Modules in text form, with counts by hand. They run under Node by `run.mjs`, as the fixture does.

    use super::*;
    use std::process::{Command, Output};

    fn run(name: &str, module: &[u8]) -> Output {
        let path = std::env::temp_dir().join(format!("footprint-{}-{name}.wasm", std::process::id()));
        std::fs::write(&path, module).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../run.mjs");
        let output = Command::new("node").arg(script).arg(&path).output().expect("Node runs the modules of this test");
        std::fs::remove_file(&path).unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Instruments a module, runs it as it was and as it is, and gives the counts in order of names.
    fn counts(name: &str, text: &str) -> Vec<(String, u64)> {
        let module = wat::parse_str(text).unwrap();
        let counted = run(name, &instrument(&module).unwrap());
        assert_eq!(counted.stdout, run(name, &module).stdout, "{name}: what it prints");
        let mut out: Vec<(String, u64)> = String::from_utf8(counted.stderr)
            .unwrap()
            .lines()
            .map(|l| l.split_once(' ').unwrap())
            .map(|(name, count)| (name.into(), count.parse().unwrap()))
            .collect();
        out.sort();
        out
    }

    fn expect(name: &str, text: &str, expected: &[(&str, u64)]) {
        let expected: Vec<(String, u64)> = expected.iter().map(|(name, count)| ((*name).into(), *count)).collect();
        assert_eq!(counts(name, text), expected);
    }

    /// Two instructions, ten turns of seven, and the loop itself.
    #[test]
    fn a_loop() {
        let text = r#"(module
            (func $k (export "kernel loop") (param i32) (local i32)
                i32.const 0  local.set 1
                loop
                    local.get 1  i32.const 1  i32.add  local.tee 1
                    local.get 0  i32.lt_s  br_if 0
                end)
            (func (export "_start") i32.const 10  call $k))"#;
        expect("loop", text, &[("loop", 2 + 1 + 10 * 7)]);
    }

    /// A kernel that stops in the middle: by `return`, by a branch to its own level with and without a condition, by a
    /// table, and not at all.
    #[test]
    fn ways_out() {
        let out = |name: &str, body: &str| {
            format!(
                r#"(func ${name} (export "kernel {name}") (param i32) (result i32)
                    i32.const 7
                    block
                        block
                            {body}
                        end
                        nop  nop
                    end
                    nop  nop  nop  nop)"#
            )
        };
        let text = format!(
            r#"(module {} {} {} {} {} {}
                (func (export "_start")
                    i32.const 1  call $return  drop
                    i32.const 1  call $br  drop
                    i32.const 1  call $br_if  drop
                    i32.const 0  call $not  drop
                    i32.const 2  call $br_table  drop
                    i32.const 1  call $inner  drop))"#,
            out("return", "i32.const 8  return  nop  nop"),
            out("br", "i32.const 8  br 2  nop  nop"),
            out("br_if", "i32.const 8  local.get 0  br_if 2  drop"),
            out("not", "i32.const 8  local.get 0  br_if 2  drop"),
            out("br_table", "i32.const 8  local.get 0  br_table 2 2 2"),
            out("inner", "local.get 0  br_if 1  nop"),
        );
        let begin = 3;
        expect(
            "ways_out",
            &text,
            &[
                ("br", begin + 2),
                ("br_if", begin + 3),
                ("br_table", begin + 3),
                ("inner", begin + 2 + 4),
                ("not", begin + 4 + 2 + 4),
                ("return", begin + 2),
            ],
        );
    }

    /// Either arm of a condition, and what a kernel calls: a function, another kernel, a kernel by a table. One
    /// function may have two names, and one that does not run has no line.
    #[test]
    fn conditions_and_calls() {
        let text = r#"(module
            (type $one (func (param i32) (result i32)))
            (import "env" "print" (func $print (param i32 i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "printed")
            (table 1 funcref)
            (elem (i32.const 0) $arms)
            (func $arms (export "kernel arms") (export "kernel alias") (type $one)
                local.get 0
                if (result i32)
                    i32.const 1  i32.const 2  i32.add
                else
                    i32.const 5
                end)
            (func $helper (param i32) (result i32) local.get 0  i32.eqz)
            (func $calls (export "kernel calls") (type $one)
                local.get 0  call $helper  call $arms)
            (func $table (export "kernel table") (type $one)
                local.get 0  i32.const 0  call_indirect (type $one))
            (func (export "kernel idle") nop)
            (func (export "_start")
                i32.const 1  call $calls  drop
                i32.const 1  call $table  drop
                i32.const 16  i32.const 7  call $print))"#;
        let (one, other) = (2 + 3, 2 + 1);
        expect(
            "conditions_and_calls",
            text,
            &[("alias", one), ("arms", one), ("calls", 3 + 2 + other), ("table", 3 + one)],
        );
    }

    /// Where control could go elsewhere in ways that are not counted, nothing is.
    #[test]
    fn later_features_are_refused() {
        let module = wat::parse_str(r#"(module (func $f) (func (export "kernel tail") return_call $f))"#).unwrap();
        let error = instrument(&module).unwrap_err().to_string();
        assert!(error.contains("tail calls support is not enabled"), "{error}");
    }
}
