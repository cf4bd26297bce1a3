//! Sums of products over named axes (Einstein's convention), by one batched matrix product for each pair of operands.

use serde::{Deserialize, Serialize};

use super::{Permute, Sum};
use crate::Result;
use crate::autodiff::{Value, Var};
use crate::kernels::{self, Bilinear};
use crate::program::cost::Cost;
use crate::program::fact::{RowAxis, Tracked};
use crate::program::operation::{Affinity, Operation, columns, fact};
use crate::program::run::{Run, Slot};
use crate::program::{Call, Fact, Operand, Results, Start};

/// `equation` says which axes of the two operands are the same, and which of them the result has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Einsum {
    /// Such as `bhtd,bhsd->bhts`.
    pub equation: String,
}

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    (call.name == "einsum").then(|| einsum(call))
}

/// Pair by pair; what one operand alone has is summed before, and the axes are put in order at the end.
fn einsum(call: &mut Call<'_>) -> Results {
    let equation = call.text("equation")?.ok_or("its equation is missing")?;
    let operands = call.operands("tensors")?;
    // The order that PyTorch would choose for speed.
    call.ints("path")?;
    let (terms, out) = terms(call, &equation, &operands)?;
    let mut pairs = operands.into_iter().zip(terms.iter().cloned());
    let (mut x, mut axes) = pairs.next().ok_or("it has no operands")?;
    for (place, (other, own)) in pairs.enumerate() {
        let later = |axis: &char| out.contains(axis) || terms[place + 2..].iter().any(|term| term.contains(axis));
        (x, axes) = summed(call, x, axes, |axis| own.contains(axis) || later(axis));
        let (other, own) = summed(call, other, own, |axis| axes.contains(axis) || later(axis));
        let joined = axes.iter().chain(own.iter().filter(|axis| !axes.contains(axis)));
        let kept: Vec<char> = joined.copied().filter(later).collect();
        let text = |axes: &[char]| axes.iter().collect::<String>();
        let equation = format!("{},{}->{}", text(&axes), text(&own), text(&kept));
        Axes::of(&equation)?;
        (x, axes) = (call.push(Einsum { equation }, [x, other]), kept);
    }
    let (x, axes) = summed(call, x, axes, |axis| out.contains(axis));
    let dims: Vec<i64> = order(&axes, out.iter().copied()).into_iter().map(|axis| axis as i64).collect();
    if dims.len() != axes.len() || dims.len() != out.len() {
        return Err(format!("the equation `{equation}` is not supported"));
    }
    if dims.is_sorted() { Ok(vec![x]) } else { call.gives(Permute { dims }, [x]) }
}

/// The operand summed over the axes that are not kept, and the others.
fn summed(call: &mut Call<'_>, x: Operand, axes: Vec<char>, kept: impl Fn(&char) -> bool) -> (Operand, Vec<char>) {
    let dim: Vec<i64> = (0..).zip(&axes).filter(|(_, axis)| !kept(axis)).map(|(dim, _)| dim).collect();
    let x = if dim.is_empty() { x } else { call.push(Sum { dim, keepdim: false }, [x]) };
    (x, axes.into_iter().filter(|axis| kept(axis)).collect())
}

/// The axes of each operand and of the result; those that `...` stands for get letters of their own.
fn terms(call: &Call<'_>, equation: &str, operands: &[Operand]) -> Result<(Vec<Vec<char>>, Vec<char>), String> {
    let text: String = equation.chars().filter(|letter| !letter.is_whitespace()).collect();
    let (inputs, out) = text.split_once("->").map_or((text.as_str(), None), |(inputs, out)| (inputs, Some(out)));
    let inputs: Vec<&str> = inputs.split(',').collect();
    if inputs.len() != operands.len() {
        return Err(format!("the equation `{equation}` does not fit {} operands", operands.len()));
    }
    let free: Vec<char> = ('A'..='Z').chain('a'..='z').filter(|letter| !text.contains(*letter)).collect();
    let (mut terms, mut hidden) = (Vec::new(), Vec::new());
    for (input, operand) in inputs.iter().zip(operands) {
        let named = input.replace("...", "").chars().count();
        let count = if input.contains("...") { call.rank(operand)?.saturating_sub(named) } else { 0 };
        let own = free.get(free.len().saturating_sub(count)..).unwrap_or_default();
        if count > hidden.len() {
            hidden = own.to_vec();
        }
        terms.push(input.replace("...", &own.iter().collect::<String>()).chars().collect::<Vec<char>>());
    }
    let out = match out {
        Some(out) => out.replace("...", &hidden.iter().collect::<String>()).chars().collect(),
        None => {
            let all: Vec<char> = terms.iter().flatten().copied().filter(|axis| !hidden.contains(axis)).collect();
            let mut once: Vec<char> =
                all.iter().copied().filter(|a| all.iter().filter(|b| a == *b).count() == 1).collect();
            once.sort_unstable();
            [hidden, once].concat()
        }
    };
    Ok((terms, out))
}

