//! Structs grow at their end, on either side: who reads one takes what its writer knew.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{from_mut, from_ref, null, null_mut};

use crate::c::convert::{c_text, fill, no_error, size, sized};
use crate::c::prefixed::Prefixed;
use crate::c::tables::{
    self, CResult, CTensor, Context, Form, Host, OK, Options, Plan, Request, Round, Schedule,
};
use crate::{
    Attention, CachePlan, Decision, DecisionPoint, Denoise, Error, Evaluation, FrameLevel,
    Replaces, Result, SampleRequest, Step, Tensor, TensorOps, epoch1,
};

/// A struct as it was frozen.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
struct Earlier {
    size: u32,
    frames: u32,
    number: u64,
}

/// The same with a number and a function that came later.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Later {
    size: u32,
    frames: u32,
    number: u64,
    more: u64,
    function: Option<unsafe extern "C" fn()>,
}

// SAFETY: it begins with its size, the rest are numbers.
unsafe impl Prefixed for Earlier {
    const FROZEN: usize = 16;
}

// SAFETY: as above, and a function that may be missing.
unsafe impl Prefixed for Later {
    const FROZEN: usize = 16;
}

const EARLIER: Earlier = Earlier { size: size::<Earlier>(), frames: 3, number: 7 };

unsafe extern "C" fn nothing() {}

const LATER: Later =
    Later { size: size::<Later>(), frames: 5, number: 8, more: 9, function: Some(nothing) };

#[test]
fn what_an_earlier_writer_did_not_know_is_zeros() {
    // What lies behind it is not its own.
    let written = [EARLIER, Earlier { size: u32::MAX, frames: u32::MAX, number: u64::MAX }];
    // SAFETY: as many bytes are there as it says.
    let read = unsafe { sized(written.as_ptr().cast::<Later>(), "it") }.unwrap();
    assert_eq!((read.size, read.frames, read.number, read.more), (16, 3, 7, 0));
    assert!(read.function.is_none());
}

#[test]
fn what_a_later_writer_knows_more_is_left_out() {
    // SAFETY: as above.
    let read = unsafe { sized(from_ref(&LATER).cast::<Earlier>(), "it") }.unwrap();
    assert_eq!(read, Earlier { size: size::<Later>(), frames: 5, number: 8 });
}

#[test]
fn a_struct_of_the_other_side_is_filled_as_far_as_it_goes() {
    let mut own = [EARLIER, EARLIER];
    // SAFETY: as above; it may be written.
    unsafe { fill(own.as_mut_ptr().cast::<Later>(), &LATER, "it") }.unwrap();
    assert_eq!(own, [Earlier { size: size::<Earlier>(), frames: 5, number: 8 }, EARLIER]);
    let mut own = LATER;
    // SAFETY: as above.
    unsafe { fill(from_mut(&mut own).cast::<Earlier>(), &EARLIER, "it") }.unwrap();
    assert_eq!((own.size, own.frames, own.number, own.more), (size::<Later>(), 3, 7, 9));
}

#[test]
fn what_is_shorter_than_it_was_frozen_is_refused() {
    let short = Later { size: 12, ..LATER };
    // SAFETY: no more is read than its size.
    let said = unsafe { sized(from_ref(&short), "it") }.unwrap_err();
    assert_eq!(said.message, "it: its size says 12 bytes, 16 are needed");
}

/// A struct of the interface with members behind it that nobody here knows.
#[repr(C)]
struct Grown<T> {
    known: T,
    more: [u64; 4],
}

const MORE: [u64; 4] = [u64::MAX; 4];

fn grown<T: Prefixed>(known: T) -> Grown<T> {
    let mut grown = Grown { known, more: MORE };
    let whole = u32::try_from(size_of::<Grown<T>>()).unwrap();
    // SAFETY: such a struct begins with its size.
    unsafe { from_mut(&mut grown).cast::<u32>().write(whole) };
    grown
}

struct Still;

#[derive(serde::Deserialize)]
struct NoOptions {}

impl crate::Sampler for Still {
    type Options = NoOptions;
    const ID: &'static str = "still";
    const DOC: &'static str = "one round";

    fn new(_: NoOptions, _: &SampleRequest) -> Result<Self> {
        Ok(Self)
    }

    fn schedule(&self) -> Result<crate::Schedule> {
        let levels = vec![FrameLevel::moving(0, 1000.0, 1.0, 0.0)];
        Ok(vec![crate::Round { levels, attention: Attention::Bidirectional, evaluations: 1 }]
            .into())
    }

    fn step(
        &mut self,
        sample: &Tensor,
        _: &Step<'_>,
        _: &mut dyn Denoise,
        _: &dyn TensorOps,
    ) -> Result<Tensor> {
        Ok(sample.clone())
    }
}

impl crate::Cache for Still {
    type Options = NoOptions;
    const ID: &'static str = "still";
    const DOC: &'static str = "always computes";

    fn new(_: NoOptions, context: &crate::CacheContext) -> Result<Self> {
        let is_whole = (context.frames, context.model.variant.as_str()) == (3, "t2v");
        if is_whole { Ok(Self) } else { Err(Error::failed("another context")) }
    }

