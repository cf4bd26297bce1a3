//! The tensors of an archive: raw numbers with sizes, strides and offsets, or pickled, as PyTorch before 2.9 wrote them.

use candle_core::{DType, Tensor};

use super::schema::{Config, Payload, TensorMeta, int};
use crate::container::{Archive, Contents, Element, Entry, Failure, Stored};
use crate::program::{Kind, element_count};

/// Where the numbers of a tensor lie.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Location {
    /// An entry of the archive, for those in an archive of their own, or a name; empty for others.
    pub(super) entry: String,
    /// The place; `None` for tensors that are made, which have an entry for each.
    pub(super) stored: Option<Stored>,
}

/// One tensor, in the order of its axes.
pub(super) struct Loaded {
    /// f64 for floats, i64 for whole numbers, u8 for truth values.
    pub(super) tensor: Tensor,
    /// The type of floats in the file.
    pub(super) dtype: DType,
    /// What the file says of it; `None` leaves it to the graph.
    pub(super) requires_grad: Option<bool>,
    /// Two names of one place are one tensor.
    pub(super) place: Location,
}

impl Loaded {
    /// A tensor of the kind that the graph says it has.
    ///
    /// # Errors
    /// Numbers of another kind.
    pub(super) fn new(tensor: &Tensor, kind: Kind, place: Location) -> Result<Self, String> {
        let stored = tensor.dtype();
        if stored.is_float() != (kind == Kind::Float) {
            return Err("its numbers are of another kind than its graph says".into());
        }
        let (dtype, to) = match kind {
            Kind::Float => (stored, DType::F64),
            Kind::Whole => (DType::F32, DType::I64),
            Kind::Truth => (DType::F32, DType::U8),
        };
        let tensor = tensor.to_dtype(to).map_err(|error| error.to_string())?;
        Ok(Self { tensor, dtype, requires_grad: None, place })
    }
}

/// The weights or the constants of an archive.
pub(super) enum Tensors<'a> {
    /// An entry for each tensor.
    Raw { archive: &'a Archive<'a>, bytes: &'a [u8], folder: String, config: Config },
    /// An archive of `torch.save` within the archive, under its name.
    Pickled { name: String, bytes: &'a [u8], contents: Contents },
}

impl<'a> Tensors<'a> {
    /// `kind` is `weights` or `constants` of the archive in `bytes`, which has them in the folder `top`; one without any has none.
    pub(super) fn open(archive: &'a Archive<'a>, bytes: &'a [u8], top: &str, kind: &str) -> Result<Self, String> {
        let folder = format!("{top}/data/{kind}");
        let pickled = format!("{folder}/model.pt");
        if archive.names().any(|entry| entry == pickled) {
            return Self::pickled(archive, &pickled);
        }
        let name = format!("{folder}/model_{kind}_config.json");
        let config = if archive.names().any(|entry| entry == name) {
            serde_json::from_slice(archive.entry(&name)?).map_err(|error| format!("{name}: {error}"))?
        } else {
            Config::default()
        };
        Ok(Self::Raw { archive, bytes, folder, config })
    }

    /// Those in the entry `name`.
    pub(super) fn pickled(archive: &'a Archive<'a>, name: &str) -> Result<Self, String> {
        let bytes = archive.entry(name)?;
        let contents = Contents::read(bytes).map_err(|failure| match failure {
            Failure::Damaged { reason, .. } => format!("{name}: {reason}"),
            Failure::Foreign { what, .. } => format!("{name} is {what}"),
        })?;
        Ok(Self::Pickled { name: name.into(), bytes, contents })
    }

    /// A tensor by its name and the kind that the graph says it has; `None` where there is none.
    pub(super) fn get(&self, name: &str, kind: Kind) -> Result<Option<Loaded>, String> {
        let at = |reason: String| format!("tensor `{name}`: {reason}");
        match self {
            Self::Raw { archive, bytes, folder, config } => {
                let Some(payload) = config.config.get(name) else { return Ok(None) };
                let (stored, requires_grad) = raw(archive, folder, payload).map_err(at)?;
                let tensor = stored.read(bytes).map_err(at)?;
                let loaded =
                    Loaded::new(&tensor, kind, Location { entry: String::new(), stored: Some(stored) }).map_err(at)?;
                Ok(Some(Loaded { requires_grad: Some(requires_grad), ..loaded }))
            }
            Self::Pickled { name: entry, bytes, contents } => {
                if let Some((_, reason)) = contents.unread.iter().find(|(unread, _)| unread == name) {
                    return Err(at(reason.clone()));
                }
                let Some(found) = contents.entries.get(name) else { return Ok(None) };
                let place = match found {
                    Entry::Stored(stored) => Location { entry: entry.clone(), stored: Some(stored.clone()) },
                    Entry::Made(_) => Location { entry: format!("{entry}/{name}"), stored: None },
                };
                let tensor = found.read(bytes).map_err(at)?;
                Loaded::new(&tensor, kind, place).map(Some).map_err(at)
            }
        }
    }
}

/// Where the numbers of a tensor lie, and whether it is trained.
fn raw(archive: &Archive<'_>, folder: &str, payload: &Payload) -> Result<(Stored, bool), String> {
    let meta = payload.tensor_meta.as_ref().filter(|_| !payload.use_pickle).ok_or("it is pickled separately")?;
    let place = archive.place(&format!("{folder}/{}", payload.path_name))?;
    let strides: Vec<i64> = meta.strides.iter().map(int).collect::<Result<_, _>>()?;
    let element = element(meta.dtype)?;
    Ok((Stored::strided(element, place, sizes(meta)?, &strides, int(&meta.storage_offset)?)?, meta.requires_grad))
}

/// Sizes that do not depend on the rows.
pub(super) fn sizes(meta: &TensorMeta) -> Result<Vec<usize>, String> {
    let size = |value| usize::try_from(int(value)?).map_err(|_| "a size is negative".to_owned());
    let sizes: Vec<usize> = meta.sizes.iter().map(size).collect::<Result<_, _>>()?;
    match element_count(&sizes) {
        Some(_) => Ok(sizes),
        None => Err(format!("its shape {sizes:?} is too large")),
    }
}

/// By torch.export's codes.
fn element(code: u64) -> Result<Element, String> {
    Ok(match code {
        1 => Element::U8,
        2 => Element::I8,
        3 => Element::I16,
        4 => Element::I32,
        5 => Element::I64,
        6 => Element::F16,
        7 => Element::F32,
        8 => Element::F64,
        12 => Element::Bool,
        13 => Element::BF16,
        _ => return Err(format!("numbers of type {code} are not supported")),
    })
}
