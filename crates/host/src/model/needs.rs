//! What a field of a request needs to have an effect. One that has none is refused: who asked for
//! it expects something.

use crate::error::{Error, Result};
use crate::request::Request;
use crate::request::precision::Format;
use crate::request::settings::SettingValues;

/// A field, and what it needs.
struct Need {
    field: &'static str,
    is_given: fn(&Request) -> bool,
    /// For the settings that the request gave, and the guidance scale of each expert.
    is_met: fn(&SettingValues, &[f64]) -> bool,
    needs: &'static str,
}

const NEEDS: [Need; 6] = [
    Need {
        field: "context_frames",
        is_given: |request| request.context_frames.is_some(),
        is_met: |values, _| values.given.video.is_some(),
        needs: "a clip to go on from; give `video` FILE",
    },
    Need {
        field: "narrow_stream",
        is_given: |request| request.narrow_stream == Some(true),
        is_met: |values, _| values.precision.dtype != Format::F32,
        needs: "a narrower format than f32; give `dtype` bf16 or f16",
    },
    Need {
        field: "cache_device",
        is_given: |request| request.cache_device.is_some(),
        is_met: |values, _| values.cache.is_some(),
        needs: "a cache; give `cache` NAME",
    },
    Need {
        field: "sample_guide_scale_low",
        is_given: |request| request.sample_guide_scale_low.is_some(),
        is_met: |_, guidance| guidance.len() > 1,
        needs: "a model with two experts; this one has one, whose scale is `sample_guide_scale`",
    },
    Need {
        field: "negative_prompt",
        is_given: |request| request.negative_prompt.as_ref().is_some_and(|p| !p.is_empty()),
        is_met: |_, guidance| guidance.iter().any(|scale| *scale > 1.0),
        needs: "guidance; give a `sample_guide_scale` above 1",
    },
    Need {
        field: "vae_tiling",
        is_given: |request| request.vae_tiling == Some(true),
        is_met: |values, _| !values.latents_only,
        needs: "pixels to decode; leave out `latents_only`",
    },
];

/// Refuses a field that is given for nothing.
///
/// # Errors
/// Naming it, and what it needs.
pub(super) fn check(request: &Request, values: &SettingValues, guidance: &[f64]) -> Result<()> {
    let idle = |need: &&Need| (need.is_given)(request) && !(need.is_met)(values, guidance);
    match NEEDS.iter().find(idle) {
        Some(Need { field, needs, .. }) => Err(Error::field(field, format!("needs {needs}"))),
        None => Ok(()),
    }
}
