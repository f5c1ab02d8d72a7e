//! Does one of the loads so and so often: `pulsegate-micro LOAD TIMES`. For whoever counts instructions from outside,
//! as `bench/counts/run` does.

use pulsegate_core::policy::Framing;
use pulsegate_micro::{Attached, Beating, Coming, Committing, Deadlines};
use std::hint::black_box;
use std::process::ExitCode;

const LINE: &[u8] = b"beat 0123456789 0123456789 0123\n";
const KEYS: u32 = 100_000;
/// How many messages are committed together.
const BATCH: u32 = 64;

fn step(load: &str) -> Option<Box<dyn FnMut()>> {
    Some(match load {
        "chunk" => beating(Framing::Chunks),
        "line" => beating(Framing::Lines),
        "connection" => {
            let mut coming = Coming::default();
            Box::new(move || _ = black_box(coming.come_and_go(black_box(LINE))))
        }
        "beat" => {
            let mut attached = Attached::new();
            Box::new(move || attached.beat())
        }
        "message" => {
            let mut attached = Attached::new();
            Box::new(move || _ = black_box(attached.take(black_box(LINE))))
        }
        "wheel" => {
            let mut deadlines = Deadlines::new(KEYS);
            Box::new(move || _ = black_box(deadlines.come_up_and_file()))
        }
        "committed" => committing(BATCH),
        "committed-alone" => committing(1),
        _ => return None,
    })
}

fn beating(framing: Framing) -> Box<dyn FnMut()> {
    let mut beating = Beating::new(framing);
    Box::new(move || _ = black_box(beating.receive(black_box(LINE))))
}

fn committing(sessions: u32) -> Box<dyn FnMut()> {
    let mut committing = Committing::new(sessions);
    Box::new(move || committing.commit(black_box(LINE)))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let load = words.first().and_then(|load| step(load));
    let times = words.get(1).and_then(|times| times.parse::<u64>().ok());
    let (Some(mut step), Some(times)) = (load, times) else {
        eprintln!(
            "usage: pulsegate-micro chunk|line|connection|beat|message|wheel|committed|committed-alone TIMES"
        );
        return ExitCode::FAILURE;
    };
    (0..times).for_each(|_| step());
    ExitCode::SUCCESS
}
