//! Charts as numbers that templates draw as SVG: bars and lines over time, nothing foreign, nothing
//! inline that a strict policy would refuse.

use ordu_store::Step;

/// The size of the whole drawing.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 150.0;
/// Where the plot lies in it.
const LEFT: f64 = 40.0;
const RIGHT: f64 = 354.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 128.0;
/// So many words stand below a chart.
const LABELS: usize = 4;

/// How a chart draws its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// What adds up in a step.
    Bars,
    /// What is there at any time.
    Line,
}

/// One chart.
#[derive(Debug)]
pub(crate) struct Chart {
    /// Names it among the charts of a page.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The same in a sentence, with the numbers that matter.
    pub(crate) summary: String,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
    pub(crate) bars: Vec<Bar>,
    /// The points of each unbroken piece of the line.
    pub(crate) lines: Vec<String>,
    pub(crate) levels: Vec<Level>,
    pub(crate) labels: Vec<Label>,
}

/// One bar.
#[derive(Debug, PartialEq)]
pub(crate) struct Bar {
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) width: String,
    pub(crate) height: String,
}

/// A horizontal line with its number.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) y: String,
    /// Where its number stands.
    pub(crate) text_y: String,
    pub(crate) text: String,
}

/// A word below the chart.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) x: String,
    pub(crate) text: String,
}

/// A value of a series and when its step began, in Unix seconds.
pub(crate) type Point = (i64, Option<f64>);

impl Chart {
    /// Draws a series.
    pub(crate) fn new(
        (id, title): (&'static str, &'static str),
        shape: Shape,
        step: Step,
        points: &[Point],
    ) -> Self {
        let highest = points.iter().filter_map(|(_, value)| *value);
        let highest = highest.fold(0.0_f64, f64::max);
        let top = round_up(highest);
        let scale = Scale {
            top,
            slots: points.len().max(1),
        };
        let (bars, lines) = match shape {
            Shape::Bars => (scale.bars(points), Vec::new()),
            Shape::Line => (Vec::new(), scale.lines(points)),
        };
        Self {
            id,
            title,
            summary: summary(shape, step, points, highest),
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            right: RIGHT,
            bottom: BOTTOM,
            bars,
            lines,
            levels: scale.levels(),
            labels: scale.labels(step, points),
        }
    }
}

/// From values to places.
struct Scale {
    top: f64,
    slots: usize,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "there are at most some hundred steps"
)]
impl Scale {
    fn slot(&self) -> f64 {
        (RIGHT - LEFT) / self.slots as f64
    }

    fn x(&self, number: usize) -> f64 {
        LEFT + self.slot() * number as f64
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (value / self.top).clamp(0.0, 1.0)
    }

    fn bars(&self, points: &[Point]) -> Vec<Bar> {
        let values = points.iter().enumerate();
        let values = values.filter_map(|(number, (_, value))| Some((number, (*value)?)));
        let drawn = values.filter(|(_, value)| *value > 0.0);
        let bar = |(number, value)| {
            // Little is not nothing.
            let y = self.y(value).min(BOTTOM - 1.0);
            Bar {
                x: place(self.x(number) + self.slot() * 0.1),
                y: place(y),
                width: place(self.slot() * 0.8),
                height: place(BOTTOM - y),
            }
        };
        drawn.map(bar).collect()
    }

    /// A step where nobody looked breaks the line; what stands alone is as wide as its step.
    fn lines(&self, points: &[Point]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line: Vec<String> = Vec::new();
        for (number, (_, value)) in points.iter().enumerate() {
            match value {
                Some(value) => {
                    let y = place(self.y(*value));
                    line.push(format!("{},{y}", place(self.x(number))));
                    line.push(format!("{},{y}", place(self.x(number + 1))));
                }
                None if !line.is_empty() => lines.push(std::mem::take(&mut line).join(" ")),
                None => {}
            }
        }
        if !line.is_empty() {
            lines.push(line.join(" "));
        }
        lines
    }

    fn levels(&self) -> Vec<Level> {
        let level = |share: f64| {
            let value = self.top * share;
            Level {
                y: place(self.y(value)),
                text_y: place(self.y(value) + 4.0),
                text: short(value),
            }
        };
        [0.0, 0.5, 1.0].map(level).into()
    }

