//! Principal directions of a training trajectory (Li et al. 2018).

use candle_core::{Device, Tensor};
use nalgebra::DMatrix;

use super::error::LandscapeError;
use super::frame::{DirectionFacts, DirectionKind, Frame, around, wide};
use crate::Result;
use crate::kernels::dot;

/// A checkpoint on the way, as the frame sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PathPoint {
    /// Its epoch; its place in the order of names where the file says none.
    pub epoch: usize,
    /// Its step; 0 where the file says none.
    pub step: usize,
    /// Its coordinates: the foot of the perpendicular.
    pub at: (f64, f64),
    /// Its distance from the plane.
    pub off_plane: f64,
    /// Its distance from the origin.
    pub distance: f64,
}

/// The plane through `origin` along the first two principal directions of `path` (Li et al. 2018): unit eigenvectors of
/// the covariance of its parameters about their mean, each with its share of the variance; `count` 1 gives the line.
///
/// By way of the `k × k` Gram matrix, so that nothing of size `n²` exists: cost `k² n` multiplications, `k n` numbers.
/// Signs: the last checkpoint of the path has no larger coordinate than the first.
///
/// # Errors
/// [`LandscapeError::NoTrajectory`] for fewer than `count + 1` checkpoints, or ones that do not differ.
pub fn principal(origin: &Tensor, path: &[Tensor], count: usize) -> Result<Frame> {
    let refuse = |reason: String| LandscapeError::NoTrajectory { count: path.len(), reason };
    if path.len() <= count {
        return Err(refuse(format!("{count} of them need {} or more", count + 1)).into());
    }
    let path: Vec<Tensor> = path.iter().map(wide).collect::<Result<_>>()?;
    let mean = (Tensor::stack(&path, 0)?.sum(0)? / path.len() as f64)?;
    let rows: Vec<Tensor> = path.iter().map(|theta| Ok((theta - &mean)?)).collect::<Result<_>>()?;
    let mut gram = DMatrix::zeros(rows.len(), rows.len());
    for (i, a) in rows.iter().enumerate() {
        for (j, b) in rows.iter().enumerate().take(i + 1) {
            (gram[(i, j)], gram[(j, i)]) = (dot(a, b)?, dot(a, b)?);
        }
    }
    let eigen = gram.symmetric_eigen();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let total: f64 = eigen.eigenvalues.iter().map(|value| value.max(0.0)).sum();
    let (mut axes, mut facts) = (Vec::new(), Vec::new());
    for &index in order.iter().take(count) {
        let variance = eigen.eigenvalues[index];
        // The Gram matrix squares the numbers: below it an eigenvalue is rounding.
        if variance <= 1e-13 * total {
            return Err(refuse(format!("they span only {} directions", axes.len())).into());
        }
        let column = eigen.eigenvectors.column(index);
        let falls = column[rows.len() - 1] <= column[0];
        let factor = if falls { 1.0 } else { -1.0 } / variance.sqrt();
        let mut axis = Tensor::zeros(mean.dims(), mean.dtype(), &Device::Cpu)?;
        for (row, weight) in rows.iter().zip(column.iter()) {
            axis = (axis + (row * (weight * factor))?)?;
        }
        axes.push(axis);
        let explained_variance = variance / total;
        facts.push(DirectionFacts { explained_variance, ..DirectionFacts::new(DirectionKind::Pca) });
    }
    let mut frame = Frame::through(origin, axes, facts)?;
    let mut held = vec![(0.0, 0.0)];
    for theta in &path {
        held.push(frame.project(theta)?.0);
    }
    frame.reach = around(&held, 0.6);
    frame.reach.truncate(count);
    Ok(frame)
}

