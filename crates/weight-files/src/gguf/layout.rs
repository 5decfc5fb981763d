//! Where the tensors of a GGUF file lie: in the file, aligned, none over another.

use super::tensor_list::Listed;
use crate::error::Result;
use crate::file_bytes::FileBytes;

/// Where each tensor begins in the file, whose data section begins at byte `data`.
pub(super) fn starts(
    file: &FileBytes,
    list: &[Listed],
    data: u64,
    alignment: u64,
) -> Result<Vec<u64>> {
    let mut starts = Vec::new();
    for (tensor, offset) in list {
        let name = &tensor.name;
        if !offset.is_multiple_of(alignment) {
            return Err(file.malformed(format!(
                "damaged: tensor `{name}` begins at byte {offset} of the data, which is no \
                 multiple of the alignment {alignment}"
            )));
        }
        let start = data.saturating_add(*offset);
        let end = start.saturating_add(tensor.bytes());
        if end > file.length() {
            return Err(file.malformed(format!(
                "cut short or damaged: tensor `{name}` should be bytes {start} to {end} of the \
                 file, which has {}; download it again",
                file.length()
            )));
        }
        starts.push(start);
    }
    check_overlap(file, list)?;
    Ok(starts)
}

fn check_overlap(file: &FileBytes, list: &[Listed]) -> Result<()> {
    let mut placed: Vec<&Listed> = list.iter().filter(|(tensor, _)| tensor.bytes() > 0).collect();
    placed.sort_by_key(|(_, offset)| *offset);
    for pair in placed.windows(2) {
        let [(left, start), (right, next)] = pair else { continue };
        // Both are in the file, as was checked.
        if start + left.bytes() > *next {
            return Err(file.malformed(format!(
                "damaged: tensors `{}` and `{}` share bytes: the one has {} from byte {start} of \
                 the data on, the other begins at byte {next}",
                left.name,
                right.name,
                left.bytes()
            )));
        }
    }
    Ok(())
}
