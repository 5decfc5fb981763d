//! What a checkpoint holds, and what it cannot.

use std::collections::BTreeSet;
use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use safetensors::SafeTensors;

use super::{file, is_damaged, names, numbers, place, seal_again, write};
use crate::{Error, RunFolder, TensorView, Written};

const DTYPES: [(&str, usize); 6] =
    [("F32", 4), ("BF16", 2), ("U8", 1), ("F64", 8), ("F8_E4M3", 1), ("I64", 8)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        tensors in vec((any::<String>(), 0..6_usize, vec(0..4_usize, 0..4)), 0..6),
        text in any::<String>(),
        number in any::<u64>(),
    ) {
        let (_folder, path) = place();
        let mut run = RunFolder::create(&path, "{}").unwrap();
        let mut taken = BTreeSet::from(["__metadata__".to_string()]);
        let tensors: Vec<_> = tensors.into_iter().filter(|t| taken.insert(t.0.clone())).collect();
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        let sizes = tensors.iter().map(|(_, dtype, shape)| DTYPES[*dtype].1 * count(shape));
        let bytes = sizes.map(|size| (0..size).map(|i| (i % 251) as u8).collect());
        let bytes: Vec<Vec<u8>> = bytes.collect();
        let views = tensors.iter().zip(&bytes).map(|((name, dtype, shape), bytes)| {
            TensorView { name, dtype: DTYPES[*dtype].0, shape, bytes }
        });
        let views: Vec<TensorView<'_>> = views.collect();
        let text = serde_json::to_string(&text).unwrap();
        let before = run.written();
        let written = run.write_checkpoint(number, &text, &views).unwrap();

        let file = &run.checkpoints().unwrap()[0];
        let checkpoint = file.read().unwrap();
        prop_assert_eq!((checkpoint.number, &checkpoint.text), (number, &text));
        prop_assert_eq!(checkpoint.tensors.len(), views.len());
        for (tensor, view) in checkpoint.tensors.iter().zip(&views) {
            prop_assert_eq!((tensor.name.as_str(), tensor.dtype.as_str()), (view.name, view.dtype));
            prop_assert_eq!((&tensor.shape[..], &tensor.bytes[..]), (view.shape, view.bytes));
        }
        prop_assert_eq!(file.text().unwrap(), text.clone());
        prop_assert_eq!(file.verify().unwrap(), text);
        // Another reader finds the same, each tensor aligned.
        let all = fs::read(file.path()).unwrap();
        let other = SafeTensors::deserialize(&all).unwrap();
        prop_assert_eq!(other.len(), views.len());
        for view in &views {
            let tensor = other.tensor(view.name).unwrap();
            prop_assert_eq!((tensor.shape(), tensor.data()), (view.shape, view.bytes));
            prop_assert_eq!(tensor.dtype().to_string(), view.dtype);
            let (_, width) = DTYPES.iter().find(|(name, _)| *name == view.dtype).unwrap();
            let start = tensor.data().as_ptr() as usize - all.as_ptr() as usize;
            prop_assert!(tensor.data().is_empty() || start.is_multiple_of(*width));
        }
        let counted = Written { bytes: all.len() as u64, fsyncs: 2 };
        prop_assert_eq!(written, counted);
        prop_assert_eq!(run.written().bytes - before.bytes, counted.bytes);
        prop_assert_eq!(run.written().fsyncs - before.fsyncs, counted.fsyncs);
    }
}

