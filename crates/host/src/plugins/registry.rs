//! Strategies by id. One way in, whether built in or loaded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use wan_border::files::{self, Content};
use wan_plugin_api::library::{
    Border, CacheInstance, EPOCHS, Epoch, Library, SamplerInstance, inside,
};
use wan_plugin_api::manifest::CURRENT_EPOCH;
use wan_plugin_api::options::{self, did_you_mean};
use wan_plugin_api::{
    CacheContext, OptionKind, OptionSpec, OptionValues, Plugin, PluginDescription, SampleRequest,
    Strategy,
};

use crate::error::{Error, Result};
use crate::path_text;
use crate::plugins::allow_list::AllowList;
use crate::plugins::choice::StrategyChoice;
use crate::plugins::folders;
use crate::plugins::kind::Kind;
use crate::plugins::lent_solvers::LentSolvers;
use crate::plugins::loader::{OpenedPlugin, libraries_in};

/// Where a plugin came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The file; none for what is built in.
    #[serde(serialize_with = "path_text::optional")]
    pub path: Option<PathBuf>,
    /// SHA-256 of the file.
    pub hash: Option<String>,
}

/// A plugin in the registry.
#[derive(Debug)]
pub struct Registered {
    /// What it says of itself.
    pub description: PluginDescription,
    /// Where it came from.
    pub source: Source,
    /// Interface epoch that it speaks.
    pub epoch: u32,
    library: Library,
}

/// All strategies that can be named.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    plugins: Vec<Arc<Registered>>,
    /// Epochs that this program does not speak by itself.
    more_epochs: Vec<Epoch>,
    /// The flavour in which libraries of several are opened; none: the one that lasts.
    flavour: Option<u32>,
    allowed: Option<AllowList>,
    reserved_flags: BTreeSet<String>,
    border: Option<Arc<dyn Border>>,
}

/// A strategy, its plugin and its complete options.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The strategy.
    pub strategy: Strategy,
    /// Its plugin.
    pub plugin: Arc<Registered>,
    /// Every option with its value.
    pub options: OptionValues,
    solvers: LentSolvers,
}

impl Registry {
    /// The strategies that are linked into this program.
    ///
    /// # Errors
    /// If two of them share an id.
    pub fn built_in() -> Result<Self> {
        let mut registry = Self::default();
        registry.add_built_in::<wan_samplers::BuiltIn>()?;
        Ok(registry)
    }

