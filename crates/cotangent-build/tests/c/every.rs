//! Every function of the kernels, called from Rust: takes nothing, prints the sizes of the tensors and a hash of each
//! result; and the C program that does the same through the header, and must print the same lines.

#[path = "kernels/mod.rs"]
pub mod kernels;

use kernels::cotangent::{KernelInfo, Tensor};
use std::fmt::Write;

/// A number for element `i` of argument `of`: exact in both precisions, above zero.
fn number(i: usize, of: usize) -> u8 {
    ((i * 37 + of * 11) % 61 + 3) as u8
}

/// Scalars by their bytes.
trait Bytes: Copy {
    fn from_number(n: u8) -> Self;
    fn bytes(self) -> impl Iterator<Item = u8>;
}

impl Bytes for f32 {
    fn from_number(n: u8) -> Self {
        f32::from(n) / 16.0
    }
    fn bytes(self) -> impl Iterator<Item = u8> {
        self.to_ne_bytes().into_iter()
    }
}

impl Bytes for f64 {
    fn from_number(n: u8) -> Self {
        f64::from(n) / 16.0
    }
    fn bytes(self) -> impl Iterator<Item = u8> {
        self.to_ne_bytes().into_iter()
    }
}

fn filled<T: Tensor<Scalar: Bytes>>(of: usize) -> T {
    let mut tensor = T::ZERO;
    tensor.flat_mut().iter_mut().enumerate().for_each(|(i, to)| *to = T::Scalar::from_number(number(i, of)));
    tensor
}

/// FNV-1a.
fn hash<T: Tensor<Scalar: Bytes>>(tensor: &T) -> u64 {
    let bytes = tensor.flat().iter().flat_map(|v| v.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

fn alias(tensor: &str) -> String {
    let capital = |part: &str| part[..1].to_uppercase() + &part[1..];
    tensor.split('_').map(capital).collect()
}

fn sizes(k: &KernelInfo) {
    for t in k.tensors {
        let len: usize = t.shape.iter().product();
        let bytes = len * if k.scalar == kernels::cotangent::Scalar::F32 { 4 } else { 8 };
        println!("cotangent_{}_{}_{} {len} {bytes} {:?}", k.op, k.name, alias(t.name), t.shape);
    }
    for f in k.functions {
        println!("cotangent_{}_{}_{} {}", k.op, k.name, f.name, f.scratch.most());
    }
}

const START: &str = r#"/* Every function of the header: prints what the same program in Rust prints. */
#include "kernels.h"
#include <inttypes.h>
#include <stdio.h>

static int number(size_t i, size_t of)
{
    return (int)((i * 37 + of * 11) % 61 + 3);
}

static void fill_f32(float *to, size_t n, size_t of)
{
    size_t i;
    for (i = 0; i < n; i++) to[i] = (float)number(i, of) / 16.0f;
}

static void fill_f64(double *to, size_t n, size_t of)
{
    size_t i;
    for (i = 0; i < n; i++) to[i] = (double)number(i, of) / 16.0;
}

static uint64_t hash(const void *bytes, size_t n)
{
    const unsigned char *b = (const unsigned char *)bytes;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ b[i]) * UINT64_C(0x100000001b3);
    return h;
}

"#;

/// The sizes of a kernel's tensors and functions in C, from the header's constants.
fn sizes_in_c(k: &KernelInfo) -> String {
    let mut out = String::new();
    for t in k.tensors {
        let name = format!("cotangent_{}_{}_{}", k.op, k.name, alias(t.name));
        let places = vec!["%d"; t.shape.len()].join(", ");
        let dims: String = (0..t.shape.len()).map(|i| format!(", {name}_DIM_{i}")).collect();
        let _ = writeln!(out, "    printf(\"{name} %d %d [{places}]\\n\", {name}_LEN, {name}_BYTES{dims});");
        let _ = writeln!(out, "    if (sizeof({name}) != {name}_BYTES) return 1;");
    }
    for f in k.functions {
        let name = format!("cotangent_{}_{}_{}", k.op, k.name, f.name);
        let _ = writeln!(out, "    printf(\"{name} %d\\n\", {name}_SCRATCH);");
    }
    out
}

macro_rules! every {
    ($({
        $($segment:tt)::+, $op:ident, $kernel:ident, $scalar:ident;
        $(fn $function:ident($($read:ident: $read_type:ident,)* => $($write:ident: $write_type:ident,)*);)*
    })*) => {
        /// Calls them all.
        pub fn run() {
            $({
                use $($segment)::+ as kernel;
                sizes(&kernel::KERNEL);
                $({
                    let mut _of = 0;
                    let mut next = || { _of += 1; _of };
                    $(let $read = filled::<kernel::$read_type>(next());)*
                    $(let mut $write = filled::<kernel::$write_type>(next());)*
                    kernel::$function($(&$read,)* $(&mut $write,)*);
                    $(println!(
                        "cotangent_{}_{}_{} {} {:016x}",
                        stringify!($op), stringify!($kernel), stringify!($function), stringify!($write), hash(&$write)
                    );)*
                })*
            })*
        }

        /// The program in C.
        pub fn program() -> String {
            let mut out = START.to_string();
            let mut calls = String::new();
            $({
                use $($segment)::+ as kernel;
                let stem = concat!("cotangent_", stringify!($op), "_", stringify!($kernel));
                let _ = write!(out, "static int {stem}_sizes(void)\n{{\n{}    return 0;\n}}\n\n", sizes_in_c(&kernel::KERNEL));
                let _ = writeln!(calls, "    if ({stem}_sizes()) return 1;");
                $({
                    let function = format!("{stem}_{}", stringify!($function));
                    let reads: &[&str] = &[$(stringify!($read_type)),*];
                    let writes: &[(&str, &str)] = &[$((stringify!($write), stringify!($write_type))),*];
                    let types: Vec<&str> = reads.iter().copied().chain(writes.iter().map(|w| w.1)).collect();
                    let _ = writeln!(out, "static void call_{function}(void)\n{{");
                    for (i, ty) in types.iter().enumerate() {
                        let _ = writeln!(out, "    static {stem}_{ty} a{i};");
                    }
                    for (i, ty) in types.iter().enumerate() {
                        let pointer = if stringify!($scalar) == "f32" { "float" } else { "double" };
                        let _ = writeln!(
                            out, "    fill_{}(({pointer} *)&a{i}, {stem}_{ty}_LEN, {});", stringify!($scalar), i + 1
                        );
                    }
                    let arguments: Vec<String> = (types.iter().enumerate())
                        .map(|(i, ty)| if i < reads.len() { format!("(const {stem}_{ty} *)&a{i}") } else { format!("&a{i}") })
                        .collect();
                    let _ = writeln!(out, "    {function}({});", arguments.join(", "));
                    for (i, (name, _)) in writes.iter().enumerate() {
                        let _ = writeln!(
                            out,
                            "    printf(\"{function} {name} %016\" PRIx64 \"\\n\", hash(&a{0}, sizeof(a{0})));",
                            reads.len() + i
                        );
                    }
                    out.push_str("}\n\n");
                    let _ = writeln!(calls, "    call_{function}();");
                })*
            })*
            out + "int main(void)\n{\n" + &calls + "    return 0;\n}\n"
        }
    };
}

kernels::for_each_kernel!(every);
