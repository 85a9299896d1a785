//! The API server's own counters: requests by verb and resource, and its heap.

use std::collections::BTreeMap;

/// Request counts by `verb resource`, such as `create sessions`.
pub type Requests = BTreeMap<String, u64>;

/// One scrape of `/metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    requests: Requests,
}

/// Verbs that end when a connection does, not when somebody asks: counted late, so not counted.
const LASTING: [&str; 2] = ["WATCH", "CONNECT"];
/// What every process of a cluster does all the time, whatever Claviger does.
const LEASES: &str = "leases";

impl Counters {
    /// Reads `apiserver_request_total`; leases, watches and what is no resource (our own scrapes) are left out.
    pub fn parse(metrics: &str) -> Self {
        let mut requests = Requests::new();
        for (labels, count) in samples(metrics, "apiserver_request_total") {
            let label = |name: &str| labels.get(name).map_or("", String::as_str);
            let (verb, resource) = (label("verb"), label("resource"));
            if resource.is_empty() || resource == LEASES || LASTING.contains(&verb) {
                continue;
            }
            let subresource = label("subresource");
            let slash = if subresource.is_empty() { "" } else { "/" };
            let what = format!("{} {resource}{slash}{subresource}", verb.to_lowercase());
            *requests.entry(what).or_default() += count_of(count);
        }
        Self { requests }
    }

    /// What was asked since an earlier scrape.
    pub fn since(&self, earlier: &Self) -> Requests {
        self.requests
            .iter()
            .map(|(what, count)| {
                let before = earlier.requests.get(what).copied().unwrap_or_default();
                (what.clone(), count.saturating_sub(before))
            })
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// Whether a verb, the first word of a [`Requests`] key, changes what is stored.
pub fn is_write(what: &str) -> bool {
    let verb = what.split(' ').next().unwrap_or_default();
    !matches!(verb, "get" | "list")
}

/// The value of a metric without labels, such as `go_memstats_heap_inuse_bytes`.
pub fn gauge(metrics: &str, name: &str) -> Option<f64> {
    samples(metrics, name).find(|(labels, _)| labels.is_empty()).map(|(_, value)| value)
}

/// Prometheus counters are floats; ours are whole and far below 2^53.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and positive")]
fn count_of(value: f64) -> u64 {
    value.round() as u64
}

/// The samples of one metric in the text format: labels and value.
fn samples<'m>(
    metrics: &'m str,
    name: &'m str,
) -> impl Iterator<Item = (BTreeMap<String, String>, f64)> + 'm {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (BTreeMap::new(), rest.strip_prefix(' ')?),
        };
        Some((labels, value.split_whitespace().next()?.parse().ok()?))
    })
}

/// Labels up to the closing brace, and what follows it. Values are quoted, with `\\`, `\"` and `\n`.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = &quoted[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"# HELP apiserver_request_total Counter of apiserver requests
# TYPE apiserver_request_total counter
apiserver_request_total{code="201",component="apiserver",dry_run="",group="claviger.dev",resource="sessions",scope="resource",subresource="",verb="POST",version="v1alpha1"} 100
apiserver_request_total{code="409",component="apiserver",dry_run="",group="claviger.dev",resource="sessions",scope="resource",subresource="",verb="POST",version="v1alpha1"} 2
apiserver_request_total{code="200",component="apiserver",dry_run="",group="claviger.dev",resource="oidcissuers",scope="resource",subresource="status",verb="PATCH",version="v1alpha1"} 3
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 50
apiserver_request_total{code="0",component="apiserver",dry_run="",group="",resource="secrets",scope="cluster",subresource="",verb="WATCH",version="v1"} 5
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="",scope="",subresource="/metrics",verb="GET",version=""} 9
apiserver_request_total_sum 7
go_memstats_heap_inuse_bytes 1.5859712e+07
odd{path="a,b=\"c\"}\\ \n"} 4 1700000000
"#;

    #[test]
    fn requests_are_counted_by_verb_and_resource_without_leases_watches_and_scrapes() {
        let counters = Counters::parse(METRICS);
        let expected = [("patch oidcissuers/status", 3), ("post sessions", 102)];
        let expected: Requests =
            expected.map(|(what, count)| (what.to_owned(), count)).into_iter().collect();
        assert_eq!(counters.since(&Counters::default()), expected);
        assert!(counters.since(&counters).is_empty());
    }

    #[test]
    fn labels_are_read_whatever_their_values_hold() {
        let (labels, value) = samples(METRICS, "odd").next().unwrap();
        assert_eq!(labels["path"], "a,b=\"c\"}\\ \n");
        assert!((value - 4.0).abs() < f64::EPSILON);
        assert_eq!(gauge(METRICS, "go_memstats_heap_inuse_bytes"), Some(15_859_712.0));
        assert_eq!(gauge(METRICS, "go_memstats"), None);
        assert_eq!(samples("cut{name=\"", "cut").count(), 0);
    }

    #[test]
    fn reads_are_told_from_writes() {
        assert!(!is_write("get sessions") && !is_write("list secrets"));
        assert!(is_write("post sessions") && is_write("patch sessions") && is_write("delete x"));
    }
}
