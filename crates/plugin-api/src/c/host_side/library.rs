//! A library: its manifest, its tables, and what it says of itself.

use std::ffi::{c_char, c_void};
use std::path::Path;

use serde_json::{Value, json};

use super::cache::CCache;
use super::handles::{self, HOST};
use super::inputs::{GivenOptions, request_to_c, sigmas_to_c, with_context};
use super::sampler::CSampler;
use super::solver::CSolver;
use crate::c::convert::{list, no_error, optional_text, outcome, sized, text};
use crate::c::tables::{
    self, CResult, Cache, DeclaredOption, ENTRY_SYMBOL, Entry, ErrorText, List, Plugin, Sampler,
    Solver,
};
use crate::library::{
    AnyLibrary, CacheInstance, Epoch, Library, OpenError, SamplerInstance, SolverContext,
    SolverInstance, log_line,
};
use crate::manifest::{self, Manifest};
use crate::{
    CacheContext, Error, OptionKind, OptionSpec, OptionValues, PluginDescription, Result,
    SampleRequest, Strategy, epoch1,
};

/// How a library with tables in C is opened.
pub const OPENER: Epoch = Epoch { number: epoch1::NUMBER, flavour: manifest::FLAVOUR_C, open };

fn open(path: &Path, manifest: &Manifest) -> std::result::Result<Library, OpenError> {
    let refused = |summary: String| OpenError { report: summary.clone(), summary };
    // SAFETY: loading runs the library's initialisers, which is what loading a plugin means.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| refused(e.to_string()))?;
    // SAFETY: a symbol of this name is the entry by the interface's rules.
    let entry = unsafe { library.get::<Entry>(ENTRY_SYMBOL).map(|entry| *entry) };
    let entry = entry.map_err(|_| refused(format!("it exports no function {ENTRY_SYMBOL}")))?;
    // Code and tables stay in use until the process ends.
    std::mem::forget(library);
    // SAFETY: the function takes a host.
    let (plugin, mut said) = handles::opening(|| unsafe { entry(&raw const HOST) });
    let why = said.pop_if(|_| plugin.is_null());
    said.iter().for_each(|(level, line)| log_line(*level, line));
    if plugin.is_null() {
        let why = why.map_or_else(|| "without a word".into(), |(_, line)| line);
        return Err(refused(format!("{ENTRY_SYMBOL} gave no plugin: {why}")));
    }
    // SAFETY: the function gives a plugin that stays.
    let opened = unsafe { CLibrary::new(manifest.clone(), plugin) };
    opened.map(Library::new).map_err(|error| refused(error.message))
}

/// A strategy: what it says of itself, and its table.
struct Entered<T: 'static> {
    strategy: Strategy,
    /// A copy, with all members that this host knows.
    table: &'static T,
    /// The library's own, which may be shorter or longer.
    own: *const T,
}

// SAFETY: the header asks for tables that stay as they are for ever.
unsafe impl<T: Sync> Send for Entered<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Entered<T> {}

impl<T> Entered<T> {
    fn find<'a>(list: &'a [Self], what: &str, id: &str) -> Result<&'a Self> {
        let found = list.iter().find(|entered| entered.strategy.id == id);
        found.ok_or_else(|| Error::unsupported(format!("this library has no {what} {id}")))
    }
}

struct CLibrary {
    manifest: Manifest,
    samplers: Vec<Entered<Sampler>>,
    caches: Vec<Entered<Cache>>,
    solvers: Vec<Entered<Solver>>,
}

