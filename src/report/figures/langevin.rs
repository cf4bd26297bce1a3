//! What chains on small potentials do, beside what the theory says.

use super::bands::{Along, BandCurve, BandPanel, Words, write};
use super::brush::{Brush, brushes};
use super::canvas::{COLUMN, Canvas, Dash, Pen};
use super::palette::{GREY, INK, PALE};
use super::panel::{Area, Axis, Panel};
use super::scale::Scale;
use super::sheet::{Sample, Sheet};
use super::stack::{Layer, write_stack};
use super::style::{Drawn, Target};
use crate::langevin::{CouplingRow, Energy, LangevinReport, Law, RateFit, RateRow};
use crate::report::ReportError;
use crate::vocabulary::Sampler;

/// Writes `rate.*`, `coupling.*`, `mass.*` and, in one dimension, `laws.*`, each where the report has its numbers; returns
/// the paths.
///
/// # Errors
/// As [`super::write_figures`].
pub fn write_langevin(report: &LangevinReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    let mut drawn = rate(report, target)?;
    drawn.extend(coupling(report, target)?);
    drawn.extend(mass(report, target)?);
    drawn.extend(laws(report, target)?);
    Ok(drawn)
}

fn rate(report: &LangevinReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    if report.rate.is_empty() {
        return Ok(Drawn::default());
    }
    let named = |fit: &RateFit| {
        let interval = if fit.half_width.is_nan() { String::new() } else { format!(" ± {:.2}", fit.half_width) };
        let brush = Brush::named(fit.method.name());
        let words = match fit.exponent.is_nan() {
            true => format!("{}: no fit", fit.method),
            false => format!("{}: exponent {:.2}{interval}", fit.method, fit.exponent),
        };
        (Sample::Mark(brush.sign(false)), words)
    };
    let mut legend: Vec<_> = report.fits.iter().map(named).collect();
    legend.push((
        Sample::Line(Pen { color: GREY, width: 0.8, dash: Dash::Broken(1.2, 1.2) }),
        "λ^½ (upper bound)".into(),
    ));
    legend.push((Sample::Patch(PALE), "sampling noise of exact draws".into()));
    let (beta, sigma) = report.rate.last().map_or((0.0, 0.0), |row| (row.dynamics.beta, row.dynamics.sigma));
    let sheet = Sheet {
        legend,
        body_height: 130.0 * target.style.stretch(COLUMN),
        caption: "Distance between the chains and the target distribution of their mean drift, against the step size."
            .into(),
        statement: format!("β = {beta}, σ = {sigma} for fSGLD; filled: in the fit; ± 1 s.e.; 95 % intervals"),
    };
    sheet.write(target, "rate", |canvas, body| {
        let x = Scale::log(report.rate.iter().map(|row| row.dynamics.step_size));
        let reach = report.rate.iter().flat_map(|row| [row.measured.distances.w1, 0.6 * row.measured.floor.w1]);
        let y = Axis::new(Scale::log(reach), "W₁ to the target");
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
        .filter(|row| row.method == Sampler::Sgld)
        .map(|row| (row.dynamics.step_size, floor, row.measured.floor.w1))
        .collect();
    noise.sort_by(|a, b| a.0.total_cmp(&b.0));
    panel.band(canvas, &noise, PALE);
    for fit in &report.fits {
        let brush = Brush::named(fit.method.name());
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
            panel.curve(canvas, line(fit.exponent, (x, y)), brush.pen(1.0));
            if fit.method == Sampler::Sgld {
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
                Pen::solid(brush.color, 0.7),
            );
            panel.mark(canvas, (step, measured.distances.w1), brush.sign(!row.in_fit));
        }
    }
}

/// Numbers of the coupling study, each in a panel of its own: title, value, and its error.
type Studied = (&'static str, fn(&CouplingRow) -> (f64, f64));

static COUPLED: [Studied; 3] = [
    ("W₁ to exp(−βv)", |row| (row.to_flatness.distances.w1, row.to_flatness.w1_std_err)),
    ("share on flat side", |row| row.flat_share),
    ("excess risk", |row| row.excess_risk),
];

fn coupling(report: &LangevinReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    let mut names: Vec<String> = Vec::new();
    for row in &report.coupling {
        if !names.contains(&row.coupling.name()) {
            names.push(row.coupling.name());
        }
    }
    if names.is_empty() {
        return Ok(Drawn::default());
    }
    let brushes = brushes(names.iter().map(String::as_str));
    let legend = brushes
        .iter()
        .zip(&names)
        .map(|(brush, name)| (Sample::Line(brush.pen(1.0)), name.replace('-', "−")))
        .collect();
    let layer = |(title, value): &'static Studied| {
        let values = report.coupling.iter().map(|row| value(row).0);
        let scale = if title.starts_with("share") { Scale::exactly(0.0, 1.02) } else { Scale::log(values) };
        let (names, brushes) = (&names, &brushes);
        Layer {
            name: (*title).to_owned(),
            y: Axis::new(scale, *title),
            height: 70.0,
            draw: Box::new(move |canvas, panel| {
                for (name, brush) in names.iter().zip(brushes) {
                    let own = report.coupling.iter().filter(|row| row.coupling.name() == *name);
                    let points: Vec<(f64, (f64, f64))> = own.map(|row| (row.dynamics.beta, value(row))).collect();
                    panel.curve(canvas, points.iter().map(|(beta, (value, _))| (*beta, *value)), brush.pen(1.0));
                    for (beta, (value, std_err)) in points {
                        panel.error_bar(canvas, (beta, value, std_err), 2.0, Pen::solid(brush.color, 0.6));
                        panel.mark(canvas, (beta, value), brush.sign(false));
                    }
                }
                panel.draw_axes(canvas);
            }),
        }
    };
    let layers: Vec<Layer<'_>> = COUPLED.iter().map(layer).collect();
    let sheet = Sheet {
        legend,
        caption: "The distribution of fSGLD against the inverse temperature β, for each coupling of σ to β.".into(),
        statement: "σ = β^(−(1+η)/4), or fixed; samples of chains, ± 1 s.e.".to_owned(),
        ..Sheet::default()
    };
    let x = Axis::new(Scale::log(report.coupling.iter().map(|row| row.dynamics.beta)), "inverse temperature β");
    write_stack(sheet, target, "coupling", &x, &layers)
}

fn mass(report: &LangevinReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    let curve = |method: Sampler| BandCurve {
        name: method.to_string(),
        points: report
            .mass
            .iter()
            .filter(|row| row.method == method)
            .map(|row| (row.step as f64 * row.dynamics.step_size, row.flat_share.0, row.flat_share.1))
            .collect(),
    };
    let curves: Vec<BandCurve> = Sampler::ALL.map(curve).into_iter().filter(|curve| !curve.points.is_empty()).collect();
    let laws: Vec<String> = report.limits.iter().map(|limit| format!("{} {:.3}", limit.method, limit.target)).collect();
    let dynamics = &report.dynamics;
    let statement = format!(
        "β = {}, σ = {}, λ = {:.3}; all chains start at the sharp minimum. Under exp(−βu), exp(−βv): {}.",
        dynamics.beta,
        dynamics.sigma,
        dynamics.step_size,
        laws.join(", ")
    );
    let along = Along { title: "time λ × steps", logarithmic: false };
    let caption = "Share of the chains on the flat side over time; bands: ± 1 s.e.".into();
    write(
        vec![BandPanel { title: "share on flat side", curves }],
        &along,
        Words { name: "mass", caption, statement },
        target,
    )
}

fn laws(report: &LangevinReport, target: Target<'_>) -> Result<Drawn, ReportError> {
    let dynamics = &report.dynamics;
    let law = |energy| Law::new(&report.potential, energy, dynamics.beta, dynamics.sigma);
    let (Some(plain), Some(flatness), 1) = (law(Energy::Plain), law(Energy::Flatness), report.potential.dim()) else {
        return Ok(Drawn::default());
    };
    let pen = |method: Sampler| Brush::named(method.name()).pen(1.0);
    let curves = [(pen(Sampler::Sgld), plain.density()), (pen(Sampler::Fsgld), flatness.density())];
    let bars = histogram(&report.samples, (plain.quantile(1e-4), plain.quantile(1.0 - 1e-4)));
    let legend = vec![
        (Sample::Line(curves[0].0), "exp(−βu)".to_owned()),
        (Sample::Line(curves[1].0), "exp(−βv)".to_owned()),
        (Sample::Patch(PALE), "chains of fSGLD".to_owned()),
        (Sample::Line(Pen::solid(INK, 0.8)), "u".to_owned()),
    ];
    let statement = format!("β = {}, σ = {}, λ = {:.3}", dynamics.beta, dynamics.sigma, dynamics.step_size);
    let (from, to) = (plain.quantile(1e-4), plain.quantile(1.0 - 1e-4));
    let inside = |(x, _): &(f64, f64)| (from..=to).contains(x);
    let highest = curves.iter().flat_map(|(_, curve)| curve).map(|(_, density)| *density).fold(0.0, f64::max);
    let highest = bars.iter().map(|(_, density)| *density).fold(highest, f64::max);
    let potential: Vec<(f64, f64)> =
        plain.density().iter().filter(|p| inside(p)).map(|(x, _)| (*x, report.potential.value(&[*x]))).collect();
    let layers = [
        Layer {
            name: "potential".into(),
            y: Axis::new(Scale::linear(potential.iter().map(|(_, u)| *u)), "u"),
            height: 45.0,
            draw: Box::new(|canvas, panel| {
                panel.curve(canvas, potential.iter().copied(), Pen::solid(INK, 0.8));
                panel.draw_axes(canvas);
            }),
        },
        Layer {
            name: "laws".into(),
            y: Axis::new(Scale::exactly(0.0, 1.06 * highest), "density"),
            height: 84.0,
            draw: Box::new(|canvas, panel| {
                draw_bars(canvas, panel, &bars);
                for (pen, curve) in &curves {
                    panel.curve(canvas, curve.iter().filter(|p| inside(p)).copied(), *pen);
                }
                panel.draw_axes(canvas);
            }),
        },
    ];
    let caption = "The potential u (top); the distributions exp(−βu) and exp(−βv), and the chains of fSGLD (bottom).";
    let sheet = Sheet { legend, caption: caption.into(), statement, ..Sheet::default() };
    write_stack(sheet, target, "laws", &Axis::new(Scale::exactly(from, to), "x"), &layers)
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
