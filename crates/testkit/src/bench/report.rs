//! What a run says: one table, the ratios that must hold, and the same as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::counters::{Requests, is_write};
use super::drive::{Measured, ratio};
use super::processes::Memory;

/// The processes of a run, as they stand in its tables.
pub const CLAVIGER: &str = "claviger";
pub const API_SERVER: &str = "kube-apiserver";
pub const ETCD: &str = "etcd";
pub const DRIVER: &str = "driver";
const PROCESSES: [&str; 4] = [CLAVIGER, API_SERVER, ETCD, DRIVER];

/// Everything a run found out.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Where, when and how: commit, machine, settings.
    pub circumstances: BTreeMap<String, String>,
    pub phases: Vec<Phase>,
    pub memory: Vec<MemoryRow>,
    pub facts: Vec<Fact>,
    pub ratios: Vec<Ratio>,
}

/// One phase of load.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    pub name: String,
    pub clients: usize,
    pub operations: usize,
    pub per_second: f64,
    pub p50_milliseconds: f64,
    pub p99_milliseconds: f64,
    /// CPU milliseconds for one operation, by process.
    pub cpu_milliseconds: BTreeMap<&'static str, f64>,
    /// Requests of the API server for one operation, by verb and resource.
    pub requests: BTreeMap<String, f64>,
}

/// Memory at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryRow {
    pub moment: String,
    pub processes: BTreeMap<&'static str, Memory>,
}

/// Something else that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Fact {
    pub what: String,
    pub value: String,
}

/// A number that must be reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    pub what: String,
    pub value: f64,
    pub bound: Bound,
    pub met: bool,
}

/// What a number must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Exactly(f64),
}

impl Bound {
    /// Whether a value is within it. What is exact is a quotient of counts: equal, or wrong by one in all.
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Exactly(bound) => (value - bound).abs() < 1e-9,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {}", number(*bound)),
            Self::AtMost(bound) => write!(f, "<= {}", number(*bound)),
            Self::Exactly(bound) => write!(f, "= {}", number(*bound)),
        }
    }
}

impl Phase {
    /// A phase from its measurement and what the API server counted from its first operation to its last.
    pub fn new(name: &str, clients: usize, measured: &Measured, requests: &Requests) -> Self {
        let cpu = PROCESSES.map(|process| (process, measured.cpu_milliseconds(process)));
        let each = |count: &u64| {
            ratio(usize::try_from(*count).unwrap_or(usize::MAX), measured.done_in_all.max(1))
        };
        Self {
            name: name.to_owned(),
            clients,
            operations: measured.done,
            per_second: measured.rate(),
            p50_milliseconds: measured.percentile(50),
            p99_milliseconds: measured.percentile(99),
            cpu_milliseconds: cpu.into_iter().collect(),
            requests: requests.iter().map(|(what, count)| (what.clone(), each(count))).collect(),
        }
    }

    /// Requests for one operation: writes and reads.
    pub fn writes_and_reads(&self) -> (f64, f64) {
        // From 0.0: the sum of no floats is -0.0.
        let sum = |writes: bool| {
            let those = self.requests.iter().filter(|(what, _)| is_write(what) == writes);
            those.fold(0.0, |sum, (_, each)| sum + each)
        };
        (sum(true), sum(false))
    }
}

impl Report {
    /// Adds a number that must be reached.
    pub fn must(&mut self, what: &str, value: f64, bound: Bound) {
        self.ratios.push(Ratio { what: what.to_owned(), value, bound, met: bound.holds(value) });
    }

    /// Adds something else that was measured.
    pub fn fact(&mut self, what: &str, value: impl Into<String>) {
        self.facts.push(Fact { what: what.to_owned(), value: value.into() });
    }

    /// Operations per second of a phase; 0 when it did not run.
    pub fn rate(&self, phase: &str) -> f64 {
        self.phases.iter().find(|p| p.name == phase).map_or(0.0, |p| p.per_second)
    }

