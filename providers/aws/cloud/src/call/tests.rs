//! What each error code means.

use super::{
    error::{Outcome, classify},
    *,
};

#[test]
fn each_code_has_its_kind() {
    use Operation as Op;
    for (operation, code, status, kind) in [
        (Op::DescribeTags, "Throttling", 400, Outcome::Throttled),
        (
            Op::DescribeTags,
            "ThrottlingException",
            400,
            Outcome::Throttled,
        ),
        (
            Op::DescribeSubnets,
            "RequestLimitExceeded",
            503,
            Outcome::Throttled,
        ),
        (Op::DescribeSubnets, "", 429, Outcome::Throttled),
        (Op::CreateLoadBalancer, "AccessDenied", 403, Outcome::Denied),
        (
            Op::CreateSecurityGroup,
            "UnauthorizedOperation",
            403,
            Outcome::Denied,
        ),
        (Op::DescribeTags, "ExpiredToken", 403, Outcome::Credentials),
        (Op::DescribeVpcs, "AuthFailure", 401, Outcome::Credentials),
        (
            Op::CreateLoadBalancer,
            "TooManyLoadBalancers",
            400,
            Outcome::Quota,
        ),
        (Op::RegisterTargets, "TooManyTargets", 400, Outcome::Quota),
        (
            Op::RegisterTargets,
            "TooManyRegistrationsForTargetId",
            400,
            Outcome::Quota,
        ),
        (
            Op::CreateListener,
            "TargetGroupAssociationLimit",
            400,
            Outcome::Quota,
        ),
        (
            Op::AuthorizeSecurityGroupIngress,
            "RulesPerSecurityGroupLimitExceeded",
            400,
            Outcome::Quota,
        ),
        (
            Op::CreateSecurityGroup,
            "SecurityGroupLimitExceeded",
            400,
            Outcome::Quota,
        ),
        (Op::DeleteTargetGroup, "ResourceInUse", 400, Outcome::InUse),
        (
            Op::DeleteLoadBalancer,
            "OperationNotPermitted",
            400,
            Outcome::InUse,
        ),
        (
            Op::CreateListener,
            "OperationNotPermitted",
            400,
            Outcome::Invalid,
        ),
        (
            Op::DeleteSecurityGroup,
            "DependencyViolation",
            400,
            Outcome::Dependency,
        ),
        (
            Op::DeleteLoadBalancer,
            "LoadBalancerNotFound",
            400,
            Outcome::NotFound,
        ),
        (
            Op::DeleteSecurityGroup,
            "InvalidGroup.NotFound",
            400,
            Outcome::NotFound,
        ),
        (
            Op::CreateLoadBalancer,
            "SubnetNotFound",
            400,
            Outcome::Invalid,
        ),
        (
            Op::CreateListener,
            "CertificateNotFound",
            400,
            Outcome::Invalid,
        ),
        (Op::RegisterTargets, "InvalidTarget", 400, Outcome::Invalid),
        (
            Op::CreateTargetGroup,
            "DuplicateTargetGroupName",
            400,
            Outcome::Duplicate,
        ),
        (
            Op::CreateSecurityGroup,
            "InvalidGroup.Duplicate",
            400,
            Outcome::Duplicate,
        ),
        (
            Op::CreateTargetGroup,
            "ValidationError",
            400,
            Outcome::Invalid,
        ),
        (
            Op::CreateTargetGroup,
            "InternalFailure",
            500,
            Outcome::Unavailable,
        ),
        (
            Op::CreateTargetGroup,
            "NeverHeardOf",
            502,
            Outcome::Unavailable,
        ),
        (Op::CreateTargetGroup, "NeverHeardOf", 400, Outcome::Invalid),
        (Op::CreateTargetGroup, "", 503, Outcome::Unavailable),
    ] {
        let error = classify(operation, Some(code), Some("words"), Some(status));
        assert_eq!(
            error.outcome(),
            kind,
            "{} {code} {status}",
            operation.name()
        );
    }
}

#[test]
fn a_denial_names_the_action_that_aws_names() {
    let text = "User: arn:aws:sts::1:assumed-role/p/s is not authorized to perform: \
        elasticloadbalancing:AddTags on resource: arn:aws:elasticloadbalancing:…";
    let error = classify(
        Operation::CreateLoadBalancer,
        Some("AccessDenied"),
        Some(text),
        None,
    );
    let Error::Denied { action, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(action, "elasticloadbalancing:AddTags");
}

#[test]
fn a_denial_without_a_name_is_that_of_the_operation() {
    let text = "You are not authorized to perform this operation. \
        Encoded authorization failure message: AAAABBBBCCCC";
    let error = classify(
        Operation::CreateSecurityGroup,
        Some("UnauthorizedOperation"),
        Some(text),
        Some(403),
    );
    let Error::Denied { action, message } = error else {
        panic!("{error}")
    };
    assert_eq!(action, "ec2:CreateSecurityGroup");
    assert!(!message.contains("AAAA"), "{message}");
}

#[test]
fn messages_are_one_short_line() {
    let text = format!("first\nsecond{}", "x".repeat(5000));
    let error = classify(
        Operation::SetSubnets,
        Some("ValidationError"),
        Some(&text),
        None,
    );
    let text = error.to_string();
    assert!(text.chars().count() < 500, "{}", text.len());
    assert!(!text.contains('\n'));
    assert!(text.contains("ValidationError: first second"), "{text}");
}

#[test]
fn a_write_that_nobody_answered_is_not_sent_again() {
    for operation in Operation::ALL {
        let lost = Error::Unavailable {
            message: String::new(),
        };
        assert_eq!(lost.harmless_again(*operation), operation.reads());
        let throttled = Error::Throttled {
            operation: operation.name(),
        };
        assert!(throttled.harmless_again(*operation));
        assert_eq!(operation.reads(), operation.name().starts_with("Describe"));
    }
}
