//! A process that has the files of this one.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

/// Claims, renames and removes files for this process, which only writes to them. What it has
/// claimed and not kept it removes when this process has ended, however that came.
pub trait Steward: Debug + Send + Sync {
    /// Locks the temporary file beside `path`, or in the folder `temporary_in`, and empties it.
    ///
    /// # Errors
    /// What the file system says.
    fn claim(&self, path: &Path, temporary_in: Option<&Path>) -> io::Result<Entrusted>;

    /// Flushes the file of a claim to the disk and gives it its name.
    ///
    /// # Errors
    /// What the file system says.
    fn keep(&self, claim: u64) -> io::Result<()>;

    /// Removes the temporary file of a claim.
    fn give_up(&self, claim: u64);

    /// Removes the file of a claim that was kept, unless its name belongs to another one by now.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, claim: u64) -> io::Result<()>;
}

/// What became of a claim that another process makes.
#[derive(Debug)]
pub enum Entrusted {
    /// The temporary file is there to be written to.
    Ours {
        /// The number of the claim.
        claim: u64,
        /// The temporary file.
        temporary: PathBuf,
        /// A process that has ended left it.
        was_left: bool,
        /// The file system has no locks.
        without_lock: bool,
    },
    /// Another process writes it.
    Taken {
        /// That process, where the system tells.
        by: Option<u32>,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Claim, Claimed, Outputs, Wanted};

    /// A steward that is this very process.
    #[derive(Debug, Default)]
    struct Here(Mutex<BTreeMap<u64, Claim>>);

    impl Steward for Here {
        fn claim(&self, path: &Path, temporary_in: Option<&Path>) -> io::Result<Entrusted> {
            Ok(match Claim::of(path, temporary_in)? {
                Claimed::Taken { by } => Entrusted::Taken { by },
                Claimed::Ours { claim, was_left, without_lock } => {
                    let temporary = claim.temporary().to_path_buf();
                    self.0.lock().unwrap().insert(7, claim);
                    Entrusted::Ours { claim: 7, temporary, was_left, without_lock }
                }
            })
        }

        fn keep(&self, claim: u64) -> io::Result<()> {
            let claim = self.0.lock().unwrap().remove(&claim).unwrap();
            claim.keep().map(drop).map_err(io::Error::other)
        }

        fn give_up(&self, claim: u64) {
            self.0.lock().unwrap().remove(&claim);
        }

        fn remove(&self, _: u64) -> io::Result<()> {
            Err(io::Error::other("never"))
        }
    }

    #[test]
    fn what_another_process_claims_is_written_here_and_kept_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let here = Arc::new(Here::default());
        let mut outputs = Outputs::new(false).through(Some(here.clone()));
        let field = "save_file".to_string();
        let is_ours = |_: &Path| true;
        let wanted = Wanted { field, path: path.clone(), is_ours, bytes: 0, temporary_in: None };
        let names = || fs::read_dir(folder.path()).unwrap().count();

        drop(outputs.claim(&wanted).unwrap());
        assert_eq!(names(), 0, "given up");
        let mut claim = outputs.claim(&wanted).unwrap();
        claim.file().write_all(b"text").unwrap();
        assert!(!path.exists());
        let kept = claim.keep().unwrap();
        assert_eq!(fs::read(kept.path()).unwrap(), b"text");
        assert_eq!(names(), 1);
        assert!(kept.remove().unwrap_err().to_string().contains("never"));
        // However this process ends, what it had claimed goes with its steward.
        let claim = outputs.claim(&wanted).unwrap();
        std::mem::forget(claim);
        drop(outputs);
        here.0.lock().unwrap().clear();
        assert_eq!(names(), 1, "the temporary file is gone");

        // It may be written in another folder, there too.
        let run = tempfile::tempdir().unwrap();
        let temporary_in = Some(run.path().to_path_buf());
        let wanted = Wanted { path: folder.path().join("b.txt"), temporary_in, ..wanted };
        let mut outputs = Outputs::new(false).through(Some(here));
        let mut claim = outputs.claim(&wanted).unwrap();
        assert_eq!(claim.temporary(), run.path().join(".b.txt.part"));
        claim.file().write_all(b"more").unwrap();
        assert_eq!(names(), 1);
        assert_eq!(fs::read(claim.keep().unwrap().path()).unwrap(), b"more");
        assert_eq!(names(), 2);
    }
}
