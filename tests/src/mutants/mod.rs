//! Mutants: caches with a planted defect, which the properties must catch.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use wan_host::parts::OpenedPlugin;
use wan_plugin_api::library::Library;
use wan_plugin_kit::{CacheUnderTest, Config, check};

/// Mutants whose names begin so have no defect.
const UNHARMED: &str = "unharmed";

/// As thoroughly as it takes to kill them all. Nobody reads what caught a mutant, so no input is
/// made smaller.
pub fn config() -> Config {
    Config { cases: 48, shrinking: 0, ..Config::default() }
}

/// What the properties found in one cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub cache: String,
    /// What is wrong with it; none of a cache that must pass.
    pub defect: Option<String>,
    /// The properties that do not hold, in their order.
    pub broken: Vec<&'static str>,
    /// What was wrong, where nothing should be.
    pub report: String,
}

impl Outcome {
    /// A mutant that was caught, or a cache that passed.
    pub fn is_good(&self) -> bool {
        self.broken.is_empty() == self.defect.is_none()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, defect, broken, report } = self;
        match (defect, broken.as_slice()) {
            (None, []) => write!(f, "passed    {cache}"),
            (None, _) => write!(f, "FAILED    {cache}\n{report}"),
            (Some(defect), []) => write!(f, "SURVIVED  {cache} ({defect})"),
            (Some(defect), [first]) => write!(f, "killed    {cache} ({defect}) by {first}"),
            (Some(defect), [first, more @ ..]) => {
                write!(f, "killed    {cache} ({defect}) by {first}; also {}", more.join(", "))
            }
        }
    }
}

/// Checks the caches of the plugins, which must pass, and the mutants, which must not; each as soon
/// as it is known to `tell`.
///
/// # Errors
/// If a library cannot be loaded, or one of its caches cannot be made.
pub fn run(
    mutants: &Path,
    plugins: &[PathBuf],
    config: &Config,
    tell: &mut dyn FnMut(&Outcome),
) -> Result<Vec<Outcome>> {
    let mut libraries = open_all(plugins)?;
    let library = open(mutants)?;
    libraries.push(library);
    let planted: Vec<String> = describe(&library)?;
    let subjects = CacheUnderTest::all(&libraries).map_err(|e| anyhow!("{e}"))?;
    let outcome = |subject: &CacheUnderTest| {
        let report = check(subject, config);
        let is_planted = planted.iter().any(|id| id == subject.id());
        let harmed = is_planted && !subject.id().starts_with(UNHARMED);
        let outcome = Outcome {
            cache: subject.id().into(),
            defect: harmed.then(|| subject.doc().trim().into()),
            broken: report.broken().map(|(property, _)| property.name).collect(),
            report: report.to_string(),
        };
        tell(&outcome);
        outcome
    };
    Ok(subjects.iter().map(outcome).collect())
}

/// All caches of these plugins.
///
/// # Errors
/// If a library cannot be loaded, or one of its caches cannot be made.
pub fn subjects(plugins: &[PathBuf]) -> Result<Vec<CacheUnderTest>> {
    CacheUnderTest::all(&open_all(plugins)?).map_err(|e| anyhow!("{e}"))
}

fn open_all(plugins: &[PathBuf]) -> Result<Vec<Library>> {
    plugins.iter().map(|path| open(path)).collect()
}

fn open(path: &Path) -> Result<Library> {
    let opened = OpenedPlugin::open(path, None).context("run `cargo xtask plugins`")?;
    Ok(opened.library)
}

fn describe(library: &Library) -> Result<Vec<String>> {
    let description = library.describe().map_err(|e| anyhow!("{e}"))?;
    Ok(description.caches.into_iter().map(|cache| cache.id).collect())
}

/// The libraries of a profile: the mutants, and all plugins.
///
/// # Errors
/// If they are not built.
pub fn libraries(profile_folder: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let [prefix, suffix] = [std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX];
    let mutants = profile_folder.join("examples").join(format!("{prefix}fixture_mutants{suffix}"));
    let folder = profile_folder.join("plugins");
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("{}: run `cargo xtask plugins`", folder.display()))?;
    let mut plugins = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| suffix.ends_with(&*extension.to_string_lossy()))
        {
            plugins.push(path);
        }
    }
    plugins.sort();
    Ok((mutants, plugins))
}

/// The document that shows what is checked, and by which mutants that is known to work.
pub fn document(outcomes: &[Outcome]) -> String {
    let killed = |property: &str| {
        let mutants = outcomes.iter().filter(|o| o.defect.is_some());
        let caught = mutants.filter(|o| o.broken.contains(&property));
        caught.map(|o| o.cache.clone()).collect()
    };
    let mutants: String = outcomes
        .iter()
        .filter_map(|o| Some(format!("| `{}` | {} |\n", o.cache, o.defect.as_ref()?)))
        .collect();
    include_str!("cache-properties.md.in")
        .replace("{{properties}}", wan_plugin_kit::table(killed).trim_end())
        .replace("{{mutants}}", mutants.trim_end())
}
