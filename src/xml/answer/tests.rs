//! Expected documents are transcribed from the response syntax of the Amazon S3 API Reference, with white space between elements
//! for the reader; every answer is also read back by another parser.

use super::*;
use crate::xml::list::*;
use quick_xml::events::Event;

const OWNER: Owner<'_> = Owner { id: "75aa57", display_name: "root" };
const TIME: Timestamp = Timestamp::from_seconds(1_255_369_830);

/// Checks that `out` is one well-formed document in S3's namespace, and that it is `expected` but for white space.
fn assert_document(out: &[u8], expected: &str) {
    let text = std::str::from_utf8(out).unwrap();
    let body = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").unwrap_or(text);
    let mut reader = quick_xml::Reader::from_str(text);
    let mut roots = 0;
    let mut depth = 0;
    loop {
        match reader.read_event().unwrap() {
            Event::Start(_) => {
                roots += usize::from(depth == 0);
                depth += 1;
            }
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!((roots, depth), (1, 0));
    let namespace = " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";
    let expected: String = expected.lines().map(str::trim).collect();
    assert_eq!(body.replacen(namespace, "", 1), expected);
    assert_eq!(body.contains(namespace), !body.starts_with("<Error>"));
}

fn entry(key: &[u8]) -> ListEntry<'_> {
    ListEntry {
        key,
        last_modified: TIME,
        etag: "fba9",
        size: 434_234,
        checksum_algorithm: Some("CRC32"),
        checksum_type: Some("FULL_OBJECT"),
        storage_class: "STANDARD",
        owner: None,
    }
}

#[test]
fn buckets() {
    let mut out = Vec::new();
    let list = ListBuckets { owner: OWNER, region: "eu-west-1", continuation_token: Some("t"), prefix: Some("p&") };
    list_buckets(&mut out, &list, [BucketEntry { name: "quotes", creation_date: TIME }]);
    assert_document(
        &out,
        "<ListAllMyBucketsResult>
           <Owner><ID>75aa57</ID><DisplayName>root</DisplayName></Owner>
           <Buckets><Bucket><Name>quotes</Name><CreationDate>2009-10-12T17:50:30.000Z</CreationDate>
           <BucketRegion>eu-west-1</BucketRegion></Bucket></Buckets>
           <ContinuationToken>t</ContinuationToken><Prefix>p&amp;</Prefix>
         </ListAllMyBucketsResult>",
    );
}

#[test]
fn objects_version_1() {
    let mut out = Vec::new();
    let list = ListObjects {
        bucket: "b",
        marker: b"m<",
        next_marker: Some(b"n"),
        delimiter: Some(b"/"),
        max_keys: 1,
        is_truncated: true,
        ..Default::default()
    };
    let entries = [ListEntry { owner: Some(OWNER), checksum_algorithm: None, checksum_type: None, ..entry(b"a\x01b") }];
    list_objects(&mut out, &list, entries.into_iter(), [&b"p/"[..]].into_iter());
    assert_document(
        &out,
        "<ListBucketResult><Name>b</Name><Prefix></Prefix><Marker>m&lt;</Marker><NextMarker>n</NextMarker><MaxKeys>1</MaxKeys>
           <Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>
           <Contents><Key>a&#x1;b</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;fba9&quot;</ETag>
             <Size>434234</Size><Owner><ID>75aa57</ID><DisplayName>root</DisplayName></Owner>
             <StorageClass>STANDARD</StorageClass></Contents>
           <CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>
         </ListBucketResult>",
    );
}

#[test]
fn objects_version_2_counts_prefixes_and_encodes_all_but_tokens() {
    let mut out = Vec::new();
    let list = ListObjectsV2 {
        bucket: "b",
        prefix: b"p p",
        continuation_token: Some("1/+"),
        next_continuation_token: Some("2/+"),
        start_after: Some(b"s+"),
        delimiter: Some(b"%"),
        max_keys: 1000,
        url_encoded: true,
        is_truncated: false,
    };
    let prefixes = [&b"p p/x%"[..], b"p p\xc3\xbc%"];
    list_objects_v2(&mut out, &list, [entry(b"p p/(1)")].into_iter(), prefixes.into_iter());
    assert_document(
        &out,
        "<ListBucketResult><Name>b</Name><Prefix>p%20p</Prefix><ContinuationToken>1/+</ContinuationToken>
           <NextContinuationToken>2/+</NextContinuationToken><StartAfter>s%2B</StartAfter><KeyCount>3</KeyCount>
           <MaxKeys>1000</MaxKeys><Delimiter>%25</Delimiter><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>
           <Contents><Key>p%20p/%281%29</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
             <ETag>&quot;fba9&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>
             <Size>434234</Size><StorageClass>STANDARD</StorageClass></Contents>
           <CommonPrefixes><Prefix>p%20p/x%25</Prefix></CommonPrefixes>
           <CommonPrefixes><Prefix>p%20p%C3%BC%25</Prefix></CommonPrefixes>
         </ListBucketResult>",
    );
}

#[test]
fn versions_and_markers() {
    let mut out = Vec::new();
    let list = ListVersions {
        bucket: "b",
        max_keys: 5,
        next_key_marker: Some(b"k"),
        next_version_id_marker: Some("null"),
        ..Default::default()
    };
    let object = ListEntry { owner: Some(OWNER), ..entry(b"k") };
    let version = VersionEntry { is_delete_marker: false, version_id: "null", is_latest: true, object };
    let marker = VersionEntry { is_delete_marker: true, is_latest: false, ..version };
    list_versions(&mut out, &list, [version, marker].into_iter(), std::iter::empty());
    assert_document(
        &out,
        "<ListVersionsResult><Name>b</Name><Prefix></Prefix><KeyMarker></KeyMarker><VersionIdMarker></VersionIdMarker>
           <NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>null</NextVersionIdMarker><MaxKeys>5</MaxKeys>
           <IsTruncated>false</IsTruncated>
           <Version><Key>k</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>
             <LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;fba9&quot;</ETag>
             <ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>434234</Size>
             <Owner><ID>75aa57</ID><DisplayName>root</DisplayName></Owner><StorageClass>STANDARD</StorageClass></Version>
           <DeleteMarker><Key>k</Key><VersionId>null</VersionId><IsLatest>false</IsLatest>
             <LastModified>2009-10-12T17:50:30.000Z</LastModified>
             <Owner><ID>75aa57</ID><DisplayName>root</DisplayName></Owner></DeleteMarker>
         </ListVersionsResult>",
    );
}

#[test]
fn uploads() {
    let mut out = Vec::new();
    let list = ListMultipartUploads { bucket: "b", prefix: b"p", max_uploads: 3, ..Default::default() };
    let upload = UploadEntry {
        key: b"my key",
        upload_id: "XMgb",
        initiator: OWNER,
        initiated: TIME,
        storage_class: "STANDARD_IA",
        checksum_algorithm: Some("SHA256"),
        checksum_type: Some("COMPOSITE"),
    };
    list_multipart_uploads(&mut out, &list, [upload].into_iter(), std::iter::empty());
    assert_document(
        &out,
        "<ListMultipartUploadsResult><Bucket>b</Bucket><KeyMarker></KeyMarker><UploadIdMarker></UploadIdMarker>
           <Prefix>p</Prefix><MaxUploads>3</MaxUploads><IsTruncated>false</IsTruncated>
           <Upload><Key>my key</Key><UploadId>XMgb</UploadId>
             <Initiator><ID>75aa57</ID><DisplayName>root</DisplayName></Initiator>
             <Owner><ID>75aa57</ID><DisplayName>root</DisplayName></Owner><StorageClass>STANDARD_IA</StorageClass>
             <Initiated>2009-10-12T17:50:30.000Z</Initiated><ChecksumAlgorithm>SHA256</ChecksumAlgorithm>
             <ChecksumType>COMPOSITE</ChecksumType></Upload>
         </ListMultipartUploadsResult>",
    );
}

#[test]
fn an_upload_from_start_to_end() {
    let mut out = Vec::new();
    initiate_multipart_upload(&mut out, "b", b"k", "id");
    assert_document(
        &out,
        "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>id</UploadId></InitiateMultipartUploadResult>",
    );

    let mut out = Vec::new();
    let checksums = Checksums { values: &[("CRC32", "AAAAAA==")], checksum_type: None };
    let list = ListParts {
        bucket: "b",
        key: b"k",
        upload_id: "id",
        initiator: OWNER,
        storage_class: "STANDARD",
        part_number_marker: 1,
        next_part_number_marker: Some(3),
        max_parts: 2,
        is_truncated: true,
        checksum_algorithm: Some("CRC32"),
        checksum_type: Some("COMPOSITE"),
    };
    list_parts(&mut out, &list, [PartEntry { part_number: 2, last_modified: TIME, etag: "7778", size: 5, checksums }]);
    assert_document(
        &out,
        "<ListPartsResult><Bucket>b</Bucket><Key>k</Key><UploadId>id</UploadId>
           <Initiator><ID>75aa57</ID><DisplayName>root</DisplayName></Initiator>
           <Owner><ID>75aa57</ID><DisplayName>root</DisplayName></Owner><StorageClass>STANDARD</StorageClass>
           <PartNumberMarker>1</PartNumberMarker><NextPartNumberMarker>3</NextPartNumberMarker><MaxParts>2</MaxParts>
           <IsTruncated>true</IsTruncated><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType>
           <Part><PartNumber>2</PartNumber><LastModified>2009-10-12T17:50:30.000Z</LastModified>
             <ETag>&quot;7778&quot;</ETag><Size>5</Size><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>
         </ListPartsResult>",
    );

    // The client was kept waiting with spaces.
    let mut out = [DECLARATION, &b"    "[..]].concat();
    let checksums = Checksums { values: &[("CRC64NVME", "q=")], checksum_type: Some("FULL_OBJECT") };
    let result = CompleteMultipartUploadResult { location: "http://h/b/k", bucket: "b", key: b"k", etag: "3858-2", checksums };
    complete_multipart_upload(&mut out, &result);
    let text = String::from_utf8(out).unwrap().replacen("    ", "", 1);
    assert_document(
        text.as_bytes(),
        "<CompleteMultipartUploadResult><Location>http://h/b/k</Location><Bucket>b</Bucket><Key>k</Key>
           <ETag>&quot;3858-2&quot;</ETag><ChecksumCRC64NVME>q=</ChecksumCRC64NVME><ChecksumType>FULL_OBJECT</ChecksumType>
         </CompleteMultipartUploadResult>",
    );
}

#[test]
fn copies_and_location() {
    let result = CopyResult { last_modified: TIME, etag: "9b2c", checksums: Checksums::default() };
    let inner = "<LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>&quot;9b2c&quot;</ETag>";
    let (mut object, mut part) = (Vec::new(), Vec::new());
    copy_object(&mut object, &result);
    copy_part(&mut part, &result);
    assert_document(&object, &format!("<CopyObjectResult>{inner}</CopyObjectResult>"));
    assert_document(&part, &format!("<CopyPartResult>{inner}</CopyPartResult>"));

    for (region, text) in [("us-east-1", ""), ("eu-west-1", "eu-west-1")] {
        let mut out = Vec::new();
        location_constraint(&mut out, region);
        assert_document(&out, &format!("<LocationConstraint>{text}</LocationConstraint>"));
    }
}

#[test]
fn deletions() {
    let mut out = Vec::new();
    let deleted = Deleted { key: b"sample1.txt", ..Default::default() };
    let marked = Deleted { key: b"k", version_id: Some("v"), delete_marker: true, delete_marker_version_id: Some("v") };
    let error = DeleteError { key: b"s\"2", version_id: None, code: "AccessDenied", message: "Access Denied" };
    delete_result(&mut out, [DeleteResult::Deleted(deleted), DeleteResult::Deleted(marked), DeleteResult::Error(error)]);
    assert_document(
        &out,
        "<DeleteResult><Deleted><Key>sample1.txt</Key></Deleted>
           <Deleted><Key>k</Key><VersionId>v</VersionId><DeleteMarker>true</DeleteMarker>
             <DeleteMarkerVersionId>v</DeleteMarkerVersionId></Deleted>
           <Error><Key>s&quot;2</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>
         </DeleteResult>",
    );
}

#[test]
fn attributes() {
    let mut out = Vec::new();
    let values = [("CRC32", "AAAAAA==")];
    let checksums = Checksums { values: &values, checksum_type: None };
    let part = ObjectPart { part_number: 1, size: 8_388_608, checksums };
    let attributes = GetObjectAttributes {
        etag: Some("3858-2"),
        checksums: Some(Checksums { checksum_type: Some("COMPOSITE"), ..checksums }),
        parts: Some(ObjectParts {
            parts_count: 2,
            max_parts: 1,
            is_truncated: true,
            next_part_number_marker: Some(1),
            parts: &[part],
            ..Default::default()
        }),
        storage_class: Some("GLACIER"),
        object_size: Some(0),
    };
    get_object_attributes(&mut out, &attributes);
    assert_document(
        &out,
        "<GetObjectAttributesResponse><ETag>3858-2</ETag>
           <Checksum><ChecksumCRC32>AAAAAA==</ChecksumCRC32><ChecksumType>COMPOSITE</ChecksumType></Checksum>
           <ObjectParts><PartsCount>2</PartsCount><PartNumberMarker>0</PartNumberMarker>
             <NextPartNumberMarker>1</NextPartNumberMarker><MaxParts>1</MaxParts><IsTruncated>true</IsTruncated>
             <Part><PartNumber>1</PartNumber><Size>8388608</Size><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></ObjectParts>
           <StorageClass>GLACIER</StorageClass><ObjectSize>0</ObjectSize>
         </GetObjectAttributesResponse>",
    );
}

#[test]
fn errors() {
    let mut out = DECLARATION.to_vec();
    error_document(
        &mut out,
        "NoSuchKey",
        "The resource you requested does not exist",
        [("Resource", "/b/<k>"), ("RequestId", "44")],
    );
    assert_document(
        &out,
        "<Error><Code>NoSuchKey</Code><Message>The resource you requested does not exist</Message>
           <Resource>/b/&lt;k&gt;</Resource><RequestId>44</RequestId></Error>",
    );
}
