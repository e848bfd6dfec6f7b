//! The figures as JSON and as a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::child::run;
use crate::shipper::Shipper;
use crate::{Outcome, root};

/// One figure of one shipper.
pub(super) struct Row {
    what: String,
    shipper: &'static str,
    unit: &'static str,
    /// All measurements, smallest first.
    all: Vec<f64>,
    /// What Pillion may have at most: the median, and the 99th percentile.
    most: Option<f64>,
    most_p99: Option<f64>,
}

impl Row {
    pub(super) fn new(
        what: String,
        shipper: &Shipper,
        unit: &'static str,
        mut all: Vec<f64>,
        most: Option<f64>,
    ) -> Row {
        all.sort_by(f64::total_cmp);
        Row { what, shipper: shipper.name(), unit, all, most, most_p99: None }
    }

    pub(super) fn with_p99(mut self, most: f64) -> Row {
        self.most_p99 = Some(most);
        self
    }

    /// The value below which a part of all lies (nearest rank).
    fn quantile(&self, part: f64) -> f64 {
        let rank = (self.all.len() as f64 * part).ceil() as usize;
        self.all.get(rank.clamp(1, self.all.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    }

    fn figure(&self) -> String {
        let median = short(self.quantile(0.5));
        if self.all.len() < 10 { median } else { format!("{median} (99 %: {})", short(self.quantile(0.99))) }
    }

    fn target(&self) -> String {
        match (self.most, self.most_p99) {
            (Some(most), Some(p99)) => format!("{most} (99 %: {p99})"),
            (Some(most), None) => most.to_string(),
            (None, _) => String::new(),
        }
    }

    /// For the person who waits.
    pub(super) fn line(&self) -> String {
        let target = self.target();
        let target = if target.is_empty() { target } else { format!(", at most {target}") };
        format!("{}, {}: {} {}{target}", self.what, self.shipper, self.figure(), self.unit)
    }

    fn json(&self) -> Value {
        json!({"what": self.what, "shipper": self.shipper, "unit": self.unit, "median": self.quantile(0.5),
            "p99": self.quantile(0.99), "runs": self.all.len(), "all": self.all, "at_most": self.most,
            "p99_at_most": self.most_p99})
    }
}

fn short(x: f64) -> String {
    if x >= 100.0 {
        format!("{x:.0}")
    } else if x >= 10.0 {
        format!("{x:.1}")
    } else {
        format!("{x:.2}")
    }
}

/// Writes the results of today.
pub(super) fn write(shippers: &[Shipper], words: &[&str], rows: &[Row], out: Option<&str>) -> Outcome {
    let machine = machine();
    let versions: BTreeMap<&str, String> = shippers.iter().map(|s| (s.name(), version(s))).collect();
    let command = format!("cargo xtask bench {}", words.join(" "));
    let folder = out.map_or_else(|| root().join("bench/results"), PathBuf::from);
    let name = line_of(Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let all: Vec<Value> = rows.iter().map(Row::json).collect();
    let json = json!({"machine": machine, "versions": versions, "command": command.trim(), "rows": all});

    let mut table = format!("# Measured on {name}\n\n{machine}; `{}`\n\n", command.trim());
    for (shipper, version) in &versions {
        table.push_str(&format!("- {shipper}: {version}\n"));
    }
    let head: String = shippers.iter().map(|s| format!(" {} |", s.name())).collect();
    table.push_str(&format!("\n| what | unit | at most |{head}\n|---|---|---|{}\n", "---|".repeat(shippers.len())));
    let mut seen = Vec::new();
    for row in rows.iter().filter(|r| {
        !seen.contains(&&r.what) && {
            seen.push(&r.what);
            true
        }
    }) {
        let figures: String = shippers
            .iter()
            .map(|s| rows.iter().find(|r| r.what == row.what && r.shipper == s.name()))
            .map(|r| format!(" {} |", r.map_or("–".into(), Row::figure)))
            .collect();
        table.push_str(&format!("| {} | {} | {} |{figures}\n", row.what, row.unit, row.target()));
    }
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join(format!("{name}.json")), format!("{json:#}\n")))
        .and_then(|()| fs::write(folder.join(format!("{name}.md")), &table))
        .map_err(|e| format!("{}: {e}", folder.display()))?;
    println!("written to {}/{name}.json and .md", folder.display());
    Ok(())
}

/// Processor, cores, memory, kernel, and how busy it was when the measurement ended.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        line.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load: String = read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!(
        "{}, {cores} cores, {} of memory, Linux {}, load at the end {load}",
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

fn version(shipper: &Shipper) -> String {
    let said = line_of(Command::new(&shipper.path).arg(shipper.version_word()));
    let bytes = fs::metadata(&shipper.path).map_or(0, |m| m.len());
    format!("{said}, {:.1} MB", bytes as f64 / 1e6)
}

fn line_of(command: &mut Command) -> String {
    run(command).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let shipper = Shipper::pillion_at("x".into());
        let row = Row::new("x".into(), &shipper, "ms", (1..=200).rev().map(f64::from).collect(), None);
        assert_eq!((row.quantile(0.5), row.quantile(0.99)), (100.0, 198.0));
        assert_eq!(Row::new("x".into(), &shipper, "ms", vec![3.0], None).quantile(0.99), 3.0);
    }
}
