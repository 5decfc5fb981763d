//! A disk that fails as tests say.
use super::Step;
#[derive(Debug, Default)]
pub(crate) struct Script;
impl Script {
    pub(crate) fn before(&self, _: Step<'_>) -> std::io::Result<()> {
        Ok(())
    }
    pub(crate) fn tears(&self) -> bool {
        false
    }
}
