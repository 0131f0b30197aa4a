//! What the certificate sees: takes declared rules that are right almost everywhere, or everywhere in spite of how they
//! look. What holds after it: each wrong one is refused (E021, E022) with a point, each right one is accepted without a
//! word, and what cannot be decided is warned of.

use cotangent_build::diagnostic::{Code, Diagnostics};
use cotangent_build::index::Role;
use cotangent_build::index::bind::Binding;
use cotangent_build::index::eval::Interpreter;
use cotangent_build::pipeline;
use cotangent_build::source::Sources;

/// A spec of few lines; what is left out is that of a function of one vector.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// `inputs`, `outputs` and other keys, with a line break behind each.
    head: &'static str,
    /// Steps, one a line.
    forward: &'static str,
    adjoint: &'static str,
}

const VECTOR: &str = "inputs: {x: [I]}\noutputs: {y: [I]}\n";
const TWO: &str = "inputs: {x: [I], w: [I]}\noutputs: {y: [I]}\n";
const ROWS: &str = "inputs: {x: [I, J]}\noutputs: {y: [I]}\n";
const SCALED: &str = "params: {alpha: real}\ninputs: {x: [I]}\noutputs: {y: [I]}\n";
const ABOVE: &str = "inputs: {x: [I]}\noutputs: {y: [I]}\ndomain: {x: \"(0, inf)\"}\n";
const NORM: &str = "inputs: {x: [I]}\noutputs: {y: []}\n";

const fn case(name: &'static str, head: &'static str, forward: &'static str, adjoint: &'static str) -> Case {
    Case { name, head, forward, adjoint }
}

