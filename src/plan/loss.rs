//! The loss on the command line: a name, and settings such as `cross-entropy:label-smoothing=0.1`.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{PlanError, parsed_by};
use crate::data::read_weights;
use crate::program::Loss;

/// The losses as they are written, with PyTorch's word for each in descriptions.
const LOSSES: [(&str, &str); 7] = [
    ("cross-entropy", "cross_entropy"),
    ("mse", "mse"),
    ("l1", "l1"),
    ("huber", "huber"),
    ("smooth-l1", "smooth_l1"),
    ("bce", "bce_with_logits"),
    ("program", "program"),
];

/// Which loss.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Loss")]
pub struct LossArgs {
    /// Loss of a row, such as cross-entropy or mse [default: the checkpoint's, else cross-entropy for whole-number labels]
    ///
    /// cross-entropy, mse, l1, huber, smooth-l1, bce, or program: what the program itself gives for each row; with settings
    /// such as cross-entropy:label-smoothing=0.1,ignore-index=255,weight=0.5|2 (or weight=FILE.npy), huber:delta=0.5,
    /// smooth-l1:beta=0.1, bce:pos-weight=3
    #[arg(long, value_name = "LOSS", value_parser = parsed_by(loss))]
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<Loss>,
    /// Axis of the classes in the outputs of cross-entropy, 1 or -1 for the last, where the shapes leave both open
    #[arg(hide_short_help = true, long, value_name = "AXIS", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    class_axis: Option<i64>,
}

impl LossArgs {
    /// The loss that the arguments make of the one that a checkpoint or a file describes; `None` where neither names one.
    ///
    /// A class axis alone is one of cross-entropy.
    pub(crate) fn loss(&self, described: Option<Loss>) -> Result<Option<Loss>, PlanError> {
        let loss = self.loss.clone().or(described);
        let Some(axis) = self.class_axis else { return Ok(loss) };
        let wrong = |reason: &str| PlanError::option("--class-axis", axis, reason);
        let Loss::CrossEntropy(mut loss) = loss.unwrap_or(Loss::cross_entropy()) else {
            return Err(wrong("belongs to cross-entropy"));
        };
        loss.class_axis = Some(axis);
        let loss = Loss::CrossEntropy(loss);
        loss.check().map_err(|_| wrong("must be 1, or -1 for the last"))?;
        Ok(Some(loss))
    }
}

/// A loss by name, with settings after a colon; `cross-entropy:0.1` is label smoothing.
fn loss(text: &str) -> Result<Loss, String> {
    let (name, settings) = text.split_once(':').unwrap_or((text, ""));
    let known =
        |(short, kind): &&(&str, &str)| name == *short || name == *kind || (name == "ce" && *kind == "cross_entropy");
    let Some((_, kind)) = LOSSES.iter().find(known) else {
        let names = LOSSES.map(|(name, _)| name);
        let nearest = crate::nearest(name, names).unwrap_or_else(|| "cross-entropy".into());
        return Err(format!("unknown loss; did you mean {nearest}? ({})", names.join(", ")));
    };
    let mut fields = Map::from_iter([("kind".to_owned(), Value::from(*kind))]);
    for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
        let (name, value) = match setting.split_once('=') {
            Some((name, value)) => (name.trim().replace('-', "_"), value.trim()),
            None if *kind == "cross_entropy" => ("label_smoothing".to_owned(), setting),
            None => return Err(format!("`{setting}` is not `name=value`")),
        };
        let value = if ["weight", "pos_weight"].contains(&name.as_str()) { weights(value)? } else { number(value) };
        if fields.insert(name.clone(), value).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    let loss: Loss = serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
    loss.check().map_err(|error| error.to_string().trim_start_matches("loss: ").to_owned())?;
    Ok(loss)
}

/// A number; a word where it is none, which serde refuses with what it expects.
fn number(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// Numbers with `|` between, else those of a file.
fn weights(text: &str) -> Result<Value, String> {
    let numbers: Option<Vec<f64>> = text.split('|').map(|number| number.trim().parse().ok()).collect();
    Ok(match numbers {
        Some(numbers) => numbers.into(),
        None => read_weights(text.as_ref()).map_err(|error| error.to_string())?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::CrossEntropy;

    #[test]
    fn a_name_and_its_settings() {
        let loss = |text: &str| super::loss(text).unwrap();
        assert_eq!(loss("cross-entropy"), Loss::cross_entropy());
        assert_eq!(loss("ce:0.1"), Loss::smoothed(0.1));
        let all =
            CrossEntropy { weight: Some(vec![0.2, 0.8]), ignore_index: -1, label_smoothing: 0.1, class_axis: Some(-1) };
        let text = "cross-entropy:label-smoothing=0.1,ignore-index=-1,weight=0.2|0.8,class-axis=-1";
        assert_eq!(loss(text), Loss::CrossEntropy(all));
        assert_eq!(loss("huber"), Loss::Huber { delta: 1.0 });
        assert_eq!(loss("smooth-l1:beta=0"), Loss::SmoothL1 { beta: 0.0 });
        assert_eq!(loss("bce:pos_weight=3"), Loss::BceWithLogits { pos_weight: Some(vec![3.0]) });
        assert_eq!(loss("mse"), Loss::Mse {});
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (text, part) in [
            ("mes", "did you mean mse?"),
            ("mse:delta=1", "unknown field `delta`"),
            ("cross-entropy:smoothing=0.1", "unknown field `smoothing`, expected one of `weight`"),
            ("cross-entropy:label-smoothing=1", "`label_smoothing` is 1"),
            ("cross-entropy:ignore-index=x", "expected i64"),
            ("cross-entropy:weight=0|0", "`weight` is [0.0, 0.0]"),
            ("cross-entropy:weight=-1|2", "one of them above 0"),
            ("cross-entropy:class-axis=2", "`class_axis` is 2"),
            ("huber:delta=0", "`delta` is 0"),
            ("huber:1", "`1` is not `name=value`"),
            ("huber:delta=1,delta=2", "there twice"),
        ] {
            let error = loss(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let axis = LossArgs { loss: Some(Loss::Mse {}), class_axis: Some(1) };
        assert!(axis.loss(None).unwrap_err().to_string().contains("belongs to cross-entropy"));
    }
}
