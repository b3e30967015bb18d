//! docs/cli.md is made from the definition of the flags, and a test keeps the two together.

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;

use super::Cli;

/// Columns of the help texts in the book.
const WIDTH: usize = 100;

/// Set to write the file instead of comparing it.
const UPDATE: &str = "GEMMA_UPDATE_DOCS";

fn reference() -> String {
    let mut page = String::from(
        "# Command line\n\nWhat `gemma --help` and `gemma VERB --help` print. Made from the program: \
         `GEMMA_UPDATE_DOCS=1 cargo test -p gemma-cli reference` writes this page anew.\n\
         What flags leave out comes from the environment (`GEMMA_*`), then from `$XDG_CONFIG_HOME/gemma/config.toml`, \
         whose tables `[model]` and `[sampling]` have the flags' long names as keys.\n\
         Exit codes: 0 all well, 1 a validation failed, 2 usage or run-time error, 3 no usable device, 130 interrupted.\n",
    );
    let mut command = Cli::command().term_width(WIDTH);
    command.build();
    let mut section = |name: &str, command: &mut clap::Command| {
        let help = command.render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end())
            .expect("a string takes all");
    };
    section("gemma", &mut command);
    for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        section(&format!("gemma {}", verb.get_name()), verb);
    }
    page
}

#[test]
fn the_book_says_what_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = reference();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/cli.md is not what --help prints; {UPDATE}=1 and this test write it anew");
}
