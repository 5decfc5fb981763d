use crate::torch::testing::*;

fn said_of(value: &[u8]) -> String {
    refusal(&file(&pickle(value)))
}

#[test]
fn a_name_that_runs_something_is_refused_where_it_is_read() {
    let run = |module, name| call(&global(module, name), &tuple(&[text("touch x")]));
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch", ""),
    ] {
        let said = said_of(&dict(&[("a", run(module, name))]));
        let expected = format!("{module}.{name}: this file would run a program");
        assert!(said.contains(&expected), "{said}");
    }
    // Inside a tuple inside a dict; as what is put on a dict; never called at all.
    let nested = dict(&[("a", tuple(&[tensor(0, &[1], &[1]), run("builtins", "eval")]))]);
    assert!(said_of(&nested).contains("builtins.eval"));
    let good = dict(&[("a", tensor(0, &[1], &[1]))]);
    assert!(said_of(&[&good, &*run("posix", "system"), b"b"].concat()).contains("posix.system"));
    assert!(said_of(&global("os", "system")).contains("os.system"));
    let odd = said_of(&global("o\u{1b}[2Js", "x"));
    assert!(odd.contains("\\u{1b}[2J") && !odd.contains('\u{1b}'), "{odd}");
}

#[test]
fn other_operations_are_refused_with_their_place() {
    let stack_global = b"\x8c\x05posix\x8c\x06system\x93";
    let said = said_of(stack_global);
    assert!(said.contains("0x8c at byte 2"), "{said}");
    let said = refusal(&file(&[b"\x80\x04", &stack_global[..], b"."].concat()));
    assert!(said.contains("protocol 4"), "{said}");
    for operation in [b'i', b'o', b'P', b'0', b'1', b'2', b'U', b'S', b'I', b'B', 0x81, 0x82, 0x92]
    {
        assert!(said_of(&[operation]).contains("no such operation"), "{operation}");
    }
}

#[test]
fn calls_take_what_they_take() {
    let storage = storage(&global("torch", "FloatStorage"), "0", 16);
    let rebuild = global("torch._utils", "_rebuild_tensor_v2");
    let short = call(&rebuild, &tuple(std::slice::from_ref(&storage)));
    assert!(said_of(&dict(&[("a", short)])).contains("_rebuild_tensor_v2 with 1 arguments"));
    let wrong = vec![b"N".to_vec(); 6];
    assert!(said_of(&call(&rebuild, &tuple(&wrong))).contains("storage, offset"));
    let filled = call(&global("collections", "OrderedDict"), &tuple(&[tuple(&[])]));
    assert!(said_of(&filled).contains("OrderedDict with 1 arguments"));
    assert!(said_of(&call(&global("torch", "FloatStorage"), b")")).contains("storage"));
    assert!(said_of(b"N)R").contains("cannot be called"));
    assert!(said_of(&call(&global("collections", "OrderedDict"), b"N")).contains("call"));
    assert!(said_of(&[tuple(&[text("module")]).as_slice(), b"Q"].concat()).contains("persistent"));
    assert!(said_of(b"NQ").contains("persistent"));
    assert!(said_of(b"NNb").contains("state"));
    assert!(said_of(b"N}b").contains("state"));
}

#[test]
fn lengths_are_held_to_what_is_there() {
    assert!(said_of(b"X\xff\xff\xff\xffabc").contains("cut short"));
    assert!(said_of(b"\x8a\xff\x01").contains("255 bytes"));
    assert!(said_of(b"\x8a\x08\x01").contains("cut short"));
    assert!(said_of(b"X\x01\0\0\0\xff").contains("UTF-8"));
    assert!(said_of(&[b"c", "m".repeat(600).as_bytes()].concat()).contains("512 bytes"));
    let whole = pickle(&dict(&[("a", tensor(0, &[1], &[1]))]));
    for length in 0..whole.len() {
        assert!(refusal(&file(&whole[..length])).contains("cut short"), "{length}");
    }
    assert!(refusal(&file(&[whole, b".".to_vec()].concat())).contains("goes on"));
}

#[test]
fn values_that_are_missing_are_missed() {
    for pickled in [
        &b"t"[..],
        b"\x85",
        b"u",
        b"e",
        b"s",
        b"Ns",
        b"}(Nu",
        b"]Ns",
        b"}Na",
        b"R",
        b"Q",
        b"b",
        b"q\0",
        b"h\0",
        b"j\0\0\0\0",
        b"N(\x85",
        b"N(q\0",
        b"}(NNs",
        b"(",
        b"NN",
        b"(N",
        b"](}a",
    ] {
        let said = said_of(pickled);
        assert!(!said.contains("no dict of tensors"), "{pickled:?}: {said}");
    }
}

#[test]
fn nesting_and_sharing_cost_nothing() {
    let deep = [b"N".to_vec(), vec![0x85; 200_000]].concat();
    assert!(said_of(&dict(&[("a", deep.clone())])).contains("no dict of tensors"));
    let good = dict(&[("a", tensor(0, &[1], &[1])), ("deep", deep)]);
    assert_eq!(Saved::new(&file(&pickle(&good))).open().unwrap().tensors().len(), 1);
    let lists = [vec![b']'; 80_000], vec![b'a'; 79_999]].concat();
    assert!(said_of(&lists).contains("no dict of tensors"));
    // Each tuple holds the last one three times: 3^60 texts if they were copied.
    let mut bomb = [text(&"x".repeat(64)), b"q\0".to_vec()].concat();
    for number in 0..60 {
        bomb.extend([b'(', b'h', number, b'h', number, b'h', number, b't', b'q', number + 1]);
    }
    assert!(said_of(&bomb).contains("leaves values behind"));
    let itself = b"}q\0X\x01\0\0\0ah\0s";
    assert!(said_of(itself).contains("no dict of tensors"));
}

#[test]
fn limits_are_kept() {
    let pushes = vec![b'N'; (1 << 20) + 1];
    assert!(said_of(&pushes).contains("stack"));
    assert!(said_of(&vec![b'('; (1 << 20) + 1]).contains("stack"));
    let items = [vec![b'N'], b"\x85".repeat((4 << 20) + 1)].concat();
    assert!(said_of(&items).contains("tuples"));
    let entries = [b"}(".as_slice(), &b"NN".repeat(400_000), b"u"].concat();
    let entries = [&entries[..], &entries[1..], &entries[1..]].concat();
    assert!(said_of(&entries).contains("entries"));
}
