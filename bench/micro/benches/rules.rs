//! Times the loads of this crate: wheel, connection, lines, frames and exchange. `cargo bench -p pulsegate-micro`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pulsegate_core::policy::Framing;
use pulsegate_micro::{Beating, Deadlines, Exchange, cut_frames, cut_lines, encode_message};
use std::hint::black_box;

const LINE: &[u8] = b"beat 0123456789 0123456789 0123\n";
/// Lines or frames in one read.
const MANY: usize = 100;

fn wheel(criterion: &mut Criterion) {
    for keys in [1_000, 100_000, 1_000_000] {
        let mut deadlines = Deadlines::new(keys);
        criterion.bench_function(&format!("wheel/comes up, is filed again/{keys} keys"), |bencher| {
            bencher.iter(|| black_box(deadlines.come_up_and_file()));
        });
        criterion.bench_function(&format!("wheel/moves/{keys} keys"), |bencher| {
            bencher.iter(|| deadlines.refile());
        });
    }
}

fn connection(criterion: &mut Criterion) {
    for (name, framing) in [("chunk", Framing::Chunks), ("line", Framing::Lines)] {
        let mut beating = Beating::new(framing);
        criterion.bench_function(&format!("connection/heartbeat as a {name}"), |bencher| {
            bencher.iter(|| black_box(beating.receive(black_box(LINE))));
        });
    }
}

fn cutting(criterion: &mut Criterion) {
    let lines = LINE.repeat(MANY);
    let mut frames = Vec::new();
    (1..=MANY as u64).for_each(|number| encode_message(number, LINE, &mut frames));
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(MANY as u64));
    group.bench_function("lines/cut 100", |bencher| bencher.iter(|| cut_lines(black_box(&lines))));
    group.bench_function("frames/cut 100", |bencher| bencher.iter(|| cut_frames(black_box(&frames))));
    group.bench_function("frames/encode 100", |bencher| {
        let fill = |mut out: Vec<u8>| {
            (1..=MANY as u64).for_each(|number| encode_message(number, black_box(LINE), &mut out));
            out
        };
        bencher.iter_batched(|| Vec::with_capacity(8 * 1024), fill, BatchSize::SmallInput);
    });
    group.finish();
}

fn exchange(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    for window in [1, 16, 256] {
        let mut exchange = Exchange::new(window);
        group.throughput(Throughput::Elements(u64::from(window)));
        group.bench_function(format!("three legs/window of {window}"), |bencher| {
            bencher.iter(|| black_box(exchange.run(window)));
        });
    }
    group.finish();
}

criterion_group!(rules, wheel, connection, cutting, exchange);
criterion_main!(rules);
