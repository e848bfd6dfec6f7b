//! The table of losses.

use std::fs;

use serde_json::{Value, json};

use super::trial::{Counts, Left};
use super::{Cell, End, Setup};
use crate::{Outcome, root};

/// What became of all trials of a cell.
pub(super) struct Row {
    pub(super) cell: Cell,
    trials: usize,
    trials_with_loss: usize,
    sum: Counts,
    /// Of each shell trial.
    kills: Vec<Left>,
    failures: Vec<String>,
}

impl Row {
    pub(super) fn new(cell: Cell) -> Row {
        Row { cell, trials: 0, trials_with_loss: 0, sum: Counts::default(), kills: Vec::new(), failures: Vec::new() }
    }

    pub(super) fn add(&mut self, outcome: Outcome<Counts>) {
        self.trials += 1;
        match outcome {
            Ok(counts) => {
                self.trials_with_loss += usize::from(counts.lost > 0);
                self.sum.lost += counts.lost;
                self.sum.at_once += counts.at_once;
                self.sum.doubled += counts.doubled;
                self.sum.refused += counts.refused;
                self.sum.bad_exit += counts.bad_exit;
                self.kills.extend(counts.kill);
            }
            Err(why) => self.failures.push(why),
        }
    }

    fn names(&self) -> [&'static str; 3] {
        [self.cell.target.name(), self.cell.end.name(), self.cell.write.name()]
    }

    pub(super) fn line(&self) -> String {
        let [target, end, write] = self.names();
        let Counts { lost, at_once, doubled, refused, bad_exit, .. } = self.sum;
        let lines = self.trials * self.cell.write.lines();
        let mut text = format!(
            "{target:10} {end:9} {write:8} lost {lost} of {lines} lines, in {} of {} trials; doubled {doubled}, told apart by id {refused}",
            self.trials_with_loss, self.trials
        );
        if at_once > 0 {
            text.push_str(&format!("; {at_once} more that the kill left no time for"));
        }
        if bad_exit > 0 {
            text.push_str(&format!("; wrong exit codes {bad_exit}"));
        }
        if let Some(first) = self.failures.first() {
            text.push_str(&format!("; {} trials failed, the first: {first}", self.failures.len()));
        }
        text + &distribution(&self.kills)
    }

    fn json(&self) -> Value {
        let [target, end, write] = self.names();
        json!({
            "target": target, "end": end, "write": write, "trials": self.trials,
            "lines": self.trials * self.cell.write.lines(), "lost": self.sum.lost,
            "trials_with_loss": self.trials_with_loss, "killed_at_once": self.sum.at_once,
            "doubled": self.sum.doubled, "told_apart": self.sum.refused,
            "bad_exit": self.sum.bad_exit, "failed": self.failures,
            "kills_ms": self.kills.iter().map(Left::json).collect::<Vec<_>>(),
        })
    }
}

impl Left {
    fn json(&self) -> Value {
        let round = |ms: f64| (ms * 1000.0).round() / 1000.0;
        json!({"after_last_line": round(self.last_line), "dying": round(self.dying), "lost": self.lost,
            "after_first_lost_line": self.lost_line.map(round)})
    }
}

/// The upper bounds, in ms, of the classes in which the shells' ends are counted.
const CLASSES_MS: [f64; 10] = [1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0, f64::INFINITY];

/// How long after the last line the shells ended, and in how many of these trials lines were lost.
fn distribution(kills: &[Left]) -> String {
    let mut text = String::new();
    let mut from = 0.0;
    for to in CLASSES_MS {
        let class = || kills.iter().filter(|k| (from..to).contains(&k.last_line));
        if class().count() > 0 {
            let lossy: Vec<&Left> = class().filter(|k| k.lost > 0).collect();
            text.push_str(&format!(
                "\n    shell ended {from} to {to} ms after the last line: {} trials",
                class().count()
            ));
            if let Some(most) = lossy.iter().filter_map(|k| k.lost_line).max_by(f64::total_cmp) {
                let lines: usize = lossy.iter().map(|k| k.lost).sum();
                text.push_str(&format!(
                    ", {lines} lines lost in {} of them, written at most {most:.1} ms before",
                    lossy.len()
                ));
            }
        }
        from = to;
    }
    text
}

/// Writes the table as JSON.
pub(super) fn write(setup: &Setup, trials: usize, rows: &[Row]) -> Outcome {
    let folder = root().join("target/e2e");
    let path = folder.join(format!("loss-{}.json", setup.shipper.name()));
    let all: Vec<Value> = rows.iter().map(Row::json).collect();
    let text = json!({"shipper": setup.shipper.name(), "input": setup.input, "exactly_once": setup.exactly_once,
        "trials": trials, "cells": all});
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, format!("{text:#}\n")))
        .map_err(|e| format!("{}: {e}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

/// Whether the run shows what it should: Pillion loses nothing, another shipper loses something.
pub(super) fn verdict(setup: &Setup, rows: &[Row]) -> Outcome {
    let failed: usize = rows.iter().map(|r| r.failures.len()).sum();
    let lost: usize = rows.iter().map(|r| r.sum.lost).sum();
    let doubled: usize = rows.iter().map(|r| r.sum.doubled).sum();
    let bad_exit: usize = rows.iter().map(|r| r.sum.bad_exit).sum();
    if failed > 0 {
        return Err(format!("{failed} trials failed"));
    }
    if !setup.shipper.is_pillion() {
        // Killed and started again it loses nothing; ended for good it loses in each cell, or the trials are too kind.
        let kind = rows.iter().find(|r| r.cell.end != End::Kill && r.sum.lost == 0);
        return kind.map_or(Ok(()), |r| Err(format!("these trials prove nothing: {}", r.line())));
    }
    if lost > 0 || bad_exit > 0 || (setup.exactly_once && doubled > 0) {
        return Err(format!("lost {lost} lines, doubled {doubled}, {bad_exit} wrong exit codes"));
    }
    Ok(())
}
