//! Which spectra are found whole: how options meet the network and the rows.

use super::cost::basis_rows;
use super::memory::{matrix_fits, memory_for};
use super::{GRAM_BLOCKS, GRAM_ROWS, GramSize};
use crate::Result;
use crate::objective::Objective;
use crate::plan::{AnalysisOptions, DENSE_DIM, EigenMethod, PlanError};
use crate::vocabulary::Curvature;

/// Options that meet a network and its rows.
struct Fit<'a> {
    options: &'a mut AnalysisOptions,
    objective: &'a Objective<'a>,
    /// What was changed, in words.
    notes: Vec<String>,
}

/// Fits `options` to a network and its rows: the numbers of eigenpairs are cut to what the operator has, and where no
/// method was asked for, matrices are made if they are small. Returns notes on what it changed.
///
/// # Errors
/// Methods `dense` or `gram` without the memory or the products for it; `gram` for what is not a sum of outer products.
pub fn fit(options: &mut AnalysisOptions, objective: &Objective<'_>) -> Result<Vec<String>> {
    let mut fit = Fit { options, objective, notes: Vec::new() };
    fit.pairs()?;
    fit.method()?;
    fit.basis()?;
    fit.options.trace_matvecs = fit.options.max_matvecs;
    fit.options.max_matvecs = Some(fit.options.budget());
    Ok(fit.notes)
}

impl Fit<'_> {
    fn pairs(&mut self) -> Result<()> {
        let dim = self.dim()?;
        let options = &mut self.options;
        if options.top.saturating_add(options.bottom) > dim {
            options.top = options.top.min(dim);
            options.bottom = options.bottom.min(dim - options.top);
            let (top, bottom) = (options.top, options.bottom);
            self.notes.push(format!(
                "there are {dim} eigenvalues in all: the largest {top} and the smallest {bottom} are taken"
            ));
        }
        Ok(())
    }

    fn method(&mut self) -> Result<()> {
        match self.options.method {
            EigenMethod::Gram => {
                self.ask_for_gram()?;
                self.options.gram = self.options.operators.clone();
                self.options.method = EigenMethod::Lanczos;
            }
            EigenMethod::Dense => self.ask_for_dense()?,
            EigenMethod::Auto => {
                self.options.method = EigenMethod::Lanczos;
                if self.options.max_time_s.is_none() {
                    self.choose()?;
                }
            }
            EigenMethod::Lanczos | EigenMethod::Power => {}
        }
        Ok(())
    }

    /// Matrices that are small.
    fn choose(&mut self) -> Result<()> {
        for operator in self.options.operators.clone() {
            if self.takes_gram(operator)? {
                self.options.gram.push(operator);
            }
        }
        let dim = self.dim()?;
        if self.options.gram.len() < self.options.operators.len() && self.pays(dim) && dim <= DENSE_DIM {
            if matrix_fits(dim, self.memory_bytes()) {
                self.options.method = EigenMethod::Dense;
            } else {
                let size = square(dim);
                self.notes.push(format!("--memory has no room for {size}, twice: a survey estimates its spectrum"));
            }
        }
        Ok(())
    }

    /// Says so where a survey must restart because of its memory.
    fn basis(&mut self) -> Result<()> {
        if self.options.method != EigenMethod::Lanczos || self.options.gram.len() == self.options.operators.len() {
            return Ok(());
        }
        let (dim, options) = (self.dim()?, &self.options);
        let wanted = options.top + options.bottom;
        // Beside the basis there are a block, and at the end the wanted vectors.
        let vectors = basis_rows(options, dim) + options.num_probes + 2 * wanted;
        let memory_bytes = memory_for(vectors, dim * self.objective.options().dtype.size_in_bytes());
        if memory_bytes > self.memory_bytes() {
            let gibibytes = memory_bytes.div_ceil(1 << 30);
            self.notes.push(format!(
                "--memory does not hold the whole basis of a survey, so it will restart, which takes more products, and compute the \
                 density separately: {gibibytes}GiB would be enough"
            ));
        }
        Ok(())
    }

    fn dim(&self) -> Result<usize> {
        self.options.dim(self.objective.network().space())
    }

    fn memory_bytes(&self) -> usize {
        self.objective.options().execution.memory_bytes
    }

    /// Whether so many products are allowed, as far as the options say.
    fn pays(&self, count: usize) -> bool {
        self.options.max_matvecs.is_none_or(|most| most >= count)
    }

    fn too_few(&self, wanted: String) -> PlanError {
        PlanError::option("--max-matvecs", self.options.max_matvecs.unwrap_or(0), wanted)
    }

    fn ask_for_dense(&self) -> Result<()> {
        let dim = self.dim()?;
        let size = square(dim);
        if !self.pays(dim) {
            let wanted = format!("with --method dense must be {dim} or more: {size} takes a product for each row");
            return Err(self.too_few(wanted).into());
        }
        if !matrix_fits(dim, self.memory_bytes()) {
            let reason = format!("takes more memory than --memory has for it: {size}, twice; use lanczos");
            return Err(PlanError::option("--method", "dense", reason).into());
        }
        Ok(())
    }

    fn ask_for_gram(&self) -> Result<()> {
        let refused = |reason: String| Err(PlanError::option("--method", "gram", reason).into());
        for &operator in &self.options.operators {
            let name = operator.name();
            let Some(size) = GramSize::of(self.objective, operator, self.options)? else {
                return refused(match self.objective.coupling() {
                    Some(coupling) => format!("needs rows that are independent: {coupling}"),
                    None => format!("needs a sum of outer products, and the {name} is not known to be one"),
                });
            };
            let rows = size.rows;
            if !self.pays(rows) {
                let wanted = format!(
                    "with --method gram must be {rows} or more: the Gram matrix of the {name} has that many rows"
                );
                return Err(self.too_few(wanted).into());
            }
            if size.blocks.is_none() {
                let size = square(rows);
                return refused(format!("takes more memory than --memory has for it: {size}, twice; use lanczos"));
            }
        }
        Ok(())
    }

    /// Whether nothing but counts speaks for the Gram matrix of `operator`: its rows, and the blocks in which memory holds
    /// them.
    fn takes_gram(&mut self, operator: Curvature) -> Result<bool> {
        let dim = self.dim()?;
        let Some(size) = GramSize::of(self.objective, operator, self.options)? else { return Ok(false) };
        let small = size.rows <= GRAM_ROWS && (dim > DENSE_DIM || size.rows < dim);
        if !small || !self.pays(size.rows) {
            return Ok(false);
        }
        let fits = size.blocks.is_some_and(|blocks| blocks.count <= GRAM_BLOCKS);
        if !fits && dim > DENSE_DIM {
            let (name, rows) = (operator.name(), size.rows);
            self.notes.push(format!(
                "--memory has too little room for the {rows} rows of the Gram matrix of the {name}: a survey estimates its \
                 spectrum"
            ));
        }
        Ok(fits)
    }
}

fn square(dim: usize) -> String {
    format!("a matrix of {dim} × {dim}")
}
