//! The plugin's side: an author's traits as tables in C. Every panic is caught.

mod cache;
mod host;
mod ops;
mod sampler;
mod strategy;

use std::ptr::null;

use super::convert::size;
use super::tables::{self, Cache, Host, Plugin as PluginTable, Sampler, Solver};
use crate::guard::{guard, keep_library_quiet};
use crate::{LogLevel, Plugin, epoch1};

/// The table of a sampler.
pub(crate) struct SamplerTable(pub(super) &'static Sampler);

/// The table of a cache.
pub(crate) struct CacheTable(pub(super) &'static Cache);

/// What a library of `P` answers to its host: its tables, which stay for ever. NULL for a host of
/// another epoch, and where the author's code panics, which the log then says.
///
/// # Safety
/// `host` is NULL or a host's table, which stays for ever.
pub unsafe fn entry<P: Plugin>(host: *const Host) -> *const PluginTable {
    // SAFETY: promised by the caller.
    if !unsafe { host::meet(host) } {
        return null();
    }
    keep_library_quiet();
    let tables = guard(P::NAME, || {
        let samplers = P::samplers().into_iter().map(|f| std::ptr::from_ref((f.table)().0));
        let caches = P::caches().into_iter().map(|f| std::ptr::from_ref((f.table)().0));
        Ok((list(samplers.collect()), list(caches.collect())))
    });
    let (samplers, caches) = match tables {
        Ok(tables) => tables,
        Err(error) => {
            host::log(LogLevel::Error, &error.message);
            return null();
        }
    };
    let solvers: tables::List<Solver> = null();
    let plugin =
        PluginTable { size: size::<PluginTable>(), reserved: 0, samplers, caches, solvers };
    Box::leak(Box::new(plugin))
}

/// A list that ends with NULL and stays for ever.
fn list<T>(mut pointers: Vec<*const T>) -> tables::List<T> {
    pointers.push(null());
    pointers.leak().as_ptr()
}

/// The epoch that tables of this crate are of.
const EPOCH: u32 = epoch1::NUMBER;
