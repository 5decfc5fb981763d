//! The header and `tables.rs` say the same: members, their places and types, functions, numbers.

use std::collections::BTreeMap;

use crate::c::HEADER;
use crate::c::tables::{self, Layout};
use crate::{epoch1, manifest};

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

/// All structs of the header.
fn layouts() -> Vec<Layout> {
    let mut layouts = tables::layouts();
    layouts.push(manifest::layout());
    layouts
}

#[test]
fn every_struct_has_the_members_of_the_header_in_their_order() {
    let mut header = structs();
    for layout in layouts() {
        let ours: Vec<&str> = layout.members.iter().map(|(name, ..)| *name).collect();
        let name = layout.c;
        let theirs = header.remove(name).unwrap_or_else(|| panic!("the header has no {name}"));
        assert_eq!(ours, theirs, "{name}");
    }
    assert!(header.is_empty(), "unknown here: {:?}", header.keys());
}

/// As in CLAP: what it does, and on which thread.
#[test]
fn every_function_has_a_comment_with_its_thread() {
    const THREADS: [&str; 4] =
        ["[opening thread]", "[object thread]", "[in the call]", "[any thread]"];
    let mut functions = 0;
    let mut comment = "";
    for part in HEADER.split_inclusive(['\n', ';', '{']) {
        let code = part.trim_start();
        let member =
            code.split_once("(*").is_some_and(|(_, name)| name.starts_with(char::is_alphabetic));
        let declares = member || code.starts_with("WAN_EXPORT");
        if !declares || code.starts_with(['*', '/', '#']) {
            continue;
        }
        let before = &HEADER[..code.as_ptr() as usize - HEADER.as_ptr() as usize];
        let before = before.trim_end();
        let start = before.rfind("/*").unwrap();
        comment = if before.ends_with("*/") { &before[start..] } else { "" };
        let has_thread = THREADS.iter().any(|thread| comment.contains(thread));
        assert!(has_thread && comment.len() > 30, "{code}: {comment}");
        functions += 1;
    }
    assert!(comment.contains("[opening thread]"), "the last one is wan_plugin_entry");
    let members = tables::layouts().into_iter().flat_map(|layout| layout.members);
    let declared = members.filter(|(.., rust)| rust.contains("fn(") || *rust == "Extension");
    assert_eq!(functions, declared.count() + 1);
}

/// The types of `tables.rs`, in C.
struct Types(BTreeMap<&'static str, &'static str>);

impl Types {
    fn new() -> Self {
        let plain = [
            ("u8", "uint8_t"),
            ("u32", "uint32_t"),
            ("u64", "uint64_t"),
            ("f32", "float"),
            ("f64", "double"),
            ("c_char", "char"),
            ("c_void", "void"),
            ("CResult", "wan_result"),
            ("CTensor", "wan_tensor"),
        ];
        let structs = tables::layouts().into_iter().map(|layout| (layout.name, layout.c));
        Self(plain.into_iter().chain(structs).collect())
    }

    /// Declares `name` to be of a type.
    fn declare(&self, rust: &str, name: &str) -> String {
        let rust = without_breaks(rust);
        let inner = rust.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>'));
        let rust = inner.unwrap_or(&rust).trim();
        if let Some(function) = rust.strip_prefix("unsafe extern \"C\" fn(") {
            let (parameters, gives) = function.split_once(')').unwrap();
            let parameters: Vec<String> = parameters
                .split(',')
                .map(str::trim)
                .filter(|parameter| !parameter.is_empty())
                .map(|parameter| self.plain(parameter))
                .collect();
            let parameters =
                if parameters.is_empty() { "void".into() } else { parameters.join(", ") };
            let gives = gives.trim().strip_prefix("->").map_or("void".into(), |t| self.plain(t));
            return format!("{gives} (*{name})({parameters})");
        }
        match rust.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(array) => {
                let (of, count) = array.split_once(';').unwrap();
                format!("{} {name}[{}]", self.plain(of), count.trim())
            }
            None if self.0.contains_key(rust) || rust.starts_with(['*', 'L']) => {
                format!("{} {name}", self.plain(rust))
            }
            None => self.declare(&alias(rust), name),
        }
    }

    /// A type that stands before its name.
    fn plain(&self, rust: &str) -> String {
        let rust = rust.trim();
        if let Some(of) = rust.strip_prefix("*const ") {
            return format!("{} const *", self.plain(of));
        }
        if let Some(of) = rust.strip_prefix("*mut ") {
            return format!("{} *", self.plain(of));
        }
        if let Some(of) = rust.strip_prefix("List<").and_then(|rest| rest.strip_suffix('>')) {
            return format!("{} const * const *", self.plain(of));
        }
        self.0.get(rust).unwrap_or_else(|| panic!("{rust} is nothing in C")).to_string()
    }
}

/// What a name stands for in `tables.rs`.
fn alias(name: &str) -> String {
    let text = include_str!("../tables.rs");
    let (_, rest) = text
        .split_once(&format!("pub type {name} ="))
        .unwrap_or_else(|| panic!("{name} is no type of tables.rs"));
    rest.split_once(';').unwrap().0.into()
}

