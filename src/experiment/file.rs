//! The experiment file: what it may hold, and how a profile changes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::ExperimentError;

/// A command that makes a part of a run folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// `flatness train`.
    Train,
    /// `flatness analyze`, of the checkpoint that `train` wrote.
    Analyze,
}

impl StepKind {
    /// Both, in the order in which they run.
    pub const ALL: [Self; 2] = [Self::Train, Self::Analyze];

    /// The command's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Analyze => "analyze",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Options of one command, by name with dashes.
pub type Settings = BTreeMap<String, Value>;

/// An option and the values that it takes.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) step: StepKind,
    pub(super) key: String,
    pub(super) values: Vec<Value>,
}

impl Axis {
    /// `train.learning_rate`.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.step.name(), self.key.replace('-', "_"))
    }
}

/// Settings that belong together.
#[derive(Debug, Clone, Default)]
pub(super) struct Variant {
    /// Empty where the file has no variants.
    pub(super) name: String,
    pub(super) settings: BTreeMap<StepKind, Settings>,
    /// Axes of this variant alone.
    pub(super) axes: Vec<Axis>,
}

/// An experiment file with its profile merged in; every key checked but the names and values of the commands' options.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The file.
    pub path: PathBuf,
    /// The profile that was merged in.
    pub profile: Option<String>,
    /// What results are called.
    pub name: String,
    /// One run for each.
    pub seeds: Vec<u64>,
    /// In the order in which they run; `train` is the first.
    pub steps: Vec<StepKind>,
    /// The file's content as it applies, options with dashes.
    pub table: Table,
    pub(super) base: BTreeMap<StepKind, Settings>,
    pub(super) axes: Vec<Axis>,
    pub(super) variants: Vec<Variant>,
}

const KEYS: [&str; 8] = ["name", "seeds", "steps", "train", "analyze", "grid", "variant", "profile"];

impl Experiment {
    /// Reads and checks `path`, with `[profile.NAME]` merged in where `profile` names it: tables key by key, anything
    /// else as a whole.
    ///
    /// # Errors
    /// [`ExperimentError`] for the first fault, with file and key.
    pub fn read(path: &Path, profile: Option<&str>) -> Result<Self, ExperimentError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ExperimentError::Read { path: path.into(), source })?;
        Self::parse(&text, path, profile)
    }

    /// [`Experiment::read`] of a text; `path` is for messages, and for what the file's paths are relative to.
    ///
    /// # Errors
    /// As [`Experiment::read`].
    pub fn parse(text: &str, path: &Path, profile: Option<&str>) -> Result<Self, ExperimentError> {
        let reader = Reader { path };
        let table: Table = text.parse().map_err(|error: toml::de::Error| ExperimentError::Syntax {
            path: path.into(),
            reason: error.to_string().trim_end().replace('\n', "\n  "),
        })?;
        let mut table = reader.with_dashes(table, "")?;
        reader.known(&table, &KEYS, "an experiment file")?;
        let profiles = reader.table(table.remove("profile"), "profile")?;
        let profile = profile.map(|name| name.replace('_', "-"));
        if let Some(name) = &profile {
            let changes = profiles.get(name).ok_or_else(|| ExperimentError::UnknownProfile {
                path: path.into(),
                name: name.clone(),
                known: profiles.keys().cloned().collect(),
            })?;
            let changes = reader.table(Some(changes.clone()), &format!("profile.{name}"))?;
            reader.known(&changes, &KEYS[1..7], &format!("profile `{name}`"))?;
            merge(&mut table, changes);
        }
        reader.experiment(table, profile)
    }

    /// The folder that paths in the file are relative to.
    pub fn directory(&self) -> PathBuf {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_owned()
    }

    /// `NAME`, or `NAME-PROFILE`: what the folder of results is called.
    pub fn folder_name(&self) -> String {
        self.profile.as_ref().map_or(self.name.clone(), |profile| format!("{}-{profile}", self.name))
    }
}

/// Later tables win, key by key; other values replace each other.
fn merge(table: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (table.get_mut(&key), change) {
            (Some(Value::Table(inner)), Value::Table(change)) => merge(inner, change),
            (_, change) => _ = table.insert(key, change),
        }
    }
}

/// Reads tables and names the file in every error.
struct Reader<'a> {
    path: &'a Path,
}

type Read<T> = Result<T, ExperimentError>;

