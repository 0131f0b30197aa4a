//! A type-erased view of generated kernels: takes the tokens of a crate's `for_each_kernel!`, gives a list of
//! [`Kernel`]s whose functions run on named vectors of `f64`, so that one test body serves every kernel, both scalar
//! types and every shape.
//!
//! Holds for each call: arguments are converted in storage order; what the function writes is first taken from the
//! buffers too, so that accumulation shows, and goes back into them. A workspace is full of NaN before.

use cotangent::{FunctionInfo, KernelInfo, Real, Role, Scalar, Tensor, TensorInfo, Workspace};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tensors by the names of the arguments (`x`, `x_dot`, `y_bar`), elements in storage order.
pub type Buffers = BTreeMap<String, Vec<f64>>;

/// Prints a line even when the test passes: the harness captures the print macros only.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs this test binary again under every other instruction set of the machine, without the test that calls this.
pub fn on_every_instruction_set(caller: &str) {
    let this = std::env::current_exe().expect("the path of the test binary");
    for name in cotangent::isa::names().iter().filter(|name| **name != cotangent::isa::name()) {
        let run = std::process::Command::new(&this)
            .args(["--skip", caller])
            .env("COTANGENT_ISA", name)
            .output()
            .expect("the test binary runs");
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "under {name}:\n{out}{err}");
        let result = out.lines().find(|l| l.starts_with("test result:")).unwrap_or_default();
        say(format!("under {name}: {result}"));
    }
}

/// A kernel behind one type.
pub struct Kernel {
    /// What it is.
    pub info: KernelInfo,
    call: fn(&str, &mut Buffers),
}

impl Kernel {
    /// For [`kernel_list!`].
    pub fn new(info: KernelInfo, call: fn(&str, &mut Buffers)) -> Self {
        Kernel { info, call }
    }

    /// Runs a function. Every argument that it reads must be in the buffers; what it writes starts from what is there,
    /// or else from NaN.
    pub fn call(&self, function: &str, buffers: &mut Buffers) {
        (self.call)(function, buffers);
    }

    /// `op::kernel`.
    pub fn path(&self) -> String {
        format!("{}::{}", self.info.op, self.info.name)
    }

    /// The tensors of a role.
    pub fn tensors(&self, role: Role) -> impl Iterator<Item = &'static TensorInfo> {
        self.info.tensors.iter().filter(move |t| t.role == role)
    }

    /// A function that every kernel has.
    pub fn function(&self, name: &str) -> &'static FunctionInfo {
        self.info.function(name).unwrap_or_else(|| panic!("{} has no `{name}`", self.path()))
    }

    /// One of two numbers, for `f32` and for `f64`.
    pub fn pick(&self, f32: f64, f64: f64) -> f64 {
        match self.info.scalar {
            Scalar::F32 => f32,
            Scalar::F64 => f64,
        }
    }
}

/// The number of elements of a tensor.
pub fn elements(t: &TensorInfo) -> usize {
    t.shape.iter().product()
}

/// A scalar that a buffer can hold.
pub trait Element: Real {
    /// To the nearest.
    fn from_f64(v: f64) -> Self;
    /// Exactly.
    fn to_f64(self) -> f64;
}