/// The letters of both operands and of the result.
struct Axes {
    a: Vec<char>,
    b: Vec<char>,
    out: Vec<char>,
}

impl Axes {
    fn of(equation: &str) -> Result<Self, String> {
        let unsupported = || format!("the equation `{equation}` is not supported");
        let (inputs, out) = equation.split_once("->").ok_or_else(unsupported)?;
        let (a, b) = inputs.split_once(',').ok_or_else(unsupported)?;
        let [a, b, out] = [a, b, out].map(|axes| axes.chars().collect::<Vec<char>>());
        let once = |axes: &[char]| {
            axes.iter()
                .all(|axis| axis.is_ascii_alphabetic() && axes.iter().filter(|other| *other == axis).count() == 1)
        };
        // An axis of one operand alone stays; else it would be a sum of that operand.
        let kept = |axes: &[char], other: &[char]| axes.iter().all(|axis| other.contains(axis) || out.contains(axis));
        let made = out.iter().all(|axis| a.contains(axis) || b.contains(axis));
        match [&a, &b, &out].into_iter().all(|axes| once(axes)) && kept(&a, &b) && kept(&b, &a) && made {
            true => Ok(Self { a, b, out }),
            false => Err(unsupported()),
        }
    }

    /// Axes of both and the result, of the first alone, of both but not the result, of the second alone.
    fn parts(&self) -> [Vec<char>; 4] {
        let of = |axes: &[char], wanted: &dyn Fn(&char) -> bool| axes.iter().copied().filter(wanted).collect();
        let (a, b, out) = (&self.a, &self.b, &self.out);
        [
            of(out, &|axis| a.contains(axis) && b.contains(axis)),
            of(a, &|axis| !b.contains(axis)),
            of(a, &|axis| b.contains(axis) && !out.contains(axis)),
            of(b, &|axis| !a.contains(axis)),
        ]
    }

    /// The size of an axis, where both operands agree.
    fn size(&self, axis: char, shapes: [&[usize]; 2]) -> Result<usize, String> {
        let mut size = None;
        for (axes, shape) in [&self.a, &self.b].into_iter().zip(shapes) {
            if axes.len() != shape.len() {
                return Err(format!("{} axes are named, but an operand is {shape:?}", axes.len()));
            }
            if let Some(place) = axes.iter().position(|other| *other == axis) {
                if size.is_some_and(|size| size != shape[place]) {
                    return Err(format!("the axis `{axis}` has two sizes in {shapes:?}"));
                }
                size = Some(shape[place]);
            }
        }
        size.ok_or_else(|| format!("the axis `{axis}` does not exist"))
    }

    fn sizes(&self, axes: &[char], shapes: [&[usize]; 2]) -> Result<Vec<usize>, String> {
        axes.iter().map(|&axis| self.size(axis, shapes)).collect()
    }
}

/// The places of axes `to` among axes `from`.
fn order(from: &[char], to: impl Iterator<Item = char>) -> Vec<usize> {
    to.filter_map(|axis| from.iter().position(|other| *other == axis)).collect()
}

impl Operation for Einsum {
    columns! {
        name: "einsum",
        operands: &["tensors"],
        affinity: Affinity { products: &[(0, 1)], smooth: &[] },
    }

    fn result(&self, operands: &[Option<&Fact>], _rows: usize) -> Result<Fact, String> {
        let (axes, a, b) = (Axes::of(&self.equation)?, fact(operands, 0)?, fact(operands, 1)?);
        if operands.len() != 2 {
            return Err(format!("expects two operands, but there are {}", operands.len()));
        }
        Ok(Fact::float(&axes.sizes(&axes.out, [&a.shape, &b.shape])?))
    }

    fn cost(&self, operands: &[Option<&Fact>], result: &Fact) -> Cost {
        let inner = match (Axes::of(&self.equation), operands) {
            (Ok(axes), [Some(a), Some(b)]) => axes.sizes(&axes.parts()[2], [&a.shape, &b.shape]).unwrap_or_default(),
            _ => Vec::new(),
        };
        let copies = operands.iter().flatten().map(|fact| fact.len()).sum();
        Cost::with_activations(result.len() * inner.iter().product::<usize>(), &[result.len(), copies])
    }

