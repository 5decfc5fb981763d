use proptest::prelude::*;

use super::testing::*;
use crate::{Encoding, Error};

/// The bytes of tensor `number` of a good file.
fn read(bytes: &[u8], number: usize) -> Vec<u8> {
    Saved::new(bytes).open().unwrap().read(number).unwrap()
}

fn one(tensor: &[u8]) -> Vec<u8> {
    pickle(&dict(&[("a", tensor.to_vec())]))
}

/// What is said of a good dict with that tensor in it.
fn said_of(tensor: &[u8]) -> String {
    refusal(&file(&one(tensor)))
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn a_state_dict_is_read_in_its_order() {
    let dict = dict(&[("b", tensor(4, &[2, 3], &[3, 1])), ("a", tensor(0, &[], &[]))]);
    let saved = Saved::new(&file(&pickle(&dict)));
    let opened = saved.open().unwrap();
    assert_eq!(opened.format(), "torch");
    let [b, a] = opened.tensors() else { panic!("{} tensors", opened.tensors().len()) };
    assert_eq!(
        (b.name.as_str(), b.shape.as_slice(), b.encoding),
        ("b", [2, 3].as_slice(), Encoding::F32)
    );
    assert_eq!((a.name.as_str(), a.shape.len()), ("a", 0));
    assert_eq!(f32s(&opened.read(0).unwrap()), [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert_eq!(f32s(&opened.read_part(0, 4..12).unwrap()), [5.0, 6.0]);
    assert_eq!(f32s(&opened.read(1).unwrap()), [0.0]);
    assert!(opened.read_part(1, 0..5).is_err());
    opened.check_unchanged().unwrap();
}

#[test]
fn strides_are_followed() {
    let transposed = file(&one(&tensor(1, &[3, 2], &[1, 4])));
    assert_eq!(f32s(&read(&transposed, 0)), [1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    let opened = Saved::new(&transposed);
    let opened = opened.open().unwrap();
    assert_eq!(opened.read_part(0, 0..24).unwrap(), opened.read(0).unwrap());
    assert_eq!(opened.read_part(0, 6..15).unwrap(), opened.read(0).unwrap()[6..15]);
    assert!(opened.read_part(0, 8..8).unwrap().is_empty());
    // An axis of one number may have any stride.
    assert_eq!(f32s(&read(&file(&one(&tensor(0, &[1, 2], &[9, 1]))), 0)), [0.0, 1.0]);
    let sliced = file(&one(&tensor(0, &[2, 2, 2], &[8, 4, 2])));
    assert_eq!(f32s(&read(&sliced, 0)), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
    assert!(read(&file(&one(&tensor(99, &[0, 5], &[5, 1]))), 0).is_empty());
}

#[test]
fn parameters_and_what_is_put_on_a_dict_are_read() {
    let hooks = call(&global("collections", "OrderedDict"), b")");
    let arguments = tuple(&[tensor(2, &[2], &[1]), b"\x88".to_vec(), hooks]);
    let parameter = call(&global("torch._utils", "_rebuild_parameter"), &arguments);
    let metadata = dict(&[("_metadata", dict(&[("version", integer(1))]))]);
    let built = [dict(&[("a", parameter)]), metadata, b"b".to_vec()].concat();
    assert_eq!(f32s(&read(&file(&pickle(&built)), 0)), [2.0, 3.0]);
}

#[test]
fn eight_bit_floats_and_other_formats_have_their_encodings() {
    let bytes = || storage(&global("torch.storage", "UntypedStorage"), "0", 64);
    let formats = [
        ("float8_e4m3fn", Encoding::F8E4M3, 64),
        ("float8_e5m2", Encoding::F8E5M2, 64),
        ("bfloat16", Encoding::BF16, 32),
        ("int64", Encoding::I64, 8),
        ("uint16", Encoding::Other(16), 32),
    ];
    for (name, encoding, count) in formats {
        let saved = Saved::new(&file(&one(&tensor_of_bytes(bytes(), name, &[count]))));
        let opened = saved.open().unwrap();
        assert_eq!(opened.tensors()[0].encoding, encoding);
        assert_eq!(opened.read(0).unwrap(), numbers(16));
    }
    let kinds = [
        ("DoubleStorage", Encoding::F64, 8),
        ("HalfStorage", Encoding::F16, 32),
        ("BFloat16Storage", Encoding::BF16, 32),
        ("LongStorage", Encoding::I64, 8),
        ("IntStorage", Encoding::I32, 16),
        ("ShortStorage", Encoding::I16, 32),
        ("CharStorage", Encoding::I8, 64),
        ("ByteStorage", Encoding::U8, 64),
        ("BoolStorage", Encoding::Bool, 64),
    ];
    for (name, encoding, count) in kinds {
        let storage = storage(&global("torch", name), "0", count);
        let saved = Saved::new(&file(&one(&tensor_in(storage, 0, &[count], &[1]))));
        assert_eq!(saved.open().unwrap().tensors()[0].encoding, encoding);
    }
    assert!(said_of(&tensor_in(bytes(), 0, &[4], &[1])).contains("number format"));
    let typed = storage(&global("torch", "FloatStorage"), "0", 16);
    assert!(said_of(&tensor_of_bytes(typed, "float32", &[4])).contains("two number formats"));
}

#[test]
fn a_dict_below_the_top_is_found_by_its_name() {
    let model = || dict(&[("w", tensor(0, &[2], &[1]))]);
    for name in ["state_dict", "model", "module", "generator_ema", "generator", "params"] {
        let top = dict(&[("epoch", integer(3)), (name, model()), ("optimizer", model())]);
        let saved = Saved::new(&file(&pickle(&top)));
        assert_eq!(saved.open().unwrap().tensors()[0].name, "w");
    }
    let two = dict(&[("generator", model()), ("generator_ema", model())]);
    let said = refusal(&file(&pickle(&two)));
    assert!(said.contains("\"generator\"") && said.contains("\"generator_ema\""), "{said}");
    let mixed = dict(&[("w", tensor(0, &[2], &[1])), ("ema", model())]);
    assert!(refusal(&file(&pickle(&mixed))).contains("\"ema\""));
    let other = dict(&[("my_net", model())]);
    let said = refusal(&file(&pickle(&other)));
    assert!(said.contains("my_net") && said.contains("state_dict"), "{said}");
    // One dict under two names is one dict.
    let model = [model(), b"q\x07".to_vec()].concat();
    let same = dict(&[("model", model), ("module", b"h\x07".to_vec())]);
    assert_eq!(Saved::new(&file(&pickle(&same))).open().unwrap().tensors().len(), 1);
}

#[test]
fn names_are_held_to_their_rules() {
    let twice = dict(&[("a", tensor(0, &[1], &[1])), ("a", tensor(1, &[1], &[1]))]);
    assert!(refusal(&file(&pickle(&twice))).contains("\"a\" is there twice"));
    let long = dict(&[(&*"n".repeat(513), tensor(0, &[1], &[1]))]);
    assert!(refusal(&file(&pickle(&long))).contains("513 bytes"));
    let numbered = [b"}".to_vec(), integer(1), tensor(0, &[1], &[1]), b"s".to_vec()].concat();
    assert!(refusal(&file(&pickle(&numbered))).contains("name is no text"));
    for value in [&b"N"[..], b"}", b"]", b")"] {
        assert!(refusal(&file(&pickle(value))).contains("no dict of tensors"));
    }
}

#[test]
fn views_that_leave_their_storage_are_refused() {
    for (offset, sizes, strides) in [
        (0, [4, 4], [1000, 1]),
        (1, [4, 4], [4, 1]),
        (16, [1, 1], [1, 1]),
        (i64::MAX, [2, 2], [i64::MAX, i64::MAX]),
        (0, [2, 2], [i64::MAX, i64::MAX]),
    ] {
        let said = said_of(&tensor(offset, &sizes, &strides));
        assert!(said.contains("tensor \"a\"") && said.contains("beyond its storage"), "{said}");
    }
    assert!(said_of(&tensor(-4, &[4], &[1])).contains("begins at number -4"));
    assert!(said_of(&tensor(0, &[-4], &[1])).contains("sizes"));
    assert!(said_of(&tensor(0, &[4], &[-1])).contains("strides"));
    assert!(said_of(&tensor(0, &[4, 4], &[1])).contains("2 sizes and 1 strides"));
    assert!(said_of(&tensor(0, &[1; 9], &[1; 9])).contains("9 axes"));
    for sizes in [[i64::MAX, i64::MAX], [0, i64::MAX], [1 << 31, 1 << 31]] {
        let said = said_of(&tensor(0, &sizes, &[1, 1]));
        assert!(said.contains("more numbers than can be counted"), "{said}");
    }
}

#[test]
fn views_that_show_a_number_again_are_refused() {
    for (sizes, strides) in [([1 << 20, 1 << 20], [0, 0]), ([4, 1], [0, 1]), ([15, 2], [1, 1])] {
        let said = said_of(&tensor(0, &sizes, &strides));
        assert!(said.contains("more than once"), "{said}");
    }
}

#[test]
fn storages_are_held_to_the_file() {
    let float = || global("torch", "FloatStorage");
    let said =
        |key: &str, elements| said_of(&tensor_in(storage(&float(), key, elements), 0, &[1], &[1]));
    assert!(said("0", 1 << 33).contains("8589934592 numbers"));
    assert!(said("0", 15).contains("64 bytes"));
    assert!(said("0", -16).contains("-16 numbers"));
    assert!(said("0", i64::MAX).contains("64 bytes"));
    assert!(said("1", 16).contains("data/1 is not in the file"));
    for key in ["../../../../etc/hostname", "", "0x", "٣", "-0", "00000000000000000000000"] {
        assert!(said(key, 16).contains("no number"), "{key}");
    }
}

#[test]
fn a_file_of_another_kind_says_how_to_convert() {
    let legacy = [super::LEGACY, b"\x2e\x80\x02\x4d\xe9\x03\x2e"].concat();
    let said = refusal(&legacy);
    assert!(said.contains("legacy") && said.contains("torch.save(torch.load("), "{said}");
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(refusal(&tar).contains("legacy"));
    for name in ["archive/constants.pkl", "archive/code/__torch__.py"] {
        let mut entries = entries(&one(&tensor(0, &[1], &[1])));
        entries.push(ZipEntry::stored(name, b"x"));
        let said = refusal(&zip(&entries));
        assert!(said.contains("TorchScript") && said.contains("torch.jit.load"), "{said}");
    }
    assert!(refusal(&zip(&[ZipEntry::stored("a/b.txt", b"x")])).contains("without data.pkl"));
    assert!(refusal(&zip(&[])).contains("without data.pkl"));
}

proptest! {

    /// Bytes are replaced, taken out or put in, mostly in the pickle and the directory: a file is
    /// read or refused, and what is read has the bytes that it says. Nothing panics, the foreign
    /// reader neither.
    #[test]
    fn a_changed_file_is_read_or_refused(
        packed in any::<bool>(),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8),
            1..6,
        ),
    ) {
        let dict = dict(&[
            ("a", tensor(0, &[2, 3], &[3, 1])),
            ("b", tensor(1, &[3, 2], &[1, 4])),
        ]);
        let mut entries = entries(&pickle(&dict));
        if packed {
            entries[0] = ZipEntry::deflated("archive/data.pkl", &pickle(&dict));
            entries[2] = ZipEntry::deflated("archive/data/0", &numbers(16));
        }
        let mut bytes = zip(&entries);
        for (place, byte, kind) in changes {
            let place = place.index(bytes.len());
            match kind {
                0 => drop(bytes.remove(place)),
                1 => bytes.insert(place, byte),
                2 => bytes[place] ^= 1 << (byte % 8),
                _ => bytes[place] = byte,
            }
        }
        match Saved::new(&bytes).open() {
            Ok(file) => {
                for (number, tensor) in file.tensors().iter().enumerate() {
                    prop_assert!(tensor.bytes() <= 64);
                    if let Ok(read) = file.read(number) {
                        prop_assert_eq!(read.len() as u64, tensor.bytes());
                    }
                }
            }
            Err(Error::File(error)) => prop_assert!(false, "{error}"),
            Err(_) => {}
        }
    }

    /// Any bytes at all as the pickle of a good zip file.
    #[test]
    fn any_pickle_is_read_or_refused(
        operations in prop::collection::vec(
            prop::sample::select(&b"().}]NRQqhtusaebKJMXGc\x80\x85\x86\x87\x88\x8a\0\x01\x02"[..]),
            0..200,
        ),
    ) {
        let bytes = [b"\x80\x02", operations.as_slice()].concat();
        prop_assert!(Saved::new(&file(&bytes)).open().is_err());
    }
}
