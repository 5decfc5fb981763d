//! Which instructions the kernels use.

use std::fmt;
use std::str::FromStr;

/// Counted up when a kernel of any path changes its bits: what was computed by another generation
/// is not reproduced.
pub const GENERATION: u32 = 1;

/// A family of instructions. Later ones are faster where the processor has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// What the target has without a question to the processor: on x86-64 that is SSE2.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Path {
    /// All paths, the slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// `portable`, `avx2` or `avx512`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there are no kernels of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKernels {
    /// The processor lacks the instructions.
    #[error("the processor has no {wanted} kernels; it has {has}")]
    Lacking {
        /// The name that was asked for.
        wanted: String,
        /// The best ones of this processor.
        has: &'static str,
    },
    /// No kernels are called that.
    #[error("{0:?} is no name of kernels: portable, avx2, avx512, avx512+bf16, ..")]
    Unknown(String),
}

/// The kernels of one path, with what else of the processor they use.
///
/// A value exists only where the processor has the instructions, so holding one is the proof. It
/// is small and is passed by value; nothing about it is global.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernels {
    path: Path,
    bf16: bool,
    vnni: bool,
}

impl Kernels {
    /// Those that every processor has.
    pub const PORTABLE: Self = Self { path: Path::Portable, bf16: false, vnni: false };

    /// Portable ones whose bf16 products are those of `avx512+bf16`, to the bit for numbers of the
    /// normal range. They are slow: for tests of that layout on other processors.
    pub const PORTABLE_PAIRS: Self = Self { path: Path::Portable, bf16: true, vnni: false };

    /// The fastest ones of this processor. The standard library asks the processor once.
    pub fn detect() -> Self {
        let best = Path::ALL.into_iter().rfind(|path| has(*path)).unwrap_or(Path::Portable);
        Self::whole(best)
    }

    /// The fastest ones of this processor on `path`.
    ///
    /// # Errors
    /// [`NoKernels::Lacking`] if the processor has not the path.
    pub fn of(path: Path) -> Result<Self, NoKernels> {
        match has(path) {
            true => Ok(Self::whole(path)),
            false => Err(NoKernels::Lacking { wanted: path.name().into(), has: best() }),
        }
    }

    /// All that the processor has on a path that it has.
    fn whole(path: Path) -> Self {
        let is_512 = path == Path::Avx512;
        Self { path, bf16: is_512 && has_bf16(), vnni: is_512 && has_vnni() }
    }

    /// All that this processor can be asked for, the slowest first.
    pub fn all() -> Vec<Self> {
        NAMES.iter().filter_map(|(name, _)| name.parse().ok()).collect()
    }

    /// The path.
    pub const fn path(self) -> Path {
        self.path
    }

    /// Whether bf16 products are dot products of bf16 pairs (`avx512_bf16`). Elsewhere the same
    /// products are computed in f32.
    pub const fn has_bf16_dot(self) -> bool {
        self.bf16
    }

    /// Whether products of bytes use `avx512_vnni`.
    pub const fn has_vnni(self) -> bool {
        self.vnni
    }

    /// The path and what is used beside it, such as `avx512+bf16+vnni`: what a sidecar records and
    /// [`FromStr`] reads again. Results are the same to the bit on every processor that has the
    /// kernels of a name.
    pub fn name(self) -> &'static str {
        let name = NAMES.iter().find(|(_, kernels)| *kernels == self);
        name.map_or(self.path.name(), |(name, _)| name)
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kernels {
    type Err = NoKernels;

    /// Exactly the kernels of this name, if the processor has them.
    fn from_str(name: &str) -> Result<Self, NoKernels> {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let (_, wanted) = known.ok_or_else(|| NoKernels::Unknown(name.into()))?;
        let is_512 = wanted.path == Path::Avx512;
        let lacks = is_512 && (wanted.bf16 && !has_bf16() || wanted.vnni && !has_vnni());
        let fits = has(wanted.path) && !lacks;
        match fits {
            true => Ok(*wanted),
            false => Err(NoKernels::Lacking { wanted: name.into(), has: best() }),
        }
    }
}

const fn avx512(bf16: bool, vnni: bool) -> Kernels {
    Kernels { path: Path::Avx512, bf16, vnni }
}

/// All names, the slowest first.
const NAMES: [(&str, Kernels); 7] = [
    ("portable+bf16", Kernels::PORTABLE_PAIRS),
    ("portable", Kernels::PORTABLE),
    ("avx2", Kernels { path: Path::Avx2, bf16: false, vnni: false }),
    ("avx512", avx512(false, false)),
    ("avx512+vnni", avx512(false, true)),
    ("avx512+bf16", avx512(true, false)),
    ("avx512+bf16+vnni", avx512(true, true)),
];

fn best() -> &'static str {
    Kernels::detect().name()
}

#[cfg(target_arch = "x86_64")]
fn has(path: Path) -> bool {
    match path {
        Path::Portable => true,
        Path::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        Path::Avx512 => {
            has(Path::Avx2)
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has(path: Path) -> bool {
    path == Path::Portable
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vnni() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_kernels_or_says_what_the_processor_has() {
        for kernels in Kernels::all() {
            assert_eq!(kernels.name().parse(), Ok(kernels));
            assert!(kernels.name().starts_with(kernels.path().name()));
        }
        for (name, kernels) in NAMES {
            match name.parse::<Kernels>() {
                Ok(found) => assert_eq!(found, kernels),
                Err(error) => {
                    assert!(!Kernels::all().contains(&kernels));
                    assert!(error.to_string().contains(name), "{error}");
                    assert!(error.to_string().contains(Kernels::detect().name()), "{error}");
                }
            }
        }
        assert_eq!("sse9".parse::<Kernels>(), Err(NoKernels::Unknown("sse9".into())));
    }

    #[test]
    fn the_best_are_the_last_of_all() {
        assert_eq!(Kernels::all()[..2], [Kernels::PORTABLE_PAIRS, Kernels::PORTABLE]);
        assert_eq!(Kernels::all().last(), Some(&Kernels::detect()));
        for path in Path::ALL {
            let last = Kernels::all().into_iter().rfind(|kernels| kernels.path() == path);
            assert_eq!(Kernels::of(path).ok(), last, "{path}");
        }
    }
}
