//! The nodes of an exported graph as a program.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use super::schema::{Graph, Node, Symbols, TensorMeta, float, kind, name, union};
use super::values::{Sharing, Values};
use crate::program::{Argument, Call, Kind, Lines, Op, Operand, Place, Size, Step, Steps, read};

/// Reads nodes one by one.
pub(super) struct Reader {
    pub(super) lines: Lines,
    pub(super) values: Values,
    sizes: HashMap<String, Size>,
    said: HashMap<String, Said>,
    /// What cannot be read, with the modules where it stands.
    pub(super) unsupported: BTreeMap<String, Vec<String>>,
}

/// What the archive says of a value.
#[derive(Debug, Clone)]
struct Said {
    kind: Kind,
    dtype: u64,
    shape: Vec<Size>,
    /// Whether its numbers lie in memory in their order.
    is_contiguous: bool,
}

impl Said {
    fn of(meta: &TensorMeta, symbols: &mut Symbols) -> Result<Self, String> {
        let mut read = |sizes: &[Value]| sizes.iter().map(|size| symbols.size(size)).collect::<Result<Vec<_>, _>>();
        let (shape, strides) = (read(&meta.sizes)?, read(&meta.strides)?);
        let mut step = Size::fixed(1);
        let mut is_contiguous = true;
        for (size, stride) in shape.iter().zip(&strides).rev() {
            is_contiguous &= *size == Size::fixed(1) || *stride == step;
            step = step * size.clone();
        }
        Ok(Self { kind: meta.kind()?, dtype: meta.dtype, shape, is_contiguous })
    }
}

impl Reader {
    pub(super) fn new(taken: impl IntoIterator<Item = String>, in_training: bool) -> Self {
        let (values, unsupported) = (Values::default(), BTreeMap::new());
        Self { lines: Lines::new(taken, in_training), values, sizes: HashMap::new(), said: HashMap::new(), unsupported }
    }

    /// Notes what a graph says of its sizes and values; what cannot be understood is missed where it is needed.
    ///
    /// # Errors
    /// A size that cannot be read.
    pub(super) fn learn(&mut self, graph: &Graph, symbols: &mut Symbols) -> Result<(), String> {
        for (name, size) in &graph.sym_int_values {
            self.sizes.insert(name.clone(), symbols.size(size)?);
        }
        for (name, meta) in &graph.tensor_values {
            if let Ok(said) = Said::of(meta, symbols) {
                self.said.insert(name.clone(), said);
            }
        }
        Ok(())
    }

    /// Reads a node; what is not supported is counted, and its results are left for later nodes to name.
    ///
    /// # Errors
    /// A description that contradicts itself.
    pub(super) fn node(&mut self, node: &Node, symbols: &mut Symbols) -> Result<(), String> {
        let outputs = outputs(node)?;
        // Sizes are known by their expressions; guards and assertions make nothing.
        if outputs.is_empty() {
            return Ok(());
        }
        let known = ["torch.ops.aten.", "torch.ops.transformers."];
        let target = known.iter().find_map(|prefix| node.target.strip_prefix(prefix)).unwrap_or(&node.target);
        if let Err(reason) = self.call(node, target, &outputs, symbols)? {
            let missing = if reason.is_empty() { target.to_owned() } else { format!("{target}: {reason}") };
            self.unsupported.entry(missing).or_default().push(place(node).module);
            outputs.iter().for_each(|output| self.values.define(output, Operand::Name((*output).into()), true));
        }
        Ok(())
    }

