//! Takes relocatable WebAssembly objects, gives their parts: the body of a function each, and each segment of data, as every constant has its own.
//! What refers to what is in the relocations (https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md).
//!
//! Holds after it: a frame is what the function's prologue takes off the stack in linear memory. The engine's own stack, of calls and of
//! operands, is not the program's, and no format says its size.

use crate::Failure;
use crate::parts::{Part, Parts, Place, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use wasmparser::{
    FunctionBody, KnownCustom, Linking, Operator, Parser, Payload, RelocationType, SymbolFlags, SymbolInfo, TypeRef,
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

    /// The part that a defined symbol stands in (functions come first, then segments), or the name of an undefined one. None for what is
    /// neither code nor data.
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

/// The bytes that a function takes off the stack, from its prologue: the stack pointer, less a constant, and rounded down where the frame wants
/// more alignment than the stack has. There it is the most that can be lost.
fn frame(body: &FunctionBody, stack_pointer: &BTreeSet<u64>) -> Result<u64, Failure> {
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        let (operator, at) = reader.read_with_offset()?;
        // The index stands behind the byte of the instruction.
        if !matches!(operator, Operator::GlobalGet { .. }) || !stack_pointer.contains(&(at + 1)) {
            continue;
        }
        // What is done with it, but for copies.
        let mut steps = Vec::new();
        while !reader.eof() && steps.len() < 4 {
            let operator = reader.read()?;
            let copy = matches!(
                operator,
                Operator::LocalGet { .. } | Operator::LocalSet { .. } | Operator::LocalTee { .. } | Operator::Drop
            );
            steps.extend((!copy).then_some(operator));
        }
        return match *steps {
            [
                Operator::I32Const { value: size @ 0.. },
                Operator::I32Sub,
                Operator::I32Const { value: mask @ ..=-1 },
                Operator::I32And,
            ] => Ok(u64::from(size.unsigned_abs()) + u64::from(mask.unsigned_abs()).saturating_sub(STACK_ALIGNMENT)),
            [Operator::I32Const { value: size @ 0.. }, Operator::I32Sub, ..] => Ok(u64::from(size.unsigned_abs())),
            _ => Err(format!("an unknown prologue at byte {at} of an object").into()),
        };
    }
    Ok(0)
}