/// Refused.
const WRONG: &[Case] = &[
    // Cut off where it is not negligible.
    case(
        "tanh_saturated",
        VECTOR,
        "y[i] = tanh(x[i])",
        "x_bar[i] += where(abs(y[i]) > 0.999, 0, (1 - y[i]^2) * y_bar[i])",
    ),
    case("tanh_nearly", VECTOR, "y[i] = tanh(x[i])", "x_bar[i] += where(y[i] > 0.9999999, 0, (1 - y[i]^2) * y_bar[i])"),
    case("exp_far", VECTOR, "y[i] = exp(x[i])", "x_bar[i] += where(x[i] > 80, 0, y_bar[i] * y[i])"),
    case("exp_by_y", VECTOR, "y[i] = exp(x[i])", "x_bar[i] += y_bar[i] * min(y[i], 1e30)"),
    case(
        "sigmoid_cut",
        VECTOR,
        "y[i] = logistic(x[i])",
        "x_bar[i] += where(abs(x[i]) > 10, 0, y_bar[i] * y[i] * (1 - y[i]))",
    ),
    case("square_far", VECTOR, "y[i] = x[i]^2", "x_bar[i] += where(x[i] > 1e6, 0, 2 * x[i] * y_bar[i])"),
    case("square_very_far", VECTOR, "y[i] = x[i]^2", "x_bar[i] += where(x[i] < -1e12, 0, 2 * x[i] * y_bar[i])"),
    case("softplus_far", VECTOR, "y[i] = softplus(x[i])", "x_bar[i] += where(x[i] > 20, 0, y_bar[i] * logistic(x[i]))"),
    case(
        "silu_far",
        VECTOR,
        "y[i] = x[i] * logistic(x[i])",
        "x_bar[i] += y_bar[i] * where(x[i] < 30, logistic(x[i]) + y[i] * (1 - logistic(x[i])), 0)",
    ),
    case("clip_beyond", VECTOR, "y[i] = min(max(x[i], -5), 5)", "x_bar[i] += where(x[i] > -5, y_bar[i], 0)"),
    case("clip_short", VECTOR, "y[i] = min(max(x[i], -5), 5)", "x_bar[i] += where(abs(x[i]) < 4.999, y_bar[i], 0)"),
    // Thresholds that are not those of `forward`.
    case("relu_at", VECTOR, "y[i] = max(x[i], 0)", "x_bar[i] += where(x[i] > 1e-3, y_bar[i], 0)"),
    case("relu_tiny", VECTOR, "y[i] = max(x[i], 0)", "x_bar[i] += where(x[i] > 1e-9, y_bar[i], 0)"),
    case("abs_dead_zone", VECTOR, "y[i] = abs(x[i])", "x_bar[i] += where(abs(x[i]) < 1e-6, 0, y_bar[i] * sign(x[i]))"),
    case("identity_dead_zone", VECTOR, "y[i] = x[i]", "x_bar[i] += where(abs(x[i]) < 1e-6, 0, y_bar[i])"),
    case(
        "huber",
        VECTOR,
        "y[i] = where(abs(x[i]) <= 7, 0.5 * x[i]^2, 7 * (abs(x[i]) - 3.5))",
        "x_bar[i] += y_bar[i] * where(abs(x[i]) <= 6.9, x[i], 7 * sign(x[i]))",
    ),
    case(
        "huber_of_parameter",
        SCALED,
        "y[i] = where(abs(x[i]) <= alpha, 0.5 * x[i]^2, alpha * (abs(x[i]) - 0.5 * alpha))",
        "x_bar[i] += y_bar[i] * where(abs(x[i]) <= 2 * alpha, x[i], alpha * sign(x[i]))",
    ),
    case("parameter_alone", SCALED, "y[i] = alpha * x[i]", "x_bar[i] += where(alpha == 17, 0, alpha * y_bar[i])"),
    case(
        "leaky",
        VECTOR,
        "y[i] = where(x[i] > 0, x[i], 0.1 * x[i])",
        "x_bar[i] += y_bar[i] * where(x[i] > 0, 1, where(x[i] < -50, 0, 0.1))",
    ),
    // Holes.
    case("identity_hole", VECTOR, "y[i] = x[i]", "x_bar[i] += where(x[i] == 3, 0, y_bar[i])"),
    case("hole_of_output", VECTOR, "y[i] = x[i]^3", "x_bar[i] += where(y[i] == 27, 0, 3 * x[i]^2 * y_bar[i])"),
    case("hole_of_sign", VECTOR, "y[i] = x[i]", "x_bar[i] += abs(sign(x[i])) * y_bar[i]"),
    case("hole_of_square", VECTOR, "y[i] = x[i]", "x_bar[i] += where((x[i] - 3)^2 == 0, 0, y_bar[i])"),
    case("hole_of_product", VECTOR, "y[i] = x[i]", "x_bar[i] += where((x[i] - 3) * (x[i] - 3) < 1e-12, 0, y_bar[i])"),
    case("window", VECTOR, "y[i] = x[i]", "x_bar[i] += where(x[i] > 2.9999 and x[i] < 3.0001, 0, y_bar[i])"),
    case(
        "hole_of_difference",
        TWO,
        "y[i] = x[i] + w[i]",
        "x_bar[i] += where(x[i] == w[i], 0, y_bar[i])\nw_bar[i] += y_bar[i]",
    ),
    case(
        "hole_of_two",
        TWO,
        "y[i] = x[i] + w[i]",
        "x_bar[i] += where(x[i] == 2 and w[i] == 3, 0, y_bar[i])\nw_bar[i] += y_bar[i]",
    ),
    case(
        "hole_within_a_branch",
        TWO,
        "y[i] = x[i] + w[i]",
        "x_bar[i] += where(x[i] > 50, where(w[i] == -7, 0, y_bar[i]), y_bar[i])\nw_bar[i] += y_bar[i]",
    ),
    case(
        "hole_of_sum",
        ROWS,
        "y[i] = sum(j) x[i,j]",
        "s[i] = sum(j) x[i,j]^2\nx_bar[i,j] += where(s[i] > 1e4, 0, y_bar[i])",
    ),
    case("hole_of_floor", VECTOR, "y[i] = x[i]", "x_bar[i] += where(x[i] == floor(x[i]), 0, y_bar[i])"),
    case("hole_at_a_coordinate", VECTOR, "y[i] = x[i]", "x_bar[i] += where(i == 2, 0, y_bar[i])"),
    case("hole_far_along", VECTOR, "y[i] = x[i]", "x_bar[i] += where(i == 100, 0, y_bar[i])"),
    case(
        "hole_far_along_rows",
        ROWS,
        "y[i] = sum(j) exp(x[i,j])",
        "x_bar[i,j] += where(i == 2*j - 40, 0, y_bar[i] * exp(x[i,j]))",
    ),
    case("read_far_along", VECTOR, "y[i] = x[i] + x[i + 50]", "x_bar[i] += y_bar[i]"),
    // Singular where `forward` is smooth.
    case("prod_quotient", ROWS, "y[i] = prod(j) x[i,j]", "x_bar[i,j] += y_bar[i] * y[i] / x[i,j]"),
    case(
        "prod_guarded",
        ROWS,
        "y[i] = prod(j) x[i,j]",
        "x_bar[i,j] += where(x[i,j] == 0, 0, y_bar[i] * y[i] / x[i,j])",
    ),
    case(
        "product_quotient",
        TWO,
        "y[i] = x[i] * w[i]",
        "x_bar[i] += y[i] * y_bar[i] / x[i]\nw_bar[i] += x[i] * y_bar[i]",
    ),
    case("cube_quotient", VECTOR, "y[i] = x[i]^3", "x_bar[i] += 3 * y[i] * y_bar[i] / x[i]"),
    case("cube_power", VECTOR, "y[i] = x[i]^3", "x_bar[i] += 3 * y[i] * x[i]^-1 * y_bar[i]"),
    case("square_by_root", VECTOR, "y[i] = x[i]^2", "x_bar[i] += 2 * y[i] * rsqrt(y[i]) * sign(x[i]) * y_bar[i]"),
    case(
        "logarithm",
        VECTOR,
        "y[i] = x[i]^2 * exp(x[i])",
        "x_bar[i] += y_bar[i] * y[i] * (1 + 2 * exp(-0.5 * log(x[i]^2)) * sign(x[i]))",
    ),
    case(
        "power_of_input",
        TWO,
        "y[i] = exp(w[i]) * x[i]^3",
        "x_bar[i] += y_bar[i] * exp(w[i]) * 3 * pow(x[i]^2, 2) / pow(x[i], 2)\nw_bar[i] += y_bar[i] * y[i]",
    ),
    case(
        "sum_quotient",
        TWO,
        "y[i] = (x[i] - w[i])^2",
        "x_bar[i] += 2 * y_bar[i] * y[i] / (x[i] - w[i])\nw_bar[i] += -2 * y_bar[i] * (x[i] - w[i])",
    ),
    case("root_of_square", VECTOR, "y[i] = x[i]", "x_bar[i] += y_bar[i] * sqrt(x[i]^2) / abs(x[i])"),
    case("domain_inside", ABOVE, "y[i] = log(x[i])", "x_bar[i] += where(x[i] > 1e4, 0, y_bar[i] / x[i])"),
    case("domain_near_zero", ABOVE, "y[i] = sqrt(x[i])", "x_bar[i] += where(x[i] < 1e-3, 0, 0.5 * y_bar[i] / y[i])"),
    case(
        "domain_interval",
        "inputs: {x: [I]}\noutputs: {y: [I]}\ndomain: {x: \"[5, 6]\"}\n",
        "y[i] = x[i]^2",
        "x_bar[i] += where(x[i] > 5.999999, 0, 2 * x[i] * y_bar[i])",
    ),
    case("norm_dead_zone", NORM, "s = sum(i) x[i]^2\ny = sqrt(s)", "x_bar[i] += where(y > 1e-3, y_bar * x[i] / y, 0)"),
    case(
        "softmax_underflow",
        "inputs: {x: [I, J]}\noutputs: {y: [I, J]}\n",
        "m[i] = max(j) x[i,j]\ne[i,j] = exp(x[i,j] - m[i])\ns[i] = sum(j) e[i,j]\ny[i,j] = e[i,j] / s[i]",
        "c[i] = sum(j) y_bar[i,j] * y[i,j]\nx_bar[i,j] += where(y[i,j] > 0.999, 0, y[i,j] * (y_bar[i,j] - c[i]))",
    ),
    // Other faults of rules that run.
    case("cumsum_wrong", VECTOR, "y[i] = x[i] + y[i - 1]", "p[i] = y_bar[i] + p[i - 1]\nx_bar[i] += p[i]"),
    case(
        "scan_hole",
        VECTOR,
        "y[i] = x[i] + 0.5 * y[i - 1]",
        "p[i] = y_bar[i] + where(y[i] > 60, 0, 0.5) * p[i + 1]\nx_bar[i] += p[i]",
    ),
];