    /// What may be loaded and how, and no strategy.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self { plugins: Vec::new(), ..self.clone() }
    }

    /// Adds a plugin that is linked into this program.
    ///
    /// # Errors
    /// If one of its ids is taken.
    pub fn add_built_in<P: Plugin>(&mut self) -> Result<()> {
        self.add(Library::built_in::<P>(), Source { path: None, hash: None }, CURRENT_EPOCH)
    }

    /// From now on opens libraries of this epoch too, after those of the program's own.
    pub fn speak(&mut self, epoch: Epoch) {
        self.more_epochs.push(epoch);
    }

    /// From now on opens a library that has this flavour in it, whatever others it has: for
    /// comparisons of the two.
    pub fn prefer(&mut self, flavour: u32) {
        self.flavour = Some(flavour);
    }

    /// From now on loads what this list names, and nothing else.
    pub fn allow_only(&mut self, list: AllowList) {
        self.allowed = Some(list);
    }

    /// From now on refuses libraries whose options ask for one of these flags, without dashes: the
    /// program has them.
    pub fn reserve_flags(&mut self, flags: BTreeSet<String>) {
        self.reserved_flags = flags;
    }

    /// From now on has `border` see every call into a library that did not come with the program.
    pub fn watch(&mut self, border: Arc<dyn Border>) {
        self.border = Some(border);
    }

    /// What may be loaded; none: everything.
    pub fn allowed(&self) -> Option<&AllowList> {
        self.allowed.as_ref()
    }

    /// Loads a library and adds what it offers.
    ///
    /// # Errors
    /// If it is refused, or one of its ids is taken.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let mut epochs = [EPOCHS, &self.more_epochs].concat();
        epochs.sort_by_key(|epoch| self.flavour.is_some_and(|flavour| epoch.flavour != flavour));
        let open = || OpenedPlugin::open_as(path, self.allowed.as_ref(), &epochs);
        let border = self.border.clone().filter(|_| !folders::is_own(path));
        let name = path.display().to_string();
        let opened = border.as_ref().map_or_else(open, |border| inside(&**border, &name, open))?;
        let library = match border {
            Some(border) => opened.library.watched(&name, border),
            None => opened.library,
        };
        let source = Source { path: Some(opened.path), hash: Some(opened.hash) };
        self.add(library, source, opened.manifest.epoch)
    }

    /// The libraries that [`add_folders`](Self::add_folders) loads: those in these folders, and
    /// those in the standard ones.
    ///
    /// # Errors
    /// If a folder is not there or cannot be listed.
    pub fn libraries(named: &[PathBuf]) -> Result<[Vec<PathBuf>; 2]> {
        let in_all = |folders: &[PathBuf]| {
            let lists: Result<Vec<_>> = folders.iter().map(|folder| libraries_in(folder)).collect();
            lists.map(|lists| lists.concat())
        };
        Ok([in_all(named)?, in_all(&folders::standard())?])
    }

    /// Whether a library came with the program: it lies in the folder beside it.
    pub fn is_own(library: &Path) -> bool {
        folders::is_own(library)
    }

    /// Loads every library of the folders that the user named, and of the standard ones.
    ///
    /// A library that is found twice is loaded once. One in a standard folder that is refused is
    /// named in a warning and left out: a stale file there must not stop every run.
    ///
    /// # Errors
    /// If a named folder is not there, or a library in it is refused.
    pub fn add_folders(&mut self, named: &[PathBuf]) -> Result<()> {
        let [named, standard] = Self::libraries(named)?;
        named.iter().try_for_each(|path| self.add_file_once(path))?;
        standard.iter().for_each(|path| self.add_or_leave_out(path));
        Ok(())
    }

    /// Loads the libraries that came with the program, but for `except`, by its place or its
    /// SHA-256.
    ///
    /// # Errors
    /// If the folder is there and cannot be listed.
    pub fn add_own_folder(&mut self, except: (&Path, &str)) -> Result<()> {
        for path in folders::own().map_or(Ok(Vec::new()), |folder| libraries_in(&folder))? {
            let is_it = OpenedPlugin::identify(&path, None)
                .is_ok_and(|(path, hash)| path == except.0 || hash == except.1);
            if !is_it {
                self.add_or_leave_out(&path);
            }
        }
        Ok(())
    }

    fn add_or_leave_out(&mut self, path: &Path) {
        if let Err(error) = self.add_file_once(path) {
            tracing::warn!("left out: {error}");
        }
    }

    /// Loads every library of the folders that the user named.
    ///
    /// # Errors
    /// If a folder is not there, or a library in it is refused.
    pub(crate) fn add_named_folders(&mut self, named: &[PathBuf]) -> Result<()> {
        for folder in named {
            for path in libraries_in(folder)? {
                self.add_file_once(&path)?;
            }
        }
        Ok(())
    }

    /// As [`add_file`](Self::add_file), unless the library is there already.
    ///
    /// # Errors
    /// As there.
    pub fn add_file_once(&mut self, path: &Path) -> Result<()> {
        let path = path.canonicalize().map_err(Error::io(path))?;
        let is_known = self.plugins.iter().any(|p| p.source.path.as_ref() == Some(&path));
        if is_known { Ok(()) } else { self.add_file(&path) }
    }

    fn add(&mut self, library: Library, source: Source, epoch: u32) -> Result<()> {
        let place = source.path.as_deref().map_or("built in".into(), |p| p.display().to_string());
        let refuse = |why: String| Error::library(&place, why);
        // Whatever it says, it says it of itself, and nobody asked it anything.
        let (library, description) =
            Self::offered(library).map_err(|error| refuse(error.message))?;
        description.check_names().map_err(|error| refuse(error.message))?;
        for kind in Kind::ALL {
            for strategy in kind.of(&description) {
                self.check_free(kind, strategy).map_err(refuse)?;
            }
        }
        self.plugins.push(Arc::new(Registered { description, source, epoch, library }));
        Ok(())
    }

    /// What a library offers, with a sampler for each of its solvers.
    ///
    /// # Errors
    /// The error of the library.
    pub fn offered(library: Library) -> wan_plugin_api::Result<(Library, PluginDescription)> {
        wan_samplers::offered(library)
    }

    /// Why a strategy cannot be offered beside those that are there.
    fn check_free(&self, kind: Kind, strategy: &Strategy) -> std::result::Result<(), String> {
        let taken = self.taken_id(kind, strategy).or_else(|| self.taken_flag(strategy));
        if let Some(taken) = taken {
            return Err(taken);
        }
        for option in &strategy.options {
            let of = |error| format!("the default of {}'s {error}", strategy.id);
            option.check(&option.default).map_err(of)?;
        }
        Ok(())
    }

    /// Who has the id of a strategy already, in words.
    pub fn taken_id(&self, kind: Kind, strategy: &Strategy) -> Option<String> {
        let other = self.plugin_of(kind, &strategy.id)?.source.path.as_deref();
        Some(format!(
            "{} {} is already provided by {}; remove one of the two",
            kind.word(),
            strategy.id,
            other.map_or("this program".into(), |path| path.display().to_string())
        ))
    }

    /// Which flag of the program an option of a strategy asks for, in words.
    pub fn taken_flag(&self, strategy: &Strategy) -> Option<String> {
        let flags = strategy.options.iter().filter_map(|o| Some((o, o.flag.as_ref()?)));
        let (option, flag) = flags.into_iter().find(|(_, f)| self.reserved_flags.contains(*f))?;
        Some(format!(
            "option {} of {} asks for the flag --{flag}, which is the program's own",
            option.name, strategy.id
        ))
    }

    /// The plugins, in the order in which they were added.
    pub fn plugins(&self) -> impl Iterator<Item = &Registered> {
        self.plugins.iter().map(|plugin| &**plugin)
    }

    /// All strategies of a kind.
    pub fn strategies(&self, kind: Kind) -> impl Iterator<Item = &Strategy> {
        self.plugins.iter().flat_map(move |p| kind.of(&p.description))
    }

    fn plugin_of(&self, kind: Kind, id: &str) -> Option<&Arc<Registered>> {
        self.plugins.iter().find(|p| kind.of(&p.description).iter().any(|s| s.id == id))
    }

    /// A strategy by id, with its options completed and checked.
    ///
    /// # Errors
    /// For an unknown id (with the nearest), an unknown option or a value out of range.
    pub fn choose(&self, kind: Kind, id: &str, given: &OptionValues) -> Result<Chosen> {
        let plugin = self.plugin_of(kind, id).ok_or_else(|| {
            let known = self.strategies(kind).map(|s| s.id.as_str());
            Error::invalid(format!("there is no {} {id}{}", kind.word(), did_you_mean(id, known)))
        })?;
        let strategy = kind
            .of(&plugin.description)
            .iter()
            .find(|s| s.id == id)
            .ok_or_else(|| Error::invalid(format!("there is no {} {id}", kind.word())))?;
        let solvers = self.plugins().flat_map(|plugin| &plugin.description.solvers);
        let solvers = LentSolvers(solvers.map(|solver| solver.id.clone()).collect());
        let options = options::complete(id, &strategy.options, given)
            .map_err(|error| Error::invalid(solvers.instead_of(error, given).message))?;
        Ok(Chosen { strategy: strategy.clone(), plugin: plugin.clone(), options, solvers })
    }
}

