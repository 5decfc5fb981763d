//! The result of checking one cache.

use std::fmt;

use crate::property::Property;

/// The findings of all properties for one cache.
#[derive(Debug, Clone)]
pub struct Report {
    /// Id of the cache.
    pub cache: String,
    /// One per property, in the order of [`PROPERTIES`](crate::PROPERTIES).
    pub findings: Vec<Finding>,
}

/// The finding of one property for one cache.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The property.
    pub property: &'static Property,
    /// Cases in which it held.
    pub held: u32,
    /// Cases in which a declared capability exempted the cache.
    pub exempt: u32,
    /// Cases in which the premise was not met.
    pub unmet: u32,
    /// Cases in which the cache refused the options.
    pub refused: u32,
    /// The smallest case found in which the property is violated.
    pub broken: Option<Broken>,
}

/// A case in which a property is violated.
#[derive(Debug, Clone)]
pub struct Broken {
    /// The facts, in one line.
    pub message: String,
    /// The input after shrinking, in debug form.
    pub input: String,
    /// [`Config::seed`](crate::Config::seed) of the run that found it.
    pub seed: u64,
    /// [`Config::cases`](crate::Config::cases) of the run that found it.
    pub cases: u32,
}

impl Report {
    /// The violated properties.
    pub fn broken(&self) -> impl Iterator<Item = (&'static Property, &Broken)> {
        self.findings.iter().filter_map(|f| Some((f.property, f.broken.as_ref()?)))
    }

    /// Whether no property is violated.
    pub fn is_whole(&self) -> bool {
        self.broken().next().is_none()
    }

    /// Properties whose premise no case met, and which do not exempt the cache in every case.
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
