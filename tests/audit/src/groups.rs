//! The parts of the sources that mistakes are planted in, and how many each gets.

/// A part of the sources.
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: &'static str,
    /// Folders, from the root of the checkout.
    pub(crate) folders: &'static [&'static str],
    /// How many mutants are drawn at least.
    pub(crate) count: usize,
    /// Whether each file of more than [`LINES_MIN`] lines gets one.
    pub(crate) every_file: bool,
}

/// Files longer than this get a mutant of their own where the group says so.
pub(crate) const LINES_MIN: usize = 50;

/// All groups. Caches have their own planted mistakes: `tests/fixtures/mutants`.
pub(crate) const GROUPS: [Group; 5] = [
    Group {
        name: "host",
        folders: &[
            "crates/host/src",
            "crates/media/src",
            "crates/outputs/src",
            "crates/border/src",
            "crates/cache-lab/src",
            "crates/cli/src",
        ],
        count: 100,
        every_file: true,
    },
    Group {
        name: "plugin check",
        folders: &["crates/plugin-check/src", "crates/plugin-kit/src"],
        count: 25,
        every_file: false,
    },
    Group { name: "plugin-api", folders: &["crates/plugin-api/src"], count: 25, every_file: false },
    Group {
        name: "wan-model",
        folders: &["crates/wan-model/src", "crates/weight-files/src"],
        count: 30,
        every_file: false,
    },
    Group {
        name: "samplers",
        folders: &["crates/samplers/src", "crates/diffusion-forcing/src"],
        count: 20,
        every_file: false,
    },
];

/// Why a file gets no mutants: tests, and code that is not built without a GPU's toolkit.
pub(crate) fn is_left_out(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name == "tests.rs"
        || name.ends_with("_tests.rs")
        || name == "testing.rs"
        || file.contains("/tests/")
        || file.contains("cuda")
        // Read by tests alone: the recorded cases of the samplers.
        || file == "crates/samplers/src/golden.rs"
}

impl Group {
    /// Whether a file, by its path from the root, belongs to this group.
    pub(crate) fn holds(&self, file: &str) -> bool {
        let inside = |folder: &&str| file.starts_with(&format!("{folder}/"));
        self.folders.iter().any(inside) && !is_left_out(file)
    }
}
