//! Shapes at the edge of what there is: takes the instances of `edges/`, gives a failure where a generated kernel, a
//! nest or the plain statements differ from the interpreter of the index IR on random inputs. Tolerances are those of
//! the reference values.

use crate::support::{Buffers, Kernel, Random, elements, largest};
use crate::{Tally, kernels, meaning};
use cotangent::{Role, TensorInfo};
use cotangent_build::nest::machine::MACHINES;

/// Inputs, their tangents and the cotangents of outputs: exact in both scalar types, of magnitude 0.5 to 1.5, so that a
/// long product neither vanishes nor overflows.
fn sample(k: &Kernel) -> Buffers {
    let mut random = Random::new(&k.path());
    let mut number = || random.of(&[-1.0, 1.0]) * f64::from(random.uniform(0.5, 1.5) as f32);
    let mut draw = |t: &TensorInfo| -> Vec<f64> { (0..elements(t)).map(|_| number()).collect() };
    let mut b = Buffers::new();
    for t in k.tensors(Role::Input) {
        b.extend([(t.name.to_string(), draw(t)), (format!("{}_dot", t.name), draw(t))]);
    }
    for t in k.tensors(Role::Output) {
        b.insert(format!("{}_bar", t.name), draw(t));
    }
    b
}

#[test]
fn kernels_at_the_edges_compute_what_the_formula_means() {
    let ops = meaning::ops();
    let meanings = meaning::meanings(&ops);
    let mut tally = Tally::default();
    let mut count = 0;
    for k in kernels().iter().filter(|k| k.info.name.starts_with("edge_")) {
        count += 1;
        let meaning = &meanings[&(k.info.op.to_string(), k.info.name.to_string())];
        let mut expected = sample(k);
        meaning.index(&mut expected);
        for f in k.info.functions {
            crate::check("the kernel", k, f, &expected, &mut tally, |f, b| k.call(f, b));
            if k.pick(0.0, 1.0) == 1.0 {
                for machine in MACHINES {
                    let what = format!("the nest for {}", machine.name);
                    crate::check(&what, k, f, &expected, &mut tally, |f, b| meaning.nest(machine, f, b));
                }
                crate::check("the plain statements", k, f, &expected, &mut tally, |f, b| meaning.plain(f, b));
            }
        }
    }
    assert!(count > 0, "no edges");
    tally.finish(&format!("edges: {count} kernels"));
}

/// There are no reference values of `tan`; the standard library has the function.
#[test]
fn tan_is_the_tangent() {
    let kernels = kernels();
    let k = kernels.iter().find(|k| k.info.op == "tan").expect("an instance of tan");
    let mut b = sample(k);
    for name in ["y", "y_dot"] {
        b.insert(name.into(), vec![f64::NAN; b["x"].len()]);
    }
    b.insert("x_bar".into(), vec![0.0; b["x"].len()]);
    k.call("jvp", &mut b);
    k.call("vjp", &mut b);
    let mut tally = Tally::default();
    let y: Vec<f64> = b["x"].iter().map(|x| x.tan()).collect();
    let slope = |by: &str| -> Vec<f64> { b["x"].iter().zip(&b[by]).map(|(x, d)| d / x.cos().powi(2)).collect() };
    for (name, wanted) in [("y", y), ("y_dot", slope("x_dot")), ("x_bar", slope("y_bar"))] {
        tally.equal(|| format!("{} {name}", k.path()), &b[name], &wanted, 1e-12 * largest(&wanted));
    }
    tally.finish("tan");
}
