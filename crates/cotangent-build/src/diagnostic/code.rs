//! The codes of diagnostics: a kind of finding each, with its number, a few words, and an explanation with a wrong and
//! a right example.
//!
//! Holds for them: numbers run from E001 without a gap, and none changes its meaning. A new one stands at the end of
//! `codes!`.

use std::fmt;
use std::str::FromStr;

/// No diagnostic has this code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCode(pub String);

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = Code::ALL[Code::ALL.len() - 1];
        write!(f, "there is no code `{}`; codes run from E001 to {}", self.0, last.as_str())
    }
}

impl std::error::Error for UnknownCode {}

macro_rules! codes {
    ($($variant:ident $code:literal $title:literal $explanation:literal)*) => {
        /// The kinds of findings. Codes are stable: a number never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the numbers.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// `E001` and so on.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code,)* }
            }

            /// A few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }

            /// A few sentences, with a wrong and a right example.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Code::$variant => $explanation,)* }
            }
        }
    };
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    /// Reads `E012`, in either case.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let code = Code::ALL.iter().find(|c| c.as_str().eq_ignore_ascii_case(text));
        code.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

codes! {
Yaml "E001" "the file is not YAML, or a key stands twice"
"A spec is one YAML 1.2 document without anchors, aliases and tags. In a mapping every key stands once: \
the second would silently win over the first.

Wrong:
    inputs:
      x: [I]
      x: [J]
Right:
    inputs:
      x: [I]
      y: [J]

An interval whose brackets differ is not YAML unless quoted: `domain: {x: \"[0, inf)\"}`."

UnknownKey "E002" "a key that the spec language does not have"
"The keys of a spec are op, doc, params, inputs, outputs, sizes, domain, forward, adjoint, tangent and instances; \
beside `use` stands instances alone. \
A key that is not known would be ignored, and what it says with it.

Wrong:
    input: {x: [I]}
Right:
    inputs: {x: [I]}"

MissingKey "E003" "a required key is missing"
"A spec has at least op, inputs, outputs, forward and instances; inputs, outputs and forward are not empty. \
An instance has a name. Where no kernel is wanted, say so with an empty list.

Wrong:
    op: exp
    inputs: {x: [I]}
    forward:
      - y[i] = exp(x[i])
Right:
    op: exp
    inputs: {x: [I]}
    outputs: {y: [I]}
    forward:
      - y[i] = exp(x[i])
    instances: []"

WrongType "E004" "a value of the wrong kind"
"Each key takes one kind of value: a text, a number, a list or a mapping. Axes are a list, also when there is one \
or none; steps are a list of formulas, each after `- `. A formula in which `: ` stands must be quoted.

Wrong:
    inputs: {x: I}
    forward: y[i] = x[i]
Right:
    inputs: {x: [I]}
    forward:
      - y[i] = x[i]"

BadName "E005" "a name of the wrong form"
"Ops, tensors, locals, parameters and instances are named with lower-case letters, digits and `_`, a letter first; they \
become names in Rust, so no keyword of Rust. Axes begin with a capital letter and have no `_`. Words of the \
formula language (sum, max, pi, ...) name no tensor, and `_bar` and `_dot` end no tensor's name. \
An op has the name of its file.

Wrong:
    inputs: {X: [rows], in: [rows]}
Right:
    inputs: {x: [Rows], u: [Rows]}"

Duplicate "E006" "two things of the same name"
"Inputs, outputs, parameters and locals share one set of names; so do the instances of an op. The index of an axis \
is its name in lower case, so two axes may not differ in case alone. In a C header the names of op and instance join \
by `_`: the instance `b_c` of an op `a` and `c` of `a_b` are one there.

Wrong:
    inputs: {x: [Cx, CX]}
    outputs: {x: [Cx]}
Right:
    inputs: {x: [Cx, Cy]}
    outputs: {y: [Cx]}"

Syntax "E007" "a formula that cannot be read"
"One error is reported for each formula, at the first place that does not fit. A step is `target[i,j] = value` or `target[i,j] += value`. Products are written with `*`, powers with `^`, \
conditions with `and`, `or`, `not`; comparisons and powers do not chain. A reduction names its indices: `sum(j)`.

Wrong:
    - y[i] = 2 x[i]**2
Right:
    - y[i] = 2 * x[i]^2"

UnknownName "E008" "a name that nothing declares"
"A formula may read inputs, outputs and locals of earlier steps, parameters, and axes as their sizes. The adjoint \
may also read the cotangents of outputs (`y_bar`) and its own locals, the tangent the tangents of inputs (`x_dot`). \
A size under `sizes:` may name axes that the instance gives, and parameters. Functions have one name each.

Wrong:
    inputs: {x: [I]}
    forward:
      - y[i] = w * x[i]
Right:
    inputs: {x: [I], w: []}
    forward:
      - y[i] = w * x[i]"

UnknownIndex "E009" "an index that belongs to no axis"
"The index of an axis is the axis' whole name in lower case: `i` of `I`, `cx` of `Cx`. The name in capitals is its \
size, one more than the last index. A second index of an axis is bound with `in`.

Wrong:
    inputs: {x: [Cx]}
    forward:
      - y = sum(c) x[c]
Right:
    inputs: {x: [Cx]}
    forward:
      - y = sum(cx) x[cx]"

UnknownAxis "E010" "an axis that nothing declares"
"Axes are declared by the inputs and outputs that have them, and by `sizes:`, where a step iterates over them \
(the window of a pooling). `k in I` and `params:` may name only those; a size is derived from sizes that the instance \
gives, not from derived ones.

Wrong:
    inputs: {x: [I]}
    forward:
      - y[i] = sum(k in J) x[i - k]
Right:
    inputs: {x: [I]}
    forward:
      - y[i] = sum(k in I) x[i - k]"

UnboundIndex "E011" "an index that stands on the right alone"
"An index on the right stands on the left too, or under a reduction. There is no silent summation: say over what. \
A reduction extends over products, not over `+`: `sum(j) a[j] + b[j]` ends before the `+`.

Wrong:
    - z[i] = x[i,j] * y[j]
Right:
    - z[i] = sum(j) x[i,j] * y[j]"

Arity "E012" "a wrong number of indices or arguments"
"An access has one position for each axis of its tensor, a function its fixed number of arguments. \
A tensor without axes is written without brackets.

Wrong (x is [I, J]):
    - y[i] = sum(j) pow(x[i])
Right:
    - y[i] = sum(j) pow(x[i,j], 2)"

NotAffine "E013" "an index expression that is not affine"
"A position of an access is a sum of indices, numbers, parameters and sizes; an index may be multiplied or divided \
by what is constant, not by another index, and no tensor element may stand in it. So every access is known when \
the kernel is built. A local has the axes of its indices, so it is first written over plain ones; \
a size is made of sizes, whole numbers and parameters with `+ - * /`.

Wrong:
    - y[i] = x[i * i]
Right:
    - y[i] = x[i * stride]"

RankMismatch "E014" "groups of different rank in one expression"
"An axis is a group of dimensions, and index arithmetic is per dimension. All groups in one index expression, \
the parameters in it included, have the same number of dimensions.

Wrong:
    instances: [{name: a, S: [28, 28], T: [3]}]      # x[s + t]
Right:
    instances: [{name: a, S: [28, 28], T: [3, 3]}]"

BadDivision "E015" "a division that an index cannot have"
"In an index `p / d` is exact division: where it does not divide, the read is zero. `d` is a whole number above \
zero: a literal, a parameter or a size, not an index. Under `sizes:` the division rounds down.

Wrong:
    - y[i] = x[rate / i]
Right:
    - y[i] = x[i / rate]"

AssignMode "E016" "a target that cannot be written so, or not here"
"A cotangent is a sum over all uses of its tensor, so an adjoint rule adds: `x_bar[i] += ...`. \
A step of forward writes outputs and locals, an adjoint rule the cotangents of inputs and locals, a tangent rule the \
tangents of outputs and locals; none of them writes an input or a parameter.

Wrong:
    adjoint:
      - x_bar[i] = y_bar[i]
Right:
    adjoint:
      - x_bar[i] += y_bar[i]"

DoubleWrite "E017" "an element that is written twice"
"A step with `=` writes each element at most once, and none that another step has written: steps that write one tensor \
name their elements by different numbers (`y[0] = ...`, `y[1] = ...`). Where several values belong \
to one element, add them with `+=` or reduce them. Affine targets (`y[i*step + t]`) are tried at small shapes and at the \
sizes of each instance.

Wrong:
    - y[i] = x[i]
    - y[i] = 2 * x[i]
Right:
    - h[i] = x[i]
    - y[i] = 2 * h[i]"

ReadBeforeWrite "E018" "a tensor that is read before it is written"
"Steps run in the order they are written. A step reads what earlier steps have written, not what later ones will, \
and not its own target. Where steps write elements by number, each element may be read once it is written.

Wrong:
    - y[i] = e[i] * 2
    - e[i] = exp(x[i])
Right:
    - e[i] = exp(x[i])
    - y[i] = e[i] * 2"

NeverWritten "E019" "an output that no step writes"
"Every output is written by a step of forward. An output that should be zero is set to zero.

Wrong:
    outputs: {y: [I], z: [I]}
    forward:
      - y[i] = x[i]
Right:
    outputs: {y: [I], z: [I]}
    forward:
      - y[i] = x[i]
      - z[i] = 2 * x[i]"

NotLinear "E020" "a rule that is not linear"
"A derivative is a linear map. An adjoint rule is linear in the cotangents, a tangent rule in the tangents: every \
term has exactly one of them as a factor, and none stands in another factor, a denominator, a condition or a reduction \
other than a sum.

Wrong:
    - x_bar[i] += y_bar[i] * y_bar[i]
Right:
    - x_bar[i] += y_bar[i] * y[i]"

WrongAdjoint "E021" "an adjoint that is not the transpose of the derivative"
"The declared adjoint is compared with the one derived from forward, and they differ. The message shows a small \
shape and an element at which they do, both values, and the derived rule. At a tie or a kink, where forward has no \
derivative, the declared rule is the convention: there it lies between the values around the point, \
and shares out as much as they do.

Wrong:
    forward: [\"z[i] = x[i] * y[i]\"]
    adjoint: [\"x_bar[i] += z_bar[i]\", \"y_bar[i] += x[i] * z_bar[i]\"]
Right:
    forward: [\"z[i] = x[i] * y[i]\"]
    adjoint: [\"x_bar[i] += y[i] * z_bar[i]\", \"y_bar[i] += x[i] * z_bar[i]\"]"

WrongTangent "E022" "a tangent that is not the derivative"
"The declared tangent is compared with the one derived from forward, and they differ; or, at a tie or a kink, it \
follows another convention than the declared adjoint. Leave the key out to have it derived.

Wrong:
    forward: [\"y[i] = sin(x[i])\"]
    tangent: [\"y_dot[i] = -cos(x[i]) * x_dot[i]\"]
Right:
    forward: [\"y[i] = sin(x[i])\"]
    tangent: [\"y_dot[i] = cos(x[i]) * x_dot[i]\"]"

MissingSize "E023" "an axis or parameter without a value"
"An instance gives a size to every axis that `sizes:` does not derive, and a value to every parameter. \
A group of no dimensions has the size `[]`.

Wrong:
    inputs: {x: [I, J]}
    instances: [{name: a, I: 4}]
Right:
    inputs: {x: [I, J]}
    instances: [{name: a, I: 4, J: []}]"

UnknownInstanceKey "E024" "an instance key that is no axis or parameter"
"The keys of an instance are name, dtype, layout, the axes of the op and its parameters. Axes that `sizes:` \
derives are left out.

Wrong:
    params: {stride: S}
    instances: [{name: a, S: 28, strid: 2}]
Right:
    params: {stride: S}
    instances: [{name: a, S: 28, stride: 2}]"

BadSize "E025" "a size that no tensor can have"
"A size is a whole number from 1 to 2^31, and so is the number of elements of a tensor. A group of no dimensions has \
the size `[]`. A derived size may come out wrong too: a window wider than its padded input leaves nothing. One that is \
given all the same has the value that is derived.

Wrong:
    instances: [{name: a, I: 0}]
Right:
    instances: [{name: a, I: 1}]"

BadParam "E026" "a parameter value that does not fit"
"A parameter of an axis is a whole number, or a list of one for each dimension of that axis; an `int` is one whole \
number, a `real` one number. A divisor is above zero.

Wrong:
    params: {stride: S}
    instances: [{name: a, S: [28, 28], stride: [2, 2, 2]}]
Right:
    params: {stride: S}
    instances: [{name: a, S: [28, 28], stride: [2, 2]}]"

BadLayout "E027" "a layout that is no order of the dimensions"
"A layout lists every dimension of a tensor once, outermost first: an axis by its name, or its dimensions one by \
one (`S.0`, `S.1`).

Wrong (x is [N, S, Cx], S of rank 2):
    layout: {x: [N, Cx, S.0]}
Right:
    layout: {x: [N, Cx, S.0, S.1]}"

BadDomain "E028" "a domain that is no interval"
"A domain is an interval with two ends, the lower first; `(` and `)` leave the end out, `[` and `]` take it in. \
An infinite end is left out. Quote it where the brackets differ.

Wrong:
    domain: {x: positive}
Right:
    domain: {x: \"[0, inf)\"}"

NoInstances "E029" "an op of which no kernel is made"
"An op with an empty list of instances is checked, but gives no code. Where that is not meant, state sizes.

Gives nothing:
    instances: []
Gives a kernel:
    instances: [{name: small, I: 8}]"

NotAValue "E030" "no value where a value is due, or no condition where a condition is"
"An index stands for a tuple of coordinates, and a parameter of an axis for one number per dimension; neither is a \
number. Both may stand in positions of an access, and indices in conditions. The name of an axis is a value: its \
number of elements. The first argument of `where` is a comparison, not a number.

Wrong:
    - y[i] = x[i] * i
Right:
    - y[i] = x[i] / I"

UnusedInput "E031" "an input that no step reads"
"An input that forward never reads has no influence and a zero derivative. Remove it, or read it.

Warned of:
    inputs: {x: [I], w: [I]}
    forward: [\"y[i] = 2 * x[i]\"]
Right:
    inputs: {x: [I]}
    forward: [\"y[i] = 2 * x[i]\"]"

Unsupported "E032" "something that the compiler does not do"
"The spec means something, but the compiler cannot make it, or cannot check it. The message says what, and what to \
write instead if there is a way.

Not done:
    - y[i] = u[i]^v[i]                  # `^` takes a literal exponent
Done:
    - y[i] = pow(u[i], v[i])"

Io "E033" "a file that cannot be read or written"
"The folder of specs, a spec or the output could not be read or written. The message holds what the system said. \
Paths are relative to the folder of Cargo.toml, and specs are UTF-8.

Wrong:
    Build::new().ops(\"op\").compile()       // the folder is `ops`
Right:
    Build::new().ops(\"ops\").compile()"

BadSchedule "E034" "a schedule that no statement can have"
"`schedule` names a function of the kernel and one of the candidates of its statements, written as `cotangent show PATH \
--stage nest` prints it, without the cost. It is taken on the classes of machines that have this candidate.

Wrong (16 rows need more registers than there are):
    schedule: {forward: \"lanes k 4x8, rows i 16\"}
Right:
    schedule: {forward: \"lanes k 2x8, rows i 6\"}"

UnknownOp "E035" "an op that cannot be used, as there is none of that name"
"`use: name` makes kernels of an op of the same build or, where it has none of that name, of one that ships with the \
compiler. The help lists those that ship.

Wrong:
    use: convolution
    instances: [{name: edge, N: 1, S: 28, T: 3, Cx: 1, Cy: 8, stride: 1, lo: 1, hi: 1, dilation: 1}]
Right:
    use: conv
    instances: [{name: edge, N: 1, S: 28, T: 3, Cx: 1, Cy: 8, stride: 1, lo: 1, hi: 1, dilation: 1}]"

OwnOpUsed "E036" "an op of your own that hides a shipped one"
"`use: name` takes an op of the same build before the shipped one of that name. That is easily overlooked, so it is \
warned of. Where your own op is meant, write the instances in its file; else give it another name.

Warned of:
    ops/relu.yaml                 op: relu, a rule of your own
    ops/sizes.yaml                use: relu
Right:
    ops/my_relu.yaml              op: my_relu
    ops/sizes.yaml                use: relu"

BadOption "E037" "an option that no build can have"
"The module and the prefix become names in Rust: the module is a path from the crate's root, the prefix begins the \
names of the ops' modules, in lower case. `std` belongs to self-contained output: elsewhere the crate `cotangent` has a \
feature of that name. A C header is a file ending in `.h`, and its prefix a word of C. Wrappers for `ndarray` stand on \
the crate `cotangent`, so self-contained output has none.

Wrong:
    Build::new().ops(\"ops\").module(\"crate::kernels\").compile()
Right:
    Build::new().ops(\"ops\").module(\"kernels\").compile()"

Template "E038" "a template that cannot be rendered"
"A template of your own folder has a fault, or reads what the compiler does not give it. The message holds what the \
template engine (Tera) said. What a template may read is what the shipped one of the same name reads.

Wrong:
    pub mod {{ kernel.nam }} {
Right:
    pub mod {{ kernel.name }} {"

BadCall "E039" "a call of an op that does not fit"
"A step `h = matmul(x, w)` calls an op with whole tensors. The op's axes stand for those of the arguments: an axis that several arguments share \
stands for one that the op's inputs share in the same way. Where that leaves a choice, the call says it, as it says the op's parameters: \
`softmax(x; J = [D])`, `conv(x, k; stride = 1, lo = 0, hi = 0, dilation = 1)`.

Wrong:
    inputs: {x: [B, D]}
    forward: [\"y = softmax(x)\"]
Right:
    inputs: {x: [B, D]}
    forward: [\"y = softmax(x; J = [D])\"]"

BadRecurrence "E040" "steps that need each other and cannot run one iteration after the other"
"A step may read what it writes itself, or a later step writes, at a constant distance along an axis: `h[t - 1]`. The steps from there to the one that \
writes are a recurrence: they run together for each `t`. So each has `t` on its left, all read in one direction, and none reads what is not there \
yet, such as a sum over all `t`.

Wrong:
    forward:
      - s[i] = s[i - 1] + s[i + 1] + x[i]
Right:
    forward:
      - s[i] = s[i - 1] + x[i]"

BadProgram "E041" "a key of a program that does not fit"
"`wrt` lists inputs, those that derivatives are taken by. `checkpoint` maps locals of `forward` to `save` or `recompute`. `functions` lists \
entry points: `forward`, `jvp`, `vjp`, `jacobian`, and for a single output without axes `value_and_grad`, `hvp`, `value_grad_and_hvp` and `hessian`. The \
rules of a program are derived, so it declares none.

Wrong:
    program: net
    inputs: {x: [B, D], w: [D, H]}
    wrt: [weights]
Right:
    program: net
    inputs: {x: [B, D], w: [D, H]}
    wrt: [w]"
NotTaken "E042" "a branch of a declared rule that no point took"
"A declared rule is compared at points on both sides of each of its comparisons, and of those of `forward`: inputs are solved for. Where \
no point is found at which a condition holds, or none at which it fails, the branch behind it is not compared. It is a warning.

Wrong:
    forward:
      - y[i] = x[i]^2
    adjoint:
      - x_bar[i] += where(x[i]^2 < 0, 0, 2 * x[i] * y_bar[i])
Right:
    adjoint:
      - x_bar[i] += 2 * x[i] * y_bar[i]"
NotFinite "E043" "a declared rule that is infinite or NaN where the derivative is not"
"A declared rule is the derivative as a formula, but not as a computation: it overflows, or divides zero by zero, at a point where `forward` and \
the derived rule are finite. It is a warning where the formula has no pole, or where `forward` has no derivative, as a norm at zero; at a \
pole of the rule alone it is error E021 or E022.

Wrong:
    forward:
      - y[i] = softplus(x[i])
    adjoint:
      - x_bar[i] += y_bar[i] * exp(x[i]) / (1 + exp(x[i]))
Right:
    adjoint:
      - x_bar[i] += y_bar[i] * logistic(x[i])"

TooLarge "E044" "a spec that is larger than any that is meant"
"What a spec asks for is bounded, so that each is refused or compiled in time: a file has at most 1 MiB, an op at most \
1,000 instances in a file, 200 axes of at most 64 dimensions each, 2,000 tensors and parameters and, with what the ops that it calls add, \
4,000 steps that read tensors 10,000 times. Calls go at most 32 ops deep; they grow fast: an op that calls twice what calls twice has \
four times the steps. Numbers of elements have their own bounds (E025).

Wrong:
    - a = power(x)          power has 3,000 steps
    - y = power(a)
Right:
    - y = power(x)"
TooMuchStack "E045" "locals that are too large for the stack"
"A function of an op keeps the locals of its formulas on the stack, which a thread has little of. Loops that share a local keep a part of it only; \
the others keep it whole, 64 KiB in all unless the build allows more. A function of a `program:` keeps at most 4 KiB, and works \
in a workspace that its caller provides: it may call the op.

Wrong:
    op: mix
    forward: [\"h[i,j] = tanh(x[i,j])\", \"y[i,k] = sum(j) h[i,j] * w[j,k]\"]
    instances: [{name: large, I: 1024, J: 1024, K: 64}]
Right:
    program: mix
    forward: [\"h[i,j] = tanh(x[i,j])\", \"y[i,k] = sum(j) h[i,j] * w[j,k]\"]
    instances: [{name: large, I: 1024, J: 1024, K: 64}]"

BadSplit "E046" "an axis that cannot be split"
"`split: {B: 4}` in an instance makes functions that run in 4 equal parts along `B`. So `B` has one dimension, stands first in each tensor that has it, \
declared and stored, and no other size depends on it. What a result has of `B` is that of its part; a result without `B` is the sum or the mean \
over the parts, which is compared at small shapes and at the instance's own size. A maximum over `B`, or the statistics of a batch, is neither.

Wrong:
    program: net
    inputs: {x: [B, D], w: [D]}
    outputs: {loss: []}
    forward:
      - e[b] = (sum(d) x[b,d] * w[d])^2
      - loss = max(b) e[b]
    instances: [{name: large, B: 64, D: 100, split: {B: 4}}]
Right:
    forward:
      - e[b] = (sum(d) x[b,d] * w[d])^2
      - loss = mean(b) e[b]
    instances: [{name: large, B: 64, D: 100, split: {B: 4}}]"
}
