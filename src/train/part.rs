//! Training a part of the parameters, the others fixed at their initial values.

use std::ops::Range;

use candle_core::Tensor;

use crate::Result;
use crate::autodiff::ParamSpace;
use crate::autodiff::ranges;
use crate::operator::{extend, restrict};
use crate::vocabulary::Scope;

/// The parameters that are trained.
pub(super) struct Part {
    /// Their places; `None` where all are trained.
    ranges: Option<Vec<Range<usize>>>,
    /// The trained tensors as a space of their own.
    pub(super) space: ParamSpace,
    /// All parameters with zeros where they are trained; `None` where all are.
    fixed: Option<Tensor>,
}

impl Part {
    /// The tensors of `space` whose names match one of `patterns`; all of them where there is no pattern.
    ///
    /// # Errors
    /// [`crate::vocabulary::ScopeError::EmptyScope`] for a pattern that matches nothing.
    pub(super) fn new(space: &ParamSpace, patterns: &[String], theta: &Tensor) -> Result<Self> {
        if patterns.is_empty() {
            return Ok(Self { ranges: None, space: space.clone(), fixed: None });
        }
        let mut chosen = Vec::new();
        for pattern in patterns {
            chosen.extend(Scope::Params(pattern.clone()).tensors(space)?);
        }
        chosen.sort_unstable();
        chosen.dedup();
        let tensors: Vec<_> = chosen.into_iter().filter_map(|index| space.tensors().get(index)).collect();
        let ranges = ranges(tensors.iter().copied());
        let own = tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone(), tensor.kind));
        let own = ParamSpace::new(own);
        let row = theta.unsqueeze(0)?;
        let trained = extend(&restrict(&row, &ranges)?, &ranges, space.dim())?;
        Ok(Self { fixed: Some((row - trained)?.squeeze(0)?), ranges: Some(ranges), space: own })
    }

    /// Which tensors of the whole `space` are not trained, by their place; empty where all are.
    pub(super) fn fixed_tensors(&self, space: &ParamSpace) -> Vec<bool> {
        if self.ranges.is_none() {
            return Vec::new();
        }
        let trained: Vec<&str> = self.space.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        space.tensors().iter().map(|tensor| !trained.contains(&tensor.name.as_str())).collect()
    }

    /// The trained entries of all parameters, or of their gradient.
    pub(super) fn of(&self, whole: &Tensor) -> Result<Tensor> {
        match &self.ranges {
            None => Ok(whole.clone()),
            Some(ranges) => Ok(restrict(&whole.unsqueeze(0)?, ranges)?.squeeze(0)?),
        }
    }

    /// All parameters, with `part` in its places.
    pub(super) fn whole(&self, part: &Tensor) -> Result<Tensor> {
        match (&self.ranges, &self.fixed) {
            (Some(ranges), Some(fixed)) => {
                let trained = extend(&part.unsqueeze(0)?, ranges, fixed.elem_count())?.squeeze(0)?;
                Ok((fixed + trained)?)
            }
            _ => Ok(part.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::ParamKind;
    use candle_core::Device;

    #[test]
    fn parts_are_taken_out_and_put_back() {
        let space = ParamSpace::new([
            ("a.weight".into(), vec![2], ParamKind::Weight),
            ("b.weight".into(), vec![3], ParamKind::Weight),
            ("head.weight".into(), vec![1], ParamKind::Weight),
        ]);
        let theta = Tensor::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0f64], &Device::Cpu).unwrap();
        let part = Part::new(&space, &["head.*".into(), "a.*".into(), "head*".into()], &theta).unwrap();
        assert_eq!((part.space.dim(), part.space.tensors()[1].name.as_str()), (3, "head.weight"));
        let own = part.of(&theta).unwrap();
        assert_eq!(own.to_vec1::<f64>().unwrap(), [1.0, 2.0, 6.0]);
        let moved = part.whole(&(own * 10.0).unwrap()).unwrap();
        assert_eq!(moved.to_vec1::<f64>().unwrap(), [10.0, 20.0, 3.0, 4.0, 5.0, 60.0]);
        let all = Part::new(&space, &[], &theta).unwrap();
        assert_eq!(
            all.whole(&all.of(&theta).unwrap()).unwrap().to_vec1::<f64>().unwrap(),
            theta.to_vec1::<f64>().unwrap()
        );
        let error = Part::new(&space, &["heads.*".into()], &theta).err().unwrap();
        assert!(error.to_string().contains("heads.*"), "{error}");
    }
}
