//! Every figure on realistic and on awkward reports.

use std::path::PathBuf;

use super::*;
use crate::analysis::{SubsetRow, SubsetStudy};
use crate::report::synthetic;
use crate::vocabulary::Quantity;

/// Draws into a folder that goes away, or into the one that `FLATNESS_FIGURES` names, for looking at.
fn folder(name: &str) -> (Option<tempfile::TempDir>, PathBuf) {
    match std::env::var_os("FLATNESS_FIGURES") {
        Some(root) => {
            let path = PathBuf::from(root).join(name);
            std::fs::create_dir_all(&path).unwrap();
            (None, path)
        }
        None => {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().to_owned();
            (Some(folder), path)
        }
    }
}

fn assert_are_figures(drawn: &Drawn, names: &[&str]) {
    let paths = &drawn.files;
    assert!(names.iter().all(|name| drawn.captions.of(name).is_some_and(|text| text.len() > 20)), "{drawn:?}");
    let stems: Vec<_> = paths.iter().step_by(3).map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(stems, names);
    for path in paths {
        let bytes = std::fs::read(path).unwrap();
        let start: &[u8] = match path.extension().unwrap().to_str().unwrap() {
            "svg" => b"<svg",
            "png" => b"\x89PNG",
            _ => b"%PDF",
        };
        assert!(bytes.starts_with(start) && bytes.len() > 1000, "{}", path.display());
    }
}

fn target(folder: &std::path::Path) -> Target<'_> {
    Target::new(folder, Style::default())
}

const ALL: [&str; 7] =
    ["spectrum", "density_linear", "density_signed_log", "density_log_abs", "distribution", "slices", "plane"];

#[test]
fn a_realistic_report_has_all_figures() {
    let (_guard, folder) = folder("realistic");
    assert_are_figures(&write_figures(&synthetic::report(), target(&folder)).unwrap(), &ALL);
}

#[test]
fn every_style_draws_every_figure() {
    let report = synthetic::report();
    for (name, look, width) in [("icml", Look::Paper, 234.0), ("neurips", Look::Annotated, 396.0)] {
        let (_guard, folder) = folder(name);
        let style = Style { look, width: Some(width), panels: true };
        let drawn = write_figures(&report, Target::new(&folder, style)).unwrap();
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let stems: Vec<String> = drawn.files.iter().map(stem).collect();
        for part in ["spectrum-largest", "slices-loss-eigenvectors", "slices-accuracy-random-directions"] {
            assert!(stems.iter().any(|stem| stem == part), "{part} is not among {stems:?}");
        }
        for file in drawn.files.iter().filter(|path| path.extension().is_some_and(|ending| ending == "pdf")) {
            let pdf = std::fs::read(file).unwrap();
            let pdf = String::from_utf8_lossy(&pdf);
            assert!(pdf.contains(&format!("/MediaBox [0 0 {width}")), "{}", file.display());
        }
        let files = drawn.clone().finish(&folder).unwrap();
        assert_eq!(files.len(), drawn.files.len() + 1);
        assert_eq!(Captions::read(&folder), drawn.captions);
    }
}

#[test]
fn an_empty_report_has_no_figures() {
    let (_guard, folder) = folder("empty");
    assert_are_figures(&write_figures(&synthetic::empty(), target(&folder)).unwrap(), &[]);
}

#[test]
fn several_runs_are_compared() {
    let (_guard, folder) = folder("comparison");
    let runs = [("SGD", 1.0), ("SAM ρ = 0.05", 0.41), ("ASAM ρ = 0.5", 0.47), ("fSGLD β⁻¹ = 10⁻¹⁴", 0.62)];
    let runs: Vec<_> = runs.map(|(name, sharpness)| (name.to_owned(), synthetic::summary(sharpness))).into();
    let statement = "cross-entropy, mean over 50 000 rows, batch norm in eval mode, f32";
    assert_are_figures(&write_comparison(&runs, statement, target(&folder)).unwrap(), &["comparison"]);
    assert!(write_comparison(&[], "", target(&folder)).unwrap() == Drawn::default());
}

#[test]
fn training_curves_of_several_runs() {
    let (_guard, folder) = folder("training");
    let curve = |(name, rate): (&str, f64)| {
        let epochs: Vec<f64> = (1..=60).map(f64::from).collect();
        let decay = |floor: f64| -> Vec<f64> {
            epochs.iter().map(|e| floor + 2.2 * (-rate * e).exp() * (1.0 + 0.1 * (3.0 * e).sin())).collect()
        };
        let (train_loss, test_loss) = (decay(0.004), decay(0.21));
        let accuracy = |loss: &[f64]| loss.iter().map(|loss| (-0.5 * loss).exp()).collect();
        let (train_accuracy, test_accuracy) = (accuracy(&train_loss), accuracy(&test_loss));
        TrainingCurve { name: name.into(), epochs, train_loss, test_loss, train_accuracy, test_accuracy }
    };
    let curves: Vec<_> = [("SGD", 0.14), ("SAM", 0.1), ("fSGLD", 0.09)].map(curve).into();
    assert_are_figures(&write_training_curves(&curves, "ResNet-20, CIFAR-10", target(&folder)).unwrap(), &["training"]);
    assert!(write_training_curves(&[TrainingCurve::default()], "", target(&folder)).unwrap() == Drawn::default());
}

