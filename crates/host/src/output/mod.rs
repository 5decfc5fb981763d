//! What a run leaves behind: frames, latents on disk, and the sidecar that says how they were made.
//! It knows finished runs, and nothing of how they are set up.

pub(crate) mod container_tags;
pub(crate) mod decoding;
pub(crate) mod generated;
pub(crate) mod given_files;
pub(crate) mod latents_file;
pub(crate) mod plan_summary;
pub(crate) mod sidecar;
pub(crate) mod video_writer;
