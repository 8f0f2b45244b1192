//! Which operation is it? One table: method, level, sub-resource → operation, its name, its policy action, its kind of body.
//!
//! The names are those of the S3 API of 2026. An operation is built, or it reads a feature that is not built (and is answered
//! as for a bucket where nobody configured it), or it is not built at all. A query parameter that no row names is ignored, as
//! S3 does (`x-id`, cache busters); one that names a feature is never taken for a plain GET or PUT.

use crate::limits;
use crate::metrics::record;
use crate::s3::error::{Code, S3Error};

/// What a request's path addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Service,
    Bucket,
    Object,
}

/// The methods that S3 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
}

impl Method {
    /// As it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// What the body of an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// None is expected, and one that comes has no meaning.
    None,
    /// The bytes of an object or part.
    Payload,
    /// A document of at most so many bytes.
    Xml { size_max: usize },
    /// There may be one, and the answer does not depend on it.
    Unread,
}

/// What must hold beside method, level and sub-resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// `x-amz-copy-source` is there.
    CopySource,
    /// `list-type` is there.
    ListType,
    /// This query parameter is there.
    Query(&'static str),
    /// The body is a form.
    Form,
}

/// A row of the table.
#[derive(Debug)]
pub struct Route {
    pub method: Method,
    pub level: Level,
    /// The query parameter that names it; empty for the plain operation of its method and level.
    pub subresource: &'static str,
    when: When,
    pub operation: Operation,
    /// `GetObject`
    pub name: &'static str,
    /// `s3:GetObject`; of an operation on an object, the one without a version id. See `Route::action`.
    action: &'static str,
    pub body: BodyKind,
}

/// Makes the enums and the table from one list. The action defaults to `s3:` and the operation's name.
macro_rules! routes {
    (
        built { $($bm:ident $bl:ident $bs:literal $bw:expr, $bn:ident $(as $ba:literal)?, $bb:expr;)* }
        unconfigured { $($rl:ident $rs:literal $rw:expr, $rn:ident $(as $ra:literal)?;)* }
        not_built { $($nm:ident $nl:ident $ns:literal $nw:expr, $nn:ident $(as $na:literal)?;)* }
    ) => {
        /// Every operation, closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation {
            $($bn,)*
            /// Reads a feature that is not built.
            Unconfigured(Unconfigured),
            /// Anything else that S3 has.
            NotBuilt,
        }

        /// Reads of features that are not built.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Unconfigured { $($rn,)* }

        /// What metrics tell apart: every operation that is built, and four kinds of other requests.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counted {
            /// Refused before it was known which operation it is: an unreadable head, a wrong signature, a wrong address.
            Unrouted,
            Health,
            Unconfigured,
            NotBuilt,
            $($bn,)*
        }

        impl Counted {
            /// The label of each, in order.
            pub const NAMES: &[&str] = &["Unrouted", "Health", "Unconfigured", "NotBuilt", $(stringify!($bn),)*];
        }

        impl Operation {
            /// What metrics count it as.
            pub const fn counted(self) -> Counted {
                match self {
                    $(Operation::$bn => Counted::$bn,)*
                    Operation::Unconfigured(_) => Counted::Unconfigured,
                    Operation::NotBuilt => Counted::NotBuilt,
                }
            }
        }

        /// The first row that matches is the one.
        pub static ROUTES: &[Route] = &[
            $(Route {
                method: Method::$bm, level: Level::$bl, subresource: $bs, when: $bw, operation: Operation::$bn,
                name: stringify!($bn), action: action!($bn $($ba)?), body: $bb,
            },)*
            $(Route {
                method: Method::Get, level: Level::$rl, subresource: $rs, when: $rw,
                operation: Operation::Unconfigured(Unconfigured::$rn),
                name: stringify!($rn), action: action!($rn $($ra)?), body: BodyKind::None,
            },)*
            $(Route {
                method: Method::$nm, level: Level::$nl, subresource: $ns, when: $nw, operation: Operation::NotBuilt,
                name: stringify!($nn), action: action!($nn $($na)?), body: BodyKind::Unread,
            },)*
        ];
    };
}

macro_rules! action {
    ($name:ident) => {
        concat!("s3:", stringify!($name))
    };
    ($name:ident $action:literal) => {
        $action
    };
}

