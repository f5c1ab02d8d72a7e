//! The order in which modules stand, each using only those after it: of a crate, and inside a module's folder. Reads
//! sources as text; must not know what a module does.

use super::{Text, assert_tidy, read, rust_files};
use std::ops::Range;

/// Whose modules stand in a listed order: crates, by their folders, and modules that have a folder of their own.
const ORDERED: [&str; 14] = [
    "core",
    "core/src/connection",
    "core/src/exchange",
    "core/src/frame",
    "core/src/lifetime",
    "core/src/pulse",
    "sessions",
    "sessions/src/sessions",
    "gateway",
    "shard",
    "shard/src/shard",
    "config",
    "store",
    "client",
];

/// The words in backticks, in their order.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether it belongs to a crate whose modules stand in an order.
fn is_in_a_crate(path: &str) -> bool {
    ORDERED.iter().any(|place| !place.contains('/') && path.starts_with(&format!("{place}/src/")))
}

/// Some modules side by side: those of a crate, or those in the folder of one of its modules.
struct Siblings {
    /// The file that declares them, and says on its first page in which order they stand.
    page: String,
    folder: String,
    /// What stands before the name of one of them in a path.
    path: String,
    order: Vec<String>,
}

impl Siblings {
    fn at(place: &str) -> Self {
        let (page, folder, path) = match place.split_once("/src/") {
            None => (format!("{place}/src/lib.rs"), format!("{place}/src/"), "crate::".to_owned()),
            Some((_, module)) => {
                let path = format!("crate::{}::", module.replace('/', "::"));
                (format!("{place}.rs"), format!("{place}/"), path)
            }
        };
        let order = module_order(&page);
        Self { page, folder, path, order }
    }

    /// The place of a module in the order.
    fn place(&self, module: &str) -> Option<usize> {
        self.order.iter().position(|name| name == module)
    }

    /// What a file among them may not use.
    fn faults(&self, file: &Text, page: &str) -> Vec<String> {
        let Some(path) = file.path.strip_prefix(&self.folder) else { return Vec::new() };
        let module = path.trim_end_matches(".rs").split('/').next().unwrap_or_default();
        let is_crate = self.path == "crate::";
        if is_crate && (module == "lib" || module == "tests") {
            return Vec::new();
        }
        let mut used = uses(&file.text, &self.path);
        if !is_crate {
            used.extend(uses(&file.text, &"super::".repeat(path.split('/').count())));
        }
        let fault = |(line, name): (usize, String)| {
            // A name that the declaring file has from one of them stands for that one.
            let name = if is_crate { name } else { origin(page, &name).unwrap_or(name) };
            let is_earlier = match self.place(&name) {
                Some(place) => Some(place) < self.place(module),
                // Without a place it is something that lib.rs exports: say its module instead.
                None => is_crate,
            };
            (name != module && is_earlier).then(|| format!("{}:{line}: {module} uses {name}", file.path))
        };
        used.into_iter().filter_map(fault).collect()
    }
}

/// The order in which modules stand, as the page that declares them says.
fn module_order(path: &str) -> Vec<String> {
    let page = read(path);
    let page: Vec<&str> = page.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let page = page.join("\n");
    let (_, rest) = page
        .split_once("Modules, each using only those after it:")
        .unwrap_or_else(|| panic!("{path}: its first page has to say the order of the modules"));
    quoted(rest.split("\n\n").next().unwrap_or_default())
}

/// From which of its modules a file has this name.
fn origin(page: &str, name: &str) -> Option<String> {
    let imports = page.split("use ").skip(1).filter_map(|rest| rest.split(';').next());
    let mut imports = imports.filter_map(|import| import.split_once("::"));
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let imported = |rest: &str| rest.split(|letter| !is_name(letter)).any(|word| word == name);
    let (module, _) = imports.find(|(module, rest)| module.chars().all(is_name) && imported(rest))?;
    Some(module.to_owned())
}

