//! Entries chosen by their places: by whole numbers, or in another order along an axis.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::autodiff::Value;
use crate::kernels;
use crate::program::cost::Cost;
use crate::program::fact::{Tracked, axis, broadcast};
use crate::program::operation::{Affinity, Operation, fact};
use crate::program::rows::{self, COUNTS};
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Operand, Results, Size, Start, View, ViewAs};

/// `input[i₀, i₁, …]`: whole numbers, broadcast together, choose along the first axes; `None` takes all of an axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {}

/// The entry of each place of `index` along an axis; the places of the other axes are those of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The axis.
    pub dim: i64,
}

/// Entries moved along axes; what leaves at the end comes in at the front.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roll {
    /// By how many places.
    pub shifts: Vec<i64>,
    /// Along which axes.
    pub dims: Vec<i64>,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "index" => index(call),
        "index_select" => index_select(call),
        "gather" | "take_along_dim" => gather(call),
        "roll" => roll(call),
        _ => return None,
    })
}

fn index(call: &mut Call<'_>) -> Results {
    let mut operands = vec![call.operand("self")?];
    operands.extend(call.operands("indices")?);
    call.gives(Index {}, operands)
}

fn index_select(call: &mut Call<'_>) -> Results {
    let (x, dim, index) = (call.operand("self")?, call.int("dim", None)?, call.operand("index")?);
    let dim = axis(dim, if dim < 0 { call.rank(&x)? } else { 16 })?;
    let mut operands = vec![x];
    operands.extend(vec![Operand::None; dim]);
    operands.push(index);
    call.gives(Index {}, operands)
}

fn gather(call: &mut Call<'_>) -> Results {
    let (x, dim) = (call.operand("self")?, call.int("dim", None)?);
    let index = call.operand(if call.has("indices") { "indices" } else { "index" })?;
    let sparse = call.flag("sparse_grad", false)?;
    call.only("sparse_grad", sparse, false)?;
    call.gives(Gather { dim }, [x, index])
}

fn roll(call: &mut Call<'_>) -> Results {
    let (x, shifts, dims) = (call.operand("self")?, call.ints("shifts")?, call.ints("dims")?);
    match (shifts, dims.filter(|dims| !dims.is_empty())) {
        (Some(shifts), None) if shifts.len() == 1 => {
            let flat = call.push(View { size: vec![Size::fixed(-1)] }, [x.clone()]);
            let rolled = call.push(Roll { shifts, dims: vec![0] }, [flat]);
            call.gives(ViewAs {}, [rolled, x])
        }
        (Some(shifts), Some(dims)) if shifts.len() == dims.len() => call.gives(Roll { shifts, dims }, [x]),
        _ => Err("it needs a shift for each axis".into()),
    }
}

/// The answers that are alike.
macro_rules! answers {
    ($name:literal, $operands:expr) => {
        fn name(&self) -> &'static str {
            $name
        }

        fn operands(&self) -> &'static [&'static str] {
            $operands
        }

        fn cost(&self, _operands: &[Option<&Fact>], result: &Fact) -> Cost {
            Cost::of_result(result)
        }

        /// A learned table, such as one of relative positions.
        fn start(&self, _place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
            Start::NARROW
        }

        fn affinity(&self, _in_training: bool) -> Affinity {
            Affinity::AFFINE
        }
    };
}

/// Steps from an entry of each axis to the next.
pub(super) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    (1..dims.len()).rev().for_each(|axis| strides[axis - 1] = strides[axis] * dims[axis]);
    strides
}

/// An axis of a result, as steps in the flattened operand for each of its entries.
pub(super) fn all_of(size: usize, stride: usize) -> Vec<usize> {
    (0..size).map(|entry| entry * stride).collect()
}

/// Where each entry of a result lies in the flattened operand: the sums of the steps of its axes.
pub(super) fn places(axes: &[Vec<usize>]) -> Vec<usize> {
    let join = |places: Vec<usize>, steps: &Vec<usize>| {
        places.iter().flat_map(|place| steps.iter().map(move |step| place + step)).collect()
    };
    axes.iter().fold(vec![0], join)
}

