//! Convolutions.

use serde::{Deserialize, Serialize};

use super::{Pad, Squeeze, Unsqueeze, image};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{Bilinear, ConvGeometry, Linear};
use crate::program::composites::{Finish, channel_affine};
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Op, Operand, Results, Start};

/// Cross-correlation of images `[N, C, H, W]` with filters `[out, C/groups, h, w]`, and a bias per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// The adjoint of a convolution: images `[N, in, H, W]`, filters `[in, out/groups, h, w]`, and a bias per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose2d {
    /// Steps along height and width of the result.
    pub stride: [usize; 2],
    /// Rows and columns that are left out around the result.
    pub padding: [usize; 2],
    /// Rows and columns more at the end.
    pub output_padding: [usize; 2],
    /// Steps between the entries of a filter.
    pub dilation: [usize; 2],
    /// Parts into which the channels are cut.
    pub groups: usize,
}

/// Longest side, and longest step, whose products with one another still fit 64 bits.
const LONGEST: usize = 1 << 31;

/// Elements of the images with the zeros around them, which kernels lay out in memory.
fn packed(operands: &[Option<&Fact>], padding: [usize; 2]) -> usize {
    let Some(&[n, channels, height, width]) = operands[0].map(|x| x.shape.as_slice()) else { return 0 };
    let [height, width] = [height + 2 * padding[0], width + 2 * padding[1]];
    [channels, height, width].into_iter().fold(n, usize::saturating_mul)
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "conv2d" => conv2d(call),
        "conv1d" => conv1d(call),
        "convolution" if call.length("stride") <= 2 => convolution(call),
        "conv_transpose1d" => conv_transpose::<1>(call),
        "conv_transpose2d" => conv_transpose::<2>(call),
        _ => return None,
    })
}

/// Input, weight and bias of a convolution along `N` axes, and its dilation. Padding by name: `same` keeps the sizes, with one zero more
/// behind where their number is odd.
pub(super) fn operands_of<const N: usize>(call: &mut Call<'_>) -> Result<([Operand; 3], [usize; N]), String> {
    let (mut x, weight) = (call.operand("input")?, call.operand("weight")?);
    let dilation = call.counts::<N>("dilation", Some(1))?;
    if call.is_text("padding") {
        let name = call.text("padding")?;
        let shape = call.shape(&weight)?;
        for (axis, size) in shape.iter().enumerate().skip(2).filter(|_| name.as_deref() == Some("same")) {
            let zeros = dilation[axis - 2] * usize::try_from(size.at(0) - 1).unwrap_or(0);
            if zeros > 0 {
                x = call.push(Pad { dim: axis as i64, pad: [zeros / 2, zeros - zeros / 2] }, [x]);
            }
        }
    }
    Ok(([x, weight, call.optional("bias")?], dilation))
}

fn conv2d(call: &mut Call<'_>) -> Results {
    let (operands, dilation) = operands_of(call)?;
    let (stride, padding) = (call.counts("stride", Some(1))?, call.counts("padding", Some(0))?);
    let groups = call.count("groups", Some(1))?;
    call.gives(Conv2d { stride, padding, dilation, groups }, operands)
}

/// Along as many axes as there are steps.
fn convolution(call: &mut Call<'_>) -> Results {
    match (call.length("stride"), is_transposed(call)?) {
        (1, false) => conv1d(call),
        (_, false) => conv2d(call),
        (1, true) => conv_transpose::<1>(call),
        (_, true) => conv_transpose::<2>(call),
    }
}

/// Whether a call of either kind is of the adjoint, which alone has an output padding.
pub(super) fn is_transposed(call: &mut Call<'_>) -> Result<bool, String> {
    let transposed = call.flag("transposed", false)?;
    if !transposed {
        call.ints("output_padding")?;
    }
    Ok(transposed)
}

/// Images of height 1.
fn conv1d(call: &mut Call<'_>) -> Results {
    let (operands, [dilation]) = operands_of(call)?;
    let ([stride], [padding]) = (call.counts("stride", Some(1))?, call.counts("padding", Some(0))?);
    let groups = call.count("groups", Some(1))?;
    let conv = Conv2d { stride: [1, stride], padding: [0, padding], dilation: [1, dilation], groups };
    on_lines(call, conv, operands)
}

/// An operation on images, on images of height 1.
fn on_lines(call: &mut Call<'_>, operation: impl Into<Op>, [x, weight, bias]: [Operand; 3]) -> Results {
    let [x, weight] = [x, weight].map(|x| call.push(Unsqueeze { dim: 2 }, [x]));
    let y = call.push(operation, [x, weight, bias]);
    call.gives(Squeeze { dim: vec![2] }, [y])
}

fn conv_transpose<const N: usize>(call: &mut Call<'_>) -> Results {
    let (operands, dilation) = operands_of::<N>(call)?;
    let (stride, padding) = (call.counts::<N>("stride", Some(1))?, call.counts::<N>("padding", Some(0))?);
    let (output_padding, groups) = (call.counts::<N>("output_padding", Some(0))?, call.count("groups", Some(1))?);
    // Along one axis, the height is 1.
    let pair =
        |counts: [usize; N], height: usize| if N == 1 { [height, counts[0]] } else { [counts[0], counts[N - 1]] };
    let (stride, padding) = (pair(stride, 1), pair(padding, 0));
    let (output_padding, dilation) = (pair(output_padding, 0), pair(dilation, 1));
    let conv = ConvTranspose2d { stride, padding, output_padding, dilation, groups };
    if N == 1 { on_lines(call, conv, operands) } else { call.gives(conv, operands) }
}

