//! The page of a training.

use std::path::Path;

use super::{EpochMetrics, EvaluationRow, TrainOutcome, TrainStop};
use crate::report::page::{Card, Figure, Page, Part, Row, Section, Table};

impl TrainOutcome {
    /// A page of it under the heading `name`: losses, evaluations and epochs; figures lie in `figures`, `data` says
    /// what it was trained on, and `command` is the line that made it.
    pub fn page(&self, name: &str, data: &str, figures: &Path, command: &str) -> Page {
        let losses =
            "Loss and accuracy over the epochs. Values on the training rows are means over the steps of an epoch.";
        let curvature = "Curvature of the loss on the training rows. Bands: one standard error over the rows.";
        let sections = [
            Section::new(
                "Training",
                [
                    Figure::one(figures, "training", "Loss and accuracy", losses),
                    Figure::one(figures, "curvature", "Curvature", curvature),
                    self.evaluation_table(),
                ],
            ),
            Section::folded("Epochs", [self.epoch_table()]),
        ];
        Page {
            title: name.into(),
            subtitle: self.statement(),
            cards: self.cards(),
            sections: sections.into_iter().flatten().collect(),
            provenance: self.provenance(data),
            command: command.into(),
        }
    }

    fn cards(&self) -> Vec<Card> {
        let stop = match self.stop {
            TrainStop::Finished => "",
            TrainStop::Interrupted => ", interrupted",
            TrainStop::NonFinite(_) => ", stopped: not finite",
        };
        let done = Card::new("epochs", format!("{} of {}{stop}", self.epochs.len(), self.config.epochs));
        let Some(last) = self.epochs.last() else { return vec![done] };
        let scores = [
            ("test accuracy", last.test.accuracy),
            ("test loss", last.test.loss),
            ("training accuracy", last.train.accuracy),
            ("training loss", last.train.loss),
            ("wrong labels fitted", last.clean.wrong_fitted),
            ("weight norm", last.weight_norm),
        ];
        let known = scores.into_iter().filter(|(_, value)| !value.is_nan());
        known.map(|(label, value)| Card::new(label, number(value))).chain([done]).collect()
    }

    /// Final weights by split.
    fn evaluation_table(&self) -> Option<Part> {
        let row = |row: &EvaluationRow| {
            let words = [row.weights, row.batch_norm, row.split].map(str::to_owned);
            let (scores, clean) = (row.scores, row.clean);
            let numbers = [scores.loss, scores.accuracy, scores.nll, scores.calibration_error, clean.clean_accuracy];
            Row::new(words.into_iter().chain(numbers.into_iter().chain([clean.wrong_fitted]).map(number)))
        };
        let columns = [
            ("weights", false),
            ("batch norm", false),
            ("split", false),
            ("loss", true),
            ("accuracy", true),
            ("NLL", true),
            ("calibration error", true),
            ("clean accuracy", true),
            ("wrong labels fitted", true),
        ];
        let caption = "The final weights, in evaluation mode.";
        Table::new(&columns, self.evaluations.iter().map(row).collect(), caption).part()
    }

    fn epoch_table(&self) -> Option<Part> {
        let row = |metrics: &EpochMetrics| {
            let counts = [metrics.epoch, metrics.step].map(|count| count.to_string());
            let numbers = [
                metrics.train.loss,
                metrics.train.accuracy,
                metrics.test.loss,
                metrics.test.accuracy,
                metrics.gradient_norm,
                metrics.weight_norm,
            ];
            let rate = format!("{:.4e}", metrics.learning_rate);
            Row::new(counts.into_iter().chain([rate]).chain(numbers.map(number)))
        };
        let columns = [
            ("epoch", true),
            ("step", true),
            ("learning rate", true),
            ("training loss", true),
            ("training accuracy", true),
            ("test loss", true),
            ("test accuracy", true),
            ("gradient norm", true),
            ("weight norm", true),
        ];
        Table::new(&columns, self.epochs.iter().map(row).collect(), "All epochs; metrics.parquet has more columns.")
            .part()
    }

    fn provenance(&self, data: &str) -> Vec<(String, String)> {
        let config = &self.config;
        let shown = [
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("architecture", self.network.about.name.clone()),
            ("parameters", self.theta.elem_count().to_string()),
            ("data", data.to_owned()),
            ("rows, SHA-256", self.data_sha256.clone()),
            ("optimiser", config.optimizer.name().to_owned()),
            ("learning rate", config.learning_rate.to_string()),
            ("batch", config.batch_size.to_string()),
            ("weight decay", config.weight_decay.to_string()),
            ("seed", config.seed.to_string()),
        ];
        let temperature = self.config.optimizer.for_rows(self.num_rows).temperature().map(|own| {
            let (beta_inverse, t) = (own.beta_inverse(), own.of_posterior(self.num_rows));
            let words = format!("β⁻¹ = {beta_inverse:.3e}, T = {t:.3e} of {} rows", self.num_rows);
            ("temperature".to_owned(), words)
        });
        shown.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(temperature).collect()
    }
}

/// Empty where it is not known.
fn number(value: f64) -> String {
    if value.is_nan() { String::new() } else { format!("{value:.4}") }
}
