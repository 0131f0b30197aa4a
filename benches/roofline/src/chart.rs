//! The picture: takes measured rows and the roofs, gives an SVG: performance over arithmetic intensity, both in
//! logarithms, a numbered point for each row under the roofs of the core and of each level of the memory, and a list
//! that says what the numbers are.

use crate::harness::{Group, Row};
use crate::machine::Streams;
use crate::report::Roofs;
use std::fmt::Write;

/// The plot's frame: left, top, right, bottom.
const FRAME: [f64; 4] = [70.0, 60.0, 1130.0, 980.0];
/// Where the list begins, and the width of its columns.
const LIST: [f64; 2] = [1160.0, 370.0];
/// Height of a line of the list.
const LINE: f64 = 15.0;
/// Width and height of a point's number, to keep numbers apart.
const NUMBER: [f64; 2] = [18.0, 10.0];

/// A linear scale of logarithms.
struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// From the values to be shown, with room at both ends.
    fn new(values: &[f64], start: f64, end: f64) -> Scale {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(0.0, f64::max);
        Scale { from: (least / 1.6).log10(), to: (greatest * 1.6).log10(), start, end }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (value.log10() - self.from) / (self.to - self.from) * (self.end - self.start)
    }

    /// Round numbers on it: 1, 2 and 5 times powers of ten.
    fn ticks(&self) -> Vec<f64> {
        let decades = self.from.floor() as i32..=self.to.ceil() as i32;
        let ticks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit: f64| digit * 10f64.powi(decade)));
        ticks.filter(|tick| (self.from..=self.to).contains(&tick.log10())).collect()
    }
}

/// The colour of a group.
fn colour(group: Group) -> &'static str {
    match group {
        Group::ProductNn => "#1f4e9c",
        Group::ProductNt => "#2f86d6",
        Group::ProductTn => "#58b4c9",
        Group::ProductF64 => "#6a4fb3",
        Group::ProductJvp => "#a06cd5",
        Group::Batch => "#33508a",
        Group::Many => "#24386b",
        Group::ConvForward => "#b3401f",
        Group::ConvX => "#dd7a2a",
        Group::ConvK => "#c99a1c",
        Group::ConvJvp => "#8c2f2f",
        Group::Elementwise => "#2e7d46",
        Group::Rows => "#6f9e2c",
    }
}

