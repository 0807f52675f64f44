//! One request on one resource: the values every verb needs, and the store seen through them.

use std::sync::Arc;

use serde_json::Value;

use crate::DevApi;
use crate::error::{ApiError, Result};
use crate::request::{Query, Selector, Target};
use crate::resource::{Nature, Resource, Version, api_version, put, text};
use crate::store::{Key, Object, Raced};

/// Objects with their keys, in key order.
pub(crate) type Keyed = Vec<(Key, Arc<Object>)>;

pub(crate) struct Call<'a> {
    pub(crate) api: &'a DevApi,
    pub(crate) res: Arc<Resource>,
    pub(crate) target: Target,
    pub(crate) query: Query,
    version: usize,
}

impl<'a> Call<'a> {
    pub(crate) fn new(api: &'a DevApi, target: Target, query: Query) -> Result<Self> {
        let found = api.lock().resource(&target.group, &target.plural);
        let res = found.ok_or_else(ApiError::no_such_path)?;
        let version = res
            .versions
            .iter()
            .position(|v| v.name == target.version && v.served)
            .ok_or_else(ApiError::no_such_path)?;
        if !res.namespaced && target.namespace.is_some() {
            return Err(ApiError::no_such_path());
        }
        if res.namespaced && target.namespace.is_none() && target.name.is_some() {
            return Err(ApiError::no_such_path());
        }
        let call = Self {
            api,
            res,
            target,
            query,
            version,
        };
        match call.target.subresource.as_deref() {
            None => Ok(call),
            Some("status") if call.version().status => Ok(call),
            Some(_) => Err(ApiError::no_such_path()),
        }
    }

    /// The same request on another resource, for what a deletion takes with it.
    pub(crate) fn on(&self, group: &str, plural: &str) -> Option<Call<'a>> {
        let res = self.api.lock().resource(group, plural)?;
        Some(self.within(&res, ""))
    }

    pub(crate) fn within(&self, res: &Arc<Resource>, namespace: &str) -> Call<'a> {
        let version = res
            .versions
            .iter()
            .position(|v| v.name == res.storage)
            .unwrap_or(0);
        let target = Target {
            group: res.group.clone(),
            version: res.storage.clone(),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            plural: res.plural.clone(),
            name: None,
            subresource: None,
        };
        Call {
            api: self.api,
            res: res.clone(),
            target,
            query: Query::default(),
            version,
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index was found in this list, which never changes"
    )]
    pub(crate) fn version(&self) -> &Version {
        &self.res.versions[self.version]
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        (
            self.target.namespace.clone().unwrap_or_default(),
            name.to_owned(),
        )
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.api.lock().get(&self.res.table, key)
    }

    pub(crate) fn commit(
        &self,
        key: &Key,
        old: Option<&Arc<Object>>,
        new: Option<Value>,
    ) -> Result<Arc<Object>, Raced> {
        self.api.lock().commit(&self.res.table, key, old, new)
    }

    /// Whether the stored shape is what this request is to see.
    pub(crate) fn shows_stored(&self) -> bool {
        self.res.nature != Nature::NewEvent && self.version().name == self.res.storage
    }

    /// An object in the shape of the requested version.
    pub(crate) fn show(&self, object: &Object) -> Value {
        self.show_value(object.value.clone())
    }

    pub(crate) fn show_value(&self, mut value: Value) -> Value {
        if self.shows_stored() {
            return value;
        }
        if self.res.nature == Nature::NewEvent {
            return crate::event::to_new(value);
        }
        put(
            &mut value,
            &["apiVersion"],
            api_version(&self.res.group, &self.version().name).into(),
        );
        value
    }

    pub(crate) fn filter(&self) -> Result<Filter> {
        let labels = Selector::parse(self.query.get("labelSelector"))?;
        let fields = Selector::parse(self.query.get("fieldSelector"))?;
        let known = |field: &str| {
            matches!(field, "metadata.name" | "metadata.namespace") || self.res.selectable(field)
        };
        if let Some(field) = fields.unknown(known) {
            let why = format!(
                "Unable to find \"{}\" that match label selector \"{}\", field selector \"{}\": field label not supported: {field}",
                api_version(
                    &self.res.group,
                    &format!("{}, Resource={}", self.version().name, self.res.plural)
                ),
                self.query.get("labelSelector").unwrap_or_default(),
                self.query.get("fieldSelector").unwrap_or_default()
            );
            return Err(ApiError::bad_request(why));
        }
        let name = self.target.name.clone();
        Ok(Filter {
            labels,
            fields,
            name,
            nature: self.res.nature,
        })
    }

    /// Every object the request selects, now or at an older version, and the version shown.
    pub(crate) fn select(&self, at: Option<(u64, &Key)>) -> Result<(u64, Keyed)> {
        let filter = self.filter()?;
        let namespace = self.target.namespace.as_deref();
        let store = self.api.lock();
        let list = match at {
            None => store.range(&self.res.table, namespace, None).map(|(k, o)| (k.clone(), o.clone())).collect(),
            Some((rv, after)) => store
                .range_at(&self.res.table, namespace, Some(after), rv)
                .map_err(|_| ApiError::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list."))?,
        };
        let rv = at.map_or(store.rv(), |(rv, _)| rv);
        drop(store);
        let matches = list
            .into_iter()
            .filter(|(_, o): &(Key, Arc<Object>)| filter.matches(&o.value));
        Ok((rv, matches.collect()))
    }
}

/// Label and field selector of a list or watch.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    labels: Selector,
    fields: Selector,
    name: Option<String>,
    nature: Nature,
}

impl Filter {
    pub(crate) fn matches(&self, value: &Value) -> bool {
        if self
            .name
            .as_ref()
            .is_some_and(|n| n != text(value, &["metadata", "name"]))
        {
            return false;
        }
        self.labels
            .matches(|key| crate::resource::at(value, &["metadata", "labels", key]).as_str())
            && self.fields.matches(|field| Some(self.field(value, field)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.name.is_none()
    }

    fn field<'v>(&self, value: &'v Value, field: &str) -> &'v str {
        // Events are selected by the stored shape's names, whichever shape was asked for.
        let renamed = match (self.nature, field) {
            (Nature::NewEvent, f) if f.starts_with("regarding.") => {
                f.replacen("regarding", "involvedObject", 1)
            }
            (Nature::NewEvent, "reportingController") => "reportingComponent".to_owned(),
            (Nature::CoreEvent, "source") => "source.component".to_owned(),
            (_, f) => f.to_owned(),
        };
        let path: Vec<&str> = renamed.split('.').collect();
        text(value, &path)
    }
}

impl Resource {
    /// Field labels beyond name and namespace that a selector may use.
    fn selectable(&self, field: &str) -> bool {
        match self.nature {
            Nature::CoreEvent => {
                field.starts_with("involvedObject.")
                    || matches!(field, "reason" | "type" | "source" | "reportingComponent")
            }
            Nature::NewEvent => {
                field.starts_with("regarding.")
                    || matches!(field, "reason" | "type" | "reportingController")
            }
            Nature::Service => matches!(field, "spec.clusterIP" | "spec.type"),
            Nature::Namespace => field == "status.phase",
            Nature::Node => field == "spec.unschedulable",
            Nature::EndpointSlice | Nature::Lease | Nature::Definition | Nature::Custom => false,
        }
    }
}
