//! Training allocates nothing: takes the networks of the example, runs each under an allocator that counts, and finds
//! zero allocations.

#[path = "../../../tests/support/counting.rs"]
mod counting;

use counting::counted;
use train_digits::data;
use train_digits::model::{Cnn, Mlp, Network, Optimizer, Trainer};

#[test]
fn the_allocator_counts() {
    let (calls, numbers) = counted(|| vec![1, 2, 3]);
    assert_eq!((calls, numbers.len()), (1, 3));
}

/// Two epochs of a network, by an optimizer.
fn learns<N: Network>(name: &str, optimizer: Optimizer<N::Parameters>, rate: f32) {
    let (train, _) = data::load(1).expect("the images unpack");
    let mut trainer = Box::new(Trainer::<N>::new(optimizer, 1));
    let mut seen = 0;
    let (calls, [first, second]) = counted(|| [0, 1].map(|_| trainer.epoch(&train, rate, |images| seen += images)));
    println!(
        "{name}: {calls} allocations in 2 epochs of {} images; loss {:.4}, then {:.4}",
        train.len(),
        first.loss,
        second.loss
    );
    assert_eq!(calls, 0, "{name}");
    assert_eq!(seen, 2 * train.len(), "{name}");
    assert!(first.loss.is_finite() && second.loss < first.loss, "{name}");
    assert!(second.accuracy > first.accuracy, "{name}");
}

#[test]
fn two_epochs_allocate_nothing_and_learn() {
    learns::<Mlp>("mlp, Adam", Optimizer::adam(), 0.005);
    learns::<Mlp>("mlp, SGD", Optimizer::sgd(), 0.05);
    learns::<Cnn>("cnn, Adam", Optimizer::adam(), 0.005);
    learns::<Cnn>("cnn, SGD", Optimizer::sgd(), 0.05);
}
