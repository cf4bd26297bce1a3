//! What torch.export writes as programs: its archives, and the files of `tools/export_torch.py`, which bring its graphs of
//! both modes beside the weights. Nothing in them is executed.

mod file;
mod graph;
mod layout;
mod outputs;
mod schema;
mod tensors;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{HashMap, HashSet};

use candle_core::{DType, Tensor};
use serde_json::Value;

use self::graph::Reader;
use self::layout::{GRAPH, OLD_GRAPH, graph_entry, tensors_of};
use self::schema::{Model, Symbols, TensorMeta, name, quoted, union};
use self::tensors::{Loaded, Location};
use super::ModelError;
use crate::Result;
use crate::autodiff::ParamSpace;
use crate::container::Archive;
use crate::data::Normalisation;
use crate::program::{Input, Kind, Loss, Op, Operand, Place, Program};
use crate::vocabulary::ParamKind;

/// The schemas that are read: those of torch 2.5 to 2.15.
const SCHEMAS: std::ops::RangeInclusive<u64> = 7..=8;

/// What an archive holds.
#[derive(Debug)]
pub struct Exported {
    /// The program, its parameters in the order of `named_parameters()`.
    pub program: Program,
    /// The program of training, where the file has one of its own.
    pub training: Option<Program>,
    /// The values of the program's buffers by name, f64.
    pub buffers: HashMap<String, Tensor>,
    /// All parameters, f64 `[n]`.
    pub theta: Tensor,
    /// What the exporter was told besides; archives of torch.export say none of it.
    pub about: Option<Said>,
    /// Shape of one sample of the only input; `None` where there are several.
    pub input_shape: Option<Vec<usize>>,
    /// The widest type of the weights in the file.
    pub stored_dtype: DType,
    /// Whether half-precision weights were widened.
    pub widened: bool,
}

/// What `tools/export_torch.py` was told of a network.
#[derive(Debug)]
pub struct Said {
    /// For titles.
    pub name: String,
    /// Its loss.
    pub loss: Option<Loss>,
    /// Of its training data.
    pub normalisation: Option<Normalisation>,
    /// The L2 coefficient it was trained with.
    pub weight_decay: f64,
}

impl Exported {
    /// Whether these are the bytes of an archive of torch.export.
    pub(crate) fn is_one(bytes: &[u8]) -> bool {
        let archive = bytes.starts_with(b"PK\x03\x04").then(|| Archive::open(bytes));
        match archive {
            Some(Ok(archive)) => archive.names().any(|name| name.ends_with(GRAPH) || name.ends_with(OLD_GRAPH)),
            _ => false,
        }
    }

    /// Reads an archive; `origin` names it in errors, and `output` the network's output where the module gives several.
    ///
    /// # Errors
    /// [`ModelError::Archive`] for one that is damaged or of an older layout; [`ModelError::Unsupported`] with all operations
    /// that cannot be read; [`ModelError::FixedBatch`].
    pub fn read(bytes: &[u8], origin: &str, output: Option<&str>) -> Result<Self> {
        let wrong = |reason: String| ModelError::Archive { origin: origin.into(), reason };
        let archive = Archive::open(bytes).map_err(wrong)?;
        let entry = graph_entry(&archive).map_err(wrong)?;
        let text = quoted(archive.entry(entry).map_err(wrong)?);
        let model: Model = serde_json::from_slice(&text).map_err(|error| wrong(format!("{entry}: {error}")))?;
        let [weights, constants] = tensors_of(&archive, bytes, entry).map_err(wrong)?;
        let tensor = |name: &str, kind: Kind| Ok(weights.get(name, kind)?.or(constants.get(name, kind)?));
        Building::of(&model, &tensor, false)
            .and_then(|analysis| analysis.exported(None, output))
            .map_err(|failure| failure.into_error(origin))
    }
}

/// A tensor by its name in the module and the kind that the graph says it has.
type Lookup<'a> = &'a dyn Fn(&str, Kind) -> Result<Option<Loaded>, String>;

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
    in_training: bool,
}

