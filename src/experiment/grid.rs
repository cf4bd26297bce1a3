//! From a file to its cells: every variant, every combination of the axes, every seed.

use std::collections::BTreeMap;

use toml::Value;

use super::file::{Axis, Variant};
use super::{Experiment, Settings, StepKind};
use crate::path_text::to_text;

/// One point of the grid.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Name of the variant; empty if the file has none.
    pub variant: String,
    /// Names of the axes, such as `train.learning_rate`, with the values of this cell as text.
    pub axes: Vec<(String, String)>,
    /// Seed of the training.
    pub seed: u64,
    /// Options of each step.
    pub settings: BTreeMap<StepKind, Settings>,
}

impl Cell {
    /// `sam-learning_rate=0.1-s0`: variant, values on the axes of `steps`, seed.
    pub fn label(&self, steps: &[StepKind]) -> String {
        self.joined(steps, Some(self.seed))
    }

    /// The label without the seed, which cells that differ only in the seed have in common.
    pub fn group(&self) -> String {
        self.joined(&StepKind::ALL, None)
    }

    /// The value on the axis of that name, if the cell has that axis.
    pub fn on_axis(&self, name: &str) -> Option<&str> {
        self.axes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn joined(&self, steps: &[StepKind], seed: Option<u64>) -> String {
        let axes = self.axes.iter().filter_map(|(name, value)| {
            // A word may be in the texts of any step.
            let Some((step, option)) = name.split_once('.') else { return Some(format!("{name}={value}")) };
            steps.iter().any(|kind| kind.name() == step).then(|| format!("{option}={value}"))
        });
        let variant = Some(self.variant.clone()).filter(|variant| !variant.is_empty());
        let parts: Vec<String> = variant.into_iter().chain(axes).chain(seed.map(|seed| format!("s{seed}"))).collect();
        if parts.is_empty() { "all".into() } else { parts.join("-") }
    }
}

impl Experiment {
    /// The cells, with variants outermost and seeds innermost. In strings, `{seed}` stands for the seed of the cell, so that
    /// label noise, for example, can be drawn anew with each seed, and `{word}` for the value on the axis of that name,
    /// and `{data}` for the folder of data sets.
    pub fn cells(&self) -> Vec<Cell> {
        let points = self.variants.iter().flat_map(|variant| {
            let axes: Vec<&Axis> = self.axes.iter().chain(&variant.axes).collect();
            combinations(&axes).into_iter().map(move |values| (variant, axes.clone(), values))
        });
        let seeded = |(variant, axes, values): (_, Vec<&Axis>, Vec<&Value>)| {
            self.seeds.iter().map(move |seed| self.cell(variant, &axes, &values, *seed)).collect::<Vec<_>>()
        };
        points.flat_map(seeded).collect()
    }

    fn cell(&self, variant: &Variant, axes: &[&Axis], values: &[&Value], seed: u64) -> Cell {
        let mut settings = self.base.clone();
        for (kind, options) in &variant.settings {
            settings.entry(*kind).or_default().extend(options.clone());
        }
        if let Some(first) = self.steps.first() {
            settings.entry(*first).or_default().insert("seed".into(), Value::String("{seed}".into()));
        }
        let mut words = vec![("{seed}".to_owned(), seed.to_string())];
        for (axis, value) in axes.iter().zip(values) {
            match axis.step {
                Some(step) => _ = settings.entry(step).or_default().insert(axis.key.clone(), (*value).clone()),
                None => words.push((format!("{{{}}}", axis.name()), text(value))),
            }
        }
        words.push(("{data}".to_owned(), data_folder()));
        settings.values_mut().flat_map(Settings::values_mut).for_each(|value| insert(value, &words));
        settings.retain(|kind, _| self.steps.contains(kind));
        let axes = axes.iter().zip(values).map(|(axis, value)| (axis.name(), text(value))).collect();
        Cell { variant: variant.name.clone(), axes, seed, settings }
    }
}

/// What `{data}` stands for: the folder that `FLATNESS_DATA` names, or else `data` beside the project whose folder
/// `experiments` holds the file.
fn data_folder() -> String {
    let named = std::env::var_os("FLATNESS_DATA").filter(|folder| !folder.is_empty());
    let absolute = named.map(|folder| std::path::absolute(&folder).unwrap_or(folder.into()));
    absolute.map_or("../../data".into(), to_text)
}

fn insert(value: &mut Value, words: &[(String, String)]) {
    match value {
        Value::String(text) => words.iter().for_each(|(word, value)| *text = text.replace(word, value)),
        Value::Array(items) => items.iter_mut().for_each(|item| insert(item, words)),
        _ => {}
    }
}

/// All ways to choose a value of each axis, the last axis fastest.
fn combinations<'a>(axes: &[&'a Axis]) -> Vec<Vec<&'a Value>> {
    axes.iter().fold(vec![Vec::new()], |points, axis| {
        let extended = |point: Vec<&'a Value>| {
            axis.values.iter().map(move |value| point.iter().copied().chain([value]).collect()).collect::<Vec<_>>()
        };
        points.into_iter().flat_map(extended).collect()
    })
}