    fn plan(&self) -> CachePlan {
        CachePlan {
            decides: DecisionPoint::AfterBlock(2),
            replaces: Replaces::OutputDelta,
            bytes_max: 77,
            measures: vec!["change".into()],
            ..CachePlan::default()
        }
    }

    fn decide(&mut self, _: &Evaluation<'_>, _: &dyn TensorOps) -> Result<Decision> {
        Ok(Decision::compute_and_forget())
    }

    fn store(&mut self, _: &Tensor, _: &dyn TensorOps) -> Result<()> {
        Ok(())
    }
}

crate::plugin! { struct Plugin { samplers: [Still], caches: [Still] } }

unsafe extern "C" fn retain(tensor: *const CTensor) -> *mut CTensor {
    tensor.cast_mut()
}

unsafe extern "C" fn release(_: *mut CTensor) {}

unsafe extern "C" fn form(_: *const CTensor, _: *mut Form) -> CResult {
    OK
}

unsafe extern "C" fn log(_: u32, _: *const c_char) {}

unsafe extern "C" fn take_round(taken: *mut c_void, round: *const Round) {
    // SAFETY: the plugin gives a round.
    let count = unsafe { (*round).level_count };
    // SAFETY: it is what was given out.
    unsafe { *taken.cast::<u32>() += count };
}

unsafe extern "C" fn take_notice(_: *mut c_void, _: *const c_char) {}

unsafe extern "C" fn take_size(_: *mut c_void, _: u64, _: u32) {}

/// The tables of `Plugin`, as a later host that knows more is given them.
fn opened() -> tables::Plugin {
    let host = Host {
        size: 0,
        epoch: epoch1::NUMBER,
        retain: Some(retain),
        release: Some(release),
        form: Some(form),
        log: Some(log),
    };
    // SAFETY: the host's table stays for ever.
    unsafe {
        let plugin = crate::c::entry::<Plugin>(&raw const Box::leak(Box::new(grown(host))).known);
        sized(plugin, "plugin").unwrap()
    }
}

fn options(json: &CStr) -> Options {
    let json = json.as_ptr();
    Options { size: 0, reserved: 0, json, self_: null(), number: None, text: None, numbers: None }
}

#[test]
fn a_sampler_of_today_takes_the_longer_structs_of_a_later_host() {
    // SAFETY: all lives until the calls return.
    unsafe {
        let table = **opened().samplers;
        let (mut object, mut error) = (null_mut(), grown(no_error()));
        let options = grown(options(c"{}"));
        let request = grown(Request {
            size: 0,
            frames: 1,
            prefix_frames: 0,
            steps: 1,
            shift: 1.0,
            temporal_scale: 4,
            reserved: 0,
        });
        let create = table.create.unwrap();
        let (of, request) = (&raw const options.known, &raw const request.known);
        let said = create(from_ref(&table), of, request, &raw mut object, &raw mut error.known);
        assert_eq!(said, OK);
        let mut frames = 0u32;
        let taker = grown(Schedule {
            size: 0,
            reserved: 0,
            self_: (&raw mut frames).cast(),
            round: Some(take_round),
            notice: Some(take_notice),
            part_of: Some(take_size),
        });
        let said = table.schedule.unwrap()(object, 0, &raw const taker.known, &raw mut error.known);
        assert_eq!((said, frames, error.more), (OK, 1, MORE));
        table.destroy.unwrap()(object);
    }
}

#[test]
fn a_cache_of_today_fills_the_longer_plan_of_a_later_host() {
    let [branch, variant, hash] = ["cond", "t2v", "0"].map(c_text);
    // SAFETY: numbers, and pointers that are filled in below.
    let mut context: Context = unsafe { std::mem::zeroed() };
    (context.frames, context.dtype, context.signal_dtype, context.keep) = (3, 1, 1, 1);
    (context.branch, context.variant) = (branch.as_ptr(), variant.as_ptr());
    context.model_hash = hash.as_ptr();
    // SAFETY: all lives until the calls return; zeros are a plan as well.
    unsafe {
        let table = **opened().caches;
        let (mut object, mut error) = (null_mut(), grown(no_error()));
        let (options, context) = (grown(options(c"{}")), grown(context));
        let create = table.create.unwrap();
        let (of, context) = (&raw const options.known, &raw const context.known);
        let said = create(from_ref(&table), of, context, &raw mut object, &raw mut error.known);
        assert_eq!(said, OK);
        let mut plan = grown(std::mem::zeroed::<Plan>());
        let said = table.plan.unwrap()(object, &raw mut plan.known, &raw mut error.known);
        assert_eq!(said, OK);
        let Plan { size, decides, after_block, replaces, bytes_max, .. } = plan.known;
        assert_eq!((decides, after_block, bytes_max), (tables::AFTER_BLOCK, 2, 77));
        assert_eq!((size as usize, plan.more), (size_of_val(&plan), MORE));
        assert_eq!(replaces, tables::OUTPUT_DELTA);
        table.destroy.unwrap()(object);
    }
}
