//! What stages from the spec to the emission name alike: the scalar types, the intervals that values lie in, and the
//! kernels that a spec asks for. Takes nothing but places in sources. A new scalar type is a row here; whoever asks
//! something of a type asks the row.

use crate::source::{At, Span};
use std::fmt;
use std::str::FromStr;

/// The scalar types: `Variant: name in specs, in Rust, in C, variant of the runtime's Scalar, the magnitudes between
/// which nothing underflows or overflows`.
macro_rules! scalar_types {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $rust:ident, $c:literal,
        $runtime:literal, $least:literal..$most:literal;)*) => {
        /// Scalar type of a kernel.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum DType {
            $($(#[$doc])* $variant),*
        }

        impl DType {
            /// Every one.
            pub const ALL: &[DType] = &[$(DType::$variant),*];

            /// In specs and on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(DType::$variant => $name),* }
            }

            /// In Rust; the runtime's module of functions has this name too.
            #[must_use]
            pub fn rust(self) -> &'static str {
                match self { $(DType::$variant => stringify!($rust)),* }
            }

            /// In C.
            #[must_use]
            pub fn c(self) -> &'static str {
                match self { $(DType::$variant => $c),* }
            }

            /// The variant of the runtime's `Scalar`.
            #[must_use]
            pub fn runtime(self) -> &'static str {
                match self { $(DType::$variant => $runtime),* }
            }

            /// Of one scalar.
            #[must_use]
            pub fn bytes(self) -> usize {
                match self { $(DType::$variant => size_of::<$rust>()),* }
            }

            /// Half the distance from 1 to the next number.
            #[must_use]
            pub fn unit(self) -> f64 {
                match self { $(DType::$variant => 1.0 / (1u64 << $rust::MANTISSA_DIGITS) as f64),* }
            }

            /// A rounding below this is no longer one of [`DType::unit`].
            #[must_use]
            pub fn least(self) -> f64 {
                match self { $(DType::$variant => $least),* }
            }

            /// A value beyond this may overflow on the way.
            #[must_use]
            pub fn most(self) -> f64 {
                match self { $(DType::$variant => $most),* }
            }

            /// The nearest number of the type.
            #[must_use]
            pub fn nearest(self, value: f64) -> f64 {
                match self { $(DType::$variant => f64::from(value as $rust)),* }
            }
        }
    };
}

scalar_types! {
    /// 32 bits.
    #[default]
    F32: "f32", f32, "float", "F32", 1e-37..1e37;
    /// 64 bits.
    F64: "f64", f64, "double", "F64", 1e-307..1e300;
}

impl DType {
    /// The names of all, in a sentence.
    #[must_use]
    pub fn choice(quote: &str) -> String {
        let all: Vec<String> = DType::ALL.iter().map(|t| format!("{quote}{}{quote}", t.name())).collect();
        all.join(" or ")
    }
}

impl FromStr for DType {
    type Err = String;

    /// Reads a [`DType::name`].
    fn from_str(text: &str) -> Result<Self, String> {
        DType::ALL.iter().copied().find(|t| t.name() == text).ok_or_else(|| format!("it is {}", DType::choice("")))
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An interval of the real line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Domain {
    /// Lower end, `-inf` for none.
    pub lo: f64,
    /// Whether `lo` is in it.
    pub lo_closed: bool,
    /// Upper end, `inf` for none; at least `lo`.
    pub hi: f64,
    /// Whether `hi` is in it.
    pub hi_closed: bool,
}

/// One entry of `instances`.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceSpec {
    /// Name of the kernel.
    pub name: At<String>,
    /// Scalar type; left out, it is what the build says, f32 unless it says otherwise.
    pub dtype: Option<DType>,
    /// Sizes and parameters; the keys are not yet resolved.
    pub values: Vec<(At<String>, At<Numbers>)>,
    /// Tensor and the order in which its dimensions are stored: axes (`N`) or dimensions of axes (`S.0`).
    pub layout: Vec<Layout>,
    /// The functions to make; every one of the op where none is named.
    pub functions: Option<At<Vec<At<String>>>>,
    /// Function and the schedule that it shall have, as `cotangent show --stage nest` prints it.
    pub schedule: Vec<(At<String>, At<String>)>,
    /// The axis that it is cut along into kernels of a part.
    pub split: Option<Split>,
    /// The whole entry.
    pub span: Span,
}

impl InstanceSpec {
    /// Whether this is the instance of a part of another one.
    #[must_use]
    pub fn is_part_of(&self, other: &InstanceSpec) -> bool {
        other.split.as_ref().is_some_and(|split| split.part == *self.name)
    }
}

/// Parts of an instance: equal pieces of one axis, each the work of a smaller kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The axis; of one dimension, which the parts divide.
    pub axis: At<String>,
    /// How many; at least 2.
    pub parts: At<usize>,
    /// The size of each.
    pub size: usize,
    /// The instance that each is of. It stands behind this one.
    pub part: String,
}

/// A tensor and its dimensions in the order of storage.
pub type Layout = (At<String>, At<Vec<At<String>>>);

/// `28` or `[28, 28]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// The numbers; finite, except that `.inf` is read as infinity.
    pub values: Vec<At<f64>>,
    /// Whether a list was written.
    pub list: bool,
}
