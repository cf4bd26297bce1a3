//! Jupyter notebooks that open the tables of an experiment and draw its figures again.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::files::{FileError, write_atomic};
use crate::visible::visible;

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub enum NotebookCell {
    /// Words, as Markdown.
    Words(String),
    /// Python.
    Code(String),
}

/// Writes `cells` as a notebook of format 4.5, atomically; equal cells give equal bytes.
///
/// # Errors
/// [`FileError`] where the file cannot be written.
pub fn write_notebook(cells: &[NotebookCell], path: &Path) -> Result<(), FileError> {
    let notebook = json!({
        "cells": cells.iter().enumerate().map(cell).collect::<Vec<Value>>(),
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    });
    write_atomic(path, |file| writeln!(file, "{notebook:#}"))
}

fn cell((index, cell): (usize, &NotebookCell)) -> Value {
    let (kind, text) = match cell {
        NotebookCell::Words(text) => ("markdown", text),
        NotebookCell::Code(text) => ("code", text),
    };
    let lines: Vec<&str> = text.trim_end().split_inclusive('\n').collect();
    let mut value = json!({"cell_type": kind, "id": format!("cell-{index}"), "metadata": {}, "source": lines});
    if kind == "code" {
        value["execution_count"] = Value::Null;
        value["outputs"] = json!([]);
    }
    value
}

/// The notebook of an experiment called `title` whose folder of results holds the tables named in `tables`; it reads them
/// from the folder that it lies in.
pub fn experiment_cells(title: &str, tables: &[String]) -> Vec<NotebookCell> {
    let has = |name: &str| tables.iter().any(|table| table == name);
    let mut cells = vec![
        NotebookCell::Words(format!(
            "# {}\n\nTables of `flatness run`, opened with polars. It needs `polars` and `matplotlib`: \
             `pip install polars matplotlib`.",
            words(title)
        )),
        NotebookCell::Code(START.into()),
    ];
    let parts: [(&str, &str, &str); 7] = [
        ("means", "## Means over the seeds", MEANS),
        ("metrics", "## Accuracy over the epochs", EPOCHS),
        (
            "density_nodes",
            "## Spectra by method\n\nShare of eigenvalues above λ, from the raw quadrature nodes; a band from the lowest to the highest seed.",
            SPECTRA,
        ),
        ("differences", "## Differences from the baseline\n\nPaired by seed, with 95 % intervals.", DIFFERENCES),
        ("rate", "## Error against the step size", RATE),
        ("coupling", "## The law against β", COUPLING),
        ("mass", "## Mass on the flat side", MASS),
    ];
    for (table, words, code) in parts.into_iter().filter(|(table, ..)| has(table)) {
        let _ = table;
        cells.push(NotebookCell::Words(words.into()));
        cells.push(NotebookCell::Code(code.into()));
    }
    cells
}

/// Text without a meaning for Markdown.
fn words(text: &str) -> String {
    let mut words = String::new();
    for letter in visible(text).chars() {
        if "\\`*_[]{}<>&$~|#!".contains(letter) {
            words.push('\\');
        }
        words.push(letter);
    }
    words
}

const START: &str = r##"from pathlib import Path
import matplotlib.pyplot as plt
import numpy as np
import polars as pl

here = Path(".")
tables = {path.stem: pl.read_parquet(path) for path in sorted(here.glob("*.parquet"))}
# The colours of the figures that flatness draws itself.
colors = {"sgd": "#0072b2", "fsgld": "#d55e00", "sam": "#009e73", "asam": "#cc79a7",
          "sgld": "#e69f00", "adamw": "#56b4e9", "rwp": "#595959"}
plt.rcParams.update({"figure.figsize": (3.3, 2.4), "font.size": 7, "figure.dpi": 150,
                     "axes.spines.top": False, "axes.spines.right": False})

def groups(table):
    """Rows of each group: the variant and the values on the axes."""
    keys = [name for name in table.columns[: table.columns.index("seed")]] if "seed" in table.columns else ["variant"]
    for values, rows in table.group_by(keys, maintain_order=True):
        yield " ".join(str(v) for v in values if v is not None and v != "") or "all", rows

{name: table.shape for name, table in tables.items()}
"##;

const MEANS: &str = r##"means = tables["means"]
keys = [c for c in means.columns if c not in ("quantity", "num_seeds", "mean", "std_dev")]
shown = [q for q in ("test_accuracy", "test_loss", "train_loss", "epoch_s", "hessian_lambda_max", "hessian_trace")
         if q in means["quantity"]]
text = pl.format("{} ± {}", pl.col("mean").round_sig_figs(4), pl.col("std_dev").round_sig_figs(2))
table = (means.filter(pl.col("quantity").is_in(shown or means["quantity"].unique().to_list()[:8]))
         .with_columns(text=pl.coalesce(text, pl.col("mean").round_sig_figs(4).cast(pl.String)))
         .pivot("quantity", index=keys, values="text"))
table
"##;

const EPOCHS: &str = r##"fig, ax = plt.subplots()
for name, rows in groups(tables["metrics"]):
    if "test_accuracy" not in rows.columns:
        continue
    curve = (rows.drop_nulls("test_accuracy").group_by("epoch")
             .agg(mean=pl.col("test_accuracy").mean(), sd=pl.col("test_accuracy").std()).sort("epoch"))
    x, y, sd = curve["epoch"], curve["mean"], curve["sd"].fill_null(0)
    ax.plot(x, y, marker="o", ms=3, color=colors.get(name), label=name)
    ax.fill_between(x, y - sd, y + sd, alpha=0.2, color=colors.get(name), lw=0)
