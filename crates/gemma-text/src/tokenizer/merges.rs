//! Which two pieces are joined, and before which others: the order of merging.
//!
//! Both orders are found by the piece that two others make, so nothing is kept for a pair. A list of merges keeps where
//! each of its pieces is cut; scores need nothing but themselves.

use std::borrow::Cow;
use std::cmp::Reverse;

use super::pieces::{Kind, Pieces};
use super::{MAX_MERGE_BYTES, MAX_MERGES, MAX_PIECE_BYTES, MAX_VOCABULARY, invalid, within};
use crate::TokenizerError;

/// Two pieces that become one.
pub(super) type Merge<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What a file says of merging.
pub(super) enum Merging<'a> {
    /// Merges, best first.
    List(Vec<Merge<'a>>),
    /// A number for each piece, the highest first.
    Scores(&'a [f32]),
}

/// The order of merging.
pub(super) enum Merges {
    List {
        /// By id of the whole: where its cuts begin; one more at the end.
        starts: Vec<u32>,
        /// Those of a piece end with its last place, or where [`NEVER`] says so.
        cuts: Vec<Cut>,
    },
    Scores {
        /// By id: how many normal pieces have a higher score, [`NEVER`] for a piece that is not normal.
        places: Vec<u32>,
    },
}

/// A merge of the list, by the piece it makes.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Position in the list.
    rank: u32,
    /// Bytes of the left piece.
    left: u32,
}

/// Two neighbours that may become one.
pub(super) struct Pair {
    pub(super) left: u32,
    pub(super) right: u32,
    /// Bytes of the left one.
    pub(super) left_bytes: usize,
    /// Characters of each.
    pub(super) left_characters: usize,
    pub(super) right_characters: usize,
}

const NEVER: u32 = u32::MAX;
const ID_BITS: u32 = MAX_VOCABULARY.ilog2();
const CHARACTER_BITS: u32 = 10;

const _: () = assert!(MAX_VOCABULARY.is_power_of_two() && MAX_PIECE_BYTES < 1 << CHARACTER_BITS);
const _: () = assert!(2 * ID_BITS + 2 * CHARACTER_BITS <= 64 && MAX_MERGES < 1 << (64 - ID_BITS));

impl Merges {
    pub(super) fn new(name: &str, merging: &Merging<'_>, pieces: &Pieces) -> Result<Self, TokenizerError> {
        match merging {
            Merging::List(list) => Self::from_list(name, list, pieces),
            Merging::Scores(scores) => Self::from_scores(name, scores, pieces),
        }
    }

    /// The order of joining `pair` into `whole`, lowest first; its last bits are `whole`. `None` where that is no merge.
    pub(super) fn priority(&self, pair: &Pair, whole: u32) -> Option<u64> {
        match self {
            Self::List { starts, cuts } => {
                let range = starts[whole as usize] as usize..starts[whole as usize + 1] as usize;
                let left = pair.left_bytes as u32;
                let cut = cuts[range].iter().find(|cut| cut.left == left || cut.left == NEVER)?;
                (cut.left == left).then_some(u64::from(cut.rank) << ID_BITS | u64::from(whole))
            }
            // What transformers' `generate_merges` makes of scores is a list of all cuts of a normal piece into two,
            // sorted by score, then by the characters of the left and of the right part, all descending, and stably, so
            // then by the id of the whole; it has (whole, left characters) once, so no two merges are equal in all of
            // these. The same numbers one behind the other, from the highest bits on, therefore sort as the positions in
            // that list do, and the list need not be made.
            Self::Scores { places } => {
                let place = places[whole as usize];
                if [place, places[pair.left as usize], places[pair.right as usize]].contains(&NEVER) {
                    return None;
                }
                let descending = |characters: usize| ((1 << CHARACTER_BITS) - 1 - characters) as u64;
                let mut priority = u64::from(place);
                priority = priority << CHARACTER_BITS | descending(pair.left_characters);
                priority = priority << CHARACTER_BITS | descending(pair.right_characters);
                Some(priority << ID_BITS | u64::from(whole))
            }
        }
    }

    /// The piece that a merge of this priority makes.
    pub(super) fn whole(priority: u64) -> u32 {
        (priority & ((1 << ID_BITS) - 1)) as u32
    }

