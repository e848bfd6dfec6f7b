//! `cargo xtask bench files plot`: memory and processor time over the number of files, as one picture.
//!
//! Comes in: how many files at most. Goes out: `files.svg` and `files.json` in a folder.
//! Always holds: each shipper gets the same files: so many lines, spread evenly; first they are shipped, then all is quiet.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::super::run::{LIMIT, Running, line, write_files};
use crate::args::Args;
use crate::shipper::{Bulk, Place, Shipper};
use crate::sink::{Depth, Protocol, Sink};
use crate::{Outcome, root};

/// Lines in all files together.
const LINES: usize = 200_000;
/// Searches and what follows a burst.
const SETTLE: Duration = Duration::from_secs(12);
/// Two searches.
const WATCH: Duration = Duration::from_secs(20);

/// How many of the files go on, when the others are quiet.
const BUSY: usize = 100;
/// Lines that come to these, and in how many pieces, and how long after each other.
const FURTHER: usize = 100_000;
const PIECES: usize = 20;
const PIECE: Duration = Duration::from_millis(500);

/// What was measured with so many files.
struct Point {
    files: usize,
    ship_s: f64,
    resident_mb: f64,
    rest_percent: f64,
    few_s: f64,
}

/// Of Pillion and its peers.
const COLOURS: [&str; 5] = ["#0b6", "#c40", "#06c", "#a2a", "#960"];

