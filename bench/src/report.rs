//! What a run amounts to: the rounds' figures folded into one, beside the null server's, as a table and as JSON. Must not
//! know: how rounds are played.

use crate::figures::{Figure, Finding, Fold, Unit};
use crate::round::{Round, Sample};
use crate::statistics::{Sorted, Spans, median};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Server,
    Null,
}

impl Target {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Null => "null",
        }
    }
}

/// A distribution over all rounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Curve {
    pub(crate) title: &'static str,
    pub(crate) target: Target,
    /// Milliseconds, and the share of all up to them.
    pub(crate) points: Vec<(f64, f64)>,
}

/// What was measured in one round.
pub(crate) struct Measured {
    pub(crate) target: Target,
    pub(crate) figures: Vec<Figure>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) round: Round,
}

/// Everything that is reported.
pub(crate) struct Report {
    pub(crate) mode: &'static str,
    pub(crate) address: String,
    pub(crate) settings: Vec<(&'static str, String)>,
    pub(crate) warnings: Vec<String>,
    pub(crate) rounds: Vec<Measured>,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) unit: Unit,
    pub(crate) server: Vec<f64>,
    pub(crate) null: Vec<f64>,
    fold: Fold,
}

impl Row {
    fn fold(&self, values: &[f64]) -> Option<f64> {
        match self.fold {
            Fold::Median => median(values),
            Fold::Sum => (!values.is_empty()).then(|| values.iter().sum()),
        }
    }

    pub(crate) fn server_value(&self) -> Option<f64> {
        self.fold(&self.server)
    }

    pub(crate) fn null_value(&self) -> Option<f64> {
        self.fold(&self.null)
    }

    /// The server's value as a multiple of the null server's; of counts it would say nothing.
    pub(crate) fn ratio(&self) -> Option<f64> {
        if self.fold == Fold::Sum {
            return None;
        }
        let (server, null) = (self.server_value()?, self.null_value()?);
        (null > 1e-9 && server >= 0.0).then(|| server / null)
    }
}

impl Report {
    /// Whether the figures are what they are said to be.
    pub(crate) fn is_valid(&self) -> bool {
        self.rounds.iter().all(|round| round.findings.iter().all(|finding| !finding.spoils))
    }

    pub(crate) fn compares(&self) -> bool {
        self.rounds.iter().any(|round| round.target == Target::Null)
    }

    /// A row for each figure, in the order in which the server's rounds have them.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let of = |target| self.rounds.iter().filter(move |measured| measured.target == target);
        for measured in of(Target::Server).chain(of(Target::Null)) {
            for figure in &measured.figures {
                let place = rows.iter().position(|row| row.key == figure.key).unwrap_or_else(|| {
                    let Figure { key, label, unit, fold, .. } = *figure;
                    rows.push(Row { key, label, unit, server: Vec::new(), null: Vec::new(), fold });
                    rows.len() - 1
                });
                match measured.target {
                    Target::Server => rows[place].server.push(figure.value),
                    Target::Null => rows[place].null.push(figure.value),
                }
            }
        }
        rows
    }

    /// What has to be said. Of things that differ in their numbers only, the first stands for all.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut grouped: Vec<(String, &Finding, Vec<String>)> = Vec::new();
        for (number, measured) in self.rounds.iter().enumerate() {
            for finding in &measured.findings {
                let kind = finding.text.replace(|letter: char| letter.is_ascii_digit(), "");
                let place = format!("{} ({})", number + 1, measured.target.word());
                match grouped.iter_mut().find(|group| group.0 == kind) {
                    Some(group) => group.2.push(place),
                    None => grouped.push((kind, finding, vec![place])),
                }
            }
        }
        let remark = |(_, finding, places): (String, &Finding, Vec<String>)| {
            let mark = if finding.spoils { "not valid: " } else { "" };
            let places = match (self.rounds.len(), places.len()) {
                (1, _) => String::new(),
                (_, 1) => format!(" [round {}]", places[0]),
                _ => format!(" [rounds {}]", places.join(", ")),
            };
            format!("{mark}{}{places}", finding.text)
        };
        self.warnings.iter().cloned().chain(grouped.into_iter().map(remark)).collect()
    }

    /// The distributions, over all rounds of a target.
    pub(crate) fn curves(&self) -> Vec<Curve> {
        let mut curves = Vec::new();
        for target in [Target::Server, Target::Null] {
            let rounds = || self.rounds.iter().filter(|measured| measured.target == target);
            let late =
                Sorted::new(rounds().flat_map(|measured| measured.round.measured.late.clone()).collect());
            let joined = |of: fn(&Round) -> &Spans| {
                let mut sum = Spans::default();
                rounds().for_each(|measured| sum.absorb(of(&measured.round)));
                sum.curve()
            };
            let spans = joined(|round| &round.measured.spans);
            let lag = joined(|round| &round.measured.lag);
            let title = match self.mode {
                "storm" => "in again after",
                "exchange" => "send to receipt",
                _ => "life of a connection",
            };
            for (title, points) in [("late", late.curve()), (title, spans), ("generator sends late", lag)] {
                let points: Vec<_> =
                    points.into_iter().map(|(nanos, share)| (nanos as f64 / 1e6, share)).collect();
                if !points.is_empty() {
                    curves.push(Curve { title, target, points });
                }
            }
        }
        curves
    }

    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("bench {} against {}", self.mode, self.address);
        let settings: Vec<String> =
            self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let _ = write!(text, ": {}\n\n", settings.join(", "));
        let rows = self.rows();
        let width = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0).max(8);
        if self.compares() {
            let _ = writeln!(text, "{:width$}  {:>14}  {:>14}  {:>7}", "", "server", "null", "ratio");
        }
        for row in rows {
            let value =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| shown(value, row.unit));
            let _ = write!(text, "{:width$}  {:>14}", row.label, value(row.server_value()));
            if self.compares() {
                let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
                let _ = write!(text, "  {:>14}  {ratio:>7}", value(row.null_value()));
            }
            text.push('\n');
        }
        for remark in self.remarks() {
            let _ = write!(text, "\n{remark}");
        }
        text.trim_end().to_owned()
    }

    /// Everything, for programs.
    pub(crate) fn json(&self) -> Value {
        let mut figures = Map::new();
        for row in self.rows() {
            let mut figure = json!({
                "label": row.label, "unit": unit_word(row.unit), "value": row.server_value(), "rounds": row.server,
            });
            if self.compares() {
                figure["null"] = json!(row.null_value());
                figure["null_rounds"] = json!(row.null);
                figure["ratio"] = json!(row.ratio());
            }
            figures.insert(row.key.to_owned(), figure);
        }
        let findings = self.rounds.iter().enumerate().flat_map(|(number, measured)| {
            measured.findings.iter().map(move |finding| {
                json!({
                    "round": number + 1, "target": measured.target.word(),
                    "spoils": finding.spoils, "text": finding.text,
                })
            })
        });
        let curves = self.curves().into_iter().map(|curve| {
            json!({ "title": curve.title, "target": curve.target.word(), "points_ms_share": curve.points })
        });
        let rounds = self.rounds.iter().map(|measured| {
            json!({
                "target": measured.target.word(),
                "opened_in_s": measured.round.opened_in.as_secs_f64(),
                "measured_from_s": measured.round.measured_from.as_secs_f64(),
                "measured_until_s": measured.round.measured_until.as_secs_f64(),
                "busiest_thread": measured.round.busiest,
                "other_cores": measured.round.others,
                "series": measured.round.series.iter().map(sample).collect::<Vec<_>>(),
            })
        });
        json!({
            "mode": self.mode,
            "address": self.address,
            "valid": self.is_valid(),
            "settings": self.settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<Map<_, _>>(),
            "warnings": self.warnings,
            "findings": findings.collect::<Vec<_>>(),
            "figures": figures,
            "curves": curves.collect::<Vec<_>>(),
            "rounds": rounds.collect::<Vec<_>>(),
        })
    }
}

