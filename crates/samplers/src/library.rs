//! Samplers made of the solvers of a library.

use std::sync::Arc;

use wan_plugin_api::extensions::STATE;
use wan_plugin_api::library::{
    AnyLibrary, AnySampler, CacheInstance, Library, SamplerInstance, SolverContext, SolverInstance,
};
use wan_plugin_api::{
    CacheContext, Denoise, Error, Message, OptionValues, PluginDescription, Result, SampleRequest,
    Schedule, Step, Strategy, Tensor, TensorOps,
};

use crate::own_options::those_of;
use crate::together::Together;
use crate::uniform::ALL_FRAMES;
use crate::{Descent, Grid, LevelOptions, NoiseLevels, SigmaTable, Solver};

/// The levels of a library's solver, where the user does not ask for others.
const LEVELS: NoiseLevels = NoiseLevels::of(Grid::FlowMatchEuler);

/// What a library offers, with a sampler of the same id for each of its solvers. Such a sampler
/// moves all frames together, and has the options of the solver and those of the noise levels
/// ([`LevelOptions`]). It can be saved if the solver lists `wan.state/1`.
///
/// # Errors
/// The error of the library, which is asked to describe itself.
pub fn offered(library: Library) -> Result<(Library, PluginDescription)> {
    let mut description = library.describe()?;
    if description.solvers.is_empty() {
        return Ok((library, description));
    }
    let solvers = description.solvers.clone();
    description.samplers.extend(solvers.iter().map(sampler_of));
    Ok((Library::new(WithSamplers { library, solvers }), description))
}

struct WithSamplers {
    library: Library,
    solvers: Vec<Strategy>,
}

impl AnyLibrary for WithSamplers {
    fn describe(&self) -> Result<PluginDescription> {
        let mut description = self.library.describe()?;
        description.samplers.extend(self.solvers.iter().map(sampler_of));
        Ok(description)
    }

    fn create_sampler(
        &self,
        id: &str,
        options: &OptionValues,
        request: &SampleRequest,
    ) -> Result<SamplerInstance> {
        match self.solvers.iter().find(|solver| solver.id == id) {
            None => self.library.create_sampler(id, options, request),
            Some(solver) => Ok(Box::new(OfSolver::new(self.library, solver, options, request)?)),
        }
    }

    fn create_cache(
        &self,
        id: &str,
        options: &OptionValues,
        context: &CacheContext,
    ) -> Result<CacheInstance> {
        self.library.create_cache(id, options, context)
    }

    fn create_solver(
        &self,
        id: &str,
        options: &OptionValues,
        context: &SolverContext<'_>,
    ) -> Result<SolverInstance> {
        self.library.create_solver(id, options, context)
    }
}

/// What the sampler of a solver says of itself.
fn sampler_of(solver: &Strategy) -> Strategy {
    let mut sampler = solver.clone();
    sampler.doc.push_str(ALL_FRAMES);
    sampler.options.extend(LevelOptions::specs());
    sampler.extensions.retain(|id| id == STATE);
    sampler
}

/// A sampler that moves all frames together by a library's solver.
struct OfSolver {
    id: String,
    has_state: bool,
    together: Together<Held>,
}

impl OfSolver {
    fn new(
        library: Library,
        solver: &Strategy,
        options: &OptionValues,
        request: &SampleRequest,
    ) -> Result<Self> {
        let levels = LevelOptions::read(options)?;
        let table = Arc::new(levels.table(LEVELS, request.steps, request.shift)?);
        let (id, own) = (solver.id.clone(), those_of(&solver.options, options));
        let make = move |table: &Arc<SigmaTable>, first_frame| {
            let SigmaTable { sigmas, timesteps } = &**table;
            let context = SolverContext { sigmas, timesteps, first_frame };
            Ok(Held(library.create_solver(&id, &own, &context)?))
        };
        let descent = Descent::new(table, &levels, make)?;
        let together = Together::new(&solver.id, descent, request)?;
        let has_state = solver.extensions.iter().any(|id| id == STATE);
        Ok(Self { id: solver.id.clone(), has_state, together })
    }
}

impl AnySampler for OfSolver {
    fn schedule_from(&self, round: usize) -> Result<Schedule> {
        match round {
            0 => Ok(self.together.schedule()),
            _ => Err(Error::failed(format!(
                "{} gives its schedule at once, not from round {round}",
                self.id
            ))),
        }
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        self.together.step(sample, step, model, ops)
    }

    /// The state is the solver's: everything else follows from options and request.
    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        if id != STATE || !self.has_state {
            return Err(Error::unsupported(format!("{} has no extension {id}", self.id)));
        }
        self.together.solver.0.extension(id, message, ops)
    }
}

/// A library's solver, among those of this crate.
struct Held(SolverInstance);

impl Held {
    fn go_on(
        &mut self,
        place: (usize, u32),
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let moved = self.0.step(place, sample, velocity, ops)?;
        if moved.form().same_shape(sample.form()) {
            return Ok(moved);
        }
        let (made, given) = (moved.form(), sample.form());
        let (index, evaluation) = place;
        Err(Error::failed(format!(
            "step {index}, evaluation {evaluation}: the solver made {made:?} of {given:?}"
        )))
    }
}

impl Solver for Held {
    fn evaluations(&self, index: usize) -> u32 {
        self.0.evaluations(index)
    }

    fn level(&self, index: usize, evaluation: u32) -> Result<Option<(f64, f64)>> {
        self.0.level(index, evaluation)
    }

    fn step(
        &mut self,
        index: usize,
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        self.go_on((index, 0), sample, velocity, ops)
    }

    fn correct(
        &mut self,
        place: (usize, u32),
        moved: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        self.go_on(place, moved, velocity, ops)
    }
}
