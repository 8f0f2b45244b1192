use super::*;
use std::collections::BTreeSet;

/// Routes `GET /b/k?query`, as a client would have written the line.
fn request(line: &str, has_copy_source: bool, content_type: Option<&str>) -> Result<&'static Route, S3Error> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let level = match path.trim_start_matches('/').split_once('/') {
        None if path == "/" => Level::Service,
        None | Some((_, "")) => Level::Bucket,
        Some(_) => Level::Object,
    };
    let parameters = query.split('&').filter(|pair| !pair.is_empty());
    let query = parameters.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    route(&Request { method, level, query, has_copy_source, content_type })
}

fn name(line: &str) -> String {
    match request(line, false, None) {
        Ok(route) => route.name.to_owned(),
        Err(error) => error.code().as_str().to_owned(),
    }
}

#[test]
fn requests_captured_from_real_clients() {
    for (line, expected) in [
        ("GET /", "ListBuckets"),
        ("GET /?x-id=ListBuckets", "ListBuckets"),
        ("PUT /b", "CreateBucket"),
        ("PUT /b/", "CreateBucket"),
        ("HEAD /b/", "HeadBucket"),
        ("DELETE /b", "DeleteBucket"),
        ("GET /b", "ListObjects"),
        ("GET /b/", "ListObjects"),
        ("GET /b/?delimiter=/&prefix=m&encoding-type=url", "ListObjects"),
        ("GET /b/?list-type=2&delimiter=&prefix=", "ListObjectsV2"),
        ("GET /b?location=", "GetBucketLocation"),
        ("GET /b?location", "GetBucketLocation"),
        ("GET /b?versions&key-marker=", "ListObjectVersions"),
        ("GET /b?uploads=", "ListMultipartUploads"),
        ("POST /b?delete", "DeleteObjects"),
        ("POST /b/?delete=", "DeleteObjects"),
        ("PUT /b/k", "PutObject"),
        ("PUT /b/k?x-id=PutObject", "PutObject"),
        ("PUT /b/dir/", "PutObject"),
        ("PUT /b/k?partNumber=3&uploadId=u&x-id=UploadPart", "UploadPart"),
        ("GET /b/k", "GetObject"),
        ("GET /b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0", "GetObject"),
        ("GET /b/k?versionId=null&response-content-type=text/plain", "GetObject"),
        ("GET /b/k?partNumber=1", "GetObject"),
        ("HEAD /b/k?partNumber=1", "HeadObject"),
        ("GET /b/k?attributes=", "GetObjectAttributes"),
        ("GET /b/k?uploadId=u&max-parts=3", "ListParts"),
        ("POST /b/k?uploads", "CreateMultipartUpload"),
        ("POST /b/k?uploads=", "CreateMultipartUpload"),
        ("POST /b/k?uploadId=u", "CompleteMultipartUpload"),
        ("DELETE /b/k?uploadId=u", "AbortMultipartUpload"),
        ("DELETE /b/k?versionId=v", "DeleteObject"),
        ("OPTIONS /b/k", "Preflight"),
        ("OPTIONS /b?acl&tagging", "Preflight"),
        // A value that nobody asked for changes nothing.
        ("PUT /b/k?newFeature=1", "PutObject"),
        ("GET /b/k?newFeature", "GetObject"),
        ("PUT /b/k?", "PutObject"),
        // Not built, or read as if nobody had configured it.
        ("GET /b?versioning", "GetBucketVersioning"),
        ("PUT /b?versioning", "PutBucketVersioning"),
        ("GET /b?inventory", "ListBucketInventoryConfigurations"),
        ("GET /b?inventory&id=1", "GetBucketInventoryConfiguration"),
        ("GET /b/k?acl", "GetObjectAcl"),
        ("PUT /b/k?acl", "PutObjectAcl"),
        ("POST /b/k?select&select-type=2", "SelectObjectContent"),
        ("PUT /b/k?renameObject", "RenameObject"),
    ] {
        assert_eq!(name(line), expected, "{line}");
    }
}

