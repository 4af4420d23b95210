//! Bar plots of the table as SVG, without a library: a bar for each contender's median, a line from minimum to maximum.

use crate::Result;
use crate::report::{Row, shown};
use std::fmt::Write;
use std::path::Path;

const BAR_HEIGHT: usize = 22;
const TOP: usize = 40;
const NAMES_WIDTH: usize = 160;
const BARS_WIDTH: f64 = 460.0;
const WIDTH: usize = 740;

/// Writes a file for each row into a directory, which is created if it does not exist.
pub(crate) fn write(directory: &Path, rows: &[Row]) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    for row in rows {
        let words: String = row.what.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
        let words: Vec<&str> = words.split_whitespace().collect();
        std::fs::write(directory.join(format!("{}-{}.svg", row.case, words.join("-"))), drawn(row)?)?;
    }
    Ok(())
}

fn drawn(row: &Row) -> Result<String, std::fmt::Error> {
    let height = TOP + row.columns.len() * BAR_HEIGHT + 10;
    let most = row.columns.iter().map(|column| column.extremes().1).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| NAMES_WIDTH as f64 + value.max(0.0) / most * BARS_WIDTH;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-weight=\"bold\">{}</text>\n",
        escaped(&row.what)
    );
    for (index, column) in row.columns.iter().enumerate() {
        let top = TOP + index * BAR_HEIGHT;
        let (text, middle) = (top + 15, top + BAR_HEIGHT / 2);
        let (median, (low, high)) = (column.median(), column.extremes());
        let colour = if column.contender.starts_with("ours") { "#2b6cb0" } else { "#a0aec0" };
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{NAMES_WIDTH}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\n\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"black\"/>\n\
             <text x=\"{:.1}\" y=\"{text}\">{}</text>",
            NAMES_WIDTH - 8,
            escaped(column.contender),
            top + 3,
            x(median) - NAMES_WIDTH as f64,
            BAR_HEIGHT - 6,
            x(low),
            x(high),
            x(high) + 8.0,
            shown(median),
        )?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
