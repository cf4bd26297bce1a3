//! Convolutions along three axes, as sums of convolutions along two, one for each entry of a filter along the first.

use serde::{Deserialize, Serialize};

use super::convolution::{self, Conv2d, ConvTranspose2d};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::Linear;
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Results, Start};

/// Cross-correlation of volumes `[N, C, D, H, W]` with filters `[out, C/groups, d, h, w]`, or its adjoint with filters
/// `[C, out/groups, d, h, w]`, and a bias per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv3d {
    /// Whether it is the adjoint.
    pub transposed: bool,
    /// Steps along depth, height and width.
    pub stride: [usize; 3],
    /// Zeros around; for the adjoint what is left out around the result.
    pub padding: [usize; 3],
    /// Entries more at the end of the adjoint's result.
    pub output_padding: [usize; 3],
    /// Steps between the entries of a filter.
    pub dilation: [usize; 3],
    /// Parts into which the channels are cut.
    pub groups: usize,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "conv3d" => conv3d(call, false),
        "conv_transpose3d" => conv3d(call, true),
        "convolution" if call.length("stride") > 2 => {
            convolution::is_transposed(call).and_then(|transposed| conv3d(call, transposed))
        }
        _ => return None,
    })
}

/// Along three axes.
fn conv3d(call: &mut Call<'_>, transposed: bool) -> Results {
    let (operands, dilation) = convolution::operands_of(call)?;
    let (stride, padding) = (call.counts("stride", Some(1))?, call.counts("padding", Some(0))?);
    let (output_padding, groups) = (call.counts("output_padding", Some(0))?, call.count("groups", Some(1))?);
    call.gives(Conv3d { transposed, stride, padding, output_padding, dilation, groups }, operands)
}

/// What a convolution along height and width is of, and along which depth it goes.
struct Depth {
    /// Shape of the operand and of the result for one entry of depth.
    plane: Vec<usize>,
    /// Entries of the convolution's input with its padding, and of its output.
    padded: usize,
    windows: usize,
    /// Entries of the result.
    len: usize,
}

impl Conv3d {
    /// What happens along height and width.
    fn planes(&self) -> Conv2d {
        let [stride, padding, dilation] = [self.stride, self.padding, self.dilation].map(|[_, h, w]| [h, w]);
        Conv2d { stride, padding, dilation, groups: self.groups }
    }

    fn transposed_planes(&self) -> ConvTranspose2d {
        let (Conv2d { stride, padding, dilation, groups }, [_, h, w]) = (self.planes(), self.output_padding);
        ConvTranspose2d { stride, padding, output_padding: [h, w], dilation, groups }
    }

    fn depth(&self, x: &[usize], weight: &[usize]) -> Result<Depth, String> {
        let (&[n, c, depth, height, width], &[out, per_group, taps, rows, columns]) = (x, weight) else {
            return Err(format!(
                "expects [N, C, D, H, W] and a weight of five axes, but they are {x:?} and {weight:?}"
            ));
        };
        let (planes, filters) = (Fact::float(&[n, c, height, width]), Fact::float(&[out, per_group, rows, columns]));
        let operands = [Some(&planes), Some(&filters), None];
        let plane = match self.transposed {
            true => self.transposed_planes().result(&operands, 1)?.shape,
            false => self.planes().result(&operands, 1)?.shape,
        };
        let ([stride, ..], [padding, ..], [dilation, ..]) = (self.stride, self.padding, self.dilation);
        if taps == 0 || stride == 0 || dilation == 0 || depth == 0 {
            return Err("kernel, stride, dilation and input must be at least 1".into());
        }
        let reach = dilation.saturating_mul(taps - 1).saturating_add(1);
        let (padded, windows) = if self.transposed {
            ((depth - 1).saturating_mul(stride).saturating_add(reach).saturating_add(self.output_padding[0]), depth)
        } else {
            let padded = depth.saturating_add(padding.saturating_mul(2));
            let left = padded.checked_sub(reach).ok_or_else(|| format!("a window of {reach} does not fit {depth}"))?;
            (padded, left / stride + 1)
        };
        let len = if self.transposed { padded.checked_sub(padding.saturating_mul(2)) } else { Some(windows) };
        let len = len.filter(|&len| len > 0).ok_or("nothing is left")?;
        Ok(Depth { plane, padded, windows, len })
    }
}

impl Operation for Conv3d {
    columns! {
        operands: &["input", "weight", "bias"],
        affinity: Affinity { products: &[(0, 1)], smooth: &[] },
    }

