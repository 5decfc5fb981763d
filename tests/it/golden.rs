//! The golden cases that the project carries, a test each: tensors recorded from the references.

use candle_core::Device;
use wan_tests::checkout::checkout;
use wan_tests::golden::{self, Verdict};

use crate::support::plugin_folder;

fn check(case: &str) {
    plugin_folder(); // the pipelines load plugins from there
    let report = golden::run(&checkout().join("tests/golden").join(case), &Device::Cpu);
    assert!(matches!(report.verdict, Verdict::Pass), "{report}");
}

macro_rules! cases {
    ($($name:ident)*) => {
        const CASES: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*
    };
}

cases! {
    clip_a
    pipe_df_async
    pipe_df_long_async_addnoise
    pipe_wan21_i2v
    pipe_wan22_ti2v_i2v
    pipe_wan22_two_stage
    pipe_wan_euler
    pipe_wan_nocfg_dpm
    pipe_wan_unipc
    scheduler_dpm_multistep
    scheduler_flow_match_euler
    scheduler_original_flow_dpm
    scheduler_original_flow_unipc
    scheduler_unipc
    sky_df_d_causal2
    sky_df_g_fps_causal
    sky_fps_nodf
    teacache_df_async
    teacache_wan_t2v
    umt5_a
    umt5_b_long
    vae21_a
    vae22_a_residual
    wan_flf2v_a
    wan_i2v_a
    wan_t2v_c_image
}

#[test]
fn every_case_has_its_test() {
    let found = golden::find(&checkout().join("tests/golden")).unwrap();
    let name = |case: &std::path::PathBuf| case.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(found.iter().map(name).collect::<Vec<_>>(), CASES);
}