fn sample(sample: &Sample) -> Value {
    json!({
        "at_s": sample.at.as_secs_f64(), "open": sample.open, "sent": sample.sent, "ended": sample.ended,
        "resident": sample.resident, "cpu_s": sample.cpu.map(|cpu| cpu.as_secs_f64()),
    })
}

const fn unit_word(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "count",
        Unit::PerSecond => "per second",
        Unit::Bytes => "bytes",
        Unit::BytesPerSecond => "bytes per second",
        Unit::Millis => "ms",
        Unit::Micros => "us",
        Unit::Cores => "cores",
    }
}

/// A figure with its unit, as people read it.
pub(crate) fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Count => grouped(value),
        Unit::PerSecond => format!("{}/s", grouped(value)),
        Unit::Bytes if value.abs() >= 1e6 => format!("{:.1} MB", value / 1e6),
        Unit::Bytes if value.abs() < 100.0 => format!("{value:.1} B"),
        Unit::Bytes => format!("{} B", grouped(value)),
        Unit::BytesPerSecond if value >= 1e9 => format!("{:.2} GB/s", value / 1e9),
        Unit::BytesPerSecond => format!("{:.1} MB/s", value / 1e6),
        Unit::Millis if value.abs() >= 1_000.0 => format!("{} ms", grouped(value)),
        Unit::Millis if value.abs() >= 100.0 => format!("{value:.1} ms"),
        Unit::Millis => format!("{value:.2} ms"),
        Unit::Micros if value.abs() >= 1_000.0 => format!("{} us", grouped(value)),
        Unit::Micros => format!("{value:.2} us"),
        Unit::Cores => format!("{value:.2} cores"),
    }
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_with_their_units() {
        for (value, unit, text) in [
            (1_234_567.0, Unit::Count, "1,234,567"),
            (-1_234.0, Unit::Count, "-1,234"),
            (0.0, Unit::Count, "0"),
            (49_999.6, Unit::PerSecond, "50,000/s"),
            (0.7, Unit::Bytes, "0.7 B"),
            (724.0, Unit::Bytes, "724 B"),
            (14_000_000.0, Unit::Bytes, "14.0 MB"),
            (6.4e6, Unit::BytesPerSecond, "6.4 MB/s"),
            (0.299, Unit::Millis, "0.30 ms"),
            (-1_003.0, Unit::Millis, "-1,003 ms"),
            (3.7, Unit::Micros, "3.70 us"),
            (12_345.6, Unit::Micros, "12,346 us"),
            (0.256, Unit::Cores, "0.26 cores"),
        ] {
            assert_eq!(shown(value, unit), text);
        }
    }

    #[test]
    fn rounds_are_folded_and_compared() {
        let row = |fold| Row {
            key: "key",
            label: "label",
            unit: Unit::Micros,
            server: vec![4.0, 9.0, 6.0],
            null: vec![3.0, 2.0, 8.0],
            fold,
        };
        assert_eq!((row(Fold::Median).server_value(), row(Fold::Median).ratio()), (Some(6.0), Some(2.0)));
        assert_eq!((row(Fold::Sum).null_value(), row(Fold::Sum).ratio()), (Some(13.0), None));
        let alone = Row { null: Vec::new(), ..row(Fold::Median) };
        assert_eq!((alone.null_value(), alone.ratio()), (None, None));
    }
}
