//! Which tensors these kernels take, and how they are cut into chunks.

use candle_core::Device;

/// Rows shorter than this are not worth a pass of their own.
const SHORTEST_ROW: usize = 4;
/// Numbers of one parallel chunk; a fixed figure, since chunks decide the order of sums.
const CHUNK: usize = 1 << 15;

/// `[N, C, L]`: samples, channels and numbers per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    pub(super) samples: usize,
    pub(super) channels: usize,
    pub(super) len: usize,
}

impl Channels {
    /// The sizes where `small` varies along axis 1 of `full` alone, rows are long enough to be worth it, and the device has
    /// these kernels.
    pub fn of(full: &[usize], small: &[usize], device: &Device) -> Option<Self> {
        let alike = small.len() == full.len() && small.iter().enumerate().all(|(axis, &size)| axis == 1 || size == 1);
        let len = full.iter().skip(2).product();
        let fits = device.is_cpu() && alike && full.len() >= 3 && small[1] == full[1] && len >= SHORTEST_ROW;
        fits.then(|| Self { samples: full[0], channels: full[1], len })
    }

    pub(super) fn numbers(&self) -> usize {
        self.samples * self.channels * self.len
    }

    /// Rows per parallel chunk: whole samples, so that a chunk's sums are per channel.
    pub(super) fn samples_per_chunk(&self) -> usize {
        (CHUNK / (self.channels * self.len)).max(1)
    }

    /// Numbers of one channel.
    pub fn count(&self) -> usize {
        self.samples * self.len
    }
}
