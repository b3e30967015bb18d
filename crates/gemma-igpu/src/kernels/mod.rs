//! The kernels, one file an operation. Each is written once for every adapter: subgroups may have any size.
//!
//! Buffers are f32 unless a name says otherwise. Rows are run side by side along the grid's second axis.

#![allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "arrays and matrices are small on the host, which never has their values"
)]
#![allow(clippy::manual_is_multiple_of, reason = "kernels do not have the method")]

pub(crate) mod attention;
pub(crate) mod attention_step;
pub(crate) mod feed_forward;
pub(crate) mod format;
pub(crate) mod linear;
pub(crate) mod math;
pub(crate) mod matrix_units;
pub(crate) mod measure;
pub(crate) mod norm;
pub(crate) mod packet;
pub(crate) mod per_layer;
pub(crate) mod rotary;
pub(crate) mod rounded;
pub(crate) mod row;
pub(crate) mod rows;
pub(crate) mod shortlist;
pub(crate) mod sparse;
pub(crate) mod staged;
pub(crate) mod streams;
pub(crate) mod tile;

/// Units of a cube that works on one row of activations, where an adapter has so many.
pub(crate) const ROW_UNITS: u32 = 1024;

/// The most subgroups that such a cube can have.
pub(crate) const MOST_PLANES: usize = ROW_UNITS as usize / 8;
