//! The MagCache plugin: packaging only, the algorithm is [`wan_cache::MagCache`].

use wan_cache::MagCache;

wan_plugin_api::export_plugin! { samplers: [], caches: [MagCache] }