impl<V: Value> Run<'_, V> {
    /// Entries of the first operand, floats or whole numbers, by their places in it.
    pub(super) fn chosen(&mut self, operands: &[Slot<V>], places: &[usize], shape: &[usize]) -> Result<Slot<V>> {
        let places: Option<Vec<u32>> = places.iter().map(|&place| u32::try_from(place).ok()).collect();
        let places = places.ok_or_else(|| self.misfit("more than 2^32 entries to choose from"))?;
        let indices = Tensor::from_vec(places, shape, &self.device)?;
        self.moved(operands, |dims| Ok(vec![kernels::Linear::Gather { indices: indices.clone(), from: dims.to_vec() }]))
    }

    /// Whole numbers of an operand, each below `size`; negative ones count from the end.
    pub(super) fn entries(&self, tensor: &Tensor, size: usize) -> Result<Vec<usize>> {
        let entries = tensor.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::I64)?;
        let entry = |&entry: &i64| {
            let from_end = if entry < 0 { entry + size as i64 } else { entry };
            let found = usize::try_from(from_end).ok().filter(|&entry| entry < size);
            found.ok_or_else(|| self.misfit(format!("entry {entry} is out of range for {size} entries")))
        };
        entries.to_vec1::<i64>()?.iter().map(entry).collect()
    }
}

/// Which axes are chosen from, and where the chosen entries stand in the result.
pub(super) struct Layout {
    chosen: Vec<usize>,
    /// Shape of the indices together.
    block: Vec<usize>,
    /// The axis of the result at which the block begins.
    at: usize,
}

impl Layout {
    pub(super) fn new(rank: usize, indices: &[Option<Vec<usize>>]) -> Result<Self, String> {
        let chosen: Vec<usize> = (0..indices.len()).filter(|&axis| indices[axis].is_some()).collect();
        if chosen.is_empty() || indices.len() > rank {
            return Err(format!("{} indices do not fit {rank} axes", indices.len()));
        }
        let block = indices.iter().flatten().try_fold(Vec::new(), |block, shape| broadcast(&block, shape))?;
        let together = chosen.windows(2).all(|pair| pair[1] == pair[0] + 1);
        Ok(Self { at: if together { chosen[0] } else { 0 }, chosen, block })
    }

    /// The axes of the result: `Ok` an axis of the operand, `Err` the block.
    fn axes(&self, rank: usize) -> Vec<Result<usize, ()>> {
        let mut axes: Vec<Result<usize, ()>> = (0..rank).filter(|axis| !self.chosen.contains(axis)).map(Ok).collect();
        axes.insert(self.at, Err(()));
        axes
    }

    pub(super) fn shape(&self, dims: &[usize]) -> Vec<usize> {
        let sizes = |axis: Result<usize, ()>| axis.map_or_else(|()| self.block.clone(), |axis| vec![dims[axis]]);
        self.axes(dims.len()).into_iter().flat_map(sizes).collect()
    }
}

