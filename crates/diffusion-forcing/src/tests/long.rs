//! A day of video, and solvers of an author's.

use std::sync::Arc;

use wan_plugin_api::{Error, ScheduleSize, term};
use wan_samplers::{NoOptions, SigmaTable, Solver};

use super::*;

/// Latent frames of a day at 16 frames a second.
const DAY: u32 = 24 * 3600 * 16 / 4;

fn day(solver: &str) -> Any {
    let more = [("ar_step", json!(3)), ("causal_block_size", json!(5)), ("solver", json!(solver))];
    Any::new(chunked(25, 5, &more), &request(DAY, 0, 30)).unwrap()
}

#[test]
fn a_day_of_video_is_planned_a_chunk_at_a_time() {
    let mut sampler = day("heun");
    let first = sampler.schedule().unwrap();
    // Five blocks of five frames: 30 steps, and 3 more for each of four blocks behind the first.
    let size = first.part_of.unwrap();
    assert_eq!(first.rounds.len(), 42);
    assert!(size.rounds > 600_000 && size.evaluations as usize > size.rounds, "{size:?}");

    // Any round, and the whole chunk behind it; the last one ends the video.
    let middle = sampler.schedule_from(300_000).unwrap();
    assert!(middle.rounds.len() <= 42 && middle.part_of == Some(size));
    assert!(middle.rounds[0].first_frame() > 100_000);
    let last = sampler.schedule_from(size.rounds - 1).unwrap();
    assert_eq!(last.rounds.len(), 1);
    assert_eq!(last.rounds[0].levels.last().unwrap().frame, DAY - 1);
    let error = sampler.schedule_from(size.rounds).unwrap_err();
    assert!(error.message.contains(&format!("of {} rounds", size.rounds)), "{error}");

    // Steps hold the rows of the chunk that they are in.
    let ops = VecOps::default();
    for index in [0, 41, 42, 300_000, size.rounds - 1] {
        let round = &sampler.schedule_from(index).unwrap().rounds[0];
        let step = Step { index, evaluation: 0, evaluations_left: 0, round };
        let window = ops.tensor(round.len(), &start(round.len() as u32));
        let mut model = ModelFn::new(&ops, mixing);
        sampler.step(&window, &step, &mut model, &ops).unwrap();
        sampler.forcing.moving.clear(); // as at the end of a chunk
        assert!(sampler.forcing.rows.as_ref().unwrap().1.len() <= 42);
    }
}

#[test]
fn without_an_overlap_the_window_slides() {
    let how = [("ar_step", json!(2))];
    let sampler = Any::new(chunked(3, 0, &how), &request(6, 0, 4)).unwrap();
    let schedule = whole(&sampler);
    assert!(schedule.rounds.iter().all(|round| round.len() == 3));
    assert_eq!(schedule.rounds.last().unwrap().first_frame(), 3);
}

proptest! {
    /// What is counted is what is there, and a part is what the whole has in its place.
    #[test]
    fn parts_are_pieces_of_the_whole(
        (block, base, overlap, more) in (1..4u32, 2..6u32, 0..9u32, 1..40u32),
        (ar_step, steps, solver) in (0..5u32, 1..6u32, 0..2usize),
        at in 0..1000usize,
    ) {
        let base = base * block;
        let given = [
            ("causal_block_size", json!(block)),
            ("ar_step", json!(ar_step)),
            ("solver", json!(["unipc", "heun"][solver])),
        ];
        let request = request(base + more, 0, steps);
        let sampler = Any::new(chunked(base, overlap % base, &given), &request);
        prop_assume!(sampler.is_ok());
        let sampler = sampler.unwrap();
        let all = whole(&sampler);
        let chunks = sampler.forcing.chunks.count;
        prop_assert_eq!(sampler.schedule().unwrap().part_of.is_some(), chunks > 1);
        let counted = ScheduleSize { rounds: all.rounds.len(), evaluations: all.evaluations() };
        prop_assert_eq!(sampler.forcing.rounds.size(), counted);
        let at = at % all.rounds.len();
        let part = sampler.schedule_from(at).unwrap().rounds;
        prop_assert_eq!(&part[..], &all.rounds[at..at + part.len()]);
    }
}

