//! Tests of small parts of the compiler, a file for each module of `src`. They stand here, not beside the code: so the
//! compiler is compiled once, and they run with all others.

mod certify;
mod cores;
mod derive;
mod diagnostic;
mod emit;
mod functions;
mod index;
mod instructions;
mod nest;
mod plain;
mod reference;
mod rust;
mod source;
mod spec;
mod syntax;
