//! The two ends of a spectrum.

names! {
    "end of the spectrum";
    /// Which end of the spectrum: `Top` holds the largest algebraic eigenvalues, `Bottom` the smallest (most negative).
    pub enum End {
        /// Largest algebraic.
        Top = "top",
        /// Smallest algebraic.
        Bottom = "bottom",
    }
}
