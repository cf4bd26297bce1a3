//! The units in which a perturbation is measured.

use crate::autodiff::ParamSpace;
use crate::kernels::norm_of;

/// What a unit of perturbation is for each parameter: `ε = s ⊙ δ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// `s = 1`.
    None,
    /// `s = |θ|` (Kwon et al. 2021): unchanged where ReLU layers are rescaled.
    Element,
    /// `s` = norm of the filter that the weight belongs to (an entry of the first axis of a tensor with two axes or more);
    /// `|θ|` for biases and norms. Unchanged where ReLU layers are rescaled.
    Filter,
}

impl Scaling {
    /// All.
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Element, Self::Filter];

    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Element => "element",
            Self::Filter => "filter",
        }
    }

    /// `s`, `[n]`.
    pub fn units(self, space: &ParamSpace, theta: &[f64]) -> Vec<f64> {
        match self {
            Self::None => vec![1.0; theta.len()],
            Self::Element => theta.iter().map(|value| value.abs()).collect(),
            Self::Filter => {
                let mut units: Vec<f64> = theta.iter().map(|value| value.abs()).collect();
                for tensor in space.tensors().iter().filter(|tensor| tensor.shape.len() >= 2) {
                    let filter = (tensor.len() / tensor.shape[0].max(1)).max(1);
                    if let Some(own) = units.get_mut(tensor.offset..tensor.offset + tensor.len()) {
                        for filter in own.chunks_mut(filter) {
                            let norm = norm_of(filter);
                            filter.fill(norm);
                        }
                    }
                }
                units
            }
        }
    }
}
