//! Which operation is it? One table: method, level, sub-resource → operation, its name, what it needs, its kind of body.
//!
//! The names are those of the S3 API of 2026. An operation is built, or it reads a feature that is not built (and is answered
//! as for a bucket where nobody configured it), or it is not built at all. A query parameter that no row names is ignored, as
//! S3 does (`x-id`, cache busters); one that names a feature is never taken for a plain GET or PUT.

use super::error::{Code, S3Error};
use super::query::is_amz;
use crate::auth::Service;
use crate::limits;
use crate::metrics::record;
use crate::policy::Action;

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
    Options,
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
            Self::Options => "OPTIONS",
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
pub enum When {
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

/// Something that a request needs to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Where one version of an object is meant, S3 often has another: `Action::of_version`.
    pub action: Action,
    pub on: On,
    pub when: Asked,
}

/// Of what a need is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// What the path addresses.
    Target,
    /// What `x-amz-copy-source` names.
    CopySource,
    /// Each key of the document.
    EachKey,
}

/// When a need is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Always,
    /// The header is there.
    With(&'static str),
    /// The request names an ACL or grants.
    WithGrants,
}

impl Need {
    /// On what the path addresses, always.
    const fn to(action: Action) -> Self {
        Self { action, on: On::Target, when: Asked::Always }
    }

    const fn of(self, on: On) -> Self {
        Self { on, ..self }
    }

    const fn with(self, header: &'static str) -> Self {
        Self { when: Asked::With(header), ..self }
    }

    const fn with_grants(self) -> Self {
        Self { when: Asked::WithGrants, ..self }
    }
}

/// Where a request proves who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// In its head: a signature for this service, or none at all.
    Signature(Service),
    /// In its body, which is a form.
    Form,
    /// Nowhere: a browser asks before it sends any.
    None,
}

/// A row of the table.
#[derive(Debug)]
pub struct Route {
    pub method: Method,
    pub level: Level,
    /// The query parameter that names it; empty for the plain operation of its method and level.
    pub subresource: &'static str,
    pub when: When,
    pub operation: Operation,
    /// `GetObject`
    pub name: &'static str,
    pub credentials: Credentials,
    /// All of these must be allowed.
    pub needs: &'static [Need],
    pub body: BodyKind,
}

/// Makes the enums and the table from one list. Without another, the need is the action of the operation's name.
macro_rules! routes {
    (
        built { $($bm:ident $bl:ident $bs:literal $bw:expr, $bn:ident $(as $ba:ident)? $(needs $bx:expr)?, $bb:expr $(, by $bc:expr)?;)* }
        unconfigured { $($rl:ident $rs:literal $rw:expr, $rn:ident $(as $ra:ident)? $(needs $rx:expr)?;)* }
        not_built { $($nm:ident $nl:ident $ns:literal $nw:expr, $nn:ident $(as $na:ident)? $(needs $nx:expr)? $(, by $nc:expr)?;)* }
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
            /// Refused before it was known which operation it is: an unreadable head, an address or a query that names none.
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
                name: stringify!($bn), needs: needs!($bn $(as $ba)? $(needs $bx)?), body: $bb, credentials: credentials!($($bc)?),
            },)*
            $(Route {
                method: Method::Get, level: Level::$rl, subresource: $rs, when: $rw,
                operation: Operation::Unconfigured(Unconfigured::$rn),
                name: stringify!($rn), needs: needs!($rn $(as $ra)? $(needs $rx)?), body: BodyKind::None, credentials: credentials!(),
            },)*
            $(Route {
                method: Method::$nm, level: Level::$nl, subresource: $ns, when: $nw, operation: Operation::NotBuilt,
                name: stringify!($nn), needs: needs!($nn $(as $na)? $(needs $nx)?), body: BodyKind::Unread,
                credentials: credentials!($($nc)?),
            },)*
        ];
    };
}

macro_rules! needs {
    ($name:ident) => {
        &[Need::to(Action::$name)]
    };
    ($name:ident as $action:ident) => {
        &[Need::to(Action::$action)]
    };
    ($name:ident needs $needs:expr) => {
        $needs
    };
}

macro_rules! credentials {
    () => {
        Credentials::Signature(Service::S3)
    };
    ($credentials:expr) => {
        $credentials
    };
}

/// What copies read. They ask it themselves, of what they have parsed.
const READ_SOURCE: Need = Need::to(Action::GetObject).of(On::CopySource);
const SET_ACL: Need = Need::to(Action::PutObjectAcl).with_grants();

