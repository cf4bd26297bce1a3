//! Mean and spread of a few numbers.

use super::student_quantile;

/// Mean and standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Number of values.
    pub count: usize,
    /// Their mean; NaN without values.
    pub mean: f64,
    /// Their standard deviation with `n − 1`; NaN for fewer than two.
    pub std_dev: f64,
}

impl Sample {
    /// Of `values`, where NaN stands for a missing value.
    pub fn of(values: &[f64]) -> Self {
        let known: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        let count = known.len() as f64;
        let mean = known.iter().sum::<f64>() / count;
        let squares: f64 = known.iter().map(|value| (value - mean).powi(2)).sum();
        let std_dev = if known.len() > 1 { (squares / (count - 1.0)).sqrt() } else { f64::NAN };
        Self { count: known.len(), mean, std_dev }
    }

    /// The standard error of the mean.
    pub fn std_err(&self) -> f64 {
        self.std_dev / (self.count as f64).sqrt()
    }

    /// Half the width of the 95 % `t` interval of the mean: it covers the expectation in 95 % of cases if the numbers
    /// are normally distributed, and nearly so if they are not too skewed. NaN for fewer than two.
    pub fn half_width(&self) -> f64 {
        if self.count < 2 { f64::NAN } else { student_quantile(0.975, self.count as f64 - 1.0) * self.std_err() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_five() {
        let sample = Sample::of(&[1.2, 0.8, f64::NAN, 1.9, 1.1, 1.6]);
        assert!(sample.count == 5 && (sample.mean - 1.32).abs() < 1e-15);
        // scipy.stats.t.interval(0.95, 4, mean, sem)
        let (low, high) = (0.783_061_070_894_080_3, 1.856_938_929_105_919_3);
        assert!((sample.half_width() - 0.5 * (high - low)).abs() < 1e-12);
        assert!(Sample::of(&[3.0]).half_width().is_nan() && Sample::of(&[]).mean.is_nan());
    }
}
