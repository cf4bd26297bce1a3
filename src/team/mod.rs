//! The processes of a run: one as a rule, or the ranks of an MPI job.
//!
//! All ranks carry out the same command on the same data; what they sum over rows, they share by whole pieces
//! ([`crate::workers`]), and each then has what is made of the whole sum. So they all know the same numbers, and decide
//! alike. Whatever could differ between them (the time, Ctrl-C, files of an earlier run) is decided by rank 0, which alone
//! speaks and writes.

mod alone;
mod error;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(not(feature = "mpi"))]
#[path = "without_mpi.rs"]
mod mpi;
#[cfg(test)]
pub(crate) mod testing;
mod wire;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result};
pub(crate) use alone::Alone;
use error::Failure;
pub use error::TeamError;
pub use mpi::lead;
use mpi::{BUILT, slurm_plugin, unheard};
pub use wire::Wire;
pub(crate) use wire::{get_numbers, put_numbers};

/// The ranks of a run, and how they hear of each other.
pub trait Team: Debug + Send + Sync {
    /// Which of them this process is.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Sends a message, and gives its memory back; those to the same rank arrive in the order in which they are sent.
    ///
    /// # Errors
    /// [`TeamError::Message`]; what another rank says that gives up.
    fn send(&self, to: usize, message: Vec<u8>) -> Result<Vec<u8>>;

    /// Waits for the next message of a rank, which takes the memory of `into`, and leaves the core to others meanwhile.
    ///
    /// # Errors
    /// As [`Team::send`].
    fn receive(&self, from: usize, into: Vec<u8>) -> Result<Vec<u8>>;

    /// The time that this rank has spent so far on sending messages and waiting for them.
    fn talked(&self) -> Duration;

    /// Whether the user has asked this rank to stop.
    fn is_asked_to_stop(&self) -> bool;

    /// Makes this rank stop at its next step; all ranks are told to at the same point.
    fn stop(&self);

    /// Says to rank 0 why this rank cannot go on.
    fn give_up(&self, error: &str, hint: Option<&str>);
}

/// Refuses what the ranks that were started cannot do.
///
/// # Errors
/// [`TeamError::NotBuilt`] or [`TeamError::Unheard`] for a shared command, [`TeamError::OneProcess`] for another.
pub(crate) fn check(is_shared: bool) -> Result<(), TeamError> {
    match (is_shared, unheard(), team().size()) {
        (true, Some(ranks), _) if BUILT => Err(TeamError::Unheard { ranks }),
        (true, Some(ranks), _) => Err(TeamError::NotBuilt { ranks }),
        (false, _, ranks) if ranks > 1 => Err(TeamError::OneProcess { ranks }),
        _ => Ok(()),
    }
}

/// Set by srun to the number of its processes.
pub(crate) const SLURM_TASKS: &str = "SLURM_STEP_NUM_TASKS";

/// How many processes were started together, as the launcher nearest to this one says. Those that srun counts for an interactive
/// shell are left out.
fn started_together() -> Option<usize> {
    let size = |name| std::env::var(name).ok()?.parse::<usize>().ok();
    let of_slurm = || size(SLURM_TASKS).filter(|_| BUILT && std::env::var_os("SLURM_PTY_PORT").is_none());
    size("OMPI_COMM_WORLD_SIZE").or_else(|| size("PMI_SIZE")).or_else(of_slurm).filter(|size| *size > 1)
}

/// The program that starts ranks: `srun` in a job of Slurm, else `mpirun`.
pub(crate) fn launcher() -> &'static str {
    if std::env::var_os("SLURM_JOB_ID").is_some() { "srun" } else { "mpirun" }
}

/// What srun is told about MPI, unless the user has.
pub(crate) fn slurm_option() -> Option<String> {
    let plugin = slurm_plugin().filter(|_| std::env::var_os("SLURM_MPI_TYPE").is_none());
    plugin.map(|plugin| format!("--mpi={plugin}"))
}

/// Refuses to start so many ranks of this program where they could not share anything, or nothing starts them.
///
/// # Errors
/// [`TeamError::NotBuilt`], [`TeamError::NoLauncher`].
pub(crate) fn check_startable(ranks: usize) -> Result<(), TeamError> {
    let program = launcher();
    let path = std::env::var_os("PATH").unwrap_or_default();
    match ranks {
        0 | 1 => Ok(()),
        _ if !BUILT => Err(TeamError::NotBuilt { ranks }),
        _ if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) => Ok(()),
        _ => Err(TeamError::NoLauncher { program, ranks }),
    }
}

static TEAM: OnceLock<Box<dyn Team>> = OnceLock::new();

/// The team of this process.
pub fn team() -> &'static dyn Team {
    static ALONE: Alone = Alone;
    TEAM.get().map_or(&ALONE, |team| &**team)
}

