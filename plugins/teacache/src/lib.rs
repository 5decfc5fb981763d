//! The TeaCache plugin: packaging only, the algorithm is [`wan_cache::TeaCache`].

use wan_cache::TeaCache;

wan_plugin_api::export_plugin! { samplers: [], caches: [TeaCache] }
