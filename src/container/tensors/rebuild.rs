//! The tensors that a pickle of PyTorch describes, at any depth.

use std::collections::HashMap;
use std::ops::Range;

use super::contents::{Contents, Entry};
use super::numpy;
use crate::container::{Element, Id, Pickle, Stored, Value};

/// Levels of nesting that are searched for tensors.
const MAX_DEPTH: usize = 128;
/// Times that one value is searched: it may stand under several keys, and may even hold itself.
const MAX_VISITS: u8 = 2;

pub(super) struct Rebuild<'a> {
    pub(super) pickle: &'a Pickle<'a>,
    /// Bytes of the storages by their keys.
    storages: HashMap<&'a str, Range<usize>>,
    /// Bytes of arrays that may still be made.
    left: usize,
    /// Bytes of names that may still be made.
    names_left: usize,
}

/// A value on the way from the root.
struct Step<'a> {
    id: Id,
    /// The step above it, and the key that leads here; none is added for the root, nor within a module.
    above: usize,
    key: Option<Key<'a>>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Key<'a> {
    Text(&'a str),
    Index(i64),
}

impl<'a> Rebuild<'a> {
    /// Of a pickle in a file of `len` bytes.
    pub(super) fn new(pickle: &'a Pickle<'a>, storages: HashMap<&'a str, Range<usize>>, len: usize) -> Self {
        Self {
            pickle,
            storages,
            left: len.saturating_mul(2),
            names_left: len.saturating_mul(4).saturating_add(1 << 20),
        }
    }

    /// All tensors, under the keys that lead to them, with dots between.
    ///
    /// # Errors
    /// In words: names far longer than the file.
    pub(super) fn contents(mut self) -> Result<Contents, String> {
        let mut contents = Contents::default();
        let mut visits: HashMap<Id, u8> = HashMap::new();
        let mut steps = vec![Step { id: self.pickle.root(), above: 0, key: None, depth: 0 }];
        let mut waiting = vec![0];
        while let Some(place) = waiting.pop() {
            let (id, depth) = (steps[place].id, steps[place].depth);
            match self.tensor(id) {
                Some(found) => {
                    let name = self.name(&steps, place)?;
                    match found {
                        Ok(entry) => _ = contents.entries.entry(name).or_insert(entry),
                        Err(reason) => contents.unread.push((name, reason)),
                    }
                }
                None => {
                    let visits = visits.entry(id).or_default();
                    *visits += 1;
                    if *visits > MAX_VISITS || depth == MAX_DEPTH {
                        continue;
                    }
                    let may_hold =
                        |id| !matches!(self.pickle.get(id), Value::Text(_) | Value::Int(_) | Value::Float(_));
                    for (key, id) in self.children(id).into_iter().filter(|&(_, id)| may_hold(id)) {
                        waiting.push(steps.len());
                        steps.push(Step { id, above: place, key, depth: depth + 1 });
                    }
                }
            }
        }
        contents.unread.sort();
        Ok(contents)
    }

    /// The keys that lead to a step.
    fn name(&mut self, steps: &[Step<'_>], mut place: usize) -> Result<String, String> {
        let mut keys = Vec::new();
        while place > 0 {
            keys.extend(steps[place].key);
            place = steps[place].above;
        }
        let len = keys.iter().map(|key| if let Key::Text(text) = key { text.len() } else { 20 }).sum();
        self.names_left =
            self.names_left.checked_sub(len).ok_or("the names of its tensors are longer than the file")?;
        let texts = keys.into_iter().rev().map(|key| match key {
            Key::Text(text) => text.to_owned(),
            Key::Index(index) => index.to_string(),
        });
        Ok(texts.collect::<Vec<_>>().join("."))
    }

    /// What a value holds.
    fn children(&self, id: Id) -> Vec<(Option<Key<'a>>, Id)> {
        let pickle = self.pickle;
        let listed = |items: &[Id]| -> Vec<_> {
            items.iter().enumerate().map(|(index, &id)| (Some(Key::Index(index as i64)), id)).collect()
        };
        let keyed = |entries: &[(Id, Id)]| -> Vec<_> {
            let keys = entries.iter().filter_map(|&(key, id)| match pickle.get(key) {
                Value::Text(text) => Some((Some(Key::Text(text)), id)),
                Value::Int(index) => Some((Some(Key::Index(*index)), id)),
                _ => None,
            });
            keys.collect()
        };
        let Value::Object(object) = pickle.get(id) else {
            return match pickle.items(id) {
                Some(items) => listed(items),
                None => keyed(pickle.entries(id)),
            };
        };
        let attributes = object.state.map(|state| pickle.entries(state)).unwrap_or_default();
        // The dictionaries of a pickled module are not part of the names of its tensors.
        let attributes = keyed(attributes).into_iter().map(|(key, id)| match key {
            Some(Key::Text("_parameters" | "_buffers" | "_modules")) => (None, id),
            _ => (key, id),
        });
        attributes.chain(listed(&object.items)).chain(keyed(&object.entries)).collect()
    }

    /// The tensor that a value describes; `None` where it describes none.
    pub(super) fn tensor(&mut self, id: Id) -> Option<Result<Entry, String>> {
        if let Some(array) = numpy::array(self.pickle, id, &mut self.left) {
            return Some(array.map(Entry::Made));
        }
        let pickle = self.pickle;
        let ((module, mut name), mut arguments) = pickle.call(id)?;
        if !matches!(module, "torch._utils" | "torch._tensor" | "torch.nn.parameter") {
            return None;
        }
        // A parameter is a call on a tensor, which is a call; a subclass names the call that it stands for.
        for _ in 0..MAX_DEPTH {
            ((_, name), arguments) = match (name, arguments) {
                ("_rebuild_parameter" | "_rebuild_parameter_with_state" | "Parameter", &[data, ..]) => {
                    pickle.call(data)?
                }
                ("_rebuild_from_type_v2", &[function, _, inner, ..]) => (pickle.class(function)?, pickle.items(inner)?),
                ("_rebuild_tensor" | "_rebuild_tensor_v2", &[storage, offset, shape, strides, ..]) => {
                    return Some(self.strided(None, [storage, offset, shape, strides]).map(Entry::Stored));
                }
                ("_rebuild_tensor_v3", &[storage, offset, shape, strides, _, _, dtype, ..]) => {
                    return Some(self.strided(Some(dtype), [storage, offset, shape, strides]).map(Entry::Stored));
                }
                _ => break,
            };
        }
        let known =
            matches!(name, "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3" | "_rebuild_parameter");
        name.starts_with("_rebuild").then(|| match known {
            true => Err("its description is damaged".into()),
            false => Err(format!("tensors of `{name}` are not supported")),
        })
    }

    fn strided(&self, dtype: Option<Id>, [storage, offset, shape, strides]: [Id; 4]) -> Result<Stored, String> {
        let pickle = self.pickle;
        let (key, own, count) = storage_of(pickle, pickle.get(storage)).ok_or("its storage is missing")?;
        let own = own.ok_or("its type is not supported")?;
        let element = match dtype {
            None => own,
            Some(dtype) => {
                let name = pickle.class(dtype).map_or("", |(_, name)| name);
                Element::of_name(name).ok_or_else(|| format!("its type `{name}` is not supported"))?
            }
        };
        let place = self.storages.get(key).ok_or_else(|| format!("its storage `{key}` is missing or damaged"))?;
        let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(own.width()));
        let end = len.and_then(|len| place.start.checked_add(len)).filter(|&end| end <= place.end);
        let end = end.ok_or_else(|| format!("its storage `{key}` is cut short"))?;
        let numbers = |id| -> Option<Vec<i64>> { pickle.items(id)?.iter().map(|&item| pickle.int(item)).collect() };
        let sizes = numbers(shape).and_then(|sizes| sizes.into_iter().map(|size| size.try_into().ok()).collect());
        let (Some(sizes), Some(strides), Some(offset)) = (sizes, numbers(strides), pickle.int(offset)) else {
            return Err("its shape is damaged".into());
        };
        Stored::strided(element, place.start..end, sizes, &strides, offset)
    }
}

/// Key, type and number of elements of a storage: `("storage", class, key, location, elements, …)`. A storage without a type
/// counts bytes.
pub(super) fn storage_of<'a>(pickle: &Pickle<'a>, value: &Value<'a>) -> Option<(&'a str, Option<Element>, i64)> {
    let Value::Persistent(id) = value else { return None };
    let &[word, class, key, _, count, ref view @ ..] = pickle.items(*id)? else { return None };
    // A view of another storage is of a form that PyTorch gave up before its first release.
    if pickle.text(word) != Some("storage") || view.iter().any(|&view| *pickle.get(view) != Value::None) {
        return None;
    }
    let element = match pickle.class(class)?.1 {
        "DoubleStorage" => Some(Element::F64),
        "FloatStorage" => Some(Element::F32),
        "HalfStorage" => Some(Element::F16),
        "BFloat16Storage" => Some(Element::BF16),
        "LongStorage" => Some(Element::I64),
        "IntStorage" => Some(Element::I32),
        "ShortStorage" => Some(Element::I16),
        "CharStorage" => Some(Element::I8),
        "ByteStorage" | "UntypedStorage" => Some(Element::U8),
        "BoolStorage" => Some(Element::Bool),
        _ => None,
    };
    Some((pickle.text(key)?, element, pickle.int(count)?))
}
