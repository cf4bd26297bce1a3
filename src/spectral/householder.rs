//! A symmetric matrix reduced to tridiagonal form (Householder 1958).

use nalgebra::DVector;
use rayon::prelude::*;

use super::tridiagonal::Tridiagonal;
use super::vector_kernels::update_and_dot;
use crate::kernels::norm_of;
use crate::workers::may_share;

/// `A = Q T Qᵀ`, `Q` a product of reflections `I − 2uuᵀ`.
pub(super) struct Reduced {
    /// `T`
    pub(super) tridiagonal: Tridiagonal,
    /// Reflection `k` below entry `(k, k)`: a unit vector, or zeros where nothing was to reflect.
    reflections: Vec<f64>,
}

impl Reduced {
    /// Of the symmetric matrix with these entries, which stays in its memory.
    ///
    /// Step `k` takes one pass over the columns that are left: each gets the change that step `k − 1` asked for, and then
    /// its product with the new reflection. Columns are shared among the threads, and no sum depends on how. Cost: `2 n³`
    /// multiplications.
    pub(super) fn of(mut entries: Vec<f64>, dim: usize) -> Self {
        let (mut diagonal, mut beside) = (Vec::with_capacity(dim), Vec::with_capacity(dim));
        // Still to be subtracted from the rest: `u wᵀ + w uᵀ`.
        let (mut u, mut w) = (vec![0.0; dim], vec![0.0; dim]);
        for k in 0..dim {
            let (done, rest) = entries.split_at_mut((k + 1) * dim);
            let column = &mut done[k * dim + k..];
            update_and_dot(column, [&u[k..], &w[k..]], [w[k], u[k]], &u[k..]);
            let (first, below) = column.split_at_mut(1);
            diagonal.push(first[0]);
            if below.is_empty() {
                break;
            }
            beside.push(reflect(below));
            let (next, after) = (&*below, k + 1);
            let pass = |(index, column): (usize, &mut [f64])| {
                let coefficients = [w[after + index], u[after + index]];
                update_and_dot(&mut column[after..], [&u[after..], &w[after..]], coefficients, next)
            };
            let products: Vec<f64> = if may_share() {
                rest.par_chunks_mut(dim).with_min_len(16).enumerate().map(pass).collect()
            } else {
                rest.chunks_mut(dim).enumerate().map(pass).collect()
            };
            let along: f64 = products.iter().zip(next).map(|(product, entry)| product * entry).sum();
            for (i, (product, entry)) in products.iter().zip(next).enumerate() {
                (u[after + i], w[after + i]) = (*entry, 2.0 * (product - along * entry));
            }
        }
        Self { tridiagonal: Tridiagonal::new(diagonal, beside), reflections: entries }
    }

    /// `Q x`
    pub(super) fn turn(&self, mut x: DVector<f64>) -> DVector<f64> {
        (0..x.len().saturating_sub(1)).rev().for_each(|k| self.mirror(k, &mut x));
        x
    }

    /// `Qᵀ x`
    pub(super) fn turn_back(&self, mut x: DVector<f64>) -> DVector<f64> {
        (0..x.len().saturating_sub(1)).for_each(|k| self.mirror(k, &mut x));
        x
    }

    fn mirror(&self, k: usize, x: &mut DVector<f64>) {
        let dim = x.len();
        let (reflection, rest) = (&self.reflections[k * dim + k + 1..(k + 1) * dim], &mut x.as_mut_slice()[k + 1..]);
        let along: f64 = reflection.iter().zip(&*rest).map(|(u, entry)| u * entry).sum();
        rest.iter_mut().zip(reflection).for_each(|(entry, u)| *entry -= 2.0 * along * u);
    }
}

/// Makes of a column the unit vector `u` whose reflection leaves of it only the first entry, which it gives.
fn reflect(column: &mut [f64]) -> f64 {
    // Scaled, so that no square over- or underflows.
    let largest = column.iter().fold(0.0, |largest: f64, entry| largest.max(entry.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    column.iter_mut().for_each(|entry| *entry /= largest);
    // Of the two signs the one that cancels nothing.
    let left = -norm_of(column).copysign(column[0]);
    column[0] -= left;
    let length = norm_of(column);
    column.iter_mut().for_each(|entry| *entry /= length);
    left * largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use crate::spectral::testing::{clustered_spectrum, with_spectrum};
    use candle_core::DType;
    use nalgebra::DMatrix;

    /// `A (Q x) = Q (T x)` and `‖Q x‖ = ‖x‖`, with `T x` by way of its eigenvectors.
    fn check(matrix: &DMatrix<f64>) {
        let dim = matrix.nrows();
        let reduced = Reduced::of(matrix.as_slice().to_vec(), dim);
        let values = reduced.tridiagonal.eigenvalues();
        let rounding = 16.0 * dim as f64 * f64::EPSILON * matrix.norm();
        assert!((values.iter().sum::<f64>() - matrix.trace()).abs() <= rounding);
        for (value, x) in values.iter().zip(reduced.tridiagonal.eigenvectors(&values, &mut stream(1, Purpose::Check))) {
            let vector = reduced.turn(x);
            assert!((vector.norm() - 1.0).abs() <= 16.0 * dim as f64 * f64::EPSILON);
            assert!((matrix * &vector - &vector * *value).norm() <= rounding, "{dim}: {value}");
            let back = reduced.turn_back(vector.clone());
            assert!((reduced.turn(back) - vector).norm() <= 16.0 * dim as f64 * f64::EPSILON);
        }
    }

    #[test]
    fn the_reduced_matrix_has_the_same_pairs() {
        for (dim, seed) in [(1, 1), (2, 2), (3, 3), (70, 4)] {
            check(
                with_spectrum(&(0..dim).map(|i| f64::from(i * i) - 3.0).collect::<Vec<_>>(), DType::F64, seed).matrix(),
            );
        }
        check(with_spectrum(&clustered_spectrum(60), DType::F64, 5).matrix());
        check(&DMatrix::zeros(5, 5));
        // Already tridiagonal, and with rows that nothing touches.
        check(&DMatrix::from_fn(9, 9, |i, j| if i == j { i as f64 } else { f64::from(u8::from(i + j == 5)) }));
        check(&(DMatrix::from_fn(6, 6, |i, j| 1.0 + (i * j) as f64) * 1e-100));
    }
}
