//! The temperature of Langevin noise, in both conventions.

use super::SettingError;
use super::fields::Fields;

/// How hot a sampler runs. The law of `exp(−U/β⁻¹)` with the mean loss `U` of `N` rows is that of `exp(−N U/T)` with
/// their summed loss and `T = N β⁻¹`; `T = 1` is the posterior, and below it is cold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Temperature {
    /// `β⁻¹`, in units of the mean loss.
    MeanLoss(f64),
    /// `T`, in units of the summed loss of so many rows.
    Posterior {
        /// `T`.
        t: f64,
        /// `N`, 1 until the rows are known.
        rows: usize,
    },
}

impl Temperature {
    /// `β⁻¹`.
    pub fn beta_inverse(self) -> f64 {
        match self {
            Self::MeanLoss(beta_inverse) => beta_inverse,
            Self::Posterior { t, rows } => t / rows.max(1) as f64,
        }
    }

    /// `T` of the posterior of so many rows.
    pub fn of_posterior(self, rows: usize) -> f64 {
        match self.for_rows(rows) {
            Self::MeanLoss(beta_inverse) => beta_inverse * rows as f64,
            Self::Posterior { t, .. } => t,
        }
    }

    /// The same for the posterior of so many rows.
    pub(super) fn for_rows(self, rows: usize) -> Self {
        match self {
            Self::MeanLoss(_) => self,
            Self::Posterior { t, .. } => Self::Posterior { t, rows },
        }
    }

    /// Takes `beta_inverse` or `temperature` out of `fields`.
    pub(super) fn take(fields: &mut Fields) -> Result<Self, String> {
        match (fields.take("beta_inverse")?, fields.take("temperature")?) {
            (None, None) => Ok(Self::default()),
            (Some(beta_inverse), None) => Ok(Self::MeanLoss(beta_inverse)),
            (None, Some(t)) => Ok(Self::Posterior { t, rows: 1 }),
            (Some(_), Some(_)) => {
                Err("`temperature` is T of the posterior and `beta_inverse` is T/N: give one of the two".into())
            }
        }
    }

    /// Adds it to `fields`, in the convention that it is in.
    pub(super) fn put(self, fields: Fields) -> Fields {
        match self {
            Self::MeanLoss(beta_inverse) => fields.with("beta_inverse", beta_inverse),
            Self::Posterior { t, .. } => fields.with("temperature", t),
        }
    }

    pub(super) fn check(self) -> Result<(), SettingError> {
        let (name, value) = match self {
            Self::MeanLoss(beta_inverse) => ("beta_inverse", beta_inverse),
            Self::Posterior { t, .. } => ("temperature", t),
        };
        SettingError::unless(value >= 0.0 && value.is_finite(), name, value, "0 or more")
    }
}

impl Default for Temperature {
    fn default() -> Self {
        Self::MeanLoss(1e-8)
    }
}

#[cfg(test)]
mod tests {
    use super::super::OptimizerConfig;
    use super::Temperature;

    #[test]
    fn each_convention_is_the_other_for_known_rows() {
        let t = Temperature::Posterior { t: 1e-4, rows: 1 }.for_rows(50_000);
        assert_eq!((t.beta_inverse(), t.of_posterior(50_000)), (1e-4 / 50_000.0, 1e-4));
        let beta_inverse = Temperature::MeanLoss(2e-9).for_rows(50_000);
        assert_eq!((beta_inverse.beta_inverse(), beta_inverse.of_posterior(50_000)), (2e-9, 2e-9 * 50_000.0));
    }

    #[test]
    fn one_of_the_two_is_given_and_written_as_it_is() {
        for text in ["sgld:temperature=0.0001", "fsgld:temperature=0.0001,sigma=0.001", "sgld:beta_inverse=1e-9"] {
            let config: OptimizerConfig = text.parse().unwrap();
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<OptimizerConfig>(&json).unwrap(), config, "{json}");
            assert_eq!(json.contains("beta_inverse"), text.contains("beta_inverse"), "{json}");
            assert_ne!(config.for_rows(10) == config, text.contains("temperature"), "{text}");
        }
        let both = "sgld:temperature=1,beta_inverse=1".parse::<OptimizerConfig>().unwrap_err().to_string();
        assert!(both.contains("give one of the two"), "{both}");
        let error = "sgld:temperature=-1".parse::<OptimizerConfig>().unwrap().check().unwrap_err().to_string();
        assert!(error.contains("`temperature` is -1"), "{error}");
    }
}
