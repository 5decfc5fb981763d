use crate::torch::testing::*;

fn good() -> Vec<ZipEntry> {
    entries(&pickle(&dict(&[("a", tensor(3, &[2], &[1]))])))
}

fn changed(change: impl FnOnce(&mut Vec<ZipEntry>)) -> Vec<u8> {
    let mut entries = good();
    change(&mut entries);
    zip(&entries)
}

fn first_number(bytes: &[u8]) -> Vec<u8> {
    Saved::new(bytes).open().unwrap().read_part(0, 0..4).unwrap()
}

#[test]
fn entries_may_be_deflated() {
    let packed = changed(|entries| {
        for entry in entries.iter_mut() {
            *entry = ZipEntry::deflated(&entry.name, &entry.packed);
        }
    });
    assert_eq!(first_number(&packed), 3_f32.to_le_bytes());
    let saved = Saved::new(&packed);
    assert_eq!(saved.open().unwrap().read(0).unwrap(), numbers(16)[12..20]);
}

#[test]
fn lengths_may_come_after_the_bytes() {
    let later = changed(|entries| entries.iter_mut().for_each(|entry| entry.later = true));
    assert_eq!(first_number(&later), 3_f32.to_le_bytes());
}

#[test]
fn numbers_may_be_in_the_extra_field_of_zip64() {
    let wide = changed(|entries| entries.iter_mut().for_each(|entry| entry.wide = true));
    assert_eq!(first_number(&wide), 3_f32.to_le_bytes());
    // Without the field the numbers are above 4 GB, and nothing is there.
    let mut bytes = wide.clone();
    let directory = bytes.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let extra = directory + 46 + "archive/data.pkl".len();
    assert_eq!(bytes[extra..extra + 2], [1, 0]);
    bytes[extra] = 2;
    assert!(refusal(&bytes).contains("no local header"), "{}", refusal(&bytes));
}

#[test]
fn folders_may_be_entries() {
    let folders = changed(|entries| entries.insert(0, ZipEntry::stored("archive/", b"")));
    assert_eq!(first_number(&folders), 3_f32.to_le_bytes());
}

#[test]
fn what_unpacks_to_another_length_is_refused() {
    for stated in [15, 17] {
        let bytes = changed(|entries| {
            let packed = ZipEntry::deflated("archive/data.pkl", &entries[0].packed);
            entries[0] = ZipEntry { length: packed.length - 16 + stated, ..packed };
        });
        let said = refusal(&bytes);
        assert!(said.contains("data.pkl") && said.contains("unpacks to"), "{said}");
    }
    let bomb = changed(|entries| {
        let packed = ZipEntry::deflated("archive/data.pkl", &vec![b'N'; 1 << 20]);
        entries[0] = ZipEntry { length: (64 << 20) + 1, ..packed };
    });
    assert!(refusal(&bomb).contains("67108865 bytes, at most"), "{}", refusal(&bomb));
    let other = changed(|entries| {
        entries[2] = ZipEntry { length: 200_000_000, ..ZipEntry::deflated("archive/data/0", b"") };
    });
    assert!(refusal(&other).contains("times the file's"));
    let stored = changed(|entries| entries[2].length = 65);
    assert!(refusal(&stored).contains("two lengths"));
}

#[test]
fn an_archive_has_one_folder_one_pickle_and_no_name_twice() {
    let said = refusal(&changed(|entries| entries.push(entries[0].clone())));
    assert!(said.contains("\"archive/data.pkl\" is there twice"), "{said}");
    let said = refusal(&changed(|entries| {
        entries.push(ZipEntry::stored("archive/more/data.pkl", b"x"));
    }));
    assert!(said.contains("one data.pkl"), "{said}");
    let said = refusal(&changed(|entries| entries.push(ZipEntry::stored("other/x", b"x"))));
    assert!(said.contains("other/x"), "{said}");
    let said = refusal(&zip(&[ZipEntry::stored("data.pkl", b"x")]));
    assert!(said.contains("one folder"), "{said}");
}

#[test]
fn local_headers_agree_with_the_directory() {
    let said = refusal(&changed(|entries| entries[2].local_name = "archive/data/1".to_owned()));
    assert!(said.contains("says something else"), "{said}");
    // The method of the local header alone.
    let mut bytes = changed(|_| {});
    bytes[8] = 8;
    assert!(refusal(&bytes).contains("says something else"));
    // Its length alone.
    let mut bytes = changed(|_| {});
    bytes[22] ^= 1;
    assert!(refusal(&bytes).contains("says something else"));
}

#[test]
fn encrypted_and_oddly_packed_entries_are_refused() {
    assert!(refusal(&changed(|entries| entries[2].flags = 1)).contains("encrypted"));
    assert!(refusal(&changed(|entries| entries[2].method = 93)).contains("method 93"));
}

#[test]
fn another_byte_order_is_refused() {
    for order in [&b"big"[..], b"", b"little-endian, or so it says"] {
        let bytes = changed(|entries| entries[1] = ZipEntry::stored("archive/byteorder", order));
        assert!(refusal(&bytes).contains("byte order"));
    }
    let absent = changed(|entries| drop(entries.remove(1)));
    assert_eq!(first_number(&absent), 3_f32.to_le_bytes());
}

#[test]
fn a_directory_that_lies_is_refused() {
    let whole = changed(|_| {});
    let end = whole.len() - 22;
    let with = |place: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[place] = byte;
        refusal(&bytes)
    };
    for count in [3, 5] {
        let mut bytes = whole.clone();
        bytes[end + 8] = count;
        bytes[end + 10] = count;
        let said = refusal(&bytes);
        assert!(said.contains("zip directory"), "{said}");
    }
    assert!(with(end + 18, 0xff).contains("zip"));
    // All entries at the place of the first: their names differ, or they overlap.
    let mut same = changed(|entries| entries[3] = entries[2].clone());
    let first = same.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    same[first + 42] ^= 1;
    assert!(refusal(&same).contains("zip"));
    for length in (4..whole.len()).step_by(7) {
        assert!(!refusal(&whole[..length]).is_empty());
    }
}

#[test]
fn entries_that_overlap_are_refused() {
    // An entry whose bytes are another entry, header and all.
    let inner = zip(&[ZipEntry::stored("archive/data/1", &numbers(2))]);
    let directory = inner.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let (header, record) = (&inner[..directory], &inner[directory..inner.len() - 22]);
    let outer = changed(|entries| entries.push(ZipEntry::stored("archive/x", header)));
    let place = outer.windows(header.len()).position(|bytes| bytes == header).unwrap();
    let end = outer.len() - 22;
    let mut record = record.to_vec();
    record[42..46].copy_from_slice(&u32::try_from(place).unwrap().to_le_bytes());
    let mut bytes = [&outer[..end], &record, &outer[end..]].concat();
    let end = bytes.len() - 22;
    bytes[end + 8] = 6;
    bytes[end + 10] = 6;
    let directory = u32::from_le_bytes(*bytes[end + 12..].first_chunk().unwrap());
    let length = directory + u32::try_from(record.len()).unwrap();
    bytes[end + 12..end + 16].copy_from_slice(&length.to_le_bytes());
    assert!(refusal(&bytes).contains("overlap"), "{}", refusal(&bytes));
}