ax.set(xlabel="epoch", ylabel="test accuracy")
ax.legend(ncol=2, frameon=False);
"##;

const SPECTRA: &str = r##"fig, ax = plt.subplots()
nodes = tables["density_nodes"].filter(pl.col("operator") == "hessian")
grid = np.logspace(-4, np.log10(nodes["node"].max()), 300)
for name, rows in groups(nodes):
    curves = []
    for _, seed in rows.group_by("seed"):
        place, weight = seed["node"].to_numpy(), seed["weight"].to_numpy()
        curves.append([weight[place >= g].sum() / seed["probe"].n_unique() for g in grid])
    curves = np.array(curves)
    ax.loglog(grid, curves.mean(0), color=colors.get(name), label=name)
    ax.fill_between(grid, curves.min(0), curves.max(0), color=colors.get(name), alpha=0.2, lw=0)
ax.set(xlabel="λ", ylabel="share of eigenvalues above λ")
ax.legend(frameon=False);
"##;

const DIFFERENCES: &str = r##"differences = tables["differences"]
names = differences["quantity"].unique(maintain_order=True).to_list()
fig, ax = plt.subplots(figsize=(3.3, 0.28 * len(names) + 0.8))
pairs = list(differences.group_by(["group", "baseline"], maintain_order=True))
for order, ((group, baseline), rows) in enumerate(pairs):
    y = [names.index(q) + 0.8 * ((order + 0.5) / len(pairs) - 0.5) for q in rows["quantity"]]
    ax.errorbar(100 * rows["relative"], y, xerr=100 * rows["relative_half_width"], fmt="o", ms=3, lw=0.8,
                color=colors.get(group), label=group)
ax.axvline(0, color="0.5", lw=0.6)
ax.set_yticks(range(len(names)), names)
ax.invert_yaxis()
span = np.nanquantile(np.abs(100 * differences["relative"].to_numpy()), 0.9) * 2
ax.set(xlim=(-span, span), xlabel=f"difference from {pairs[0][0][1]}, % of its mean")
ax.legend(frameon=False);
"##;

const RATE: &str = r##"fig, ax = plt.subplots()
for name, rows in tables["rate"].group_by("method", maintain_order=True):
    rows = rows.sort("step_size")
    ax.errorbar(rows["step_size"], rows["w1"], yerr=rows["w1_std_err"], marker="o", ms=3, color=colors.get(name[0]), label=name[0])
ax.plot(rows["step_size"], rows["w1_floor"], color="0.7", label="noise of exact draws")
ax.set(xscale="log", yscale="log", xlabel="step size λ", ylabel="W₁ to the law of the mean drift")
ax.legend(frameon=False);
"##;

const COUPLING: &str = r##"fig, axes = plt.subplots(3, sharex=True, figsize=(3.3, 5))
for name, rows in tables["coupling"].group_by("coupling", maintain_order=True):
    for ax, quantity in zip(axes, ("w1_to_v", "flat_share", "excess_risk")):
        ax.plot(rows["beta"], rows[quantity], marker="o", ms=3, label=name[0])
        ax.set(ylabel=quantity.replace("_", " "), xscale="log")
axes[0].set_yscale("log")
axes[2].set(yscale="log", xlabel="inverse temperature β")
axes[0].legend(ncol=2, frameon=False, fontsize=6);
"##;

const MASS: &str = r##"fig, ax = plt.subplots()
for name, rows in tables["mass"].group_by("method", maintain_order=True):
    ax.errorbar(rows["time"], rows["flat_share"], yerr=rows["flat_share_std_err"], lw=0.8, color=colors.get(name[0]), label=name[0])
ax.set(xlabel="time λ × steps", ylabel="share on the flat side")
ax.legend(frameon=False);
"##;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_title_is_a_title() {
        let cells = experiment_cells(crate::visible::HOSTILE, &[]);
        let NotebookCell::Words(text) = &cells[0] else { panic!("{cells:?}") };
        let title = text.lines().next().unwrap();
        assert!(title.starts_with(r"# \\u001b\[2Jevil\\n\\input\{/etc/passwd\}\<script\>\\u007f"), "{title}");
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()));
    }

    #[test]
    fn a_notebook_is_json_of_its_format_and_holds_what_there_are_tables_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ipynb");
        let cells = experiment_cells("noisy labels", &["means".into(), "rate".into()]);
        assert_eq!(cells.len(), 6);
        write_notebook(&cells, &path).unwrap();
        let notebook: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((&notebook["nbformat"], &notebook["nbformat_minor"]), (&json!(4), &json!(5)));
        let code = &notebook["cells"][1];
        assert_eq!((&code["cell_type"], &code["outputs"]), (&json!("code"), &json!([])));
        assert_eq!(code["source"][0], json!("from pathlib import Path\n"));
        let ids: std::collections::BTreeSet<_> =
            notebook["cells"].as_array().unwrap().iter().map(|cell| cell["id"].to_string()).collect();
        assert_eq!(ids.len(), 6);
    }
}
