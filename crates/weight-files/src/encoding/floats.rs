//! Numbers that stand for themselves, as f32. Bytes are little-endian.

/// 2^-24, the smallest f16; an f16 below 2^-14 is a multiple of it.
const F16_STEP: f32 = 1.0 / 16_777_216.0;

/// 2^-9, the smallest F8_E4M3; one below 2^-6 is a multiple of it.
const E4M3_STEP: f32 = 1.0 / 512.0;

/// An f64, rounded.
pub(super) fn f64(bytes: &[u8; 8]) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "it is rounded, and infinite if too large")]
    let number = f64::from_le_bytes(*bytes) as f32;
    number
}

/// The high half of an f32.
pub(super) fn bf16(bytes: &[u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16)
}

/// IEEE 754 binary16, without a branch so that a loop over it runs in vector registers.
pub(super) const fn f16(bytes: &[u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(*bytes) as u32;
    let (sign, size) = ((bits & 0x8000) << 16, bits & 0x7fff);
    let small = (size as f32 * F16_STEP).to_bits();
    let normal = (size << 13) + ((127 - 15) << 23);
    let special = (size << 13) | 0x7f80_0000;
    let finite = if size < 0x0400 { small } else { normal };
    f32::from_bits(sign | if size < 0x7c00 { finite } else { special })
}

/// 1-5-2 bits: the high byte of an f16.
pub(super) fn e5m2(byte: &[u8; 1]) -> f32 {
    E5M2[usize::from(byte[0])]
}

/// 1-4-3 bits, bias 7, no infinity; 0x7f and 0xff are NaN (`float8_e4m3fn`, arXiv 2209.05433).
pub(super) fn e4m3(byte: &[u8; 1]) -> f32 {
    E4M3[usize::from(byte[0])]
}

/// All numbers of 8 bits: to look one up is faster than to compute four at a time.
static E4M3: [f32; 256] = {
    let mut all = [0.0; 256];
    let mut bits = 0;
    while bits < 256u32 {
        let (sign, size) = ((bits & 0x80) << 24, bits & 0x7f);
        let small = (size as f32 * E4M3_STEP).to_bits();
        let normal = (size << 20) + ((127 - 7) << 23);
        let finite = if size < 8 { small } else { normal };
        all[bits as usize] =
            f32::from_bits(sign | if size == 0x7f { f32::NAN.to_bits() } else { finite });
        bits += 1;
    }
    all
};

static E5M2: [f32; 256] = {
    let mut all = [0.0; 256];
    let mut bits = u8::MAX;
    loop {
        all[bits as usize] = f16(&[0, bits]);
        let Some(next) = bits.checked_sub(1) else { break all };
        bits = next;
    }
};
