//! Norm, rotation and caching of heads.

use gemma_hal::Op;
use gemma_hal::op::Heads;
use gemma_hal::rotary::RotaryBase;

use super::Run;
use crate::simd;

impl Run<'_> {
    pub(super) fn rotary(&mut self, op: &Op) {
        let Op::Rotary { heads, theta, stretch, cache_layer, query, key_value } = op else { return };
        let base = RotaryBase { theta: *theta, stretch: *stretch, dim: heads.dim };
        let (rows, position) = self.rows(op);
        let (isa, eps, tables) = (self.isa, self.plan.rms_eps(), self.rotary);
        let first = position - self.start;
        if let Some(q) = query {
            let norm = self.vector(q.norm);
            let width = heads.query_width();
            let [queries] = self.memory.get([(q.query, rows * width)]);
            self.pool.for_chunks_mut(queries, width, |row, queries| {
                turn(isa, queries, *heads, Some(norm), eps, Some(tables.row(base, first + row)));
                if q.scale != 1.0 {
                    queries.iter_mut().for_each(|value| *value *= q.scale);
                }
            });
        }
        if let Some(kv) = key_value {
            let norm = self.vector(kv.norm);
            let width = heads.key_value_width();
            let [keys, values] = self.memory.get([(kv.key, rows * width), (kv.value, rows * width)]);
            self.pool.for_chunks_mut(keys, width, |row, keys| {
                turn(isa, keys, *heads, Some(norm), eps, Some(tables.row(base, first + row)));
            });
            if kv.value_norm {
                self.pool
                    .for_chunks_mut(values, width, |_, values| turn(isa, values, *heads, None, eps, None));
            }
            let layer = self.cache.layer_mut(*cache_layer);
            for (row, (key, value)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
                layer.write(position + row, key, value);
            }
        }
    }
}

/// Norms every head of a row and rotates it.
fn turn(
    isa: simd::Isa,
    row: &mut [f32],
    heads: Heads,
    norm: Option<&[f32]>,
    eps: f32,
    angles: Option<(&[f32], &[f32])>,
) {
    for head in row.chunks_exact_mut(heads.dim) {
        simd::rms_norm_in_place(isa, head, norm, eps);
        if let Some((cosines, sines)) = angles {
            let (low, high) = head.split_at_mut(heads.dim / 2);
            for (((x, y), cos), sin) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
            }
        }
    }
}
