//! May they? One question, one decision, no I/O.
//!
//! There is one identity today, root, and the rule is S3's own default: the owner may do everything, everybody else
//! nothing that nobody granted. Users, bucket policies and ACLs will change what [`decide`] looks at, not how it is asked:
//! each verb asks one [`Question`] per resource it touches (CopyObject asks `s3:GetObject` for the source and
//! `s3:PutObject` for the destination, DeleteObjects asks once per key), after the signature and before the body.
//!
//! Imports `base` only. The principal comes from `auth`, through `base::principal`; the caller joins them.

use crate::base::principal::{Principal, PrincipalKind};

/// What is asked, in the words of <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub principal: &'a Principal,
    /// An action of the service prefix, such as `s3:GetObject`.
    pub action: &'static str,
    /// `None` where the action names no bucket (`s3:ListAllMyBuckets`).
    pub bucket: Option<&'a str>,
    /// `None` where the action is about the bucket itself (`s3:ListBucket`).
    pub key: Option<&'a [u8]>,
}

/// The answer. There is no third one: what cannot be decided is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    Allow,
    Deny,
}

/// Decides one question. Bucket and key do not matter to root or to the anonymous principal as long as nobody can grant.
pub fn decide(question: &Question) -> Decision {
    match question.principal.kind {
        PrincipalKind::Root => Decision::Allow,
        PrincipalKind::Anonymous => Decision::Deny,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::principal::ANONYMOUS;

    const ACTIONS: [&str; 6] =
        ["s3:ListAllMyBuckets", "s3:CreateBucket", "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"];

    fn answers(principal: &Principal) -> Vec<Decision> {
        let ask = |action, bucket, key| decide(&Question { principal, action, bucket, key });
        let on_keys = ACTIONS.iter().map(|action| ask(action, Some("photos"), Some(&b"cat.jpg"[..])));
        on_keys.chain(ACTIONS.iter().map(|action| ask(action, None, None))).collect()
    }

    #[test]
    fn root_may_do_everything() {
        let root = Principal { kind: PrincipalKind::Root, access_key: "AKIAIOSFODNN7EXAMPLE".into(), ..ANONYMOUS.clone() };
        assert!(answers(&root).iter().all(|decision| *decision == Decision::Allow));
    }

    #[test]
    fn anonymous_may_do_nothing() {
        assert!(answers(&ANONYMOUS).iter().all(|decision| *decision == Decision::Deny));
    }

    /// The kind decides, not a name that a principal could be given: an anonymous request cannot talk itself into root.
    #[test]
    fn names_do_not_grant() {
        let impostor = Principal { access_key: "root".into(), display_name: "root".into(), ..ANONYMOUS.clone() };
        assert!(answers(&impostor).iter().all(|decision| *decision == Decision::Deny));
    }
}
