//! The EasyCache plugin: packaging only, the algorithm is [`wan_cache::EasyCache`].

use wan_cache::EasyCache;

wan_plugin_api::export_plugin! { samplers: [], caches: [EasyCache] }
