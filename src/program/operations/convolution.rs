//! Convolutions.

use serde::Serialize;

use super::image;
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{Bilinear, ConvGeometry, Linear};
use crate::program::composites::{Finish, channel_affine};
use crate::program::infer::Cost;
use crate::program::operation::{Affinity, Operation, fact};
use crate::program::rows::{self, Tracked};
use crate::program::run::{Run, Slot};
use crate::program::{Fact, Start};

/// Cross-correlation of images `[N, C, H, W]` with filters `[out, C/groups, h, w]`, and a bias per channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conv2d {
    /// Steps along height and width.
    pub stride: [usize; 2],
    /// Zeros around.
    pub padding: [usize; 2],
    /// Steps between the entries of a filter.
    pub dilation: [usize; 2],
    /// Parts into which the channels are cut.
    pub groups: usize,
}

impl Conv2d {
    fn geometry(&self, x: &[usize], weight: &[usize]) -> Result<ConvGeometry, String> {
        let &[out_channels, per_group, kernel_height, kernel_width] = weight else {
            return Err(format!("expects a weight [out, in/groups, h, w], but it is {weight:?}"));
        };
        let Self { stride, padding, dilation, groups } = *self;
        let (in_channels, kernel) = (per_group * groups, [kernel_height, kernel_width]);
        if groups == 0 || out_channels % groups != 0 {
            return Err(format!("{groups} groups do not divide {in_channels} and {out_channels} channels"));
        }
        let [_, _, height, width] = image(&Fact::float(x), Some(in_channels))?;
        if in_channels == 0 || out_channels == 0 {
            return Err("`in` and `out` must be at least 1".into());
        }
        for (axis, size) in [height, width].into_iter().enumerate() {
            if kernel[axis] == 0 || stride[axis] == 0 || dilation[axis] == 0 {
                return Err("kernel, stride and dilation must be at least 1".into());
            }
            let reach = dilation[axis].saturating_mul(kernel[axis] - 1).saturating_add(1);
            if size.saturating_add(padding[axis].saturating_mul(2)) < reach {
                return Err(format!("a window of {reach} does not fit an input of {height}x{width}"));
            }
        }
        let input = [height, width];
        Ok(ConvGeometry { in_channels, out_channels, groups, kernel, stride, padding, dilation, input })
    }

    /// Whether the windows tile the image: then it is one matrix product over patches.
    fn tiles(&self, geometry: &ConvGeometry) -> bool {
        let plain = self.groups == 1 && self.padding == [0, 0] && self.dilation == [1, 1];
        let ConvGeometry { kernel, input, .. } = geometry;
        plain && self.stride == *kernel && *kernel != [1, 1] && (0..2).all(|axis| input[axis] % kernel[axis] == 0)
    }

    /// The operation with what follows it.
    pub(super) fn forward_with<V: Value>(
        &self,
        run: &mut Run<'_, V>,
        operands: &[Slot<V>],
        finish: Finish<'_, V>,
    ) -> Result<Var<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.var(operands, 1)?, run.optional(operands, 2)?);
        let geometry = self.geometry(x.dims()?, weight.dims()?).map_err(|reason| run.misfit(reason))?;
        if self.tiles(&geometry) && finish.addend.is_none() && !finish.relu {
            let y = patches(run, &x, (&weight, bias.as_ref()), &geometry)?;
            let ([rows, columns], n) = (geometry.output(), x.dims()?[0]);
            let y = run.reshape(&y, &[n, rows, columns, geometry.out_channels])?;
            return Ok(run.tape.linear(Linear::Permute { axes: vec![0, 3, 1, 2] }, &y)?);
        }
        let y = run.tape.bilinear(Bilinear::Conv2d(geometry), &x, &weight)?;
        let Some(bias) = bias else { return Ok(y) };
        let channels = bias.dims()?[0];
        let bias = run.reshape(&bias, &[1, channels, 1, 1])?;
        Ok(channel_affine(run.tape, &y, None, &bias, finish)?)
    }
}

impl Conv2d {
    /// The result as a vector for each place, `[N, H·W, out]`.
    pub(super) fn tokens<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Var<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.var(operands, 1)?, run.optional(operands, 2)?);
        let geometry = self.geometry(x.dims()?, weight.dims()?).map_err(|reason| run.misfit(reason))?;
        if self.tiles(&geometry) {
            return patches(run, &x, (&weight, bias.as_ref()), &geometry);
        }
        let y = self.forward_with(run, operands, Finish::default())?;
        let &[n, out, rows, columns] = y.dims()? else { return Ok(y) };
        let y = run.reshape(&y, &[n, out, rows * columns])?;
        Ok(run.tape.linear(Linear::Permute { axes: vec![0, 2, 1] }, &y)?)
    }
}

/// A convolution whose stride is its kernel, as one matrix product over the patches: a vector for each, `[N, H·W, out]`.
fn patches<V: Value>(
    run: &mut Run<'_, V>,
    x: &Var<V>,
    weights: (&Var<V>, Option<&Var<V>>),
    geometry: &ConvGeometry,
) -> Result<Var<V>> {
    let (n, channels, out) = (x.dims()?[0], geometry.in_channels, geometry.out_channels);
    let ([height, width], [rows, columns]) = (geometry.kernel, geometry.output());
    let x = run.reshape(x, &[n, channels, rows, height, columns, width])?;
    let x = run.tape.linear(Linear::Permute { axes: vec![0, 2, 4, 1, 3, 5] }, &x)?;
    let y = run.rows_times_matrix(&x, channels * height * width, weights)?;
    run.reshape(&y, &[n, rows * columns, out])
}

impl Operation for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn operands(&self) -> &'static [&'static str] {
        &["input", "weight", "bias"]
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, weight) = (fact(operands, 0)?, fact(operands, 1)?);
        let geometry = self.geometry(&x.shape, &weight.shape)?;
        let [height, width] = geometry.output();
        Ok(Fact::float(&[x.shape[0], geometry.out_channels, height, width]))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let window: usize = operands[1].map_or(0, |weight| weight.shape[1..].iter().product());
        Cost::with_activations(result.len().saturating_mul(window), &[result.len()])
    }

    fn start(&self, _place: usize, shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        Start::fan_in(shapes.get(1).copied().flatten().map_or(1, |weight| weight.iter().skip(1).product()))
    }

    fn affinity(&self, _in_training: bool) -> Affinity {
        Affinity { products: &[(0, 1)], smooth: &[] }
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::per_row(operands)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        Ok(Slot::Float(self.forward_with(run, operands, Finish::default())?))
    }
}
