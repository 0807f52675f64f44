use std::time::{Duration, Instant};

use moto::{EVERY, Failed, Fault, Reply, Service, What};

use crate::lab::{Lab, form, lab};
use crate::sentences;

/// A call through the proxy.
async fn call(
    lab: &Lab,
    service: Service,
    action: &str,
    parameters: &str,
) -> Result<Reply, Failed> {
    let proxy = lab.aws.query_endpoint();
    proxy.call(service, action, &form(parameters)).await
}

async fn create(lab: &Lab, name: &str) -> Result<Reply, Failed> {
    call(lab, Service::Elbv2, "CreateLoadBalancer", &lab.wanted(name)).await
}

async fn vpcs(lab: &Lab) -> Result<Reply, Failed> {
    call(lab, Service::Ec2, "DescribeVpcs", "").await
}

async fn names(lab: &Lab) -> Vec<String> {
    let all = lab.ok("DescribeLoadBalancers", "").await;
    all.all("LoadBalancerName")
}

fn fault(lab: &Lab, action: &'static str, nth: usize, what: What) {
    lab.aws.fault(Fault { action, nth, what });
}

fn said(reply: Result<Reply, Failed>) -> (u16, String) {
    let reply = reply.unwrap();
    (reply.status.as_u16(), reply.error().unwrap_or_default())
}

fn ok() -> (u16, String) {
    (200, String::new())
}

