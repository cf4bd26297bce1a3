//! What chains on small potentials do, beside what the theory says.

use std::path::{Path, PathBuf};

use super::bands::{Along, BandCurve, BandPanel, write};
use super::canvas::{Canvas, Dash, Marker, Pen, dash};
use super::palette::{GREY, INK, PALE, optimizer, series};
use super::panel::{Area, Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use crate::langevin::{CouplingRow, Energy, LangevinReport, Law, RateFit, RateRow};
use crate::report::ReportError;

/// Writes `rate.*`, `coupling.*`, `mass.*` and, in one dimension, `laws.*`, each where the report has its numbers; returns
/// the paths.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_langevin(report: &LangevinReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut paths = rate(report, folder)?;
    paths.extend(coupling(report, folder)?);
    paths.extend(mass(report, folder)?);
    paths.extend(laws(report, folder)?);
    Ok(paths)
}

fn method_pen(method: &str) -> (usize, Pen) {
    let index = optimizer(method).unwrap_or(0);
    (index, Pen { color: series(index), width: 1.0, dash: dash(index) })
}

fn rate(report: &LangevinReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    if report.rate.is_empty() {
        return Ok(Vec::new());
    }
    let named = |fit: &RateFit| {
        let interval = if fit.half_width.is_nan() { String::new() } else { format!(" ± {:.2}", fit.half_width) };
        let (index, pen) = method_pen(fit.method);
        (
            Sample::Mark(Marker::series(index), pen.color, false),
            format!("{}: exponent {:.2}{interval}", fit.method, fit.exponent),
        )
    };
    let mut legend: Vec<_> = report.fits.iter().map(named).collect();
    legend.push((Sample::Line(Pen { color: GREY, width: 0.8, dash: Dash::Broken(1.2, 1.2) }), "λ^½, the bound".into()));
    legend.push((Sample::Patch(PALE), "noise of as many exact draws".into()));
    let (beta, sigma) = report.rate.last().map_or((0.0, 0.0), |row| (row.dynamics.beta, row.dynamics.sigma));
    let statement = format!("β = {beta}, σ = {sigma} for fSGLD; filled: in the fit; ± 1 s.e.; 95 % intervals");
    let sheet = Sheet { legend, body_height: 130.0, statement };
    sheet.write(folder, "rate", |canvas, body| {
        let x = Scale::log(report.rate.iter().map(|row| row.dynamics.step_size));
        let reach = report.rate.iter().flat_map(|row| [row.measured.distances.w1, 0.6 * row.measured.floor.w1]);
        let y = Axis::new(Scale::log(reach), "W₁ to the law of the drift");
        let left = y.room(110.0);
        let panel = Panel::new(body, left, Axis::new(x, "step size λ"), y);
        draw_rate(canvas, &panel, report);
        panel.draw_axes(canvas);
    })
}

fn draw_rate(canvas: &mut Canvas, panel: &Panel, report: &LangevinReport) {
    let floor = panel.y_ends().0;
    let mut noise: Vec<(f64, f64, f64)> = report
        .rate
        .iter()
        .filter(|row| row.method == "sgld")
        .map(|row| (row.dynamics.step_size, floor, row.measured.floor.w1))
        .collect();
    noise.sort_by(|a, b| a.0.total_cmp(&b.0));
    panel.band(canvas, &noise, PALE);
    for fit in &report.fits {
        let (index, pen) = method_pen(fit.method);
        let own: Vec<&RateRow> = report.rate.iter().filter(|row| row.method == fit.method).collect();
        let fitted: Vec<&&RateRow> = own.iter().filter(|row| row.in_fit).collect();
        if let (Some(first), true) = (fitted.first(), fit.exponent.is_finite()) {
            // Through the mean of the logarithms, as least squares does.
            let mean =
                |part: &dyn Fn(&RateRow) -> f64| fitted.iter().map(|row| part(row)).sum::<f64>() / fitted.len() as f64;
            let (x, y) = (mean(&|row| row.dynamics.step_size.ln()), mean(&|row| row.measured.distances.w1.ln()));
            let line = |exponent: f64, (x0, y0): (f64, f64)| {
                own.iter()
                    .map(move |row| row.dynamics.step_size)
                    .map(move |step| (step, (y0 + exponent * (step.ln() - x0)).exp()))
            };
            panel.curve(canvas, line(fit.exponent, (x, y)), pen);
            if fit.method == "sgld" {
                let at = (first.dynamics.step_size.ln(), (1.3 * first.measured.distances.w1).ln());
                panel.curve(canvas, line(0.5, at), Pen { color: GREY, width: 0.8, dash: Dash::Broken(1.2, 1.2) });
            }
        }
        for row in own {
            let (step, measured) = (row.dynamics.step_size, &row.measured);
            panel.error_bar(
                canvas,
                (step, measured.distances.w1, measured.w1_std_err),
                3.0,
                Pen::solid(pen.color, 0.7),
            );
            panel.mark(canvas, (step, measured.distances.w1), (Marker::series(index), pen.color, !row.in_fit));
        }
    }
}

