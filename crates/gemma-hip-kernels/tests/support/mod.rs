//! The emulation as tests see it: a process that runs kernels under sanitizers, memory for it, and a device over both.
//!
//! What `cargo xtask build-kernels --hip` builds is built first where it is not.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its part")]

pub mod alone;
pub mod attention;
pub mod built;
pub mod device;
pub mod machine;
pub mod results;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

pub use built::build_folder;
use gemma_hip_kernels::{Address, Launch, objects};

/// What makes an address of a [`Bank`] unlike every number that a kernel takes.
const TAG: u64 = 0x7ead;

/// What runs kernels on pieces of a bank.
pub trait Runner: Send {
    /// Runs a launch.
    ///
    /// # Errors
    /// What was found wrong.
    fn run(&mut self, launch: &Launch, bank: &mut Bank) -> Result<(), String>;
}

/// Memory that kernels work on: pieces that know their exact size.
#[derive(Default)]
pub struct Bank {
    pieces: Vec<Vec<u8>>,
}

impl Bank {
    /// A piece with these values.
    pub fn hold<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> Address {
        self.pieces.push(bytemuck::cast_slice(values).to_vec());
        Address(TAG << 48 | (self.pieces.len() as u64 - 1) << 32)
    }

    /// A piece of so many f32 that are no numbers yet.
    pub fn room(&mut self, count: usize) -> Address {
        self.hold(&vec![f32::NAN; count])
    }

    /// The values of the piece that begins at `address`.
    pub fn read<T: bytemuck::AnyBitPattern>(&self, address: Address) -> Vec<T> {
        let (piece, offset) = place(address).expect("an address of the bank");
        assert_eq!(offset, 0, "the beginning of a piece");
        self.pieces[piece].chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
    }

    /// Overwrites the beginning of a piece.
    pub fn write<T: bytemuck::NoUninit>(&mut self, address: Address, values: &[T]) {
        let (piece, _) = place(address).expect("an address of the bank");
        let bytes: &[u8] = bytemuck::cast_slice(values);
        self.pieces[piece][..bytes.len()].copy_from_slice(bytes);
    }

    /// Pieces so far.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Forgets all but the first `count` pieces.
    pub fn truncate(&mut self, count: usize) {
        self.pieces.truncate(count);
    }
}

/// Piece and offset of an address of a bank.
fn place(address: Address) -> Option<(usize, usize)> {
    let Address(bits) = address;
    (bits >> 48 == TAG).then_some(((bits >> 32 & 0xffff) as usize, (bits & 0xffff_ffff) as usize))
}

/// The process `checked`, which runs one kernel after the other.
pub struct Emulator {
    process: Child,
    requests: Option<ChildStdin>,
    answers: ChildStdout,
    log: PathBuf,
    launches: u64,
}

impl Emulator {
    /// Starts one.
    pub fn new() -> Self {
        let folder = objects::emulation_folder(&build_folder());
        let program = folder.join("checked");
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("gemma-emulator-{}-{number}.log", std::process::id()));
        let errors = fs::File::create(&log).expect("a temporary file");
        let mut process = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the emulation starts");
        let requests = process.stdin.take();
        let answers = process.stdout.take().expect("it was piped");
        Self { process, requests, answers, log, launches: 0 }
    }

    /// The same in the order that `seed` gives; 0 is the natural one.
    ///
    /// # Errors
    /// As [`Emulator::run`].
    pub fn run_in_order(&mut self, launch: &Launch, bank: &mut Bank, seed: u64) -> Result<(), String> {
        let (request, pieces) = request(launch, bank, seed);
        let requests = self.requests.as_mut().expect("it is open until the end");
        let sent = requests.write_all(&request).and_then(|()| requests.flush());
        let answer = sent.and_then(|()| self.answer(&pieces, bank));
        answer.unwrap_or_else(|_| {
            let _ = self.process.wait();
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let launches = self.launches;
            *self = Self::new();
            self.launches = launches;
            Err(log)
        })
    }

    fn answer(&mut self, pieces: &[usize], bank: &mut Bank) -> std::io::Result<Result<(), String>> {
        let mut head = [0; 16];
        self.answers.read_exact(&mut head)?;
        let [status, length] =
            [0, 8].map(|at| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes")));
        let mut message = vec![0; length as usize];
        self.answers.read_exact(&mut message)?;
        for piece in pieces {
            self.answers.read_exact(&mut bank.pieces[*piece])?;
        }
        Ok(if status == 0 { Ok(()) } else { Err(String::from_utf8_lossy(&message).into_owned()) })
    }
}

/// The order of work-items is another one each time; what goes wrong is found by the emulation, or by a sanitizer.
impl Runner for Emulator {
    fn run(&mut self, launch: &Launch, bank: &mut Bank) -> Result<(), String> {
        self.launches += 1;
        self.run_in_order(launch, bank, self.launches)
    }
}

impl<T: Runner> Runner for Arc<Mutex<T>> {
    fn run(&mut self, launch: &Launch, bank: &mut Bank) -> Result<(), String> {
        self.lock().expect("no test goes on after a panic").run(launch, bank)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// A launch as `kernels/hip/emulation/driver.cpp` reads it, and the pieces that it sends along.
fn request(launch: &Launch, bank: &Bank, seed: u64) -> (Vec<u8>, Vec<usize>) {
    let mut out = Vec::new();
    out.extend((launch.kernel.len() as u64).to_le_bytes());
    out.extend(launch.kernel.as_bytes());
    for number in launch.grid.into_iter().chain([launch.block, 1, 1]) {
        out.extend(number.to_le_bytes());
    }
    out.extend(seed.to_le_bytes());
    out.extend((launch.arguments.len() as u64).to_le_bytes());
    out.extend(&launch.arguments);
    let (mut addresses, mut pieces) = (Vec::new(), Vec::new());
    for (index, word) in launch.arguments.as_chunks::<8>().0.iter().enumerate() {
        let Some((piece, offset)) = place(Address(u64::from_le_bytes(*word))) else { continue };
        let number = pieces.iter().position(|known| *known == piece).unwrap_or_else(|| {
            pieces.push(piece);
            pieces.len() - 1
        });
        addresses.push((8 * index as u32, number as u32, offset as u64));
    }
    out.extend((addresses.len() as u64).to_le_bytes());
    for (offset, buffer, add) in &addresses {
        out.extend(offset.to_le_bytes());
        out.extend(buffer.to_le_bytes());
        out.extend(add.to_le_bytes());
    }
    out.extend((pieces.len() as u64).to_le_bytes());
    for piece in &pieces {
        out.extend((bank.pieces[*piece].len() as u64).to_le_bytes());
        out.extend(&bank.pieces[*piece]);
    }
    (out, pieces)
}
