//! Kernels on arrays of `ndarray`: takes the tokens of a crate's `for_each_kernel!`, so a new spec is covered
//! untouched; compares each function with its own form on nested arrays, to the bit, in standard and in other layouts.

use crate::calls;
use crate::support::{Element, Random, say};
use cotangent::ndarray::{Misfit, Shaped};
use cotangent::{Real, Tensor};
use ndarray::{Array, ArrayViewMut, Dimension, ShapeBuilder, Slice};
use std::ops::DerefMut;

/// How an array lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lie {
    /// Row after row: what kernels take as it is.
    Standard,
    /// The first index runs fastest.
    Fortran,
    /// Every second element along each axis of a larger array, backwards along the last.
    Stepped,
    /// One more along the first axis than the tensor has.
    Larger,
}

/// The tensors of a kernel's module as `nd` has them: numbers are numbers, others arrays of `Dim`.
pub trait Argument: Tensor {
    /// What holds the elements.
    type Owner;
    /// What leads to what the wrappers take a reference to.
    type View<'a>: DerefMut;

    /// The tensor's elements, lying so.
    fn owner(&self, lie: Lie) -> Self::Owner;
    /// The array.
    fn view(owner: &mut Self::Owner, lie: Lie) -> Self::View<'_>;
    /// Its elements in standard order.
    fn elements(view: &Self::View<'_>) -> Vec<Self::Scalar>;
    /// Whether a kernel can take it where it is.
    fn fits(view: &Self::View<'_>) -> bool;
    /// The number of elements around the array that something was written to.
    fn spilled(owner: &mut Self::Owner, lie: Lie) -> usize;
}

macro_rules! number {
    ($($t:ident)*) => {
        $(impl Argument for $t {
            type Owner = $t;
            type View<'a> = &'a mut $t;

            fn owner(&self, _: Lie) -> $t {
                *self
            }
            fn view(owner: &mut $t, _: Lie) -> &mut $t {
                owner
            }
            fn elements(view: &&mut $t) -> Vec<$t> {
                vec![**view]
            }
            fn fits(_: &&mut $t) -> bool {
                true
            }
            fn spilled(_: &mut $t, _: Lie) -> usize {
                0
            }
        })*
    };
}

number! { f32 f64 }

impl<T: Shaped<Scalar: Element>, const N: usize> Argument for [T; N] {
    type Owner = Array<T::Scalar, <Self as Shaped>::Dim>;
    type View<'a> = ArrayViewMut<'a, T::Scalar, <Self as Shaped>::Dim>;

    fn owner(&self, lie: Lie) -> Self::Owner {
        let shape = Self::shape();
        let mut dim = <Self as Shaped>::Dim::zeros(shape.len());
        let times = if lie == Lie::Stepped { 2 } else { 1 };
        dim.slice_mut().iter_mut().zip(&shape).for_each(|(to, n)| *to = n * times);
        dim.slice_mut()[0] += usize::from(lie == Lie::Larger);
        // Between the elements there is what no result may have.
        let mut owner = Array::from_elem(dim.set_f(lie == Lie::Fortran), T::Scalar::from_f64(f64::NAN));
        let mut view = Self::view(&mut owner, lie);
        view.iter_mut().zip(self.flat()).for_each(|(to, from)| *to = *from);
        owner
    }
    fn view(owner: &mut Self::Owner, lie: Lie) -> Self::View<'_> {
        let last = owner.ndim() - 1;
        owner.slice_each_axis_mut(|axis| match lie {
            Lie::Stepped => Slice::new(0, None, if axis.axis.index() == last { -2 } else { 2 }),
            _ => Slice::new(0, None, 1),
        })
    }
    fn elements(view: &Self::View<'_>) -> Vec<T::Scalar> {
        view.iter().copied().collect()
    }
    fn fits(view: &Self::View<'_>) -> bool {
        view.is_standard_layout()
    }
    fn spilled(owner: &mut Self::Owner, lie: Lie) -> usize {
        let missing = owner.len() - Self::view(owner, lie).len();
        Self::view(owner, lie).fill(T::Scalar::ZERO);
        missing - owner.iter().filter(|v| v.to_f64().is_nan()).count()
    }
}

/// Numbers that are the same for every form of a call: above zero, so that every op is defined.
pub fn random<T: Tensor<Scalar: Element>>(random: &mut Random) -> Box<T> {
    let mut tensor = T::zeros();
    tensor.flat_mut().iter_mut().for_each(|to| *to = T::Scalar::from_f64(random.uniform(0.1, 0.9)));
    tensor
}

/// What decides whether numbers are the same.
pub fn bits<S: Element>(values: &[S]) -> Vec<u64> {
    values.iter().map(|v| v.to_f64().to_bits()).collect()
}

/// Which of a kernel's wrappers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Any,
    Strict,
}

