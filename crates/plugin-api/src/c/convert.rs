//! Plain Rust types as structs of the header, and back.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;

use super::prefixed::Prefixed;
use super::tables::{CResult, ErrorText, Form, Level, OK, Round};
use crate::{
    Attention, DType, Error, ErrorKind, FrameLevel, Place, Result, Round as PlainRound, TensorForm,
};

/// Longest text that is taken from a pointer.
const TEXT_MAX: usize = 1 << 28;

/// Longest list that ends with NULL.
const LIST_MAX: usize = 1 << 12;

/// Size of a struct, for its first member.
pub(super) const fn size<T>() -> u32 {
    assert!(size_of::<T>() <= u32::MAX as usize, "no struct is so large");
    #[allow(clippy::cast_possible_truncation, reason = "asserted above")]
    {
        size_of::<T>() as u32
    }
}

/// Bytes of a struct of the other side, which may be shorter or longer than ours.
///
/// # Errors
/// `Failed` for NULL, and for a struct that is shorter than when the interface was frozen.
///
/// # Safety
/// `pointer` is NULL or points to as many bytes as the first four of them say.
unsafe fn bytes_of<T: Prefixed>(pointer: *const T, what: &str) -> Result<usize> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Error::failed(format!("{what}: NULL, or no address of such a struct")));
    }
    // SAFETY: every such struct begins with its size.
    let has = unsafe { pointer.cast::<u32>().read() } as usize;
    if has < T::FROZEN {
        let needs = T::FROZEN;
        return Err(Error::failed(format!(
            "{what}: its size says {has} bytes, {needs} are needed"
        )));
    }
    Ok(has)
}

/// A copy of a struct that begins with its size. Members that its writer did not know are zeros here:
/// no function, NULL, 0. What the writer has behind those that are known here is not read.
///
/// # Errors
/// `Failed` for NULL, and for a struct that is shorter than when the interface was frozen.
///
/// # Safety
/// `pointer` is NULL or points to as many bytes as the first four of them say.
pub(super) unsafe fn sized<T: Prefixed>(pointer: *const T, what: &str) -> Result<T> {
    // SAFETY: promised by the caller.
    let known = unsafe { bytes_of(pointer, what) }?.min(size_of::<T>());
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: so many bytes are there, on both sides; zeros are a value of every member.
    unsafe {
        pointer.cast::<u8>().copy_to_nonoverlapping(copy.as_mut_ptr().cast(), known);
        Ok(copy.assume_init())
    }
}

/// Fills a struct of the other side, as far as its size goes. The size itself stays as it is.
///
/// # Errors
/// As [`sized`].
///
/// # Safety
/// As [`sized`], and what is pointed to may be written.
pub(super) unsafe fn fill<T: Prefixed>(pointer: *mut T, value: &T, what: &str) -> Result<()> {
    // SAFETY: promised by the caller.
    let known = unsafe { bytes_of(pointer.cast_const(), what) }?.min(size_of::<T>());
    let behind_size = size_of::<u32>();
    let (from, to) = (std::ptr::from_ref(value).cast::<u8>(), pointer.cast::<u8>());
    // SAFETY: so many bytes are there, on both sides.
    unsafe {
        from.add(behind_size).copy_to_nonoverlapping(to.add(behind_size), known - behind_size);
    }
    Ok(())
}

/// A text.
///
/// # Errors
/// `Failed` for NULL and for what is no UTF-8.
///
/// # Safety
/// `pointer` is NULL or points to bytes that end with a zero byte.
pub(super) unsafe fn text(pointer: *const c_char, what: &str) -> Result<String> {
    if pointer.is_null() {
        return Err(Error::failed(format!("{what}: NULL in the place of a text")));
    }
    // SAFETY: promised by the caller.
    let text = unsafe { CStr::from_ptr(pointer) };
    match text.to_str() {
        Ok(text) if text.len() <= TEXT_MAX => Ok(text.into()),
        Ok(text) => Err(Error::failed(format!("{what}: a text of {} bytes", text.len()))),
        Err(_) => Err(Error::failed(format!("{what}: no UTF-8: {}", text.to_string_lossy()))),
    }
}

/// A text that may be missing.
///
/// # Errors
/// `Failed` for what is no UTF-8.
///
/// # Safety
/// As [`text`].
pub(super) unsafe fn optional_text(pointer: *const c_char, what: &str) -> Result<Option<String>> {
    // SAFETY: promised by the caller.
    if pointer.is_null() { Ok(None) } else { unsafe { text(pointer, what) }.map(Some) }
}

/// The pointers of a list that ends with NULL; none where the list itself is NULL.
///
/// # Errors
/// `Failed` for a list that does not end.
///
/// # Safety
/// `list` is NULL or points to pointers, the last of which is NULL.
pub(super) unsafe fn list<T>(list: *const *const T, what: &str) -> Result<Vec<*const T>> {
    let mut pointers = Vec::new();
    if list.is_null() {
        return Ok(pointers);
    }
    while pointers.len() < LIST_MAX {
        // SAFETY: none so far was the last.
        let pointer = unsafe { list.add(pointers.len()).read() };
        if pointer.is_null() {
            return Ok(pointers);
        }
        pointers.push(pointer);
    }
    Err(Error::failed(format!("{what}: a list of more than {LIST_MAX} entries without a NULL")))
}

