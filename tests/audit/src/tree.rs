//! The sources: where mutants can go, and a copy that has them all, each behind a switch.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::groups::{GROUPS, Group};
use crate::list::{Form, Mutant};
use crate::sites::{Site, sites};

/// Sites of every file of the groups.
pub(crate) struct Tree {
    root: PathBuf,
    sources: BTreeMap<String, (String, Vec<Site>)>,
}

/// Sources with mutants, and where in them each mutant stands.
#[derive(Default)]
pub(crate) struct Planted {
    pub(crate) files: BTreeMap<String, String>,
    /// File, bytes of the mutant, bytes of its function.
    pub(crate) places: BTreeMap<u32, (String, Range<usize>, Range<usize>)>,
}

impl Tree {
    /// Reads the sources of a checkout.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut sources = BTreeMap::new();
        let folders: Vec<&str> = GROUPS.iter().flat_map(|g| g.folders).copied().collect();
        for folder in folders {
            for path in files_under(&root.join(folder))? {
                let name = relative(root, &path);
                if !name.ends_with(".rs") || !GROUPS.iter().any(|g| g.holds(&name)) {
                    continue;
                }
                let source = fs::read_to_string(&path).with_context(|| name.clone())?;
                let found = sites(&source).with_context(|| name.clone())?;
                sources.insert(name, (source, found));
            }
        }
        Ok(Self { root: root.to_path_buf(), sources })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Files of a group with their line counts and sites.
    pub(crate) fn files<'t>(
        &'t self,
        group: &'t Group,
    ) -> impl Iterator<Item = (&'t str, usize, &'t [Site])> {
        let of_group = self.sources.iter().filter(|(name, _)| group.holds(name));
        of_group.map(|(name, (text, sites))| (name.as_str(), text.lines().count(), &sites[..]))
    }

    /// Which of the equal sites of its function a site is.
    pub(crate) fn place_of(&self, file: &str, site: &Site) -> usize {
        let same = self.sources[file].1.iter().filter(|s| is_same(s, site));
        same.take_while(|s| s.range != site.range).count()
    }

    /// The site of a mutant: where the list says, or in the one other function of the same name
    /// that has it.
    fn find(&self, mutant: &Mutant) -> Result<(&str, Site)> {
        if let Some((name, (source, sites))) = self.sources.get_key_value(&mutant.file) {
            let here = sites.iter().filter(|s| s.function == mutant.function);
            let function = here.clone().next();
            let mut fitting = here.filter(|site| mutant.fits(site));
            let nth = fitting.clone().nth(mutant.place);
            if let Some(site) = nth.or_else(|| fitting.next_back()) {
                return Ok((name, site.clone()));
            }
            if let Some(site) = function.and_then(|function| by_text(source, function, mutant)) {
                return Ok((name, site));
            }
        }
        let short = |function: &str| function.rsplit("::").next().unwrap_or_default().to_string();
        let wanted = short(&mutant.function);
        let mut moved = self.sources.iter().flat_map(|(name, (_, sites))| {
            let found = sites.iter().filter(|s| short(&s.function) == wanted);
            found.filter(|site| mutant.fits(site)).map(move |site| (name.as_str(), site.clone()))
        });
        match (moved.next(), moved.next()) {
            (Some(found), None) => Ok(found),
            (found, _) => bail!(
                "mutant {}: `{}` is {} {}: {}; write its new place into the list",
                mutant.id,
                mutant.original,
                if found.is_some() { "in several places beside" } else { "no longer in" },
                mutant.file,
                mutant.function
            ),
        }
    }

    /// The sources with these mutants.
    ///
    /// # Errors
    /// If one of them has no place any more, or one where its mistake is no Rust.
    pub(crate) fn plant(&self, mutants: &[&Mutant]) -> Result<Planted> {
        let mut by_file: BTreeMap<&str, Vec<(u32, Site)>> = BTreeMap::new();
        let mut lost = Vec::new();
        for mutant in mutants {
            match self.find(mutant) {
                Ok((file, site)) => by_file.entry(file).or_default().push((mutant.id, site)),
                Err(error) => lost.push(error.to_string()),
            }
        }
        let mut planted = Planted::default();
        for (file, mut sites) in by_file {
            sites.sort_by_key(|(_, site)| site.range.start);
            let (text, places) = rewrite(&self.sources[file].0, &sites);
            if let Err(error) = syn::parse_file(&text) {
                let ids: Vec<_> = sites.iter().map(|(id, _)| id.to_string()).collect();
                lost.push(format!("{file} with mutants {} is no Rust: {error}", ids.join(", ")));
            }
            planted.files.insert(file.into(), text);
            for (id, mutant, function) in places {
                planted.places.insert(id, (file.into(), mutant, function));
            }
        }
        if !lost.is_empty() {
            bail!("{}", lost.join("\n"));
        }
        Ok(planted)
    }
}

