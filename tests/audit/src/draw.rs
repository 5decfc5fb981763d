//! Draws a list of mutants by a seed: a function, then a kind of mistake in it, then a place.

use anyhow::{Result, bail};

use crate::groups::{GROUPS, Group, LINES_MIN};
use crate::list::{List, Mutant};
use crate::sites::Site;
use crate::tree::{Planted, Tree};
use crate::workshop::{CompileError, Workshop};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random order (Fisher and Yates).
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}

/// A function that was drawn, with all its sites in the order in which they are tried.
struct Drawn<'t> {
    group: &'static Group,
    file: &'t str,
    candidates: Vec<&'t Site>,
}

/// Functions in the order of the draw; the first `count` are taken, and the next where one has no
/// site that compiles.
struct Urn<'t> {
    taken: Vec<Drawn<'t>>,
    waiting: Vec<Drawn<'t>>,
}

/// Draws all groups, and tries until everything compiles.
pub(crate) fn draw(tree: &Tree, seed: u64) -> Result<List> {
    let mut dice = Dice(seed);
    let mut urns: Vec<Urn<'_>> = GROUPS.iter().map(|group| fill(tree, group, &mut dice)).collect();
    for attempt in 1..60 {
        let list = list_of(tree, &urns, seed);
        let planted = tree.plant(&list.mutants.iter().collect::<Vec<_>>())?;
        let workshop = Workshop::lay_out(tree.root(), &planted)?;
        let errors = workshop.compile_errors()?;
        eprintln!("attempt {attempt}: {} errors", errors.len());
        if errors.is_empty() {
            return Ok(list);
        }
        let mut guilty: Vec<u32> = Vec::new();
        for error in &errors {
            match guilty_of(error, &planted) {
                found if found.is_empty() => bail!("no mutant explains: {}", error.message),
                found => guilty.extend(found),
            }
        }
        next_candidates(&mut urns, &guilty);
    }
    bail!("the mutants still do not compile");
}

/// All functions of a group in random order; where every file is to have one, those come first.
fn fill<'t>(tree: &'t Tree, group: &'static Group, dice: &mut Dice) -> Urn<'t> {
    let (mut taken, mut waiting) = (Vec::new(), Vec::new());
    for (file, lines, sites) in tree.files(group) {
        let mut functions: Vec<Drawn<'_>> = Vec::new();
        for site in sites {
            let known = functions.iter_mut().find(|f| f.candidates[0].function == site.function);
            match known {
                Some(function) => function.candidates.push(site),
                None => functions.push(Drawn { group, file, candidates: vec![site] }),
            }
        }
        functions.iter_mut().for_each(|f| f.candidates = in_random_order(&f.candidates, dice));
        dice.shuffle(&mut functions);
        if group.every_file && lines > LINES_MIN && !functions.is_empty() {
            taken.push(functions.remove(0));
        }
        waiting.extend(functions);
    }
    dice.shuffle(&mut waiting);
    let more = group.count.saturating_sub(taken.len());
    taken.extend(waiting.drain(..more.min(waiting.len())));
    Urn { taken, waiting }
}

/// Kinds in random order, and around again until all sites are used.
fn in_random_order<'t>(sites: &[&'t Site], dice: &mut Dice) -> Vec<&'t Site> {
    let mut kinds: Vec<(&str, Vec<&Site>)> = Vec::new();
    for &site in sites {
        match kinds.iter_mut().find(|(kind, _)| *kind == site.operator) {
            Some((_, of_kind)) => of_kind.push(site),
            None => kinds.push((site.operator, vec![site])),
        }
    }
    kinds.iter_mut().for_each(|(_, of_kind)| dice.shuffle(of_kind));
    dice.shuffle(&mut kinds);
    let mut order = Vec::with_capacity(sites.len());
    while order.len() < sites.len() {
        order.extend(kinds.iter_mut().filter_map(|(_, of_kind)| of_kind.pop()));
    }
    order
}

fn list_of(tree: &Tree, urns: &[Urn<'_>], seed: u64) -> List {
    let taken = urns.iter().flat_map(|urn| &urn.taken);
    let mutants = taken.zip(1..).map(|(drawn, id)| {
        let site = drawn.candidates[0];
        Mutant {
            id,
            group: drawn.group.name.into(),
            file: drawn.file.into(),
            function: site.function.clone(),
            form: site.form,
            place: tree.place_of(drawn.file, site),
            original: site.original.clone(),
            mutated: site.mutated.clone(),
            by: None,
            equivalent: None,
        }
    });
    List { seed, mutants: mutants.collect() }
}

/// The mutants that an error is about: those that it points into, else those of its function.
fn guilty_of(error: &CompileError, planted: &Planted) -> Vec<u32> {
    let touched = |of_function: bool| -> Vec<u32> {
        let is_touched = |(file, mutant, function): &(String, _, _)| {
            let range: &std::ops::Range<usize> = if of_function { function } else { mutant };
            let meets = |(name, start, end): &(String, usize, usize)| {
                name == file && *start < range.end && *end > range.start
            };
            error.spans.iter().any(meets)
        };
        let places = planted.places.iter().filter(|(_, place)| is_touched(place));
        places.map(|(id, _)| *id).collect()
    };
    let exact = touched(false);
    if exact.is_empty() { touched(true) } else { exact }
}

/// Another site for each of these numbers, or another function where there is none left.
fn next_candidates(urns: &mut [Urn<'_>], guilty: &[u32]) {
    let mut id = 0;
    for Urn { taken, waiting } in urns {
        let mut place = 0;
        while place < taken.len() {
            id += 1;
            if guilty.contains(&id) {
                taken[place].candidates.remove(0);
            }
            if !taken[place].candidates.is_empty() {
                place += 1;
                continue;
            }
            match waiting.is_empty() {
                true => {
                    taken.remove(place);
                }
                false => {
                    taken[place] = waiting.remove(0);
                    place += 1;
                }
            }
        }
    }
}
