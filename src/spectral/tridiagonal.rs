//! Symmetric tridiagonal matrices: all eigenvalues, and the eigenvectors of some.

use nalgebra::DVector;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Solves and orthogonalisations for a vector; two are enough, but for starts that miss it.
const ROUNDS: usize = 4;
/// Entries of a solution beyond this are scaled down, long before they overflow.
const LARGE: f64 = 1e150;

/// A symmetric tridiagonal matrix `T`.
pub(super) struct Tridiagonal {
    diagonal: Vec<f64>,
    /// Entry `i` stands at `(i, i + 1)` and `(i + 1, i)`.
    beside: Vec<f64>,
    /// The largest sum of magnitudes in a row: at least `‖T‖`.
    norm: f64,
}

impl Tridiagonal {
    /// Of its entries: one fewer beside the diagonal than on it.
    pub(super) fn new(diagonal: Vec<f64>, beside: Vec<f64>) -> Self {
        let off = |i: usize| beside.get(i).map_or(0.0, |entry| entry.abs());
        let sums = diagonal.iter().enumerate().map(|(i, entry)| entry.abs() + off(i) + off(i.wrapping_sub(1)));
        let norm = sums.fold(0.0, f64::max);
        Self { diagonal, beside, norm }
    }

    /// All eigenvalues, ascending, each within a few `ε‖T‖`: intervals are halved, and Sturm's sequence counts what is
    /// in them (Givens 1954). Cost: at most `50 n²` divisions, less where eigenvalues repeat.
    pub(super) fn eigenvalues(&self) -> Vec<f64> {
        let dim = self.diagonal.len();
        if self.norm == 0.0 {
            return vec![0.0; dim];
        }
        let reach = self.norm * (1.0 + 4.0 * f64::EPSILON);
        let mut values = Vec::with_capacity(dim);
        // Ends of intervals, and how many eigenvalues lie below each; the lowest interval is the last.
        let mut open = vec![((-reach, 0), (reach, dim))];
        while let Some((low, high)) = open.pop() {
            let middle = 0.5 * (low.0 + high.0);
            if high.0 - low.0 <= f64::EPSILON * self.norm {
                values.resize(high.1, middle);
            } else if low.1 < high.1 {
                let middle = (middle, self.count_below(middle).clamp(low.1, high.1));
                open.extend([(middle, high), (low, middle)]);
            }
        }
        values
    }

    /// Eigenvalues below `shift`: the negative pivots of `T − shift·I`.
    fn count_below(&self, shift: f64) -> usize {
        let least = f64::EPSILON.powi(2) * self.norm;
        let mut pivot = self.diagonal[0] - shift;
        let mut count = usize::from(pivot < 0.0);
        for (entry, beside) in self.diagonal[1..].iter().zip(&self.beside) {
            pivot = entry - shift - beside * beside / away_from_zero(pivot, least);
            count += usize::from(pivot < 0.0);
        }
        count
    }

    /// Unit eigenvectors of some eigenvalues, orthogonal to one another also where these are equal, by inverse iteration
    /// from random vectors (Wilkinson 1958).
    pub(super) fn eigenvectors(&self, values: &[f64], rng: &mut impl Rng) -> Vec<DVector<f64>> {
        let mut found: Vec<DVector<f64>> = Vec::with_capacity(values.len());
        for &value in values {
            let start = (0..self.diagonal.len()).map(|_| StandardNormal.sample(rng)).collect();
            let mut vector = DVector::from_vec(start);
            for _ in 0..ROUNDS {
                vector = DVector::from_vec(self.solve(value, vector.data.into()));
                // Twice, since what is left of a vector near the others is mostly rounding.
                for other in found.iter().chain(&found) {
                    let along = other.dot(&vector);
                    vector.axpy(-along, other, 1.0);
                }
                vector.normalize_mut();
            }
            found.push(vector);
        }
        found
    }