    /// Everything, for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.circumstances {
            let _ = writeln!(text, "{what}: {value}");
        }
        let _ = writeln!(text, "\n{}", table(&self.phase_rows()));
        let _ = writeln!(text, "{}", table(&self.memory_rows()));
        let _ = writeln!(text, "{}", table(&self.fact_rows()));
        let _ = write!(text, "{}", table(&self.ratio_rows()));
        text
    }

    fn phase_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row(&[
            "phase",
            "clients",
            "per s",
            "p50 ms",
            "p99 ms",
            "CPU ms: claviger",
            "apiserver",
            "etcd",
            "driver",
            "API requests each",
        ])];
        for phase in &self.phases {
            let mut cells = vec![phase.name.clone(), phase.clients.to_string()];
            let numbers = [phase.per_second, phase.p50_milliseconds, phase.p99_milliseconds];
            cells.extend(numbers.map(number));
            let cpu = |process| phase.cpu_milliseconds.get(process).copied().unwrap_or_default();
            cells.extend(PROCESSES.map(|process| format!("{:.3}", cpu(process))));
            let requests: Vec<String> = phase
                .requests
                .iter()
                .map(|(what, each)| format!("{what} {}", number(*each)))
                .collect();
            cells.push(if requests.is_empty() { "none".to_owned() } else { requests.join(", ") });
            rows.push(cells);
        }
        rows
    }

    fn memory_rows(&self) -> Vec<Vec<String>> {
        let mut rows =
            vec![row(&["memory, MB", "claviger", "of it heap", "of it file", "apiserver", "etcd"])];
        for MemoryRow { moment, processes } in &self.memory {
            let of = |name| processes.get(name).copied().unwrap_or_default();
            let claviger: Memory = of(CLAVIGER);
            let bytes = [
                claviger.resident,
                claviger.anonymous,
                claviger.file,
                of(API_SERVER).resident,
                of(ETCD).resident,
            ];
            let mut cells = vec![moment.clone()];
            cells.extend(bytes.map(|bytes| format!("{:.1}", megabytes(bytes))));
            rows.push(cells);
        }
        rows
    }

    fn fact_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row(&["fact", "value"])];
        rows.extend(self.facts.iter().map(|fact| vec![fact.what.clone(), fact.value.clone()]));
        rows
    }

    fn ratio_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row(&["must reach", "here", "must be", ""])];
        for Ratio { what, value, bound, met } in &self.ratios {
            let verdict = if *met { "met" } else { "MISSED" };
            rows.push(vec![what.clone(), number(*value), bound.to_string(), verdict.to_owned()]);
        }
        rows
    }
}

/// Millions of bytes.
pub fn megabytes(bytes: u64) -> f64 {
    ratio(usize::try_from(bytes).unwrap_or(usize::MAX), 1_000_000)
}

/// Three digits that count, never an exponent.
pub fn number(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 || v.fract().abs() < f64::EPSILON => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// A Markdown table whose columns line up; the first row is the heading.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let lengths = rows.iter().map(|row| row.get(column).map_or(0, |c| c.chars().count()));
            lengths.max().unwrap_or_default().max(3)
        })
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            for width in &widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &str, per_second: f64) -> Phase {
        let requests = [("post sessions".to_owned(), 1.0), ("get sessions".to_owned(), 0.5)];
        Phase {
            name: name.to_owned(),
            clients: 32,
            operations: 10,
            per_second,
            p50_milliseconds: 1.0,
            p99_milliseconds: 2.0,
            cpu_milliseconds: BTreeMap::from([(CLAVIGER, 0.25)]),
            requests: requests.into(),
        }
    }

    #[test]
    fn requests_are_told_for_one_operation() {
        let measured = Measured { done: 8, done_in_all: 10, seconds: 2.0, ..Measured::default() };
        let counted = Requests::from([("post sessions".into(), 10), ("list secrets".into(), 5)]);
        let phase = Phase::new("login", 4, &measured, &counted);
        assert_eq!(phase.writes_and_reads(), (1.0, 0.5));
        assert!((phase.per_second - 4.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_bound_is_met_or_missed_and_said() {
        let mut report = Report::default();
        report.must("a", 0.45, Bound::AtLeast(0.45));
        report.must("b", 20.1, Bound::AtMost(20.0));
        report.must("c", 1.000_1, Bound::Exactly(1.0));
        let met: Vec<bool> = report.ratios.iter().map(|ratio| ratio.met).collect();
        assert_eq!(met, [true, false, false]);
        let text = report.to_text();
        assert!(text.contains("| a          | 0.450 | >= 0.450 | met    |"), "{text}");
        assert!(text.contains("| b          | 20.1  | <= 20    | MISSED |"), "{text}");
    }

    #[test]
    fn the_table_lines_up_and_names_every_request() {
        let mut report = Report { phases: vec![phase("login", 470.0)], ..Report::default() };
        report.memory.push(MemoryRow {
            moment: "idle".into(),
            processes: BTreeMap::from([(
                CLAVIGER,
                Memory { resident: 19_500_000, anonymous: 4_000_000, file: 15_500_000 },
            )]),
        });
        let text = report.to_text();
        assert!(text.contains("get sessions 0.500, post sessions 1"), "{text}");
        assert!(text.contains("| idle       | 19.5     | 4.0        | 15.5       |"), "{text}");
        let lines = text.lines().filter(|line| line.starts_with("| "));
        let mut tables: BTreeMap<usize, usize> = BTreeMap::new();
        for line in lines {
            *tables.entry(line.chars().count()).or_default() += 1;
        }
        assert_eq!(tables.values().max(), Some(&2), "rows of a table are as long as its heading");
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let told = [0.0, 0.456_7, 1.0, 1.234, 12.34, 123.4, 18_453.2].map(number);
        assert_eq!(told, ["0", "0.457", "1", "1.23", "12.3", "123", "18453"]);
    }

    #[test]
    fn the_report_is_json_too() {
        let mut report = Report { phases: vec![phase("keys", 15_000.0)], ..Report::default() };
        report.must("x", 1.0, Bound::Exactly(1.0));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["phases"][0]["requests"]["post sessions"], 1.0);
        assert_eq!(json["ratios"][0]["bound"]["Exactly"], 1.0);
    }
}
