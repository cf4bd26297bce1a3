//! One small network for every layer kind and option.

/// A network that gives three outputs.
pub struct Case {
    pub name: &'static str,
    pub layers: &'static str,
    pub shape: &'static [usize],
    /// Whether each output is piecewise affine in each single parameter.
    pub affine: bool,
    /// Whether batch normalisation uses the batch's statistics.
    pub train: bool,
}

const fn case(name: &'static str, shape: &'static [usize], affine: bool, layers: &'static str) -> Case {
    Case { name, layers, shape, affine, train: false }
}

const fn training(name: &'static str, shape: &'static [usize], layers: &'static str) -> Case {
    Case { name, layers, shape, affine: false, train: true }
}

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("logistic", &[3], true, r#"[
        {"kind": "linear", "in": 3, "out": 3, "weight": "w"}]"#),
    case("relu and dropout", &[4], true, r#"[
        {"kind": "linear", "in": 4, "out": 5, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"},
        {"kind": "dropout", "p": 0.5}, {"kind": "identity"},
        {"kind": "linear", "in": 5, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("gelu", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"}, {"kind": "gelu"},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("gelu, tanh form", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"}, {"kind": "gelu", "form": "tanh"},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("silu", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"}, {"kind": "silu"},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("tanh and sigmoid", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"}, {"kind": "tanh"},
        {"kind": "linear", "in": 4, "out": 2, "weight": "b.w"}, {"kind": "sigmoid"},
        {"kind": "linear", "in": 2, "out": 3, "weight": "c.w", "bias": "c.b"}]"#),
    case("softplus", &[2], false, r#"[
        {"kind": "linear", "in": 2, "out": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "softplus"},
        {"kind": "linear", "in": 1, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("one matrix used twice", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 3, "weight": "w", "bias": "b"}, {"kind": "tanh"},
        {"kind": "linear", "in": 3, "out": 3, "weight": "w"}]"#),
    case("linear along the last axis", &[3, 4], true, r#"[
        {"kind": "linear", "in": 4, "out": 2, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"}, {"kind": "flatten"},
        {"kind": "linear", "in": 6, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("conv, padding, bias", &[2, 5, 4], true, r#"[
        {"kind": "conv2d", "in": 2, "out": 3, "kernel": 3, "padding": 1, "weight": "a.w", "bias": "a.b"},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"},
        {"kind": "linear", "in": 3, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("conv, stride 2, oblong", &[2, 5, 7], true, r#"[
        {"kind": "conv2d", "in": 2, "out": 2, "kernel": [3, 2], "stride": 2, "padding": [1, 0], "weight": "a.w"},
        {"kind": "relu"}, {"kind": "flatten"},
        {"kind": "linear", "in": 18, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("conv, stride 3, dilation 2", &[1, 9, 8], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 3, "stride": 3, "dilation": 2, "weight": "a.w", "bias": "a.b"},
        {"kind": "tanh"}, {"kind": "flatten"}, {"kind": "linear", "in": 8, "out": 3, "weight": "b.w"}]"#),
    case("conv, unequal stride, padding, dilation", &[1, 4, 9], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": [2, 3], "stride": [1, 2], "padding": [2, 1],
         "dilation": [3, 2], "weight": "a.w", "bias": "a.b"},
        {"kind": "silu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 2, "out": 3, "weight": "b.w"}]"#),
    case("conv in two groups", &[4, 4, 3], true, r#"[
        {"kind": "conv2d", "in": 4, "out": 6, "kernel": [1, 2], "groups": 2, "weight": "a.w", "bias": "a.b"},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"},
        {"kind": "linear", "in": 6, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("depthwise, pointwise", &[3, 4, 5], false, r#"[
        {"kind": "conv2d", "in": 3, "out": 3, "kernel": 3, "padding": 1, "groups": 3, "weight": "a.w"},
        {"kind": "conv2d", "in": 3, "out": 2, "kernel": 1, "weight": "b.w", "bias": "b.b"}, {"kind": "tanh"},
        {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 2, "out": 3, "weight": "c.w"}]"#),
    case("batch norm, stored statistics", &[2, 3, 3], true, r#"[
        {"kind": "conv2d", "in": 2, "out": 3, "kernel": 2, "weight": "a.w"},
        {"kind": "batch_norm2d", "channels": 3, "eps": 0.001, "weight": "n.w", "bias": "n.b",
         "running_mean": "n.mean", "running_var": "n.var"},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"},
        {"kind": "linear", "in": 3, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("batch norm of vectors, stored statistics", &[3], true, r#"[
        {"kind": "batch_norm1d", "channels": 3, "running_mean": "m.mean", "running_var": "m.var"},
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w"},
        {"kind": "batch_norm1d", "channels": 4, "bias": "n.b", "running_mean": "n.mean", "running_var": "n.var"},
        {"kind": "relu"}, {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    training("batch norm, batch statistics", &[2, 3, 3], r#"[
        {"kind": "conv2d", "in": 2, "out": 2, "kernel": 2, "weight": "a.w"},
        {"kind": "batch_norm2d", "channels": 2, "weight": "n.w", "bias": "n.b",
         "running_mean": "n.mean", "running_var": "n.var"},
        {"kind": "relu"}, {"kind": "flatten"}, {"kind": "linear", "in": 8, "out": 3, "weight": "b.w"}]"#),
    training("batch norm of vectors, batch statistics", &[3], r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"},
        {"kind": "batch_norm1d", "channels": 4, "eps": 0.01, "weight": "n.w",
         "running_mean": "n.mean", "running_var": "n.var"},
        {"kind": "tanh"}, {"kind": "linear", "in": 4, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    training("two batch norms in a residual block", &[2, 4, 3], r#"[
        {"kind": "residual", "main": [
            {"kind": "conv2d", "in": 2, "out": 3, "kernel": 3, "stride": 2, "padding": 1, "weight": "a.w"},
            {"kind": "batch_norm2d", "channels": 3, "weight": "n.w", "bias": "n.b",
             "running_mean": "n.mean", "running_var": "n.var"}],
          "shortcut": [
            {"kind": "conv2d", "in": 2, "out": 3, "kernel": 1, "stride": 2, "weight": "s.w"},
            {"kind": "batch_norm2d", "channels": 3, "running_mean": "m.mean", "running_var": "m.var"}]},
        {"kind": "gelu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 3, "out": 3, "weight": "b.w"}]"#),
    case("group norm", &[1, 4, 3], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 4, "kernel": [2, 1], "weight": "a.w"},
        {"kind": "group_norm", "groups": 2, "channels": 4, "weight": "n.w", "bias": "n.b"},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 4, "out": 3, "weight": "b.w"}]"#),
    case("layer norm of vectors", &[3], false, r#"[
        {"kind": "linear", "in": 3, "out": 4, "weight": "a.w", "bias": "a.b"},
        {"kind": "group_norm", "groups": 1, "channels": 4, "eps": 0.01, "weight": "n.w"}, {"kind": "tanh"},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w"},
        {"kind": "group_norm", "groups": 1, "channels": 3, "bias": "m.b"}]"#),
    case("instance norm without parameters", &[1, 3, 4], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "weight": "a.w"},
        {"kind": "group_norm", "groups": 2, "channels": 2}, {"kind": "softplus"},
        {"kind": "flatten"}, {"kind": "linear", "in": 12, "out": 3, "weight": "b.w"}]"#),
    case("layer norm along the last axis, sequence", &[2, 3], false, r#"[
        {"kind": "layer_norm", "dim": 3, "eps": 0.1, "weight": "m.w", "bias": "m.b"},
        {"kind": "sequence", "layers": [{"kind": "linear", "in": 3, "out": 2, "weight": "a.w"}, {"kind": "relu"},
                                        {"kind": "flatten"}]},
        {"kind": "linear", "in": 4, "out": 3, "weight": "b.w"},
        {"kind": "layer_norm", "dim": 3, "eps": 0.1, "bias": "n.b"}]"#),
    case("oblong patches, class token, positions", &[2, 2, 6], true, r#"[
        {"kind": "patch_embedding", "in": 2, "dim": 3, "patch": [1, 3], "weight": "p.w", "bias": "p.b"},
        {"kind": "class_token", "token": "c"},
        {"kind": "position_embedding", "tokens": 5, "embedding": "e"}, {"kind": "relu"},
        {"kind": "select_token", "index": 4}, {"kind": "linear", "in": 3, "out": 3, "weight": "h.w", "bias": "h.b"}]"#),
    case("attention alone, three heads", &[3, 2], false, r#"[
        {"kind": "linear", "in": 2, "out": 9, "weight": "a.w", "bias": "a.b"}, {"kind": "attention", "heads": 3},
        {"kind": "select_token", "index": 1}]"#),
    case("transformer block", &[1, 2, 6], false, r#"[
        {"kind": "patch_embedding", "in": 1, "dim": 4, "patch": 2, "weight": "p.w"},
        {"kind": "class_token", "token": "c"}, {"kind": "position_embedding", "tokens": 4, "embedding": "e"},
        {"kind": "transformer_block", "prefix": "b", "dim": 4, "heads": 2, "mlp_dim": 3, "eps": 0.1},
        {"kind": "select_token", "index": 0}, {"kind": "linear", "in": 4, "out": 3, "weight": "h.w"}]"#),
    case("transformer block, norms behind, silu, no bias", &[3, 2], false, r#"[
        {"kind": "transformer_block", "prefix": "b", "dim": 2, "heads": 1, "mlp_dim": 3, "eps": 0.1, "norm": "post",
         "activation": "silu", "qkv_bias": false},
        {"kind": "flatten"}, {"kind": "linear", "in": 6, "out": 3, "weight": "h.w"}]"#),
    case("max pool on odd sizes", &[2, 5, 5], true, r#"[
        {"kind": "conv2d", "in": 2, "out": 2, "kernel": 1, "weight": "a.w", "bias": "a.b"},
        {"kind": "max_pool2d", "kernel": 2}, {"kind": "relu"}, {"kind": "flatten"},
        {"kind": "linear", "in": 8, "out": 3, "weight": "b.w"}]"#),
    case("max pool, overlapping, padded", &[1, 5, 6], true, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "padding": 1, "weight": "a.w"},
        {"kind": "max_pool2d", "kernel": 3, "stride": 2, "padding": 1},
        {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 2, "out": 3, "weight": "b.w", "bias": "b.b"}]"#),
    case("max pool, oblong", &[1, 4, 7], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "tanh"},
        {"kind": "max_pool2d", "kernel": [2, 3], "stride": [1, 2], "padding": [1, 0]}, {"kind": "flatten"},
        {"kind": "linear", "in": 30, "out": 3, "weight": "b.w"}]"#),
    case("average pool, padding counted", &[1, 5, 6], false, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "weight": "a.w"}, {"kind": "tanh"},
        {"kind": "avg_pool2d", "kernel": 3, "stride": 2, "padding": 1}, {"kind": "flatten"},
        {"kind": "linear", "in": 12, "out": 3, "weight": "b.w"}]"#),
    case("average pool, padding left out", &[1, 5, 6], true, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 2, "weight": "a.w"}, {"kind": "relu"},
        {"kind": "avg_pool2d", "kernel": 3, "stride": 2, "padding": 1, "count_include_pad": false},
        {"kind": "flatten"}, {"kind": "linear", "in": 12, "out": 3, "weight": "b.w"}]"#),
    case("average pool, oblong, gaps", &[1, 5, 7], true, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"},
        {"kind": "avg_pool2d", "kernel": [1, 2], "stride": [2, 3], "padding": [0, 1]},
        {"kind": "avg_pool2d", "kernel": 2}, {"kind": "flatten"},
        {"kind": "linear", "in": 2, "out": 3, "weight": "b.w"}]"#),
    case("residual around two layers", &[3], false, r#"[
        {"kind": "residual", "main": [
            {"kind": "linear", "in": 3, "out": 2, "weight": "a.w", "bias": "a.b"}, {"kind": "tanh"},
            {"kind": "linear", "in": 2, "out": 3, "weight": "b.w", "bias": "b.b"}]},
        {"kind": "sigmoid"}, {"kind": "linear", "in": 3, "out": 3, "weight": "c.w"}]"#),
    case("residual with a convolution as shortcut", &[2, 5, 3], true, r#"[
        {"kind": "residual", "main": [
            {"kind": "conv2d", "in": 2, "out": 3, "kernel": 3, "stride": 2, "padding": 1, "weight": "a.w"},
            {"kind": "relu"}],
          "shortcut": [{"kind": "conv2d", "in": 2, "out": 3, "kernel": 1, "stride": 2, "weight": "s.w", "bias": "s.b"}]},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 3, "out": 3, "weight": "b.w"}]"#),
    case("residual with subsampling, odd number of new channels", &[1, 5, 4], true, r#"[
        {"kind": "conv2d", "in": 1, "out": 2, "kernel": 1, "weight": "a.w", "bias": "a.b"}, {"kind": "relu"},
        {"kind": "residual",
          "main": [{"kind": "conv2d", "in": 2, "out": 5, "kernel": 1, "stride": 2, "weight": "b.w"}],
          "shortcut": [{"kind": "subsample_pad", "in": 2, "out": 5, "stride": 2}]},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"}, {"kind": "linear", "in": 5, "out": 3, "weight": "c.w"}]"#),
    case("concat of channels", &[2, 3, 4], true, r#"[
        {"kind": "concat", "branches": [
            [{"kind": "conv2d", "in": 2, "out": 1, "kernel": 1, "weight": "a.w", "bias": "a.b"}],
            [],
            [{"kind": "conv2d", "in": 2, "out": 2, "kernel": 3, "padding": 1, "weight": "b.w"}, {"kind": "relu"}]]},
        {"kind": "relu"}, {"kind": "global_avg_pool2d"},
        {"kind": "linear", "in": 5, "out": 3, "weight": "c.w", "bias": "c.b"}]"#),
    case("concat of rows with a block inside", &[1, 3, 4], false, r#"[
        {"kind": "concat", "axis": 2, "branches": [
            [{"kind": "residual", "main": [
                {"kind": "conv2d", "in": 1, "out": 1, "kernel": 3, "padding": 1, "weight": "a.w"}, {"kind": "gelu"}]}],
            [{"kind": "conv2d", "in": 1, "out": 1, "kernel": [2, 1], "weight": "b.w", "bias": "b.b"}]]},
        {"kind": "silu"}, {"kind": "flatten"}, {"kind": "linear", "in": 20, "out": 3, "weight": "c.w"}]"#),
];
