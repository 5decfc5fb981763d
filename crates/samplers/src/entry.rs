//! A solver in a list: everything that is asked of it before it is made.

use std::fmt;
use std::sync::Arc;

use wan_plugin_api::epoch1::SamplerFactory;
use wan_plugin_api::{OptionSpec, OptionValues, Result};

use crate::own_options::{read_options, those_of};
use crate::schedule::{NoiseLevels, SigmaTable};
use crate::solver::{NamedSolver, Solver};
use crate::uniform::Uniform;

/// Makes a solver of option values, for a table and a sample's first frame.
type Make = fn(&OptionValues, Arc<SigmaTable>, u32) -> Result<Box<dyn Solver>>;

/// A [`NamedSolver`], without its type.
#[derive(Clone, Copy)]
pub struct Entry {
    id: &'static str,
    doc: &'static str,
    levels: NoiseLevels,
    options: fn() -> Vec<OptionSpec>,
    options_in_forcing: fn() -> Vec<OptionSpec>,
    make: Make,
    sampler: fn() -> SamplerFactory,
}

impl Entry {
    /// The entry of `S`.
    pub const fn of<S: NamedSolver>() -> Self {
        Self {
            id: S::ID,
            doc: S::DOC,
            levels: S::LEVELS,
            options: S::options,
            options_in_forcing: S::options_in_forcing,
            make: |values, table, first_frame| {
                let own = those_of(&S::options_in_forcing(), values);
                Ok(Box::new(S::new(&read_options(S::ID, own)?, table, first_frame)?))
            },
            sampler: SamplerFactory::of::<Uniform<S>>,
        }
    }

    /// The id.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// What it is, in a few words.
    pub fn doc(&self) -> &'static str {
        self.doc
    }

    /// Its noise levels, where the user does not ask for others.
    pub fn levels(&self) -> NoiseLevels {
        self.levels
    }

    /// Its own options where all frames move together.
    pub fn options(&self) -> Vec<OptionSpec> {
        (self.options)()
    }

    /// Its own options where frames move at different times.
    pub fn options_in_forcing(&self) -> Vec<OptionSpec> {
        (self.options_in_forcing)()
    }

    /// A solver at the start of `table`, for a sample whose first frame is `first_frame` of the
    /// video. Values of options that are not its own are left alone.
    ///
    /// # Errors
    /// `Invalid` for options that do not fit each other, or a value that is missing.
    pub fn make(
        &self,
        values: &OptionValues,
        table: Arc<SigmaTable>,
        first_frame: u32,
    ) -> Result<Box<dyn Solver>> {
        (self.make)(values, table, first_frame)
    }

    /// The sampler that moves all frames together by it.
    pub(crate) fn sampler(&self) -> SamplerFactory {
        (self.sampler)()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
