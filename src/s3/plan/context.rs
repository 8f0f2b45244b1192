//! One request, understood: who asks what of which object.

use std::borrow::Cow;

use super::core::{Core, Live};
use crate::auth;
use crate::base::principal::{Account, Principal};
use crate::base::version_id::Version;
use crate::config::{REGION_DEFAULT, values};
use crate::http::{Request, conditional};
use crate::s3::ask::address::{BucketTarget, ObjectTarget};
use crate::s3::ask::error::S3Error;
use crate::s3::ask::operation::Route;
use crate::s3::ask::query::Query;

/// What a verb knows of its request. What is borrowed belongs to the request: it was found once, and stays as it was found.
pub struct Context<'a, T = ObjectTarget> {
    pub core: &'a Core,
    /// What the operator has set, and what is configured, as of the request's beginning.
    pub live: &'a Live,
    /// Who asks.
    pub principal: &'a Principal,
    pub request: Request<'a>,
    pub query: &'a Query<'a>,
    /// What is asked about.
    pub target: &'a T,
    /// The bucket came from `Host`.
    pub is_virtual_hosted: bool,
    pub route: &'static Route,
    pub payload: auth::Payload,
    /// It is a pre-signed URL: SDKs move `x-amz-*` headers into its query.
    pub is_presigned: bool,
}

impl Context<'_, BucketTarget> {
    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.target.bucket
    }
}

impl Context<'_> {
    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.target.bucket
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.target.key
    }

    /// `versionId`.
    pub fn version(&self) -> Result<Option<Version>, S3Error> {
        const NAME: &str = "versionId";
        match self.query.value(NAME) {
            None => Ok(None),
            Some("") => Err(S3Error::invalid_argument(NAME, "", "Version id cannot be the empty string")),
            Some(text) => match Version::parse(text) {
                Some(version) => Ok(Some(version)),
                None => Err(S3Error::invalid_argument(NAME, text, "Invalid version id specified")),
            },
        }
    }
}

impl<'a, T> Context<'a, T> {
    /// The same request, about what is known to be of this kind.
    pub fn about<U>(self, target: &'a U) -> Context<'a, U> {
        let Context { core, live, principal, request, query, is_virtual_hosted, route, payload, is_presigned, target: _ } = self;
        Context { core, live, principal, request, query, target, is_virtual_hosted, route, payload, is_presigned }
    }

    /// Who owns what is made here.
    pub fn owner(&self) -> &'a Account {
        self.live.credentials.account()
    }

    /// A header that must come at most once and in UTF-8.
    pub fn header(&self, name: &'static str) -> Result<Option<&str>, S3Error> {
        match self.request.header_bytes(name) {
            None => Ok(None),
            Some(value) => std::str::from_utf8(value)
                .map(Some)
                .map_err(|_| S3Error::invalid_argument(name, &String::from_utf8_lossy(value), "The header is not UTF-8")),
        }
    }

    /// A header that is a list, all its lines, in UTF-8.
    pub fn list(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, S3Error> {
        let Some(list) = self.request.header_list(name) else { return Ok(None) };
        let text = match list {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
        };
        text.map(Some).ok_or_else(|| S3Error::invalid_argument(name, "", "The header is not UTF-8"))
    }

    /// `If-Match` or one of its kin.
    pub fn entity_tags(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, S3Error> {
        let list = self.list(name)?;
        match list.as_deref().filter(|list| !conditional::is_condition(list)) {
            Some(list) => Err(S3Error::invalid_argument(name, list, "* must stand alone")),
            None => Ok(list),
        }
    }

    /// A header of S3's own, or the parameter in its place in a pre-signed URL. Given more than once it must say one thing.
    pub fn amz_header(&self, name: &'static str) -> Result<Option<&str>, S3Error> {
        let linked = self.presigned_pairs().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let mut values = self.header(name)?.into_iter().chain(linked);
        let first = values.next();
        match values.find(|value| Some(*value) != first) {
            Some(other) => Err(S3Error::invalid_argument(name, other, "The value contradicts another one of the same name")),
            None => Ok(first),
        }
    }

    /// The region that this server is in: the one that the operator named, else the one that the client signed for. A program that
    /// asks where a bucket is compares the answer with what it is set to, and asks there where they differ.
    pub fn region(&self) -> Cow<'_, str> {
        if let Some(named) = &self.core.settings.region {
            return Cow::Borrowed(named);
        }
        let authorization = self.request.header_bytes("authorization");
        let signed = auth::region_signed_for(authorization, self.request.query().unwrap_or_default());
        // An empty one is believed, too, but is no name.
        signed.filter(|region| values::region(region).is_ok()).map_or(Cow::Borrowed(REGION_DEFAULT), Cow::Owned)
    }

    /// What stands in the query of a pre-signed URL, and nothing for any other request.
    pub fn presigned_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query.pairs().filter(|_| self.is_presigned)
    }
}
