//! A saved state as bytes, as a file between two processes holds it.

use serde_json::{Value, json};
use wan_plugin_api::state;
use wan_plugin_api::{DType, Error, Message, Place, Result, TensorForm};

use crate::vec_ops::{VecOps, values};

/// The answer of a strategy to a save on [`VecOps`], as bytes. Holds no tensor handle.
///
/// ```
/// use wan_plugin_api::Message;
/// use wan_plugin_kit::{SavedBytes, VecOps, values};
///
/// let message = |tensors| Message { document: "{}".into(), tensors };
/// let tensor = VecOps::default().tensor(1, &[1.0, -2.0]);
/// let bytes = SavedBytes::of(&message(vec![tensor])).unwrap();
/// let elsewhere = VecOps::default();
/// assert_eq!(values(&bytes.message(&elsewhere).unwrap().tensors[0]), [1.0, -2.0]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedBytes(Vec<u8>);

/// Bytes of the length of the header, a little-endian u64.
const LENGTH: usize = 8;

impl SavedBytes {
    /// Writes a message: a JSON header with the document and the form of every tensor, then the
    /// elements of all tensors. [`VecOps`] holds elements as f32 in every number format.
    ///
    /// # Errors
    /// `Failed` for a number format of a later epoch.
    pub fn of(message: &Message) -> Result<Self> {
        let forms: Vec<Value> =
            message.tensors.iter().map(|t| form_document(t.form())).collect::<Result<_>>()?;
        let header = json!({ "document": message.document, "forms": forms }).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        for tensor in &message.tensors {
            bytes.extend(values(tensor).iter().flat_map(|element| element.to_le_bytes()));
        }
        Ok(Self(bytes))
    }

    /// Reads the message; its tensors belong to `ops`.
    ///
    /// # Errors
    /// `Failed` if the bytes are cut off or are not a saved message.
    pub fn message(&self, ops: &VecOps) -> Result<Message> {
        let mut rest = &self.0[..];
        let length: [u8; LENGTH] = part(&mut rest, LENGTH)?.try_into().map_err(broken)?;
        let header = part(&mut rest, u64::from_le_bytes(length) as usize)?;
        let header: Value = serde_json::from_slice(header).map_err(broken)?;
        let document = header["document"].as_str().unwrap_or_default().to_string();
        let mut tensors = Vec::new();
        for form in header["forms"].as_array().into_iter().flatten() {
            let form = form_of(form)?;
            let elements = part(&mut rest, 4 * form.elements() as usize)?.chunks_exact(4);
            let elements = elements.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            tensors.push(ops.remade(form, elements.collect()));
        }
        Ok(Message { document, tensors })
    }

    /// Saves the state of a strategy, given by its method `extension`.
    ///
    /// # Errors
    /// The error of the strategy.
    pub fn save(extension: impl FnMut(&str, Message) -> Result<Message>) -> Result<Self> {
        Self::of(&state::save(extension)?)
    }

    /// Loads the state into a fresh strategy, given by its method `extension`.
    ///
    /// # Errors
    /// The error of the strategy.
    pub fn load(
        &self,
        ops: &VecOps,
        extension: impl FnMut(&str, Message) -> Result<Message>,
    ) -> Result<()> {
        state::load(self.message(ops)?, extension)
    }
}

fn part<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (part, after) = rest.split_at_checked(length).ok_or_else(|| broken("cut off"))?;
    *rest = after;
    Ok(part)
}

fn form_document(form: TensorForm) -> Result<Value> {
    let dtype: DType = form.dtype().ok_or_else(|| broken("a format of a later epoch"))?;
    Ok(json!({
        "frames": form.frames,
        "frame_elements": form.frame_elements,
        "dtype": dtype,
        "place": form.place(),
        "bytes": form.bytes,
    }))
}

fn form_of(document: &Value) -> Result<TensorForm> {
    let number = |name: &str| document[name].as_u64().ok_or_else(|| broken(name));
    let dtype: DType = serde_json::from_value(document["dtype"].clone()).map_err(broken)?;
    let place: Place = serde_json::from_value(document["place"].clone()).map_err(broken)?;
    let frames = u32::try_from(number("frames")?).map_err(broken)?;
    Ok(TensorForm::new(frames, number("frame_elements")?, dtype, place, number("bytes")?))
}

fn broken(why: impl std::fmt::Display) -> Error {
    Error::failed(format!("saved bytes: {why}"))
}