impl<'a> Building<'a> {
    /// A graph with its tensors.
    fn of(model: &'a Model, tensor: Lookup<'_>, in_training: bool) -> Result<Self, Failure> {
        if !SCHEMAS.contains(&model.schema_version.major) {
            return Err(format!("its schema version is {}, but 7 or 8 is expected", model.schema_version.major).into());
        }
        let mut building = Self { model, symbols: Symbols::default(), given: Given::default(), in_training };
        building.given(tensor)?;
        Ok(building)
    }

    /// Inputs, parameters, buffers and constants in the order of the signature.
    fn given(&mut self, tensor: Lookup<'_>) -> Result<(), Failure> {
        let mut places: HashMap<Location, String> = HashMap::new();
        for spec in &self.model.graph_module.signature.input_specs {
            let (kind, content) = union(spec)?;
            match kind {
                "user_input" => self.input(&content["arg"])?,
                "parameter" | "buffer" | "tensor_constant" => {
                    let graph_name = name(&content["arg"])?.to_owned();
                    let own = content[format!("{kind}_name")].as_str().ok_or("a tensor has no name")?;
                    let meta = self.meta(&graph_name)?;
                    let loaded = tensor(own, meta.kind()?)?;
                    let loaded = loaded.ok_or_else(|| format!("it holds no data for the tensor `{own}`"))?;
                    let Loaded { tensor, dtype, requires_grad, place } = loaded;
                    let requires_grad = requires_grad.unwrap_or(meta.requires_grad);
                    let trainable = kind == "parameter" && requires_grad && tensor.dtype() == DType::F64;
                    // Two names of one storage are one parameter, under the first name. Older releases give both the same one.
                    let tied = if kind == "parameter" { places.get(&place).cloned() } else { None };
                    self.given.names.push((graph_name, tied.clone().unwrap_or_else(|| own.into())));
                    if tied.is_some() {
                        continue;
                    }
                    if kind == "parameter" {
                        places.insert(place, own.into());
                    }
                    if tensor.dtype() == DType::F64 {
                        self.given.dtypes.push(dtype);
                    }
                    let persistent = content["persistent"].as_bool().unwrap_or(true);
                    match (trainable, kind, tensor.dtype()) {
                        (true, ..) => self.given.parameters.push((own.into(), tensor)),
                        (false, "parameter" | "buffer", DType::F64) if persistent => {
                            self.given.buffers.push((own.into(), tensor));
                        }
                        _ => self.given.constants.push((own.into(), tensor)),
                    }
                }
                other => return Err(format!("an input of the kind `{other}` is not supported").into()),
            }
        }
        if self.given.inputs.is_empty() {
            return Err("it has no inputs".into());
        }
        if self.given.parameters.is_empty() {
            return Err("it has no parameters to differentiate with respect to".into());
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

    /// With the program of training, where there is one.
    fn exported(self, training: Option<Self>, wanted: Option<&str>) -> Result<Exported, Failure> {
        let (program, given) = self.program(wanted)?;
        let training = training.map(|training| training.program(wanted)).transpose()?;
        let read: HashSet<&str> =
            program.reads().chain(training.iter().flat_map(|(training, _)| training.reads())).collect();
        let buffers: HashMap<String, Tensor> =
            given.buffers.into_iter().filter(|(name, _)| read.contains(name.as_str())).collect();
        let with_buffers = |mut program: Program| {
            program.buffers.retain(|(name, _)| buffers.contains_key(name));
            program
        };
        let training = training.map(|(program, _)| with_buffers(program));
        let program = with_buffers(program);
        let flat: Result<Vec<Tensor>, _> = given.parameters.iter().map(|(_, tensor)| tensor.flatten_all()).collect();
        let theta = flat.and_then(|flat| Tensor::cat(&flat, 0)).map_err(|error| error.to_string())?;
        let stored_dtype = given.dtypes.iter().copied().max_by_key(DType::size_in_bytes).unwrap_or(DType::F32);
        let widened = given.dtypes.iter().any(|dtype| matches!(dtype, DType::F16 | DType::BF16));
        let mut shapes = given.input_shapes;
        let input_shape = if shapes.len() == 1 { shapes.pop() } else { None };
        Ok(Exported { program, training, about: None, buffers, theta, input_shape, stored_dtype, widened })
    }

    /// The nodes, with all buffers, read or not.
    fn program(mut self, wanted: Option<&str>) -> Result<(Program, Given), Failure> {
        let graph = &self.model.graph_module.graph;
        let taken: HashSet<String> = self.given.names.iter().map(|(_, own)| own.clone()).collect();
        let mut reader = Reader::new(taken, self.in_training);
        reader.learn(graph, &mut self.symbols)?;
        for (graph_name, own) in &self.given.names {
            reader.values.define(graph_name, Operand::Name(own.clone()), false);
        }
        for node in &graph.nodes {
            reader.node(node, &mut self.symbols)?;
        }
        let (output, loss) = self.outputs(&mut reader, wanted)?;
        if !reader.unsupported.is_empty() {
            let operations = reader.unsupported.into_iter().collect();
            return Err(Failure::Model(ModelError::Unsupported { operations }));
        }
        let nodes = live(reader.lines.nodes, [Some(&output), loss.as_ref()]);
        let kinds = kinds(&nodes);
        let parameters = ParamSpace::new(self.given.parameters.iter().map(|(name, tensor)| {
            let guess = if name.ends_with("bias") { ParamKind::Bias } else { ParamKind::Weight };
            (name.clone(), tensor.dims().to_vec(), kinds.get(name.as_str()).copied().unwrap_or(guess))
        }));
        let buffers = self.given.buffers.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
        let (inputs, constants) = (self.given.inputs.clone(), std::mem::take(&mut self.given.constants));
        let mut program = Program { inputs, parameters, buffers, constants, nodes, output, loss };
        let read: HashSet<String> = program.reads().map(str::to_owned).collect();
        program.constants.retain(|(name, _)| read.contains(name));
        Ok((program, self.given))
    }

    /// The network's output, and its loss per row where there is a second output `[N]`: the only output of floats, the one
    /// named `logits`, or the one that is `wanted`.
    fn outputs(&mut self, reader: &mut Reader, wanted: Option<&str>) -> Result<(String, Option<String>), Failure> {
        let names = outputs::names(&self.model.graph_module);
        let mut floats = Vec::new();
        for (place, spec) in self.model.graph_module.signature.output_specs.iter().enumerate() {
            let (kind, content) = union(spec)?;
            if kind != "user_output" {
                let reason = format!(
                    "an output of the kind `{kind}`: it changes its buffers or inputs; export it after .eval()"
                );
                return Err(Failure::Model(ModelError::Unsupported {
                    operations: vec![(reason, vec![String::new()])],
                }));
            }
            if let ("as_tensor", content) = union(&content["arg"])? {
                let (value, meta) = (name(content)?.to_owned(), self.meta(name(content)?)?.clone());
                if meta.kind()? == Kind::Float {
                    let own = names.get(place).filter(|name| !name.is_empty());
                    floats.push((own.unwrap_or(&value).clone(), value, meta));
                }
            }
        }
        let mut is_per_row = |meta: &TensorMeta| match meta.sizes.as_slice() {
            [size] => self.symbols.size(size).map(|size| !size.is_fixed()),
            _ => Ok(false),
        };
        let named = |name: &str| floats.iter().find(|(own, value, _)| own == name || value == name);
        let (output, loss) = match (floats.as_slice(), wanted) {
            ([], _) => return Err("it has no floating-point output".into()),
            (_, Some(wanted)) if named(wanted).is_some() => (named(wanted), None),
            // One alone may be the loss itself.
            ([only], None) if is_per_row(&only.2)? => (Some(only), Some(only)),
            ([only], None) => (Some(only), None),
            ([output, loss], None) if is_per_row(&loss.2)? => (Some(output), Some(loss)),
            _ if wanted.is_none() && named("logits").is_some() => (named("logits"), None),
            _ => (None, None),
        };
        let Some((_, output, meta)) = output else {
            let names = floats.iter().map(|(name, ..)| name.clone()).collect();
            return Err(Failure::Model(ModelError::Outputs { wanted: wanted.map(str::to_owned), names }));
        };
        if meta.sizes.is_empty() {
            return Err(Failure::Model(ModelError::ScalarOutput));
        }
        let mut value = |name: &String| match reader.values.read(name, &mut reader.lines, &Place::default())? {
            Operand::Name(name) => Ok(name),
            Operand::Number(_) | Operand::None => Err(Failure::Wrong("an output is not a value of the program".into())),
        };
        Ok((value(output)?, loss.map(|(_, loss, _)| value(loss)).transpose()?))
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
