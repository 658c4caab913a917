//! A command line that cannot be used, reported on one line without what may be a credential.

use std::error::Error as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::report;

/// Prints what is wrong with the command line, or the help that it asks for. Returns the exit
/// status.
pub(crate) fn tell(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed standard output does not want the text.
            error.print().ok();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.print().ok();
            2
        }
        _ => {
            report::line(&format!("pget: {} (see pget --help)", line(error)));
            2
        }
    }
}

fn line(error: &clap::Error) -> String {
    let named = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => name.clone(),
        Some(ContextValue::Strings(names)) => names.join(", "),
        _ => String::new(),
    };
    match (error.kind(), error.source()) {
        // The value is not repeated: it may be a header or a token.
        (ErrorKind::ValueValidation, Some(cause)) => format!("unusable value for {named}: {cause}"),
        // Neither is a word too many: it may be an address with a password.
        (ErrorKind::UnknownArgument, _) if !named.starts_with('-') => "one argument too many".to_owned(),
        (ErrorKind::UnknownArgument, _) => format!("the option {named} is not known"),
        (ErrorKind::MissingRequiredArgument, _) => format!("{named} is missing"),
        (ErrorKind::InvalidSubcommand, _) => "no such command (get, cat, stat, shm, completions)".to_owned(),
        (ErrorKind::InvalidValue, _) => {
            let known = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(words)) => format!(" (known: {})", words.join(", ")),
                _ => String::new(),
            };
            format!("unusable value for {named}{known}")
        }
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    }
}
