//! Writes a run to its folder, on a thread of its own, while the run goes on.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wan_media::Fragment;
use wan_run_store::TensorView;

use super::parts::{of_frame, of_records, records_of};
use super::{CheckpointEvery, CheckpointText, EVALUATIONS, KeptLatents, KeptRun};
use crate::denoise::tally::EvaluationRecord;
use crate::error::{Error, Result};
use crate::run::handing_out::HandedOut;
use crate::run::state::RunState;
use crate::tensor_bytes::{name_of, with_bytes};

/// How much may wait for the disk before the run waits.
const WAITING_MAX: usize = 16;

/// A run that is being written to the disk.
pub struct Keeper {
    every: CheckpointEvery,
    last: Instant,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<KeptRun>>,
    shared: Arc<Mutex<Shared>>,
    waited: Duration,
}

/// What a finished run has left on the disk, and what it took to write it.
pub struct Ended {
    /// The folder.
    pub kept: KeptRun,
    /// Seconds that the run has waited for the disk.
    pub waited_seconds: f64,
    /// Seconds of a processor that were spent on writing, where the system tells.
    pub writer_seconds: Option<f64>,
    /// Bytes that were written.
    pub bytes: u64,
    /// Flushes to the disk.
    pub fsyncs: u64,
    /// Checkpoints.
    pub checkpoints: u64,
}

enum Job {
    Part(Part),
    /// Whoever waits is told what came of it.
    Checkpoint(Box<RunState>, Option<SyncSender<Result<()>>>),
}

/// What is appended.
enum Part {
    HandedOut(HandedOut),
    Video(Fragment),
}

#[derive(Default)]
struct Shared {
    /// Why what was handed out could not be written.
    failed: Option<Error>,
    notices: Vec<String>,
    checkpoints: u64,
    writer_seconds: Option<f64>,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeptRun {
    /// From now on a thread writes to the folder. `conditions` is the hash of what the encoders said
    /// ([`Conditions::hash`](crate::Conditions::hash)); `changes` is what has changed since the run
    /// was begun, a line each.
    ///
    /// # Errors
    /// If there is no room for another thread.
    pub fn keep(
        self,
        every: CheckpointEvery,
        conditions: String,
        changes: Vec<String>,
    ) -> Result<Keeper> {
        let (jobs, waiting) = sync_channel(WAITING_MAX);
        let shared = Arc::<Mutex<Shared>>::default();
        let (path, writer) = (self.path().to_path_buf(), shared.clone());
        let thread = std::thread::Builder::new().name("wan-checkpoints".into());
        let thread = thread
            .spawn(move || {
                let (kept, pending) = (self, VecDeque::new());
                Writer { kept, conditions, changes, shared: writer, pending }.work(&waiting)
            })
            .map_err(Error::io(&path))?;
        Ok(Keeper {
            every,
            last: Instant::now(),
            jobs: Some(jobs),
            thread: Some(thread),
            shared,
            waited: Duration::ZERO,
        })
    }
}

impl Keeper {
    /// Appends what a run has handed out.
    ///
    /// # Errors
    /// If something before it could not be written.
    pub fn hand_out(&mut self, handed_out: HandedOut) -> Result<()> {
        if handed_out.frames.is_empty() && handed_out.records.is_empty() {
            return Ok(());
        }
        self.send(Job::Part(Part::HandedOut(handed_out)))
    }

    /// Appends to the video.
    ///
    /// # Errors
    /// As [`hand_out`](Self::hand_out).
    pub fn video(&mut self, fragment: Fragment) -> Result<()> {
        self.send(Job::Part(Part::Video(fragment)))
    }

    /// Whether it is time for a checkpoint.
    pub fn is_due(&self) -> bool {
        match self.every {
            CheckpointEvery::Never => false,
            CheckpointEvery::Round => true,
            CheckpointEvery::Time(time) => self.last.elapsed() >= time,
        }
    }

    /// Writes a checkpoint beside the run; where it is for each round, waits for it. `state` is of
    /// after all that was handed out.
    ///
    /// # Errors
    /// As [`hand_out`](Self::hand_out). A checkpoint that cannot be written is a notice: the one before
    /// it is still there.
    pub fn checkpoint(&mut self, state: RunState) -> Result<()> {
        self.last = Instant::now();
        if self.every == CheckpointEvery::Round {
            if let Err(error) = self.wait_for_checkpoint(state)? {
                lock(&self.shared).notices.push(not_written(&error));
            }
            return Ok(());
        }
        self.send(Job::Checkpoint(Box::new(state), None))
    }

