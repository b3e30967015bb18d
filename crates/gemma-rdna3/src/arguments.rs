//! What the runtime hands to a kernel: the segment of arguments, hidden ones included, and the dispatch packet.
//!
//! It only makes bytes. Format: LLVM, "User Guide for AMDGPU Backend"; HSA Platform System Architecture, 2.9.6.

use crate::object::Kernel;

/// Bytes of a dispatch packet.
const PACKET_BYTES: usize = 64;

/// The segment of arguments.
pub(crate) fn segment(kernel: &Kernel, grid: [u32; 3], block: [u32; 3], arguments: &[u8]) -> Vec<u8> {
    let hidden_end =
        kernel.metadata.arguments.iter().map(|argument| argument.end() as usize).max().unwrap_or(0);
    let size = (kernel.descriptor.argument_bytes as usize).max(hidden_end).max(arguments.len());
    let mut segment = vec![0; size];
    segment[..arguments.len()].copy_from_slice(arguments);
    for argument in kernel.metadata.arguments.iter().filter(|argument| argument.is_hidden()) {
        let value = hidden(&argument.kind, grid, block).to_le_bytes();
        let (start, bytes) = (argument.offset as usize, (argument.size as usize).min(value.len()));
        segment[start..start + bytes].copy_from_slice(&value[..bytes]);
    }
    segment
}

/// The packet that a kernel may ask for, with the sizes of the launch.
pub(crate) fn dispatch_packet(kernel: &Kernel, grid: [u32; 3], block: [u32; 3], dynamic_lds: u32) -> Vec<u8> {
    let mut packet = vec![0; PACKET_BYTES];
    packet[2..4].copy_from_slice(&3_u16.to_le_bytes());
    for dimension in 0..3 {
        let (items, all) = (block[dimension] as u16, grid[dimension].wrapping_mul(block[dimension]));
        packet[4 + 2 * dimension..6 + 2 * dimension].copy_from_slice(&items.to_le_bytes());
        packet[12 + 4 * dimension..16 + 4 * dimension].copy_from_slice(&all.to_le_bytes());
    }
    let lds = kernel.descriptor.lds_bytes + dynamic_lds;
    packet[28..32].copy_from_slice(&lds.to_le_bytes());
    packet
}

/// The value of a hidden argument; zero for those of services that are not there.
fn hidden(kind: &str, grid: [u32; 3], block: [u32; 3]) -> u64 {
    let dimension = match kind.as_bytes().last() {
        Some(b'x') => 0,
        Some(b'y') => 1,
        _ => 2,
    };
    let dimensions =
        (0..3).rev().find(|index| grid[*index] > 1 || block[*index] > 1).map_or(1, |index| index + 1);
    match kind {
        "hidden_block_count_x" | "hidden_block_count_y" | "hidden_block_count_z" => {
            u64::from(grid[dimension])
        }
        "hidden_group_size_x" | "hidden_group_size_y" | "hidden_group_size_z" => u64::from(block[dimension]),
        "hidden_grid_dims" => dimensions as u64,
        _ => 0,
    }
}
