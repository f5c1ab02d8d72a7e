//! A sink that fails takes its own connections with it, with its reason, and nobody else's.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::recorder::Recorder;
use common::{RECORDER, connect, hear_out, hear_text, is_quiet, listener, one_shard, wait_until};
use pulsegate::{CloseReason, Gateway, Handle, ListenerConfig, Message, RunError, Sink, SinkError};
use std::io::Write;
use std::net::TcpStream;

/// Fails at the message `fail`, in one of two ways.
#[derive(Default)]
struct Fragile {
    panics: bool,
    broken: bool,
}

impl Sink for Fragile {
    fn handle_message(&mut self, _: &Handle, message: &Message<'_>) {
        if message.payload == b"fail" {
            assert!(!self.panics, "as the test wants it");
            self.broken = true;
        }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if self.broken { Err("broken as the test wants it".into()) } else { Ok(()) }
    }
}

struct Setting {
    gateway: Gateway,
    recorder: Recorder,
}

impl Setting {
    fn start(panics: bool) -> Self {
        let sound = listener(|listener| listener.policy.farewell = Some("{reason}".into()));
        let fragile = ListenerConfig { sink: "fragile".to_owned(), ..sound.clone() };
        let recorder = Recorder::default();
        let gateway = Gateway::builder()
            .config(one_shard(vec![sound, fragile]))
            .sink(RECORDER, recorder.clone())
            .sink("fragile", Fragile { panics, broken: false })
            .start()
            .unwrap();
        Self { gateway, recorder }
    }

    fn connect(&self, listener: usize) -> TcpStream {
        connect(self.gateway.addresses()[listener])
    }

    fn ended(&self, reason: CloseReason) -> u64 {
        self.gateway.control().counts().ended(reason)
    }

    /// Makes the sink fail; the one that does it goes on sending, and is ended for it.
    fn fail(&self) {
        let mut client = self.connect(1);
        client.write_all(b"fine\nfail\n").unwrap();
        wait_until("the sink's end", || {
            // It may be over between two writes.
            let _ = client.write_all(b"more\n");
            self.ended(CloseReason::SinkFailed) >= 1
        });
        let (heard, _) = hear_out(&mut client);
        assert_eq!(heard, b"sink failed\n");
    }
}

fn the_others_go_on(panics: bool) -> RunError {
    let setting = Setting::start(panics);
    let mut sound = setting.connect(0);
    setting.fail();
    assert_eq!(hear_text(&mut setting.connect(1)), "sink failed\n");
    sound.write_all(b"and I?\n").unwrap();
    wait_until("the other sink's message", || setting.recorder.message_count(1) == 1);
    let another = setting.connect(0);
    wait_until("the other sink's newcomer", || setting.recorder.lives() == 2);
    assert!(is_quiet(&sound) && is_quiet(&another));
    assert_eq!(setting.ended(CloseReason::SinkFailed), 2);
    setting.gateway.control().stop();
    let failure = setting.gateway.wait().unwrap_err();
    setting.recorder.assert_sound();
    failure
}

#[test]
fn a_flush_that_fails_ends_its_connections_and_no_others() {
    let failure = the_others_go_on(false);
    assert!(matches!(failure, RunError::Sink { name, .. } if name == "fragile"));
}

#[test]
fn a_panic_ends_its_connections_and_no_others() {
    let failure = the_others_go_on(true);
    assert!(matches!(failure, RunError::Panic(name) if name == "fragile"));
}

#[test]
fn idle_connections_of_a_failed_sink_end_with_it() {
    let setting = Setting::start(false);
    let mut idle = setting.connect(1);
    wait_until("it is open", || setting.gateway.control().counts().open() == 1);
    setting.fail();
    assert_eq!(hear_text(&mut idle), "sink failed\n");
}
