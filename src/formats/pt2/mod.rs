//! Archives of torch.export as programs. Nothing in them is executed, and pickles inside are not read.

mod graph;
mod schema;
mod tensors;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{HashMap, HashSet};

use candle_core::{DType, Tensor};
use serde_json::Value;

use self::graph::Reader;
use self::schema::{Model, Symbols, TensorMeta, name, union};
use self::tensors::{Stored, Tensors};
use super::ModelError;
use crate::Result;
use crate::archive::Archive;
use crate::autodiff::{ParamKind, ParamSpace};
use crate::program::{Input, Kind, Op, Operand, Place, Program};

/// The schema that is read.
const SCHEMA: u64 = 8;

/// What an archive holds.
#[derive(Debug)]
pub struct Exported {
    /// The program, its parameters in the order of `named_parameters()`.
    pub program: Program,
    /// The values of the program's buffers by name, f64.
    pub buffers: HashMap<String, Tensor>,
    /// All parameters, f64 `[n]`.
    pub theta: Tensor,
    /// Shape of one sample of the only input; `None` where there are several.
    pub input_shape: Option<Vec<usize>>,
    /// The widest type of the weights in the file.
    pub stored_dtype: DType,
    /// Whether half-precision weights were widened.
    pub widened: bool,
}

impl Exported {
    /// Whether these are the bytes of an archive of torch.export.
    pub fn is_one(bytes: &[u8]) -> bool {
        let archive = bytes.starts_with(b"PK\x03\x04").then(|| Archive::open(bytes));
        match archive {
            Some(Ok(archive)) => archive
                .names()
                .any(|name| name.ends_with("/models/model.json") || name.ends_with("serialized_exported_program.json")),
            _ => false,
        }
    }

    /// Reads an archive; `origin` names it in errors.
    ///
    /// # Errors
    /// [`ModelError::Archive`] for one that is damaged or of an older layout; [`ModelError::Unsupported`] with all operations
    /// that cannot be read; [`ModelError::FixedBatch`].
    pub fn read(bytes: &[u8], origin: &str) -> Result<Self> {
        let wrong = |reason: String| ModelError::Archive { origin: origin.into(), reason };
        let archive = Archive::open(bytes).map_err(wrong)?;
        if archive.names().any(|name| name.ends_with("serialized_exported_program.json")) {
            return Err(wrong("it has the layout of PyTorch before 2.9".into()).into());
        }
        let entry = archive.ending("/models/model.json").map_err(wrong)?;
        let top = entry.trim_end_matches("/models/model.json");
        let text = archive.entry(entry).map_err(wrong)?;
        let model: Model =
            serde_json::from_slice(text).map_err(|error| wrong(format!("models/model.json: {error}")))?;
        if model.schema_version.major != SCHEMA {
            return Err(wrong(format!("its schema is {}, expected {SCHEMA}", model.schema_version.major)).into());
        }
        let weights = Tensors::open(&archive, top, "weights").map_err(wrong)?;
        let constants = Tensors::open(&archive, top, "constants").map_err(wrong)?;
        let mut building = Building { model: &model, symbols: Symbols::default(), given: Given::default() };
        building.given(&weights, &constants).map_err(|failure| failure.into_error(origin))?;
        building.finish().map_err(|failure| failure.into_error(origin))
    }
}

/// Why an archive cannot be read.
enum Failure {
    /// It contradicts itself.
    Wrong(String),
    /// It says something that is not supported.
    Model(ModelError),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Wrong(reason)
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        Self::Wrong(reason.into())
    }
}

impl Failure {
    fn into_error(self, origin: &str) -> crate::Error {
        match self {
            Self::Wrong(reason) => ModelError::Archive { origin: origin.into(), reason }.into(),
            Self::Model(error) => error.into(),
        }
    }
}

/// What exists before the first node.
#[derive(Default)]
struct Given {
    inputs: Vec<Input>,
    input_shapes: Vec<Vec<usize>>,
    /// Names in the graph, and what they stand for.
    names: Vec<(String, String)>,
    parameters: Vec<(String, Tensor)>,
    buffers: Vec<(String, Tensor)>,
    constants: Vec<(String, Tensor)>,
    dtypes: Vec<DType>,
}

struct Building<'a> {
    model: &'a Model,
    symbols: Symbols,
    given: Given,
}