impl Reader<'_> {
    fn experiment(&self, table: Table, profile: Option<String>) -> Read<Experiment> {
        let steps = self.steps(table.get("steps"))?;
        let base = self.settings(&table, "")?;
        let axes = self.axes(table.get("grid"), "grid", &steps)?;
        let variants = self.variants(table.get("variant"), &axes, &steps)?;
        Ok(Experiment {
            path: self.path.into(),
            profile,
            name: self.name(table.get("name"), "name")?,
            seeds: self.seeds(table.get("seeds"))?,
            steps,
            base,
            axes,
            variants,
            table,
        })
    }

    fn wrong(&self, key: &str, reason: impl Into<String>) -> ExperimentError {
        ExperimentError::Setting { path: self.path.into(), key: key.into(), reason: reason.into() }
    }

    /// Refuses keys that are not among `known`.
    fn known(&self, table: &Table, known: &[&str], place: &str) -> Read<()> {
        let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
        let all = format!("its keys are {}", known.join(", "));
        Err(ExperimentError::unknown_key(self.path, place, key, known.iter().copied(), all))
    }

    /// The same with `-` for `_` in all keys, so that both spellings of an option are one.
    fn with_dashes(&self, table: Table, place: &str) -> Read<Table> {
        let mut renamed = Table::new();
        for (key, value) in table {
            let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
            let value = match value {
                Value::Table(inner) => Value::Table(self.with_dashes(inner, &place)?),
                Value::Array(items) => Value::Array(
                    items
                        .into_iter()
                        .map(|item| match item {
                            Value::Table(inner) => self.with_dashes(inner, &place).map(Value::Table),
                            other => Ok(other),
                        })
                        .collect::<Read<_>>()?,
                ),
                other => other,
            };
            if renamed.insert(key.replace('_', "-"), value).is_some() {
                return Err(self.wrong(&place, "is there twice, with `-` and with `_`"));
            }
        }
        Ok(renamed)
    }

    fn table(&self, value: Option<Value>, key: &str) -> Read<Table> {
        match value {
            None => Ok(Table::new()),
            Some(Value::Table(table)) => Ok(table),
            Some(other) => Err(self.wrong(key, format!("must be a table, not {}", other.type_str()))),
        }
    }

    fn name(&self, value: Option<&Value>, key: &str) -> Read<String> {
        let name = value.and_then(Value::as_str).ok_or_else(|| self.wrong(key, "must be there, and be a text"))?;
        let usable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 40 || !name.chars().all(usable) || name.starts_with(['-', '.']) {
            return Err(self.wrong(key, format!("is {name:?}, but must be of a-z, 0-9, `-` and `.`, at most 40")));
        }
        Ok(name.into())
    }

    fn array<'a>(&self, value: &'a Value, key: &str) -> Read<&'a [Value]> {
        let items = value.as_array().filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| self.wrong(key, "must be a list with at least one entry"))?;
        match items.iter().enumerate().find(|(index, item)| items[..*index].contains(item)) {
            Some((_, item)) => Err(self.wrong(key, format!("holds {item} twice"))),
            None => Ok(items),
        }
    }

    fn seeds(&self, value: Option<&Value>) -> Read<Vec<u64>> {
        let Some(value) = value else { return Ok(vec![0]) };
        let seed = |value: &Value| value.as_integer().and_then(|seed| u64::try_from(seed).ok());
        let seeds: Option<Vec<u64>> = self.array(value, "seeds")?.iter().map(seed).collect();
        seeds.ok_or_else(|| self.wrong("seeds", "must be a list of whole numbers from 0 up"))
    }

    fn steps(&self, value: Option<&Value>) -> Read<Vec<StepKind>> {
        let Some(value) = value else { return Ok(StepKind::ALL.to_vec()) };
        let kind = |value: &Value| value.as_str().and_then(StepKind::named);
        let steps: Option<Vec<StepKind>> = self.array(value, "steps")?.iter().map(kind).collect();
        match steps {
            Some(steps) if StepKind::ALL.starts_with(&steps) => Ok(steps),
            _ => Err(self.wrong("steps", "must be [\"train\"] or [\"train\", \"analyze\"]")),
        }
    }

    /// The options under `train` and `analyze` of `table`, which stands at `place` (empty, or with a dot at its end).
    fn settings(&self, table: &Table, place: &str) -> Read<BTreeMap<StepKind, Settings>> {
        let mut settings = BTreeMap::new();
        for kind in StepKind::ALL {
            let at = format!("{place}{}", kind.name());
            let options = self.table(table.get(kind.name()).cloned(), &at)?;
            for (key, value) in &options {
                self.option(kind, key, &format!("{at}.{key}"))?;
                self.plain(value, &format!("{at}.{key}"))?;
            }
            settings.insert(kind, options.into_iter().collect());
        }
        Ok(settings)
    }

    /// Refuses options that belong to the runner.
    fn option(&self, kind: StepKind, key: &str, at: &str) -> Read<()> {
        let reason = match key {
            "seed" if kind == StepKind::Train => "is set by `seeds`",
            "out" | "force" | "resume" | "json" | "help" => "is not for experiment files: the runner decides it",
            "checkpoint" => "is not for experiment files: it is the one that `train` writes",
            _ => return Ok(()),
        };
        Err(self.wrong(at, reason))
    }

    fn plain(&self, value: &Value, at: &str) -> Read<()> {
        match value {
            Value::Array(items) if items.iter().any(|item| item.is_array() || item.is_table()) => {
                Err(self.wrong(at, "must be a list of numbers or texts"))
            }
            Value::Table(_) | Value::Datetime(_) => {
                Err(self.wrong(at, "must be a number, a text, true or false, or a list"))
            }
            _ => Ok(()),
        }
    }

    /// Axes under `value`, written `"train.rho" = […]` or as tables `train.rho = […]`.
    fn axes(&self, value: Option<&Value>, place: &str, steps: &[StepKind]) -> Read<Vec<Axis>> {
        let mut axes: Vec<Axis> = Vec::new();
        for (key, value) in self.table(value.cloned(), place)? {
            let entries = match value {
                Value::Table(inner) => {
                    inner.into_iter().map(|(inner, value)| (format!("{key}.{inner}"), value)).collect()
                }
                value => vec![(key, value)],
            };
            for (key, value) in entries {
                let at = format!("{place}.{key}");
                let (step, option) = key.split_once('.').unwrap_or((&key, ""));
                let step = StepKind::named(step).filter(|_| !option.is_empty());
                let step = step.ok_or_else(|| self.wrong(&at, "must be `train.OPTION` or `analyze.OPTION`"))?;
                if !steps.contains(&step) {
                    return Err(self.wrong(&at, "belongs to a step that `steps` leaves out"));
                }
                self.option(step, option, &at)?;
                let values = self.array(&value, &at)?.to_vec();
                values.iter().try_for_each(|value| self.plain(value, &at))?;
                if axes.iter().any(|axis| axis.step == step && axis.key == option) {
                    return Err(self.wrong(&at, "is there twice"));
                }
                axes.push(Axis { step, key: option.into(), values });
            }
        }
        Ok(axes)
    }

    fn variants(&self, value: Option<&Value>, axes: &[Axis], steps: &[StepKind]) -> Read<Vec<Variant>> {
        let Some(value) = value else { return Ok(vec![Variant::default()]) };
        let mut variants: Vec<Variant> = Vec::new();
        for value in self.array(value, "variant")? {
            let table = self.table(Some(value.clone()), "variant")?;
            let name = self.name(table.get("name"), "variant.name")?;
            self.known(&table, &["name", "train", "analyze", "grid"], &format!("variant `{name}`"))?;
            if variants.iter().any(|other| other.name == name) {
                return Err(self.wrong("variant.name", format!("{name:?} is there twice")));
            }
            let place = format!("variant.{name}.");
            let settings = self.settings(&table, &place)?;
            let own = self.axes(table.get("grid"), &format!("{place}grid"), steps)?;
            let taken = |axis: &&Axis| settings.get(&axis.step).is_some_and(|options| options.contains_key(&axis.key));
            if let Some(axis) = axes.iter().chain(&own).find(taken) {
                return Err(self.wrong(&axis.name(), format!("is set by variant `{name}` and by a grid")));
            }
            if let Some(axis) = own.iter().find(|own| axes.iter().any(|axis| axis.name() == own.name())) {
                return Err(self.wrong(&axis.name(), format!("is an axis of variant `{name}` and of all")));
            }
            variants.push(Variant { name, settings, axes: own });
        }
        Ok(variants)
    }
}

#[cfg(test)]
mod tests;
