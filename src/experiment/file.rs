//! The experiment file: what it may contain, and how a profile changes it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::ExperimentError;
use crate::input;

mod axes;

pub(super) use axes::{Axis, Variant};

/// A command that fills a part of a run folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// `flatness train`.
    Train,
    /// `flatness analyze`, of the checkpoint that `train` wrote.
    Analyze,
    /// `flatness sharpness`, of the same checkpoint.
    Sharpness,
    /// `flatness llc`, of the same checkpoint.
    Llc,
    /// `flatness evaluate`, of the same checkpoint.
    Evaluate,
    /// `flatness langevin`, which needs no network.
    Langevin,
}

impl StepKind {
    /// All, in the order in which they run.
    pub const ALL: [Self; 6] = [Self::Train, Self::Analyze, Self::Sharpness, Self::Llc, Self::Evaluate, Self::Langevin];

    /// Whether MPI ranks can share it.
    pub(crate) fn is_shared(self) -> bool {
        matches!(self, Self::Analyze | Self::Sharpness | Self::Llc | Self::Evaluate)
    }

    /// The command's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Analyze => "analyze",
            Self::Sharpness => "sharpness",
            Self::Llc => "llc",
            Self::Evaluate => "evaluate",
            Self::Langevin => "langevin",
        }
    }

    /// Whether it reads the checkpoint that `train` wrote; the others begin a run and take the seed of the cell.
    pub fn needs_checkpoint(self) -> bool {
        matches!(self, Self::Analyze | Self::Sharpness | Self::Llc | Self::Evaluate)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Options of one command, by name with dashes.
pub type Settings = BTreeMap<String, Value>;

/// An experiment file with its profile merged in. Every key is checked except the names and values of the commands' options.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The file.
    pub path: PathBuf,
    /// The profile that was merged in.
    pub profile: Option<String>,
    /// Name of the results.
    pub name: String,
    /// Each cell is run once per seed.
    pub seeds: Vec<u64>,
    /// The steps, in the order in which they run; the first begins a run.
    pub steps: Vec<StepKind>,
    /// Options of the comparison at the end.
    pub compare: Settings,
    /// The content of the file as it applies, with dashes in the names of options.
    pub table: Table,
    pub(super) base: BTreeMap<StepKind, Settings>,
    pub(super) axes: Vec<Axis>,
    pub(super) variants: Vec<Variant>,
}

/// Maximum number of cells of an experiment.
const MOST_CELLS: usize = 10_000;
/// Maximum number of axes of a grid, and of entries of an option that is a list.
const MOST_ITEMS: usize = 1_000;

const KEYS: [&str; 13] = [
    "name",
    "seeds",
    "steps",
    "train",
    "analyze",
    "sharpness",
    "llc",
    "evaluate",
    "langevin",
    "compare",
    "grid",
    "variant",
    "profile",
];

impl Experiment {
    /// Reads and checks `path`, with `[profile.NAME]` merged in where `profile` names it: tables key by key, anything
    /// else as a whole.
    ///
    /// # Errors
    /// [`ExperimentError`] for the first error, with file and key.
    pub fn read(path: &Path, profile: Option<&str>) -> Result<Self, ExperimentError> {
        let text = input::read_text(path).map_err(|source| ExperimentError::Read { path: path.into(), source })?;
        Self::parse(&text, path, profile)
    }

    /// [`Experiment::read`] for a string; `path` is used in messages, and its folder for relative paths.
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
            reader.known(&changes, &KEYS[1..KEYS.len() - 1], &format!("profile `{name}`"))?;
            merge(&mut table, changes);
        }
        reader.experiment(table, profile)
    }

    /// The folder that paths in the file are relative to.
    pub fn directory(&self) -> PathBuf {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_owned()
    }

    /// Name of the folder of results: `NAME`, or `NAME-PROFILE`.
    pub fn folder_name(&self) -> String {
        self.profile.as_ref().map_or(self.name.clone(), |profile| format!("{}-{profile}", self.name))
    }
}