impl Conv2d {
    fn geometry(&self, x: &[usize], weight: &[usize]) -> Result<ConvGeometry, String> {
        let &[out_channels, per_group, kernel_height, kernel_width] = weight else {
            return Err(format!("expects a weight [out, in/groups, h, w], but it is {weight:?}"));
        };
        let Self { stride, padding, dilation, groups } = *self;
        let (in_channels, kernel) = (per_group.saturating_mul(groups), [kernel_height, kernel_width]);
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
            if [stride[axis], padding[axis], dilation[axis], kernel[axis], size].iter().any(|&size| size > LONGEST) {
                return Err("stride, padding, dilation and sizes may be at most 2^31".into());
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
            let y = patches(run, &x, &weight, bias.as_ref(), &geometry)?;
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
            return patches(run, &x, &weight, bias.as_ref(), &geometry);
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
    weight: &Var<V>,
    bias: Option<&Var<V>>,
    geometry: &ConvGeometry,
) -> Result<Var<V>> {
    let (n, channels, out) = (x.dims()?[0], geometry.in_channels, geometry.out_channels);
    let ([height, width], [rows, columns]) = (geometry.kernel, geometry.output());
    let x = run.reshape(x, &[n, channels, rows, height, columns, width])?;
    let x = run.tape.linear(Linear::Permute { axes: vec![0, 2, 4, 1, 3, 5] }, &x)?;
    let y = run.rows_times_matrix(&x, channels * height * width, weight, bias)?;
    run.reshape(&y, &[n, rows * columns, out])
}

impl Operation for Conv2d {
    columns! {
        name: "conv2d",
        operands: &["input", "weight", "bias"],
        affinity: Affinity { products: &[(0, 1)], smooth: &[] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, weight) = (fact(operands, 0)?, fact(operands, 1)?);
        let geometry = self.geometry(&x.shape, &weight.shape)?;
        let [height, width] = geometry.output();
        Ok(Fact::float(&[x.shape[0], geometry.out_channels, height, width]))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let window: usize = operands[1].map_or(0, |weight| weight.shape[1..].iter().product());
        let cost = Cost::with_activations(result.len().saturating_mul(window), &[result.len()]);
        cost.with_scratch(packed(operands, self.padding))
    }

    fn start(&self, _place: usize, shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        Start::fan_in(shapes.get(1).copied().flatten().map_or(1, |weight| weight.iter().skip(1).product()))
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::per_row(operands)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        Ok(Slot::Float(self.forward_with(run, operands, Finish::default())?))
    }
}

impl ConvTranspose2d {
    /// The convolution that this is the adjoint of.
    fn geometry(&self, x: &[usize], weight: &[usize]) -> Result<ConvGeometry, String> {
        let &[out_channels, per_group, kernel_height, kernel_width] = weight else {
            return Err(format!("expects a weight [in, out/groups, h, w], but it is {weight:?}"));
        };
        let [_, _, height, width] = image(&Fact::float(x), Some(out_channels))?;
        let Self { stride, padding, output_padding, dilation, groups } = *self;
        let kernel = [kernel_height, kernel_width];
        let mut input = [0; 2];
        for (axis, size) in [height, width].into_iter().enumerate() {
            if kernel[axis] == 0 || stride[axis] == 0 || dilation[axis] == 0 || size == 0 {
                return Err("kernel, stride, dilation and input must be at least 1".into());
            }
            let reach = dilation[axis].saturating_mul(kernel[axis] - 1).saturating_add(1);
            let all =
                (size - 1).saturating_mul(stride[axis]).saturating_add(reach).saturating_add(output_padding[axis]);
            input[axis] =
                all.checked_sub(padding[axis].saturating_mul(2)).filter(|&size| size > 0).ok_or("nothing is left")?;
            if output_padding[axis] >= stride[axis].max(dilation[axis]) {
                return Err("output_padding must be smaller than stride or dilation".into());
            }
        }
        let conv = Conv2d { stride, padding, dilation, groups };
        let geometry = conv.geometry(&[1, per_group.saturating_mul(groups), input[0], input[1]], weight)?;
        match geometry.output() == [height, width] {
            true => Ok(geometry),
            false => Err(format!("an input of {height}x{width} cannot be the result of that convolution")),
        }
    }
}

impl Operation for ConvTranspose2d {
    columns! {
        name: "conv_transpose2d",
        operands: &["input", "weight", "bias"],
        affinity: Affinity { products: &[(0, 1)], smooth: &[] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, weight) = (fact(operands, 0)?, fact(operands, 1)?);
        let geometry = self.geometry(&x.shape, &weight.shape)?;
        Ok(Fact::float(&[x.shape[0], geometry.in_channels, geometry.input[0], geometry.input[1]]))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let window: usize = operands[1].map_or(0, |weight| weight.shape[1..].iter().product());
        let products = operands[0].map_or(0, |x| x.len()).saturating_mul(window);
        Cost::with_activations(products, &[result.len()]).with_scratch(packed(&[Some(result)], self.padding))
    }

    fn start(&self, _place: usize, shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        Start::fan_in(shapes.get(1).copied().flatten().map_or(1, |weight| weight.iter().skip(1).product()))
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::per_row(operands)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (x, weight, bias) = (run.var(operands, 0)?, run.var(operands, 1)?, run.optional(operands, 2)?);
        let geometry = self.geometry(x.dims()?, weight.dims()?).map_err(|reason| run.misfit(reason))?;
        let channels = geometry.in_channels;
        let y = run.tape.bilinear(Bilinear::ConvInputGradient(geometry), &x, &weight)?;
        let Some(bias) = bias else { return Ok(Slot::Float(y)) };
        let bias = run.reshape(&bias, &[1, channels, 1, 1])?;
        Ok(Slot::Float(channel_affine(run.tape, &y, None, &bias, Finish::default())?))
    }
}
