//! Between the API server's words and the engine's: the body of a request becomes a review, an answer
//! becomes the body of a reply. Pure. Nothing of an object ends up in an error or a log.

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::{ByteString, api::core::v1::Service};
use kube::core::admission::{AdmissionReview, META_API_VERSION_V1, META_KIND};
use serde_json::{Value, json};

use super::super::metrics::Reviewed;
use crate::core::admit::{self, Answer, Review};

/// Why a request gets no answer of the engine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("there is nothing here but /services")]
    Path,
    #[error("send an AdmissionReview by POST")]
    Method,
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    #[error("the body did not come in time")]
    Slow,
    #[error("the body is no AdmissionReview of a Service: line {line}, column {column}")]
    Syntax { line: usize, column: usize },
    #[error(
        "this answers requests of {META_API_VERSION_V1} {META_KIND} about services, without a subresource"
    )]
    Other,
    /// The failure policy decides.
    #[error("too many questions at once")]
    Busy,
    /// Likewise.
    #[error("no answer in time")]
    Late,
}

impl Fault {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Syntax { .. } | Self::Other => StatusCode::BAD_REQUEST,
            Self::Busy | Self::Late => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) const fn outcome(&self) -> Reviewed {
        match self {
            Self::Busy | Self::Late => Reviewed::Unavailable,
            Self::Path
            | Self::Method
            | Self::TooLong(_)
            | Self::Slow
            | Self::Syntax { .. }
            | Self::Other => Reviewed::Malformed,
        }
    }
}

/// A request about a Service.
#[derive(Debug)]
pub(super) struct Question {
    /// What the reply must repeat.
    pub(super) uid: String,
    /// `None`: the object cannot be judged, so it goes on as it is.
    pub(super) review: Option<Arc<Review>>,
}

/// What is asked; the engine's answer will name `id`.
pub(super) fn question(id: u64, body: &[u8]) -> Result<Question, Fault> {
    let review: AdmissionReview<Service> =
        serde_json::from_slice(body).map_err(|error| Fault::Syntax {
            line: error.line(),
            column: error.column(),
        })?;
    let known = review.types.api_version == META_API_VERSION_V1 && review.types.kind == META_KIND;
    let request = review.request.filter(|request| {
        let resource = &request.resource;
        known
            && resource.group.is_empty()
            && resource.resource == "services"
            && request
                .sub_resource
                .as_deref()
                .unwrap_or_default()
                .is_empty()
    });
    let request = request.ok_or(Fault::Other)?;
    let review = admit::review(id, &request).ok().map(Arc::new);
    Ok(Question {
        uid: request.uid,
        review,
    })
}

/// What the API server is told.
pub(super) fn reply(uid: &str, answer: &Answer) -> Value {
    let response = match answer {
        Answer::Allow {
            patch,
            warnings,
            unreserve: _,
        } => {
            let operations = Value::Array(patch.clone()).to_string();
            let patched = (!patch.is_empty()).then(|| ByteString(operations.into_bytes()));
            // What is null counts as absent.
            json!({
                "uid": uid,
                "allowed": true,
                "patchType": patched.is_some().then_some("JSONPatch"),
                "patch": patched,
                "warnings": warnings,
            })
        }
        Answer::Deny { reason, message } => json!({
            "uid": uid,
            "allowed": false,
            "status": {
                "code": StatusCode::UNPROCESSABLE_ENTITY.as_u16(),
                "reason": reason.as_str(),
                "message": message,
            },
        }),
    };
    json!({"apiVersion": META_API_VERSION_V1, "kind": META_KIND, "response": response})
}

/// How it went, for the metrics.
pub(super) fn outcome(answer: &Answer) -> Reviewed {
    match answer {
        Answer::Allow { patch, .. } if patch.is_empty() => Reviewed::Unchanged,
        Answer::Allow { .. } => Reviewed::Changed,
        Answer::Deny { .. } => Reviewed::Refused,
    }
}
