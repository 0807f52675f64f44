//! An AWS SDK, boto3, through the proxy: what we make up has the shape that an SDK knows.

use moto::{Fault, What};
use tokio::process::Command;

use crate::lab::{Lab, lab};
use crate::sentences;

/// Clients with the retries that the SDKs for Rust have by default: three tries in all.
const CLIENTS: &str = r#"
import os, sys, boto3, botocore
def client(service):
    retries = {"mode": "standard", "total_max_attempts": 3}
    return boto3.client(service, endpoint_url=os.environ["ENDPOINT"], region_name="eu-central-1",
        aws_access_key_id="a", aws_secret_access_key="b", config=botocore.config.Config(retries=retries))
elb, ec2 = client("elbv2"), client("ec2")
def code(call, **parameters):
    try:
        call(**parameters)
        return "ok"
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
"#;

/// What a script prints.
async fn script(lab: &Lab, text: &str) -> String {
    let mut python = Command::new(lab.aws.python());
    python.args(["-c", &format!("{CLIENTS}{text}")]);
    python.env("ENDPOINT", lab.aws.endpoint());
    let output = python.output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn fault(lab: &Lab, action: &'static str, what: What) {
    lab.aws.fault(Fault {
        action,
        nth: 1,
        what,
    });
}

sentences! {
    async fn an_sdk_reads_what_we_added() {
        let lab = lab(&[]).await;
        let text = format!(r#"
group = ec2.create_security_group(GroupName="a", Description="a", VpcId="{vpc}")["GroupId"]
address = ec2.allocate_address(Domain="vpc")
made = elb.create_load_balancer(Name="one", Type="network", SecurityGroups=[group],
    SubnetMappings=[dict(SubnetId="{subnet}", AllocationId=address["AllocationId"])])["LoadBalancers"][0]
zone = made["AvailabilityZones"][0]["LoadBalancerAddresses"]
assert zone == [dict(AllocationId=address["AllocationId"], IpAddress=address["PublicIp"])], made
assert made["EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"] == "on", made
set = elb.set_security_groups(LoadBalancerArn=made["LoadBalancerArn"], SecurityGroups=[group])
assert set["SecurityGroupIds"] == [group], set
group = elb.create_target_group(Name="g", Protocol="TCP", Port=30000, VpcId="{vpc}")["TargetGroups"][0]
forward = dict(Type="forward", ForwardConfig=dict(TargetGroups=[dict(TargetGroupArn=group["TargetGroupArn"], Weight=0)]))
listener = elb.create_listener(LoadBalancerArn=made["LoadBalancerArn"], Protocol="TCP", Port=80, DefaultActions=[forward])["Listeners"][0]
action = listener["DefaultActions"][0]
assert action["ForwardConfig"]["TargetGroups"] == forward["ForwardConfig"]["TargetGroups"], listener
assert action["TargetGroupArn"] == group["TargetGroupArn"] and "SslPolicy" not in listener, listener
elb.register_targets(TargetGroupArn=group["TargetGroupArn"], Targets=[dict(Id="{instance}", Port=1)])
health = elb.describe_target_health(TargetGroupArn=group["TargetGroupArn"])["TargetHealthDescriptions"][0]
assert health["TargetHealth"]["State"] == "initial" and health["HealthCheckPort"] == "1", health
print("read")
"#, vpc = lab.network.vpc, subnet = lab.subnet(0), instance = lab.instance(0));
        assert_eq!(script(&lab, &text).await, "read\n");
    }

    async fn an_sdk_tries_again_after_throttling_failures_and_lost_replies() {
        let lab = lab(&[]).await;
        fault(&lab, "DescribeVpcs", What::Throttle);
        fault(&lab, "DescribeLoadBalancers", What::Throttle);
        fault(&lab, "DescribeTargetGroups", What::Fail(500));
        fault(&lab, "DescribeSubnets", What::Refuse);
        fault(&lab, "CreateLoadBalancer", What::LoseReply);
        let text = format!(r#"
print(code(ec2.describe_vpcs), code(elb.describe_load_balancers), code(elb.describe_target_groups), code(ec2.describe_subnets),
    code(elb.create_load_balancer, Name="one", Type="network", Subnets=["{}"]))
"#, lab.subnet(0));
        assert_eq!(script(&lab, &text).await, "ok ok ok ok ok\n");
        let counts = lab.aws.counts();
        assert!(counts.values().all(|count| *count == 2) && counts.len() == 5, "{counts:?}");
        assert_eq!(lab.ok("DescribeLoadBalancers", "").await.all("LoadBalancerArn").len(), 1);
    }

    async fn an_sdk_knows_that_a_denied_call_is_not_worth_another_try() {
        let lab = lab(&[]).await;
        fault(&lab, "DescribeVpcs", What::Deny);
        fault(&lab, "DescribeLoadBalancers", What::Deny);
        let text = "print(code(ec2.describe_vpcs), code(elb.describe_load_balancers))";
        assert_eq!(script(&lab, text).await, "UnauthorizedOperation AccessDenied\n");
        assert!(lab.aws.counts().values().all(|count| *count == 1));
    }
}
