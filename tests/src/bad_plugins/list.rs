//! What is wrong with which library, and which test says so.

/// A defect, and how it is found.
#[derive(Debug)]
pub struct Planted {
    /// File `fixture_LIBRARY`.
    pub library: &'static str,
    /// Id of the strategy; none where the library itself is bad.
    pub strategy: Option<&'static str>,
    /// The test that finds it.
    pub test: &'static str,
    /// How the test ends.
    pub status: &'static str,
    /// Part of what the test says.
    pub says: &'static str,
}

/// The libraries.
pub const LIBRARIES: &[&str] = &[
    "not_a_plugin",
    "wrong_epoch",
    "changed_layout",
    "aborts_on_panic",
    "bad_hangs_when_described",
    "bad_aborts_when_described",
    "bad_words",
    "bad_samplers",
    "bad_caches",
];

macro_rules! planted {
    ($($library:literal $strategy:expr, $test:literal $status:ident $says:literal;)*) => {
        /// All defects; one that several tests must find has a line for each.
        pub const PLANTED: &[Planted] = &[$(Planted {
            library: $library,
            strategy: $strategy,
            test: $test,
            status: stringify!($status),
            says: $says,
        }),*];
    };
}

planted! {
    "not_a_plugin" None, "manifest" fail "is not a wan plugin";
    "wrong_epoch" None, "manifest" fail "built for plugin interface epoch 99";
    "changed_layout" None, "manifest" fail "its layout differs";
    "aborts_on_panic" None, "manifest" fail "panic = \"abort\"";
    "bad_hangs_when_described" None, "manifest" timeout "no end after 4 s";
    "bad_aborts_when_described" None, "manifest" crash "no options today";
    "bad_words" None, "metadata" fail "cache id \"My Cache\"";

    "bad_samplers" Some("never-clean"), "sampler-schedule" fail "leaves frame 0 at sigma 0.001";
    "bad_samplers" Some("one-step"), "sampler-schedule" fail "panicked";
    "bad_samplers" Some("one-step"), "sampler-shapes" fail "panicked";
    "bad_samplers" Some("eats-memory"), "sampler-schedule" crash "memory allocation of";
    "bad_samplers" Some("eats-memory"), "sampler-shapes" crash "memory allocation of";
    "bad_samplers" Some("default-out-of-range"), "sampler-options" fail "its default 5.0";
    "bad_samplers" Some("panics-in-range"), "sampler-options" fail "which are in range (seed 1)";
    "bad_samplers" Some("aborts-in-range"), "sampler-options" crash "the fast mode is not there";
    "bad_samplers" Some("moves-frozen"), "sampler-frozen" fail "is not moved, and changed";
    "bad_samplers" Some("wrong-sign"), "sampler-constant" fail "away from the exact result";
    "bad_samplers" Some("asks-twice"), "sampler-shapes" fail "asked the model 2 times";
    "bad_samplers" Some("drops-a-frame"), "sampler-shapes" fail "a step gave";
    "bad_samplers" Some("loops-on-nan"), "sampler-numbers" timeout "no end after 4 s";
    "bad_samplers" Some("panics-on-nan"), "sampler-numbers" fail "with NaN in the sample";
    "bad_samplers" Some("swallows-errors"), "sampler-errors" fail "went on without it";
    "bad_samplers" Some("renames-errors"), "sampler-errors" fail "pass errors on";
    "bad_samplers" Some("slow"), "sampler-cost" warn "us for each step";
    "bad_samplers" Some("shares-state"), "sampler-instances" fail "two objects that take turns";
    "bad_samplers" Some("uses-a-counter"), "sampler-determinism" fail "other bits";
    "bad_samplers" Some("uses-a-counter"), "sampler-instances" fail "two objects that take turns";
    "bad_samplers" Some("leaks"), "sampler-handles" fail "bytes are still held";

    "bad_caches" Some("declares-half"), "cache-memory" fail "declared: No more is held";
    "bad_caches" Some("reuses-at-first"), "cache-reuse" fail "first: The first evaluation computes";
    "bad_caches" Some("ignores-nan"), "cache-numbers" fail "spoilt: A signal that is not a number";
    "bad_caches" Some("ignores-shape"), "cache-numbers" fail "shape: Tensors of another shape";
    "bad_caches" Some("ignores-shape"), "cache-reuse" fail "form: A reuse has the form";
    "bad_caches" Some("counts-together"), "cache-instances" fail "interleaved: Two streams";
    "bad_caches" Some("deadlocks"), "cache-instances" timeout "no end after 4 s";
}
