//! Formulas made at random: takes the tensors that may be read and the indices of a step, gives what the step computes.
//! Most formulas are right, and have slopes and values everywhere.

use super::generator::{Generator, Scope, Style};
use super::{Value, leaf, node};
use cotangent_build::functions::Unary;

impl Generator {
    /// A position of an axis: mostly its own index, now and then moved, spread, mirrored or another's.
    pub(super) fn position(&mut self, axis: usize, scope: &Scope) -> String {
        let own: Scope = scope.iter().filter(|(_, a)| *a == axis).cloned().collect();
        let foreign: Scope = scope.iter().filter(|(_, a)| !self.axes[*a].iterations).cloned().collect();
        let still = self.axes[axis].iterations || !self.mixed || foreign.is_empty();
        let Some((mut index, _)) = (!own.is_empty()).then(|| self.pick(&own)) else {
            return if still { "0".into() } else { self.pick(&foreign).0 };
        };
        if !still && self.below(8) == 0 {
            index = self.pick(&foreign).0;
        }
        let a = self.axes[axis].name.clone();
        match self.below(28) {
            0 => format!("{index} + 1"),
            1 => format!("{index} - 1"),
            2 => format!("2*{index}"),
            3 => format!("{a} - 1 - {index}"),
            4 => format!("{index} / 2"),
            5 if !still => format!("{index} + {} - 1", self.pick(&foreign).0),
            6 if !still => format!("2*{index} + {} - 1", self.pick(&foreign).0),
            7 if !still => {
                let (stride, dilation) = (self.pick(&["2", "3", "-2", "4"]), self.pick(&["2*", "3*", "-", "6*"]));
                let other = self.pick(&foreign).0;
                format!("{stride}*{index} + {dilation}{other} + {}", self.pick(&["0", "1", "-2", "3"]))
            }
            8 => format!("({index} - 1) / 3"),
            _ => index,
        }
    }

    pub(super) fn read(&mut self, scope: &Scope) -> Value {
        let readable = self.readable.clone();
        // Mostly of axes that are there.
        let within = |axes: &[usize]| axes.iter().all(|a| scope.iter().any(|(_, b)| a == b));
        let near: Vec<_> = readable.iter().filter(|(_, axes)| within(axes)).cloned().collect();
        let (name, axes) = if !near.is_empty() && self.below(5) > 0 { self.pick(&near) } else { self.pick(&readable) };
        if axes.is_empty() {
            return leaf(name);
        }
        if scope.is_empty() {
            let scalars: Vec<_> = readable.into_iter().filter(|(_, axes)| axes.is_empty()).collect();
            return leaf(if scalars.is_empty() { "0.75".to_owned() } else { self.pick(&scalars).0 });
        }
        // As often as not a plain access: that is what tiles are made of.
        let plain = self.below(3) > 0 && within(&axes);
        let positions: Vec<_> = axes
            .iter()
            .map(|a| {
                let own: Scope = scope.iter().filter(|(_, b)| a == b).cloned().collect();
                if plain { self.pick(&own).0 } else { self.position(*a, scope) }
            })
            .collect();
        leaf(format!("{name}[{}]", positions.join(", ")))
    }

    pub(super) fn value(&mut self, scope: &Scope, depth: usize) -> Value {
        if depth == 0 {
            return if self.below(8) == 0 { leaf(self.pick(&["0.5", "2", "-1.25", "3"])) } else { self.read(scope) };
        }
        let d = depth - 1;
        match self.below(20) {
            0 | 1 => node("(# + #)", [self.value(scope, d), self.value(scope, d)]),
            2 | 3 => node("(# - #)", [self.value(scope, d), self.value(scope, d)]),
            4..=6 => node("(# * #)", [self.value(scope, d), self.value(scope, d)]),
            7 | 8 => self.function(scope, d),
            9 => {
                // Never near zero below the line.
                let below = self.pick(&[
                    "(2 + tanh(#))",
                    "(1.5 + #^2)",
                    "(3 - sin(#))",
                    "(0.5 + exp(#))",
                    "sqrt(1 + #^2)",
                    "-(1 + abs(#))",
                ]);
                let below = node(below, [self.value(scope, d.min(1))]);
                node("(# / #)", [self.value(scope, d), below])
            }
            10 => {
                let f = self.pick(&["max(#, #)", "min(#, #)", "atan2(#, 3 + tanh(#))", "pow(1.5 + tanh(#), tanh(#))"]);
                node(f, [self.value(scope, d), self.value(scope, d)])
            }
            11 | 12 => node("where(#, #, #)", [self.cond(scope, d), self.value(scope, d), self.value(scope, d)]),
            13..=17 => self.reduction(scope, d),
            _ => self.read(scope),
        }
    }

