//! Every row of the route table × every kind of credentials × each of its needs denied. The requests are made from the table: a row
//! that is added is asked here.

use super::death_tests::{Answer, Form, Ground, Request, on_a_core};
use crate::policy::tests::deny;
use crate::s3::ask::operation::{Asked, Credentials, Level, Need, On, Operation, ROUTES, Route, When};

const BODY: &[u8] = b"what is there";
const NO_UPLOAD: &str = "uploadId=000000000000000000000000000000000000000000000000";
const DELETED: &[u8] = b"<Delete><Object><Key>dir/key</Key></Object><Object><Key>dir/other</Key></Object></Delete>";

/// A request that the row is for.
fn sample(route: &Route) -> Request {
    let path = match route.level {
        Level::Service => "/",
        Level::Bucket => "/bucket",
        Level::Object => "/bucket/dir/key",
    };
    let mut query = match route.subresource {
        "" => Vec::new(),
        "uploadId" => vec![NO_UPLOAD.to_owned()],
        name => vec![format!("{name}=")],
    };
    if route.subresource == "uploadId" && route.method.as_str() == "PUT" {
        query.push("partNumber=1".into());
    }
    match route.when {
        When::ListType => query.push("list-type=2".into()),
        When::Query(name) => query.push(format!("{name}=x")),
        When::Always | When::CopySource | When::Form => {}
    }
    query.sort();
    let body: &[u8] = if route.operation == Operation::DeleteObjects { DELETED } else { b"" };
    let request = Request::new(route.method.as_str(), &query.join("&"), body, Form::Signed).at(path);
    let request = match route.when {
        When::CopySource => request.with("x-amz-copy-source", "bucket/dir/key"),
        When::Form => request.with("content-type", "multipart/form-data; boundary=x"),
        _ => request,
    };
    match route.operation {
        Operation::DeleteObjects => request.with("x-amz-checksum-crc32", &crc32(DELETED)),
        Operation::CopyObject => request.with("x-amz-metadata-directive", "REPLACE"),
        _ => request,
    }
}

fn crc32(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(crc32fast::hash(bytes).to_be_bytes())
}

/// The sample with the header that makes the need one.
fn sample_that_needs(route: &Route, need: &Need) -> Request {
    match need.when {
        Asked::Always => sample(route),
        Asked::With(header) => sample(route).with(header, "\"0\""),
        Asked::WithGrants => sample(route).with("x-amz-acl", "private"),
    }
}

fn code(answer: &Answer) -> String {
    answer.element("Code")
}

/// The request with something of its head as it was not signed.
fn altered(route: &Route, old: &str, new: &str) -> Vec<u8> {
    let (bytes, head_size) = sample(route).sign();
    let head = String::from_utf8(bytes[..head_size].to_vec()).unwrap();
    assert!(head.contains(old), "{head}");
    [head.replacen(old, new, 1).as_bytes(), &bytes[head_size..]].concat()
}

/// The sample without credentials.
fn anonymous(route: &Route) -> Vec<u8> {
    let (bytes, head_size) = sample(route).sign();
    let head = String::from_utf8(bytes[..head_size].to_vec()).unwrap();
    let kept: Vec<&str> = head.split("\r\n").filter(|line| !line.starts_with("Authorization")).collect();
    [kept.join("\r\n").as_bytes(), &bytes[head_size..]].concat()
}

impl Ground {
    async fn prepare(&self) {
        for key in ["key", "other"] {
            let put = Request::new("PUT", "", BODY, Form::Unsigned).at(&format!("/bucket/dir/{key}"));
            assert_eq!(self.ask(put).await.status, 200);
        }
    }

    async fn assert_unchanged(&self, context: &str) {
        for key in ["key", "other"] {
            let answer = self.ask(Request::new("GET", "", b"", Form::Unsigned).at(&format!("/bucket/dir/{key}"))).await;
            assert_eq!((answer.status, &*answer.body), (200, BODY), "{context}");
        }
        let listed = self.ask(Request::new("GET", "", b"", Form::Unsigned).at("/bucket")).await;
        assert_eq!(String::from_utf8_lossy(&listed.body).matches("<Key>").count(), 2, "{context}");
    }
}

#[test]
fn whom_nobody_knows_is_refused_and_changes_nothing() {
    on_a_core(|ground| {
        Box::pin(async move {
            ground.prepare().await;
            for route in ROUTES {
                let date = &crate::base::time::Timestamp::now().amz_date()[..8];
                let strangers = [
                    ("anonymous", anonymous(route), (403, "AccessDenied")),
                    ("signature", altered(route, "Signature=", "Signature=0"), (403, "SignatureDoesNotMatch")),
                    ("key", altered(route, "Credential=", "Credential=x"), (403, "InvalidAccessKeyId")),
                    ("service", altered(route, "/s3/aws4", "/iam/aws4"), (400, "AuthorizationHeaderMalformed")),
                    ("day", altered(route, &format!("/{date}/"), "/20130524/"), (400, "AuthorizationHeaderMalformed")),
                ];
                let of_session = sample(route).with("x-amz-security-token", "token").sign().0;
                let strangers = strangers.into_iter().chain([("session", of_session, (400, "InvalidToken"))]);
                for (kind, bytes, refused) in strangers {
                    let context = format!("{kind}: {}", route.name);
                    let answer = ground.send(bytes).await;
                    let (status, expected) = match route.credentials {
                        Credentials::Signature(_) => refused,
                        Credentials::Form => (501, "NotImplemented"),
                        Credentials::None => (403, "AccessForbidden"),
                    };
                    assert_eq!(answer.status, status, "{context}: {}", answer.head);
                    // An answer to HEAD has no document.
                    assert!(route.method.as_str() == "HEAD" || code(&answer) == expected, "{context}: {}", code(&answer));
                }
                ground.assert_unchanged(route.name).await;
            }
        })
    });
}

