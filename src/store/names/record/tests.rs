//! The oracle is the record itself: whatever is encoded is decoded, and other bytes are an error or canonical.

use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn checksum() -> impl Strategy<Value = Checksum> {
    (1u8..6, 0u8..2, any::<[u8; 32]>()).prop_map(|(algorithm, kind, value)| {
        let algorithm = algorithm_of(algorithm).unwrap();
        Checksum { value: Value::from_bytes(algorithm, &value[..algorithm.size()]).unwrap(), kind: kind_of(kind).unwrap() }
    })
}

fn content_type() -> impl Strategy<Value = Cow<'static, [u8]>> {
    prop_oneof![
        (0..CONTENT_TYPES.len()).prop_map(|index| Cow::Borrowed(CONTENT_TYPES[index].as_bytes())),
        vec(any::<u8>(), 0..40).prop_map(Cow::Owned),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let header = || option::of(vec(any::<u8>(), 0..200));
    let class = (0u8..13).prop_map(|code| StorageClass::decode(code).unwrap());
    let facts = (any::<u64>(), any::<i64>(), any::<[u8; 16]>(), any::<u32>(), class);
    let headers = (option::of(content_type()), header(), header(), header(), header(), header(), header());
    let metadata = vec((vec(any::<u8>(), 0..140), vec(any::<u8>(), 0..300)), 0..5);
    let runs = vec((any::<u32>(), any::<u64>()).prop_map(|(count, size)| PartRun { count, size }), 0..4);
    let of_parts = vec(any::<u8>(), 0..100);
    let rest = (option::of(checksum()), vec(checksum(), 0..3), metadata, option::of(any::<[u8; 16]>()), runs, of_parts);
    (facts, headers, rest).prop_map(|(facts, headers, rest)| {
        let mut record = Record::new(facts.0, facts.1, facts.2);
        (record.parts, record.storage_class) = (facts.3, facts.4);
        (record.content_type, record.cache_control, record.content_disposition) = (headers.0, headers.1, headers.2);
        (record.content_encoding, record.content_language, record.expires) = (headers.3, headers.4, headers.5);
        record.website_redirect_location = headers.6;
        record.version_id = VersionId::from_bytes(facts.2).filter(|_| facts.2[0] % 2 == 1);
        record.is_delete_marker = facts.2[1] % 2 == 1;
        (record.checksum, record.more_checksums, record.user_metadata) = (rest.0, rest.1, rest.2);
        (record.upload, record.part_sizes, record.part_checksums) = (rest.3, rest.4, rest.5);
        record
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(record in record()) {
        let encoded = record.encode();
        prop_assert!(encoded.summary().len() <= RECORD_SIZE_MAX);
        prop_assert_eq!(&Record::decode(encoded.summary(), encoded.extended.as_deref()).unwrap(), &record);
        let summary = Summary::decode(encoded.summary()).unwrap();
        prop_assert_eq!(summary.has_extended, encoded.extended.is_some());
        let spilled = encoded.summary_of(true, true);
        let elsewhere = Summary::decode(&spilled).unwrap();
        prop_assert_eq!((elsewhere.is_spilled, elsewhere.is_alternate), (encoded.extended.is_some(), encoded.extended.is_some()));
        prop_assert_eq!(&Record::decode(&spilled, encoded.extended.as_deref()).unwrap(), &record);
        let lost = Record::decode(encoded.summary(), None).unwrap();
        prop_assert_eq!((lost.size, lost.etag, lost.storage_class), (record.size, record.etag, record.storage_class));
    }

    #[test]
    fn any_bytes_are_an_error_or_canonical(
        noise in vec(any::<u8>(), 0..70), record in record(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), cut in any::<prop::sample::Index>())
    {
        if let Ok(decoded) = Summary::decode(&noise) {
            prop_assert_eq!(&decoded.encode()[..], &noise[..]);
        }
        let encoded = record.encode();
        let (mut summary, mut extended) = (encoded.summary().to_vec(), encoded.extended.unwrap_or_default());
        for (index, value) in flips {
            let length = summary.len() + extended.len();
            match index.index(length) {
                at if at < summary.len() => summary[at] = value,
                at => extended[at - SUMMARY_SIZE] = value,
            }
        }
        extended.truncate(cut.index(extended.len() + 1));
        if let Ok(decoded) = Summary::decode(&summary) {
            prop_assert_eq!(&decoded.encode()[..], &summary[..]);
        }
        if let Ok(decoded) = Record::decode(&summary, Some(&extended)) {
            let again = decoded.encode();
            prop_assert_eq!(Record::decode(again.summary(), again.extended.as_deref()).unwrap(), decoded);
        }
    }
}

#[test]
fn an_ordinary_object_needs_no_second_attribute() {
    let mut record = Record::new(5, 1_700_000_000_123_456_789, [9; 16]);
    record.content_type = Some(Cow::Borrowed(b"image/png"));
    let of = |algorithm, kind, size| Value::from_bytes(algorithm, &[1; 32][..size]).map(|value| Checksum { value, kind });
    record.checksum = of(Algorithm::Crc64Nvme, Kind::FullObject, 8);
    assert_eq!(record.encode().extended, None);
    record.checksum = of(Algorithm::Sha256, Kind::FullObject, 32);
    let encoded = record.encode();
    assert!(encoded.extended.is_some());
    let summary = Summary::decode(encoded.summary()).unwrap();
    assert_eq!(summary.checksum_type, Some((Algorithm::Sha256, Kind::FullObject)));
    assert_eq!(summary.checksum(), None);
    assert_eq!(of(Algorithm::Crc32, Kind::FullObject, 8), None);
}

/// What the build before wrote: no version, and everything else as it is.
#[test]
fn format_1_is_read() {
    let mut record = Record::new(5, 1_700_000_000_123_456_789, [9; 16]);
    (record.parts, record.content_type) = (3, Some(Cow::Borrowed(&b"image/png"[..])));
    let value = Value::from_bytes(Algorithm::Crc32c, &[1, 2, 3, 4]).unwrap();
    record.checksum = Some(Checksum { value, kind: Kind::Composite });
    let old = [
        1, 4, 29, 0x12, 5, 0, 0, 0, 0, 0, 0, 0, 0x15, 0xcd, 0x31, 0xe1, 0xdd, 0x9b, 0x97, 0x17, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
        9, 9, 9, 9, 9, 3, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0,
    ];
    let time = record.mtime_ns.to_le_bytes();
    let old: Vec<u8> = [&old[..12], &time, &old[20..]].concat();
    assert_eq!(Record::decode(&old, None), Ok(record.clone()));
    record.version_id = VersionId::from_bytes([7; 16]);
    let new = record.encode();
    assert_eq!((new.summary()[0], new.summary().len()), (2, 64));
    assert_eq!(Record::decode(new.summary(), None), Ok(record));
    // Neither format in the size of the other.
    assert_eq!(Record::decode(&new.summary()[..48], None), Err(RecordError::Size));
    assert_eq!(Record::decode(&[&old[..], &[0; 16]].concat(), None), Err(RecordError::Size));
}

#[test]
fn parts_are_found_by_number() {
    let mut record = Record::new(0, 0, [0; 16]);
    record.part_sizes = Record::runs_of([5, 5, 5, 7, 5, 2]);
    assert_eq!(record.part_sizes.len(), 4);
    let found: Vec<_> = (0..8).map(|number| record.part(number)).collect();
    let expected = [None, Some((0, 5)), Some((5, 5)), Some((10, 5)), Some((15, 7)), Some((22, 5)), Some((27, 2)), None];
    assert_eq!(found, expected);
    record.part_sizes = vec![PartRun { count: u32::MAX, size: u64::MAX }];
    assert_eq!(record.part(3), None);
    record.part_sizes = vec![PartRun { count: 1, size: u64::MAX - 5 }, PartRun { count: 1, size: 20 }];
    assert_eq!(record.part(2), None, "it would end beyond 64 bits");
}

#[test]
fn nine_hundred_parts_and_full_metadata_spill_rarely_and_ten_thousand_sizes_fit() {
    let mut record = Record::new(0, 0, [0; 16]);
    record.part_sizes = Record::runs_of((0..900).map(|part| if part < 899 { 5 << 20 } else { 77 }));
    assert!(record.encode().extended.unwrap().len() < 32);
    record.part_sizes = Record::runs_of((0..10_000).map(|part| (5 << 40) + part));
    record.user_metadata = vec![(b"n".to_vec(), vec![b'v'; 2047])];
    let value = Value::from_bytes(Algorithm::Sha256, &[1; 32]).unwrap();
    record.checksum = Some(Checksum { value, kind: Kind::Composite });
    record.part_checksums = (0..10_000).flat_map(|part| [(part % 251) as u8; 32]).collect();
    assert_eq!((record.part_checksum(10_000), record.part_checksum(10_001)), (Some(&[210; 32][..]), None));
    let encoded = record.encode();
    assert!(encoded.extended.as_ref().unwrap().len() < EXTENDED_RECORD_SIZE_MAX);
    assert_eq!(Record::decode(encoded.summary(), encoded.extended.as_deref()).unwrap(), record);
}

#[test]
fn a_mark_of_ours_is_exact() {
    assert!(is_made_by_put(&DIRECTORY_MADE_BY_PUT));
    assert!(!is_made_by_put(b"") && !is_made_by_put(&[1, 3]));
}
