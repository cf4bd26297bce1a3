//! The ranks of an MPI job. MPI is called by the main thread alone (`MPI_THREAD_FUNNELED`), which carries messages while
//! the command runs on another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ::mpi::Threading;
use ::mpi::point_to_point::{Destination, MatchedReceiveVec, Source};
use ::mpi::request::scope;
use ::mpi::topology::{Communicator, SimpleCommunicator};
use ::mpi::traits::Equivalence;

use super::error::Failure;
use super::{TEAM, Team, TeamError, Wire, started_together};
use crate::cli::FAILED;
use crate::{Error, Result};

/// Tags of messages: between any ranks, and to rank 0 from one that gives up.
const WORK: i32 = 1;
const GIVEN_UP: i32 = 2;

/// How long a rank that gives up waits for rank 0 to end them all.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long ranks that were stopped wait for rank 0 to write what is finished.
const WRITING: Duration = Duration::from_secs(600);

/// How often rank 0 hears whether another has given up, while it computes.
const LISTENING: Duration = Duration::from_millis(100);

/// Set by the starters of ranks of OpenMPI, MPICH and their kin, and Slurm.
const STARTED: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK"];

/// Runs `command`, which stops when the flag that it is given is set, and gives its exit code. As one of several ranks it joins
/// their team before; where a rank fails, rank 0 says so by `complain`, and all end.
pub fn lead(
    asked: Arc<AtomicBool>,
    complain: impl Fn(&Error),
    command: impl FnOnce(Arc<AtomicBool>) -> u8 + Send,
) -> u8 {
    if !STARTED.iter().any(|name| std::env::var_os(name).is_some()) {
        return command(asked);
    }
    let refused = |reason: &str| {
        complain(&TeamError::Start { reason: reason.into() }.into());
        FAILED
    };
    let Some((universe, threading)) = ::mpi::initialize_with_threading(Threading::Funneled) else {
        return refused("it gives no reason");
    };
    let world = universe.world();
    stop_at_usr1(&asked);
    if world.size() == 1 {
        return command(asked);
    }
    if threading < Threading::Funneled {
        return refused("it does not allow threads beside its own");
    }
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let (orders, taken) = channel();
    let (results, answers) = channel();
    let stopped = Arc::new(AtomicBool::new(false));
    let line = Mutex::new(Line { orders: orders.clone(), answers });
    let (talked, last_words) = (AtomicU64::new(0), Mutex::new(None));
    let ranks = Ranks { rank, size, line, talked, asked, stopped: stopped.clone(), last_words };
    let ranks: &'static Ranks = Box::leak(Box::new(ranks));
    let _ = TEAM.set(Box::new(ranks));
    std::thread::scope(|threads| {
        let carry_out = move || {
            let code = command(stopped);
            let _ = orders.send(Order::End(code));
        };
        // As much stack as the main thread has, which carries out commands without MPI.
        if let Err(error) = std::thread::Builder::new().stack_size(8 << 20).spawn_scoped(threads, carry_out) {
            return refused(&error.to_string());
        }
        let line = MainThread { world: &world, leads: rank == 0, complain: &complain };
        let code = line.carry(&taken, &results);
        if code != 0 {
            ranks.await_end(&complain);
            world.abort(i32::from(code));
        }
        code
    })
}

