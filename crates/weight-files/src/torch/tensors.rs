//! Tensors as views of storages: what a pickle says of them, held to what the file has.

use crate::encoding::Encoding;
use crate::tensor_info::TensorInfo;
use crate::torch::archive::{Archive, is_key};
use crate::torch::pickle::{Pickle, Tensor};

/// Most axes of a tensor.
const RANK_MAX: usize = 8;

/// A tensor of a file, checked: every number of it lies in its storage.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// Number of its storage in the archive.
    pub(super) storage: usize,
    /// Bytes of one number.
    pub(super) width: u64,
    /// Its first number.
    pub(super) offset: u64,
    pub(super) sizes: Vec<u64>,
    /// Numbers from one to the next along each axis.
    pub(super) strides: Vec<u64>,
}

impl View {
    /// Whether its numbers follow each other in row-major order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (size, stride) in self.sizes.iter().zip(&self.strides).rev() {
            if *size > 1 && *stride != expected {
                return false;
            }
            expected *= size;
        }
        true
    }
}

/// Checks tensor `name` of `pickle` against the storages of `archive`.
///
/// # Errors
/// With the reason, which names the tensor.
pub(super) fn check(
    archive: &Archive,
    pickle: &Pickle<'_>,
    name: &str,
    tensor: Tensor,
) -> Result<(TensorInfo, View), String> {
    let told = |reason: String| format!("tensor {name:?}: {reason}");
    let (encoding, storage, elements) = storage(archive, pickle, tensor).map_err(told)?;
    let numbers = |tuple, what: &str| {
        let rank = pickle.length(tuple);
        if rank > RANK_MAX {
            return Err(told(format!("{rank} axes, at most {RANK_MAX} are read")));
        }
        let numbers = pickle.numbers(tuple).into_iter().flatten();
        let numbers: Option<Vec<u64>> = numbers.map(|number| u64::try_from(number).ok()).collect();
        let numbers = numbers.filter(|numbers| numbers.len() == rank);
        numbers.ok_or_else(|| told(format!("{what} that are no whole numbers from 0 on")))
    };
    let sizes = numbers(tensor.sizes, "sizes")?;
    let strides = numbers(tensor.strides, "strides")?;
    if sizes.len() != strides.len() {
        return Err(told(format!("{} sizes and {} strides", sizes.len(), strides.len())));
    }
    let Ok(offset) = u64::try_from(tensor.offset) else {
        return Err(told(format!("it begins at number {} of its storage", tensor.offset)));
    };
    let width = encoding.block_bits() as u64 / 8;
    let view = View { storage, width, offset, sizes, strides };
    check_inside(&view, elements).map_err(told)?;
    let shape: Option<Vec<usize>> =
        view.sizes.iter().map(|size| usize::try_from(*size).ok()).collect();
    let shape = shape.ok_or_else(|| told("its sizes cannot be counted here".to_owned()))?;
    Ok((TensorInfo { name: name.to_owned(), shape, encoding }, view))
}

/// Format of the numbers, number of the storage in the archive, and how many numbers it has: as
/// many as the file has bytes for.
fn storage(
    archive: &Archive,
    pickle: &Pickle<'_>,
    tensor: Tensor,
) -> Result<(Encoding, usize, u64), String> {
    let named = pickle.storage(tensor.storage).ok_or("a storage that was never named")?;
    let encoding = match (named.encoding, tensor.encoding) {
        (Some(encoding), None) | (None, Some(encoding)) => encoding,
        (None, None) => return Err("a storage of bytes without a number format".to_owned()),
        (Some(_), Some(_)) => return Err("two number formats".to_owned()),
    };
    let key = pickle.text(named.key);
    if !is_key(key) {
        let key: String = key.chars().take(40).collect();
        return Err(format!("its storage is {key:?}, which is no number"));
    }
    let number =
        archive.storage(key).ok_or_else(|| format!("its storage data/{key} is not in the file"))?;
    let width = encoding.block_bits() as u64 / 8;
    // Storages of bytes count bytes.
    let named_width = if named.encoding.is_some() { width } else { 1 };
    let length = archive.entry(number).length;
    let announced = u64::try_from(named.elements).ok().and_then(|n| n.checked_mul(named_width));
    if announced != Some(length) {
        return Err(format!(
            "its storage data/{key} should have {} numbers of {named_width} bytes, the file has \
             {length} bytes of it",
            named.elements
        ));
    }
    Ok((encoding, number, length / width))
}

/// Checks that every number lies among the `elements` of the storage, and that no axis shows the
/// same number again.
fn check_inside(view: &View, elements: u64) -> Result<(), String> {
    let (sizes, strides) = (&view.sizes, &view.strides);
    let described =
        || format!("sizes {sizes:?} with strides {strides:?} from number {} on", view.offset);
    // An empty tensor has no numbers, and no stride that matters; its other sizes are still held to
    // what can be counted.
    let product = |sizes: &[u64]| sizes.iter().try_fold(1_u64, |n, size| n.checked_mul(*size));
    let nonzero: Vec<u64> = sizes.iter().map(|size| (*size).max(1)).collect();
    let countable = product(&nonzero).and_then(|n| n.checked_mul(view.width));
    if countable.is_none_or(|bytes| i64::try_from(bytes).is_err()) {
        return Err(format!("{} are more numbers than can be counted", described()));
    }
    if sizes.contains(&0) {
        return Ok(());
    }
    let axes = || sizes.iter().zip(strides);
    let last = axes().try_fold(u128::from(view.offset), |last, (size, stride)| {
        last.checked_add(u128::from(size - 1).checked_mul(u128::from(*stride))?)
    });
    if last.is_none_or(|last| last >= u128::from(elements)) {
        return Err(format!("{} reach beyond its storage of {elements} numbers", described()));
    }
    let expanded = axes().any(|(size, stride)| *size > 1 && *stride == 0);
    if expanded || product(sizes).is_none_or(|numbers| numbers > elements) {
        return Err(format!(
            "{} show numbers of its storage of {elements} more than once; save a copy of it: \
             tensor.contiguous()",
            described()
        ));
    }
    Ok(())
}