sentences! {
    async fn each_call_is_logged_with_service_action_parameters_and_status() {
        let lab = lab(&[]).await;
        assert_eq!(lab.aws.calls(), [], "set-up goes past the proxy");
        create(&lab, "one").await.unwrap();
        create(&lab, "-").await.unwrap();
        vpcs(&lab).await.unwrap();
        let calls = lab.aws.calls();
        let short: Vec<_> = calls.iter().map(|c| (c.service, &*c.action, c.forwarded, c.status)).collect();
        assert_eq!(short, [
            (Service::Elbv2, "CreateLoadBalancer", true, Some(200)),
            (Service::Elbv2, "CreateLoadBalancer", true, Some(400)),
            (Service::Ec2, "DescribeVpcs", true, Some(200)),
        ]);
        assert_eq!(calls[0].parameters["Name"], "one");
        assert_eq!(calls[0].parameters["Subnets.member.1"], lab.subnet(0));
        assert_eq!(lab.aws.counts()["CreateLoadBalancer"], 2);
        lab.aws.forget_calls();
        assert_eq!(lab.aws.counts().len(), 0);
    }

    async fn a_throttled_call_is_not_carried_out_and_says_what_each_service_says() {
        let lab = lab(&[]).await;
        fault(&lab, "CreateLoadBalancer", 1, What::Throttle);
        fault(&lab, "DescribeVpcs", 1, What::Throttle);
        assert_eq!(said(create(&lab, "one").await), (400, "ThrottlingException".to_owned()));
        assert_eq!(said(vpcs(&lab).await), (503, "RequestLimitExceeded".to_owned()));
        assert_eq!(names(&lab).await.len(), 0);
        assert!(!lab.aws.calls()[0].forwarded);
        assert_eq!(said(create(&lab, "one").await), ok(), "only the first");
    }

    async fn a_fault_meets_the_nth_call_of_its_action_from_now_on() {
        let lab = lab(&[]).await;
        assert_eq!(said(create(&lab, "a").await), ok());
        fault(&lab, "CreateLoadBalancer", 2, What::Fail(500));
        assert_eq!(said(create(&lab, "b").await), ok());
        assert_eq!(said(vpcs(&lab).await), ok());
        assert_eq!(said(create(&lab, "c").await), (500, "InternalFailure".to_owned()));
        assert_eq!(said(create(&lab, "d").await), ok());
        assert_eq!(names(&lab).await, ["a", "b", "d"]);
    }

    async fn a_fault_can_meet_every_call_of_any_action_until_all_is_well_again() {
        let lab = lab(&[]).await;
        fault(&lab, "*", EVERY, What::Fail(503));
        for _ in 0..2 {
            assert_eq!(said(create(&lab, "a").await), (503, "ServiceUnavailable".to_owned()));
            assert_eq!(said(vpcs(&lab).await), (503, "Unavailable".to_owned()));
        }
        lab.aws.resume();
        assert_eq!(said(vpcs(&lab).await), ok());
    }

    async fn a_denied_call_names_who_may_not_do_what() {
        let lab = lab(&[]).await;
        fault(&lab, "CreateLoadBalancer", 1, What::Deny);
        fault(&lab, "DescribeVpcs", 1, What::Deny);
        let reply = create(&lab, "one").await.unwrap();
        assert!(reply.body.contains("is not authorized to perform: elasticloadbalancing:CreateLoadBalancer"), "{reply:?}");
        assert_eq!(said(Ok(reply)), (403, "AccessDenied".to_owned()));
        assert_eq!(said(vpcs(&lab).await), (403, "UnauthorizedOperation".to_owned()));
        assert_eq!(names(&lab).await.len(), 0);
    }

    async fn a_delayed_call_is_carried_out_later() {
        let lab = lab(&[]).await;
        let time = Duration::from_millis(300);
        fault(&lab, "CreateLoadBalancer", 1, What::Delay(time));
        let begun = Instant::now();
        assert_eq!(said(create(&lab, "one").await), ok());
        assert!(begun.elapsed() >= time);
    }

    async fn a_lost_reply_is_of_a_call_that_was_carried_out() {
        let lab = lab(&[]).await;
        fault(&lab, "CreateLoadBalancer", 1, What::LoseReply);
        let lost = create(&lab, "one").await;
        assert!(matches!(lost, Err(Failed::Reply { .. })), "{lost:?}");
        assert_eq!(names(&lab).await, ["one"]);
        let call = &lab.aws.calls()[0];
        assert_eq!((call.forwarded, call.status), (true, None));
    }

    async fn a_refused_call_is_not_carried_out() {
        let lab = lab(&[]).await;
        fault(&lab, "CreateLoadBalancer", 1, What::Refuse);
        let refused = create(&lab, "one").await;
        assert!(matches!(refused, Err(Failed::Reply { .. })), "{refused:?}");
        assert_eq!(names(&lab).await.len(), 0);
        let call = &lab.aws.calls()[0];
        assert_eq!((call.forwarded, call.status), (false, None));
    }

    async fn after_a_stop_everything_is_refused_until_it_is_resumed() {
        let lab = lab(&[]).await;
        lab.aws.stop_after(1, true);
        assert_eq!(said(create(&lab, "one").await), ok());
        for _ in 0..2 {
            create(&lab, "two").await.unwrap_err();
            vpcs(&lab).await.unwrap_err();
        }
        lab.aws.resume();
        assert_eq!(said(create(&lab, "three").await), ok());
        assert_eq!(names(&lab).await, ["one", "three"]);
    }

    async fn a_stop_can_lose_the_reply_of_the_last_call_that_was_carried_out() {
        let lab = lab(&[]).await;
        lab.aws.stop_after(2, false);
        assert_eq!(said(create(&lab, "one").await), ok());
        create(&lab, "two").await.unwrap_err();
        create(&lab, "three").await.unwrap_err();
        assert_eq!(names(&lab).await, ["one", "two"]);
        lab.aws.stop_after(0, true);
        create(&lab, "four").await.unwrap_err();
        assert_eq!(names(&lab).await, ["one", "two"]);
    }

    async fn calls_at_the_same_time_are_all_carried_out_and_logged() {
        let lab = lab(&[]).await;
        let names_of: Vec<_> = (0..40).map(|n| format!("lb-{}", n % 20)).collect();
        let all = names_of.iter().map(|name| create(&lab, name));
        for reply in futures::future::join_all(all).await {
            assert_eq!(said(reply), ok());
        }
        assert_eq!(names(&lab).await.len(), 20, "the same name is the same load balancer");
        assert_eq!(lab.aws.counts()["CreateLoadBalancer"], 40);
    }
}
