//! Networks and losses as plain loops over plain numbers. Shares no code with the engine: it reads the JSON itself.

use std::collections::HashMap;

use serde_json::Value;

use crate::transformer::attention;

/// Row-major numbers.
#[derive(Debug, Clone)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    fn zeros(dims: Vec<usize>) -> Self {
        Self { data: vec![0.0; dims.iter().product()], dims }
    }

    pub fn at(&self, index: &[usize]) -> usize {
        assert_eq!(index.len(), self.dims.len());
        index.iter().zip(&self.dims).fold(0, |flat, (i, size)| flat * size + i)
    }
}

/// Which side of each ReLU and which winner of each maximum: recorded at one point, replayed near it.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    chosen: Vec<usize>,
    next: usize,
    frozen: bool,
}

impl Pieces {
    /// The same choices, to be replayed from the first on.
    pub fn frozen(&self) -> Self {
        Self { chosen: self.chosen.clone(), next: 0, frozen: true }
    }

    fn choose(&mut self, free: usize) -> usize {
        if !self.frozen {
            self.chosen.push(free);
        }
        self.next += 1;
        self.chosen[self.next - 1]
    }
}

/// One forward pass.
pub struct Reference {
    /// Parameters and buffers.
    pub tensors: HashMap<String, Array>,
    /// Whether batch normalisation takes its statistics from the batch.
    pub batch_statistics: bool,
    pub pieces: Pieces,
    /// Mean and unbiased variance per channel of each batch normalisation.
    pub statistics: Vec<(Vec<f64>, Vec<f64>)>,
}

pub fn number(layer: &Value, field: &str, default: usize) -> usize {
    layer.get(field).and_then(Value::as_u64).map_or(default, |value| value as usize)
}

pub fn pair(layer: &Value, field: &str, default: [usize; 2]) -> [usize; 2] {
    match layer.get(field) {
        Some(Value::Array(pair)) => [0, 1].map(|axis| pair[axis].as_u64().unwrap() as usize),
        Some(size) => [size.as_u64().unwrap() as usize; 2],
        None => default,
    }
}

/// `erf(x) = 2/√π e^{−x²} Σ 2ⁿ x^{2n+1} / (2n+1)!!`: terms of one sign, so nothing cancels.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / (2 * n + 1) as f64;
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

impl Reference {
    pub fn tensor(&self, layer: &Value, field: &str) -> Option<Array> {
        layer.get(field).and_then(Value::as_str).map(|name| self.tensors[name].clone())
    }

    pub fn list(&mut self, layers: &Value, x: &Array) -> Array {
        layers.as_array().unwrap().iter().fold(x.clone(), |x, layer| self.layer(layer, x))
    }

