//! Distributions as curves.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use super::row::Row;

const PANEL: (u32, u32) = (900, 420);
const COLOURS: [RGBColor; 5] = [
    RGBColor(31, 119, 180),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
];

/// Draws what share of the publishes, and of the updates and resolves below them, took at most how long: a curve for each row.
pub(crate) fn draw(path: &Path, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (PANEL.0, 3 * PANEL.1)).into_drawing_area();
    root.fill(&WHITE)?;
    for ((panel, title), which) in root.split_evenly((3, 1)).iter().zip(["publish", "update", "resolve"]).zip(0..) {
        let longest = rows.iter().flat_map(|row| &row.times[which]).copied().fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(panel)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d((0.05..longest).log_scale(), 0.0..1.0)?;
        chart.configure_mesh().x_desc("seconds").y_desc("share of all").draw()?;
        for (row, colour) in rows.iter().zip(COLOURS.iter().cycle()) {
            let mut times = row.times[which].clone();
            times.sort_by(f64::total_cmp);
            let count = times.len() as f64;
            let points = times.into_iter().zip(1..).map(|(time, rank)| (time, f64::from(rank) / count));
            let label = format!("{}, {} servers, {:.0} % dead", row.strategy, row.servers, 100.0 * row.dead);
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).background_style(WHITE).draw()?;
    }
    root.present()?;
    Ok(())
}
