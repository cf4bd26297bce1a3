//! Sums over groups of vectors, where whole numbers name the group: bags of embeddings, experts.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::resampling::Map;
use crate::Result;
use crate::autodiff::Value;
use crate::kernels::{Bilinear, Linear, MatMul};
use crate::program::composites::cat;
use crate::program::cost::Cost;
use crate::program::fact::Tracked;
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::rows;
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Kind, Operand, Results, Start};

/// Vectors `[rows, in]` times the matrix `[in, out]` of their group, of `[groups, in, out]`; `offsets` says where each group
/// ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupedMm {}

/// How many numbers lie in each of `bins` equal parts of a range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histc {
    /// How many parts.
    pub bins: usize,
    /// The lower end.
    pub min: f64,
    /// The upper end, which belongs to the last part.
    pub max: f64,
}

/// Sums or means of the rows of a matrix `[entries, dim]` that whole numbers choose; a bag begins at each offset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingBag {
    /// Whether sums are divided by how many rows there are.
    pub mean: bool,
    /// The row that is left out.
    pub padding_idx: Option<usize>,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "grouped_mm_fallback" => grouped(call),
        "histc" => histogram(call),
        "embedding_bag" | "_embedding_bag" => bag(call),
        _ => return None,
    })
}

fn grouped(call: &mut Call<'_>) -> Results {
    let operands = [call.operand("input")?, call.operand("weight")?, call.operand("offs")?];
    call.gives(GroupedMm {}, operands)
}

fn histogram(call: &mut Call<'_>) -> Results {
    let (x, bins) = (call.operand("self")?, call.count("bins", Some(100))?);
    let (min, max) = (call.number("min")?.unwrap_or(0.0), call.number("max")?.unwrap_or(0.0));
    if min >= max {
        return Err("without a range it is not supported".into());
    }
    call.gives(Histc { bins, min, max }, [x])
}

fn bag(call: &mut Call<'_>) -> Results {
    let mut operands = vec![call.operand("weight")?, call.operand("indices")?, call.operand("offsets")?];
    operands.push(call.optional("per_sample_weights")?);
    let (mode, padding) = (call.int("mode", Some(0))?, call.int("padding_idx", Some(-1))?);
    let includes_end = call.flag("include_last_offset", false)?;
    call.only("include_last_offset", includes_end, false)?;
    call.flag("sparse", false)?;
    if mode > 1 {
        return Err("the mode `max` is not supported".into());
    }
    let bag = call.push(EmbeddingBag { mean: mode == 1, padding_idx: usize::try_from(padding).ok() }, operands);
    // The others are for its adjoint.
    Ok(std::iter::once(bag).chain(std::iter::repeat_n(Operand::None, call.count - 1)).collect())
}

/// Whole numbers as places.
fn places<V: Value>(run: &Run<'_, V>, operands: &[Slot<V>], place: usize, bound: usize) -> Result<Vec<usize>> {
    let values = run.whole(operands, place)?.to_dtype(DType::I64)?.flatten_all()?.to_device(&Device::Cpu)?;
    let within = |value: i64| {
        let value = usize::try_from(value).ok().filter(|&value| value <= bound);
        value.ok_or_else(|| run.misfit(format!("a place is out of range for {bound} entries")))
    };
    values.to_vec1::<i64>()?.into_iter().map(within).collect()
}

