//! What a number measures.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{End, Minimum, Outside, Sampler, Sharpness};

/// What a number measures. `Display` and serde give its name in tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Quantity {
    /// Share of the test rows whose class is predicted.
    TestAccuracy,
    /// Mean negative log-likelihood on the test rows.
    TestNll,
    /// Mean loss on the test rows.
    TestLoss,
    /// Share of the training rows whose class is predicted.
    TrainAccuracy,
    /// Mean loss on the training rows.
    TrainLoss,
    /// Share of the wrong training labels that are predicted.
    TrainWrongFitted,
    /// Mean loss on the rows of the analysis.
    Loss,
    /// Share of these rows whose class is predicted.
    Accuracy,
    /// Mean negative log-likelihood on these rows.
    Nll,
    /// Exponential of that.
    Perplexity,
    /// Mean squared distance of the probabilities from the label's.
    Brier,
    /// Expected calibration error over bins of equal width.
    CalibrationError,
    /// The same over bins of equal numbers of rows.
    CalibrationErrorEqualMass,
    /// Mean entropy of the predictions.
    PredictiveEntropy,
    /// Mean mutual information of prediction and model.
    MutualInformation,
    /// Probability that a wrong prediction is less confident than a right one.
    MisclassificationAuroc,
    /// Average precision with which wrong predictions are found by low confidence.
    MisclassificationAuprErrors,
    /// Average precision with which right predictions are found by high confidence.
    MisclassificationAuprCorrect,
    /// Temperature with the largest likelihood.
    Temperature,
    /// How rows of another origin, by the name of their set, are told from these.
    Outside(Outside, String),
    /// Norm of the gradient of the loss.
    GradientNorm,
    /// Norm of the parameters.
    ParameterNorm,
    /// Largest eigenvalue.
    LambdaMax,
    /// Largest eigenvalue, with the eigenvector of one half of the rows evaluated on the other.
    LambdaMaxCrossFitted,
    /// Largest eigenvalue of the preconditioned Hessian.
    LambdaMaxPreconditioned,
    /// Sum of all eigenvalues.
    Trace,
    /// Smallest eigenvalue.
    LambdaMin,
    /// Largest eigenvalue over the fifth.
    LambdaRatio,
    /// Root of the sum of the squared eigenvalues.
    FrobeniusNorm,
    /// Sum of the magnitudes of the eigenvalues.
    NuclearNorm,
    /// Share of the negative eigenvalues in that sum.
    NegativeMass,
    /// `Σ λ⁺/(λ⁺ + c)`.
    EffectiveDimension,
    /// Frobenius norm of the GGN over that of the Hessian.
    GgnShare,
    /// Share of the gradient in the space of the top eigenvectors.
    GradientInTopSpace,
    /// Largest eigenvalue at which the steps of a training are stable.
    StabilityThreshold,
    /// Local learning coefficient.
    LearningCoefficient,
    /// Eigenvalue of that rank, from 2, the largest first.
    Eigenvalue(usize),
    /// A measure of sharpness.
    Sharpness(Sharpness),
    /// Mean loss at a minimum of a landscape.
    LossAt(Minimum),
    /// Share of the rows whose class is predicted there.
    AccuracyAt(Minimum),
    /// Height of the loss between two minima over the straight line between their losses.
    Barrier,
    /// Where that height is, from 0 at A to 1 at B.
    BarrierT,
    /// Distance of two minima.
    DistanceAb,
    /// Share of the variance of a path of training along the first axis.
    ExplainedVarianceX,
    /// The same along the second.
    ExplainedVarianceY,
    /// Smallest loss on a grid.
    GridMinLoss,
    /// First coordinate of its point.
    GridMinX,
    /// Second coordinate of its point.
    GridMinY,
    /// Largest finite loss on a grid.
    GridMaxLoss,
    /// Share of the points of a grid whose loss is finite.
    FiniteShare,
    /// Share of the points of a grid at which the loss is convex.
    ConvexShare,
    /// Power of the step size with which the error of a sampler falls.
    RateExponent(Sampler),
    /// Share of a sampler's chains on the flat side.
    FlatShare(Sampler),
    /// The share that the law has which the sampler aims at.
    FlatShareTarget(Sampler),
    /// The share that the law of the sampler's mean drift has.
    FlatShareDrift(Sampler),
    /// By how much the share of fSGLD exceeds that of SGLD.
    FlatShareMoved,
    /// Mean height of fSGLD's samples over the minimum.
    ExcessRisk,
    /// A number of a table of unknown origin, by its name.
    Other(String),
}

