//! The sizes of a two-dimensional convolution.

/// Sizes of a two-dimensional convolution (cross-correlation, as in all frameworks); pairs are `[rows, columns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// `C`, a multiple of `groups`.
    pub in_channels: usize,
    /// `O`, a multiple of `groups`.
    pub out_channels: usize,
    /// Independent blocks of channels; `C` for a depthwise convolution.
    pub groups: usize,
    /// `[kh, kw]`.
    pub kernel: [usize; 2],
    /// Step between outputs, at least 1.
    pub stride: [usize; 2],
    /// Zeros added on both sides.
    pub padding: [usize; 2],
    /// Step between kernel taps, at least 1.
    pub dilation: [usize; 2],
    /// `[H, W]`.
    pub input: [usize; 2],
}

impl ConvGeometry {
    /// `[OH, OW]`, rounded down; 0 where the kernel is larger than the padded input.
    pub fn output(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let padded = self.input[axis] + 2 * self.padding[axis];
            let extent = self.dilation[axis] * (self.kernel[axis].max(1) - 1) + 1;
            if padded < extent { 0 } else { (padded - extent) / self.stride[axis] + 1 }
        })
    }

    /// Numbers in one sample of `x`: `C H W`.
    pub fn input_len(&self) -> usize {
        self.in_channels * self.input[0] * self.input[1]
    }

    /// Numbers in one sample of `y`: `O OH OW`.
    pub fn output_len(&self) -> usize {
        let [rows, columns] = self.output();
        self.out_channels * rows * columns
    }

    /// Numbers in `w`: `O (C/groups) kh kw`.
    pub fn weight_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.kernel[0] * self.kernel[1]
    }
}
