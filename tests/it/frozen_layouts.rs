//! The binary interface of each epoch, as it was when it was frozen.
//!
//! **If this test fails, do not update the snapshot: undo the change.** A library in somebody's
//! plugin folder was built against the layout that the snapshot shows, and abi_stable refuses it
//! as soon as one field or method is added, removed or moved. What is new comes by extension id
//! (`Sampler::extension`, `Cache::extension`, `TensorOps::extension`), or in a module `epoch2`
//! beside `epoch1`, with a snapshot of its own. Before the first release, and only then, may
//! `WAN_UPDATE_LAYOUTS=1` write the snapshots anew.

use std::collections::BTreeMap;
use std::fmt::Write;

use abi_stable::StableAbi;
use abi_stable::type_layout::{TLField, TypeLayout};
use wan_tests::checkout::checkout;

/// The rule, where whoever opens a snapshot reads it.
const RULE: &str = "\
# The binary interface of an epoch: frozen. Plugins that are built lie in people's folders.
# If a test says that this differs, undo the change: grow by extension id, or by a new epoch.
# tests/it/frozen_layouts.rs says how.

";

/// Packages whose types are shown; those of abi_stable are its own to keep.
const PACKAGES: [&str; 2] = ["wan-plugin-api", "wan-plugin-epoch0"];

#[test]
fn epoch_1_is_as_it_was_when_it_was_frozen() {
    compare(wan_plugin_api::epoch1::PluginModule::LAYOUT, "epoch1");
}

#[test]
fn the_fixture_epoch_is_as_it_was_when_it_was_frozen() {
    compare(wan_plugin_epoch0::PluginModule::LAYOUT, "epoch0");
}

fn compare(module: &'static TypeLayout, name: &str) {
    let mut types = BTreeMap::new();
    visit(module, &mut Vec::new(), &mut types);
    let text = RULE.to_string() + &types.into_values().collect::<String>();
    let path = checkout().join(format!("tests/snapshots/{name}.txt"));
    if std::env::var_os("WAN_UPDATE_LAYOUTS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap();
    assert!(
        text == frozen,
        "the frozen binary interface has changed: read the head of {} and undo the change; {}",
        file!(),
        first_difference(&frozen, &text)
    );
}

/// Describes a type and all that it reaches.
fn visit(
    layout: &'static TypeLayout,
    seen: &mut Vec<&'static TypeLayout>,
    types: &mut BTreeMap<String, String>,
) {
    if seen.iter().any(|s| std::ptr::eq(*s, layout)) {
        return;
    }
    seen.push(layout);
    if is_ours(layout) {
        // All tables of functions have the same name, in modules of their own.
        types.insert(format!("{}::{}", layout.mod_path(), full_name(layout)), describe(layout));
    }
    let parameters = layout.generics().type_params().iter().map(|reached| reached());
    let named = layout.shared_vars().type_layouts().iter().map(|reached| reached());
    let phantom = layout.phantom_fields().iter().map(|field| field.layout());
    for reached in parameters.chain(named).chain(phantom) {
        visit(reached, seen, types);
    }
}

fn is_ours(layout: &TypeLayout) -> bool {
    PACKAGES.contains(&layout.package().as_str())
}

/// A type with what it holds: `RVec<TensorBody_TO>`.
fn full_name(layout: &TypeLayout) -> String {
    let mut names = Vec::new();
    held(layout, &mut names);
    match names.is_empty() {
        true => layout.name().into(),
        false => format!("{}<{}>", layout.name(), names.join(", ")),
    }
}

/// What a type of ours has as parameters, or what one of abi_stable's points to: that crate does
/// not tell the parameters of its own types.
fn held(layout: &TypeLayout, names: &mut Vec<String>) {
    let reached = match is_ours(layout) {
        true => layout.generics().type_params(),
        false => layout.shared_vars().type_layouts(),
    };
    for reached in reached.iter().map(|reached| reached()) {
        let name = reached.name();
        if name.starts_with(['*', '&']) || name == "NonNull" {
            held(reached, names);
        } else if is_ours(reached) || ["f32", "f64", "RString", "RVec"].contains(&name) {
            let name = full_name(reached);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
}

fn describe(layout: &TypeLayout) -> String {
    let mut text = format!(
        "{}::{}: {} bytes, aligned to {}, {:?}\n",
        layout.mod_path(),
        full_name(layout),
        layout.size(),
        layout.alignment(),
        layout.repr_attr()
    );
    for field in layout.get_fields().iter().flat_map(|fields| fields.iter()) {
        describe_field(&field, &mut text);
    }
    text.push('\n');
    text
}

fn describe_field(field: &TLField, text: &mut String) {
    writeln!(text, "  {}: {}", field.name(), full_name(field.layout())).unwrap();
    for function in field.function_range().iter() {
        let parameters: Vec<String> =
            function.param_type_layouts.iter().map(|parameter| full_name(parameter())).collect();
        let gives = function.return_type_layout().map_or("()".into(), |gives| full_name(gives()));
        writeln!(text, "    fn({}) -> {gives}", parameters.join(", ")).unwrap();
    }
}

fn first_difference(frozen: &str, found: &str) -> String {
    let differs = frozen.lines().zip(found.lines()).find(|(a, b)| a != b);
    match differs {
        Some((was, is)) => format!("it was `{}`, it is `{}`", was.trim(), is.trim()),
        None => "lines came or went".into(),
    }
}
