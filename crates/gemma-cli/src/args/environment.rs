//! Variables: what a flag leaves out comes from the variable that the flag's definition names.
//!
//! They are read when a verb resolves its settings and not while flags are parsed, so that a wrong value fails only
//! the verbs that use it, and the message names the variable.

use std::error::Error;

use anyhow::{Result, anyhow};
use clap::builder::Resettable;
use clap::{Args, Command};

/// No arguments at all.
const NOTHING: [&str; 0] = [];

/// `command` and its verbs without variables.
pub(super) fn flags_only(command: Command) -> Command {
    command.mut_args(|arg| arg.env(Resettable::Reset)).mut_subcommands(flags_only)
}

/// The variables that the flags of one group of settings name.
pub(super) struct Environment {
    command: Command,
}

impl Environment {
    pub(super) fn of<A: Args>() -> Self {
        Self { command: A::augment_args(Command::new("environment")) }
    }

    /// `given` if it is there, or else what the variable of the flag `id` says.
    pub(super) fn or<T>(&self, given: Option<T>, id: &str) -> Result<Option<T>>
    where
        T: Clone + Send + Sync + 'static,
    {
        if given.is_some() {
            return Ok(given);
        }
        let arg = self.command.get_arguments().find(|arg| arg.get_id() == id).expect("the flag has this id");
        let alone = Command::new("environment").no_binary_name(true).arg(arg.clone());
        match alone.try_get_matches_from(NOTHING) {
            Ok(mut matches) => Ok(matches.remove_one(id)),
            Err(error) => {
                let variable = arg.get_env().unwrap_or_default();
                let value = std::env::var_os(variable).unwrap_or_default();
                let reason = error.source().map_or_else(|| error.kind().to_string(), ToString::to_string);
                Err(anyhow!("{}={}: {reason}", variable.display(), value.display()))
            }
        }
    }
}
