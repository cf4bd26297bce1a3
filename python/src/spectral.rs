//! Krylov methods and estimators on a matrix, each as a dict of what is found.

use candle_core::Tensor;
use flatness::random::{Purpose, stream};
use flatness::spectral::{EigenParams, EigenReport, SlqParams, TraceParams, eigenpairs_from, hutchinson, slq};
use numpy::{PyUntypedArray, ToPyArray};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::arrays::{array, tensor};
use crate::calls::{Stoppable, outside};
use crate::objective::Operator;

/// Which eigenpairs.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Pairs<'py> {
    top: usize,
    bottom: usize,
    tolerance: f64,
    max_matvecs: usize,
    seed: u64,
    start: Option<Bound<'py, PyUntypedArray>>,
}

#[pymethods]
impl Operator {
    /// Extreme eigenpairs, the largest before the smallest: `values`, `residual_norms`, `std_err_data`, `converged`,
    /// `vectors` `[k, n]`, `num_matvecs`.
    fn eigenpairs<'py>(&self, py: Python<'py>, asked: Pairs<'py>) -> PyResult<Bound<'py, PyDict>> {
        let start = asked.start.as_ref().map(tensor).transpose()?;
        let Pairs { top, bottom, tolerance, max_matvecs, seed, .. } = asked;
        let params = EigenParams { top, bottom, tolerance, max_matvecs, ..EigenParams::default() };
        let found = outside(py, |stop| {
            let rng = &mut stream(seed, Purpose::Eigenpairs);
            eigenpairs_from(start.as_ref(), self.matrix(), &params, rng, &mut Stoppable(stop))
        })?;
        let ends = [&found.top, &found.bottom];
        let numbers = |part: fn(&EigenReport) -> &[f64]| -> Vec<f64> {
            ends.iter().flat_map(|end| part(end).iter().copied()).collect()
        };
        let vectors: Vec<&Tensor> = ends.iter().map(|end| &end.vectors).filter(|v| v.dims()[0] > 0).collect();
        let converged: Vec<bool> = ends.iter().flat_map(|end| end.converged.iter().copied()).collect();
        let result = PyDict::new(py);
        result.set_item("values", numbers(|end| &end.ritz_values).to_pyarray(py))?;
        result.set_item("residual_norms", numbers(|end| &end.residual_norms).to_pyarray(py))?;
        result.set_item("std_err_data", numbers(|end| &end.std_err_data).to_pyarray(py))?;
        result.set_item("converged", converged.to_pyarray(py))?;
        let stacked = outside(py, |_| Ok(Tensor::cat(&vectors, 0)?))?;
        result.set_item("vectors", array(py, &stacked)?)?;
        result.set_item("num_matvecs", found.top.num_matvecs)?;
        Ok(result)
    }

    /// Hutchinson's trace: `value`, `std_err_numeric`, `std_err_data`, `samples`, `num_matvecs`.
    fn trace<'py>(&self, py: Python<'py>, num_probes: usize, seed: u64) -> PyResult<Bound<'py, PyDict>> {
        let found = outside(py, |stop| {
            let params = TraceParams { num_probes };
            hutchinson(self.matrix(), &params, &mut stream(seed, Purpose::Probes), &mut Stoppable(stop))
        })?;
        let result = PyDict::new(py);
        result.set_item("value", found.trace)?;
        result.set_item("std_err_numeric", found.std_err_numeric)?;
        result.set_item("std_err_data", found.std_err_data)?;
        result.set_item("samples", found.samples.to_pyarray(py))?;
        result.set_item("num_matvecs", found.num_matvecs)?;
        Ok(result)
    }

    /// Gauss rules of the spectral measure, one for each probe: lists of `nodes` and of `weights`, which add up to 1.
    fn quadrature<'py>(
        &self,
        py: Python<'py>,
        num_probes: usize,
        num_steps: usize,
        seed: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let found = outside(py, |stop| {
            let params = SlqParams { num_probes, num_steps, ..SlqParams::default() };
            slq(self.matrix(), &params, &mut stream(seed, Purpose::Probes), &mut Stoppable(stop))
        })?;
        let result = PyDict::new(py);
        result.set_item("nodes", PyList::new(py, found.probes.iter().map(|rule| rule.nodes.to_pyarray(py)))?)?;
        result.set_item("weights", PyList::new(py, found.probes.iter().map(|rule| rule.weights.to_pyarray(py)))?)?;
        result.set_item("num_matvecs", found.num_matvecs)?;
        Ok(result)
    }
}