const XML: BodyKind = BodyKind::Xml { size_max: limits::XML_SIZE_MAX };
const XML_COMPLETE: BodyKind = BodyKind::Xml { size_max: limits::XML_COMPLETE_SIZE_MAX };
use BodyKind::{None as NONE, Payload as PAYLOAD};
use When::{Always, CopySource, Form, ListType, Query};

routes! {
    built {
        Get Service "" Always, ListBuckets as "s3:ListAllMyBuckets", NONE;
        Put Bucket "" Always, CreateBucket, XML;
        Head Bucket "" Always, HeadBucket as "s3:ListBucket", NONE;
        Delete Bucket "" Always, DeleteBucket, NONE;
        Get Bucket "location" Always, GetBucketLocation, NONE;
        Get Bucket "uploads" Always, ListMultipartUploads as "s3:ListBucketMultipartUploads", NONE;
        Get Bucket "versions" Always, ListObjectVersions as "s3:ListBucketVersions", NONE;
        Get Bucket "" ListType, ListObjectsV2 as "s3:ListBucket", NONE;
        Get Bucket "" Always, ListObjects as "s3:ListBucket", NONE;
        Post Bucket "delete" Always, DeleteObjects as "s3:DeleteObject", XML;
        Put Object "uploadId" CopySource, UploadPartCopy as "s3:PutObject", NONE;
        Put Object "uploadId" Always, UploadPart as "s3:PutObject", PAYLOAD;
        Put Object "" CopySource, CopyObject as "s3:PutObject", NONE;
        Put Object "" Always, PutObject, PAYLOAD;
        Get Object "uploadId" Always, ListParts as "s3:ListMultipartUploadParts", NONE;
        Get Object "attributes" Always, GetObjectAttributes, NONE;
        Get Object "" Always, GetObject, NONE;
        Head Object "" Always, HeadObject as "s3:GetObject", NONE;
        Post Object "uploads" Always, CreateMultipartUpload as "s3:PutObject", NONE;
        Post Object "uploadId" Always, CompleteMultipartUpload as "s3:PutObject", XML_COMPLETE;
        Delete Object "uploadId" Always, AbortMultipartUpload, NONE;
        Delete Object "" Always, DeleteObject, NONE;
    }
    unconfigured {
        Bucket "abac" Always, GetBucketAbac;
        Bucket "accelerate" Always, GetBucketAccelerateConfiguration as "s3:GetAccelerateConfiguration";
        Bucket "acl" Always, GetBucketAcl;
        Bucket "analytics" Query("id"), GetBucketAnalyticsConfiguration as "s3:GetAnalyticsConfiguration";
        Bucket "analytics" Always, ListBucketAnalyticsConfigurations as "s3:GetAnalyticsConfiguration";
        Bucket "cors" Always, GetBucketCors as "s3:GetBucketCORS";
        Bucket "encryption" Always, GetBucketEncryption as "s3:GetEncryptionConfiguration";
        Bucket "intelligent-tiering" Query("id"), GetBucketIntelligentTieringConfiguration
            as "s3:GetIntelligentTieringConfiguration";
        Bucket "intelligent-tiering" Always, ListBucketIntelligentTieringConfigurations
            as "s3:GetIntelligentTieringConfiguration";
        Bucket "inventory" Query("id"), GetBucketInventoryConfiguration as "s3:GetInventoryConfiguration";
        Bucket "inventory" Always, ListBucketInventoryConfigurations as "s3:GetInventoryConfiguration";
        Bucket "lifecycle" Always, GetBucketLifecycleConfiguration as "s3:GetLifecycleConfiguration";
        Bucket "logging" Always, GetBucketLogging;
        Bucket "metadataConfiguration" Always, GetBucketMetadataConfiguration as "s3:GetBucketMetadataTableConfiguration";
        Bucket "metadataTable" Always, GetBucketMetadataTableConfiguration;
        Bucket "metrics" Query("id"), GetBucketMetricsConfiguration as "s3:GetMetricsConfiguration";
        Bucket "metrics" Always, ListBucketMetricsConfigurations as "s3:GetMetricsConfiguration";
        Bucket "notification" Always, GetBucketNotificationConfiguration as "s3:GetBucketNotification";
        Bucket "object-lock" Always, GetObjectLockConfiguration as "s3:GetBucketObjectLockConfiguration";
        Bucket "ownershipControls" Always, GetBucketOwnershipControls;
        Bucket "policy" Always, GetBucketPolicy;
        Bucket "policyStatus" Always, GetBucketPolicyStatus;
        Bucket "publicAccessBlock" Always, GetPublicAccessBlock as "s3:GetBucketPublicAccessBlock";
        Bucket "replication" Always, GetBucketReplication as "s3:GetReplicationConfiguration";
        Bucket "requestPayment" Always, GetBucketRequestPayment;
        Bucket "tagging" Always, GetBucketTagging;
        Bucket "versioning" Always, GetBucketVersioning;
        Bucket "website" Always, GetBucketWebsite;
        Object "acl" Always, GetObjectAcl;
        Object "annotation" Query("annotationName"), GetObjectAnnotation;
        Object "annotation" Always, ListObjectAnnotations;
        Object "legal-hold" Always, GetObjectLegalHold;
        Object "retention" Always, GetObjectRetention;
        Object "tagging" Always, GetObjectTagging;
        Object "torrent" Always, GetObjectTorrent;
    }
    not_built {
        Get Bucket "session" Always, CreateSession as "s3express:CreateSession";
        Put Bucket "abac" Always, PutBucketAbac;
        Put Bucket "accelerate" Always, PutBucketAccelerateConfiguration as "s3:PutAccelerateConfiguration";
        Put Bucket "acl" Always, PutBucketAcl;
        Put Bucket "analytics" Always, PutBucketAnalyticsConfiguration as "s3:PutAnalyticsConfiguration";
        Delete Bucket "analytics" Always, DeleteBucketAnalyticsConfiguration as "s3:PutAnalyticsConfiguration";
        Put Bucket "cors" Always, PutBucketCors as "s3:PutBucketCORS";
        Delete Bucket "cors" Always, DeleteBucketCors as "s3:PutBucketCORS";
        Put Bucket "encryption" Always, PutBucketEncryption as "s3:PutEncryptionConfiguration";
        Delete Bucket "encryption" Always, DeleteBucketEncryption as "s3:PutEncryptionConfiguration";
        Put Bucket "intelligent-tiering" Always, PutBucketIntelligentTieringConfiguration
            as "s3:PutIntelligentTieringConfiguration";
        Delete Bucket "intelligent-tiering" Always, DeleteBucketIntelligentTieringConfiguration
            as "s3:PutIntelligentTieringConfiguration";
        Put Bucket "inventory" Always, PutBucketInventoryConfiguration as "s3:PutInventoryConfiguration";
        Delete Bucket "inventory" Always, DeleteBucketInventoryConfiguration as "s3:PutInventoryConfiguration";
        Put Bucket "lifecycle" Always, PutBucketLifecycleConfiguration as "s3:PutLifecycleConfiguration";
        Delete Bucket "lifecycle" Always, DeleteBucketLifecycle as "s3:PutLifecycleConfiguration";
        Put Bucket "logging" Always, PutBucketLogging;
        Post Bucket "metadataConfiguration" Always, CreateBucketMetadataConfiguration
            as "s3:CreateBucketMetadataTableConfiguration";
        Delete Bucket "metadataConfiguration" Always, DeleteBucketMetadataConfiguration
            as "s3:DeleteBucketMetadataTableConfiguration";
        Post Bucket "metadataTable" Always, CreateBucketMetadataTableConfiguration;
        Delete Bucket "metadataTable" Always, DeleteBucketMetadataTableConfiguration;
        Put Bucket "metadataAnnotationTable" Always, UpdateBucketMetadataAnnotationTableConfiguration;
        Put Bucket "metadataInventoryTable" Always, UpdateBucketMetadataInventoryTableConfiguration;
        Put Bucket "metadataJournalTable" Always, UpdateBucketMetadataJournalTableConfiguration;
        Put Bucket "metrics" Always, PutBucketMetricsConfiguration as "s3:PutMetricsConfiguration";
        Delete Bucket "metrics" Always, DeleteBucketMetricsConfiguration as "s3:PutMetricsConfiguration";
        Put Bucket "notification" Always, PutBucketNotificationConfiguration as "s3:PutBucketNotification";
        Put Bucket "object-lock" Always, PutObjectLockConfiguration as "s3:PutBucketObjectLockConfiguration";
        Put Bucket "ownershipControls" Always, PutBucketOwnershipControls;
        Delete Bucket "ownershipControls" Always, DeleteBucketOwnershipControls as "s3:PutBucketOwnershipControls";
        Put Bucket "policy" Always, PutBucketPolicy;
        Delete Bucket "policy" Always, DeleteBucketPolicy;
        Put Bucket "publicAccessBlock" Always, PutPublicAccessBlock as "s3:PutBucketPublicAccessBlock";
        Delete Bucket "publicAccessBlock" Always, DeletePublicAccessBlock as "s3:PutBucketPublicAccessBlock";
        Put Bucket "replication" Always, PutBucketReplication as "s3:PutReplicationConfiguration";
        Delete Bucket "replication" Always, DeleteBucketReplication as "s3:PutReplicationConfiguration";
        Put Bucket "requestPayment" Always, PutBucketRequestPayment;
        Put Bucket "tagging" Always, PutBucketTagging;
        Delete Bucket "tagging" Always, DeleteBucketTagging as "s3:PutBucketTagging";
        Put Bucket "versioning" Always, PutBucketVersioning;
        Put Bucket "website" Always, PutBucketWebsite;
        Delete Bucket "website" Always, DeleteBucketWebsite;
        Post Bucket "" Form, PostObject as "s3:PutObject";
        Put Object "acl" Always, PutObjectAcl;
        Put Object "annotation" Always, PutObjectAnnotation;
        Delete Object "annotation" Always, DeleteObjectAnnotation;
        Put Object "encryption" Always, UpdateObjectEncryption;
        Put Object "legal-hold" Always, PutObjectLegalHold;
        Put Object "renameObject" Always, RenameObject;
        Post Object "restore" Always, RestoreObject;
        Put Object "retention" Always, PutObjectRetention;
        Post Object "select" Always, SelectObjectContent as "s3:GetObject";
        Put Object "tagging" Always, PutObjectTagging;
        Delete Object "tagging" Always, DeleteObjectTagging;
    }
}

