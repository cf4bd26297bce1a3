//! Figures of `flatness evaluate`: reliability, ROC curves, entropies.

use super::bands::{Along, BandCurve, BandPanel, Words, write};
use super::brush::{Brush, brushes};
use super::canvas::{COLUMN, Canvas, Dash, Pen};
use super::palette::{GREY, MAX_SERIES};
use super::panel::{Area, Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::style::{Drawn, Target};
use crate::bayes::{Bin, Evaluation, Signal};
use crate::report::ReportError;

/// Writes `reliability.*`, `roc.*` and `entropy.*`.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_evaluation(report: &Evaluation, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let mut drawn = reliability(report, statement, target)?;
    drawn.extend(roc(report, statement, target)?);
    drawn.extend(entropy(report, statement, target)?);
    Ok(drawn)
}

/// Points in the unit square.
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
    /// Middle and half of the length of the bar of each marked point; of a line, none.
    bars: Vec<(f64, f64)>,
}

/// Curves in the unit square over its diagonal.
fn unit_square(
    curves: &[Curve],
    titles: [&str; 2],
    (diagonal, name): (&str, &str),
    sheet: Sheet,
    target: Target<'_>,
) -> Result<Drawn, ReportError> {
    let brushes = brushes(curves.iter().map(|curve| curve.name.as_str()));
    let guide = Pen { color: GREY, width: 0.8, dash: Dash::Broken(1.2, 1.2) };
    let sample = |(curve, brush): (&Curve, &Brush)| match curve.bars.is_empty() {
        true => (Sample::Line(brush.pen(1.0)), curve.name.clone()),
        false => (Sample::Mark(brush.sign(false)), curve.name.clone()),
    };
    let mut legend: Vec<_> = curves.iter().zip(&brushes).map(sample).collect();
    legend.push((Sample::Line(guide), diagonal.to_owned()));
    let sheet = Sheet { legend, body_height: 150.0 * target.style.stretch(COLUMN), ..sheet };
    let [across, up] = titles;
    sheet.write(target, name, |canvas: &mut Canvas, body: Area| {
        let y = Axis::new(Scale::exactly(0.0, 1.0), up);
        let left = y.room(body.bottom - body.top);
        let panel = Panel::new(body, left, Axis::new(Scale::exactly(0.0, 1.0), across), y);
        panel.curve(canvas, [(0.0, 0.0), (1.0, 1.0)].into_iter(), guide);
        for (curve, brush) in curves.iter().zip(&brushes) {
            panel.curve(canvas, curve.points.iter().copied(), brush.pen(1.0));
            for ((x, y), (middle, half)) in curve.points.iter().zip(&curve.bars) {
                panel.error_bar(canvas, (*x, *middle, *half), 2.0, Pen::solid(brush.color, 0.6));
                panel.mark(canvas, (*x, *y), brush.sign(false));
            }
        }
        panel.draw_axes(canvas);
    })
}

/// Mean confidence and share of right answers of bins with rows, with Wilson's interval (1927) at one standard error: that of
/// the share itself would be 0 where a few rows are all right, or all wrong.
fn of_bins(name: &str, bins: &[Bin]) -> Curve {
    let filled = || bins.iter().filter(|bin| bin.count > 0.0);
    let points = filled().map(|bin| (bin.confidence / bin.count, bin.correct / bin.count)).collect();
    let bar = |bin: &Bin| {
        let (n, share) = (bin.count, bin.correct / bin.count);
        let half = (share * (1.0 - share) / n + 0.25 / (n * n)).sqrt() / (1.0 + 1.0 / n);
        ((bin.correct + 0.5) / (n + 1.0), half)
    };
    Curve { name: name.into(), points, bars: filled().map(bar).collect() }
}

