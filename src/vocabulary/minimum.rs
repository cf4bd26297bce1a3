//! The checkpoints that span a landscape.

names! {
    "minimum";
    /// A minimum that a line or plane goes through.
    pub enum Minimum {
        /// The first, in which the coordinates begin.
        A = "A",
        /// The second.
        B = "B",
        /// The third.
        C = "C",
    }
}