/// A place that is no site of the draw: whatever stands in the function once.
fn by_text(source: &str, function: &Site, mutant: &Mutant) -> Option<Site> {
    let body = &source[function.function_range.clone()];
    let at = match mutant.form {
        // Behind the brace.
        Form::Body => 1,
        _ => {
            let mut places = body.match_indices(&mutant.original);
            places.next().filter(|_| places.next().is_none())?.0
        }
    };
    let start = function.function_range.start + at;
    let range = start..start + mutant.original.len();
    let (form, original, mutated) = (mutant.form, mutant.original.clone(), mutant.mutated.clone());
    Some(Site { form, range, original, mutated, ..function.clone() })
}

fn is_same(a: &Site, b: &Site) -> bool {
    (a.form, &a.function, &a.original, &a.mutated) == (b.form, &b.function, &b.original, &b.mutated)
}

/// Number, bytes of the mutant, bytes of its function; both in the new text.
type Place = (u32, Range<usize>, Range<usize>);

/// A source with switches; the sites are in order and do not overlap.
fn rewrite(source: &str, sites: &[(u32, Site)]) -> (String, Vec<Place>) {
    let (mut text, mut places, mut from) = (String::new(), Vec::new(), 0);
    for (id, site) in sites {
        text.push_str(&source[from..site.range.start]);
        let on = format!("::wan_mutant_switch::on({id})");
        let (original, mutated) = (&site.original, &site.mutated);
        let start = text.len();
        text.push_str(&match site.form {
            Form::Expression => format!("(if {on} {{ {mutated} }} else {{ {original} }})"),
            Form::Statement => format!("if !{on} {{ {original} }}"),
            Form::Body => format!(" if {on} {{ {mutated} }}"),
        });
        places.push((*id, start..text.len(), site.function_range.clone()));
        from = site.range.end;
    }
    text.push_str(&source[from..]);
    // What was put in before a function moved it, and what was put into it made it longer.
    let grown = |to: usize| -> usize {
        let before = sites.iter().zip(&places).filter(|((_, s), _)| s.range.end <= to);
        before.map(|((_, s), (_, new, _))| new.len() - s.range.len()).sum()
    };
    let moved = places.iter().map(|(id, mutant, function)| {
        let function = function.start + grown(function.start)..function.end + grown(function.end);
        (*id, mutant.clone(), function)
    });
    let moved = moved.collect();
    (text, moved)
}

/// All files of a folder, in order; not what is built, and nothing of git.
pub(crate) fn files_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        match entry.file_type()?.is_dir() {
            true if name == "target" || name == ".git" => {}
            true => found.extend(files_under(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    Ok(found)
}

/// A path from the root, with slashes.
pub(crate) fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    path.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::List;

    /// Code moves, and an audit is seldom run: what it would plant is looked at here.
    #[test]
    fn every_mistake_of_the_lists_has_its_place() {
        let root = Path::new("../..");
        let tree = Tree::read(root).unwrap();
        for path in [crate::LIST, crate::BY_HAND] {
            let list = List::read(&root.join(path)).unwrap();
            let planted = tree.plant(&list.mutants.iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(planted.places.len(), list.mutants.len());
        }
    }
}