impl Operation for GroupedMm {
    columns! {
        name: "grouped_mm",
        operands: &["input", "weight", "offsets"],
        affinity: Affinity { products: &[(0, 1)], smooth: &[] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (x, weight, offsets) = (fact(operands, 0)?, fact(operands, 1)?, fact(operands, 2)?);
        match (x.shape.as_slice(), weight.shape.as_slice(), offsets.shape.as_slice()) {
            (&[rows, inputs], &[groups, from, to], &[ends]) if inputs == from && groups == ends => {
                Ok(Fact::float(&[rows, to]))
            }
            _ => Err(format!(
                "expects [rows, in] and [groups, in, out], but they are {:?} and {:?}",
                x.shape, weight.shape
            )),
        }
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let inputs = operands[0].and_then(|x| x.shape.last()).copied().unwrap_or(0);
        Cost::with_activations(result.len() * inputs, &[result.len()])
    }

    fn start(&self, _place: usize, _shapes: &[Option<&[usize]>], _in_transformer: bool) -> Start {
        Start::NARROW
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::still(operands)?;
        Ok(None)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let (x, weight) = (run.var(operands, 0)?, run.var(operands, 1)?);
        let (rows, &[_, inputs, outputs]) = (x.dims()?[0], weight.dims()?) else {
            return Err(run.misfit("too few axes"));
        };
        let (mut start, mut parts) = (0, Vec::new());
        for (group, end) in places(run, operands, 2, rows)?.into_iter().enumerate() {
            if end <= start {
                continue;
            }
            let own = run.entries_of(&x, 0, start..end)?;
            let own = run.reshape(&own, &[1, end - start, inputs])?;
            let matrix = run.entries_of(&weight, 0, group..group + 1)?;
            let product =
                MatMul { batch: 1, m: end - start, k: inputs, n: outputs, transpose_a: false, transpose_b: false };
            let y = run.tape.bilinear(Bilinear::MatMul(product), &own, &matrix)?;
            parts.push(run.reshape(&y, &[end - start, outputs])?);
            start = end;
        }
        // PyTorch leaves zeros behind the last group.
        if start < rows {
            parts.push(run.tape.constant(Tensor::zeros((rows - start, outputs), run.dtype, &run.device)?));
        }
        Ok(Slot::Float(cat(run.tape, &parts, 0)?))
    }
}

impl Operation for Histc {
    columns! {
        name: "histc",
        operands: &["input"],
        cost: Cost::of_result,
        start: Start::Constant(0.0),
        affinity: Affinity::AFFINE,
    }

    fn result(&self, _operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        Ok(Fact::float(&[self.bins]))
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        let all: Vec<usize> = (0..operands[0].map_or(0, |x| x.shape.len())).collect();
        rows::together(operands[0], &all)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let x = run.plain(operands, 0)?.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let mut counts = vec![0.0; self.bins];
        for value in x.to_vec1::<f64>()?.into_iter().filter(|value| (self.min..=self.max).contains(value)) {
            let bin = ((value - self.min) / (self.max - self.min) * self.bins as f64) as usize;
            counts[bin.min(self.bins - 1)] += 1.0;
        }
        let counts = Tensor::from_vec(counts, self.bins, &run.device)?.to_dtype(run.dtype)?;
        Ok(Slot::Float(run.tape.constant(counts)))
    }
}

impl Operation for EmbeddingBag {
    columns! {
        name: "embedding_bag",
        operands: &["weight", "indices", "offsets", "per_sample_weights"],
        cost: Cost::of_result,
        start: Start::Normal { std: 1.0 },
        affinity: Affinity { products: &[(0, 3)], smooth: &[] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (weight, indices, offsets) = (fact(operands, 0)?, fact(operands, 1)?, fact(operands, 2)?);
        match (weight.shape.as_slice(), indices.shape.as_slice(), offsets.shape.as_slice()) {
            (&[_, dim], &[_], &[bags]) if indices.kind == Kind::Whole => Ok(Fact::float(&[bags, dim])),
            _ => Err(format!("expects [entries, dim] and a list of places, but they are {:?}", indices.shape)),
        }
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        rows::still(operands)?;
        Ok(None)
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let weight = run.var(operands, 0)?;
        let &[entries, dim] = weight.dims()? else { return Err(run.misfit("too few axes")) };
        let indices = places(run, operands, 1, entries.saturating_sub(1))?;
        let starts = places(run, operands, 2, indices.len())?;
        let all: Option<Vec<u32>> = indices
            .iter()
            .flat_map(|entry| (0..dim).map(move |i| entry * dim + i))
            .map(|place| u32::try_from(place).ok())
            .collect();
        let all = all.ok_or_else(|| run.misfit("more than 2^32 entries to choose from"))?;
        let chosen = Linear::Gather {
            indices: Tensor::from_vec(all, (indices.len(), dim), &run.device)?,
            from: vec![entries, dim],
        };
        let mut rows = run.tape.linear(chosen, &weight)?;
        if let Some(weights) = run.optional(operands, 3)? {
            let weights = run.reshape(&weights, &[indices.len(), 1])?;
            rows = run.product(&rows, &weights)?;
        }
        let bag_of = |row: usize| starts.iter().rposition(|&start| start <= row);
        let counts = |row: usize| self.padding_idx != Some(indices[row]);
        let sizes: Vec<usize> = (0..starts.len())
            .map(|bag| (0..indices.len()).filter(|&row| bag_of(row) == Some(bag) && counts(row)).count())
            .collect();
        let sums = Map::of(starts.len(), indices.len(), |bag, row| match bag_of(row) == Some(bag) && counts(row) {
            true if self.mean => 1.0 / sizes[bag] as f64,
            share => f64::from(u8::from(share)),
        });
        Ok(Slot::Float(run.along(&rows, 0, &sums)?))
    }
}
