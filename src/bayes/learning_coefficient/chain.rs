//! A chain, and where it is kept between two runs.

use std::io::{self, Read, Write};

use crate::Result;
use crate::team::{Wire, get_numbers, put_numbers};

/// What a chain saw at a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Visit {
    /// `L_B(w) − L_B(w*)`; NaN where the loss left the finite numbers.
    pub rise: f64,
    /// `‖w − w*‖²`.
    pub square_distance: f64,
    /// `⟨∇U, nβ ∇L⟩`.
    pub slope: f64,
}

impl Visit {
    /// Where the loss left the finite numbers.
    pub const LOST: Self = Self { rise: f64::NAN, square_distance: f64::NAN, slope: f64::NAN };
}

impl Wire for Visit {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        put_numbers(&[self.rise, self.square_distance, self.slope], to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        let mut next = || f64::get(from);
        Ok(Self { rise: next()?, square_distance: next()?, slope: next()? })
    }
}

/// Where a chain is, and what it has seen so far: one visit per step, the first at `w*`.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// `[d]`.
    pub place: Vec<f64>,
    /// At the places before.
    pub visits: Vec<Visit>,
}

impl Chain {
    /// Before its first step.
    pub fn at(place: &[f64]) -> Self {
        Self { place: place.to_vec(), visits: Vec::new() }
    }

    /// Whether the loss left the finite numbers at its last visit.
    pub fn is_lost(&self) -> bool {
        self.visits.last().is_some_and(|visit| visit.rise.is_nan())
    }
}

impl Wire for Chain {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        self.place.len().put(to)?;
        put_numbers(&self.place, to)?;
        self.visits.put(to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        let count = usize::get(from)?;
        Ok(Self { place: get_numbers(count, from)?, visits: Vec::get(from)? })
    }
}

/// Chains that outlive a run; `setting` is their number among those of a sweep.
pub trait ChainStore {
    /// What an earlier run left.
    ///
    /// # Errors
    /// A state that is damaged or belongs to something else.
    fn load(&mut self, setting: usize) -> Result<Option<Vec<Chain>>>;

    /// Whether it would keep the chains now; `last` where the setting is finished or the run interrupted.
    fn is_due(&mut self, last: bool) -> bool;

    /// Takes what there is, where it is due.
    fn keep(&mut self, setting: usize, chains: &[Chain]);
}

/// Keeps nothing.
impl ChainStore for () {
    fn load(&mut self, _: usize) -> Result<Option<Vec<Chain>>> {
        Ok(None)
    }

    fn is_due(&mut self, _: bool) -> bool {
        false
    }

    fn keep(&mut self, _: usize, _: &[Chain]) {}
}
