//! The plot: how many times as good as `zmq_proxy`, a bar for each load, in SVG that is readable on
//! light and on dark.

use std::fmt::Write;

use super::figures::digits;
use super::report::Beside;

/// Of one bar with the space around it, in pixels as all that follows.
const ROW: f64 = 30.0;
const BAR: f64 = 16.0;

/// Where the bars begin, how long the longest may be, and what stands to its right.
const LEFT: f64 = 190.0;
const LENGTH: f64 = 460.0;
const RIGHT: f64 = 90.0;

/// Above the bars, and below them.
const TOP: f64 = 46.0;
const BOTTOM: f64 = 30.0;

const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.small { font-size: 11px; fill: #59636e; }
.more { fill: #1a7f64; }
.less { fill: #b35900; }
.one { stroke: #59636e; stroke-width: 1; }
.goal { stroke: #1f2328; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9198a1; }
  .more { fill: #3fb68b; }
  .less { fill: #e0823d; }
  .one { stroke: #9198a1; }
  .goal { stroke: #e6edf3; }
}";

/// The plot of these rows, under a line that says what it ran on.
pub fn svg(rows: &[Beside], machine: &str) -> String {
    let factors: Vec<_> = rows.iter().map(|row| (row, row.goal.factors(row.ratio()))).collect();
    let most = factors.iter().flat_map(|&(_, (factor, goal))| [factor, goal]).fold(1.0, f64::max);
    let x = |factor: f64| LEFT + LENGTH * factor / most;
    let (width, bottom) = (LEFT + LENGTH + RIGHT, TOP + ROW * rows.len() as f64);
    let height = bottom + BOTTOM;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"Giostra beside zmq_proxy\">\n<style>\n{STYLE}\n</style>\n\
         <text x=\"8\" y=\"18\">Times as good as zmq_proxy: requests a second, or with W=1 the median latency</text>\n"
    );
    let _ = writeln!(svg, "<text class=\"small\" x=\"8\" y=\"36\">{}</text>", escaped(machine));
    for (place, &(row, (factor, goal))) in factors.iter().enumerate() {
        let y = TOP + ROW * place as f64;
        let (bar, text) = (y + (ROW - BAR) / 2.0, y + ROW / 2.0 + 4.5);
        let class = if factor >= 1.0 { "more" } else { "less" };
        let (length, goal_x) = (x(factor) - LEFT, x(goal));
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            escaped(&row.scenario)
        );
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{bar:.1}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>"
        );
        let _ = writeln!(
            svg,
            "<line class=\"goal\" x1=\"{goal_x:.1}\" y1=\"{:.1}\" x2=\"{goal_x:.1}\" y2=\"{:.1}\"/>",
            bar - 3.0,
            bar + BAR + 3.0
        );
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{text:.1}\">{}</text>", x(factor).max(goal_x) + 8.0, digits(factor));
    }
    let one = x(1.0);
    let _ = writeln!(
        svg,
        "<line class=\"one\" x1=\"{one:.1}\" y1=\"{TOP}\" x2=\"{one:.1}\" y2=\"{bottom}\" stroke-dasharray=\"4 3\"/>\n\
         <text class=\"small\" x=\"{one:.1}\" y=\"{:.1}\" text-anchor=\"middle\">1.0: zmq_proxy</text>\n\
         <text class=\"small\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">upright mark: the goal</text>\n</svg>",
        bottom + 18.0,
        width - 8.0,
        bottom + 18.0
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::{Goal, Series, Side, Unit};
    use super::*;

    fn side(figure: f64) -> Side {
        let one = |figure| Series::new(vec![figure]).unwrap();
        Side { figure: one(figure), broker_cpu: one(1.0), all_cpu: one(1.0), memory: 0.0 }
    }

    fn row(scenario: &str, ratio: f64, goal: Goal) -> Beside {
        Beside { scenario: scenario.into(), unit: Unit::Rate, ours: side(ratio), theirs: side(1.0), goal }
    }

    /// The names of the elements, each checked to be closed in its turn; all that well-formed XML
    /// needs here.
    fn elements(svg: &str) -> Vec<String> {
        let (mut open, mut seen) = (Vec::new(), Vec::new());
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("a tag ends");
            assert!(!text.contains('>') && (!text.contains('&') || text.contains("&amp;") || text.contains("&lt;")));
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.trim_end_matches('/').split(' ').next().unwrap().to_string();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
                None => {
                    seen.push(name.clone());
                    if !tag.ends_with('/') {
                        open.push(name);
                    }
                }
            }
        }
        assert!(open.is_empty(), "{open:?} are not closed");
        seen
    }

    #[test]
    fn the_svg_is_well_formed_and_has_a_bar_and_a_goal_for_each_row() {
        let rows = [row("W=64 <&>", 1.5, Goal::AtLeast(1.8)), row("W=1", 0.25, Goal::AtMost(0.5))];
        let svg = svg(&rows, "2 cores & more");
        let elements = elements(&svg);
        assert_eq!(elements.iter().filter(|name| *name == "rect").count(), 2);
        assert_eq!(svg.matches("class=\"goal\"").count(), 2);
        assert!(svg.contains("W=64 &lt;&amp;&gt;") && svg.contains(">4.00<"), "{svg}");
    }

    #[test]
    fn the_longest_bar_fits_and_so_does_a_goal_beyond_it() {
        let rows = [row("short", 0.1, Goal::AtLeast(5.0))];
        let svg = svg(&rows, "");
        let goal = svg.split("class=\"goal\" x1=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(goal.parse::<f64>().unwrap(), LEFT + LENGTH);
    }
}
