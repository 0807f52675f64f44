//! Files generated from code: written by `cargo xtask generate`, compared by `cargo xtask test`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::process;

/// Where the custom resource definitions lie.
const CRDS: &str = "deploy/crds";

/// Everything in these folders is generated; nothing else lies in them.
const FOLDERS: &[&str] = &[CRDS];

/// Writes the generated files.
///
/// # Errors
/// When the generator does not compile or cannot write.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    // No package is named, so that it is built of what all packages are built of.
    let run = [
        "run",
        "--quiet",
        "--locked",
        "--bin",
        "generate-crds",
        "--",
        CRDS,
    ];
    let status = process::run(&mut process::cargo(root, run))?;
    ensure!(status.success(), "generate-crds: {status}");
    Ok(())
}

/// Writes them and says which of them were not what the code says.
///
/// The tree keeps the new content, so that all that is left to do is to look at it and commit it.
///
/// # Errors
/// As [`write()`], and when a file cannot be read.
pub(crate) fn stale(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let before = read(root)?;
    write(root)?;
    let after = read(root)?;
    ensure!(!after.is_empty(), "no file was generated");
    Ok(changed(&before, &after))
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The paths that differ or are in one of the two only.
fn changed(before: &Files, after: &Files) -> Vec<PathBuf> {
    let mut paths: Vec<_> = before.keys().chain(after.keys()).cloned().collect();
    paths.sort();
    paths.dedup();
    paths.retain(|path| before.get(path) != after.get(path));
    paths
}

fn read(root: &Path) -> anyhow::Result<Files> {
    let mut files = Files::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        if !folder.exists() {
            continue;
        }
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let content =
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(root).unwrap_or(&path);
            files.insert(path.to_path_buf(), content);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{Files, changed};
    use std::path::PathBuf;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(path, content)| (PathBuf::from(path), content.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn equal_files_are_not_stale() {
        let same = files(&[("a", "1")]);
        assert!(changed(&same, &same).is_empty());
    }

    #[test]
    fn edited_new_and_removed_files_are_stale() {
        let before = files(&[("edited", "1"), ("kept", "1"), ("removed", "1")]);
        let after = files(&[("edited", "2"), ("kept", "1"), ("new", "1")]);
        let stale: Vec<_> = ["edited", "new", "removed"].map(PathBuf::from).into();
        assert_eq!(changed(&before, &after), stale);
    }
}
