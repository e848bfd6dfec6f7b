//! Patterns of `paths`: Go's `filepath.Glob`, and `**`.
//!
//! Comes in: the pattern as the user wrote it. Goes out: its parts, which a walk matches folder by folder, and a test of
//! a whole path.
//!
//! Always holds: `*`, `?` and `[a-z]`, `[^a-z]` never match `/`; a leading dot is nothing special; `\` quotes the next
//! character; `{a,b}` is literal. A malformed pattern is an error at the start, not at each scan. `**` as a whole part
//! stands for 0 to 8 folders (Filebeat 6 and later with `recursive_glob`); at the end for the files 1 to 8 levels below.
//! Without `recursive_glob`, and in 5.6, `**` is the same as `*`. Names that aren't UTF-8 are matched with each bad byte
//! taken for one character, as Go does.
//!
//! Tested below.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// How many folders `**` stands for at most: Filebeat's `recursiveGlobDepth`.
pub(crate) const STAR_DEPTH: u8 = 8;

/// A pattern that Go's `filepath.Match` refuses, or that has more than one `**`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `[` without its `]`, an empty range, a `\` at the end.
    #[error("syntax error in pattern")]
    Syntax,
    /// Filebeat takes one `**` in a pattern.
    #[error("more than one ** in the pattern")]
    SeveralDoubleStars,
    /// Nothing to look for.
    #[error("the path is empty")]
    Empty,
    /// The pattern doesn't begin with `/`.
    #[error("the path isn't absolute")]
    Relative,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    Char(u32),
    Class { negated: bool, ranges: Vec<(u32, u32)> },
}

/// One part of a pattern, between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(OsString),
    Match(Vec<Token>),
    DoubleStar,
}

/// One pattern of `paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

/// Where a walk stands in a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) pattern: u16,
    part: u16,
    stars: u8,
}

/// What a name leads to.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// The name is what a pattern looks for.
    pub(crate) found: bool,
    /// The name may be a folder to go on in.
    pub(crate) below: Vec<At>,
}

