//! What a library is given when it makes an object.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};

use serde_json::Value;

use crate::c::convert::{c_text, size};
use crate::c::tables::{Context, Options, Request, Sigmas};
use crate::guard::guard_host;
use crate::library::SolverContext;
use crate::{CacheContext, Error, OptionValues, Result, SampleRequest};

/// Complete options, as the functions of `wan_options` read them.
pub(super) struct GivenOptions {
    json: CString,
    values: BTreeMap<String, Given>,
}

enum Given {
    Number(f64),
    Text(CString),
    Numbers(Vec<f64>),
}

impl GivenOptions {
    /// Of complete options.
    ///
    /// # Errors
    /// `Failed` where they cannot be written as JSON.
    pub(super) fn new(options: &OptionValues) -> Result<Self> {
        let json = serde_json::to_string(options)
            .map_err(|e| Error::failed(format!("options cannot be written as JSON: {e}")))?;
        let given = |value: &Value| match value {
            Value::Bool(switch) => Some(Given::Number(f64::from(u8::from(*switch)))),
            Value::Number(number) => number.as_f64().map(Given::Number),
            Value::String(word) => Some(Given::Text(c_text(word))),
            Value::Array(numbers) => {
                Some(Given::Numbers(numbers.iter().filter_map(Value::as_f64).collect()))
            }
            Value::Object(_) => Some(Given::Text(c_text(&value.to_string()))),
            Value::Null => None,
        };
        let values = options.iter().filter_map(|(name, v)| Some((name.clone(), given(v)?)));
        Ok(Self { json: c_text(&json), values: values.collect() })
    }

    /// Valid as long as this is.
    pub(super) fn table(&self) -> Options {
        Options {
            size: size::<Options>(),
            reserved: 0,
            json: self.json.as_ptr(),
            self_: std::ptr::from_ref(self).cast(),
            number: Some(number),
            text: Some(text),
            numbers: Some(numbers),
        }
    }
}

/// The value of this name.
///
/// # Safety
/// `options` is what [`GivenOptions::table`] gave out, `name` NULL or a text.
unsafe fn find<'a>(options: *const c_void, name: *const c_char) -> Option<&'a Given> {
    if options.is_null() || name.is_null() {
        return None;
    }
    // SAFETY: promised by the caller.
    let (options, name) = unsafe { (&*options.cast::<GivenOptions>(), CStr::from_ptr(name)) };
    options.values.get(name.to_str().ok()?)
}

unsafe extern "C" fn number(options: *const c_void, name: *const c_char) -> f64 {
    // SAFETY: the header asks for these.
    let found = guard_host("number", || match unsafe { find(options, name) } {
        Some(Given::Number(number)) => Ok(*number),
        _ => Ok(f64::NAN),
    });
    found.unwrap_or(f64::NAN)
}

unsafe extern "C" fn text(options: *const c_void, name: *const c_char) -> *const c_char {
    // SAFETY: the header asks for these.
    let found = guard_host("text", || match unsafe { find(options, name) } {
        Some(Given::Text(text)) => Ok(text.as_ptr()),
        _ => Ok(std::ptr::null()),
    });
    found.unwrap_or(std::ptr::null())
}

unsafe extern "C" fn numbers(
    options: *const c_void,
    name: *const c_char,
    out: *mut f64,
    room: u64,
) -> u64 {
    let written = guard_host("numbers", || {
        // SAFETY: the header asks for these.
        let Some(Given::Numbers(numbers)) = (unsafe { find(options, name) }) else { return Ok(0) };
        let count = numbers.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if !out.is_null() {
            // SAFETY: there is room for them.
            unsafe { out.copy_from_nonoverlapping(numbers.as_ptr(), count) };
        }
        Ok(numbers.len() as u64)
    });
    written.unwrap_or(0)
}

pub(super) fn request_to_c(request: &SampleRequest) -> Request {
    Request {
        size: size::<Request>(),
        frames: request.frames,
        prefix_frames: request.prefix_frames,
        steps: request.steps,
        shift: request.shift,
        temporal_scale: request.temporal_scale,
        reserved: 0,
    }
}

pub(super) fn sigmas_to_c(context: &SolverContext<'_>) -> Sigmas {
    Sigmas {
        size: size::<Sigmas>(),
        steps: u32::try_from(context.timesteps.len()).unwrap_or(u32::MAX),
        sigmas: context.sigmas.as_ptr(),
        timesteps: context.timesteps.as_ptr(),
        first_frame: context.first_frame,
        reserved: 0,
    }
}

/// Calls `with` with a context of the header that lasts for the call.
pub(super) fn with_context<T>(context: &CacheContext, with: impl FnOnce(&Context) -> T) -> T {
    let [branch, variant, model_hash] =
        [&context.branch, &context.model.variant, &context.model.hash].map(|text| c_text(text));
    with(&Context {
        size: size::<Context>(),
        expert: context.expert,
        branch: branch.as_ptr(),
        evaluations: context.evaluations,
        evaluations_before: context.evaluations_before,
        evaluations_after: context.evaluations_after,
        steps: context.steps,
        experts: context.experts,
        frames: context.frames,
        frame_tokens: context.frame_tokens,
        timesteps_max: context.timesteps_max,
        variant: variant.as_ptr(),
        model_hash: model_hash.as_ptr(),
        dim: context.model.dim,
        layers: context.model.layers,
        in_channels: context.model.in_channels,
        dtype: context.dtype as u32,
        signal_dtype: context.signal_dtype as u32,
        keep: context.keep as u32,
        frame_output_elements: context.frame_output_elements,
        residual_bytes: context.residual_bytes(),
    })
}
