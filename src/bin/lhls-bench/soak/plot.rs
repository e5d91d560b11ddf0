//! The soak as SVG: memory above, and what is open below, both over time.

use std::fmt::Write as _;

use super::record::Sample;

/// Something that is drawn as a line.
struct Line {
    name: &'static str,
    colour: &'static str,
    of: fn(&Sample) -> f64,
}

/// The plot. `note` stands below it.
pub fn soak(samples: &[Sample], title: &str, note: &str) -> String {
    let minutes = samples.last().map_or(1.0, |sample| sample.at / 60.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 620\" width=\"960\" height=\"620\" \
         font-family=\"system-ui, DejaVu Sans, sans-serif\" font-size=\"13\" fill=\"#333\">\n\
         <rect width=\"960\" height=\"620\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"30\" font-size=\"18\" font-weight=\"600\" fill=\"#111\">{title}</text>\n\
         <text x=\"20\" y=\"600\" font-size=\"12\" fill=\"#666\">{note}</text>\n"
    );
    panel(
        &mut svg,
        samples,
        (80.0, 220.0),
        ("MB", 1e6),
        minutes,
        &[
            Line {
                name: "resident",
                colour: "#0b62d6",
                of: |sample| sample.resident,
            },
            Line {
                name: "in rings",
                colour: "#d9480f",
                of: |sample| sample.ring,
            },
        ],
    );
    panel(
        &mut svg,
        samples,
        (350.0, 190.0),
        ("", 1.0),
        minutes,
        &[
            Line {
                name: "tasks",
                colour: "#0b62d6",
                of: |sample| sample.tasks,
            },
            Line {
                name: "descriptors",
                colour: "#2b8a3e",
                of: |sample| sample.descriptors,
            },
            Line {
                name: "viewers",
                colour: "#d9480f",
                of: |sample| sample.viewers,
            },
            Line {
                name: "publishers",
                colour: "#862e9c",
                of: |sample| sample.publishers,
            },
        ],
    );
    svg.push_str("</svg>\n");
    svg
}

fn panel(
    svg: &mut String,
    samples: &[Sample],
    (top, height): (f64, f64),
    (unit, scale): (&str, f64),
    minutes: f64,
    lines: &[Line],
) {
    let values = lines
        .iter()
        .flat_map(|line| samples.iter().map(|sample| (line.of)(sample) / scale));
    let highest = values.filter(|value| value.is_finite()).fold(1.0, f64::max);
    let step = step(highest, 5.0);
    let most = (highest / step).ceil() * step;
    let x = |at: f64| LEFT + WIDTH * at / 60.0 / minutes;
    let y = |value: f64| top + height - height * value / most;
    let mut value = 0.0;
    while value <= most + step / 2.0 {
        let at = y(value);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value} {unit}</text>",
            LEFT + WIDTH,
            LEFT - 8.0,
            at + 4.0
        );
        value += step;
    }
    let every = self::step(minutes, 8.0).max(0.5);
    let mut minute = 0.0;
    while minute <= minutes + 0.01 {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"12\">{minute} min</text>",
            x(minute * 60.0),
            top + height + 17.0
        );
        minute += every;
    }
    for (index, line) in lines.iter().enumerate() {
        let points: Vec<String> = samples
            .iter()
            .map(|sample| (sample.at, (line.of)(sample) / scale))
            .filter(|(_, value)| value.is_finite())
            .map(|(at, value)| format!("{:.1},{:.1}", x(at), y(value)))
            .collect();
        let legend = top + 12.0 + 22.0 * index as f64;
        let (right, colour) = (LEFT + WIDTH, line.colour);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>\
             <line x1=\"{}\" x2=\"{}\" y1=\"{legend}\" y2=\"{legend}\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            points.join(" "),
            right + 14.0,
            right + 34.0,
            right + 40.0,
            legend + 4.0,
            line.name
        );
    }
}

/// A step that people count in, so that there are at most so many of them.
fn step(highest: f64, most: f64) -> f64 {
    let decade = 10_f64.powf((highest / most).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * decade)
        .into_iter()
        .find(|step| highest / step <= most)
        .unwrap_or(10.0 * decade)
}

const LEFT: f64 = 80.0;
const WIDTH: f64 = 740.0;
