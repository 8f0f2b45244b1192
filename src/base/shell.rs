//! Lines that people copy into a shell.

use std::path::Path;

/// A path as one word of a POSIX shell.
pub fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for name in ["/srv/data", "my data", "it's", "$(id)", "a\"b", "", "-x*"] {
            let script = format!("printf %s {}", quote(name.as_ref()));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), name);
        }
    }
}