const XML: BodyKind = BodyKind::Xml { size_max: limits::XML_SIZE_MAX };
const XML_COMPLETE: BodyKind = BodyKind::Xml { size_max: limits::XML_COMPLETE_SIZE_MAX };
use BodyKind::{None as NONE, Payload as PAYLOAD};
use When::{Always, CopySource, Form, ListType, Query};

routes! {
    built {
        Get Service "" Always, ListBuckets as ListAllMyBuckets, NONE;
        Put Bucket "" Always, CreateBucket needs &[Need::to(Action::CreateBucket), Need::to(Action::PutBucketAcl).with_grants()], XML;
        Head Bucket "" Always, HeadBucket as ListBucket, NONE;
        Delete Bucket "" Always, DeleteBucket, NONE;
        Get Bucket "location" Always, GetBucketLocation, NONE;
        Get Bucket "versioning" Always, GetBucketVersioning, NONE;
        Put Bucket "versioning" Always, PutBucketVersioning, XML;
        Get Bucket "uploads" Always, ListMultipartUploads as ListBucketMultipartUploads, NONE;
        Get Bucket "versions" Always, ListObjectVersions as ListBucketVersions, NONE;
        Get Bucket "" ListType, ListObjectsV2 as ListBucket, NONE;
        Get Bucket "" Always, ListObjects as ListBucket, NONE;
        Post Bucket "delete" Always, DeleteObjects needs &[Need::to(Action::DeleteObject).of(On::EachKey)], XML;
        Put Object "uploadId" CopySource, UploadPartCopy needs &[Need::to(Action::PutObject), READ_SOURCE], NONE;
        Put Object "uploadId" Always, UploadPart as PutObject, PAYLOAD;
        Put Object "" CopySource, CopyObject needs &[Need::to(Action::PutObject), READ_SOURCE, SET_ACL], NONE;
        Put Object "" Always, PutObject needs &[Need::to(Action::PutObject), SET_ACL], PAYLOAD;
        Get Object "uploadId" Always, ListParts as ListMultipartUploadParts, NONE;
        Get Object "attributes" Always, GetObjectAttributes needs &[Need::to(Action::GetObject), Need::to(Action::GetObjectAttributes)], NONE;
        Get Object "" Always, GetObject, NONE;
        Head Object "" Always, HeadObject as GetObject, NONE;
        Post Object "uploads" Always, CreateMultipartUpload needs &[Need::to(Action::PutObject), SET_ACL], NONE;
        Post Object "uploadId" Always, CompleteMultipartUpload as PutObject, XML_COMPLETE;
        Delete Object "uploadId" Always, AbortMultipartUpload, NONE;
        Options Object "" Always, Preflight needs &[], NONE, by Credentials::None;
        Delete Object "" Always, DeleteObject needs &[Need::to(Action::DeleteObject), Need::to(Action::GetObject).with("if-match")], NONE;
    }
    unconfigured {
        Bucket "abac" Always, GetBucketAbac;
        Bucket "accelerate" Always, GetBucketAccelerateConfiguration as GetAccelerateConfiguration;
        Bucket "acl" Always, GetBucketAcl;
        Bucket "analytics" Query("id"), GetBucketAnalyticsConfiguration as GetAnalyticsConfiguration;
        Bucket "analytics" Always, ListBucketAnalyticsConfigurations as GetAnalyticsConfiguration;
        Bucket "cors" Always, GetBucketCors as GetBucketCORS;
        Bucket "encryption" Always, GetBucketEncryption as GetEncryptionConfiguration;
        Bucket "intelligent-tiering" Query("id"), GetBucketIntelligentTieringConfiguration
            as GetIntelligentTieringConfiguration;
        Bucket "intelligent-tiering" Always, ListBucketIntelligentTieringConfigurations
            as GetIntelligentTieringConfiguration;
        Bucket "inventory" Query("id"), GetBucketInventoryConfiguration as GetInventoryConfiguration;
        Bucket "inventory" Always, ListBucketInventoryConfigurations as GetInventoryConfiguration;
        Bucket "lifecycle" Always, GetBucketLifecycleConfiguration as GetLifecycleConfiguration;
        Bucket "logging" Always, GetBucketLogging;
        Bucket "metadataConfiguration" Always, GetBucketMetadataConfiguration as GetBucketMetadataTableConfiguration;
        Bucket "metadataTable" Always, GetBucketMetadataTableConfiguration;
        Bucket "metrics" Query("id"), GetBucketMetricsConfiguration as GetMetricsConfiguration;
        Bucket "metrics" Always, ListBucketMetricsConfigurations as GetMetricsConfiguration;
        Bucket "notification" Always, GetBucketNotificationConfiguration as GetBucketNotification;
        Bucket "object-lock" Always, GetObjectLockConfiguration as GetBucketObjectLockConfiguration;
        Bucket "ownershipControls" Always, GetBucketOwnershipControls;
        Bucket "policy" Always, GetBucketPolicy;
        Bucket "policyStatus" Always, GetBucketPolicyStatus;
        Bucket "publicAccessBlock" Always, GetPublicAccessBlock as GetBucketPublicAccessBlock;
        Bucket "replication" Always, GetBucketReplication as GetReplicationConfiguration;
        Bucket "requestPayment" Always, GetBucketRequestPayment;
        Bucket "tagging" Always, GetBucketTagging;
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
        Get Bucket "session" Always, CreateSession as CreateSession;
        Put Bucket "abac" Always, PutBucketAbac;
        Put Bucket "accelerate" Always, PutBucketAccelerateConfiguration as PutAccelerateConfiguration;
        Put Bucket "acl" Always, PutBucketAcl;
        Put Bucket "analytics" Always, PutBucketAnalyticsConfiguration as PutAnalyticsConfiguration;
        Delete Bucket "analytics" Always, DeleteBucketAnalyticsConfiguration as PutAnalyticsConfiguration;
        Put Bucket "cors" Always, PutBucketCors as PutBucketCORS;
        Delete Bucket "cors" Always, DeleteBucketCors as PutBucketCORS;
        Put Bucket "encryption" Always, PutBucketEncryption as PutEncryptionConfiguration;
        Delete Bucket "encryption" Always, DeleteBucketEncryption as PutEncryptionConfiguration;
        Put Bucket "intelligent-tiering" Always, PutBucketIntelligentTieringConfiguration
            as PutIntelligentTieringConfiguration;
        Delete Bucket "intelligent-tiering" Always, DeleteBucketIntelligentTieringConfiguration
            as PutIntelligentTieringConfiguration;
        Put Bucket "inventory" Always, PutBucketInventoryConfiguration as PutInventoryConfiguration;
        Delete Bucket "inventory" Always, DeleteBucketInventoryConfiguration as PutInventoryConfiguration;
        Put Bucket "lifecycle" Always, PutBucketLifecycleConfiguration as PutLifecycleConfiguration;
        Delete Bucket "lifecycle" Always, DeleteBucketLifecycle as PutLifecycleConfiguration;
        Put Bucket "logging" Always, PutBucketLogging;
        Post Bucket "metadataConfiguration" Always, CreateBucketMetadataConfiguration
            as CreateBucketMetadataTableConfiguration;
        Delete Bucket "metadataConfiguration" Always, DeleteBucketMetadataConfiguration
            as DeleteBucketMetadataTableConfiguration;
        Post Bucket "metadataTable" Always, CreateBucketMetadataTableConfiguration;
        Delete Bucket "metadataTable" Always, DeleteBucketMetadataTableConfiguration;
        Put Bucket "metadataAnnotationTable" Always, UpdateBucketMetadataAnnotationTableConfiguration;
        Put Bucket "metadataInventoryTable" Always, UpdateBucketMetadataInventoryTableConfiguration;
        Put Bucket "metadataJournalTable" Always, UpdateBucketMetadataJournalTableConfiguration;
        Put Bucket "metrics" Always, PutBucketMetricsConfiguration as PutMetricsConfiguration;
        Delete Bucket "metrics" Always, DeleteBucketMetricsConfiguration as PutMetricsConfiguration;
        Put Bucket "notification" Always, PutBucketNotificationConfiguration as PutBucketNotification;
        Put Bucket "object-lock" Always, PutObjectLockConfiguration as PutBucketObjectLockConfiguration;
        Put Bucket "ownershipControls" Always, PutBucketOwnershipControls;
        Delete Bucket "ownershipControls" Always, DeleteBucketOwnershipControls as PutBucketOwnershipControls;
        Put Bucket "policy" Always, PutBucketPolicy;
        Delete Bucket "policy" Always, DeleteBucketPolicy;
        Put Bucket "publicAccessBlock" Always, PutPublicAccessBlock as PutBucketPublicAccessBlock;
        Delete Bucket "publicAccessBlock" Always, DeletePublicAccessBlock as PutBucketPublicAccessBlock;
        Put Bucket "replication" Always, PutBucketReplication as PutReplicationConfiguration;
        Delete Bucket "replication" Always, DeleteBucketReplication as PutReplicationConfiguration;
        Put Bucket "requestPayment" Always, PutBucketRequestPayment;
        Put Bucket "tagging" Always, PutBucketTagging;
        Delete Bucket "tagging" Always, DeleteBucketTagging as PutBucketTagging;
        Put Bucket "website" Always, PutBucketWebsite;
        Delete Bucket "website" Always, DeleteBucketWebsite;
        Post Bucket "" Form, PostObject as PutObject, by Credentials::Form;
        Put Object "acl" Always, PutObjectAcl;
        Put Object "annotation" Always, PutObjectAnnotation;
        Delete Object "annotation" Always, DeleteObjectAnnotation;
        Put Object "encryption" Always, UpdateObjectEncryption;
        Put Object "legal-hold" Always, PutObjectLegalHold;
        Put Object "renameObject" Always, RenameObject;
        Post Object "restore" Always, RestoreObject;
        Put Object "retention" Always, PutObjectRetention;
        Post Object "select" Always, SelectObjectContent as GetObject;
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
    if method == Method::Options {
        // It asks for a request to come, whatever that names.
        return ROUTES.iter().find(|route| route.method == method).ok_or_else(|| not_allowed(request));
    }
    let has = |name: &str| request.query.clone().any(|(known, _)| known == name);
    let names_feature = subresource(request)?.is_some();
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
            check_version_parameter(route, request)?;
            check_unknown_features(method, request)?;
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
        // They are in the table only to be refused, as S3 does.
        let is_refused =
            matches!(route.operation, Operation::Preflight | Operation::Unconfigured(Unconfigured::GetObjectTorrent));
        if is_of_resource && !is_refused && !methods.contains(&route.method.as_str()) {
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
        "OPTIONS" => Ok(Method::Options),
        _ => Err(not_allowed(request)),
    }
}

/// The sub-resource that the query names. Of two a verb would do what the one says and the other forbids.
fn subresource<'q, Q>(request: &Request<'_, Q>) -> Result<Option<&'q str>, S3Error>
where
    Q: Iterator<Item = (&'q str, &'q str)> + Clone,
{
    let mut names = request.query.clone().map(|(name, _)| name).filter(|name| SUBRESOURCES.binary_search(name).is_ok());
    let Some(first) = names.next() else { return Ok(None) };
    match names.find(|name| *name != first) {
        None => Ok(Some(first)),
        Some(other) => {
            let message = format!("Conflicting query string parameters: {first}, {other}");
            Err(S3Error::invalid_argument("ResourceType", first, message))
        }
    }
}

