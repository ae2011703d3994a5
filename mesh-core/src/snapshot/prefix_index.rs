//! From a text to what is filed under its beginnings.
//!
//! For long tables of which each entry wants a text, such as a path or a principal, to begin with something or to be it. Both
//! are filed alike: what is found are candidates, and whoever asks tests each of them in full.
//!
//! A sorted array: of all keys with which a text begins, the longest is the last key that is not above the text, or one
//! with which that key begins; the other ones follow from there. So a lookup is a binary search and a walk along keys that
//! begin with each other, without a copy. Building takes the time of a sort, and the index a few words per key.

use std::borrow::Cow;
use std::ops::Range;

/// An index of positions in a table.
#[derive(Debug, Default)]
pub(super) struct PrefixIndex {
    /// The texts of all keys, one after the other.
    texts: Box<[u8]>,
    /// By text, ascending.
    keys: Box<[Key]>,
    /// Key by key, ascending.
    positions: Box<[u32]>,
}

#[derive(Debug)]
struct Key {
    text: Range<u32>,
    positions: Range<u32>,
    /// The longest of the other keys with which this one begins.
    parent: Option<u32>,
}

impl PrefixIndex {
    /// Files positions under texts; several under one text, and one under several.
    pub(super) fn new(mut entries: Vec<(Cow<'_, [u8]>, u32)>) -> Self {
        entries.sort_unstable();
        entries.dedup();
        let positions = entries.iter().map(|(_, position)| *position).collect();
        let (mut texts, mut keys, mut filed) = (Vec::new(), Vec::new(), 0);
        // Keys with which the present one may begin, the shortest first.
        let mut open: Vec<(&[u8], u32)> = Vec::new();
        for same in entries.chunk_by(|left, right| left.0 == right.0) {
            let text: &[u8] = &same[0].0;
            while open.last().is_some_and(|(shorter, _)| !text.starts_with(shorter)) {
                open.pop();
            }
            let parent = open.last().map(|&(_, key)| key);
            open.push((text, offset(keys.len())));
            let (start, first) = (offset(texts.len()), filed);
            texts.extend_from_slice(text);
            filed += offset(same.len());
            keys.push(Key { text: start..offset(texts.len()), positions: first..filed, parent });
        }
        Self { texts: texts.into(), keys: keys.into(), positions }
    }

    /// Whether nothing is filed.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What is filed under the beginnings of `text`, the longest first; each list ascends.
    pub(super) fn filed(&self, text: &[u8]) -> impl Iterator<Item = &[u32]> {
        let not_above = self.keys.partition_point(|key| self.text(key) <= text);
        let last = not_above.checked_sub(1).map(|at| &self.keys[at]);
        let keys = std::iter::successors(last, |key| key.parent.map(|at| &self.keys[at as usize]));
        keys.filter(move |key| text.starts_with(self.text(key)))
            .map(|key| &self.positions[range(&key.positions)])
    }

    fn text(&self, key: &Key) -> &[u8] {
        &self.texts[range(&key.text)]
    }
}

/// The first of the positions, ascending, that `holds`, if it is before `best`; else `best`.
pub(super) fn earlier(best: Option<u32>, positions: &[u32], holds: impl Fn(u32) -> bool) -> Option<u32> {
    let before = |position: &u32| best.is_none_or(|best| *position < best);
    positions.iter().copied().take_while(before).find(|&position| holds(position)).or(best)
}

const fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("what is indexed came in one message, of at most some megabytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(keys: &[&'static str]) -> PrefixIndex {
        let entry = |(position, key): (u32, &&'static str)| (Cow::Borrowed(key.as_bytes()), position);
        PrefixIndex::new((0..).zip(keys).map(entry).collect())
    }

    fn found(index: &PrefixIndex, text: &str) -> Vec<Vec<u32>> {
        index.filed(text.as_bytes()).map(<[u32]>::to_vec).collect()
    }

    #[test]
    fn all_beginnings_are_found_the_longest_first() {
        let index = index(&["/a", "/", "/a/b", "/ab", "/a", "/b"]);
        assert_eq!(found(&index, "/a/b/c"), [vec![2], vec![0, 4], vec![1]]);
        assert_eq!(found(&index, "/a"), [vec![0, 4], vec![1]]);
        assert_eq!(found(&index, "/abc"), [vec![3], vec![0, 4], vec![1]]);
    }

    /// The key before a text in order need not be one with which it begins.
    #[test]
    fn a_text_between_keys_finds_what_both_begin_with() {
        let index = index(&["/a/b/x", "/a/b/x/y", "/a", "/a/b"]);
        assert_eq!(found(&index, "/a/b/z"), [vec![3], vec![2]]);
        assert_eq!(found(&index, "/a/c"), [vec![2]]);
        assert_eq!(found(&index, "/z"), Vec::<Vec<u32>>::new());
        assert_eq!(found(&index, ""), Vec::<Vec<u32>>::new());
        assert_eq!(found(&PrefixIndex::default(), "/a"), Vec::<Vec<u32>>::new());
    }

    #[test]
    fn every_lookup_is_a_scans() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut text =
            |most| (0..random.usize(0..=most)).map(|_| random.choice(*b"/a\xff").expect("some")).collect();
        for _ in 0..2_000 {
            let keys: Vec<Vec<u8>> = (0..12).map(|_| text(5)).collect();
            let entries = (0..).zip(&keys).map(|(position, key)| (Cow::Borrowed(key.as_slice()), position));
            let (index, wanted) = (PrefixIndex::new(entries.collect()), text(8));
            let mut found: Vec<u32> = index.filed(&wanted).flatten().copied().collect();
            found.sort_unstable();
            let scanned = (0..).zip(&keys).filter(|(_, key)| wanted.starts_with(key));
            assert_eq!(
                found,
                scanned.map(|(position, _)| position).collect::<Vec<u32>>(),
                "{keys:?} {wanted:?}"
            );
        }
    }
}
