//! Does this configuration belong to this data? Each has a name for the configuration, and the two must be the same: with another one,
//! or none where a mount is missing, every bucket would be one that nobody configured.

use std::path::Path;

use rustix::io::Errno;

use super::fatal::{ClusterProblem, Fatal};
use crate::documents::{self, DocumentError, Documents};
use crate::model::Cluster;

/// In the configuration directory.
const NAME: &str = "cluster.json";
/// In the served directory.
const CLUSTER_ID: &str = ".sluice/cluster-id";

/// The configuration's name, made at its first start, and written down at the first start of the data with it. `None`: it cannot be
/// written down.
pub fn establish(config_dir: &Path, served: &Path) -> Result<Option<Cluster>, Fatal> {
    let found = find(&Documents::new(config_dir), &served.join(CLUSTER_ID));
    found.map_err(|problem| Fatal::Cluster { path: config_dir.to_path_buf(), problem })
}

fn find(documents: &Documents, data: &Path) -> Result<Option<Cluster>, ClusterProblem> {
    let (configured, served) = (read(documents)?, served_with(data)?);
    match (configured, served) {
        (Some(configured), Some(served)) if configured == served => Ok(Some(configured)),
        (Some(configured), Some(served)) => {
            Err(ClusterProblem::Another { expected: served.id.into(), found: configured.id.into() })
        }
        (None, Some(served)) => Err(ClusterProblem::Empty { expected: served.id.into() }),
        (Some(configured), None) => Ok(write_down(data, configured)),
        (None, None) => Ok(make(documents)?.and_then(|made| write_down(data, made))),
    }
}

fn read(documents: &Documents) -> Result<Option<Cluster>, ClusterProblem> {
    match documents.read::<Cluster>(NAME) {
        Ok(found) if found.as_ref().is_none_or(Cluster::is_legal) => Ok(found),
        Err(DocumentError::Io(errno)) => Err(ClusterProblem::Io(errno)),
        Ok(_) | Err(_) => Err(ClusterProblem::Damaged),
    }
}

/// What the data was served with before.
fn served_with(path: &Path) -> Result<Option<Cluster>, ClusterProblem> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let id = String::from_utf8_lossy(bytes.get(..bytes.len().min(64)).unwrap_or_default()).trim_end().into();
            let cluster = Some(Cluster { id }).filter(Cluster::is_legal);
            cluster.map(Some).ok_or_else(|| ClusterProblem::Illegible { path: path.to_path_buf() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ClusterProblem::Io(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
    }
}

fn make(documents: &Documents) -> Result<Option<Cluster>, ClusterProblem> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| ClusterProblem::Io(Errno::IO))?;
    let made = Cluster::new(id);
    match documents.create(NAME, &made) {
        Ok(true) => Ok(Some(made)),
        // Another start was quicker.
        Ok(false) => read(documents),
        Err(error) => {
            let path = documents.path(NAME);
            tracing::warn!(path = %path.display(), ?error, "the configuration's name cannot be written down: no bucket can be made");
            Ok(None)
        }
    }
}

/// Where the data cannot be written to, the configuration has its name all the same.
fn write_down(data: &Path, cluster: Cluster) -> Option<Cluster> {
    if let Err(errno) = documents::publish_new(data, format!("{}\n", cluster.id).as_bytes()) {
        tracing::warn!(path = %data.display(), %errno, "which configuration the data is served with cannot be written down");
    }
    Some(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        top: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(top.path().join("data/.sluice")).unwrap();
            Self { top }
        }

        fn start(&self, config: &str) -> Result<Option<Cluster>, ClusterProblem> {
            match establish(&self.top.path().join(config), &self.top.path().join("data")) {
                Err(Fatal::Cluster { problem, .. }) => Err(problem),
                other => Ok(other.unwrap()),
            }
        }

        fn served_with(&self) -> String {
            std::fs::read_to_string(self.top.path().join("data").join(CLUSTER_ID)).unwrap()
        }
    }

    #[test]
    fn the_first_start_names_both_and_the_next_finds_them() {
        let fixture = Fixture::new();
        let first = fixture.start("config").unwrap().unwrap();
        assert!(first.is_legal());
        assert_eq!(fixture.served_with(), format!("{}\n", first.id));
        assert_eq!(fixture.start("config"), Ok(Some(first.clone())));
        std::fs::remove_file(fixture.top.path().join("data").join(CLUSTER_ID)).unwrap();
        assert_eq!(fixture.start("config"), Ok(Some(first.clone())), "data of before gets it");
        assert_eq!(fixture.served_with(), format!("{}\n", first.id));
    }

    #[test]
    fn another_configuration_or_none_is_refused_and_nothing_is_made_there() {
        let fixture = Fixture::new();
        let expected = fixture.start("config").unwrap().unwrap().id.to_string();
        assert_eq!(fixture.start("none"), Err(ClusterProblem::Empty { expected: expected.clone() }));
        assert!(!fixture.top.path().join("none").exists());
        let other = Cluster::new([3; 16]);
        Documents::new(&fixture.top.path().join("other")).create(NAME, &other).unwrap();
        assert_eq!(fixture.start("other"), Err(ClusterProblem::Another { expected, found: other.id.into() }));
    }

    #[test]
    fn what_cannot_be_believed_is_refused() {
        let fixture = Fixture::new();
        fixture.start("config").unwrap();
        let document = fixture.top.path().join("config").join(NAME);
        let bytes = std::fs::read(&document).unwrap();
        std::fs::write(&document, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(fixture.start("config"), Err(ClusterProblem::Damaged));
        std::fs::write(&document, bytes).unwrap();
        let path = fixture.top.path().join("data").join(CLUSTER_ID);
        std::fs::write(&path, "x").unwrap();
        assert_eq!(fixture.start("config"), Err(ClusterProblem::Illegible { path }));
    }

    #[test]
    fn where_nothing_can_be_written_down_it_has_no_name() {
        let fixture = Fixture::new();
        assert_eq!(establish(Path::new("/proc/self/nothing"), fixture.top.path()).unwrap(), None);
    }
}