impl Operation for Index {
    answers!("index", &["input", "indices"]);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        if operands[1..].iter().flatten().any(|index| index.kind != Kind::Whole) {
            return Err("expects whole numbers as indices".into());
        }
        let shapes: Vec<_> = operands[1..].iter().map(|index| index.map(|index| index.shape.clone())).collect();
        let shape = Layout::new(x.shape.len(), &shapes)?.shape(&x.shape);
        Ok(Fact { kind: x.kind, ..Fact::float(&shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        let x = fact(operands, 0)?;
        let shapes: Vec<_> = operands[1..].iter().map(|index| index.map(|index| index.shape.clone())).collect();
        let layout = Layout::new(x.shape.len(), &shapes)?;
        let moved = |index: &Fact| {
            index.rows.map(|rows| rows.at(layout.at + rows.axis + layout.block.len() - index.shape.len()))
        };
        let in_block: Vec<_> = operands[1..].iter().flatten().filter_map(|index| moved(index)).collect();
        let Some(rows) = x.rows else {
            return match in_block.as_slice() {
                [] => Ok(None),
                all if all.iter().any(|rows| rows.places) => Err(COUNTS.into()),
                [first, others @ ..] if others.iter().all(|other| other == first) => Ok(Some(*first)),
                _ => Err("its indices have their rows along different axes".into()),
            };
        };
        if let Some(Some(index)) = operands.get(1 + rows.axis) {
            // Row n is looked up at place n: each row sees itself.
            return match index.rows {
                Some(own) if own.places && [own, rows].iter().all(|rows| (rows.outer, rows.inner) == (1, 1)) => {
                    let own = moved(index).map(|own| super::super::RowAxis { places: rows.places, ..own });
                    let others = in_block.iter().filter(|other| !other.places);
                    match others.into_iter().all(|other| Some(other.axis) == own.map(|own| own.axis)) {
                        true => Ok(own),
                        false => Err("its indices have their rows along different axes".into()),
                    }
                }
                _ => Err("it chooses among the rows".into()),
            };
        }
        if !in_block.is_empty() {
            return Err("its indices depend on the rows, and so does what they choose from".into());
        }
        let before = layout.axes(x.shape.len()).iter().position(|axis| *axis == Ok(rows.axis)).unwrap_or(0);
        Ok(Some(rows.at(if before > layout.at { before - 1 + layout.block.len() } else { before })))
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let dims = operands.first().map_or(Ok(Vec::new()), Slot::shape)?;
        let (places, shape) = run.indexed(&dims, operands, 1)?;
        run.chosen(operands, &places, &shape)
    }
}

impl<V: Value> Run<'_, V> {
    /// Where the entries that the operands from `first` on choose lie in a flattened value, and the shape of the result.
    pub(super) fn indexed(
        &self,
        dims: &[usize],
        operands: &[Slot<V>],
        first: usize,
    ) -> Result<(Vec<usize>, Vec<usize>)> {
        let mut indices = Vec::new();
        for (place, operand) in operands.iter().enumerate().skip(first) {
            indices.push(if matches!(operand, Slot::None) { None } else { Some(self.whole(operands, place)?) });
        }
        let shapes: Vec<_> = indices.iter().map(|index| index.as_ref().map(|index| index.dims().to_vec())).collect();
        let layout = Layout::new(dims.len(), &shapes).map_err(|reason| self.misfit(reason))?;
        let strides = strides(dims);
        let mut block = vec![0; layout.block.iter().product()];
        for (axis, index) in indices.iter().enumerate() {
            let Some(index) = index else { continue };
            let entries = self.entries(&index.broadcast_as(layout.block.as_slice())?, dims[axis])?;
            block.iter_mut().zip(entries).for_each(|(place, entry)| *place += entry * strides[axis]);
        }
        let steps =
            |axis: Result<usize, ()>| axis.map_or_else(|()| block.clone(), |axis| all_of(dims[axis], strides[axis]));
        let axes: Vec<Vec<usize>> = layout.axes(dims.len()).into_iter().map(steps).collect();
        Ok((places(&axes), layout.shape(dims)))
    }

    /// Where the entries that `index` chooses along an axis lie in a flattened value.
    pub(super) fn gathered(&self, dims: &[usize], index: &Tensor, along: usize) -> Result<Vec<usize>> {
        let (shape, strides) = (index.dims(), strides(dims));
        let steps = |at: usize| all_of(shape[at], if at == along { 0 } else { strides[at] });
        let mut places = places(&(0..dims.len()).map(steps).collect::<Vec<_>>());
        let entries = self.entries(index, dims[along])?;
        places.iter_mut().zip(entries).for_each(|(place, entry)| *place += entry * strides[along]);
        Ok(places)
    }
}

impl Operation for Gather {
    answers!("gather", &["input", "index"]);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, index) = (fact(operands, 0)?, fact(operands, 1)?);
        let along = axis(self.dim, x.shape.len())?;
        let fits = |at: usize| at == along || index.shape[at] <= x.shape[at];
        if index.kind != Kind::Whole || index.shape.len() != x.shape.len() || !(0..x.shape.len()).all(fits) {
            return Err(format!("indices of shape {:?} do not fit {:?}", index.shape, x.shape));
        }
        Ok(Fact { kind: x.kind, ..Fact::float(&index.shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let along = axis(self.dim, result.shape.len())?;
        rows::together(operands[0], &[along])?;
        rows::elementwise(operands, result.shape.len())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (dims, index) = (operands.first().map_or(Ok(Vec::new()), Slot::shape)?, run.whole(operands, 1)?);
        let along = axis(self.dim, dims.len()).map_err(|reason| run.misfit(reason))?;
        let places = run.gathered(&dims, &index, along)?;
        run.chosen(operands, &places, index.dims())
    }
}

impl Operation for Roll {
    answers!("roll", &["input"]);

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let x = fact(operands, 0)?;
        self.dims.iter().try_for_each(|&dim| axis(dim, x.shape.len()).map(drop))?;
        Ok(Fact { kind: x.kind, ..Fact::float(&x.shape) })
    }

    fn rows(&self, operands: &[Option<&Fact>], result: &Fact, _in_training: bool) -> Tracked {
        let axes: Vec<usize> = self.dims.iter().map(|&dim| axis(dim, result.shape.len())).collect::<Result<_, _>>()?;
        rows::together(operands[0], &axes)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let dims = operands.first().map_or(Ok(Vec::new()), Slot::shape)?;
        let strides = strides(&dims);
        let mut axes: Vec<Vec<usize>> = (0..dims.len()).map(|at| all_of(dims[at], strides[at])).collect();
        for (&dim, &shift) in self.dims.iter().zip(&self.shifts) {
            let at = axis(dim, dims.len()).map_err(|reason| run.misfit(reason))?;
            let size = dims[at].max(1);
            axes[at].rotate_right(shift.rem_euclid(size as i64) as usize);
        }
        run.chosen(operands, &places(&axes), &dims)
    }
}
