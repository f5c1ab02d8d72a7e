//! A report as one HTML page: nothing is loaded from elsewhere, nothing runs in it. Must not know: how rounds are played.

use crate::plot::{Line, Plot, Shape, bars, escaped};
use crate::report::{Curve, Measured, Report, Target, shown};
use crate::round::Sample;
use std::fmt::Write;

const STYLE: &str = include_str!("html/style.css");
const BARS: usize = 40;

/// What a plot takes from a round.
type Points = fn(&Measured) -> Vec<(f64, f64)>;

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let title = format!("pulsegate bench {}", report.mode);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>\
         <h1>{title}</h1><p class=\"sub\">{}</p>",
        escaped(&report.address)
    );
    page.push_str("<p class=\"settings\">");
    for (name, value) in &report.settings {
        let _ = write!(page, "<span>{name} <b>{}</b></span>", escaped(value));
    }
    page.push_str("</p>");
    let remarks = report.remarks();
    if !report.is_valid() {
        page.push_str("<p class=\"invalid\">Not valid: the figures are not what they are said to be.</p>");
    }
    if !remarks.is_empty() {
        page.push_str("<ul class=\"remarks\">");
        remarks.iter().for_each(|remark| {
            let _ = write!(page, "<li>{}</li>", escaped(remark));
        });
        page.push_str("</ul>");
    }
    page.push_str(&table(report));
    page.push_str("<div class=\"plots\">");
    plots(report).iter().for_each(|plot| page.push_str(&figure(plot)));
    page.push_str("</div></main></body></html>\n");
    page
}

fn table(report: &Report) -> String {
    let compares = report.compares();
    let mut table = String::from("<table>");
    if compares {
        table.push_str("<thead><tr><th></th><th>server</th><th>null</th><th>ratio</th></tr></thead>");
    }
    table.push_str("<tbody>");
    for row in report.rows() {
        let cell = |value: Option<f64>| value.map_or_else(String::new, |value| shown(value, row.unit));
        let _ = write!(table, "<tr><th>{}</th><td>{}</td>", row.label, cell(row.server_value()));
        if compares {
            let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let _ = write!(table, "<td>{}</td><td>{ratio}</td>", cell(row.null_value()));
        }
        table.push_str("</tr>");
    }
    table.push_str("</tbody></table>");
    table
}

fn figure(plot: &Plot) -> String {
    let mut figure =
        format!("<figure><figcaption>{}<small>{}</small>", escaped(&plot.title), escaped(&plot.y));
    if plot.lines.len() > 1 {
        for line in &plot.lines {
            let _ = write!(figure, "<i class=\"{}\">{}</i>", line.class, escaped(&line.name));
        }
    }
    let _ = write!(figure, "</figcaption>{}</figure>", plot.svg());
    figure
}

fn plots(report: &Report) -> Vec<Plot> {
    let mut plots = distributions(&report.curves());
    let looks: [(&str, &str, Points, Shape); 4] = [
        ("Connections", "open", |measured| series(measured, |sample| Some(sample.open as f64)), Shape::Steps),
        (
            "Messages",
            "per second",
            |measured| rates(measured, |sample| Some(sample.sent as f64)),
            Shape::Lines,
        ),
        ("Server memory", "MB resident", memory, Shape::Lines),
        (
            "Server CPU",
            "cores",
            |measured| rates(measured, |sample| Some(sample.cpu?.as_secs_f64())),
            Shape::Lines,
        ),
    ];
    for (title, y, of, shape) in looks {
        // The last round of each stands for the others.
        let last = |target| report.rounds.iter().rev().find(move |measured| measured.target == target);
        let measured: Vec<&Measured> = [Target::Server, Target::Null].into_iter().filter_map(last).collect();
        let lines: Vec<Line> = measured
            .iter()
            .map(|measured| line(measured.target, of(measured)))
            .filter(|line| !line.points.is_empty())
            .collect();
        let band = measured.first().map(|measured| {
            let round = &measured.round;
            (round.measured_from.as_secs_f64(), round.measured_until.as_secs_f64())
        });
        if !lines.is_empty() {
            plots.push(Plot {
                title: title.to_owned(),
                x: "seconds; shaded: measured".to_owned(),
                y: y.to_owned(),
                shape,
                lines,
                may_be_logarithmic: false,
                band,
            });
        }
    }
    plots
}

fn line(target: Target, points: Vec<(f64, f64)>) -> Line {
    Line { name: target.word().to_owned(), class: target.word(), points }
}

/// Two plots for each distribution: how many of each value, and how many up to it.
fn distributions(curves: &[Curve]) -> Vec<Plot> {
    let mut plots = Vec::new();
    let mut titles: Vec<&str> = curves.iter().map(|curve| curve.title).collect();
    titles.dedup();
    titles.sort_unstable();
    titles.dedup();
    // What the mode measures comes before what the generator says of itself.
    titles.sort_by_key(|title| title.starts_with("generator"));
    for title in titles {
        let of_title = || curves.iter().filter(|curve| curve.title == title);
        let percent = |points: &[(f64, f64)]| points.iter().map(|(x, share)| (*x, share * 100.0)).collect();
        let plot = |part: &str, y: &str, shape, lines| Plot {
            title: format!("{}{}: {part}", title[..1].to_uppercase(), &title[1..]),
            x: "milliseconds".to_owned(),
            y: y.to_owned(),
            shape,
            lines,
            may_be_logarithmic: true,
            band: None,
        };
        if let Some(curve) = of_title().find(|curve| curve.target == Target::Server) {
            let points: Vec<(f64, f64)> = percent(&bars(&curve.points, BARS));
            let lines = vec![line(Target::Server, points)];
            plots.push(plot("histogram", "% of all", Shape::Bars, lines));
        }
        let lines = of_title().map(|curve| line(curve.target, percent(&curve.points))).collect();
        plots.push(plot("up to", "% of all", Shape::Steps, lines));
    }
    plots
}

fn series(measured: &Measured, value: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    let point = |sample: &Sample| Some((sample.at.as_secs_f64(), value(sample)?));
    measured.round.series.iter().filter_map(point).collect()
}

fn memory(measured: &Measured) -> Vec<(f64, f64)> {
    series(measured, |sample| Some(sample.resident? as f64 / 1e6))
}

/// By how much something grew, per second.
fn rates(measured: &Measured, value: impl Fn(&Sample) -> Option<f64>) -> Vec<(f64, f64)> {
    let points = series(measured, value);
    let rate = |pair: &[(f64, f64)]| {
        (pair[1].0, (pair[1].1 - pair[0].1).max(0.0) / (pair[1].0 - pair[0].0).max(1e-3))
    };
    points.windows(2).map(rate).collect()
}