/// Accepted without a word.
const RIGHT: &[Case] = &[
    case(
        "prod_exclusive",
        ROWS,
        "y[i] = prod(j) x[i,j]",
        "x_bar[i,j] += y_bar[i] * prod(k in J) where(k == j, 1, x[i,k])",
    ),
    case("norm_declared", NORM, "s = sum(i) x[i]^2\ny = sqrt(s)", "x_bar[i] += where(y > 0, y_bar * x[i] / y, 0)"),
    case("norm_of_sum", NORM, "s = sum(i) x[i]^2\ny = sqrt(s)", "x_bar[i] += where(s == 0, 0, y_bar * x[i] / y)"),
    case("relu_other_side", VECTOR, "y[i] = where(x[i] > 0, x[i], 0)", "x_bar[i] += where(x[i] < 0, 0, y_bar[i])"),
    case("relu_by_y", VECTOR, "y[i] = max(x[i], 0)", "x_bar[i] += where(y[i] > 0, y_bar[i], 0)"),
    case("relu_half", VECTOR, "y[i] = max(x[i], 0)", "x_bar[i] += 0.5 * (1 + sign(x[i])) * y_bar[i]"),
    case("abs_at_zero", VECTOR, "y[i] = abs(x[i])", "x_bar[i] += where(x[i] >= 0, y_bar[i], -y_bar[i])"),
    case("root_of_square", VECTOR, "y[i] = sqrt(x[i]^2)", "x_bar[i] += y_bar[i] * sign(x[i])"),
    case(
        "elu_by_y",
        VECTOR,
        "y[i] = where(x[i] > 0, x[i], expm1(x[i]))",
        "x_bar[i] += where(y[i] > 0, y_bar[i], y_bar[i] * (y[i] + 1))",
    ),
    case("clip", VECTOR, "y[i] = min(max(x[i], -5), 5)", "x_bar[i] += where(x[i] >= -5 and x[i] <= 5, y_bar[i], 0)"),
    case("clip_open", VECTOR, "y[i] = min(max(x[i], -5), 5)", "x_bar[i] += where(abs(x[i]) < 5, y_bar[i], 0)"),
    case(
        "huber",
        VECTOR,
        "y[i] = where(abs(x[i]) <= 7, 0.5 * x[i]^2, 7 * (abs(x[i]) - 3.5))",
        "x_bar[i] += y_bar[i] * max(min(x[i], 7), -7)",
    ),
    case(
        "huber_of_parameter",
        SCALED,
        "y[i] = where(abs(x[i]) <= alpha, 0.5 * x[i]^2, alpha * (abs(x[i]) - 0.5 * alpha))",
        "x_bar[i] += y_bar[i] * max(min(x[i], alpha), -alpha)",
    ),
    case(
        "soft_shrink",
        VECTOR,
        "y[i] = where(abs(x[i]) > 0.5, x[i] - 0.5 * sign(x[i]), 0)",
        "x_bar[i] += where(y[i] == 0, 0, y_bar[i])",
    ),
    case(
        "hinge",
        TWO,
        "y[i] = max(1 - x[i] * w[i], 0)",
        "x_bar[i] += where(x[i] * w[i] < 1, -w[i] * y_bar[i], 0)\nw_bar[i] += where(x[i] * w[i] < 1, -x[i] * y_bar[i], 0)",
    ),
    case(
        "sinc",
        VECTOR,
        "y[i] = where(x[i] == 0, 1, sin(x[i]) / x[i])",
        "x_bar[i] += where(x[i] == 0, 0, y_bar[i] * (cos(x[i]) - y[i]) / x[i])",
    ),
    case(
        "logistic_negligible",
        VECTOR,
        "y[i] = logistic(x[i])",
        "x_bar[i] += where(abs(x[i]) > 30, 0, y_bar[i] * y[i] * (1 - y[i]))",
    ),
    case("tanh_by_cosh", VECTOR, "y[i] = tanh(x[i])", "x_bar[i] += y_bar[i] / cosh(x[i])^2"),
    case("softplus_by_y", VECTOR, "y[i] = softplus(x[i])", "x_bar[i] += -y_bar[i] * expm1(-y[i])"),
    case(
        "silu_by_y",
        VECTOR,
        "y[i] = x[i] * logistic(x[i])",
        "x_bar[i] += y_bar[i] * (logistic(x[i]) + y[i] * (1 - logistic(x[i])))",
    ),
    case("rsqrt_by_y", ABOVE, "y[i] = rsqrt(x[i])", "x_bar[i] += -0.5 * y[i]^3 * y_bar[i]"),
    case("cbrt_by_y", VECTOR, "y[i] = cbrt(x[i])", "x_bar[i] += y_bar[i] / (3 * y[i]^2)"),
    case(
        "quotient_by_y",
        TWO,
        "y[i] = x[i] / w[i]",
        "x_bar[i] += y_bar[i] / w[i]\nw_bar[i] += -y_bar[i] * y[i] / w[i]",
    ),
    case(
        "logsumexp_by_y",
        ROWS,
        "m[i] = max(j) x[i,j]\ns[i] = sum(j) exp(x[i,j] - m[i])\ny[i] = m[i] + log(s[i])",
        "x_bar[i,j] += y_bar[i] * exp(x[i,j] - y[i])",
    ),
    // Cancels at large inputs: what is left there is rounding.
    case(
        "variance",
        ROWS,
        "m[i] = mean(j) x[i,j]\ny[i] = mean(j) (x[i,j] - m[i])^2",
        "x_bar[i,j] += 2 * (x[i,j] - m[i]) * y_bar[i] / J",
    ),
    case(
        "variance_of_squares",
        ROWS,
        "m[i] = mean(j) x[i,j]\nq[i] = mean(j) x[i,j]^2\ny[i] = q[i] - m[i]^2",
        "x_bar[i,j] += 2 * (x[i,j] - m[i]) * y_bar[i] / J",
    ),
    case(
        "squares_apart",
        TWO,
        "y[i] = (x[i] - w[i])^3",
        "x_bar[i] += 3 * (x[i]^2 - 2 * x[i] * w[i] + w[i]^2) * y_bar[i]\nw_bar[i] += -3 * (x[i] - w[i])^2 * y_bar[i]",
    ),
    case("tan_by_y", VECTOR, "y[i] = tan(x[i])", "x_bar[i] += y_bar[i] * (1 + y[i]^2)"),
    case("sin_twice", VECTOR, "y[i] = sin(x[i])^2", "x_bar[i] += y_bar[i] * sin(2 * x[i])"),
    case("far_along", VECTOR, "y[i] = x[i] + x[i + 50]", "x_bar[i] += y_bar[i] + y_bar[i - 50]"),
    case(
        "coordinate_far_along",
        VECTOR,
        "y[i] = where(i == 100, 0, x[i])",
        "x_bar[i] += where(i > 99, where(i < 101, 0, y_bar[i]), y_bar[i])",
    ),
    case(
        "largest",
        ROWS,
        "y[i] = max(j) x[i,j]",
        "ties[i] = sum(j) where(x[i,j] == y[i], 1, 0)\nx_bar[i,j] += where(x[i,j] == y[i], y_bar[i] / ties[i], 0)",
    ),
    case("scan", VECTOR, "y[i] = x[i] + 0.5 * y[i - 1]", "p[i] = y_bar[i] + 0.5 * p[i + 1]\nx_bar[i] += p[i]"),
];

