//! A LoRA fitted to one transformer: which tensors it changes, checked by the headers alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::{Change, Formula, Matrix, flat};
use super::file::{Lora, ModuleName};
use super::keys::Role;
use super::loaded::Loaded;
use super::targets::Targets;
use crate::error::{Error, Result};
use crate::inspect::Network;
use crate::weights::{RowChange, Weight};

/// Keys that an error or a warning names.
const NAMED_MAX: usize = 2;

/// Which of a model's transformers a LoRA is fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expert {
    /// The only one.
    Only,
    /// The one for high noise, the first of two.
    HighNoise,
    /// The one for low noise, the second of two.
    LowNoise,
}

/// A LoRA, its strength, and the tensors of a transformer that it changes.
pub struct FittedLora {
    lora: Arc<Lora>,
    strength: f64,
    changes: BTreeMap<String, Change>,
    modules: usize,
    /// Modules whose alpha is 0.
    without_effect: usize,
    warnings: Vec<String>,
}

type Roles = BTreeMap<Role, usize>;

impl FittedLora {
    /// Finds the tensors of a transformer that `lora` changes.
    ///
    /// # Errors
    /// [`Error::MalformedFile`] if no key fits the transformer, a shape does not, or a key is of a
    /// block that it does not have.
    pub fn new(lora: &Arc<Lora>, network: &Network, strength: f64, expert: Expert) -> Result<Self> {
        let malformed = |reason| Error::MalformedFile { path: lora.path(), reason };
        let targets = Targets::of(network);
        let changes = BTreeMap::new();
        let mut fitted = Self {
            lora: lora.clone(),
            strength,
            changes,
            modules: 0,
            without_effect: 0,
            warnings: Vec::new(),
        };
        let mut left = LeftOut::default();
        for (module, roles) in lora.modules() {
            if !is_for(lora, module, expert) {
                left.other_expert += 1;
                continue;
            }
            match fitted.fit(&targets, &module.name, roles).map_err(malformed)? {
                true => fitted.modules += 1,
                false => left.see(&targets, &module.name).map_err(malformed)?,
            }
        }
        // A file with keys of both transformers may have none for this one.
        if fitted.modules == 0 && (left.other_expert == 0 || expert == Expert::Only) {
            return Err(malformed(left.nothing_fits(lora.modules().len())));
        }
        if fitted.without_effect > 0 {
            let count = fitted.without_effect;
            fitted
                .warnings
                .push(format!("{count} modules have an alpha of 0: they change nothing"));
        }
        fitted.warnings.extend(left.warnings());
        fitted.warnings.extend(warnings_of_keys(lora));
        Ok(fitted)
    }

    /// Fits one module; `false` if the transformer does not have it.
    fn fit(&mut self, targets: &Targets, name: &str, roles: &Roles) -> Result<bool, String> {
        if let Some(table) = targets.table(name) {
            return self.fit_table(targets, table, roles).map(|()| true);
        }
        let modulation = targets.table(&format!("{name}.modulation")).map(str::to_owned);
        if let (Some(table), Some(diff)) = (modulation, roles.get(&Role::ModulationDiff)) {
            let formula = Formula::Diff { diff: *diff, factor: 1. };
            self.put(targets, &table, formula, name)?;
            return Ok(true);
        }
        let Some(module) = targets.module(name).map(str::to_owned) else { return Ok(false) };
        let (weight, bias) = (format!("{module}.weight"), format!("{module}.bias"));
        for formula in self.weight_formulas(name, roles)? {
            self.put(targets, &weight, formula, name)?;
        }
        if let (Some(magnitude), Some(change)) =
            (roles.get(&Role::Magnitude), self.changes.get_mut(&weight))
        {
            let [rows, columns] = flat(targets.shape(&weight).unwrap_or_default());
            let count: usize = self.lora.shape(*magnitude).iter().product();
            if count != rows && count != columns {
                let shape = self.lora.shape(*magnitude);
                return Err(format!(
                    "module `{name}`: its DoRA magnitude has shape {shape:?}, `{weight}` has \
                     [{rows}, {columns}]"
                ));
            }
            change.magnitude = Some(*magnitude);
        }
        let scale = self.low_rank_factor(name, roles)?;
        for (role, factor) in [(Role::BiasDiff, 1.), (Role::UpBias, scale)] {
            if let Some(diff) = roles.get(&role) {
                self.put(targets, &bias, Formula::Diff { diff: *diff, factor }, name)?;
            }
        }
        Ok(true)
    }

