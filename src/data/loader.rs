//! The batches of one epoch, prepared by threads ahead of their use.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use candle_core::{DType, Device};

use super::augment::EpochKey;
use super::batch::check_dtype;
use super::{Augmentation, Batch, Dataset, Inputs};
use crate::{Error, Result};

/// Images that one thread prepares at a time; several threads share a batch, so that the first comes soon.
const CHUNK: usize = 16;

/// Which batches, and how they are made.
#[derive(Debug, Clone)]
pub struct EpochPlan {
    /// Rows in the order of the epoch.
    pub order: Vec<usize>,
    /// Rows per batch; the last may have fewer.
    pub batch_size: usize,
    /// Precision of the inputs and of real targets.
    pub dtype: DType,
    /// Random changes of the images; `None` leaves them.
    pub augmentation: Option<Augmentation>,
    /// Seed of the augmentation.
    pub seed: u64,
    /// Number of the epoch, for the augmentation.
    pub epoch: u64,
    /// Threads that prepare batches, in addition to those that use them; a training run has as many of both. They
    /// affect only the time, and rest while enough batches are ready.
    pub threads: usize,
}

/// The batches of a plan, in order; a batch that cannot be made is replaced by its error.
pub struct Batches<'a> {
    shared: &'a Shared<'a>,
    waited: Duration,
}

/// Runs `consume` on the batches of `plan` while `plan.threads` threads prepare the next ones.
///
/// The threads work at most `2 · threads · 16` images ahead, rounded up to whole batches, plus one batch, all of which
/// are held in memory. Without augmentation a batch has the bits of [`Dataset::batch`], with it the same bits for any
/// number of threads. The threads end when `consume` does, whether or not it took all batches.
///
/// ```
/// use candle_core::DType;
/// use flatness::data::{DataSpec, EpochPlan, Glyphs, with_batches};
///
/// let data = DataSpec::new(Glyphs.into()).load()?;
/// let augmentation = Some("crop:2,cutout:4".parse()?);
/// let plan = EpochPlan {
///     order: (0..1000).collect(),
///     batch_size: 128,
///     dtype: DType::F32,
///     augmentation,
///     seed: 0,
///     epoch: 0,
///     threads: 2,
/// };
/// let rows = with_batches(&data, &plan, |batches| {
///     let mut rows = 0;
///     for batch in batches {
///         rows += batch?.x.dim(0)?;
///     }
///     Ok(rows)
/// })?;
/// assert_eq!(rows, 1000);
/// # Ok::<(), flatness::Error>(())
/// ```
///
/// # Errors
/// The error of `consume`. Before anything is prepared: rows that do not exist, an augmentation that does not fit, a `dtype`
/// that is not a float, and threads that the system refuses.
pub fn with_batches<T>(
    data: &Dataset,
    plan: &EpochPlan,
    consume: impl FnOnce(&mut Batches<'_>) -> Result<T>,
) -> Result<T> {
    check_dtype(plan.dtype)?;
    data.check_rows(&plan.order)?;
    if let Some(augmentation) = &plan.augmentation {
        augmentation.check(data)?;
    }
    let shared = Shared::new(data, plan);
    std::thread::scope(|scope| {
        // Dropped first, whatever happens here: the scope waits for the threads.
        let _stop = Stop(&shared);
        for _ in 0..plan.threads.max(1) {
            let started = std::thread::Builder::new().name("loader".into()).spawn_scoped(scope, || shared.work());
            started.map_err(|error| Error::Threads { reason: error.to_string() })?;
        }
        consume(&mut Batches { shared: &shared, waited: Duration::ZERO })
    })
}

struct Shared<'a> {
    data: &'a Dataset,
    plan: &'a EpochPlan,
    key: EpochKey,
    /// Rows per chunk; whole batches where rows need no preparation.
    chunk: usize,
    /// Batches that may be in preparation or ready.
    ahead: usize,
    state: Mutex<State>,
    /// Signals that there is room for another batch, or that all is done.
    room: Condvar,
    /// Signals that the next batch is ready, or that none will be.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    /// The next chunk to prepare: batch and chunk within it.
    next: (usize, usize),
    /// Batches handed out; `slots` begins with this one.
    taken: usize,
    slots: VecDeque<Slot>,
    stopped: bool,
}

/// A batch in preparation.
struct Slot {
    /// Image bytes of each chunk, once there.
    parts: Vec<Option<Result<Vec<u8>>>>,
    done: Option<Result<Batch>>,
}

