//! What the processor can do: kernels are chosen by it, and so are the last bits of a result.

/// Abilities of this processor by which kernels are chosen, its architecture first.
pub(crate) fn abilities() -> Vec<String> {
    let mut abilities = vec![std::env::consts::ARCH.to_string()];
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! see {
            ($($name:tt)*) => {
                $(if std::is_x86_feature_detected!($name) {
                    abilities.push($name.into());
                })*
            };
        }
        see!("avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512bf16" "avx512vnni"
             "avx512fp16");
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! see {
            ($($name:tt)*) => {
                $(if std::arch::is_aarch64_feature_detected!($name) {
                    abilities.push($name.into());
                })*
            };
        }
        see!("neon" "fp16" "dotprod" "bf16" "i8mm");
    }
    abilities
}