impl Chosen {
    /// Its id, and every option with its value.
    pub(crate) fn choice(&self) -> StrategyChoice {
        StrategyChoice { id: self.strategy.id.clone(), options: self.options.clone() }
    }

    /// An error in what it does: its own fault where nobody has chosen an option of it, else the
    /// caller's.
    pub(crate) fn blame(&self, error: Error) -> Error {
        let is_default = |spec: &OptionSpec| self.options.get(&spec.name) == Some(&spec.default);
        if self.strategy.options.iter().all(is_default) {
            let failed = wan_plugin_api::Error::failed(error.to_string());
            return Error::strategy(&self.strategy.id)(failed);
        }
        error
    }

    /// The option that `name` may stand for, with its value as it was written; of a document, with
    /// what the file of that name holds.
    ///
    /// # Errors
    /// For an unknown option, a value out of range, or a file that cannot be read or holds no JSON
    /// object.
    pub fn read_option(&self, name: &str, written: &str) -> Result<(String, Value)> {
        let invalid = |error: wan_plugin_api::Error| Error::invalid(error.message);
        let (id, specs) = (&self.strategy.id, &self.strategy.options);
        let spec = options::find(id, specs, name.trim()).map_err(invalid)?;
        let name = spec.name.clone();
        if spec.kind != OptionKind::Document {
            let instead = |error| self.solvers.instead(error, &name, written.trim());
            let value = spec.parse(written).map_err(instead).map_err(invalid)?;
            return Ok((name, value));
        }
        let document = files::text(Path::new(written), Content::Report)
            .map_err(|e| Error::invalid(format!("option {name}: {e}")))?;
        let value = spec.parse(&document).map_err(|error| {
            let why = error.message;
            Error::invalid(format!("option {name}: {written} does not hold a JSON object: {why}"))
        })?;
        Ok((name, value))
    }

    /// Makes the sampler.
    ///
    /// # Errors
    /// What the sampler says against the request.
    pub fn sampler(&self, request: &SampleRequest) -> Result<SamplerInstance> {
        let id = &self.strategy.id;
        self.plugin.library.create_sampler(id, &self.options, request).map_err(Error::strategy(id))
    }

    /// Makes a cache.
    ///
    /// # Errors
    /// What the cache says against the context.
    pub fn cache(&self, context: &CacheContext) -> Result<CacheInstance> {
        let id = &self.strategy.id;
        self.plugin.library.create_cache(id, &self.options, context).map_err(Error::strategy(id))
    }
}
