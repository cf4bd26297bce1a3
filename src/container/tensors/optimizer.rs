//! The state of an optimiser, as `torch.save(optimizer.state_dict())` writes it, alone or inside a checkpoint.

use std::collections::HashMap;

use super::contents::Entry;
use super::rebuild::Rebuild;
use crate::container::{Id, Pickle, Value};

/// Levels of dictionaries and lists that are searched for the state.
const MAX_DEPTH: usize = 3;
/// Values that are looked at on the way, and parameters that a state may have.
const MAX_VALUES: usize = 1 << 16;
/// Entries that one parameter may have.
const MAX_ENTRIES: usize = 64;

/// The state of Adam or AdamW.
#[derive(Debug)]
pub(crate) struct Optimizer {
    /// Parameters in the order in which the optimiser was given them.
    pub(crate) params: Vec<ParamState>,
    /// Number of its groups of parameters.
    pub(crate) num_groups: usize,
}

/// What it keeps of one tensor of parameters, and the settings of its group.
#[derive(Debug)]
pub(crate) struct ParamState {
    /// Where the optimiser was given names.
    pub(crate) name: Option<String>,
    /// `β₁, β₂`.
    pub(crate) betas: [f64; 2],
    /// `ε`.
    pub(crate) eps: f64,
    /// Steps done, and the second moment; `None` where no step has met it.
    pub(crate) moment: Option<(f64, Entry)>,
}

/// Reads it from a pickle in a file of these bytes.
///
/// # Errors
/// In words: no state or several, one of another optimiser, or settings that are missing.
pub(super) fn read(mut rebuild: Rebuild<'_>, bytes: &[u8]) -> Result<Optimizer, String> {
    let pickle = rebuild.pickle;
    let root = find(pickle)?;
    let state = entry(pickle, root, "state").ok_or("its `state` is missing")?;
    let groups = entry(pickle, root, "param_groups").and_then(|id| pickle.items(id));
    let groups = groups.ok_or("its `param_groups` are not a list")?;
    let of_index = |(key, id): &(Id, Id)| Some((pickle.int(*key)?, *id));
    let states: HashMap<i64, Id> = pickle.entries(state).iter().filter_map(of_index).collect();
    let mut params = Vec::new();
    for &group in groups {
        let settings = Group::read(pickle, group)?;
        if params.len() + settings.params.len() > MAX_VALUES {
            return Err(format!("its `param_groups` have more than {MAX_VALUES} parameters"));
        }
        for (place, &index) in settings.params.iter().enumerate() {
            let index = pickle.int(index).ok_or("an index in its `param_groups` is not a whole number")?;
            let moment = states.get(&index).map(|own| moment(&mut rebuild, *own, index, bytes)).transpose()?;
            let name = settings.names.and_then(|names| pickle.text(*names.get(place)?)).map(str::to_owned);
            params.push(ParamState { name, betas: settings.betas, eps: settings.eps, moment });
        }
    }
    Ok(Optimizer { params, num_groups: groups.len() })
}

/// The one dictionary with `state` and `param_groups`, at the root or a few levels below.
fn find(pickle: &Pickle<'_>) -> Result<Id, String> {
    let is_one = |id: Id| entry(pickle, id, "state").is_some() && entry(pickle, id, "param_groups").is_some();
    let (mut level, mut found, mut left) = (vec![pickle.root()], Vec::new(), MAX_VALUES);
    for _ in 0..=MAX_DEPTH {
        found.extend(level.iter().copied().filter(|&id| is_one(id)));
        if !found.is_empty() {
            break;
        }
        let below = level.iter().flat_map(|&id| match pickle.items(id) {
            Some(items) => items.to_vec(),
            None => pickle.entries(id).iter().map(|(_, value)| *value).collect(),
        });
        level = below.take(left).collect();
        left -= level.len();
    }
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [one] => Ok(one),
        [] => {
            Err("it does not hold the state of an optimiser: there is no dictionary with `state` and `param_groups`"
                .into())
        }
        _ => Err(format!("it holds the states of {} optimisers: save that of one", found.len())),
    }
}

/// The value under a key of a dictionary.
fn entry(pickle: &Pickle<'_>, id: Id, key: &str) -> Option<Id> {
    pickle.entries(id).iter().find(|(own, _)| pickle.text(*own) == Some(key)).map(|(_, value)| *value)
}

fn number(pickle: &Pickle<'_>, id: Id) -> Option<f64> {
    match pickle.get(id) {
        Value::Float(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        _ => None,
    }
}

/// A group of parameters.
struct Group<'a> {
    /// Their indices in the state.
    params: &'a [Id],
    names: Option<&'a [Id]>,
    betas: [f64; 2],
    eps: f64,
}

impl<'a> Group<'a> {
    fn read(pickle: &'a Pickle<'_>, id: Id) -> Result<Self, String> {
        let of = |key: &str| entry(pickle, id, key);
        let betas = of("betas").and_then(|betas| match pickle.items(betas)? {
            &[first, second] => Some([number(pickle, first)?, number(pickle, second)?]),
            _ => None,
        });
        let numbers = "as numbers in a group of parameters: it is not the state of Adam or AdamW";
        Ok(Self {
            params: of("params").and_then(|params| pickle.items(params)).ok_or("a group lacks its `params`")?,
            names: of("param_names").and_then(|names| pickle.items(names)),
            betas: betas.ok_or_else(|| format!("there are no `betas` {numbers}"))?,
            eps: of("eps").and_then(|eps| number(pickle, eps)).ok_or_else(|| format!("there is no `eps` {numbers}"))?,
        })
    }
}

/// Steps done and second moment of parameter `index`, whose state is `id`; of AMSGrad the largest moment so far, which it
/// divides by.
fn moment(rebuild: &mut Rebuild<'_>, id: Id, index: i64, bytes: &[u8]) -> Result<(f64, Entry), String> {
    let pickle = rebuild.pickle;
    if pickle.entries(id).len() > MAX_ENTRIES {
        return Err(format!("the state of parameter {index} has more than {MAX_ENTRIES} entries"));
    }
    let of = |key: &str| entry(pickle, id, key);
    let second = of("max_exp_avg_sq").or_else(|| of("exp_avg_sq"));
    let second = second.and_then(|second| rebuild.tensor(second)).transpose()?;
    let second =
        second.ok_or_else(|| format!("parameter {index} has no `exp_avg_sq`: it is not the state of Adam or AdamW"))?;
    let steps = of("step").and_then(|step| match number(pickle, step) {
        Some(steps) => Some(steps),
        None => {
            let tensor = rebuild.tensor(step)?.ok()?.read(bytes).ok()?;
            tensor.flatten_all().ok()?.to_dtype(candle_core::DType::F64).ok()?.to_vec1::<f64>().ok()?.first().copied()
        }
    });
    let steps = steps.filter(|steps| *steps >= 1.0 && steps.is_finite());
    Ok((steps.ok_or_else(|| format!("parameter {index} has no `step` of 1 or more"))?, second))
}