fn subset_study(value: impl Fn(&Quantity, f64) -> (f64, f64)) -> SubsetStudy {
    let quantities = [Quantity::Trace, Quantity::LambdaMax, Quantity::LambdaMaxCrossFitted];
    let row = |quantity, num_rows: usize| {
        let (value, std_err) = value(&quantity, num_rows as f64);
        SubsetRow { num_rows, quantity, value, std_err, num_subsets: 4 }
    };
    let rows =
        quantities.iter().flat_map(|quantity| (6..=15).rev().map(|power| row(quantity.clone(), 1 << power))).collect();
    SubsetStudy {
        rows,
        statement: "resnet20-sgd · cross-entropy, batch norm in eval mode, f32".into(),
        ..SubsetStudy::default()
    }
}

#[test]
fn a_subset_study_has_two_panels_and_an_empty_one_no_figure() {
    let (_guard, folder) = folder("subset_study");
    let study = subset_study(|quantity, rows| match quantity {
        Quantity::LambdaMax => (1950.0 + 9e3 / rows.sqrt(), 4e3 / rows.sqrt()),
        Quantity::LambdaMaxCrossFitted => (1950.0 - 5e3 / rows.sqrt(), 5e3 / rows.sqrt()),
        _ => (14_210.0 + 900.0 * rows.ln().sin() / rows.sqrt(), 2e4 / rows.sqrt()),
    });
    assert_are_figures(&write_subset_study(&study, target(&folder)).unwrap(), &["subset_study"]);
    assert!(write_subset_study(&SubsetStudy::default(), target(&folder)).unwrap() == Drawn::default());
    assert!(write_subset_study(&subset_study(|_, _| (f64::NAN, 1.0)), target(&folder)).unwrap() == Drawn::default());
}

#[test]
fn awkward_numbers_never_stop_a_figure() {
    let awkward = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 5.0, 1e-320, 1e308, -1e308];
    for (case, number) in awkward.into_iter().enumerate() {
        let (_guard, folder) = folder(&format!("awkward{case}"));
        let mut report = synthetic::report();
        for spectrum in &mut report.spectra {
            spectrum.top.ritz_values.fill(number);
            spectrum.bottom.ritz_values.fill(number);
            spectrum.bottom.residual_norms.clear();
            for density in &mut spectrum.densities {
                density.density.fill(number);
                density.std_err.fill(number);
                density.sigma.fill(number);
                density.range.fill([number; 2]);
                density.linear_threshold = number;
            }
        }
        for slice in &mut report.slices {
            slice.loss.fill(number);
            slice.curvature = number;
        }
        write_figures(&report, target(&folder)).unwrap();
        let mut rows = synthetic::summary(1.0);
        rows.iter_mut().for_each(|row| (row.value, row.std_err_data) = (number, number));
        write_comparison(&[("run".into(), rows)], "", target(&folder)).unwrap();
        let epochs = vec![0.0, number];
        let curve = TrainingCurve { train_loss: epochs.clone(), epochs, ..TrainingCurve::default() };
        write_training_curves(&[curve], "", target(&folder)).unwrap();
        write_subset_study(&subset_study(|_, _| (number, number)), target(&folder)).unwrap();
    }
}

#[test]
fn single_points_and_lost_losses_are_drawn() {
    let (_guard, folder) = folder("lost");
    let mut report = synthetic::report();
    for slice in &mut report.slices {
        let count = slice.loss.len();
        slice.loss[..count / 5].fill(f64::NAN);
        slice.loss[count - 3..].fill(f64::INFINITY);
        slice.accuracy.fill(f64::NAN);
    }
    assert_are_figures(&write_figures(&report, target(&folder)).unwrap(), &ALL);
    for slice in &mut report.slices {
        for list in [&mut slice.x, &mut slice.y, &mut slice.loss, &mut slice.accuracy] {
            list.truncate(1);
        }
    }
    report.slices.push(synthetic::plane(1));
    for spectrum in &mut report.spectra {
        spectrum.densities.iter_mut().for_each(|density| density.values.truncate(1));
        spectrum.slq.probes.clear();
        spectrum.bottom.ritz_values.clear();
    }
    assert_are_figures(&write_figures(&report, target(&folder)).unwrap(), &ALL[..6]);
}
