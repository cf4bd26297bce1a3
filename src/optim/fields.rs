//! Settings as one flat set of fields, the form that text, JSON and TOML share.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names and values; what is taken is gone, so that what remains was not asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// The value of `name`; `None` where it is absent.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, String> {
        let value = self.0.shift_remove(name).map(serde_json::from_value);
        value.transpose().map_err(|error| format!("`{name}`: {error}"))
    }

    /// The value of `name`, or `default` where it is absent.
    pub(super) fn take_or<T: DeserializeOwned>(&mut self, name: &str, default: T) -> Result<T, String> {
        Ok(self.take(name)?.unwrap_or(default))
    }

    /// `name=value` pairs between commas, on top of `kind`; a value that is not JSON is a word.
    ///
    /// # Errors
    /// The first that is not such a pair.
    pub(super) fn parse(kind: &str, settings: &str) -> Result<Self, String> {
        let mut fields = Self::default().with("kind", kind);
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            let (name, value) = setting.split_once('=').ok_or_else(|| format!("`{setting}` is not `name=value`"))?;
            let word = || Value::from(value.trim());
            fields = fields.with(name.trim(), serde_json::from_str(value).unwrap_or_else(|_| word()));
        }
        Ok(fields)
    }

    /// The settings of a method as a user writes them, without its kind.
    pub(super) fn written(&self) -> String {
        let setting = |(name, value): (&String, &Value)| match value {
            Value::String(word) => format!("{name}={word}"),
            value => format!("{name}={value}"),
        };
        self.0.iter().filter(|(name, _)| *name != "kind").map(setting).collect::<Vec<_>>().join(", ")
    }

    /// Adds a field.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds a field whose value serialises to a word.
    pub(super) fn with_word(self, name: &str, value: impl Serialize) -> Self {
        self.with(name, serde_json::to_value(value).unwrap_or_default())
    }

    /// Adds the fields of `value`, which is a struct or an enum with a tag.
    pub(super) fn with_all(mut self, value: &impl Serialize) -> Self {
        if let Ok(Value::Object(fields)) = serde_json::to_value(value) {
            self.0.extend(fields);
        }
        self
    }

    /// What remains as a `T`.
    pub(super) fn rest<T: DeserializeOwned>(self) -> Result<T, String> {
        serde_json::from_value(Value::Object(self.0)).map_err(|error| error.to_string())
    }

    /// Fails where a field remains; `known` names those that there are.
    pub(super) fn end(self, known: &str) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("unknown field `{name}`, expected one of {known}")),
            None => Ok(()),
        }
    }
}