/// Sets the flag at `SIGUSR1`, the one signal that mpirun of OpenMPI and of MPICH and srun all pass on to the ranks without
/// ending them soon after. MPICH sets a handler while it starts, for its fault tolerance, which is off.
fn stop_at_usr1(asked: &Arc<AtomicBool>) {
    static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    extern "C" fn ask(_: libc::c_int) {
        if let Some(asked) = ASKED.get() {
            asked.store(true, Ordering::SeqCst);
        }
    }
    if ASKED.set(asked.clone()).is_ok() {
        // SAFETY: the handler only reads a cell that is set, and stores a flag.
        unsafe { libc::signal(libc::SIGUSR1, ask as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

/// Whether ranks can hear of each other.
pub(super) const BUILT: bool = true;

/// How many ranks were started that MPI does not know of: by another MPI, or by srun without one.
pub(super) fn unheard() -> Option<usize> {
    if TEAM.get().is_some() { None } else { started_together() }
}

/// The plugin of Slurm by which this MPI starts its ranks, where its own default may be another.
pub(super) fn slurm_plugin() -> Option<&'static str> {
    let library = ::mpi::environment::library_version().unwrap_or_default();
    [("Open MPI", "pmix"), ("MPICH", "pmi2")]
        .into_iter()
        .find(|(name, _)| library.starts_with(name))
        .map(|(_, plugin)| plugin)
}

/// What the command's thread asks the main thread for.
enum Order {
    Send { to: usize, tag: i32, message: Vec<u8> },
    Receive { from: usize, into: Vec<u8> },
    End(u8),
}

/// The thread that calls MPI.
struct MainThread<'a> {
    world: &'a SimpleCommunicator,
    leads: bool,
    complain: &'a dyn Fn(&Error),
}

impl MainThread<'_> {
    /// Does what is ordered until the command has ended; its exit code.
    fn carry(&self, orders: &Receiver<Order>, answers: &Sender<Vec<u8>>) -> u8 {
        loop {
            let answer = match orders.recv_timeout(LISTENING) {
                Ok(Order::End(code)) => return code,
                Ok(Order::Send { to, tag, message }) => self.send(to, tag, message),
                Ok(Order::Receive { from, into }) => self.receive(from, into),
                Err(RecvTimeoutError::Timeout) => {
                    self.listen();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return FAILED,
            };
            let _ = answers.send(answer);
        }
    }

    fn send(&self, to: usize, tag: i32, message: Vec<u8>) -> Vec<u8> {
        scope(|scope| {
            let mut waiting = Waiting::default();
            let mut request = self.world.process_at_rank(to as i32).immediate_send_with_tag(scope, &message[..], tag);
            while let Err(unfinished) = request.test() {
                request = unfinished;
                self.listen();
                waiting.pause();
            }
        });
        message
    }

    fn receive(&self, from: usize, mut into: Vec<u8>) -> Vec<u8> {
        let mut waiting = Waiting::default();
        let from = self.world.process_at_rank(from as i32);
        loop {
            match from.immediate_matched_probe_with_tag(WORK) {
                Some((message, status)) => {
                    into.resize(status.count(u8::equivalent_datatype()) as usize, 0);
                    message.matched_receive_into(&mut into[..]);
                    return into;
                }
                None => self.listen(),
            }
            waiting.pause();
        }
    }

    /// Ends all ranks where one has given up.
    fn listen(&self) {
        if !self.leads {
            return;
        }
        let Some(message) = self.world.any_process().immediate_matched_probe_with_tag(GIVEN_UP) else { return };
        let (words, _) = message.matched_receive_vec::<u8>();
        let lost = |error: std::io::Error| TeamError::Message { reason: error.to_string() }.into();
        (self.complain)(&Failure::get(&mut words.as_slice()).map_or_else(lost, Failure::error));
        self.world.abort(i32::from(FAILED));
    }
}

/// Pauses that grow: a message that is near comes at once, a core is not kept busy for one that is far.
#[derive(Default)]
struct Waiting {
    pauses: u32,
}

impl Waiting {
    fn pause(&mut self) {
        self.pauses += 1;
        match self.pauses {
            ..=200 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}

/// This process among the ranks.
#[derive(Debug)]
struct Ranks {
    rank: usize,
    size: usize,
    line: Mutex<Line>,
    /// Nanoseconds between orders and answers.
    talked: AtomicU64,
    /// By the user.
    asked: Arc<AtomicBool>,
    /// By agreement.
    stopped: Arc<AtomicBool>,
    /// Of a rank that gives up, for the case that rank 0 does not hear them.
    last_words: Mutex<Option<Failure>>,
}

/// To the main thread and back.
#[derive(Debug)]
struct Line {
    orders: Sender<Order>,
    answers: Receiver<Vec<u8>>,
}

impl Ranks {
    fn order(&self, order: Order) -> Result<Vec<u8>> {
        let (line, since) = (self.line.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let gone = || TeamError::Message { reason: "the main thread has ended".into() };
        line.orders.send(order).map_err(|_| gone())?;
        let answer = line.answers.recv().map_err(|_| gone().into());
        let nanoseconds = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.talked.fetch_add(nanoseconds, Ordering::Relaxed);
        answer
    }

    /// Waits until rank 0 ends them all, which writes what is finished where the user stops it. A rank that gives up says why
    /// itself where rank 0 does not hear it.
    fn await_end(&self, complain: &dyn Fn(&Error)) {
        if self.rank == 0 {
            return;
        }
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::thread::sleep(if words.is_some() { PATIENCE } else { WRITING });
        if let Some(failure) = words {
            complain(&failure.error());
        }
    }
}

impl Team for &'static Ranks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn send(&self, to: usize, message: Vec<u8>) -> Result<Vec<u8>> {
        self.order(Order::Send { to, tag: WORK, message })
    }

    fn receive(&self, from: usize, into: Vec<u8>) -> Result<Vec<u8>> {
        self.order(Order::Receive { from, into })
    }

    fn talked(&self) -> Duration {
        Duration::from_nanos(self.talked.load(Ordering::Relaxed))
    }

    fn is_asked_to_stop(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn give_up(&self, error: &str, hint: Option<&str>) {
        if self.rank == 0 {
            return;
        }
        let (failure, mut message) = (Failure::in_words(self.rank, error, hint), Vec::new());
        if failure.put(&mut message).is_ok() {
            let _ = self.order(Order::Send { to: 0, tag: GIVEN_UP, message });
        }
        *self.last_words.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}
