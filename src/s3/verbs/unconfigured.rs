//! What does S3 say of a feature that nobody configured? Clients and tools read versioning, ACL, policy and the like of every
//! bucket before they work with it (Terraform, `aws s3api`, rclone, the s3-tests' teardown), and take these answers for "off".

use crate::s3::ask::error::{Code, S3Error};
use crate::s3::ask::operation::Unconfigured;
use crate::xml::{Owner, Writer};

/// Whose feature is asked about. The caller has made sure that bucket and object exist.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub bucket: &'a str,
    /// For the object reads.
    pub key: Option<&'a str>,
    /// Owner of the bucket or object.
    pub owner: Owner<'a>,
}

/// The document of a 200 (`application/xml`), or S3's own error for the missing configuration.
pub fn answer(what: Unconfigured, subject: &Subject<'_>) -> Result<Vec<u8>, S3Error> {
    use Unconfigured::*;
    let document = match what {
        GetBucketLogging => empty("BucketLoggingStatus"),
        GetBucketNotificationConfiguration => empty("NotificationConfiguration"),
        GetBucketAccelerateConfiguration => empty("AccelerateConfiguration"),
        GetBucketRequestPayment => one("RequestPaymentConfiguration", "Payer", "BucketOwner"),
        GetBucketPolicyStatus => one("PolicyStatus", "IsPublic", "false"),
        GetBucketAbac => one("AbacStatus", "Status", "Disabled"),
        GetBucketAcl | GetObjectAcl => full_control(subject.owner),
        GetObjectTagging => no_tags(),
        ListObjectAnnotations => no_annotations(subject),
        ListBucketAnalyticsConfigurations => none_listed("ListBucketAnalyticsConfigurationsResult"),
        ListBucketIntelligentTieringConfigurations => none_listed("ListBucketIntelligentTieringConfigurationsResult"),
        ListBucketInventoryConfigurations => none_listed("ListInventoryConfigurationsResult"),
        ListBucketMetricsConfigurations => none_listed("ListMetricsConfigurationsResult"),
        GetBucketAnalyticsConfiguration
        | GetBucketIntelligentTieringConfiguration
        | GetBucketInventoryConfiguration
        | GetBucketMetricsConfiguration => return Err(of_bucket(Code::NoSuchConfiguration, subject)),
        GetBucketCors => return Err(of_bucket(Code::NoSuchCORSConfiguration, subject)),
        GetBucketEncryption => return Err(of_bucket(Code::ServerSideEncryptionConfigurationNotFoundError, subject)),
        GetBucketLifecycleConfiguration => return Err(of_bucket(Code::NoSuchLifecycleConfiguration, subject)),
        GetBucketMetadataConfiguration | GetBucketMetadataTableConfiguration => {
            return Err(of_bucket(Code::MetadataConfigurationNotFound, subject));
        }
        GetBucketOwnershipControls => return Err(of_bucket(Code::OwnershipControlsNotFoundError, subject)),
        GetBucketPolicy => return Err(of_bucket(Code::NoSuchBucketPolicy, subject)),
        GetBucketReplication => return Err(of_bucket(Code::ReplicationConfigurationNotFoundError, subject)),
        GetBucketTagging => return Err(of_bucket(Code::NoSuchTagSet, subject)),
        GetBucketWebsite => return Err(of_bucket(Code::NoSuchWebsiteConfiguration, subject)),
        GetObjectLockConfiguration => return Err(of_bucket(Code::ObjectLockConfigurationNotFoundError, subject)),
        GetPublicAccessBlock => return Err(of_bucket(Code::NoSuchPublicAccessBlockConfiguration, subject)),
        // S3 asks first whether the bucket has Object Lock at all.
        GetObjectRetention | GetObjectLegalHold => {
            return Err(S3Error::invalid_request("Bucket is missing Object Lock Configuration"));
        }
        GetObjectAnnotation => return Err(S3Error::new(Code::NoSuchAnnotation).with("Key", subject.key.unwrap_or(""))),
        // S3 itself no longer serves torrents.
        GetObjectTorrent => return Err(S3Error::method_not_allowed("GET", "TORRENT")),
    };
    Ok(document)
}

fn of_bucket(code: Code, subject: &Subject<'_>) -> S3Error {
    S3Error::new(code).with("BucketName", subject.bucket)
}

fn empty(root: &str) -> Vec<u8> {
    document(root, |_| {})
}

