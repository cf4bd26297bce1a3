//! From the text of an option to its value.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;
use serde::de::value;
use serde::de::{DeserializeOwned, IntoDeserializer};
use toml::{Table, Value};

use crate::path_text::to_text;

/// Parses an option as its type parses texts; an error is followed by its hint.
pub(crate) fn parsed<T>() -> impl TypedValueParser<Value = T>
where
    T: FromStr + Clone + Send + Sync + 'static,
    T::Err: Into<crate::Error>,
{
    parsed_by(|text| text.parse::<T>().map_err(|error| with_hint(&error.into())))
}

/// An error and its hint on two lines.
pub(super) fn with_hint(error: &crate::Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}

/// Parses a word that serde knows: a variant of an enum without fields.
pub(crate) fn word<T: DeserializeOwned + Clone + Send + Sync + 'static>() -> impl TypedValueParser<Value = T> {
    parsed_by(|text| T::deserialize(text.into_deserializer()).map_err(|error: value::Error| error.to_string()))
}

/// Parses a whole number from `least` to `most`.
pub(crate) fn number_of(least: usize, most: usize) -> impl TypedValueParser<Value = usize> {
    parsed_by(move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Err(fault) if !is_whole(text) => Err(whole(text, &fault)),
        _ if most == usize::MAX => Err(format!("must be {least} or more")),
        _ => Err(format!("must be {least} to {most}")),
    })
}

/// Parses a command line, the program's name first.
pub(crate) fn command_line<P: clap::Parser>(
    words: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<P, clap::Error> {
    P::try_parse_from(words).map_err(in_plain_words)
}

/// Refuses what is not a number in the words of [`super::PlanError::Option`]; other errors stay as they are.
fn in_plain_words(error: clap::Error) -> clap::Error {
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // With the name of its value, as in `--top <K>`.
    let (option, text) = (said(ContextKind::InvalidArg), said(ContextKind::InvalidValue));
    let name = option.split_once(' ').map_or(option, |(name, _)| name);
    let fault = error.source();
    let reason = match fault.and_then(|fault| fault.downcast_ref::<ParseIntError>()) {
        Some(fault) => whole(text, fault),
        None if fault.is_some_and(|fault| fault.is::<ParseFloatError>()) => "not a number".into(),
        None => return error,
    };
    clap::Error::raw(ErrorKind::ValueValidation, format!("{name} {text}: {reason}\n"))
}

/// What is wrong with a text that is not a whole number, or none that can be held.
fn whole(text: &str, fault: &ParseIntError) -> String {
    match fault.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "out of range".into(),
        _ if is_whole(text) => "must be 0 or more".into(),
        _ => "not a whole number".into(),
    }
}

fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses an option by `parse`, which says what is wrong with a text. A path in it need not be UTF-8.
pub(crate) fn parsed_by<T, F>(parse: F) -> impl TypedValueParser<Value = T>
where
    T: Clone + Send + Sync + 'static,
    F: Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
{
    Parser(parse)
}

/// Parses by a function, and refuses in the words of [`super::PlanError::Option`].
#[derive(Clone)]
struct Parser<F>(F);

impl<T, F> TypedValueParser for Parser<F>
where
    T: Clone + Send + Sync + 'static,
    F: Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, _command: &Command, option: Option<&Arg>, text: &OsStr) -> Result<T, clap::Error> {
        (self.0)(&to_text(text)).map_err(|reason| {
            let name = option.and_then(Arg::get_long).map_or("argument".to_owned(), |name| format!("--{name}"));
            let utf8 = if text.to_str().is_none() { "invalid UTF-8, " } else { "" };
            let message = format!("{name} {}: {utf8}{reason}\n", text.to_string_lossy());
            clap::Error::raw(ErrorKind::ValueValidation, message)
        })
    }
}

/// The options that the command line names, as opposed to those that have their default. In a struct of arguments it must
/// be the first field, since parsing empties the matches.
#[derive(Debug, Clone, Default)]
pub struct Given(BTreeSet<String>);

