//! Links of the documents lead somewhere.

use std::path::{Path, PathBuf};

/// Targets of `[text](target)`, anchors cut off.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split('#').next().unwrap_or(""))
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut documents: Vec<PathBuf> = folder.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    documents.extend(["README.md", "CHANGELOG.md"].map(|name| root.join(name)));
    documents.sort();
    documents
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut checked = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let local =
            links(&text).filter(|target| !target.is_empty() && !target.contains("://") && !target.contains(' '));
        for target in local {
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {target} does not exist", document.display());
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked} links only: are they still found?");
}

#[test]
fn the_map_names_every_folder_of_the_library() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    for entry in std::fs::read_dir(root.join("src")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            assert!(page.contains(&format!("[`{name}`](../src/{name}/mod.rs)")), "{name} is missing from the map");
        }
    }
}