/// Checks the tables of one kind, each by `$functions`, which must be there.
macro_rules! tables {
    ($list:expr, $what:literal, $($function:ident)*) => {{
        let mut entered = Vec::new();
        // SAFETY: as the caller promises; tables stay for ever.
        for pointer in unsafe { list($list, $what) }? {
            // SAFETY: as above.
            let table = unsafe { sized(pointer, $what) }?;
            // SAFETY: as above.
            let strategy = unsafe {
                strategy($what, [table.id, table.doc], (table.options, table.extensions))
            }?;
            let missing = [$((stringify!($function), table.$function.is_none())),*]
                .into_iter()
                .find(|(_, is_missing)| *is_missing)
                .map(|(name, _)| name)
                .or((!strategy.extensions.is_empty() && table.extension.is_none())
                    .then_some("extension"));
            if let Some(name) = missing {
                let id = &strategy.id;
                return Err(Error::failed(format!("{} {id}: its function {name} is NULL", $what)));
            }
            entered.push(Entered { strategy, table: Box::leak(Box::new(table)), own: pointer });
        }
        entered
    }};
}

impl CLibrary {
    /// Reads and checks the tables of a plugin.
    ///
    /// # Safety
    /// `plugin` is NULL or as the header says, and stays for ever.
    unsafe fn new(manifest: Manifest, plugin: *const Plugin) -> Result<Self> {
        // SAFETY: promised by the caller.
        let plugin = unsafe { sized(plugin, "what wan_plugin_entry gave") }?;
        let samplers = tables!(plugin.samplers, "sampler", create schedule step destroy);
        let caches = tables!(plugin.caches, "cache", create plan decide store destroy);
        let solvers = tables!(plugin.solvers, "solver", create step destroy);
        Ok(Self { manifest, samplers, caches, solvers })
    }
}

/// What a table says of its strategy.
///
/// # Safety
/// Pointers are NULL or as the header says.
unsafe fn strategy(
    what: &str,
    [id, doc]: [*const c_char; 2],
    (options, extensions): (List<DeclaredOption>, List<c_char>),
) -> Result<Strategy> {
    // SAFETY: promised by the caller, as are the others.
    let id = unsafe { text(id, &format!("id of a {what}")) }?;
    let of = |part: &str| format!("{what} {id}, {part}");
    // SAFETY: as above.
    let doc = unsafe { text(doc, &of("doc")) }?;
    let mut specs = Vec::new();
    // SAFETY: as above.
    for pointer in unsafe { list(options, &of("options")) }? {
        // SAFETY: as above.
        specs.push(unsafe { option(pointer, &of("option")) }?);
    }
    let mut ids = Vec::new();
    // SAFETY: as above.
    for pointer in unsafe { list(extensions, &of("extensions")) }? {
        // SAFETY: as above.
        ids.push(unsafe { text(pointer, &of("extension")) }?);
    }
    Ok(Strategy { id, doc, options: specs, extensions: ids })
}

/// # Safety
/// As [`strategy`].
unsafe fn option(pointer: *const DeclaredOption, what: &str) -> Result<OptionSpec> {
    // SAFETY: promised by the caller, as are the others.
    let declared = unsafe { sized(pointer, what) }?;
    // SAFETY: as above.
    let name = unsafe { text(declared.name, what) }?;
    let wrong = |why: String| Error::failed(format!("{what} {name}: {why}"));
    let mut words = Vec::new();
    // SAFETY: as above.
    for word in unsafe { list(declared.choices, what) }? {
        // SAFETY: as above.
        words.push(unsafe { text(word, what) }?);
    }
    let (kind, none) = match declared.kind {
        tables::BOOL => (OptionKind::Bool, json!(false)),
        tables::INT => {
            let whole = |number: f64| -> Result<i64> {
                let fits = number.trunc() == number && number.abs() < 9e15;
                #[allow(clippy::cast_possible_truncation, reason = "looked at")]
                if fits {
                    Ok(number as i64)
                } else {
                    Err(wrong(format!("{number} is no whole number")))
                }
            };
            let (min, max) = (whole(declared.min)?, whole(declared.max)?);
            (OptionKind::Int { min, max }, json!(min))
        }
        tables::FLOAT => {
            let (min, max) = (declared.min, declared.max);
            (OptionKind::Float { min, max }, json!(min))
        }
        tables::CHOICE => {
            let first = words.first().ok_or_else(|| wrong("it has no choices".into()))?;
            let first = json!(first);
            (OptionKind::Choice(words), first)
        }
        tables::FLOAT_LIST => (OptionKind::FloatList, json!([])),
        tables::DOCUMENT => (OptionKind::Document, Value::Null),
        other => return Err(wrong(format!("there is no kind {other} of option"))),
    };
    // SAFETY: as above.
    let default = match unsafe { optional_text(declared.initial, what) }? {
        Some(written) => serde_json::from_str(&written)
            .map_err(|e| wrong(format!("its default {written} is no JSON: {e}")))?,
        None => none,
    };
    // SAFETY: as above.
    let doc = unsafe { text(declared.doc, what) }?;
    // SAFETY: as above.
    let flag = unsafe { optional_text(declared.flag, what) }?;
    Ok(OptionSpec { name: name.clone(), kind, default, doc, flag })
}