/// Tables are merged key by key, and the later one wins; other values are replaced.
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
        let own = variants.iter().flat_map(|variant| &variant.axes);
        let text = Value::Table(table.clone()).to_string();
        axes.iter().chain(own).try_for_each(|axis| self.is_used(axis, &text))?;
        let seeds = self.seeds(table.get("seeds"))?;
        self.check_cells(&axes, &variants, seeds.len())?;
        Ok(Experiment {
            path: self.path.into(),
            profile,
            name: self.name(table.get("name"), "name")?,
            seeds,
            compare: self.options(&table, "compare", "compare")?,
            steps,
            base,
            axes,
            variants,
            table,
        })
    }

    /// Refuses too many cells, before any is made.
    fn check_cells(&self, axes: &[Axis], variants: &[Variant], seeds: usize) -> Read<()> {
        let product = |axes: &[Axis]| axes.iter().try_fold(1usize, |count, axis| count.checked_mul(axis.values.len()));
        let cells = |variant: &Variant| product(axes)?.checked_mul(product(&variant.axes)?)?.checked_mul(seeds);
        let count = variants.iter().try_fold(0usize, |sum, variant| sum.checked_add(cells(variant)?));
        match count {
            Some(count) if count <= MOST_CELLS => Ok(()),
            count => {
                let count = count.map_or("more cells than can be counted".to_owned(), |count| format!("{count} cells"));
                Err(self.wrong("grid", format!("with variants and seeds makes {count}, more than {MOST_CELLS}")))
            }
        }
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

    /// The table with `_` replaced by `-` in all keys, so that both spellings of an option are the same.
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
                return Err(self.wrong(&place, "is given twice, once with `-` and once with `_`"));
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
        let name = value.and_then(Value::as_str).ok_or_else(|| self.wrong(key, "is required and must be a string"))?;
        let usable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.len() > 40 || !name.chars().all(usable) || name.starts_with(['-', '.']) {
            return Err(self.wrong(
                key,
                format!("is {name:?}, but must consist of at most 40 characters from a-z, 0-9, `-` and `.`"),
            ));
        }
        Ok(name.into())
    }

    fn array<'a>(&self, value: &'a Value, key: &str) -> Read<&'a [Value]> {
        let items = value.as_array().filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| self.wrong(key, "must be a list with at least one entry"))?;
        if items.len() > MOST_CELLS {
            return Err(self.wrong(
                key,
                format!("has {} entries, but an experiment may have at most {MOST_CELLS} cells", items.len()),
            ));
        }
        let mut seen = HashSet::new();
        match items.iter().find(|item| !seen.insert(item.to_string())) {
            Some(item) => Err(self.wrong(key, format!("holds {item} twice"))),
            None => Ok(items),
        }
    }

    fn seeds(&self, value: Option<&Value>) -> Read<Vec<u64>> {
        let Some(value) = value else { return Ok(vec![0]) };
        let seed = |value: &Value| value.as_integer().and_then(|seed| u64::try_from(seed).ok());
        let seeds: Option<Vec<u64>> = self.array(value, "seeds")?.iter().map(seed).collect();
        seeds.ok_or_else(|| self.wrong("seeds", "must be a list of whole numbers, 0 or more"))
    }

    fn steps(&self, value: Option<&Value>) -> Read<Vec<StepKind>> {
        let Some(value) = value else { return Ok(vec![StepKind::Train, StepKind::Analyze]) };
        let kind = |value: &Value| value.as_str().and_then(StepKind::named);
        let steps: Option<Vec<StepKind>> = self.array(value, "steps")?.iter().map(kind).collect();
        let sensible = |steps: &Vec<StepKind>| match steps.split_first() {
            Some((StepKind::Train, rest)) => rest.is_sorted() && rest.iter().all(|kind| kind.needs_checkpoint()),
            Some((first, rest)) => *first == StepKind::Langevin && rest.is_empty(),
            None => false,
        };
        let reason = "must be \"train\", optionally followed by \"analyze\", \"sharpness\", \"llc\" and \"evaluate\", or \
                      \"langevin\" alone";
        steps.filter(sensible).ok_or_else(|| self.wrong("steps", reason))
    }

    /// The options under the name of each step in `table`, which stands at `place` (empty, or with a dot at its end).
    fn settings(&self, table: &Table, place: &str) -> Read<BTreeMap<StepKind, Settings>> {
        let mut settings = BTreeMap::new();
        for kind in StepKind::ALL {
            let at = format!("{place}{}", kind.name());
            let options = self.options(table, kind.name(), &at)?;
            options.keys().try_for_each(|key| self.option(Some(kind), key, &format!("{at}.{key}")))?;
            settings.insert(kind, options);
        }
        Ok(settings)
    }

    /// The table `name` of `table`, which stands `at` there: plain values under the names of options.
    fn options(&self, table: &Table, name: &str, at: &str) -> Read<Settings> {
        let options = self.table(table.get(name).cloned(), at)?;
        for (key, value) in &options {
            self.option(None, key, &format!("{at}.{key}"))?;
            self.plain(value, &format!("{at}.{key}"))?;
        }
        Ok(options.into_iter().collect())
    }

    /// Refuses options that `flatness run` sets itself.
    fn option(&self, kind: Option<StepKind>, key: &str, at: &str) -> Read<()> {
        let reason = match key {
            "seed" if kind.is_some_and(|kind| !kind.needs_checkpoint()) => "is set by `seeds`",
            "out" | "force" | "resume" | "json" | "help" => {
                "is not allowed in experiment files: `flatness run` sets it"
            }
            "checkpoint" => "is not allowed in experiment files: it is the one that `train` writes",
            _ => return Ok(()),
        };
        Err(self.wrong(at, reason))
    }

    fn plain(&self, value: &Value, at: &str) -> Read<()> {
        match value {
            Value::Array(items) if items.len() > MOST_ITEMS => {
                Err(self.wrong(at, format!("has {} entries, more than {MOST_ITEMS}", items.len())))
            }
            Value::Array(items) if items.iter().any(|item| item.is_array() || item.is_table()) => {
                Err(self.wrong(at, "must be a list of numbers or strings"))
            }
            Value::Table(_) | Value::Datetime(_) => {
                Err(self.wrong(at, "must be a number, a string, true or false, or a list"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
