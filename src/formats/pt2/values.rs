//! Values of an exported graph and the memory they share: a write into one is carried into all that look at the same
//! numbers, as PyTorch does it.

use std::collections::HashMap;

use crate::program::{Expand, Lines, Op, Operand, Permute, Place, Slice, SliceScatter, Transpose, Unsqueeze, ViewAs};

/// A value of the graph: a view of a base.
#[derive(Debug, Clone)]
pub(super) struct Alias {
    base: usize,
    /// From the base to this view.
    steps: Vec<Op>,
    /// The value when the base was last written.
    operand: Operand,
    /// Writes into the base so far.
    writes: usize,
    /// Whether PyTorch may have copied it, so that later writes into the base may or may not show.
    perhaps_a_copy: bool,
}

#[derive(Debug)]
struct Base {
    current: Operand,
    writes: usize,
    /// Whether it belongs to the graph; inputs, parameters and buffers do not.
    is_own: bool,
    /// Whether a value was written that may or may not be a copy of it.
    is_uncertain: bool,
}

/// How a result shares memory with the value that it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// It has its own.
    Nothing,
    /// It looks at the same numbers.
    View,
    /// As PyTorch finds fit.
    Perhaps,
}

impl Sharing {
    /// Of an operation by PyTorch's name.
    pub(super) fn of(name: &str) -> Self {
        match name {
            "select" | "slice" | "narrow" | "split" | "split_with_sizes" | "chunk" | "unbind" | "view" | "view_as"
            | "unflatten" | "permute" | "transpose" | "swapaxes" | "t" | "unsqueeze" | "squeeze" | "expand"
            | "alias" | "detach" | "dropout" | "lift_fresh" => Self::View,
            "reshape" | "reshape_as" | "flatten" | "contiguous" | "to" | "pad" | "feature_dropout" => Self::Perhaps,
            _ => Self::Nothing,
        }
    }
}

/// All values by their names in the graph.
#[derive(Debug, Default)]
pub(super) struct Values {
    aliases: HashMap<String, Alias>,
    bases: Vec<Base>,
}

impl Values {
    /// A value with memory of its own; `is_own` where writes into it stay inside the graph.
    pub(super) fn define(&mut self, name: &str, operand: Operand, is_own: bool) {
        let (base, steps) = (self.bases.len(), Vec::new());
        self.bases.push(Base { current: operand.clone(), writes: 0, is_own, is_uncertain: false });
        let alias = Alias { base, steps, operand, writes: 0, perhaps_a_copy: false };
        self.aliases.insert(name.to_owned(), alias);
    }

    /// All values by their names, as they are now.
    pub(super) fn names(&self) -> HashMap<String, Alias> {
        self.aliases.clone()
    }

    /// The names that [`Self::names`] gave, in place of those since.
    pub(super) fn set_names(&mut self, names: HashMap<String, Alias>) {
        self.aliases = names;
    }

    /// Another name of a value.
    ///
    /// # Errors
    /// A value that does not exist.
    pub(super) fn rename(&mut self, of: &str, name: &str) -> Result<(), String> {
        let alias = self.aliases.get(of).ok_or_else(|| format!("the value `{of}` is used before it exists"))?;
        self.aliases.insert(name.to_owned(), alias.clone());
        Ok(())
    }

    /// A value that looks at the numbers of `of`, by what `step` computes of it where it is one step.
    pub(super) fn define_view(&mut self, name: &str, of: &str, step: Option<Op>, operand: Operand, sharing: Sharing) {
        let Some(alias) = self.aliases.get(of) else { return self.define(name, operand, true) };
        let mut alias = alias.clone();
        alias.steps.extend(step);
        alias.operand = operand;
        alias.writes = self.bases[alias.base].writes;
        alias.perhaps_a_copy |= sharing == Sharing::Perhaps;
        self.aliases.insert(name.to_owned(), alias);
    }

