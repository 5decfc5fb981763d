//! A library whose border somebody watches: every call into it, and every call of it into the host.

use std::fmt::Debug;
use std::sync::Arc;

use super::held::{
    AnyCache, AnyLibrary, AnySampler, AnySolver, CacheInstance, Library, SamplerInstance,
    SolverContext, SolverInstance,
};
use crate::{
    CacheContext, CachePlan, DType, Decision, Denoise, Evaluation, FrameLevel, LogLevel, Message,
    OptionValues, Place, PluginDescription, Result, SampleRequest, Schedule, Step, Tensor,
    TensorOps, Term,
};

/// Sees the border between host and library. Calls come from any thread; what one thread calls is
/// nested: into the library, out of it into the host, and perhaps into another one from there.
pub trait Border: Debug + Send + Sync {
    /// This thread begins to run code of `plugin`.
    fn enter(&self, plugin: &str);
    /// The call that began last on this thread is over.
    fn leave(&self);
    /// The plugin calls the host: until [`back`](Self::back), this thread runs code of the host.
    fn out(&self);
    /// The host has answered.
    fn back(&self);
}

impl Library {
    /// The same library, called `name` where no strategy of it is meant, with `border` to see every
    /// call.
    #[must_use]
    pub fn watched(self, name: &str, border: Arc<dyn Border>) -> Self {
        Self::new(Watched { library: self, name: name.into(), border })
    }
}

/// Calls a plugin by this name; for `border` the call is over however it ends.
pub fn inside<T>(border: &dyn Border, plugin: &str, call: impl FnOnce() -> T) -> T {
    struct Leaves<'a>(&'a dyn Border);
    impl Drop for Leaves<'_> {
        fn drop(&mut self) {
            self.0.leave();
        }
    }
    border.enter(plugin);
    let _leaves = Leaves(border);
    call()
}

/// Calls the host from a plugin.
fn outside<T>(border: &dyn Border, call: impl FnOnce() -> T) -> T {
    struct Back<'a>(&'a dyn Border);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            self.0.back();
        }
    }
    border.out();
    let _back = Back(border);
    call()
}

struct Watched {
    library: Library,
    name: String,
    border: Arc<dyn Border>,
}

impl AnyLibrary for Watched {
    fn describe(&self) -> Result<PluginDescription> {
        inside(&*self.border, &self.name, || self.library.describe())
    }

    fn create_sampler(
        &self,
        id: &str,
        options: &OptionValues,
        request: &SampleRequest,
    ) -> Result<SamplerInstance> {
        let create = || self.library.create_sampler(id, options, request);
        let sampler = inside(&*self.border, id, create)?;
        Ok(Box::new(WatchedObject::new(sampler, id, &self.border)))
    }

    fn create_cache(
        &self,
        id: &str,
        options: &OptionValues,
        context: &CacheContext,
    ) -> Result<CacheInstance> {
        let create = || self.library.create_cache(id, options, context);
        let cache = inside(&*self.border, id, create)?;
        Ok(Box::new(WatchedObject::new(cache, id, &self.border)))
    }

    fn create_solver(
        &self,
        id: &str,
        options: &OptionValues,
        context: &SolverContext<'_>,
    ) -> Result<SolverInstance> {
        let create = || self.library.create_solver(id, options, context);
        let solver = inside(&*self.border, id, create)?;
        Ok(Box::new(WatchedObject::new(solver, id, &self.border)))
    }
}

impl AnySolver for WatchedObject<SolverInstance> {
    fn evaluations(&self, index: usize) -> u32 {
        self.call(|solver| solver.evaluations(index))
    }

    fn level(&self, index: usize, evaluation: u32) -> Result<Option<(f64, f64)>> {
        self.call(|solver| solver.level(index, evaluation))
    }

    fn step(
        &mut self,
        place: (usize, u32),
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let border = self.border.clone();
        let ops = WatchedOps { ops, border: &*border };
        self.call_mut(|solver| solver.step(place, sample, velocity, &ops))
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        let border = self.border.clone();
        let ops = WatchedOps { ops, border: &*border };
        self.call_mut(|solver| solver.extension(id, message, &ops))
    }
}

/// A sampler or cache of a watched library. Its end is a call as well.
struct WatchedObject<T> {
    /// None only while it is dropped.
    object: Option<T>,
    id: String,
    border: Arc<dyn Border>,
}

