//! Writes a recording while a run goes on.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use wan_host::parts::{HostOps, Seen, Witness};
use wan_host::{Error, Plan, Result, Settings};
use wan_outputs::{Claim, Wanted};

use super::file::{Recording, Writer};
use super::{Contents, RecordedChange, RecordedEvaluation, RecordedStream, SCHEMA};

/// Records a run without a cache.
pub struct Recorder {
    writer: Writer,
    contents: Contents,
    /// Residual and velocity of the evaluation before, per branch.
    before: BTreeMap<String, (Tensor, Tensor)>,
}

impl Recorder {
    /// The file that a recorder writes, of about so many bytes.
    pub fn wanted(path: &Path, bytes: u64) -> Wanted {
        let (field, path) = ("out".into(), path.into());
        Wanted { field, path, is_ours: Recording::is_one, bytes, temporary_in: None }
    }

    /// Bytes of a recording of this run, about and at most.
    pub fn estimated_bytes(plan: &Plan) -> u64 {
        // Hidden states, probe and residual; velocity and sample.
        let tensors = 3 * plan.hidden_bytes + 2 * plan.latent_bytes + plan.signal_bytes_max;
        plan.evaluations.saturating_mul(tensors)
    }

    /// A recorder of a run with these settings; nothing lies under the final name before the end.
    ///
    /// # Errors
    /// If the folder cannot be written to, or the run has a cache.
    pub fn create(claim: Claim, settings: &Settings) -> Result<Self> {
        if settings.cache.is_some() {
            return Err(Error::invalid("a recording is of a run without a cache: `cache` none"));
        }
        let contents = Contents {
            schema: SCHEMA,
            wan: env!("CARGO_PKG_VERSION").into(),
            settings: (**settings).clone(),
            streams: Vec::new(),
            evaluations: Vec::new(),
        };
        Ok(Self { writer: Writer::create(claim)?, contents, before: BTreeMap::new() })
    }

    /// Puts the file under its name; gives its size in bytes.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<u64> {
        self.writer.finish(&self.contents)
    }

    /// Number of the evaluation that `seen` belongs to; begins it, and its stream, where it is new.
    fn begin(&mut self, seen: &Seen<'_>, rows: &[u32]) -> Result<usize> {
        let branch = &seen.context.branch;
        let mut starts = true;
        if let (Some(stream), Some(last)) =
            (self.contents.streams.last_mut(), self.contents.evaluations.last())
        {
            starts = seen.evaluation == 0 && stream.branches.contains(branch);
            if !starts && !stream.branches.contains(branch) {
                stream.branches.push(branch.clone());
            }
            if !starts && last.index == seen.evaluation {
                return Ok(self.contents.evaluations.len() - 1);
            }
        }
        if starts {
            self.before.clear();
            let (context, branches) = (seen.context.clone(), vec![branch.clone()]);
            self.contents.streams.push(RecordedStream { context, branches });
        }
        self.contents.evaluations.push(RecordedEvaluation {
            stream: self.contents.streams.len() - 1,
            index: seen.evaluation,
            levels: seen.levels.to_vec(),
            rows: rows.to_vec(),
            branches: Vec::new(),
        });
        let number = self.contents.evaluations.len() - 1;
        self.writer.put(&format!("{number:04}.sample"), seen.sample)?;
        Ok(number)
    }
}

impl Witness for Recorder {
    fn see(&mut self, seen: &Seen<'_>) -> Result<()> {
        let Some(inside) = seen.inside else { return Ok(()) };
        let (e, e0) = (&inside.embedded.e, &inside.embedded.e0);
        let frames = seen.levels.len();
        let index = e.index(0);
        let rows = if index.len() == 1 { vec![index[0]; frames] } else { index.to_vec() };
        let known = self.contents.evaluations.len();
        let number = self.begin(seen, &rows)?;
        if number == known {
            self.writer.put(&format!("{number:04}.e"), &e.rows().squeeze(0)?)?;
            self.writer.put(&format!("{number:04}.e0"), &e0.rows().squeeze(0)?)?;
        }
        let hidden = &inside.embedded.hidden;
        let residual = (inside.after - hidden)?;
        let branch = seen.context.branch.clone();
        let name = |tensor: &str| format!("{number:04}.{branch}.{tensor}");
        self.writer.put(&name("hidden"), hidden)?;
        if let Some(after) = inside.after_first_block {
            self.writer.put(&name("probe"), &(after - hidden)?)?;
        }
        self.writer.put(&name("residual"), &residual)?;
        self.writer.put(&name("velocity"), seen.velocity)?;
        let before = self.before.get(&branch);
        let change = match before.filter(|(r, _)| r.dims() == residual.dims()) {
            Some((r, v)) => change(frames, (&residual, seen.velocity), (r, v))?,
            None => RecordedChange {
                residual_norm: norms(&residual, HostOps::TOKEN_AXIS, frames)?,
                ..RecordedChange::default()
            },
        };
        self.contents.evaluations[number].branches.push(change);
        self.before.insert(branch, (residual, seen.velocity.clone()));
        Ok(())
    }
}

fn change(
    frames: usize,
    (residual, velocity): (&Tensor, &Tensor),
    (residual_before, velocity_before): (&Tensor, &Tensor),
) -> Result<RecordedChange> {
    let norm = norms(residual, HostOps::TOKEN_AXIS, frames)?;
    let norm_before = norms(residual_before, HostOps::TOKEN_AXIS, frames)?;
    let products = frame_sums(&(residual * residual_before)?, HostOps::TOKEN_AXIS, frames)?;
    let over = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a / b).collect();
    let both: Vec<f64> = norm.iter().zip(&norm_before).map(|(a, b)| a * b).collect();
    Ok(RecordedChange {
        residual_ratio: over(&norm, &norm_before),
        residual_cosine: over(&products, &both),
        residual_change: relative(residual, residual_before, HostOps::TOKEN_AXIS, frames)?,
        velocity_change: relative(velocity, velocity_before, HostOps::LATENT_FRAME_AXIS, frames)?,
        residual_norm: norm,
    })
}

/// Per frame, `sum |a - b| / sum |b|`.
pub(super) fn relative(a: &Tensor, b: &Tensor, axis: usize, frames: usize) -> Result<Vec<f64>> {
    let differences = frame_sums(&(a - b)?.abs()?, axis, frames)?;
    let sums = frame_sums(&b.abs()?, axis, frames)?;
    Ok(differences.iter().zip(&sums).map(|(d, s)| d / s).collect())
}

fn norms(tensor: &Tensor, axis: usize, frames: usize) -> Result<Vec<f64>> {
    Ok(frame_sums(&tensor.sqr()?, axis, frames)?.into_iter().map(f64::sqrt).collect())
}

/// Sum of each frame, in f64.
fn frame_sums(tensor: &Tensor, axis: usize, frames: usize) -> Result<Vec<f64>> {
    let per_frame = tensor.dims()[axis] / frames;
    let sum = |f: usize| {
        let frame = tensor.narrow(axis, f * per_frame, per_frame)?;
        frame.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()
    };
    Ok((0..frames).map(sum).collect::<candle_core::Result<_>>()?)
}