/// An author's solver: Ralston's method, with its second evaluation two thirds into the step.
struct Ralston {
    table: Arc<SigmaTable>,
    begun: Option<[Tensor; 2]>,
}

impl Ralston {
    fn length(&self, index: usize) -> f64 {
        self.table.sigmas[index + 1] - self.table.sigmas[index]
    }
}

impl Solver for Ralston {
    fn evaluations(&self, index: usize) -> u32 {
        // As if the last step were too short to be worth two.
        if index + 1 < self.table.steps() { 2 } else { 1 }
    }

    fn level(&self, index: usize, _: u32) -> Result<Option<(f64, f64)>> {
        let sigma = self.table.sigmas[index] + 2.0 / 3.0 * self.length(index);
        Ok(Some((1000.0 * sigma, sigma)))
    }

    fn step(
        &mut self,
        index: usize,
        x: &Tensor,
        v: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let is_last = self.evaluations(index) == 1;
        self.begun = (!is_last).then(|| [x.clone(), v.clone()]);
        let part = if is_last { 1.0 } else { 2.0 / 3.0 };
        ops.combine(&[term(1.0, x), term(part * self.length(index), v)])
    }

    fn correct(
        &mut self,
        (index, _): (usize, u32),
        _: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let [start, first] = self.begun.take().ok_or_else(|| Error::failed("no step"))?;
        let h = self.length(index);
        ops.combine(&[term(1.0, &start), term(h / 4.0, &first), term(0.75 * h, velocity)])
    }
}

impl NamedSolver for Ralston {
    type Options = NoOptions;
    const ID: &'static str = "ralston";
    const DOC: &'static str = "Ralston's method";

    fn new(_: &NoOptions, table: Arc<SigmaTable>, _: u32) -> Result<Self> {
        Ok(Self { table, begun: None })
    }
}

#[test]
fn a_solver_of_an_authors_has_a_name_here_and_the_bits_that_it_has_alone() {
    type Forced = DiffusionForcing<Ralston>;
    assert_eq!(Forced::ID, "diffusion-forcing-ralston");
    assert!(Forced::DOC.starts_with("Ralston's method, every latent frame"));
    let request = request(6, 0, 5);
    let mut alone =
        Uniform::<Ralston>::new(complete_of::<Uniform<Ralston>>(&[]), &request).unwrap();
    let expected = sample_with(&mut alone, &start(6), frame_local, |_, _, _| ());
    for lag in [0, 2] {
        let how = [("ar_step", json!(lag)), ("causal_block_size", json!(2))];
        let mut forced = Forced::new(complete_of::<Forced>(&how), &request).unwrap();
        assert_eq!(sample_with(&mut forced, &start(6), frame_local, |_, _, _| ()), expected);
    }
}

#[test]
fn frames_in_the_middle_of_a_step_are_shown_where_they_are() {
    let how = [("ar_step", json!(1))];
    let options = complete_of::<DiffusionForcing<Ralston>>(&how);
    let sampler = DiffusionForcing::<Ralston>::new(options, &request(3, 0, 3)).unwrap();
    let schedule = whole(&sampler);
    assert_eq!(schedule.rounds.iter().map(|r| r.evaluations).collect::<Vec<_>>(), [2, 2, 2, 2, 1]);
    // The first frame is in its last step, which has one evaluation: it has arrived.
    let (chunk, levels) = (sampler.forcing.chunks.get(0), &schedule.rounds[2].levels);
    let row = chunk.layout.rows(3)[2].clone();
    let seen = sampler.forcing.seen(&row, &chunk, levels, 1).unwrap();
    let within = |level: &FrameLevel| level.sigma + 2.0 / 3.0 * (level.sigma_next - level.sigma);
    let sigmas: Vec<f64> = seen.iter().map(|level| level.sigma).collect();
    assert_eq!(sigmas, [0.0, within(&levels[1]), within(&levels[2])]);
}
