//! The axes of the grid, and the variants.

use std::collections::BTreeMap;

use toml::Value;

use super::{MOST_ITEMS, Read, Reader, Settings, StepKind};

/// An option, or a word that strings contain in braces, with the values that it takes.
#[derive(Debug, Clone)]
pub(in super::super) struct Axis {
    /// `None` for a word.
    pub(in super::super) step: Option<StepKind>,
    pub(in super::super) key: String,
    pub(in super::super) values: Vec<Value>,
}

impl Axis {
    /// `train.learning_rate`, or `eta`.
    pub(in super::super) fn name(&self) -> String {
        let key = self.key.replace('-', "_");
        self.step.map_or(key.clone(), |step| format!("{}.{key}", step.name()))
    }
}

/// Settings that belong together.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Variant {
    /// Empty where the file has no variants.
    pub(in super::super) name: String,
    pub(in super::super) settings: BTreeMap<StepKind, Settings>,
    /// Axes of this variant alone.
    pub(in super::super) axes: Vec<Axis>,
}

impl Reader<'_> {
    /// Axes under `value`, written `"train.rho" = […]` or as tables `train.rho = […]`; a name without a step is a word
    /// for texts.
    pub(super) fn axes(&self, value: Option<&Value>, place: &str, steps: &[StepKind]) -> Read<Vec<Axis>> {
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
                let (step, key) = self.axis_name(&key, &at, steps)?;
                let values = self.array(&value, &at)?.to_vec();
                values.iter().try_for_each(|value| self.plain(value, &at))?;
                if axes.iter().any(|axis| axis.step == step && axis.key == key) {
                    return Err(self.wrong(&at, "is given twice"));
                }
                axes.push(Axis { step, key, values });
                if axes.len() > MOST_ITEMS {
                    return Err(self.wrong(place, format!("has more than {MOST_ITEMS} axes")));
                }
            }
        }
        Ok(axes)
    }

    /// Refuses a word that no string of the file contains: it would have no effect.
    pub(super) fn is_used(&self, axis: &Axis, text: &str) -> Read<()> {
        let word = format!("{{{}}}", axis.name());
        if axis.step.is_some() || text.contains(&word) {
            return Ok(());
        }
        Err(self.wrong(
            &format!("grid.{}", axis.name()),
            format!("is not used: no string contains {word}; options are written STEP.OPTION"),
        ))
    }

    fn axis_name(&self, key: &str, at: &str, steps: &[StepKind]) -> Read<(Option<StepKind>, String)> {
        let Some((step, option)) = key.split_once('.') else {
            let taken = key == "seed" || StepKind::named(key).is_some();
            let reason = "must be STEP.OPTION, such as `train.epochs`, or a word of your own";
            return if taken { Err(self.wrong(at, reason)) } else { Ok((None, key.to_owned())) };
        };
        let names = || StepKind::ALL.map(|kind| format!("`{}.OPTION`", kind.name())).join(", ");
        let kind = StepKind::named(step).filter(|_| !option.is_empty());
        let kind = kind.ok_or_else(|| self.wrong(at, format!("must be one of {}", names())))?;
        if !steps.contains(&kind) {
            return Err(self.wrong(at, "belongs to a step that `steps` leaves out"));
        }
        self.option(Some(kind), option, at)?;
        Ok((Some(kind), option.to_owned()))
    }

    pub(super) fn variants(&self, value: Option<&Value>, axes: &[Axis], steps: &[StepKind]) -> Read<Vec<Variant>> {
        let Some(value) = value else { return Ok(vec![Variant::default()]) };
        let mut variants: Vec<Variant> = Vec::new();
        for value in self.array(value, "variant")? {
            let table = self.table(Some(value.clone()), "variant")?;
            let name = self.name(table.get("name"), "variant.name")?;
            let keys = ["name", "train", "analyze", "sharpness", "llc", "evaluate", "langevin", "grid"];
            self.known(&table, &keys, &format!("variant `{name}`"))?;
            if variants.iter().any(|other| other.name == name) {
                return Err(self.wrong("variant.name", format!("{name:?} is given twice")));
            }
            let place = format!("variant.{name}.");
            let settings = self.settings(&table, &place)?;
            let own = self.axes(table.get("grid"), &format!("{place}grid"), steps)?;
            let taken = |axis: &&Axis| {
                let options = axis.step.and_then(|step| settings.get(&step));
                options.is_some_and(|options| options.contains_key(&axis.key))
            };
            if let Some(axis) = axes.iter().chain(&own).find(taken) {
                return Err(self.wrong(&axis.name(), format!("is set both by variant `{name}` and by a grid")));
            }
            if let Some(axis) = own.iter().find(|own| axes.iter().any(|axis| axis.name() == own.name())) {
                return Err(
                    self.wrong(&axis.name(), format!("is an axis both of variant `{name}` and of all variants"))
                );
            }
            variants.push(Variant { name, settings, axes: own });
        }
        Ok(variants)
    }
}
