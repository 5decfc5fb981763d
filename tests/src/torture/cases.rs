//! What is run: solvers, caches, and the ways through a run.

use std::fmt;
use std::path::Path;

/// Built-in solvers, each a sampler and a solver of diffusion forcing.
pub const SOLVERS: [&str; 11] = [
    "unipc",
    "dpm++",
    "euler",
    "heun",
    "euler-ancestral",
    "dpm++-sde",
    "dpm++-3m-sde",
    "deis",
    "lcm",
    "res-multistep",
    "sa-ode",
];

/// Caches of the project and none, with options with which they reuse within a few steps.
pub const CACHES: [(&str, &[&str]); 11] = [
    ("none", &[]),
    ("teacache", &["threshold=0.3", "retention=1"]),
    ("easycache", &["threshold=5", "retention=2"]),
    ("magcache", &["table=t2v-1.3b", "threshold=0.5", "retention=1"]),
    ("first-block", &["threshold=2"]),
    ("forecast", &["threshold=5", "retention=2"]),
    ("teacache-half", &["threshold=0.3", "retention=1"]),
    ("easycache-half", &["threshold=5", "retention=2"]),
    ("magcache-half", &["table=t2v-1.3b", "threshold=0.5", "retention=1"]),
    ("first-block-half", &["threshold=2"]),
    ("forecast-half", &["threshold=5", "retention=2"]),
];

/// A way through a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// All frames at once.
    Sync,
    /// Frames at levels of their own.
    Async,
    /// Several windows, decoded while the next one is sampled.
    Windows,
    /// A model of two transformers.
    Experts,
    /// Ends early, with latents.
    FirstPart,
    /// Goes on from such latents.
    SecondPart,
    /// Many frames and few steps, so that decoding takes the time.
    Decoding,
}

impl Way {
    pub(super) const ALL: [Self; 7] = [
        Self::Windows,
        Self::Decoding,
        Self::Sync,
        Self::Async,
        Self::Experts,
        Self::FirstPart,
        Self::SecondPart,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
            Self::Windows => "windows",
            Self::Experts => "experts",
            Self::FirstPart => "hand-over, first part",
            Self::SecondPart => "hand-over, second part",
            Self::Decoding => "decoding",
        }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// Its place in the list.
    pub(super) number: u64,
    /// The way.
    pub(super) way: Way,
    /// The solver.
    pub(super) solver: &'static str,
    /// The cache.
    pub(super) cache: &'static str,
    options: &'static [&'static str],
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, way, solver, cache, .. } = self;
        write!(f, "case {number}: {}, {solver}, {cache}", way.name())
    }
}

impl Case {
    /// The case of a number. Seven numbers in a row have all ways; eleven all solvers, and all
    /// caches, each with another one in every turn.
    pub(super) fn of(number: u64) -> Self {
        let place = usize::try_from(number).unwrap_or(0);
        let turn = place / SOLVERS.len();
        let (cache, options) = CACHES[(place + 4 * turn) % CACHES.len()];
        let solver = SOLVERS[place % SOLVERS.len()];
        Self { number, way: Way::ALL[place % Way::ALL.len()], solver, cache, options }
    }

    /// Flags of `wan generate`, beside those of its output. `experts` is the tiny model, `latents`
    /// are those that a second part goes on from.
    pub(super) fn flags(&self, experts: &Path, latents: &Path) -> Vec<String> {
        let mut flags = Flags(Vec::new());
        flags.add(&["--size", "64*64", "--base_seed", "7", "--cache", self.cache]);
        self.options.iter().for_each(|option| flags.add(&["--cache_option", option]));
        let forcing = [
            "--sampler=diffusion-forcing",
            "--sampler_option=timesteps=diffusers",
            &format!("--sampler_option=solver={}", self.solver),
        ];
        let alone = ["--sampler", self.solver];
        let (experts, latents) = (&*experts.to_string_lossy(), &*latents.to_string_lossy());
        match self.way {
            Way::Sync => {
                flags.add(&alone);
                flags.add(&["--frame_num=17", "--sample_steps=10"]);
            }
            Way::Async => {
                flags.add(&forcing);
                flags.add(&["--ar_step=2", "--frame_num=17", "--sample_steps=6"]);
            }
            Way::Windows => {
                flags.add(&forcing);
                flags.add(&["--base_num_frames=17", "--overlap_history=9", "--sample_steps=5"]);
                let frames = ["--frame_num=33", "--frame_num=49", "--frame_num=65"];
                flags.add(&[frames[(self.number % 3) as usize]]);
                // Every other one asynchronously.
                flags.add(if self.number % 2 == 1 { &["--ar_step=1"] } else { &[] });
            }
            Way::Experts => {
                flags.add(&["--ckpt_dir", experts, "--task=t2v-A14B", "--prompt=a red ball"]);
                flags.add(&["--negative_prompt=a blue box"]);
                flags.add(if self.number % 2 == 1 { &forcing } else { &alone });
                flags.add(&["--frame_num=17", "--sample_steps=10"]);
            }
            Way::FirstPart => {
                flags.add(&alone);
                flags.add(&["--sampler_option=end_step=7", "--latents_only"]);
                flags.add(&["--frame_num=17", "--sample_steps=10"]);
            }
            Way::SecondPart => {
                flags.add(&alone);
                flags.add(&["--sampler_option=start_step=3", "--latents", latents]);
                flags.add(&["--frame_num=17", "--sample_steps=10"]);
            }
            Way::Decoding => {
                flags.add(&alone);
                flags.add(&["--frame_num=73", "--sample_steps=3", "--keep_latents"]);
            }
        }
        flags.0
    }

    /// Flags of the run whose latents a second part goes on from.
    pub(super) fn flags_of_the_part_before(&self) -> Option<Vec<String>> {
        if self.way != Way::SecondPart {
            return None;
        }
        let mut flags = Flags(Vec::new());
        flags.add(&["--size=64*64", "--base_seed=7", "--cache=none", "--sampler", self.solver]);
        flags.add(&["--sampler_option=end_step=3", "--latents_only"]);
        flags.add(&["--frame_num=17", "--sample_steps=10"]);
        Some(flags.0)
    }
}

struct Flags(Vec<String>);

impl Flags {
    fn add(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(|flag| flag.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_solvers_caches_and_ways_come_and_every_pair_of_solver_and_cache() {
        let all = |count: u64| (0..count).map(Case::of);
        let ways: BTreeSet<Way> = all(7).map(|case| case.way).collect();
        assert_eq!(ways.len(), Way::ALL.len());
        let [solvers, caches] = [|c: Case| c.solver, |c: Case| c.cache];
        assert_eq!(all(11).map(solvers).collect::<BTreeSet<_>>().len(), SOLVERS.len());
        assert_eq!(all(11).map(caches).collect::<BTreeSet<_>>().len(), CACHES.len());
        let pairs: BTreeSet<_> = all(121).map(|case| (case.solver, case.cache)).collect();
        assert_eq!(pairs.len(), 121);
        let all: BTreeSet<_> = all(847).map(|c| (c.way, c.solver, c.cache)).collect();
        assert_eq!(all.len(), 847);
    }
}
