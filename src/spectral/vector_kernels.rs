//! The inner loops of algebra on host memory: many dot products, linear combinations of rows, and what a step of
//! Householder's reduction does to a column.
//!
//! Plain Rust over fixed lanes, compiled twice, for AVX2 and for the baseline; the choice is made at run time.
//! Products and sums are never fused, so both versions give equal bits.

use std::ops::Range;

use nalgebra::DMatrix;

#[cfg(target_arch = "x86_64")]
use crate::kernels::has_avx2;

/// Columns that stay in the first-level cache while all rows pass over them.
const TILE_COLUMNS: usize = 1_024;
/// Independent partial sums of one dot product.
const LANES: usize = 8;
/// Rows that share one reading of another row.
const GROUP: usize = 4;

/// A vector entry, widened to f64 for every sum.
pub(crate) trait Scalar: Copy + Send + Sync {
    /// As f64, exactly.
    fn wide(self) -> f64;
    /// Rounded from f64.
    fn rounded(value: f64) -> Self;
}

impl Scalar for f32 {
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn rounded(value: f64) -> Self {
        value as f32
    }
}

impl Scalar for f64 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn rounded(value: f64) -> Self {
        value
    }
}

/// Compiles the work of `$plain` a second time, for AVX2, and calls the one that this processor runs fastest.
macro_rules! compiled_twice {
    ($(#[$doc:meta])* fn $name:ident $(<$T:ident>)? ($($arg:ident: $of:ty),*) $(-> $out:ty)? = $avx2:ident, $plain:ident) => {
        $(#[$doc])*
        pub(crate) fn $name $(<$T: Scalar>)? ($($arg: $of),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the processor has AVX2.
                return unsafe { $avx2($($arg),*) };
            }
            $plain($($arg),*)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        fn $avx2 $(<$T: Scalar>)? ($($arg: $of),*) $(-> $out)? {
            $plain($($arg),*)
        }
    };
}

compiled_twice! {
    /// `sums[i · b + j] += aᵢ · bⱼ` over the columns of `range`.
    fn add_dots<T>(a: &[&[T]], b: &[&[T]], range: Range<usize>, sums: &mut [f64]) = add_dots_avx2, add_dots_plain
}

compiled_twice! {
    /// `outⱼ = baseⱼ + Σᵢ cⱼᵢ rowᵢ` for the columns from `first`, as many as `out` has; an empty `base` is zero.
    fn add_combination<T>(
        base: &[&[T]],
        coefficients: &DMatrix<f64>,
        rows: &[&[T]],
        first: usize,
        out: &mut [&mut [T]]
    ) = add_combination_avx2, add_combination_plain
}

compiled_twice! {
    /// `column −= c₀ a₀ + c₁ a₁`, and then `column · u`; all as long as `u`.
    fn update_and_dot(
        column: &mut [f64],
        vectors: [&[f64]; 2],
        coefficients: [f64; 2],
        u: &[f64]
    ) -> f64 = update_and_dot_avx2, update_and_dot_plain
}

#[inline(always)]
fn add_dots_plain<T: Scalar>(a: &[&[T]], b: &[&[T]], range: Range<usize>, sums: &mut [f64]) {
    for start in range.clone().step_by(TILE_COLUMNS) {
        let tile = start..(start + TILE_COLUMNS).min(range.end);
        for (row, sums) in a.iter().zip(sums.chunks_mut(b.len())) {
            let row = &row[tile.clone()];
            let mut groups = b.chunks_exact(GROUP).zip(sums.chunks_exact_mut(GROUP));
            for (group, sums) in &mut groups {
                let group: [&[T]; GROUP] = std::array::from_fn(|j| &group[j][tile.clone()]);
                dots(row, group).iter().zip(sums).for_each(|(dot, sum)| *sum += dot);
            }
            let done = b.len() / GROUP * GROUP;
            for (other, sum) in b[done..].iter().zip(&mut sums[done..]) {
                *sum += dots(row, [&other[tile.clone()]])[0];
            }
        }
    }
}

#[inline(always)]
fn dots<T: Scalar, const G: usize>(row: &[T], others: [&[T]; G]) -> [f64; G] {
    let length = row.len();
    let others = others.map(|other| &other[..length]);
    let mut lanes = [[0.0; LANES]; G];
    let whole = length / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let wide: [f64; LANES] = std::array::from_fn(|lane| row[start + lane].wide());
        for (other, lanes) in others.iter().zip(&mut lanes) {
            for lane in 0..LANES {
                lanes[lane] += wide[lane] * other[start + lane].wide();
            }
        }
    }
    std::array::from_fn(|j| {
        let rest: f64 = (whole..length).map(|i| row[i].wide() * others[j][i].wide()).sum();
        lanes[j].iter().sum::<f64>() + rest
    })
}

#[inline(always)]
fn add_combination_plain<T: Scalar>(
    base: &[&[T]],
    coefficients: &DMatrix<f64>,
    rows: &[&[T]],
    first: usize,
    out: &mut [&mut [T]],
) {
    let columns = out.first().map_or(0, |row| row.len());
    let mut sums = vec![0.0; out.len() * TILE_COLUMNS];
    for start in (0..columns).step_by(TILE_COLUMNS) {
        let length = TILE_COLUMNS.min(columns - start);
        let tile = first + start..first + start + length;
        for (j, sums) in sums.chunks_mut(TILE_COLUMNS).enumerate() {
            match base.get(j) {
                Some(base) => sums.iter_mut().zip(&base[tile.clone()]).for_each(|(sum, entry)| *sum = entry.wide()),
                None => sums.fill(0.0),
            }
        }
        let done = rows.len() / GROUP * GROUP;
        for i in (0..done).step_by(GROUP) {
            let group: [&[T]; GROUP] = std::array::from_fn(|g| &rows[i + g][tile.clone()]);
            for (j, sums) in sums.chunks_mut(TILE_COLUMNS).enumerate() {
                accumulate(&mut sums[..length], group, std::array::from_fn(|g| coefficients[(j, i + g)]));
            }
        }
        for i in done..rows.len() {
            for (j, sums) in sums.chunks_mut(TILE_COLUMNS).enumerate() {
                accumulate(&mut sums[..length], [&rows[i][tile.clone()]], [coefficients[(j, i)]]);
            }
        }
        for (row, sums) in out.iter_mut().zip(sums.chunks(TILE_COLUMNS)) {
            row[start..start + length].iter_mut().zip(sums).for_each(|(entry, &sum)| *entry = T::rounded(sum));
        }
    }
}

/// `sums += Σ_g c_g row_g`.
#[inline(always)]
fn accumulate<T: Scalar, const G: usize>(sums: &mut [f64], rows: [&[T]; G], coefficients: [f64; G]) {
    let length = sums.len();
    let rows = rows.map(|row| &row[..length]);
    for i in 0..length {
        let mut sum = sums[i];
        for g in 0..G {
            sum += coefficients[g] * rows[g][i].wide();
        }
        sums[i] = sum;
    }
}

#[inline(always)]
fn update_and_dot_plain(column: &mut [f64], vectors: [&[f64]; 2], coefficients: [f64; 2], u: &[f64]) -> f64 {
    let length = u.len();
    let (column, [a, b], [along_a, along_b]) =
        (&mut column[..length], vectors.map(|vector| &vector[..length]), coefficients);
    let mut lanes = [0.0; LANES];
    let whole = length / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            let i = start + lane;
            column[i] -= along_a * a[i] + along_b * b[i];
            *sum += column[i] * u[i];
        }
    }
    let mut sum: f64 = lanes.iter().sum();
    for i in whole..length {
        column[i] -= along_a * a[i] + along_b * b[i];
        sum += column[i] * u[i];
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_compilations_give_equal_bits() {
        let data: Vec<Vec<f32>> =
            (0..7).map(|row| (0..2_500).map(|i| ((i * 37 + row * 11) % 101) as f32 / 17.0 - 2.9).collect()).collect();
        let rows: Vec<&[f32]> = data.iter().map(Vec::as_slice).collect();
        let (mut fast, mut plain) = (vec![0.0; 42], vec![0.0; 42]);
        add_dots(&rows, &rows[..6], 3..2_497, &mut fast);
        add_dots_plain(&rows, &rows[..6], 3..2_497, &mut plain);
        assert_eq!(fast, plain);

        let coefficients = DMatrix::from_fn(2, 7, |i, j| 0.3 * i as f64 - 0.7 * j as f64);
        let combined = |work: &dyn Fn(&mut [&mut [f32]])| {
            let mut out = vec![vec![0.0_f32; 2_490]; 2];
            let mut slices: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
            work(&mut slices);
            out
        };
        let fast = combined(&|out| add_combination(&rows[..2], &coefficients, &rows, 5, out));
        let plain = combined(&|out| add_combination_plain(&rows[..2], &coefficients, &rows, 5, out));
        assert_eq!(fast, plain);

        let wide: Vec<Vec<f64>> = data.iter().map(|row| row[..1_003].iter().map(|x| f64::from(*x)).collect()).collect();
        let (mut fast, mut plain) = (wide[0].clone(), wide[0].clone());
        let (vectors, coefficients) = ([&wide[1][..], &wide[2][..]], [0.3, -1.7]);
        let dots = [
            update_and_dot(&mut fast, vectors, coefficients, &wide[3]),
            update_and_dot_plain(&mut plain, vectors, coefficients, &wide[3]),
        ];
        assert!(fast == plain && dots[0] == dots[1]);
    }
}
