//! A LoRA file: its keys by module, and what it is by them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::header::Scaling;
use super::keys::{Key, Role};
use crate::error::{Error, Result};
use crate::original_names::Layout;
use crate::weights::{Encoding, WeightFile};

/// Keys that an error names.
const NAMED_MAX: usize = 2;

/// An open LoRA file. Nothing but its header is read until it is applied.
pub struct Lora {
    file: WeightFile,
    scaling: Scaling,
    /// Numbers of the tensors of each module; those of diffusers' second transformer apart.
    modules: BTreeMap<ModuleName, BTreeMap<Role, usize>>,
    text_encoder_keys: usize,
    other_keys: Vec<String>,
}

/// A module as the file names it, without prefixes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ModuleName {
    pub(super) name: String,
    /// Of the second of two experts alone.
    pub(super) low_noise: bool,
}

/// What a file is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraFacts {
    /// Modules that it changes.
    pub modules: usize,
    /// Tensors in it.
    pub tensors: usize,
    /// Ranks of its low-rank changes, and the number of modules of each.
    pub ranks: BTreeMap<usize, usize>,
    /// Forms of its changes: `LoRA`, `diff`, `DoRA`, `LoHa`, `LoKr`.
    pub forms: BTreeSet<&'static str>,
    /// One of its keys.
    pub key: String,
    /// Keys of text encoders, which are not applied.
    pub text_encoder_keys: usize,
}

