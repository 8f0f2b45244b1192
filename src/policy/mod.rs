//! May they? One question, one decision, no I/O.
//!
//! There is one identity today, root, and the rule is S3's own default: the owner may do everything, everybody else
//! nothing that nobody granted. Users, bucket policies and ACLs will change what [`decide`] looks at, not how it is asked:
//! the route table says what a request needs, and each need is one [`Question`] per resource that it touches (CopyObject asks
//! for its source as well, DeleteObjects once per key), after the signature and before the body.
//!
//! Imports `base` only. The principal comes from `auth`, through `base::principal`; the caller joins them.

mod action;

pub use self::action::Action;
use crate::base::principal::{Principal, PrincipalKind};

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// All buckets of the caller (`s3:ListAllMyBuckets`).
    Service,
    /// A bucket itself.
    Bucket(&'a str),
    /// An object, by bucket and key.
    Object(&'a str, &'a [u8]),
}

/// Whether somebody may do something.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub principal: &'a Principal,
    pub action: Action,
    pub resource: Resource<'a>,
}

/// The answer. There is no third one: what cannot be decided is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    Allow,
    Deny,
}

/// Decides one question. Action and resource do not matter to root or to the anonymous principal as long as nobody can grant.
pub fn decide(question: &Question<'_>) -> Decision {
    #[cfg(test)]
    if tests::is_denied(question) {
        return Decision::Deny;
    }
    match question.principal.kind {
        PrincipalKind::Root => Decision::Allow,
        PrincipalKind::Anonymous => Decision::Deny,
    }
}

/// Whether some resource could be allowed: who may do `action` to nothing is refused before the body that says to what.
pub fn may_ever(principal: &Principal, _action: Action) -> bool {
    principal.kind == PrincipalKind::Root
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::base::principal::ANONYMOUS;
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    type Denied = Box<dyn Fn(&Question<'_>) -> bool>;

    thread_local! {
        /// What is denied to everybody on this thread.
        static DENIED: RefCell<Option<Denied>> = const { RefCell::new(None) };
    }

    /// Denies, on this thread, what `denied` says, until something else is said. For the tests of who asks.
    pub fn deny(denied: impl Fn(&Question<'_>) -> bool + 'static) {
        DENIED.set(Some(Box::new(denied)));
    }

    pub(super) fn is_denied(question: &Question<'_>) -> bool {
        DENIED.with_borrow(|denied| denied.as_ref().is_some_and(|denied| denied(question)))
    }

    fn answers(principal: &Principal) -> Vec<Decision> {
        let resources = [Resource::Service, Resource::Bucket("photos"), Resource::Object("photos", b"cat.jpg")];
        let questions = Action::ALL.iter().flat_map(|action| resources.map(|resource| (*action, resource)));
        questions.map(|(action, resource)| decide(&Question { principal, action, resource })).collect()
    }

    fn named(kind: PrincipalKind, access_key: &str) -> Principal {
        Principal { kind, access_key: access_key.into(), arn: "arn:aws:iam::1:root".into(), account: ANONYMOUS.account.clone() }
    }

    #[test]
    fn root_may_do_everything() {
        let root = named(PrincipalKind::Root, "AKIAIOSFODNN7EXAMPLE");
        assert!(answers(&root).iter().all(|decision| *decision == Decision::Allow));
        assert!(Action::ALL.iter().all(|action| may_ever(&root, *action)));
    }

    /// The kind decides, not a name that a principal could be given: an anonymous request cannot talk itself into root.
    #[test]
    fn anonymous_may_do_nothing() {
        for principal in [&*ANONYMOUS, &named(PrincipalKind::Anonymous, "root")] {
            assert!(answers(principal).iter().all(|decision| *decision == Decision::Deny));
            assert!(Action::ALL.iter().all(|action| !may_ever(principal, *action)));
        }
    }

    #[test]
    fn actions_have_names_of_their_own() {
        let names: BTreeSet<&str> = Action::ALL.iter().map(|action| action.name()).collect();
        assert_eq!(names.len(), Action::ALL.len());
        assert!(names.iter().all(|name| name.starts_with("s3:") || name.starts_with("s3express:")));
        assert_eq!(Action::GetObject.of_version().name(), "s3:GetObjectVersion");
        assert_eq!(Action::ListBucket.of_version(), Action::ListBucket);
        assert!(Action::ALL.iter().all(|action| action.of_version().of_version() == action.of_version()));
    }
}
