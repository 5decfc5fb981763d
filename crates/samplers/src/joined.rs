//! Two texts as one, in a constant: the id and the description of a sampler made of a solver's.

/// Longest text, in bytes.
const LEN_MAX: usize = 160;

/// Two texts as one.
///
/// ```
/// use wan_samplers::Joined;
/// struct Made;
/// impl Made {
///     const NAME: &'static Joined = &Joined::of("diffusion-forcing-", "euler");
///     const ID: &'static str = Self::NAME.text();
/// }
/// assert_eq!(Made::ID, "diffusion-forcing-euler");
/// ```
#[derive(Debug)]
pub struct Joined {
    bytes: [u8; LEN_MAX],
    len: usize,
}

impl Joined {
    /// `left` and then `right`.
    ///
    /// # Panics
    /// If they are longer than 160 bytes: in a constant, when the program is compiled.
    #[must_use]
    pub const fn of(left: &str, right: &str) -> Self {
        assert!(left.len() + right.len() <= LEN_MAX, "a text of more than 160 bytes");
        let mut joined = Self { bytes: [0; LEN_MAX], len: left.len() + right.len() };
        joined.put(0, left);
        joined.put(left.len(), right);
        joined
    }

    const fn put(&mut self, at: usize, text: &str) {
        let mut i = 0;
        while i < text.len() {
            self.bytes[at + i] = text.as_bytes()[i];
            i += 1;
        }
    }

    /// The text.
    ///
    /// # Panics
    /// Never: two texts end at whole characters.
    #[must_use]
    pub const fn text(&self) -> &str {
        match str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => panic!("half a character"),
        }
    }
}
