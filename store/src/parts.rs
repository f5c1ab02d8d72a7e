//! What each committer has, wherever it keeps things: its queue, the way of its answers, what is known of it.

use crate::queue::Queue;
use crate::warnings::Warnings;
use parking_lot::Mutex;
use pulsegate_sessions::{Figures, Reply, Unjudged};
use std::sync::Arc;

/// Takes the replies of a batch.
pub(crate) type Deliver = dyn Fn(Vec<Reply>) + Send + Sync;

/// The parts of a committer that do not depend on where it keeps things.
pub(crate) struct Parts {
    pub(crate) queue: Arc<Queue>,
    /// What it holds, for whoever asks.
    pub(crate) figures: Arc<Mutex<Figures>>,
    pub(crate) deliver: Arc<Deliver>,
    pub(crate) unjudged: Unjudged,
    pub(crate) warnings: Warnings,
}
