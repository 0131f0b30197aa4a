//! Kernels on arrays of `ndarray`: takes `for_each_kernel!`, so a new spec is covered untouched; compares each function with its own form on
//! nested arrays, to the bit, in standard and in other layouts.

#[path = "support/counting.rs"]
mod counting;
#[expect(dead_code, reason = "the calls here are others")]
mod support;

use cotangent::kernels::{conv::channels_first as conv, matmul::digits_logits as dense, matmul::inner_100 as inner};
use cotangent::ndarray::{self as wrappers, ArrayRef, Dimension, Misfit, Shaped};
use cotangent::{KernelInfo, Real, Tensor};
use counting::counted;
use ndarray::{Array, Array1, Array2, Array4, ArrayD, ArrayViewMut, Axis, IxDyn, ShapeBuilder, Slice, s};
use std::ops::DerefMut;
use support::{Element, Random, say};

/// How an array lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
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
trait Argument: Tensor {
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
fn random<T: Tensor<Scalar: Element>>(random: &mut Random) -> Box<T> {
    let mut tensor = T::zeros();
    tensor.flat_mut().iter_mut().for_each(|to| *to = T::Scalar::from_f64(random.uniform(0.1, 0.9)));
    tensor
}

/// What decides whether numbers are the same.
fn bits<S: Element>(values: &[S]) -> Vec<u64> {
    values.iter().map(|v| v.to_f64().to_bits()).collect()
}

/// Which of a kernel's wrappers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Any,
    Strict,
}

