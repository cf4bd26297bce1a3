//! How the arguments of `analyze` meet the network and the rows: which spectra are found whole.

use super::Ui;
use super::analyze_args::{MethodArg, SurveyArgs};
use super::args::argument;
use crate::Result;
use crate::analysis::{AnalysisOptions, DENSE_DIM, EigenMethod, GRAM_BLOCKS, GRAM_ROWS, GramSize, matrix_fits};
use crate::objective::Objective;
use crate::vocabulary::Curvature;

impl SurveyArgs {
    /// Fits `options` to a network and its rows: the numbers of eigenpairs are cut to what the operator has, and where no
    /// method was asked for, matrices are made if they are small. Says what it changes.
    ///
    /// # Errors
    /// `--method dense` or `gram` without the memory or the products for it; `gram` for what is not a sum of outer products.
    pub(super) fn fit(&self, options: &mut AnalysisOptions, objective: &Objective<'_>, ui: &mut Ui) -> Result<()> {
        let dim = options.dim(objective.network().space())?;
        if options.top.saturating_add(options.bottom) > dim {
            options.top = options.top.min(dim);
            options.bottom = options.bottom.min(dim - options.top);
            let (top, bottom) = (options.top, options.bottom);
            ui.say(&format!(
                "note: there are {dim} eigenvalues in all: the largest {top} and the smallest {bottom} are taken"
            ));
        }
        match self.method {
            Some(MethodArg::Gram) => self.ask_for_gram(options, objective),
            Some(MethodArg::Dense) => self.ask_for_dense(dim, objective.options().execution.memory_bytes),
            None if self.max_time.is_none() => {
                for kind in options.operators.clone() {
                    if self.takes_gram(options, (objective, kind), ui)? {
                        options.gram.push(kind);
                    }
                }
                if options.gram.len() < options.operators.len() && self.pays(dim) && dim <= DENSE_DIM {
                    if matrix_fits(dim, objective.options().execution.memory_bytes) {
                        options.method = EigenMethod::Dense;
                    } else {
                        let size = square(dim);
                        let note = "a survey estimates its spectrum";
                        ui.say(&format!("note: --memory has no room for {size}, twice: {note}"));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether so many products are allowed, as far as the command says.
    fn pays(&self, count: usize) -> bool {
        self.max_matvecs.is_none_or(|most| most >= count)
    }

    fn ask_for_dense(&self, dim: usize, memory_bytes: usize) -> Result<()> {
        let size = square(dim);
        if !self.pays(dim) {
            let wanted = format!("with --method dense must be {dim} or more: {size} takes a product for each row");
            return Err(argument("--max-matvecs", &self.max_matvecs.unwrap_or(0).to_string(), &wanted));
        }
        if !matrix_fits(dim, memory_bytes) {
            let wanted = format!("takes more memory than --memory has for it: {size}, twice; use lanczos");
            return Err(argument("--method", "dense", &wanted));
        }
        Ok(())
    }

    fn ask_for_gram(&self, options: &mut AnalysisOptions, objective: &Objective<'_>) -> Result<()> {
        let refused = |wanted: String| Err(argument("--method", "gram", &wanted));
        for &kind in &options.operators {
            let name = kind.name();
            let Some(size) = GramSize::of(objective, kind, options)? else {
                return refused(match objective.coupling() {
                    Some(coupling) => format!("needs rows that are independent: {coupling}"),
                    None => format!("needs a sum of outer products, and the {name} is not known to be one"),
                });
            };
            let rows = size.rows;
            if !self.pays(rows) {
                let wanted =
                    format!("with --method gram must be {rows} or more: so many rows has the matrix of the {name}");
                return Err(argument("--max-matvecs", &self.max_matvecs.unwrap_or(0).to_string(), &wanted));
            }
            if size.blocks.is_none() {
                let size = square(rows);
                return refused(format!("takes more memory than --memory has for it: {size}, twice; use lanczos"));
            }
        }
        options.gram = options.operators.clone();
        Ok(())
    }

    /// Whether nothing but counts speaks for the Gram matrix of `kind`: its rows, and the blocks in which memory holds them.
    fn takes_gram(
        &self,
        options: &AnalysisOptions,
        (objective, kind): (&Objective<'_>, Curvature),
        ui: &mut Ui,
    ) -> Result<bool> {
        let dim = options.dim(objective.network().space())?;
        let Some(size) = GramSize::of(objective, kind, options)? else { return Ok(false) };
        let small = size.rows <= GRAM_ROWS && (dim > DENSE_DIM || size.rows < dim);
        if !small || !self.pays(size.rows) {
            return Ok(false);
        }
        let fits = size.blocks.is_some_and(|blocks| blocks.count <= GRAM_BLOCKS);
        if !fits && dim > DENSE_DIM {
            let (name, rows) = (kind.name(), size.rows);
            ui.say(&format!(
                "note: --memory has too little room for the {rows} rows of the Gram matrix of the {name}: a survey \
                 estimates its spectrum"
            ));
        }
        Ok(fits)
    }
}

fn square(dim: usize) -> String {
    format!("a matrix of {dim} × {dim}")
}
