//! `gemma completions` and `gemma man`: both from the definition of the flags.

use std::io::{self, Write};

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::failure::Failure;

/// Prints a completion script.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "gemma", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

/// Prints the manual page: of the program and of every verb.
pub(crate) fn manual_page() -> Result<(), Failure> {
    let command = Cli::command();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        writeln!(page, ".SH \"GEMMA {}\"", verb.get_name().to_uppercase())?;
        let man = clap_mangen::Man::new(verb.clone());
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    Ok(io::stdout().lock().write_all(&page)?)
}
