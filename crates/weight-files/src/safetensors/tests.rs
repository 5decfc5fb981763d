//! Headers that are right, and headers made wrong.

use crate::encoding::Encoding;
use crate::testing::{open, refused};

/// A file with this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let length = header.len() as u64;
    [&length.to_le_bytes()[..], header.as_bytes(), &vec![1; data]].concat()
}

fn tensor(dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

#[test]
fn tensors_are_in_the_order_of_the_file() {
    let (b, a) = (tensor("F32", "[1,2]", 0, 8), tensor("BF16", "[]", 8, 10));
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},"a":{a},"b":{b},"none":{}}}   "#,
        tensor("I64", "[0,7]", 8, 8)
    );
    let file = open(&file(&header, 10)).unwrap();
    assert_eq!(file.format(), "safetensors");
    assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
    let names: Vec<&str> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["b", "none", "a"]);
    assert_eq!(file.tensors()[0].shape, [1, 2]);
    assert_eq!(file.tensors()[2].encoding, Encoding::BF16);
    assert_eq!(file.read(2).unwrap(), [1, 1]);
    assert!(file.read(1).unwrap().is_empty());
}

#[test]
fn all_dtypes_of_the_crate_are_known() {
    use safetensors::Dtype::*;
    let all = [
        BOOL,
        F4,
        F6_E2M3,
        F6_E3M2,
        U8,
        I8,
        F8_E5M2,
        F8_E4M3,
        F8_E8M0,
        F8_E4M3FNUZ,
        F8_E5M2FNUZ,
        I16,
        U16,
        F16,
        BF16,
        I32,
        U32,
        F32,
        C64,
        F64,
        I64,
        U64,
    ];
    for dtype in all {
        let encoding = super::dtype::encoding(&dtype.to_string()).unwrap();
        assert_eq!(encoding.block_bits(), dtype.bitsize(), "{dtype}");
    }
}

#[test]
fn overlaps_and_gaps_are_refused() {
    let two = |left: String, right: String| format!(r#"{{"left":{left},"right":{right}}}"#);
    let header = two(tensor("F32", "[2]", 0, 8), tensor("F32", "[2]", 4, 12));
    refused(&file(&header, 12), &["`left`", "`right`", "share"]);
    let header = two(tensor("F32", "[2]", 0, 8), tensor("F32", "[2]", 0, 8));
    refused(&file(&header, 8), &["`left`", "`right`", "share"]);
    let header = two(tensor("F32", "[2]", 0, 8), tensor("F32", "[1]", 12, 16));
    refused(&file(&header, 16), &["`right`", "byte 12", "from 8 on"]);
    let header = format!(r#"{{"x":{}}}"#, tensor("F32", "[2]", 4, 12));
    refused(&file(&header, 12), &["`x`", "from 0 on"]);
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let one = |dtype, shape, end| format!(r#"{{"x":{}}}"#, tensor(dtype, shape, 0, end));
    refused(&file(&one("F32", "[2]", 8), 7), &["cut short", "has"]);
    refused(&file(&one("F32", "[2]", 8), 9), &["damaged", "describes"]);
    refused(&file(&one("F32", "[2]", 9), 9), &["`x`", "[2]", "F32", "8 bytes", "0 to 9"]);
    refused(&file(&one("F4", "[3]", 2), 2), &["`x`", "no size in whole bytes"]);
    let product = "[4294967296,4294967296,4294967296]";
    refused(&file(&one("F32", product, 8), 8), &["`x`", "no size in whole bytes"]);
    refused(&file(&one("U8", "[4294967296,4294967296,0]", 0), 0), &["`x`"]);
    let back = format!(r#"{{"x":{}}}"#, tensor("F32", "[0]", 8, 0));
    refused(&file(&back, 8), &["`x`", "8 to 0"]);
    let end = 1 << 60;
    let huge = format!("[{}]", end / 4);
    refused(&file(&one("F32", &huge, end), 8), &["cut short"]);
}

#[test]
fn json_that_is_no_header_is_refused() {
    let x = tensor("F32", "[1]", 0, 4);
    refused(&file(&format!(r#"{{"x":{x},"x":{x}}}"#), 4), &["`x`", "twice"]);
    refused(&file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), &["__metadata__", "twice"]);
    refused(&file(r#"{"__metadata__":{"a":1}}"#, 0), &["header", "string"]);
    refused(&file(r#"{"x":{"dtype":"F32"}}"#, 0), &["`x`", "shape"]);
    refused(&file(&format!(r#"{{"x":{}}}"#, tensor("F3", "[1]", 0, 4)), 4), &["`x`", "`F3`"]);
    refused(&file(&format!(r#"{{"x":{}}}"#, tensor("U8", "[-1]", 0, 4)), 4), &["`x`", "-1"]);
    let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
    refused(&file(&deep, 0), &["header cannot be read"]);
    let deep = format!(r#"{{"x":{{"y":{}"#, r#"{"y":"#.repeat(100_000));
    refused(&file(&deep, 0), &["header cannot be read"]);
    let axes = format!(r#"{{"x":{}}}"#, tensor("U8", &format!("[{}1]", "1,".repeat(40)), 0, 1));
    refused(&file(&axes, 1), &["`x`", "axes"]);
    refused(&file("{\"a\nb\":1}", 0), &["header cannot be read"]);
    refused(&file(r#"{"a\nb":1}"#, 0), &["header cannot be read", "tensor `a\u{fffd}b`"]);
}

#[test]
fn what_nobody_knows_is_passed_over() {
    let header = r#"{"__metadata__":null,"x":{"dtype":"U8","more":{"a":[1]},"shape":[1],
        "data_offsets":[0,1]}}"#;
    assert_eq!(open(&file(header, 1)).unwrap().tensors().len(), 1);
}

#[test]
fn endless_words_are_refused() {
    let words: Vec<String> = (0..70_000).map(|i| format!(r#""{i}":"""#)).collect();
    let header = format!(r#"{{"__metadata__":{{{}}}}}"#, words.join(","));
    refused(&file(&header, 0), &["__metadata__", "65536"]);
    let long = format!(r#"{{"{}":1}}"#, "x".repeat(1 << 20));
    assert!(refused(&file(&long, 0), &["header"]).len() < 3000);
    let header = " ".repeat((16 << 20) + 1).replacen(' ', "{", 1);
    refused(&file(&header, 0), &["16777217", "at most"]);
}
