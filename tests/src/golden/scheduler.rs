//! Kind `scheduler`: whole trajectories of each solver over a toy model `v = x A^T + b`.

use anyhow::{Context, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use wan_plugin_api::OptionValues;
use wan_plugin_kit::{VecOps, values};
use wan_samplers::SolverOptions;

use super::{Case, Compare, NotSupported};

/// Runs every entry of `runs` and compares timesteps (exactly), sigmas and trajectory.
pub(super) fn run(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    let runs = case.description["runs"].as_array().context("case.json has no runs")?;
    let runs = runs.iter().map(Run::read).collect::<anyhow::Result<Vec<_>>>()?;
    let toy = Toy::read(case)?;
    runs.iter().try_for_each(|run| run.compare(&toy, case, compare))
}

/// One scheduler with its settings.
struct Run {
    key: String,
    solver: &'static str,
    options: OptionValues,
    steps: u32,
    shift: f64,
}

impl Run {
    fn read(entry: &Value) -> anyhow::Result<Self> {
        let class = entry["cls"].as_str().context("a run has no cls")?;
        let (solver, timesteps) = match class {
            "euler" => ("euler", "diffusers"),
            "unipc" => ("unipc", "diffusers"),
            "dpm" => ("dpm++", "diffusers"),
            "orig_unipc" => ("unipc", "wan"),
            "orig_dpm" => ("dpm++", "wan"),
            other => return Err(NotSupported(format!("scheduler {other}")).into()),
        };
        let options = [("solver", json!(solver)), ("timesteps", json!(timesteps))];
        let mut run = Self {
            key: entry["key"].as_str().context("a run has no key")?.to_owned(),
            solver,
            options: options.map(|(name, value)| (name.to_string(), value)).into(),
            steps: entry["steps"].as_u64().context("a run has no steps")?.try_into()?,
            shift: entry["shift"].as_f64().unwrap_or(1.0),
        };
        for (name, value) in entry["kw"].as_object().into_iter().flatten() {
            run.set(name, value)?;
        }
        Ok(run)
    }

    /// A keyword argument of the scheduler's constructor.
    fn set(&mut self, name: &str, value: &Value) -> anyhow::Result<()> {
        match (self.solver, name, value.as_str()) {
            ("euler", "shift", None) | (_, "flow_shift", None) => {
                self.shift = value.as_f64().context("shift is not a number")?;
            }
            ("unipc" | "dpm++", "solver_order", None) => {
                self.options.insert("order".into(), value.clone());
            }
            ("unipc", "solver_type", Some("bh2")) => {}
            ("dpm++", "solver_type", Some("midpoint" | "heun")) => {
                self.options.insert("solver_type".into(), value.clone());
            }
            _ => return Err(NotSupported(format!("scheduler setting {name} = {value}")).into()),
        }
        Ok(())
    }

    fn compare(&self, toy: &Toy, case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
        let ops = VecOps::default();
        let options = SolverOptions::read(&self.options)?;
        let table = options.table(self.steps, self.shift)?;
        let mut solver = options.solver(&table, 0)?;
        let mut sample = ops.tensor(toy.rows(), &toy.start);
        let mut trajectory = toy.start.clone();
        for index in 0..table.steps() {
            let velocity = ops.tensor(toy.rows(), &toy.velocity(&values(&sample)));
            sample = solver.step(index, &sample, &velocity, &ops)?;
            trajectory.extend(values(&sample));
        }

        let name = |what: &str| format!("out.{}.{what}", self.key);
        let recorded = case.tensor(&name("timesteps"))?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        ensure!(recorded.len() == table.steps(), "{}: number of timesteps", self.key);
        let wrong = recorded.iter().zip(&table.timesteps).filter(|(a, b)| a != b).count();
        compare.measured(&name("timesteps"), wrong as f64, 0.);
        let sigmas: Vec<f32> = table.sigmas.iter().map(|s| *s as f32).collect();
        compare.tensor(&name("sigmas"), &Tensor::new(sigmas, &Device::Cpu)?)?;
        let mut shape = vec![table.steps() + 1];
        shape.extend(&toy.shape);
        compare.tensor(&name("traj"), &Tensor::from_vec(trajectory, shape, &Device::Cpu)?)
    }
}

/// `v = x A^T + b` over rows of `D` elements.
struct Toy {
    matrix: Vec<Vec<f32>>,
    offset: Vec<f32>,
    start: Vec<f32>,
    shape: Vec<usize>,
}

impl Toy {
    fn read(case: &Case) -> anyhow::Result<Self> {
        let start = case.tensor("in.x0")?;
        Ok(Self {
            matrix: case.tensor("in.A")?.to_vec2()?,
            offset: case.tensor("in.b")?.to_vec1()?,
            start: start.flatten_all()?.to_vec1()?,
            shape: start.dims().to_vec(),
        })
    }

    fn rows(&self) -> usize {
        self.start.len() / self.offset.len()
    }

    fn velocity(&self, x: &[f32]) -> Vec<f32> {
        let dot = |row: &[f32], x: &[f32]| row.iter().zip(x).map(|(a, x)| a * x).sum::<f32>();
        x.chunks(self.offset.len())
            .flat_map(|x| self.matrix.iter().zip(&self.offset).map(move |(a, b)| dot(a, x) + b))
            .collect()
    }
}
