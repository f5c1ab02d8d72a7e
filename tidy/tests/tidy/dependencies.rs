//! Who may depend on what: the crates of this workspace among each other, and each on crates from outside. Reads what
//! cargo says of the workspace; must not know what a crate does.

use super::{assert_tidy, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What a crate of this workspace may use.
struct Rule {
    name: &'static str,
    /// Crates of this workspace that it may be built on.
    on: &'static [&'static str],
    /// Those that its tests may use besides.
    in_tests: &'static [&'static str],
    outside: Outside,
}

/// What a crate may be built on that comes from outside, over however many others.
enum Outside {
    /// These and no others.
    Only(&'static [&'static str]),
    /// All but these.
    Never(&'static [&'static str]),
}
use Outside::{Never, Only};

/// A program's things: an embedding program has its own, or none.
const PROGRAM: &[&str] = &[
    "anyhow",
    "bytesize",
    "clap",
    "hdrhistogram",
    "humantime",
    "serde",
    "tokio",
    "toml",
    "tracing-appender",
    "tracing-subscriber",
];
/// Whatever talks to the network.
const NETWORK: &[&str] = &["async-nats", "hyper", "mio", "rustls", "socket2", "tokio"];

/// What a shard is built on: core's `memchr`, and locks that can't be poisoned (`parking_lot`), the log (`tracing`) and errors
/// that say their sentence (`thiserror`), each with what it needs itself. Nothing that opens or polls a socket.
const SHARD: &[&str] = &[
    "cfg-if",
    "libc",
    "lock_api",
    "memchr",
    "once_cell",
    "parking_lot",
    "parking_lot_core",
    "pin-project-lite",
    "proc-macro2",
    "quote",
    "scopeguard",
    "smallvec",
    "syn",
    "thiserror",
    "thiserror-impl",
    "tracing",
    "tracing-core",
    "unicode-ident",
];

/// One row for each crate, from the bottom up. ARCHITECTURE.md says what each is.
const RULES: [Rule; 12] = [
    Rule { name: "pulsegate-core", on: &[], in_tests: &[], outside: Only(&["memchr"]) },
    Rule { name: "pulsegate-sessions", on: &["pulsegate-core"], in_tests: &[], outside: Only(&["memchr"]) },
    Rule {
        name: "pulsegate-shard",
        on: &["pulsegate-core", "pulsegate-sessions"],
        in_tests: &[],
        outside: Only(SHARD),
    },
    Rule {
        name: "pulsegate-store",
        on: &["pulsegate-core", "pulsegate-sessions"],
        in_tests: &[],
        outside: Never(NETWORK),
    },
    Rule {
        name: "pulsegate-client",
        on: &["pulsegate-core"],
        in_tests: &["pulsegate-client-peer"],
        outside: Never(&["anyhow", "clap", "parking_lot", "serde", "toml", "tracing"]),
    },
    Rule {
        name: "pulsegate-client-peer",
        on: &["pulsegate-core", "pulsegate-sessions"],
        in_tests: &[],
        outside: Never(&["rusqlite"]),
    },
    Rule {
        name: "pulsegate",
        on: &["pulsegate-core", "pulsegate-sessions", "pulsegate-shard", "pulsegate-store"],
        in_tests: &[],
        outside: Never(PROGRAM),
    },
    Rule {
        name: "pulsegate-config",
        on: &["pulsegate", "pulsegate-core"],
        in_tests: &[],
        outside: Never(&["anyhow", "clap", "hyper", "tokio", "tracing-subscriber"]),
    },
    Rule {
        name: "pulsegate-bench",
        on: &["pulsegate", "pulsegate-config", "pulsegate-core"],
        in_tests: &[],
        outside: Never(&["tokio", "tracing-subscriber"]),
    },
    Rule {
        name: "pulsegate-cli",
        on: &[
            "pulsegate",
            "pulsegate-bench",
            "pulsegate-client",
            "pulsegate-config",
            "pulsegate-core",
            "pulsegate-sessions",
            "pulsegate-store",
        ],
        in_tests: &[],
        outside: Never(&[]),
    },
    Rule {
        name: "pulsegate-micro",
        on: &["pulsegate-core", "pulsegate-store"],
        in_tests: &[],
        outside: Never(NETWORK),
    },
    Rule { name: "pulsegate-tidy", on: &[], in_tests: &["pulsegate-core"], outside: Only(&[]) },
];

/// What one crate asks for.
#[derive(Default)]
struct Asked {
    /// To be built.
    built: BTreeSet<String>,
    /// For its tests, examples and benchmarks only.
    tested: BTreeSet<String>,
}

/// Each crate, of this workspace and from outside, with what it asks for.
struct Graph {
    members: BTreeSet<String>,
    asked: BTreeMap<String, Asked>,
}

impl Graph {
    /// What cargo says of this workspace.
    fn read() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // What only other systems need may not be here.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let args = ["metadata", "--format-version", "1", "--locked", "--offline", "--all-features"];
        let mut command = Command::new(cargo);
        command.args(args).args(["--filter-platform", &platform]).current_dir(root());
        let output = command.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::of(&serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    fn of(metadata: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let packages = list(&metadata["packages"]);
        let names: BTreeMap<String, String> =
            packages.iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let members = list(&metadata["workspace_members"]);
        let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            // Of several versions of a crate, what any of them asks for counts.
            let of = asked.entry(names[&text(&node["id"])].clone()).or_default();
            for dependency in list(&node["deps"]) {
                let name = &names[&text(&dependency["pkg"])];
                let kinds = list(&dependency["dep_kinds"]);
                let is_tested = kinds.iter().all(|kind| kind["kind"] == "dev");
                if is_tested { &mut of.tested } else { &mut of.built }.insert(name.clone());
            }
        }
        Self { members: members.iter().map(|id| names[&text(id)].clone()).collect(), asked }
    }

