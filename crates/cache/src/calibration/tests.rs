use super::*;
use crate::fixture;

fn context(identity: (u32, u32, u32, u32)) -> CacheContext {
    let mut context = fixture::context(8);
    context.timesteps_max = 1;
    (context.model.dim, context.model.layers) = (identity.0, identity.1);
    (context.model.in_channels, context.experts) = (identity.2, identity.3);
    context
}

#[test]
fn every_row_and_table_is_there_and_has_what_it_needs() {
    for name in TEA_CACHE_ROWS {
        let row = tea_cache_row(name).unwrap();
        let degrees = (row.e.len(), row.e0.len());
        assert_eq!(degrees, if name == "ti2v-5b" { (6, 0) } else { (5, 5) }, "{name}");
    }
    for name in MAG_CACHE_TABLES {
        let table = mag_cache_table(name).unwrap();
        assert_eq!(table.cond.len(), table.uncond.len(), "{name}");
        assert!([40, 50].contains(&table.cond.len()), "{name}");
        assert_eq!((table.cond[0], table.uncond[0]), (1.0, 1.0), "{name}");
        assert!(table.threshold > 0.0 && table.max_skips > 0 && table.retention_ratio > 0.0);
    }
    assert!(tea_cache_row("14b").unwrap_err().message.contains("there are: t2v-1.3b"));
    assert!(mag_cache_table("14b").unwrap_err().message.contains("vace-14b"));
}

#[test]
fn the_model_and_the_size_choose() {
    let both = |identity, tokens, timesteps| {
        let mut context = context(identity);
        (context.frame_tokens, context.timesteps_max) = (tokens, timesteps);
        (tea_cache_row_of(&context), mag_cache_table_of(&context))
    };
    let pair = |name| (Some(name), Some(name));
    assert_eq!(both((1536, 30, 16, 1), 1560, 1), pair("t2v-1.3b"));
    assert_eq!(both((5120, 40, 16, 1), 1560, 9), pair("t2v-14b"));
    assert_eq!(both((5120, 40, 36, 1), 2040, 1), pair("i2v-480p"));
    assert_eq!(both((5120, 40, 36, 1), 3600, 1), pair("i2v-720p"));
    assert_eq!(both((1536, 30, 36, 1), 2040, 1), (Some("i2v-480p"), None));
    assert_eq!(both((3072, 30, 48, 1), 880, 1), (Some("ti2v-5b"), Some("ti2v-5b-t2v")));
    assert_eq!(both((3072, 30, 48, 1), 880, 2), (Some("ti2v-5b"), Some("ti2v-5b-i2v")));
    assert_eq!(both((5120, 40, 16, 2), 1560, 1), (None, Some("t2v-a14b")));
    assert_eq!(both((5120, 40, 36, 2), 1560, 1), (None, Some("i2v-a14b")));
    assert_eq!(both((64, 4, 16, 1), 16, 1), (None, None));
}