impl Lora {
    /// Opens a LoRA.
    ///
    /// # Errors
    /// [`Error::WeightFile`] if the file cannot be read; [`Error::MalformedFile`] if it is a whole
    /// model or in a form that is not read (the error names it), a change lacks a factor, or none of
    /// its keys is a transformer's.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of_file(WeightFile::open(path)?)
    }

    /// Whether most keys of a file are those of changes.
    pub fn is_one(file: &WeightFile) -> bool {
        let is_change = |name: &str| !matches!(Key::of(name), Key::Other);
        let changes = file.tensors().iter().filter(|info| is_change(&info.name)).count();
        2 * changes > file.tensors().len()
    }

    /// As [`open`](Self::open), for a file that is open already.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_file(file: WeightFile) -> Result<Self> {
        let path = file.path().to_owned();
        let scaling = Scaling::of(&path, file.metadata())?;
        let malformed = |reason| Error::MalformedFile { path: path.clone(), reason };
        let mut modules = BTreeMap::<ModuleName, BTreeMap<Role, usize>>::new();
        let (mut text_encoder_keys, mut other_keys) = (0, Vec::new());
        for (number, info) in file.tensors().iter().enumerate() {
            match Key::of(&info.name) {
                Key::Module { name, role, low_noise } => {
                    let module = ModuleName { name, low_noise };
                    let other = modules.entry(module).or_default().insert(role, number);
                    if let Some(other) = other {
                        let (a, b) = (&file.tensors()[other].name, &info.name);
                        return Err(malformed(format!("`{a}` and `{b}` are the same tensor")));
                    }
                }
                Key::TextEncoder => text_encoder_keys += 1,
                Key::NotRead(form) => {
                    let reason = format!("`{}` is {form}, which is not read", info.name);
                    return Err(malformed(reason));
                }
                Key::Other => other_keys.push(info.name.clone()),
            }
        }
        let lora = Self { file, scaling, modules, text_encoder_keys, other_keys };
        lora.check().map_err(malformed)?;
        Ok(lora)
    }

    fn check(&self) -> Result<(), String> {
        if self.modules.is_empty() {
            let named = self.other_keys.iter().take(NAMED_MAX).map(|key| format!("`{key}`"));
            let all: Vec<&str> = self.other_keys.iter().map(String::as_str).collect();
            return Err(match self.text_encoder_keys {
                0 if are_of_a_network(&all) => {
                    "a whole network rather than a LoRA; give it with `transformer`".to_owned()
                }
                0 => format!(
                    "no LoRA: none of its keys has the form of one ({})",
                    named.collect::<Vec<_>>().join(", ")
                ),
                count => format!(
                    "all of its {count} keys change a text encoder, and none a transformer; LoRAs \
                     of text encoders are not applied"
                ),
            });
        }
        // A whole model has some words in common with changes, as `.alpha`.
        if self.other_keys.len() > self.modules.len() {
            let key = &self.other_keys[0];
            return Err(format!(
                "a whole model rather than a LoRA (`{key}`); give it with `transformer`"
            ));
        }
        self.modules.iter().try_for_each(|(module, roles)| self.check_factors(module, roles))
    }

    /// Checks that a change has all of its factors.
    fn check_factors(
        &self,
        module: &ModuleName,
        roles: &BTreeMap<Role, usize>,
    ) -> Result<(), String> {
        const PAIRS: [(Role, Role, &str, &str); 5] = [
            (Role::Down, Role::Up, "lora_A (lora_down)", "lora_B (lora_up)"),
            (Role::Hada1A, Role::Hada1B, "hada_w1_a", "hada_w1_b"),
            (Role::Hada2A, Role::Hada2B, "hada_w2_a", "hada_w2_b"),
            (Role::Kron1A, Role::Kron1B, "lokr_w1_a", "lokr_w1_b"),
            (Role::Kron2A, Role::Kron2B, "lokr_w2_a", "lokr_w2_b"),
        ];
        let (name, has) = (&module.name, |role| roles.contains_key(&role));
        for (a, b, name_a, name_b) in PAIRS {
            if has(a) != has(b) {
                let (there, lacking) = if has(a) { (name_a, name_b) } else { (name_b, name_a) };
                return Err(format!("module `{name}` has {there} without its {lacking}"));
            }
            if let (Some(first), Some(second)) = (roles.get(&a), roles.get(&b)) {
                let (first, second) = (self.shape(*first), self.shape(*second));
                // The inner axis: rows of the factor `[r, in]`, columns of `[out, r]`.
                let (down, up) = if a == Role::Down { (first, second) } else { (second, first) };
                if down.first() != up.get(1) {
                    return Err(format!(
                        "module `{name}` has factors of unequal ranks: {up:?} and {down:?}"
                    ));
                }
            }
        }
        let kron = |whole, part| has(whole) || has(part);
        let (first, second) = (kron(Role::Kron1, Role::Kron1A), kron(Role::Kron2, Role::Kron2A));
        if first != second || has(Role::Hada1A) != has(Role::Hada2A) {
            return Err(format!("module `{name}` has one of two factors of its LoKr or LoHa"));
        }
        let changes = roles.keys().any(|role| *role != Role::Alpha && *role != Role::Magnitude);
        let reason = || format!("module `{name}` has an alpha or a magnitude, and no change");
        if changes { Ok(()) } else { Err(reason()) }
    }

    /// What it is, for people.
    pub fn facts(&self) -> LoraFacts {
        let (mut ranks, mut forms) = (BTreeMap::new(), BTreeSet::new());
        for roles in self.modules.values() {
            if let Some(down) = roles.get(&Role::Down) {
                let rank = self.shape(*down).first().copied().unwrap_or(0);
                *ranks.entry(rank).or_insert(0) += 1;
            }
            forms.extend(roles.keys().filter_map(|role| form(*role)));
        }
        LoraFacts {
            modules: self.modules.len(),
            tensors: self.file.tensors().len(),
            ranks,
            forms,
            key: self.file.tensors().first().map_or_else(String::new, |info| info.name.clone()),
            text_encoder_keys: self.text_encoder_keys,
        }
    }

    /// The file.
    pub fn file(&self) -> &WeightFile {
        &self.file
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    /// Keys that are no changes of a transformer, beside those of text encoders.
    pub(super) fn other_keys(&self) -> &[String] {
        &self.other_keys
    }

    pub(super) fn scaling(&self) -> &Scaling {
        &self.scaling
    }

    pub(super) fn modules(&self) -> &BTreeMap<ModuleName, BTreeMap<Role, usize>> {
        &self.modules
    }

    pub(super) fn shape(&self, number: usize) -> &[usize] {
        &self.file.tensors()[number].shape
    }

    /// A tensor in f32.
    ///
    /// # Errors
    /// [`Error::WeightFile`] if it cannot be read, [`Error::MalformedFile`] if a number is not
    /// finite, or its format is not read.
    pub(super) fn tensor(&self, number: usize) -> Result<Tensor> {
        let info = &self.file.tensors()[number];
        let bytes = self.finite_bytes(number)?;
        let mut numbers = vec![0.; info.elements()];
        if !info.encoding.widen(&bytes, &mut numbers) {
            let (name, format) = (&info.name, info.encoding.name());
            let reason = format!("`{name}` is in {format}, which is not read here");
            return Err(Error::MalformedFile { path: self.path(), reason });
        }
        Ok(Tensor::from_vec(numbers, info.shape.as_slice(), &Device::Cpu)?)
    }

    /// A tensor in its own format where that is a float of 16 or 32 bits, else in f32.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub(super) fn as_stored(&self, number: usize) -> Result<Tensor> {
        let info = &self.file.tensors()[number];
        let dtype = match info.encoding {
            Encoding::BF16 => DType::BF16,
            Encoding::F16 => DType::F16,
            _ => return self.tensor(number),
        };
        let bytes = self.finite_bytes(number)?;
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)?)
    }

    /// Bytes of what [`as_stored`](Self::as_stored) gives.
    pub(super) fn stored_bytes(&self, number: usize) -> u64 {
        let info = &self.file.tensors()[number];
        let is_half = matches!(info.encoding, Encoding::BF16 | Encoding::F16);
        info.elements() as u64 * if is_half { 2 } else { 4 }
    }

    fn finite_bytes(&self, number: usize) -> Result<Vec<u8>> {
        let info = &self.file.tensors()[number];
        let bytes = self.file.read(number)?;
        if info.encoding.first_not_finite(&bytes).is_some() {
            let name = &info.name;
            let reason = format!("`{name}` has a number that is not finite (NaN or infinity)");
            return Err(Error::MalformedFile { path: self.path(), reason });
        }
        Ok(bytes)
    }

    /// Reads every tensor once, so that a damaged file is found before hours of work.
    ///
    /// # Errors
    /// [`Error::WeightFile`] if one cannot be read, [`Error::MalformedFile`] if a number is not finite.
    pub fn check_numbers(&self) -> Result<()> {
        (0..self.file.tensors().len()).try_for_each(|number| self.finite_bytes(number).map(drop))
    }
}

/// Whether names are those of a network, behind whatever it was wrapped in.
fn are_of_a_network(names: &[&str]) -> bool {
    let bare = names.iter().map(|name| name.rsplit_once("model.").map_or(*name, |(_, rest)| rest));
    Layout::recognised(bare).is_some()
}

fn form(role: Role) -> Option<&'static str> {
    match role {
        Role::Down | Role::Up | Role::UpBias => Some("LoRA"),
        Role::Diff | Role::BiasDiff | Role::ModulationDiff => Some("diff"),
        Role::Whole => Some("set_weight"),
        Role::Magnitude => Some("DoRA"),
        Role::Hada1A | Role::Hada1B | Role::Hada2A | Role::Hada2B => Some("LoHa"),
        Role::Kron1 | Role::Kron1A | Role::Kron1B | Role::Kron2 | Role::Kron2A | Role::Kron2B => {
            Some("LoKr")
        }
        Role::Alpha => None,
    }
}
