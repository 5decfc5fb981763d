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
    "bad_at_exit_crashes",
    "bad_at_exit_aborts",
    "bad_at_exit_other_code",
    "bad_at_exit_hangs",
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
    "bad_hangs_when_described" None, "manifest" timeout "no end after 8 s";
    "bad_aborts_when_described" None, "manifest" crash "no options today";
    "bad_at_exit_crashes" None, "manifest" crash "signal: 11";
    "bad_at_exit_crashes" None, "manifest" crash "at exit, after the test had ended: pass";
    "bad_at_exit_aborts" None, "manifest" crash "signal: 6";
    "bad_at_exit_other_code" None, "manifest" crash "exit status: 3";
    "bad_at_exit_hangs" None, "manifest" timeout "no end after 8 s";
    "bad_words" None, "metadata" fail "cache id \"My Cache\"";
    "bad_words" Some("My Cache"), "cache-reuse" warn "it never reused anything";

    "bad_samplers" Some("never-clean"), "sampler-schedule" fail "leaves frame 0 at sigma 0.001";
    "bad_samplers" Some("one-step"), "sampler-schedule" fail "panicked";
    "bad_samplers" Some("one-step"), "sampler-shapes" fail "panicked";
    "bad_samplers" Some("eats-memory"), "sampler-schedule" crash "memory allocation of";
    "bad_samplers" Some("eats-memory"), "sampler-shapes" crash "memory allocation of";
    "bad_samplers" Some("eats-memory"), "sampler-handles" crash "memory allocation of";
    "bad_samplers" Some("default-out-of-range"), "sampler-options" fail "its default 5.0";
    "bad_samplers" Some("panics-in-range"), "sampler-options" fail "which are in range (seed 1)";
    "bad_samplers" Some("aborts-in-range"), "sampler-options" crash "the fast mode is not there";
    "bad_samplers" Some("aborts-in-range"), "sampler-shapes" crash "the fast mode is not there";
    "bad_samplers" Some("aborts-in-range"), "sampler-frozen" crash "the fast mode is not there";
    "bad_samplers" Some("aborts-in-range"), "sampler-constant" crash "the fast mode is not there";
    "bad_samplers" Some("aborts-in-range"), "sampler-determinism" crash
        "the fast mode is not there";
    "bad_samplers" Some("aborts-in-range"), "sampler-handles" crash "the fast mode is not there";
    "bad_samplers" Some("moves-frozen"), "sampler-frozen" fail "elements changed in round 0";
    "bad_samplers" Some("wrong-sign"), "sampler-constant" fail "away from the exact result";
    "bad_samplers" Some("asks-twice"), "sampler-shapes" fail "asked the model 2 times";
    "bad_samplers" Some("drops-a-frame"), "sampler-shapes" fail "a step gave";
    "bad_samplers" Some("loops-on-nan"), "sampler-numbers" timeout "no end after 8 s";
    "bad_samplers" Some("panics-on-nan"), "sampler-numbers" fail
        "with NaN in the first element of the sample";
    "bad_samplers" Some("swallows-errors"), "sampler-errors" fail "went on without it";
    "bad_samplers" Some("renames-errors"), "sampler-errors" fail "pass errors on";
    "bad_samplers" Some("slow"), "sampler-cost" warn "us for each step";
    "bad_samplers" Some("shares-state"), "sampler-instances" fail "two objects that take turns";
    "bad_samplers" Some("uses-a-counter"), "sampler-determinism" fail "other bits";
    "bad_samplers" Some("uses-a-counter"), "sampler-instances" fail "two objects that take turns";
    "bad_samplers" Some("leaks"), "sampler-handles" fail "bytes are still held";
    "bad_samplers" Some("one-step"), "sampler-constant" fail "panicked";
    "bad_samplers" Some("one-step"), "sampler-frozen" fail "panicked";
    "bad_samplers" Some("one-step"), "sampler-determinism" fail "panicked";
    "bad_samplers" Some("uses-a-counter"), "sampler-constant" fail "a clean frame is";
    "bad_samplers" Some("off-by-a-tenth"), "sampler-constant" fail "away from the exact result";
    "bad_samplers" Some("off-by-a-hundredth"), "sampler-constant" fail "round 0: a constant";
    "bad_samplers" Some("off-by-two-thousandths"), "sampler-constant" fail "round 0: a constant";
    "bad_samplers" Some("off-at-the-end"), "sampler-constant" fail "round 7: a constant";
    "bad_samplers" Some("off-in-seven-steps"), "sampler-constant" fail "steps: 7,";
    "bad_samplers" Some("off-in-the-last-frame"), "sampler-constant" fail "of frame 4";
    "bad_samplers" Some("off-in-the-last-element"), "sampler-constant" fail "element 36 of frame 4";
    "bad_samplers" Some("off-behind-a-prefix"), "sampler-constant" fail "prefix_frames: 1";
    "bad_samplers" Some("off-with-strength"), "sampler-constant" fail "with {\"strength\":0.5}";
    "bad_samplers" Some("off-in-a-mode"), "sampler-constant" warn "{\"mode\":\"as-published\"}";
    "bad_samplers" Some("too-much-noise"), "sampler-constant" fail "variance 1.05";
    "bad_samplers" Some("noise-in-the-mean"), "sampler-constant" fail "the noise has mean";
    "bad_samplers" Some("moves-a-frozen-element"), "sampler-frozen" fail "1 of its 37 elements";
    "bad_samplers" Some("moves-a-large-frozen-frame"), "sampler-frozen" fail "1 of its 1031";
    "bad_samplers" Some("moves-the-waiting"), "sampler-frozen" fail "with {\"lag\":1}";
    "bad_samplers" Some("asks-twice-once"), "sampler-shapes" fail "asked the model 2 times";
    "bad_samplers" Some("asks-about-a-part"), "sampler-shapes" fail "about 4 frames with levels";
    "bad_samplers" Some("asks-about-a-part"), "sampler-constant" fail "of frame 4";
    "bad_samplers" Some("infinite-in-one-step"), "sampler-shapes" fail "not finite";
    "bad_samplers" Some("infinite-in-one-step"), "sampler-constant" fail "inf away";
    "bad_samplers" Some("panics-on-last-nan"), "sampler-numbers" fail "NaN in the last element";
    "bad_samplers" Some("swallows-second-errors"), "sampler-errors" fail "at evaluation 1, and";
    "bad_samplers" Some("swallows-late-errors"), "sampler-errors" fail "at evaluation 7, and";
    "bad_samplers" Some("one-element-differs"), "sampler-determinism" fail "gave other bits";
    "bad_samplers" Some("one-element-differs"), "sampler-instances" fail "that take turns";
    "bad_samplers" Some("grows"), "sampler-handles" fail "grows with the steps";
    "bad_samplers" Some("forgets-an-entry"), "sampler-state" fail "saved after round 0, round 1";
    "bad_samplers" Some("resets-a-counter"), "sampler-state" fail "saved after round 0, round 1";
    "bad_samplers" Some("panics-at-the-lower-end"), "sampler-options" fail "{\"share\":0.25}";
    "bad_samplers" Some("panics-at-the-upper-end"), "sampler-options" fail "{\"share\":0.75}";
    "bad_samplers" Some("panics-in-between"), "sampler-options" fail "{\"share\":0.6";
    "bad_samplers" Some("panics-near-the-middle"), "sampler-options" fail "which are in range";
    "bad_samplers" Some("panics-on-the-last-word"), "sampler-options" fail "{\"word\":\"last\"}";
    "bad_samplers" Some("panics-on-true"), "sampler-options" fail "{\"switch\":true}";
    "bad_samplers" Some("panics-on-a-list"), "sampler-options" fail "{\"list\":[";
    "bad_samplers" Some("panics-on-two"), "sampler-options" fail "{\"count\":2}";
    "bad_samplers" Some("refuses-all"), "sampler-options" warn "sets of options were refused";
    "bad_samplers" Some("fails-in-range"), "sampler-options" fail "the work failed; with {";
    "bad_samplers" Some("panics-on-null"), "sampler-options" warn "{\"share\":null}";
    "bad_samplers" Some("panics-without-options"), "sampler-options" warn "with {}, which the";
    "bad_samplers" Some("ends-a-step-early"), "sampler-handover" fail "are not those of the whole";
    "bad_samplers" Some("starts-a-step-late"), "sampler-handover" fail "are not those of the whole";
    "bad_samplers" Some("rounds-otherwise"), "sampler-handover" fail "the bits of the whole";
    "bad_samplers" Some("noise-of-a-part"), "sampler-handover" fail "the bits of the whole";
    "bad_samplers" Some("off-in-a-part"), "sampler-handover" fail "end elsewhere than the whole";
    "bad_samplers" Some("off-in-a-part"), "sampler-constant" fail "\"start_step\":5";
    "bad_samplers" Some("refuses-parts"), "sampler-options" warn "sets of options were refused";
    "bad_samplers" Some("refuses-parts"), "sampler-handover" fail "every part of a schedule is";

    "bad_caches" Some("declares-half"), "cache-memory" fail "declared: No more is held";
    "bad_caches" Some("reuses-at-first"), "cache-reuse" fail "first: The first evaluation computes";
    "bad_caches" Some("ignores-nan"), "cache-numbers" fail "spoilt: A signal that is not a number";
    "bad_caches" Some("ignores-shape"), "cache-numbers" fail "shape: Tensors of another shape";
    "bad_caches" Some("ignores-shape"), "cache-reuse" fail "form: A reuse has the form";
    "bad_caches" Some("counts-together"), "cache-instances" fail "interleaved: Two streams";
    "bad_caches" Some("panics-in-range"), "cache-options" fail "with {\"count\":1000}";
    "bad_caches" Some("counts-frames"), "cache-rules" fail "prefix: Clean frames in front";
    "bad_caches" Some("never-the-same"), "cache-determinism" fail "repeats: A fresh object";
    "bad_caches" Some("never-the-same"), "cache-instances" fail "interleaved: Two streams";
    "bad_caches" Some("never-the-same"), "cache-rules" fail "decide alike";
    "bad_caches" Some("slow"), "cache-cost" warn "us for each evaluation";
    "bad_caches" Some("deadlocks"), "cache-instances" timeout "no end after 8 s";
}
