//! Runs every function of the kernels: takes a file of arguments, gives a file of results. What a call only writes is
//! not a number before it.

#[path = "kernels.rs"]
pub mod kernels;

use kernels::cotangent::{Tensor, Workspace};
use std::collections::HashMap;

trait Number: Copy {
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
}

impl Number for f32 {
    fn of(bits: u64) -> f32 {
        f64::from_bits(bits) as f32
    }
    fn bits(self) -> u64 {
        f64::from(self).to_bits()
    }
}

impl Number for f64 {
    fn of(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

struct Files {
    arguments: std::vec::IntoIter<u64>,
    results: Vec<u64>,
    /// What `forward` wrote last.
    outputs: HashMap<&'static str, Vec<u64>>,
}

impl Files {
    fn next(&mut self) -> u64 {
        self.arguments.next().expect("a number more")
    }
    /// The file and the macro list the same functions.
    fn expect(&mut self, function: &[&str]) {
        let hash = function.iter().flat_map(|s| s.bytes()).fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        assert_eq!(self.next(), hash, "{function:?}");
    }
    /// Fills from the file, or from what `forward` wrote.
    fn fill<T: Number>(&mut self, name: &'static str, to: &mut [T]) {
        match self.next() as usize {
            usize::MAX => to.iter_mut().zip(&self.outputs[name]).for_each(|(to, from)| *to = T::of(*from)),
            n => {
                assert_eq!(n, to.len(), "{name}");
                to.iter_mut().for_each(|to| *to = T::of(self.next()));
            }
        }
    }
    fn give<T: Number>(&mut self, name: &'static str, keep: bool, from: &[T]) {
        let bits: Vec<u64> = from.iter().map(|v| v.bits()).collect();
        self.results.extend(&bits);
        if keep {
            self.outputs.insert(name, bits);
        }
    }
}

fn tensor<T: Tensor<Scalar: Number>>(files: &mut Files, name: &'static str) -> Box<T> {
    let mut tensor = T::zeros();
    files.fill(name, tensor.flat_mut());
    tensor
}

trait Dirty {
    fn dirty() -> Box<Self>;
}

macro_rules! dirty {
    ($($t:ident)*) => {$(
        impl<const N: usize> Dirty for Workspace<$t, N> {
            fn dirty() -> Box<Self> {
                let mut workspace = Box::new(Workspace::new());
                workspace.scalars().fill($t::NAN);
                workspace
            }
        }
    )*};
}
dirty!(f32 f64);

macro_rules! run {
    ($({ $path:path, $op:ident, $kernel:ident, $scalar:ident;
         $(fn $f:ident($($r:ident: $R:ident,)* => $($w:ident: $W:ident,)* $(; $workspace:ident)?);)* })*) => {
        &[$({
            use $path as kernel;
            |files: &mut Files| {
                $({
                    files.expect(&[stringify!($op), stringify!($kernel), stringify!($f)]);
                    $(let $r: Box<kernel::$R> = tensor(files, stringify!($r));)*
                    $(let mut $w: Box<kernel::$W> = tensor(files, stringify!($w));)*
                    kernel::$f($(&$r,)* $(&mut $w,)* $(&mut kernel::$workspace::Workspace::dirty())?);
                    $(files.give(stringify!($w), stringify!($f) == "forward", (*$w).flat());)*
                })*
            }
        },)*]
    };
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let bytes = std::fs::read(&arguments[1]).expect("a file of arguments");
    let numbers: Vec<u64> = bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("eight"))).collect();
    let mut files = Files { arguments: numbers.into_iter(), results: Vec::new(), outputs: HashMap::new() };
    let rounds = files.next();
    let run = move || {
        let kernels: &[fn(&mut Files)] = kernels::for_each_kernel!(run);
        for kernel in kernels {
            (0..rounds).for_each(|_| kernel(&mut files));
        }
        assert!(files.arguments.next().is_none(), "arguments that nothing takes");
        files.results
    };
    let results = std::thread::Builder::new().stack_size(1 << 28).spawn(run).expect("a thread").join().expect("results");
    let bytes: Vec<u8> = results.into_iter().flat_map(u64::to_le_bytes).collect();
    std::fs::write(&arguments[2], bytes).expect("the results are written");
}
