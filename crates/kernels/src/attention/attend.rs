//! Attention of all queries.

use std::ops::Range;

use rayon::prelude::*;

use crate::attention::group::Group;
use crate::attention::key_value::{Attention, KeyValue, Layout};
use crate::matrix::{Matrix, MatrixMut};
use crate::product::Context;
use crate::shared::Shared;

/// Queries that see the same keys, of every video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Queries, numbered within a video.
    pub queries: Range<usize>,
    /// The keys that they see, numbered within a video.
    pub keys: Range<usize>,
}

/// Queries of a task: a multiple of the rows of a tile on every path.
pub(crate) const GROUP: usize = 120;

/// Heads whose keys and values are packed at once: enough for all threads.
pub(crate) fn heads_at_once(tasks: usize, heads: usize, threads: usize) -> usize {
    (16 * threads).div_ceil(tasks.max(1)).min(heads)
}

/// `softmax(scale Q K^T) V` of every head: `query`, `key` and `value` are `[batch tokens, heads
/// head_dim]`, and so is `out`. There may be fewer or more keys than queries. Queries that no span
/// has are left as they are in `out`; those of a span without keys become zeros. What a query does
/// not see does not change its result, not even if it is NaN.
///
/// Keys and values are packed once, a few heads at a time. The result is that of
/// [`attend_to`] and has the same bits for any number of threads.
///
/// # Panics
///
/// If the shapes do not fit each other, or if spans overlap, are not in order, or reach beyond
/// queries or keys.
pub fn attend(
    context: Context,
    attention: Attention,
    [query, key, value]: [Matrix; 3],
    spans: &[Span],
    out: MatrixMut,
) {
    let layout = attention.layout(context.kernels, [&key, &value]);
    let work = Work::new(attention, layout, &query, spans, out);
    let threads = rayon::current_num_threads();
    let heads_at_once = heads_at_once(work.groups.len(), layout.heads, threads);
    for first in (0..layout.heads).step_by(heads_at_once.max(1)) {
        let heads = first..(first + heads_at_once).min(layout.heads);
        let mut words = context.pool.words(heads.len() * layout.head_words());
        let packed = (heads.clone(), attention.heads);
        layout.pack(context.kernels, [&key, &value], packed, &mut words);
        work.attend(context, heads, &words);
    }
}

/// [`attend`] to keys and values that were packed before.
///
/// # Panics
///
/// As [`attend`], and if they were packed for other kernels, heads, videos or another precision.
pub fn attend_to(
    context: Context,
    attention: Attention,
    (query, key_value): (Matrix, &KeyValue),
    spans: &[Span],
    out: MatrixMut,
) {
    let (layout, words) = key_value.of(context.kernels, attention);
    let work = Work::new(attention, layout, &query, spans, out);
    work.attend(context, 0..layout.heads, words);
}

/// All queries.
struct Work<'a> {
    attention: Attention,
    layout: Layout,
    query: &'a Matrix<'a>,
    /// Queries of a video.
    queries: usize,
    groups: Vec<Span>,
    out: Shared<'a>,
}

impl<'a> Work<'a> {
    #[track_caller]
    fn new(
        attention: Attention,
        layout: Layout,
        query: &'a Matrix<'a>,
        spans: &[Span],
        out: MatrixMut<'a>,
    ) -> Self {
        let (shape, width) = ([query.rows(), query.columns()], layout.head_dim * attention.heads);
        assert_eq!(shape, [out.rows(), out.columns()], "queries and output");
        assert_eq!(shape[1], width, "numbers of a query");
        assert!(shape[0].is_multiple_of(attention.batch), "{shape:?} queries of videos");
        let queries = shape[0] / attention.batch;
        let mut end = 0;
        for span in spans {
            let fits = end <= span.queries.start && span.queries.end <= queries;
            assert!(fits, "{span:?} of {queries} queries, after {end}");
            let fits = span.keys.start <= span.keys.end && span.keys.end <= layout.keys;
            assert!(fits, "{span:?} of {} keys", layout.keys);
            end = end.max(span.queries.end);
        }
        let groups = spans.iter().flat_map(|Span { queries, keys }| {
            let of = |start| Span {
                queries: start..(start + GROUP).min(queries.end),
                keys: keys.clone(),
            };
            queries.clone().step_by(GROUP).map(of)
        });
        let groups = groups.collect();
        Self { attention, layout, query, queries, groups, out: Shared::new(out) }
    }

    /// Attends with some heads, whose keys and values `words` are.
    fn attend(&self, context: Context, heads: Range<usize>, words: &[u32]) {
        let (layout, groups) = (self.layout, self.groups.len());
        if layout.head_dim == 0 {
            return;
        }
        (0..heads.len() * groups).into_par_iter().with_max_len(1).for_each(|task| {
            let Span { queries, keys } = self.groups[task % groups].clone();
            let head = heads.start + task / groups;
            let video = head / self.attention.heads * self.queries;
            let group = Group {
                layout,
                words: &words[task / groups * layout.head_words()..][..layout.head_words()],
                query: self.query,
                rows: video + queries.start..video + queries.end,
                column: head % self.attention.heads * layout.head_dim,
                keys,
                scale: self.attention.scale,
                out: &self.out,
                pool: context.pool,
            };
            layout.word.run(context.kernels, group);
        });
    }
}
