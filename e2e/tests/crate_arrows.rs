//! The arrows between crates, as DESIGN 3 draws them, held against what cargo resolved.
//!
//! [`ROOMS`] is the table; `crates/README.md` shows the same rows to people. Three things are
//! enforced: which of our crates a crate may name, what it must never reach by any path of normal
//! dependencies, and that nothing which ships depends on `testkit`. Dev-dependencies link nothing
//! that ships: they may only not name one of our crates against the arrows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// One row of the table.
struct Room {
    name: &'static str,
    may_use: &'static [&'static str],
    never: &'static [&'static str],
}

/// The table. A row may stand before its crate does; a crate may not stand without a row.
const ROOMS: &[Room] = &[
    pure("protocol", &["tokio", "hyper", "kube-client", "jose", "seal", "api"]),
    pure("jose", &["tokio", "hyper", "kube-client", "protocol", "seal", "api"]),
    pure("seal", &["tokio", "hyper", "kube-client", "protocol", "jose", "api"]),
    pure("api", &["tokio", "hyper", "kube-client", "protocol", "jose", "seal"]),
    Room {
        name: "domain",
        may_use: &["protocol", "jose", "seal"],
        never: &["api", "kube", "hyper", "ldap3"],
    },
    Room { name: "outbound", may_use: &["domain"], never: &["kube", "server", "store"] },
    Room {
        name: "connectors",
        may_use: &["domain", "api", "protocol", "jose", "outbound"],
        never: &["kube-client", "server", "store"],
    },
    Room {
        name: "store",
        may_use: &["domain", "api", "seal"],
        never: &["server", "controller", "connectors"],
    },
    Room {
        name: "server",
        may_use: &["domain", "protocol", "jose"],
        never: &["api", "kube", "store", "controller", "connectors"],
    },
    Room {
        name: "controller",
        may_use: &["domain", "api", "jose", "seal", "connectors"],
        never: &["server", "store"],
    },
    Room { name: "claviger", may_use: ALL, never: &["testkit"] },
    Room { name: "kubectl-login", may_use: &["protocol"], never: &["jose", "kube", "domain"] },
    Room { name: "testkit", may_use: ALL, never: &["claviger"] },
];

/// Everything that ships, the binary and the plugin aside.
const ALL: &[&str] = &[
    "protocol",
    "jose",
    "seal",
    "api",
    "domain",
    "outbound",
    "connectors",
    "store",
    "server",
    "controller",
];
/// Tests of whole stories, and fuzzing: they ship nothing and may name any of our crates.
const SHIP_NOTHING: [&str; 2] = ["e2e", "fuzz"];
const TESTKIT: &str = "testkit";

