//! What the families are called.

/// The families by name.
pub const FAMILIES: [&str; 8] = ["mlp", "cnn", "resnet-cifar", "resnet18", "resnet34", "resnet50", "vit", "vit-b16"];
