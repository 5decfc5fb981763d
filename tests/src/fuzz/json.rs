//! Changes of documents in JSON: a value becomes another, or goes, or comes twice.

use serde_json::{Map, Value, json};

use wan_tests::dice::Dice;

/// Values of a document above which it is changed no more: one that comes 300 times, and its copies
/// once more, would take gigabytes.
const NODES_MAX: usize = 50_000;

/// Bytes of texts above which it is changed no more either: documents within texts double their signs of
/// escape each time that one is written into the other.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A document in which a few values are changed, so many times.
pub(crate) fn changed(document: &Value, times: usize, dice: &mut Dice) -> String {
    let mut document = document.clone();
    for _ in 0..times {
        for _ in 0..=dice.below(3) {
            change(&mut document, dice);
        }
        if dice.one_in(40) {
            return nested(dice);
        }
    }
    document.to_string()
}

fn change(document: &mut Value, dice: &mut Dice) {
    let count = nodes(document);
    if count > NODES_MAX || text_bytes(document) > TEXT_BYTES_MAX {
        return;
    }
    let (other, target) = (dice.below(count), dice.below(count));
    let way = dice.below(12);
    // A copy of a large document takes longer than its reader.
    let other = if way == 5 { node(document, other).cloned() } else { None };
    let Some(value) = node_mut(document, target) else { return };
    match way {
        0..=4 => *value = extreme(value, dice),
        5 => *value = other.unwrap_or(Value::Null),
        6 => drop_one(value, dice),
        7 => repeat(value, dice),
        8 => *value = of_another_kind(dice),
        9 => rename_one(value, dice),
        10 => mix_text(value, dice),
        _ => nudge(value, dice),
    }
}

/// A value of the same kind at the end of its range.
fn extreme(value: &Value, dice: &mut Dice) -> Value {
    const WHOLE: [i128; 18] = [
        0,
        1,
        -1,
        2,
        7,
        63,
        64,
        65,
        1 << 16,
        (1 << 31) - 1,
        1 << 31,
        1 << 32,
        (1 << 32) + 1,
        1 << 53,
        i64::MAX as i128,
        1 << 63,
        u64::MAX as i128,
        i64::MIN as i128,
    ];
    const BROKEN: [f64; 8] = [0.5, -0.0, 1e-320, 1e300, -1e300, 1e18, 3.999_999_999, -2.5];
    match value {
        Value::Number(_) if dice.one_in(3) => json!(dice.pick(&BROKEN)),
        Value::Number(_) => {
            let whole = *dice.pick(&WHOLE);
            u64::try_from(whole)
                .map_or_else(|_| json!(i64::try_from(whole).unwrap_or(-1)), |n| json!(n))
        }
        Value::String(_) => json!(dice.pick(&[
            "",
            "\0",
            "../../etc/passwd",
            "/dev/zero",
            "\u{202e}\u{1b}[2J",
            "</s>",
            "none",
            "%s%n",
        ])),
        Value::Bool(is) => json!(!is),
        Value::Array(_) => json!([]),
        Value::Object(_) => json!({}),
        Value::Null => json!(dice.below(3)),
    }
}

fn of_another_kind(dice: &mut Dice) -> Value {
    let (letters, items) = (1 + dice.below(5000), 1 + dice.below(3000));
    match dice.below(8) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(u64::MAX),
        3 => json!(1e300),
        4 => json!("ab\u{e9}".repeat(letters)),
        5 => json!([[[[[]]]]]),
        6 => json!({ "a": { "b": [] } }),
        _ => json!(vec![1; items]),
    }
}

fn drop_one(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Array(items) if !items.is_empty() => drop(items.remove(dice.below(items.len()))),
        Value::Object(members) => {
            let key = members.keys().nth(dice.below(members.len())).cloned();
            key.and_then(|key| members.remove(&key));
        }
        other => *other = Value::Null,
    }
}

fn repeat(value: &mut Value, dice: &mut Dice) {
    let times = *dice.pick(&[1, 2, 17, 300]);
    match value {
        Value::Array(items) => {
            let one = items.get(dice.below(items.len())).cloned().unwrap_or(json!(0));
            items.extend(std::iter::repeat_n(one, times));
        }
        Value::String(text) if text.len() < 10_000 => *text = text.repeat(times + 1),
        other => *other = Value::Array(vec![other.clone(); times]),
    }
}

fn rename_one(value: &mut Value, dice: &mut Dice) {
    let Value::Object(members) = value else { return };
    let entries: Vec<(String, Value)> = std::mem::take(members).into_iter().collect();
    let which = dice.below(entries.len());
    let renamed = entries.into_iter().enumerate().map(|(place, (key, value))| {
        if place == which { (format!("{key}x"), value) } else { (key, value) }
    });
    *members = Map::from_iter(renamed);
}

fn mix_text(value: &mut Value, dice: &mut Dice) {
    let Value::String(text) = value else { return };
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..=dice.below(4) {
        let place = dice.below(letters.len() + 1);
        letters.insert(place, *dice.pick(&['\0', '9', '{', '"', '\u{10ffff}', 'ſ', '\n', '.']));
    }
    *text = letters.into_iter().collect();
}

/// A number one beside.
fn nudge(value: &mut Value, dice: &mut Dice) {
    let by = if dice.one_in(2) { 1 } else { -1 };
    match (value.as_i64(), value.as_f64()) {
        (Some(number), _) => *value = json!(number.wrapping_add(by)),
        (None, Some(number)) => *value = json!(number * 1.000_001),
        _ => {}
    }
}

/// Deeper than any document.
fn nested(dice: &mut Dice) -> String {
    let depth = *dice.pick(&[100, 127, 128, 129, 1000, 100_000]);
    if dice.one_in(2) { "[".repeat(depth) } else { "{\"a\":".repeat(depth) }
}

/// Bytes of all texts of a document.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(key, one)| key.len() + text_bytes(one)).sum(),
        _ => 0,
    }
}

/// How many values a document has, itself included.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum::<usize>(),
        Value::Object(members) => members.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Node `number`, counted from the root: the value, then those in it, in order.
fn node(value: &Value, number: usize) -> Option<&Value> {
    fn find<'v>(value: &'v Value, left: &mut usize) -> Option<&'v Value> {
        if *left == 0 {
            return Some(value);
        }
        *left -= 1;
        match value {
            Value::Array(items) => items.iter().find_map(|item| find(item, left)),
            Value::Object(members) => members.values().find_map(|member| find(member, left)),
            _ => None,
        }
    }
    find(value, &mut { number })
}

/// As [`node`].
fn node_mut(value: &mut Value, number: usize) -> Option<&mut Value> {
    fn find<'v>(value: &'v mut Value, left: &mut usize) -> Option<&'v mut Value> {
        if *left == 0 {
            return Some(value);
        }
        *left -= 1;
        match value {
            Value::Array(items) => items.iter_mut().find_map(|item| find(item, left)),
            Value::Object(members) => members.values_mut().find_map(|member| find(member, left)),
            _ => None,
        }
    }
    find(value, &mut { number })
}
