//! Takes relocatable WebAssembly objects, gives their parts: the body of a function each, and each segment of data, as
//! every constant has its own. What refers to what is in the relocations
//! (https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md).
//!
//! Holds after it: a frame is what the function's prologue takes off the stack in linear memory. The engine's own
//! stack, of calls and of operands, is not the program's, and no format says its size.

use crate::Failure;
use crate::parts::{Part, Parts, Place, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use wasmparser::{
    FunctionBody, KnownCustom, Linking, Operator, OperatorsReader, Parser, Payload, RelocationType, SymbolFlags,
    SymbolInfo, TypeRef,
};

/// The global that points to the end of the stack.
const STACK_POINTER: &str = "__stack_pointer";
/// What the stack pointer is always a multiple of.
const STACK_ALIGNMENT: u64 = 16;

/// Whether it is WebAssembly.
pub fn is(bytes: &[u8]) -> bool {
    Parser::is_core_wasm(bytes)
}

/// What an object says before it is a graph.
#[derive(Default)]
struct Object<'a> {
    /// Names of imported functions and globals.
    functions: Vec<&'a str>,
    globals: Vec<&'a str>,
    bodies: Vec<FunctionBody<'a>>,
    /// Where each segment of data stands in the file, with its header, and the bytes of data.
    segments: Vec<(Range<u64>, usize)>,
    symbols: Vec<SymbolInfo<'a>>,
    /// Of code and data: the place in the file, the kind, the symbol.
    relocations: Vec<(u64, RelocationType, u32)>,
}

impl<'a> Object<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Failure> {
        let mut object = Object::default();
        let (mut code, mut data) = (0, 0);
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        match import.ty {
                            TypeRef::Func(_) => object.functions.push(import.name),
                            TypeRef::Global(_) => object.globals.push(import.name),
                            _ => {}
                        }
                    }
                }
                Payload::CodeSectionStart { unchecked_range, .. } => code = unchecked_range.start,
                Payload::CodeSectionEntry(body) => object.bodies.push(body),
                Payload::DataSection(section) => {
                    data = section.range().start;
                    for segment in section {
                        let segment = segment?;
                        object.segments.push((segment.range, segment.data.len()));
                    }
                }
                Payload::CustomSection(section) => match (section.name(), section.as_known()) {
                    (_, KnownCustom::Linking(linking)) => {
                        for subsection in linking {
                            if let Linking::SymbolTable(symbols) = subsection? {
                                object.symbols = symbols.into_iter().collect::<Result<_, _>>()?;
                            }
                        }
                    }
                    (name @ ("reloc.CODE" | "reloc.DATA"), KnownCustom::Reloc(section)) => {
                        let start = if name == "reloc.CODE" { code } else { data };
                        for r in section.entries() {
                            let r = r?;
                            object.relocations.push((start + u64::from(r.offset), r.ty, r.index));
                        }
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(object)
    }

    /// The part that a defined symbol stands in (functions come first, then segments), or the name of an undefined one.
    /// None for what is neither code nor data.
    fn target(&self, file: usize, symbol: &SymbolInfo) -> Result<Option<Target>, Failure> {
        let index = |i: u32| i as usize;
        Ok(match *symbol {
            SymbolInfo::Func { flags, index: f, name } if flags.contains(SymbolFlags::UNDEFINED) => {
                let name =
                    name.or(self.functions.get(index(f)).copied()).ok_or("an undefined function without a name")?;
                Some(Target::Symbol(name.into()))
            }
            SymbolInfo::Func { index: f, .. } => {
                let body = index(f).checked_sub(self.functions.len()).ok_or("a defined function that is imported")?;
                Some(Target::Part((file, body)))
            }
            SymbolInfo::Data { symbol: Some(data), flags, .. } if !flags.contains(SymbolFlags::ABSOLUTE) => {
                Some(Target::Part((file, self.bodies.len() + index(data.index))))
            }
            SymbolInfo::Data { name, .. } => Some(Target::Symbol(name.into())),
            _ => None,
        })
    }

    /// Whether a relocation is of the stack pointer.
    fn moves_stack(&self, kind: RelocationType, symbol: u32) -> bool {
        let Some(SymbolInfo::Global { index, name, .. }) = self.symbols.get(symbol as usize) else { return false };
        kind == RelocationType::GlobalIndexLeb
            && name.or(self.globals.get(*index as usize).copied()) == Some(STACK_POINTER)
    }
}