/// A crate that decides or parses, uses none of ours, and does no I/O.
const fn pure(name: &'static str, never: &'static [&'static str]) -> Room {
    Room { name, may_use: &[], never }
}

/// The packages that a word of a `never` column stands for.
fn packages(word: &str) -> Vec<String> {
    match word {
        "kube" => {
            ["kube", "kube-core", "kube-derive", "kube-client", "kube-runtime", "k8s-openapi"]
                .map(str::to_owned)
                .to_vec()
        }
        "kube-client" => ["kube-client", "kube-runtime"].map(str::to_owned).to_vec(),
        "claviger" => vec![word.to_owned()],
        ours if ROOMS.iter().any(|room| room.name == ours) => vec![format!("claviger-{ours}")],
        foreign => vec![foreign.to_owned()],
    }
}

/// One of our crates without the prefix all of them carry.
fn short(package: &str) -> &str {
    package.strip_prefix("claviger-").unwrap_or(package)
}

/// Who links whom. Keys of `links` are unique per version; names are not.
#[derive(Default)]
struct Graph {
    /// Package name of every node.
    names: BTreeMap<String, String>,
    /// Normal dependencies between nodes.
    links: BTreeMap<String, BTreeSet<String>>,
    /// Our crates: short name → node.
    ours: BTreeMap<String, String>,
    /// Our crates: short name → (short name of ours it names, whether for tests alone).
    named: BTreeMap<String, BTreeSet<(String, bool)>>,
}

impl Graph {
    fn of(metadata: &Metadata) -> Result<Self> {
        let mut graph = Self::default();
        for package in &metadata.packages {
            graph.names.insert(package.id.repr.clone(), package.name.to_string());
        }
        let members: BTreeSet<&str> =
            metadata.workspace_members.iter().map(|id| id.repr.as_str()).collect();
        let resolve = metadata.resolve.as_ref().context("cargo metadata resolved nothing")?;
        for node in &resolve.nodes {
            let of_kind = |wanted: DependencyKind| {
                node.deps.iter().filter(move |dependency| {
                    dependency.dep_kinds.iter().any(|info| info.kind == wanted)
                })
            };
            let linked = of_kind(DependencyKind::Normal).map(|d| d.pkg.repr.clone()).collect();
            graph.links.insert(node.id.repr.clone(), linked);
            if !members.contains(node.id.repr.as_str()) {
                continue;
            }
            let name = short(&graph.names[&node.id.repr]).to_owned();
            graph.ours.insert(name.clone(), node.id.repr.clone());
            let named = graph.named.entry(name).or_default();
            for (kind, for_tests) in [
                (DependencyKind::Normal, false),
                (DependencyKind::Build, false),
                (DependencyKind::Development, true),
            ] {
                for dependency in of_kind(kind).filter(|d| members.contains(d.pkg.repr.as_str())) {
                    let used = short(&graph.names[&dependency.pkg.repr]).to_owned();
                    named.insert((used, for_tests));
                }
            }
        }
        Ok(graph)
    }

    /// The shortest path of normal dependencies from a crate of ours to a package of this name.
    fn path(&self, from: &str, to: &str) -> Option<Vec<&str>> {
        let start = self.ours.get(from)?;
        let mut came_from: BTreeMap<&String, &String> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            if node != start && self.names[node] == to {
                let back = std::iter::successors(Some(node), |at| came_from.get(*at).copied());
                let mut path: Vec<&str> = back.map(|at| self.names[at].as_str()).collect();
                path.reverse();
                return Some(path);
            }
            for next in self.links.get(node).into_iter().flatten() {
                if next != start && !came_from.contains_key(next) {
                    came_from.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

/// Everything that is against the table, each with what to do.
fn violations(graph: &Graph, rooms: &[Room]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, used) in &graph.named {
        if SHIP_NOTHING.contains(&name.as_str()) {
            continue;
        }
        match rooms.iter().find(|room| room.name == name) {
            Some(room) => found.extend(against_the_arrows(room, used)),
            None => found.push(format!("{name} has no row in the table: add one to ROOMS")),
        }
    }
    for room in rooms {
        for unwanted in room.never.iter().flat_map(|word| packages(word)) {
            if let Some(path) = graph.path(room.name, &unwanted) {
                found.push(format!(
                    "{} must never see {unwanted}: {}",
                    room.name,
                    path.join(" → ")
                ));
            }
        }
    }
    found
}

fn against_the_arrows(room: &Room, used: &BTreeSet<(String, bool)>) -> Vec<String> {
    let mut found = Vec::new();
    for (used, for_tests) in used {
        // A crate may turn on its own features for its own tests.
        let itself = used == room.name && *for_tests;
        if used == TESTKIT && !for_tests {
            found.push(format!("{}: testkit is for tests: make it a dev-dependency", room.name));
        } else if used != TESTKIT && !itself && !room.may_use.contains(&used.as_str()) {
            found.push(format!(
                "{} may not use {used}: move what needs it, or argue for the arrow in docs/adr",
                room.name
            ));
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The triple this machine builds for: packages of other platforms need not be there.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("failed to run rustc -vV")?;
    let text = String::from_utf8(output.stdout).context("rustc -vV is not UTF-8")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

fn workspace() -> Result<Graph> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--locked", "--offline", "--filter-platform", &host()?].map(str::to_owned))
        .exec()
        .context("failed to run cargo metadata")?;
    Graph::of(&metadata)
}

#[test]
fn every_crate_keeps_to_its_arrows() -> Result<()> {
    let graph = workspace()?;
    ensure!(graph.ours.contains_key("domain"), "cargo metadata shows no crate of ours");
    let found = violations(&graph, ROOMS);
    ensure!(found.is_empty(), "against crates/README.md:\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn only_jose_names_openssl() -> Result<()> {
    let graph = workspace()?;
    for (name, node) in &graph.ours {
        let named = |package: &str| graph.links[node].iter().any(|n| graph.names[n] == package);
        ensure!(
            name == "jose" || !(named("josekit") || named("openssl")),
            "{name} names josekit or openssl: OpenSSL stops at jose"
        );
    }
    Ok(())
}

#[test]
fn one_tls_provider_and_one_openssl_are_compiled() -> Result<()> {
    // `cargo metadata` also shows features that are off; `cargo tree` shows what is compiled.
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--locked", "--offline", "--prefix", "none"])
        .args(["--format", "{p}"])
        .current_dir(root())
        .output()
        .context("failed to run cargo tree")?;
    let compiled = String::from_utf8(output.stdout).context("cargo tree is not UTF-8")?;
    ensure!(
        compiled.lines().any(|line| line.starts_with("aws-lc-rs ")),
        "cargo tree shows nothing"
    );
    for unwanted in ["ring ", "openssl-src ", "native-tls "] {
        ensure!(
            !compiled.lines().any(|line| line.starts_with(unwanted)),
            "{unwanted}is compiled: see `cargo tree --workspace --invert {unwanted}`, and turn off the feature"
        );
    }
    Ok(())
}

#[test]
fn the_map_for_people_shows_the_table() -> Result<()> {
    let map = std::fs::read_to_string(root().join("crates/README.md"))?;
    let list = |words: &[&str]| match words {
        [] => "nothing".to_owned(),
        words => words.join(", "),
    };
    for room in ROOMS {
        let row = format!("| `{}` | {} | {} |", room.name, list(room.may_use), list(room.never));
        ensure!(map.contains(&row), "crates/README.md lacks the row\n{row}");
    }
    Ok(())
}

/// A graph by hand: `arrows` are normal dependencies; all but the crates of kube are ours.
fn drawn(arrows: &[(&str, &str)], for_tests: &[(&str, &str)]) -> Graph {
    let is_ours = |name: &str| !name.starts_with("kube");
    let mut graph = Graph::default();
    for &(from, to) in arrows.iter().chain(for_tests) {
        for name in [from, to] {
            let package = if is_ours(name) { format!("claviger-{name}") } else { name.to_owned() };
            graph.names.insert(name.to_owned(), package);
            if is_ours(name) {
                graph.ours.insert(name.to_owned(), name.to_owned());
                graph.named.entry(name.to_owned()).or_default();
            }
        }
    }
    for &(from, to) in arrows {
        graph.links.entry(from.to_owned()).or_default().insert(to.to_owned());
    }
    for (arrows, for_tests) in [(arrows, false), (for_tests, true)] {
        for &(from, to) in arrows.iter().filter(|(_, to)| is_ours(to)) {
            graph.named.entry(from.to_owned()).or_default().insert((to.to_owned(), for_tests));
        }
    }
    graph
}

#[test]
fn an_arrow_against_the_table_is_found() {
    let found = violations(&drawn(&[("server", "protocol")], &[("domain", "api")]), ROOMS);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("domain may not use api"), "{found:?}");
}

#[test]
fn a_forbidden_crate_is_found_behind_others() {
    let arrows = [("domain", "seal"), ("seal", "kube-derive"), ("kube-derive", "kube-client")];
    let found = violations(&drawn(&arrows, &[]), ROOMS).join("\n");
    for wanted in [
        "domain must never see kube-derive: claviger-domain → claviger-seal → kube-derive",
        "seal must never see kube-client: claviger-seal → kube-derive → kube-client",
    ] {
        assert!(found.contains(wanted), "{found}");
    }
}

#[test]
fn testkit_is_refused_outside_tests_and_taken_inside() {
    let found = violations(&drawn(&[("store", "testkit")], &[("server", "testkit")]), ROOMS);
    assert_eq!(found, ["store: testkit is for tests: make it a dev-dependency"]);
}

#[test]
fn a_crate_without_a_row_is_found() {
    let found = violations(&drawn(&[("utils", "domain")], &[]), ROOMS);
    assert_eq!(found, ["utils has no row in the table: add one to ROOMS"]);
}
