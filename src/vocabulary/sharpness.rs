//! The measures of sharpness, and the names that say how each is defined.

use std::fmt;

names! {
    "scaling";
    /// What a unit of perturbation is for each parameter: `ε = s ⊙ δ`.
    pub enum Scaling {
        /// `s = 1`.
        None = "none",
        /// `s = |θ|` (Kwon et al. 2021): unchanged where ReLU layers are rescaled.
        Element = "element",
        /// `s` = norm of the filter that the weight belongs to (an entry of the first axis of a tensor with two axes or more);
        /// `|θ|` for biases and norms. Unchanged where ReLU layers are rescaled.
        Filter = "filter",
    }
}

impl Scaling {
    /// What it adds to the label of a measure.
    const fn words(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Element => " relative",
            Self::Filter => " by filter",
        }
    }
}

names! {
    "ball";
    /// Which ball `‖δ‖ ≤ ρ`.
    pub enum Ball {
        /// Euclidean.
        L2 = "l2",
        /// Largest entry.
        Linf = "linf",
    }
}

names! {
    "logits";
    /// How the logits enter the loss.
    pub enum Logits {
        /// As they are.
        Raw = "raw",
        /// Divided by their standard deviation in each row (Andriushchenko et al. 2023).
        Normalised = "normalised",
    }
}

impl Logits {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Raw => "",
            Self::Normalised => "_normalised",
        }
    }
}

names! {
    "direction";
    /// Along which update `Δ` of the weights.
    pub enum Direction {
        /// The gradient, as in SGD.
        Gradient = "gradient",
        /// `P⁻¹g`, `P` the preconditioner of Adam.
        Adam = "adam",
    }
}

/// A measure of sharpness. `Display` gives its unique name, such as `worst_l2_element_rho=0.5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sharpness {
    /// The mean rise under Gaussian perturbations.
    Average {
        /// Units of the perturbations.
        scaling: Scaling,
        /// What the loss sees.
        logits: Logits,
        /// Their standard deviation.
        sigma: f64,
    },
    /// The mean rise relative to what the curvature alone predicts.
    AverageRatio {
        /// Units of the perturbations.
        scaling: Scaling,
        /// Their standard deviation.
        sigma: f64,
    },
    /// The largest rise in a ball.
    WorstCase {
        /// The ball.
        ball: Ball,
        /// Units of the perturbations.
        scaling: Scaling,
        /// What the loss sees.
        logits: Logits,
        /// Radius of the ball.
        rho: f64,
    },
    /// The largest Gaussian perturbation under which the loss stays below a target.
    PacBayes {
        /// Units of the perturbations.
        scaling: Scaling,
    },
    /// `2/η_c`, `η_c` the smallest step along an update after which the loss has risen (Kalra et al. 2026).
    Critical {
        /// The update.
        direction: Direction,
    },
    /// `sqrt(θᵀ G θ)`.
    FisherRao,
    /// Of the last layer (Petzka et al. 2021).
    RelativeFlatness,
}