const _: () = assert!(Counted::NAMES.len() <= limits::METRIC_OPERATIONS_MAX);
// What is not said to be something else.
const _: () = assert!(Counted::Unrouted as u8 == 0);

impl From<Counted> for record::Operation {
    fn from(counted: Counted) -> Self {
        Self::new(counted as u8)
    }
}

impl Route {
    /// The action that policies name. S3 has an own one where a version of an object is meant.
    pub fn action(&self, has_version_id: bool) -> &'static str {
        match self.action {
            "s3:GetObject" if has_version_id => "s3:GetObjectVersion",
            "s3:DeleteObject" if has_version_id => "s3:DeleteObjectVersion",
            "s3:GetObjectAttributes" if has_version_id => "s3:GetObjectVersionAttributes",
            "s3:GetObjectAcl" if has_version_id => "s3:GetObjectVersionAcl",
            "s3:GetObjectTagging" if has_version_id => "s3:GetObjectVersionTagging",
            action => action,
        }
    }

    /// The answer of a route whose operation is `NotBuilt`.
    pub fn not_built(&self) -> S3Error {
        S3Error::new(Code::NotImplemented).message(format!("{} is not implemented", self.name))
    }
}

/// What routing looks at.
#[derive(Clone, Debug)]
pub struct Request<'a, Q> {
    pub method: &'a str,
    pub level: Level,
    /// Decoded names and values. A name without `=` has an empty value.
    pub query: Q,
    /// `x-amz-copy-source` is among the headers.
    pub has_copy_source: bool,
    pub content_type: Option<&'a str>,
}