    /// Everything that a crate is built on, with the crate that asks for it.
    fn built_on<'a>(&'a self, name: &'a str) -> BTreeMap<&'a str, &'a str> {
        let mut found = BTreeMap::new();
        let mut next = vec![name];
        while let Some(by) = next.pop() {
            for used in self.asked.get(by).iter().flat_map(|asked| &asked.built) {
                if !found.contains_key(used.as_str()) {
                    found.insert(used.as_str(), by);
                    next.push(used);
                }
            }
        }
        found
    }

    /// What breaks the rules.
    fn faults(&self, rules: &[Rule]) -> Vec<String> {
        let mut faults = Vec::new();
        for name in &self.members {
            match rules.iter().find(|rule| rule.name == name) {
                Some(rule) => faults.extend(self.faults_of(rule)),
                None => faults.push(format!("{name} has no rule: say what it may depend on")),
            }
        }
        faults
    }

    fn faults_of(&self, rule: &Rule) -> Vec<String> {
        let name = rule.name;
        let Asked { built, tested } = &self.asked[name];
        let members =
            |names: &BTreeSet<String>| names.intersection(&self.members).cloned().collect::<Vec<_>>();
        let is_known = |used: &String| rule.on.contains(&used.as_str());
        let is_known_in_tests = |used: &String| is_known(used) || rule.in_tests.contains(&used.as_str());
        let mut faults = Vec::new();
        let within = members(built).into_iter().filter(|used| !is_known(used));
        faults.extend(within.map(|used| format!("{name} is built on {used}")));
        let in_tests = members(tested).into_iter().filter(|used| !is_known_in_tests(used));
        faults.extend(in_tests.map(|used| format!("tests of {name} use {used}")));
        for (used, by) in self.built_on(name).into_iter().filter(|(used, _)| !self.members.contains(*used)) {
            let is_allowed = match &rule.outside {
                Only(these) => these.contains(&used),
                Never(these) => !these.contains(&used),
            };
            if !is_allowed {
                faults.push(format!("{name} is built on {used}, for which {by} asks"));
            }
        }
        faults
    }
}

#[test]
fn each_crate_depends_only_on_what_it_may_know() {
    assert_tidy("ARCHITECTURE.md says who may know what", &Graph::read().faults(&RULES));
}

/// Over how many crates a program may be built on the library, with the features that it has without a word, and without
/// any.
const CRATES_MAX: [(&[&str], usize); 2] = [(&[], 45), (&["--no-default-features"], 35)];

#[test]
fn the_library_is_built_on_few_crates_and_without_a_database_if_it_is_not_wanted() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = "tree --locked --offline --edges normal --package pulsegate --prefix none --no-dedupe";
    for (features, most) in CRATES_MAX {
        let mut command = Command::new(&cargo);
        command.args(tree.split(' ')).args(features).current_dir(root());
        let output = command.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let crates: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(crates.contains("pulsegate-shard") && crates.len() <= most, "{features:?}: {crates:?}");
        assert_eq!(crates.contains("rusqlite"), features.is_empty(), "{features:?}");
    }
}

/// A graph in which `lower` is built on `outer` over `inner`, and `upper` on `lower`; `tried` is asked for besides.
fn graph(tried: &[(&str, &str, bool)]) -> Graph {
    let links = [("lower", "inner", false), ("inner", "outer", false), ("upper", "lower", false)];
    let mut asked: BTreeMap<String, Asked> = BTreeMap::from([("outer".to_owned(), Asked::default())]);
    for (by, used, is_tested) in links.iter().chain(tried) {
        let of = asked.entry((*by).to_owned()).or_default();
        if *is_tested { &mut of.tested } else { &mut of.built }.insert((*used).to_owned());
    }
    Graph { members: ["lower", "upper"].map(str::to_owned).into(), asked }
}

#[test]
fn what_breaks_a_rule_is_found() {
    let rules = |lower: Outside, upper: Outside| {
        [
            Rule { name: "lower", on: &[], in_tests: &[], outside: lower },
            Rule { name: "upper", on: &["lower"], in_tests: &[], outside: upper },
        ]
    };
    let sound = || rules(Only(&["inner", "outer"]), Never(&["other"]));
    assert_eq!(graph(&[]).faults(&sound()), [""; 0]);
    assert_eq!(graph(&[("lower", "upper", false)]).faults(&sound()), ["lower is built on upper"]);
    assert_eq!(graph(&[("lower", "upper", true)]).faults(&sound()), ["tests of lower use upper"]);
    assert_eq!(graph(&[("upper", "other", true)]).faults(&sound()), [""; 0], "tests may use any other crate");
    assert_eq!(
        graph(&[]).faults(&rules(Only(&["inner"]), Never(&["outer"]))),
        ["lower is built on outer, for which inner asks", "upper is built on outer, for which inner asks"]
    );
    assert_eq!(
        graph(&[]).faults(&sound()[..1]),
        ["upper has no rule: say what it may depend on"],
        "a new crate needs a rule"
    );
}