    /// A multiple of `(T − shift·I)⁻¹ b`, by elimination with row exchanges; pivots are kept away from zero.
    pub(super) fn solve(&self, shift: f64, mut b: Vec<f64>) -> Vec<f64> {
        let dim = b.len();
        let least = (f64::EPSILON * self.norm).max(f64::MIN_POSITIVE / f64::EPSILON);
        let off = |i: usize| self.beside.get(i).copied().unwrap_or(0.0);
        // What elimination leaves of each row: the pivot and the two entries after it.
        let mut rows: Vec<[f64; 3]> = Vec::with_capacity(dim);
        let mut row = [self.diagonal[0] - shift, off(0), 0.0];
        for i in 0..dim - 1 {
            let mut next = [off(i), self.diagonal[i + 1] - shift, off(i + 1)];
            if row[0].abs() < next[0].abs() {
                std::mem::swap(&mut row, &mut next);
                b.swap(i, i + 1);
            }
            row[0] = away_from_zero(row[0], least);
            let factor = next[0] / row[0];
            rows.push(row);
            row = [next[1] - factor * row[1], next[2] - factor * row[2], 0.0];
            b[i + 1] -= factor * b[i];
        }
        rows.push([away_from_zero(row[0], least), 0.0, 0.0]);
        for (i, [pivot, first, second]) in rows.into_iter().enumerate().rev() {
            let after = |step: usize| b.get(i + step).copied().unwrap_or(0.0);
            b[i] = (b[i] - first * after(1) - second * after(2)) / pivot;
            if b[i].abs() > LARGE {
                b.iter_mut().for_each(|entry| *entry /= LARGE);
            }
        }
        b
    }
}

/// `pivot`, or `least` with its sign where it is smaller.
fn away_from_zero(pivot: f64, least: f64) -> f64 {
    if pivot.abs() < least { least.copysign(pivot) } else { pivot }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::symmetric_eigen;
    use crate::random::{Purpose, stream};
    use nalgebra::DMatrix;

    fn dense(matrix: &Tridiagonal) -> DMatrix<f64> {
        let dim = matrix.diagonal.len();
        DMatrix::from_fn(dim, dim, |i, j| match i.abs_diff(j) {
            0 => matrix.diagonal[i],
            1 => matrix.beside[i.min(j)],
            _ => 0.0,
        })
    }

    fn check(diagonal: Vec<f64>, beside: Vec<f64>) {
        let matrix = Tridiagonal::new(diagonal, beside);
        let dim = matrix.diagonal.len();
        let dense = dense(&matrix);
        // Both methods: a few n·ε·‖T‖.
        let rounding = 8.0 * dim as f64 * f64::EPSILON * matrix.norm;
        let values = matrix.eigenvalues();
        assert!(values.is_sorted() && values.len() == dim);
        for (value, expected) in values.iter().zip(symmetric_eigen(dense.clone()).0) {
            assert!((value - expected).abs() <= rounding, "{value} {expected}");
        }
        let vectors = matrix.eigenvectors(&values, &mut stream(3, Purpose::Check));
        for (i, (value, vector)) in values.iter().zip(&vectors).enumerate() {
            assert!((&dense * vector - vector * *value).norm() <= rounding, "{i} of {dim}: {value}");
            for (j, other) in vectors.iter().enumerate() {
                let expected = f64::from(u8::from(i == j));
                assert!((vector.dot(other) - expected).abs() <= 8.0 * dim as f64 * f64::EPSILON, "{i} {j}");
            }
        }
    }

    #[test]
    fn values_and_vectors_are_those_of_a_dense_decomposition() {
        // Second differences: distinct eigenvalues 2 − 2 cos(kπ/(n + 1)).
        check(vec![2.0; 60], vec![-1.0; 59]);
        // Wilkinson's matrix: its largest eigenvalues agree in pairs to 14 digits.
        check((0..21).map(|i| f64::from(i - 10).abs()).collect(), vec![1.0; 20]);
        // Outliers, a null space and splits.
        let diagonal = (0..40).map(|i| if i % 13 == 0 { 1e3 * f64::from(i - 13) } else { 0.0 }).collect();
        check(diagonal, (0..39).map(|i| if i % 3 == 0 { 1e-3 * f64::from(i) } else { 0.0 }).collect());
        check(vec![1e-100; 5], vec![2e-100; 4]);
        check(vec![-3.0], vec![]);
    }

    #[test]
    fn equal_eigenvalues_have_orthogonal_vectors() {
        for value in [0.0, 1.0, -7.0] {
            check(vec![value; 12], vec![0.0; 11]);
        }
        // Couplings far below rounding: a long chain of tiny pivots.
        check(vec![0.0; 30].into_iter().chain([1.0]).collect(), vec![1e-18; 30]);
    }
}
