use std::time::Duration;

use candle_core::Device;

use super::*;

const SHAPE: [usize; 3] = [1, 2, 3];

fn embeds(number: u8) -> Tensor {
    Tensor::full(f32::from(number), &SHAPE, &Device::Cpu).unwrap()
}

fn bits(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// A cache that holds so many files and bytes.
fn cache(folder: &Path, files_max: usize, bytes_max: u64) -> PromptCache {
    let (folder, notices) = (folder.to_path_buf(), Mutex::default());
    PromptCache(Some(Arc::new(Store {
        folder,
        encoder_bytes_min: 0,
        files_max,
        bytes_max,
        notices,
    })))
}

/// Has this key used so many seconds after the first.
fn used(cache: &PromptCache, number: u8, seconds: u64) {
    let path = cache.0.as_ref().unwrap().path(&PromptKey::of_number(number));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn held(cache: &PromptCache, numbers: std::ops::Range<u8>) -> Vec<u8> {
    let is_there = |number: &u8| {
        cache.0.as_ref().unwrap().path(&PromptKey::of_number(*number)).symlink_metadata().is_ok()
    };
    numbers.filter(is_there).collect()
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 3, u64::MAX);
    for number in 0..3 {
        cache.keep(&PromptKey::of_number(number), &embeds(number));
        used(&cache, number, number.into());
    }
    // The first is used once more, now.
    assert_eq!(bits(&cache.find(&PromptKey::of_number(0), &SHAPE).unwrap()), [0.0; 6]);
    for number in 3..5 {
        cache.keep(&PromptKey::of_number(number), &embeds(number));
    }
    assert_eq!(held(&cache, 0..5), [0, 3, 4]);
    assert_eq!(cache.take_notices(), [""; 0]);
}

#[test]
fn bytes_are_bounded_and_other_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("letter.prompt");
    fs::write(&other, vec![0; 10_000]).unwrap();
    let one = prompt_file::written(&PromptKey::of_number(0), &embeds(0)).unwrap().len() as u64;
    let cache = cache(folder.path(), usize::MAX, 2 * one);
    for number in 0..4 {
        cache.keep(&PromptKey::of_number(number), &embeds(number));
        used(&cache, number, number.into());
    }
    assert_eq!(held(&cache, 0..4), [2, 3]);
    assert!(other.is_file());
}

#[test]
fn what_a_process_left_unfinished_goes_and_what_one_writes_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 8, u64::MAX);
    let store = cache.0.as_ref().unwrap();
    let part = |number: u8| {
        let path = store.path(&PromptKey::of_number(number));
        let name = path.file_name().unwrap().to_str().unwrap();
        folder.path().join(format!(".{name}.part"))
    };
    fs::write(part(1), "left").unwrap();
    fs::write(folder.path().join(".mine.part"), "mine").unwrap();
    let claim = Claim::private(&store.path(&PromptKey::of_number(2))).unwrap();
    let Claimed::Ours { claim, .. } = claim else { panic!("{claim:?}") };
    // While another writes it, it is not written here.
    cache.keep(&PromptKey::of_number(2), &embeds(2));
    assert_eq!((part(1).exists(), part(2).exists()), (false, true));
    assert!(folder.path().join(".mine.part").exists());
    assert!(cache.find(&PromptKey::of_number(2), &SHAPE).is_none());
    drop(claim);
    cache.keep(&PromptKey::of_number(2), &embeds(2));
    assert!(cache.find(&PromptKey::of_number(2), &SHAPE).is_some());
    assert_eq!(cache.take_notices(), [""; 0]);
}

#[test]
fn a_file_that_is_none_is_said_once_and_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, key) = (cache(folder.path(), 8, u64::MAX), PromptKey::of_number(1));
    let path = cache.0.as_ref().unwrap().path(&key);
    for content in [&b""[..], b"short", &[0; 400], &[0; 100_000]] {
        fs::write(&path, content).unwrap();
        assert!(cache.find(&key, &SHAPE).is_none());
    }
    assert!(cache.find(&key, &SHAPE).is_none());
    let notices = cache.take_notices();
    // Two of them are damaged in the same words.
    assert!(!notices.is_empty() && notices.len() < 5, "{notices:?}");
    assert!(notices.iter().all(|said| said.starts_with(&path.display().to_string())));
    cache.keep(&key, &embeds(9));
    assert_eq!(bits(&cache.find(&key, &SHAPE).unwrap()), [9.0; 6]);
    assert_eq!(cache.take_notices(), [""; 0]);
}

#[test]
fn none_keeps_nothing() {
    let (none, key) = (PromptCache::none(), PromptKey::of_number(1));
    none.keep(&key, &embeds(1));
    assert!(none.find(&key, &SHAPE).is_none() && none.folder().is_none());
    assert_eq!(none.take_notices(), [""; 0]);
}
