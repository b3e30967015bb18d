//! The core kernels of `kernels/aie` as Rust sees them: their shapes, their names, and what they compute, plainly.
//!
//! A kernel works on tiles that are cut into blocks: a block is what one instruction of the matrix unit takes, its elements stand in
//! a row, and blocks stand row by row. [`Plain`] computes the same on the CPU, for the simulator.

use crate::design::{Element, Function, Object};
use crate::simulate::Kernels;

/// A kind of product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// 8-bit integers, summed in 32 bits.
    I8,
    /// bf16, summed in f32.
    Bf16,
}

/// A matrix product's three sizes: `[rows, depth] * [depth, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Of the first factor and of the result.
    pub rows: u64,
    /// Over which is summed.
    pub depth: u64,
    /// Of the second factor and of the result.
    pub columns: u64,
}

impl Shape {
    /// From its three sizes.
    #[must_use]
    pub const fn new(rows: u64, depth: u64, columns: u64) -> Self {
        Self { rows, depth, columns }
    }
}

impl Product {
    /// Both.
    pub const ALL: [Self; 2] = [Self::I8, Self::Bf16];

    /// What is multiplied.
    #[must_use]
    pub const fn input(self) -> Element {
        match self {
            Self::I8 => Element::I8,
            Self::Bf16 => Element::Bf16,
        }
    }

    /// What it is summed in.
    #[must_use]
    pub const fn output(self) -> Element {
        match self {
            Self::I8 => Element::I32,
            Self::Bf16 => Element::F32,
        }
    }

    /// Blocks that the matrix unit multiplies.
    #[must_use]
    pub const fn block(self) -> Shape {
        match self {
            Self::I8 => Shape::new(4, 8, 8),
            Self::Bf16 => Shape::new(4, 8, 4),
        }
    }

    /// Tiles that cores multiply in what is built. At this size of i8 a core needs as long for a tile as its two DMA channels for the
    /// factors, by the hardware's figures (256 products a cycle, 4 bytes a cycle and channel); nothing of it is measured.
    #[must_use]
    pub const fn tile(self) -> Shape {
        match self {
            Self::I8 => Shape::new(64, 64, 64),
            // Twice the bytes: with 64 columns the stack would have no room.
            Self::Bf16 => Shape::new(64, 64, 32),
        }
    }

    /// `c += a * b` over one tile.
    #[must_use]
    pub const fn multiply(self) -> &'static str {
        match self {
            Self::I8 => "gemm_i8_i32",
            Self::Bf16 => "gemm_bf16_f32",
        }
    }

    /// `c = 0` over one tile.
    #[must_use]
    pub const fn zero(self) -> &'static str {
        match self {
            Self::I8 => "zero_i32",
            Self::Bf16 => "zero_f32",
        }
    }

    /// The stem of the source in `kernels/aie` that has both.
    #[must_use]
    pub const fn source(self) -> &'static str {
        self.multiply()
    }

    /// The three tiles of a product, in memory.
    #[must_use]
    pub const fn objects(self, tile: Shape) -> [Object; 3] {
        let (input, output) = (self.input(), self.output());
        [
            Object { count: tile.rows * tile.depth, element: input },
            Object { count: tile.depth * tile.columns, element: input },
            Object { count: tile.rows * tile.columns, element: output },
        ]
    }

    /// What the compiler is told of a tile's shape.
    #[must_use]
    pub fn defines(self, tile: Shape) -> [String; 3] {
        let prefix = match self {
            Self::I8 => "GEMM_I8",
            Self::Bf16 => "GEMM_BF16",
        };
        [("ROWS", tile.rows), ("DEPTH", tile.depth), ("COLUMNS", tile.columns)]
            .map(|(name, value)| format!("-D{prefix}_{name}={value}"))
    }

    /// The functions of both names.
    #[must_use]
    pub fn functions(self, tile: Shape) -> [Function; 2] {
        let [a, b, c] = self.objects(tile);
        let file = format!("{}.o", self.source());
        [
            Function { name: self.zero().to_owned(), parameters: vec![c], file: file.clone() },
            Function { name: self.multiply().to_owned(), parameters: vec![a, b, c], file },
        ]
    }
}

/// What the kernels compute, on the CPU: sums in the order of the depth, for bf16 in f32.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    /// Of which product.
    pub product: Product,
    /// The tile's shape.
    pub tile: Shape,
}

impl Kernels for Plain {
    fn call(&mut self, function: &str, objects: &mut [Vec<u8>]) -> Result<(), String> {
        match objects {
            [c] if function == self.product.zero() => c.fill(0),
            [a, b, c] if function == self.product.multiply() => self.multiply(a, b, c)?,
            _ => return Err(format!("there is no {function} of {} objects", objects.len())),
        }
        Ok(())
    }
}

impl Plain {
    fn multiply(&self, a: &[u8], b: &[u8], c: &mut [u8]) -> Result<(), String> {
        let Shape { rows, depth, columns } = self.tile;
        let sizes = self.product.objects(self.tile).map(|object| object.bytes() as usize);
        if [a.len(), b.len(), c.len()] != sizes {
            return Err(format!("tiles of {:?} bytes, not {sizes:?}", [a.len(), b.len(), c.len()]));
        }
        let block = self.product.block();
        for row in 0..rows {
            for column in 0..columns {
                let pairs = (0..depth).map(|k| {
                    (
                        blocked(row, k, depth, block.rows, block.depth),
                        blocked(k, column, columns, block.depth, block.columns),
                    )
                });
                let at = 4 * blocked(row, column, columns, block.rows, block.columns);
                let Some(sum) = c.get_mut(at..at + 4) else { return Err("no whole blocks".to_owned()) };
                let old = [sum[0], sum[1], sum[2], sum[3]];
                let new = match self.product {
                    Product::I8 => pairs
                        .map(|(i, j)| i32::from(a[i] as i8) * i32::from(b[j] as i8))
                        .fold(i32::from_le_bytes(old), i32::wrapping_add)
                        .to_le_bytes(),
                    Product::Bf16 => pairs
                        .map(|(i, j)| bf16(a, i) * bf16(b, j))
                        .fold(f32::from_le_bytes(old), |sum, product| sum + product)
                        .to_le_bytes(),
                };
                sum.copy_from_slice(&new);
            }
        }
        Ok(())
    }
}

/// Where an element of a tile is, when it is cut into blocks.
#[must_use]
pub const fn blocked(row: u64, column: u64, columns: u64, block_rows: u64, block_columns: u64) -> usize {
    let block = row / block_rows * (columns / block_columns) + column / block_columns;
    let inside = row % block_rows * block_columns + column % block_columns;
    (block * block_rows * block_columns + inside) as usize
}

fn bf16(bytes: &[u8], index: usize) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]])) << 16)
}
