//! What can be wrong with a Parquet file.

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The system's reason.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// In words, what is wrong with it.
    #[error("{0}")]
    Damaged(String),
    /// It is sound as far as was seen, but unpacks to too much.
    #[error("its pages unpack to more than {memory_bytes} bytes")]
    TooLarge {
        /// Bytes that it may unpack to.
        memory_bytes: u64,
    },
}
