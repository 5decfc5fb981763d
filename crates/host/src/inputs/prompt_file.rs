//! The file of one embedding: a line in JSON, the numbers, and a seal.
//!
//! The line is `{"version":1,"key":"...","dtype":"F32","shape":[1,512,4096]}`, the numbers are in
//! little endian, and the seal is the SHA-256 of both, in 32 bytes. Nothing in it tells the prompt.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wan_border::files::parse_json;

use super::prompt_key::PromptKey;
use crate::error::{Error, Result};
use crate::tensor_bytes::{bytes_of, name_of, tensor_of};

/// Version of the file.
const VERSION: u32 = 1;

/// Bytes of the seal.
const SEAL: usize = 32;

/// Most bytes of the line.
const LINE_MAX: usize = 512;

/// Most bytes of a number.
const NUMBER_MAX: usize = 8;

/// What the line says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    version: u32,
    key: String,
    dtype: String,
    shape: [usize; 3],
}

/// Most bytes of a file with an embedding of this shape.
pub(super) fn bytes_max(shape: &[usize; 3]) -> u64 {
    let numbers = shape.iter().try_fold(NUMBER_MAX, |bytes, axis| bytes.checked_mul(*axis));
    numbers.unwrap_or(usize::MAX).saturating_add(LINE_MAX + SEAL) as u64
}

/// The file of an embedding `[1, T, text_dim]`, in its own number format.
///
/// # Errors
/// If it cannot be read from its device, or is of another rank.
pub(super) fn written(key: &PromptKey, embeds: &Tensor) -> Result<Vec<u8>> {
    let line = Line {
        version: VERSION,
        key: key.digits(),
        dtype: name_of(embeds.dtype())?.into(),
        shape: embeds.dims3()?.into(),
    };
    let line = serde_json::to_string(&line).map_err(|error| Error::invalid(error.to_string()))?;
    let mut bytes = [line.as_bytes(), b"\n", &bytes_of(embeds)?].concat();
    let seal = Sha256::digest(&bytes);
    bytes.extend(seal);
    Ok(bytes)
}

/// The embedding in a file, in main memory.
///
/// # Errors
/// Why it is not the one of this key and shape.
pub(super) fn read(
    bytes: &[u8],
    key: &PromptKey,
    shape: &[usize; 3],
) -> std::result::Result<Tensor, String> {
    let Some((sealed, seal)) = bytes.split_last_chunk::<SEAL>() else {
        return Err("cut short".into());
    };
    if Sha256::digest(sealed).as_slice() != seal {
        return Err("damaged: its bytes do not fit their SHA-256".into());
    }
    let end = sealed.iter().take(LINE_MAX).position(|byte| *byte == b'\n').unwrap_or(0);
    let line = String::from_utf8_lossy(&sealed[..end]);
    let line: Line = parse_json(&line).map_err(|said| format!("not an embedding ({said})"))?;
    if (line.version, &line.key, &line.shape) != (VERSION, &key.digits(), shape) {
        return Err(format!("another embedding, {line:?}"));
    }
    let numbers = &sealed[end + 1..];
    let tensor = tensor_of(&line.dtype, shape, numbers).map_err(|error| error.to_string())?;
    let tensor = tensor.ok_or_else(|| format!("its number format {} is not known", line.dtype))?;
    if tensor.elem_count() * tensor.dtype().size_in_bytes() == numbers.len() {
        return Ok(tensor);
    }
    Err(format!("{} bytes of numbers, which is not {shape:?} of {}", numbers.len(), line.dtype))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    const SHAPE: [usize; 3] = [1, 3, 4];

    fn embeds(dtype: DType) -> Tensor {
        let numbers = Tensor::arange(-0.5f32, 2.5, &Device::Cpu).unwrap();
        let numbers = (Tensor::cat(&[&numbers; 4], 0).unwrap() / 3.0).unwrap();
        numbers.reshape(&SHAPE).unwrap().to_dtype(dtype).unwrap()
    }

    #[test]
    fn an_embedding_comes_back_in_its_format_to_the_bit() {
        let key = PromptKey::of_number(7);
        for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
            let bytes = written(&key, &embeds(dtype)).unwrap();
            assert!(bytes.len() as u64 <= bytes_max(&SHAPE));
            let back = read(&bytes, &key, &SHAPE).unwrap();
            assert_eq!((back.dtype(), back.dims3().unwrap()), (dtype, (1, 3, 4)));
            assert_eq!(bytes_of(&back).unwrap(), bytes_of(&embeds(dtype)).unwrap());
        }
    }

    #[test]
    fn no_changed_byte_and_no_cut_is_taken() {
        let key = PromptKey::of_number(7);
        let bytes = written(&key, &embeds(DType::F32)).unwrap();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                assert!(read(&changed, &key, &SHAPE).is_err(), "bit {bit} of byte {place}");
            }
            assert!(read(&bytes[..place], &key, &SHAPE).is_err(), "cut at {place}");
        }
        assert!(read(&[&bytes[..], &[0]].concat(), &key, &SHAPE).is_err());
    }

    #[test]
    fn what_is_whole_and_another_is_not_taken() {
        let key = PromptKey::of_number(7);
        let bytes = written(&key, &embeds(DType::F32)).unwrap();
        assert!(read(&bytes, &PromptKey::of_number(8), &SHAPE).is_err());
        assert!(read(&bytes, &key, &[1, 4, 3]).is_err());
        // Sealed, and not what it says.
        let sealed = |bytes: Vec<u8>| [&bytes[..], &Sha256::digest(&bytes)].concat();
        let body = &bytes[..bytes.len() - SEAL];
        assert!(read(&sealed(body.to_vec()), &key, &SHAPE).is_ok());
        for other in [
            body[..body.len() - 4].to_vec(),
            [body, &[0; 4]].concat(),
            b"\n".to_vec(),
            Vec::new(),
            String::from_utf8_lossy(body).replace("F32", "F16").into_bytes(),
        ] {
            assert!(read(&sealed(other), &key, &SHAPE).is_err());
        }
        let cpu = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
        assert!(written(&key, &cpu).is_err());
    }
}
