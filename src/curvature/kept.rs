//! What products at the same parameters leave to one another: see [`Kept`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::autodiff::Kept;
use crate::objective::{Asked, Objective};

/// Vectors of a product from whose number on primal results are too small a part of the work to keep.
const TOO_MANY: usize = 3;

/// Primal results of each micro-batch, kept from the second of equal passes on: one alone would pay for memory and gain nothing.
#[derive(Default)]
pub(super) struct KeptPasses(Mutex<Passes>);

#[derive(Default)]
struct Passes {
    /// Directions of the last pass, and whether it was cut by shard: together they decide its micro-batches.
    last: Option<(usize, bool)>,
    /// Bytes for the results of a row; `None` until a pass is repeated.
    room_per_row: Option<usize>,
    /// By first row and number of rows, which say all of a micro-batch: a pass that is cut otherwise may run at the same time.
    batches: HashMap<(usize, usize), Kept>,
}

impl KeptPasses {
    /// Begins a pass.
    pub(super) fn begin(&self, objective: &Objective<'_>, asked: Asked) {
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let this = Some((asked.directions, asked.by_shard));
        if passes.last != this {
            *passes = Passes { last: this, ..Passes::default() };
        } else if passes.room_per_row.is_none() && asked.directions < TOO_MANY {
            passes.room_per_row = Some(objective.spare_bytes(asked.directions) / objective.num_rows().max(1));
        }
    }

    /// What the micro-batch of these rows has, or may keep.
    pub(super) fn of(&self, rows: &[usize]) -> Option<Kept> {
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = passes.room_per_row? * rows.len();
        Some(passes.batches.entry((*rows.first()?, rows.len())).or_insert_with(|| Kept::new(room)).again())
    }
}