    fn start(&self, _place: usize, shapes: &[Option<&[usize]>], in_transformer: bool) -> Start {
        let inputs = shapes.iter().flatten().next().and_then(|shape| shape.get(1)).copied();
        if in_transformer { Start::NARROW } else { Start::fan_in(inputs.unwrap_or(1)) }
    }

    fn rows(&self, operands: &[Option<&Fact>], _result: &Fact, _in_training: bool) -> Tracked {
        let axes = Axes::of(&self.equation)?;
        let mut found: Option<(char, RowAxis)> = None;
        for (own, operand) in [&axes.a, &axes.b].into_iter().zip(operands) {
            let Some(rows) = operand.and_then(|fact| fact.rows) else { continue };
            let letter = own[rows.axis];
            let same =
                |(other, of): (char, RowAxis)| other == letter && (of.outer, of.inner) == (rows.outer, rows.inner);
            if found.is_some_and(|found| !same(found)) {
                return Err("it multiplies each row with every other".into());
            }
            found = Some((letter, rows));
        }
        let Some((letter, rows)) = found else { return Ok(None) };
        let place = axes.out.iter().position(|axis| *axis == letter);
        place.map(|axis| Some(rows.at(axis))).ok_or_else(|| "it sums over the rows".into())
    }

    fn forward<V: Value>(&self, run: &mut Run<'_, V>, operands: &[Slot<V>]) -> Result<Slot<V>> {
        let axes = Axes::of(&self.equation).map_err(|reason| run.misfit(reason))?;
        let (a, b) = (run.var(operands, 0)?, run.var(operands, 1)?);
        let shapes = [a.dims()?.to_vec(), b.dims()?.to_vec()];
        let parts = axes.parts();
        let sizes = |part: &Vec<char>| axes.sizes(part, [&shapes[0], &shapes[1]]);
        let sizes = parts.iter().map(sizes).collect::<Result<Vec<_>, _>>().map_err(|reason| run.misfit(reason))?;
        let [batch, m, k, n] = [0, 1, 2, 3].map(|part| sizes[part].iter().product::<usize>());
        let [shared, of_a, summed, of_b] = &parts;
        let first =
            run.arranged(&a, order(&axes.a, shared.iter().chain(of_a).chain(summed).copied()), [batch, m, k])?;
        let second =
            run.arranged(&b, order(&axes.b, shared.iter().chain(summed).chain(of_b).copied()), [batch, k, n])?;
        let product = kernels::MatMul { batch, m, k, n, transpose_a: false, transpose_b: false };
        let y = run.tape.bilinear(Bilinear::MatMul(product), &first, &second)?;
        let made: Vec<char> = shared.iter().chain(of_a).chain(of_b).copied().collect();
        let y = run.reshape(&y, &[sizes[0].as_slice(), &sizes[1], &sizes[3]].concat())?;
        Ok(Slot::Float(run.permuted(&y, order(&made, axes.out.iter().copied()))?))
    }
}

impl<V: Value> Run<'_, V> {
    /// The axes in another order.
    pub(super) fn permuted(&mut self, x: &Var<V>, axes: Vec<usize>) -> Result<Var<V>> {
        if axes.is_sorted() {
            return Ok(x.clone());
        }
        Ok(self.tape.linear(kernels::Linear::Permute { axes }, x)?)
    }

    /// The axes in another order, then in another shape.
    fn arranged(&mut self, x: &Var<V>, axes: Vec<usize>, shape: [usize; 3]) -> Result<Var<V>> {
        let x = self.permuted(x, axes)?;
        self.reshape(&x, &shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_checked() {
        for good in ["ij,jk->ik", "btc,nhcd->nbhtd", "bhts,bhsd->bthd", "i,j->ij"] {
            assert!(Axes::of(good).is_ok(), "{good}");
        }
        for bad in ["ij,jk", "ii,ij->j", "ij,jk->il", "ij,k->k", "...i,ij->...j", "ij->ji", "a,b,c->abc"] {
            assert!(Axes::of(bad).is_err(), "{bad}");
        }
        let axes = Axes::of("bhtd,bhsd->bhts").unwrap();
        assert!(axes.size('d', [&[2, 3, 4, 5], &[2, 3, 6, 7]]).is_err());
        assert_eq!(axes.sizes(&axes.out, [&[2, 3, 4, 5], &[2, 3, 6, 5]]).unwrap(), [2, 3, 4, 6]);
    }
}
