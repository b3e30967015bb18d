//! A line on the terminal while something takes longer than a person waits without wondering.
//!
//! It is shown on standard error alone, only where somebody looks at it, and is gone when the work is done.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::output;

/// Shorter waits are not worth a line.
const PATIENCE: Duration = Duration::from_millis(700);

/// Work that is under way.
pub(crate) struct Waiting {
    done: Option<Sender<()>>,
    teller: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Says `what` when it is not over in a while; nothing where nobody looks.
    pub(crate) fn for_work(what: &'static str) -> Option<Self> {
        if !output::is_watched() {
            return None;
        }
        let (done, over) = mpsc::channel();
        let teller = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            if over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                show(&format!("\rgemma: {what}"));
                let _ = over.recv();
                show("\r\x1b[K");
            }
        });
        Some(Self { done: Some(done), teller: teller.ok() })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.done = None;
        // The line has to be gone before anything else is printed.
        self.teller.take().map(JoinHandle::join);
    }
}

fn show(text: &str) {
    let mut to = std::io::stderr().lock();
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}