    /// Writes a checkpoint, and waits until it is on the disk.
    ///
    /// # Errors
    /// As [`hand_out`](Self::hand_out), and if it cannot be written.
    pub fn checkpoint_now(&mut self, state: RunState) -> Result<()> {
        self.wait_for_checkpoint(state)?
    }

    /// What came of a checkpoint; an error of its own if the thread has ended.
    fn wait_for_checkpoint(&mut self, state: RunState) -> Result<Result<()>> {
        let (done, wait) = sync_channel(1);
        self.send(Job::Checkpoint(Box::new(state), Some(done)))?;
        let started = Instant::now();
        let written = wait.recv();
        self.waited += started.elapsed();
        self.check()?;
        written.map_err(|_| ended())
    }

    /// What whoever started the run should know, once: checkpoints that could not be written.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared).notices)
    }

    fn check(&self) -> Result<()> {
        lock(&self.shared).failed.take().map_or(Ok(()), Err)
    }

    fn send(&mut self, job: Job) -> Result<()> {
        self.check()?;
        let Some(jobs) = &self.jobs else { return Err(ended()) };
        let is_sent = match jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(job)) => {
                let started = Instant::now();
                let sent = jobs.send(job);
                self.waited += started.elapsed();
                sent.is_ok()
            }
            Err(TrySendError::Disconnected(_)) => false,
        };
        if is_sent {
            return Ok(());
        }
        // The thread has said why before it ended.
        self.check()?;
        Err(ended())
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// If something could not be.
    pub fn end(mut self) -> Result<Ended> {
        let started = Instant::now();
        self.jobs = None;
        let kept = self.thread.take().and_then(|thread| thread.join().ok()).ok_or_else(ended)?;
        self.check()?;
        let (written, shared) = (kept.folder.written(), lock(&self.shared));
        Ok(Ended {
            kept,
            waited_seconds: (self.waited + started.elapsed()).as_secs_f64(),
            writer_seconds: shared.writer_seconds,
            bytes: written.bytes,
            fsyncs: written.fsyncs,
            checkpoints: shared.checkpoints,
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn not_written(error: &Error) -> String {
    format!("{error}; this checkpoint is not written, and the run goes on")
}

fn ended() -> Error {
    Error::invalid("the thread that writes the run to the disk has ended")
}

/// The thread's side.
struct Writer {
    kept: KeptRun,
    conditions: String,
    changes: Vec<String>,
    shared: Arc<Mutex<Shared>>,
    /// What could not be written yet, in order: a disk may have room again.
    pending: VecDeque<Part>,
}

/// How much may be pending.
const PENDING_MAX: usize = 64;

impl Writer {
    fn work(mut self, jobs: &Receiver<Job>) -> KeptRun {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Part(part) => {
                    self.pending.push_back(part);
                    let written = self.catch_up();
                    let is_first = self.pending.len() == 1;
                    if let Err(error) = written {
                        if self.pending.len() > PENDING_MAX || !matches!(error, Error::Kept(_)) {
                            // What comes behind it is of no use.
                            return self.end(Err(error));
                        }
                        if is_first {
                            self.note(&error, "it is tried again");
                        }
                    }
                }
                Job::Checkpoint(state, waits) => {
                    let written = self.try_checkpoint(&state);
                    drop(state);
                    match (waits, written) {
                        // Whoever waited may be gone.
                        (Some(waits), written) => drop(waits.send(written)),
                        (None, Err(error)) => {
                            lock(&self.shared).notices.push(not_written(&error));
                        }
                        (None, Ok(())) => {}
                    }
                }
            }
        }
        let ended = self.catch_up();
        self.end(ended)
    }

    fn end(self, ended: Result<()>) -> KeptRun {
        let mut shared = lock(&self.shared);
        (shared.failed, shared.writer_seconds) = (ended.err(), thread_seconds());
        drop(shared);
        self.kept
    }

    fn note(&self, error: &Error, then: &str) {
        lock(&self.shared).notices.push(format!("{error}; {then}"));
    }

    /// Writes what is pending.
    fn catch_up(&mut self) -> Result<()> {
        while let Some(part) = self.pending.pop_front() {
            let written = match &part {
                Part::HandedOut(handed_out) => self.append(handed_out),
                Part::Video(fragment) => self.show(fragment),
            };
            if let Err(error) = written {
                self.pending.push_front(part);
                return Err(error);
            }
        }
        Ok(())
    }

    fn show(&mut self, fragment: &Fragment) -> Result<()> {
        let ((at, hidden), (name_at, name)) = (fragment.hidden(), fragment.name());
        let within = usize::try_from(name_at - at).unwrap_or(usize::MAX);
        Ok(self.kept.video.append_then_name(hidden, within, name)?)
    }

    fn append(&mut self, handed_out: &HandedOut) -> Result<()> {
        for (place, (latents, sigma)) in handed_out.frames.iter().enumerate() {
            let number = handed_out.first + place;
            // Written before something behind it failed.
            if number < self.kept.frames {
                continue;
            }
            if number > self.kept.frames {
                return Err(Error::invalid(format!(
                    "latent frame {number} is handed out after {} frames",
                    self.kept.frames
                )));
            }
            let [head, numbers] = of_frame(number, *sigma, latents)?;
            self.kept.latents.append_slices(&[&head, &numbers])?;
            self.kept.frames += 1;
        }
        if !handed_out.records.is_empty() {
            self.kept.evaluations.append(&of_records(&handed_out.records)?)?;
        }
        Ok(())
    }

    fn try_checkpoint(&mut self, state: &RunState) -> Result<()> {
        let written = self.catch_up().and_then(|()| self.checkpoint(state)).or_else(|error| {
            let is_full = matches!(&error, Error::Kept(kept) if kept.is_no_room());
            // The room that was taken for a checkpoint at the beginning.
            if !is_full || !self.kept.give_room_back() {
                return Err(error);
            }
            self.catch_up()?;
            self.checkpoint(state)
        });
        lock(&self.shared).checkpoints += u64::from(written.is_ok());
        written
    }

    fn checkpoint(&mut self, state: &RunState) -> Result<()> {
        let (state_text, tensors) = state.to_text()?;
        let kept = &mut self.kept;
        let text = CheckpointText {
            rounds: [state.rounds_done(), state.rounds()],
            evaluations_done: state.evaluations_done(),
            conditions: self.conditions.clone(),
            changes: self.changes.clone(),
            frames: kept.frames,
            latents: kept.latents.mark()?,
            evaluations: kept.evaluations.mark()?,
            video: kept.video.mark()?,
            state: state_text,
        };
        let text = serde_json::to_string(&text).map_err(|e| Error::invalid(e.to_string()))?;
        let names: Vec<String> = (0..tensors.len()).map(|number| number.to_string()).collect();
        let formats = tensors.iter().map(|tensor| name_of(tensor.dtype()));
        let formats = formats.collect::<Result<Vec<_>>>()?;
        with_bytes(&tensors, |bytes| {
            let views = tensors.iter().zip(&names).zip(formats).zip(bytes);
            let views: Vec<TensorView<'_>> = views
                .map(|(((tensor, name), dtype), bytes)| TensorView {
                    name,
                    dtype,
                    shape: tensor.dims(),
                    bytes,
                })
                .collect();
            kept.folder.write_checkpoint(state.rounds_done() as u64, &text, &views)
        })??;
        Ok(())
    }
}

impl Ended {
    /// The records of all evaluations, in order.
    ///
    /// # Errors
    /// If they cannot be read, or are damaged.
    pub fn records(&self) -> Result<Vec<EvaluationRecord>> {
        let mark = self.kept.evaluations.place();
        let mut records = Vec::new();
        for part in self.kept.folder.read_journal(EVALUATIONS, &mark)? {
            records.extend(records_of(&part?)?);
        }
        Ok(records)
    }

    /// All latent frames.
    pub fn latents(&self) -> KeptLatents {
        self.kept.latents()
    }
}

/// Seconds of a processor that this thread has used.
#[cfg(target_os = "linux")]
fn thread_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// As above, where nobody tells.
#[cfg(not(target_os = "linux"))]
fn thread_seconds() -> Option<f64> {
    None
}
