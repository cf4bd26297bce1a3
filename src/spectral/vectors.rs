//! Algebra on blocks of vectors `[k, n]`: every dot product is summed in f64, whatever the dtype of the vectors.
//!
//! Sums run over fixed chunks of columns and are added in chunk order, so that no result depends on the number of
//! threads. On the CPU the loops read the tensors' memory; on other devices candle does the same work in f64.

use candle_core::{DType, Device, Error as TensorError, Storage, Tensor, WithDType};
use nalgebra::DMatrix;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::vector_kernels::{Scalar, add_combination, add_dots};
use crate::Result;
use crate::random::fill_signs;

/// Columns of one parallel task; part of every result's rounding, so it never changes with the machine.
pub(super) const TASK_COLUMNS: usize = 16_384;
/// Columns that go to the device's f64 copies at once.
pub(super) const DEVICE_COLUMNS: usize = 1 << 18;

/// The distance from 1 to the next number of a dtype.
pub(crate) fn epsilon(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) }
}

/// `C B` for one block, `[r, n]`.
pub(crate) fn combine(coefficients: &DMatrix<f64>, block: &Tensor) -> Result<Tensor> {
    combination(None, coefficients, std::slice::from_ref(block))
}

/// `A Bᵀ` of two blocks, `[a, b]`.
pub(crate) fn products(a: &Tensor, b: &Tensor) -> Result<DMatrix<f64>> {
    gram(std::slice::from_ref(a), std::slice::from_ref(b))
}

/// `aᵢ · bᵢ` for each row `i` of two blocks of equal shape.
pub(crate) fn row_dots(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    (0..a.dims()[0]).map(|row| Ok(products(&a.narrow(0, row, 1)?, &b.narrow(0, row, 1)?)?[(0, 0)])).collect()
}

/// `‖bᵢ‖` of each row.
pub(crate) fn norms(block: &Tensor) -> Result<Vec<f64>> {
    Ok(row_dots(block, block)?.into_iter().map(f64::sqrt).collect())
}

/// `bᵢ · sᵢ` for each row `i`.
pub(crate) fn scale_rows(block: &Tensor, factors: &[f64]) -> Result<Tensor> {
    let rows = factors
        .iter()
        .enumerate()
        .map(|(row, &factor)| combine(&DMatrix::from_element(1, 1, factor), &block.narrow(0, row, 1)?));
    Ok(Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?)
}

/// Rows `rows` of a block, copied in that order.
pub(crate) fn select_rows(block: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let picked: Result<Vec<_>> = rows.iter().map(|&row| Ok(block.narrow(0, row, 1)?)).collect();
    Ok(Tensor::cat(&picked?, 0)?)
}

/// `[rows, dim]` of independent signs ±1, drawn row by row on the host: one row more changes no earlier one.
pub(crate) fn rademacher_block(
    shape: (usize, usize),
    dtype: DType,
    device: &Device,
    rng: &mut impl Rng,
) -> Result<Tensor> {
    let mut values = vec![0.0; shape.0 * shape.1];
    values.chunks_mut(shape.1.max(1)).for_each(|row| fill_signs(rng, row));
    from_host(values, shape, dtype, device)
}

/// `[rows, dim]` of independent standard normal numbers, drawn row by row on the host.
pub(crate) fn normal_block(shape: (usize, usize), dtype: DType, device: &Device, rng: &mut impl Rng) -> Result<Tensor> {
    let values = (0..shape.0 * shape.1).map(|_| StandardNormal.sample(rng)).collect();
    from_host(values, shape, dtype, device)
}

fn from_host(values: Vec<f64>, shape: (usize, usize), dtype: DType, device: &Device) -> Result<Tensor> {
    let block = match dtype {
        DType::F64 => Tensor::from_vec(values, shape, device)?,
        _ => {
            Tensor::from_vec(values.into_iter().map(|value| value as f32).collect(), shape, device)?.to_dtype(dtype)?
        }
    };
    Ok(block)
}