/// Adds the parts of an object.
pub fn read(parts: &mut Parts, file: usize, bytes: &[u8], shared: bool) -> Result<(), Failure> {
    let object = Object::parse(bytes)?;
    for symbol in &object.symbols {
        if let (SymbolInfo::Func { flags, name: Some(name), .. }, Some(Target::Part(at)))
        | (SymbolInfo::Data { flags, name, .. }, Some(Target::Part(at))) = (symbol, object.target(file, symbol)?)
        {
            parts.define(name, !flags.contains(SymbolFlags::BINDING_LOCAL), at);
        }
    }
    // Where each part ends in the file: a relocation belongs to the first that ends behind it.
    let mut ends: BTreeMap<u64, Place> = BTreeMap::new();
    let part = |code, bytes: u64| Part { code, bytes, shared, to: BTreeSet::new(), frame: 0 };
    for (n, body) in object.bodies.iter().enumerate() {
        let range = body.range();
        ends.insert(range.end, (file, n));
        parts.all.insert((file, n), part(true, range.end - range.start));
    }
    for (n, (range, size)) in object.segments.iter().enumerate() {
        let at = (file, object.bodies.len() + n);
        ends.insert(range.end, at);
        parts.all.insert(at, part(false, *size as u64));
    }
    let mut stack_pointer = BTreeSet::new();
    for (at, kind, symbol) in &object.relocations {
        if object.moves_stack(*kind, *symbol) {
            stack_pointer.insert(*at);
        }
        // The index is of a type there.
        if *kind == RelocationType::TypeIndexLeb {
            continue;
        }
        let symbol = object.symbols.get(*symbol as usize).ok_or("a relocation without a symbol")?;
        let (_, place) = ends.range(at + 1..).next().ok_or("a relocation outside code and data")?;
        if let (Some(part), Some(target)) = (parts.all.get_mut(place), object.target(file, symbol)?) {
            part.to.insert(target);
        }
    }
    for (n, body) in object.bodies.iter().enumerate() {
        if let Some(part) = parts.all.get_mut(&(file, n)) {
            part.frame = frame(body, &stack_pointer)?;
        }
    }
    Ok(())
}

/// The bytes that a function takes off the stack, from its prologue: the stack pointer, or a copy of it in a local,
/// less a constant, and rounded down where the frame wants more alignment than the stack has. There it is the most that
/// can be lost. Whatever else stands between belongs to the body.
fn frame(body: &FunctionBody, stack_pointer: &BTreeSet<u64>) -> Result<u64, Failure> {
    let mut reader = body.get_operators_reader()?;
    // Where the pointer is read first, the locals that hold it, and what the last operand is.
    let (mut read, mut copies, mut last) = (None, BTreeSet::new(), Operand::Other);
    while !reader.eof() {
        let (operator, at) = reader.read_with_offset()?;
        last = match (operator, last) {
            // The index stands behind the byte of the instruction.
            (Operator::GlobalGet { .. }, _) if stack_pointer.contains(&(at + 1)) => {
                read = read.or(Some(at));
                Operand::Pointer
            }
            (Operator::LocalGet { local_index }, _) if copies.contains(&local_index) => Operand::Pointer,
            (Operator::LocalTee { local_index }, Operand::Pointer) => {
                copies.insert(local_index);
                Operand::Pointer
            }
            (Operator::LocalSet { local_index }, Operand::Pointer) => {
                copies.insert(local_index);
                Operand::Other
            }
            (Operator::LocalSet { local_index } | Operator::LocalTee { local_index }, _) => {
                copies.remove(&local_index);
                Operand::Other
            }
            (Operator::I32Const { value: size @ 0.. }, Operand::Pointer) => Operand::Size(size.unsigned_abs().into()),
            (Operator::I32Sub, Operand::Size(size)) => return Ok(size + lost(&mut reader)?),
            _ => Operand::Other,
        };
    }
    read.map_or(Ok(0), |at| Err(format!("an unknown prologue at byte {at} of an object").into()))
}

