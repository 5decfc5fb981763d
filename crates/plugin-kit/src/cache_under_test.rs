//! The cache under test.

use wan_plugin_api::library::{CacheInstance, Library};
use wan_plugin_api::options::complete;
use wan_plugin_api::{CacheContext, Error, OptionKind, OptionSpec, OptionValues, Result, Strategy};

use crate::fake_model::FakeModel;
use crate::levels::side_by_side;
use crate::script::Script;

/// One cache of a library, loaded from a file or built in, and the options it is checked with.
#[derive(Debug, Clone)]
pub struct CacheUnderTest {
    library: Library,
    strategy: Strategy,
    base: OptionValues,
    full_width: Option<Box<CacheUnderTest>>,
}

impl CacheUnderTest {
    /// The cache `id`. Its base options are the defaults. Where the defaults are refused (they name
    /// a published table, and there is none for the fake model), one choice option takes another
    /// word.
    ///
    /// # Errors
    /// `Unsupported` if the library has no such cache; otherwise the refusal of the defaults.
    pub fn new(library: Library, id: &str) -> Result<Self> {
        let strategy = library.describe()?.caches.into_iter().find(|s| s.id == id);
        let strategy = strategy.ok_or_else(|| Error::unsupported(format!("no cache {id}")))?;
        let base = complete(id, &strategy.options, &OptionValues::new())?;
        let mut cache = Self { library, strategy, base, full_width: None };
        cache.base = cache.accepted_base()?;
        Ok(cache)
    }

    /// All caches of these libraries. A half-width cache knows the full-width one.
    ///
    /// # Errors
    /// If one of them cannot be made.
    pub fn all(libraries: &[Library]) -> Result<Vec<Self>> {
        let mut caches = Vec::new();
        for library in libraries {
            for strategy in library.describe()?.caches {
                caches.push(Self::new(*library, &strategy.id)?);
            }
        }
        let originals = caches.clone();
        for cache in &mut caches {
            let context = plain_script().context();
            let half_of = cache.create(&cache.base, &context)?.plan().rule.half_of.clone();
            let full_width = half_of.and_then(|h| originals.iter().find(|s| s.id() == h.cache));
            cache.full_width = full_width.cloned().map(Box::new);
        }
        Ok(caches)
    }

    /// The same cache with one base option changed.
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.base.insert(name.into(), value.into());
        self
    }

    /// Id of the cache.
    pub fn id(&self) -> &str {
        &self.strategy.id
    }

    /// The cache's line in `wan plugins list`.
    pub fn doc(&self) -> &str {
        &self.strategy.doc
    }

    /// The full-width cache of which this one is the half-width variant.
    pub fn full_width(&self) -> Option<&Self> {
        self.full_width.as_deref()
    }

    /// Ids of the extensions that it lists.
    pub fn extensions(&self) -> &[String] {
        &self.strategy.extensions
    }

    /// The options that it takes.
    pub fn specs(&self) -> &[OptionSpec] {
        &self.strategy.options
    }

    /// Complete options: random options are drawn around these.
    pub fn base(&self) -> &OptionValues {
        &self.base
    }

    /// Makes a cache object. Options that the cache does not take are left out.
    ///
    /// # Errors
    /// The error of the cache: `Invalid` for options that cannot work in this context.
    pub fn create(&self, options: &OptionValues, context: &CacheContext) -> Result<CacheInstance> {
        let is_known = |name: &str| self.strategy.options.iter().any(|s| s.name == name);
        let known = options.iter().filter(|(name, _)| is_known(name));
        let known = known.map(|(name, value)| (name.clone(), value.clone())).collect();
        self.library.create_cache(&self.strategy.id, &known, context)
    }

    /// The defaults, or the defaults with the first word of a choice option that makes them
    /// accepted.
    fn accepted_base(&self) -> Result<OptionValues> {
        let context = plain_script().context();
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

/// Two frames, twelve evaluations, no special case.
fn plain_script() -> Script {
    Script::new(side_by_side(2, 12, 10.0), FakeModel::new(0))
}