#[test]
fn the_last_two_are_kept() {
    let (_folder, path) = place();
    let mut run = RunFolder::create(&path, "{}").unwrap();
    assert!(run.newest().unwrap().checkpoint.is_none());
    for number in [0, 1, 2, 30, 1_234_567] {
        write(&mut run, number);
        assert_eq!(run.newest().unwrap().checkpoint.unwrap().number, number);
    }
    assert_eq!(numbers(&run), [1_234_567, 30]);
    drop(run);
    assert_eq!(numbers(&RunFolder::open(&path).unwrap()), [1_234_567, 30]);
    let names = names(&path);
    assert!(names.iter().any(|name| name.starts_with("round-000030.")), "{names:?}");
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_nothing() {
    let (_folder, path) = place();
    let mut run = RunFolder::create(&path, "{}").unwrap();
    let before = names(&path);
    let good = TensorView { name: "x", dtype: "F32", shape: &[1], bytes: &[0; 4] };
    let huge = [usize::MAX, usize::MAX];
    for (tensors, words) in [
        (vec![good, good], "the name is taken"),
        (vec![TensorView { name: "__metadata__", ..good }], "the name is taken"),
        (vec![TensorView { dtype: "F33", ..good }], "unknown number format"),
        (vec![TensorView { shape: &[2], ..good }], "has 8 bytes, found 4"),
        (vec![TensorView { shape: &huge, ..good }], "more than 2^64"),
    ] {
        let error = run.write_checkpoint(1, "{}", &tensors).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for text in ["", "{", "{} {}", "nothing"] {
        let error = run.write_checkpoint(1, text, &[good]).unwrap_err();
        assert!(error.to_string().contains("no JSON"), "{error}");
    }
    assert_eq!(names(&path), before);
}

/// A safetensors file of a header and bytes.
fn layout(header: &str, bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(vec![0; bytes]);
    file
}

#[test]
fn a_checkpoint_with_the_right_hash_and_wrong_contents_is_refused() {
    let (_folder, path) = place();
    let mut run = RunFolder::create(&path, "{}").unwrap();
    write(&mut run, 1);
    let wan = r#""__metadata__":{"wan":"{\"version\":1,\"number\":1,\"checkpoint\":{}}"}"#;
    let of = |number: u8| wan.replace(":1,\\\"check", &format!(":{number},\\\"check"));
    let x = |dtype: &str, shape: &str, places: &str| {
        format!(r#""x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{places}}}"#)
    };
    let good = x("F32", "[1]", "[0,4]");
    let cases = [
        ("an empty file", Vec::new()),
        ("a header longer than the file", u64::MAX.to_le_bytes().to_vec()),
        ("a header of 2^40 bytes", (1_u64 << 40).to_le_bytes().to_vec()),
        ("no JSON", layout("{", 0)),
        ("no object", layout("[]", 0)),
        ("no metadata", layout(&format!("{{{good}}}"), 4)),
        ("other metadata", layout(r#"{"__metadata__":{"other":"1"}}"#, 0)),
        ("another number", layout(&format!("{{{},{good}}}", of(2)), 4)),
        ("bytes without a tensor", layout(&format!("{{{wan}}}"), 4)),
        ("too few bytes", layout(&format!("{{{wan},{good}}}"), 3)),
        ("a tensor twice", layout(&format!("{{{wan},{good},{good}}}"), 4)),
        ("metadata twice", layout(&format!("{{{wan},{wan}}}"), 0)),
        ("a hole", layout(&format!("{{{wan},{}}}", x("F32", "[1]", "[4,8]")), 8)),
        ("an end before the start", layout(&format!("{{{wan},{}}}", x("U8", "[0]", "[4,0]")), 4)),
        ("two in one place", layout(&format!("{{{wan},{good},{}}}", good.replace('x', "y")), 4)),
        ("another format", layout(&format!("{{{wan},{}}}", x("Q4", "[1]", "[0,4]")), 4)),
        ("another shape", layout(&format!("{{{wan},{}}}", x("F32", "[2]", "[0,4]")), 4)),
        ("a negative shape", layout(&format!("{{{wan},{}}}", x("F32", "[-1]", "[0,4]")), 4)),
        (
            "a shape whose product overflows",
            layout(&format!("{{{wan},{}}}", x("F32", "[4294967296,4294967296,4]", "[0,0]")), 0),
        ),
    ];
    for (what, bytes) in cases {
        let sealed = seal_again(&file(&path, "round-"), &bytes);
        let error = run.checkpoints().unwrap()[0].read().expect_err(what);
        assert!(is_damaged(&error, &sealed), "{what}: {error}");
        let said = error.to_string();
        assert!(!said.contains("SHA-256") && !said.contains('\n'), "{what}: {said}");
    }
    let mut longer = layout("{}", 0);
    longer[..8].copy_from_slice(&50_000_000_u64.to_le_bytes());
    seal_again(&file(&path, "round-"), &longer);
    let error = run.newest().unwrap().damaged.remove(0).to_string();
    assert!(error.contains("50000000 bytes were to follow, and there are 2"), "{error}");
    // What is right is read.
    seal_again(&file(&path, "round-"), &layout(&format!("{{{wan},{good}}}"), 4));
    assert_eq!(run.newest().unwrap().checkpoint.unwrap().tensors[0].bytes, [0; 4]);
}
