//! Fields of a protobuf message, one after the other; nothing is allocated for them.
//!
//! Format: protobuf.dev, "Encoding".

/// A field's value, as its wire type has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    Number(u64),
    Float(f32),
    /// A text, bytes, or a message.
    Bytes(&'a [u8]),
    /// 64 bits; none of those that are read here has any.
    Wide,
}

/// The fields of a message: number and value. After an error there are none.
pub(super) struct Fields<'a> {
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { left: message }
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.number()?;
        let field = match key & 7 {
            0 => Field::Number(self.number()?),
            1 => {
                self.bytes(8)?;
                Field::Wide
            }
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Field::Bytes(self.bytes(length)?)
            }
            5 => Field::Float(f32::from_le_bytes(*self.bytes(4)?.first_chunk()?)),
            _ => return None,
        };
        Some((key >> 3, field))
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(bytes)
    }

    /// Seven bits a byte, the lowest first, at most 64.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let before = self.left.len();
        let field = self.field();
        if field.is_none() {
            self.left = &[];
        }
        Some(field.ok_or_else(|| format!("no protobuf field {before} bytes before its end")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_each_type_are_read() {
        let message = [
            &b"\x08\x96\x01"[..],
            b"\x12\x03abc",
            b"\x1d\0\0\x80\x3f",
            b"\x21\0\0\0\0\0\0\0\0",
            b"\xa8\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ]
        .concat();
        let fields: Result<Vec<_>, _> = Fields::of(&message).collect();
        let expected = [
            (1, Field::Number(150)),
            (2, Field::Bytes(b"abc")),
            (3, Field::Float(1.0)),
            (4, Field::Wide),
            (37, Field::Number(u64::MAX)),
        ];
        assert_eq!(fields.unwrap(), expected);
        // Cut anywhere but between two fields, it is none.
        let ends = [0, 3, 8, 13, 22, message.len()];
        for length in 0..message.len() {
            let whole = Fields::of(&message[..length]).all(|field| field.is_ok());
            assert_eq!(whole, ends.contains(&length), "{length}");
        }
    }

    #[test]
    fn what_is_no_field_ends_the_reading() {
        for message in [
            &b"\x0b"[..],
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            let fields: Vec<_> = Fields::of(message).collect();
            assert!(matches!(fields.as_slice(), [Err(_)]), "{fields:?}");
        }
    }
}
