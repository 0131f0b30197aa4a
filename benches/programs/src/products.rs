//! Products: takes a function of a program, gives the floating-point operations of its contractions, two for each
//! product and sum. What a program does beside them (elementwise functions, sums, shifts) is not counted: so the
//! percentage of the core's multiply-adds says how near the whole is to what its products alone take.

use cotangent::{FunctionInfo, KernelInfo, Kind};

/// A factor of a contraction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Factor {
    /// No derivative is taken by it or through it.
    Fixed,
    /// A derivative is taken by it.
    Leaf,
    /// Derivatives are taken through it.
    Inner,
    /// As `Inner`, but second derivatives do not need its cotangent: all before it is piecewise linear (relu, maximum),
    /// of one factor that is fixed.
    Straight,
}
use Factor::*;

/// A sum of products of two factors.
struct Contraction {
    /// Products in its value.
    turns: f64,
    factors: [Factor; 2],
    /// Whether derivatives need its value: not where it is an output, or goes into one linearly.
    value_needed: bool,
}

impl Contraction {
    /// Products of a function.
    fn products(&self, kind: Kind) -> Option<f64> {
        let count = |what: fn(Factor) -> bool| self.factors.iter().filter(|f| what(**f)).count();
        let active = count(|f| f != Fixed);
        let inner = count(|f| f == Inner);
        let value = usize::from(self.value_needed);
        let times = match kind {
            Kind::Forward => 1,
            // Of a product with two active factors the tangent has two terms.
            Kind::Jvp => 1 + active,
            // A cotangent for each active factor.
            Kind::Vjp => value + active,
            Kind::ValueAndGrad => 1 + active,
            // Value, tangents, cotangents of what stands inside, and the tangents of all cotangents: of each one term,
            // a second where the other factor has a tangent.
            Kind::Hvp => value + active + inner + active * active,
            // The cotangents of all.
            Kind::ValueGradAndHvp => 1 + 2 * active + active * active,
            Kind::Jacobian | Kind::Hessian => return None,
        };
        Some(times as f64 * self.turns)
    }
}

/// Floating-point operations of the products of one call, where the program is known.
pub fn products(kernel: &KernelInfo, function: &FunctionInfo) -> Option<f64> {
    let all: Option<Vec<f64>> = contractions(kernel)?.iter().map(|c| c.products(function.kind)).collect();
    Some(2.0 * all?.iter().sum::<f64>())
}

/// The contractions of a program, in the order of its spec.
fn contractions(kernel: &KernelInfo) -> Option<Vec<Contraction>> {
    let size = |names: &[&str]| -> Option<f64> {
        let axis = |name: &&str| kernel.axes.iter().find(|(axis, _)| axis == name);
        names.iter().map(|name| Some(axis(name)?.1.iter().product::<usize>() as f64)).product()
    };
    let inside = |turns: f64, factors| Contraction { turns, factors, value_needed: true };
    let outside = |turns: f64, factors| Contraction { turns, factors, value_needed: false };
    // The last layer of a classifier: its value is an output, or what the loss is of.
    let last = |names| {
        let value_needed = !kernel.op.ends_with("_logits");
        Some(Contraction { turns: size(names)?, factors: [Inner, Leaf], value_needed })
    };
    Some(match kernel.op {
        "mlp" | "mlp_logits" => vec![inside(size(&["B", "D", "H"])?, [Fixed, Leaf]), last(&["B", "H", "C"])?],
        "mlp_tiny" => vec![
            inside(size(&["I", "H"])?, [Leaf, Leaf]),
            inside(size(&["H", "G"])?, [Inner, Leaf]),
            outside(size(&["G", "O"])?, [Inner, Leaf]),
        ],
        "mlp_tiny_input" => vec![
            inside(size(&["I", "H"])?, [Leaf, Fixed]),
            inside(size(&["H", "G"])?, [Inner, Fixed]),
            outside(size(&["G", "O"])?, [Inner, Fixed]),
        ],
        // Two convolutions to P and Q pixels, T taps, padding counted; then dense.
        "cnn" | "cnn_logits" => vec![
            inside(size(&["N", "P", "T", "Cx", "E"])?, [Fixed, Leaf]),
            inside(size(&["N", "Q", "T", "E", "F"])?, [Straight, Leaf]),
            last(&["N", "Q", "F", "C"])?,
        ],
        // Two convolutions to O and O2 pixels; then three dense layers.
        "lenet" | "lenet_logits" => vec![
            inside(size(&["N", "O", "T", "Cx", "E"])?, [Fixed, Leaf]),
            inside(size(&["N", "O2", "T", "E", "F"])?, [Straight, Leaf]),
            inside(size(&["N", "Q", "F", "G"])?, [Inner, Leaf]),
            inside(size(&["N", "G", "H"])?, [Inner, Leaf]),
            last(&["N", "H", "C"])?,
        ],
        // Three projections, scores, what the heads make of the values, the projection back.
        "attention" => {
            let projection = size(&["N", "T", "D", "H", "E"])?;
            let mut all: Vec<_> = (0..3).map(|_| inside(projection, [Leaf, Leaf])).collect();
            let scores = size(&["N", "H", "T", "T", "E"])?;
            all.extend([inside(scores, [Inner, Inner]), inside(scores, [Inner, Inner])]);
            all.push(outside(size(&["N", "T", "H", "E", "D"])?, [Inner, Leaf]));
            all
        }
        // For each gate the products with the input and with the state.
        "gru" | "lstm" => {
            let gates = if kernel.op == "gru" { 3.0 } else { 4.0 };
            vec![
                inside(gates * size(&["T", "D", "H"])?, [Leaf, Leaf]),
                inside(gates * size(&["T", "H", "H"])?, [Inner, Leaf]),
            ]
        }
        // The products with the strictly lower triangles.
        "gmm" => {
            let d = size(&["D"])?;
            vec![inside(size(&["N", "K"])? * d * (d - 1.0) / 2.0, [Inner, Leaf])]
        }
        _ => return None,
    })
}
