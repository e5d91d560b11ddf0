//! The plots as SVG: viewers against delivery latency (logarithmic) and against the core's use; the same over time, for overload.

use std::fmt::Write as _;

use crate::ramp::Ramp;
use crate::runs::Following;

/// One server's points.
#[derive(Debug)]
pub struct Curve {
    name: String,
    /// Viewers, p50 and p99 in milliseconds, percent of the core.
    points: Vec<[f64; 4]>,
}

impl Curve {
    /// The results in order of viewers.
    pub fn new(name: &str, results: &[Following]) -> Self {
        let points = results.iter().map(|result| {
            [
                result.viewers as f64,
                result.latency.percentile(0.5),
                result.latency.percentile(0.99),
                result.server_cores * 100.0,
            ]
        });
        Self {
            name: name.to_owned(),
            points: points.collect(),
        }
    }
}

/// The plot.
pub fn capacity(curves: &[Curve], machine: &str) -> String {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let most = all().map(|point| point[0]).fold(1.0, f64::max);
    let slowest = all().map(|point| point[2]).fold(10.0, f64::max);
    let decades = slowest.log10().ceil() - LEAST_MS.log10();
    let x = |viewers: f64| LEFT + WIDTH * viewers / most;
    let latency =
        |ms: f64| TOP + HEIGHT - HEIGHT * (ms.max(LEAST_MS).log10() - LEAST_MS.log10()) / decades;
    let load = |percent: f64| LOAD_TOP + LOAD_HEIGHT - LOAD_HEIGHT * percent / 100.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 600\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"760\" height=\"600\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Viewers of one growing stream (1.5 Mb/s, 30 pieces/s) from one core</text>\n\
         <text x=\"{LEFT}\" y=\"42\" fill=\"#666\">{machine}; loopback, load from the other core</text>\n\
         <text x=\"{LEFT}\" y=\"{}\">from publisher's to viewer's socket, ms</text>\n\
         <text x=\"{LEFT}\" y=\"{}\">server's core, %</text>\n",
        TOP - 8.0,
        LOAD_TOP - 8.0,
    );
    let mut ms = LEAST_MS;
    while ms <= slowest * 10.0 && latency(ms) >= TOP - 0.5 {
        grid(&mut svg, latency(ms), &format!("{ms}"));
        ms *= 10.0;
    }
    for percent in [0.0, 50.0, 100.0] {
        grid(&mut svg, load(percent), &format!("{percent}"));
    }
    let mut viewers = 0.0;
    while viewers <= most {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{viewers}</text>",
            x(viewers),
            LOAD_TOP + LOAD_HEIGHT + 18.0
        );
        viewers += if most > 2000.0 { 1000.0 } else { 500.0 };
    }
    for (index, curve) in curves.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        for (column, dash, what) in [(1, "4 4", "p50"), (2, "none", "p99")] {
            line(&mut svg, color, dash, curve, |p| {
                (x(p[0]), latency(p[column]))
            });
            let y = TOP + 16.0 + 18.0 * (2 * index + column - 1) as f64;
            let _ = writeln!(
                svg,
                "<line x1=\"{0}\" y1=\"{2}\" x2=\"{1}\" y2=\"{2}\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\
                 <text x=\"{3}\" y=\"{4}\">{5}, {what}</text>",
                LEFT + 12.0,
                LEFT + 42.0,
                y - 4.0,
                LEFT + 48.0,
                y,
                curve.name
            );
        }
        line(&mut svg, color, "none", curve, |p| (x(p[0]), load(p[3])));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Overload over time: latency above, viewers and the core's use below.