/// A PUT that names one of the two would otherwise overwrite the object with a part. S3 has a code of its own for each.
fn check_part_parameters<'q, Q>(request: &Request<'_, Q>, method: Method) -> Result<(), S3Error>
where
    Q: Iterator<Item = (&'q str, &'q str)> + Clone,
{
    if method != Method::Put || request.level != Level::Object {
        return Ok(());
    }
    let has = |wanted: &str| request.query.clone().any(|(name, _)| name == wanted);
    match (has("uploadId"), has("partNumber")) {
        (true, false) => Err(not_allowed(request)),
        (false, true) => {
            let number = request.query.clone().find(|(name, _)| *name == "partNumber").map_or("", |(_, number)| number);
            let message = "This operation does not accept partNumber without uploadId";
            Err(S3Error::invalid_argument("partNumber", number, message))
        }
        _ => Ok(()),
    }
}

/// What is written is always the newest version.
fn check_version_parameter<'q, Q>(route: &Route, request: &Request<'_, Q>) -> Result<(), S3Error>
where
    Q: Iterator<Item = (&'q str, &'q str)> + Clone,
{
    use Operation::{CopyObject, CreateMultipartUpload, PutObject, UploadPart, UploadPartCopy};
    if !matches!(route.operation, PutObject | CopyObject | CreateMultipartUpload | UploadPart | UploadPartCopy) {
        return Ok(());
    }
    match request.query.clone().find(|(name, _)| *name == "versionId") {
        None => Ok(()),
        Some((name, version)) => Err(S3Error::invalid_argument(name, version, "This operation does not accept a version-id.")),
    }
}

/// A parameter without a value names a feature. One that we do not know must not change what the feature is not about:
/// `PUT /bucket/key?newFeature` does not overwrite the object. With a value, it is ignored, as S3 does (`x-id`, cache busters).
fn check_unknown_features<'q, Q>(method: Method, request: &Request<'_, Q>) -> Result<(), S3Error>
where
    Q: Iterator<Item = (&'q str, &'q str)> + Clone,
{
    if !matches!(method, Method::Put | Method::Post | Method::Delete) {
        return Ok(());
    }
    let is_known = |name: &str| {
        SUBRESOURCES.binary_search(&name).is_ok() || matches!(name, "" | "partNumber" | "versionId") || is_amz(name.as_bytes())
    };
    match request.query.clone().find(|(name, value)| value.is_empty() && !is_known(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("A query parameter you provided names functionality that is not implemented: {name}");
            Err(S3Error::new(Code::NotImplemented).message(message).with("Parameter", name))
        }
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
