"""What a test can set, as PORTOLAN_MOTO_NAME in the environment."""

import os


def setting(name, default):
    return type(default)(os.environ.get(f"PORTOLAN_MOTO_{name}", default))


HEALTH_SECONDS = setting("HEALTH_SECONDS", 0.5)  # initial -> healthy; real: threshold x interval
HEALTH_CALLS = setting("HEALTH_CALLS", 0)  # and after that many DescribeTargetHealth
DRAIN_SCALE = setting("DRAIN_SCALE", 0.001)  # of deregistration_delay.timeout_seconds
PROVISION_SECONDS = setting("PROVISION_SECONDS", 0.0)  # provisioning -> active; real: 1 to 3 minutes
INTERFACE_SECONDS = setting("INTERFACE_SECONDS", 0.0)  # a deleted NLB's interfaces hold its groups

# docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-limits.html
LOAD_BALANCERS = setting("LOAD_BALANCERS", 50)  # per region
LISTENERS = setting("LISTENERS", 50)  # per load balancer
CERTIFICATES = setting("CERTIFICATES", 25)  # per load balancer, the default ones not counted
TARGET_GROUPS = setting("TARGET_GROUPS", 3000)  # per region
TARGETS = setting("TARGETS", 3000)  # per load balancer, a target counts in each of its groups
TARGETS_CROSS_ZONE = setting("TARGETS_CROSS_ZONE", 500)  # the same with cross-zone on
TARGETS_PER_ZONE = setting("TARGETS_PER_ZONE", 500)  # per load balancer and zone with cross-zone off
TARGETS_PER_GROUP = setting("TARGETS_PER_GROUP", 1000)
