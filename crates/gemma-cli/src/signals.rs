//! Signals: Ctrl-C ends a generation, and a model file that shrinks under us ends the program with a message.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long after Ctrl-C a program ends that [`Late::End`] is asked of.
const LATE: Duration = Duration::from_millis(90);

/// Set by Ctrl-C; whoever generates looks at it.
static CANCEL: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// Whether somebody is looking, and what happens when he comes to it late: a [`Late`].
static LISTENING: AtomicU8 = AtomicU8::new(NOBODY);

/// In [`LISTENING`]: nobody is looking.
const NOBODY: u8 = 0;

/// What happens when Ctrl-C is not honoured at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Late {
    /// It is honoured later.
    Wait = 1,
    /// The program ends: it would end anyway, and a driver that compiles kernels comes back to nobody for seconds.
    End = 2,
}

/// While it lives, Ctrl-C sets [`cancel_flag`] instead of ending the program.
pub(crate) struct Listening(());

/// Installs the handlers, once, at the start of the program.
pub(crate) fn install() {
    let cancel = Arc::clone(cancel_flag());
    // A second Ctrl-C does not wait for the first to be honoured.
    let handler = move || {
        if LISTENING.load(Ordering::Relaxed) == NOBODY || cancel.swap(true, Ordering::Relaxed) {
            end();
        }
        let pressed = Instant::now();
        while LISTENING.load(Ordering::Relaxed) == Late::End as u8 {
            let Some(left) = LATE.checked_sub(pressed.elapsed()) else { end() };
            std::thread::park_timeout(left);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!(%error, "Ctrl-C will end the program at once");
    }
    #[cfg(unix)]
    sigbus::install();
}

/// Ends the program at once. Other threads go on until then, some of them within a GPU's driver, which what the C library calls
/// at an orderly exit would take down under them.
fn end() -> ! {
    #[cfg(unix)]
    // SAFETY: `_exit` may be called from any thread at any time, and does not return.
    unsafe {
        libc::_exit(130)
    }
    #[cfg(not(unix))]
    std::process::exit(130)
}

/// The flag that Ctrl-C sets.
pub(crate) fn cancel_flag() -> &'static Arc<AtomicBool> {
    CANCEL.get_or_init(Arc::default)
}

/// Whether Ctrl-C was pressed while somebody was listening.
pub(crate) fn cancelled() -> bool {
    cancel_flag().load(Ordering::Relaxed)
}

/// Begins to listen, with the flag down.
pub(crate) fn listen(late: Late) -> Listening {
    cancel_flag().store(false, Ordering::Relaxed);
    LISTENING.store(late as u8, Ordering::Relaxed);
    Listening(())
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENING.store(NOBODY, Ordering::Relaxed);
    }
}

#[cfg(unix)]
mod sigbus {
    /// Reading a mapped page behind the end of a file that somebody truncated raises SIGBUS. There is no way back
    /// into the computation, but there is a way to say what happened instead of "Bus error (core dumped)".
    const MESSAGE: &[u8] =
        b"gemma: a model file was cut short or could not be read while it was in use (SIGBUS); put the whole file back and start again\n";

    pub(super) fn install() {
        // SAFETY: `sigaction` is a plain C struct for which all zeros is a valid value.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handle as *const () as usize;
        // SAFETY: `action` is initialised, its handler is an `extern "C"` function of one argument, as `sa_flags`
        // without SA_SIGINFO asks for, and the old action is not wanted.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    }

    extern "C" fn handle(_signal: libc::c_int) {
        // SAFETY: `write` and `_exit` are async-signal-safe, and the message is static.
        unsafe {
            libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
            libc::_exit(2);
        }
    }
}
