//! Training allocates nothing: takes the example's network, trains it for two epochs under an allocator that counts, and finds zero allocations.

#[path = "support/counting.rs"]
mod counting;
#[path = "../examples/train_digits/data.rs"]
mod data;
#[path = "../examples/train_digits/model.rs"]
#[expect(dead_code, reason = "the accuracy on other images is the example's")]
mod model;

use counting::counted;

#[test]
fn the_allocator_counts() {
    let (calls, numbers) = counted(|| vec![1, 2, 3]);
    assert_eq!((calls, numbers.len()), (1, 3));
}

#[test]
fn two_epochs_allocate_nothing_and_learn() {
    let (train, _) = data::load(1).expect("the images unpack");
    let mut trainer = model::Trainer::new(1);
    let mut seen = 0;
    let (calls, [first, second]) = counted(|| [0, 1].map(|_| trainer.epoch(&train, 0.005, |images| seen += images)));
    println!(
        "{calls} allocations in 2 epochs of {} images; loss {:.4}, then {:.4}",
        train.len(),
        first.loss,
        second.loss
    );
    assert_eq!(calls, 0);
    assert_eq!(seen, 2 * train.len());
    assert!(first.loss.is_finite() && second.loss < first.loss);
    assert!(second.accuracy > first.accuracy);
}
