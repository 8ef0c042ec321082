//! Slabs: values by a small number, without a hash and without an allocation for each.
//!
//! A hub has a value for each of very many connections and channels, most of them idle. They lie side by side in
//! pages of [`PAGE`], and a page without values is given back: memory follows the number of values down as well as up.

/// Values of a page.
const PAGE: usize = 64;

/// Numbers that are given out, the lowest free one first: so the high pages of a slab become empty.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// A bit for each number, set where it is taken.
    words: Vec<u64>,
    /// No word before this one has a free bit.
    lowest: usize,
}

/// Values by numbers that somebody else gives out.
#[derive(Debug)]
pub(super) struct Pages<T> {
    pages: Vec<Page<T>>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// `None` while the page has no value.
    entries: Option<Box<[Option<T>]>>,
    used: usize,
}

/// Values by numbers that the slab gives out.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Slots,
    pages: Pages<T>,
}

// === impl Slots ===

impl Slots {
    /// Takes the lowest free number.
    pub(super) fn take(&mut self) -> u32 {
        while self.words.get(self.lowest) == Some(&u64::MAX) {
            self.lowest += 1;
        }
        if self.lowest == self.words.len() {
            self.words.push(0);
        }
        let word = &mut self.words[self.lowest];
        let bit = word.trailing_ones();
        *word |= 1 << bit;
        (self.lowest * 64) as u32 + bit
    }

    /// Gives a number back.
    pub(super) fn give(&mut self, number: u32) {
        let at = number as usize / 64;
        if let Some(word) = self.words.get_mut(at) {
            *word &= !(1 << (number % 64));
            self.lowest = self.lowest.min(at);
        }
    }

    /// Whether none is given out.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}

// === impl Pages ===

impl<T> Pages<T> {
    pub(super) fn new() -> Self {
        Self {
            pages: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let (page, entry) = place(number);
        self.pages.get(page)?.entries.as_ref()?[entry].as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let (page, entry) = place(number);
        self.pages.get_mut(page)?.entries.as_mut()?[entry].as_mut()
    }

    /// Puts a value in the place of a number.
    pub(super) fn insert(&mut self, number: u32, value: T) -> &mut T {
        let (page, entry) = place(number);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || Page {
                entries: None,
                used: 0,
            });
        }
        let page = &mut self.pages[page];
        let entries = page
            .entries
            .get_or_insert_with(|| (0..PAGE).map(|_| None).collect());
        if entries[entry].is_none() {
            page.used += 1;
            self.len += 1;
        }
        entries[entry].insert(value)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let (at, entry) = place(number);
        let page = self.pages.get_mut(at)?;
        let removed = page.entries.as_mut()?[entry].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            page.entries = None;
            while self.pages.last().is_some_and(|page| page.used == 0) {
                self.pages.pop();
            }
            if self.pages.len() < self.pages.capacity() / 4 {
                self.pages.shrink_to(self.pages.len() * 2);
            }
        }
        Some(removed)
    }

    /// All values with their numbers, the lowest number first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let pages = self.pages.iter().enumerate();
        let pages = pages.filter_map(|(at, page)| Some((at, page.entries.as_ref()?)));
        pages.flat_map(|(at, entries)| {
            let entries = entries.iter().enumerate();
            entries.filter_map(move |(entry, value)| {
                Some(((at * PAGE + entry) as u32, value.as_ref()?))
            })
        })
    }
}

fn place(number: u32) -> (usize, usize) {
    (number as usize / PAGE, number as usize % PAGE)
}

// === impl Slab ===

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::default(),
            pages: Pages::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let number = self.slots.take();
        self.pages.insert(number, value);
        number
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.pages.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.pages.get_mut(number)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let removed = self.pages.remove(number)?;
        self.slots.give(number);
        Some(removed)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.pages.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slab_is_a_map_that_gives_the_lowest_number(steps in proptest::collection::vec((any::<bool>(), 0..300u32), 0..400)) {
            let mut slab = Slab::new();
            let mut model = BTreeMap::new();
            for (insert, number) in steps {
                if insert {
                    let given = slab.insert(number);
                    prop_assert_eq!(Some(given), (0..).find(|free| !model.contains_key(free)));
                    model.insert(given, number);
                } else {
                    prop_assert_eq!(slab.remove(number), model.remove(&number));
                }
                prop_assert_eq!(slab.len(), model.len());
            }
            prop_assert!(slab.iter().eq(model.iter().map(|(number, value)| (*number, value))));
            for number in 0..300 {
                prop_assert_eq!(slab.get(number), model.get(&number));
            }
        }
    }

    #[test]
    fn pages_without_values_are_given_back() {
        let mut slab = Slab::new();
        for number in 0..100_000 {
            slab.insert(number);
        }
        for number in 1..100_000 {
            slab.remove(number);
        }
        assert_eq!((slab.len(), slab.pages.pages.len()), (1, 1));
        assert!(slab.pages.pages.capacity() < 100);
    }
}