    fn layer(&mut self, layer: &Value, mut x: Array) -> Array {
        let mut map = |f: &dyn Fn(f64) -> f64| {
            x.data.iter_mut().for_each(|v| *v = f(*v));
            x.clone()
        };
        match layer["kind"].as_str().unwrap() {
            "identity" | "dropout" => x,
            "relu" => {
                x.data.iter_mut().for_each(|v| *v *= self.pieces.choose(usize::from(*v > 0.0)) as f64);
                x
            }
            "gelu" if layer.get("form").is_some_and(|form| form == "tanh") => {
                map(&|v| 0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh()))
            }
            "gelu" => map(&|v| 0.5 * v * (1.0 + erf(v / 2f64.sqrt()))),
            "silu" => map(&|v| v / (1.0 + (-v).exp())),
            "tanh" => map(&f64::tanh),
            "sigmoid" => map(&|v| 1.0 / (1.0 + (-v).exp())),
            "softplus" => map(&|v| (1.0 + v.exp()).ln()),
            "flatten" => Array { dims: vec![x.dims[0], x.dims[1..].iter().product()], data: x.data },
            "global_avg_pool2d" => {
                let area = x.dims[2] * x.dims[3];
                let data = x.data.chunks(area).map(|plane| plane.iter().sum::<f64>() / area as f64).collect();
                Array { dims: x.dims[..2].to_vec(), data }
            }
            "linear" => self.linear(layer, &x),
            "conv2d" => self.conv2d(layer, &x),
            "max_pool2d" | "avg_pool2d" => self.pool(layer, &x),
            "batch_norm2d" | "batch_norm1d" => self.batch_norm(layer, x),
            "group_norm" => self.group_norm(layer, x),
            "layer_norm" => self.layer_norm(layer, x),
            "patch_embedding" | "class_token" | "position_embedding" | "select_token" => self.tokens(layer, &x),
            "attention" => attention(&x, number(layer, "heads", 1)),
            "transformer_block" => self.block(layer, x),
            "sequence" => self.list(&layer["layers"], &x),
            "subsample_pad" => {
                let (inputs, outputs, stride) = (x.dims[1], number(layer, "out", 0), number(layer, "stride", 1));
                let (height, width) = (x.dims[2].div_ceil(stride), x.dims[3].div_ceil(stride));
                let mut y = Array::zeros(vec![x.dims[0], outputs, height, width]);
                for [n, c, i, j] in indices([x.dims[0], inputs, height, width]) {
                    let to = y.at(&[n, c + (outputs - inputs) / 2, i, j]);
                    y.data[to] = x.data[x.at(&[n, c, i * stride, j * stride])];
                }
                y
            }
            "residual" => {
                let mut y = self.list(&layer["main"], &x);
                let shortcut = layer.get("shortcut").map_or(x.clone(), |shortcut| self.list(shortcut, &x));
                y.data.iter_mut().zip(&shortcut.data).for_each(|(y, s)| *y += s);
                y
            }
            "concat" => {
                let axis = number(layer, "axis", 1);
                let branches = layer["branches"].as_array().unwrap();
                let parts: Vec<Array> = branches.iter().map(|branch| self.list(branch, &x)).collect();
                let mut dims = parts[0].dims.clone();
                dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
                let mut data = Vec::new();
                for outer in 0..dims[..axis].iter().product() {
                    for part in &parts {
                        let len: usize = part.dims[axis..].iter().product();
                        data.extend_from_slice(&part.data[outer * len..(outer + 1) * len]);
                    }
                }
                Array { dims, data }
            }
            kind => panic!("the reference does not know {kind}"),
        }
    }

    fn linear(&self, layer: &Value, x: &Array) -> Array {
        let (weight, bias) = (self.tensor(layer, "weight").unwrap(), self.tensor(layer, "bias"));
        let (outputs, inputs) = (weight.dims[0], weight.dims[1]);
        let mut data = Vec::new();
        for row in x.data.chunks(inputs) {
            for o in 0..outputs {
                let dot: f64 = (0..inputs).map(|i| row[i] * weight.data[o * inputs + i]).sum();
                data.push(dot + bias.as_ref().map_or(0.0, |bias| bias.data[o]));
            }
        }
        let mut dims = x.dims.clone();
        *dims.last_mut().unwrap() = outputs;
        Array { dims, data }
    }

    fn conv2d(&self, layer: &Value, x: &Array) -> Array {
        let (weight, bias) = (self.tensor(layer, "weight").unwrap(), self.tensor(layer, "bias"));
        let (stride, padding) = (pair(layer, "stride", [1, 1]), pair(layer, "padding", [0, 0]));
        let (dilation, groups) = (pair(layer, "dilation", [1, 1]), number(layer, "groups", 1));
        let (outputs, inputs, kernel) = (weight.dims[0], weight.dims[1], [weight.dims[2], weight.dims[3]]);
        let size = [0, 1].map(|axis| {
            (x.dims[2 + axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis] + 1
        });
        let mut y = Array::zeros(vec![x.dims[0], outputs, size[0], size[1]]);
        for [n, o, i, j] in indices([x.dims[0], outputs, size[0], size[1]]) {
            let mut sum = bias.as_ref().map_or(0.0, |bias| bias.data[o]);
            for [c, di, dj] in indices([inputs, kernel[0], kernel[1]]) {
                let row = (i * stride[0] + di * dilation[0]) as isize - padding[0] as isize;
                let column = (j * stride[1] + dj * dilation[1]) as isize - padding[1] as isize;
                if (0..x.dims[2] as isize).contains(&row) && (0..x.dims[3] as isize).contains(&column) {
                    let channel = o / (outputs / groups) * inputs + c;
                    let value = x.data[x.at(&[n, channel, row as usize, column as usize])];
                    sum += value * weight.data[weight.at(&[o, c, di, dj])];
                }
            }
            let to = y.at(&[n, o, i, j]);
            y.data[to] = sum;
        }
        y
    }

    fn pool(&mut self, layer: &Value, x: &Array) -> Array {
        let kernel = pair(layer, "kernel", [0, 0]);
        let (stride, padding) = (pair(layer, "stride", kernel), pair(layer, "padding", [0, 0]));
        let size = [0, 1].map(|axis| (x.dims[2 + axis] + 2 * padding[axis] - kernel[axis]) / stride[axis] + 1);
        let include = layer.get("count_include_pad").is_none_or(|include| include == true);
        let mut y = Array::zeros(vec![x.dims[0], x.dims[1], size[0], size[1]]);
        for [n, c, i, j] in indices([x.dims[0], x.dims[1], size[0], size[1]]) {
            let mut window = Vec::new();
            for [di, dj] in indices(kernel) {
                let row = (i * stride[0] + di) as isize - padding[0] as isize;
                let column = (j * stride[1] + dj) as isize - padding[1] as isize;
                if (0..x.dims[2] as isize).contains(&row) && (0..x.dims[3] as isize).contains(&column) {
                    window.push(x.at(&[n, c, row as usize, column as usize]));
                }
            }
            let to = y.at(&[n, c, i, j]);
            y.data[to] = if layer["kind"] == "max_pool2d" {
                let best = window.iter().copied().reduce(|a, b| if x.data[b] > x.data[a] { b } else { a }).unwrap();
                x.data[self.pieces.choose(best)]
            } else {
                let count = if include { kernel[0] * kernel[1] } else { window.len() };
                window.iter().map(|&index| x.data[index]).sum::<f64>() / count as f64
            };
        }
        y
    }

    fn batch_norm(&mut self, layer: &Value, mut x: Array) -> Array {
        let area: usize = x.dims[2..].iter().product();
        let channels = x.dims[1];
        let eps = layer.get("eps").and_then(Value::as_f64).unwrap_or(1e-5);
        let mut statistics = (vec![0.0; channels], vec![0.0; channels]);
        for channel in 0..channels {
            let of = |index: &usize| index / area % channels == channel;
            let members: Vec<usize> = (0..x.data.len()).filter(of).collect();
            let (mean, var) = if self.batch_statistics {
                let (mean, var) = moments(&x.data, &members);
                let count = members.len() as f64;
                (statistics.0[channel], statistics.1[channel]) = (mean, var * count / (count - 1.0));
                (mean, var)
            } else {
                let buffer = |field: &str| self.tensor(layer, field).unwrap().data[channel];
                (buffer("running_mean"), buffer("running_var"))
            };
            self.normalise(layer, &mut x.data, &members, (mean, var, eps), |_| channel);
        }
        self.statistics.push(statistics);
        x
    }

    fn group_norm(&mut self, layer: &Value, mut x: Array) -> Array {
        let area: usize = x.dims[2..].iter().product();
        let (channels, groups) = (x.dims[1], number(layer, "groups", 1));
        let eps = layer.get("eps").and_then(Value::as_f64).unwrap_or(1e-5);
        for [n, group] in indices([x.dims[0], groups]) {
            let of = |index: &usize| {
                index / (area * channels) == n && index / area % channels / (channels / groups) == group
            };
            let members: Vec<usize> = (0..x.data.len()).filter(of).collect();
            let (mean, var) = moments(&x.data, &members);
            self.normalise(layer, &mut x.data, &members, (mean, var, eps), |index| index / area % channels);
        }
        x
    }

    pub fn normalise(
        &self,
        layer: &Value,
        data: &mut [f64],
        members: &[usize],
        (mean, var, eps): (f64, f64, f64),
        channel: impl Fn(usize) -> usize,
    ) {
        let (weight, bias) = (self.tensor(layer, "weight"), self.tensor(layer, "bias"));
        for &index in members {
            let scale = weight.as_ref().map_or(1.0, |weight| weight.data[channel(index)]);
            let shift = bias.as_ref().map_or(0.0, |bias| bias.data[channel(index)]);
            data[index] = (data[index] - mean) / (var + eps).sqrt() * scale + shift;
        }
    }
}

