//! Custom resources: served through their own schemas.

use http::Method;
use serde_json::{Value, json};

use super::probe::{
    APPLY, Failed, JSON, MERGE, Probe, STRATEGIC, at, ensure, same, set, unique, version,
};
use super::{Outcome, list};

list![
    a_definition_is_established_and_served,
    a_definition_must_be_named_by_plural_and_group,
    unknown_fields_of_custom_resources_are_pruned,
    strict_validation_refuses_unknown_fields_of_custom_resources,
    schema_defaults_are_filled_in,
    required_fields_are_required,
    types_are_checked,
    enums_are_checked,
    bounds_are_checked,
    patterns_are_checked,
    lengths_are_checked,
    list_sizes_are_checked,
    list_map_keys_are_unique,
    list_set_items_are_unique,
    cel_rules_are_evaluated,
    cel_transition_rules_see_the_old_object,
    the_status_of_a_new_custom_resource_is_dropped,
    a_custom_update_ignores_status,
    a_custom_status_update_ignores_spec_and_metadata,
    generation_counts_spec_changes_only,
    a_custom_update_needs_a_version,
    strategic_merge_is_not_for_custom_resources,
    apply_merges_list_maps_of_custom_resources,
    printer_columns_make_the_table,
    deleting_a_definition_stops_serving_it,
];

/// A definition of its own for every check, cluster-scoped as Portolan's are.
struct Gadgets<'a, 'p> {
    p: &'a Probe<'p>,
    group: String,
}

impl Gadgets<'_, '_> {
    fn definition(&self) -> String {
        format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.{}",
            self.group
        )
    }

    fn path(&self, rest: &str) -> String {
        format!("/apis/{}/v1alpha1/gadgets{rest}", self.group)
    }

    fn object(&self, spec: Value) -> Value {
        let version = format!("{}/v1alpha1", self.group);
        json!({"apiVersion": version, "kind": "Gadget", "metadata": {"name": "a"}, "spec": spec})
    }

    async fn create(&self, spec: Value) -> Result<Value, Failed> {
        self.p.post(&self.path(""), self.object(spec)).await
    }

    async fn invalid(&self, spec: Value, words: &str) -> Outcome {
        let refusal = self
            .p
            .refused(Method::POST, &self.path(""), JSON, self.object(spec))
            .await?;
        refusal.says(422, "Invalid", words)?;
        refusal.says(
            422,
            "Invalid",
            &format!("Gadget.{} \"a\" is invalid: ", self.group),
        )
    }

    async fn done(&self, outcome: Outcome) -> Outcome {
        self.p.delete(&self.definition()).await?;
        outcome
    }
}

fn definition(group: &str) -> Value {
    let item = json!({
        "type": "object", "required": ["name"],
        "properties": {"name": {"type": "string"}, "weight": {"type": "integer", "default": 1}},
    });
    let spec = json!({
        "type": "object", "required": ["size"],
        "x-kubernetes-validations": [
            {"rule": "self.size != 13", "message": "thirteen brings bad luck"},
            {"rule": "self.colour == oldSelf.colour", "message": "a gadget keeps its colour"},
        ],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 99},
            "colour": {"type": "string", "enum": ["Red", "Green"], "default": "Red"},
            "code": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
            "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "parts": {
                "type": "array", "items": item, "maxItems": 9,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            },
        },
    });
    let status = json!({"type": "object", "properties": {"phase": {"type": "string"}}});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("gadgets.{group}")},
        "spec": {
            "group": group, "scope": "Cluster",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList", "shortNames": ["gad"]},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Heavy", "type": "string", "jsonPath": ".spec.parts[?(@.name==\"motor\")].weight", "priority": 1},
                ],
            }],
        },
    })
}

async fn gadgets<'a, 'p>(p: &'a Probe<'p>) -> Result<Gadgets<'a, 'p>, Failed> {
    let group = format!("{}.example.com", unique("g"));
    p.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        definition(&group),
    )
    .await?;
    let made = Gadgets { p, group };
    p.eventually(&made.path("")).await?;
    Ok(made)
}

async fn a_definition_is_established_and_served(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = async {
        let now = p.get(&g.definition()).await?;
        let list = at(&now, "/status/conditions")
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = list
            .iter()
            .find(|c| at(c, "/type") == "Established")
            .cloned()
            .unwrap_or_default();
        same(&found, "/status", "True")?;
        let list = p.get(&g.path("")).await?;
        same(&list, "/kind", "GadgetList")
    };
    g.done(outcome.await).await
}

