//! Which file becomes the object, and what has to be brought there? Pure arithmetic over where the parts are.

use std::collections::BTreeMap;

use super::gaps::Range;
use super::log::PartFile;
use crate::limits::{BLOCK_ALIGN, GAPS_MAX};

/// A part of the object, in the object's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) number: u32,
    pub(super) size: u64,
    pub(super) place: PartFile,
    /// Where it begins in its file.
    pub(super) offset: u64,
}

/// Bytes to be brought into the file that becomes the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: PartFile,
    pub(super) from_offset: u64,
    pub(super) to_offset: u64,
    pub(super) length: u64,
}

/// How an object is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    /// This file becomes the object once these bytes are in it. Only places that no part is in are written.
    InPlace { base: PartFile, moves: Vec<Move> },
    /// This slot file becomes the object once these ranges are out.
    Collapse { slot_size: u64, gaps: Vec<Range> },
    /// All bytes go into a new file.
    Fresh { moves: Vec<Move> },
}

/// What may be done to the slot files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots<'a> {
    /// All parts there are in slots, chosen or not.
    pub(super) parts: &'a [Piece],
    /// Nobody is writing into them.
    pub(super) are_fenced: bool,
    /// From this file ranges were taken out before, and whether all that were meant to.
    pub(super) collapsed: Option<(u64, bool)>,
}

/// Everything into a new file: always possible, never free.
pub(super) fn fresh(pieces: &[Piece]) -> Layout {
    Layout::Fresh { moves: placed(pieces).filter_map(|(to_offset, piece)| piece.moved_to(to_offset)).collect() }
}

/// The layout that moves fewest bytes, those that it takes away among them.
pub(super) fn choose(pieces: &[Piece], slots: Slots<'_>) -> Layout {
    let layout = fewest_moves(pieces, slots);
    let size = |pieces: &[Piece]| pieces.iter().map(|piece| piece.size).sum::<u64>();
    let taken = size(&layout.takes_away(pieces, slots.parts));
    if taken > 0 && taken >= size(pieces) { fresh(pieces) } else { layout }
}

fn fewest_moves(pieces: &[Piece], slots: Slots<'_>) -> Layout {
    let mut in_place: BTreeMap<PartFile, u64> = BTreeMap::new();
    for (target, piece) in placed(pieces).filter(|(target, piece)| piece.offset == *target) {
        // A part's own file has it at its start: it serves for the first part only.
        if matches!(piece.place, PartFile::Slot { .. }) || target == 0 {
            *in_place.entry(piece.place).or_default() += piece.size;
        }
    }
    let mut bases: Vec<_> = in_place.into_iter().collect();
    bases.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let layout = bases.iter().find_map(|(base, _)| into_base(*base, pieces, slots));
    match layout {
        Some(Layout::InPlace { base, moves }) if moves.is_empty() => Layout::InPlace { base, moves },
        other => collapse(pieces, slots).or(other).unwrap_or_else(|| fresh(pieces)),
    }
}

impl Layout {
    /// Bytes that are moved from file to file for it, those that it takes away among them.
    pub(super) fn moved_size(&self, pieces: &[Piece], in_slots: &[Piece]) -> u64 {
        let moves = match self {
            Self::InPlace { moves, .. } | Self::Fresh { moves } => moves.iter().map(|step| step.length).sum(),
            Self::Collapse { .. } => 0,
        };
        moves + self.takes_away(pieces, in_slots).iter().map(|piece| piece.size).sum::<u64>()
    }

    /// The parts in slots that are no longer there once the object's file is cut to its size: those that the object does not have.
    /// Another list of parts could, should this Complete fail after all.
    pub(super) fn takes_away(&self, pieces: &[Piece], in_slots: &[Piece]) -> Vec<Piece> {
        let base = match self {
            Self::InPlace { base, .. } => *base,
            Self::Collapse { slot_size, .. } => PartFile::Slot { slot_size: *slot_size },
            Self::Fresh { .. } => return Vec::new(),
        };
        let is_chosen = |part: &Piece| pieces.binary_search_by_key(&part.number, |piece| piece.number).is_ok();
        in_slots.iter().filter(|part| part.place == base && part.size > 0 && !is_chosen(part)).copied().collect()
    }
}

