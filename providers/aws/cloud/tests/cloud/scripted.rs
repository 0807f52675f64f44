//! Answers that no emulator gives at will: throttling, pages, what vanishes between two calls.

use std::time::Duration;

use aws::plan::{Action, Ref};
use aws_cloud::{Error, Made, Operation, Outcome, throttle::Service};

use crate::lab::{answer, connect, one, refusal, run, server};

const NO_GROUPS: &str = "<DescribeSecurityGroupsResponse \
    xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><securityGroupInfo/>\
    </DescribeSecurityGroupsResponse>";

fn load_balancer(arn: &str, kind: &str) -> String {
    format!(
        "<member><LoadBalancerArn>{arn}</LoadBalancerArn><LoadBalancerName>{arn}</LoadBalancerName>\
         <Type>{kind}</Type><Scheme>internal</Scheme><State><Code>active</Code></State></member>"
    )
}

fn load_balancers(members: &str, next: &str) -> (u16, String) {
    let inner = format!("<LoadBalancers>{members}</LoadBalancers><NextMarker>{next}</NextMarker>");
    answer("DescribeLoadBalancers", &inner)
}

fn tags(arn: &str, cluster: &str) -> (u16, String) {
    let tag = |key, value| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
    let inner = format!(
        "<TagDescriptions><member><ResourceArn>{arn}</ResourceArn><Tags>{}{}</Tags></member>\
         </TagDescriptions>",
        tag("elbv2.k8s.aws/cluster", cluster),
        tag("service.k8s.aws/stack", "shop/web"),
    );
    answer("DescribeTags", &inner)
}

fn no_target_groups() -> (u16, String) {
    answer("DescribeTargetGroups", "<TargetGroups/>")
}

#[test]
fn a_listing_turns_pages_and_leaves_out_what_vanishes_meanwhile() {
    run(async {
        let first = load_balancer("one", "network") + &load_balancer("web", "application");
        let server = server(vec![
            load_balancers(&first, "p2"),
            load_balancers(&load_balancer("two", "network"), ""),
            no_target_groups(),
            refusal(400, "LoadBalancerNotFound"),
            refusal(400, "LoadBalancerNotFound"),
            tags("one", "blue"),
            (200, NO_GROUPS.to_owned()),
            (200, NO_GROUPS.to_owned()),
        ]);
        let cloud = connect(&server.endpoint, "blue", "vpc-1").await;
        let account = cloud.account(Duration::ZERO).await.unwrap();
        let seen = account.seen("shop/web");
        assert_eq!(seen.load_balancers.len(), 1);
        assert_eq!(seen.load_balancers[0].arn, "one");
        let asked = server.asked.lock().unwrap();
        assert!(asked[0].contains("PageSize=400"), "{}", asked[0]);
        assert!(asked[1].contains("Marker=p2"), "{}", asked[1]);
        // Both; then the halves, the later one first. The application's is never asked for.
        assert!(asked[3].contains("member.1=one") && asked[3].contains("member.2=two"));
        assert!(asked[4].contains("member.1=two"), "{}", asked[4]);
        assert!(asked[5].contains("member.1=one"), "{}", asked[5]);
        assert_eq!(asked.len(), 8);
    });
}

#[test]
fn the_second_listing_asks_for_no_tags() {
    run(async {
        let listing = |with_tags: bool| {
            let mut answers = vec![
                load_balancers(&load_balancer("one", "network"), ""),
                no_target_groups(),
            ];
            answers.extend(with_tags.then(|| tags("one", "green")));
            answers.extend([(200, NO_GROUPS.to_owned()), (200, NO_GROUPS.to_owned())]);
            answers
        };
        let server = server([listing(true), listing(false)].concat());
        let cloud = connect(&server.endpoint, "blue", "vpc-1").await;
        // Not even a stranger's.
        for _ in 0..2 {
            let account = cloud.account(Duration::ZERO).await.unwrap();
            assert!(account.stacks().is_empty());
        }
        assert_eq!(cloud.calls().of(Operation::DescribeTags), 1);
        assert_eq!(cloud.calls().total(), 9);
    });
}