impl Given {
    /// `base` with the fields of `options` that the command line names; fields have the names of their options.
    pub(super) fn over<T: Serialize + DeserializeOwned>(&self, base: &T, options: &T) -> Result<T, String> {
        let table = |value: &T| Table::try_from(value).map_err(|error| error.to_string());
        let (mut fields, options) = (table(base)?, table(options)?);
        fields.extend(options.into_iter().filter(|(name, _)| self.0.contains(name)));
        Value::Table(fields).try_into().map_err(|error: toml::de::Error| error.to_string())
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let named = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        Ok(Self(matches.ids().filter(named).map(|id| id.to_string()).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Args, Command, FromArgMatches, value_parser};

    use super::{in_plain_words, number_of};
    use crate::plan::{AnalysisOptions, LlcOptions, SharpnessOptions, TrainConfig};
    use crate::spectral::{EigenParams, SurveyParams};

    fn without_options<T: Args + FromArgMatches>() -> T {
        T::from_arg_matches(&T::augment_args(Command::new("test")).get_matches_from(["test"])).unwrap()
    }

    #[test]
    fn what_is_no_number_is_refused_in_plain_words() {
        let command = Command::new("test").args([
            Arg::new("top").long("top").value_name("K").value_parser(value_parser!(usize)),
            Arg::new("axis").long("axis").value_parser(value_parser!(i8)).allow_negative_numbers(true),
            Arg::new("rate").long("rate").value_parser(value_parser!(f64)).num_args(1..).value_delimiter(','),
            Arg::new("threads").long("threads").value_parser(number_of(1, 1024)),
            Arg::new("color").long("color").value_parser(["red"]),
        ]);
        let refusal = |argument: &str| {
            let error = command.clone().try_get_matches_from(["test", argument]).unwrap_err();
            in_plain_words(error).render().to_string()
        };
        for (argument, expected) in [
            ("--top=x", "error: --top x: not a whole number\n"),
            ("--top=2.5", "error: --top 2.5: not a whole number\n"),
            ("--top=", "error: --top : not a whole number\n"),
            ("--top=-5", "error: --top -5: must be 0 or more\n"),
            ("--top=99999999999999999999", "error: --top 99999999999999999999: out of range\n"),
            ("--axis=one", "error: --axis one: not a whole number\n"),
            ("--rate=0.1,x", "error: --rate x: not a number\n"),
            ("--threads=x", "error: --threads x: not a whole number\n"),
            ("--threads=-1", "error: --threads -1: must be 1 to 1024\n"),
            ("--threads=0", "error: --threads 0: must be 1 to 1024\n"),
        ] {
            assert_eq!(refusal(argument), expected);
        }
        assert!(refusal("--color=blue").contains("[possible values: red]"));
    }

    #[test]
    fn defaults_of_the_command_line_are_those_of_the_library() {
        assert_eq!(without_options::<AnalysisOptions>(), AnalysisOptions::default());
        assert_eq!(without_options::<SharpnessOptions>(), SharpnessOptions::default());
        assert_eq!(without_options::<LlcOptions>(), LlcOptions::default());
        assert_eq!(without_options::<TrainConfig>(), TrainConfig::default());
        let (options, survey, pairs) = (AnalysisOptions::default(), SurveyParams::default(), EigenParams::default());
        for (top, bottom, tolerance) in
            [(survey.top, survey.bottom, survey.eigen_tolerance), (pairs.top, pairs.bottom, pairs.tolerance)]
        {
            assert_eq!((top, bottom, tolerance), (options.top, options.bottom, options.eigen_tolerance));
        }
        assert_eq!((survey.num_probes, survey.num_steps), (options.num_probes, options.num_steps));
        // As tables state it, whether it was given or not.
        assert_eq!(serde_json::json!(options)["max_matvecs"], survey.max_matvecs);
    }
}
