//! Pooling over windows of images, without windows that reach past the end.

use serde::{Deserialize, Serialize};

use super::image;
use crate::Result;
use crate::autodiff::Value;
use crate::kernels::{self, PoolGeometry};
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Fact, Start};

/// Maximum of each window, the first one where several are equal; padding counts as minus infinity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool2d {
    /// Height and width of a window.
    pub kernel_size: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Rows and columns around, at most half of a window.
    pub padding: [usize; 2],
}

/// Mean of each window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool2d {
    /// Height and width of a window.
    pub kernel_size: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros around, at most half of a window.
    pub padding: [usize; 2],
    /// Whether the zeros count.
    pub count_include_pad: bool,
}

/// The windows on an input `[N, C, H, W]`, where they fit it.
fn windows(
    shape: &[usize],
    [kernel, stride, padding]: [[usize; 2]; 3],
    count_padding: bool,
) -> Result<PoolGeometry, String> {
    let [_, _, height, width] = image(&Fact::float(shape), None)?;
    let input = [height, width];
    for axis in 0..2 {
        if kernel[axis] == 0 || stride[axis] == 0 {
            return Err("kernel and stride must be at least 1".into());
        }
        if padding[axis] > kernel[axis] / 2 {
            return Err("padding may be at most half of the kernel".into());
        }
        if input[axis].saturating_add(2 * padding[axis]) < kernel[axis] {
            return Err(format!("a window of {} does not fit {height}x{width}", kernel[axis]));
        }
    }
    Ok(PoolGeometry { kernel, stride, padding, input, count_padding })
}

/// The answers that both give alike.
macro_rules! answers {
    ($name:literal) => {
        columns! {
            name: $name,
            operands: &["input"],
            cost: Cost::of_result,
            start: Start::Constant(0.0),
            affinity: Affinity::AFFINE,
        }

        fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
            let x = fact(operands, 0)?;
            let [height, width] = self.geometry(&x.shape)?.output();
            Ok(Fact::float(&[x.shape[0], x.shape[1], height, width]))
        }

        fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
            rows::together(operands[0], &[2, 3])
        }
    };
}

impl MaxPool2d {
    fn geometry(&self, shape: &[usize]) -> Result<PoolGeometry, String> {
        windows(shape, [self.kernel_size, self.stride, self.padding], true)
    }
}

impl Operation for MaxPool2d {
    answers!("max_pool2d");

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let geometry = self.geometry(x.dims()?).map_err(|reason| run.misfit(reason))?;
        Ok(Slot::Float(run.tape.max_pool(&geometry, &x)?))
    }
}

impl AvgPool2d {
    fn geometry(&self, shape: &[usize]) -> Result<PoolGeometry, String> {
        windows(shape, [self.kernel_size, self.stride, self.padding], self.count_include_pad)
    }
}

impl Operation for AvgPool2d {
    answers!("avg_pool2d");

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.var(operands, 0)?;
        let geometry = self.geometry(x.dims()?).map_err(|reason| run.misfit(reason))?;
        Ok(Slot::Float(run.tape.linear(kernels::Linear::AveragePool(geometry), &x)?))
    }
}