/// What a call came to.
pub struct Outcome {
    /// How often it asked for memory.
    pub allocations: u64,
    pub result: Result<(), Misfit>,
    /// The bits of what it writes: before, after, and after the call on nested arrays if this one went well.
    pub before: Vec<Vec<u64>>,
    pub after: Vec<Vec<u64>>,
    pub expected: Vec<Vec<u64>>,
    /// The arguments, in order, and whether each was in standard layout.
    pub arguments: Vec<(&'static str, bool)>,
    /// The number of elements written that are no one's.
    pub spilled: usize,
}

/// A function in a form, its arguments lying as the other function says by their names.
pub type Call = fn(Form, &dyn Fn(&str) -> Lie) -> Outcome;

/// The callback of `for_each_kernel!`: defines `fn calls()`.
#[macro_export]
macro_rules! calls {
    ($({
        $($segment:tt)::+, $op:ident, $kernel:ident, $scalar:ident;
        $(fn $function:ident($($read:ident: $read_type:ident,)* => $($write:ident: $write_type:ident,)*);)*
    })*) => {
        /// Every function of every kernel.
        fn calls() -> Vec<(cotangent::KernelInfo, &'static str, $crate::arrays::Call)> {
            use $crate::arrays::{Argument, Call, Form, Lie, Outcome, bits, random};
            use $crate::counting::counted;
            use $crate::support::Random;
            use cotangent::Tensor;
            let mut all: Vec<(cotangent::KernelInfo, &'static str, Call)> = Vec::new();
            $({
                use $($segment)::+ as kernel;
                $({
                fn nested() -> Vec<Vec<u64>> {
                    let mut numbers = Random::new(kernel::KERNEL.name);
                    $(let $read = random::<kernel::$read_type>(&mut numbers);)*
                    $(let mut $write = random::<kernel::$write_type>(&mut numbers);)*
                    kernel::$function($(&$read,)* $(&mut $write,)*);
                    vec![$(bits($write.flat())),*]
                }
                #[allow(unused_mut, reason = "a number's view is a reference")]
                fn call(form: Form, lie: &dyn Fn(&str) -> Lie) -> Outcome {
                    let mut numbers = Random::new(kernel::KERNEL.name);
                    $(let $read = random::<kernel::$read_type>(&mut numbers);)*
                    $(let $write = random::<kernel::$write_type>(&mut numbers);)*
                    let mut owners = ($($read.owner(lie(stringify!($read))),)* $($write.owner(lie(stringify!($write))),)*);
                    let (before, after, allocations, result, arguments);
                    {
                        let ($($read,)* $($write,)*) = &mut owners;
                        $(let $read = <kernel::$read_type as Argument>::view($read, lie(stringify!($read)));)*
                        $(let mut $write = <kernel::$write_type as Argument>::view($write, lie(stringify!($write)));)*
                        arguments = vec![
                            $((stringify!($read), <kernel::$read_type as Argument>::fits(&$read)),)*
                            $((stringify!($write), <kernel::$write_type as Argument>::fits(&$write)),)*
                        ];
                        before = vec![$(bits(&<kernel::$write_type as Argument>::elements(&$write))),*];
                        (allocations, result) = counted(|| match form {
                            Form::Any => kernel::nd::$function($(&*$read,)* $(&mut *$write,)*),
                            Form::Strict => kernel::nd::strict::$function($(&*$read,)* $(&mut *$write,)*),
                        });
                        after = vec![$(bits(&<kernel::$write_type as Argument>::elements(&$write))),*];
                    }
                    let ($($read,)* $($write,)*) = &mut owners;
                    let mut spilled = 0;
                    $(spilled += <kernel::$read_type as Argument>::spilled($read, lie(stringify!($read)));)*
                    $(spilled += <kernel::$write_type as Argument>::spilled($write, lie(stringify!($write)));)*
                    let expected = if result.is_ok() { nested() } else { Vec::new() };
                    Outcome { allocations, result, before, after, expected, arguments, spilled }
                }
                all.push((kernel::KERNEL, stringify!($function), call as Call));
                })*
            })*
            all
        }
    };
}

/// Runs a check on every function; all failures are told at once.
fn every_function(what: &str, check: impl Fn(Call) -> Result<usize, String>) {
    let (mut failures, mut compared) = (Vec::new(), 0);
    let calls = calls();
    for (info, function, call) in &calls {
        match check(*call) {
            Ok(n) => compared += n,
            Err(message) => failures.push(format!("  {}::{}::{function}: {message}", info.op, info.name)),
        }
    }
    say(format!("{what}: {compared} calls of {} functions", calls.len()));
    assert!(calls.len() > 100 && compared > 0, "nothing to check");
    assert!(failures.is_empty(), "{what}: {} failures\n{}", failures.len(), failures.join("\n"));
}

/// `Err` with the text unless it holds.
fn holds(holds: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text()) }
}

