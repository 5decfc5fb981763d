//! The names that a pickle of tensors may call for.

use crate::encoding::Encoding;

/// Something that a name of a pickle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::torch) enum Global {
    /// `collections.OrderedDict`.
    Dict,
    /// `torch._utils._rebuild_tensor_v2`: a view of a typed storage.
    Tensor,
    /// `torch._utils._rebuild_tensor_v3`: a view of bytes, with a number format.
    TensorOfBytes,
    /// `torch._utils._rebuild_parameter`.
    Parameter,
    /// `torch.FloatStorage` and others; of bytes where there is no number format.
    Storage(Option<Encoding>),
    /// `torch.float32` and others.
    NumberFormat(Encoding),
}

impl Global {
    /// What the whole pair of a module and a name stands for; no dots are resolved.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        let global = match (module, name) {
            ("collections", "OrderedDict") => Self::Dict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::Tensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::TensorOfBytes,
            ("torch._utils", "_rebuild_parameter") => Self::Parameter,
            ("torch.storage", "UntypedStorage") => Self::Storage(None),
            ("torch", "DoubleStorage") => Self::Storage(Some(Encoding::F64)),
            ("torch", "FloatStorage") => Self::Storage(Some(Encoding::F32)),
            ("torch", "HalfStorage") => Self::Storage(Some(Encoding::F16)),
            ("torch", "BFloat16Storage") => Self::Storage(Some(Encoding::BF16)),
            ("torch", "LongStorage") => Self::Storage(Some(Encoding::I64)),
            ("torch", "IntStorage") => Self::Storage(Some(Encoding::I32)),
            ("torch", "ShortStorage") => Self::Storage(Some(Encoding::I16)),
            ("torch", "CharStorage") => Self::Storage(Some(Encoding::I8)),
            ("torch", "ByteStorage") => Self::Storage(Some(Encoding::U8)),
            ("torch", "BoolStorage") => Self::Storage(Some(Encoding::Bool)),
            ("torch", "float64") => Self::NumberFormat(Encoding::F64),
            ("torch", "float32") => Self::NumberFormat(Encoding::F32),
            ("torch", "float16") => Self::NumberFormat(Encoding::F16),
            ("torch", "bfloat16") => Self::NumberFormat(Encoding::BF16),
            ("torch", "float8_e4m3fn") => Self::NumberFormat(Encoding::F8E4M3),
            ("torch", "float8_e5m2") => Self::NumberFormat(Encoding::F8E5M2),
            ("torch", "int64") => Self::NumberFormat(Encoding::I64),
            ("torch", "int32") => Self::NumberFormat(Encoding::I32),
            ("torch", "int16") => Self::NumberFormat(Encoding::I16),
            ("torch", "int8") => Self::NumberFormat(Encoding::I8),
            ("torch", "uint8") => Self::NumberFormat(Encoding::U8),
            ("torch", "bool") => Self::NumberFormat(Encoding::Bool),
            // No numbers that anybody reads here, but a file may have them where nobody looks.
            ("torch", "uint16" | "uint32" | "uint64") => {
                let bits = name.trim_start_matches("uint").parse().ok()?;
                Self::NumberFormat(Encoding::Other(bits))
            }
            ("torch", "float8_e4m3fnuz" | "float8_e5m2fnuz" | "float8_e8m0fnu") => {
                Self::NumberFormat(Encoding::Other(8))
            }
            _ => return None,
        };
        Some(global)
    }
}