impl Glob {
    /// Reads an absolute pattern. `recursive`: `**` is understood.
    pub fn new(pattern: &OsStr, recursive: bool) -> Result<Glob, PatternError> {
        let bytes = pattern.as_bytes();
        match bytes.first() {
            None => return Err(PatternError::Empty),
            Some(b'/') => {}
            Some(_) => return Err(PatternError::Relative),
        }
        let mut parts = Vec::new();
        for part in bytes.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b"**" if recursive => parts.push(Part::DoubleStar),
                _ if !part.iter().any(|b| br"*?[\".contains(b)) => {
                    parts.push(Part::Literal(OsString::from_vec(part.to_vec())));
                }
                _ => parts.push(Part::Match(tokens(part)?)),
            }
        }
        if parts.iter().filter(|p| **p == Part::DoubleStar).count() > 1 {
            return Err(PatternError::SeveralDoubleStars);
        }
        if parts.is_empty() { Err(PatternError::Empty) } else { Ok(Glob { parts }) }
    }

    /// The folder in which the walk begins: the literal parts before the first other one, without the last part.
    pub(crate) fn root(&self) -> PathBuf {
        let mut root = PathBuf::from("/");
        root.extend(self.literal_prefix());
        root
    }

    /// The folder that all paths that match lie in or beneath.
    pub fn folder(&self) -> PathBuf {
        self.root()
    }

    /// How many folders and files deep below its root the walk goes at most.
    pub(crate) fn depth(&self) -> usize {
        let deep = |part: &Part| if *part == Part::DoubleStar { usize::from(STAR_DEPTH) } else { 1 };
        self.parts[self.literal_prefix().count()..].iter().map(deep).sum()
    }

    fn literal_prefix(&self) -> impl Iterator<Item = &OsString> {
        let last = self.parts.len() - 1;
        self.parts[..last].iter().map_while(|p| match p {
            Part::Literal(name) => Some(name),
            _ => None,
        })
    }

    /// Where a walk of this pattern stands in its root.
    pub(crate) fn start(&self, pattern: u16) -> Vec<At> {
        let mut out = Vec::new();
        self.enter(At { pattern, part: self.literal_prefix().count() as u16, stars: 0 }, &mut out);
        out
    }

    /// Adds a place, and the one behind a `**` that stands for no folder (any more).
    fn enter(&self, at: At, out: &mut Vec<At>) {
        out.push(at);
        if self.parts.get(usize::from(at.part)) == Some(&Part::DoubleStar)
            && usize::from(at.part) + 1 < self.parts.len()
        {
            out.push(At { part: at.part + 1, stars: 0, ..at });
        }
    }

    /// The name that has to be there, when only one can be: no need to list the folder.
    pub(crate) fn only_name(&self, at: At) -> Option<&OsStr> {
        match self.parts.get(usize::from(at.part)) {
            Some(Part::Literal(name)) => Some(name),
            _ => None,
        }
    }

    /// What `name` in a folder that the walk reached at `at` leads to.
    pub(crate) fn step(&self, at: At, name: &OsStr, next: &mut Next) {
        let last = usize::from(at.part) + 1 == self.parts.len();
        match self.parts.get(usize::from(at.part)) {
            Some(Part::DoubleStar) if at.stars < STAR_DEPTH => {
                next.found |= last;
                self.enter(At { stars: at.stars + 1, ..at }, &mut next.below);
                if last && at.stars + 1 >= STAR_DEPTH {
                    next.below.pop();
                }
            }
            Some(Part::DoubleStar) => {}
            Some(part) if part.matches(name) => {
                if last {
                    next.found = true;
                } else {
                    self.enter(At { part: at.part + 1, stars: 0, ..at }, &mut next.below);
                }
            }
            _ => {}
        }
    }

    /// Whether a walk looks for files in a folder.
    pub(crate) fn enters(&self, dir: &Path) -> bool {
        let Ok(below) = dir.strip_prefix(self.root()) else { return false };
        let mut places = self.start(0);
        for name in below {
            let mut next = Next::default();
            places.iter().for_each(|at| self.step(*at, name, &mut next));
            places = next.below;
        }
        !places.is_empty()
    }

    /// Whether a whole path matches.
    pub fn matches(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(self.root()) else { return false };
        let names: Vec<_> = below.iter().collect();
        let mut places = self.start(0);
        for (i, name) in names.iter().enumerate() {
            let mut next = Next::default();
            places.iter().for_each(|at| self.step(*at, name, &mut next));
            if i + 1 == names.len() {
                return next.found;
            }
            places = next.below;
        }
        false
    }
}

impl Part {
    fn matches(&self, name: &OsStr) -> bool {
        match self {
            Part::Literal(l) => l == name,
            Part::Match(tokens) => matches(tokens, name.as_bytes()),
            Part::DoubleStar => true,
        }
    }
}

/// The next character as Go's `utf8.DecodeRune` sees it: a bad byte is U+FFFD of width 1.
fn rune(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((u32::from(first), 1));
    }
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(s) => s,
        Err(e) => std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default(),
    };
    Some(valid.chars().next().map_or((0xfffd, 1), |c| (c as u32, c.len_utf8())))
}

fn tokens(part: &[u8]) -> Result<Vec<Token>, PatternError> {
    let mut out = Vec::new();
    let mut rest = part;
    while let Some((c, n)) = rune(rest) {
        rest = &rest[n..];
        out.push(match u8::try_from(c) {
            Ok(b'*') => {
                if out.last() == Some(&Token::Star) {
                    continue;
                }
                Token::Star
            }
            Ok(b'?') => Token::Any,
            Ok(b'\\') => {
                let (c, n) = rune(rest).ok_or(PatternError::Syntax)?;
                rest = &rest[n..];
                Token::Char(c)
            }
            Ok(b'[') => class(&mut rest)?,
            _ => Token::Char(c),
        });
    }
    Ok(out)
}

