//! What a pickle's calls make.

use crate::encoding::Encoding;
use crate::torch::pickle::globals::Global;
use crate::torch::pickle::objects::{Objects, Span, Storage, Tensor, Value};

/// What calling `callee` makes: one of four things, or nothing.
pub(super) fn call(
    objects: &mut Objects,
    callee: Global,
    arguments: Span,
) -> Result<Value, String> {
    let given = objects.items(arguments);
    match (callee, given) {
        (Global::Dict, []) => Ok(objects.new_dict()),
        (Global::Parameter, [Value::Tensor(tensor), _, _]) => Ok(Value::Tensor(*tensor)),
        (Global::Tensor, [view @ .., _, _]) if view.len() == 4 => {
            let tensor = tensor(view, None)?;
            objects.new_tensor(tensor)
        }
        (Global::TensorOfBytes, [view @ .., _, _, Value::Global(Global::NumberFormat(format))])
            if view.len() == 4 =>
        {
            let tensor = tensor(view, Some(*format))?;
            objects.new_tensor(tensor)
        }
        _ => {
            Err(format!("{} with {} arguments, or others than it takes", name(callee), given.len()))
        }
    }
}

/// Storage, offset, sizes, strides.
fn tensor(view: &[Value], encoding: Option<Encoding>) -> Result<Tensor, String> {
    let [
        Value::Storage(storage),
        Value::Integer(offset),
        Value::Tuple(sizes),
        Value::Tuple(strides),
    ] = view
    else {
        return Err("a tensor that is not made of storage, offset, sizes and strides".to_owned());
    };
    Ok(Tensor { storage: *storage, encoding, offset: *offset, sizes: *sizes, strides: *strides })
}

/// The storage that a persistent id names: `("storage", type, key, device, elements)`.
pub(super) fn storage(bytes: &[u8], objects: &mut Objects, id: Value) -> Result<Value, String> {
    let Value::Tuple(id) = id else {
        return Err("a persistent id that is no tuple".to_owned());
    };
    let &[
        Value::Text(what),
        Value::Global(Global::Storage(encoding)),
        Value::Text(key),
        Value::Text(_),
        Value::Integer(elements),
    ] = objects.items(id)
    else {
        return Err("a persistent id of something else than a storage".to_owned());
    };
    if bytes.get(what.range()) != Some(b"storage") {
        return Err("a persistent id of something else than a storage".to_owned());
    }
    objects.new_storage(Storage { encoding, key, elements })
}

fn name(callee: Global) -> &'static str {
    match callee {
        Global::Dict => "collections.OrderedDict",
        Global::Tensor => "torch._utils._rebuild_tensor_v2",
        Global::TensorOfBytes => "torch._utils._rebuild_tensor_v3",
        Global::Parameter => "torch._utils._rebuild_parameter",
        Global::Storage(_) => "the name of a storage",
        Global::NumberFormat(_) => "the name of a number format",
    }
}
