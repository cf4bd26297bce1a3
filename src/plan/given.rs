//! A network and rows in memory, where a program passes them in place of files.

use std::sync::Arc;

use super::{DataArgs, PlanError};
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::data::{DataSpec, Dataset, Memory};

/// A network with its weights and the rows of its loss, in memory.
#[derive(Debug, Clone)]
pub struct Given {
    /// The network with its weights; its path is a name.
    pub checkpoint: Arc<Checkpoint>,
    /// The rows.
    pub data: Arc<Dataset>,
}

impl Given {
    /// The rows that the options choose, and how.
    ///
    /// # Errors
    /// Options that belong to rows of files; rows that do not exist.
    pub(crate) fn rows(&self, args: &DataArgs) -> Result<(DataSpec, Arc<Dataset>)> {
        let of_files = [
            ("--split", args.split.is_some()),
            ("--labels", args.labels.is_some()),
            ("--noise", args.noise.is_some()),
            ("--image-size", args.image_size.is_some()),
        ];
        if let Some((option, _)) = of_files.iter().find(|(_, asked)| *asked) {
            return Err(PlanError::option(option, "", "does not apply to rows in memory").into());
        }
        let spec = DataArgs { data: Some(Memory.into()), ..args.clone() }.spec(None);
        let spec = spec.unwrap_or_else(|| DataSpec::new(Memory.into()));
        let data = match spec.choose(self.data.len())? {
            None => self.data.clone(),
            Some(rows) => Arc::new(self.data.select(&rows)?),
        };
        Ok((spec, data))
    }
}
