//! What is wrong with a configuration file, shown to people: the place, the line with a caret under it, and
//! what to do. Knows nothing of keys and values.

use std::fmt;
use std::ops::Range;

/// The most of a source line that is shown, in characters; what is longer is cut around the caret.
const WIDTH_MAX: usize = 120;
/// The most of a message that is shown, in characters.
const MESSAGE_MAX: usize = 800;

/// The most faults that are shown of one file.
const SHOWN_MAX: usize = 100;
/// The columns that a help is wrapped at.
const COLUMNS: usize = 80;

/// What was found at a place of a text, in bytes from its start: what is wrong, and what to do about it.
pub(crate) type Found = (Range<usize>, String, String);

/// A configuration file that can't be used, and all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    name: String,
    marks: Vec<Mark>,
    /// How many more there are than are shown.
    left_out: usize,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    place: Option<Box<Place>>,
    problem: String,
    fix: String,
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

impl FileError {
    /// An error about a file that could not even be read.
    pub(crate) fn unread(name: &str, problem: &str, fix: &str) -> Self {
        let mark = Mark { place: None, problem: shown(problem), fix: shown(fix) };
        Self { name: shown(name), marks: vec![mark], left_out: 0 }
    }

    /// All that was found in a text, which is told by its place.
    pub(crate) fn new(name: &str, text: &str, mut found: Vec<Found>) -> Self {
        found.sort_by_key(|(span, ..)| span.start);
        let left_out = found.len().saturating_sub(SHOWN_MAX);
        let mark = |(span, problem, fix): &Found| Mark {
            place: Some(Box::new(Place::of(text, span))),
            problem: shown(problem),
            fix: shown(fix),
        };
        Self { name: shown(name), marks: found.iter().take(SHOWN_MAX).map(mark).collect(), left_out }
    }

    /// What is wrong, sorted by its place; at most 100 of it.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }
}

impl Mark {
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
    pub fn fix(&self) -> &str {
        &self.fix
    }

    fn write(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, problem, fix } = self;
        if let Some(place) = place {
            let Place { line, column, source, indent, width } = &**place;
            let gutter = line.to_string().len();
            writeln!(f, "{name}:{line}:{column}: {problem}")?;
            writeln!(f, "{}", format!("  {line} | {source}").trim_end())?;
            writeln!(f, "  {:gutter$} | {:indent$}{:^<width$}", "", "", "")?;
        } else {
            writeln!(f, "{name}: {problem}")?;
        }
        write!(f, "{}", wrapped("help: ", fix))
    }
}

/// A text behind a mark, in lines that begin under its first word.
fn wrapped(mark: &str, text: &str) -> String {
    let mut lines = String::from(mark);
    let mut column = mark.len();
    for (index, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > COLUMNS {
            lines.push('\n');
            lines.push_str(&" ".repeat(mark.len()));
            column = mark.len();
        } else if index > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += width;
    }
    lines
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

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mark) in self.marks.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "\n\n" })?;
            mark.write(&self.name, f)?;
        }
        match (self.marks.len(), self.left_out) {
            (0 | 1, 0) => Ok(()),
            (count, 0) => write!(f, "\n\n{}: {count} faults", self.name),
            (count, more) => write!(f, "\n\n{}: {count} faults, and {more} more", self.name),
        }
    }
}

impl std::error::Error for FileError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, span: Range<usize>, said: &str) {
        let error = FileError::new("f", text, vec![(span, "it is wrong".into(), "fix it".into())]);
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn the_caret_stands_under_what_is_wrong() {
        check("a = 1\nbc = 22\n", 11..13, "f:2:6: it is wrong\n  2 | bc = 22\n    |      ^^\nhelp: fix it");
    }

    #[test]
    fn columns_are_counted_in_characters() {
        check("ä = \"ö\"", 5..9, "f:1:5: it is wrong\n  1 | ä = \"ö\"\n    |     ^^^\nhelp: fix it");
    }

    #[test]
    fn an_end_of_file_has_a_place() {
        check("", 0..0, "f:1:1: it is wrong\n  1 |\n    | ^\nhelp: fix it");
        check("a = 1\r\n", 7..7, "f:2:1: it is wrong\n  2 |\n    | ^\nhelp: fix it");
        check("a", 99..100, "f:1:2: it is wrong\n  1 | a\n    |  ^\nhelp: fix it");
    }

    #[test]
    fn only_the_first_line_of_a_span_is_underlined() {
        check("a = [\r\n]", 4..8, "f:1:5: it is wrong\n  1 | a = [\n    |     ^\nhelp: fix it");
    }

    #[test]
    fn control_characters_are_replaced_and_tabs_keep_their_place() {
        check("\t\u{1b}\0x", 3..4, "f:1:4: it is wrong\n  1 |  \u{fffd}\u{fffd}x\n    |    ^\nhelp: fix it");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("{}X{}", "a".repeat(1000), "b".repeat(1000));
        let error = FileError::new("f", &text, vec![(1000..1001, "wrong".repeat(1000), "fix it".into())]);
        assert_eq!(error.marks()[0].position(), Some((1, 1001)));
        let said = error.to_string();
        assert!(said.chars().count() < 1200, "{said}");
        let lines: Vec<&str> = said.lines().collect();
        let under = lines[2].find('^').expect("a caret");
        assert_eq!(lines[1].chars().nth(under), Some('X'));
        let whole = FileError::new("f", &text, vec![(0..2001, "wrong".into(), "fix it".into())]).to_string();
        assert!(whole.lines().all(|line| line.chars().count() < 140), "{whole}");
    }

    #[test]
    fn all_that_is_wrong_is_told_by_its_place_and_counted() {
        let found = |at: usize| (at..at + 1, format!("wrong {at}"), "fix it".to_owned());
        let said = FileError::new("f", "a\nb\nc\n", vec![found(4), found(0)]).to_string();
        let first = "f:1:1: wrong 0\n  1 | a\n    | ^\nhelp: fix it";
        let second = "f:3:1: wrong 4\n  3 | c\n    | ^\nhelp: fix it";
        assert_eq!(said, format!("{first}\n\n{second}\n\nf: 2 faults"));
        let very_many = FileError::new("f", &"a\n".repeat(1000), (0..1000).map(found).collect());
        assert_eq!(very_many.marks().len(), 100);
        assert!(very_many.to_string().ends_with("\n\nf: 100 faults, and 900 more"));
    }

    #[test]
    fn a_help_fits_into_eighty_columns() {
        let help = wrapped("help: ", &"ninebytes ".repeat(20));
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        assert_eq!(
            help.lines().nth(1),
            Some(format!("      {}", "ninebytes ".repeat(7).trim_end())).as_deref()
        );
    }
}
