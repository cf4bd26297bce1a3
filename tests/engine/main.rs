//! The engine from its primitives to its products, against plain loops, finite differences and identities.

mod cases;
mod curvatures;
mod differences;
mod exact;
mod fixed;
mod layers;
mod loops;
mod outer;
mod peer;
mod plans;
mod primitives;
mod programs;
mod reference;
mod shapes;
mod sums;
mod support;
mod threads;
mod transformer;
