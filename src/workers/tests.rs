use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use super::*;
use crate::Step;
use crate::team::Wire;
use crate::team::testing::Crew;

/// Early items take longest, so that late ones come first.
fn late(index: usize, count: usize) {
    std::thread::sleep(Duration::from_micros(200 * (count - index) as u64));
}

#[test]
fn a_pool_of_a_size_is_one() {
    let (first, second) = (Workers::new(3).unwrap(), Workers::new(3).unwrap());
    assert!(Arc::ptr_eq(&first.pool, &second.pool) && first.threads() == 3);
    assert_eq!(Workers::new(0).unwrap().threads(), 1);
    let name = first.install(|| std::thread::current().name().map(str::to_owned));
    assert!(name.unwrap().starts_with("flatness-"));
}

#[test]
fn results_come_in_order_whatever_the_number_of_threads() {
    for threads in [1, 2, 7] {
        let workers = Workers::new(threads).unwrap();
        let work = |index: usize| {
            late(index, 20);
            Ok(index * index)
        };
        let squares: Vec<usize> = (0..20).map(|index| index * index).collect();
        assert_eq!(workers.map(20, 9, work, &mut ()).unwrap(), squares);
        let mut seen = Vec::new();
        let commit = |index, result| {
            seen.push((index, result));
            Ok(())
        };
        workers.in_order(20, 9, work, commit, &mut ()).unwrap();
        assert_eq!(seen, squares.into_iter().enumerate().collect::<Vec<_>>());
        assert!(workers.map(0, 9, work, &mut ()).unwrap().is_empty());
    }
}

/// What was added in which order, in words.
struct Words(String);

impl Wire for Words {
    fn put(&self, to: &mut dyn Write) -> io::Result<()> {
        self.0.put(to)
    }

    fn get(from: &mut dyn Read) -> io::Result<Self> {
        Ok(Self(String::get(from)?))
    }
}

impl PieceSum<usize> for Words {
    type Whole = Self;

    fn add(&mut self, item: usize) -> Result<()> {
        self.0 += &item.to_string();
        Ok(())
    }

    fn merge(self, later: Self) -> Result<Self> {
        Ok(Self(format!("({} {})", self.0, later.0)))
    }

    fn conclude(self) -> Result<Self> {
        Ok(self)
    }
}

#[test]
fn the_sum_depends_on_the_cut_alone() {
    for (threads, limit) in [(1, 1), (1, 9), (2, 9), (3, 2), (5, 9)] {
        let workers = Workers::new(threads).unwrap();
        let sum = |count: usize, pieces| {
            let work = |index: usize| {
                late(index, count);
                Ok(index)
            };
            let words = || Words(String::new());
            workers.reduce(Cut::new(count, pieces), limit, work, words, &mut ()).unwrap().map(|words| words.0)
        };
        assert_eq!(sum(0, 4), None);
        assert_eq!(sum(1, 4).unwrap(), "0");
        assert_eq!(sum(6, 1).unwrap(), "012345");
        assert_eq!(sum(3, 3).unwrap(), "((0 1) 2)");
        assert_eq!(sum(5, 5).unwrap(), "(((0 1) (2 3)) 4)");
        assert_eq!(sum(9, 4).unwrap(), "((01 23) (45 678))");
        assert_eq!(sum(11, 11).unwrap(), "((((0 1) (2 3)) ((4 5) (6 7))) ((8 9) 10))");
    }
}

#[test]
fn ranks_make_the_sum_of_one_process() {
    for (ranks, threads) in [(2, 1), (3, 2), (4, 1), (7, 1)] {
        for (count, pieces) in [(0, 4), (1, 4), (3, 3), (5, 5), (9, 4), (11, 11), (33, 16)] {
            let sum = |workers: Workers| {
                let words = || Words(String::new());
                workers.reduce(Cut::new(count, pieces), 9, Ok, words, &mut ()).unwrap().map(|words| words.0)
            };
            let alone = sum(Workers::new(1).unwrap());
            let together = Crew::each(ranks, |team| sum(Workers::among(team, threads)));
            assert_eq!(together, vec![alone; ranks], "{ranks} ranks, {count} items in {pieces} pieces");
        }
    }
}

