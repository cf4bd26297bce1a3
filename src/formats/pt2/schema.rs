//! The parts of torch.export's JSON that are read; everything else is skipped without being kept.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::program::{Kind, Size};

/// JSON without the words for infinity and NaN that Python writes bare, and newer layouts in quotes.
pub(super) fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let [byte, behind @ ..] = rest {
        let bare = |word: &&&[u8]| !in_string && rest.starts_with(word);
        if let Some(word) = [&b"Infinity"[..], b"-Infinity", b"NaN"].iter().find(bare) {
            out.extend([b"\"", *word, b"\""].concat());
            rest = &rest[word.len()..];
            continue;
        }
        let len = if in_string && *byte == b'\\' && !behind.is_empty() { 2 } else { 1 };
        in_string ^= *byte == b'"';
        out.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
    }
    out
}

/// `models/model.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    pub(super) graph_module: GraphModule,
    pub(super) schema_version: Version,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) major: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct GraphModule {
    pub(super) graph: Graph,
    pub(super) signature: Signature,
    #[serde(default)]
    pub(super) module_call_graph: Vec<ModuleCall>,
}

/// A call of a module; the first is that of the whole.
#[derive(Debug, Deserialize)]
pub(super) struct ModuleCall {
    pub(super) signature: Option<CallSignature>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CallSignature {
    /// JSON of the tree of outputs.
    #[serde(default)]
    pub(super) out_spec: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Graph {
    #[serde(default)]
    pub(super) inputs: Vec<Value>,
    #[serde(default)]
    pub(super) outputs: Vec<Value>,
    pub(super) nodes: Vec<Node>,
    pub(super) tensor_values: BTreeMap<String, TensorMeta>,
    #[serde(default)]
    pub(super) sym_int_values: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Node {
    pub(super) target: String,
    #[serde(default)]
    pub(super) inputs: Vec<NamedArgument>,
    #[serde(default)]
    pub(super) outputs: Vec<Value>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NamedArgument {
    pub(super) name: String,
    pub(super) arg: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct Signature {
    pub(super) input_specs: Vec<Value>,
    pub(super) output_specs: Vec<Value>,
}

/// What the archive says of a tensor.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TensorMeta {
    pub(super) dtype: u64,
    pub(super) sizes: Vec<Value>,
    pub(super) strides: Vec<Value>,
    pub(super) storage_offset: Value,
    #[serde(default)]
    pub(super) requires_grad: bool,
}

/// `model_weights_config.json` and `model_constants_config.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Config {
    pub(super) config: BTreeMap<String, Payload>,
}

/// Where the numbers of a tensor lie.
#[derive(Debug, Deserialize)]
pub(super) struct Payload {
    pub(super) path_name: String,
    #[serde(default)]
    pub(super) use_pickle: bool,
    pub(super) tensor_meta: Option<TensorMeta>,
}

impl TensorMeta {
    /// Floats, whole numbers or truth values, by torch.export's codes.
    pub(super) fn kind(&self) -> Result<Kind, String> {
        kind(self.dtype)
    }
}

/// Floats, whole numbers or truth values, by torch.export's codes of types.
pub(super) fn kind(code: u64) -> Result<Kind, String> {
    match code {
        1..=5 => Ok(Kind::Whole),
        6..=8 | 13 => Ok(Kind::Float),
        12 => Ok(Kind::Truth),
        _ => Err(format!("numbers of type {code} are not supported")),
    }
}

/// The only field of an object that stands for one of several kinds, and its content.
pub(super) fn union(value: &Value) -> Result<(&str, &Value), String> {
    let mut fields = value.as_object().into_iter().flatten();
    match (fields.next(), fields.next()) {
        (Some((name, content)), None) => Ok((name.as_str(), content)),
        _ => Err("its description has a union that does not hold exactly one field".into()),
    }
}

/// The `name` in an object.
pub(super) fn name(value: &Value) -> Result<&str, String> {
    value.get("name").and_then(Value::as_str).ok_or_else(|| "a name is missing".into())
}

/// A whole number `{"as_int": …}`.
pub(super) fn int(value: &Value) -> Result<i64, String> {
    value.get("as_int").and_then(Value::as_i64).ok_or_else(|| "a size is not a whole number".into())
}

/// A float, which may be text for those that JSON does not have.
pub(super) fn float(value: &Value) -> Result<f64, String> {
    match value.as_str() {
        Some("Infinity") => Ok(f64::INFINITY),
        Some("-Infinity") => Ok(f64::NEG_INFINITY),
        Some("NaN") => Ok(f64::NAN),
        _ => value.as_f64().ok_or_else(|| "a float is not a number".into()),
    }
}

/// Reads expressions in the number of rows; all use one symbol.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    rows: Option<String>,
}

impl Symbols {
    /// `{"as_int": …}` or `{"as_expr": {"expr_str": …}}`.
    pub(super) fn size(&mut self, value: &Value) -> Result<Size, String> {
        match union(value)? {
            ("as_int", content) => {
                content.as_i64().map(Size::fixed).ok_or_else(|| "a size is not a whole number".into())
            }
            ("as_expr", content) => {
                let text = content.get("expr_str").and_then(Value::as_str).ok_or("an expression is missing")?;
                self.expression(text)
            }
            (other, _) => Err(format!("a size of the kind `{other}` is not supported")),
        }
    }

    /// What sympy writes: `Mul(Integer(2), Symbol('s77', positive=True, integer=True))`, and before PyTorch 2.6 `2*s0 + 1`.
    pub(super) fn expression(&mut self, text: &str) -> Result<Size, String> {
        let mut rest = text;
        let size = self.sum(&mut rest, 0)?;
        if rest.trim().is_empty() { Ok(size) } else { Err(format!("the size `{text}` cannot be read")) }
    }

    fn sum(&mut self, rest: &mut &str, depth: usize) -> Result<Size, String> {
        let mut sum = self.product(rest, depth)?;
        loop {
            sum = if take(rest, "+") {
                sum + self.product(rest, depth)?
            } else if take(rest, "-") {
                sum - self.product(rest, depth)?
            } else {
                return Ok(sum);
            };
        }
    }

    fn product(&mut self, rest: &mut &str, depth: usize) -> Result<Size, String> {
        let mut product = self.term(rest, depth)?;
        loop {
            product = if take(rest, "//") {
                divided(&product, &self.term(rest, depth)?)?
            } else if take(rest, "*") {
                product * self.term(rest, depth)?
            } else {
                return Ok(product);
            };
        }
    }

    fn term(&mut self, rest: &mut &str, depth: usize) -> Result<Size, String> {
        const DEEPEST: usize = 64;
        let unknown = |what: &str| format!("the size `{what}` cannot be read");
        if depth > DEEPEST {
            return Err("a size is nested too deeply".into());
        }
        if take(rest, "-") {
            return Ok(Size::fixed(0) - self.term(rest, depth + 1)?);
        }
        if take(rest, "(") {
            let inside = self.sum(rest, depth + 1)?;
            return if take(rest, ")") { Ok(inside) } else { Err(unknown(rest)) };
        }
        let trimmed = rest.trim_start();
        let end = trimmed.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(trimmed.len());
        let (head, after) = trimmed.split_at(end);
        *rest = after;
        if let Ok(number) = head.parse::<i64>() {
            return Ok(Size::fixed(number));
        }
        if !take(rest, "(") {
            return if head.is_empty() { Err(unknown(trimmed)) } else { self.symbol(head) };
        }
        if head == "Symbol" {
            let (inside, behind) = rest.split_once(')').ok_or_else(|| unknown(head))?;
            *rest = behind;
            return self.symbol(inside.split(',').next().unwrap_or_default().trim().trim_matches(['\'', '"']));
        }
        let mut terms = Vec::new();
        loop {
            terms.push(self.sum(rest, depth + 1)?);
            if take(rest, ")") {
                break;
            }
            if !take(rest, ",") {
                return Err(unknown(head));
            }
        }
        let mut terms = terms.into_iter();
        let first = terms.next().ok_or_else(|| unknown(head))?;
        match head {
            "Integer" => Ok(first),
            "Add" => Ok(terms.fold(first, |sum, term| sum + term)),
            "Mul" => Ok(terms.fold(first, |product, term| product * term)),
            "FloorDiv" | "CleanDiv" | "IntTrueDiv" => divided(&first, &terms.next().ok_or_else(|| unknown(head))?),
            _ => Err(unknown(head)),
        }
    }

    /// The one symbol that there may be.
    fn symbol(&mut self, symbol: &str) -> Result<Size, String> {
        match &self.rows {
            Some(rows) if rows != symbol => Err("more than one size is dynamic: only the rows may be".into()),
            _ => {
                self.rows = Some(symbol.to_owned());
                Ok(Size::rows())
            }
        }
    }
}

fn divided(size: &Size, divisor: &Size) -> Result<Size, String> {
    size.divided_by(divisor).ok_or_else(|| "a size does not divide evenly".into())
}

/// Takes `token` off the front, blanks before it too, where it is there.
fn take(rest: &mut &str, token: &str) -> bool {
    let behind = rest.trim_start().strip_prefix(token);
    *rest = behind.unwrap_or(rest);
    behind.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_in_the_rows() {
        let mut symbols = Symbols::default();
        let mut read = |text: &str| symbols.expression(text).map(|size| size.to_string());
        assert_eq!(read("Symbol('s7', positive=True, integer=True)").unwrap(), "N");
        assert_eq!(read("Mul(Integer(17), Symbol('s7', positive=True))").unwrap(), "17·N");
        assert_eq!(read("Add(Mul(Integer(2), Symbol('s7')), Integer(-3))").unwrap(), "2·N + -3");
        assert_eq!(read("FloorDiv(Mul(Integer(4), Symbol('s7')), Integer(2))").unwrap(), "2·N");
        assert_eq!(read("2*s7 + 1").unwrap(), "2·N + 1");
        assert_eq!(read("-3 + (4*s7)//2").unwrap(), "2·N + -3");
        for wrong in
            ["", "Mul(", "Symbol('s8')", "Pow(Symbol('s7'), Integer(2))", "Integer(3) 4", "Mul()", "x", "s7**2", "(s7"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for deep in ["Mul(", "(", "-"] {
            assert!(read(&deep.repeat(100_000)).unwrap_err().contains("deeply"));
        }
    }
}
