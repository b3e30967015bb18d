//! [`Failure`]: why a verb did not succeed, and the exit code that says so.

use std::io;
use std::process::ExitCode;

use gemma_hal::DeviceError;
use gemma_orchestrator::EngineError;

use crate::output;

/// Why a verb did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was checked is not sound; already told. Exit code 1.
    Invalid,
    /// Anything that goes wrong. Exit code 2.
    Error(anyhow::Error),
    /// There is no device to run on. Exit code 3.
    NoDevice(anyhow::Error),
    /// The user interrupted. Exit code 130.
    Interrupted,
    /// Nobody reads our output any more, which is no failure. Exit code 0.
    ClosedPipe,
}

impl Failure {
    /// In words, for who goes on all the same.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Error(error) | Self::NoDevice(error) => format!("{error:#}"),
            Self::Invalid | Self::Interrupted | Self::ClosedPipe => "stopped".to_owned(),
        }
    }

    /// Tells the user and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (error, code) = match self {
            Self::Invalid => return ExitCode::from(1),
            Self::Interrupted => return ExitCode::from(130),
            Self::ClosedPipe => return ExitCode::SUCCESS,
            Self::Error(error) => (error, 2),
            Self::NoDevice(error) => (error, 3),
        };
        output::tell(format_args!("gemma: {error:#}"));
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return Self::ClosedPipe;
        }
        Self::Error(error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoDevice(_)
            | EngineError::Device(DeviceError::Lost { .. } | DeviceError::Driver { .. }) => {
                Self::NoDevice(error.into())
            }
            EngineError::Device(DeviceError::Cancelled { .. }) => Self::Interrupted,
            other => Self::Error(other.into()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        anyhow::Error::from(error).into()
    }
}
