//! Bar charts as SVG, for people who would rather look than read.

use std::fmt::Write as _;

/// One group of bars: a row of the benchmark.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) label: String,
    /// In the order of the chart's series; none where nothing was measured.
    pub(crate) values: Vec<Option<f64>>,
}

/// A chart: each row with one bar to a series.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// Name and colour of each series.
    pub(crate) series: Vec<(String, &'static str)>,
    pub(crate) groups: Vec<Group>,
}

const WIDTH: f64 = 860.0;
/// Where bars begin: labels stand left of it.
const LEFT: f64 = 300.0;
/// Room for a bar's number.
const RIGHT: f64 = 70.0;
const BAR: f64 = 14.0;
const GAP: f64 = 12.0;
const HEAD: f64 = 62.0;

impl Chart {
    /// The picture. Grey text on no background, so that it can be read on light and dark pages.
    pub(crate) fn svg(&self, number: impl Fn(f64) -> String) -> String {
        let values = self.groups.iter().flat_map(|group| group.values.iter().flatten());
        let most = values.copied().fold(f64::MIN_POSITIVE, f64::max);
        let group_height = BAR * self.series.len() as f64 + GAP;
        let height = HEAD + group_height * self.groups.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" \
             fill=\"#808080\">\n<text x=\"0\" y=\"18\" font-size=\"16\">{}</text>\n",
            escaped(&self.title)
        );
        let mut x = 0.0;
        for (name, colour) in &self.series {
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"32\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"42\">{}</text>",
                x + 17.0,
                escaped(name)
            );
            x += 45.0 + 7.0 * name.len() as f64;
        }
        for (at, group) in self.groups.iter().enumerate() {
            let top = HEAD + group_height * at as f64;
            let middle = top + BAR * self.series.len() as f64 / 2.0 + 4.0;
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                escaped(&group.label)
            );
            for (at, ((_, colour), value)) in self.series.iter().zip(&group.values).enumerate() {
                let Some(value) = value else { continue };
                let y = top + BAR * at as f64;
                let width = (value / most * (WIDTH - LEFT - RIGHT)).max(1.0);
                let _ = writeln!(
                    svg,
                    "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" \
                     fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{}\" font-size=\"11\">{}</text>",
                    BAR - 2.0,
                    LEFT + width + 5.0,
                    y + BAR - 4.0,
                    number(*value)
                );
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_what_was_not_measured_has_none() {
        let chart = Chart {
            title: "a < b".to_owned(),
            series: vec![("one".to_owned(), "#111111"), ("two".to_owned(), "#222222")],
            groups: vec![
                Group { label: "x & y".to_owned(), values: vec![Some(100.0), Some(50.0)] },
                Group { label: "z".to_owned(), values: vec![Some(25.0), None] },
            ],
        };
        let svg = chart.svg(|value| format!("{value}"));
        assert!(svg.contains("a &lt; b") && svg.contains("x &amp; y"));
        let whole = WIDTH - LEFT - RIGHT;
        for (share, colour) in [(1.0, "#111111"), (0.5, "#222222"), (0.25, "#111111")] {
            let bar = format!("width=\"{:.1}\" height=\"12\" fill=\"{colour}\"", whole * share);
            assert!(svg.contains(&bar), "{bar} in {svg}");
        }
        // Two in the legend, three bars.
        assert_eq!(svg.matches("<rect").count(), 5);
    }
}
