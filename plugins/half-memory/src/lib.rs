//! Every cache at half width: packaging only, see [`wan_cache::HalfMemory`].

use wan_cache::{EasyCache, FirstBlockCache, Forecast, HalfMemory, MagCache, TeaCache};

wan_plugin_api::export_plugin! {
    samplers: [],
    caches: [
        HalfMemory<TeaCache>,
        HalfMemory<MagCache>,
        HalfMemory<EasyCache>,
        HalfMemory<FirstBlockCache>,
        HalfMemory<Forecast>,
    ],
}