/// A list by its length.
///
/// # Errors
/// `Failed` for NULL where there are entries.
///
/// # Safety
/// `pointer` is NULL or points to as many entries.
pub(super) unsafe fn entries<'a, T>(pointer: *const T, count: u64, what: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    let fits = usize::try_from(count).ok().filter(|n| n.checked_mul(size_of::<T>()).is_some());
    match fits {
        Some(count) if !pointer.is_null() && pointer.is_aligned() && count < 1 << 48 => {
            // SAFETY: promised by the caller.
            Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
        }
        _ => Err(Error::failed(format!("{what}: {count} entries at {pointer:p}"))),
    }
}

/// A text with a zero byte at its end; zero bytes inside are left out.
pub(super) fn c_text(text: &str) -> CString {
    let bytes: Vec<u8> = text.bytes().filter(|byte| *byte != 0).collect();
    CString::new(bytes).unwrap_or_default()
}

/// Writes an error for the other side.
///
/// # Safety
/// `error` is NULL or points to such a struct.
pub(super) unsafe fn fail(error: *mut ErrorText, why: &Error) -> CResult {
    // SAFETY: promised by the caller.
    if unsafe { sized(error.cast_const(), "error") }.is_ok() {
        let room = size_of::<ErrorText>() - std::mem::offset_of!(ErrorText, text);
        let mut end = why.message.len().min(room - 1);
        while !why.message.is_char_boundary(end) {
            end -= 1;
        }
        for (place, byte) in why.message.as_bytes()[..end].iter().chain(&[0]).enumerate() {
            // SAFETY: `text` has room for `end` bytes and one more.
            unsafe { (&raw mut (*error).text[place]).write(byte.cast_signed()) };
        }
    }
    why.kind as CResult
}

/// An error to be written by the other side.
pub(super) fn no_error() -> ErrorText {
    ErrorText { size: size::<ErrorText>(), reserved: 0, text: [0; 1016] }
}

/// What the other side gave back.
pub(super) fn outcome(result: CResult, error: &ErrorText) -> Result<()> {
    if result == OK {
        return Ok(());
    }
    let bytes: Vec<u8> =
        error.text.iter().map(|c| c.cast_unsigned()).take_while(|byte| *byte != 0).collect();
    let message = match String::from_utf8_lossy(&bytes) {
        text if text.trim().is_empty() => "failed, and does not say why".into(),
        text => text.into_owned(),
    };
    Err(Error { kind: ErrorKind::from_code(result), message })
}

/// Runs the body of a function of the interface and turns its outcome into a result.
///
/// # Safety
/// As [`fail`].
pub(super) unsafe fn answered(error: *mut ErrorText, body: Result<()>) -> CResult {
    match body {
        Ok(()) => OK,
        // SAFETY: promised by the caller.
        Err(why) => unsafe { fail(error, &why) },
    }
}

pub(super) fn form_to_c(form: TensorForm) -> Form {
    Form {
        size: size::<Form>(),
        frames: form.frames,
        frame_elements: form.frame_elements,
        bytes: form.bytes,
        dtype: form.dtype().map_or(0, |dtype| dtype as u32),
        place: form.place() as u32,
    }
}

/// The form; a number format that is not known reads as f32 here, whose elements nobody reads.
pub(super) fn form_from_c(form: &Form) -> TensorForm {
    let dtype = DType::from_code(form.dtype).unwrap_or(DType::F32);
    TensorForm::new(form.frames, form.frame_elements, dtype, place(form.place), form.bytes)
}

/// The memory of this number.
pub(super) fn place(code: u32) -> Place {
    if code == Place::Host as u32 { Place::Host } else { Place::Device }
}

pub(super) fn level_to_c(level: &FrameLevel) -> Level {
    Level {
        frame: level.frame,
        update: level.update.into(),
        wants_velocity: level.wants_velocity.into(),
        reserved: [0; 2],
        timestep: level.timestep,
        sigma: level.sigma,
        sigma_next: level.sigma_next,
    }
}

pub(super) fn level_from_c(level: &Level) -> FrameLevel {
    FrameLevel {
        frame: level.frame,
        update: level.update != 0,
        wants_velocity: level.wants_velocity != 0,
        timestep: level.timestep,
        sigma: level.sigma,
        sigma_next: level.sigma_next,
    }
}

/// Levels as the other side reads them.
pub(super) fn levels_to_c(levels: &[FrameLevel]) -> Vec<Level> {
    levels.iter().map(level_to_c).collect()
}

/// A round over levels that outlive it.
pub(super) fn round_to_c(round: &PlainRound, levels: &[Level]) -> Round {
    Round {
        size: size::<Round>(),
        level_count: u32::try_from(levels.len()).unwrap_or(u32::MAX),
        levels: levels.as_ptr(),
        attention_block: round.attention.block_frames(),
        evaluations: round.evaluations,
    }
}

/// A copy of a round.
///
/// # Safety
/// `round` is NULL or a round, with as many levels as it says.
pub(super) unsafe fn round_from_c(round: *const Round) -> Result<PlainRound> {
    // SAFETY: promised by the caller, as is the next one.
    let round = unsafe { sized(round, "round") }?;
    // SAFETY: as above.
    let levels = unsafe { entries(round.levels, round.level_count.into(), "levels of a round") }?;
    Ok(PlainRound {
        levels: levels.iter().map(level_from_c).collect(),
        attention: Attention::of_blocks(round.attention_block),
        evaluations: round.evaluations,
    })
}