/// A value as it is written on the command line.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        // In this form small and large ones stay short: 1e-7.
        Value::Float(number) => format!("{number:?}"),
        other => other.to_string(),
    }
}

/// Settings as `--option=value`; a flag is included if it is `true`.
pub fn arguments(settings: &Settings) -> Vec<String> {
    let argument = |(key, value): (&String, &Value)| match value {
        Value::Boolean(true) => Some(format!("--{key}")),
        Value::Boolean(false) => None,
        value => Some(format!("--{key}={}", text(value))),
    };
    settings.iter().filter_map(argument).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn cells(text: &str) -> Vec<Cell> {
        Experiment::parse(text, Path::new("grid.toml"), None).unwrap().cells()
    }

    const GRID: &str = r#"
        name = "grid"
        seeds = [3, 5]
        [train]
        learning_rate = 9
        data = "glyphs"
        noise_seed = "{seed}"
        [grid]
        "train.learning_rate" = [0.1, 1e-5]
        analyze.operator = [["hessian", "ggn"]]
        [[variant]]
        name = "sgd"
        [[variant]]
        name = "sam"
        grid."train.optimizer" = ["sam:rho=0.1", "sam:rho=0.2"]
        analyze.layers = true
    "#;

    #[test]
    fn every_variant_value_and_seed_once() {
        let cells = cells(GRID);
        let labels: Vec<String> = cells.iter().map(|cell| cell.label(&[StepKind::Train])).collect();
        let expected = [
            "sgd-learning_rate=0.1-s3",
            "sgd-learning_rate=0.1-s5",
            "sgd-learning_rate=1e-5-s3",
            "sgd-learning_rate=1e-5-s5",
            "sam-learning_rate=0.1-optimizer=sam:rho=0.1-s3",
            "sam-learning_rate=0.1-optimizer=sam:rho=0.1-s5",
            "sam-learning_rate=0.1-optimizer=sam:rho=0.2-s3",
            "sam-learning_rate=0.1-optimizer=sam:rho=0.2-s5",
            "sam-learning_rate=1e-5-optimizer=sam:rho=0.1-s3",
            "sam-learning_rate=1e-5-optimizer=sam:rho=0.1-s5",
            "sam-learning_rate=1e-5-optimizer=sam:rho=0.2-s3",
            "sam-learning_rate=1e-5-optimizer=sam:rho=0.2-s5",
        ];
        assert_eq!(labels, expected);
        assert_eq!(cells[0].group(), "sgd-operator=hessian,ggn-learning_rate=0.1");
        assert_eq!(cells[0].group(), cells[1].group());
        let axes = cells[4].axes.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>();
        assert_eq!(axes, ["analyze.operator hessian,ggn", "train.learning_rate 0.1", "train.optimizer sam:rho=0.1"]);
    }

    #[test]
    fn a_word_goes_into_texts() {
        let text = "name = \"words\"\nsteps = [\"train\"]\ntrain.optimizer = \"fsgld:eta={eta},beta_inverse={b_i}\"\n\
                    grid.eta = [0.1]\ngrid.b_i = [1e-8, 1]";
        let cells = cells(text);
        let optimizers = cells.iter().map(|cell| cell.settings[&StepKind::Train]["optimizer"].as_str().unwrap());
        assert_eq!(optimizers.collect::<Vec<_>>(), ["fsgld:eta=0.1,beta_inverse=1e-8", "fsgld:eta=0.1,beta_inverse=1"]);
        assert_eq!(cells[0].label(&[StepKind::Train]), "b_i=1e-8-eta=0.1-s0");
        assert_eq!((cells[1].on_axis("eta"), cells[1].on_axis("b_i")), (Some("0.1"), Some("1")));
    }

    #[test]
    fn settings_become_arguments() {
        let cells = cells(GRID);
        let train = ["--data=glyphs", "--learning-rate=1e-5", "--noise-seed=5", "--optimizer=sam:rho=0.2", "--seed=5"];
        assert_eq!(arguments(&cells[11].settings[&StepKind::Train]), train);
        assert_eq!(arguments(&cells[11].settings[&StepKind::Analyze]), ["--layers", "--operator=hessian,ggn"]);
        assert_eq!(arguments(&cells[0].settings[&StepKind::Analyze]), ["--operator=hessian,ggn"]);
    }

    #[test]
    fn without_variants_and_axes_the_seed_is_the_label() {
        let cells = cells("name = \"plain\"\nsteps = [\"train\"]\n[analyze]\ntop = 3");
        assert_eq!(cells.len(), 1);
        assert_eq!((cells[0].label(&StepKind::ALL), cells[0].group()), ("s0".into(), "all".into()));
        assert_eq!(cells[0].settings.keys().collect::<Vec<_>>(), [&StepKind::Train]);
    }
}
