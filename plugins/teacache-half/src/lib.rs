//! TeaCache at half width: packaging only, see [`wan_cache::HalfMemory`].

use wan_cache::{HalfMemory, TeaCache};

wan_plugin_api::export_plugin! { samplers: [], caches: [HalfMemory<TeaCache>] }
