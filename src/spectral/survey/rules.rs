//! Gauss rules of a block Krylov space: the spectral measure that each start vector sees.

use nalgebra::DMatrix;

use crate::Result;
use crate::operator::symmetric_eigen;
use crate::spectral::measure::FEWEST_STEPS_COMPARED;
use crate::spectral::{Quadrature, SlqReport};

use crate::spectral::search::Search;
use crate::spectral::state::{SurveyState, damaged};

/// Block steps between comparisons with a shorter rule.
const STEPS_BETWEEN_CHECKS: usize = 4;

/// The rules of all start vectors.
pub(super) struct Rules {
    pub(super) probes: Vec<Quadrature>,
    /// Those of three quarters of the steps; empty where these are too few.
    pub(super) shorter: Vec<Quadrature>,
    /// Lowest and highest nodes that are known eigenvalues: see [`SlqReport::known`].
    pub(super) known: [usize; 2],
    /// Block steps: each rule is exact for polynomials of degree `2·num_steps − 1` at least.
    pub(super) num_steps: usize,
}

/// Eigenvalues at the two ends that are known exactly.
#[derive(Clone, Copy)]
struct Known {
    /// Number of all eigenvalues.
    dim: usize,
    bottom: usize,
    top: usize,
}

/// Whether a check is due after so many block steps, where `enough` are wanted.
pub(super) fn is_due(num_steps: usize, enough: usize) -> bool {
    num_steps == enough || num_steps >= 2 * STEPS_BETWEEN_CHECKS && num_steps.is_multiple_of(STEPS_BETWEEN_CHECKS)
}

impl Rules {
    /// Of the present basis, which has not restarted (Golub & Meurant 2010, chapter 6, for blocks): nodes are its Ritz
    /// values, weights the squared components of the Ritz vectors on each start vector.
    ///
    /// Known eigenvalues at the ends count with their exact weight `1/n` each, and the weights of the others are scaled to
    /// the rest: the part of a start vector in the complement of known eigenvectors is uniform there, so this removes
    /// the probe noise of the outliers, which is most of it.
    pub(super) fn of(search: &Search<'_>, num_probes: usize) -> Self {
        let (projected, ritz) = (search.state.projected(), &search.ritz);
        let rows = projected.nrows();
        let dim = search.operator.dim();
        let exact = search.state.is_complete() || search.state.closed > 0;
        let known = if search.state.is_complete() {
            Known { dim, bottom: 0, top: rows }
        } else {
            let [bottom, top] = search.known_at_ends();
            Known { dim, bottom, top }
        };
        let probes = rules(&ritz.values, &ritz.vectors, num_probes, known, exact);
        let num_steps = rows.div_ceil(num_probes);
        let before = (3 * num_steps / 4) * num_probes;
        let shorter = if exact {
            probes.clone()
        } else if num_steps < FEWEST_STEPS_COMPARED {
            Vec::new()
        } else {
            let (values, vectors) = symmetric_eigen(projected.view((0, 0), (before, before)).into_owned());
            // Known are those ends alone that had settled by then.
            let near = |a: f64, b: f64| (a - b).abs() <= search.params.tolerance * search.scale();
            let pairs = values.iter().zip(&ritz.values).take(known.bottom);
            let bottom = pairs.take_while(|(a, b)| near(**a, **b)).count();
            let pairs = values.iter().rev().zip(ritz.values.iter().rev()).take(known.top);
            let top = pairs.take_while(|(a, b)| near(**a, **b)).count();
            rules(&values, &vectors, num_probes, Known { dim, bottom, top: top.min(before - bottom) }, false)
        };
        Self { probes, shorter, known: [known.bottom, known.top], num_steps }
    }

    /// In the form of a report, without a trace.
    pub(super) fn report(self, dim: usize) -> SlqReport {
        let Self { probes, shorter, known, num_steps } = self;
        SlqReport { probes, shorter, known, num_steps, interrupted: false, ..SlqReport::none(dim) }
    }
}

/// In files.
impl SurveyState {
    pub(super) fn put_rules(&mut self, rules: &Rules) -> Result<()> {
        let [bottom, top] = rules.known;
        self.put_numbers("rules", &[rules.num_steps, bottom, top].map(|count| count as f64))?;
        for (name, rules) in [("rules", &rules.probes), ("shorter", &rules.shorter)] {
            for (index, rule) in rules.iter().enumerate() {
                self.put_numbers(&format!("{name}.{index}.nodes"), &rule.nodes)?;
                self.put_numbers(&format!("{name}.{index}.weights"), &rule.weights)?;
                self.put_numbers(&format!("{name}.{index}.exact"), &[f64::from(u8::from(rule.exact))])?;
            }
        }
        Ok(())
    }

    pub(super) fn rules(&self) -> Result<Option<Rules>> {
        if !self.tensors.contains_key("rules") {
            return Ok(None);
        }
        let &[num_steps, bottom, top] = self.numbers("rules")?.as_slice() else { return Err(damaged("rules")) };
        let (probes, shorter) = (self.quadratures("rules")?, self.quadratures("shorter")?);
        let known = [bottom as usize, top as usize];
        if probes.iter().any(|rule| rule.nodes.len() < known[0].saturating_add(known[1])) {
            return Err(damaged("rules"));
        }
        Ok(Some(Rules { probes, shorter, known, num_steps: num_steps as usize }))
    }

    fn quadratures(&self, name: &str) -> Result<Vec<Quadrature>> {
        let mut rules = Vec::new();
        while self.tensors.contains_key(&format!("{name}.{}.nodes", rules.len())) {
            let part = |part: &str| self.numbers(&format!("{name}.{}.{part}", rules.len()));
            rules.push(Quadrature { nodes: part("nodes")?, weights: part("weights")?, exact: part("exact")? == [1.0] });
        }
        Ok(rules)
    }
}

fn rules(nodes: &[f64], vectors: &DMatrix<f64>, num_probes: usize, known: Known, exact: bool) -> Vec<Quadrature> {
    let unknown = known.bottom..nodes.len() - known.top;
    let rest = 1.0 - (known.bottom + known.top) as f64 / known.dim as f64;
    (0..num_probes.min(vectors.nrows()))
        .map(|probe| {
            let mut weights: Vec<f64> = vectors.row(probe).iter().map(|component| component * component).collect();
            let seen: f64 = weights[unknown.clone()].iter().sum();
            for (index, weight) in weights.iter_mut().enumerate() {
                if !unknown.contains(&index) {
                    *weight = 1.0 / known.dim as f64;
                } else if seen > 0.0 {
                    *weight *= rest / seen;
                }
            }
            Quadrature { nodes: nodes.to_vec(), weights, exact }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_eigenvalues_weigh_one_nth_and_the_rest_keeps_its_shape() {
        let vectors = DMatrix::from_row_slice(1, 3, &[0.6, 0.0, 0.8]);
        let rule = &rules(&[-1.0, 0.0, 9.0], &vectors, 1, Known { dim: 10, bottom: 0, top: 1 }, false)[0];
        assert!((rule.weights[2] - 0.1).abs() < 1e-15 && (rule.weights[0] - 0.9).abs() < 1e-15);
        let all = &rules(&[-1.0, 0.0, 9.0], &vectors, 1, Known { dim: 3, bottom: 0, top: 3 }, true)[0];
        assert!(all.weights.iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-15));
    }
}
