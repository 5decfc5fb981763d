//! The header and `tables.rs` say the same.

use std::collections::BTreeMap;

use super::HEADER;
use super::tables;

/// Members of each struct of the header, in their order.
fn structs() -> BTreeMap<String, Vec<String>> {
    let mut structs = BTreeMap::new();
    let text = without_comments(HEADER);
    for part in text.split("struct ").skip(1) {
        let Some((name, rest)) = part.split_once('{') else { continue };
        let name = name.trim();
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        let body = &rest[..closing(rest)];
        structs.insert(name.to_string(), body.split(';').flat_map(members).collect());
    }
    structs
}

fn without_comments(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some((before, after)) = rest.split_once("/*") {
        kept += before;
        rest = after.split_once("*/").map_or("", |(_, rest)| rest);
    }
    kept + rest
}

/// Where the brace that was opened is closed.
fn closing(text: &str) -> usize {
    let mut open = 1;
    for (place, c) in text.char_indices() {
        open += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if open == 0 {
            return place;
        }
    }
    panic!("a struct does not end");
}

/// Names of a declaration: of `double min, max` both, of `void (*release)(wan_tensor *)` the
/// function's.
fn members(declaration: &str) -> Vec<String> {
    if let Some((_, rest)) = declaration.split_once("(*") {
        return vec![rest.split(')').next().unwrap().to_string()];
    }
    let name = |part: &str| {
        let part = part.split('[').next().unwrap().trim();
        let start = part.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        part[start.map_or(0, |place| place + 1)..].to_string()
    };
    declaration.split(',').map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_struct_has_the_members_of_the_header_in_their_order() {
    let mut header = structs();
    assert!(header.remove("wan_manifest").is_some());
    for (name, _, members) in tables::layouts() {
        let ours: Vec<&str> = members.iter().map(|(name, _)| name.trim_end_matches('_')).collect();
        let theirs = header.remove(name).unwrap_or_else(|| panic!("the header has no {name}"));
        assert_eq!(ours, theirs, "{name}");
    }
    assert!(header.is_empty(), "unknown here: {:?}", header.keys());
}

/// Sizes and places, as the compiler of the author sees them.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test may start a compiler")]
fn every_member_lies_where_a_c_compiler_puts_it() {
    let mut source = String::from("#include \"wan_plugin.h\"\n#include <stddef.h>\n");
    for (name, size, members) in tables::layouts() {
        source += &format!("_Static_assert(sizeof({name}) == {size}, \"size of {name}\");\n");
        for (member, place) in members {
            let member = member.trim_end_matches('_');
            source += &format!(
                "_Static_assert(offsetof({name}, {member}) == {place}, \"{name}.{member}\");\n"
            );
        }
    }
    for (name, value) in [
        ("WAN_EPOCH", super::super::epoch1::NUMBER),
        ("WAN_FLAVOUR_C", crate::manifest::FLAVOUR_C),
        ("WAN_OPTION_BOOL", tables::BOOL),
        ("WAN_OPTION_INT", tables::INT),
        ("WAN_OPTION_FLOAT", tables::FLOAT),
        ("WAN_OPTION_CHOICE", tables::CHOICE),
        ("WAN_OPTION_FLOAT_LIST", tables::FLOAT_LIST),
        ("WAN_OPTION_DOCUMENT", tables::DOCUMENT),
        ("WAN_BEFORE_EMBED", tables::BEFORE_EMBED),
        ("WAN_BEFORE_BLOCKS", tables::BEFORE_BLOCKS),
        ("WAN_AFTER_BLOCK", tables::AFTER_BLOCK),
        ("WAN_RESIDUAL", tables::RESIDUAL),
        ("WAN_OUTPUT_DELTA", tables::OUTPUT_DELTA),
        ("WAN_COMPUTE", crate::Choice::Compute as u32),
        ("WAN_REUSE", crate::Choice::Reuse as u32),
        ("WAN_SAMPLE", crate::Signal::Sample as u32),
        ("WAN_TIME_EMBEDDING", crate::Signal::TimeEmbedding as u32),
        ("WAN_TIME_PROJECTION", crate::Signal::TimeProjection as u32),
        ("WAN_HIDDEN", crate::Signal::Hidden as u32),
        ("WAN_PROBE", crate::Signal::Probe as u32),
        ("WAN_F32", crate::DType::F32 as u32),
        ("WAN_BF16", crate::DType::BF16 as u32),
        ("WAN_F16", crate::DType::F16 as u32),
        ("WAN_F8E4M3", crate::DType::F8E4M3 as u32),
        ("WAN_DEVICE", crate::Place::Device as u32),
        ("WAN_MAIN_MEMORY", crate::Place::Host as u32),
        ("WAN_INVALID", crate::ErrorKind::Invalid as u32),
        ("WAN_UNSUPPORTED", crate::ErrorKind::Unsupported as u32),
        ("WAN_CANCELLED", crate::ErrorKind::Cancelled as u32),
        ("WAN_FAILED", crate::ErrorKind::Failed as u32),
        ("WAN_PANICKED", crate::ErrorKind::Panicked as u32),
    ] {
        source += &format!("_Static_assert({name} == {value}, \"{name}\");\n");
    }
    let folder = std::env::temp_dir().join(format!("wan-header-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("wan_plugin.h"), HEADER).unwrap();
    std::fs::write(folder.join("layout.c"), source).unwrap();
    let output = std::process::Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "layout.c"])
        .current_dir(&folder)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