/// The picture. Without rows it shows the roofs.
pub fn svg(rows: &[Row], roofs: &Roofs) -> String {
    let intensity = |row: &Row| row.spec.flops / row.spec.bytes;
    let [left, top, right, bottom] = FRAME;
    let bandwidths: Vec<(&str, f64)> = roofs
        .levels
        .iter()
        .map(|level| {
            // The best of the streams: a roof is what nothing passes.
            (level.name.as_str(), Streams::ALL.iter().zip(level.bandwidth).map(|(_, rate)| rate).fold(0.0, f64::max))
        })
        .collect();
    // Roofs are seen whole: from where data of the memory end at the left to beyond their corners.
    let corners = bandwidths.iter().map(|(_, rate)| roofs.single / rate);
    let x: Vec<f64> = rows.iter().map(intensity).chain(corners).chain([0.08]).collect();
    let y: Vec<f64> = rows.iter().map(Row::gflops).chain([roofs.single, roofs.double]).collect();
    let (x, y) = (Scale::new(&x, left, right), Scale::new(&y, bottom, top));

    let per_column = ((bottom - top) / LINE) as usize - 1;
    let columns = rows.len().div_ceil(per_column).max(1);
    let width = LIST[0] + LIST[1] * columns as f64;
    let mut out = String::new();
    let mut put = |line: std::fmt::Arguments| writeln!(out, "{line}").expect("a string grows");
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"1040\" viewBox=\"0 0 {width} 1040\" \
         font-family=\"sans-serif\" font-size=\"11\">"
    ));
    put(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"));
    put(format_args!(
        "<text x=\"{left}\" y=\"30\" font-size=\"17\">Generated kernels under the roofs of one core, run as {}</text>",
        cotangent::isa::name()
    ));
    put(format_args!(
        "<text x=\"{left}\" y=\"48\" fill=\"#555\">Every argument counted once as bytes; a function of an element as one operation. \
         A ring is a row where a library or plain loop is faster.</text>"
    ));

    for tick in x.ticks() {
        let at = x.at(tick);
        put(format_args!("<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#eee\"/>"));
        put(format_args!(
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{tick}</text>",
            bottom + 16.0
        ));
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        put(format_args!("<path d=\"M{left} {at:.1}H{right}\" stroke=\"#eee\"/>"));
        put(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{tick}</text>",
            left - 6.0,
            at + 4.0
        ));
    }
    put(format_args!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">operations per byte</text>",
        (left + right) / 2.0,
        bottom + 38.0
    ));
    put(format_args!(
        "<text transform=\"translate(22 {:.1}) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>",
        (top + bottom) / 2.0
    ));

    // The roofs, cut at the frame.
    put(format_args!(
        "<clipPath id=\"frame\"><rect x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\"/></clipPath>",
        right - left,
        bottom - top
    ));
    for (name, peak) in [("f32", roofs.single), ("f64", roofs.double)] {
        let at = y.at(peak);
        put(format_args!("<path d=\"M{left} {at:.1}H{right}\" stroke=\"#222\" stroke-width=\"1.5\"/>"));
        put(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">fused multiply-adds {name}, {peak:.0} GFLOP/s</text>",
            right - 4.0,
            at - 5.0
        ));
    }
    for (name, rate) in &bandwidths {
        let corner = roofs.single / rate;
        let start = 10f64.powf(x.from);
        let from = [x.at(start), y.at(start * rate)];
        let to = [x.at(corner), y.at(roofs.single)];
        put(format_args!(
            "<path clip-path=\"url(#frame)\" d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#222\" stroke-dasharray=\"5 3\"/>",
            from[0], from[1], to[0], to[1]
        ));
        // Labels stand on their lines near the left edge.
        let angle = ((to[1] - from[1]) / (to[0] - from[0])).atan().to_degrees();
        let line = |at: f64| from[1] + (at - from[0]) * (to[1] - from[1]) / (to[0] - from[0]);
        let at = from[0] + 12.0;
        let height = line(at) - 5.0;
        if height > top && height < bottom {
            put(format_args!(
                "<text transform=\"translate({at:.1} {height:.1}) rotate({angle:.1})\">{name}, {rate:.0} GB/s</text>"
            ));
        }
    }

    // Points first, then their numbers where no point and no other number stands.
    let points: Vec<[f64; 2]> = rows.iter().map(|row| [x.at(intensity(row)), y.at(row.gflops())]).collect();
    for (row, point) in rows.iter().zip(&points) {
        let colour = colour(row.spec.group);
        let lost = row.best_peer().is_some_and(|(_, ratio)| ratio > crate::report::NOISE);
        put(format_args!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{}\" stroke=\"{colour}\" stroke-width=\"1.5\"><title>{}</title></circle>",
            point[0],
            point[1],
            if lost { "white" } else { colour },
            row.spec.id()
        ));
    }
    let mut numbers: Vec<[f64; 2]> = Vec::new();
    for (n, (row, point)) in rows.iter().zip(&points).enumerate() {
        let place = place(*point, &points, &numbers);
        numbers.push(place);
        let colour = colour(row.spec.group);
        let far = (place[0] - point[0]).hypot(place[1] - point[1]) > 16.0;
        if far {
            put(format_args!(
                "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{colour}\" stroke-width=\"0.5\"/>",
                point[0], point[1], place[0], place[1]
            ));
        }
        put(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\" text-anchor=\"middle\" fill=\"{colour}\" stroke=\"white\" \
             stroke-width=\"2\" paint-order=\"stroke\">{}</text>",
            place[0],
            place[1] + 3.5,
            n + 1
        ));
    }

    for (n, row) in rows.iter().enumerate() {
        let at = [LIST[0] + LIST[1] * (n / per_column) as f64, top + LINE * (n % per_column + 1) as f64];
        let share = match row.bandwidth_percent() {
            Some(percent) => format!("{percent:.0}% of its stream"),
            None => format!("{:.0}%", row.peak_percent()),
        };
        put(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{}\">{}. {}: {share}</text>",
            at[0],
            at[1],
            colour(row.spec.group),
            n + 1,
            row.spec.id()
        ));
    }
    put(format_args!("</svg>"));
    out
}

/// The nearest place to a point where its number covers no point and no number before it, in rings around the point.
fn place(point: [f64; 2], points: &[[f64; 2]], numbers: &[[f64; 2]]) -> [f64; 2] {
    let apart = |a: [f64; 2], b: &[f64; 2], by: [f64; 2]| (a[0] - b[0]).abs() > by[0] || (a[1] - b[1]).abs() > by[1];
    let [left, top, right, bottom] = FRAME;
    for ring in 1..24 {
        for step in 0..16 {
            let (sine, cosine) = (f64::from(step) * std::f64::consts::TAU / 16.0).sin_cos();
            let radius = 5.0 + 7.0 * f64::from(ring);
            let at = [point[0] + radius * cosine, point[1] - radius * sine];
            let inside = (left + 8.0..right - 8.0).contains(&at[0]) && (top + 8.0..bottom - 8.0).contains(&at[1]);
            let free = points.iter().all(|b| apart(at, b, [NUMBER[0] / 2.0 + 3.0, NUMBER[1] / 2.0 + 3.0]))
                && numbers.iter().all(|b| apart(at, b, NUMBER));
            if inside && free {
                return at;
            }
        }
    }
    point
}
