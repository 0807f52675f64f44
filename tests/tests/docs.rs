//! The documentation is true as far as a program can tell: YAML is quoted from `examples/`, each
//! command is run by a test, each reason and annotation is one that the code knows, links lead
//! somewhere. And the examples are what the demo takes them for.
//!
//! A test or script that runs a command of the documentation says so in a comment of its own line:
//! `// runs: cargo demo --once`, or with `#` in a script.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crds::{AddressPool, LoadBalancerClass};
use k8s_openapi::api::core::v1::{Namespace, Service};
use model::Reason;
use serde_json::Value;

/// Documented commands that no test runs yet. Shrinks to nothing; never add to it.
const PENDING: &[&str] = &[];

/// What the demo expects of a Service that Portolan leaves alone; otherwise it is a reason.
const UNTOUCHED: &str = "Untouched";
const EXPECT: &str = "demo.portolan.dev/expect";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below `folder` whose name ends in one of `ends`, build output left out.
fn files(folder: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                found.extend(files(&path, ends));
            }
        } else if ends.iter().any(|end| name.ends_with(end)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every page that users or contributors read.
fn pages() -> Vec<PathBuf> {
    let names = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let mut pages: Vec<PathBuf> = names.iter().map(|name| root().join(name)).collect();
    let docs = files(&root().join("docs"), &[".md"]);
    pages.extend(
        docs.into_iter()
            .filter(|page| !page.to_string_lossy().ends_with(".tmp.md")),
    );
    pages
}

/// A fenced block: where, what it says it is, and its lines.
struct Block {
    place: String,
    info: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in pages() {
        let mut open: Option<Block> = None;
        for (number, line) in read(&page).lines().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(info), None) => {
                    open = Some(Block {
                        place: format!("{}:{}", page.display(), number + 1),
                        info: info.to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block does not end", page.display());
    }
    blocks
}

/// The commands of all `console` blocks.
fn documented() -> BTreeSet<String> {
    let mut commands = BTreeSet::new();
    for block in blocks().iter().filter(|block| block.info == "console") {
        for line in block.text.lines() {
            let command = line.strip_prefix("$ ");
            let command =
                command.unwrap_or_else(|| panic!("{}: {line:?} is no `$ COMMAND`", block.place));
            commands.insert(command.to_owned());
        }
    }
    commands
}

/// The commands that a test or script claims to run.
fn claimed() -> BTreeSet<String> {
    let mut sources = files(&root(), &[".rs"]);
    sources.push(root().join(".ci/run"));
    let claim = |line: &str| {
        let line = line.trim_start();
        let comment = line.strip_prefix("//").or_else(|| line.strip_prefix('#'))?;
        Some(
            comment
                .trim_start()
                .strip_prefix("runs: ")?
                .trim()
                .to_owned(),
        )
    };
    sources
        .iter()
        .flat_map(|source| read(source).lines().filter_map(claim).collect::<Vec<_>>())
        .collect()
}

fn set(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn every_block_is_yaml_of_a_file_or_commands_or_plain_text() {
    for Block { place, info, .. } in blocks() {
        let known = matches!(info.as_str(), "" | "text" | "console");
        assert!(
            known || info.starts_with("yaml file="),
            "{place}: what is {info:?}?"
        );
    }
}

#[test]
fn every_yaml_block_stands_in_the_file_that_it_names() {
    for Block { place, info, text } in blocks() {
        let Some(file) = info.strip_prefix("yaml file=") else {
            continue;
        };
        let content = format!("\n{}", read(&root().join(file)));
        assert!(
            content.contains(&format!("\n{text}")),
            "{place}: not (or no longer) in {file}"
        );
    }
}

#[test]
fn every_documented_command_is_run_by_a_test() {
    let known: BTreeSet<_> = claimed().union(&set(PENDING)).cloned().collect();
    let missing: Vec<_> = documented().difference(&known).cloned().collect();
    assert_eq!(
        missing,
        Vec::<String>::new(),
        "no test says `runs:` of these"
    );
}

#[test]
fn no_command_is_pending_that_a_test_runs_or_nobody_documents() {
    let waiting: BTreeSet<_> = documented().difference(&claimed()).cloned().collect();
    assert_eq!(
        set(PENDING)
            .difference(&waiting)
            .cloned()
            .collect::<Vec<_>>(),
        Vec::<String>::new()
    );
}

#[test]
fn the_guide_explains_every_reason_in_the_words_of_the_code() {
    let guide = read(&root().join("docs/guide.md"));
    let mut missing = Vec::new();
    for reason in Reason::ALL {
        let row = format!("| `{reason}` | {} |", reason.meaning().trim());
        if !guide.contains(&row) {
            missing.push(row);
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_annotation_and_condition_in_the_documentation_is_in_the_code() {
    let mut code = String::new();
    for folder in ["crds/src", "controller/src", "providers"] {
        for source in files(&root().join(folder), &[".rs"]) {
            code.push_str(&read(&source));
        }
    }
    let mut unknown = Vec::new();
    for page in pages() {
        let text = read(&page);
        let words = text.split(|c: char| !(c.is_alphanumeric() || "-./_".contains(c)));
        let prefixes = [
            "portolan.dev/",
            "metallb.io/",
            "service.beta.kubernetes.io/",
        ];
        for word in words.map(|word| word.trim_end_matches('.')) {
            let ours = prefixes
                .iter()
                .any(|p| word.len() > p.len() && word.starts_with(p));
            if ours && word != "portolan.dev/v1alpha1" && !is_in(&code, word) {
                unknown.push(format!("{}: {word}", page.display()));
            }
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
}

/// The code has the name in quotes or, of AWS's many, what is behind their common beginning; where
/// there is one for each port or listener, that ends in a dot.
fn is_in(code: &str, word: &str) -> bool {
    match word.strip_prefix("service.beta.kubernetes.io/aws-load-balancer-") {
        None | Some("") => code.contains(word),
        Some(suffix) => {
            let family = suffix.split_once('.').map(|(family, _)| family);
            code.contains(&format!("\n    \"{suffix}\","))
                || family.is_some_and(|family| code.contains(&format!("\n    \"{family}.\",")))
        }
    }
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    for page in pages() {
        let text = read(&page);
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.starts_with("https://") {
                continue;
            }
            let file = page.parent().unwrap().join(path);
            assert!(file.exists(), "{}: {target} does not exist", page.display());
        }
    }
}

/// Examples that the demo leaves out: it has no AWS. `aws_examples.rs` tests what they ask for.
const AWS: &str = "aws/";

/// Every object in `examples/`, and where it stands.
fn examples() -> Vec<(String, Value)> {
    let mut objects = Vec::new();
    let folder = root().join("examples");
    for file in files(&folder, &[".yaml"]) {
        let place = file.strip_prefix(&folder).unwrap();
        let place = place.to_string_lossy().into_owned();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&read(&file))
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        for document in documents {
            let name = document["metadata"]["name"]
                .as_str()
                .unwrap_or_else(|| panic!("{place}: an object has no name"));
            objects.push((format!("{place} {name}"), document));
        }
    }
    objects
}

/// The parsed object has every field that was written: none is misspelt or misplaced.
fn keeps_every_field<K: serde::de::DeserializeOwned + serde::Serialize>(
    place: &str,
    object: &Value,
) {
    let typed: K =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert_contains(place, &serde_json::to_value(typed).unwrap(), object);
}

fn assert_contains(place: &str, whole: &Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (field, value) in part {
                let found = whole
                    .get(field)
                    .unwrap_or_else(|| panic!("{place}: no field {field}"));
                assert_contains(&format!("{place}.{field}"), found, value);
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len(), "{place}");
            for (whole, part) in whole.iter().zip(part) {
                assert_contains(place, whole, part);
            }
        }
        (whole, part) => assert_eq!(whole, part, "{place}"),
    }
}

#[test]
fn every_example_is_of_a_kind_that_we_know_and_has_no_unknown_field() {
    for (place, object) in examples() {
        match object["kind"].as_str() {
            Some("Namespace") => keeps_every_field::<Namespace>(&place, &object),
            Some("Service") => keeps_every_field::<Service>(&place, &object),
            Some("AddressPool") => keeps_every_field::<AddressPool>(&place, &object),
            Some("LoadBalancerClass") => keeps_every_field::<LoadBalancerClass>(&place, &object),
            other => panic!("{place}: kind {other:?}"),
        }
    }
}

#[test]
fn every_example_service_says_what_to_expect() {
    for (place, object) in examples()
        .iter()
        .filter(|(place, object)| object["kind"] == "Service" && !place.starts_with(AWS))
    {
        let expect = object["metadata"]["annotations"][EXPECT].as_str();
        let expect = expect.unwrap_or_else(|| panic!("{place}: no {EXPECT}"));
        let known =
            expect == UNTOUCHED || Reason::ALL.iter().any(|reason| reason.as_str() == expect);
        assert!(known, "{place}: {expect:?} is no reason");
    }
}

#[test]
fn every_namespace_of_an_example_exists() {
    let mut namespaces = set(&["default"]);
    let objects = examples();
    let of_kind = |kind: &'static str| {
        objects
            .iter()
            .filter(move |(_, object)| object["kind"] == kind)
    };
    namespaces.extend(
        of_kind("Namespace").map(|(_, o)| o["metadata"]["name"].as_str().unwrap().to_owned()),
    );
    for (place, service) in of_kind("Service") {
        let namespace = service["metadata"]["namespace"].as_str();
        let namespace = namespace.unwrap_or_else(|| panic!("{place}: no namespace"));
        assert!(namespaces.contains(namespace), "{place}: {namespace}");
    }
}