/// What a quantity is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuantityKind {
    /// How well the network does.
    Performance,
    /// Size of the weights: raw curvature of networks that differ in it is not comparable, since a ReLU network computes
    /// the same function at other scales (Dinh et al. 2017).
    Scale,
    /// Curvature in the units of the weights.
    RawCurvature,
    /// Shape of the spectrum: unchanged where all eigenvalues are scaled alike.
    Shape,
    /// Sharpness in the units of the weights.
    RawSharpness,
    /// Sharpness relative to the weights: unchanged under rescaling of ReLU layers.
    ScaledSharpness,
    /// Something else.
    Other,
}

/// Name in tables, label for people, and kind of the quantities with a name of their own, in the order of tables.
const KNOWN: [(Quantity, &str, &str, QuantityKind); 62] = {
    use Minimum::{A, B, C};
    use QuantityKind::{Other, Performance, RawCurvature, Scale, Shape};
    use Sampler::{Fsgld, Sgld};
    [
        (Quantity::TestAccuracy, "test_accuracy", "test accuracy", Performance),
        (Quantity::TestNll, "test_nll", "test NLL", Performance),
        (Quantity::TestLoss, "test_loss", "test loss", Performance),
        (Quantity::TrainAccuracy, "train_accuracy", "train accuracy", Performance),
        (Quantity::TrainLoss, "train_loss", "train loss", Performance),
        (Quantity::TrainWrongFitted, "train_wrong_fitted", "share of wrong labels fitted", Performance),
        (Quantity::Loss, "loss", "loss", Performance),
        (Quantity::Accuracy, "accuracy", "accuracy", Performance),
        (Quantity::Nll, "nll", "NLL", Performance),
        (Quantity::Perplexity, "perplexity", "perplexity", Performance),
        (Quantity::Brier, "brier", "Brier score", Performance),
        (Quantity::CalibrationError, "ece", "ECE", Performance),
        (Quantity::CalibrationErrorEqualMass, "ece_equal_mass", "ECE, equal mass", Performance),
        (Quantity::PredictiveEntropy, "predictive_entropy", "predictive entropy", Performance),
        (Quantity::MutualInformation, "mutual_information", "mutual information", Performance),
        (Quantity::MisclassificationAuroc, "misclassification_auroc", "AUROC, errors", Performance),
        (Quantity::MisclassificationAuprErrors, "misclassification_aupr_errors", "AUPR, errors", Performance),
        (Quantity::MisclassificationAuprCorrect, "misclassification_aupr_correct", "AUPR, right answers", Performance),
        (Quantity::Temperature, "temperature", "temperature", Performance),
        (Quantity::GradientNorm, "gradient_norm", "gradient norm", Other),
        (Quantity::ParameterNorm, "parameter_norm", "weight norm", Scale),
        (Quantity::LambdaMax, "lambda_max", "λ₁", RawCurvature),
        (Quantity::LambdaMaxCrossFitted, "lambda_max_cross_fitted", "λ₁, cross-fitted", RawCurvature),
        (Quantity::LambdaMaxPreconditioned, "lambda_max_preconditioned", "λ₁ of P⁻¹H", RawCurvature),
        (Quantity::Trace, "trace", "trace", RawCurvature),
        (Quantity::LambdaMin, "lambda_min", "smallest λ", RawCurvature),
        (Quantity::LambdaRatio, "lambda_ratio", "λ₁/λ₅", Shape),
        (Quantity::FrobeniusNorm, "frobenius_norm", "Frobenius norm", RawCurvature),
        (Quantity::NuclearNorm, "nuclear_norm", "nuclear norm", RawCurvature),
        (Quantity::NegativeMass, "negative_mass", "negative mass", Shape),
        (Quantity::EffectiveDimension, "effective_dimension", "effective dimension", Shape),
        (Quantity::GgnShare, "ggn_share", "GGN share", Shape),
        (Quantity::GradientInTopSpace, "gradient_in_top_space", "gradient in top space", Shape),
        (Quantity::StabilityThreshold, "stability_threshold", "stability threshold", Other),
        (Quantity::LearningCoefficient, "llc", "learning coefficient", Other),
        (Quantity::LossAt(A), "loss_a", "loss at A", Other),
        (Quantity::AccuracyAt(A), "accuracy_a", "accuracy at A", Other),
        (Quantity::LossAt(B), "loss_b", "loss at B", Other),
        (Quantity::AccuracyAt(B), "accuracy_b", "accuracy at B", Other),
        (Quantity::LossAt(C), "loss_c", "loss at C", Other),
        (Quantity::AccuracyAt(C), "accuracy_c", "accuracy at C", Other),
        (Quantity::Barrier, "barrier", "barrier", Other),
        (Quantity::BarrierT, "barrier_t", "place of the barrier", Other),
        (Quantity::DistanceAb, "distance_ab", "distance from A to B", Other),
        (Quantity::ExplainedVarianceX, "explained_variance_x", "variance along x", Other),
        (Quantity::ExplainedVarianceY, "explained_variance_y", "variance along y", Other),
        (Quantity::GridMinLoss, "grid_min_loss", "lowest loss on the grid", Other),
        (Quantity::GridMinX, "grid_min_x", "x of the lowest loss", Other),
        (Quantity::GridMinY, "grid_min_y", "y of the lowest loss", Other),
        (Quantity::GridMaxLoss, "grid_max_loss", "highest loss on the grid", Other),
        (Quantity::FiniteShare, "finite_share", "finite share of the grid", Other),
        (Quantity::ConvexShare, "convex_share", "convex share of the grid", Other),
        (Quantity::RateExponent(Sgld), "sgld_rate_exponent", "SGLD rate exponent", Other),
        (Quantity::RateExponent(Fsgld), "fsgld_rate_exponent", "fSGLD rate exponent", Other),
        (Quantity::FlatShare(Sgld), "sgld_flat_share", "SGLD flat share", Other),
        (Quantity::FlatShareTarget(Sgld), "sgld_flat_share_target", "SGLD flat share, target", Other),
        (Quantity::FlatShareDrift(Sgld), "sgld_flat_share_drift", "SGLD flat share, drift", Other),
        (Quantity::FlatShare(Fsgld), "fsgld_flat_share", "fSGLD flat share", Other),
        (Quantity::FlatShareTarget(Fsgld), "fsgld_flat_share_target", "fSGLD flat share, target", Other),
        (Quantity::FlatShareDrift(Fsgld), "fsgld_flat_share_drift", "fSGLD flat share, drift", Other),
        (Quantity::FlatShareMoved, "flat_share_moved", "flat share moved", Other),
        (Quantity::ExcessRisk, "fsgld_excess_risk", "fSGLD excess risk", Other),
    ]
};

