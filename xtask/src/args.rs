//! The words after a chore's name: `--key value`, `--switch`, and the rest.
//!
//! Always holds: a word that nobody asked for is an error, not ignored.

use crate::Outcome;

/// What is left of the command line.
pub(crate) struct Args {
    words: Vec<String>,
}

impl Args {
    /// All words of a chore.
    pub(crate) fn new(words: &[&str]) -> Args {
        Args { words: words.iter().map(|&w| w.to_owned()).collect() }
    }

    /// Takes `--name value`.
    pub(crate) fn value(&mut self, name: &str) -> Outcome<Option<String>> {
        let Some(at) = self.words.iter().position(|w| w == name) else { return Ok(None) };
        if at + 1 == self.words.len() {
            return Err(format!("{name} wants a value"));
        }
        self.words.remove(at);
        Ok(Some(self.words.remove(at)))
    }

    /// Takes `--name number`, or gives the default.
    pub(crate) fn number(&mut self, name: &str, default: usize) -> Outcome<usize> {
        match self.value(name)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name} wants a number, not {text}")),
        }
    }

    /// Takes `--name`.
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        let at = self.words.iter().position(|w| w == name);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// What is left, none of it an option.
    pub(crate) fn rest(self) -> Outcome<Vec<String>> {
        match self.words.iter().find(|w| w.starts_with('-')) {
            Some(odd) => Err(format!("there is no option {odd} here")),
            None => Ok(self.words),
        }
    }
}
