//! Files of the kernel below a root: `/` on a running machine, a folder in a test.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::cpus;
use crate::limits::{CORES_MAX, SYSTEM_FILE_SIZE_MAX};

/// Everything that is read or written goes through here, by its path on the machine it belongs to.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// `root` is `/`, or the folder that stands for it.
    pub fn new(root: &Path) -> Self {
        // Links inside are compared with it.
        Self { root: root.canonicalize().unwrap_or_else(|_| root.to_path_buf()) }
    }

    /// Where a path of that machine is here.
    pub fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without the white space around it; `None` where there is none, or it may not be read.
    pub fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.place(path)).ok()?.take(SYSTEM_FILE_SIZE_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    pub fn number<N: std::str::FromStr>(&self, path: &str) -> Option<N> {
        self.text(path)?.parse().ok()
    }

    /// The word in brackets: `always [madvise] never`.
    pub fn chosen(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    }

    /// A list of CPUs, ascending.
    pub fn cpu_list(&self, path: &str) -> Option<Vec<usize>> {
        cpus::parse_list(&self.text(path)?, CORES_MAX)
    }

    /// A mask of CPUs, ascending.
    pub fn cpu_mask(&self, path: &str) -> Option<Vec<usize>> {
        cpus::parse_mask(&self.text(path)?, CORES_MAX)
    }

    /// The names in a directory, numbers in them compared as numbers: `rx-2` before `rx-10`. Empty where there is none.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.place(path)) else { return Vec::new() };
        let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by_cached_key(|name| {
            let (stem, number) = split_number(name);
            (stem.to_owned(), number, name.clone())
        });
        names
    }

    pub fn has(&self, path: &str) -> bool {
        self.place(path).exists()
    }

    /// Where a link leads in the end, as a path of that machine.
    pub fn resolve(&self, path: &str) -> Option<String> {
        let real = self.place(path).canonicalize().ok()?;
        let below = real.strip_prefix(&self.root).ok()?;
        Some(format!("/{}", below.to_str()?))
    }
}

/// `rx-12` as `rx-` and 12.
pub fn split_number(name: &str) -> (&str, Option<usize>) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem, name[stem.len()..].parse().ok())
}

/// The path itself, and each directory above it.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    Path::new(path).ancestors().filter_map(Path::to_str)
}
