//! The two ends of a spectrum.

/// Which end of the spectrum: `Top` holds the largest algebraic eigenvalues, `Bottom` the smallest (most negative).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Largest algebraic.
    Top,
    /// Smallest algebraic.
    Bottom,
}

impl End {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Top, Self::Bottom];

    /// The word in tables and in files of vectors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Top => "top",
            Self::Bottom => "bottom",
        }
    }
}