    /// `Err` within `Ok` where the call is not supported.
    fn call(
        &mut self,
        node: &Node,
        target: &str,
        outputs: &[&str],
        symbols: &mut Symbols,
    ) -> Result<Result<(), String>, String> {
        if target.starts_with("torch.ops.higher_order.wrap_with") {
            return self.nested(node, outputs, symbols);
        }
        let place = place(node);
        let name = target.split('.').next().unwrap_or_default();
        let (name, in_place) = match name.strip_suffix('_') {
            Some(stem) if !name.ends_with("__") && !stem.is_empty() => (stem, true),
            _ => (name, false),
        };
        let mut arguments = BTreeMap::new();
        let mut first = None;
        for argument in &node.inputs {
            let (kind, content) = union(&argument.arg)?;
            if kind == "as_tensor" && first.is_none() {
                first = Some(super::schema::name(content)?);
            }
            match self.argument(kind, content, symbols, &place)? {
                Ok(value) => arguments.insert(argument.name.clone(), value),
                Err(reason) => return Ok(Err(reason)),
            };
        }
        // Running averages are not the graph's business: they are kept from the statistics of each pass.
        let counts = matches!(arguments.get("self"), Some(Argument::Value(Operand::Name(name))) if name.ends_with("num_batches_tracked"));
        if in_place && counts {
            outputs.iter().for_each(|output| self.values.define(output, Operand::Number(0.0), true));
            return Ok(Ok(()));
        }
        let (start, in_training) = (self.lines.nodes.len(), self.lines.in_training());
        let idle = ["alias", "contiguous", "clone", "lift_fresh_copy", "lift_fresh", "positive"].contains(&name);
        let made = outputs.first().and_then(|name| self.said.get(*name));
        let made = made.map(|said| (said.kind, said.shape.clone()));
        let mut call = Call::new(name, arguments, outputs.len(), &mut self.lines, place.clone());
        call.made = made;
        let results = if idle { Some(call.operand("self").map(|x| vec![x])) } else { read(&mut call) };
        let results = match results {
            None => return Ok(Err(String::new())),
            Some(results) => results.and_then(|results| call.finish().map(|()| results)),
        };
        let results = match results {
            Ok(results) if results.len() == outputs.len() => results,
            Ok(results) => return Ok(Err(format!("it returns {} values, not {}", results.len(), outputs.len()))),
            Err(reason) => return Ok(Err(reason)),
        };
        if in_place {
            let (Some(first), [output], [result]) = (first, outputs, results.as_slice()) else {
                return Ok(Err("there is nothing for it to write into".into()));
            };
            return Ok(self.values.write(first, output, result.clone(), &mut self.lines, &place));
        }
        for (output, result) in outputs.iter().zip(results) {
            let made = self.lines.nodes[start..].iter().find(|node| Some(node.name.as_str()) == result.name());
            // In eval mode PyTorch's dropout gives what it was given.
            let step = made.map(|node| node.operation.clone()).filter(|step| !matches!(step, Op::Dropout(_)));
            let sharing = match name {
                "dropout" if in_training => Sharing::Nothing,
                _ => self.sharing(name, [first, Some(output)]),
            };
            match (sharing, first) {
                (Sharing::Nothing, _) | (_, None) => self.values.define(output, result, true),
                (sharing, Some(first)) => self.values.define_view(output, first, step, result, sharing),
            }
        }
        Ok(Ok(()))
    }

    /// How the result of an operation shares memory with its operand, by PyTorch's rules for what the archive says of both.
    fn sharing(&self, name: &str, values: [Option<&str>; 2]) -> Sharing {
        let said = values.map(|value| value.and_then(|value| self.said.get(value)));
        match (name, said) {
            ("contiguous" | "reshape" | "reshape_as" | "flatten", [Some(of), _]) if of.is_contiguous => Sharing::View,
            ("contiguous", [Some(_), _]) => Sharing::Nothing,
            ("to", [Some(of), Some(made)]) if of.dtype == made.dtype => Sharing::View,
            ("to", [Some(_), Some(_)]) => Sharing::Nothing,
            _ => Sharing::of(name),
        }
    }

    /// A graph within the graph, whose operations stand for themselves: under `no_grad` its results are constants, and
    /// `autocast` changes types of numbers alone.
    fn nested(&mut self, node: &Node, outputs: &[&str], symbols: &mut Symbols) -> Result<Result<(), String>, String> {
        let (mut graph, mut given, mut is_constant) = (None, Vec::new(), false);
        for argument in &node.inputs {
            match union(&argument.arg)? {
                ("as_graph", content) => {
                    let read = Graph::deserialize(&content["graph"]);
                    graph = Some(read.map_err(|error| format!("a graph within the graph: {error}"))?);
                }
                ("as_tensor", content) => given.push(name(content)?.to_owned()),
                ("as_bool", content) if node.target.ends_with("set_grad_enabled") => {
                    is_constant = content.as_bool() == Some(false);
                }
                _ => {}
            }
        }
        let graph = graph.ok_or("a graph within the graph is missing")?;
        self.learn(&graph, symbols)?;
        let outer = self.values.names();
        for (input, given) in graph.inputs.iter().zip(&given) {
            self.values.rename(given, name(union(input)?.1)?)?;
        }
        for node in &graph.nodes {
            self.node(node, symbols)?;
        }
        let mut results = Vec::new();
        for output in &graph.outputs {
            results.push(self.read(union(output)?.1, &place(node))?);
        }
        self.values.set_names(outer);
        for (output, result) in outputs.iter().zip(results) {
            let constant = Step { function: Steps::Detach };
            let result = if is_constant { self.lines.push(&place(node), constant, vec![result]) } else { result };
            self.values.define(output, result, true);
        }
        Ok(Ok(()))
    }

