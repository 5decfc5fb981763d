//! What a recording says of itself: whether its parts fit each other, and its tensors them.

use wan_border::numbers::{Count, Frames, Heads, Layers, POSITIONS_MAX, Positions, Steps, Width};
use wan_model::weights::{Encoding, WeightFile};
use wan_plugin_api::CacheContext;

use super::{Contents, RecordedEvaluation, RecordedStream};

/// Why a recording cannot be used.
type Checked = Result<(), String>;

/// Checks everything that is used later without a second look.
pub(super) fn check(contents: &Contents, file: &WeightFile) -> Checked {
    contents.settings.check_numbers().map_err(|error| error.to_string())?;
    for (number, stream) in contents.streams.iter().enumerate() {
        check_context(&stream.context).map_err(|why| format!("stream {number}: {why}"))?;
        if stream.branches.is_empty() {
            return Err(format!("stream {number}: no branches"));
        }
    }
    for (number, evaluation) in contents.evaluations.iter().enumerate() {
        let stream = contents.streams.get(evaluation.stream);
        let stream = stream.ok_or_else(|| {
            format!("evaluation {number}: of stream {}, which is not there", evaluation.stream)
        })?;
        check_evaluation(stream, evaluation)
            .and_then(|()| check_tensors(number, stream, evaluation, file))
            .map_err(|why| format!("evaluation {number}: {why}"))?;
    }
    Ok(())
}

/// Numbers that caches multiply.
fn check_context(context: &CacheContext) -> Checked {
    let CacheContext { model, frames, frame_tokens, .. } = context;
    in_range::<1, { Frames::MOST }>("frames", *frames)?;
    in_range::<1, { Positions::MOST }>("frame_tokens", *frame_tokens)?;
    in_range::<1, { Width::MOST }>("dim", model.dim)?;
    in_range::<1, { Layers::MOST }>("layers", model.layers)?;
    in_range::<1, { Steps::MOST }>("steps", context.steps)?;
    in_range::<1, { Frames::MOST }>("timesteps_max", context.timesteps_max)?;
    in_range::<1, { Heads::MOST }>("experts", context.experts)?;
    for (field, evaluations) in [
        ("evaluations", context.evaluations),
        ("evaluations_before", context.evaluations_before),
        ("evaluations_after", context.evaluations_after),
    ] {
        in_range::<0, { Frames::MOST }>(field, evaluations)?;
    }
    let places = u64::from(*frames) * u64::from(*frame_tokens);
    let elements = context.frame_output_elements.checked_mul(u64::from(*frames));
    if places > POSITIONS_MAX || elements.is_none_or(|n| n > POSITIONS_MAX) {
        return Err(format!("{frames} frames of {frame_tokens} tokens are no video"));
    }
    Ok(())
}

fn in_range<const MIN: u32, const MAX: u32>(field: &str, number: u32) -> Checked {
    Count::<MIN, MAX>::new(number).map(drop).map_err(|error| format!("{field}: {error}"))
}

fn check_evaluation(stream: &RecordedStream, evaluation: &RecordedEvaluation) -> Checked {
    let (frames, rows) = (evaluation.levels.len(), evaluation.rows.len());
    if frames == 0 || frames != rows {
        return Err(format!("{frames} levels and {rows} rows, expected one of each a frame"));
    }
    let (changes, branches) = (evaluation.branches.len(), stream.branches.len());
    if changes != branches {
        return Err(format!("changes of {changes} branches, the stream has {branches}"));
    }
    Ok(())
}

/// Tensors that are there have their form; which are there depends on what was recorded.
fn check_tensors(
    number: usize,
    stream: &RecordedStream,
    evaluation: &RecordedEvaluation,
    file: &WeightFile,
) -> Checked {
    let frames = evaluation.levels.len();
    let rows = evaluation.rows.iter().max().map_or(0, |row| *row as usize + 1);
    for (name, axes) in [("e", 2), ("e0", 3)] {
        check_tensor(file, &format!("{number:04}.{name}"), |shape| {
            shape.len() == axes && shape[0] >= rows
        })?;
    }
    check_tensor(file, &format!("{number:04}.sample"), |shape| is_video(shape, frames))?;
    for branch in &stream.branches {
        let name = |tensor: &str| format!("{number:04}.{branch}.{tensor}");
        check_tensor(file, &name("velocity"), |shape| is_video(shape, frames))?;
        for tensor in ["hidden", "probe", "residual"] {
            check_tensor(file, &name(tensor), |shape| {
                matches!(shape, [1, tokens, width]
                    if *tokens > 0 && *width > 0 && tokens.is_multiple_of(frames))
            })?;
        }
    }
    Ok(())
}

fn is_video(shape: &[usize], frames: usize) -> bool {
    shape.len() == 5 && shape[0] == 1 && shape[2] == frames && !shape.contains(&0)
}

fn check_tensor(file: &WeightFile, name: &str, fits: impl Fn(&[usize]) -> bool) -> Checked {
    let Some(info) = file.find(name).map(|number| &file.tensors()[number]) else { return Ok(()) };
    let is_number = matches!(info.encoding, Encoding::F32 | Encoding::BF16 | Encoding::F16);
    if is_number && fits(&info.shape) {
        return Ok(());
    }
    let format = info.encoding.name();
    Err(format!("the tensor {name} is {format} {:?}, which does not fit", info.shape))
}
