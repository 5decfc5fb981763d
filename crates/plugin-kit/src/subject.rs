//! The cache that is checked.

use wan_plugin_api::library::{CacheInstance, Library};
use wan_plugin_api::options::complete;
use wan_plugin_api::{CacheContext, Error, OptionKind, OptionSpec, OptionValues, Result, Strategy};

use crate::drive::Script;
use crate::levels::side_by_side;
use crate::world::World;

/// A cache of a library, loaded or built in.
#[derive(Debug, Clone)]
pub struct Subject {
    library: Library,
    strategy: Strategy,
    base: OptionValues,
    original: Option<Box<Subject>>,
}

impl Subject {
    /// The cache called `id`. Its options are the defaults; where those are refused (a published
    /// table that the small model has not got), the nearest that are not.
    ///
    /// # Errors
    /// If the library has no such cache, or none of its options makes one.
    pub fn new(library: Library, id: &str) -> Result<Self> {
        let strategy = library.describe()?.caches.into_iter().find(|s| s.id == id);
        let strategy = strategy.ok_or_else(|| Error::unsupported(format!("no cache {id}")))?;
        let base = complete(id, &strategy.options, &OptionValues::new())?;
        let mut subject = Self { library, strategy, base, original: None };
        subject.base = subject.accepted_base()?;
        Ok(subject)
    }

    /// All caches of these libraries, each beside the one that it is the half of.
    ///
    /// # Errors
    /// If one of them cannot be made.
    pub fn all(libraries: &[Library]) -> Result<Vec<Self>> {
        let mut subjects = Vec::new();
        for library in libraries {
            for strategy in library.describe()?.caches {
                subjects.push(Self::new(*library, &strategy.id)?);
            }
        }
        let originals = subjects.clone();
        for subject in &mut subjects {
            let context = trial_script().context();
            let half_of = subject.create(&subject.base, &context)?.plan().rule.half_of.clone();
            let original = half_of.and_then(|h| originals.iter().find(|s| s.id() == h.cache));
            subject.original = original.cloned().map(Box::new);
        }
        Ok(subjects)
    }

    /// The same with an option at another value, where none is drawn at random.
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.base.insert(name.into(), value.into());
        self
    }

    /// The same beside the cache that it is the half of.
    pub fn beside(mut self, original: Self) -> Self {
        self.original = Some(Box::new(original));
        self
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.strategy.id
    }

    /// Its line in a list.
    pub fn doc(&self) -> &str {
        &self.strategy.doc
    }

    /// The cache that it is the half of.
    pub fn original(&self) -> Option<&Self> {
        self.original.as_deref()
    }

    /// The extensions that it answers.
    pub fn extensions(&self) -> &[String] {
        &self.strategy.extensions
    }

    /// What it can be told.
    pub fn specs(&self) -> &[OptionSpec] {
        &self.strategy.options
    }

    /// The options that it is checked at before random ones.
    pub fn base(&self) -> &OptionValues {
        &self.base
    }

    /// An object of it. Options that it does not have are left out.
    ///
    /// # Errors
    /// What the cache says of its options.
    pub fn create(&self, options: &OptionValues, context: &CacheContext) -> Result<CacheInstance> {
        let is_known = |name: &str| self.strategy.options.iter().any(|s| s.name == name);
        let known = options.iter().filter(|(name, _)| is_known(name));
        let known = known.map(|(name, value)| (name.clone(), value.clone())).collect();
        self.library.create_cache(&self.strategy.id, &known, context)
    }

    /// The defaults, or the first change of one word that makes them acceptable.
    fn accepted_base(&self) -> Result<OptionValues> {
        let context = trial_script().context();
        let refusal = match self.create(&self.base, &context) {
            Ok(_) => return Ok(self.base.clone()),
            Err(refusal) => refusal,
        };
        for spec in &self.strategy.options {
            let OptionKind::Choice(words) = &spec.kind else { continue };
            for word in words {
                let mut options = self.base.clone();
                options.insert(spec.name.clone(), word.as_str().into());
                if self.create(&options, &context).is_ok() {
                    return Ok(options);
                }
            }
        }
        Err(refusal)
    }
}

/// Any stream that is no special case.
fn trial_script() -> Script {
    Script::new(side_by_side(2, 12, 10.0), World::new(0))
}
