//! The picture of a flight: takes its moments, gives an SVG with the plan view at the left and the height over time at
//! the right, the path that was wanted dashed, the one that was flown drawn through.
//!
//! Holds after it: both axes of the plan view have one scale; the text is the same for the same flight.

use crate::Moment;
use quadrotor_mpc::flight::GUST;
use std::fmt::Write;

const WANTED: &str = "#888";
const FLOWN: &str = "#1f5fb3";
const WIND: &str = "#dd7a2a";
/// Width and height of the picture.
const SIZE: [f64; 2] = [1000.0, 440.0];
/// Left, top, right and bottom of the plan view; of the height.
const FRAMES: [[f64; 4]; 2] = [[60.0, 60.0, 520.0, 385.0], [600.0, 60.0, 980.0, 385.0]];

/// A range of values along one side of a frame.
struct Scale {
    values: [f64; 2],
    pixels: [f64; 2],
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let part = (value - self.values[0]) / (self.values[1] - self.values[0]);
        self.pixels[0] + part * (self.pixels[1] - self.pixels[0])
    }

    /// The multiples of `step` in the range.
    fn ticks(&self, step: f64) -> impl Iterator<Item = f64> {
        let [first, last] = self.values.map(|v| v / step);
        (first.ceil() as i64..=last.floor() as i64).map(move |n| n as f64 * step)
    }
}

/// Least and greatest, with a tenth of their distance around them.
fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let [low, high] = values.fold([f64::INFINITY, f64::NEG_INFINITY], |[l, h], v| [l.min(v), h.max(v)]);
    let around = 0.1 * (high - low).max(0.1);
    [low - around, high + around]
}

/// The picture.
pub fn svg(moments: &[Moment]) -> String {
    let mut out = String::new();
    let mut put = |line: std::fmt::Arguments| writeln!(out, "{line}").expect("a string grows");
    let [width, height] = SIZE;
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    ));
    put(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"));
    put(format_args!("<text x=\"60\" y=\"26\" font-size=\"17\">A quadrotor under model-predictive control</text>"));
    for (left, color, dash, label) in
        [(560.0, WANTED, "6 4", "wanted"), (670.0, FLOWN, "none", "flown"), (770.0, WIND, "none", "flown in the wind")]
    {
        put(format_args!(
            "<path d=\"M{left} 22h30\" stroke=\"{color}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"/>\
             <text x=\"{}\" y=\"26\">{label}</text>",
            left + 36.0
        ));
    }

    let all = |axis: usize| range(moments.iter().flat_map(move |m| [m.flown[axis], m.wanted[axis]]));
    let [left, top, right, bottom] = FRAMES[0];
    let (x, y) = same_scale(all(0), all(1), FRAMES[0]);
    grid(&mut put, &x, &y, [0.5, 0.5], ["x, metres", "y, metres"]);
    paths(&mut put, moments, |_, s| [x.at(s[0]), y.at(s[1])]);
    let (at_x, at_y) = (x.at(moments[0].flown[0]), y.at(moments[0].flown[1]));
    put(format_args!("<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"4\" fill=\"{FLOWN}\"/>"));
    put(format_args!("<text x=\"{at_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">start</text>", at_y - 18.0));
    put(format_args!("<text x=\"{left}\" y=\"{}\">seen from above</text>", top - 8.0));
    put(format_args!("<path d=\"M{left} {top}H{right}V{bottom}H{left}Z\" fill=\"none\" stroke=\"#222\"/>"));

    let [left, top, right, bottom] = FRAMES[1];
    let time = Scale { values: [0.0, moments[moments.len() - 1].time], pixels: [left, right] };
    let z = Scale { values: all(2), pixels: [bottom, top] };
    grid(&mut put, &time, &z, [1.0, 0.2], ["time, seconds", "height, metres"]);
    let [begin, end] = [GUST.start, GUST.end].map(|t| time.at(t));
    put(format_args!(
        "<rect x=\"{begin:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{}\" fill=\"{WIND}\" fill-opacity=\"0.12\"/>",
        end - begin,
        bottom - top
    ));
    paths(&mut put, moments, |m, s| [time.at(m.time), z.at(s[2])]);
    put(format_args!("<text x=\"{left}\" y=\"{}\">height</text>", top - 8.0));
    put(format_args!("<path d=\"M{left} {top}H{right}V{bottom}H{left}Z\" fill=\"none\" stroke=\"#222\"/>"));
    put(format_args!("</svg>"));
    out
}

/// Two scales for a frame, as many pixels a metre in both, each range in the middle.
fn same_scale(x: [f64; 2], y: [f64; 2], [left, top, right, bottom]: [f64; 4]) -> (Scale, Scale) {
    let metre = ((right - left) / (x[1] - x[0])).min((bottom - top) / (y[1] - y[0]));
    let widened = |range: [f64; 2], pixels: f64| {
        let middle = (range[0] + range[1]) / 2.0;
        [middle - pixels / metre / 2.0, middle + pixels / metre / 2.0]
    };
    let x = Scale { values: widened(x, right - left), pixels: [left, right] };
    let y = Scale { values: widened(y, bottom - top), pixels: [bottom, top] };
    (x, y)
}

/// Lines at multiples of the steps, with their numbers and what they measure.
fn grid(put: &mut impl FnMut(std::fmt::Arguments), x: &Scale, y: &Scale, steps: [f64; 2], labels: [&str; 2]) {
    let ([left, right], [bottom, top]) = (x.pixels, y.pixels);
    for tick in x.ticks(steps[0]) {
        let at = x.at(tick);
        put(format_args!("<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#e4e4e4\"/>"));
        put(format_args!(
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{tick}</text>",
            bottom + 16.0
        ));
    }
    for tick in y.ticks(steps[1]) {
        let at = y.at(tick);
        put(format_args!("<path d=\"M{left} {at:.1}H{right}\" stroke=\"#e4e4e4\"/>"));
        put(format_args!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{tick:.1}</text>",
            left - 6.0,
            at + 4.0
        ));
    }
    put(format_args!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        (left + right) / 2.0,
        bottom + 36.0,
        labels[0]
    ));
    put(format_args!(
        "<text transform=\"translate({} {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        left - 40.0,
        (top + bottom) / 2.0,
        labels[1]
    ));
}

/// Both paths, and the part of the flown one that the wind saw; `place` gives the pixels of a state.
fn paths(
    put: &mut impl FnMut(std::fmt::Arguments),
    moments: &[Moment],
    place: impl Fn(&Moment, &[f64; 12]) -> [f64; 2],
) {
    let line = |points: &mut dyn Iterator<Item = [f64; 2]>| {
        let mut text = String::new();
        for (n, [x, y]) in points.enumerate() {
            write!(text, "{}{x:.1} {y:.1}", if n == 0 { "M" } else { "L" }).expect("a string grows");
        }
        text
    };
    let wanted = line(&mut moments.iter().map(|m| place(m, &m.wanted)));
    let flown = line(&mut moments.iter().map(|m| place(m, &m.flown)));
    let windy = moments.iter().filter(|m| (GUST.start..=GUST.end).contains(&m.time));
    let windy = line(&mut windy.map(|m| place(m, &m.flown)));
    for (path, color, dash) in [(wanted, WANTED, "6 4"), (flown, FLOWN, "none"), (windy, WIND, "none")] {
        put(format_args!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\" stroke-linejoin=\"round\"/>"
        ));
    }
}