impl Quantity {
    /// Those that decide a comparison unless others are named.
    pub const PRIMARY: [Self; 3] = [Self::LambdaMax, Self::Trace, Self::TestAccuracy];

    fn known(&self) -> Option<&'static (Self, &'static str, &'static str, QuantityKind)> {
        KNOWN.iter().find(|(known, ..)| known == self)
    }

    /// As the field writes it.
    pub fn label(&self) -> String {
        match self {
            Self::Eigenvalue(rank) => format!("λ{}", subscript(*rank)),
            Self::Sharpness(measure) => measure.label(),
            Self::Outside(measure, set) => format!("{}, {set}", measure.label()),
            Self::Other(name) => name.replace('_', " "),
            _ => self.known().map_or(String::new(), |(_, _, label, _)| (*label).into()),
        }
    }

    /// What it is about.
    pub fn kind(&self) -> QuantityKind {
        match self {
            Self::Eigenvalue(_) => QuantityKind::RawCurvature,
            Self::Sharpness(measure) if measure.is_scaled() => QuantityKind::ScaledSharpness,
            Self::Sharpness(_) => QuantityKind::RawSharpness,
            Self::Outside(..) => QuantityKind::Performance,
            _ => self.known().map_or(QuantityKind::Other, |(.., kind)| *kind),
        }
    }

    /// Whether less of it is flatter; `None` where it says nothing of flatness.
    pub fn less_is_flatter(&self) -> Option<bool> {
        match self {
            Self::Sharpness(measure) => measure.less_is_flatter(),
            Self::LambdaMin => None,
            _ => (self.kind() == QuantityKind::RawCurvature).then_some(true),
        }
    }

    /// The end whose outermost eigenvalue it is. Found from the inside, such an eigenvalue only bounds the true one until
    /// it has converged.
    pub fn end(&self) -> Option<End> {
        match self {
            Self::LambdaMax => Some(End::Top),
            Self::LambdaMin => Some(End::Bottom),
            _ => None,
        }
    }

    /// Whether it is a share of the rows, written in percent.
    pub fn is_share_of_rows(&self) -> bool {
        matches!(self, Self::TestAccuracy | Self::TrainAccuracy | Self::Accuracy)
    }

    /// Whether it means the same for networks of different architecture.
    pub fn is_of_any_architecture(&self) -> bool {
        self.kind() == QuantityKind::Performance
    }

    /// Where it stands in tables: known ones in their order, then others by name.
    pub fn order(&self) -> (usize, String) {
        let place = KNOWN.iter().position(|(known, ..)| known == self).unwrap_or(KNOWN.len());
        (place, self.to_string())
    }

    /// The eigenvalue of that index at the top end, from 0.
    pub fn eigenvalue(index: usize) -> Self {
        if index == 0 { Self::LambdaMax } else { Self::Eigenvalue(index + 1) }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eigenvalue(rank) => write!(f, "lambda_{rank}"),
            Self::Sharpness(measure) => measure.fmt(f),
            Self::Outside(measure, set) => write!(f, "{measure}_{set}"),
            Self::Other(name) => f.write_str(name),
            _ => f.write_str(self.known().map_or("", |(_, name, ..)| name)),
        }
    }
}

