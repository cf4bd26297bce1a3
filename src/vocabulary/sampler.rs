//! The samplers whose laws are known.

names! {
    "sampler";
    /// Langevin dynamics on a potential.
    pub enum Sampler {
        /// With the gradient at the place itself.
        Sgld = "sgld",
        /// With the gradient at a perturbed place.
        Fsgld = "fsgld",
    }
}
