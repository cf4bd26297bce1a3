//! What can go wrong with image files and with what is done to images.

use std::path::PathBuf;

/// What can go wrong with image files and with what is done to images.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file that cannot be read as an image.
    #[error("images: {}: {reason}{}", path.display(), others_text(.others))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Further such files seen at the same time.
        others: usize,
    },
    /// A folder without folders of images.
    #[error("images: no class folders in {}", folder.display())]
    NoClasses {
        /// The folder.
        folder: PathBuf,
        /// Which files would do.
        expected: &'static str,
    },
    /// A class to test on that the training split does not have.
    #[error("images: {} is of a class that the training split does not have", folder.display())]
    UnknownClass {
        /// The class folder.
        folder: PathBuf,
    },
    /// A size that images cannot have.
    #[error("images: an image size of {size} pixels is not possible")]
    Size {
        /// As given.
        size: usize,
        /// The largest that is possible.
        most: usize,
    },
    /// Instance-dependent label noise would need all images in memory.
    #[error("images: instance-dependent label noise on image files")]
    InstanceNoise,
    /// An augmentation that does not fit the data.
    #[error("augmentation: {step} does not fit {what}")]
    Augmentation {
        /// The step, such as `crop:4`.
        step: String,
        /// What it should work on.
        what: String,
    },
}

fn others_text(others: &usize) -> String {
    if *others == 0 { String::new() } else { format!(" (and {others} more such files)") }
}

impl ImageError {
    /// How to mend it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { .. } => "replace the file, or leave such files out with --skip-broken".into(),
            Self::NoClasses { expected, .. } => format!("expected {expected}"),
            Self::UnknownClass { .. } => "classes are the folders of the training split: move or remove this one".into(),
            Self::Size { most, .. } => format!("choose 1 to {most}"),
            Self::InstanceNoise => "choose symmetric or asymmetric noise".into(),
            Self::Augmentation { .. } => {
                "augmentation needs images as bytes, [C, H, W]; random_resized_crop must give the size that the data has \
                 (--image-size for image folders)"
                    .into()
            }
        }
    }
}
