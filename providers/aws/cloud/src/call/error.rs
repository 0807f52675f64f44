//! What AWS's refusals mean to us: a closed set, each with what is to be done about it.

use std::fmt::Write as _;

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::Operation;

/// Messages are shown in conditions and Events: longer ones are cut.
const MESSAGE_MAX: usize = 400;

/// Why a call was not carried out. Messages begin with AWS's error code where there is one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Asked too fast, after all attempts. Nothing has happened.
    #[error("AWS throttles {operation}")]
    Throttled {
        /// The operation.
        operation: &'static str,
    },
    /// The role may not do this. Nothing has happened.
    #[error("the IAM action {action} is not allowed: {message}")]
    Denied {
        /// The missing IAM action, e.g. `elasticloadbalancing:CreateLoadBalancer`.
        action: String,
        /// What AWS says.
        message: String,
    },
    /// There are no credentials, or AWS does not know them (any more). Nothing has happened.
    #[error("no credentials that AWS accepts: {message}")]
    Credentials {
        /// Why.
        message: String,
    },
    /// A quota is used up. Nothing has happened.
    #[error("AWS quota {what} is used up: {message}")]
    Quota {
        /// AWS's error code, e.g. `TooManyTargets`.
        what: String,
        /// What AWS says.
        message: String,
    },
    /// Something still uses it. Nothing has happened.
    #[error("in use: {message}")]
    InUse {
        /// What AWS says.
        message: String,
    },
    /// Something still depends on it (security groups). Nothing has happened.
    #[error("something depends on it: {message}")]
    Dependency {
        /// What AWS says.
        message: String,
    },
    /// It is not there.
    #[error("not found: {message}")]
    NotFound {
        /// What AWS says.
        message: String,
    },
    /// It is there already.
    #[error("exists already: {message}")]
    Duplicate {
        /// What AWS says.
        message: String,
    },
    /// AWS does not accept this, now or later: somebody has to change something.
    #[error("AWS does not accept this: {message}")]
    Invalid {
        /// What AWS says.
        message: String,
    },
    /// No answer, or AWS itself is in trouble: it may have happened or not.
    #[error("AWS is not available: {message}")]
    Unavailable {
        /// What is known.
        message: String,
    },
}

/// The kind of an answer: a metric label.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// Carried out.
    Ok,
    /// [`Error::Throttled`]
    Throttled,
    /// [`Error::Denied`]
    Denied,
    /// [`Error::Credentials`]
    Credentials,
    /// [`Error::Quota`]
    Quota,
    /// [`Error::InUse`]
    InUse,
    /// [`Error::Dependency`]
    Dependency,
    /// [`Error::NotFound`]
    NotFound,
    /// [`Error::Duplicate`]
    Duplicate,
    /// [`Error::Invalid`]
    Invalid,
    /// [`Error::Unavailable`]
    Unavailable,
}

impl Outcome {
    /// The label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Throttled => "throttled",
            Self::Denied => "denied",
            Self::Credentials => "credentials",
            Self::Quota => "quota",
            Self::InUse => "in_use",
            Self::Dependency => "dependency",
            Self::NotFound => "not_found",
            Self::Duplicate => "duplicate",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Error {
    /// Its kind.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Throttled { .. } => Outcome::Throttled,
            Self::Denied { .. } => Outcome::Denied,
            Self::Credentials { .. } => Outcome::Credentials,
            Self::Quota { .. } => Outcome::Quota,
            Self::InUse { .. } => Outcome::InUse,
            Self::Dependency { .. } => Outcome::Dependency,
            Self::NotFound { .. } => Outcome::NotFound,
            Self::Duplicate { .. } => Outcome::Duplicate,
            Self::Invalid { .. } => Outcome::Invalid,
            Self::Unavailable { .. } => Outcome::Unavailable,
        }
    }

    /// Whether `operation` can be sent once more without harm and with hope.
    pub(super) const fn harmless_again(&self, operation: Operation) -> bool {
        match self {
            Self::Throttled { .. } => true,
            Self::Unavailable { .. } => operation.reads(),
            Self::Denied { .. }
            | Self::Credentials { .. }
            | Self::Quota { .. }
            | Self::InUse { .. }
            | Self::Dependency { .. }
            | Self::NotFound { .. }
            | Self::Duplicate { .. }
            | Self::Invalid { .. } => false,
        }
    }

    /// What an answer of the SDK means.
    pub(super) fn of<E>(operation: Operation, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let Some(answer) = error.as_service_error() {
            let status = error.raw_response().map(|raw| raw.status().as_u16());
            return classify(operation, answer.code(), answer.message(), status);
        }
        let message = causes(error);
        if let SdkError::ConstructionFailure(_) = error {
            return Self::Invalid { message };
        }
        // Not sent: there was nothing to sign it with. The type of that error is in a crate that is
        // not ours to name; each of its texts has this word, and no other failure to send has
        // (hyper, rustls).
        if let SdkError::DispatchFailure(failure) = error
            && failure.is_other()
            && message.contains("credential")
        {
            return Self::Credentials { message };
        }
        Self::Unavailable { message }
    }
}

