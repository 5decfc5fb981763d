//! Bits that come back, and states that do not fit.

use super::*;
use crate::ErrorKind;

#[test]
fn every_float_comes_back_with_its_bits() {
    let floats = [
        0.0,
        -0.0,
        1.0 / 3.0,
        f64::MIN_POSITIVE / 8.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::from_bits(0xfff8_0000_0000_1234),
    ];
    let text = serde_json::to_string(&Bits::all(&floats)).unwrap();
    assert!(text.starts_with(r#"["0000000000000000","8000000000000000","3fd5"#), "{text}");
    let back: Vec<Bits> = serde_json::from_str(&text).unwrap();
    let bits = |floats: &[f64]| floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&Bits::floats(&back)), bits(&floats));
    for wrong in ["\"3ff\"", "\"+ff0000000000000\"", "\"3ff000000000000g\"", "1.0", "null"] {
        let error = serde_json::from_str::<Bits>(wrong).unwrap_err().to_string();
        assert!(error.contains("expected"), "{error}");
    }
}

/// Counts, and measures minus infinity at first.
#[derive(Debug, PartialEq)]
struct Counts {
    count: u32,
    place: Option<f64>,
}

impl State for Counts {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        saved.put("count", self.count)?;
        saved.put("place", self.place.map(Bits))?;
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.count = saved.take("count")?;
        self.place = saved.take::<Option<Bits>>("place")?.map(|bits| bits.0);
        match saved.take_tensor("residual")? {
            Some(_) => Err(misfit("residual", "no tensor", 1)),
            None => Ok(()),
        }
    }
}

const FRESH: Counts = Counts { count: 0, place: None };

fn loaded(document: &str) -> Result<Counts> {
    let mut fresh = FRESH;
    let saved = Message { document: document.into(), tensors: Vec::new() };
    load(saved, |id, message| answer("counts", &mut fresh, id, message))?;
    Ok(fresh)
}

#[test]
fn a_state_is_a_document_that_a_fresh_object_takes() {
    let mut object = Counts { count: 7, place: Some(f64::NEG_INFINITY) };
    let saved = save(|id, message| answer("counts", &mut object, id, message)).unwrap();
    let expected =
        r#"{"strategy":"counts","tensors":[],"fields":{"count":7,"place":"fff0000000000000"}}"#;
    assert_eq!(saved.document, expected);
    assert_eq!(loaded(&saved.document).unwrap(), object);
}

#[test]
fn a_state_that_does_not_fit_is_refused_with_what_was_expected() {
    let with = |strategy: &str, tensors: &str, fields: &str| {
        format!(r#"{{"strategy":"{strategy}","tensors":[{tensors}],"fields":{{{fields}}}}}"#)
    };
    let cases = [
        (with("other", "", r#""count":1,"place":null"#), "strategy: expected counts, got other"),
        (with("counts", "", r#""place":null"#), "field count: expected a value, got none"),
        (with("counts", "", r#""count":-1,"place":null"#), "field count: invalid value"),
        (with("counts", "", r#""count":1,"place":1.5"#), "field place: invalid type"),
        (
            with("counts", "", r#""count":1,"place":null,"more":2"#),
            "field more: expected nothing of this name",
        ),
        (
            with("counts", r#""residual""#, r#""count":1,"place":null"#),
            "field tensors: expected 1 that are named, got 0",
        ),
    ];
    for (document, says) in cases {
        let error = loaded(&document).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
    let mut fresh = FRESH;
    let error = answer("counts", &mut fresh, "wan.other/1", Message::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(loaded("{}").unwrap_err().kind, ErrorKind::Failed);
}
