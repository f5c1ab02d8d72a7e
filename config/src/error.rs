//! What is wrong with a configuration file, shown to people: the place, the line with a caret under it, and
//! what to do. Knows nothing of keys and values.

use std::fmt;
use std::ops::Range;

/// The most of a source line that is shown, in characters; what is longer is cut around the caret.
const WIDTH_MAX: usize = 120;
/// The most of a message that is shown, in characters.
const MESSAGE_MAX: usize = 800;

/// Something wrong at a place of a text that is at hand.
#[derive(Debug)]
pub(crate) struct Fault {
    /// In bytes from the start of the text.
    pub(crate) span: Range<usize>,
    pub(crate) problem: String,
    pub(crate) help: String,
}

impl Fault {
    pub(crate) fn new(span: Range<usize>, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span, problem: problem.into(), help: help.into() }
    }
}

/// A configuration file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    name: String,
    place: Option<Box<Place>>,
    problem: String,
    help: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    source: String,
    /// How many characters stand before the caret in what is shown of the line.
    indent: usize,
    /// How many characters the caret underlines.
    width: usize,
}

impl ConfigError {
    /// An error about a file that could not even be read.
    pub(crate) fn unread(name: &str, problem: &str, help: &str) -> Self {
        Self { name: shown(name), place: None, problem: shown(problem), help: shown(help) }
    }

    pub(crate) fn at(name: &str, text: &str, fault: &Fault) -> Self {
        Self {
            name: shown(name),
            place: Some(Box::new(Place::of(text, &fault.span))),
            problem: shown(&fault.problem),
            help: shown(&fault.help),
        }
    }

    /// Line and column, both from 1, the column in characters; `None`: the file could not be read.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        self.place.as_ref().map(|place| (place.line, place.column))
    }

    /// What is wrong, in one line.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// What to do about it, in one line.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }
}

impl Place {
    fn of(text: &str, span: &Range<usize>) -> Self {
        let (before, after) = text.split_at(text.floor_char_boundary(span.start));
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let indent = before[line_start..].chars().count();
        let rest = after.split('\n').next().unwrap_or_default();
        let rest_visible = rest.strip_suffix('\r').unwrap_or(rest);
        let covered = text.floor_char_boundary(span.end).saturating_sub(before.len()).min(rest_visible.len());
        let width = rest_visible[..covered].chars().count();

        let cut = if indent + rest_visible.chars().count() <= WIDTH_MAX {
            0
        } else {
            indent.saturating_sub(WIDTH_MAX / 2)
        };
        let mut source: String =
            before[line_start..].chars().chain(rest_visible.chars()).skip(cut).map(visible).collect();
        if let Some((end, _)) = source.char_indices().nth(WIDTH_MAX) {
            source.truncate(end);
            source.push('…');
        }
        let lead = if cut == 0 { "" } else { "…" };
        let indent_shown = indent - cut + lead.chars().count();
        Self {
            line: before.matches('\n').count() + 1,
            column: indent + 1,
            width: width.min(WIDTH_MAX.saturating_sub(indent - cut)).max(1),
            source: format!("{lead}{source}"),
            indent: indent_shown,
        }
    }
}

/// A character that stays in its place: no control character reaches a terminal.
fn visible(letter: char) -> char {
    match letter {
        '\t' => ' ',
        control if control.is_control() => char::REPLACEMENT_CHARACTER,
        letter => letter,
    }
}

fn shown(message: &str) -> String {
    let mut text: String = message.chars().take(MESSAGE_MAX).map(visible).collect();
    if text.chars().count() == MESSAGE_MAX {
        text.push('…');
    }
    text
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, place, problem, help } = self;
        if let Some(place) = place {
            let Place { line, column, source, indent, width } = &**place;
            let gutter = line.to_string().len();
            writeln!(f, "{name}:{line}:{column}: {problem}")?;
            writeln!(f, "{}", format!("  {line} | {source}").trim_end())?;
            writeln!(f, "  {:gutter$} | {:indent$}{:^<width$}", "", "", "")?;
        } else {
            writeln!(f, "{name}: {problem}")?;
        }
        write!(f, "help: {help}")
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, span: Range<usize>, said: &str) {
        let error = ConfigError::at("f", text, &Fault::new(span, "it is wrong", "mend it"));
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn the_caret_stands_under_what_is_wrong() {
        check("a = 1\nbc = 22\n", 11..13, "f:2:6: it is wrong\n  2 | bc = 22\n    |      ^^\nhelp: mend it");
    }

    #[test]
    fn columns_are_counted_in_characters() {
        check("ä = \"ö\"", 5..9, "f:1:5: it is wrong\n  1 | ä = \"ö\"\n    |     ^^^\nhelp: mend it");
    }

    #[test]
    fn an_end_of_file_has_a_place() {
        check("", 0..0, "f:1:1: it is wrong\n  1 |\n    | ^\nhelp: mend it");
        check("a = 1\r\n", 7..7, "f:2:1: it is wrong\n  2 |\n    | ^\nhelp: mend it");
        check("a", 99..100, "f:1:2: it is wrong\n  1 | a\n    |  ^\nhelp: mend it");
    }

    #[test]
    fn only_the_first_line_of_a_span_is_underlined() {
        check("a = [\r\n]", 4..8, "f:1:5: it is wrong\n  1 | a = [\n    |     ^\nhelp: mend it");
    }

    #[test]
    fn control_characters_are_replaced_and_tabs_keep_their_place() {
        check("\t\u{1b}\0x", 3..4, "f:1:4: it is wrong\n  1 |  \u{fffd}\u{fffd}x\n    |    ^\nhelp: mend it");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}X{}", "a".repeat(1000), "b".repeat(1000));
        let error = ConfigError::at("f", &text, &Fault::new(1000..1001, "wrong".repeat(1000), "mend it"));
        assert_eq!(error.position(), Some((1, 1001)));
        let said = error.to_string();
        assert!(said.chars().count() < 1200, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        let under = lines[2].find('^').expect("a caret");
        assert_eq!(lines[1].chars().nth(under), Some('X'));
        let whole = ConfigError::at("f", &text, &Fault::new(0..2001, "wrong", "mend it")).to_string();
        assert!(whole.lines().all(|line| line.chars().count() < 140), "{whole}");
    }
}
