//! [`Shortlist`]: the largest values of the last output row in place of all rows, see [`gemma_hal::Executable::shortlist`].

use std::cmp::Ordering;

use gemma_hal::{Deadline, DeviceError, Plan};
use gemma_hip_kernels::arguments::{Argmax, Copy, ShortlistBound, ShortlistCollect, ShortlistMaxima};
use gemma_hip_kernels::{Address, Launch};

use crate::runtime::{Buffer, Placement, Turn};

/// Values of a group, of which the largest one counts.
const GROUP: usize = 32;

/// Values that a list has room for.
const MOST_LISTED: usize = 1024;

/// Most values that are asked for: many times as many may be listed.
const MOST_WANTED: usize = MOST_LISTED / 4;

/// Times the wanted number of values that are read at once with their number.
const READ_AHEAD: usize = 4;

/// Words before the entries: how many there are, and the bound.
const HEADER: usize = 4;

const WORD: usize = size_of::<u32>();

/// Room for a list on the GPU.
pub(super) struct Shortlist {
    /// How many values are wanted.
    pub(super) wanted: usize,
    maxima: Buffer,
    list: Buffer,
}

/// What came back of a run.
#[derive(Default)]
pub(super) struct Results {
    /// The output rows, where they were wanted.
    pub(super) rows: Vec<f32>,
    /// Otherwise the largest values of the last one, largest first.
    pub(super) chosen: Vec<(u32, f32)>,
}

impl Results {
    /// Nothing came back.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.chosen.clear();
    }
}

/// Bytes on the GPU for the output of `plan`.
pub(super) fn bytes(plan: &Plan) -> usize {
    let words = |width: usize| ShortlistMaxima::groups(width) + HEADER + 2 * MOST_LISTED;
    plan.output().map_or(0, |id| words(plan.buffer(id).width) * WORD)
}

impl Shortlist {
    /// Room for the output of `plan`; none where it has no output.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], otherwise what the runtime says.
    pub(super) fn of(turn: &Turn<'_>, plan: &Plan) -> Result<Option<Self>, DeviceError> {
        let Some(output) = plan.output() else { return Ok(None) };
        let groups = ShortlistMaxima::groups(plan.buffer(output).width);
        Ok(Some(Self {
            wanted: 0,
            maxima: turn.allocate("maxima", groups * WORD, Placement::Device)?,
            list: turn.allocate("a list of values", (HEADER + 2 * MOST_LISTED) * WORD, Placement::Device)?,
        }))
    }

    /// Whether `count` of `width` values can be chosen.
    pub(super) fn can_choose(count: usize, width: usize) -> bool {
        let is_listed = count <= MOST_WANTED && ShortlistMaxima::groups(width) <= ShortlistBound::MOST;
        count * GROUP < width && (count == 1 || is_listed)
    }

    /// Entries that are read together with how many there are.
    fn ahead(&self) -> usize {
        (READ_AHEAD * self.wanted).min(MOST_LISTED)
    }

    /// What lists the largest of the `width` values at `row`, and leaves the first ones in `shared` memory, where there is some.
    pub(super) fn launches(&self, row: Address, width: usize, shared: Option<&Buffer>) -> Vec<Launch> {
        let count = width as u32;
        if self.wanted == 1 {
            let result = shared.unwrap_or(&self.list).at(0);
            return vec![Argmax { values: row, result, count, padding: 0 }.launch()];
        }
        let (maxima, counter, bound) = (self.maxima.at(0), self.list.at(0), self.list.at(WORD));
        let groups = ShortlistMaxima::groups(width) as u32;
        let wanted = self.wanted as u32;
        let entries = self.list.at(HEADER * WORD);
        let mut launches = vec![
            ShortlistMaxima { values: row, maxima, count, padding: 0 }.launch(),
            ShortlistBound { maxima, counter, bound, wanted, count: groups }.launch(),
            ShortlistCollect { values: row, bound, counter, entries, count, room: MOST_LISTED as u32 }
                .launch(),
        ];
        launches.extend(shared.map(|shared| {
            let count = (HEADER + 2 * self.ahead()) as u32;
            Copy { input: self.list.at(0), output: shared.at(0), count, padding: 0 }.launch()
        }));
        launches
    }

    /// Reads what was listed. False where there was more than the list has room for.
    ///
    /// # Errors
    /// As [`Turn::read`].
    pub(super) fn read(
        &self,
        turn: &Turn<'_>,
        shared: Option<&Buffer>,
        results: &mut Results,
        deadline: &Deadline,
    ) -> Result<bool, DeviceError> {
        let mut words = [0_u32; HEADER + 2 * MOST_LISTED];
        let mut read = |count: usize, is_there: bool| {
            let bytes = bytemuck::cast_slice_mut(&mut words[..count]);
            match shared.filter(|_| is_there) {
                Some(shared) => {
                    turn.finish("choosing a token", deadline)?;
                    // SAFETY: the stream is empty, and nobody else has the turn.
                    unsafe { shared.read_as_host(bytes) };
                }
                None => turn.read(&self.list, 0, bytes, shared, deadline)?,
            }
            Ok::<_, DeviceError>(words)
        };
        if self.wanted == 1 {
            let words = read(2, true)?;
            results.chosen.push((words[0], f32::from_bits(words[1])));
            return Ok(true);
        }
        let mut words = read(HEADER + 2 * self.ahead(), true)?;
        let listed = words[0] as usize;
        if listed > MOST_LISTED {
            return Ok(false);
        }
        if listed > self.ahead() {
            words = read(HEADER + 2 * listed, false)?;
        }
        let entries = words[HEADER..][..2 * listed].as_chunks::<2>().0;
        results.chosen.extend(entries.iter().map(|[index, bits]| (*index, f32::from_bits(*bits))));
        results.chosen.sort_unstable_by(order);
        results.chosen.truncate(self.wanted);
        Ok(true)
    }
}

/// Largest first, equal ones by index; what is not a number before all others.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that sorting wants")]
fn order(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    let rank = |value: f32| if value.is_nan() { f32::INFINITY } else { value };
    let by_value = rank(b.1).partial_cmp(&rank(a.1)).unwrap_or(Ordering::Equal);
    b.1.is_nan().cmp(&a.1.is_nan()).then(by_value).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vocabularies_are_chosen_from() {
        for width in [262_144, 262_208, 262_400] {
            assert!(Shortlist::can_choose(1, width) && Shortlist::can_choose(64, width), "{width}");
        }
        assert!(Shortlist::can_choose(1, 1 << 24) && !Shortlist::can_choose(64, 1 << 24));
        assert!(!Shortlist::can_choose(8, 256) && !Shortlist::can_choose(300, 1 << 18));
    }

    #[test]
    fn largest_first_and_what_is_no_number_before() {
        let mut all =
            [(3, 1.0), (1, f32::NEG_INFINITY), (7, 2.0), (2, 2.0), (9, f32::NAN), (8, f32::INFINITY)];
        all.sort_unstable_by(order);
        assert_eq!(all.map(|(index, _)| index), [9, 8, 2, 7, 3, 1]);
    }
}
