//! Plots of values over time as SVG, without a library.

use std::fmt::Write;

const WIDTH: f64 = 740.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 40.0;
const COLOURS: [&str; 3] = ["#2b6cb0", "#c05621", "#2f855a"];

/// Values over time, as lines from zero to the largest value.
pub(crate) struct Curves<'a> {
    pub(crate) title: &'a str,
    /// The times of the values, in minutes.
    pub(crate) minutes: &'a [f64],
    /// Each line's name and values.
    pub(crate) lines: Vec<(&'a str, Vec<f64>)>,
    /// A time that is drawn grey, from and to in minutes, and why.
    pub(crate) shade: (f64, f64, &'a str),
}

impl Curves<'_> {
    /// Returns the plot as SVG.
    pub(crate) fn drawn(&self) -> Result<String, std::fmt::Error> {
        let last = self.minutes.last().copied().unwrap_or(1.0).max(f64::MIN_POSITIVE);
        let values = self.lines.iter().flat_map(|(_, values)| values.iter().copied());
        let most = values.fold(f64::MIN_POSITIVE, f64::max);
        let x = |minute: f64| LEFT + minute.clamp(0.0, last) / last * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value.max(0.0) / most * (HEIGHT - TOP - BOTTOM);
        let (bottom, (from, to, why)) = (HEIGHT - BOTTOM, self.shade);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"10\" y=\"20\" font-weight=\"bold\">{}</text>\n\
             <rect x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#e2e8f0\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#4a5568\" text-anchor=\"middle\">{why}</text>\n\
             <path d=\"M{LEFT} {TOP}V{bottom}H{}\" fill=\"none\" stroke=\"black\"/>\n",
            self.title,
            x(from),
            x(to) - x(from),
            bottom - TOP,
            x((from + to) / 2.0),
            TOP + 14.0,
            WIDTH - RIGHT,
        );
        for (value, at) in [(most, TOP + 5.0), (most / 2.0, (TOP + bottom) / 2.0 + 5.0), (0.0, bottom + 5.0)] {
            let value = crate::report::shown(value);
            writeln!(svg, "<text x=\"{}\" y=\"{at}\" text-anchor=\"end\">{value}</text>", LEFT - 6.0)?;
        }
        for part in 0..=4 {
            let minute = last * f64::from(part) / 4.0;
            let (at, below) = (x(minute), bottom + 18.0);
            writeln!(svg, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{minute:.1} min</text>")?;
        }
        for (index, (name, values)) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points: Vec<String> =
                self.minutes.iter().zip(values).map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
            writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n\
                 <text x=\"{}\" y=\"40\" fill=\"{colour}\">{name}</text>",
                points.join(" "),
                LEFT + index as f64 * 160.0,
            )?;
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}