    fn from_list(name: &str, list: &[Merge<'_>], pieces: &Pieces) -> Result<Self, TokenizerError> {
        check_list(name, list)?;
        let mut wholes = Vec::with_capacity(list.len());
        let mut starts = vec![0_u32; pieces.len() + 1];
        let mut joined = String::new();
        let mut before = None;
        for (index, (left, right)) in list.iter().enumerate() {
            let missing = |piece: &str| TokenizerError::MergePiece {
                name: name.to_owned(),
                index,
                piece: piece.to_owned(),
            };
            let known = |piece: &str| pieces.find(piece).ok_or_else(|| missing(piece));
            let (left_id, right_id) = (known(left)?, known(right)?);
            joined.clear();
            joined.push_str(left);
            joined.push_str(right);
            // Files list all merges of a piece together.
            let again = before.filter(|id| pieces.text(*id) == Some(&joined));
            let whole = again.map_or_else(|| known(&joined), Ok)?;
            before = Some(whole);
            // Plain text must not spell a special token.
            if [left_id, right_id, whole].iter().any(|id| pieces.is_special(*id)) {
                wholes.push(NEVER);
            } else {
                wholes.push(whole);
                starts[whole as usize + 1] += 1;
            }
        }
        for id in 0..pieces.len() {
            starts[id + 1] += starts[id];
        }
        Ok(Self::group(list, &wholes, starts))
    }

    /// Sorts the merges of the list by the piece they make. A merge that stands twice has its last place.
    fn group(list: &[Merge<'_>], wholes: &[u32], starts: Vec<u32>) -> Self {
        let unused = Cut { rank: NEVER, left: NEVER };
        let mut cuts = vec![unused; starts.last().map_or(0, |end| *end as usize)];
        for (rank, ((left, _), whole)) in list.iter().zip(wholes).enumerate() {
            if *whole == NEVER {
                continue;
            }
            let left = left.len() as u32;
            let range = starts[*whole as usize] as usize..starts[*whole as usize + 1] as usize;
            // There are at most as many different ones as the piece has bytes.
            let place = cuts[range].iter_mut().find(|cut| cut.left == left || cut.left == NEVER);
            if let Some(place) = place {
                *place = Cut { rank: rank as u32, left };
            }
        }
        Self::List { starts, cuts }
    }

    fn from_scores(name: &str, scores: &[f32], pieces: &Pieces) -> Result<Self, TokenizerError> {
        if scores.len() != pieces.len() {
            let detail =
                format!("{} scores for {} tokens, and there are no merges", scores.len(), pieces.len());
            return Err(invalid(name, "scores", detail));
        }
        if let Some(id) = scores.iter().position(|score| score.is_nan()) {
            return Err(invalid(name, format!("score {id}"), "not a number"));
        }
        let normal = (0..).zip(scores).filter(|(id, _)| pieces.kind(*id) == Some(Kind::Normal));
        let mut order: Vec<(Reverse<i32>, u32)> =
            normal.map(|(id, score)| (Reverse(ordered(*score)), id)).collect();
        order.sort_unstable();
        let mut places = vec![NEVER; pieces.len()];
        let mut place = 0;
        for (index, (score, id)) in order.iter().enumerate() {
            if index > 0 && order[index - 1].0 != *score {
                place = index as u32;
            }
            places[*id as usize] = place;
        }
        Ok(Self::Scores { places })
    }
}

/// The merges that scores stand for, best first, each as two pieces with a space between.
pub(super) fn of_scores(name: &str, scores: &[f32], pieces: &Pieces) -> Result<Vec<String>, TokenizerError> {
    let merges = Merges::from_scores(name, scores, pieces)?;
    let mut found = Vec::new();
    for (whole, text, _) in pieces.iter() {
        for (cut, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(cut);
            let (Some(left_id), Some(right_id)) = (pieces.find(left), pieces.find(right)) else { continue };
            let pair = Pair {
                left: left_id,
                right: right_id,
                left_bytes: cut,
                left_characters: left.chars().count(),
                right_characters: right.chars().count(),
            };
            found.extend(merges.priority(&pair, whole).map(|priority| (priority, left, right)));
        }
        within(name, "the number of merges", found.len(), MAX_MERGES)?;
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, left, right)| format!("{left} {right}")).collect())
}

/// That a list is no longer than it may be.
pub(super) fn check_list(name: &str, list: &[Merge<'_>]) -> Result<(), TokenizerError> {
    within(name, "the number of merges", list.len(), MAX_MERGES)?;
    let bytes = list.iter().map(|(left, right)| left.len() + right.len()).sum();
    within(name, "the length of all merges in bytes", bytes, MAX_MERGE_BYTES)
}

/// An integer that sorts as the number does.
fn ordered(score: f32) -> i32 {
    let bits = (score + 0.0).to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}
