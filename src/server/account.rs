//! The account that buckets belong to. Its ids are written down at the first start, and never made again: root may get other keys, and
//! owners, ARNs and whom a bucket was shared with stay as they are.

use std::path::Path;
use std::sync::Arc;

use super::fatal::{AccountProblem, Fatal};
use crate::auth;
use crate::base::principal::Account;
use crate::documents::{DocumentError, Documents};

/// Named by what it is, so that two first starts that race make one; others will be named by their ids.
const NAME: &str = "accounts/default.json";

/// The account as it was written down; at the first start, made of root's access key.
pub fn establish(config_dir: &Path, access_key: &str) -> Result<Arc<Account>, Fatal> {
    let documents = Documents::new(config_dir);
    let fatal = |problem| Fatal::Account { path: documents.path(NAME), problem };
    let read = || documents.read::<Account>(NAME).map_err(problem_of);
    let account = match read().map_err(fatal)? {
        Some(account) => account,
        None => {
            let first = auth::first_account(access_key);
            match documents.create(NAME, &first) {
                Ok(true) => first,
                Ok(false) => read().map_err(fatal)?.ok_or(AccountProblem::Damaged).map_err(fatal)?,
                // It is what the next start will make as well, as long as root's access key stays.
                Err(error) => {
                    warn(&documents.path(NAME), error);
                    first
                }
            }
        }
    };
    if !is_legal(&account) {
        return Err(fatal(AccountProblem::Damaged));
    }
    Ok(Arc::new(account))
}

fn warn(path: &Path, error: DocumentError) {
    tracing::warn!(path = %path.display(), ?error, "the account's ids cannot be written down: with another root key they will be others");
}

fn problem_of(error: DocumentError) -> AccountProblem {
    match error {
        // What is read is neither changed nor waited for.
        DocumentError::Damaged | DocumentError::Changed | DocumentError::Busy => AccountProblem::Damaged,
        DocumentError::Newer => AccountProblem::Newer,
        DocumentError::Io(errno) => AccountProblem::Io(errno),
    }
}

fn is_legal(account: &Account) -> bool {
    let digits = |text: &str, size: usize, is: fn(&u8) -> bool| text.len() == size && text.as_bytes().iter().all(is);
    digits(&account.id, 12, u8::is_ascii_digit)
        && digits(&account.canonical_id, 64, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && !account.display_name.is_empty()
        && account.display_name.len() <= 255
        && !account.display_name.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn other_keys_are_the_same_account() {
        let top = tempfile::tempdir().unwrap();
        let first = establish(top.path(), "AKIAIOSFODNN7EXAMPLE").unwrap();
        assert_eq!(&*first.id, "084097185385", "what the builds before derived");
        assert_eq!(*establish(top.path(), "another").unwrap(), *first);
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(*establish(elsewhere.path(), "another").unwrap(), *first);
    }

    #[test]
    fn what_is_damaged_is_no_account() {
        let top = tempfile::tempdir().unwrap();
        establish(top.path(), "root").unwrap();
        let path = top.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("root", "boot")).unwrap();
        assert!(matches!(establish(top.path(), "root"), Err(Fatal::Account { problem: AccountProblem::Damaged, .. })));
        std::fs::write(&path, "{\"format\":2}\n{}\n").unwrap();
        assert!(matches!(establish(top.path(), "root"), Err(Fatal::Account { problem: AccountProblem::Newer, .. })));
        std::fs::remove_file(&path).unwrap();
        let documents = Documents::new(top.path());
        for account in [
            Account { id: "1".into(), ..auth::first_account("root") },
            Account { canonical_id: "x".repeat(64).into(), ..auth::first_account("root") },
            Account { display_name: "a\nb".into(), ..auth::first_account("root") },
        ] {
            documents.create(NAME, &account).unwrap();
            assert!(establish(top.path(), "root").is_err(), "{account:?}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn where_it_cannot_be_written_down_it_is_made_again() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("file");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();
        // Not a directory: nothing can be made in it, whoever asks.
        assert!(establish(&file, "root").is_err() || establish(&file, "root").is_ok_and(|it| *it == auth::first_account("root")));
        let missing = Path::new("/proc/self/nothing");
        assert_eq!(*establish(missing, "root").unwrap(), auth::first_account("root"));
    }
}