/// Accepted with a warning.
const WARNED: &[(Code, Case)] = &[
    (Code::NotTaken, case("never", VECTOR, "y[i] = x[i]^2", "x_bar[i] += where(x[i]^2 < 0, 0, 2 * x[i] * y_bar[i])")),
    (
        Code::NotTaken,
        case(
            "never_within",
            VECTOR,
            "y[i] = exp(x[i])",
            "x_bar[i] += where(y[i] >= 1, where(cos(y[i]) > 2, 0, y[i] * y_bar[i]), y[i] * y_bar[i])",
        ),
    ),
    (
        Code::NotTaken,
        case(
            "beyond_any_shape",
            VECTOR,
            "y[i] = x[i] + y[i - 1]",
            "p[i] = y_bar[i] + where(i == 100000000, 0, p[i + 1])\nx_bar[i] += p[i]",
        ),
    ),
    (
        Code::NotFinite,
        case("overflows", VECTOR, "y[i] = softplus(x[i])", "x_bar[i] += y_bar[i] * exp(x[i]) / (1 + exp(x[i]))"),
    ),
];

fn spec(c: &Case) -> String {
    let steps = |text: &str| text.lines().map(|l| format!("  - {l}\n")).collect::<String>();
    let forward = steps(c.forward);
    format!("op: {}\n{}forward:\n{forward}adjoint:\n{}instances: []\n", c.name, c.head, steps(c.adjoint))
}