impl Sharpness {
    /// What is measured, in tables.
    pub fn measure(&self) -> &'static str {
        match self {
            Self::Average { .. } => "average",
            Self::AverageRatio { .. } => "average_ratio",
            Self::WorstCase { .. } => "worst_case",
            Self::PacBayes { .. } => "pac_bayes",
            Self::Critical { .. } => "critical",
            Self::FisherRao => "fisher_rao",
            Self::RelativeFlatness => "relative_flatness",
        }
    }

    /// The perturbations, in tables: `gaussian`, the name of a [`Ball`] or a [`Direction`], or empty.
    pub fn norm(&self) -> &'static str {
        match self {
            Self::Average { .. } | Self::AverageRatio { .. } | Self::PacBayes { .. } => "gaussian",
            Self::WorstCase { ball, .. } => ball.name(),
            Self::Critical { direction } => direction.name(),
            Self::FisherRao | Self::RelativeFlatness => "",
        }
    }

    /// Units of the perturbations, where there are any.
    pub fn scaling(&self) -> Option<Scaling> {
        match self {
            Self::Average { scaling, .. }
            | Self::AverageRatio { scaling, .. }
            | Self::WorstCase { scaling, .. }
            | Self::PacBayes { scaling } => Some(*scaling),
            Self::Critical { .. } => Some(Scaling::None),
            Self::FisherRao | Self::RelativeFlatness => None,
        }
    }

    /// What the loss sees.
    pub fn logits(&self) -> Logits {
        match self {
            Self::Average { logits, .. } | Self::WorstCase { logits, .. } => *logits,
            _ => Logits::Raw,
        }
    }

    /// `ρ` or `σ`; NaN where there is none.
    pub fn radius(&self) -> f64 {
        match self {
            Self::Average { sigma, .. } | Self::AverageRatio { sigma, .. } => *sigma,
            Self::WorstCase { rho, .. } => *rho,
            Self::PacBayes { .. } | Self::Critical { .. } | Self::FisherRao | Self::RelativeFlatness => f64::NAN,
        }
    }

    /// Whether it is relative to the weights: unchanged where ReLU layers are rescaled.
    pub fn is_scaled(&self) -> bool {
        self.scaling() != Some(Scaling::None)
    }

    /// Whether less of it is flatter; `None` where it says nothing of flatness.
    pub fn less_is_flatter(&self) -> Option<bool> {
        match self {
            // A ratio to the trace tells how far the quadratic model holds.
            Self::AverageRatio { .. } => None,
            // The larger the perturbation that a network tolerates, the flatter.
            Self::PacBayes { .. } => Some(false),
            _ => Some(true),
        }
    }

    /// As the field writes it.
    pub fn label(&self) -> String {
        let words = self.scaling().map_or("", Scaling::words);
        let logits = if self.logits() == Logits::Raw { "" } else { " normalised" };
        match self {
            Self::Average { sigma, .. } => format!("average{words}{logits} (σ = {sigma})"),
            Self::AverageRatio { sigma, .. } => format!("average ratio{words} (σ = {sigma})"),
            Self::WorstCase { ball, rho, .. } => {
                let ball = if *ball == Ball::L2 { "l2" } else { "l∞" };
                format!("worst {ball}{words}{logits} (ρ = {rho})")
            }
            Self::PacBayes { .. } => format!("PAC-Bayes σ{words}"),
            Self::Critical { direction: Direction::Gradient } => "critical sharpness".into(),
            Self::Critical { direction: Direction::Adam } => "critical sharpness, Adam".into(),
            Self::FisherRao => "Fisher-Rao norm".into(),
            Self::RelativeFlatness => "relative flatness".into(),
        }
    }

    /// The measure of that name.
    pub fn named(name: &str) -> Option<Self> {
        let scaled = |text: &str| match text.strip_suffix(Logits::Normalised.suffix()) {
            Some(scaling) => Some((scaling.parse().ok()?, Logits::Normalised)),
            None => Some((text.parse().ok()?, Logits::Raw)),
        };
        let with_sigma = |text: &str| -> Option<(Scaling, Logits, f64)> {
            let (text, sigma) = text.split_once("_sigma=")?;
            let (scaling, logits) = scaled(text)?;
            Some((scaling, logits, sigma.parse().ok()?))
        };
        let found = if let Some(scaling) = name.strip_prefix("pac_bayes_sigma_") {
            Self::PacBayes { scaling: scaling.parse().ok()? }
        } else if let Some(direction) = name.strip_prefix("critical_sharpness_") {
            Self::Critical { direction: direction.parse().ok()? }
        } else if let Some(text) = name.strip_prefix("average_ratio_") {
            let (scaling, _, sigma) = with_sigma(text)?;
            Self::AverageRatio { scaling, sigma }
        } else if let Some(text) = name.strip_prefix("average_") {
            let (scaling, logits, sigma) = with_sigma(text)?;
            Self::Average { scaling, logits, sigma }
        } else if let Some(text) = name.strip_prefix("worst_") {
            let (text, rho) = text.split_once("_rho=")?;
            let (ball, text) = text.split_once('_')?;
            let (scaling, logits) = scaled(text)?;
            Self::WorstCase { ball: ball.parse().ok()?, scaling, logits, rho: rho.parse().ok()? }
        } else {
            [Self::FisherRao, Self::RelativeFlatness].into_iter().find(|known| known.to_string() == name)?
        };
        // A number in another notation would be printed under another name.
        (found.to_string() == name).then_some(found)
    }
}

impl fmt::Display for Sharpness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Average { scaling, logits, sigma } => {
                write!(f, "average_{scaling}{}_sigma={sigma}", logits.suffix())
            }
            Self::AverageRatio { scaling, sigma } => write!(f, "average_ratio_{scaling}_sigma={sigma}"),
            Self::WorstCase { ball, scaling, logits, rho } => {
                write!(f, "worst_{ball}_{scaling}{}_rho={rho}", logits.suffix())
            }
            Self::PacBayes { scaling } => write!(f, "pac_bayes_sigma_{scaling}"),
            Self::Critical { direction } => write!(f, "critical_sharpness_{direction}"),
            Self::FisherRao => f.write_str("fisher_rao_norm"),
            Self::RelativeFlatness => f.write_str("relative_flatness"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_everything_and_is_read_back() {
        let (scaling, logits) = (Scaling::Element, Logits::Normalised);
        for (measure, name, label) in [
            (
                Sharpness::Average { scaling: Scaling::None, logits: Logits::Raw, sigma: 0.01 },
                "average_none_sigma=0.01",
                "average (σ = 0.01)",
            ),
            (
                Sharpness::WorstCase { ball: Ball::Linf, scaling, logits, rho: 0.5 },
                "worst_linf_element_normalised_rho=0.5",
                "worst l∞ relative normalised (ρ = 0.5)",
            ),
            (
                Sharpness::AverageRatio { scaling: Scaling::Filter, sigma: 0.1 },
                "average_ratio_filter_sigma=0.1",
                "average ratio by filter (σ = 0.1)",
            ),
            (Sharpness::PacBayes { scaling }, "pac_bayes_sigma_element", "PAC-Bayes σ relative"),
            (
                Sharpness::Critical { direction: Direction::Gradient },
                "critical_sharpness_gradient",
                "critical sharpness",
            ),
            (Sharpness::Critical { direction: Direction::Adam }, "critical_sharpness_adam", "critical sharpness, Adam"),
            (Sharpness::FisherRao, "fisher_rao_norm", "Fisher-Rao norm"),
            (Sharpness::RelativeFlatness, "relative_flatness", "relative flatness"),
        ] {
            assert_eq!((measure.to_string().as_str(), measure.label().as_str()), (name, label));
            assert_eq!(Sharpness::named(name), Some(measure));
        }
        for name in [
            "average_none",
            "average_none_sigma=1e-3",
            "worst_l3_none_rho=1",
            "pac_bayes_sigma_",
            "critical_sharpness",
            "sharpness",
        ] {
            assert_eq!(Sharpness::named(name), None, "{name}");
        }
    }
}
