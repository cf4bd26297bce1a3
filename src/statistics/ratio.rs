//! Ratios of sums over rows, with their standard errors.

use std::io::{self, Read, Write};

use crate::team::{Wire, put_numbers};

/// Sums of values `s_n` and weights `w_n` over rows, and their second moments about their means: the ratio
/// `L = Σ s_n / Σ w_n` with its standard error over rows. Sums of disjoint rows merge (Chan, Golub & LeVeque 1983), without
/// the cancellation of `Σ s² − (Σ s)²/N`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ratio {
    pub(crate) rows: f64,
    pub(crate) sum: f64,
    pub(crate) weight: f64,
    /// `Σ (s − s̄)²`.
    squares: f64,
    /// `Σ (s − s̄)(w − w̄)`.
    products: f64,
    /// `Σ (w − w̄)²`.
    weight_squares: f64,
}

impl Ratio {
    /// The sums of a single row.
    pub(crate) fn of(sum: f64, weight: f64) -> Self {
        Self { rows: 1.0, sum, weight, ..Self::default() }
    }

    /// The sums over the rows of both.
    pub(crate) fn merge(self, other: Self) -> Self {
        if self.rows == 0.0 || other.rows == 0.0 {
            return if self.rows == 0.0 { other } else { self };
        }
        let rows = self.rows + other.rows;
        let shared = self.rows * other.rows / rows;
        let sums = other.sum / other.rows - self.sum / self.rows;
        let weights = other.weight / other.rows - self.weight / self.rows;
        Self {
            rows,
            sum: self.sum + other.sum,
            weight: self.weight + other.weight,
            squares: self.squares + other.squares + shared * sums * sums,
            products: self.products + other.products + shared * sums * weights,
            weight_squares: self.weight_squares + other.weight_squares + shared * weights * weights,
        }
    }

    /// `L`.
    pub(crate) fn value(&self) -> f64 {
        self.sum / self.weight
    }

    /// `√(N/(N−1) · Σ (s_n − L w_n)²) / Σ w_n`, the linearised error of a ratio over `N` independent rows (Cochran 1977,
    /// section 6.4); for weights of 1, their standard deviation over `√N`. NaN for one row.
    pub(crate) fn std_err(&self) -> f64 {
        let value = self.value();
        // About the means `s̄ = L w̄`, so that nothing is left over.
        let squares = self.squares - 2.0 * value * self.products + value * value * self.weight_squares;
        (self.rows / (self.rows - 1.0) * squares.max(0.0)).sqrt() / self.weight
    }
}

impl Wire for Ratio {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        let Self { rows, sum, weight, squares, products, weight_squares } = self;
        put_numbers(&[*rows, *sum, *weight, *squares, *products, *weight_squares], to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        let mut next = || f64::get(from);
        let (rows, sum, weight) = (next()?, next()?, next()?);
        Ok(Self { rows, sum, weight, squares: next()?, products: next()?, weight_squares: next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(f64, f64)]) -> Ratio {
        rows.iter().fold(Ratio::default(), |sum, &(s, w)| sum.merge(Ratio::of(s, w)))
    }

    #[test]
    fn weights_of_one_give_mean_and_textbook_error() {
        let mean = of(&[(1.0, 1.0), (2.0, 1.0), (6.0, 1.0)]);
        // s² = (4 + 1 + 9)/2 = 7, standard error √(7/3).
        assert!((mean.value() - 3.0).abs() < 1e-15 && (mean.std_err() - (7.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert!(of(&[(1.0, 1.0)]).std_err().is_nan());
        // A common offset costs no digits: here Σ s² − (Σ s)²/N would leave none.
        let far = of(&[(1e9 + 1.0, 1.0), (1e9 + 2.0, 1.0), (1e9 + 6.0, 1.0)]);
        assert!((far.std_err() - (7.0f64 / 3.0).sqrt()).abs() < 1e-7);
    }

    #[test]
    fn unequal_weights_by_hand() {
        // L = 12/6 = 2; residuals s − 2w: −1, 2, −1; √(3/2 · 6)/6 = 1/2.
        let rows = [(1.0, 1.0), (8.0, 3.0), (3.0, 2.0)];
        for cut in 0..=3 {
            let ratio = of(&rows[..cut]).merge(of(&rows[cut..]));
            assert!((ratio.value() - 2.0).abs() < 1e-15);
            assert!((ratio.std_err() - 0.5).abs() < 4.0 * f64::EPSILON, "{}", ratio.std_err());
        }
        // Values in proportion to their weights have no error; a row that counts nothing adds nothing to the ratio.
        let exact = of(&[(2.0, 1.0), (6.0, 3.0), (0.0, 0.0)]);
        assert!(exact.value() == 2.0 && exact.std_err() < 1e-15);
    }
}
