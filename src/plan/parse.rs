//! From the text of an option to its value.

use std::collections::BTreeSet;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
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

/// Parses an option by `parse`, which says what is wrong with a text. A path in it need not be UTF-8.
pub(crate) fn parsed_by<T: Clone + Send + Sync + 'static>(
    parse: fn(&str) -> Result<T, String>,
) -> impl TypedValueParser<Value = T> {
    OsStringValueParser::new().try_map(move |text| parse(&to_text(text)))
}

/// Parses a word that serde knows: a variant of an enum without fields.
pub(crate) fn word<T: DeserializeOwned + Clone + Send + Sync + 'static>() -> impl TypedValueParser<Value = T> {
    parsed_by(|text| T::deserialize(text.into_deserializer()).map_err(|error: value::Error| error.to_string()))
}

/// Parses a whole number from `least` to `most`.
pub(crate) fn number_of(least: u32, most: u32) -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(i64::from(least)..=i64::from(most)).map(|number| number as usize)
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
    use clap::{Args, Command, FromArgMatches};

    use crate::plan::{AnalysisOptions, SharpnessOptions, TrainConfig};

    fn without_options<T: Args + FromArgMatches>() -> T {
        T::from_arg_matches(&T::augment_args(Command::new("test")).get_matches_from(["test"])).unwrap()
    }

    #[test]
    fn defaults_of_the_command_line_are_those_of_the_library() {
        assert_eq!(without_options::<AnalysisOptions>(), AnalysisOptions::default());
        assert_eq!(without_options::<SharpnessOptions>(), SharpnessOptions::default());
        assert_eq!(without_options::<TrainConfig>(), TrainConfig::default());
    }
}
