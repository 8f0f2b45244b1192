//! What can be asked for: every action that a request of ours can need, closed.

/// Makes the enum and the names from one list.
macro_rules! actions {
    ($($name:ident)*) => {
        /// An action, by its name in <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action { $($name,)* CreateSession }

        impl Action {
            /// All of them.
            pub const ALL: &[Action] = &[$(Action::$name,)* Action::CreateSession];

            /// As policies write it: `s3:GetObject`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("s3:", stringify!($name)),)*
                    Self::CreateSession => "s3express:CreateSession",
                }
            }
        }
    };
}

actions! {
    AbortMultipartUpload
    CreateBucket
    CreateBucketMetadataTableConfiguration
    DeleteBucket
    DeleteBucketMetadataTableConfiguration
    DeleteBucketPolicy
    DeleteBucketWebsite
    DeleteObject
    DeleteObjectAnnotation
    DeleteObjectTagging
    DeleteObjectVersion
    DeleteObjectVersionTagging
    GetAccelerateConfiguration
    GetAnalyticsConfiguration
    GetBucketAbac
    GetBucketAcl
    GetBucketCORS
    GetBucketLocation
    GetBucketLogging
    GetBucketMetadataTableConfiguration
    GetBucketNotification
    GetBucketObjectLockConfiguration
    GetBucketOwnershipControls
    GetBucketPolicy
    GetBucketPolicyStatus
    GetBucketPublicAccessBlock
    GetBucketRequestPayment
    GetBucketTagging
    GetBucketVersioning
    GetBucketWebsite
    GetEncryptionConfiguration
    GetIntelligentTieringConfiguration
    GetInventoryConfiguration
    GetLifecycleConfiguration
    GetMetricsConfiguration
    GetObject
    GetObjectAcl
    GetObjectAnnotation
    GetObjectAttributes
    GetObjectLegalHold
    GetObjectRetention
    GetObjectTagging
    GetObjectTorrent
    GetObjectVersion
    GetObjectVersionAcl
    GetObjectVersionAttributes
    GetObjectVersionTagging
    GetObjectVersionTorrent
    GetReplicationConfiguration
    ListAllMyBuckets
    ListBucket
    ListBucketMultipartUploads
    ListBucketVersions
    ListMultipartUploadParts
    ListObjectAnnotations
    PutAccelerateConfiguration
    PutAnalyticsConfiguration
    PutBucketAbac
    PutBucketAcl
    PutBucketCORS
    PutBucketLogging
    PutBucketNotification
    PutBucketObjectLockConfiguration
    PutBucketOwnershipControls
    PutBucketPolicy
    PutBucketPublicAccessBlock
    PutBucketRequestPayment
    PutBucketTagging
    PutBucketVersioning
    PutBucketWebsite
    PutEncryptionConfiguration
    PutIntelligentTieringConfiguration
    PutInventoryConfiguration
    PutLifecycleConfiguration
    PutMetricsConfiguration
    PutObject
    PutObjectAcl
    PutObjectAnnotation
    PutObjectLegalHold
    PutObjectRetention
    PutObjectTagging
    PutObjectVersionAcl
    PutObjectVersionTagging
    PutReplicationConfiguration
    RenameObject
    RestoreObject
    UpdateBucketMetadataAnnotationTableConfiguration
    UpdateBucketMetadataInventoryTableConfiguration
    UpdateBucketMetadataJournalTableConfiguration
    UpdateObjectEncryption
}

impl Action {
    /// The action in its place where a version of an object is meant.
    pub const fn of_version(self) -> Self {
        match self {
            Self::DeleteObject => Self::DeleteObjectVersion,
            Self::DeleteObjectTagging => Self::DeleteObjectVersionTagging,
            Self::GetObject => Self::GetObjectVersion,
            Self::GetObjectAcl => Self::GetObjectVersionAcl,
            Self::GetObjectAttributes => Self::GetObjectVersionAttributes,
            Self::GetObjectTagging => Self::GetObjectVersionTagging,
            Self::GetObjectTorrent => Self::GetObjectVersionTorrent,
            Self::PutObjectAcl => Self::PutObjectVersionAcl,
            Self::PutObjectTagging => Self::PutObjectVersionTagging,
            other => other,
        }
    }
}
