//! A model's headers are read once, when it is opened: all questions are answered from memory, and
//! a file that was written to since is not loaded.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use wan_host::{Checkpoint, DeviceChoice, Engine, Request};
use wan_model::inspect::known;
use wan_tests::tiny_model::TinyModel;

use crate::model_folders::sparse;

/// All that a checkpoint says without reading a tensor.
fn answers(checkpoint: &Checkpoint) -> String {
    checkpoint.check().unwrap();
    let parts = checkpoint.parts().iter().map(|(part, files)| {
        let (network, tensors) = (checkpoint.network(part), checkpoint.inspection(part));
        format!("{part} {files:?}: {:?}, {:?}", network.unwrap(), tensors.unwrap())
    });
    let parts = parts.collect::<Vec<_>>().join("\n");
    let boundary = checkpoint.boundary_timestep().unwrap();
    format!("{:?} {boundary:?}\n{parts}", checkpoint.family().unwrap())
}

fn weight_files(checkpoint: &Checkpoint) -> Vec<PathBuf> {
    checkpoint.parts().values().flatten().cloned().collect()
}

/// A folder of single files, real ones but for their numbers, which are holes.
fn single_files(root: &Path) {
    for known in known() {
        if ["t2v-1.3B", "vae-2.1", "umt5-xxl"].contains(&known.id) {
            let path = root.join(format!("{}.safetensors", known.id));
            sparse(&path, &known.network.tensors());
        }
    }
}

/// Bytes that this thread has read from files so far, where the system counts them.
fn bytes_read() -> Option<u64> {
    let counts = fs::read_to_string("/proc/thread-self/io").ok()?;
    counts.lines().find_map(|line| line.strip_prefix("rchar: "))?.parse().ok()
}

/// Bytes before the first tensor.
fn head(path: &Path) -> u64 {
    let mut length = [0; 8];
    std::io::Read::read_exact(&mut fs::File::open(path).unwrap(), &mut length).unwrap();
    8 + u64::from_le_bytes(length)
}

#[test]
fn headers_are_read_once_for_all_questions() {
    let folder = tempfile::tempdir().unwrap();
    single_files(folder.path());
    let before = bytes_read();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    answers(&checkpoint);
    answers(&checkpoint.clone());
    let after = bytes_read();
    let heads = weight_files(&checkpoint).iter().map(|path| head(path)).collect::<Vec<_>>();
    let (all, smallest) = (heads.iter().sum::<u64>(), heads.iter().min().unwrap());
    assert!(heads.len() == 3 && *smallest > 10_000, "{heads:?}");
    if let (Some(before), Some(after)) = (before, after) {
        let read = after - before;
        // And what counting takes.
        assert!((all..all + 1000).contains(&read), "{read} bytes read, the headers have {heads:?}");
    }
}

#[test]
fn an_open_model_answers_without_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let roots = ["one", "two", "three"].map(|name| folder.path().join(name));
    fs::create_dir(&roots[0]).unwrap();
    single_files(&roots[0]);
    TinyModel::i2v().write(&roots[1]).unwrap();
    TinyModel::i2v_a14b().write(&roots[2]).unwrap();
    for root in roots {
        let [asked, not_asked] = [0, 1].map(|_| Checkpoint::open(&root).unwrap());
        let expected = answers(&asked);
        for file in weight_files(&asked) {
            fs::remove_file(file).unwrap();
        }
        assert_eq!(answers(&not_asked), expected);
        assert!(Checkpoint::open(&root).is_err(), "nothing is kept but by the open one");
    }
}

#[test]
fn a_part_whose_file_was_written_to_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    TinyModel::t2v().write(root).unwrap();
    let checkpoint = Checkpoint::open(root).unwrap();
    let engine = Engine::builder().device(DeviceChoice::Cpu).build().unwrap();
    let model = engine.open_checkpoint(checkpoint).unwrap();
    let settings = model.settle(&Request::new("a red ball")).unwrap();
    let file = root.join("transformer/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&file).unwrap();

    // Two tensors of one shape change names: every name and every shape is still there.
    let (q, k) = (b"blocks.0.attn1.to_q.weight", b"blocks.0.attn1.to_k.weight");
    let place = |name: &[u8]| whole.windows(name.len()).position(|bytes| bytes == name).unwrap();
    let mut swapped = whole.clone();
    swapped[place(q)..][..q.len()].copy_from_slice(k);
    swapped[place(k)..][..k.len()].copy_from_slice(q);
    fs::write(&file, &swapped).unwrap();
    Checkpoint::open(root).unwrap().check().unwrap();
    let said = model.load_transformers(&settings).unwrap_err().to_string();
    let facts = ["transformer", "changed since its header was read", "open the model again"];
    assert!(facts.iter().all(|fact| said.contains(fact)), "{said}");

    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let said = model.load_transformers(&settings).unwrap_err().to_string();
    assert!(
        said.contains(&format!("{} bytes then, {} now", whole.len(), whole.len() - 1)),
        "{said}"
    );

    fs::write(&file, &whole).unwrap();
    model.load_transformers(&settings).unwrap();
}

#[test]
fn a_part_whose_file_was_replaced_is_still_the_one_that_was_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (root, model) = (folder.path(), TinyModel::t2v());
    model.write(root).unwrap();
    let checkpoint = Checkpoint::open(root).unwrap();
    let numbers = |checkpoint: &Checkpoint| {
        let weights = checkpoint.weights("vae").unwrap();
        let tensor = weights.tensor("decoder.conv_in.weight", &Device::Cpu).unwrap();
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let before = numbers(&checkpoint);
    let file = root.join("vae/diffusion_pytorch_model.safetensors");
    fs::rename(&file, root.join("earlier")).unwrap();
    model.write_weights(root, "vae", 1).unwrap();
    assert_eq!(numbers(&checkpoint), before);
    assert_ne!(numbers(&Checkpoint::open(root).unwrap()), before);
}

#[test]
fn what_cannot_be_read_is_an_error_for_whoever_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    TinyModel::t2v().write(root).unwrap();
    let file = root.join("text_encoder/model.safetensors");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..100]).unwrap();
    let checkpoint = Checkpoint::open(root).unwrap();
    checkpoint.weights("vae").unwrap();
    for _ in 0..2 {
        let said = checkpoint.check().unwrap_err().to_string();
        assert!(said.contains("text_encoder") && said.contains("the file has 100"), "{said}");
    }
}

#[test]
fn threads_share_an_open_model() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Checkpoint>();
}