#[test]
fn standard_layout_is_taken_where_it_is() {
    every_function("standard layout", |call| {
        for form in [Form::Any, Form::Strict] {
            let o = call(form, &|_| Lie::Standard);
            holds(o.result.is_ok(), || format!("{form:?}: {:?}", o.result))?;
            holds(o.after == o.expected, || format!("{form:?}: other bits than on nested arrays"))?;
            holds(o.allocations == 0, || format!("{form:?}: {} allocations", o.allocations))?;
        }
        Ok(2)
    });
}

#[test]
fn other_layouts_are_copied_there_and_back() {
    every_function("other layouts", |call| {
        for lie in [Lie::Fortran, Lie::Stepped] {
            let o = call(Form::Any, &|_| lie);
            holds(o.result.is_ok(), || format!("{lie:?}: {:?}", o.result))?;
            holds(o.after == o.expected, || format!("{lie:?}: other bits than on nested arrays"))?;
            holds(o.spilled == 0, || format!("{lie:?}: {} elements between the array's were written", o.spilled))?;
            // One copy for each that does not fit, none of the others.
            let copies = o.arguments.iter().filter(|(_, fits)| !fits).count() as u64;
            holds(o.allocations == copies, || format!("{lie:?}: {} allocations for {copies}", o.allocations))?;
        }
        Ok(2)
    });
}

#[test]
fn one_argument_that_does_not_fit_is_copied_alone() {
    every_function("one stepped argument", |call| {
        let names: Vec<&str> = call(Form::Any, &|_| Lie::Standard).arguments.iter().map(|(name, _)| *name).collect();
        for stepped in &names {
            let o = call(Form::Any, &|name| if name == *stepped { Lie::Stepped } else { Lie::Standard });
            holds(o.result.is_ok() && o.after == o.expected, || format!("`{stepped}` stepped: other bits"))?;
            let copies = o.arguments.iter().filter(|(_, fits)| !fits).count() as u64;
            holds(copies <= 1 && o.allocations == copies, || format!("{} allocations for {copies}", o.allocations))?;
        }
        Ok(names.len())
    });
}

#[test]
fn the_strict_form_refuses_what_it_would_have_to_copy() {
    every_function("refusals of layouts", |call| {
        let mut refused = 0;
        for lie in [Lie::Fortran, Lie::Stepped] {
            let o = call(Form::Strict, &|_| lie);
            match o.arguments.iter().find(|(_, fits)| !fits) {
                None => holds(o.result.is_ok() && o.after == o.expected, || format!("{lie:?} fits: {:?}", o.result))?,
                Some((first, _)) => {
                    let right = matches!(&o.result, Err(e @ Misfit::Layout { .. }) if e.argument() == *first);
                    holds(right, || format!("{lie:?}: {:?}, not the layout of `{first}`", o.result))?;
                    holds(o.after == o.before, || format!("{lie:?}: written, though `{first}` does not fit"))?;
                    refused += 1;
                }
            }
        }
        Ok(refused)
    });
}

#[test]
fn another_shape_is_an_error_of_that_argument_and_nothing_is_written() {
    every_function("refusals of shapes", |call| {
        let standard = call(Form::Any, &|_| Lie::Standard);
        let mut refused = 0;
        for form in [Form::Any, Form::Strict] {
            for (wrong, _) in &standard.arguments {
                // The others are copied, where the form allows it, and the copies thrown away.
                let other = if form == Form::Any { Lie::Stepped } else { Lie::Standard };
                let o = call(form, &|name| if name == *wrong { Lie::Larger } else { other });
                match &o.result {
                    // A number has no shape to be wrong.
                    Ok(()) => holds(o.after == o.expected, || format!("{form:?}: `{wrong}` is taken"))?,
                    Err(Misfit::Shape { argument, expected, found }) => {
                        let larger = found[0] == expected[0] + 1 && found[1..] == expected[1..];
                        holds(argument == wrong && larger, || format!("{form:?}: {:?}", o.result))?;
                        holds(o.after == o.before, || format!("{form:?}: written, though `{wrong}` does not fit"))?;
                        refused += 1;
                    }
                    Err(other) => return Err(format!("{form:?}: {other}")),
                }
            }
        }
        Ok(refused)
    });
}