#[test]
fn a_failed_listing_leaves_the_old_snapshot() {
    run(async {
        let server = server(vec![
            load_balancers("", ""),
            no_target_groups(),
            (200, NO_GROUPS.to_owned()),
            (200, NO_GROUPS.to_owned()),
            load_balancers("", ""),
            refusal(403, "AccessDenied"),
        ]);
        let cloud = connect(&server.endpoint, "blue", "vpc-1").await;
        assert!(cloud.snapshot().is_none());
        let old = cloud.account(Duration::ZERO).await.unwrap();
        let error = cloud.account(Duration::ZERO).await.unwrap_err();
        let Error::Denied { action, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(action, "elasticloadbalancing:DescribeTargetGroups");
        assert_eq!(cloud.snapshot().unwrap(), old);
    });
}

/// Sleeps for the shortest pause there is: half a second to a second.
#[test]
fn a_throttled_call_is_sent_again_and_slows_everybody_down() {
    run(async {
        let server = server(vec![
            refusal(400, "Throttling"),
            answer("DescribeTargetHealth", "<TargetHealthDescriptions/>"),
        ]);
        let cloud = connect(&server.endpoint, "blue", "vpc-1").await;
        assert!(cloud.health("group").await.unwrap().is_empty());
        let calls = cloud.calls();
        let count = |outcome| {
            calls
                .counts
                .get(&(Operation::DescribeTargetHealth, outcome))
        };
        assert_eq!(count(Outcome::Throttled), Some(&1));
        assert_eq!(count(Outcome::Ok), Some(&1));
        assert!(cloud.share(Service::Elb) < 0.6);
        assert!(cloud.share(Service::Ec2) > 0.99);
    });
}

#[test]
fn a_read_is_sent_again_when_aws_is_in_trouble_and_given_up_in_the_end() {
    run(async {
        let server = server(vec![
            refusal(500, "InternalFailure"),
            refusal(503, "ServiceUnavailable"),
        ]);
        let cloud = connect(&server.endpoint, "blue", "vpc-1").await;
        // From the third on nobody answers.
        let error = cloud.health("group").await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        assert_eq!(cloud.calls().of(Operation::DescribeTargetHealth), 4);
    });
}

#[test]
fn tags_are_read_and_written_for_twenty_resources_at_a_time() {
    run(async {
        let members: Vec<String> = (0..25)
            .map(|n| load_balancer(&format!("lb-{n}"), "network"))
            .collect();
        let no_tags = || answer("DescribeTags", "<TagDescriptions/>");
        let done = |operation: &str| answer(operation, "");
        let server = server(vec![
            load_balancers(&members.concat(), ""),
            no_target_groups(),
            no_tags(),
            no_tags(),
            (200, NO_GROUPS.to_owned()),
            (200, NO_GROUPS.to_owned()),
            done("AddTags"),
            done("AddTags"),
            done("RemoveTags"),
            done("RemoveTags"),
        ]);
        let cloud = connect(&server.endpoint, "blue", "vpc-1").await;
        cloud.account(Duration::ZERO).await.unwrap();
        let resources: Vec<Ref> = (0..25).map(|n| Ref::There(format!("lb-{n}"))).collect();
        let add = one(Action::AddTags {
            resources: resources.clone(),
            tags: [("team".to_owned(), "x".to_owned())].into(),
        });
        cloud.apply(&add, &mut Made::default()).await.unwrap();
        let remove = one(Action::RemoveTags {
            resources,
            keys: ["team".to_owned()].into(),
        });
        cloud.apply(&remove, &mut Made::default()).await.unwrap();
        let asked = server.asked.lock().unwrap();
        let resources = |body: &String| body.matches("ResourceArns.member.").count();
        let counts: Vec<usize> = asked
            .iter()
            .map(resources)
            .filter(|count| *count > 0)
            .collect();
        // Reading begins with the rest.
        assert_eq!(counts, [5, 20, 20, 5, 20, 5]);
        assert_eq!(cloud.calls().of(Operation::DescribeTags), 2);
    });
}