impl Piece {
    fn moved_to(&self, to_offset: u64) -> Option<Move> {
        (self.size > 0).then_some(Move { from: self.place, from_offset: self.offset, to_offset, length: self.size })
    }
}

/// The pieces with their places in the object.
fn placed(pieces: &[Piece]) -> impl Iterator<Item = (u64, &Piece)> {
    pieces.iter().scan(0, |end, piece| {
        let start = *end;
        *end += piece.size;
        Some((start, piece))
    })
}

fn into_base(base: PartFile, pieces: &[Piece], slots: Slots<'_>) -> Option<Layout> {
    let is_in_place = |target: u64, piece: &Piece| piece.place == base && piece.offset == target;
    let moving: Vec<_> = placed(pieces).filter(|(target, piece)| !is_in_place(*target, piece)).collect();
    let moves: Vec<Move> = moving.iter().filter_map(|(target, piece)| piece.moved_to(*target)).collect();
    let PartFile::Slot { slot_size } = base else { return Some(Layout::InPlace { base, moves }) };
    let is_whole = slots.collapsed.is_none_or(|(other, is_done)| other != slot_size || (is_done && moves.is_empty()));
    // A part that would be moved within the file could not be found again after a crash.
    let moves_itself = moving.iter().any(|(_, piece)| piece.place == base && piece.size > 0);
    if !slots.are_fenced || !is_whole || moves_itself {
        return None;
    }
    // Nor may a part be overwritten that this object does not have, but another list of parts could. Those behind the object's
    // end are copied before it is cut (`takes_away`).
    let overwrites = slots.parts.iter().filter(|part| part.place == base).any(|part| {
        let after = moves.partition_point(|step| step.to_offset + step.length <= part.offset);
        moves.get(after).is_some_and(|step| step.to_offset < part.offset + part.size)
    });
    (!overwrites).then_some(Layout::InPlace { base, moves })
}

