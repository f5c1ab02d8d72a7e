//! Plots as inline SVG: lines and bars with axes that people can read. Colours are classes that the page defines. Must not
//! know: what is plotted.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Beyond this spread a logarithmic axis shows more.
const SPREAD_LOGARITHMIC: f64 = 30.0;

/// One line of a plot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) class: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How the points of a plot are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Lines,
    /// A value holds until the next one.
    Steps,
    /// From the first point's x to the next one's; the last only ends the one before.
    Bars,
}

/// A plot.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) shape: Shape,
    pub(crate) lines: Vec<Line>,
    /// May the horizontal axis be logarithmic, where the values spread far.
    pub(crate) may_be_logarithmic: bool,
    /// A part of the horizontal axis that stands out.
    pub(crate) band: Option<(f64, f64)>,
}

/// From values to places.
#[derive(Clone, Copy, Debug)]
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, may_be_logarithmic: bool, from_zero: bool) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let logarithmic = may_be_logarithmic && low > 0.0 && high / low > SPREAD_LOGARITHMIC;
        let low = if from_zero && !logarithmic { low.min(0.0) } else { low };
        let high = if high > low { high } else { low + low.abs().max(1.0) };
        Self { low, high, logarithmic }
    }

    /// Zero at the low end, one at the high end.
    fn place(self, value: f64) -> f64 {
        if self.logarithmic {
            (value.max(self.low).ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn value(self, place: f64) -> f64 {
        if self.logarithmic {
            (self.low.ln() + place * (self.high.ln() - self.low.ln())).exp()
        } else {
            self.low + place * (self.high - self.low)
        }
    }

    /// Round values to write at the axis.
    fn ticks(self) -> Vec<f64> {
        if self.logarithmic {
            let mut ticks = Vec::new();
            let mut decade = 10_f64.powf(self.low.log10().floor());
            while decade <= self.high {
                let sparse = self.high / self.low > 1e4;
                let steps: &[f64] = if sparse { &[1.0] } else { &[1.0, 2.0, 5.0] };
                ticks.extend(steps.iter().map(|step| step * decade));
                decade *= 10.0;
            }
            ticks.retain(|tick| (self.low..=self.high).contains(tick));
            return ticks;
        }
        let rough = (self.high - self.low) / 5.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * decade).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        (first..)
            .map(|number| number as f64 * step)
            .take_while(|tick| *tick <= self.high * 1.000_001)
            .take(20)
            .collect()
    }
}

/// A number at an axis.
fn label(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text == "-0" { "0" } else { text })
}

/// The distribution's share between each two of some evenly placed values: the bars of a histogram.
pub(crate) fn bars(curve: &[(f64, f64)], count: usize) -> Vec<(f64, f64)> {
    let axis = Axis::over(curve.iter().map(|point| point.0), true, false);
    let below = |value: f64| {
        let after = curve.partition_point(|point| point.0 <= value);
        after.checked_sub(1).map_or(0.0, |before| curve[before].1)
    };
    let edges: Vec<f64> = (0..=count).map(|edge| axis.value(edge as f64 / count as f64)).collect();
    let mut bars: Vec<(f64, f64)> = Vec::with_capacity(count + 1);
    let mut sum = 0.0;
    for pair in edges.windows(2) {
        let is_last = bars.len() + 1 == count;
        let upto = if is_last { 1.0 } else { below(pair[1]) };
        bars.push((pair[0], upto - sum));
        sum = upto;
    }
    bars.extend(edges.last().map(|edge| (*edge, 0.0)));
    bars
}