impl Element for f32 {
    fn from_f64(v: f64) -> Self {
        v as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    fn from_f64(v: f64) -> Self {
        v
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// A buffer as the tensor that a function takes.
pub fn load<T: Tensor<Scalar: Element>>(buffers: &Buffers, name: &str) -> Box<T> {
    let mut tensor = T::zeros();
    read(buffers, name, tensor.flat_mut());
    tensor
}

/// What the tensor that a function writes is before: the buffer of that name, or NaN where there is none.
pub fn start<T: Tensor<Scalar: Element>>(buffers: &Buffers, name: &str) -> Box<T> {
    let mut tensor = T::zeros();
    match buffers.contains_key(name) {
        true => read(buffers, name, tensor.flat_mut()),
        false => tensor.flat_mut().fill(T::Scalar::from_f64(f64::NAN)),
    }
    tensor
}

/// The tensor that a function has written as a buffer.
pub fn save<T: Tensor<Scalar: Element>>(buffers: &mut Buffers, name: &str, tensor: &T) {
    write(buffers, name, tensor.flat());
}

/// A workspace in which nobody has written but NaN.
#[allow(dead_code, reason = "kernels of ops have no workspace")]
pub fn poisoned<S: Element, const N: usize>(workspace: &Mutex<Workspace<S, N>>) -> MutexGuard<'_, Workspace<S, N>> {
    // What a test that has failed left in it does not matter.
    let mut workspace = workspace.lock().unwrap_or_else(PoisonError::into_inner);
    workspace.scalars().fill(S::from_f64(f64::NAN));
    workspace
}

// Apart from the above so that they are compiled once for each scalar type, not for each shape.

fn read<S: Element>(buffers: &Buffers, name: &str, to: &mut [S]) {
    let from = buffers.get(name).unwrap_or_else(|| panic!("no buffer `{name}`"));
    assert_eq!(from.len(), to.len(), "elements of `{name}`");
    to.iter_mut().zip(from).for_each(|(to, from)| *to = S::from_f64(*from));
}

fn write<S: Element>(buffers: &mut Buffers, name: &str, from: &[S]) {
    buffers.insert(name.into(), from.iter().map(|v| v.to_f64()).collect());
}

/// The callback of `for_each_kernel!`: defines `fn kernels() -> Vec<Kernel>`.
#[macro_export]
macro_rules! kernel_list {
    ($({
        $($segment:tt)::+, $op:ident, $kernel:ident, $scalar:ident;
        $(fn $function:ident($($read:ident: $read_type:ident,)* => $($write:ident: $write_type:ident,)* $(; $workspace:ident)?);)*
    })*) => {
        /// Every kernel of the crate.
        fn kernels() -> Vec<$crate::support::Kernel> {
            use $crate::support::{Buffers, Kernel, load, save, start};
            vec![$({
                use $($segment)::+ as kernel;
                fn call(function: &str, buffers: &mut Buffers) {
                    match function {
                        $(stringify!($function) => {
                            $(let $read = load::<kernel::$read_type>(buffers, stringify!($read));)*
                            $(let mut $write = start::<kernel::$write_type>(buffers, stringify!($write));)*
                            $(let mut $workspace = {
                                // In a static: some are larger than a stack.
                                static WORKSPACE: std::sync::Mutex<kernel::$workspace::Workspace> =
                                    std::sync::Mutex::new(cotangent::Workspace::new());
                                $crate::support::poisoned(&WORKSPACE)
                            };)?
                            kernel::$function($(&$read,)* $(&mut $write,)* $(&mut $workspace)?);
                            $(save::<kernel::$write_type>(buffers, stringify!($write), &$write);)*
                        })*
                        other => panic!("{}::{} has no function `{other}`", stringify!($op), stringify!($kernel)),
                    }
                }
                Kernel::new(kernel::KERNEL, call)
            }),*]
        }
    };
}

/// Random numbers that are the same on every run: SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Random(u64);

impl Random {
    /// Seeded by a text, so that one kernel's numbers do not depend on which others there are.
    pub fn new(seed: &str) -> Self {
        // FNV-1a.
        Random(seed.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `lo..hi`.
    pub fn uniform(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of a list.
    pub fn of(&mut self, choices: &[f64]) -> f64 {
        choices[(self.next() % choices.len() as u64) as usize]
    }

    /// So many, uniform in -1..1.
    pub fn tensor(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.uniform(-1.0, 1.0)).collect()
    }
}

/// An input off the bounds of its domain, with room for differences.
pub fn input(t: &TensorInfo, random: &mut Random) -> Vec<f64> {
    let d = t.domain;
    let (lo, hi) = match (d.lo.is_finite(), d.hi.is_finite()) {
        (true, true) => (d.lo, d.hi),
        (true, false) => (d.lo, d.lo + 3.0),
        (false, true) => (d.hi - 3.0, d.hi),
        (false, false) => (-2.0, 2.0),
    };
    let margin = 0.1 * (hi - lo);
    let draw = |_| match (d.lo, d.hi) {
        // Poles and kinks of formulas that are defined everywhere else stand at zero.
        (f64::NEG_INFINITY, f64::INFINITY) => random.of(&[-1.0, 1.0]) * random.uniform(margin, hi),
        _ => random.uniform(lo + margin, hi - margin),
    };
    (0..elements(t)).map(draw).collect()
}

/// The largest magnitude; NaN counts as infinite.
pub fn largest(v: &[f64]) -> f64 {
    v.iter().fold(0.0, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x.abs()) })
}

/// The first element at which two tensors differ by more than `tolerance` (a NaN always does): where, and both values.
pub fn difference(a: &[f64], b: &[f64], tolerance: f64) -> Option<(usize, f64, f64)> {
    assert_eq!(a.len(), b.len(), "elements");
    let near = |a: f64, b: f64| a == b || (a - b).abs() <= tolerance;
    a.iter().zip(b).position(|(a, b)| !near(*a, *b)).map(|i| (i, a[i], b[i]))
}
