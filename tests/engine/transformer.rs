//! The layers of transformers as plain loops: a part of the reference.

use serde_json::{Value, json};

use crate::reference::{Array, Reference, indices, moments, number, pair, softmax};

impl Reference {
    pub fn layer_norm(&self, layer: &Value, mut x: Array) -> Array {
        let dim = *x.dims.last().unwrap();
        let eps = layer.get("eps").and_then(Value::as_f64).unwrap_or(1e-5);
        for first in (0..x.data.len()).step_by(dim) {
            let members: Vec<usize> = (first..first + dim).collect();
            let (mean, var) = moments(&x.data, &members);
            self.normalise(layer, &mut x.data, &members, (mean, var, eps), |index| index % dim);
        }
        x
    }

    pub fn tokens(&self, layer: &Value, x: &Array) -> Array {
        match layer["kind"].as_str().unwrap() {
            "patch_embedding" => self.patches(layer, x),
            "class_token" => {
                let (token, len) = (self.tensor(layer, "token").unwrap().data, x.dims[1] * x.dims[2]);
                let data = x.data.chunks(len).flat_map(|sample| [token.clone(), sample.to_vec()].concat()).collect();
                Array { dims: vec![x.dims[0], x.dims[1] + 1, x.dims[2]], data }
            }
            "position_embedding" => {
                let embedding = self.tensor(layer, "embedding").unwrap().data;
                let data = x.data.iter().enumerate().map(|(i, value)| value + embedding[i % embedding.len()]).collect();
                Array { dims: x.dims.clone(), data }
            }
            _ => {
                let (n, dim, index) = (x.dims[0], x.dims[2], number(layer, "index", 0));
                let data = indices([n, dim]).map(|[n, d]| x.data[x.at(&[n, index, d])]).collect();
                Array { dims: vec![n, dim], data }
            }
        }
    }

    fn patches(&self, layer: &Value, x: &Array) -> Array {
        let (weight, bias) = (self.tensor(layer, "weight").unwrap(), self.tensor(layer, "bias"));
        let (patch, dim) = (pair(layer, "patch", [1, 1]), weight.dims[0]);
        let (rows, columns) = (x.dims[2] / patch[0], x.dims[3] / patch[1]);
        let entry = |[n, i, j, o]: [usize; 4]| {
            let inside = indices([x.dims[1], patch[0], patch[1]]).map(|[c, di, dj]| {
                x.data[x.at(&[n, c, i * patch[0] + di, j * patch[1] + dj])] * weight.data[weight.at(&[o, c, di, dj])]
            });
            inside.sum::<f64>() + bias.as_ref().map_or(0.0, |bias| bias.data[o])
        };
        let data = indices([x.dims[0], rows, columns, dim]).map(entry).collect();
        Array { dims: vec![x.dims[0], rows * columns, dim], data }
    }

    /// `x + proj(attention(norm1(x)))`, then the same with the MLP; or with the normalisations behind the sums.
    pub fn block(&mut self, layer: &Value, x: Array) -> Array {
        let prefix = layer["prefix"].as_str().unwrap();
        let linear = |name: &str, bias: bool| {
            let bias = bias.then(|| format!("{prefix}.{name}.bias"));
            json!({"kind": "linear", "weight": format!("{prefix}.{name}.weight"), "bias": bias})
        };
        let norm = |name: &str| {
            let eps = layer.get("eps").and_then(Value::as_f64).unwrap_or(1e-6);
            let (weight, bias) = (format!("{prefix}.{name}.weight"), format!("{prefix}.{name}.bias"));
            json!([{"kind": "layer_norm", "eps": eps, "weight": weight, "bias": bias}])
        };
        let activation = layer.get("activation").and_then(Value::as_str).unwrap_or("gelu");
        let form = layer.get("form").and_then(Value::as_str).unwrap_or("erf");
        let qkv_bias = layer.get("qkv_bias").is_none_or(|bias| bias == true);
        let attention = json!([linear("attn.qkv", qkv_bias), {"kind": "attention", "heads": layer["heads"]},
                               linear("attn.proj", true)]);
        let mlp = json!([linear("mlp.fc1", true), {"kind": activation, "form": form}, linear("mlp.fc2", true)]);
        let post = layer.get("norm").is_some_and(|norm| norm == "post");
        let mut x = x;
        for (branch, norm) in [(attention, norm("norm1")), (mlp, norm("norm2"))] {
            let inside = if post { x.clone() } else { self.list(&norm, &x) };
            let y = self.list(&branch, &inside);
            x.data.iter_mut().zip(&y.data).for_each(|(x, y)| *x += y);
            if post {
                x = self.list(&norm, &x);
            }
        }
        x
    }
}

/// `softmax(q kᵀ / √d) v` in each head; the columns are all queries, all keys, all values.
pub fn attention(x: &Array, heads: usize) -> Array {
    let (n, tokens, dim) = (x.dims[0], x.dims[1], x.dims[2] / 3);
    let size = dim / heads;
    let entry = |which: usize, n: usize, token: usize, head: usize, i: usize| {
        x.data[x.at(&[n, token, which * dim + head * size + i])]
    };
    let mut y = Array { dims: vec![n, tokens, dim], data: vec![0.0; n * tokens * dim] };
    for [n, head, token] in indices([n, heads, tokens]) {
        let score = |other: usize| {
            (0..size).map(|i| entry(0, n, token, head, i) * entry(1, n, other, head, i)).sum::<f64>()
                / (size as f64).sqrt()
        };
        let weights = softmax(&(0..tokens).map(score).collect::<Vec<_>>());
        for i in 0..size {
            let to = y.at(&[n, token, head * size + i]);
            y.data[to] = (0..tokens).map(|other| weights[other] * entry(2, n, other, head, i)).sum();
        }
    }
    y
}
