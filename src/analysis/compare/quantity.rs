//! What is compared, and which way is flatter.

/// What a number is about.
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
}

/// A number that members of groups have.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// Its name in tables.
    pub name: String,
    /// As the field writes it.
    pub label: String,
    /// What it is about.
    pub kind: QuantityKind,
    /// Whether less of it is flatter; `None` where it says nothing of flatness.
    pub less_is_flatter: Option<bool>,
}

/// Name, label, kind and direction of what `train` and `analyze` measure.
const KNOWN: [(&str, &str, QuantityKind, Option<bool>); 12] = [
    ("test_accuracy", "test accuracy", QuantityKind::Performance, None),
    ("test_nll", "test NLL", QuantityKind::Performance, None),
    ("train_loss", "train loss", QuantityKind::Performance, None),
    ("train_wrong_fitted", "share of wrong labels fitted", QuantityKind::Performance, None),
    ("parameter_norm", "weight norm", QuantityKind::Scale, None),
    ("lambda_max", "λ₁", QuantityKind::RawCurvature, Some(true)),
    ("trace", "trace", QuantityKind::RawCurvature, Some(true)),
    ("lambda_min", "most negative λ", QuantityKind::RawCurvature, None),
    ("lambda_ratio", "λ₁/λ₅", QuantityKind::Shape, None),
    ("negative_mass", "negative mass", QuantityKind::Shape, None),
    ("effective_dimension", "effective dimension", QuantityKind::Shape, None),
    ("ggn_share", "GGN share", QuantityKind::Shape, None),
];

/// What stands for parts of the names of measures of sharpness; the rest with spaces.
const WORDS: [(&str, &str); 6] = [
    ("pac_bayes_sigma", "PAC-Bayes σ"),
    ("fisher_rao_norm", "Fisher-Rao norm"),
    ("linf", "l∞"),
    ("_none", ""),
    ("_element", " relative"),
    ("_filter", " by filter"),
];

fn label(name: &str) -> String {
    let words = |text: &str| {
        WORDS.iter().fold(text.to_owned(), |text, (part, words)| text.replace(part, words)).replace('_', " ")
    };
    match (name.split_once("_rho="), name.split_once("_sigma=")) {
        (Some((measure, rho)), _) => format!("{} (ρ = {rho})", words(measure)),
        (None, Some((measure, sigma))) => format!("{} (σ = {sigma})", words(measure)),
        (None, None) => words(name),
    }
}

impl Quantity {
    /// The quantity of that name: one of the list above, or else a measure of sharpness with `scaling` and `logits` as its
    /// table has them.
    pub fn named(name: &str) -> Self {
        let known = KNOWN.iter().find(|(known, ..)| *known == name);
        let Some((_, label, kind, less_is_flatter)) = known else { return Self::sharpness(name) };
        Self { name: name.into(), label: (*label).into(), kind: *kind, less_is_flatter: *less_is_flatter }
    }

    fn sharpness(name: &str) -> Self {
        let scaled = ["element", "filter", "fisher_rao", "relative_flatness", "adaptive"];
        let is_scaled = scaled.iter().any(|word| name.contains(word));
        let kind = if is_scaled { QuantityKind::ScaledSharpness } else { QuantityKind::RawSharpness };
        // The larger the perturbation that a network bears, the flatter; a ratio to the trace says nothing of it.
        let less_is_flatter = if name.contains("ratio") { None } else { Some(!name.starts_with("pac_bayes_sigma")) };
        Self { name: name.into(), label: label(name), kind, less_is_flatter }
    }

    /// Whether it means the same for networks of different architecture.
    pub fn is_of_any_architecture(&self) -> bool {
        self.kind == QuantityKind::Performance
    }

    /// Where it stands in tables: known ones in their order, then others by name.
    pub fn order(&self) -> (usize, String) {
        let place = KNOWN.iter().position(|(known, ..)| *known == self.name).unwrap_or(KNOWN.len());
        (place, self.name.clone())
    }
}