async fn a_definition_must_be_named_by_plural_and_group(p: &Probe<'_>) -> Outcome {
    let mut body = definition("example.com");
    set(&mut body, &["metadata", "name"], "wrong.example.com");
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    p.refused(Method::POST, path, JSON, body).await?.says(
        422,
        "Invalid",
        "must be spec.names.plural+\".\"+spec.group",
    )
}

async fn unknown_fields_of_custom_resources_are_pruned(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let made = g.create(json!({"size": 1, "nonsense": 2})).await;
    g.done(made.and_then(|m| same(&m, "/spec/nonsense", Value::Null)))
        .await
}

async fn strict_validation_refuses_unknown_fields_of_custom_resources(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let body = g.object(json!({"size": 1, "nonsense": 2}));
    let refusal = p
        .refused(Method::POST, &g.path("?fieldValidation=Strict"), JSON, body)
        .await;
    let words = "strict decoding error: unknown field \"spec.nonsense\"";
    g.done(refusal.and_then(|r| r.says(400, "BadRequest", words)))
        .await
}

async fn schema_defaults_are_filled_in(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let made = g
        .create(json!({"size": 1, "parts": [{"name": "motor"}]}))
        .await;
    let outcome = made.and_then(|m| {
        same(&m, "/spec/colour", "Red")?;
        same(&m, "/spec/parts/0/weight", 1)
    });
    g.done(outcome).await
}

async fn required_fields_are_required(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = g.invalid(json!({}), "spec.size: Required value").await;
    g.done(outcome).await
}

async fn types_are_checked(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let words = "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"";
    let outcome = g.invalid(json!({"size": "big"}), words).await;
    g.done(outcome).await
}

async fn enums_are_checked(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let words = "spec.colour: Unsupported value: \"Blue\": supported values: \"Red\", \"Green\"";
    let outcome = g.invalid(json!({"size": 1, "colour": "Blue"}), words).await;
    g.done(outcome).await
}

async fn bounds_are_checked(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let low = "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1";
    let high =
        "spec.size: Invalid value: 100: spec.size in body should be less than or equal to 99";
    let mut outcome = g.invalid(json!({"size": 0}), low).await;
    if outcome.is_ok() {
        outcome = g.invalid(json!({"size": 100}), high).await;
    }
    g.done(outcome).await
}

async fn patterns_are_checked(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let words = "spec.code: Invalid value: \"A1\": spec.code in body should match '^[a-z]+$'";
    let outcome = g.invalid(json!({"size": 1, "code": "A1"}), words).await;
    g.done(outcome).await
}

async fn lengths_are_checked(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = g
        .invalid(
            json!({"size": 1, "code": "abcdef"}),
            "spec.code: Too long: may not be more than 5 bytes",
        )
        .await;
    g.done(outcome).await
}

async fn list_sizes_are_checked(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let words = "spec.tags: Too many: 3: must have at most 2 items";
    let outcome = g
        .invalid(json!({"size": 1, "tags": ["a", "b", "c"]}), words)
        .await;
    g.done(outcome).await
}

async fn list_map_keys_are_unique(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let words = "spec.parts[1]: Duplicate value: {\"name\":\"motor\"}";
    let outcome = g
        .invalid(
            json!({"size": 1, "parts": [{"name": "motor"}, {"name": "motor"}]}),
            words,
        )
        .await;
    g.done(outcome).await
}

async fn list_set_items_are_unique(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let words = "spec.tags[1]: Duplicate value: \"a\"";
    let outcome = g
        .invalid(json!({"size": 1, "tags": ["a", "a"]}), words)
        .await;
    g.done(outcome).await
}

async fn cel_rules_are_evaluated(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let words = "spec: Invalid value: thirteen brings bad luck";
    let outcome = g.invalid(json!({"size": 13}), words).await;
    g.done(outcome).await
}

async fn cel_transition_rules_see_the_old_object(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = async {
        g.create(json!({"size": 1})).await?;
        p.merge(&g.path("/a"), json!({"spec": {"size": 2}})).await?;
        let refusal = p
            .refused(
                Method::PATCH,
                &g.path("/a"),
                MERGE,
                json!({"spec": {"colour": "Green"}}),
            )
            .await?;
        refusal.says(422, "Invalid", "a gadget keeps its colour")
    };
    g.done(outcome.await).await
}

async fn the_status_of_a_new_custom_resource_is_dropped(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let mut body = g.object(json!({"size": 1}));
    set(&mut body, &["status"], json!({"phase": "Done"}));
    let made = p.post(&g.path(""), body).await;
    g.done(made.and_then(|m| same(&m, "/status", Value::Null)))
        .await
}

