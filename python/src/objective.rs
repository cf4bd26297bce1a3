//! Networks, rows, objectives and their matrices, in memory.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io::sink;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use flatness::checkpoint::Checkpoint;
use flatness::cli::{Session, Ui, open};
use flatness::curvature::{Curvature, CurvatureOperator};
use flatness::data::Dataset;
use flatness::operator::LinearOperator;
use flatness::plan::Given;
use flatness::spectral::SpectralError;
use numpy::PyUntypedArray;
use pyo3::prelude::*;
use self_cell::self_cell;

use crate::arrays::{Array, array, tensor};
use crate::calls::{Stoppable, exception, outside};

/// Arrays by name, as a dict of Python gives them.
type Arrays<'py> = HashMap<String, Bound<'py, PyUntypedArray>>;

/// A network with its weights: a snapshot of a module.
#[pyclass(frozen)]
pub struct Network {
    pub(crate) checkpoint: Arc<Checkpoint>,
}

#[pymethods]
impl Network {
    /// From what `flatness.export` makes of a module: graphs as JSON, and tensors by name.
    #[new]
    fn new(py: Python<'_>, name: &str, content: &str, tensors: Arrays<'_>) -> PyResult<Self> {
        let tensors = tensors.iter().map(|(name, array)| Ok((name.clone(), tensor(array)?)));
        let tensors: BTreeMap<String, Tensor> = tensors.collect::<PyResult<_>>()?;
        let checkpoint = outside(py, |_| Checkpoint::exported(name, content, &tensors))?;
        Ok(Self { checkpoint: Arc::new(checkpoint) })
    }

    /// Names and shapes of the parameters, in the order of the flat vector.
    #[getter]
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let tensors = self.checkpoint.network.space().tensors().iter();
        tensors.map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
    }

    /// Notes on how the weights were found.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.checkpoint.notes.clone()
    }

    #[getter]
    fn sha256(&self) -> &str {
        &self.checkpoint.sha256
    }
}

/// Inputs by name and targets `y`, one row for each sample.
#[pyclass(frozen)]
pub struct Rows {
    pub(crate) data: Arc<Dataset>,
}

#[pymethods]
impl Rows {
    #[new]
    fn new(py: Python<'_>, arrays: Arrays<'_>) -> PyResult<Self> {
        let arrays = arrays.iter().map(|(name, array)| Ok((name.clone(), Array::of(array)?)));
        let arrays: Vec<(String, Array<'_>)> = arrays.collect::<PyResult<_>>()?;
        let views = arrays.iter().map(|(name, array)| Ok((name.clone(), array.view()?)));
        let views: BTreeMap<_, _> = views.collect::<PyResult<_>>()?;
        let data = outside(py, |_| Dataset::of_tensors(&views))?;
        Ok(Self { data: Arc::new(data) })
    }

    fn __len__(&self) -> usize {
        self.data.len()
    }

    #[getter]
    fn sha256(&self) -> &str {
        &self.data.sha256
    }
}

type Borrowing<'a> = flatness::objective::Objective<'a>;
type Matrix<'a> = CurvatureOperator<'a>;

self_cell! {
    struct HeldObjective {
        owner: Session,
        #[covariant]
        dependent: Borrowing,
    }
}

self_cell! {
    struct HeldOperator {
        owner: Arc<HeldObjective>,
        #[covariant]
        dependent: Matrix,
    }
}

/// The mean loss of a network over rows, at the network's weights.
#[pyclass(frozen)]
pub struct Objective {
    held: Arc<HeldObjective>,
    _then: Release,
}

#[pymethods]
impl Objective {
    /// `arguments` are options of `analyze` on data, loss and computation.
    #[new]
    fn new(py: Python<'_>, network: &Network, rows: &Rows, arguments: Vec<OsString>) -> PyResult<Self> {
        let given = Given { checkpoint: network.checkpoint.clone(), data: rows.data.clone() };
        let held = outside(py, move |stop| {
            let mut ui = Ui::captured(Box::new(sink()), Box::new(sink()), stop);
            HeldObjective::try_new(open(&arguments, given, &mut ui)?, |session| {
                Borrowing::new(&session.checkpoint.network, &session.data, session.options.clone())
            })
        })?;
        Ok(Self { held: Arc::new(held), _then: Release })
    }

    /// Loss, rows and computation in words.
    #[getter]
    fn statement(&self) -> String {
        self.held.borrow_owner().statement()
    }

    /// Number of rows.
    #[getter]
    fn num_rows(&self) -> usize {
        self.objective().num_rows()
    }

    /// The name of the numbers' type in NumPy.
    #[getter]
    fn dtype(&self) -> &'static str {
        if self.objective().options().dtype == DType::F64 { "float64" } else { "float32" }
    }

    /// Loss, its standard error over rows, accuracy, its standard error.
    fn evaluate(&self, py: Python<'_>) -> PyResult<(f64, f64, f64, f64)> {
        let found = outside(py, |stop| {
            let objective = self.objective();
            objective.evaluate(&objective.place(&self.theta())?, &mut Stoppable(stop))
        })?;
        Ok((found.loss, found.loss_std_err, found.accuracy, found.accuracy_std_err))
    }

    /// The parameters `[n]`.
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let theta = outside(py, |_| self.objective().place(&self.theta()))?;
        array(py, &theta)
    }

    /// The gradient `[n]`.
    fn gradient<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let found = outside(py, |stop| {
            let objective = self.objective();
            objective.gradient(&objective.place(&self.theta())?, &mut Stoppable(stop))
        })?;
        array(py, &found.gradient)
    }

    /// The matrix of that name.
    fn operator(&self, py: Python<'_>, curvature: &str) -> PyResult<Operator> {
        let held = outside(py, |_| {
            let curvature = curvature.parse::<Curvature>()?;
            HeldOperator::try_new(self.held.clone(), |held| {
                CurvatureOperator::new(held.borrow_dependent(), &held.borrow_owner().checkpoint.theta, curvature)
            })
        })?;
        Ok(Operator { held, _then: Release })
    }
}

impl Objective {
    fn objective(&self) -> &Borrowing<'_> {
        self.held.borrow_dependent()
    }

    fn theta(&self) -> Tensor {
        self.held.borrow_owner().checkpoint.theta.clone()
    }
}

/// A curvature matrix of an objective.
#[pyclass(frozen)]
pub struct Operator {
    held: HeldOperator,
    _then: Release,
}

/// Returns freed memory, which products keep for the next ones, to the system. It is the last field, and so the last to go.
struct Release;

impl Drop for Release {
    fn drop(&mut self) {
        crate::ALLOCATOR.release();
    }
}

impl Operator {
    pub(crate) fn matrix(&self) -> &dyn LinearOperator {
        self.held.borrow_dependent()
    }
}

#[pymethods]
impl Operator {
    /// `[k, n]` to `[k, n]`, in the objective's type: products with the rows.
    fn products<'py>(&self, py: Python<'py>, vectors: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyAny>> {
        let vectors = tensor(vectors)?;
        let products = outside(py, |stop| self.matrix().multiply(&vectors, &mut Stoppable(stop)))?;
        let sums = products.to_dtype(DType::F64).and_then(|products| products.sum_all()?.to_scalar::<f64>());
        match sums {
            Ok(sum) if sum.is_finite() => array(py, &products),
            _ => {
                let error = SpectralError::NonFinite { method: "product", matvec: 1 };
                Err(exception(py, &error.to_string(), error.hint().as_deref()))
            }
        }
    }
}
