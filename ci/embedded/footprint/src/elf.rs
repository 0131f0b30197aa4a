//! Takes ELF objects that were compiled with `-Zemit-stack-sizes`, gives their parts: a section each, as every function
//! and constant has its own. Takes a linked program, gives the addresses of the functions to count, as `instructions.c`
//! reads them.

use crate::parts::{Part, Parts, Target};
use crate::{Failure, reported};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags, elf};
use std::collections::BTreeSet;

/// A line `address name` for each function to count, and for `counted`, which ends the count.
pub fn table(program: &[u8]) -> Result<String, Failure> {
    let file = object::File::parse(program)?;
    // The lowest bit says that it is Thumb code.
    let thumb = u64::from(file.architecture() == object::Architecture::Arm);
    let mut out = String::new();
    for s in file.symbols() {
        let name = s.name()?;
        if let Some(name) = reported(name).or((name == "counted").then_some(name)) {
            out += &format!("{:x} {name}\n", s.address() & !thumb);
        }
    }
    Ok(out)
}

/// Adds the parts of an object, numbered by section.
pub fn read(parts: &mut Parts, n: usize, bytes: &[u8], shared: bool) -> Result<(), Failure> {
    let file = object::File::parse(bytes)?;
    let target = |r: &object::Relocation| -> Result<Option<Target>, Failure> {
        let RelocationTarget::Symbol(s) = r.target() else { return Ok(None) };
        let s = file.symbol_by_index(s)?;
        Ok(Some(match s.section_index() {
            Some(section) => Target::Part((n, section.0)),
            None => Target::Symbol(s.name()?.into()),
        }))
    };
    for s in file.symbols().filter(|s| s.is_definition()) {
        if let Some(section) = s.section_index() {
            parts.define(s.name()?, s.is_global(), (n, section.0));
        }
    }
    let mut frames = Vec::new();
    for s in file.sections() {
        if s.name()? == ".stack_sizes" {
            // An address of four bytes, to be relocated, then the size in LEB128.
            let data = s.data()?;
            for (at, r) in s.relocations() {
                if let Some(Target::Part(place)) = target(&r)? {
                    frames.push((place, leb128(&data[at as usize + 4..])));
                }
            }
            continue;
        }
        let SectionFlags::Elf { sh_flags } = s.flags() else { return Err("not an ELF object".into()) };
        if sh_flags & u64::from(elf::SHF_ALLOC) == 0 {
            continue;
        }
        let mut to = BTreeSet::new();
        for (_, r) in s.relocations() {
            to.extend(target(&r)?);
        }
        let code = sh_flags & u64::from(elf::SHF_EXECINSTR) != 0;
        parts.all.insert((n, s.index().0), Part { code, bytes: s.size(), shared, to, frame: 0 });
    }
    for (place, frame) in frames {
        if let Some(part) = parts.all.get_mut(&place) {
            part.frame += frame;
        }
    }
    Ok(())
}

fn leb128(bytes: &[u8]) -> u64 {
    let length = bytes.iter().take_while(|b| **b & 0x80 != 0).count() + 1;
    bytes.iter().take(length).rev().fold(0, |value, b| value << 7 | u64::from(b & 0x7f))
}
