//! Calibration: how far confidences are from the share of right answers.

/// Bins of a reliability diagram.
pub const BINS: usize = 15;

/// Rows of similar confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// Number of rows.
    pub count: f64,
    /// Sum of their confidences.
    pub confidence: f64,
    /// How many of them are right.
    pub correct: f64,
}

impl Bin {
    fn add(&mut self, confidence: f64, correct: bool, count: f64) {
        self.count += count;
        self.confidence += count * confidence;
        self.correct += count * f64::from(u8::from(correct));
    }
}

/// Bins of equal width, open below and closed above, of rows `(confidence, whether right, how often it counts)`.
pub fn equal_width(rows: impl Iterator<Item = (f64, bool, f64)>) -> [Bin; BINS] {
    let edges: [f64; BINS - 1] = std::array::from_fn(|edge| (edge + 1) as f64 * (1.0 / BINS as f64));
    binned(&edges, rows)
}

/// Bins between the quantiles of the confidences: of equal numbers of rows, but where confidences are equal, which then share
/// a bin. `sorted` ascends.
pub fn equal_mass(sorted: &[(f64, bool)]) -> [Bin; BINS] {
    let edges: [f64; BINS - 1] = std::array::from_fn(|edge| quantile(sorted, edge + 1));
    binned(&edges, sorted.iter().map(|(confidence, correct)| (*confidence, *correct, 1.0)))
}

/// A row goes into the bin above all edges that lie below its confidence.
fn binned(edges: &[f64; BINS - 1], rows: impl Iterator<Item = (f64, bool, f64)>) -> [Bin; BINS] {
    let mut bins = [Bin::default(); BINS];
    for (confidence, correct, count) in rows {
        bins[edges.partition_point(|edge| *edge < confidence)].add(confidence, correct, count);
    }
    bins
}

/// The quantile of `part` of [`BINS`] parts, linear between the order statistics as NumPy's default.
fn quantile(sorted: &[(f64, bool)], part: usize) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let (below, rest) = (part * last / BINS, part * last % BINS);
    let (low, high) = (sorted[below].0, sorted[(below + 1).min(last)].0);
    low + rest as f64 / BINS as f64 * (high - low)
}

/// Expected calibration error `Σ_b |correct_b − confidence_b| / N` (Naeini et al. 2015, Guo et al. 2017). Biased upwards on
/// few rows, since the gaps of all bins count as positive.
pub fn expected_error(bins: &[Bin]) -> f64 {
    let gaps: f64 = bins.iter().map(|bin| (bin.correct - bin.confidence).abs()).sum();
    gaps / bins.iter().map(|bin| bin.count).sum::<f64>()
}
