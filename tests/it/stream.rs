//! The host's operations as a backend of the kit: what a cache keeps is counted by the host's own
//! ledger.

use candle_core::{Device, Tensor as CandleTensor};
use wan_host::Cancel;
use wan_host::parts::{HostOps, Item, Noise};
use wan_plugin_api::{
    DType, LogLevel, Message, OptionValues, Place, Result, Signal, Tensor, TensorOps, Term,
};
use wan_plugin_kit::{Backend, CacheUnderTest, Entry, Role, Script, TimeRows, drive};

/// The host's operations on the CPU, with a ledger of their own.
pub(crate) struct HostBackend(HostOps);

impl HostBackend {
    pub(crate) fn new() -> Self {
        Self(HostOps::new(Device::Cpu, Noise::new(0), Cancel::default()))
    }
}

impl Backend for HostBackend {
    fn make_tensor(
        &self,
        role: Role,
        frames: usize,
        elements: &[f32],
        (dtype, _): (DType, Place),
    ) -> Result<Tensor> {
        let shape = (frames, elements.len() / frames);
        let tensor = CandleTensor::from_slice(elements, shape, &Device::Cpu).unwrap();
        let handle = self.0.wrap(item(role), tensor, 0, frames)?;
        // The full width is no longer held once its handle is gone.
        self.0.cast(&handle, dtype)
    }

    fn make_rows(&self, rows: &TimeRows) -> Result<Tensor> {
        let shape = (rows.rows.len() / rows.width, rows.width);
        let tensor = CandleTensor::from_slice(&rows.rows, shape, &Device::Cpu).unwrap();
        let item = item(Role::Signal(rows.signal));
        self.0.wrap_rows(item, tensor, rows.index.clone(), rows.index.len())
    }

    fn held_in(&self, place: Place) -> u64 {
        // On the CPU either place is the same memory.
        if place == Place::Device { self.0.ledger().live() } else { 0 }
    }
}

fn item(role: Role) -> Item {
    match role {
        Role::Computed => Item::Computed,
        Role::Signal(Signal::Sample) => Item::Sample,
        Role::Signal(Signal::TimeEmbedding) => Item::TimeEmbedding,
        Role::Signal(Signal::TimeProjection) => Item::TimeProjection,
        Role::Signal(Signal::Hidden) => Item::Hidden,
        Role::Signal(Signal::Probe) => Item::Probe,
    }
}

/// Runs a cache over the host's operations.
pub(crate) fn run_on_host(
    subject: &CacheUnderTest,
    options: &OptionValues,
    script: &Script,
) -> (Vec<Entry>, u64) {
    let cache = subject.create(options, &script.context()).unwrap();
    drive(cache, HostBackend::new(), script).unwrap()
}

impl TensorOps for HostBackend {
    fn combine(&self, terms: &[Term<'_>]) -> Result<Tensor> {
        self.0.combine(terms)
    }

    fn frame_abs_sums(&self, a: &Tensor) -> Result<Vec<f64>> {
        self.0.frame_abs_sums(a)
    }

    fn frame_abs_diffs(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
        self.0.frame_abs_diffs(a, b)
    }

    fn noise_like(&self, like: &Tensor, stream: u64, index: u64) -> Result<Tensor> {
        self.0.noise_like(like, stream, index)
    }

    fn narrow_frames(&self, a: &Tensor, start: usize, len: usize) -> Result<Tensor> {
        self.0.narrow_frames(a, start, len)
    }

    fn cat_frames(&self, parts: &[&Tensor]) -> Result<Tensor> {
        self.0.cat_frames(parts)
    }

    fn cast(&self, a: &Tensor, dtype: DType) -> Result<Tensor> {
        self.0.cast(a, dtype)
    }

    fn move_to(&self, a: &Tensor, place: Place) -> Result<Tensor> {
        self.0.move_to(a, place)
    }

    fn read(&self, a: &Tensor) -> Result<Vec<f32>> {
        self.0.read(a)
    }

    fn write_like(&self, like: &Tensor, elements: &[f32]) -> Result<Tensor> {
        self.0.write_like(like, elements)
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    fn log(&self, level: LogLevel, text: &str) {
        self.0.log(level, text);
    }

    fn extension(&self, id: &str, message: Message) -> Result<Message> {
        self.0.extension(id, message)
    }
}