#[test]
fn root_is_served() {
    on_a_core(|ground| {
        Box::pin(async move {
            for route in ROUTES {
                ground.prepare().await;
                let answer = ground.ask(sample(route)).await;
                let code = code(&answer);
                match route.operation {
                    Operation::NotBuilt => assert_eq!((answer.status, &*code), (501, "NotImplemented"), "{}", route.name),
                    Operation::Preflight => assert_eq!(answer.status, 403),
                    _ => assert!(answer.status < 500 && answer.status != 403, "{}: {} {code}", route.name, answer.status),
                }
            }
        })
    });
}

#[test]
fn each_need_is_asked() {
    on_a_core(|ground| {
        Box::pin(async move {
            ground.prepare().await;
            for (route, need) in ROUTES.iter().flat_map(|route| route.needs.iter().map(move |need| (route, need))) {
                if matches!(route.credentials, Credentials::Form) {
                    continue;
                }
                let context = format!("{}: {} denied", route.name, need.action.name());
                let (denied, is_of_source) = (need.action, need.on == On::CopySource);
                // Of a copy that reads and writes the same, one need is not the other.
                deny(move |question| question.action == denied);
                let answer = ground.ask(sample_that_needs(route, need)).await;
                deny(|_| false);
                match need.on {
                    On::EachKey => {
                        assert_eq!(answer.status, 200, "{context}");
                        let document = String::from_utf8_lossy(&answer.body).into_owned();
                        assert_eq!(document.matches("<Code>AccessDenied</Code>").count(), 2, "{context}: {document}");
                        assert!(!document.contains("<Deleted>"), "{context}: {document}");
                    }
                    On::Target | On::CopySource => {
                        assert_eq!(answer.status, 403, "{context} {is_of_source}: {}", answer.head);
                        assert!(route.method.as_str() == "HEAD" || code(&answer) == "AccessDenied", "{context}");
                    }
                }
                ground.assert_unchanged(&context).await;
            }
        })
    });
}

/// Without the header that makes a need one, it is none.
#[test]
fn what_is_not_needed_is_not_asked() {
    on_a_core(|ground| {
        Box::pin(async move {
            for (route, need) in ROUTES.iter().flat_map(|route| route.needs.iter().map(move |need| (route, need))) {
                if need.when == Asked::Always || route.needs.iter().any(|other| other.action == need.action && other != need) {
                    continue;
                }
                ground.prepare().await;
                let denied = need.action;
                deny(move |question| question.action == denied);
                let answer = ground.ask(sample(route)).await;
                deny(|_| false);
                assert_ne!(answer.status, 403, "{}: {}", route.name, denied.name());
            }
        })
    });
}

/// The rights to one key are not those to another, and a version has rights of its own.
#[test]
fn each_key_is_asked_about_by_its_name_and_version() {
    use crate::policy::{Action, Resource};
    on_a_core(|ground| {
        Box::pin(async move {
            ground.prepare().await;
            deny(|question| {
                question.resource == Resource::Object("bucket", b"dir/other") && question.action == Action::DeleteObject
            });
            let route = ROUTES.iter().find(|route| route.operation == Operation::DeleteObjects).unwrap();
            let answer = ground.ask(sample(route)).await;
            let document = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(document.contains("<Deleted><Key>dir/key</Key></Deleted>"), "{document}");
            assert!(document.contains("<Key>dir/other</Key><Code>AccessDenied</Code>"), "{document}");
            deny(|question| question.action == Action::GetObjectVersion);
            let of_version = |method| Request::new(method, "versionId=null", b"", Form::Unsigned).at("/bucket/dir/other");
            assert_eq!(ground.ask(of_version("GET")).await.status, 403);
            assert_eq!(ground.ask(of_version("HEAD")).await.status, 403);
            let copy = |source| Request::new("PUT", "", b"", Form::Unsigned).at("/bucket/copy").with("x-amz-copy-source", source);
            assert_eq!(ground.ask(copy("bucket/dir/other?versionId=null")).await.status, 403);
            assert_eq!(ground.ask(copy("bucket/dir/other")).await.status, 200);
            deny(|question| {
                question.resource == Resource::Object("bucket", b"dir/other") && question.action == Action::GetObject
            });
            assert_eq!(ground.ask(copy("bucket/dir/other")).await.status, 403);
            assert_eq!(ground.ask(copy("/bucket/dir%2Fother")).await.status, 403);
            assert_eq!(ground.ask(copy("bucket/copy")).await.code_or_status(), "InvalidRequest");
            deny(|_| false);
        })
    });
}

impl Answer {
    fn code_or_status(&self) -> String {
        let code = code(self);
        if code.is_empty() { self.status.to_string() } else { code }
    }
}