/// Mean and biased variance of the chosen entries.
pub fn moments(data: &[f64], members: &[usize]) -> (f64, f64) {
    let count = members.len() as f64;
    let mean = members.iter().map(|&index| data[index]).sum::<f64>() / count;
    (mean, members.iter().map(|&index| (data[index] - mean).powi(2)).sum::<f64>() / count)
}

/// All index tuples below `sizes`, the last running fastest.
pub fn indices<const R: usize>(sizes: [usize; R]) -> impl Iterator<Item = [usize; R]> {
    (0..sizes.iter().product()).map(move |mut flat| {
        let mut index = sizes;
        for axis in (0..R).rev() {
            (index[axis], flat) = (flat % sizes[axis], flat / sizes[axis]);
        }
        index
    })
}

/// What the network should give.
pub enum Answers {
    Classes(Vec<usize>),
    Values(Vec<f64>),
}

/// Losses by their formulas, no care for overflow.
#[derive(Debug, Clone, Copy)]
pub enum Formula {
    CrossEntropy { smoothing: f64 },
    SquaredError,
    BinaryCrossEntropy,
}

impl Formula {
    /// Loss of each row of `y`.
    pub fn losses(self, y: &Array, answers: &Answers) -> Vec<f64> {
        let c = y.dims[1];
        let row = |(n, y): (usize, &[f64])| -> f64 {
            match (self, answers) {
                (Self::CrossEntropy { smoothing }, Answers::Classes(labels)) => {
                    let p = softmax(y);
                    (0..c)
                        .map(|i| {
                            let hit = if labels[n] == i { 1.0 - smoothing } else { 0.0 };
                            -(hit + smoothing / c as f64) * p[i].ln()
                        })
                        .sum()
                }
                (Self::SquaredError, Answers::Values(t)) => {
                    (0..c).map(|i| (y[i] - t[n * c + i]).powi(2)).sum::<f64>() / c as f64
                }
                (Self::BinaryCrossEntropy, Answers::Values(t)) => {
                    let term = |i: usize| {
                        let (p, t) = (sigmoid(y[i]), t[n * c + i]);
                        -(t * p.ln() + (1.0 - t) * (1.0 - p).ln())
                    };
                    (0..c).map(term).sum::<f64>() / c as f64
                }
                _ => panic!("answers of the wrong sort"),
            }
        };
        y.data.chunks(c).enumerate().map(row).collect()
    }

    /// Second derivatives of the loss of one row in its outputs, `[C, C]`.
    pub fn curvature(self, y: &[f64]) -> Vec<f64> {
        let c = y.len();
        let p = softmax(y);
        let entry = |i: usize, j: usize| {
            let diagonal = if i == j { 1.0 } else { 0.0 };
            match self {
                Self::CrossEntropy { .. } => diagonal * p[i] - p[i] * p[j],
                Self::SquaredError => diagonal * 2.0 / c as f64,
                Self::BinaryCrossEntropy => diagonal * sigmoid(y[i]) * (1.0 - sigmoid(y[i])) / c as f64,
            }
        };
        indices([c, c]).map(|[i, j]| entry(i, j)).collect()
    }
}

pub fn softmax(y: &[f64]) -> Vec<f64> {
    let sum: f64 = y.iter().map(|v| v.exp()).sum();
    y.iter().map(|v| v.exp() / sum).collect()
}

fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}
