//! What came of the properties of one cache.

use std::fmt;

use crate::Property;

/// What came of all properties of one cache.
#[derive(Debug, Clone)]
pub struct Report {
    /// Id of the cache.
    pub cache: String,
    /// One for each property, in their order.
    pub findings: Vec<Finding>,
}

/// What came of one property.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Which.
    pub property: &'static Property,
    /// Cases in which it held.
    pub held: u32,
    /// Cases in which a declared capability exempted the cache.
    pub exempt: u32,
    /// Cases in which the premise was not met.
    pub unmet: u32,
    /// Cases in which the cache refused the options.
    pub refused: u32,
    /// The smallest case in which it did not hold.
    pub broken: Option<Broken>,
}

/// A case in which a property did not hold.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What was wrong.
    pub message: String,
    /// The input, made as small as it could be.
    pub input: String,
    /// Seed that finds it again: [`Config::seed`](crate::Config::seed).
    pub seed: u64,
    /// As many cases find it with that seed: [`Config::cases`](crate::Config::cases).
    pub cases: u32,
}

impl Report {
    /// The properties that do not hold.
    pub fn broken(&self) -> impl Iterator<Item = (&'static Property, &Broken)> {
        self.findings.iter().filter_map(|f| Some((f.property, f.broken.as_ref()?)))
    }

    /// Whether all hold.
    pub fn is_whole(&self) -> bool {
        self.broken().next().is_none()
    }

    /// The properties that no case reached, though nothing exempts the cache from them always.
    pub fn untested(&self) -> impl Iterator<Item = &'static Property> {
        let idle = |f: &&Finding| f.broken.is_none() && f.held == 0 && f.unmet > 0;
        self.findings.iter().filter(idle).map(|f| f.property)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let Finding { property, held, exempt, unmet, refused, broken } = finding;
            write!(f, "{} {}: ", self.cache, property.name)?;
            match broken {
                None => {
                    writeln!(f, "held {held}, exempt {exempt}, unmet {unmet}, refused {refused}")?
                }
                Some(Broken { message, input, seed, cases }) => {
                    writeln!(f, "BROKEN: {}", property.statement)?;
                    writeln!(
                        f,
                        "  {message}\n  with {input}\n  again with Config {{ seed: {seed}, cases: {cases}, .. }}"
                    )?;
                }
            }
        }
        Ok(())
    }
}
