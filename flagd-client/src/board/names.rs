//! Cells by name, for many readers and one writer at a time.
//!
//! A hash table that only grows. A name and its cell fill one line of memory, which never moves: a table that is
//! full stays as it is, for readers who are just looking into it, and one of twice the size takes its place. So
//! readers take no lock and need no permission. This file does not know what cells say.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use flagd_core::text::{Text, hash};

use super::Cell;

/// Cells of the smallest table.
const SMALLEST: usize = 64;
/// Each table is at least twice as large as the one before: these hold more names than there are numbers.
const TABLES: usize = 26;
/// Entries that are looked at together: which of them it is cannot be foreseen.
const TOGETHER: usize = 4;
/// Entries per cell: in a table so empty a name nearly always lies where it is looked for first.
const ROOM: usize = 4;

/// All tables that there ever were; the last one counts.
#[derive(Debug, Default)]
pub(super) struct Names {
    tables: [OnceLock<Table>; TABLES],
    last: AtomicUsize,
}

#[derive(Debug)]
struct Table {
    /// As many as a power of two.
    buckets: Box<[Bucket]>,
    /// The bits of an entry that are the line's number.
    mask: u32,
    lines: Box<[Line]>,
    /// How many lines are in use.
    used: AtomicUsize,
}

/// Neighbours, filled in order. Zero is free; else the low bits are the number of a line plus one, and the bits
/// above those of the name's hash.
#[derive(Debug, Default)]
#[repr(align(16))]
struct Bucket([AtomicU32; TOGETHER]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line {
    name: OnceLock<Text>,
    cell: Cell,
}

impl Names {
    /// The cell of a name.
    #[inline]
    pub(super) fn find(&self, name: &str) -> Option<&Cell> {
        self.tables.get(self.last.load(Ordering::Acquire))?.get()?.find(name)
    }

    /// The cell of a name, which is added if need be; one writer at a time. A reader finds a name that is being
    /// added, or does not. `None` when four billion names are there already.
    pub(super) fn find_or_add(&self, name: &str) -> Option<&Cell> {
        if let Some(cell) = self.find(name) {
            return Some(cell);
        }
        let last = self.tables.get(self.last.load(Ordering::Relaxed))?.get();
        match last.filter(|table| table.has_room()) {
            Some(table) => table.add(name),
            None => self.grow(last.map_or(SMALLEST, |table| table.lines.len() * 2))?.add(name),
        }
    }

    /// Makes room for so many names at once, and a few more.
    pub(super) fn reserve(&self, names: usize) {
        let last = self.tables.get(self.last.load(Ordering::Relaxed)).and_then(OnceLock::get);
        let room = last.map_or(0, |table| table.lines.len());
        if room < names {
            self.grow((names + names / 8).max(room * 2).max(SMALLEST));
        }
    }

    /// A larger table that says what the last one says.
    fn grow(&self, lines: usize) -> Option<&Table> {
        let last = self.last.load(Ordering::Relaxed);
        let before = self.tables.get(last)?.get();
        let next = if before.is_some() { last + 1 } else { last };
        let larger = Table::with_room(lines);
        for line in before.iter().flat_map(|table| &table.lines) {
            if let Some(cell) = line.name.get().and_then(|name| larger.add(name.as_str())) {
                cell.copy(&line.cell);
            }
        }
        let larger = self.tables.get(next)?.get_or_init(|| larger);
        self.last.store(next, Ordering::Release);
        Some(larger)
    }
}

impl Table {
    fn with_room(lines: usize) -> Table {
        let buckets = (lines * ROOM).div_ceil(TOGETHER).next_power_of_two();
        Table {
            buckets: std::iter::repeat_with(Bucket::default).take(buckets).collect(),
            mask: u32::try_from(buckets * TOGETHER - 1).unwrap_or(u32::MAX),
            lines: std::iter::repeat_with(Line::default).take(lines).collect(),
            used: AtomicUsize::new(0),
        }
    }

    fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.lines.len()
    }

    /// The bits of an entry that tell of the hash.
    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        (hash & 0xffff_ffff) as u32 & !self.mask
    }

    /// All buckets, beginning with the one in which a name is looked for first.
    fn around(&self, hash: u64) -> impl Iterator<Item = &Bucket> {
        let (before, after) = self.buckets.split_at(self.home(hash));
        after.iter().chain(before)
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.buckets.len() - 1)
    }

    #[inline]
    fn find(&self, name: &str) -> Option<&Cell> {
        let hash = hash(name);
        let (mask, tag) = (self.mask, self.tag(hash));
        let bucket = self.buckets.get(self.home(hash))?;
        let entries = bucket.0.each_ref().map(|entry| entry.load(Ordering::Acquire));
        // The first one, chosen without a branch; of no entry this makes a number that no line has. From the end, because
        // free entries are there, and look like the tag of a hash whose upper bits are zeros.
        let entry = entries
            .iter()
            .rev()
            .fold(0, |found, entry| std::hint::select_unpredictable(entry & !mask == tag, *entry, found));
        match self.cell((entry & mask).wrapping_sub(1), name) {
            Some(cell) => Some(cell),
            None if entry == 0 && entries.last() == Some(&0) => None,
            None => self.find_further(hash, name),
        }
    }

    #[inline]
    fn cell(&self, number: u32, name: &str) -> Option<&Cell> {
        let line = self.lines.get(number as usize)?;
        line.name.get()?.is(name).then_some(&line.cell)
    }

    /// All candidates, bucket by bucket up to one that is not full.
    #[cold]
    fn find_further(&self, hash: u64, name: &str) -> Option<&Cell> {
        let (mask, tag) = (self.mask, self.tag(hash));
        for bucket in self.around(hash) {
            for entry in bucket.0.iter().map(|entry| entry.load(Ordering::Acquire)) {
                if entry == 0 {
                    return None;
                }
                let is_candidate = entry & !mask == tag;
                if let Some(cell) = is_candidate.then(|| self.cell((entry & mask) - 1, name)).flatten() {
                    return Some(cell);
                }
            }
        }
        None
    }

    /// Adds a name that is not there, if there is room: first its line, then the entry that leads to it.
    fn add(&self, name: &str) -> Option<&Cell> {
        let number = self.used.fetch_add(1, Ordering::Relaxed);
        let line = self.lines.get(number)?;
        line.name.set(name.into()).ok()?;
        let hash = hash(name);
        let mut entries = self.around(hash).flat_map(|bucket| &bucket.0);
        let free = entries.find(|entry| entry.load(Ordering::Relaxed) == 0)?;
        let number = u32::try_from(number + 1).ok()?;
        free.store(self.tag(hash) | number, Ordering::Release);
        Some(&line.cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_keeps_its_cell_through_all_tables_and_others_have_none() {
        let names = Names::default();
        let name = |number: u32| format!("name-{}-{number}", "x".repeat(number as usize % 30));
        assert!(names.find("name").is_none());
        for number in 0..5_000 {
            names.find_or_add(&name(number)).unwrap().set_place(number);
            assert!(names.find(&name(number + 1)).is_none());
        }
        for number in 0..5_000 {
            assert_eq!(names.find(&name(number)).unwrap().place().number(), number);
            assert_eq!(names.find_or_add(&name(number)).unwrap().place().number(), number);
        }
    }

    /// The larger the table, the more names have a tag of zeros, as a free entry has.
    #[test]
    fn a_name_is_not_taken_for_a_free_entry() {
        let names = Names::default();
        names.reserve(100_000);
        let name = |number: u32| format!("flag-{number:06}");
        for number in 0..100_000 {
            names.find_or_add(&name(number)).unwrap().set_place(number);
        }
        let is_found =
            |number: &u32| names.find(&name(*number)).is_some_and(|cell| cell.place().number() == *number);
        assert_eq!((0..100_000).filter(|number| !is_found(number)).count(), 0);
    }

    #[test]
    fn a_line_is_a_line_of_memory() {
        assert_eq!((size_of::<Line>(), size_of::<Bucket>()), (64, 16));
    }
}