#[test]
fn the_first_error_of_any_rank_ends_all() {
    for failing in [vec![0], vec![32], vec![12, 20], (0..33).collect()] {
        let work = |index: usize| match failing.contains(&index) {
            true => Err(Error::Threads { reason: format!("item {index}") }),
            false => Ok(index),
        };
        let words = Crew::each(3, |team| {
            let words = || Words(String::new());
            let outcome = Workers::among(team, 2).reduce(Cut::new(33, 16), 2, work, words, &mut ());
            outcome.map(|_| ()).unwrap_err().to_string()
        });
        let first = format!("item {}", failing[0]);
        assert!(words.iter().all(|words| words.ends_with(&first)), "{words:?}");
    }
    let stopped = Crew::each(2, |team| {
        let stop = || if team.rank() == 1 { Err(Error::Interrupted) } else { Ok(()) };
        let counted = |_| stop().map(|()| 1);
        let words = || Words(String::new());
        matches!(Workers::among(team, 1).reduce(Cut::new(4, 4), 1, counted, words, &mut ()), Err(Error::Interrupted))
    });
    assert_eq!(stopped, [true, true]);
}

/// A sum that counts how many of its kind hold something.
struct Counted<'a>(&'a Mutex<(usize, usize)>, bool);

/// It stays where it is.
impl Wire for Counted<'_> {
    fn put(&self, _: &mut dyn Write) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn get(_: &mut dyn Read) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl PieceSum<()> for Counted<'_> {
    type Whole = Self;

    fn add(&mut self, (): ()) -> Result<()> {
        if !std::mem::replace(&mut self.1, true) {
            let mut counts = lock(self.0);
            *counts = (counts.0 + 1, counts.1.max(counts.0 + 1));
        }
        Ok(())
    }

    fn merge(self, later: Self) -> Result<Self> {
        assert!(self.1 && later.1);
        lock(self.0).0 -= 1;
        Ok(self)
    }

    fn conclude(self) -> Result<Self> {
        Ok(self)
    }
}

#[test]
fn few_sums_exist_at_a_time() {
    let alive = Mutex::new((0, 0));
    let counted = || Counted(&alive, false);
    Workers::new(1).unwrap().reduce(Cut::new(96, 32), 1, |_| Ok(()), counted, &mut ()).unwrap();
    // The piece at hand, and one on each level below the root.
    assert_eq!(*lock(&alive), (1, 6));
}

#[test]
fn the_first_error_and_an_observer_end_it() {
    struct Until(Vec<usize>);
    impl Observer for Until {
        fn on_step(&mut self, step: &Step) -> ControlFlow<()> {
            self.0.push(step.done);
            if step.done == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    for threads in [1, 2] {
        let workers = Workers::new(threads).unwrap();
        let work = |index: usize| if index == 3 { Err(Error::Threads { reason: "3".into() }) } else { Ok(index) };
        let mut committed = Vec::new();
        let commit = |index, _| {
            committed.push(index);
            Ok(())
        };
        let error = workers.in_order(100, 2, work, commit, &mut ()).unwrap_err();
        assert!(matches!(error, Error::Threads { .. }));
        assert_eq!(committed, [0, 1, 2][..committed.len().min(3)]);
        let mut until = Until(Vec::new());
        let error = workers.map(100, 2, |_| Ok(()), &mut until).unwrap_err();
        assert!(matches!(error, Error::Interrupted));
        assert!(until.0.starts_with(&[1, 2, 3, 4]) && until.0.len() <= 3 + threads);
        let refuse = |index: usize| if index == 6 { Err(Error::Interrupted) } else { Ok(index) };
        let error = workers.reduce(Cut::new(9, 3), 2, refuse, || Words(String::new()), &mut ()).map(drop).unwrap_err();
        assert!(matches!(error, Error::Interrupted));
    }
}

#[test]
#[should_panic(expected = "fault")]
fn a_panic_is_passed_on_when_the_others_are_done() {
    let work = |index: usize| if index == 3 { panic!("fault") } else { Ok(index) };
    let _ = Workers::new(3).unwrap().map(100, 3, work, &mut ());
}

#[test]
fn items_beside_others_stay_on_their_thread_and_a_single_one_shares() {
    let workers = Workers::new(2).unwrap();
    assert!(!may_share());
    assert_eq!(workers.map(4, 2, |_| Ok(may_share()), &mut ()).unwrap(), [false; 4]);
    assert_eq!(workers.map(2, 1, |_| Ok(may_share()), &mut ()).unwrap(), [true; 2]);
    let nested = |_| workers.map(2, 2, |_| Ok((may_share(), rayon::current_thread_index())), &mut ());
    for pair in workers.map(8, 2, nested, &mut ()).unwrap() {
        assert!(pair[0] == pair[1] && !pair[0].0);
    }
    let one = Workers::new(1).unwrap();
    assert_eq!(one.map(1, 1, |_| Ok(may_share()), &mut ()).unwrap(), [false]);
}
