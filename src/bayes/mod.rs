//! What a posterior says that a single minimum does not: averages of models, calibration and detection, learning coefficients.

mod average;
mod calibration;
mod detection;
mod error;
mod evaluation;
pub mod learning_coefficient;
mod predict;
mod resample;
mod scores;
mod temperature;
#[cfg(test)]
mod tests;

pub use average::{Average, Predictions};
pub use calibration::{BINS, Bin, equal_mass, equal_width, expected_error};
pub use detection::{Areas, Ranking, Signal};
pub use error::EvaluationError;
pub use evaluation::{Detected, Evaluation, OutsideSet, ScaledScore, Scaling, Score, evaluate};
pub use predict::{Model, ModelScores, Predicted, predict};
pub use scores::Rows;
pub use temperature::{Temperature, fit_temperature};