fn collapse(pieces: &[Piece], slots: Slots<'_>) -> Option<Layout> {
    let PartFile::Slot { slot_size } = pieces.first()?.place else { return None };
    if !slots.are_fenced || slots.collapsed.is_some_and(|(other, _)| other == slot_size) {
        return None;
    }
    let mut gaps = Vec::new();
    let mut end = 0;
    for piece in pieces {
        if piece.place != (PartFile::Slot { slot_size }) || piece.offset < end || !end.is_multiple_of(BLOCK_ALIGN as u64) {
            return None;
        }
        if piece.offset > end {
            gaps.push((end, piece.offset - end));
        }
        end = piece.offset + piece.size;
    }
    (gaps.len() <= GAPS_MAX).then_some(Layout::Collapse { slot_size, gaps })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 8 << 20;

    fn slot(number: u32, size: u64) -> Piece {
        Piece { number, size, place: PartFile::Slot { slot_size: S }, offset: S * u64::from(number - 1) }
    }

    fn stray(number: u32, size: u64) -> Piece {
        Piece { number, size, place: PartFile::Stray { number, attempt: 1 }, offset: 0 }
    }

    fn free(parts: &[Piece]) -> Slots<'_> {
        Slots { parts, are_fenced: true, collapsed: None }
    }

    fn in_place(moves: &[(Piece, u64)]) -> Layout {
        let moves = moves.iter().filter_map(|(piece, target)| piece.moved_to(*target)).collect();
        Layout::InPlace { base: PartFile::Slot { slot_size: S }, moves }
    }

    #[test]
    fn parts_in_their_slots_stay_there() {
        let pieces = [slot(1, S), slot(2, S), slot(3, 77)];
        assert_eq!(choose(&pieces, free(&pieces)), in_place(&[]));
        // A part behind the end that was not chosen is cut off, once it is somewhere else.
        assert_eq!(choose(&pieces[..2], free(&pieces)), in_place(&[]));
        assert_eq!(in_place(&[]).takes_away(&pieces[..2], &pieces), [pieces[2]]);
        assert_eq!(in_place(&[]).takes_away(&pieces, &pieces), []);
        assert_eq!(choose(&[slot(1, 5)], free(&[])), in_place(&[]));
    }

    #[test]
    fn a_part_that_came_again_is_brought_into_its_slot() {
        let pieces = [slot(1, S), stray(2, S), slot(3, S)];
        assert_eq!(choose(&pieces, free(&[pieces[0], pieces[2]])), in_place(&[(pieces[1], S)]));
    }

    #[test]
    fn a_part_of_its_own_can_be_the_object() {
        let only = stray(1, 58_000);
        assert_eq!(choose(&[only], free(&[])), Layout::InPlace { base: only.place, moves: vec![] });
        let second = stray(2, 6_000_001);
        let moves = vec![second.moved_to(58_000).unwrap()];
        assert_eq!(choose(&[only, second], free(&[])), Layout::InPlace { base: only.place, moves });
        let empty = stray(7, 0);
        assert_eq!(choose(&[empty], free(&[])), Layout::InPlace { base: empty.place, moves: vec![] });
    }

    #[test]
    fn gaps_between_slots_are_taken_out() {
        let pieces = [slot(1, S), slot(3, S), slot(7, 9)];
        let gaps = vec![(S, S), (3 * S, 3 * S)];
        assert_eq!(choose(&pieces, free(&pieces)), Layout::Collapse { slot_size: S, gaps });
        let gaps = vec![(0, S)];
        assert_eq!(choose(&[slot(2, S)], free(&[])), Layout::Collapse { slot_size: S, gaps });
        let shorter = [slot(1, S - 4096), slot(2, S)];
        assert_eq!(choose(&shorter, free(&shorter)), Layout::Collapse { slot_size: S, gaps: vec![(S - 4096, 4096)] });
    }

    #[test]
    fn what_copies_fewer_bytes_is_done_where_parts_are_left_out() {
        let pieces = [slot(1, S), slot(3, S), slot(4, S), slot(5, S)];
        let (kept, left_out) = ([pieces[0], pieces[1], pieces[3]], [pieces[2]]);
        let collapse = Layout::Collapse { slot_size: S, gaps: vec![(S, S), (3 * S, S)] };
        assert_eq!(choose(&kept, free(&pieces)), collapse);
        assert_eq!(collapse.takes_away(&kept, &pieces), left_out);
        assert_eq!(choose(&left_out, free(&pieces)), fresh(&left_out));
        assert_eq!(fresh(&left_out).takes_away(&left_out, &pieces), []);
        assert_eq!(choose(&pieces[..1], free(&pieces)), fresh(&pieces[..1]));
    }

    #[test]
    fn what_cannot_be_done_safely_is_copied() {
        // Unaligned in the middle; a part that would move within its own file; not fenced; collapsed before.
        let unaligned = [slot(1, S - 1), slot(2, S)];
        assert_eq!(choose(&unaligned, free(&unaligned)), fresh(&unaligned));
        let mixed = [slot(1, S), slot(3, S), stray(4, S)];
        assert_eq!(choose(&mixed, free(&mixed)), fresh(&mixed));
        let pieces = [slot(1, S), slot(3, S)];
        assert_eq!(choose(&pieces, Slots { are_fenced: false, ..free(&pieces) }), fresh(&pieces));
        assert_eq!(choose(&pieces, Slots { collapsed: Some((S, false)), ..free(&pieces) }), fresh(&pieces));
        // Part 2 of the slots was not chosen: the stray 5 must not overwrite it.
        let chosen = [slot(1, S), stray(5, S)];
        assert_eq!(choose(&chosen, free(&[slot(1, S), slot(2, S)])), fresh(&chosen));
        let Layout::Fresh { moves } = fresh(&chosen) else { panic!("fresh is fresh") };
        assert_eq!(moves.iter().map(|step| (step.to_offset, step.length)).collect::<Vec<_>>(), [(0, S), (S, S)]);
    }
}