/// Numbers of the coupling study, each in a panel of its own: title, value, and its error.
type Quantity = (&'static str, fn(&CouplingRow) -> (f64, f64));

const COUPLED: [Quantity; 3] = [
    ("W₁ to exp(−βv)", |row| (row.to_flatness.distances.w1, row.to_flatness.w1_std_err)),
    ("share, flat side", |row| row.flat_share),
    ("excess risk", |row| row.excess_risk),
];

fn coupling(report: &LangevinReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let mut names: Vec<String> = Vec::new();
    for row in &report.coupling {
        if !names.contains(&row.coupling.name()) {
            names.push(row.coupling.name());
        }
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let pen = |index: usize| Pen { color: series(index), width: 1.0, dash: dash(index) };
    let legend = names.iter().enumerate().map(|(index, name)| (Sample::Line(pen(index)), name.clone())).collect();
    let statement = "σ = β^(−(1+η)/4), or by hand; samples of chains, ± 1 s.e.".to_owned();
    let sheet = Sheet { legend, body_height: 234.0, statement };
    sheet.write(folder, "coupling", |canvas, body| {
        let x = Scale::log(report.coupling.iter().map(|row| row.dynamics.beta));
        let axis = |(title, value): &Quantity| {
            let values: Vec<f64> = report.coupling.iter().map(|row| value(row).0).collect();
            Axis::new(
                if title.starts_with("share") { Scale::exactly(0.0, 1.02) } else { Scale::log(values.into_iter()) },
                *title,
            )
        };
        let axes: Vec<Axis> = COUPLED.iter().map(axis).collect();
        let left = axes.iter().map(|axis| axis.room(66.0)).fold(0.0, f64::max);
        let ends = [0.0, 0.31, 0.62, 1.0];
        for (place, (y, (_, value))) in axes.into_iter().zip(COUPLED).enumerate() {
            let across = if place == 2 { Axis::new(x, "inverse temperature β") } else { Axis::bare(x) };
            let panel = Panel::new(body.rows(ends[place], ends[place + 1]), left, across, y);
            for (index, name) in names.iter().enumerate() {
                let own = report.coupling.iter().filter(|row| row.coupling.name() == *name);
                let points: Vec<(f64, (f64, f64))> = own.map(|row| (row.dynamics.beta, value(row))).collect();
                panel.curve(canvas, points.iter().map(|(beta, (value, _))| (*beta, *value)), pen(index));
                for (beta, (value, std_err)) in points {
                    panel.error_bar(canvas, (beta, value, std_err), 2.0, Pen::solid(series(index), 0.6));
                    panel.mark(canvas, (beta, value), (Marker::series(index), series(index), false));
                }
            }
            panel.draw_axes(canvas);
        }
    })
}

fn mass(report: &LangevinReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let curve = |method: &str| BandCurve {
        name: method.to_owned(),
        points: report
            .mass
            .iter()
            .filter(|row| row.method == method)
            .map(|row| (row.step as f64 * row.dynamics.step_size, row.flat_share.0, row.flat_share.1))
            .collect(),
    };
    let curves: Vec<BandCurve> =
        ["sgld", "fsgld"].map(curve).into_iter().filter(|curve| !curve.points.is_empty()).collect();
    let laws: Vec<String> = report.limits.iter().map(|limit| format!("{} {:.3}", limit.method, limit.target)).collect();
    let dynamics = &report.dynamics;
    let statement = format!(
        "β = {}, σ = {}, λ = {:.3}; all chains begin at the sharp minimum. Under exp(−βu), exp(−βv): {}.",
        dynamics.beta,
        dynamics.sigma,
        dynamics.step_size,
        laws.join(", ")
    );
    let along = Along { title: "time λ × steps", logarithmic: false };
    write(vec![BandPanel { title: "flat side's share", curves }], &along, ("mass", statement), folder)
}

fn laws(report: &LangevinReport, folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let dynamics = &report.dynamics;
    let law = |energy| Law::new(&report.potential, energy, dynamics.beta, dynamics.sigma);
    let (Some(plain), Some(flatness), 1) = (law(Energy::Plain), law(Energy::Flatness), report.potential.dim()) else {
        return Ok(Vec::new());
    };
    let curves = [(method_pen("sgld").1, plain.density()), (method_pen("fsgld").1, flatness.density())];
    let bars = histogram(&report.samples, (plain.quantile(1e-4), plain.quantile(1.0 - 1e-4)));
    let legend = vec![
        (Sample::Line(curves[0].0), "exp(−βu)".to_owned()),
        (Sample::Line(curves[1].0), "exp(−βv)".to_owned()),
        (Sample::Patch(PALE), "chains of fSGLD".to_owned()),
        (Sample::Line(Pen::solid(INK, 0.8)), "u".to_owned()),
    ];
    let statement = format!("β = {}, σ = {}, λ = {:.3}", dynamics.beta, dynamics.sigma, dynamics.step_size);
    let sheet = Sheet { legend, body_height: 150.0, statement };
    sheet.write(folder, "laws", |canvas, body| {
        let (from, to) = (plain.quantile(1e-4), plain.quantile(1.0 - 1e-4));
        let x = Scale::exactly(from, to);
        let inside = |(x, _): &(f64, f64)| (from..=to).contains(x);
        let highest = curves.iter().flat_map(|(_, curve)| curve).map(|(_, density)| *density).fold(0.0, f64::max);
        let highest = bars.iter().map(|(_, density)| *density).fold(highest, f64::max);
        let density = Axis::new(Scale::exactly(0.0, 1.06 * highest), "density");
        let potential: Vec<(f64, f64)> =
            plain.density().iter().filter(|p| inside(p)).map(|(x, _)| (*x, report.potential.value(&[*x]))).collect();
        let energy = Axis::new(Scale::linear(potential.iter().map(|(_, u)| *u)), "u");
        let left = density.room(80.0).max(energy.room(40.0));
        let upper = Panel::new(body.rows(0.0, 0.3), left, Axis::bare(x), energy);
        upper.curve(canvas, potential.iter().copied(), Pen::solid(INK, 0.8));
        upper.draw_axes(canvas);
        let lower = Panel::new(body.rows(0.3, 1.0), left, Axis::new(x, "x"), density);
        draw_bars(canvas, &lower, &bars);
        for (pen, curve) in &curves {
            lower.curve(canvas, curve.iter().filter(|p| inside(p)).copied(), *pen);
        }
        lower.draw_axes(canvas);
    })
}

/// Left ends of equal bins, and the density in each.
fn histogram(samples: &[f64], (from, to): (f64, f64)) -> Vec<(f64, f64)> {
    const BINS: usize = 60;
    let width = (to - from) / BINS as f64;
    let mut counts = [0usize; BINS];
    for sample in samples {
        let bin = ((sample - from) / width).floor();
        if let Some(count) = counts.get_mut(bin as usize).filter(|_| bin >= 0.0) {
            *count += 1;
        }
    }
    let density = |count: &usize| *count as f64 / (samples.len().max(1) as f64 * width);
    counts.iter().enumerate().map(|(bin, count)| (from + bin as f64 * width, density(count))).collect()
}

fn draw_bars(canvas: &mut Canvas, panel: &Panel, bars: &[(f64, f64)]) {
    let width = bars.get(1).map_or(0.0, |next| next.0 - bars[0].0);
    for (left, density) in bars {
        if let (Some(foot), Some(top)) = (panel.place((*left, 0.0)), panel.place((left + width, *density))) {
            let Area { right, .. } = panel.inner;
            canvas.rectangle((foot.0, top.1), (top.0.min(right), foot.1), PALE);
        }
    }
}