fn without_breaks(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words
        .replace("( ", "(")
        .replace(", )", ")")
        .replace(",)", ")")
        .replace("< ", "<")
        .replace(", >", ">")
        .replace(" >", ">")
}

/// Holds a member to its type here. The manifest's texts are bytes here, characters there.
fn type_of_member(types: &Types, layout: &Layout, (member, rust): (&str, &str)) -> String {
    let rust = match layout.c {
        "wan_manifest" => rust.replace("[u8;", "[c_char;"),
        _ => rust.into(),
    };
    let (c, name) = (layout.c, format!("type_{}_{member}", layout.c));
    let declared = types.declare(&rust, &name);
    format!(
        "typedef {declared};\n_Static_assert(_Generic(&(({c} *)0)->{member}, {name} *: 1, \
         default: 0), \"{c}.{member} is no {declared}\");\n"
    )
}

/// Sizes, places, types and numbers, as the compiler of the author sees them.
#[test]
fn every_member_is_to_a_c_compiler_what_it_is_here() {
    let (mut source, types) = (String::new(), Types::new());
    for layout in layouts() {
        let (name, size) = (layout.c, layout.size);
        source += &format!("_Static_assert(sizeof({name}) == {size}, \"size of {name}\");\n");
        for (member, place, rust) in &layout.members {
            source += &format!(
                "_Static_assert(offsetof({name}, {member}) == {place}, \"{name}.{member}\");\n"
            );
            source += &type_of_member(&types, &layout, (member, rust));
        }
    }
    let entry = types.declare("Entry", "type_entry");
    source += &format!(
        "typedef {entry};\n_Static_assert(_Generic(&wan_plugin_entry, type_entry: 1, default: 0), \
         \"wan_plugin_entry\");\n"
    );
    for (name, value) in [
        ("WAN_OK", tables::OK),
        ("WAN_EPOCH", epoch1::NUMBER),
        ("WAN_FLAVOUR_C", manifest::FLAVOUR_C),
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
    compile(HEADER, &source).unwrap();
}

/// The test above can fail: each of these is another type with the same name and the same size.
#[test]
fn another_type_in_the_place_of_a_member_is_found() {
    let types = Types::new();
    let members = |layout: &Layout| {
        let members = layout.members.iter();
        members.map(|(name, _, rust)| type_of_member(&types, layout, (name, rust))).collect()
    };
    let source: String = layouts().iter().map(|layout| -> String { members(layout) }).collect();
    for (from, to) in [
        ("uint64_t bytes_max;", "int64_t bytes_max;"),
        ("const char *name;\n    const char *version;", "char *name;\n    const char *version;"),
        ("(*form)(const wan_tensor *tensor,", "(*form)(wan_tensor *tensor,"),
        (
            "(*evaluations)(void *object, uint64_t index)",
            "(*evaluations)(void *object, int64_t index)",
        ),
        ("void (*log)(uint32_t level,", "uint32_t (*log)(uint32_t level,"),
        ("double *timestep,\n", "float *timestep,\n"),
    ] {
        let header = HEADER.replacen(from, to, 1);
        assert_ne!(header, HEADER, "{from}");
        assert!(compile(&header, &source).is_err(), "{to}");
    }
}

/// What is asked of the other side is what there was when the interface was frozen.
#[test]
fn no_struct_must_be_longer_than_it_was_frozen() {
    let snapshot = super::own("../../tests/snapshots/epoch1/wan_plugin.h");
    let names: BTreeMap<_, _> = tables::layouts().iter().map(|l| (l.name, l.c)).collect();
    let size = |(name, size): (&str, usize)| {
        let name = names[name];
        format!("_Static_assert(sizeof({name}) == {size}, \"frozen size of {name}\");\n")
    };
    let source: String = tables::frozen().into_iter().map(size).collect();
    compile(&std::fs::read_to_string(snapshot).unwrap(), &source).unwrap();
    // Those that begin with a size, and no other.
    let prefixed = tables::layouts().into_iter().filter(|layout| layout.members[0].0 == "size");
    let prefixed: Vec<&str> = prefixed.map(|layout| layout.name).collect();
    assert_eq!(tables::frozen().iter().map(|(name, _)| *name).collect::<Vec<_>>(), prefixed);
}

/// Compiles what comes behind the header; gives what the compiler says against it.
#[allow(clippy::disallowed_methods, reason = "a test may start a compiler")]
fn compile(header: &str, source: &str) -> Result<(), String> {
    let folder = tempfile_folder();
    std::fs::write(folder.join("wan_plugin.h"), header).unwrap();
    let source = format!("#include \"wan_plugin.h\"\n#include <stddef.h>\n{source}");
    std::fs::write(folder.join("layout.c"), source).unwrap();
    let output = std::process::Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "layout.c"])
        .current_dir(&folder)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A folder that no other test has.
fn tempfile_folder() -> std::path::PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(format!("wan-header-{process}-{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
