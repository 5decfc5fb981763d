//! The report's charts, as SVG.

use plotters::prelude::*;
use wan_host::{Error, Result};

use super::runs::Run;
use super::summary::Summary;

/// Width and height of a chart.
const SIZE: (u32, u32) = (760, 340);

fn failed<E: std::fmt::Display>(error: E) -> Error {
    Error::invalid(format!("chart: {error}"))
}

/// PSNR over evaluations saved, a line per cache.
pub(super) fn saved_against_psnr(
    summaries: &[Summary],
    title: &str,
    psnr: impl Fn(&Summary) -> f64,
) -> Result<String> {
    let points = |family: &str| {
        let own = summaries.iter().filter(|s| s.family() == family);
        let mut points: Vec<(f64, f64)> = own.map(|s| (s.saved, psnr(s))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let mut families: Vec<&str> = summaries.iter().map(Summary::family).collect();
    families.sort_unstable();
    families.dedup();
    let lines: Vec<_> = families.iter().map(|f| (*f, points(f))).collect();
    draw_lines(title, ("evaluations saved (x)", "dB"), &lines, None)
}

/// What the cache measured first, the error of the residual and that of the velocity, over the
/// evaluations of a branch; a chart each.
pub(super) fn decisions(run: &Run) -> Result<Vec<String>> {
    let Some((branch, map)) = run.decisions.iter().next() else { return Ok(Vec::new()) };
    let branches = run.decisions.len();
    let mut lines: Vec<(&str, Vec<f64>)> = Vec::new();
    let measured: Vec<f64> = run.measured.iter().filter_map(|m| m.first().copied()).collect();
    if let (Some(name), true) = (run.measures.first(), measured.len() == map.len()) {
        lines.push((name, measured));
    }
    let residual = run.residual_errors.iter().step_by(branches);
    let residual: Vec<f64> = residual.map(|error| error.unwrap_or(f64::NAN)).collect();
    if residual.iter().any(|error| error.is_finite()) {
        lines.push(("residual error", residual));
    }
    let velocity = run.velocity_errors.iter().step_by(branches).copied().collect();
    lines.push(("velocity error", velocity));
    let chart = |(name, values): (&str, Vec<f64>)| {
        let numbered = values.into_iter().enumerate().filter(|(_, value)| value.is_finite());
        let points = numbered.map(|(i, value)| (i as f64, value)).collect();
        let title = format!("{name}, branch {branch}");
        draw_lines(&title, ("evaluation", ""), &[(name, points)], Some(map))
    };
    lines.into_iter().map(chart).collect()
}

/// Lines with their points; a band marks each `s` of `reused`.
fn draw_lines(
    title: &str,
    (x_name, y_name): (&str, &str),
    lines: &[(&str, Vec<(f64, f64)>)],
    reused: Option<&str>,
) -> Result<String> {
    let mut svg = String::new();
    let all = || lines.iter().flat_map(|(_, points)| points).filter(|p| p.1.is_finite());
    let span = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = all()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let margin = ((high - low) * 0.06).max(1e-9);
        if low.is_finite() { low - margin..high + margin } else { 0.0..1.0 }
    };
    let (x, y) = (span(|p| p.0), span(|p| p.1));
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(x, y.clone())
            .map_err(failed)?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(x_name).y_desc(y_name).light_line_style(WHITE).draw().map_err(failed)?;
        let bands = reused.unwrap_or("").char_indices().filter(|(_, c)| *c == 's').map(|(i, _)| {
            let corners = [(i as f64 - 0.5, y.start), (i as f64 + 0.5, y.end)];
            Rectangle::new(corners, BLACK.mix(0.08).filled())
        });
        chart.draw_series(bands).map_err(failed)?;
        for (number, (name, points)) in lines.iter().enumerate() {
            let colour = Palette99::pick(number).to_rgba();
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
                .map_err(failed)?
                .label(*name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
            let dots = points.iter().map(|p| Circle::new(*p, 3, colour.filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
        if lines.len() > 1 {
            let mut labels = chart.configure_series_labels();
            labels.background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2));
            labels.draw().map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}
