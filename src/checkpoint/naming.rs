//! Where in a file a network finds its tensors.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use candle_core::{DType, Tensor};

use super::error::grouped;
use super::{CheckpointError, TensorFile};
use crate::Result;
use crate::container::Entry;
use crate::formats::Architecture;

/// A network's tensors out of a file.
pub(super) struct Bound {
    /// With one parameter for those that are one in the file.
    pub(super) architecture: Architecture,
    /// The parameters, f64 `[n]`.
    pub(super) theta: Tensor,
    /// The buffers by name, f64.
    pub(super) buffers: HashMap<String, Tensor>,
    /// The widest type of the floats in the file.
    pub(super) stored_dtype: DType,
    /// Whether there are floats of less than 32 bits among them.
    pub(super) widened: bool,
    /// What is worth saying of how they were found.
    pub(super) notes: Vec<String>,
}

impl TensorFile {
    /// The network's tensors in f64.
    ///
    /// # Errors
    /// [`CheckpointError::SeveralFit`]; [`CheckpointError::NoWeightsKey`]; tensors that are missing, misshapen, not finite.
    pub(super) fn bind(&self, architecture: Architecture) -> Result<Bound> {
        let all = architecture.param_space()?;
        if all.dim() == 0 {
            return Err(CheckpointError::NoParameters { path: self.path.clone() }.into());
        }
        let buffers = architecture.buffers()?;
        let parameters: Vec<&str> = all.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        let names: Vec<&str> =
            parameters.iter().copied().chain(buffers.iter().map(|(name, _)| name.as_str())).collect();
        let prefix = self.prefix_of(&names)?;
        let ties = self.ties(&prefix, &parameters);
        let architecture = architecture.tied(&ties);
        let space = architecture.param_space()?;
        let own = space.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()));
        let expected: Vec<(&str, &[usize])> =
            own.chain(buffers.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()))).collect();
        self.check_fit(&prefix, &expected)?;
        let wide = |name: &str| -> Result<Tensor> {
            let values = self.get(&format!("{prefix}{name}"))?.to_dtype(DType::F64)?;
            self.check_finite(name, &values)?;
            Ok(values)
        };
        let parts: Vec<Tensor> =
            space.tensors().iter().map(|tensor| Ok(wide(&tensor.name)?.flatten_all()?)).collect::<Result<_>>()?;
        let theta = Tensor::cat(&parts, 0)?;
        let values = buffers.iter().map(|(name, _)| Ok((name.clone(), wide(name)?))).collect::<Result<_>>()?;
        let (stored_dtype, widened) = self.precision(&prefix, &names);
        let notes = self.notes(&prefix, &names, &ties);
        Ok(Bound { architecture, theta, buffers: values, stored_dtype, widened, notes })
    }

    /// Those of a network's tensors that the file has, by the network's names for them.
    ///
    /// # Errors
    /// [`CheckpointError::SeveralFit`]; [`CheckpointError::NoWeightsKey`]; a tensor that cannot be read.
    pub(crate) fn under_names(&self, names: &[&str]) -> Result<BTreeMap<String, Tensor>> {
        let prefix = self.prefix_of(names)?;
        let there = names.iter().filter(|name| self.entry(&prefix, name).is_some());
        there.map(|name| Ok(((*name).to_owned(), self.get(&format!("{prefix}{name}"))?))).collect()
    }

    fn entry(&self, prefix: &str, name: &str) -> Option<&(usize, Entry)> {
        self.entries.get(&format!("{prefix}{name}"))
    }

    /// What stands in front of a network's names in this file, such as `module.` or `state_dict.model.`: the prefix under
    /// which most of them are there.
    fn prefix_of(&self, names: &[&str]) -> Result<String> {
        let within = |prefix: &str| match &self.weights_key {
            None => true,
            Some(key) => prefix.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('.')),
        };
        let mut prefixes: BTreeSet<&str> = BTreeSet::new();
        for tensor in self.entries.keys() {
            let found = names.iter().filter_map(|name| tensor.strip_suffix(name));
            prefixes.extend(found.filter(|prefix| (prefix.is_empty() || prefix.ends_with('.')) && within(prefix)));
        }
        let count = |prefix: &str| names.iter().filter(|name| self.entry(prefix, name).is_some()).count();
        let counted: Vec<(usize, &str)> = prefixes.into_iter().map(|prefix| (count(prefix), prefix)).collect();
        let most = counted.iter().map(|(count, _)| *count).max().unwrap_or(0);
        let best: Vec<&str> = counted.iter().filter(|(count, _)| *count == most).map(|(_, prefix)| *prefix).collect();
        let is_same = |prefix: &str| names.iter().all(|name| self.is_same(&[best[0], name], &[prefix, name]));
        match (best.as_slice(), &self.weights_key) {
            // The names as they are come first; one dictionary under two keys is one.
            ([first, rest @ ..], _) if !first.is_empty() && most == names.len() && !rest.iter().all(|p| is_same(p)) => {
                let keys = best.iter().map(|prefix| prefix.trim_end_matches('.').to_owned()).collect();
                Err(CheckpointError::SeveralFit { path: self.path.clone(), keys }.into())
            }
            ([first, ..], _) => Ok((*first).to_owned()),
            ([], Some(key)) => Err(CheckpointError::NoWeightsKey { path: self.path.clone(), key: key.clone() }.into()),
            ([], None) => Ok(String::new()),
        }
    }

    /// Whether both names, given in two parts, are those of one tensor.
    fn is_same(&self, first: &[&str; 2], second: &[&str; 2]) -> bool {
        match (self.entry(first[0], first[1]), self.entry(second[0], second[1])) {
            (Some((one, Entry::Stored(first))), Some((other, Entry::Stored(second)))) => {
                one == other && first.is_same(second)
            }
            _ => false,
        }
    }

    /// Parameters that are one tensor in the file: the later name of each, and the first.
    fn ties(&self, prefix: &str, parameters: &[&str]) -> Vec<(String, String)> {
        let mut ties = Vec::new();
        for (index, later) in parameters.iter().enumerate() {
            let first = parameters[..index].iter().find(|first| self.is_same(&[prefix, first], &[prefix, later]));
            ties.extend(first.map(|first| ((*later).to_owned(), (*first).to_owned())));
        }
        ties
    }

    /// That all expected tensors are there, in their shapes.
    fn check_fit(&self, prefix: &str, expected: &[(&str, &[usize])]) -> Result<()> {
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        for (name, shape) in expected {
            match self.entry(prefix, name) {
                None => match self.unread.iter().find(|(unread, _)| *unread == format!("{prefix}{name}")) {
                    Some((_, reason)) => misshapen.push(format!("{name}: {reason}")),
                    None => missing.push((*name).to_owned()),
                },
                Some((_, entry)) if entry.shape() != *shape => {
                    misshapen.push(format!("{name}: got {:?}, expected {shape:?}", entry.shape()));
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() && misshapen.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        let (path, others) = (self.path.clone(), self.others(prefix, &names));
        Err(CheckpointError::Tensors { path, missing, misshapen, others }.into())
    }

    /// That a tensor of f64 holds finite numbers.
    fn check_finite(&self, name: &str, values: &Tensor) -> Result<()> {
        let count = values.flatten_all()?.to_vec1::<f64>()?.iter().filter(|value| !value.is_finite()).count();
        match count {
            0 => Ok(()),
            count => Err(CheckpointError::NotFinite { path: self.path.clone(), name: name.into(), count }.into()),
        }
    }

    /// The widest type among a network's floats, and whether some have less than 32 bits.
    fn precision(&self, prefix: &str, names: &[&str]) -> (DType, bool) {
        if let Some(exported) = &self.exported {
            return (exported.stored_dtype, exported.widened);
        }
        let entries = names.iter().filter_map(|name| self.entry(prefix, name)).map(|(_, entry)| entry);
        let floats: Vec<&Entry> = entries.filter(|entry| entry.dtype().is_float()).collect();
        let widest = floats.iter().map(|entry| entry.dtype()).max_by_key(DType::size_in_bytes);
        (widest.unwrap_or(DType::F32), floats.iter().any(|entry| entry.is_small()))
    }

    /// Tensors that the network has no use for; batch norm's counters do not count, nor second names.
    fn others(&self, prefix: &str, names: &[&str]) -> Vec<String> {
        let used: HashSet<String> = names.iter().map(|name| format!("{prefix}{name}")).collect();
        let is_other = |name: &&String| !used.contains(*name) && !name.ends_with("num_batches_tracked");
        let is_new = |name: &&String| !names.iter().any(|used| self.is_same(&[prefix, used], &["", name]));
        self.entries.keys().filter(is_other).filter(is_new).cloned().collect()
    }

    /// What is worth saying of how a network's tensors were found.
    fn notes(&self, prefix: &str, names: &[&str], ties: &[(String, String)]) -> Vec<String> {
        let mut notes = Vec::new();
        if !prefix.is_empty() {
            notes.push(format!("the names of the weights begin with `{prefix}` in the file"));
        }
        if !ties.is_empty() {
            let pairs: Vec<String> = ties.iter().map(|(later, first)| format!("{later} is {first}")).collect();
            notes.push(format!("tied weights of the file are one parameter: {}", grouped(&pairs)));
        }
        let others = self.others(prefix, names);
        if !others.is_empty() {
            notes.push(format!("tensors of the file that the network has no use for: {}", grouped(&others)));
        }
        if !self.unread.is_empty() {
            let unread: Vec<String> = self.unread.iter().map(|(name, reason)| format!("{name} ({reason})")).collect();
            notes.push(format!("tensors of the file that cannot be read: {}", grouped(&unread)));
        }
        notes
    }
}
