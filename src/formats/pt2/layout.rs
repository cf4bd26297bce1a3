//! Where an archive of `torch.export` has its graph and its tensors, in the layouts of PyTorch's versions.

use super::tensors::Tensors;
use crate::container::Archive;

/// The graph in the layout of PyTorch before 2.8.
pub(super) const OLD_GRAPH: &str = "serialized_exported_program.json";
/// The graph in newer ones.
pub(super) const GRAPH: &str = "/models/model.json";

/// Name of the entry that holds the graph.
pub(super) fn graph_entry<'a>(archive: &Archive<'a>) -> Result<&'a str, String> {
    let old = archive.names().find(|name| name.ends_with(OLD_GRAPH));
    old.map_or_else(|| archive.ending(GRAPH), Ok)
}

/// The weights and the constants beside the graph.
pub(super) fn tensors_of<'a>(
    archive: &'a Archive<'a>,
    bytes: &'a [u8],
    graph: &str,
) -> Result<[Tensors<'a>; 2], String> {
    if let Some(top) = graph.strip_suffix(OLD_GRAPH) {
        let pickled = |name: &str| Tensors::pickled(archive, &format!("{top}{name}"));
        return Ok([pickled("serialized_state_dict.pt")?, pickled("serialized_constants.pt")?]);
    }
    let open = |kind| Tensors::open(archive, bytes, graph.trim_end_matches(GRAPH), kind);
    Ok([open("weights")?, open("constants")?])
}
