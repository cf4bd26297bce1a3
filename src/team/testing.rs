//! Teams of threads, for tests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::Team;
use crate::Result;

/// Ranks in one process.
#[derive(Debug)]
pub(crate) struct Crew {
    size: usize,
    /// From and to whom, in the order in which they were sent.
    messages: Mutex<VecDeque<(usize, usize, Vec<u8>)>>,
    sent: Condvar,
    asked: AtomicBool,
    stopped: AtomicBool,
}

#[derive(Debug)]
struct Member {
    crew: Arc<Crew>,
    rank: usize,
}

impl Crew {
    /// What each rank of a team does; the results by rank.
    pub(crate) fn each<R: Send>(size: usize, work: impl Fn(&'static dyn Team) -> R + Sync) -> Vec<R> {
        let (messages, sent) = (Mutex::default(), Condvar::new());
        let (asked, stopped) = (AtomicBool::new(false), AtomicBool::new(false));
        let crew = Arc::new(Self { size, messages, sent, asked, stopped });
        let results = std::thread::scope(|threads| {
            let work = &work;
            let begun: Vec<_> = (0..size)
                .map(|rank| {
                    let member: &'static Member = Box::leak(Box::new(Member { crew: crew.clone(), rank }));
                    threads.spawn(move || work(member))
                })
                .collect();
            begun.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(crew.messages.lock().unwrap().is_empty(), "nobody took a message");
        results
    }
}

impl Team for Member {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.crew.size
    }

    fn send(&self, to: usize, message: Vec<u8>) -> Result<Vec<u8>> {
        self.crew.messages.lock().unwrap().push_back((self.rank, to, message.clone()));
        self.crew.sent.notify_all();
        Ok(message)
    }

    fn receive(&self, from: usize, _: Vec<u8>) -> Result<Vec<u8>> {
        let mut messages = self.crew.messages.lock().unwrap();
        loop {
            match messages.iter().position(|(by, to, _)| (*by, *to) == (from, self.rank)) {
                Some(place) => return Ok(messages.remove(place).unwrap().2),
                None => messages = self.crew.sent.wait(messages).unwrap(),
            }
        }
    }

    fn talked(&self) -> Duration {
        Duration::ZERO
    }

    fn is_asked_to_stop(&self) -> bool {
        self.crew.asked.load(Ordering::SeqCst)
    }

    fn stop(&self) {
        self.crew.stopped.store(true, Ordering::SeqCst);
    }

    fn give_up(&self, _: &str, _: Option<&str>) {}
}