    fn function(&mut self, scope: &Scope, d: usize) -> Value {
        let smooth = [
            "tanh(#)",
            "sin(#)",
            "cos(#)",
            "neg(#)",
            "-#",
            "exp(-#)",
            "exp(tanh(#))",
            "log(1 + #^2)",
            "sqrt(1 + #^2)",
            "logistic(#)",
            "softplus(#)",
            "erf(#)",
            "atan(#)",
            "rsqrt(2 + #^2)",
            "#^2",
            "#^3",
            "cbrt(3 + tanh(#))",
            "sin(cos(#))",
            "sin(sin(#))",
            "tan(tanh(#))",
            "(2 + sin(#))^-1",
            "(2 + cos(#))^0.5",
            "expm1(tanh(#))",
            "log1p(#^2)",
            "asinh(#)",
            "acosh(2 + #^2)",
            "atanh(tanh(#) / 2)",
            "sinh(tanh(#))",
            "cosh(tanh(#))",
            "asin(sin(#) / 2)",
            "acos(cos(#) / 2)",
            "cos(-#)",
            "-sin(-#)",
            "1 / (1 + exp(-#))",
            "abs(#)",
            "(abs(#) + 1)^1.5",
        ];
        // And every other function that has a slope everywhere, where it has values.
        let mut all = smooth.map(str::to_owned).to_vec();
        for row in Unary::ALL.iter().map(|f| f.row()).filter(|row| !row.bends.breaks()) {
            if !smooth.iter().any(|f| f.contains(&format!("{}(", row.name))) {
                let (low, high) = row.samples;
                all.push(format!("{}({} + {} * tanh(#))", row.name, 0.5 * (low + high), 0.5 * (high - low)));
            }
        }
        let f = self.pick(&all);
        node(&format!("({f})"), [self.value(scope, d)])
    }

    fn reduction(&mut self, scope: &Scope, d: usize) -> Value {
        let count = if self.below(5) == 0 { 2 } else { 1 };
        let mut inner = scope.clone();
        let mut binders = Vec::new();
        for _ in 0..count {
            let axis = self.below(self.axes.len());
            let index = self.name("q");
            binders.push(format!("{index} in {}", self.axes[axis].name));
            inner.push((index, axis));
        }
        let kind = self.pick(&["sum", "sum", "sum", "sum", "sum", "mean", "prod", "max", "min"]);
        let body = match (kind, self.below(3)) {
            // What fills tiles: a product.
            ("sum", 0) => node("# * #", [self.value(&inner, d.min(1)), self.value(&inner, d.min(1))]),
            // Products of many would be huge or nothing.
            ("prod", _) => node("(1 + # / 16)", [node("tanh(#)", [self.value(&inner, d)])]),
            _ => self.value(&inner, d),
        };
        node(&format!("({kind}({}) #)", binders.join(", ")), [body])
    }

    pub(super) fn cond(&mut self, scope: &Scope, depth: usize) -> Value {
        let read = self.read(scope);
        match self.below(8) {
            0 if read.text().contains('[') => node("inside(#)", [read]),
            1 if let Some(tied) = self.tied(scope) => leaf(tied),
            2 if !scope.is_empty() => leaf(format!("{} {} 1", self.pick(scope).0, self.pick(&["<=", "==", ">", "!="]))),
            3 if depth > 0 => node("# and #", [self.cond(scope, depth - 1), self.cond(scope, 0)]),
            4 if depth > 0 => node("(# or #)", [self.cond(scope, depth - 1), self.cond(scope, 0)]),
            5 if depth > 0 => node("not (#)", [self.cond(scope, depth - 1)]),
            6 => node("# < #", [read, self.read(scope)]),
            _ => node("# > 0.25", [read]),
        }
    }

    /// Two indices compared, where there are two that may be.
    fn tied(&mut self, scope: &Scope) -> Option<String> {
        let same: Vec<(String, String)> = scope
            .iter()
            .flat_map(|(i, a)| scope.iter().map(move |(j, b)| (i, a, j, b)))
            .filter(|(i, a, j, b)| {
                i != j && (a == b || self.mixed && !self.axes[**a].iterations && !self.axes[**b].iterations)
            })
            .map(|(i, _, j, _)| (i.clone(), j.clone()))
            .collect();
        (!same.is_empty()).then(|| {
            let (i, j) = self.pick(&same);
            format!("{i} {} {j}", self.pick(&["<=", "<", "==", "!=", ">"]))
        })
    }