type Figure = (&'static str, fn(&Point) -> f64);

const FIGURES: [Figure; 4] = [
    ("CPU s: 200,000 lines in all", |p| p.ship_s),
    ("CPU s: 100,000 lines in 100", |p| p.few_s),
    ("resident MB, all quiet", |p| p.resident_mb),
    ("CPU % of a core, all quiet", |p| p.rest_percent),
];

/// `--most N`, `--peers N` (files for the peers at most; 0 = without), `--out FOLDER`.
pub(super) fn run(words: &[&str]) -> Outcome {
    let mut args = Args::new(words);
    let (most, peer) = (args.number("--most", 100_000)?, args.number("--peers", 10_000)?);
    let out = args.value("--out")?.map_or_else(|| root().join("bench/results"), PathBuf::from);
    if let Some(odd) = args.rest()?.first() {
        return Err(format!("what is {odd}?"));
    }
    let mut all = Vec::new();
    for shipper in Shipper::all()? {
        let (name, mut points) = (shipper.name(), Vec::new());
        let most = if shipper.is_pillion() { most } else { peer.min(most) };
        for files in [100, 1000, 10_000, 100_000].into_iter().filter(|n| *n <= most) {
            let point = measure(&shipper, files).map_err(|e| format!("{name}, {files} files: {e}"))?;
            let [ship, few, resident, rest] = FIGURES.map(|(_, figure)| figure(&point));
            println!(
                "{name}, {files} files: {ship:.2} s to ship; {FURTHER} lines in {BUSY} of them: {few:.2} s; quiet: \
                 {resident:.1} MB, {rest:.2} % of a core"
            );
            points.push(point);
        }
        all.push((name, points));
    }
    let points = |points: &[Point]| -> Vec<serde_json::Value> {
        let one = |p: &Point| {
            json!({"files": p.files, "cpu_s_for_200000_lines": p.ship_s, "cpu_s_for_100000_lines_in_100": p.few_s,
                "resident_mb_quiet": p.resident_mb, "cpu_percent_quiet": p.rest_percent})
        };
        points.iter().map(one).collect()
    };
    let json: serde_json::Map<_, _> = all.iter().map(|(n, p)| ((*n).to_owned(), points(p).into())).collect();
    fs::create_dir_all(&out)
        .and_then(|()| fs::write(out.join("files.json"), format!("{:#}\n", serde_json::Value::Object(json))))
        .and_then(|()| fs::write(out.join("files.svg"), svg(&all)))
        .map_err(|e| format!("{}: {e}", out.display()))
}

fn measure(shipper: &Shipper, files: usize) -> Outcome<Point> {
    let (place, sink) = (Place::new()?, Sink::start(Protocol::Bulk, Depth::Count)?);
    write_files(&place, LINES, files)?;
    shipper.configure(&place, &Bulk::to(sink.port()))?;
    let mut running = Running::start(shipper, &place, &[])?;
    sink.tally().wait_for(LINES as u64, LIMIT)?;
    let ship_s = running.cpu().as_secs_f64();
    // What is measured is a time without events: here a pause is the measurement.
    std::thread::sleep(SETTLE);
    running.sample()?;
    let before = running.cpu();
    std::thread::sleep(WATCH);
    let rest_percent = (running.cpu() - before).as_secs_f64() / WATCH.as_secs_f64() * 100.0;
    let resident_mb = running.resident_mb()[0];
    let before = running.cpu();
    go_on(&place, files).map_err(|e| format!("writing: {e}"))?;
    sink.tally().wait_for((LINES + FURTHER) as u64, LIMIT)?;
    let few_s = (running.cpu() - before).as_secs_f64();
    running.stop()?;
    Ok(Point { files, ship_s, resident_mb, rest_percent, few_s })
}

/// Appends to a few of the files, evenly over some seconds.
fn go_on(place: &Place, files: usize) -> std::io::Result<()> {
    let busy = BUSY.min(files);
    let open = |n: usize| fs::File::options().append(true).open(place.logs().join(format!("{n:05}.log")));
    let mut writers = (0..busy).map(|n| open(n * files / busy)).collect::<std::io::Result<Vec<_>>>()?;
    for piece in 0..PIECES {
        for (n, writer) in writers.iter_mut().enumerate() {
            let lines: String = (0..FURTHER / PIECES / busy).map(|i| line(i + n * PIECES + piece)).collect();
            writer.write_all(lines.as_bytes())?;
        }
        // The pace is a part of the measurement.
        std::thread::sleep(PIECE);
    }
    Ok(())
}

const WIDTH: f64 = 220.0;
const HEIGHT: f64 = 160.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 34.0;

fn svg(all: &[(&str, Vec<Point>)]) -> String {
    let (width, height) = (FIGURES.len() as f64 * (WIDTH + LEFT) + 20.0, HEIGHT + TOP + 40.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"10\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (n, figure) in FIGURES.iter().enumerate() {
        panel(&mut out, LEFT + n as f64 * (WIDTH + LEFT), figure, all);
    }
    out.push_str("</svg>\n");
    out
}

/// One figure over the number of files, both axes logarithmic.
fn panel(out: &mut String, left: f64, (title, figure): &Figure, all: &[(&str, Vec<Point>)]) {
    let values = || all.iter().flat_map(|(_, points)| points.iter().map(figure)).filter(|v| *v > 0.0);
    // Where everything is 0 there is no least value.
    let low = values().reduce(f64::min).map_or(0.0, |least| least.log10().floor());
    let high = values().reduce(f64::max).map_or(low, |most| most.log10().ceil()).max(low + 1.0);
    let x = |files: usize| left + ((files as f64).log10() - 2.0) / 3.0 * WIDTH;
    let y = |value: f64| TOP + HEIGHT - (value.max(1e-9).log10() - low).max(0.0) / (high - low) * HEIGHT;
    out.push_str(&format!("<text x=\"{left}\" y=\"18\" font-weight=\"bold\">{title}</text>\n"));
    for files in [100, 1000, 10_000, 100_000] {
        let (x, end) = (x(files), TOP + HEIGHT);
        out.push_str(&format!(
            "<path d=\"M{x:.0} {TOP}V{end}\" stroke=\"#ddd\"/><text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">\
             {files}</text>\n",
            end + 14.0
        ));
    }
    for power in low as i32..=high as i32 {
        let (y, tick) = (y(10f64.powi(power)), 10f64.powi(power));
        let tick = if power < 0 { format!("{tick:.*}", -power as usize) } else { format!("{tick:.0}") };
        out.push_str(&format!(
            "<path d=\"M{left} {y:.0}h{WIDTH}\" stroke=\"#ddd\"/><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">\
             {tick}</text>\n",
            left - 4.0,
            y + 3.0
        ));
    }
    for ((name, points), colour) in all.iter().zip(COLOURS) {
        let at: Vec<(f64, f64)> = points.iter().map(|p| (x(p.files), y(figure(p)))).collect();
        let line: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        out.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            line.join(" ")
        ));
        for (x, y) in &at {
            out.push_str(&format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>\n"));
        }
        if let Some((x, y)) = at.last() {
            let (x, y) = (x - 6.0, y - 6.0);
            out.push_str(&format!(
                "<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>\n"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_each_point_within_its_frame() {
        let point = |files| Point { files, ship_s: 0.5, resident_mb: files as f64, rest_percent: 0.0, few_s: 0.4 };
        let picture = svg(&[("pillion", vec![point(100), point(100_000)]), ("filebeat", vec![point(1000)])]);
        assert_eq!(picture.matches("<circle").count(), 12);
        assert!(!picture.contains("NaN") && !picture.contains("inf") && !picture.contains("-0"), "{picture}");
    }
}