/// Ends the threads when it is dropped, even by a panic.
struct Stop<'a>(&'a Shared<'a>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.room.notify_all();
        self.0.ready.notify_all();
    }
}

impl<'a> Shared<'a> {
    fn new(data: &'a Dataset, plan: &'a EpochPlan) -> Self {
        let batch_size = plan.batch_size.max(1);
        let prepares = plan.augmentation.is_some() || matches!(data.inputs, Inputs::Files(_));
        Self {
            data,
            plan,
            key: EpochKey::new(plan.seed, plan.epoch),
            chunk: if prepares { CHUNK } else { batch_size },
            ahead: (2 * plan.threads.max(1) * CHUNK).div_ceil(batch_size) + 1,
            state: Mutex::default(),
            room: Condvar::new(),
            ready: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A state is whole between any two statements; a panic elsewhere is passed on by the scope.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows of batch `index`; none past the last.
    fn rows(&self, index: usize) -> &'a [usize] {
        self.plan.order.chunks(self.plan.batch_size.max(1)).nth(index).unwrap_or_default()
    }

    /// Prepares chunks until none are left.
    fn work(&self) {
        // A thread that panics must not leave the consumer waiting.
        let unfinished = Stop(self);
        while let Some((batch, chunk)) = self.next_chunk() {
            let rows = self.rows(batch);
            let part = self.prepare(rows.chunks(self.chunk).nth(chunk).unwrap_or_default());
            if let Some(parts) = self.put(batch, chunk, part) {
                let done = self.finish(rows, parts);
                let mut state = self.lock();
                let slot = batch - state.taken;
                if let Some(slot) = state.slots.get_mut(slot) {
                    slot.done = Some(done);
                }
                self.ready.notify_all();
            }
        }
        std::mem::forget(unfinished);
    }

    /// The next chunk, as soon as there is room for its batch.
    fn next_chunk(&self) -> Option<(usize, usize)> {
        let mut state = self.lock();
        loop {
            let (batch, chunk) = state.next;
            let chunks = self.rows(batch).len().div_ceil(self.chunk);
            if state.stopped || chunks == 0 {
                return None;
            }
            if batch < state.taken + self.ahead {
                if chunk == 0 {
                    let parts = (0..chunks).map(|_| None).collect();
                    state.slots.push_back(Slot { parts, done: None });
                }
                state.next = if chunk + 1 < chunks { (batch, chunk + 1) } else { (batch + 1, 0) };
                return Some((batch, chunk));
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Image bytes of some rows; empty where the rows in memory are used as they are.
    fn prepare(&self, rows: &[usize]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match (&self.plan.augmentation, &self.data.inputs) {
            (Some(augmentation), _) => {
                for &row in rows {
                    bytes.extend(augmentation.apply(self.data, row, self.key)?);
                }
            }
            (None, Inputs::Files(files)) => bytes = files.squares(rows)?,
            (None, _) => {}
        }
        Ok(bytes)
    }

    /// Stores a part; returns all parts of the batch if it was the last.
    fn put(&self, batch: usize, chunk: usize, part: Result<Vec<u8>>) -> Option<Vec<Result<Vec<u8>>>> {
        let mut state = self.lock();
        let slot = batch - state.taken;
        let parts = &mut state.slots.get_mut(slot)?.parts;
        *parts.get_mut(chunk)? = Some(part);
        if parts.iter().any(Option::is_none) {
            return None;
        }
        std::mem::take(parts).into_iter().collect()
    }

    /// The batch of its parts, or the error of the first row that has one.
    fn finish(&self, rows: &[usize], parts: Vec<Result<Vec<u8>>>) -> Result<Batch> {
        let images = parts.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let (x, targets) = self.data.assemble(rows, images, self.plan.dtype, &Device::Cpu)?;
        Ok(Batch { rows: rows.to_vec(), x, more: Vec::new(), targets })
    }
}

impl Batches<'_> {
    /// Time spent waiting for batches so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let mut state = self.shared.lock();
        if self.shared.rows(state.taken).is_empty() {
            return None;
        }
        let batch = loop {
            if let Some(batch) = state.slots.front_mut().and_then(|slot| slot.done.take()) {
                break batch;
            }
            if state.stopped {
                return None;
            }
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.slots.pop_front();
        state.taken += 1;
        drop(state);
        self.shared.room.notify_all();
        self.waited += start.elapsed();
        Some(batch)
    }
}

#[cfg(test)]
mod tests;
