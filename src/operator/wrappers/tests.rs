#![allow(clippy::single_range_in_vec_init)] // lists of ranges, some of length one

use nalgebra::DMatrix;

use super::*;
use crate::operator::DenseOperator;
use crate::random::{Purpose, stream};
use rand_distr::{Distribution, StandardNormal};

const DIM: usize = 9;
const DTYPES: [DType; 2] = [DType::F64, DType::F32];

fn normal(rows: usize, columns: usize, seed: u64) -> DMatrix<f64> {
    let mut rng = stream(seed, Purpose::Check);
    DMatrix::from_fn(rows, columns, |_, _| StandardNormal.sample(&mut rng))
}

/// Two shards of 3 and 5 rows.
fn operator(seed: u64, dtype: DType) -> (DenseOperator, [DMatrix<f64>; 2]) {
    let symmetric = |seed| {
        let matrix = normal(DIM, DIM, seed);
        &matrix + matrix.transpose()
    };
    let matrices = [symmetric(seed), symmetric(seed + 100)];
    (DenseOperator::from_shards(vec![(3, matrices[0].clone()), (5, matrices[1].clone())], dtype), matrices)
}

fn tensor(rows: &DMatrix<f64>, dtype: DType) -> Tensor {
    let data: Vec<f64> = rows.transpose().iter().copied().collect();
    Tensor::from_vec(data, (rows.nrows(), rows.ncols()), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn matrix(block: &Tensor) -> DMatrix<f64> {
    let (rows, columns) = block.dims2().unwrap();
    let values: Vec<f64> = block.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    DMatrix::from_row_slice(rows, columns, &values)
}

fn epsilon(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) }
}

/// Products, symmetry and shard forms against the dense matrices `shards` of the two shards.
fn assert_is(wrapped: &dyn LinearOperator, shards: &[DMatrix<f64>; 2], dtype: DType) {
    let dim = shards[0].nrows();
    assert_eq!((wrapped.dim(), wrapped.dtype(), wrapped.block_size()), (dim, dtype, 8));
    let whole = &shards[0] * 0.375 + &shards[1] * 0.625;
    let vectors = tensor(&normal(4, dim, 77), dtype);
    let v = matrix(&vectors);
    let product = wrapped.apply(&vectors, &mut ()).unwrap();
    assert!(product.block.is_contiguous() && product.block.dtype() == dtype);
    // A few sums of `dim` terms, each within ε of products no larger than the norms.
    let tolerance = 8.0 * dim as f64 * epsilon(dtype) * (whole.norm() + shards[0].norm() + shards[1].norm());
    let error = (matrix(&product.block) - &v * &whole).abs().max();
    assert!(error <= tolerance * v.abs().max(), "product: {error:e}");
    assert_eq!(matrix(&wrapped.multiply(&vectors, &mut ()).unwrap()), matrix(&product.block));
    let identity = wrapped.apply(&tensor(&DMatrix::identity(dim, dim), dtype), &mut ()).unwrap();
    let dense = matrix(&identity.block);
    let asymmetry = (&dense - dense.transpose()).abs().max();
    assert!(asymmetry <= tolerance, "asymmetry: {asymmetry:e}");
    let forms = product.shards.unwrap();
    assert_eq!(forms.rows, [3, 5]);
    for (shard, forms) in shards.iter().zip(&forms.forms) {
        for (i, form) in forms.iter().enumerate() {
            let expected = (v.row(i) * shard * v.row(i).transpose())[(0, 0)];
            assert!((form - expected).abs() <= tolerance * v.row(i).norm_squared(), "form: {form} {expected}");
        }
    }
}

