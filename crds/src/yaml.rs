//! The definitions as YAML files for `deploy/crds/`.

/// File names and contents of the manifests, one definition each, ordered by file name. The same
/// sources always give the same text.
///
/// # Errors
/// When a definition cannot be rendered, which only a defect in the schema could cause.
pub fn yaml() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    crate::all()
        .into_iter()
        .map(|crd| {
            let name = format!("{}.yaml", crd.spec.names.plural);
            let body = serde_saphyr::to_string(&crd)?;
            Ok((
                name,
                format!(
                    "# Generated from crds/src by `cargo xtask generate`. Do not edit.\n{body}"
                ),
            ))
        })
        .collect()
}
