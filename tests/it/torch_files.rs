//! Files as `torch.save` writes them: a zip of a pickle and one storage that all tensors share.

use std::fs;
use std::path::Path;

use candle_core::Tensor;

/// A pickle of protocol 2.
struct Pickle(Vec<u8>);

impl Pickle {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn int(&mut self, number: usize) {
        self.0.push(b'J');
        self.0.extend(i32::try_from(number).unwrap().to_le_bytes());
    }

    fn ints(&mut self, numbers: &[usize]) {
        self.0.push(b'(');
        numbers.iter().for_each(|number| self.int(*number));
        self.0.push(b't');
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").as_bytes());
    }

    /// `_rebuild_tensor_v2` of a contiguous tensor at `offset` of a storage of `all` floats.
    fn tensor(&mut self, shape: &[usize], offset: usize, all: usize) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage");
        self.global("torch", "FloatStorage");
        self.text("0");
        self.text("cpu");
        self.int(all);
        self.0.extend(b"tQ");
        self.int(offset);
        self.ints(shape);
        let strides: Vec<usize> =
            (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        self.ints(&strides);
        self.0.push(0x89);
        self.global("collections", "OrderedDict");
        self.0.extend(b")RtR");
    }
}

/// Writes tensors, in f32.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)]) {
    let count = |tensor: &Tensor| tensor.dims().iter().product::<usize>();
    let all = tensors.iter().map(|(_, tensor)| count(tensor)).sum();
    let (mut pickle, mut numbers, mut offset) = (Pickle(b"\x80\x02}(".to_vec()), Vec::new(), 0);
    for (name, tensor) in tensors {
        pickle.text(name);
        pickle.tensor(tensor.dims(), offset, all);
        offset += count(tensor);
        let own = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        numbers.extend(own.into_iter().flat_map(f32::to_le_bytes));
    }
    pickle.0.extend(b"u.");
    fs::write(path, zip(&[("a/data.pkl", &pickle.0), ("a/data/0", &numbers)])).unwrap();
}

/// A zip file of stored entries. Their checksums are 0, which no reader of weights looks at.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let begin = bytes.len() as u32;
        let length = (content.len() as u32).to_le_bytes();
        // Version, flags, packing, time, date, checksum, both lengths, length of name and extra.
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend([length, length].concat());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name.as_bytes());
        bytes.extend(*content);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(begin.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (count, begin) = ((entries.len() as u16).to_le_bytes(), bytes.len() as u32);
    let length = directory.len() as u32;
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].concat());
    bytes.extend([length.to_le_bytes(), begin.to_le_bytes()].concat());
    bytes.extend([0, 0]);
    bytes
}