async fn a_custom_update_ignores_status(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = async {
        let mut object = g.create(json!({"size": 1})).await?;
        set(&mut object, &["status"], json!({"phase": "Done"}));
        let new = p.put(&g.path("/a"), &object).await?;
        same(&new, "/status", Value::Null)?;
        same(&new, "/metadata/resourceVersion", version(&object))
    };
    g.done(outcome.await).await
}

async fn a_custom_status_update_ignores_spec_and_metadata(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = async {
        let mut object = g.create(json!({"size": 1})).await?;
        set(&mut object, &["status"], json!({"phase": "Done"}));
        set(&mut object, &["spec", "size"], 2);
        set(&mut object, &["metadata", "labels"], json!({"x": "1"}));
        let new = p.put(&g.path("/a/status"), &object).await?;
        same(&new, "/status/phase", "Done")?;
        same(&new, "/spec/size", 1)?;
        same(&new, "/metadata/labels", Value::Null)
    };
    g.done(outcome.await).await
}

async fn generation_counts_spec_changes_only(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = async {
        same(
            &g.create(json!({"size": 1})).await?,
            "/metadata/generation",
            1,
        )?;
        let labelled = p
            .merge(&g.path("/a"), json!({"metadata": {"labels": {"x": "1"}}}))
            .await?;
        same(&labelled, "/metadata/generation", 1)?;
        let told = p
            .merge(&g.path("/a/status"), json!({"status": {"phase": "Done"}}))
            .await?;
        same(&told, "/metadata/generation", 1)?;
        let changed = p.merge(&g.path("/a"), json!({"spec": {"size": 2}})).await?;
        same(&changed, "/metadata/generation", 2)
    };
    g.done(outcome.await).await
}

async fn a_custom_update_needs_a_version(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = async {
        let mut object = g.create(json!({"size": 1})).await?;
        set(&mut object, &["metadata", "resourceVersion"], Value::Null);
        let refusal = p.refused(Method::PUT, &g.path("/a"), JSON, object).await?;
        refusal.says(422, "Invalid", "metadata.resourceVersion: Invalid value: 0")?;
        refusal.says(422, "Invalid", "must be specified for an update")
    };
    g.done(outcome.await).await
}

async fn strategic_merge_is_not_for_custom_resources(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = async {
        g.create(json!({"size": 1})).await?;
        let refusal = p
            .refused(
                Method::PATCH,
                &g.path("/a"),
                STRATEGIC,
                json!({"spec": {"size": 2}}),
            )
            .await?;
        refusal.says(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format",
        )
    };
    g.done(outcome.await).await
}

async fn apply_merges_list_maps_of_custom_resources(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = async {
        g.create(json!({"size": 1, "parts": [{"name": "motor", "weight": 5}]}))
            .await?;
        let body = g.object(json!({"size": 2, "parts": [{"name": "wheel"}]}));
        let path = g.path("/a?fieldManager=other&force=true");
        let new = p
            .send(Method::PATCH, &path, APPLY, body.to_string())
            .await?;
        let names = at(&new, "/spec/parts")
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut names: Vec<&str> = names
            .iter()
            .filter_map(|n| at(n, "/name").as_str())
            .collect();
        names.sort_unstable();
        ensure(names == ["motor", "wheel"], format!("parts are {names:?}"))?;
        same(&new, "/spec/size", 2)
    };
    g.done(outcome.await).await
}

async fn printer_columns_make_the_table(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    let outcome = async {
        g.create(json!({"size": 7, "parts": [{"name": "motor", "weight": 5}]}))
            .await?;
        let table = p
            .get_as(&g.path(""), "application/json;as=Table;g=meta.k8s.io;v=v1")
            .await?;
        same(&table, "/columnDefinitions/0/name", "Name")?;
        same(&table, "/columnDefinitions/1/name", "Size")?;
        same(&table, "/columnDefinitions/2/priority", 1)?;
        same(&table, "/rows/0/cells", json!(["a", 7, "5"]))
    };
    g.done(outcome.await).await
}

async fn deleting_a_definition_stops_serving_it(p: &Probe<'_>) -> Outcome {
    let g = gadgets(p).await?;
    g.create(json!({"size": 1})).await?;
    p.delete(&g.definition()).await?;
    // A real server deletes the objects in the background first.
    for _ in 0..200 {
        if p.get(&g.path("/a")).await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err(Failed::new("the object is still there"))
}