    /// An argument; `Err` within `Ok` where its kind is not supported.
    fn argument(
        &mut self,
        kind_name: &str,
        content: &Value,
        symbols: &mut Symbols,
        place: &Place,
    ) -> Result<Result<Argument, String>, String> {
        let list = || content.as_array().ok_or_else(|| format!("`{kind_name}` is not a list"));
        let whole =
            |value: &Value| value.as_i64().map(Size::fixed).ok_or_else(|| "a value is not a whole number".to_owned());
        Ok(Ok(match kind_name {
            "as_none" => Argument::None,
            "as_tensor" => Argument::Value(self.read(content, place)?),
            "as_tensors" => {
                let read = |value: &Value| self.read(value, place);
                Argument::Values(list()?.iter().map(read).collect::<Result<_, _>>()?)
            }
            "as_optional_tensors" => {
                let read = |value: &Value| match union(value)? {
                    ("as_none", _) => Ok(Operand::None),
                    (_, content) => self.read(content, place),
                };
                Argument::Values(list()?.iter().map(read).collect::<Result<_, String>>()?)
            }
            "as_int" => Argument::Size(whole(content)?),
            "as_ints" => Argument::Sizes(list()?.iter().map(whole).collect::<Result<_, _>>()?),
            "as_sym_int" => Argument::Size(self.symbolic(content, symbols)?),
            "as_sym_ints" => {
                let read = |value: &Value| self.symbolic(value, symbols);
                Argument::Sizes(list()?.iter().map(read).collect::<Result<_, _>>()?)
            }
            "as_float" => Argument::Number(float(content)?),
            "as_floats" => Argument::Numbers(list()?.iter().map(float).collect::<Result<_, _>>()?),
            "as_bool" => Argument::Flag(content.as_bool().ok_or("a value is not a truth value")?),
            "as_string" => Argument::Text(content.as_str().ok_or("a value is not text")?.into()),
            "as_scalar_type" => match kind(content.as_u64().ok_or("a type has no code")?) {
                Ok(kind) => Argument::Kind(kind),
                Err(reason) => return Ok(Err(reason)),
            },
            "as_device" | "as_layout" | "as_memory_format" => Argument::Idle,
            other => return Ok(Err(format!("an argument of the kind `{other}`"))),
        }))
    }

    fn read(&mut self, content: &Value, place: &Place) -> Result<Operand, String> {
        let name = name(content)?;
        let operand = self.values.read(name, &mut self.lines, place)?;
        if let Some(said) = self.said.get(name) {
            self.lines.know(&operand, said.kind, said.shape.clone());
        }
        Ok(operand)
    }

    /// `{"as_name": …}` or `{"as_int": …}`.
    fn symbolic(&self, value: &Value, symbols: &mut Symbols) -> Result<Size, String> {
        match union(value)? {
            ("as_name", content) => {
                let name = content.as_str().ok_or("the name of a size is missing")?;
                self.sizes.get(name).cloned().ok_or_else(|| format!("the size `{name}` does not exist"))
            }
            _ => symbols.size(value),
        }
    }
}

/// The names of the tensors that a node makes.
fn outputs(node: &Node) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    for output in &node.outputs {
        match union(output)? {
            ("as_tensor", content) => names.push(name(content)?),
            ("as_tensors", content) => {
                for content in content.as_array().ok_or("`as_tensors` is not a list")? {
                    names.push(name(content)?);
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

/// The innermost module that the node comes from.
fn place(node: &Node) -> Place {
    let stack = node.metadata.get("nn_module_stack").and_then(Value::as_str).unwrap_or_default();
    let innermost = stack.rsplit(';').next().unwrap_or_default();
    let mut fields = innermost.split(',').skip(1);
    let module = fields.next().unwrap_or_default().to_owned();
    let kind = fields.next().and_then(|class| class.rsplit('.').next()).unwrap_or_default().to_owned();
    Place { module, kind }
}