fn one(root: &str, name: &str, text: &str) -> Vec<u8> {
    document(root, |xml| xml.text(name, text))
}

fn none_listed(root: &str) -> Vec<u8> {
    document(root, |xml| xml.boolean("IsTruncated", false))
}

fn no_tags() -> Vec<u8> {
    document("Tagging", |xml| {
        xml.open("TagSet");
        xml.close("TagSet");
    })
}

fn no_annotations(subject: &Subject<'_>) -> Vec<u8> {
    document("ListObjectAnnotationsResult", |xml| {
        xml.text("Bucket", subject.bucket);
        xml.text("Key", subject.key.unwrap_or(""));
        xml.number("AnnotationCount", 0);
    })
}

/// What every ACL says while only `private` can be set.
fn full_control(owner: Owner<'_>) -> Vec<u8> {
    document("AccessControlPolicy", |xml| {
        let id = |xml: &mut Writer<'_>| {
            xml.text("ID", owner.id);
            xml.text("DisplayName", owner.display_name);
        };
        xml.open("Owner");
        id(xml);
        xml.close("Owner");
        xml.open("AccessControlList");
        xml.open("Grant");
        xml.open("Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"");
        id(xml);
        xml.close("Grantee");
        xml.text("Permission", "FULL_CONTROL");
        xml.close("Grant");
        xml.close("AccessControlList");
    })
}

fn document(root: &str, content: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut xml = Writer::document(&mut out, root);
    content(&mut xml);
    xml.close(root);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::ask::operation::{Operation, ROUTES};

    fn of(what: Unconfigured) -> Result<String, (u16, &'static str)> {
        let owner = Owner { id: "75aa57", display_name: "root" };
        let subject = Subject { bucket: "b", key: Some("k&"), owner };
        let document = answer(what, &subject).map_err(|error| (error.status(), error.code().as_str()))?;
        let text = String::from_utf8(document).unwrap();
        let text = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n").unwrap();
        Ok(text.replacen(" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"", "", 1))
    }

    /// Answers of Amazon S3 for a bucket where nothing was ever put, by sub-resource.
    #[test]
    fn buckets_where_nothing_was_put() {
        use Unconfigured::*;
        for (what, code) in [
            (GetBucketPolicy, "NoSuchBucketPolicy"),
            (GetBucketLifecycleConfiguration, "NoSuchLifecycleConfiguration"),
            (GetBucketCors, "NoSuchCORSConfiguration"),
            (GetBucketTagging, "NoSuchTagSet"),
            (GetBucketEncryption, "ServerSideEncryptionConfigurationNotFoundError"),
            (GetObjectLockConfiguration, "ObjectLockConfigurationNotFoundError"),
            (GetBucketReplication, "ReplicationConfigurationNotFoundError"),
            (GetBucketWebsite, "NoSuchWebsiteConfiguration"),
            (GetPublicAccessBlock, "NoSuchPublicAccessBlockConfiguration"),
            (GetBucketOwnershipControls, "OwnershipControlsNotFoundError"),
            (GetBucketInventoryConfiguration, "NoSuchConfiguration"),
        ] {
            assert_eq!(of(what), Err((404, code)));
        }
        assert_eq!(of(GetObjectRetention), Err((400, "InvalidRequest")));
        assert_eq!(
            of(GetBucketRequestPayment).unwrap(),
            "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"
        );
        assert_eq!(of(GetObjectTagging).unwrap(), "<Tagging><TagSet></TagSet></Tagging>");
        assert_eq!(
            of(GetObjectAcl).unwrap(),
            "<AccessControlPolicy><Owner><ID>75aa57</ID><DisplayName>root</DisplayName></Owner><AccessControlList><Grant>\
             <Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"><ID>75aa57</ID>\
             <DisplayName>root</DisplayName></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList>\
             </AccessControlPolicy>"
        );
    }

    #[test]
    fn every_read_has_a_well_formed_answer() {
        let mut count = 0;
        for route in ROUTES {
            let Operation::Unconfigured(what) = route.operation else { continue };
            count += 1;
            match of(what) {
                Ok(document) => {
                    let mut reader = quick_xml::Reader::from_str(&document);
                    while reader.read_event().unwrap() != quick_xml::events::Event::Eof {}
                    assert!(!document.contains("k& "), "{}", route.name);
                }
                Err((status, _)) => assert!((400..500).contains(&status), "{}", route.name),
            }
        }
        assert!(count >= 33);
    }
}
