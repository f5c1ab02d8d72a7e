//! Signals, without a handler: all threads block them, and one waits for them. So no handler runs on a thread whose
//! descriptor numbers mean something else (`tables.rs` of the library), and no signal ends the program unasked, not
//! even before everything runs. As the first process of a container it doesn't lose any either: the kernel drops
//! signals for that process which are neither blocked nor handled.
//!
//! SIGQUIT is left alone: it ends the program on the spot, with a core dump where these are on. SIGPIPE is ignored from
//! the start.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// They stop the gateway.
const STOP: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];
/// They would end a program that doesn't expect them.
const IGNORED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
];
/// They keep their effect on the thread that takes them: its own faults, job control at a terminal, and ends on the
/// spot.
const LEFT_ALONE: [Signal; 14] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGABRT,
    Signal::SIGQUIT,
    Signal::SIGXCPU,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGCONT,
    Signal::SIGCHLD,
];
/// How many signals may wait to be looked at; the kernel keeps one more of each kind.
const WAITING_MAX: usize = 16;

/// The signals that the program takes.
pub(super) struct Signals {
    taken: mpsc::Receiver<Signal>,
}

impl Signals {
    /// Takes all signals from now on. To be called before the program has another thread.
    pub(super) fn start() -> anyhow::Result<Self> {
        let mut blocked = SigSet::all();
        LEFT_ALONE.into_iter().for_each(|signal| blocked.remove(signal));
        blocked.thread_block().context("can't block signals")?;
        let signals: SigSet = STOP.into_iter().chain(IGNORED).collect();
        let (sender, taken) = mpsc::channel(WAITING_MAX);
        let wait = move || {
            while let Ok(signal) = signals.wait() {
                if sender.blocking_send(signal).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(Self { taken })
    }

    /// The next signal that asks for the end. Of others it is said that they are ignored.
    pub(super) async fn stop(&mut self) -> Signal {
        loop {
            match self.taken.recv().await {
                Some(signal) if STOP.contains(&signal) => return signal,
                Some(Signal::SIGHUP) => {
                    tracing::warn!(
                        "SIGHUP is ignored: settings are read only at the start, so restart to change them"
                    );
                }
                Some(signal) => tracing::warn!("{signal} is ignored: SIGTERM or SIGINT stops the gateway"),
                // The thread that waits never ends.
                None => std::future::pending().await,
            }
        }
    }

    /// Does a part of the start on a thread of its own. `None` if a signal asks for the end meanwhile; then that
    /// thread ends with the program.
    pub(super) fn unless_stopped<T: Send + 'static>(
        &mut self,
        runtime: &Runtime,
        part: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<Option<T>> {
        let (sender, outcome) = oneshot::channel();
        std::thread::Builder::new().name("start".to_owned()).spawn(move || {
            // Nobody waits for it any more if the program is to end.
            let _ = sender.send(part());
        })?;
        runtime.block_on(async {
            tokio::select! {
                outcome = outcome => Ok(Some(outcome.context("the thread that starts has died")?)),
                _ = self.stop() => Ok(None),
            }
        })
    }
}
