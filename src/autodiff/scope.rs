//! Which parameters a scope holds.

use std::ops::Range;

use super::{ParamSpace, ParamTensor};
use crate::vocabulary::{Scope, ScopeError};

/// Names that a hint lists at most.
const CANDIDATES: usize = 8;

/// The places of some tensors, in the order of the space: ranges that neither overlap nor touch.
pub(crate) fn ranges<'a>(tensors: impl Iterator<Item = &'a ParamTensor>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for tensor in tensors.filter(|tensor| !tensor.is_empty()) {
        let (start, end) = (tensor.offset, tensor.offset + tensor.len());
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => ranges.push(start..end),
        }
    }
    ranges
}

impl Scope {
    /// The scope's places in the flat vector: ascending ranges that neither overlap nor touch.
    ///
    /// # Errors
    /// [`ScopeError::EmptyScope`] where no parameter belongs to it, with similar names.
    pub fn resolve(&self, space: &ParamSpace) -> Result<Vec<Range<usize>>, ScopeError> {
        let ranges = ranges(space.tensors().iter().filter(|tensor| self.contains(tensor)));
        if ranges.is_empty() {
            let (scope, candidates) = (self.to_string(), self.candidates(space));
            return Err(ScopeError::EmptyScope { scope, candidates });
        }
        Ok(ranges)
    }

    /// The scope's tensors by their position in the space.
    ///
    /// # Errors
    /// As [`Scope::resolve`].
    pub fn tensors(&self, space: &ParamSpace) -> Result<Vec<usize>, ScopeError> {
        self.resolve(space)?;
        Ok((0..space.tensors().len()).filter(|&index| self.contains(&space.tensors()[index])).collect())
    }

    /// The scope's tensors by layer, layers in the order of the network.
    ///
    /// # Errors
    /// As [`Scope::resolve`].
    pub fn layers<'a>(&self, space: &'a ParamSpace) -> Result<Vec<(&'a str, Vec<usize>)>, ScopeError> {
        let mut layers: Vec<(&str, Vec<usize>)> = Vec::new();
        for index in self.tensors(space)? {
            let layer = space.tensors()[index].layer();
            match layers.iter_mut().find(|(name, _)| *name == layer) {
                Some((_, tensors)) => tensors.push(index),
                None => layers.push((layer, vec![index])),
            }
        }
        Ok(layers)
    }

    fn contains(&self, tensor: &ParamTensor) -> bool {
        match self {
            Self::All => true,
            Self::Layer(name) => tensor.layer() == name,
            Self::Kind(kind) => tensor.kind == *kind,
            Self::Params(glob) => matches_glob(glob, &tensor.name),
        }
    }

    /// What could have been meant, the most similar first.
    fn candidates(&self, space: &ParamSpace) -> Vec<String> {
        let (word, mut names): (&str, Vec<&str>) = match self {
            Self::All => return Vec::new(),
            Self::Layer(name) => (name, space.tensors().iter().map(ParamTensor::layer).collect()),
            Self::Kind(kind) => (kind.name(), space.tensors().iter().map(|tensor| tensor.kind.name()).collect()),
            Self::Params(glob) => (glob, space.tensors().iter().map(|tensor| tensor.name.as_str()).collect()),
        };
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(*name));
        // Stable, so that equally similar names stay in the order of the network.
        names.sort_by(|a, b| strsim::jaro_winkler(word, b).total_cmp(&strsim::jaro_winkler(word, a)));
        let left_out = names.len().saturating_sub(CANDIDATES);
        let mut names: Vec<String> = names.into_iter().take(CANDIDATES).map(|name| format!("`{name}`")).collect();
        names.extend((left_out > 0).then(|| format!("{left_out} more")));
        names
    }
}