    /// A value as it is after all writes so far.
    ///
    /// # Errors
    /// A name that does not exist; a value of which PyTorch does not say whether a write shows in it.
    pub(super) fn read(&mut self, name: &str, lines: &mut Lines, place: &Place) -> Result<Operand, String> {
        let alias = self.aliases.get_mut(name).ok_or_else(|| format!("the value `{name}` is used before it exists"))?;
        let base = &self.bases[alias.base];
        if base.is_uncertain {
            return Err(format!("a value that may be a copy of `{name}` has been written to since"));
        }
        if alias.writes != base.writes {
            if alias.perhaps_a_copy {
                return Err(format!("`{name}` may be a copy of a value that has been written to since"));
            }
            let again = |x: Operand, step: &Op| lines.push(place, step.clone(), vec![x]);
            alias.operand = alias.steps.iter().fold(base.current.clone(), again);
            alias.writes = base.writes;
        }
        Ok(alias.operand.clone())
    }

    /// Writes `value` into all numbers of the value `name`; `result` is another name of it then.
    ///
    /// # Errors
    /// A view whose numbers cannot be put back into its base; a base outside of the graph.
    pub(super) fn write(
        &mut self,
        name: &str,
        result: &str,
        value: Operand,
        lines: &mut Lines,
        place: &Place,
    ) -> Result<(), String> {
        let alias = self.aliases.get(name).ok_or_else(|| format!("the value `{name}` is used before it exists"))?;
        let mut alias = alias.clone();
        let base = &mut self.bases[alias.base];
        if alias.perhaps_a_copy {
            // Taken for a copy, which is right as long as nothing reads what it may be a copy of.
            base.is_uncertain = true;
            self.define(result, value.clone(), true);
            let copy = self.aliases[result].clone();
            self.aliases.insert(name.to_owned(), copy);
            return Ok(());
        }
        if !base.is_own {
            return Err(format!("it writes into `{name}`, which belongs to the weights or the inputs"));
        }
        let mut before = vec![base.current.clone()];
        for step in alias.steps.iter().rev().skip(1).rev() {
            let next = lines.push(place, step.clone(), vec![before[before.len() - 1].clone()]);
            before.push(next);
        }
        let mut put = value.clone();
        for (step, into) in alias.steps.iter().zip(before).rev() {
            put = put_back(step, into, put, lines, place)?;
        }
        base.current = put;
        base.writes += 1;
        (alias.operand, alias.writes) = (value, base.writes);
        self.aliases.insert(name.to_owned(), alias.clone());
        self.aliases.insert(result.to_owned(), alias);
        Ok(())
    }
}

/// `into` with the numbers of `value` where `step` takes them from.
fn put_back(step: &Op, into: Operand, value: Operand, lines: &mut Lines, place: &Place) -> Result<Operand, String> {
    Ok(match step {
        Op::Slice(Slice { dim, start, end, step }) => {
            lines.push(place, SliceScatter { dim: *dim, start: *start, end: *end, step: *step }, vec![into, value])
        }
        Op::Select(select) => {
            let (dim, start) = (select.dim, select.index);
            let value = lines.push(place, Unsqueeze { dim }, vec![value]);
            let end = if start == -1 { i64::MAX } else { start.saturating_add(1) };
            lines.push(place, SliceScatter { dim, start, end, step: 1 }, vec![into, value])
        }
        Op::Transpose(transpose) => lines.push(place, Transpose { ..transpose.clone() }, vec![value]),
        Op::Permute(Permute { dims }) => {
            let rank = dims.len() as i64;
            let from = |axis: i64| dims.iter().position(|&dim| dim.rem_euclid(rank) == axis).map(|at| at as i64);
            let inverse = (0..rank).map(from).collect::<Option<_>>().ok_or("its axes are not a permutation")?;
            lines.push(place, Permute { dims: inverse }, vec![value])
        }
        Op::View(_) | Op::Flatten(_) | Op::Unflatten(_) | Op::Unsqueeze(_) | Op::Squeeze(_) | Op::ViewAs(_) => {
            lines.push(place, ViewAs {}, vec![value, into])
        }
        Op::Expand(Expand { .. }) => return Err("it writes into an expanded value".into()),
        other => return Err(format!("a write through `{}` is not supported", other.name())),
    })
}
