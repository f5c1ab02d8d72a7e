//! A watch over the end of `connect`: where standard output takes nothing, or a disk is slow, the end after a signal
//! may take for ever, and it ends the program all the same. Must not know: what the client does until then.

use super::play::EXIT_INTERRUPTED;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long after a signal the program ends by itself at the latest, unless it is stuck: longer than its BYE takes.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to say so.
const LAST_LINE: Duration = Duration::from_millis(100);

/// Starts a thread that ends the program some time after it was told to end, if it is still there. Only signals that
/// the client takes too may be named, since their default action is gone.
///
/// # Errors
/// When there is no thread, or signals can't be taken.
pub(super) fn watch(signals: &[SignalKind]) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let taken = {
        let _within = runtime.enter();
        signals.iter().map(|kind| signal(*kind)).collect::<Result<Vec<_>, _>>()?
    };
    let wait = move || {
        runtime.block_on(async {
            let mut signals = tokio::task::JoinSet::new();
            for mut signal in taken {
                signals.spawn(async move { signal.recv().await });
            }
            signals.join_next().await;
            tokio::time::sleep(PATIENCE).await;
        });
        say();
        std::process::exit(EXIT_INTERRUPTED.into());
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(wait).map(drop)
}

/// Says that it ends; what holds the client up is not known here. Standard error may be the same pipe: then nobody
/// reads this either, and it isn't waited for.
fn say() {
    let (said, is_said) = mpsc::channel();
    let write = move || {
        let _ = writeln!(
            std::io::stderr(),
            "pulsegate: interrupted, but still running {} s later: perhaps standard output takes nothing",
            PATIENCE.as_secs()
        );
        let _ = said.send(());
    };
    if std::thread::Builder::new().spawn(write).is_ok() {
        let _ = is_said.recv_timeout(LAST_LINE);
    }
}
