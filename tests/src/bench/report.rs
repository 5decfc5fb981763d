//! What was measured, as a table, as JSON and as a plot.

use std::fs;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use serde_json::{Value, json};

use crate::fit::Fit;
use crate::flags::Flags;
use crate::machine::Machine;
use crate::row::{Figures, Goal, Measured};

/// Width and height of the plot.
const SIZE: (u32, u32) = (640, 320);

/// All rows that were measured.
pub(crate) struct Report {
    machine: Machine,
    torch: Option<String>,
    rows: Vec<Measured>,
}

/// A number with as many digits as tell something.
fn short(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.3}"),
    }
}

/// A median with its spread; `-` where nothing was measured.
fn with_spread(figures: &Figures) -> String {
    let (low, high) = figures.spread();
    match figures.is_empty() {
        true => "-".into(),
        false => format!("{} ({}-{})", short(figures.median()), short(low), short(high)),
    }
}

fn or_dash(number: Option<f64>, digits: usize) -> String {
    number.map_or("-".into(), |number| format!("{number:.digits$}"))
}

impl Report {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { machine: Machine::here()?, torch: None, rows: Vec::new() })
    }

    pub(crate) fn add(&mut self, measured: Measured, torch: Option<&str>) {
        self.torch = torch.filter(|versions| !versions.is_empty()).map(String::from);
        self.rows.push(measured);
    }

    /// A table in Markdown.
    pub(crate) fn print(&self) {
        let Machine { processor, kernels, threads, date } = &self.machine;
        println!("{processor}, {threads} threads, kernels {kernels}, {date}");
        if let Some(torch) = &self.torch {
            println!("beside {torch}");
        }
        println!(
            "\n| row | | ours | GFLOP/s | torch | GFLOP/s | ours / torch | less context | hold | aim |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        self.rows.iter().for_each(|measured| println!("{}", table_line(measured)));
        for (name, fit) in [("ours", self.fit(|m| &m.ours)), ("torch", self.fit(|m| &m.torch))] {
            if let Some(Fit { linear, square, error_max }) = fit {
                println!(
                    "\n{name}: {:.1} us a token and {:.2} ns a pair of tokens, within {:.1} %",
                    linear * 1e6,
                    square * 1e9,
                    error_max * 100.0
                );
            }
        }
    }

    /// Files that were asked for.
    pub(crate) fn write(&self, flags: &Flags) -> Result<()> {
        if let Some(path) = &flags.json {
            fs::write(path, format!("{:#}\n", self.json()))?;
        }
        if let Some(path) = &flags.plot {
            fs::write(path, self.plot()?)?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let row = |measured: &Measured| {
            let (hold, aim) = match measured.row.goal {
                Goal::None => (None, None),
                Goal::OverTorch(hold, aim) | Goal::Figure(hold, aim) => (Some(hold), Some(aim)),
            };
            json!({
                "name": measured.row.name,
                "what": measured.row.what,
                "unit": measured.row.unit,
                "ours": measured.ours.all(),
                "ours_median": measured.ours.median(),
                "flop": measured.work.map(|work| work.sum()),
                "ours_gflops": measured.speed(&measured.ours),
                "torch": measured.torch.all(),
                "torch_context": measured.context.all(),
                "torch_gflops": measured.speed(&measured.torch),
                "over_torch": measured.ratio(),
                "over_torch_less_context": measured.ratio_without_context(),
                "others": measured.others,
                "hold": hold,
                "aim": aim,
            })
        };
        json!({
            "machine": self.machine,
            "torch": self.torch,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "fit": { "ours": self.fit(|m| &m.ours), "torch": self.fit(|m| &m.torch) },
        })
    }

    /// Tokens and seconds of the forwards by tokens.
    fn points(&self, of: impl Fn(&Measured) -> &Figures) -> Vec<(f64, f64)> {
        let point = |measured: &Measured| {
            let tokens = measured.row.name.strip_prefix("tokens-")?.parse().ok()?;
            (!of(measured).is_empty()).then(|| (tokens, of(measured).median()))
        };
        self.rows.iter().filter_map(point).collect()
    }

    fn fit(&self, of: impl Fn(&Measured) -> &Figures) -> Option<Fit> {
        Fit::of(&self.points(of))
    }

    /// Seconds over tokens: points as measured, lines as fitted.
    fn plot(&self) -> Result<String> {
        let ours = ("wan", self.points(|m| &m.ours), self.fit(|m| &m.ours), RED);
        let torch = ("torch", self.points(|m| &m.torch), self.fit(|m| &m.torch), BLACK);
        let most =
            |of: fn(&(f64, f64)) -> f64| ours.1.iter().chain(&torch.1).map(of).fold(0.0, f64::max);
        let (tokens, seconds) = (most(|p| p.0), most(|p| p.1));
        let mut svg = String::new();
        draw(&mut svg, (tokens, seconds), &[ours, torch])
            .map_err(|error| anyhow!("plot: {error}"))?;
        Ok(svg)
    }
}

/// A name, its points, the line through them, and their colour.
type Series = (&'static str, Vec<(f64, f64)>, Option<Fit>, RGBColor);

fn draw(
    svg: &mut String,
    (tokens, seconds): (f64, f64),
    series: &[Series],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..tokens * 1.05, 0.0..seconds * 1.05)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("tokens")
        .y_desc("seconds of a forward, 2 layers")
        .light_line_style(WHITE)
        .draw()?;
    for (name, points, fit, colour) in series.iter().filter(|series| !series.1.is_empty()) {
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        let Some(fit) = fit else { continue };
        let line = (0..=100).map(|step| f64::from(step) / 100.0 * tokens);
        let line = LineSeries::new(line.map(|x| (x, fit.seconds(x))), colour);
        let drawn = chart.draw_series(line)?.label(*name);
        drawn.legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft);
    labels.background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.2)).draw()?;
    root.present()?;
    Ok(())
}

fn table_line(measured: &Measured) -> String {
    let row = &measured.row;
    let (hold, aim) = match row.goal {
        Goal::None => ("-".into(), "-".into()),
        Goal::OverTorch(hold, aim) => (format!("{hold:.2}"), format!("{aim:.2}")),
        Goal::Figure(hold, aim) => (format!("{hold} {}", row.unit), format!("{aim} {}", row.unit)),
    };
    format!(
        "| {} | {} | {} {} | {} | {} | {} | {} | {} | {hold} | {aim} |",
        row.name,
        row.what,
        with_spread(&measured.ours),
        row.unit,
        or_dash(measured.speed(&measured.ours), 0),
        with_spread(&measured.torch),
        or_dash(measured.speed(&measured.torch), 0),
        or_dash(measured.ratio(), 2),
        or_dash(measured.ratio_without_context(), 2),
    )
}