fn reliability(report: &Evaluation, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let mut curves = vec![of_bins("as they are", &report.reliability)];
    if let Some(scaling) = report.scaling.as_ref().filter(|scaling| scaling.temperature.converged) {
        curves.push(of_bins(&format!("at temperature {:.2}", scaling.temperature.value), &scaling.reliability));
    }
    let caption = "Share of right answers against confidence, the probability of the likeliest class, over 15 bins of equal \
                   width; bars: Wilson intervals of ± 1 s.e. over the rows of a bin; scaled by a temperature: on rows that \
                   did not choose it.";
    let sheet = Sheet { caption: caption.into(), statement: statement.into(), ..Sheet::default() };
    unit_square(&curves, ["confidence", "share of right answers"], ("calibrated", "reliability"), sheet, target)
}

/// Closer points of a curve are left out.
const STEP: f64 = 0.004;

/// Points of a curve that are apart, and its end.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (place, (x, y)) in points.iter().enumerate() {
        let apart = kept.last().is_none_or(|last| (x - last.0) + (y - last.1) >= STEP);
        if apart || place + 1 == points.len() {
            kept.push((*x, *y));
        }
    }
    kept
}

fn roc(report: &Evaluation, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let shown = report.detected.iter().filter(|row| match row.set {
        None => row.signal == Signal::Confidence,
        Some(_) => row.signal == Signal::Entropy,
    });
    let known = shown.filter(|row| row.areas.auroc.is_finite()).take(MAX_SERIES);
    let curve = |row: &crate::bayes::Detected| Curve {
        name: format!("{} ({:.3})", row.set.as_deref().unwrap_or("errors"), row.areas.auroc),
        points: thinned(&row.curve),
        bars: Vec::new(),
    };
    let curves: Vec<Curve> = known.map(curve).collect();
    if curves.is_empty() {
        return Ok(Drawn::default());
    }
    let caption = "ROC curves: errors found by low confidence, rows of other sets by the entropy of their predictions; in \
                   brackets: the area under each curve.";
    let sheet = Sheet { caption: caption.into(), statement: statement.into(), ..Sheet::default() };
    unit_square(&curves, ["false positive rate", "true positive rate"], ("chance", "roc"), sheet, target)
}

/// Bins of the entropies.
const BINS: usize = 24;

/// Shares of the rows by entropy, over bins from 0 to `most`.
fn shares(name: &str, entropies: &[f64], most: f64) -> BandCurve {
    let mut counts = [0.0; BINS];
    for entropy in entropies {
        let bin = (entropy / most * BINS as f64) as usize;
        counts[bin.min(BINS - 1)] += 1.0 / entropies.len() as f64;
    }
    let middle = |bin: usize| (bin as f64 + 0.5) * most / BINS as f64;
    let points = counts.iter().enumerate().map(|(bin, share)| (middle(bin), *share, f64::NAN)).collect();
    BandCurve { name: name.into(), points }
}

fn entropy(report: &Evaluation, statement: &str, target: Target<'_>) -> Result<Drawn, ReportError> {
    let most = (report.predictions.classes as f64).ln();
    let of = |correct: bool| -> Vec<f64> {
        let rows = report.predictions.entropies.iter().zip(&report.rows.correct);
        rows.filter(|(_, own)| **own == correct).map(|(entropy, _)| *entropy).collect()
    };
    let own = [("right", of(true)), ("wrong", of(false))];
    let own = own.iter().map(|(name, entropies)| (*name, entropies));
    let others = report.outside.iter().map(|set| (set.name.as_str(), &set.predictions.entropies));
    let known = own.chain(others).filter(|(_, entropies)| !entropies.is_empty()).take(MAX_SERIES);
    let curves = known.map(|(name, entropies)| shares(name, entropies, most)).collect();
    let caption = "Entropies of the predictions, from 0 (certain) to the logarithm of the number of classes, as shares of the \
                   rows in 24 bins: rows predicted right and wrong, and rows of other sets.";
    let words = Words { name: "entropy", caption: caption.into(), statement: statement.into() };
    let along = Along { title: "predictive entropy (nats)", logarithmic: false };
    write(vec![BandPanel { title: "share of rows", curves }], &along, words, target)
}
