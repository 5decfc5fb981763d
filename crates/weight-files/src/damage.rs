//! Files that were right and are damaged anywhere: they are read or refused, and nothing panics.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::testing::open;
use crate::{Encoding, SafetensorsWriter, TensorInfo};

const GGUF: &[u8] = include_bytes!("../tests/golden/small.gguf");

fn safetensors() -> Vec<u8> {
    let info = |name: &str, shape: &[usize], encoding| TensorInfo {
        name: name.to_owned(),
        shape: shape.to_vec(),
        encoding,
    };
    let tensors = [
        info("patch_embedding.weight", &[3, 2, 1, 2, 2], Encoding::F32),
        info("blocks.0.q.weight", &[4, 8], Encoding::F8E4M3),
        info("scale", &[], Encoding::BF16),
        info("empty", &[0, 3], Encoding::I64),
    ];
    let words = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut writer = SafetensorsWriter::new(Vec::new(), &tensors, &words).unwrap();
    for tensor in &tensors {
        writer.put(&vec![3; tensor.bytes() as usize]).unwrap();
    }
    writer.finish().unwrap()
}

/// What a file was changed to.
#[derive(Debug, Clone)]
enum Damage {
    Byte(usize, u8),
    /// A number of eight bytes: a length, count or offset.
    Number(usize, u64),
    Removed(usize, usize),
    Inserted(usize, Vec<u8>),
    Cut(usize),
}

/// Damage anywhere, half of it in the first hundred bytes.
fn damage(length: usize) -> impl Strategy<Value = Damage> {
    let place = prop_oneof![0..length.min(100), 0..length];
    let number = prop_oneof![
        any::<u64>(),
        0..100u64,
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..70u64).prop_map(|less| u64::MAX - less),
    ];
    let bytes = prop::collection::vec(any::<u8>(), 1..20);
    prop_oneof![
        (place.clone(), any::<u8>()).prop_map(|(place, byte)| Damage::Byte(place, byte)),
        (place.clone(), number).prop_map(|(place, number)| Damage::Number(place, number)),
        (place.clone(), 1..20usize).prop_map(|(place, count)| Damage::Removed(place, count)),
        (place, bytes).prop_map(|(place, bytes)| Damage::Inserted(place, bytes)),
        (0..length).prop_map(Damage::Cut),
    ]
}

fn damaged(mut file: Vec<u8>, all: &[Damage]) -> Vec<u8> {
    for damage in all {
        match damage {
            Damage::Byte(place, byte) => {
                file.iter_mut().skip(*place).take(1).for_each(|b| *b = *byte)
            }
            Damage::Number(place, number) => {
                let bytes = file.iter_mut().skip(*place).zip(number.to_le_bytes());
                bytes.for_each(|(byte, changed)| *byte = changed);
            }
            Damage::Removed(place, count) => {
                file.drain((*place).min(file.len())..(place + count).min(file.len()));
            }
            Damage::Inserted(place, bytes) => {
                let place = (*place).min(file.len());
                file.splice(place..place, bytes.iter().copied());
            }
            Damage::Cut(length) => file.truncate(*length),
        }
    }
    file
}

/// Opens a file, and reads all of it if it can be opened. Fails if tensors are larger than it.
fn read_all(bytes: &[u8]) {
    let file = match open(bytes) {
        Ok(file) => file,
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 10_000 && !text.chars().any(char::is_control), "{text:?}");
            return;
        }
    };
    for (number, tensor) in file.tensors().iter().enumerate() {
        let read = file.read(number).unwrap();
        assert_eq!(read.len() as u64, tensor.bytes());
        assert!(read.len() <= bytes.len());
        tensor.encoding.first_not_finite(&read);
        let mut numbers = vec![0.0; tensor.elements()];
        assert_eq!(tensor.encoding.widen(&read, &mut numbers), tensor.encoding.is_read());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn gguf_is_read_or_refused(all in prop::collection::vec(damage(GGUF.len()), 1..4)) {
        read_all(&damaged(GGUF.to_vec(), &all));
    }

    #[test]
    fn safetensors_are_read_or_refused(all in prop::collection::vec(damage(500), 1..4)) {
        read_all(&damaged(safetensors(), &all));
    }

    #[test]
    fn anything_is_read_or_refused(
        start in prop::sample::select(vec![
            &b""[..],
            b"GGUF\x03\0\0\0",
            b"PK\x03\x04",
            b"\x20\0\0\0\0\0\0\0{",
            b"<",
            b"{",
            b"version https://git-lfs\nsize ",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        read_all(&[start, &bytes].concat());
    }
}

#[test]
fn the_undamaged_files_are_read() {
    assert_eq!(open(GGUF).unwrap().tensors().len(), 5);
    assert_eq!(open(&safetensors()).unwrap().tensors().len(), 4);
    assert!((400..600).contains(&safetensors().len()), "where damage is put");
}
