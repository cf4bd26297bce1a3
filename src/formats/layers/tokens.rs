//! Sizes of tokens, where a description leaves them to the layers before.

use serde_json::{Map, Value, json};

use super::Layer;

/// What is known of a layer's input.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tokens {
    /// Height and width of the image.
    image: Option<[usize; 2]>,
    count: Option<usize>,
    dim: Option<usize>,
}

impl Tokens {
    /// Before the first layer, for samples of a shape.
    pub fn new(input_shape: Option<&[usize]>) -> Self {
        match input_shape {
            Some(&[_, height, width]) => Self { image: Some([height, width]), ..Self::default() },
            _ => Self::default(),
        }
    }

    /// Adds the fields that a layer of this kind leaves out.
    pub fn complete(self, kind: &str, object: &mut Map<String, Value>) {
        let sizes = match kind {
            "class_token" => vec![("dim", self.dim)],
            "position_embedding" => vec![("tokens", self.count), ("dim", self.dim)],
            _ => return,
        };
        for (field, size) in sizes {
            if let (false, Some(size)) = (object.contains_key(field), size) {
                object.insert(field.into(), json!(size));
            }
        }
    }

    /// Behind a layer.
    pub fn pass(&mut self, layer: &Layer) {
        match layer {
            Layer::PatchEmbedding { dim, patch, .. } => {
                self.count = self.image.and_then(|image| {
                    let [rows, columns] = [image[0].checked_div(patch.0[0])?, image[1].checked_div(patch.0[1])?];
                    rows.checked_mul(columns)
                });
                self.dim = Some(*dim);
            }
            Layer::ClassToken { .. } => self.count = self.count.map(|count| count.saturating_add(1)),
            Layer::PositionEmbedding { .. } | Layer::LayerNorm { .. } | Layer::Dropout { .. } => {}
            Layer::Residual { .. } => self.image = None,
            Layer::Sequence { layers } => layers.iter().for_each(|layer| self.pass(layer)),
            _ => *self = Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::formats::Architecture;

    fn shapes(text: &str) -> Result<Vec<Vec<usize>>, String> {
        let architecture = Architecture::from_json(text, "test").map_err(|error| error.to_string())?;
        Ok(architecture.param_space().unwrap().tensors().iter().map(|tensor| tensor.shape.clone()).collect())
    }

    #[test]
    fn sizes_follow_from_the_image_and_the_patches() {
        let layers = r#"[{"kind": "patch_embedding", "in": 3, "dim": 8, "patch": [2, 4], "weight": "w"},
            {"kind": "class_token", "token": "t"}, {"kind": "position_embedding", "embedding": "p"}]"#;
        let expected = vec![vec![8, 3, 2, 4], vec![1, 1, 8], vec![1, 13, 8]];
        assert_eq!(shapes(&format!(r#"{{"input_shape": [3, 8, 12], "layers": {layers}}}"#)), Ok(expected));
        // Without the image's size nobody knows the number of tokens.
        let error = shapes(&format!(r#"{{"layers": {layers}}}"#)).unwrap_err();
        assert!(error.contains("layers[2]") && error.contains("missing field `tokens`"), "{error}");
    }

    #[test]
    fn what_is_written_counts() {
        let text = r#"{"layers": [{"kind": "position_embedding", "tokens": 5, "dim": 2, "embedding": "p"}]}"#;
        assert_eq!(shapes(text), Ok(vec![vec![1, 5, 2]]));
    }
}