impl Building<'_> {
    /// Inputs, parameters, buffers and constants in the order of the signature.
    fn given(&mut self, weights: &Tensors<'_>, constants: &Tensors<'_>) -> Result<(), Failure> {
        let mut places: HashMap<(String, i64, Vec<i64>, Vec<usize>), String> = HashMap::new();
        for spec in &self.model.graph_module.signature.input_specs {
            let (kind, content) = union(spec)?;
            match kind {
                "user_input" => self.input(&content["arg"])?,
                "parameter" | "buffer" | "tensor_constant" => {
                    let graph_name = name(&content["arg"])?.to_owned();
                    let own = content[format!("{kind}_name")].as_str().ok_or("a tensor has no name")?;
                    let stored = match weights.get(own)? {
                        Some(stored) => stored,
                        None => {
                            constants.get(own)?.ok_or_else(|| format!("it holds no data for the tensor `{own}`"))?
                        }
                    };
                    let Stored { tensor, dtype, requires_grad, storage } = stored;
                    let key = (storage.0, storage.1, storage.2, tensor.dims().to_vec());
                    let trainable = kind == "parameter" && requires_grad && tensor.dtype() == DType::F64;
                    // Two names of one storage are one parameter, under the first name.
                    let first = if kind == "parameter" {
                        places.entry(key).or_insert_with(|| own.into()).clone()
                    } else {
                        own.into()
                    };
                    self.given.names.push((graph_name, first.clone()));
                    if first != own {
                        continue;
                    }
                    if tensor.dtype() == DType::F64 {
                        self.given.dtypes.push(dtype);
                    }
                    let persistent = content["persistent"].as_bool().unwrap_or(true);
                    match (trainable, kind, tensor.dtype()) {
                        (true, ..) => self.given.parameters.push((first, tensor)),
                        (false, "parameter" | "buffer", DType::F64) if persistent => {
                            self.given.buffers.push((first, tensor));
                        }
                        _ => self.given.constants.push((first, tensor)),
                    }
                }
                other => return Err(format!("an input of the kind `{other}` is not supported").into()),
            }
        }
        if self.given.inputs.is_empty() {
            return Err("it has no inputs".into());
        }
        if self.given.parameters.is_empty() {
            return Err("it has no parameters to differentiate by".into());
        }
        Ok(())
    }

    fn meta(&self, name: &str) -> Result<&TensorMeta, String> {
        let meta = self.model.graph_module.graph.tensor_values.get(name);
        meta.ok_or_else(|| format!("it does not say what `{name}` is"))
    }

    /// An input, whose first axis alone is dynamic.
    fn input(&mut self, argument: &Value) -> Result<(), Failure> {
        let (kind, content) = union(argument)?;
        if kind == "as_none" {
            return Ok(());
        }
        if kind != "as_tensor" {
            return Err(format!("an input of the kind `{kind}` is not supported: export it as a constant").into());
        }
        let input = name(content)?.to_owned();
        let meta = self.meta(&input)?.clone();
        let mut sizes = Vec::new();
        for size in &meta.sizes {
            sizes.push(self.symbols.size(size)?);
        }
        let fixed =
            sizes.iter().skip(1).map(|size| size.is_fixed().then(|| usize::try_from(size.at(0)).ok()).flatten());
        let sample: Option<Vec<usize>> = fixed.collect();
        let rows = sizes.first().is_some_and(|size| *size == crate::program::Size::rows());
        let (true, Some(sample)) = (rows, sample) else {
            let shape: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            let shape = format!("[{}]", shape.join(", "));
            return Err(Failure::Model(ModelError::FixedBatch { input, shape }));
        };
        self.given.names.push((input.clone(), input.clone()));
        self.given.inputs.push(Input { name: input, kind: meta.kind()? });
        self.given.input_shapes.push(sample);
        Ok(())
    }

    /// The nodes, and what they leave.
    fn finish(mut self) -> Result<Exported, Failure> {
        let graph = &self.model.graph_module.graph;
        let taken: HashSet<String> = self.given.names.iter().map(|(_, own)| own.clone()).collect();
        let mut reader = Reader::new(taken);
        reader.learn(graph, &mut self.symbols)?;
        for (graph_name, own) in &self.given.names {
            reader.values.define(graph_name, Operand::Name(own.clone()), false);
        }
        for node in &graph.nodes {
            reader.node(node, &mut self.symbols)?;
        }
        let (output, loss) = self.outputs(&mut reader)?;
        if !reader.unsupported.is_empty() {
            let operations = reader.unsupported.into_iter().collect();
            return Err(Failure::Model(ModelError::Unsupported { operations }));
        }
        let nodes = live(reader.lines.nodes, [Some(&output), loss.as_ref()]);
        let used: HashSet<&str> =
            nodes.iter().flat_map(|node| &node.operands).filter_map(Operand::name).chain([output.as_str()]).collect();
        let Given { inputs, mut input_shapes, parameters, buffers, constants, dtypes, .. } = self.given;
        let kinds = kinds(&nodes);
        let flat: Result<Vec<Tensor>, _> = parameters.iter().map(|(_, tensor)| tensor.flatten_all()).collect();
        let theta = flat.and_then(|flat| Tensor::cat(&flat, 0)).map_err(|error| error.to_string())?;
        let space = ParamSpace::new(parameters.iter().map(|(name, tensor)| {
            let guess = if name.ends_with("bias") { ParamKind::Bias } else { ParamKind::Weight };
            (name.clone(), tensor.dims().to_vec(), kinds.get(name.as_str()).copied().unwrap_or(guess))
        }));
        let buffers: Vec<(String, Tensor)> =
            buffers.into_iter().filter(|(name, _)| used.contains(name.as_str())).collect();
        let constants = constants.into_iter().filter(|(name, _)| used.contains(name.as_str())).collect();
        let shapes = buffers.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
        let stored_dtype = dtypes.iter().copied().max_by_key(DType::size_in_bytes).unwrap_or(DType::F32);
        let widened = dtypes.iter().any(|dtype| matches!(dtype, DType::F16 | DType::BF16));
        let input_shape = if input_shapes.len() == 1 { input_shapes.pop() } else { None };
        let program = Program { inputs, parameters: space, buffers: shapes, constants, nodes, output, loss };
        Ok(Exported { program, buffers: buffers.into_iter().collect(), theta, input_shape, stored_dtype, widened })
    }

    /// The network's output, and its loss per row where there is a second output `[N]`.
    fn outputs(&mut self, reader: &mut Reader) -> Result<(String, Option<String>), Failure> {
        let mut floats = Vec::new();
        for spec in &self.model.graph_module.signature.output_specs {
            let (kind, content) = union(spec)?;
            if kind != "user_output" {
                let reason = format!(
                    "an output of the kind `{kind}`: it changes its buffers or inputs; export it after .eval()"
                );
                return Err(Failure::Model(ModelError::Unsupported { operations: vec![(reason, 1)] }));
            }
            if let ("as_tensor", content) = union(&content["arg"])? {
                let meta = self.meta(name(content)?)?.clone();
                if meta.kind()? == Kind::Float {
                    floats.push((name(content)?.to_owned(), meta));
                }
            }
        }
        let mut is_per_row = |meta: &TensorMeta| match meta.sizes.as_slice() {
            [size] => self.symbols.size(size).map(|size| !size.is_fixed()),
            _ => Ok(false),
        };
        let (output, loss) = match floats.as_slice() {
            [(output, _)] => (output, None),
            [(output, _), (loss, meta)] if is_per_row(meta)? => (output, Some(loss)),
            [] => return Err("it has no output of floats".into()),
            several => {
                let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
                let text = format!("it has several outputs ({}): return the one that the loss is of", names.join(", "));
                return Err(text.into());
            }
        };
        let mut value = |name: &String| match reader.values.read(name, &mut reader.lines, &Place::default())? {
            Operand::Name(name) => Ok(name),
            Operand::Number(_) | Operand::None => Err(Failure::Wrong("an output is not a value of the program".into())),
        };
        Ok((value(output)?, loss.map(value).transpose()?))
    }
}