impl dyn Team + '_ {
    /// Whether this rank speaks and writes.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Who takes item `index` of `count`.
    pub(crate) fn owner(&self, index: usize, count: usize) -> usize {
        index * self.size() / count.max(1)
    }

    /// Which of `count` items this rank takes.
    pub(crate) fn own(&self, count: usize) -> Range<usize> {
        self.share(self.rank(), count)
    }

    /// Which of `count` items a rank takes.
    pub(crate) fn share(&self, rank: usize, count: usize) -> Range<usize> {
        let first = |rank: usize| (rank * count).div_ceil(self.size());
        first(rank)..first(rank + 1)
    }

    /// Sends a value, or why there is none.
    pub(crate) fn send_value<T: Wire>(&self, to: usize, value: Result<&T, &Error>) -> Result<()> {
        self.send_outcome(&[to], value)
    }

    /// The next value of a rank, or what it says in its place.
    ///
    /// # Errors
    /// A message that is lost.
    pub(crate) fn receive_value<T: Wire>(&self, from: usize) -> Result<Result<T>> {
        Ok(wire::receive::<Result<T, Failure>>(self, from, &[])?.map_err(Failure::error))
    }

    /// What each rank has, by rank, on every rank.
    ///
    /// # Errors
    /// The error of the first rank that has one; a message that is lost.
    pub(crate) fn gather<T: Wire>(&self, own: Result<T>) -> Result<Vec<T>> {
        if !self.leads() {
            self.send_value(0, own.as_ref())?;
            return self.of_leader(Ok(Vec::new()));
        }
        let others = (1..self.size()).map(|rank| self.receive_value(rank));
        let all = std::iter::once(Ok(own)).chain(others).collect::<Result<Vec<Result<T>>>>()?;
        self.of_leader(all.into_iter().collect())
    }

    /// A tensor of this type and shape whose parts the ranks have, one after the other along `dim`: on the host of rank 0,
    /// elsewhere the own part.
    ///
    /// # Errors
    /// As [`Team::gather`], of rank 0.
    pub(crate) fn joined_at_leader(
        &self,
        part: Result<Tensor>,
        dim: usize,
        (dtype, dims): (DType, &[usize]),
    ) -> Result<Tensor> {
        if !self.leads() {
            self.send_value(0, part.as_ref())?;
            return part;
        }
        let (whole, mut start, mut done) = (Tensor::zeros(dims, dtype, &Device::Cpu)?, 0, Ok(()));
        let others = (1..self.size()).map(|rank| self.receive_value(rank));
        for part in std::iter::once(Ok(part)).chain(others) {
            let part: Result<Tensor> = part?;
            // All are received even where one has failed.
            done = done.and_then(|()| {
                let part = part?.to_device(&Device::Cpu)?;
                whole.slice_set(&part, dim, start)?;
                start += part.dims()[dim];
                Ok(())
            });
        }
        done.map(|()| whole)
    }

    /// The same on every rank.
    ///
    /// # Errors
    /// As [`Team::gather`].
    pub(crate) fn joined(&self, part: Result<Tensor>, dim: usize, layout: (DType, &[usize])) -> Result<Tensor> {
        self.of_leader(self.joined_at_leader(part, dim, layout))
    }

    /// What rank 0 has, on every rank, along a binary tree; what others bring is left.
    ///
    /// # Errors
    /// The error of rank 0; a message that is lost.
    pub(crate) fn of_leader<T: Wire>(&self, value: Result<T>) -> Result<T> {
        let (rank, size) = (self.rank(), self.size());
        let below: Vec<usize> = [2 * rank + 1, 2 * rank + 2].into_iter().filter(|below| *below < size).collect();
        if rank == 0 {
            if !below.is_empty() {
                self.send_outcome(&below, value.as_ref())?;
            }
            return value;
        }
        wire::receive::<Result<T, Failure>>(self, (rank - 1) / 2, &below)?.map_err(Failure::error)
    }

    fn send_outcome<T: Wire>(&self, to: &[usize], value: Result<&T, &Error>) -> Result<()> {
        wire::send(self, to, |to| {
            value.is_ok().put(to)?;
            match value {
                Ok(value) => value.put(to),
                Err(error) => Failure::new(self.rank(), error).put(to),
            }
        })
    }

    /// What rank 0 decides.
    ///
    /// # Errors
    /// As [`Team::receive`].
    pub fn decides(&self, decision: bool) -> Result<bool> {
        self.of_leader(Ok(decision))
    }

    /// Makes sure that the ranks can share the rows of one computation: they run one version, `what` is to be computed is the
    /// same everywhere, and nothing, such as `coupling`, couples the rows.
    ///
    /// # Errors
    /// [`TeamError::CoupledRows`], [`TeamError::Differ`]; a message that is lost.
    pub(crate) fn shares(&self, coupling: Option<&'static str>, what: (&'static str, String)) -> Result<()> {
        if let (Some(what), ranks @ 2..) = (coupling, self.size()) {
            return Err(TeamError::CoupledRows { what, ranks }.into());
        }
        self.agrees("versions", env!("CARGO_PKG_VERSION").into())?;
        self.agrees(what.0, what.1)
    }

    /// Makes sure that all ranks have the same `text`.
    ///
    /// # Errors
    /// [`TeamError::Differ`] on a rank that has another than rank 0; a message that is lost.
    pub(crate) fn agrees(&self, what: &'static str, text: String) -> Result<()> {
        if self.size() > 1 && self.of_leader(Ok(text.clone()))? != text {
            return Err(TeamError::Differ { what }.into());
        }
        Ok(())
    }

    /// Makes all ranks stop at their next step if the user has asked rank 0 to stop.
    pub(crate) fn hear(&self) -> Result<()> {
        if self.decides(self.is_asked_to_stop())? {
            self.stop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Crew;
    use super::*;

    #[test]
    fn what_rank_0_has_reaches_all() {
        for size in [1, 2, 3, 6] {
            // More than one message.
            let numbers: Vec<usize> = (0..1_000_000).collect();
            let told = Crew::each(size, |team| {
                let own = if team.leads() { numbers.clone() } else { Vec::new() };
                (team.of_leader(Ok(own)).unwrap() == numbers, team.decides(team.leads()).unwrap())
            });
            assert_eq!(told, vec![(true, true); size]);
            let refused = Crew::each(size, |team| {
                let own = if team.leads() { Err(TeamError::OneProcess { ranks: 7 }.into()) } else { Ok(1usize) };
                let error = team.of_leader(own).unwrap_err();
                (error.to_string(), error.hint().is_some())
            });
            assert!(refused.iter().all(|(words, hint)| words.contains("7 ranks were started") && *hint), "{refused:?}");
        }
    }

    #[test]
    fn what_each_rank_has_reaches_all_in_order() {
        for size in [1, 2, 5] {
            let gathered = Crew::each(size, |team| team.gather(Ok(10 * team.rank())).unwrap());
            assert_eq!(gathered, vec![(0..size).map(|rank| 10 * rank).collect::<Vec<_>>(); size]);
            let refused = Crew::each(size, |team| {
                let own = if 2 * team.rank() >= size - 1 {
                    Err(TeamError::OneProcess { ranks: team.rank() })
                } else {
                    Ok(0usize)
                };
                team.gather(own.map_err(Error::from)).unwrap_err().to_string()
            });
            let first = format!("but {} ranks", size / 2);
            assert!(refused.iter().all(|words| words.contains(&first)), "{refused:?}");
        }
    }

    #[test]
    fn a_tensor_in_parts_reaches_all_or_the_first_error_does() {
        let whole = Tensor::arange(0f32, 30.0, &Device::Cpu).unwrap().reshape((3, 10)).unwrap();
        let layout = (DType::F32, whole.dims());
        for size in [1, 2, 4] {
            let joined = Crew::each(size, |team| {
                let own = team.own(10);
                let part = || whole.narrow(1, own.start, own.len())?.force_contiguous();
                let failed: Result<Tensor> = match team.rank() {
                    0 => Ok(part().unwrap()),
                    rank => Err(TeamError::OneProcess { ranks: rank }.into()),
                };
                let failed = team.joined(failed, 1, layout).map_err(|error| error.to_string());
                // What was sent beside the failure is not taken for what follows.
                let joined = team.joined(part().map_err(Error::from), 1, layout).unwrap();
                (joined.to_vec2::<f32>().unwrap(), failed.err())
            });
            for (rows, failed) in joined {
                assert_eq!(rows, whole.to_vec2::<f32>().unwrap());
                assert_eq!(failed.is_some_and(|words| words.contains("but 1 ranks")), size > 1);
            }
        }
    }

    #[test]
    fn a_rank_with_other_words_hears_of_it() {
        let agreed = Crew::each(3, |team| team.agrees("options", format!("top {}", team.rank() / 2)));
        let words: Vec<_> = agreed.into_iter().map(|agreed| agreed.err().map(|error| error.to_string())).collect();
        assert_eq!(words[..2], [None, None]);
        assert!(words[2].as_ref().unwrap().contains("options differ"), "{words:?}");
    }

    #[test]
    fn each_item_has_one_owner_and_ranks_own_consecutive_ones() {
        for (count, size) in [(16, 3), (2, 5), (1, 2), (7, 7), (16, 1)] {
            let owned = Crew::each(size, |team| {
                let own = team.own(count);
                assert!(own.clone().all(|item| team.owner(item, count) == team.rank()));
                own.collect::<Vec<_>>()
            });
            assert_eq!(owned.concat(), (0..count).collect::<Vec<_>>());
        }
    }
}