pub fn ramp(ramp: &Ramp, machine: &str) -> String {
    let end = ramp.moments.last().map_or(1.0, |moment| moment.at);
    let slowest = ramp
        .moments
        .iter()
        .map(|moment| moment.p99)
        .filter(|ms| ms.is_finite())
        .fold(10.0, f64::max);
    let decades = slowest.log10().ceil() - LEAST_MS.log10();
    let x = |seconds: f64| LEFT + WIDTH * seconds / end;
    let latency =
        |ms: f64| TOP + HEIGHT - HEIGHT * (ms.max(LEAST_MS).log10() - LEAST_MS.log10()) / decades;
    let load = |percent: f64| LOAD_TOP + LOAD_HEIGHT - LOAD_HEIGHT * percent.min(100.0) / 100.0;
    let crowd = |viewers: usize| load(viewers as f64 / ramp.plan.most as f64 * 100.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 600\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"760\" height=\"600\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">Overload: {} viewers of one growing stream, {}, and {} again</text>\n\
         <text x=\"{LEFT}\" y=\"42\" fill=\"#666\">{machine}; loopback, load from the other core</text>\n\
         <text x=\"{LEFT}\" y=\"{}\">from publisher's to viewer's socket, ms, in steps of a quarter of a second</text>\n\
         <text x=\"{LEFT}\" y=\"{}\">server's core, % (blue); viewers, % of {} (grey)</text>\n",
        ramp.plan.viewers,
        ramp.plan.most,
        ramp.plan.viewers,
        TOP - 8.0,
        LOAD_TOP - 8.0,
        ramp.plan.most,
    );
    let mut ms = LEAST_MS;
    while ms <= slowest * 10.0 && latency(ms) >= TOP - 0.5 {
        grid(&mut svg, latency(ms), &format!("{ms}"));
        ms *= 10.0;
    }
    for percent in [0.0, 50.0, 100.0] {
        grid(&mut svg, load(percent), &format!("{percent}"));
    }
    for seconds in (0..=end as u32).step_by(5) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{seconds} s</text>",
            x(f64::from(seconds)),
            LOAD_TOP + LOAD_HEIGHT + 18.0
        );
    }
    let mut draw = |color: &str, dash: &str, place: &dyn Fn(&crate::ramp::Moment) -> f64| {
        let points: Vec<String> = ramp
            .moments
            .iter()
            .map(|moment| (x(moment.at), place(moment)))
            .filter(|(_, y)| y.is_finite())
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>",
            points.join(" ")
        );
    };
    draw(COLORS[0], "4 4", &|moment| latency(moment.p50));
    draw(COLORS[0], "none", &|moment| latency(moment.p99));
    draw("#999", "none", &|moment| crowd(moment.viewers));
    draw(COLORS[1], "none", &|moment| load(moment.load));
    for (dash, what, y) in [("4 4", "p50", 16.0), ("none", "p99", 34.0)] {
        let _ = writeln!(
            svg,
            "<line x1=\"{0}\" y1=\"{2}\" x2=\"{1}\" y2=\"{2}\" stroke=\"{3}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\
             <text x=\"{4}\" y=\"{5}\">{what}</text>",
            LEFT + 12.0,
            LEFT + 42.0,
            TOP + y - 4.0,
            COLORS[0],
            LEFT + 48.0,
            TOP + y,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn grid(svg: &mut String, y: f64, label: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
        LEFT + WIDTH,
        LEFT - 6.0,
        y + 4.0
    );
}

fn line(
    svg: &mut String,
    color: &str,
    dash: &str,
    curve: &Curve,
    place: impl Fn(&[f64; 4]) -> (f64, f64),
) {
    let points: Vec<String> = curve
        .points
        .iter()
        .filter(|point| point.iter().all(|value| value.is_finite()))
        .map(|point| {
            let (x, y) = place(point);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>",
        points.join(" ")
    );
}

const LEFT: f64 = 64.0;
const WIDTH: f64 = 670.0;
const TOP: f64 = 80.0;
const HEIGHT: f64 = 280.0;
const LOAD_TOP: f64 = 400.0;
const LOAD_HEIGHT: f64 = 150.0;
const LEAST_MS: f64 = 0.1;
const COLORS: [&str; 3] = ["#c0392b", "#2c6fbb", "#3a8f4b"];