/// Dot products of all rows of `left` with all rows of `right`, `[l, r]`.
pub(super) fn gram(left: &[Tensor], right: &[Tensor]) -> Result<DMatrix<f64>> {
    if left.is_empty() && right.is_empty() {
        return Ok(DMatrix::zeros(0, 0));
    }
    Ok(sum_of(partial_grams(left, right)?, rows_of(left), rows_of(right)))
}

fn rows_of(blocks: &[Tensor]) -> usize {
    blocks.iter().map(|block| block.dims()[0]).sum()
}

/// Their sums over each task's columns, in order, as [`sum_of`] takes them.
pub(super) fn partial_grams(left: &[Tensor], right: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    match (right.first().or(left.first()), common_dtype(left, right)) {
        (None, _) => Ok(Vec::new()),
        (Some(block), Some(DType::F32)) if block.device().is_cpu() => grams_cpu::<f32>(left, right),
        (Some(block), Some(DType::F64)) if block.device().is_cpu() => grams_cpu::<f64>(left, right),
        _ => Ok(vec![gram_device(left, right)?.as_slice().to_vec()]),
    }
}

/// The sum of partial sums in their order, as `[left, right]`.
pub(super) fn sum_of(partial: Vec<Vec<f64>>, left: usize, right: usize) -> DMatrix<f64> {
    let mut total = vec![0.0; left * right];
    for sums in &partial {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    // `sums[r · l + i]` is right row r with left row i: column-major.
    DMatrix::from_vec(left, right, total)
}

/// `base + coefficients · rows`, rounded once per entry.
pub(super) fn combination(base: Option<&Tensor>, coefficients: &DMatrix<f64>, rows: &[Tensor]) -> Result<Tensor> {
    match (&rows[0], common_dtype(rows, base.map_or(&[], std::slice::from_ref))) {
        (block, Some(DType::F32)) if block.device().is_cpu() => combination_cpu::<f32>(base, coefficients, rows),
        (block, Some(DType::F64)) if block.device().is_cpu() => combination_cpu::<f64>(base, coefficients, rows),
        _ => combination_device(base, coefficients, rows),
    }
}

fn common_dtype(left: &[Tensor], right: &[Tensor]) -> Option<DType> {
    let mut dtypes = left.iter().chain(right).map(Tensor::dtype);
    let first = dtypes.next()?;
    dtypes.all(|dtype| dtype == first).then_some(first)
}

/// Calls `work` with the rows of all `blocks` as slices of host memory.
fn with_rows<T: Scalar + WithDType, R>(blocks: &[Tensor], work: impl FnOnce(&[&[T]]) -> R) -> Result<R> {
    let blocks = blocks.iter().map(Tensor::contiguous).collect::<candle_core::Result<Vec<_>>>()?;
    let guards: Vec<_> = blocks.iter().map(Tensor::storage_and_layout).collect();
    let mut rows = Vec::new();
    for (storage, layout) in &guards {
        let (Storage::Cpu(memory), Some((start, end))) = (&**storage, layout.contiguous_offsets()) else {
            return Err(TensorError::RequiresContiguous { op: "block algebra" }.into());
        };
        rows.extend(memory.as_slice::<T>()?[start..end].chunks_exact(layout.dims()[1]));
    }
    Ok(work(&rows))
}

fn grams_cpu<T: Scalar + WithDType>(left: &[Tensor], right: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    with_rows::<T, _>(left, |left| {
        with_rows::<T, _>(right, |right| {
            let columns = left.first().map_or(0, |row| row.len());
            (0..columns.div_ceil(TASK_COLUMNS))
                .into_par_iter()
                .map(|task| {
                    let range = task * TASK_COLUMNS..((task + 1) * TASK_COLUMNS).min(columns);
                    // The longer list outside: each of its rows is then read from memory once.
                    let mut sums = vec![0.0; left.len() * right.len()];
                    add_dots(right, left, range, &mut sums);
                    sums
                })
                .collect()
        })
    })?
}

fn combination_cpu<T: Scalar + WithDType>(
    base: Option<&Tensor>,
    coefficients: &DMatrix<f64>,
    rows: &[Tensor],
) -> Result<Tensor> {
    let device = rows[0].device().clone();
    let columns = rows[0].dims()[1];
    let mut values = vec![T::from_f64(0.0); coefficients.nrows() * columns];
    with_rows::<T, _>(rows, |rows| {
        with_rows::<T, _>(base.map_or(&[], std::slice::from_ref), |base| {
            let mut tasks: Vec<Vec<&mut [T]>> = (0..columns.div_ceil(TASK_COLUMNS)).map(|_| Vec::new()).collect();
            for row in values.chunks_mut(columns) {
                row.chunks_mut(TASK_COLUMNS).enumerate().for_each(|(task, piece)| tasks[task].push(piece));
            }
            tasks.par_iter_mut().enumerate().for_each(|(task, out)| {
                add_combination(base, coefficients, rows, task * TASK_COLUMNS, out);
            });
        })
    })??;
    Ok(Tensor::from_vec(values, (coefficients.nrows(), columns), &device)?)
}

/// The same Gram matrix by candle operations, a slice of columns at a time; needs f64 on the device.
fn gram_device(left: &[Tensor], right: &[Tensor]) -> Result<DMatrix<f64>> {
    let mut total = DMatrix::zeros(rows_of(left), rows_of(right));
    let columns = left.first().map_or(0, |block| block.dims()[1]);
    for start in (0..columns).step_by(DEVICE_COLUMNS) {
        let length = DEVICE_COLUMNS.min(columns - start);
        let mut first_row = 0;
        for a in left {
            let a = widened(a, start, length)?;
            let mut first_column = 0;
            for b in right {
                let part = a.matmul(&widened(b, start, length)?.t()?)?.to_vec2::<f64>()?;
                for (i, row) in part.iter().enumerate() {
                    row.iter().enumerate().for_each(|(j, sum)| total[(first_row + i, first_column + j)] += sum);
                }
                first_column += b.dims()[0];
            }
            first_row += a.dims()[0];
        }
    }
    Ok(total)
}

/// The same linear combination by candle operations.
fn combination_device(base: Option<&Tensor>, coefficients: &DMatrix<f64>, rows: &[Tensor]) -> Result<Tensor> {
    let (device, dtype, columns) = (rows[0].device(), rows[0].dtype(), rows[0].dims()[1]);
    let row_major = coefficients.transpose().as_slice().to_vec();
    let coefficients = Tensor::from_vec(row_major, coefficients.shape(), device)?;
    let mut pieces = Vec::new();
    for start in (0..columns).step_by(DEVICE_COLUMNS) {
        let length = DEVICE_COLUMNS.min(columns - start);
        let mut sum = base.map(|base| widened(base, start, length)).transpose()?;
        let mut first = 0;
        for block in rows {
            let part = coefficients.narrow(1, first, block.dims()[0])?.contiguous()?;
            let term = part.matmul(&widened(block, start, length)?)?;
            sum = Some(match sum {
                Some(sum) => (sum + term)?,
                None => term,
            });
            first += block.dims()[0];
        }
        pieces.extend(sum.map(|sum| sum.to_dtype(dtype)).transpose()?);
    }
    Ok(Tensor::cat(&pieces, 1)?)
}

fn widened(block: &Tensor, start: usize, length: usize) -> candle_core::Result<Tensor> {
    block.narrow(1, start, length)?.to_dtype(DType::F64)?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::super::basis::Basis;
    use super::*;
    use crate::random::{Purpose, stream};

    /// Enough columns for two tasks and a ragged end.
    const COLUMNS: usize = TASK_COLUMNS + 1_237;

    fn blocks(dtype: DType) -> (Basis, Tensor) {
        let mut rng = stream(1, Purpose::Check);
        let mut draw = |rows| normal_block((rows, COLUMNS), dtype, &Device::Cpu, &mut rng).unwrap();
        let mut basis = Basis::default();
        [3, 1, 5].into_iter().for_each(|rows| basis.push(draw(rows)).unwrap());
        (basis, draw(2))
    }

    fn gathered(basis: &Basis) -> Vec<Tensor> {
        basis.gathered().collect::<Result<_>>().unwrap()
    }

    fn rows(block: &Tensor) -> Vec<Vec<f64>> {
        block.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn gram_matches_plain_loops_and_the_device_path() {
        for dtype in [DType::F32, DType::F64] {
            let (basis, block) = blocks(dtype);
            let fast = basis.coefficients(&block).unwrap();
            let device = gram_device(std::slice::from_ref(&block), &gathered(&basis)).unwrap();
            let vectors: Vec<_> = gathered(&basis).iter().flat_map(rows).collect();
            // f64 sums of n products of size about 1: n·eps bounds the error.
            let tolerance = COLUMNS as f64 * f64::EPSILON * 10.0;
            for (i, row) in rows(&block).iter().enumerate() {
                for (j, vector) in vectors.iter().enumerate() {
                    let exact: f64 = row.iter().zip(vector).map(|(a, b)| a * b).sum();
                    assert!((fast[(i, j)] - exact).abs() < tolerance);
                    assert!((device[(i, j)] - exact).abs() < tolerance);
                }
            }
        }
    }

    #[test]
    fn combinations_round_once_and_agree_with_the_device_path() {
        for (dtype, epsilon) in [(DType::F32, f64::from(f32::EPSILON)), (DType::F64, f64::EPSILON)] {
            let (basis, block) = blocks(dtype);
            let coefficients = DMatrix::from_fn(2, basis.rows(), |i, j| (i as f64 + 1.0) / (j as f64 - 3.5));
            let fast = rows(&basis.subtract(&block, &coefficients).unwrap());
            let device = rows(&combination_device(Some(&block), &(-&coefficients), &gathered(&basis)).unwrap());
            let vectors: Vec<_> = gathered(&basis).iter().flat_map(rows).collect();
            for (i, row) in rows(&block).iter().enumerate() {
                for column in 0..COLUMNS {
                    let terms: Vec<f64> =
                        (0..basis.rows()).map(|j| coefficients[(i, j)] * vectors[j][column]).collect();
                    let exact = row[column] - terms.iter().sum::<f64>();
                    let size = row[column].abs() + terms.iter().map(|term| term.abs()).sum::<f64>();
                    // One rounding to the dtype, and ten in f64.
                    let tolerance = epsilon * exact.abs() + 20.0 * f64::EPSILON * size;
                    assert!((fast[i][column] - exact).abs() <= tolerance);
                    assert!((device[i][column] - exact).abs() <= tolerance);
                }
            }
        }
    }

    #[test]
    fn equal_bits_on_one_thread_and_on_three() {
        let (basis, block) = blocks(DType::F32);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let coefficients = basis.coefficients(&block).unwrap();
                let rest = rows(&basis.subtract(&block, &coefficients).unwrap());
                (coefficients, rest)
            })
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn one_row_more_leaves_earlier_rows_alone() {
        let draw = |count| {
            let mut rng = stream(3, Purpose::Probes);
            rows(&rademacher_block((count, 70), DType::F32, &Device::Cpu, &mut rng).unwrap())
        };
        assert_eq!(draw(2), draw(3)[..2]);
        assert!(draw(3).iter().flatten().all(|value| value.abs() == 1.0));
        assert!(draw(3)[0].iter().any(|&value| value > 0.0) && draw(3)[0].iter().any(|&value| value < 0.0));
    }
}
