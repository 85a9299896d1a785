//! The plot of a run, as SVG: rates beside their ceilings, and where the CPU of one operation goes.

use std::fmt::Write as _;

use super::report::{API_SERVER, CLAVIGER, DRIVER, ETCD, Phase, Report, number};

const WIDTH: f64 = 900.0;
const LABELS: f64 = 250.0;
const NUMBERS: f64 = 90.0;
const BAR: f64 = 20.0;
const STEP: f64 = 28.0;
const HEADING: f64 = 56.0;

/// Processes and their colours, told apart by people who do not see red and green as well.
const COLOURS: [(&str, &str); 4] =
    [(CLAVIGER, "#0072b2"), (API_SERVER, "#e69f00"), (ETCD, "#009e73"), (DRIVER, "#bbbbbb")];

/// Draws the phases of a report: the ones that write, the ones from memory, and CPU per operation.
pub fn draw(report: &Report) -> String {
    let (writing, memory): (Vec<&Phase>, Vec<&Phase>) =
        report.phases.iter().partition(|phase| phase.writes_and_reads().0 > 0.0);
    let mut drawing = Drawing::default();
    drawing.rates(
        "Operations per second that store something, and the API server's own rates",
        &writing,
    );
    drawing.rates("Operations per second from memory", &memory);
    drawing.cpu("CPU milliseconds of one operation that stores something", &writing);
    drawing.cpu("CPU milliseconds of one operation from memory", &memory);
    drawing.finish()
}

#[derive(Default)]
struct Drawing {
    body: String,
    height: f64,
}

impl Drawing {
    fn rates(&mut self, heading: &str, phases: &[&Phase]) {
        let most = phases.iter().map(|phase| phase.per_second).fold(0.0, f64::max);
        self.heading(heading, phases.is_empty());
        for phase in phases {
            let ceiling = phase.name.starts_with(super::CEILING);
            let colour = if ceiling { COLOURS[1].1 } else { COLOURS[0].1 };
            self.label(&phase.name);
            let end = self.bar(LABELS, share(phase.per_second, most), colour);
            self.number(end, &number(phase.per_second));
            self.height += STEP;
        }
    }

    fn cpu(&mut self, heading: &str, phases: &[&Phase]) {
        let total = |phase: &Phase| -> f64 { phase.cpu_milliseconds.values().sum() };
        let most = phases.iter().map(|phase| total(phase)).fold(0.0, f64::max);
        self.heading(heading, phases.is_empty());
        if !phases.is_empty() {
            self.legend();
        }
        for phase in phases {
            self.label(&phase.name);
            let mut end = LABELS;
            for (process, colour) in COLOURS {
                let cpu = phase.cpu_milliseconds.get(process).copied().unwrap_or_default();
                end = self.bar(end, share(cpu, most), colour);
            }
            self.number(end, &format!("{:.3}", total(phase)));
            self.height += STEP;
        }
    }

    fn heading(&mut self, heading: &str, nothing: bool) {
        self.height += HEADING;
        let y = self.height - 20.0;
        let nothing = if nothing { ": nothing was measured" } else { "" };
        let _ = writeln!(
            self.body,
            r#"<text x="20" y="{y}" font-weight="bold">{}{nothing}</text>"#,
            escape(heading)
        );
    }

    fn legend(&mut self) {
        let mut x = LABELS;
        let y = self.height;
        for (process, colour) in COLOURS {
            let _ = writeln!(
                self.body,
                r#"<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/><text x="{}" y="{}">{process}</text>"#,
                x + 18.0,
                y + 11.0
            );
            x += 140.0;
        }
        self.height += STEP;
    }

    fn label(&mut self, text: &str) {
        let (x, y) = (LABELS - 10.0, self.height + 15.0);
        let text = escape(text);
        let _ = writeln!(self.body, r#"<text x="{x}" y="{y}" text-anchor="end">{text}</text>"#);
    }

    /// A bar from `x`, this share of the room for bars long; gives back where it ends.
    fn bar(&mut self, x: f64, share: f64, colour: &str) -> f64 {
        let width = share * (WIDTH - LABELS - NUMBERS);
        let y = self.height;
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.1}" y="{y}" width="{width:.1}" height="{BAR}" fill="{colour}"/>"#
        );
        x + width
    }

    fn number(&mut self, x: f64, text: &str) {
        let (x, y) = (x + 6.0, self.height + 15.0);
        let _ = writeln!(self.body, r#"<text x="{x:.1}" y="{y}">{text}</text>"#);
    }

    fn finish(self) -> String {
        let height = self.height + 20.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }
}

fn share(value: f64, most: f64) -> f64 {
    if most > 0.0 { value / most } else { 0.0 }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn phase(name: &str, per_second: f64, writes: f64) -> Phase {
        Phase {
            name: name.to_owned(),
            clients: 32,
            operations: 1,
            per_second,
            p50_milliseconds: 1.0,
            p99_milliseconds: 1.0,
            cpu_milliseconds: BTreeMap::from([(CLAVIGER, 1.0), (ETCD, 3.0)]),
            requests: BTreeMap::from([("post sessions".to_owned(), writes)]),
        }
    }

    #[test]
    fn the_longest_bar_has_all_the_room_and_the_others_their_share() {
        let phases = vec![phase("login", 500.0, 1.0), phase("ceiling: create", 1_000.0, 1.0)];
        let svg = draw(&Report { phases, ..Report::default() });
        assert!(svg.contains(r##"width="560.0" height="20" fill="#e69f00""##), "{svg}");
        assert!(svg.contains(r##"width="280.0" height="20" fill="#0072b2""##), "{svg}");
        assert!(svg.contains("from memory: nothing was measured"));
    }

    #[test]
    fn names_are_escaped_and_the_drawing_is_closed() {
        let report = Report { phases: vec![phase("a<b>&c", 1.0, 0.0)], ..Report::default() };
        let svg = draw(&report);
        assert!(svg.contains("a&lt;b&gt;&amp;c") && !svg.contains("a<b>"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.ends_with("</svg>\n"));
    }
}