    fn labels(&self, step: Step, points: &[Point]) -> Vec<Label> {
        let every = points.len().div_ceil(LABELS).max(1);
        let labelled = points.iter().enumerate().step_by(every);
        let label = |(number, (start, _)): (usize, &Point)| Label {
            x: place(self.x(number)),
            text: when(step, *start),
        };
        labelled.map(label).collect()
    }
}

/// A coordinate, to a tenth.
fn place(number: f64) -> String {
    format!("{number:.1}")
}

/// The least round number that is not below this one: 1, 2, 4 or 10 times a power of ten, so that
/// its half is a round number too.
fn round_up(highest: f64) -> f64 {
    if !highest.is_finite() || highest <= 2.0 {
        return 2.0;
    }
    let power = 10.0_f64.powf(highest.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 10.0];
    let fits = steps.iter().find(|step| *step * power >= highest);
    fits.unwrap_or(&10.0) * power
}

/// A number for the edge of a chart.
fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// When a step began, in a few letters.
pub(crate) fn when(step: Step, seconds: i64) -> String {
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let form = match step {
        Step::Hour => "%-d %b %H:00",
        Step::Day => "%-d %b",
    };
    at.strftime(form).to_string()
}

fn summary(shape: Shape, step: Step, points: &[Point], highest: f64) -> String {
    let known: Vec<f64> = points.iter().filter_map(|(_, value)| *value).collect();
    let (Some((first, _)), Some(newest)) = (points.first(), known.last()) else {
        return "Nothing is known yet.".to_owned();
    };
    let each = match step {
        Step::Hour => "hour",
        Step::Day => "day",
    };
    let since = when(step, *first);
    match shape {
        Shape::Bars => {
            let sum = short(known.iter().sum());
            let most = short(highest);
            format!("{sum} since {since}, at most {most} in one {each}.")
        }
        Shape::Line => {
            let (newest, most) = (short(*newest), short(highest));
            format!("{newest} now, at most {most} in the {each}s since {since}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_round_and_holds_the_highest() {
        for (highest, top) in [
            (0.0, 2.0),
            (1.5, 2.0),
            (2.1, 4.0),
            (9.0, 10.0),
            (10.0, 10.0),
            (11.0, 20.0),
            (5_500.0, 6_000.0),
            (999_999.0, 1_000_000.0),
            (f64::INFINITY, 2.0),
        ] {
            assert!((round_up(highest) - top).abs() < 1e-6, "{highest}");
        }
    }

    #[test]
    fn numbers_at_the_edge_are_short() {
        let cases = [
            (0.0, "0"),
            (1.5, "1.5"),
            (9_999.0, "9999"),
            (12_500.0, "12.5k"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
        assert_eq!((short(3e6), short(4e9)), ("3M".into(), "4G".into()));
    }

    #[test]
    fn bars_stand_on_the_ground_and_nothing_draws_none() {
        let points = [
            (0, Some(4.0)),
            (3600, Some(0.0)),
            (7200, None),
            (10_800, Some(0.001)),
        ];
        let chart = Chart::new(("a", "A"), Shape::Bars, Step::Hour, &points);
        assert_eq!(chart.bars.len(), 2);
        assert_eq!(chart.bars[0].y, place(TOP));
        for bar in &chart.bars {
            let (y, height): (f64, f64) = (bar.y.parse().unwrap(), bar.height.parse().unwrap());
            assert!(
                (y + height - BOTTOM).abs() < 0.11 && height >= 1.0,
                "{bar:?}"
            );
        }
        assert_eq!(chart.summary, "4 since 1 Jan 00:00, at most 4 in one hour.");
    }

    #[test]
    fn a_line_breaks_where_nobody_looked() {
        let points = [
            (0, Some(1.0)),
            (86_400, None),
            (172_800, Some(2.0)),
            (259_200, Some(1.0)),
        ];
        let chart = Chart::new(("a", "A"), Shape::Line, Step::Day, &points);
        let counts: Vec<usize> = chart
            .lines
            .iter()
            .map(|line| line.split(' ').count())
            .collect();
        assert_eq!(counts, [2, 4]);
        assert_eq!(chart.summary, "1 now, at most 2 in the days since 1 Jan.");
        let empty = Chart::new(("a", "A"), Shape::Line, Step::Day, &[]);
        assert_eq!(empty.summary, "Nothing is known yet.");
    }
}
