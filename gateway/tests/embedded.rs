//! What an embedding program's descriptors and signals have to fear of shards with tables of their own: nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Running, blocked_signals, signal_bit};

const HUP: u64 = signal_bit(1);
const TERM: u64 = signal_bit(15);
const CHLD: u64 = signal_bit(17);

/// The descriptors of this process that are pollers, wakers and timers.
fn inner_descriptors() -> usize {
    let folder = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = folder.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let kinds = ["anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[timerfd]"];
    links.filter(|link| kinds.contains(&&*link.to_string_lossy())).count()
}

#[test]
fn an_embedded_gateway_leaves_no_descriptor_behind_and_its_shards_take_no_signals() {
    let before = inner_descriptors();
    for _ in 0..3 {
        let gateway = Running::start(|_| ());
        let (_client, _) = gateway.connect_known();
        let shards: Vec<_> = blocked_signals(std::process::id())
            .into_iter()
            .filter(|(name, _)| name.starts_with("shard-"))
            .collect();
        assert!(!shards.is_empty());
        for (name, mask) in shards {
            assert_eq!(mask & (TERM | HUP | CHLD), TERM | HUP | CHLD, "{name} takes signals");
        }
        gateway.stop().unwrap();
    }
    assert_eq!(inner_descriptors(), before, "pollers or wakers stay open");
}