/// What a call came to.
struct Outcome {
    /// How often it asked for memory.
    allocations: u64,
    result: Result<(), Misfit>,
    /// The bits of what it writes: before, after, and after the call on nested arrays if this one went well.
    before: Vec<Vec<u64>>,
    after: Vec<Vec<u64>>,
    expected: Vec<Vec<u64>>,
    /// The arguments, in order, and whether each was in standard layout.
    arguments: Vec<(&'static str, bool)>,
    /// The number of elements written that are no one's.
    spilled: usize,
}

/// A function in a form, its arguments lying as the other function says by their names.
type Call = fn(Form, &dyn Fn(&str) -> Lie) -> Outcome;

macro_rules! calls {
    ($({
        $($segment:tt)::+, $op:ident, $kernel:ident, $scalar:ident;
        $(fn $function:ident($($read:ident: $read_type:ident,)* => $($write:ident: $write_type:ident,)*);)*
    })*) => {
        /// Every function of every kernel.
        fn calls() -> Vec<(KernelInfo, &'static str, Call)> {
            let mut all: Vec<(KernelInfo, &'static str, Call)> = Vec::new();
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

cotangent::kernels::for_each_kernel!(calls);

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

/// `x @ y` by a loop of its own.
fn product(x: &ArrayRef<f32, ndarray::Ix2>, y: &ArrayRef<f32, ndarray::Ix2>) -> Array2<f32> {
    Array2::from_shape_fn((x.nrows(), y.ncols()), |(i, k)| (0..x.ncols()).map(|j| x[[i, j]] * y[[j, k]]).sum())
}

/// Small integers: every order of summation gives the same.
fn whole(shape: (usize, usize), step: usize) -> Array2<f32> {
    Array2::from_shape_fn(shape, |(i, j)| ((i * step + j * 3) % 7) as f32 - 3.0)
}

#[test]
fn arrays_views_and_slices_are_arguments_alike() {
    let (x, y) = (whole((32, 32), 5), whole((32, 10), 2));
    let wanted = product(&x, &y);
    let mut z = Array2::zeros((32, 10));
    dense::nd::forward(&x, &y, &mut z).unwrap();
    assert_eq!(z, wanted);

    // A part of an array, and one that is read as it lies: rows of 10 out of 12.
    let mut wide = Array2::from_elem((32, 12), -1.0);
    dense::nd::forward(&x.view(), &y.view(), &mut wide.slice_mut(s![.., 1..11])).unwrap();
    assert_eq!(wide.slice(s![.., 1..11]), wanted);
    assert!(wide.column(0).iter().chain(wide.column(11)).all(|v| *v == -1.0));

    // Transposed, upside down, and one row for all.
    let transposed = x.t();
    dense::nd::forward(&transposed, &y, &mut z).unwrap();
    assert_eq!(z, product(&x.t(), &y));
    dense::nd::forward(&x.slice(s![..;-1, ..]), &y, &mut z).unwrap();
    assert_eq!(z, wanted.slice(s![..;-1, ..]));
    let row = Array1::from_iter((0..32).map(|i| i as f32));
    dense::nd::forward(&row.broadcast((32, 32)).unwrap(), &y, &mut z).unwrap();
    assert_eq!(z.row(3), row.dot(&y));

    // A batch: whole rows of a larger array are taken where they are.
    let batch = Array4::from_shape_fn((6, 8, 12, 12), |(n, c, h, w)| ((n + c * 2 + h * 3 + w * 5) % 11) as f32);
    let k = Array4::from_elem((8, 8, 3, 3), 0.5f32);
    let mut y = Array4::zeros((6, 8, 12, 12));
    for (x, mut y) in batch.axis_chunks_iter(Axis(0), 2).zip(y.axis_chunks_iter_mut(Axis(0), 2)) {
        let (allocations, result) = counted(|| conv::nd::forward(&x, &k, &mut y));
        assert_eq!((allocations, result), (0, Ok(())));
    }
    // An inner element is the sum over its window and channels.
    let window: f32 = batch.slice(s![4, .., 4..7, 2..5]).sum();
    assert_eq!(y[[4, 7, 5, 3]], 0.5 * window);

    // Numbers are numbers.
    let v = Array1::from_elem(100, 0.5);
    let mut sum = 0.0;
    inner::nd::forward(&v, &v, &mut sum).unwrap();
    assert_eq!(sum, 25.0);
    let mut v_bar = Array1::ones(100);
    inner::nd::vjp_x(&v, &2.0, &mut v_bar).unwrap();
    assert_eq!(v_bar, Array1::from_elem(100, 2.0));
}

#[test]
fn misfits_say_what_is_wrong() {
    let (x, y) = (whole((32, 32), 5), whole((32, 10), 2));
    let mut z = Array2::zeros((32, 10));
    let shape = dense::nd::forward(&x, &y.t(), &mut z).unwrap_err();
    assert_eq!(shape.to_string(), "`y` has the shape [10, 32], not [32, 10]");
    let layout = dense::nd::strict::forward(&x.t(), &y, &mut z).unwrap_err();
    assert_eq!(layout.to_string(), "`x` of the shape [32, 32] has the strides [1, 32], not those of standard layout");
    let boxed: Box<dyn std::error::Error> = layout.into();
    assert!(boxed.downcast_ref::<Misfit>().is_some_and(|e| e.argument() == "x"));
    assert_eq!(z, Array2::<f32>::zeros((32, 10)));
}

/// Beyond six dimensions the library counts at run time.
#[test]
fn seven_dimensions_are_checked_at_run_time() {
    type Deep = [[[[[[[f64; 2]; 1]; 3]; 2]; 1]; 2]; 2];
    let shape = [2, 2, 1, 2, 3, 1, 2];
    assert_eq!(Deep::shape(), shape);
    let mut x = ArrayD::from_shape_fn(IxDyn(&shape), |i| i.slice().iter().fold(0.0, |n, d| n * 4.0 + *d as f64));
    let flat: Vec<f64> = x.iter().copied().collect();
    assert_eq!(wrappers::borrow::<Deep>("x", &x).unwrap().flat(), flat);
    assert_eq!(wrappers::read::<Deep>("x", &x).unwrap().tensor().flat(), flat);
    assert_eq!(wrappers::borrow_mut::<Deep>("x", &mut x).unwrap()[1][0][0][1][2][0][1], flat[24 + 6 + 4 + 1]);
    // Of other ranks too.
    let x = x.into_shape_with_order(IxDyn(&[2, 24])).unwrap();
    let misfit = wrappers::read::<Deep>("x", &x).err().unwrap();
    assert_eq!(misfit.to_string(), "`x` has the shape [2, 24], not [2, 2, 1, 2, 3, 1, 2]");
}