/// Whether all of `text` matches. After a mismatch the last `*` takes one character more: linear memory, at most
/// `|glob|·|text|` steps.
fn matches_glob(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut at, mut position) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while position < text.len() {
        match glob.get(at) {
            Some('*') => {
                retry = Some((at + 1, position));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[position] => (at, position) = (at + 1, position + 1),
            _ => match &mut retry {
                None => return false,
                Some((after, taken)) => {
                    *taken += 1;
                    (at, position) = (*after, *taken);
                }
            },
        }
    }
    glob[at..].iter().all(|&left| left == '*')
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // lists of ranges, some of length one
mod tests {
    use super::*;
    use crate::vocabulary::ParamKind;

    fn space() -> ParamSpace {
        ParamSpace::new([
            ("conv1.weight".into(), vec![2, 3], ParamKind::Weight),
            ("bn1.weight".into(), vec![2], ParamKind::Norm),
            ("bn1.bias".into(), vec![2], ParamKind::Norm),
            ("layer1.0.conv1.weight".into(), vec![4], ParamKind::Weight),
            ("fc.weight".into(), vec![5], ParamKind::Weight),
            ("fc.bias".into(), vec![1], ParamKind::Bias),
        ])
    }

    #[test]
    fn scopes_resolve_to_merged_ranges_and_print_as_written() {
        for (text, expected) in [
            ("all", vec![0..20]),
            ("layer:bn1", vec![6..10]),
            ("layer:layer1.0.conv1", vec![10..14]),
            ("kind:weight", vec![0..6, 10..19]),
            ("kind:bias", vec![19..20]),
            ("kind:norm", vec![6..10]),
            ("params:*.weight", vec![0..8, 10..19]),
            ("params:bn?.*", vec![6..10]),
            ("params:fc.bias", vec![19..20]),
            ("params:*conv*", vec![0..6, 10..14]),
        ] {
            let scope: Scope = text.parse().unwrap();
            assert_eq!(scope.resolve(&space()).unwrap(), expected, "{text}");
            assert_eq!(scope.to_string(), text);
        }
    }

    #[test]
    fn layers_partition_the_parameters() {
        let space = space();
        let layers: std::collections::BTreeSet<&str> = space.tensors().iter().map(ParamTensor::layer).collect();
        let mut hits = vec![0; space.dim()];
        for layer in layers {
            let ranges = Scope::Layer(layer.into()).resolve(&space).unwrap();
            ranges.into_iter().flatten().for_each(|index| hits[index] += 1);
        }
        assert_eq!(hits, vec![1; 20]);
    }

    #[test]
    fn globs_backtrack_and_match_whole_names() {
        for (glob, text, expected) in [
            ("a*b*c", "aXbYbZc", true),
            ("a*bc", "abcbc", true),
            ("*", "", true),
            ("?", "", false),
            ("a", "ab", false),
            ("*a", "ab", false),
            ("a**", "a", true),
            ("ü?", "üß", true),
            ("a*b?d", "aabbcd", true),
        ] {
            assert_eq!(matches_glob(glob, text), expected, "{glob} on {text}");
        }
    }

    #[test]
    fn errors_name_the_fault_and_what_there_is() {
        for (text, message) in [
            ("layers:fc", "scope `layers:fc`: unknown word `layers`"),
            ("fc", "scope `fc`: unknown word `fc`"),
            ("kind:weights", "scope `kind:weights`: unknown kind `weights`"),
            ("layer:", "scope `layer:`: nothing after the colon"),
        ] {
            let error = text.parse::<Scope>().unwrap_err();
            assert_eq!(error.to_string(), message);
            assert!(error.hint().unwrap().contains("layer:NAME"));
        }
        let error = "layer:layer1.0.conv2".parse::<Scope>().unwrap().resolve(&space()).unwrap_err();
        assert_eq!(error.to_string(), "scope `layer:layer1.0.conv2` has no parameters");
        let hint = error.hint().unwrap();
        assert!(hint.starts_with("there is `layer1.0.conv1`, "), "{hint}");
        assert!(["`conv1`", "`bn1`", "`fc`"].iter().all(|layer| hint.contains(layer)), "{hint}");
        let bare = ParamSpace::new([("fc.weight".into(), vec![5], ParamKind::Weight)]);
        let error = Scope::Kind(ParamKind::Bias).resolve(&bare).unwrap_err();
        assert_eq!(error.hint().unwrap(), "there is `weight`");
    }
}