#[test]
fn restricted() {
    for dtype in DTYPES {
        let (operator, shards) = operator(4, dtype);
        for ranges in [vec![0..9], vec![0..2, 5..6], vec![3..4, 4..5, 7..9]] {
            let chosen: Vec<usize> = ranges.iter().cloned().flatten().collect();
            let wrapped = Restricted::new(&operator, ranges).unwrap();
            let expected = shards.each_ref().map(|a| a.select_rows(&chosen).select_columns(&chosen));
            assert_is(&wrapped, &expected, dtype);
            // `P Pᵀ = I`.
            let block = tensor(&normal(2, chosen.len(), 6), dtype);
            assert_eq!(matrix(&wrapped.restrict(&wrapped.extend(&block).unwrap()).unwrap()), matrix(&block));
        }
        for ranges in [vec![], vec![2..2], vec![1..3, 2..4], vec![4..5, 0..1], vec![8..10]] {
            let error = Restricted::new(&operator, ranges.clone()).err().unwrap();
            assert_eq!(error.to_string(), format!("cannot restrict an operator of dimension 9 to {ranges:?}"));
        }
        let wrapped = Restricted::new(&operator, vec![0..2]).unwrap();
        let error = wrapped.apply(&tensor(&normal(1, 9, 1), dtype), &mut ()).err().unwrap();
        assert!(error.to_string().contains("[1, 9], but the operator has dimension 2"), "{error}");
    }
}

#[test]
fn deflated() {
    for dtype in DTYPES {
        let (operator, shards) = operator(7, dtype);
        // Orthonormal to rounding of the dtype, as Ritz vectors are.
        let basis = tensor(&normal(DIM, 3, 8).qr().q().transpose(), dtype);
        let wrapped = Deflated::new(&operator, &basis).unwrap();
        let q = matrix(&basis);
        let projector = DMatrix::identity(DIM, DIM) - q.transpose() * &q;
        assert_is(&wrapped, &shards.each_ref().map(|a| &projector * a * &projector), dtype);
        // Nothing is left along Q, even of vectors that lie almost in its span.
        let vectors = tensor(&(&q * 1e3), dtype);
        let left = matrix(&wrapped.project(&vectors).unwrap()) * q.transpose();
        assert!(left.abs().max() <= 1e3 * epsilon(dtype), "{:e}", left.abs().max());
    }
    let (operator, _) = operator(7, DType::F64);
    let error = Deflated::new(&operator, &tensor(&DMatrix::from_element(1, DIM, 0.5), DType::F64)).err().unwrap();
    assert!(error.to_string().starts_with("deflation: an entry of QQᵀ is off the identity's by 1.2e0"), "{error}");
    let nan = tensor(&DMatrix::from_element(1, DIM, f64::NAN), DType::F64);
    assert!(Deflated::new(&operator, &nan).is_err());
}

#[test]
fn scaled() {
    for dtype in DTYPES {
        let (operator, shards) = operator(11, dtype);
        // Powers of two: products with them are exact.
        let diagonal: Vec<f64> = (0..DIM).map(|i| [0.25, 1.0, 4.0, 0.5][i % 4]).collect();
        let scale = Tensor::new(diagonal.as_slice(), &Device::Cpu).unwrap();
        let wrapped = Scaled::new(operator.clone(), &scale).unwrap();
        let d = DMatrix::from_diagonal(&nalgebra::DVector::from_vec(diagonal));
        assert_is(&wrapped, &shards.each_ref().map(|a| &d * a * &d), dtype);
        let error = Scaled::new(operator.clone(), &scale.narrow(0, 0, 3).unwrap()).err().unwrap();
        assert!(error.to_string().contains("[1, 3], but the operator has dimension 9"), "{error}");
        for bad in [f64::NAN, f64::INFINITY, 1e300] {
            let mut entries = vec![1.0; DIM];
            entries[4] = bad;
            let refused = Scaled::new(operator.clone(), &Tensor::new(entries.as_slice(), &Device::Cpu).unwrap());
            assert_eq!(refused.is_err(), !bad.is_finite() || dtype == DType::F32, "{bad}");
        }
    }
}
