//! The residual-forecast plugin: packaging only, the algorithm is [`wan_cache::Forecast`].

use wan_cache::Forecast;

wan_plugin_api::export_plugin! { samplers: [], caches: [Forecast] }
