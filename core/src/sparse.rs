//! A queue for owners of whom most have nothing in it: while it is empty it costs a pointer and no memory.

use std::collections::VecDeque;

/// A queue; nothing is allocated while it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::box_collection, reason = "the three words of the queue itself are what is spared")]
pub struct SparseQueue<T>(Option<Box<VecDeque<T>>>);

impl<T> SparseQueue<T> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Adds to the end.
    pub fn push_back(&mut self, item: T) {
        self.0.get_or_insert_default().push_back(item);
    }

    /// Takes the oldest. With the last one its memory is freed.
    pub fn pop_front(&mut self) -> Option<T> {
        let item = self.0.as_mut()?.pop_front();
        if self.is_empty() {
            self.0 = None;
        }
        item
    }

    /// The item at this place, from the oldest at 0.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.0.as_ref()?.get(place)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |items| items.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, from the oldest.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|items| items.iter())
    }
}

impl<T> Default for SparseQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> FromIterator<T> for SparseQueue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items: VecDeque<T> = items.into_iter().collect();
        Self((!items.is_empty()).then(|| Box::new(items)))
    }
}

impl<T> IntoIterator for SparseQueue<T> {
    type Item = T;
    type IntoIter = std::collections::vec_deque::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.map_or_else(VecDeque::new, |items| *items).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_queue_and_forgets_its_memory_with_the_last_item() {
        let mut queue = SparseQueue::default();
        assert_eq!(queue.pop_front(), None::<u8>);
        queue.push_back(1);
        queue.push_back(2);
        assert_eq!((queue.len(), queue.get(1), queue.get(2)), (2, Some(&2), None));
        assert_eq!(queue.iter().copied().collect::<Vec<u8>>(), [1, 2]);
        assert_eq!((queue.pop_front(), queue.pop_front()), (Some(1), Some(2)));
        assert_eq!(queue, SparseQueue::new());
        assert_eq!(SparseQueue::from_iter(std::iter::empty::<u8>()), queue);
        assert_eq!(SparseQueue::from_iter([3, 4]).into_iter().collect::<Vec<u8>>(), [3, 4]);
        assert_eq!(size_of::<SparseQueue<u8>>(), size_of::<usize>());
    }
}
