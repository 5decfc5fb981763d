//! What multiplies and adds, and the innermost loop of all products.

/// Columns of a panel, on every path: so a packed weight is the same on all of them.
pub(crate) const PANEL: usize = 32;

/// Vectors of 32-bit words whose products are added up in f32.
///
/// A word is what one step of a sum reads of one row: an f32, or a pair of bf16. A value of a type
/// that implements this exists only where the processor has its instructions.
///
/// Each lane of [`multiply_add`](Self::multiply_add) depends on its own lanes alone, and a NaN in
/// one of them stays one.
pub(crate) trait Unit: Copy + Send + Sync + 'static {
    /// Words of a vector.
    const LANES: usize;
    /// Rows of the largest tile, as many as the registers hold.
    const ROWS: usize;
    /// Whether the path has a fused multiply-add, for plain code beside it.
    const FUSED: bool;
    /// A vector of words.
    type Words: Copy;
    /// A vector of sums.
    type Sums: Copy;

    /// Sums of nothing.
    fn zero(self) -> Self::Sums;
    /// The first `LANES` of `from`, which has as many at least.
    fn load(self, from: &[f32]) -> Self::Sums;
    /// To the first `LANES` of `to`, which has as many at least.
    fn store(self, sums: Self::Sums, to: &mut [f32]);
    /// The first `LANES` of `from`, which has as many at least.
    fn words(self, from: &[u32]) -> Self::Words;
    /// The same word in all lanes.
    fn word(self, word: u32) -> Self::Words;
    /// `sums + a b`.
    fn multiply_add(self, a: Self::Words, b: Self::Words, sums: Self::Sums) -> Self::Sums;
    /// One tile of a product.
    fn multiply(self, tile: Tile);
    /// One tile of a convolution.
    fn convolve(self, tile: Window);
}

/// `sums[r, c] = a[., r] b[., c]` for the 32 columns `c` of a panel, added to what `sums` holds
/// unless this is the first part of the sum.
pub(crate) struct Tile<'a> {
    /// Rows, from 1 to [`Unit::ROWS`].
    pub(crate) rows: usize,
    /// Words `[steps, rows]`.
    pub(crate) a: &'a [u32],
    /// Words `[steps, 32]`.
    pub(crate) b: &'a [u32],
    /// Sums, 32 of each row.
    pub(crate) sums: &'a mut [f32],
    /// From one row of `sums` to the next.
    pub(crate) stride: usize,
    /// Whether `sums` holds nothing yet.
    pub(crate) first: bool,
}

/// [`Unit::multiply`] for `R` rows, `V` vectors of columns at a time. The sums stay in registers;
/// each is added up step by step, whatever the shape of the product around it.
#[inline(always)]
pub(crate) fn multiply_rows<U: Unit, const R: usize, const V: usize>(unit: U, tile: Tile) {
    let Tile { a, b, sums, stride, first, .. } = tile;
    let (a, b) = (a.as_chunks::<R>().0, b.as_chunks::<PANEL>().0);
    assert_eq!(a.len(), b.len(), "steps of the two factors");
    for start in (0..PANEL).step_by(V * U::LANES) {
        let mut tile = [[unit.zero(); V]; R];
        if !first {
            for (r, tile) in tile.iter_mut().enumerate() {
                for (v, part) in tile.iter_mut().enumerate() {
                    *part = unit.load(&sums[r * stride + start + v * U::LANES..]);
                }
            }
        }
        for (a, b) in a.iter().zip(b) {
            let mut columns = [unit.word(0); V];
            for v in 0..V {
                columns[v] = unit.words(&b[start + v * U::LANES..]);
            }
            for r in 0..R {
                let row = unit.word(a[r]);
                for v in 0..V {
                    tile[r][v] = unit.multiply_add(row, columns[v], tile[r][v]);
                }
            }
        }
        for (r, tile) in tile.iter().enumerate() {
            for (v, part) in tile.iter().enumerate() {
                unit.store(*part, &mut sums[r * stride + start + v * U::LANES..]);
            }
        }
    }
}

/// `sums[r, p] = a[tap, word, r] b[offsets[tap] + word * plane + p]`, summed over taps and words,
/// for 32 neighbours `p`, added to what `sums` holds unless this is the first part of the sum.
pub(crate) struct Window<'a> {
    /// Rows, from 1 to [`Unit::ROWS`].
    pub(crate) rows: usize,
    /// Words `[taps, words, rows]`.
    pub(crate) a: &'a [u32],
    /// Planes of words.
    pub(crate) b: &'a [u32],
    /// Where each tap begins to read.
    pub(crate) offsets: &'a [usize],
    /// Words of a tap.
    pub(crate) words: usize,
    /// From one word of `b` to the next.
    pub(crate) plane: usize,
    /// Sums, 32 of each row.
    pub(crate) sums: &'a mut [f32],
    /// From one row of `sums` to the next.
    pub(crate) stride: usize,
    /// Whether `sums` holds nothing yet.
    pub(crate) first: bool,
}

/// [`Unit::convolve`] for `R` rows, `V` vectors at a time.
#[inline(always)]
pub(crate) fn convolve_rows<U: Unit, const R: usize, const V: usize>(unit: U, window: Window) {
    let Window { a, b, offsets, words, plane, sums, stride, first, .. } = window;
    let a = a.as_chunks::<R>().0;
    assert_eq!(a.len(), offsets.len() * words, "words of the weight");
    for start in (0..PANEL).step_by(V * U::LANES) {
        let mut tile = [[unit.zero(); V]; R];
        if !first {
            for (r, tile) in tile.iter_mut().enumerate() {
                for (v, part) in tile.iter_mut().enumerate() {
                    *part = unit.load(&sums[r * stride + start + v * U::LANES..]);
                }
            }
        }
        for (offset, a) in offsets.iter().zip(a.chunks_exact(words)) {
            let mut at = offset + start;
            for a in a {
                let b = &b[at..at + V * U::LANES];
                let mut columns = [unit.word(0); V];
                for v in 0..V {
                    columns[v] = unit.words(&b[v * U::LANES..]);
                }
                for r in 0..R {
                    let row = unit.word(a[r]);
                    for v in 0..V {
                        tile[r][v] = unit.multiply_add(row, columns[v], tile[r][v]);
                    }
                }
                at += plane;
            }
        }
        for (r, tile) in tile.iter().enumerate() {
            for (v, part) in tile.iter().enumerate() {
                unit.store(*part, &mut sums[r * stride + start + v * U::LANES..]);
            }
        }
    }
}

/// Calls [`multiply_rows`] or [`convolve_rows`] for the rows of a tile, a number that the compiler
/// knows.
macro_rules! by_rows {
    ($of_rows:ident, $unit:expr, $tile:expr, $vectors:literal, $($rows:literal)*) => {
        match $tile.rows {
            $($rows => $crate::simd::unit::$of_rows::<_, $rows, $vectors>($unit, $tile),)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(crate) use by_rows;