/// Without nodes that nothing reads.
fn live(mut nodes: Vec<crate::program::Node>, ends: [Option<&String>; 2]) -> Vec<crate::program::Node> {
    let mut read: HashSet<String> = ends.into_iter().flatten().cloned().collect();
    let mut kept = Vec::with_capacity(nodes.len());
    while let Some(node) = nodes.pop() {
        if read.contains(&node.name) {
            read.extend(node.operands.iter().filter_map(Operand::name).map(str::to_owned));
            kept.push(node);
        }
    }
    kept.reverse();
    kept
}

/// The roles of parameters by the operations that read them.
fn kinds(nodes: &[crate::program::Node]) -> HashMap<&str, ParamKind> {
    let mut kinds = HashMap::new();
    for node in nodes {
        for (place, operand) in node.operands.iter().enumerate().skip(1) {
            let kind = match (&node.operation, place) {
                (
                    Op::BatchNorm(_) | Op::GroupNorm(_) | Op::InstanceNorm(_) | Op::LayerNorm(_) | Op::RmsNorm(_),
                    1 | 2,
                ) => ParamKind::Norm,
                (Op::Linear(_) | Op::Conv2d(_) | Op::ConvTranspose2d(_), 2) => ParamKind::Bias,
                _ => continue,
            };
            if let Some(name) = operand.name() {
                kinds.entry(name).or_insert(kind);
            }
        }
    }
    kinds
}