/// An operand of a prologue.
enum Operand {
    Pointer,
    /// Of the frame, above the pointer.
    Size(u64),
    Other,
}

/// The bytes that a mask behind the frame's address can take, if one follows.
fn lost(reader: &mut OperatorsReader) -> Result<u64, Failure> {
    match (reader.read()?, reader.read()?) {
        (Operator::I32Const { value: mask @ ..=-1 }, Operator::I32And) => {
            Ok(u64::from(mask.unsigned_abs()).saturating_sub(STACK_ALIGNMENT))
        }
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    //! Objects written here, by the layout that the tools' conventions give.

    use super::*;
    use wasm_encoder::{
        CodeSection, ConstExpr, CustomSection, DataSection, Encode, EntityType, Function, FunctionSection, GlobalType,
        ImportSection, Instruction, LinkingSection, Module, SymbolTable, TypeSection, ValType,
    };
    use wasmparser::RelocAddendKind;

    /// The frame of the only function of a module whose first global is the stack pointer.
    fn frame_of(body: &str) -> Result<u64, String> {
        let text = format!("(module (global (mut i32) (i32.const 0)) (func (local i32 i32) {body}))");
        let module = wat::parse_str(text).unwrap();
        let object = Object::parse(&module).unwrap();
        let mut reader = object.bodies[0].get_operators_reader().unwrap();
        let mut stack_pointer = BTreeSet::new();
        while !reader.eof() {
            if let (Operator::GlobalGet { .. }, at) = reader.read_with_offset().unwrap() {
                stack_pointer.insert(at + 1);
            }
        }
        frame(&object.bodies[0], &stack_pointer).map_err(|e| e.to_string())
    }

    #[test]
    fn frames_of_prologues() {
        let plain = "global.get 0  i32.const 48  i32.sub  local.tee 0  global.set 0
            local.get 0  i32.const 48  i32.add  global.set 0";
        assert_eq!(frame_of(plain), Ok(48));
        // A leaf with a small frame does not move the pointer.
        assert_eq!(frame_of("i32.const 7  drop  global.get 0  i32.const 16  i32.sub  local.set 0"), Ok(16));
        // 256 bytes at a multiple of 64, below a multiple of 16: up to 48 more.
        let aligned = "global.get 0  local.tee 1  drop  local.get 1  i32.const 256  i32.sub  i32.const -64  i32.and
            local.tee 0  global.set 0  local.get 1  global.set 0";
        assert_eq!(frame_of(aligned), Ok(256 + 48));
        assert_eq!(frame_of("i32.const 48  i32.const 16  i32.sub  drop"), Ok(0));
        // The pointer waits in a local while the body begins; a local that is set anew holds it no longer.
        let late =
            "global.get 0  local.set 0  i32.const 8  i32.load  drop  local.get 0  i32.const 32  i32.sub  local.set 1";
        assert_eq!(frame_of(late), Ok(32));
        let lost = "global.get 0  local.set 0  i32.const 8  local.set 0  local.get 0  i32.const 32  i32.sub  drop";
        assert!(frame_of(lost).is_err());
        let error = frame_of("global.get 0  i32.load  drop").unwrap_err();
        assert!(error.starts_with("an unknown prologue at byte "), "{error}");
    }

    /// A relocation of an object that `object` writes.
    struct Relocation {
        kind: RelocationType,
        /// From the start of the section's contents.
        offset: usize,
        symbol: u32,
    }

    fn relocations(name: &'static str, section: u32, all: &[Relocation]) -> CustomSection<'static> {
        let mut data = Vec::new();
        section.encode(&mut data);
        all.len().encode(&mut data);
        for r in all {
            data.push(r.kind as u8);
            r.offset.encode(&mut data);
            r.symbol.encode(&mut data);
            if r.kind.addend_kind() != RelocAddendKind::None {
                // No bytes behind the symbol.
                data.push(0);
            }
        }
        CustomSection { name: name.into(), data: data.into() }
    }

    /// An object of one function, with a frame, that calls the undefined `callee` and takes the address of the small
    /// constant, which has the address of the large one; nothing refers to the third.
    fn object(name: &str, frame: i32, callee: &str) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut imports = ImportSection::new();
        let pointer = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        imports.import("env", callee, EntityType::Function(0)).import("env", STACK_POINTER, pointer);
        let mut functions = FunctionSection::new();
        functions.function(0);
        // Where the operands begin in the function, which begins with a byte for its locals.
        let mut function = Function::new([]);
        let stack_pointer = function.byte_len() + 1;
        function.instruction(&Instruction::GlobalGet(0)).instruction(&Instruction::I32Const(frame));
        function.instruction(&Instruction::I32Sub).instruction(&Instruction::Drop);
        let address = function.byte_len() + 1;
        function.instruction(&Instruction::I32Const(0)).instruction(&Instruction::Drop);
        let call = function.byte_len() + 1;
        function.instruction(&Instruction::Call(0)).instruction(&Instruction::End);
        let mut code = CodeSection::new();
        code.function(&function);
        let mut data = DataSection::new();
        data.active(0, &ConstExpr::i32_const(0), [1_u8; 24]).active(0, &ConstExpr::i32_const(24), [2_u8; 8]);
        data.active(0, &ConstExpr::i32_const(32), [3_u8; 4]);
        let mut symbols = SymbolTable::new();
        let defined = |index, size| wasm_encoder::DataSymbolDefinition { index, offset: 0, size };
        symbols.function(0, 1, Some(name)).function(SymbolTable::WASM_SYM_UNDEFINED, 0, None);
        symbols.global(SymbolTable::WASM_SYM_UNDEFINED, 0, None);
        symbols.data(SymbolTable::WASM_SYM_BINDING_LOCAL, "large", Some(defined(0, 24)));
        symbols.data(SymbolTable::WASM_SYM_BINDING_LOCAL, "small", Some(defined(1, 8)));
        symbols.data(SymbolTable::WASM_SYM_BINDING_LOCAL, "idle", Some(defined(2, 4)));
        let mut linking = LinkingSection::new();
        linking.symbol_table(&symbols);
        // Before the function: how many there are, and its length. Before the bytes of the second constant: how many
        // there are, then of each the kind, where it goes (three bytes) and the length.
        let (in_code, in_data) = (2, 1 + 5 + 24 + 5);
        let of_code = [
            Relocation { kind: RelocationType::GlobalIndexLeb, offset: in_code + stack_pointer, symbol: 2 },
            Relocation { kind: RelocationType::MemoryAddrSleb, offset: in_code + address, symbol: 4 },
            Relocation { kind: RelocationType::FunctionIndexLeb, offset: in_code + call, symbol: 1 },
        ];
        let of_data = [Relocation { kind: RelocationType::MemoryAddrI32, offset: in_data + 4, symbol: 3 }];
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&code).section(&data).section(&linking);
        module.section(&relocations("reloc.CODE", 3, &of_code)).section(&relocations("reloc.DATA", 4, &of_data));
        module.finish()
    }

    /// Three objects in a row: the first calls the second, which is of the runtime, and that one the third.
    #[test]
    fn graph_of_objects() {
        let mut parts = Parts::default();
        parts.read(&object("kernel a", 32, "b"), false).unwrap();
        parts.read(&object("b", 48, "c"), true).unwrap();
        parts.read(&object("c", 16, "nothing"), false).unwrap();
        assert_eq!(parts.reported.keys().collect::<Vec<_>>(), ["a"]);
        let from = parts.reported["a"];
        assert_eq!(parts.stack(from, &mut BTreeMap::new()), 32 + 48 + 16);
        let closure = parts.closure(from);
        let bytes = |code, shared| {
            let all = closure.iter().map(|p| &parts.all[p]);
            all.filter(|p| p.code == code && p.shared == shared).map(|p| p.bytes).collect::<Vec<_>>()
        };
        // Locals, global.get, i32.const, i32.sub, drop, i32.const, drop, call, end.
        let body = 1 + 2 + 2 + 1 + 1 + 2 + 1 + 2 + 1;
        assert_eq!(bytes(true, false), [body, body]);
        assert_eq!(bytes(true, true), [body]);
        assert_eq!(bytes(false, false), [24, 8, 24, 8]);
        let undefined: Vec<&str> = closure.iter().filter_map(|p| parts.undefined(*p)).collect();
        assert_eq!(undefined, ["nothing"]);
    }
}