impl From<&str> for Quantity {
    fn from(name: &str) -> Self {
        if let Some((known, ..)) = KNOWN.iter().find(|(_, own, ..)| *own == name) {
            return known.clone();
        }
        let rank = name.strip_prefix("lambda_").and_then(|rank| rank.parse().ok());
        match rank.map(Self::Eigenvalue).filter(|eigenvalue| eigenvalue.to_string() == name) {
            Some(eigenvalue) => eigenvalue,
            None => Sharpness::named(name)
                .map(Self::Sharpness)
                .or_else(|| Outside::named(name).map(|(measure, set)| Self::Outside(measure, set)))
                .unwrap_or_else(|| Self::Other(name.into())),
        }
    }
}

impl From<String> for Quantity {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.to_string()
    }
}

/// Subscript of an index, as in λ₁₂.
pub fn subscript(index: usize) -> String {
    let lowered = |letter: char| char::from_u32('₀' as u32 + letter.to_digit(10).unwrap_or(0)).unwrap_or('₀');
    index.to_string().chars().map(lowered).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Scaling;
    use super::*;

    #[test]
    fn every_name_is_read_back_and_others_stay_as_they_are() {
        let scaling = Scaling::Element;
        let others = [
            Quantity::Eigenvalue(12),
            Quantity::Sharpness(Sharpness::PacBayes { scaling }),
            Quantity::Outside(Outside::AuprIn, "CIFAR-10".into()),
            Quantity::Other("number_of_somebody".into()),
        ];
        for quantity in KNOWN.into_iter().map(|(quantity, ..)| quantity).chain(others) {
            assert_eq!(Quantity::from(quantity.to_string()), quantity);
            assert!(!quantity.label().contains('_'), "{quantity}");
        }
        for name in ["", "lambda_", "lambda_02", "Trace", "hessian_trace", "ood_auroc", "ood_auroc_"] {
            assert_eq!(Quantity::from(name), Quantity::Other(name.into()));
        }
        assert_eq!(Quantity::eigenvalue(0), Quantity::LambdaMax);
        assert_eq!(
            (Quantity::eigenvalue(11).label(), Quantity::eigenvalue(1).to_string()),
            ("λ₁₂".into(), "lambda_2".into())
        );
    }

    #[test]
    fn a_quantity_knows_what_it_says_of_flatness() {
        let of = |name: &str| (Quantity::from(name).kind(), Quantity::from(name).less_is_flatter());
        assert_eq!(of("trace"), (QuantityKind::RawCurvature, Some(true)));
        assert_eq!(of("lambda_min"), (QuantityKind::RawCurvature, None));
        assert_eq!(of("parameter_norm"), (QuantityKind::Scale, None));
        assert_eq!(of("worst_l2_none_rho=0.1"), (QuantityKind::RawSharpness, Some(true)));
        assert_eq!(of("pac_bayes_sigma_element"), (QuantityKind::ScaledSharpness, Some(false)));
        assert_eq!(of("average_ratio_none_sigma=0.1"), (QuantityKind::RawSharpness, None));
        assert_eq!(of("fisher_rao_norm"), (QuantityKind::ScaledSharpness, Some(true)));
        assert_eq!(of("ratio_of_somebody"), (QuantityKind::Other, None));
    }
}
