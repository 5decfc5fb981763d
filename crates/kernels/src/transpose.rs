//! From rows to the order in which tiles and panels are read: one word of each row after the other.
#![allow(unsafe_code, reason = "four rows of four words as four vectors")]

/// Writes `lines [rows, ..]`, `line` words from one to the next, of which `steps` are taken, as
/// columns: word `s` of row `r` goes to `out[s * width + r]`.
#[inline(always)]
pub(crate) fn columns(lines: &[u32], line: usize, steps: usize, out: &mut [u32], width: usize) {
    let rows = lines.len() / line;
    assert!(steps <= line && rows <= width, "{rows} rows of {steps} words");
    let whole = (rows - rows % 4, steps - steps % 4);
    for row in (0..whole.0).step_by(4) {
        for step in (0..whole.1).step_by(4) {
            let words = |r: usize| *lines[(row + r) * line + step..].first_chunk().expect("four");
            let turned = turn([words(0), words(1), words(2), words(3)]);
            for (s, turned) in turned.iter().enumerate() {
                out[(step + s) * width + row..][..4].copy_from_slice(turned);
            }
        }
        one_by_one(lines, line, (row..row + 4, whole.1..steps), out, width);
    }
    one_by_one(lines, line, (whole.0..rows, 0..steps), out, width);
}

/// Rows and steps.
type Part = (std::ops::Range<usize>, std::ops::Range<usize>);

#[inline(always)]
fn one_by_one(lines: &[u32], line: usize, part: Part, out: &mut [u32], width: usize) {
    for row in part.0 {
        let words = &lines[row * line..][part.1.clone()];
        for (step, word) in part.1.clone().zip(words) {
            out[step * width + row] = *word;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turn(rows: [[u32; 4]; 4]) -> [[u32; 4]; 4] {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    // SAFETY: SSE2 is a part of x86-64; sixteen bytes are sixteen bytes, and any are a value.
    unsafe {
        let [a, b, c, d] = transmute::<[[u32; 4]; 4], [__m128i; 4]>(rows);
        let (low, high) = (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
        let (low_2, high_2) = (_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
        transmute::<[__m128i; 4], [[u32; 4]; 4]>([
            _mm_unpacklo_epi64(low, low_2),
            _mm_unpackhi_epi64(low, low_2),
            _mm_unpacklo_epi64(high, high_2),
            _mm_unpackhi_epi64(high, high_2),
        ])
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn turn(rows: [[u32; 4]; 4]) -> [[u32; 4]; 4] {
    std::array::from_fn(|step| std::array::from_fn(|row| rows[row][step]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_goes_to_its_column() {
        for rows in 0..14 {
            for steps in 0..11 {
                let (line, width) = (steps + 2, rows + 3);
                let lines: Vec<u32> = (0..(rows * line) as u32).collect();
                let mut out = vec![u32::MAX; steps * width];
                columns(&lines, line, steps, &mut out, width);
                for (step, out) in out.chunks(width).enumerate() {
                    let expected = (0..rows).map(|row| (row * line + step) as u32);
                    assert!(out[..rows].iter().copied().eq(expected), "{rows} {steps}");
                    assert!(out[rows..].iter().all(|word| *word == u32::MAX));
                }
            }
        }
    }
}