    fn name(&self) -> &'static str {
        if self.transposed { "conv_transpose3d" } else { "conv3d" }
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let depth = self.depth(&fact(operands, 0)?.shape, &fact(operands, 1)?.shape)?;
        let &[n, channels, height, width] = depth.plane.as_slice() else { return Err("no planes are left".into()) };
        Ok(Fact::float(&[n, channels, depth.len, height, width]))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let window: usize = operands[1].map_or(0, |weight| weight.shape[1..].iter().product());
        let moved = if self.transposed { operands[0].map_or(0, Fact::len) } else { result.len() };
        let copies = operands[0].map_or(0, Fact::len);
        Cost::with_activations(moved.saturating_mul(window), &[result.len(), result.len(), copies])
    }

    fn start(&self, _place: usize, shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        Start::fan_in(shapes.get(1).copied().flatten().map_or(1, |weight| weight.iter().skip(1).product()))
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::per_row(operands)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.var(operands, 1)?, run.optional(operands, 2)?);
        let depth = self.depth(x.dims()?, weight.dims()?).map_err(|reason| run.misfit(reason))?;
        let y = run.planes(self, &depth, &x, &weight)?;
        let Some(bias) = bias else { return Ok(Slot::Float(y)) };
        let channels = bias.dims()?[0];
        let bias = run.reshape(&bias, &[1, channels, 1, 1, 1])?;
        Ok(Slot::Float(run.sum_of(&y, &bias)?))
    }
}

impl<V: Value> Run<'_, V> {
    /// The sum over the entries of a filter along depth, without the bias.
    fn planes(&mut self, conv: &Conv3d, depth: &Depth, x: &Var<V>, weight: &Var<V>) -> Result<Var<V>> {
        let (&[n, channels, height, width], &[out, per_group, taps, rows, columns]) =
            (&[x.dims()?[0], x.dims()?[1], x.dims()?[3], x.dims()?[4]], weight.dims()?)
        else {
            return Err(self.misfit("too few axes"));
        };
        let ([stride, ..], [padding, ..], [dilation, ..]) = (conv.stride, conv.padding, conv.dilation);
        // Depth in front, so that its entries are further rows.
        let mut x = self.permuted(x, vec![2, 0, 1, 3, 4])?;
        let plane: usize = [n, channels, height, width].iter().product();
        if !conv.transposed {
            let (len, rank) = (x.dims()?[0], 5);
            x = self.tape.linear(Linear::Pad { axis: 0, start: padding, len, size: depth.padded, rank }, &x)?;
        }
        let mut sum: Option<Var<V>> = None;
        let span = (depth.windows - 1) * stride + 1;
        let made: usize = depth.plane.iter().product();
        for tap in 0..taps {
            let filter = self.entries_of(weight, 2, tap..tap + 1)?;
            let filter = Slot::Float(self.reshape(&filter, &[out, per_group, rows, columns])?);
            let mut seen = x.clone();
            if !conv.transposed {
                seen = self.entries_of(&seen, 0, tap * dilation..tap * dilation + span)?;
                seen = self.reshape(&seen, &[1, span, plane])?;
                seen = self.tape.linear(Linear::Subsample { input: [span, plane], step: [stride, 1] }, &seen)?;
            }
            let seen = Slot::Float(self.reshape(&seen, &[depth.windows * n, channels, height, width])?);
            let operands = [seen, filter, Slot::None];
            let y = if conv.transposed {
                conv.transposed_planes().forward(self, &operands)?
            } else {
                conv.planes().forward(self, &operands)?
            };
            let mut y = self.var(&[y], 0)?;
            if conv.transposed {
                y = self.reshape(&y, &[1, depth.windows, made])?;
                y = self.tape.linear(Linear::Spread { output: [span, made], step: [stride, 1] }, &y)?;
                let pad = Linear::Pad { axis: 1, start: tap * dilation, len: span, size: depth.padded, rank: 3 };
                y = self.tape.linear(pad, &y)?;
            }
            sum = Some(match sum {
                None => y,
                Some(sum) => self.tape.add(&sum, &y)?,
            });
        }
        let Some(mut y) = sum else { return Err(self.misfit("a filter has no entries")) };
        if conv.transposed {
            y = self.entries_of(&y, 1, padding..padding + depth.len)?;
        }
        let y = self.reshape(&y, &[&[depth.len], depth.plane.as_slice()].concat())?;
        self.permuted(&y, vec![1, 2, 0, 3, 4])
    }
}