    /// A tensor that is no weight or bias takes what is added to it, or put in its place.
    fn fit_table(&mut self, targets: &Targets, table: &str, roles: &Roles) -> Result<(), String> {
        for (role, number) in roles {
            let formula = match role {
                Role::Diff | Role::ModulationDiff => Formula::Diff { diff: *number, factor: 1. },
                Role::Whole => Formula::Whole { whole: *number },
                _ => return Err(format!("`{table}` is no matrix, and cannot take this change")),
            };
            self.put(targets, table, formula, table)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        targets: &Targets,
        tensor: &str,
        formula: Formula,
        module: &str,
    ) -> Result<(), String> {
        let Some(shape) = targets.shape(tensor) else {
            return Err(format!("module `{module}` changes `{tensor}`, which the model has not"));
        };
        formula.check(&self.lora, shape).map_err(|given| {
            format!(
                "module `{module}`: its change has shape {given:?}, `{tensor}` has {shape:?}: a \
                 LoRA of a model of another size; nothing was applied"
            )
        })?;
        let new = || Change { formulas: Vec::new(), magnitude: None };
        self.changes.entry(tensor.to_owned()).or_insert_with(new).formulas.push(formula);
        Ok(())
    }

    fn weight_formulas(&mut self, name: &str, roles: &Roles) -> Result<Vec<Formula>, String> {
        let get = |role| roles.get(&role).copied();
        let matrix = |whole, a, b| match (get(whole), get(a), get(b)) {
            (Some(whole), ..) => Some(Matrix::Whole(whole)),
            (None, Some(a), Some(b)) => Some(Matrix::Product(a, b)),
            _ => None,
        };
        let mut formulas = Vec::new();
        if let (Some(down), Some(up)) = (get(Role::Down), get(Role::Up)) {
            let factor = self.low_rank_factor(name, roles)?;
            self.without_effect += usize::from(factor == 0.);
            formulas.push(Formula::LowRank { down, up, factor });
        }
        let hada = [Role::Hada1A, Role::Hada1B, Role::Hada2A, Role::Hada2B].map(get);
        if let [Some(a), Some(b), Some(c), Some(d)] = hada {
            let factor = self.factor(name, roles, Some(flat(self.lora.shape(b))[0]))?;
            formulas.push(Formula::Hada { first: [a, b], second: [c, d], factor });
        }
        let first = matrix(Role::Kron1, Role::Kron1A, Role::Kron1B);
        let second = matrix(Role::Kron2, Role::Kron2A, Role::Kron2B);
        if let (Some(first), Some(second)) = (first, second) {
            let rank = |matrix| match matrix {
                Matrix::Product(_, b) => Some(flat(self.lora.shape(b))[0]),
                Matrix::Whole(_) => None,
            };
            let factor = match rank(second).or_else(|| rank(first)) {
                Some(rank) => self.factor(name, roles, Some(rank))?,
                None => 1.,
            };
            formulas.push(Formula::Kron { first, second, factor });
        }
        formulas.extend(get(Role::Diff).map(|diff| Formula::Diff { diff, factor: 1. }));
        formulas.extend(get(Role::Whole).map(|whole| Formula::Whole { whole }));
        Ok(formulas)
    }

    fn low_rank_factor(&self, name: &str, roles: &Roles) -> Result<f64, String> {
        let rank = roles.get(&Role::Down).map(|down| flat(self.lora.shape(*down))[0]);
        self.factor(name, roles, rank)
    }

    /// Alpha over rank: of the tensor, else of the header; 1 without either.
    fn factor(&self, name: &str, roles: &Roles, rank: Option<usize>) -> Result<f64, String> {
        let Some(rank) = rank.filter(|rank| *rank > 0) else { return Ok(1.) };
        let Some(alpha) = roles.get(&Role::Alpha) else {
            return Ok(self.lora.scaling().factor(name, rank));
        };
        let alpha = self.lora.tensor(*alpha).map_err(|error| error.to_string())?;
        let alpha = alpha.flatten_all().and_then(|alpha| alpha.to_vec1::<f32>());
        match alpha.map_err(|error| error.to_string())?.as_slice() {
            [alpha] => Ok(f64::from(*alpha) / rank as f64),
            other => {
                Err(format!("module `{name}` has {} numbers for alpha, expected 1", other.len()))
            }
        }
    }

    /// Modules that it changes.
    pub fn modules(&self) -> usize {
        self.modules
    }

    /// What was left out, and what is strange, for people.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether it changes the tensor of this name, which is diffusers'.
    pub fn changes(&self, name: &str) -> bool {
        self.changes.contains_key(name)
    }

    /// Bytes of what it adds to the weight `name`, as it is kept beside that; none if it does not
    /// change it.
    pub(super) fn bytes(&self, name: &str) -> Option<u64> {
        self.changes.get(name).map(|change| change.bytes(&self.lora))
    }

    /// What it adds to the weight `name`, which is `base` without it; none if it does not change it.
    ///
    /// # Errors
    /// As [`Lora::tensor`].
    pub(super) fn change(&self, name: &str, base: &Weight) -> Result<Option<Arc<dyn RowChange>>> {
        let Some(change) = self.changes.get(name) else { return Ok(None) };
        Ok(Some(Arc::new(Loaded::new(&self.lora, change, base, self.strength)?)))
    }
}

/// Whether the keys of a module are for this transformer.
fn is_for(lora: &Lora, module: &ModuleName, expert: Expert) -> bool {
    match expert {
        Expert::Only | Expert::HighNoise => !module.low_noise,
        Expert::LowNoise => {
            module.low_noise || !lora.modules().keys().any(|module| module.low_noise)
        }
    }
}

fn warnings_of_keys(lora: &Lora) -> Vec<String> {
    let mut warnings = Vec::new();
    let facts = lora.facts();
    if facts.text_encoder_keys > 0 {
        let count = facts.text_encoder_keys;
        warnings.push(format!("{count} keys change a text encoder, and are left out"));
    }
    if let Some(key) = lora.other_keys().first() {
        let count = lora.other_keys().len();
        warnings.push(format!("{count} keys are no changes (`{key}`), and are left out"));
    }
    warnings
}

/// Modules of a LoRA that a transformer does not have.
#[derive(Default)]
struct LeftOut {
    image_layers: Vec<String>,
    unknown: Vec<String>,
    other_expert: usize,
}

impl LeftOut {
    fn see(&mut self, targets: &Targets, name: &str) -> Result<(), String> {
        if targets.is_image_layer(name) {
            self.image_layers.push(name.to_owned());
        } else if let Some(number) = targets.is_deeper(name) {
            return Err(format!(
                "module `{name}` is of block {number}, which the model has not: a LoRA of a deeper \
                 model? Nothing was applied"
            ));
        } else {
            self.unknown.push(name.to_owned());
        }
        Ok(())
    }

    fn nothing_fits(&self, modules: usize) -> String {
        if self.unknown.is_empty() && self.image_layers.is_empty() {
            return format!(
                "all of its {modules} modules are for the second of two transformers \
                 (`transformer_2.`); nothing was applied"
            );
        }
        let named = self.unknown.iter().chain(&self.image_layers).take(NAMED_MAX);
        let named: Vec<_> = named.map(|name| format!("`{name}`")).collect();
        format!(
            "a LoRA of another model: none of its {modules} modules is one of this transformer \
             ({}); nothing was applied",
            named.join(", ")
        )
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let said = |names: &[String], what: &str| {
            let named = names.first().map_or("", String::as_str);
            format!("{} modules {what} (`{named}`), and are left out", names.len())
        };
        if !self.image_layers.is_empty() {
            let what = "are of image layers, which this model does not have";
            warnings.push(said(&self.image_layers, what));
        }
        if !self.unknown.is_empty() {
            warnings.push(said(&self.unknown, "are none of this transformer's"));
        }
        warnings
    }
}
