//! Workspaces: takes the stages that tensors live through, gives each a place.
//!
//! Holds after it: tensors that live at the same time have places apart, each at a multiple of [`ALIGNMENT`].

use crate::index::TensorId;
use crate::plain::Kernel;
use std::collections::BTreeMap;

/// Places in a workspace begin at multiples of so many bytes: cache lines, and the widest vectors.
pub const ALIGNMENT: usize = 64;

/// The tensors that the stages of a function hand on.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Where each begins, in bytes.
    pub places: BTreeMap<TensorId, usize>,
    /// The first and the last stage that needs each.
    pub lives: BTreeMap<TensorId, (usize, usize)>,
    /// Tensors that are written over the ones beside them in the stage of that number, and have no place of their own.
    pub over: Vec<(TensorId, TensorId, usize)>,
    /// Of the whole.
    pub bytes: usize,
    /// Of the tensors that are needed at the same time, where these are most.
    pub needed: usize,
}

/// What a tensor takes in a workspace.
pub(super) fn bytes(kernel: &Kernel, t: TensorId) -> usize {
    (kernel.tensor(t).elements() * kernel.dtype.bytes()).next_multiple_of(ALIGNMENT)
}

impl Workspace {
    /// Places for tensors that live through so many stages: the largest first, each at the lowest place that none has
    /// which lives when it does.
    pub(super) fn new(
        kernel: &Kernel,
        lives: BTreeMap<TensorId, (usize, usize)>,
        over: Vec<(TensorId, TensorId, usize)>,
        stages: usize,
    ) -> Self {
        let mut order: Vec<TensorId> = lives.keys().copied().collect();
        order.sort_by_key(|t| (std::cmp::Reverse(bytes(kernel, *t)), *t));
        let mut places: BTreeMap<TensorId, usize> = BTreeMap::new();
        // What has a place, by where it begins: first and last byte, first and last stage.
        let mut taken: Vec<[usize; 4]> = Vec::new();
        for t in order {
            let (first, last) = lives[&t];
            let own = bytes(kernel, t);
            let mut at = 0;
            for [from, to, begins, ends] in &taken {
                if *begins > last || first > *ends {
                    continue;
                }
                if at + own <= *from {
                    break;
                }
                at = at.max(*to);
            }
            taken.insert(taken.partition_point(|[from, ..]| *from <= at), [at, at + own, first, last]);
            places.insert(t, at);
        }
        let size = taken.iter().map(|[_, to, ..]| *to).max().unwrap_or(0);
        // Bytes that begin to be needed with a stage, and those that end before it.
        let (mut begin, mut end) = (vec![0; stages + 1], vec![0; stages + 1]);
        for (t, (first, last)) in &lives {
            begin[*first] += bytes(kernel, *t);
            end[*last + 1] += bytes(kernel, *t);
        }
        let at_once = begin.iter().zip(&end).scan(0, |sum, (begin, end)| {
            *sum = *sum + begin - end;
            Some(*sum)
        });
        let needed = at_once.max().unwrap_or(0);
        Workspace { places, bytes: size, needed, lives, over }
    }
}