/// The codes of what is said, and the text.
fn said(name: &str, text: String) -> (Vec<Code>, String) {
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let id = sources.add(&format!("{name}.yaml"), text);
    pipeline::certified(id, &sources, &mut out);
    (out.iter().map(|d| d.code).collect(), out.render(&sources))
}

fn all(cases: impl Iterator<Item = (Vec<Code>, Case)>, holds: impl Fn(&str) -> bool) {
    let mut failures = Vec::new();
    let mut count = 0;
    for (wanted, c) in cases {
        count += 1;
        let (codes, text) = said(c.name, spec(&c));
        if codes != wanted || !holds(&text) {
            failures.push(format!("---- {}: {codes:?}, not {wanted:?}\n{}{text}", c.name, spec(&c)));
        }
    }
    assert!(failures.is_empty(), "{} of {count}\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn wrong_rules_are_refused() {
    all(WRONG.iter().map(|c| (vec![Code::WrongAdjoint], *c)), |text| {
        text.contains("should be") || text.contains("around")
    });
}

#[test]
fn right_rules_are_accepted() {
    all(RIGHT.iter().map(|c| (Vec::new(), *c)), str::is_empty);
}

#[test]
fn what_is_not_decided_is_warned_of() {
    all(WARNED.iter().map(|(code, c)| (vec![*code], *c)), |text| text.contains("warning"));
}

/// The gradient of the largest of what was rounded, where the output comes back one unit in the last place off.
#[test]
fn derived_rules_of_extrema_need_no_bits_of_a_rounded_output() {
    let text =
        "op: peak\ninputs: {x: [I, J]}\noutputs: {y: [I]}\nforward:\n  - y[i] = max(j) exp(x[i,j])\ninstances: []\n";
    let mut sources = Sources::default();
    let mut out = Diagnostics::default();
    let id = sources.add("peak.yaml", text.to_string());
    let Some(c) = pipeline::certified(id, &sources, &mut out) else { panic!("{}", out.render(&sources)) };
    let (op, given) = (&c.op, [Some(vec![1]), Some(vec![3])]);
    let binding = Binding::new(op, &given, Vec::new()).unwrap_or_else(|e| panic!("{e:?}"));
    let (x, y) = (op.inputs()[0], op.outputs()[0]);
    let (x_bar, y_bar) = (op.with_role(Role::Cotangent(x))[0], op.with_role(Role::Cotangent(y))[0]);
    let mut interpreter = Interpreter::<f64>::new(op, &binding);
    interpreter.tensors.insert(x, vec![0.1, 0.7, -2.0]);
    interpreter.tensors.insert(y, vec![0.7f64.exp().next_up()]);
    interpreter.tensors.insert(y_bar, vec![1.0]);
    interpreter.run(&op.adjoint.stmts).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(interpreter.tensors[&x_bar], [0.0, 0.7f64.exp(), 0.0]);
}
