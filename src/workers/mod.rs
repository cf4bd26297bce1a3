//! The threads of a run: one pool, which shares work in such a way that results depend on the work alone.

mod lock;
mod pieces;
mod ranks;
mod watch;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::team::{Alone, Team, Wire, team};
use crate::{Error, Observer, Result};
use lock::lock;
pub use pieces::{Cut, PieceSum};
use pieces::{Line, Tree};
use watch::Watch;

/// A pool of a number of threads, named `flatness-0`, `flatness-1`, …. Clones, and others of as many threads in the same
/// process, share it: so a run has one, however many objectives and optimizers it makes.
///
/// Work is handed out by its number and results are put together by number too, never by who is first: no bit depends on
/// the number of threads. Where several items run at a time, each stays on its thread: kernels and readers of images that
/// it calls do not share their work further. A single item, or items one after another, leave the pool to them.
#[derive(Debug, Clone)]
pub struct Workers {
    pool: Arc<ThreadPool>,
    /// The process that started the threads: one that is forked from it has none of them.
    process: u32,
    /// Which sums are shared with.
    team: &'static dyn Team,
}

/// Stack of a thread: as much as a main thread has, since whole commands run on them.
const STACK_BYTES: usize = 8 << 20;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller may share its work with the rayon pool that it runs in: there is one of several threads, and nobody
/// has given the others work of their own.
pub(crate) fn may_share() -> bool {
    rayon::current_thread_index().is_some() && rayon::current_num_threads() > 1 && !ALONE.get()
}

/// Calls `work`, and keeps on this thread what it might share.
fn alone<R>(work: impl FnOnce() -> R) -> R {
    /// Sets the mark back, after a panic too.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    work()
}

impl Workers {
    /// A pool of `threads` threads, at least one: that of the process, if something still holds it.
    ///
    /// # Errors
    /// [`Error::Threads`] where the system gives no more threads.
    pub fn new(threads: usize) -> Result<Self> {
        type Pools = BTreeMap<(u32, usize), Weak<ThreadPool>>;
        static POOLS: Mutex<Pools> = Mutex::new(Pools::new());
        let (process, threads) = (std::process::id(), threads.max(1));
        let mut pools = lock(&POOLS);
        if let Some(pool) = pools.get(&(process, threads)).and_then(Weak::upgrade) {
            return Ok(Self { pool, process, team: team() });
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("flatness-{index}"))
            .stack_size(STACK_BYTES)
            .build();
        let pool = Arc::new(pool.map_err(|error| Error::Threads { reason: error.to_string() })?);
        pools.retain(|_, pool| pool.strong_count() > 0);
        pools.insert((process, threads), Arc::downgrade(&pool));
        Ok(Self { pool, process, team: team() })
    }

    /// A pool of its own that shares its sums with a team.
    #[cfg(test)]
    pub(crate) fn among(team: &'static dyn Team, threads: usize) -> Self {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        Self { pool: Arc::new(pool), process: std::process::id(), team }
    }

    /// The same pool, whose sums no other rank shares.
    pub(crate) fn apart(&self) -> Self {
        Self { team: &Alone, ..self.clone() }
    }

