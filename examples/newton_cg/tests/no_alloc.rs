//! The methods allocate nothing: takes the regression of the example, fits it under an allocator that counts, and finds
//! zero allocations.

#[path = "../../../tests/support/counting.rs"]
mod counting;

use cotangent::Parameters;
use counting::counted;
use newton_cg::{data, newton, regression};

#[test]
fn newton_and_descent_allocate_nothing() {
    let (train, _) = data::load(1).expect("the images unpack");
    let mut regression = regression::Regression::new(&train);
    let mut weights = regression::Weights::ZERO;
    let mut first = None;
    let (calls, (newton, plain)) = counted(|| {
        let work = newton::minimise(&mut regression, &mut weights, |_, _, _, work| first = first.or(Some(work.norm)));
        let mut other = regression::Weights::ZERO;
        (work, newton::descend(&mut regression, &mut other, newton::TOLERANCE, 10))
    });
    println!("{calls} allocations; from {first:?} to {} and {}", newton.norm, plain.norm);
    assert_eq!(calls, 0);
    assert!(newton.norm < newton::TOLERANCE);
    assert_eq!(plain.gradients, 10);
    assert!(first.is_some_and(|first| plain.norm < first));
}
