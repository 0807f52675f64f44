//! Container images from Dockerfiles, built by buildah without an engine: nothing is pulled, every
//! image starts from scratch.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::node::AGNHOST;
use k8s::Binary;

/// Kubernetes' own test image, but for what it is built on.
const DOCKERFILE: &str = "FROM scratch
COPY agnhost /agnhost
ENTRYPOINT [\"/agnhost\"]
CMD [\"pause\"]
";

/// Builds `context` with its Dockerfile into the docker archive `archive` under this name. The
/// storage lies in `scratch` and goes away with it.
///
/// # Errors
/// When buildah refuses, with its last words.
pub fn build(context: &Path, dockerfile: &Path, name: &str, archive: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new()
        .prefix("portolan-image-")
        .tempdir()?;
    let buildah = |arguments: &[&str]| -> Result<()> {
        let output = Command::new("buildah")
            .arg("--root")
            .arg(scratch.path().join("root"))
            .arg("--runroot")
            .arg(scratch.path().join("run"))
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .output()
            .context("cannot start buildah")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "buildah {arguments:?}: {told}");
        Ok(())
    };
    buildah(&[
        "bud",
        "--isolation",
        "chroot",
        "--file",
        &dockerfile.to_string_lossy(),
        "--tag",
        name,
        &context.to_string_lossy(),
    ])?;
    let unfinished = archive.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished); // buildah does not overwrite an archive
    buildah(&[
        "push",
        name,
        &format!("docker-archive:{}:{name}", unfinished.display()),
    ])?;
    fs::rename(unfinished, archive)?;
    Ok(())
}

/// The image that test pods run, built once beside the program.
pub(crate) fn agnhost(binary: &Binary) -> Result<PathBuf> {
    let program = binary.agnhost();
    let archive = program.with_extension("tar");
    if !archive.exists() {
        let context = tempfile::tempdir()?;
        fs::copy(&program, context.path().join("agnhost"))?;
        let dockerfile = context.path().join("Dockerfile");
        fs::write(&dockerfile, DOCKERFILE)?;
        build(context.path(), &dockerfile, AGNHOST, &archive)?;
    }
    Ok(archive)
}