    /// Threads of the pool.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on a thread of the pool, where rayon's parallel iterators and the crate's kernels use the others too.
    ///
    /// An objective and an optimizer see to it themselves. Krylov algebra, the reading of data and candle's own operations use
    /// the pool that they are called in, and rayon's global one outside of any: so run a whole computation in here, as the
    /// command line does, where a number of threads is to be kept to. In a forked process, which has none of the pool's
    /// threads, the work runs on a pool of its own.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        if self.process == std::process::id() {
            return self.pool.install(work);
        }
        match Self::new(self.threads()) {
            Ok(here) => here.pool.install(work),
            // Where the system refuses threads, that of the caller remains.
            Err(_) => work(),
        }
    }

    /// `[work(0), …, work(count − 1)]`, at most `limit` of them at a time. The observer hears of each that is done.
    ///
    /// # Errors
    /// The error of the first item that fails, or [`Error::Interrupted`] when the observer breaks; no further item is then begun.
    ///
    /// # Panics
    /// If `work` does, after the items that others have begun.
    pub fn map<R: Send>(
        &self,
        count: usize,
        limit: usize,
        work: impl Fn(usize) -> Result<R> + Sync,
        observer: &mut dyn Observer,
    ) -> Result<Vec<R>> {
        let results: Vec<Mutex<Option<R>>> = (0..count).map(|_| Mutex::new(None)).collect();
        let item = |index: usize| {
            *lock(&results[index]) = Some(work(index)?);
            Ok(())
        };
        self.share(0..count, limit, item, observer)?;
        Ok(results
            .into_iter()
            .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect())
    }

    /// As [`Workers::map`], shared with the team: each rank takes some consecutive items, and all have the results.
    ///
    /// # Errors
    /// As [`Workers::map`], the first of any rank; a message that is lost.
    pub(crate) fn shared_map<R: Send + Wire>(
        &self,
        count: usize,
        limit: usize,
        work: impl Fn(usize) -> Result<R> + Sync,
        observer: &mut dyn Observer,
    ) -> Result<Vec<R>> {
        if !self.is_shared() {
            return self.map(count, limit, work, observer);
        }
        let own = self.team.own(count);
        let results = self.map(own.len(), limit, |index| work(own.start + index), observer);
        let all = self.team.gather(results)?.into_iter().flatten().collect();
        self.team.hear()?;
        Ok(all)
    }

    /// Whether other ranks take part in what is begun here: not within an item that others run beside.
    fn is_shared(&self) -> bool {
        self.team.size() > 1 && !ALONE.get()
    }

    /// A sum over `work(0), …, work(count − 1)` by fixed pieces and a fixed tree. Piece `j` of `p`, the items from
    /// `⌊j·count/p⌋` to `⌊(j+1)·count/p⌋ − 1`, is added up in order, beginning with `start()`. Pieces are merged in a binary
    /// tree: number `2i` with `2i + 1`, then their sums likewise; an unpaired last one moves up. The result is what
    /// [`PieceSum::conclude`] makes of the whole sum, or `None` for no items.
    ///
    /// All items are shared alike, whatever the pieces. Nobody waits: results that come early are kept, who brings the next
    /// of a piece adds all that are ready, and who brings the second of a pair merges it. Items are begun in ascending
    /// order, so that few sums exist at a time: those of the pieces that are begun, and `log₂ p`.
    ///
    /// In a team, each rank takes some consecutive pieces, and all have the sum; a sum within an item that others run beside
    /// is made whole by each.
    ///
    /// # Errors
    /// As [`Workers::map`]; the first error of a sum.
    ///
    /// # Panics
    /// As [`Workers::map`].
    pub fn reduce<R: Send, S: PieceSum<R>>(
        &self,
        cut: Cut,
        limit: usize,
        work: impl Fn(usize) -> Result<R> + Sync,
        start: impl Fn() -> S,
        observer: &mut dyn Observer,
    ) -> Result<Option<S::Whole>> {
        let shared = self.is_shared();
        let own = if shared { self.team.own(cut.pieces()) } else { 0..cut.pieces() };
        let pieces: Vec<Line<R, S>> = own.clone().map(|piece| Line::new(cut.range(piece), start())).collect();
        let tree = Tree::new(if cut.count == 0 { 0 } else { cut.pieces() }, own.clone());
        let item = |index: usize| {
            let piece = cut.piece_of(index);
            match pieces[piece - own.start].bring(index, work(index)?, |sum, _, result| sum.add(result))? {
                Some(sum) => tree.add(piece, sum, S::merge),
                None => Ok(()),
            }
        };
        let done = self.share(cut.items(&own), limit, item, observer);
        // Nobody else is at work: the last two may share the pool.
        self.install(|| match shared {
            true => ranks::assembled(self.team, tree, done),
            false => done.and_then(|()| tree.finish(S::merge)?.map(S::conclude).transpose()),
        })
    }

    /// Calls `commit(i, work(i))` in the order of `i`. Results that come early are kept, and nobody waits: who brings the
    /// next one commits all that are ready.
    ///
    /// # Errors
    /// As [`Workers::map`]; the first error of `commit`. What was committed stays so.
    ///
    /// # Panics
    /// As [`Workers::map`].
    pub(crate) fn in_order<R: Send>(
        &self,
        count: usize,
        limit: usize,
        work: impl Fn(usize) -> Result<R> + Sync,
        commit: impl FnMut(usize, R) -> Result<()> + Send,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let line = Line::new(0..count, commit);
        let item =
            |index: usize| line.bring(index, work(index)?, |commit, index, result| commit(index, result)).map(drop);
        self.share(0..count, limit, item, observer)
    }

    /// Calls `item` once for each of the numbers `items`, in ascending order, at most `limit` at a time.
    fn share(
        &self,
        items: Range<usize>,
        limit: usize,
        item: impl Fn(usize) -> Result<()> + Sync,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let watch = Watch::new(items.len(), observer);
        self.install(|| {
            // An item that others run beside stays on its thread, and what it calls does so too.
            let loops = if ALONE.get() { 1 } else { limit.min(self.threads()).min(items.len()) };
            if loops <= 1 {
                return items.clone().try_for_each(|index| item(index).and_then(|()| watch.step()));
            }
            let (next, stopped) = (AtomicUsize::new(items.start), AtomicBool::new(false));
            let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
            let take_items = || {
                // Where it panics, the others need not go on.
                let _guard = OnPanic(&stopped);
                while !stopped.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= items.end {
                        return;
                    }
                    if let Err(error) = item(index).and_then(|()| watch.step()) {
                        stopped.store(true, Ordering::Relaxed);
                        // The error of the first item, whoever is faster: items before it have all been begun.
                        let mut failure = lock(&failure);
                        if failure.as_ref().is_none_or(|&(earlier, _)| index < earlier) {
                            *failure = Some((index, error));
                        }
                    }
                }
            };
            rayon::scope(|scope| {
                for _ in 1..loops {
                    scope.spawn(|_| alone(take_items));
                }
                alone(take_items);
            });
            match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some((_, error)) => Err(error),
                None => Ok(()),
            }
        })
    }
}

/// Sets its flag where a panic drops it.
struct OnPanic<'a>(&'a AtomicBool);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
