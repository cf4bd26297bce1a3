//! Convolution with bias, and the parameter-free shortcut.

use super::{Forward, Place};
use crate::Result;
use crate::autodiff::{Finish, Value, Var};
use crate::kernels::{Bilinear, ConvGeometry, Linear};
use crate::models::Layer;

impl<V: Value> Forward<'_, V> {
    pub(super) fn conv2d(
        &mut self,
        layer: &Layer,
        x: &Var<V>,
        finish: Finish<'_, V>,
        place: &Place<'_>,
    ) -> Result<Var<V>> {
        let Layer::Conv2d { inputs, outputs, kernel, stride, padding, dilation, groups, weight, bias } = layer else {
            return Ok(x.clone());
        };
        let [batch, _, height, width] = place.image(x.dims()?, Some(*inputs))?;
        if *inputs == 0 || *outputs == 0 {
            return Err(place.misfit("`in` and `out` must be at least 1".into()));
        }
        if *groups == 0 || inputs % groups != 0 || outputs % groups != 0 {
            return Err(place.misfit(format!("{groups} groups do not divide {inputs} and {outputs} channels")));
        }
        let input = [height, width];
        for (axis, size) in input.into_iter().enumerate() {
            let reach = dilation.0[axis] * kernel.0[axis].saturating_sub(1) + 1;
            if kernel.0[axis] == 0 || stride.0[axis] == 0 || dilation.0[axis] == 0 {
                return Err(place.misfit("kernel, stride and dilation must be at least 1".into()));
            }
            if size + 2 * padding.0[axis] < reach {
                return Err(place.misfit(format!("a window of {reach} does not fit an input of {height}x{width}")));
            }
        }
        let geometry = ConvGeometry {
            in_channels: *inputs,
            out_channels: *outputs,
            groups: *groups,
            kernel: kernel.0,
            stride: stride.0,
            padding: padding.0,
            dilation: dilation.0,
            input,
        };
        let [rows, columns] = geometry.output();
        let size = place.element_count(&[batch, *outputs, rows, columns])?;
        self.multiply_adds += size * (inputs / groups) * kernel.0[0] * kernel.0[1];
        let weight = self.param(weight)?;
        let y = self.tape.bilinear(Bilinear::Conv2d(geometry), x, &weight)?;
        match bias {
            None => Ok(y),
            Some(bias) => {
                let bias = self.param(bias)?;
                let bias = self.reshape(&bias, |dims| vec![1, dims[0], 1, 1])?;
                Ok(self.tape.affine(&y, None, &bias, finish)?)
            }
        }
    }

    pub(super) fn subsample_pad(
        &mut self,
        x: &Var<V>,
        (inputs, outputs, stride): (usize, usize, usize),
        place: &Place<'_>,
    ) -> Result<Var<V>> {
        let [batch, _, height, width] = place.image(x.dims()?, Some(inputs))?;
        if outputs < inputs || stride == 0 {
            return Err(place.misfit("`out` must be at least `in`, and stride at least 1".into()));
        }
        place.element_count(&[batch, outputs, height, width])?;
        let small = self.tape.linear(Linear::Subsample { input: [height, width], step: stride }, x)?;
        // He et al. (2016), option A, as commonly coded: half of the new channels on either side.
        let start = (outputs - inputs) / 2;
        Ok(self.tape.linear(Linear::Pad { axis: 1, start, len: inputs, size: outputs, rank: 4 }, &small)?)
    }
}