fn strategies<T>(entered: &[Entered<T>]) -> Vec<Strategy> {
    entered.iter().map(|entered| entered.strategy.clone()).collect()
}

/// The object that a table's `create` makes.
fn made(create: impl FnOnce(*mut *mut c_void, *mut ErrorText) -> CResult) -> Result<*mut c_void> {
    let (mut object, mut error) = (std::ptr::null_mut(), no_error());
    outcome(create(&raw mut object, &raw mut error), &error)?;
    Ok(object)
}

impl AnyLibrary for CLibrary {
    fn describe(&self) -> Result<PluginDescription> {
        let Manifest { name, version, licence, .. } = self.manifest.clone();
        let (samplers, caches, solvers) =
            (strategies(&self.samplers), strategies(&self.caches), strategies(&self.solvers));
        Ok(PluginDescription { name, version, licence, samplers, caches, solvers })
    }

    fn create_sampler(
        &self,
        id: &str,
        options: &OptionValues,
        request: &SampleRequest,
    ) -> Result<SamplerInstance> {
        let Entered { table, own, .. } = Entered::find(&self.samplers, "sampler", id)?;
        let (given, request) = (GivenOptions::new(options)?, request_to_c(request));
        let (Some(create), Some(destroy)) = (table.create, table.destroy) else { unreachable!() };
        // SAFETY: everything lives until it returns.
        let object = made(|object, error| unsafe {
            create(*own, &given.table(), &raw const request, object, error)
        })?;
        Ok(Box::new(CSampler::new(id, table, (object, destroy))))
    }

    fn create_cache(
        &self,
        id: &str,
        options: &OptionValues,
        context: &CacheContext,
    ) -> Result<CacheInstance> {
        let Entered { table, own, .. } = Entered::find(&self.caches, "cache", id)?;
        let given = GivenOptions::new(options)?;
        let (Some(create), Some(destroy)) = (table.create, table.destroy) else { unreachable!() };
        let object = with_context(context, |context| {
            // SAFETY: everything lives until it returns.
            made(|object, error| unsafe { create(*own, &given.table(), context, object, error) })
        })?;
        Ok(Box::new(CCache::new(id, table, (object, destroy))?))
    }

    fn create_solver(
        &self,
        id: &str,
        options: &OptionValues,
        context: &SolverContext<'_>,
    ) -> Result<SolverInstance> {
        let Entered { table, own, .. } = Entered::find(&self.solvers, "solver", id)?;
        let (given, sigmas) = (GivenOptions::new(options)?, sigmas_to_c(context));
        let (Some(create), Some(destroy)) = (table.create, table.destroy) else { unreachable!() };
        // SAFETY: everything lives until it returns.
        let object = made(|object, error| unsafe {
            create(*own, &given.table(), &raw const sigmas, object, error)
        })?;
        Ok(Box::new(CSolver::new(id, table, (object, destroy))))
    }
}
