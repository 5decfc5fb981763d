//! A row of the table: what runs, and what of it is measured.

use std::time::Duration;

use anyhow::Result;
use wan_model::work::Work;

use crate::others::Since;
use crate::peer::Peer;

/// One pass; gives its figure, in the unit of its row.
pub(crate) type Pass = Box<dyn FnMut() -> Result<f64>>;

/// What is run for a row, and what a pass of it computes, where that is known.
pub(crate) struct Made {
    pub(crate) pass: Pass,
    pub(crate) work: Option<Work>,
}

/// What a row is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// Nothing.
    None,
    /// Ours over torch's: what is held, and what is aimed at.
    OverTorch(f64, f64),
    /// A figure of its own.
    Figure(f64, f64),
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) name: String,
    /// What runs, in one line.
    pub(crate) what: String,
    /// `s`, `ms` or `MiB`.
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    /// The request that has torch load the same.
    pub(crate) peer: Option<String>,
    /// Makes what runs. It is dropped before the next row.
    pub(crate) make: Box<dyn Fn() -> Result<Made>>,
}

/// Figures of one side.
#[derive(Clone, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn all(&self) -> &[f64] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// The shortest and the longest.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let all = self.0.iter().copied();
        (all.clone().fold(f64::INFINITY, f64::min), all.fold(0.0, f64::max))
    }
}

/// Processors that others may keep busy during a run that counts.
const CALM: f64 = 0.05;

/// A run on either side.
#[derive(Default)]
struct Try {
    ours: f64,
    torch: Option<f64>,
    context: Option<f64>,
    /// Processors that others kept busy meanwhile.
    others: f64,
}

/// A row with its figures.
pub(crate) struct Measured {
    pub(crate) row: Row,
    pub(crate) work: Option<Work>,
    pub(crate) ours: Figures,
    pub(crate) torch: Figures,
    /// What of torch's pass we compute once a prompt.
    pub(crate) context: Figures,
    /// Processors that others kept busy during the run that they disturbed most.
    pub(crate) others: f64,
}

impl Row {
    /// Warms up, and runs so often on either side, in turn. Runs that others disturbed are done again, at
    /// most as often; the least disturbed count.
    pub(crate) fn measure(self, runs: usize, peer: Option<&mut Peer>) -> Result<Measured> {
        let Made { mut pass, work } = (self.make)()?;
        let mut peer = match (&self.peer, peer) {
            (Some(request), Some(peer)) => {
                peer.load(request)?;
                Some(peer)
            }
            _ => None,
        };
        pass()?;
        let mut tries = Vec::new();
        let is_calm = |one: &Try| one.others <= CALM;
        while tries.iter().filter(|one| is_calm(one)).count() < runs && tries.len() < 2 * runs {
            let since = Since::now(peer.as_deref().map(Peer::id))?;
            let ours = pass()?;
            let mut one = Try { ours, ..Try::default() };
            if let Some(peer) = &mut peer {
                one.torch = Some(peer.run()?);
                one.context = self.has_context().then(|| peer.context()).transpose()?;
            }
            one.others = since.others()?;
            tries.push(one);
            // Threads of torch's wait for work for a while before they sleep.
            std::thread::sleep(Duration::from_millis(100));
        }
        tries.sort_by(|a, b| a.others.total_cmp(&b.others));
        tries.truncate(runs);
        Ok(Measured {
            row: self,
            work,
            ours: Figures(tries.iter().map(|one| one.ours).collect()),
            torch: Figures(tries.iter().filter_map(|one| one.torch).collect()),
            context: Figures(tries.iter().filter_map(|one| one.context).collect()),
            others: tries.last().map_or(0.0, |one| one.others),
        })
    }

    /// Whether torch's pass has a part that depends on the prompt alone.
    fn has_context(&self) -> bool {
        let request = self.peer.as_deref().unwrap_or_default();
        request.starts_with("forward") || request.starts_with("df")
    }
}

impl Measured {
    /// Ours over torch's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        (!self.torch.is_empty()).then(|| self.ours.median() / self.torch.median())
    }

    /// The same with torch's part that we compute once left out.
    pub(crate) fn ratio_without_context(&self) -> Option<f64> {
        let torch = self.torch.median() - self.context.median();
        (!self.context.is_empty()).then(|| self.ours.median() / torch)
    }

    /// GFLOP/s of so many seconds.
    pub(crate) fn speed(&self, figures: &Figures) -> Option<f64> {
        let work = self.work.filter(|_| !figures.is_empty())?;
        Some(work.sum() as f64 / figures.median() / 1e9)
    }

    /// What is shown while others run.
    pub(crate) fn line(&self) -> String {
        let speed = self.speed(&self.ours).map_or(String::new(), |s| format!(", {s:.0} GFLOP/s"));
        let ratio = self.ratio().map_or(String::new(), |ratio| {
            format!(", torch {:.3}: {ratio:.2}", self.torch.median())
        });
        let others = self.others;
        format!(
            "  {:.3} {}{speed}{ratio} (others: {others:.2} processors)",
            self.ours.median(),
            self.row.unit
        )
    }
}