#[test]
fn headers_that_make_another_operation() {
    let copied = |line| request(line, true, None).unwrap().operation;
    assert_eq!(copied("PUT /b/k"), Operation::CopyObject);
    assert_eq!(copied("PUT /b/k?partNumber=1&uploadId=u"), Operation::UploadPartCopy);
    assert_eq!(copied("GET /b/k"), Operation::GetObject);
    let form = request("POST /b/", false, Some("Multipart/Form-Data; boundary=x")).unwrap();
    assert_eq!((form.name, form.operation), ("PostObject", Operation::NotBuilt));
    assert_eq!(form.not_built().status(), 501);
}

#[test]
fn what_is_not_an_operation() {
    for (line, code) in [
        ("PATCH /b/k", "MethodNotAllowed"),
        ("get /b/k", "MethodNotAllowed"),
        ("POST /", "MethodNotAllowed"),
        ("PUT /", "MethodNotAllowed"),
        ("DELETE /", "MethodNotAllowed"),
        ("POST /b", "MethodNotAllowed"),
        ("POST /b/k", "MethodNotAllowed"),
        // A feature's name never falls through to the plain verb.
        ("PUT /b/k?policy", "MethodNotAllowed"),
        ("DELETE /b?uploads", "MethodNotAllowed"),
        ("DELETE /b?versioning", "MethodNotAllowed"),
        ("DELETE /b/k?acl", "MethodNotAllowed"),
        ("PUT /b/k?uploads", "MethodNotAllowed"),
        ("PUT /b/k?uploadId=u", "MethodNotAllowed"),
        ("PUT /b/k?partNumber=1", "InvalidArgument"),
        ("GET /b?list-type=3", "InvalidArgument"),
        // Nor does one verb do what the one names and the other forbids.
        ("GET /b/k?acl&tagging", "InvalidArgument"),
        ("DELETE /b/k?uploadId=u&tagging", "InvalidArgument"),
        ("PUT /b/k?versionId=null", "InvalidArgument"),
        ("PUT /b/k?partNumber=1&uploadId=u&versionId=null", "InvalidArgument"),
        ("POST /b/k?uploads&versionId=null", "InvalidArgument"),
        // A feature of tomorrow is none of today's.
        ("PUT /b/k?newFeature", "NotImplemented"),
        ("PUT /b/k?newFeature=", "NotImplemented"),
        ("PUT /b?newFeature", "NotImplemented"),
        ("DELETE /b/k?versionId=v&newFeature", "NotImplemented"),
        ("POST /b?delete&newFeature=", "NotImplemented"),
        ("POST /b/k?uploads&NEWFEATURE", "NotImplemented"),
    ] {
        assert_eq!(name(line), code, "{line}");
    }
}

#[test]
fn the_table_is_whole() {
    let used: BTreeSet<&str> = ROUTES.iter().map(|route| route.subresource).filter(|name| !name.is_empty()).collect();
    assert!(used.iter().eq(SUBRESOURCES.iter()), "{used:?}");
    let names: BTreeSet<&str> = ROUTES.iter().map(|route| route.name).collect();
    assert_eq!(names.len(), ROUTES.len(), "a name stands twice");
    for route in ROUTES {
        assert_eq!(route.body == BodyKind::Unread, route.operation == Operation::NotBuilt, "{}", route.name);
        let is_signed = route.credentials == Credentials::Signature(Service::S3);
        assert!(!is_signed || !route.needs.is_empty(), "{}: whoever sends it may", route.name);
        assert!(is_signed || matches!(route.operation, Operation::Preflight | Operation::NotBuilt), "{}", route.name);
        let copies = matches!(route.operation, Operation::CopyObject | Operation::UploadPartCopy);
        assert_eq!(copies, route.needs.iter().any(|need| need.on == On::CopySource), "{}", route.name);
    }
}

/// Operation, header that makes it, method and target of the S3 service model that botocore 1.44 carries: facts of the protocol.
const API_OF_2026: &str = include_str!("api_2026.txt");