impl<T> WatchedObject<T> {
    fn new(object: T, id: &str, border: &Arc<dyn Border>) -> Self {
        Self { object: Some(object), id: id.into(), border: border.clone() }
    }

    fn get(&self) -> &T {
        self.object.as_ref().expect("taken only when dropped")
    }

    fn call<R>(&self, call: impl FnOnce(&T) -> R) -> R {
        inside(&*self.border, &self.id, || call(self.get()))
    }

    fn call_mut<R>(&mut self, call: impl FnOnce(&mut T) -> R) -> R {
        let object = self.object.as_mut().expect("taken only when dropped");
        inside(&*self.border, &self.id, || call(object))
    }
}

impl<T> Drop for WatchedObject<T> {
    fn drop(&mut self) {
        let object = self.object.take();
        inside(&*self.border, &self.id, || drop(object));
    }
}

impl AnySampler for WatchedObject<SamplerInstance> {
    fn schedule_from(&self, round: usize) -> Result<Schedule> {
        self.call(|sampler| sampler.schedule_from(round))
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let border = self.border.clone();
        let mut model = WatchedModel { model, border: &*border };
        let ops = WatchedOps { ops, border: &*border };
        self.call_mut(|sampler| sampler.step(sample, step, &mut model, &ops))
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        let border = self.border.clone();
        let ops = WatchedOps { ops, border: &*border };
        self.call_mut(|sampler| sampler.extension(id, message, &ops))
    }
}

impl AnyCache for WatchedObject<CacheInstance> {
    fn plan(&self) -> &CachePlan {
        self.get().plan()
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
        let border = self.border.clone();
        let ops = WatchedOps { ops, border: &*border };
        self.call_mut(|cache| cache.decide(evaluation, &ops))
    }

    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()> {
        let border = self.border.clone();
        let ops = WatchedOps { ops, border: &*border };
        self.call_mut(|cache| cache.store(computed, &ops))
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        let border = self.border.clone();
        let ops = WatchedOps { ops, border: &*border };
        self.call_mut(|cache| cache.extension(id, message, &ops))
    }
}

struct WatchedModel<'a> {
    model: &'a mut dyn Denoise,
    border: &'a dyn Border,
}

impl Denoise for WatchedModel<'_> {
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> Result<Tensor> {
        outside(self.border, || self.model.velocity(sample, levels))
    }
}

struct WatchedOps<'a> {
    ops: &'a dyn TensorOps,
    border: &'a dyn Border,
}

impl TensorOps for WatchedOps<'_> {
    fn combine(&self, terms: &[Term<'_>]) -> Result<Tensor> {
        outside(self.border, || self.ops.combine(terms))
    }

    fn frame_abs_sums(&self, a: &Tensor) -> Result<Vec<f64>> {
        outside(self.border, || self.ops.frame_abs_sums(a))
    }

    fn frame_abs_diffs(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
        outside(self.border, || self.ops.frame_abs_diffs(a, b))
    }

    fn noise_like(&self, like: &Tensor, stream: u64, index: u64) -> Result<Tensor> {
        outside(self.border, || self.ops.noise_like(like, stream, index))
    }

    fn narrow_frames(&self, a: &Tensor, start: usize, len: usize) -> Result<Tensor> {
        outside(self.border, || self.ops.narrow_frames(a, start, len))
    }

    fn cat_frames(&self, parts: &[&Tensor]) -> Result<Tensor> {
        outside(self.border, || self.ops.cat_frames(parts))
    }

    fn cast(&self, a: &Tensor, dtype: DType) -> Result<Tensor> {
        outside(self.border, || self.ops.cast(a, dtype))
    }

    fn move_to(&self, a: &Tensor, place: Place) -> Result<Tensor> {
        outside(self.border, || self.ops.move_to(a, place))
    }

    fn read(&self, a: &Tensor) -> Result<Vec<f32>> {
        outside(self.border, || self.ops.read(a))
    }

    fn write_like(&self, like: &Tensor, elements: &[f32]) -> Result<Tensor> {
        outside(self.border, || self.ops.write_like(like, elements))
    }

    fn cancelled(&self) -> bool {
        self.ops.cancelled()
    }

    fn log(&self, level: LogLevel, text: &str) {
        outside(self.border, || self.ops.log(level, text));
    }

    fn extension(&self, id: &str, message: Message) -> Result<Message> {
        outside(self.border, || self.ops.extension(id, message))
    }
}
