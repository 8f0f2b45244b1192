use super::*;
use Operation::*;

const ACCOUNT: Account<'_> = Account { id: "111122223333" };

fn header(operation: Operation, name: &str, value: &str) -> Result<(), &'static str> {
    check(operation, ACCOUNT, [(name, value.as_bytes())]).map_err(|error| error.code().as_str())
}

#[test]
fn headers_of_real_clients_pass() {
    for (operation, name, value) in [
        (PutObject, "x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        (PutObject, "X-Amz-Date", "20261122T000000Z"),
        (PutObject, "x-amz-decoded-content-length", "5"),
        (PutObject, "x-amz-trailer", "x-amz-checksum-crc64nvme"),
        (PutObject, "x-amz-trailer", "x-amz-checksum-sha256, x-amz-trailer-signature"),
        (PutObject, "x-amz-sdk-checksum-algorithm", "CRC32"),
        (PutObject, "x-amz-checksum-crc32", "AAAAAA=="),
        (PutObject, "X-Amz-Meta-Mtime", "1"),
        (PutObject, "x-amz-meta-ü", "ü"),
        (PutObject, "x-amz-acl", "private"),
        (PutObject, "x-amz-storage-class", "STANDARD"),
        (PutObject, "x-amz-user-agent", "aws-sdk-js/3"),
        (PutObject, "x-amz-api-version", "2006-03-01"),
        (PutObject, "amz-sdk-invocation-id", "f"),
        (PutObject, "x-amzn-trace-id", "Root=1"),
        (PutObject, "if-none-match", "*"),
        (PutObject, "expect", "100-continue"),
        (GetObject, "x-amz-checksum-mode", "ENABLED"),
        (GetObject, "If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        (GetObject, "x-amz-te", "append-md5"),
        (ListObjectsV2, "x-amz-optional-object-attributes", "RestoreStatus"),
        (ListObjectsV2, "x-amz-request-payer", "requester"),
        (ListObjectsV2, "if-none-match", "\"x\""),
        (CreateBucket, "x-amz-bucket-object-lock-enabled", "false"),
        (CreateBucket, "x-amz-object-ownership", "BucketOwnerEnforced"),
        (DeleteObjects, "x-amz-bypass-governance-retention", "True"),
        (DeleteObject, "x-amz-if-match-size", "5"),
        (DeleteObject, "if-match", "\"x\""),
        (CopyObject, "x-amz-copy-source", "b/k"),
        (CopyObject, "x-amz-metadata-directive", "REPLACE"),
        (CopyObject, "x-amz-tagging-directive", "COPY"),
        (UploadPartCopy, "x-amz-copy-source-range", "bytes=0-1"),
        (CompleteMultipartUpload, "x-amz-mp-object-size", "5"),
        (CreateMultipartUpload, "x-amz-checksum-type", "FULL_OBJECT"),
        (GetObjectAttributes, "x-amz-object-attributes", "ETag,Checksum,ObjectParts"),
        (HeadBucket, "x-amz-expected-bucket-owner", "111122223333"),
    ] {
        assert_eq!(header(operation, name, value), Ok(()), "{name}: {value}");
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    for (operation, name, value, code) in [
        (PutObject, "x-amz-server-side-encryption", "AES256", "NotImplemented"),
        (PutObject, "X-Amz-Server-Side-Encryption-Customer-Key", "k", "NotImplemented"),
        (GetObject, "x-amz-server-side-encryption-customer-algorithm", "AES256", "NotImplemented"),
        (CopyObject, "x-amz-copy-source-server-side-encryption-customer-key", "k", "NotImplemented"),
        (PutObject, "x-amz-tagging", "a=b", "NotImplemented"),
        (PutObject, "x-amz-website-redirect-location", "/x", "NotImplemented"),
        (PutObject, "x-amz-write-offset-bytes", "0", "NotImplemented"),
        (PutObject, "x-amz-some-header-of-2030", "1", "NotImplemented"),
        (PutObject, "x-amz-rdma-token", "1", "NotImplemented"),
        (DeleteObject, "x-amz-mfa", "1 2", "NotImplemented"),
        (CreateBucket, "x-amz-bucket-object-lock-enabled", "true", "NotImplemented"),
        (CreateBucket, "x-amz-object-ownership", "ObjectWriter", "NotImplemented"),
        (PutObject, "x-amz-acl", "public-read", "AccessControlListNotSupported"),
        (PutObject, "x-amz-acl", "everyone", "InvalidArgument"),
        (PutObject, "x-amz-grant-read", "id=1", "AccessControlListNotSupported"),
        (PutObject, "x-amz-storage-class", "COLD", "InvalidStorageClass"),
        (PutObject, "x-amz-storage-class", "standard", "InvalidStorageClass"),
        (PutObject, "x-amz-object-lock-mode", "GOVERNANCE", "InvalidRequest"),
        (PutObject, "x-amz-object-lock-legal-hold", "ON", "InvalidRequest"),
        (PutObject, "x-amz-checksum-sha512", "x", "InvalidRequest"),
        (PutObject, "x-amz-checksum-xxhash3", "x", "InvalidRequest"),
        (PutObject, "x-amz-checksum-md4", "x", "InvalidRequest"),
        (PutObject, "x-amz-trailer", "x-amz-checksum-md5", "InvalidRequest"),
        (PutObject, "x-amz-trailer", "x-amz-checksum-crc32,content-length", "InvalidRequest"),
        (PutObject, "x-amz-sdk-checksum-algorithm", "XXHASH64", "InvalidRequest"),
        (CreateMultipartUpload, "x-amz-checksum-algorithm", "", "InvalidRequest"),
        (CreateMultipartUpload, "x-amz-checksum-type", "WHOLE", "InvalidRequest"),
        (CopyObject, "x-amz-metadata-directive", "MERGE", "InvalidArgument"),
        (GetObject, "x-amz-request-payer", "me", "InvalidArgument"),
        (HeadBucket, "x-amz-expected-bucket-owner", "999999999999", "AccessDenied"),
        (CopyObject, "x-amz-source-expected-bucket-owner", "999999999999", "AccessDenied"),
        (CopyObject, "x-amz-source-expected-bucket-owner", "9", "InvalidBucketOwnerAWSAccountID"),
        (HeadBucket, "x-amz-expected-bucket-owner", "", "InvalidBucketOwnerAWSAccountID"),
        (HeadBucket, "x-amz-expected-bucket-owner", "11112222333x", "InvalidBucketOwnerAWSAccountID"),
        // A condition is refused where nobody looks at it.
        (PutObject, "if-unmodified-since", "x", "NotImplemented"),
        (PutObject, "x-amz-if-match-size", "5", "NotImplemented"),
        (UploadPart, "If-None-Match", "*", "NotImplemented"),
        (DeleteObject, "if-none-match", "*", "NotImplemented"),
        // What says how to copy is an argument too many.
        (GetObject, "x-amz-copy-source", "b/k", "InvalidArgument"),
        (PutObject, "x-amz-copy-source-if-match", "x", "InvalidArgument"),
        (UploadPart, "x-amz-copy-source-range", "bytes=0-1", "InvalidArgument"),
        (CreateBucket, "x-amz-object-ownership", "ObjectWriter", "NotImplemented"),
        (CreateBucket, "x-amz-object-ownership", "Mine", "InvalidArgument"),
        (AbortMultipartUpload, "x-amz-if-match-initiated-time", "x", "NotImplemented"),
    ] {
        assert_eq!(header(operation, name, value), Err(code), "{name}: {value}");
    }
    let error = check(PutObject, ACCOUNT, [("X-Amz-Mfa", &b"1"[..])]).unwrap_err();
    assert_eq!(error.fields(), [("Header", "X-Amz-Mfa".to_owned())]);
    assert!(check(PutObject, ACCOUNT, [("x-amz-acl", &b"\xff"[..])]).is_err());
}

#[test]
fn presigned_queries() {
    let of = |operation, is_presigned, name: &str, value: &str| {
        check_query(operation, ACCOUNT, is_presigned, [(name, value)]).map_err(|error| error.code().as_str())
    };
    let query = |name: &str, value: &str| of(PutObject, true, name, value);
    for (name, value) in [
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
        ("x-amz-acl", "private"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-meta-a", "b"),
        ("X-Amz-Meta-A", "b"),
        ("x-amz-user-agent", "x"),
        ("x-id", "PutObject"),
        ("é", ""),
    ] {
        assert_eq!(query(name, value), Ok(()), "{name}");
    }
    assert_eq!(query("x-amz-acl", "public-read"), Err("AccessControlListNotSupported"));
    assert_eq!(query("x-amz-server-side-encryption", "AES256"), Err("NotImplemented"));
    // Only a pre-signed URL says it there.
    assert_eq!(of(PutObject, false, "x-amz-meta-a", "b"), Err("NotImplemented"));
    assert_eq!(of(CopyObject, false, "x-amz-metadata-directive", "COPY"), Err("NotImplemented"));
    assert_eq!(of(PutObject, false, "x-amz-storage-class", "GLACIER"), Err("NotImplemented"));
    assert_eq!(of(PutObject, false, "x-amz-storage-class", "STANDARD"), Ok(()));
    assert_eq!(query("x-amz-storage-class", "COLD"), Err("InvalidStorageClass"));
    assert_eq!(of(GetObjectAttributes, true, "x-amz-object-attributes", "ETag"), Ok(()));
    assert_eq!(query("x-amz-object-attributes", "ETag"), Err("NotImplemented"));
    assert_eq!(of(CopyObject, true, "x-amz-metadata-directive", "COPY"), Ok(()));
    assert_eq!(of(CopyObject, true, "x-amz-metadata-directive", "MERGE"), Err("InvalidArgument"));
    assert_eq!(of(CreateMultipartUpload, true, "x-amz-checksum-algorithm", "CRC31"), Err("InvalidRequest"));
    assert_eq!(of(CreateMultipartUpload, true, "x-amz-checksum-type", "COMPOSITE"), Ok(()));
    assert_eq!(query("x-amz-copy-source", "b/k"), Err("NotImplemented"));
    assert_eq!(query("x-amz-metadata-directive", "COPY"), Err("NotImplemented"));
}

#[test]
fn the_table_has_each_name_once() {
    let mut names: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TABLE.len());
    for (name, _) in TABLE {
        assert!(name.starts_with("x-amz-") && !name.contains(|c: char| c.is_ascii_uppercase()), "{name}");
    }
}

#[test]
fn what_says_one_thing_must_say_it_once() {
    let twice = |name: &'static str, other: &'static str| {
        check(CopyObject, ACCOUNT, [(name, b"1".as_slice()), ("host", b"h"), (other, b"1")])
            .map_err(|error| error.code().as_str())
    };
    for (name, other) in [("If-Range", "if-range"), ("Range", "RANGE"), ("x-amz-copy-source", "X-Amz-Copy-Source")] {
        assert_eq!(twice(name, other), Err("InvalidArgument"), "{name}");
    }
    assert_eq!(twice("If-Match", "If-Match"), Ok(()), "a list");
    assert_eq!(twice("x-amz-meta-a", "x-amz-meta-a"), Ok(()), "S3 joins these");
    assert_eq!(twice("Accept-Encoding", "Accept-Encoding"), Ok(()), "a list (RFC 9110 section 5.3)");
    let no_text = check(GetObject, ACCOUNT, [("If-Range", b"\"\xff\"".as_slice())]);
    assert_eq!(no_text.map_err(|error| error.code().as_str()), Err("InvalidArgument"));
}
