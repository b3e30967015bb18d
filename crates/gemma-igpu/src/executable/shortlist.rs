//! The largest values of the last output row in place of all rows, see [`gemma_hal::Executable::shortlist`].

use std::cmp::Ordering;

use cubecl::prelude::*;
use gemma_hal::{Deadline, DeviceError, Plan};

use super::Run;
use super::launch;
use crate::gpu::{Gpu, Region};
use crate::kernels::shortlist as kernels;

/// Words from one part of a list to the next: 256 bytes, which every adapter can bind.
const APART: usize = 64;

/// Where entries begin.
const ENTRIES: usize = 2 * APART;

/// Most values that are asked for: many times as many may be listed.
const MOST_WANTED: usize = kernels::MOST_LISTED / 4;

/// Room for a list on the device.
pub(super) struct Shortlist {
    /// How many values are wanted.
    pub(super) wanted: usize,
    maxima: Region,
    list: Region,
}

/// What came back of a run.
#[derive(Default)]
pub(super) struct Results {
    /// The output rows, where they were wanted.
    pub(super) rows: Vec<f32>,
    /// Otherwise the largest values of the last one, largest first.
    pub(super) chosen: Vec<(u32, f32)>,
    list: Vec<u32>,
}

impl Results {
    /// Nothing came back.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.chosen.clear();
    }
}

/// Maxima of a row of `width` values.
fn groups(width: usize) -> usize {
    width.div_ceil(kernels::GROUP * kernels::UNITS as usize) * kernels::UNITS as usize
}

/// Words on the device for the output of `plan`.
pub(super) fn words(plan: &Plan) -> usize {
    plan.output().map_or(0, |id| groups(plan.buffer(id).width) + ENTRIES + 2 * kernels::MOST_LISTED)
}

impl Shortlist {
    /// Room for the output of `plan`; none where it has no output.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(super) fn of(gpu: &Gpu, plan: &Plan) -> Result<Option<Self>, DeviceError> {
        let Some(output) = plan.output() else { return Ok(None) };
        Ok(Some(Self {
            wanted: 0,
            maxima: gpu.empty("maxima", groups(plan.buffer(output).width))?,
            list: gpu.empty("a list of values", ENTRIES + 2 * kernels::MOST_LISTED)?,
        }))
    }

    /// Whether `count` of `width` values can be chosen.
    pub(super) fn can_choose(count: usize, width: usize) -> bool {
        count <= MOST_WANTED && count * kernels::GROUP < width && groups(width) <= kernels::MOST_GROUPS
    }

    /// Reads what [`Run::choose`] has listed. False where there was more than the list has room for.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    fn read(&self, gpu: &Gpu, results: &mut Results, deadline: &Deadline) -> Result<bool, DeviceError> {
        let Results { list, chosen, .. } = results;
        gpu.read(&self.list, list, deadline)?;
        let listed = list[0] as usize;
        if listed > kernels::MOST_LISTED {
            return Ok(false);
        }
        let entries = list[ENTRIES..][..2 * listed].as_chunks::<2>().0;
        chosen.extend(entries.iter().map(|[index, bits]| (*index, f32::from_bits(*bits))));
        chosen.sort_unstable_by(order);
        chosen.truncate(self.wanted);
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

impl Run<'_> {
    /// Waits for the launches and reads what is wanted of the output, if there is one.
    ///
    /// # Errors
    /// As [`Gpu::read`].
    pub(super) fn results(&self, results: &mut Results, deadline: &Deadline) -> Result<(), DeviceError> {
        results.clear();
        // Without an output nobody waits: the host prepares what comes next while the GPU works. What fails then is said by whoever
        // reads next.
        let Some(output) = self.plan.output() else { return self.gpu.submit() };
        if let Some(shortlist) = self.shortlist
            && shortlist.read(self.gpu, results, deadline)?
        {
            return Ok(());
        }
        self.gpu.read(&self.region(output), &mut results.rows, deadline)
    }

    /// Lists the largest values of the last output row.
    pub(super) fn choose(&self, shortlist: &Shortlist) {
        let Some(id) = self.plan.output() else { return };
        let (all, width) = (self.region(id), self.width(id));
        let row = all.part(all.len() - width, width);
        let groups = groups(width);
        let (counter, bound) = (shortlist.list.part(0, 1), shortlist.list.part(APART, 1));
        let entries = shortlist.list.part(ENTRIES, 2 * kernels::MOST_LISTED);
        let client = &self.gpu.client;
        let (count, units) = launch::values(width);
        // SAFETY: kernels compare each index with the row's length; a maximum stands for each unit of the cubes; entries
        // beyond the list's end are counted and not written.
        unsafe {
            kernels::maxima::launch_unchecked(
                client,
                CubeCount::new_1d(groups as u32 / kernels::UNITS),
                CubeDim::new_1d(kernels::UNITS),
                row.arg(),
                shortlist.maxima.arg(),
                width,
            );
            kernels::bound::launch_unchecked(
                client,
                CubeCount::new_single(),
                CubeDim::new_1d(self.gpu.row_units),
                shortlist.maxima.arg(),
                counter.arg(),
                bound.arg(),
                shortlist.wanted as u32,
                groups,
                groups.div_ceil(self.gpu.row_units as usize),
            );
            kernels::collect::launch_unchecked(
                client,
                count,
                units,
                row.arg(),
                bound.arg(),
                counter.arg(),
                entries.arg(),
                width,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_first_and_what_is_no_number_before() {
        let mut all =
            [(3, 1.0), (1, f32::NEG_INFINITY), (7, 2.0), (2, 2.0), (9, f32::NAN), (8, f32::INFINITY)];
        all.sort_unstable_by(order);
        assert_eq!(all.map(|(index, _)| index), [9, 8, 2, 7, 3, 1]);
    }
}
