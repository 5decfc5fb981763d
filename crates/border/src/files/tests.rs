use super::*;

fn said<T>(result: Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn what_is_no_regular_file_is_named_by_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    assert!(said(open(folder.path())).ends_with(": is a folder, expected a regular file"));
    #[cfg(unix)]
    {
        let (zero, name) = (Path::new("/dev/zero"), folder.path().join("socket"));
        assert_eq!(said(open(zero)), "/dev/zero: is a device, expected a regular file");
        let socket = std::os::unix::net::UnixListener::bind(&name).unwrap();
        assert!(said(bytes(&name, Content::Settings)).contains("is a socket"));
        drop(socket);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/nowhere/at/all", &link).unwrap();
        let error = open(&link).unwrap_err();
        assert!(!error.is_absence(), "a link that leads nowhere is there");
    }
    assert!(open(&folder.path().join("absent")).unwrap_err().is_absence());
}

#[test]
fn a_file_has_a_most_of_bytes_and_is_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"{\"a\": 1}").unwrap();
    assert_eq!(text(&path, Content::Settings).unwrap(), "{\"a\": 1}");
    fs::write(&path, b"ab\xff").unwrap();
    assert!(said(text(&path, Content::Settings)).ends_with("not text in UTF-8, from byte 2 on"));
    // No block of it is on the disk.
    let file = File::create(&path).unwrap();
    file.set_len(Content::Settings.bytes_max() + 1).unwrap();
    let expected = "more than 4194304 bytes, the most that a settings file may have";
    assert!(said(bytes(&path, Content::Settings)).ends_with(expected));
    assert!(bytes(&path, Content::Report).is_ok());
}

#[test]
fn an_open_file_is_one_file_and_says_when_it_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["file", "other"].map(|name| folder.path().join(name));
    fs::write(&path, b"0123456789").unwrap();
    fs::write(&other, b"another").unwrap();
    let mut file = OpenFile::open(&path).unwrap();
    assert_eq!((file.path(), file.length()), (path.as_path(), 10));
    fs::rename(&other, &path).unwrap();
    for _ in 0..2 {
        assert_eq!(file.bytes(Content::Settings).unwrap(), b"0123456789");
        assert_eq!(file.part(3, Some(4), Content::Settings).unwrap(), b"3456");
        assert_eq!(file.part(8, Some(4), Content::Settings).unwrap(), b"89");
        assert_eq!(file.part(8, None, Content::Settings).unwrap(), b"89");
        assert_eq!(file.part(11, None, Content::Settings).unwrap(), b"");
        let mut seen = Vec::new();
        file.pass(|bytes| seen.extend_from_slice(bytes)).unwrap();
        assert_eq!(seen, b"0123456789");
        file.check_unwritten().unwrap();
    }
    let now = OpenFile::open(&path).unwrap();
    fs::write(&path, b"another, longer").unwrap();
    assert!(said(now.check_unwritten()).contains("was written to while it was read"));
}

#[test]
fn an_error_in_json_names_its_field() {
    #[derive(Debug, serde::Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "read")]
        layers: u8,
    }
    #[derive(Debug, serde::Deserialize)]
    struct Outer {
        #[expect(dead_code, reason = "read")]
        parts: Vec<Inner>,
    }
    let error = parse_json::<Outer>(r#"{"parts": [{"layers": 1}, {"layers": 300}]}"#).unwrap_err();
    assert!(error.starts_with("parts[1].layers: invalid value: integer `300`"), "{error}");
    let error = parse_json::<serde_json::Value>("{} x").unwrap_err();
    assert!(error.contains("trailing characters"), "{error}");
    let deep = "[".repeat(200);
    assert!(parse_json::<serde_json::Value>(&deep).unwrap_err().contains("recursion limit"));
}

#[test]
fn a_panic_of_a_reader_is_an_error() {
    let path = Path::new("some.file");
    assert!(!is_foreign_reader_at_work());
    let seen = foreign(path, "picture", is_foreign_reader_at_work).unwrap();
    assert!(seen);
    let failed = foreign(path, "picture", || -> u8 { panic!("index {} out\nof bounds", 3) });
    let expected = "some.file: the picture reader failed (index 3 out of bounds)";
    assert_eq!(said(failed), expected);
    assert!(!is_foreign_reader_at_work());
}