/// Finds the row for a request.
pub fn route<'q, Q>(request: &Request<'_, Q>) -> Result<&'static Route, S3Error>
where
    Q: Iterator<Item = (&'q str, &'q str)> + Clone,
{
    let method = method(request)?;
    let has = |name: &str| request.query.clone().any(|(known, _)| known == name);
    let names_feature = request.query.clone().any(|(name, _)| SUBRESOURCES.binary_search(&name).is_ok());
    check_part_parameters(request, method)?;
    let is_form = || request.content_type.is_some_and(is_form);
    for route in ROUTES {
        if route.method != method || route.level != request.level || names_feature == route.subresource.is_empty() {
            continue;
        }
        if names_feature && !has(route.subresource) {
            continue;
        }
        let holds = match route.when {
            When::Always => true,
            When::CopySource => request.has_copy_source,
            When::ListType => has("list-type"),
            When::Query(name) => has(name),
            When::Form => is_form(),
        };
        if holds {
            check_list_type(route, request)?;
            return Ok(route);
        }
    }
    Err(not_allowed(request))
}

/// The methods that a resource takes, for `Allow`. Forms to a bucket are left out: they are not built, and another POST is not
/// allowed.
pub fn allowed<'q>(level: Level, query: impl Iterator<Item = (&'q str, &'q str)> + Clone) -> String {
    let has = |name: &str| query.clone().any(|(known, _)| known == name);
    let names_feature = query.clone().any(|(name, _)| SUBRESOURCES.binary_search(&name).is_ok());
    let mut methods: Vec<&str> = Vec::new();
    for route in ROUTES.iter().filter(|route| route.level == level && route.when != When::Form) {
        let is_of_resource = if names_feature { has(route.subresource) } else { route.subresource.is_empty() };
        // It is in the table only to be answered with 405, as S3 does.
        let is_torrent = route.operation == Operation::Unconfigured(Unconfigured::GetObjectTorrent);
        if is_of_resource && !is_torrent && !methods.contains(&route.method.as_str()) {
            methods.push(route.method.as_str());
        }
    }
    methods.join(", ")
}