    /// A step for a local or an output: a formula of any kind, or one of those that schedules are made for.
    pub(super) fn formula(&mut self, scope: &Scope, local: bool) -> Value {
        let depth = if self.style == Style::Small { 3 } else { 1 + self.below(3) };
        match self.below(10) {
            // A product with something around each factor.
            0..=2 if !scope.is_empty() => {
                let axis = self.below(3);
                let index = self.name("q");
                let mut inner = scope.clone();
                inner.push((index.clone(), axis));
                let body = [self.touching(&inner, &index, 1), self.touching(&inner, &index, 1)];
                let product = node("# * #", body);
                let term = match self.tied(&inner).filter(|_| self.below(4) == 0) {
                    Some(tied) => node(&format!("where({tied}, #, 0)"), [product]),
                    None => product,
                };
                let sum = node(&format!("(sum({index} in {}) #)", self.axes[axis].name), [term]);
                match self.below(3) {
                    0 => node("max(#, 0)", [sum]),
                    1 => node("(# + #)", [sum, self.value(scope, 1)]),
                    _ => sum,
                }
            }
            // Functions of what moves with every index, under a sum: nothing of it can be computed before.
            5 if !scope.is_empty() => {
                let axis = self.below(3);
                let index = self.name("q");
                let mut inner = scope.clone();
                inner.push((index.clone(), axis));
                let pair = self.pick(&["# * #", "# - #", "# + #", "# / (2 + #^2)", "# - # / 2", "-# * #"]);
                let pair = node(pair, [self.touching(&inner, &index, 0), self.touching(&inner, &index, 0)]);
                let around = self.pick(&[
                    "exp(-(#)^2)",
                    "tanh(-(#))",
                    "logistic(-(#))",
                    "-exp(-abs(#))",
                    "sqrt(1 + (#)^2)",
                    "sin(-(#))",
                    "1 / (1 + exp(-(#)))",
                    "max(-(#), 0)",
                    "log(1 + (#)^2) / 3",
                    "(#)^2",
                    "(1.5 - tanh(#)) * (#)",
                    "softplus(-(#))",
                ]);
                let kids = vec![pair; around.matches('#').count()];
                let kind = self.pick(&["sum", "sum", "sum", "mean", "max"]);
                node(&format!("({kind}({index} in {}) #)", self.axes[axis].name), [node(around, kids)])
            }
            // Elementwise steps behind what is there.
            3 | 4 => {
                let read = self.plain(scope);
                match self.below(4) {
                    0 => node("max(#, 0)", [read]),
                    1 => {
                        node("where(# < #, 2 * #, #)", [read.clone(), self.value(scope, 0), read, self.value(scope, 0)])
                    }
                    2 => node("(# + #)", [read, self.value(scope, 0)]),
                    _ => node("(# * # - #)", [read.clone(), self.value(scope, 0), read]),
                }
            }
            _ if local => self.value(scope, depth),
            _ => self.value(scope, depth.max(2)),
        }
    }

    /// A read of a tensor at the plain indices of the scope, the last made first.
    fn plain(&mut self, scope: &Scope) -> Value {
        let fits = |axes: &[usize]| !axes.is_empty() && axes.iter().all(|a| scope.iter().any(|(_, b)| a == b));
        let all: Vec<_> = self.readable.iter().filter(|(_, axes)| fits(axes)).cloned().collect();
        let Some((name, axes)) = all.last().cloned() else { return self.value(scope, 1) };
        let (name, axes) = if self.below(3) == 0 { self.pick(&all) } else { (name, axes) };
        let index = |a: &usize| scope.iter().find(|(_, b)| a == b).map(|(i, _)| i.clone());
        leaf(format!("{name}[{}]", axes.iter().filter_map(index).collect::<Vec<_>>().join(", ")))
    }

    /// A factor that moves with an index, where a tensor does.
    pub(super) fn touching(&mut self, scope: &Scope, index: &str, depth: usize) -> Value {
        for _ in 0..6 {
            let value = match self.below(3) {
                0 => self.value(scope, depth),
                _ => self.read(scope),
            };
            if value.text().contains(index) {
                if let Some(tied) = self.tied(scope).filter(|_| self.below(6) == 0) {
                    let other = if self.below(3) == 0 { self.value(scope, 0) } else { leaf("0") };
                    return node(&format!("where({tied}, #, #)"), [value, other]);
                }
                return if self.below(3) == 0 {
                    node(self.pick(&["exp(-#)", "sin(#)", "tanh(#)", "(1 - #)", "-#", "(# / 2)"]), [value])
                } else {
                    value
                };
            }
        }
        self.value(scope, depth)
    }
}