/// A class behind its `[`: at least one range, until `]`.
fn class(rest: &mut &[u8]) -> Result<Token, PatternError> {
    let negated = rest.first() == Some(&b'^');
    if negated {
        *rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if rest.first() == Some(&b']') && !ranges.is_empty() {
            *rest = &rest[1..];
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_char(rest)?;
        let mut high = low;
        if rest.first() == Some(&b'-') {
            *rest = &rest[1..];
            high = class_char(rest)?;
        }
        ranges.push((low, high));
    }
}

/// One character of a class: Go refuses a bare `-` or `]`, a bad byte, and a character with nothing behind it.
fn class_char(rest: &mut &[u8]) -> Result<u32, PatternError> {
    if matches!(rest.first(), None | Some(b'-' | b']')) {
        return Err(PatternError::Syntax);
    }
    if rest.first() == Some(&b'\\') {
        *rest = &rest[1..];
    }
    let (c, n) = rune(rest).ok_or(PatternError::Syntax)?;
    *rest = &rest[n..];
    if (c == 0xfffd && n == 1) || rest.is_empty() { Err(PatternError::Syntax) } else { Ok(c) }
}

impl Token {
    fn takes(&self, c: u32) -> bool {
        match self {
            Token::Star => false,
            Token::Any => true,
            Token::Char(want) => *want == c,
            Token::Class { negated, ranges } => ranges.iter().any(|(l, h)| (*l..=*h).contains(&c)) != *negated,
        }
    }
}

/// Matches a whole name; on a mismatch the last star takes one character more: linear in practice, never exponential.
fn matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut t, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (tokens.get(t), rune(&name[n..])) {
            (None, None) => return true,
            (Some(Token::Star), _) => {
                star = Some((t, n));
                t += 1;
                continue;
            }
            (Some(token), Some((c, len))) if token.takes(c) => {
                t += 1;
                n += len;
                continue;
            }
            _ => {}
        }
        let Some((at, from)) = star else { return false };
        let Some((_, len)) = rune(&name[from..]) else { return false };
        star = Some((at, from + len));
        (t, n) = (at + 1, from + len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(p: &str) -> Glob {
        Glob::new(OsStr::new(p), true).unwrap()
    }

    /// The table of Go's own `match_test.go`, as far as it isn't about `/`.
    #[test]
    fn matches_as_go_does() {
        let table = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
            ("a{b,c}", "a{b,c}", true),
            ("a{b,c}", "ab", false),
            ("*", ".hidden", true),
        ];
        for (pattern, name, want) in table {
            let g = glob(&format!("/{pattern}"));
            assert_eq!(g.matches(&Path::new("/").join(name)), want, "{pattern} {name}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for p in ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "[a-b-c]", "a\\", "[\\"] {
            assert_eq!(Glob::new(OsStr::new(&format!("/d/{p}")), true), Err(PatternError::Syntax), "{p}");
        }
        assert_eq!(Glob::new(OsStr::new("a/*.log"), true), Err(PatternError::Relative));
        assert_eq!(Glob::new(OsStr::new(""), true), Err(PatternError::Empty));
        assert_eq!(Glob::new(OsStr::new("/a/**/b/**"), true), Err(PatternError::SeveralDoubleStars));
    }

    #[test]
    fn double_star_stands_for_up_to_eight_folders() {
        let g = glob("/l/**/*.log");
        let mut path = PathBuf::from("/l");
        for depth in 0..=9 {
            assert_eq!(g.matches(&path.join("x.log")), depth <= 8, "{depth}");
            path.push("d");
        }
        let g = glob("/l/**");
        let mut path = PathBuf::from("/l");
        for depth in 1..=9 {
            path.push("d");
            assert_eq!(g.matches(&path), depth <= 8, "{depth}");
        }
        let old = Glob::new(OsStr::new("/l/**/*.log"), false).unwrap();
        assert!(old.matches(Path::new("/l/a/x.log")) && !old.matches(Path::new("/l/x.log")));
    }

    #[test]
    fn roots_and_names_that_are_not_utf8() {
        assert_eq!(glob("/a/b/*.log").root(), Path::new("/a/b"));
        assert_eq!(glob("/a/b/c.log").root(), Path::new("/a/b"));
        assert_eq!(glob("/a/*/c.log").root(), Path::new("/a"));
        assert!(glob("//a///./b.log").matches(Path::new("/a/b.log")));
        let g = Glob::new(OsStr::from_bytes(b"/a/\xff?.log"), true).unwrap();
        assert!(g.matches(Path::new(OsStr::from_bytes(b"/a/\xff\xfe.log"))));
        assert!(!glob("/a/*.log").matches(Path::new("/a/b/c.log")));
    }
}