/// What an error code means. Codes: the API references of Elastic Load Balancing v2 and EC2, and
/// the errors common to both.
pub(super) fn classify(
    operation: Operation,
    code: Option<&str>,
    text: Option<&str>,
    status: Option<u16>,
) -> Error {
    let code = code.unwrap_or_default();
    let text = text.unwrap_or_default();
    let message = cut(&match (code, text) {
        ("", "") => format!("status {}", status.unwrap_or_default()),
        ("", text) => text.to_owned(),
        (code, "") => code.to_owned(),
        (code, text) => format!("{code}: {text}"),
    });
    match code {
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "PriorRequestNotComplete"
        | "EC2ThrottledException"
        | "SlowDown" => Error::Throttled {
            operation: operation.name(),
        },
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => Error::Denied {
            action: denied_action(text).unwrap_or_else(|| operation.action()),
            message,
        },
        "AuthFailure"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "OptInRequired"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => Error::Credentials { message },
        // Deletion protection, and whatever else holds on to a load balancer (a VPC endpoint
        // service, a VPC link).
        "ResourceInUse"
        | "InvalidGroup.InUse"
        | "InvalidIPAddress.InUse"
        | "Resource.AlreadyAssociated" => Error::InUse { message },
        "OperationNotPermitted" if operation == Operation::DeleteLoadBalancer => {
            Error::InUse { message }
        }
        "DependencyViolation" => Error::Dependency { message },
        "LoadBalancerNotFound"
        | "TargetGroupNotFound"
        | "ListenerNotFound"
        | "InvalidGroup.NotFound"
        | "InvalidGroupId.NotFound"
        | "InvalidSecurityGroupID.NotFound"
        | "InvalidPermission.NotFound" => Error::NotFound { message },
        "DuplicateLoadBalancerName"
        | "DuplicateTargetGroupName"
        | "DuplicateListener"
        | "InvalidGroup.Duplicate"
        | "InvalidPermission.Duplicate" => Error::Duplicate { message },
        "HealthUnavailable"
        | "InternalError"
        | "InternalFailure"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "ServiceUnavailable"
        | "Unavailable" => Error::Unavailable { message },
        "TargetGroupAssociationLimit" => quota(code, message),
        code if code.starts_with("TooMany")
            || code.ends_with("LimitExceeded")
            || code.ends_with("LimitExceededException") =>
        {
            quota(code, message)
        }
        _ => match status {
            Some(429) => Error::Throttled {
                operation: operation.name(),
            },
            Some(500..) => Error::Unavailable { message },
            _ => Error::Invalid { message },
        },
    }
}

fn quota(code: &str, message: String) -> Error {
    Error::Quota {
        what: code.to_owned(),
        message,
    }
}

/// The action that AWS itself names: CreateLoadBalancer also needs AddTags, for example.
fn denied_action(text: &str) -> Option<String> {
    let (_, after) = text.split_once("not authorized to perform: ")?;
    let action: String = after
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '-'))
        .take(128)
        .collect();
    action.contains(':').then_some(action)
}

/// One line without EC2's encoded authorization message, which is long and readable to nobody.
fn cut(text: &str) -> String {
    let text = text
        .split_once("Encoded authorization failure message")
        .map_or(text, |(before, _)| before);
    let mut line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_MAX + 1)
        .collect();
    if let Some((end, _)) = line.char_indices().nth(MESSAGE_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// An error and its sources, once each.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            // Writing to a String does not fail.
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    cut(&text)
}
