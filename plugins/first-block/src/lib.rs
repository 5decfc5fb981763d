//! The first-block plugin: packaging only, the algorithm is [`wan_cache::FirstBlockCache`].

use wan_cache::FirstBlockCache;

wan_plugin_api::export_plugin! { samplers: [], caches: [FirstBlockCache] }
