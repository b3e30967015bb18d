//! Random matrices, and their product by the formula.

use gemma_npu_kernels::kernels::{Product, Shape};

/// A small generator; the same numbers from the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| (self.draw() >> 24) as u8).collect()
    }
}

/// Two factors. Those of bf16 are small whole numbers, of which every sum is exact.
pub(crate) fn matrices(product: Product, shape: Shape, random: &mut Random) -> [Vec<u8>; 2] {
    [shape.rows * shape.depth, shape.depth * shape.columns].map(|count| match product {
        Product::I8 => random.bytes(count),
        Product::Bf16 => (0..count)
            .flat_map(|_| ((random.draw() % 17) as f32 - 8.0).to_bits().to_le_bytes()[2..].to_vec())
            .collect(),
    })
}

/// `[rows, depth] * [depth, columns]`, all row by row.
pub(crate) fn product(product: Product, shape: Shape, a: &[u8], b: &[u8]) -> Vec<u8> {
    let Shape { rows, depth, columns } = shape;
    let value = |bytes: &[u8], index: u64| match product {
        Product::I8 => f64::from(bytes[index as usize] as i8),
        Product::Bf16 => {
            let at = 2 * index as usize;
            f64::from(f32::from_bits(u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])) << 16))
        }
    };
    let mut c = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let sum: f64 =
                (0..depth).map(|k| value(a, row * depth + k) * value(b, k * columns + column)).sum();
            c.extend(match product {
                Product::I8 => (sum as i32).to_le_bytes(),
                Product::Bf16 => (sum as f32).to_le_bytes(),
            });
        }
    }
    c
}
