//! Two texts side by side: what changed, as `diff -u` tells it.
//!
//! Always holds: the work is bounded ([`MOST`]); beyond it the differing middle is shown as replaced.
//! Tested below.

/// Most lines that differ before the middle counts as replaced.
const MOST: usize = 2000;
/// Lines shown around a change.
const CONTEXT: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Same,
    Gone,
    New,
}

/// A unified diff; empty when both are the same.
pub fn unified(name: &str, before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) =
        (before.split_inclusive('\n').collect(), after.split_inclusive('\n').collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let rest = a.len().min(b.len()) - head;
    let tail = a.iter().rev().zip(b.iter().rev()).take(rest).take_while(|(x, y)| x == y).count();
    let mut script = vec![Line::Same; head];
    script.extend(between(&a[head..a.len() - tail], &b[head..b.len() - tail]));
    script.extend(vec![Line::Same; tail]);
    let mut out = String::new();
    for hunk in hunks(&script) {
        if out.is_empty() {
            out.push_str(&format!("--- {name}\n+++ {name}\n"));
        }
        show(&script, hunk, &a, &b, &mut out);
    }
    out
}

/// Myers' greedy algorithm.
fn between(a: &[&str], b: &[&str]) -> Vec<Line> {
    let (n, m) = (a.len(), b.len());
    let most = (n + m).min(MOST);
    let at = |k: isize| (k + most as isize + 1) as usize;
    let mut ends = vec![0usize; 2 * most + 3];
    let mut trace = Vec::new();
    for d in 0..=most as isize {
        trace.push(ends.clone());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || k != d && ends[at(k - 1)] < ends[at(k + 1)];
            let mut x = if down { ends[at(k + 1)] } else { ends[at(k - 1)] + 1 };
            while let y = (x as isize - k) as usize
                && x < n
                && y < m
                && a[x] == b[y]
            {
                x += 1;
            }
            ends[at(k)] = x;
            if x >= n && x as isize - k >= m as isize {
                return back(&trace, n, m, most);
            }
        }
    }
    [vec![Line::Gone; n], vec![Line::New; m]].concat()
}

/// From the end of both texts back to their beginning.
fn back(trace: &[Vec<usize>], n: usize, m: usize, most: usize) -> Vec<Line> {
    let at = |k: isize| (k + most as isize + 1) as usize;
    let (mut x, mut y) = (n as isize, m as isize);
    let mut script = Vec::new();
    for (d, ends) in trace.iter().enumerate().rev() {
        let (d, k) = (d as isize, x - y);
        let down = k == -d || k != d && ends[at(k - 1)] < ends[at(k + 1)];
        let before = if down { k + 1 } else { k - 1 };
        let from = if d == 0 { 0 } else { ends[at(before)] as isize };
        let start = if d == 0 { 0 } else { from + isize::from(!down) };
        while x > start {
            script.push(Line::Same);
            (x, y) = (x - 1, y - 1);
        }
        if d > 0 {
            script.push(if down { Line::New } else { Line::Gone });
            (x, y) = (from, from - before);
        }
    }
    script.reverse();
    script
}

/// Ranges of the script that are shown.
fn hunks(script: &[Line]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (i, _) in script.iter().enumerate().filter(|(_, line)| **line != Line::Same) {
        let (from, to) = (i.saturating_sub(CONTEXT), (i + CONTEXT + 1).min(script.len()));
        match hunks.last_mut() {
            Some(last) if last.end >= from => last.end = to,
            _ => hunks.push(from..to),
        }
    }
    hunks
}

fn show(script: &[Line], hunk: std::ops::Range<usize>, a: &[&str], b: &[&str], out: &mut String) {
    let count = |range: &[Line], not: Line| range.iter().filter(|line| **line != not).count();
    let (mut x, mut y) = (count(&script[..hunk.start], Line::New), count(&script[..hunk.start], Line::Gone));
    let (n, m) = (count(&script[hunk.clone()], Line::New), count(&script[hunk.clone()], Line::Gone));
    out.push_str(&format!("@@ -{},{n} +{},{m} @@\n", x + usize::from(n > 0), y + usize::from(m > 0)));
    for line in &script[hunk] {
        let (mark, text) = match line {
            Line::Same => (' ', a[x]),
            Line::Gone => ('-', a[x]),
            Line::New => ('+', b[y]),
        };
        x += usize::from(*line != Line::New);
        y += usize::from(*line != Line::Gone);
        out.push(mark);
        out.push_str(text);
        if !text.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn changes_are_shown_with_what_is_around_them() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9";
        assert_eq!(
            unified("f", before, "1\n2\n3\n4\nx\n6\n7\n8\n9"),
            "--- f\n+++ f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n"
        );
        assert_eq!(unified("f", before, before), "");
        assert_eq!(unified("f", "", "a\n"), "--- f\n+++ f\n@@ -0,0 +1,1 @@\n+a\n");
        assert!(
            unified("f", before, "1").ends_with("-9\n\\ No newline at end of file\n+1\n\\ No newline at end of file\n")
        );
    }

    proptest! {
        #[test]
        fn the_script_leads_from_the_one_to_the_other(a in "[abc\n]{0,30}", b in "[abc\n]{0,30}") {
            let (x, y): (Vec<&str>, Vec<&str>) = (a.split_inclusive('\n').collect(), b.split_inclusive('\n').collect());
            let (mut i, mut j, mut made) = (0, 0, String::new());
            for line in between(&x, &y) {
                match line {
                    Line::Same => { prop_assert_eq!(x[i], y[j]); made.push_str(x[i]); i += 1; j += 1; }
                    Line::Gone => i += 1,
                    Line::New => { made.push_str(y[j]); j += 1; }
                }
            }
            prop_assert_eq!((i, made), (x.len(), b));
        }
    }
}
