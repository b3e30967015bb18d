//! Kernels for the simulator that run in the program for this machine: a request a call, over its standard input and output.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context as _;
use gemma_npu_kernels::kernels::{Product, Shape};
use gemma_npu_kernels::simulate::Kernels;

use super::host::Host;

pub(super) struct Served {
    product: Product,
    /// Bytes of the three tiles.
    sizes: [usize; 3],
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Served {
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(host: &Host, product: Product, tile: Shape) -> anyhow::Result<Self> {
        let mut child =
            Command::new(&host.program).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = child.stdin.take().context("no standard input")?;
        let from = child.stdout.take().context("no standard output")?;
        let sizes = product.objects(tile).map(|object| object.bytes() as usize);
        Ok(Self { product, sizes, child, to, from })
    }
}

impl Kernels for Served {
    fn call(&mut self, function: &str, objects: &mut [Vec<u8>]) -> Result<(), String> {
        let number = match self.product {
            Product::I8 => 0,
            Product::Bf16 => 2,
        };
        let sizes: Vec<usize> = objects.iter().map(Vec::len).collect();
        let request = if function == self.product.zero() && sizes == self.sizes[2..] {
            number
        } else if function == self.product.multiply() && sizes == self.sizes {
            number + 1
        } else {
            return Err(format!("there is no {function} of {sizes:?} bytes"));
        };
        let mut talk = || {
            self.to.write_all(&[request])?;
            for object in &*objects {
                self.to.write_all(object)?;
            }
            self.to.flush()?;
            objects.last_mut().map_or(Ok(()), |result| self.from.read_exact(result))
        };
        talk().map_err(|error| format!("the program for this machine has ended: {error}"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