/// Every sub-resource of the table, sorted: whether a query parameter is one is asked for each parameter of each request.
static SUBRESOURCES: [&str; 41] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataAnnotationTable",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
];

/// Methods are case-sensitive (RFC 9110 section 9.1).
fn method<Q>(request: &Request<'_, Q>) -> Result<Method, S3Error> {
    match request.method {
        "GET" => Ok(Method::Get),
        "HEAD" => Ok(Method::Head),
        "PUT" => Ok(Method::Put),
        "POST" => Ok(Method::Post),
        "DELETE" => Ok(Method::Delete),
        // A preflight carries no credentials, and no bucket has a CORS configuration yet.
        "OPTIONS" => Err(S3Error::new(Code::AccessForbidden)),
        _ => Err(not_allowed(request)),
    }
}

/// A PUT that names one of the two would otherwise overwrite the object with a part.
fn check_part_parameters<'q, Q>(request: &Request<'_, Q>, method: Method) -> Result<(), S3Error>
where
    Q: Iterator<Item = (&'q str, &'q str)> + Clone,
{
    if method != Method::Put || request.level != Level::Object {
        return Ok(());
    }
    let has = |wanted: &str| request.query.clone().any(|(name, _)| name == wanted);
    match (has("uploadId"), has("partNumber")) {
        (true, false) => Err(S3Error::invalid_argument("partNumber", "", "This operation requires a part number")),
        (false, true) => Err(S3Error::invalid_argument("uploadId", "", "This operation does not accept a part number")),
        _ => Ok(()),
    }
}

fn check_list_type<'q, Q>(route: &Route, request: &Request<'_, Q>) -> Result<(), S3Error>
where
    Q: Iterator<Item = (&'q str, &'q str)> + Clone,
{
    if route.operation != Operation::ListObjectsV2 {
        return Ok(());
    }
    match request.query.clone().find(|(name, _)| *name == "list-type") {
        Some((_, "2")) | None => Ok(()),
        Some((name, value)) => Err(S3Error::invalid_argument(name, value, "Invalid List Type specified in Request")),
    }
}

fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("multipart/form-data")
}

fn not_allowed<Q>(request: &Request<'_, Q>) -> S3Error {
    let resource_type = match request.level {
        Level::Service => "SERVICE",
        Level::Bucket => "BUCKET",
        Level::Object => "OBJECT",
    };
    S3Error::method_not_allowed(request.method, resource_type)
}

#[cfg(test)]
mod tests;
