//! Kernel metadata: takes nothing, gives the types in which generated code describes itself.

use crate::isa::Machine;

/// The scalar type of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// `f32`
    F32,
    /// `f64`
    F64,
}

/// What a tensor is to its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Read by `forward`.
    Input,
    /// Written by `forward`.
    Output,
}

/// What a function computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Outputs from inputs.
    Forward,
    /// Outputs and their tangents from inputs and their tangents.
    Jvp,
    /// Cotangents of inputs from cotangents of outputs.
    Vjp,
    /// The value of a program with a single number as its output, and the gradient.
    ValueAndGrad,
    /// The tangent of the gradient: the second derivatives times a direction.
    Hvp,
    /// The value, the gradient, and its tangent.
    ValueGradAndHvp,
    /// Outputs, and the derivatives of each of their elements by each of an input's.
    Jacobian,
    /// The value, the gradient, and the second derivatives.
    Hessian,
}

/// The interval in which the values of a tensor lie; a bound belongs to it where closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Domain {
    /// Lower bound.
    pub lo: f64,
    /// Whether `lo` itself is in the domain.
    pub lo_closed: bool,
    /// Upper bound.
    pub hi: f64,
    /// Whether `hi` itself is in the domain.
    pub hi_closed: bool,
}

impl Domain {
    /// Every number.
    pub const EVERYWHERE: Self =
        Domain { lo: f64::NEG_INFINITY, lo_closed: false, hi: f64::INFINITY, hi_closed: false };
}

/// A tensor of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo {
    /// Its name in the formula.
    pub name: &'static str,
    /// Input or output.
    pub role: Role,
    /// Its dimensions in storage order: `N`, `S.0`, `S.1`.
    pub dims: &'static [&'static str],
    /// The extents of `dims`, the outermost first; empty for a scalar.
    pub shape: &'static [usize],
    /// Where its values lie.
    pub domain: Domain,
}

impl TensorInfo {
    /// A tensor that may hold any number.
    pub const fn new(name: &'static str, role: Role, dims: &'static [&'static str], shape: &'static [usize]) -> Self {
        TensorInfo { name, role, dims, shape, domain: Domain::EVERYWHERE }
    }

    /// With values within a domain.
    #[must_use]
    pub const fn within(self, domain: Domain) -> Self {
        TensorInfo { domain, ..self }
    }
}

/// A step of a formula or a rule.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    /// Its text.
    pub formula: &'static str,
    /// File and line of the step in the spec; empty if the step is derived.
    pub source: &'static str,
}

/// Bytes of locals and packed operands that a function keeps on the stack, by the class of machines that it is
/// scheduled for. What the compiler adds for registers is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// With vectors of 16 bytes: the portable instances of targets that have them, NEON.
    pub narrow: usize,
    /// With AVX2.
    pub wide: usize,
    /// With AVX-512.
    pub widest: usize,
    /// Without vectors.
    pub scalar: usize,
}

impl Scratch {
    /// No bytes.
    pub const NONE: Self = Scratch { narrow: 0, wide: 0, widest: 0, scalar: 0 };

    /// Bytes on machines of a class.
    pub const fn of(&self, machine: Machine) -> usize {
        match machine {
            Machine::Narrow => self.narrow,
            Machine::Wide => self.wide,
            Machine::Widest => self.widest,
            Machine::Scalar => self.scalar,
        }
    }

    /// Bytes on the machines that need most.
    pub const fn most(&self) -> usize {
        let all = [self.narrow, self.wide, self.widest, self.scalar];
        let (mut most, mut n) = (0, 0);
        while n < all.len() {
            if all[n] > most {
                most = all[n];
            }
            n += 1;
        }
        most
    }
}

/// A function of a kernel. Costs are counted from its loops, not measured.
#[derive(Clone, Copy, Debug)]
pub struct FunctionInfo {
    /// `forward`, `jvp`, `vjp`, `vjp_x`, `vjp_store`, ...
    pub name: &'static str,
    /// What it computes.
    pub kind: Kind,
    /// The tensors that it reads, in the order of its arguments.
    pub reads: &'static [&'static str],
    /// The tensors that it writes, after them.
    pub writes: &'static [&'static str],
    /// Whether it adds to what it writes; otherwise it stores, whatever was there.
    pub accumulates: bool,
    /// Arithmetic operations of one call; a function such as `exp` is one.
    pub flops: u64,
    /// Bytes that a call moves: each argument once, and once more what it adds to.
    pub bytes: u64,
    /// Bytes of scratch on the stack.
    pub scratch: Scratch,
    /// Bytes of the [`Workspace`](crate::Workspace) that its caller provides; 0 if it takes none.
    pub workspace: usize,
}

impl FunctionInfo {
    /// A function that stores its results, and needs nothing but its arguments: `flops` operations, `bytes` of
    /// arguments.
    pub const fn new(
        name: &'static str,
        kind: Kind,
        reads: &'static [&'static str],
        writes: &'static [&'static str],
        flops: u64,
        bytes: u64,
    ) -> Self {
        FunctionInfo {
            name,
            kind,
            reads,
            writes,
            accumulates: false,
            flops,
            bytes,
            scratch: Scratch::NONE,
            workspace: 0,
        }
    }

    /// One that adds to what it writes.
    #[must_use]
    pub const fn adding(self) -> Self {
        FunctionInfo { accumulates: true, ..self }
    }

    /// One with scratch on the stack: bytes on narrow, wide, widest and scalar machines.
    #[must_use]
    pub const fn with_scratch(self, narrow: usize, wide: usize, widest: usize, scalar: usize) -> Self {
        FunctionInfo { scratch: Scratch { narrow, wide, widest, scalar }, ..self }
    }

    /// One whose caller provides a workspace of so many bytes.
    #[must_use]
    pub const fn with_workspace(self, bytes: usize) -> Self {
        FunctionInfo { workspace: bytes, ..self }
    }
}

/// A kernel: an op bound to sizes, layout and scalar type.
#[derive(Clone, Copy, Debug)]
pub struct KernelInfo {
    /// The op.
    pub op: &'static str,
    /// The instance.
    pub name: &'static str,
    /// The scalar type of every tensor.
    pub scalar: Scalar,
    /// File and line of the instance in the spec: `ops/matmul.yaml:12`.
    pub source: &'static str,
    /// The steps of the forward formula.
    pub forward: &'static [StepInfo],
    /// The steps of the adjoint rule.
    pub adjoint: &'static [StepInfo],
    /// The steps of the tangent rule.
    pub tangent: &'static [StepInfo],
    /// How the build proved the adjoint.
    pub certificate: &'static str,
    /// The axes and their extents, one for each dimension of an axis.
    pub axes: &'static [(&'static str, &'static [usize])],
    /// Inputs, then outputs.
    pub tensors: &'static [TensorInfo],
    /// Its functions.
    pub functions: &'static [FunctionInfo],
}

impl KernelInfo {
    /// The tensor of that name, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&'static TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// The function of that name, if there is one.
    pub fn function(&self, name: &str) -> Option<&'static FunctionInfo> {
        self.functions.iter().find(|f| f.name == name)
    }
}