#[test]
fn the_order_of_modules_is_complete_and_said_twice() {
    let map = read("ARCHITECTURE.md");
    for place in ORDERED {
        let Siblings { page, order, .. } = Siblings::at(place);
        let source = read(&page);
        let declared = source.lines().filter_map(|line| {
            let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'))
        });
        let mut declared: Vec<&str> = declared.filter(|module| *module != "tests").collect();
        declared.sort_unstable();
        let mut listed: Vec<&str> = order.iter().map(String::as_str).collect();
        listed.sort_unstable();
        assert_eq!(listed, declared, "{page}: the listed modules are not those that there are");
        let start = if place.contains('/') { format!("- {place}/: ") } else { format!("- {place}: ") };
        let line = map.lines().find_map(|line| line.strip_prefix(&start));
        let line = line.unwrap_or_else(|| panic!("ARCHITECTURE.md: no line begins with {start:?}"));
        assert_eq!(quoted(line), order, "ARCHITECTURE.md says another order than {page}");
    }
}

#[test]
fn modules_use_only_what_comes_after_them() {
    let files = rust_files();
    let mut faults = Vec::new();
    for place in ORDERED {
        let siblings = Siblings::at(place);
        let page = read(&siblings.page);
        faults.extend(files.iter().flat_map(|file| siblings.faults(file, &page)));
    }
    let crates = files.iter().filter(|file| is_in_a_crate(&file.path) && !file.is_test());
    faults.extend(crates.flat_map(upward_uses));
    assert_tidy("a module uses only those after it in the order of its siblings", &faults);
}

/// What `super` reaches from a file: its own module's parts, or another module behind the order's back.
fn upward_uses(file: &Text) -> Vec<String> {
    let Some((_, path)) = file.path.split_once("/src/") else { return Vec::new() };
    let depth = path.split('/').count();
    let outside = format!("use {}", "super::".repeat(depth));
    let is_outside = |(_, line): &(usize, &str)| line.starts_with(&outside);
    let fault = |(number, line): (usize, &str)| format!("{}:{number}: say crate:: in {line}", file.path);
    file.lines().filter(is_outside).map(fault).collect()
}

/// The names that stand in a source after such a path, with the lines. Comments may name whatever they like.
fn uses(source: &str, path: &str) -> Vec<(usize, String)> {
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (start, path) in code.match_indices(path) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|letter| letter.is_alphanumeric() || "_:".contains(letter)) {
            continue;
        }
        let rest = start + path.len()..code.len();
        for (at, name) in first_names(&code, rest) {
            found.push((code[..at].matches('\n').count() + 1, name));
        }
    }
    found
}

/// The first names of a path, of which there are several if it begins with a group in braces.
fn first_names(code: &str, rest: Range<usize>) -> Vec<(usize, String)> {
    let name_at = |at: usize| {
        let is_end = |letter: char| !(letter.is_alphanumeric() || letter == '_');
        let name = code[at..].split(is_end).next().unwrap_or_default();
        (!["", "super"].contains(&name)).then(|| (at, name.to_owned()))
    };
    if !code[rest.clone()].starts_with('{') {
        return name_at(rest.start).into_iter().collect();
    }
    let mut names = Vec::new();
    let mut depth = 0;
    let mut fresh = false;
    for (at, letter) in code[rest.clone()].char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' => fresh = true,
            letter if !letter.is_whitespace() && depth == 1 && (fresh || names.is_empty()) => {
                names.extend(name_at(rest.start + at));
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

#[test]
fn uses_are_found_in_groups_and_paths_and_not_in_comments() {
    let source = "use crate::{a, b::c, d::{e, f}};\n//! crate::g\nfn x() { crate::h::i() }\nuse pulsegate_crate::j;\n\
                  use crate::{\n    k,\n    l::{m,\n n},\n};\nuse super::o;\nuse super::super::p;\n";
    let named = |path: &str| -> Vec<String> {
        uses(source, path).iter().map(|(line, name)| format!("{line} {name}")).collect()
    };
    assert_eq!(named("crate::"), ["1 a", "1 b", "1 d", "3 h", "6 k", "7 l"]);
    assert_eq!(named("crate::d::"), [] as [&str; 0], "a group in a group is one name");
    assert_eq!(
        (named("super::"), named("super::super::")),
        (vec!["10 o".to_owned()], vec!["11 p".to_owned()])
    );
}
