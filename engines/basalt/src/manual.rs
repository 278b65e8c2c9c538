//! What the binary tells about itself: version, completion scripts, manual pages.

use clap::CommandFactory;

use crate::cli::Cli;
use crate::error::Error;

/// Name, version and commit; then the compiler and the target.
pub fn version() -> String {
    let commit = option_env!("BASALT_COMMIT").map_or(String::new(), |commit| format!(" ({commit})"));
    format!(
        "basalt {}{commit}\n{}\n{}\n",
        env!("CARGO_PKG_VERSION"),
        env!("BASALT_RUSTC"),
        env!("BASALT_TARGET"),
    )
}

/// A completion script.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "basalt", &mut script);
    script
}

/// A manual page in roff, of the whole or of one verb.
pub fn page(verb: Option<&str>) -> Result<Vec<u8>, Error> {
    let mut cli = Cli::command();
    cli.build();
    let command = match verb {
        None => cli,
        Some(verb) => {
            let known: Vec<_> = cli.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
            let found = cli.find_subcommand(verb).cloned();
            let unknown = || Error::usage(format!("no verb is called `{verb}`"));
            found.ok_or_else(|| unknown().fix(format!("name one of {}", known.join(", "))))?
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Error::runtime("cannot render the manual page").why(error))?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page() {
        for verb in Cli::command().get_subcommands() {
            let page = page(Some(verb.get_name())).expect("a page");
            assert!(String::from_utf8_lossy(&page).contains(".SH SYNOPSIS"), "{}", verb.get_name());
        }
        assert!(page(None).is_ok());
        assert_eq!(page(Some("fly")).expect_err("no such verb").exit_code(), 2);
    }

    #[test]
    fn the_version_names_compiler_and_target() {
        let version = version();
        assert!(version.starts_with("basalt ") && version.contains("rustc "), "{version}");
    }
}
