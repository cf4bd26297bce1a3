//! The nodes of an exported graph as a program.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::schema::{Node, Symbols, TensorMeta, float, kind, name, union};
use super::values::{Sharing, Values};
use crate::program::{Argument, Call, Kind, Lines, Operand, Place, Size, read};

/// Reads nodes one by one.
pub(super) struct Reader<'a> {
    pub(super) lines: Lines,
    pub(super) values: Values,
    sizes: HashMap<String, Size>,
    metas: &'a BTreeMap<String, TensorMeta>,
    /// What cannot be read, with counts.
    pub(super) unsupported: BTreeMap<String, usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        taken: impl IntoIterator<Item = String>,
        sizes: HashMap<String, Size>,
        metas: &'a BTreeMap<String, TensorMeta>,
    ) -> Self {
        Self { lines: Lines::new(taken), values: Values::default(), sizes, metas, unsupported: BTreeMap::new() }
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
        let target = node.target.strip_prefix("torch.ops.aten.").unwrap_or(&node.target);
        if let Err(reason) = self.call(node, target, &outputs, symbols)? {
            let known = if reason.is_empty() { target.to_owned() } else { format!("{target}: {reason}") };
            *self.unsupported.entry(known).or_default() += 1;
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
        let start = self.lines.nodes.len();
        let idle = ["alias", "contiguous", "clone", "lift_fresh_copy", "lift_fresh", "positive"].contains(&name);
        let made = outputs.first().and_then(|name| said(self.metas, name, symbols));
        let mut call = Call::new(name, arguments, outputs.len(), &mut self.lines, place.clone());
        call.made = made;
        let results = if idle { Some(call.operand("self").map(|x| vec![x])) } else { read(&mut call) };
        let results = match results {
            None => return Ok(Err(String::new())),
            Some(results) => results.and_then(|results| call.finish().map(|()| results)),
        };
        let results = match results {
            Ok(results) if results.len() == outputs.len() => results,
            Ok(results) => return Ok(Err(format!("it makes {} values, not {}", results.len(), outputs.len()))),
            Err(reason) => return Ok(Err(reason)),
        };
        if in_place {
            let (Some(first), [output], [result]) = (first, outputs, results.as_slice()) else {
                return Ok(Err("it has nothing to write into".into()));
            };
            return Ok(self.values.write((first, output), result.clone(), &mut self.lines, &place));
        }
        for (output, result) in outputs.iter().zip(results) {
            let made = self.lines.nodes[start..].iter().find(|node| Some(node.name.as_str()) == result.name());
            let step = made.map(|node| node.operation.clone());
            match (Sharing::of(name), first) {
                (Sharing::Nothing, _) | (_, None) => self.values.define(output, result, true),
                (sharing, Some(first)) => self.values.define_view(output, first, step, result, sharing),
            }
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
        let whole = |value: &Value| value.as_i64().map(Size::fixed).ok_or_else(|| "a whole number is none".to_owned());
        Ok(Ok(match kind_name {
            "as_none" => Argument::None,
            "as_tensor" => Argument::Value(self.read(content, symbols, place)?),
            "as_tensors" => {
                let read = |value: &Value| self.read(value, symbols, place);
                Argument::Values(list()?.iter().map(read).collect::<Result<_, _>>()?)
            }
            "as_optional_tensors" => {
                let read = |value: &Value| match union(value)? {
                    ("as_none", _) => Ok(Operand::None),
                    (_, content) => self.read(content, symbols, place),
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
            "as_bool" => Argument::Flag(content.as_bool().ok_or("a truth value is none")?),
            "as_string" => Argument::Text(content.as_str().ok_or("a text is none")?.into()),
            "as_scalar_type" => match kind(content.as_u64().ok_or("a type has no code")?) {
                Ok(kind) => Argument::Kind(kind),
                Err(reason) => return Ok(Err(reason)),
            },
            "as_device" | "as_layout" | "as_memory_format" => Argument::Idle,
            other => return Ok(Err(format!("an argument of the kind `{other}`"))),
        }))
    }

    fn read(&mut self, content: &Value, symbols: &mut Symbols, place: &Place) -> Result<Operand, String> {
        let name = name(content)?;
        let operand = self.values.read(name, &mut self.lines, place)?;
        if let Some((kind, shape)) = said(self.metas, name, symbols) {
            self.lines.know(&operand, kind, shape);
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

/// Kind and shape of a value, where the archive says them.
fn said(metas: &BTreeMap<String, TensorMeta>, name: &str, symbols: &mut Symbols) -> Option<(Kind, Vec<Size>)> {
    let meta = metas.get(name)?;
    let shape = meta.sizes.iter().map(|size| symbols.size(size).ok()).collect::<Option<_>>()?;
    Some((meta.kind().ok()?, shape))
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