#[test]
fn every_operation_of_the_api_is_routed() {
    let mut count = 0;
    for line in API_OF_2026.lines() {
        let [name, header, request_line] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let expected = match name {
            // The deprecated twins are the same on the wire.
            "GetBucketLifecycle" => "GetBucketLifecycleConfiguration",
            "PutBucketLifecycle" => "PutBucketLifecycleConfiguration",
            "GetBucketNotification" => "GetBucketNotificationConfiguration",
            "PutBucketNotification" => "PutBucketNotificationConfiguration",
            // Express has another host name for it.
            "ListDirectoryBuckets" => "ListBuckets",
            // Object Lambda's own host; here it is a POST to a bucket that cannot exist.
            "WriteGetObjectResponse" => "MethodNotAllowed",
            name => name,
        };
        let routed = request(request_line, header == "x-amz-copy-source", None);
        let routed = routed.map_or_else(|error| error.code().as_str(), |route| route.name);
        assert_eq!(routed, expected, "{line}");
        count += 1;
    }
    assert!(count > 100);
}

#[test]
fn what_a_resource_takes() {
    let of = |level, names: &[&'static str]| allowed(level, names.iter().map(|name| (*name, "")));
    assert_eq!(of(Level::Service, &[]), "GET");
    assert_eq!(of(Level::Bucket, &["prefix"]), "PUT, HEAD, DELETE, GET");
    assert_eq!(of(Level::Object, &["x-id"]), "PUT, GET, HEAD, DELETE");
    assert_eq!(of(Level::Object, &["uploadId"]), "PUT, GET, POST, DELETE");
    assert_eq!(of(Level::Object, &["uploads"]), "POST");
    assert_eq!(of(Level::Object, &["torrent"]), "");
}

/// What the table of <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html> says.
#[test]
fn needs() {
    let needs = |line, copies| {
        let route = request(line, copies, None).unwrap();
        route.needs.iter().map(|need| (need.action.name(), need.on, need.when)).collect::<Vec<_>>()
    };
    let always = |name| (name, On::Target, Asked::Always);
    let set_acl = ("s3:PutObjectAcl", On::Target, Asked::WithGrants);
    let read_source = ("s3:GetObject", On::CopySource, Asked::Always);
    assert_eq!(needs("GET /", false), [always("s3:ListAllMyBuckets")]);
    assert_eq!(needs("HEAD /b", false), [always("s3:ListBucket")]);
    assert_eq!(needs("GET /b?list-type=2", false), [always("s3:ListBucket")]);
    assert_eq!(needs("GET /b?versions", false), [always("s3:ListBucketVersions")]);
    assert_eq!(needs("GET /b/k", false), [always("s3:GetObject")]);
    assert_eq!(needs("HEAD /b/k", false), [always("s3:GetObject")]);
    assert_eq!(needs("GET /b/k?attributes", false), [always("s3:GetObject"), always("s3:GetObjectAttributes")]);
    assert_eq!(needs("PUT /b/k", false), [always("s3:PutObject"), set_acl]);
    assert_eq!(needs("PUT /b/k", true), [always("s3:PutObject"), read_source, set_acl]);
    assert_eq!(needs("PUT /b/k?partNumber=1&uploadId=u", true), [always("s3:PutObject"), read_source]);
    assert_eq!(needs("POST /b/k?uploadId=u", false), [always("s3:PutObject")]);
    assert_eq!(needs("POST /b?delete", false), [("s3:DeleteObject", On::EachKey, Asked::Always)]);
    let reads_etag = ("s3:GetObject", On::Target, Asked::With("if-match"));
    assert_eq!(needs("DELETE /b/k", false), [always("s3:DeleteObject"), reads_etag]);
    assert_eq!(needs("DELETE /b?cors", false), [always("s3:PutBucketCORS")]);
}

/// Signature Version 2 signs some parameters only. One that chooses the operation must be among them: else a link to an object
/// could be turned into another request.
#[test]
fn old_signatures_cover_every_sub_resource() {
    let signed = crate::auth::SIGNED_PARAMETERS;
    let missing: Vec<_> = SUBRESOURCES.iter().filter(|name| !signed.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(["partNumber", "versionId", "response-content-type"].iter().all(|name| signed.contains(name)));
}