/// Where `theta` lies in the frame.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn path_point(frame: &Frame, theta: &Tensor, epoch: usize, step: usize) -> Result<PathPoint> {
    let (at, off_plane) = frame.project(theta)?;
    let from_origin = (wide(theta)? - &frame.origin)?;
    Ok(PathPoint { epoch, step, at, off_plane, distance: dot(&from_origin, &from_origin)?.sqrt() })
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, StandardNormal};

    use super::*;
    use crate::random::{Purpose, stream};

    /// Six points in 40 dimensions with very different spreads.
    fn path() -> Vec<Vec<f64>> {
        let mut rng = stream(5, Purpose::Check);
        let scale = |i: usize| if i < 2 { 10.0 } else { 0.5 };
        let mut draw = |i: usize| scale(i) * Distribution::<f64>::sample(&StandardNormal, &mut rng);
        (0..6).map(|_| (0..40).map(&mut draw).collect()).collect()
    }

    #[test]
    fn directions_and_shares_are_those_of_a_dense_svd() {
        let path = path();
        let tensors: Vec<Tensor> = path.iter().map(|row| Tensor::new(row.as_slice(), &Device::Cpu).unwrap()).collect();
        let frame = principal(&tensors[5], &tensors, 2).unwrap();
        let matrix = DMatrix::from_fn(6, 40, |i, j| path[i][j] - path.iter().map(|row| row[j]).sum::<f64>() / 6.0);
        let svd = matrix.svd(false, true);
        let mut order: Vec<usize> = (0..6).collect();
        order.sort_by(|a, b| svd.singular_values[*b].total_cmp(&svd.singular_values[*a]));
        let total: f64 = svd.singular_values.iter().map(|s| s * s).sum();
        for (axis, place) in [0, 1].into_iter().zip(order) {
            let share = svd.singular_values[place].powi(2) / total;
            // Rounding of a sum of 240 squares.
            assert!((frame.facts[axis].explained_variance - share).abs() < 1e-13, "{share}");
            let reference = svd.v_t.as_ref().unwrap().row(place).into_owned();
            let own = frame.axes[axis].to_vec1::<f64>().unwrap();
            let cosine: f64 = own.iter().zip(reference.iter()).map(|(a, b)| a * b).sum();
            assert!((cosine.abs() - 1.0).abs() < 1e-12, "{cosine}");
            assert!((frame.facts[axis].length - 1.0).abs() < 1e-12);
        }
        assert!((frame.facts[1].angle_deg - 90.0).abs() < 1e-9, "{}", frame.facts[1].angle_deg);
    }

    #[test]
    fn distances_obey_pythagoras_and_the_origin_is_in_the_plane() {
        let tensors: Vec<Tensor> =
            path().iter().map(|row| Tensor::new(row.as_slice(), &Device::Cpu).unwrap()).collect();
        let frame = principal(&tensors[5], &tensors, 2).unwrap();
        for (epoch, theta) in tensors.iter().enumerate() {
            let point = path_point(&frame, theta, epoch, 0).unwrap();
            let (x, y) = point.at;
            assert!((x.hypot(y).hypot(point.off_plane) - point.distance).abs() < 1e-11 * (1.0 + point.distance));
            let inside = |axis: usize, value: f64| (frame.reach[axis].0..=frame.reach[axis].1).contains(&value);
            assert!(inside(0, x) && inside(1, y));
        }
        assert_eq!(path_point(&frame, &tensors[5], 5, 0).unwrap().distance, 0.0);
    }

    #[test]
    fn still_or_few_checkpoints_are_refused() {
        let theta = Tensor::new(&[1.0, 2.0, 3.0], &Device::Cpu).unwrap();
        let other = Tensor::new(&[1.0, 2.0, 4.0], &Device::Cpu).unwrap();
        let refused = |path: &[Tensor], count| principal(&theta, path, count).unwrap_err().to_string();
        assert!(refused(&[theta.clone(), other.clone()], 2).contains("need 3 or more"));
        let line = [theta.clone(), other.clone(), other.clone()];
        assert!(refused(&line, 2).contains("span only 1 directions"));
        assert_eq!(principal(&theta, &line, 1).unwrap().axes.len(), 1);
    }
}
