//! What is measured on rows of another origin than those that a network was made for.

names! {
    "measure";
    /// A measure of a set of other rows, each found by the entropy of its prediction.
    pub enum Outside {
        /// Probability that a row of the set has a larger entropy than one of the evaluated rows.
        Auroc = "ood_auroc",
        /// Average precision with which rows of the set are found by large entropies.
        AuprOut = "ood_aupr_out",
        /// Average precision with which the evaluated rows are found by small entropies.
        AuprIn = "ood_aupr_in",
        /// Mean entropy of the predictions on the set.
        Entropy = "ood_predictive_entropy",
        /// Mean mutual information of prediction and model on the set.
        MutualInformation = "ood_mutual_information",
    }
}

impl Outside {
    /// As the field writes it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Auroc => "AUROC, OOD",
            Self::AuprOut => "AUPR, OOD rows",
            Self::AuprIn => "AUPR, own rows",
            Self::Entropy => "predictive entropy, OOD",
            Self::MutualInformation => "mutual information, OOD",
        }
    }

    /// The measure and the set of a name such as `ood_auroc_glyphs`.
    pub(super) fn named(name: &str) -> Option<(Self, String)> {
        Self::ALL.into_iter().find_map(|measure| {
            let set = name.strip_prefix(measure.name())?.strip_prefix('_')?;
            (!set.is_empty()).then(|| (measure, set.to_owned()))
        })
    }
}
