//! [`Tuning`]: how work is divided where adapters differ, as a table by the kind of adapter.
//!
//! No entry changes what is computed beyond the order of sums, and nothing is chosen while a model runs: the same table gives the
//! same results every time. [`IgpuDevice::tune`](crate::IgpuDevice::tune) measures another one for one adapter.

use serde::{Deserialize, Serialize};

use crate::adapter::AdapterKind;
use crate::executable::TILES;

/// How work is divided on an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Packets of 16 bytes of each row of weights that a unit asks for before it waits, at most; 1 to 8.
    pub packets_ahead: usize,
    /// Outputs of a matrix from which a subgroup computes two of one row of activations.
    pub two_outputs_from: usize,
    /// Outputs from which it computes four.
    pub four_outputs_from: usize,
    /// Keys that each part of a row's attention has at least in a full cache.
    pub least_keys: usize,
    /// Parts of a row's attention at most; 1 to 32.
    pub most_parts: usize,
    /// Parts of the list of active units that the down product of one row divides; 1 to 64.
    pub sparse_parts: usize,
    /// Hidden units of which one subgroup computes the active ones in the up product of one row.
    pub units_a_plane: usize,
    /// Outputs of the widest tile of matrix units; 64 or 128.
    pub tile_outputs: usize,
    /// Rows of activations of the highest tile of matrix units; 64 or 128.
    pub tile_rows: usize,
    /// Tiles of a product that give all of the adapter work: smaller ones are taken until there are so many.
    pub enough_tiles: usize,
    /// Operations of a prompt that are submitted at once, about: what others that use the adapter wait for.
    pub operations_a_submission: u64,
}

/// Graphics cards: of what was tried on NVIDIA's H100 and H200, see docs/performance.md. Most draw no screen, and all are fast
/// enough to be given a prompt at once.
const DISCRETE: Tuning = Tuning {
    packets_ahead: 1,
    two_outputs_from: 4096,
    four_outputs_from: 16_384,
    least_keys: 32,
    most_parts: 32,
    sparse_parts: 16,
    units_a_plane: 16,
    tile_outputs: 128,
    tile_rows: 128,
    enough_tiles: 192,
    operations_a_submission: u64::MAX,
};

/// GPUs within a processor. As graphics cards, but for submissions of some 20 ms at 2 TFLOP/s, since they draw the screen, and
/// fewer units that have to wait for their memory. Nothing of it was measured on one.
const INTEGRATED: Tuning = Tuning { packets_ahead: 4, operations_a_submission: 40_000_000_000, ..DISCRETE };

impl Tuning {
    /// The table's entry for adapters of `kind`.
    pub fn of(kind: AdapterKind) -> Self {
        match kind {
            AdapterKind::Discrete => DISCRETE,
            AdapterKind::Integrated | AdapterKind::Software | AdapterKind::Other => INTEGRATED,
        }
    }

    /// Whether kernels can be launched so.
    pub fn is_possible(&self) -> bool {
        let tile = |outputs, rows| TILES.iter().any(|tile| tile.0 <= outputs && tile.1 <= rows);
        (1..=8).contains(&self.packets_ahead)
            && self.two_outputs_from <= self.four_outputs_from
            && self.least_keys > 0
            && (1..=32).contains(&self.most_parts)
            && (1..=64).contains(&self.sparse_parts)
            && self.units_a_plane > 0
            && tile(self.tile_outputs, self.tile_rows)
            && self.operations_a_submission > 0
    }

    /// Outputs that a subgroup computes at a time: several share their activations, but all of a GPU wants to work.
    pub(crate) fn outputs_a_plane(&self, rows: usize) -> usize {
        if rows >= self.four_outputs_from {
            4
        } else if rows >= self.two_outputs_from {
            2
        } else {
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [AdapterKind; 4] =
        [AdapterKind::Discrete, AdapterKind::Integrated, AdapterKind::Software, AdapterKind::Other];

    #[test]
    fn the_table_is_possible_and_comes_back_from_text() {
        for tuning in KINDS.map(Tuning::of) {
            assert!(tuning.is_possible(), "{tuning:?}");
            let text = serde_json::to_string(&tuning).unwrap();
            assert_eq!(serde_json::from_str::<Tuning>(&text).unwrap(), tuning);
        }
    }

    #[test]
    fn what_kernels_cannot_do_is_not_possible() {
        let changes: [fn(&mut Tuning); 11] = [
            |tuning| tuning.packets_ahead = 0,
            |tuning| tuning.packets_ahead = 9,
            |tuning| tuning.two_outputs_from = tuning.four_outputs_from + 1,
            |tuning| tuning.least_keys = 0,
            |tuning| tuning.most_parts = 0,
            |tuning| tuning.most_parts = 33,
            |tuning| tuning.sparse_parts = 0,
            |tuning| tuning.units_a_plane = 0,
            |tuning| tuning.tile_outputs = 63,
            |tuning| tuning.tile_rows = 0,
            |tuning| tuning.operations_a_submission = 0,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut tuning = DISCRETE;
            change(&mut tuning);
            assert!(!tuning.is_possible(), "change {index}: {tuning:?}");
        }
    }

    #[test]
    fn larger_matrices_have_more_outputs_a_subgroup() {
        let outputs = [1, 4095, 4096, 16_383, 16_384, 1 << 20].map(|rows| DISCRETE.outputs_a_plane(rows));
        assert_eq!(outputs, [1, 1, 2, 2, 4, 4]);
        let never = Tuning { two_outputs_from: usize::MAX, four_outputs_from: usize::MAX, ..DISCRETE };
        assert_eq!(never.outputs_a_plane(1 << 30), 1);
    }
}
