//! The time that a run takes at least, by what it computes and how fast this machine was.

use serde::Serialize;
use wan_model::speed::{Speed, Speeds};
use wan_model::work::Work;

use crate::device::speed::MeasuredSpeed;
use crate::model::plan::Plan;
use crate::model::settings::Settings;
use crate::request::precision::Format;

/// An estimate: what the run computes, divided by the speeds of this machine. Reading files, text and
/// pictures, norms and encoding the video come on top; what a cache saves goes off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TimeEstimate {
    /// Seconds of all evaluations.
    pub denoising_seconds: f64,
    /// Seconds of decoding.
    pub decoding_seconds: f64,
}

impl Plan {
    /// How long a run of these settings takes on the CPU, at these speeds.
    pub fn time(&self, settings: &Settings, speed: &MeasuredSpeed) -> TimeEstimate {
        let gflops = &speed.gflops;
        TimeEstimate {
            denoising_seconds: seconds(self.denoising, settings.precision.dtype, gflops),
            decoding_seconds: seconds(self.decoding, settings.vae_dtype, gflops),
        }
    }
}

/// Seconds of work whose operands are in `format`.
fn seconds(work: Work, format: Format, gflops: &Speeds) -> f64 {
    // The kernels have no f16: its operands are multiplied in f32.
    let of = |speed: &Speed| if format == Format::Bf16 { speed.bf16 } else { speed.f32 };
    let parts = [
        (work.products, of(&gflops.products)),
        (work.wide_products, gflops.products.f32),
        (work.attention, of(&gflops.attention)),
        (work.convolutions, of(&gflops.convolutions)),
    ];
    parts.iter().map(|(operations, speed)| *operations as f64 / speed / 1e9).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_work_over_speed_each_kind_by_its_own() {
        let speed = |f32: f64, bf16: f64| Speed { f32, bf16 };
        let gflops = Speeds {
            products: speed(200.0, 400.0),
            attention: speed(100.0, 250.0),
            convolutions: speed(160.0, 320.0),
        };
        let work = Work {
            products: 800_000_000_000,
            wide_products: 200_000_000_000,
            attention: 500_000_000_000,
            convolutions: 320_000_000_000,
        };
        assert!((seconds(work, Format::F32, &gflops) - (4.0 + 1.0 + 5.0 + 2.0)).abs() < 1e-9);
        assert!((seconds(work, Format::Bf16, &gflops) - (2.0 + 1.0 + 2.0 + 1.0)).abs() < 1e-9);
        assert!((seconds(work, Format::F16, &gflops) - 12.0).abs() < 1e-9);
    }
}
