//! [`IgpuDevice::tune`]: which division of work an adapter is fastest with, by measurement.
//!
//! One entry of the [`Tuning`] after the other is tried with the values listed here, the others as they are by then. A token and
//! a prompt of a network of Gemma 3n's widths are what is timed, see [`probe`]; a value that is not clearly better than the one
//! before changes nothing, so that noise does not either.

mod probe;

use gemma_hal::DeviceError;

use crate::device::IgpuDevice;
use crate::tuning::Tuning;
use probe::{Network, Shape};

/// How much of the time of the best value so far a better one takes at most.
const BETTER: f64 = 0.98;

/// More outputs than matrices have.
const NEVER: usize = 1 << 30;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timed {
    Token,
    Prompt,
}

/// An entry and what it may be.
struct Entry {
    name: &'static str,
    timed: Timed,
    values: &'static [usize],
    place: fn(&mut Tuning) -> &mut usize,
}

impl Entry {
    const fn new(
        name: &'static str,
        timed: Timed,
        values: &'static [usize],
        place: fn(&mut Tuning) -> &mut usize,
    ) -> Self {
        Self { name, timed, values, place }
    }
}

/// In the order in which they are tried: those that others depend on first.
const ENTRIES: [Entry; 10] = [
    Entry::new("packets_ahead", Timed::Token, &[1, 2, 4, 8], |tuning| &mut tuning.packets_ahead),
    Entry::new("two_outputs_from", Timed::Token, &[1024, 4096, 16_384], |tuning| {
        &mut tuning.two_outputs_from
    }),
    Entry::new("four_outputs_from", Timed::Token, &[4096, 16_384, NEVER], |tuning| {
        &mut tuning.four_outputs_from
    }),
    Entry::new("least_keys", Timed::Token, &[16, 32, 64, 128], |tuning| &mut tuning.least_keys),
    Entry::new("most_parts", Timed::Token, &[8, 16, 32], |tuning| &mut tuning.most_parts),
    Entry::new("sparse_parts", Timed::Token, &[4, 8, 16, 32], |tuning| &mut tuning.sparse_parts),
    Entry::new("units_a_plane", Timed::Token, &[4, 8, 16, 32], |tuning| &mut tuning.units_a_plane),
    Entry::new("tile_outputs", Timed::Prompt, &[64, 128], |tuning| &mut tuning.tile_outputs),
    Entry::new("tile_rows", Timed::Prompt, &[64, 128], |tuning| &mut tuning.tile_rows),
    Entry::new("enough_tiles", Timed::Prompt, &[24, 48, 96, 192, 384], |tuning| &mut tuning.enough_tiles),
];

/// One value that was tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The entry of the [`Tuning`].
    pub entry: &'static str,
    /// Its value.
    pub value: usize,
    /// Seconds of a token or, for tiles, of a prompt.
    pub seconds: f64,
    /// Seconds of the best tuning before, in turns with it.
    pub best_s: f64,
    /// Whether it is clearly better.
    pub is_taken: bool,
}

impl IgpuDevice {
    /// Measures which [`Tuning`] this adapter is fastest with, beginning from the one it has, and has it from then on; plans
    /// that are prepared keep theirs. `tell` hears of every trial.
    ///
    /// It makes some 25 trials of at least 0.3 s, within the device's budget of memory, and compiles their kernels where
    /// [`keep_kernels`](crate::keep_kernels) has none of them.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], [`DeviceError::Timeout`] when a run takes a minute, or what the driver says. The device is
    /// then as it was.
    pub fn tune(&mut self, tell: &mut dyn FnMut(Trial)) -> Result<Tuning, DeviceError> {
        self.tune_with(&Shape::PUBLISHED, tell)
    }

    fn tune_with(&mut self, shape: &Shape, tell: &mut dyn FnMut(Trial)) -> Result<Tuning, DeviceError> {
        let before = self.gpu.tuning;
        let tuned = self.search(shape, tell);
        self.gpu.tuning = tuned.as_ref().map_or(before, |tuning| *tuning);
        tuned
    }

    fn search(&mut self, shape: &Shape, tell: &mut dyn FnMut(Trial)) -> Result<Tuning, DeviceError> {
        let mut network = Network::new(self, shape)?;
        let mut best = self.gpu.tuning;
        for timed in [Timed::Token, Timed::Prompt] {
            // Tiles are those of matrix units.
            if timed == Timed::Prompt && self.gpu.matrix_plane.is_none() {
                continue;
            }
            let mut fastest = network.prepare(self, timed)?;
            for Entry { name, values, place, .. } in ENTRIES.iter().filter(|entry| entry.timed == timed) {
                for &value in *values {
                    let mut tuning = best;
                    *place(&mut tuning) = value;
                    if tuning == best || !tuning.is_possible() {
                        continue;
                    }
                    self.gpu.tuning = tuning;
                    let mut other = network.prepare(self, timed)?;
                    let [best_s, seconds] = network.race(timed, [fastest.as_mut(), other.as_mut()])?;
                    let is_taken = seconds < BETTER * best_s;
                    if is_taken {
                        (best, fastest) = (tuning, other);
                    }
                    tell(Trial { entry: name, value, seconds, best_s, is_taken });
                }
                self.gpu.tuning = best;
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IgpuOptions, adapters};

    #[test]
    fn every_entry_is_another_one_and_has_possible_values() {
        let adapters = adapters();
        let tuning = Tuning::of(adapters[0].kind);
        for (index, entry) in ENTRIES.iter().enumerate() {
            let mut changed = tuning;
            for &value in entry.values {
                *(entry.place)(&mut changed) = value;
            }
            for (other, Entry { place, .. }) in ENTRIES.iter().enumerate() {
                let same = *place(&mut changed.clone()) == *place(&mut tuning.clone());
                assert!(same || index == other, "{} changes {}", entry.name, ENTRIES[other].name);
            }
        }
    }

    #[test]
    fn all_values_are_tried_and_the_taken_ones_are_the_result() {
        let adapters = adapters();
        let adapter =
            adapters.first().expect("a Vulkan adapter: apt-get install mesa-vulkan-drivers libvulkan1");
        let mut device = IgpuDevice::new(adapter, IgpuOptions::new(1 << 30)).unwrap();
        let mut expected = device.gpu.tuning;
        let mut trials = Vec::new();
        let tuned = device.tune_with(&Shape::SMALL, &mut |trial| trials.push(trial)).unwrap();
        let with_tiles = device.gpu.matrix_plane.is_some();
        for Entry { name, timed, place, .. } in ENTRIES {
            let tried: Vec<&Trial> = trials.iter().filter(|trial| trial.entry == name).collect();
            assert_eq!(!tried.is_empty(), timed == Timed::Token || with_tiles, "{name}");
            for trial in tried {
                assert!(trial.seconds > 0.0 && trial.best_s > 0.0, "{trial:?}");
                assert_eq!(trial.is_taken, trial.seconds < BETTER * trial.best_s, "{trial:?}");
                if trial.is_taken {
                    *place(&mut expected) = trial.value;
                }
            }
        }
        assert_eq!(tuned, expected);
        assert_eq!(device.gpu.tuning, tuned, "what is prepared from now on has it");
    }
}
