//! Means, ratios, intervals and tests, in plain f64.

mod bootstrap;
mod chains;
mod holm;
mod ratio;
mod sample;
mod signs;
mod student;
mod tests_of_difference;

pub use bootstrap::{Interval, bootstrap_interval};
pub use chains::Mixing;
pub use holm::holm;
pub(crate) use ratio::Ratio;
pub use sample::Sample;
pub use signs::{Exact, permutation, sign_flip};
pub use student::{student_quantile, student_two_sided};
pub use tests_of_difference::{Difference, paired, unpaired};