impl Plot {
    /// The plot as one SVG element.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let across = Axis::over(points().map(|point| point.0), self.may_be_logarithmic, false);
        let up = Axis::over(points().map(|point| point.1), false, true);
        let at_x = |value: f64| LEFT + across.place(value).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
        let at_y = |value: f64| HEIGHT - BOTTOM - up.place(value).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escaped(&self.title)
        );
        if let Some((from, until)) = self.band {
            let (from, until) = (at_x(from), at_x(until));
            let _ = write!(
                svg,
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                (until - from).max(0.0),
                HEIGHT - TOP - BOTTOM
            );
        }
        for tick in up.ticks() {
            let (y, right) = (at_y(tick), WIDTH - RIGHT);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                label(tick)
            );
        }
        for tick in across.ticks() {
            let (x, bottom) = (at_x(tick), HEIGHT - BOTTOM);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 4.0,
                bottom + 18.0,
                label(tick)
            );
        }
        for line in &self.lines {
            self.draw(&mut svg, line, at_x, at_y);
        }
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text></svg>",
            WIDTH - RIGHT,
            HEIGHT - 8.0,
            escaped(&self.x)
        );
        svg
    }

    fn draw(&self, svg: &mut String, line: &Line, at_x: impl Fn(f64) -> f64, at_y: impl Fn(f64) -> f64) {
        let class = line.class;
        if self.shape == Shape::Bars {
            for pair in line.points.windows(2) {
                let (x, y) = (at_x(pair[0].0), at_y(pair[0].1));
                let (width, height) = ((at_x(pair[1].0) - x - 1.0).max(0.5), at_y(0.0) - y);
                let _ = write!(
                    svg,
                    "<rect class=\"bar {class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\">\
                     <title>{} to {}: {}</title></rect>",
                    label(pair[0].0),
                    label(pair[1].0),
                    label(pair[0].1)
                );
            }
            return;
        }
        let mut path = String::new();
        let mut last_y = None;
        for (x, y) in &line.points {
            let (x, y) = (at_x(*x), at_y(*y));
            match last_y {
                None => write!(path, "M{x:.1} {y:.1}"),
                Some(before) if self.shape == Shape::Steps => {
                    write!(path, "L{x:.1} {before:.1}L{x:.1} {y:.1}")
                }
                Some(_) => write!(path, "L{x:.1} {y:.1}"),
            }
            .unwrap_or_default();
            last_y = Some(y);
        }
        let _ = write!(svg, "<path class=\"line {class}\" d=\"{path}\"/>");
    }
}

/// Text that stays text in a page.
pub(crate) fn escaped(text: &str) -> String {
    let escape = |letter: char| match letter {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks() {
        let axis = |low: f64, high: f64, logarithmic| Axis { low, high, logarithmic };
        assert_eq!(axis(0.0, 19_000.0, false).ticks(), [0.0, 5_000.0, 10_000.0, 15_000.0]);
        assert_eq!(axis(-3.0, 7.0, false).ticks(), [-2.0, 0.0, 2.0, 4.0, 6.0]);
        assert_eq!(axis(0.3, 60.0, true).ticks(), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(["19k", "0.25", "0", "1.5M"], [19_000.0, 0.25, 0.0, 1_500_000.0].map(label));
    }

    #[test]
    fn no_data_makes_a_plot_too() {
        let line = |points| Line { name: "a".to_owned(), class: "server", points };
        for points in [Vec::new(), vec![(1.0, 0.0)], vec![(1e18, 1.0), (-1e18, -1.0)]] {
            for shape in [Shape::Lines, Shape::Steps, Shape::Bars] {
                let plot = Plot {
                    title: "<&\">".to_owned(),
                    x: "s".to_owned(),
                    y: "n".to_owned(),
                    shape,
                    lines: vec![line(points.clone())],
                    may_be_logarithmic: true,
                    band: Some((0.0, 1.0)),
                };
                let svg = plot.svg();
                assert!(svg.contains("&lt;&amp;&quot;&gt;") && !svg.contains("NaN"), "{svg}");
            }
        }
    }

    #[test]
    fn bars_hold_the_whole_distribution() {
        let curve: Vec<(f64, f64)> =
            (1..=100).map(|rank| (f64::from(rank), f64::from(rank) / 100.0)).collect();
        let bars = bars(&curve, 10);
        assert_eq!(bars.len(), 11);
        assert!((bars.iter().map(|bar| bar.1).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(bars.iter().all(|bar| bar.1 >= 0.0));
    }
}
