//! The figures of messages with receipts, and what spoils them.

use super::{Figures, Unit, add_cpu, add_dropped, micros};
use crate::round::Round;
use pulsegate::text::counted;

/// Of the messages that the pace asks for.
const SETTLED_MIN: f64 = 0.98;

/// What was settled, how fast, and at what cost.
pub(super) fn add(figures: &mut Figures, round: &Round, size: usize) {
    let measured = &round.measured;
    let rate = per_second(round);
    figures.add("messages_per_second", "messages with their receipts", Unit::PerSecond, Some(rate));
    figures.add("bytes_per_second", "bytes of them", Unit::BytesPerSecond, Some(rate * size as f64));
    for (key, label, share) in [
        ("latency_p50_us", "send to receipt p50", 0.5),
        ("latency_p90_us", "send to receipt p90", 0.9),
        ("latency_p99_us", "send to receipt p99", 0.99),
        ("latency_p999_us", "send to receipt p99.9", 0.999),
        ("latency_max_us", "send to receipt max", 1.0),
    ] {
        figures.add(key, label, Unit::Micros, measured.spans.at(share).map(|nanos| nanos as f64 / 1e3));
    }
    let count = measured.spans.count();
    add_cpu(figures, round, "cpu_per_message_us", "server CPU per message", count);
    let own = (count > 0).then(|| micros(round.own_cpu) / count as f64);
    figures.add("generator_per_message_us", "generator CPU per message", Unit::Micros, own);
    figures.count("refused", "not accepted", measured.refused);
    figures.count("unknown", "unknown: the session ended", measured.unknown);
    figures.count("never", "without a receipt until the end", measured.never);
    add_dropped(figures, round);
}

/// While messages were sent, not while the last receipts were waited for.
fn per_second(round: &Round) -> f64 {
    round.measured.settled as f64 / round.measured.sending.as_secs_f64().max(1e-9)
}

pub(super) fn say(
    round: &Round,
    size: usize,
    window: usize,
    rate: Option<u64>,
    say: &mut impl FnMut(bool, String),
) {
    let measured = &round.measured;
    if measured.refused > 0 {
        say(true, format!("not accepted: {}", counted(measured.refused, "message")));
    }
    if measured.never > 0 {
        say(
            true,
            format!(
                "{} had no receipt when the time was over, and 5 s later",
                counted(measured.never, "message")
            ),
        );
    }
    if let Some(told) = round.told() {
        let allowed = told.messages(size);
        if allowed == 0 {
            let limit = told.message_bytes_max;
            say(true, format!("nothing was sent: the gateway takes at most {limit} bytes; lower --size"));
        } else if window < usize::MAX && allowed < window as u64 {
            say(
                false,
                format!("the gateway's window allows {allowed} messages in flight, so it was not {window}"),
            );
        }
    }
    if measured.spans.count() == 0 && measured.never == 0 {
        say(true, "no receipt came".to_owned());
    }
    let Some(rate) = rate else { return };
    let share = per_second(round) / rate as f64;
    if share < SETTLED_MIN {
        say(
            false,
            format!(
                "only {:.0} % of the messages had a receipt in time, and {} that were due could not even be sent: the times \
                 leave those out",
                share * 100.0,
                measured.unsent
            ),
        );
    }
}
