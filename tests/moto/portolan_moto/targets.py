"""Target groups of Network Load Balancers: who is registered, and what its health is."""

import itertools
import time
from dataclasses import dataclass, field

from moto.elbv2.exceptions import InvalidTargetError, TargetNotRunning
from moto.elbv2.models import FakeHealthStatus, FakeTargetGroup

from . import settings

PROTOCOLS = ["TCP", "UDP", "TLS", "TCP_UDP"]
SEQUENCE = itertools.count(1)  # the order in which things are listed, and what a Marker stands for


@dataclass
class Target:
    id: str
    port: int
    zone: str | None = None
    since: float = field(default_factory=time.monotonic)
    gone: float | None = None  # draining until then
    seen: int = 0  # as initial, by DescribeTargetHealth
    forced: str | None = None


class HealthStatus(FakeHealthStatus):
    """AWS: with the zone that the target was registered for, if one was said."""

    zone = None

    @property
    def target(self):
        return {**super().target, **({"AvailabilityZone": self.zone} if self.zone else {})}


def attributes(protocol, target_type):
    """AWS: the NLB set, and only it (API_TargetGroupAttribute)."""
    udp, not_udp = ("true", "false") if protocol in ["UDP", "TCP_UDP"] else ("false", "true")
    return {
        "deregistration_delay.timeout_seconds": "300",
        "deregistration_delay.connection_termination.enabled": udp,
        "preserve_client_ip.enabled": "true" if target_type == "instance" else udp,
        "proxy_protocol_v2.enabled": "false",
        "stickiness.enabled": "false",
        "stickiness.type": "source_ip",
        "load_balancing.cross_zone.enabled": "use_load_balancer_configuration",
        "target_health_state.unhealthy.connection_termination.enabled": not_udp,
        "target_health_state.unhealthy.draining_interval_seconds": "0",
        "target_group_health.dns_failover.minimum_healthy_targets.count": "1",
        "target_group_health.dns_failover.minimum_healthy_targets.percentage": "off",
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": "1",
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
    }


class TargetGroup(FakeTargetGroup):
    def __init__(self, **settings_):
        self.users = {}  # listener ARN -> load balancer ARN
        self.used_since = 0.0
        self.members = {}  # (Id, Port) -> Target
        self.forced = None
        super().__init__(**settings_)
        self.sequence = next(SEQUENCE)
        if self.is_network:
            self.attributes = attributes(self.protocol, self.target_type)
            self.matcher = settings_.get("matcher")
            self.health_checks_by(self.health_check_protocol)

    @property
    def is_network(self):
        return self.protocol in PROTOCOLS

    # moto appends to a list and never removes. AWS: the load balancers whose listeners forward here.
    load_balancer_arns = property(lambda self: sorted(set(self.users.values())), lambda self, _: None)

    def health_checks_by(self, protocol, matcher=None):
        """AWS: path and matcher belong to HTTP(S) only; the NLB's default matcher is 200-399."""
        self.health_check_protocol = protocol
        if protocol == "TCP":
            self.matcher = self.health_check_path = None
        else:
            self.matcher = matcher or self.matcher or {"HttpCode": "200-399"}
            self.health_check_path = self.health_check_path or "/"

    def use(self, listener_arn, load_balancer_arn):
        if not self.users:
            self.used_since = time.monotonic()
            for target in self.members.values():
                target.seen = 0
        self.users[listener_arn] = load_balancer_arn

    def key(self, target):
        return target["Id"], int(target.get("Port") or self.port)

    def live(self):
        """The targets that quotas count, and that are neither draining nor gone."""
        now = time.monotonic()
        self.members = {k: t for k, t in self.members.items() if t.gone is None or t.gone > now}
        return {key for key, target in self.members.items() if target.gone is None}

    def instances(self):
        found = self.ec2_backend.all_reservations()
        return {i.id: i for reservation in found for i in reservation.instances}

    def register(self, targets):
        """AWS: targets are (Id, Port); an unknown or foreign instance is refused, and all with it."""
        if self.target_type == "instance":
            instances = self.instances()
            for target in targets:
                instance = instances.get(target["Id"])
                if instance is None or instance.vpc_id != self.vpc_id:
                    raise InvalidTargetError()
                if instance.state != "running":
                    raise TargetNotRunning(instance_id=target["Id"])
        live = self.live()
        for target in targets:
            key = self.key(target)
            if key not in live:  # also a draining one starts anew
                self.members[key] = Target(*key, target.get("AvailabilityZone"))

    def deregister(self, targets):
        """AWS: an unknown target is no error; one in use drains for the deregistration delay."""
        self.leave(map(self.key, targets))

    def deregister_terminated_instances(self, instance_ids):
        self.leave([key for key in self.members if key[0] in instance_ids])

    def leave(self, keys):
        delay = float(self.attributes["deregistration_delay.timeout_seconds"]) * settings.DRAIN_SCALE
        live = self.live()
        for key in live.intersection(keys):
            self.members[key].gone = time.monotonic() + (delay if self.users else 0)

    def health_for(self, target, ec2_backend):
        """AWS: the states and reasons of API_TargetHealth."""
        id, port = key = self.key(target)
        self.live()
        member = self.members.get(key)
        check = str(port) if self.health_check_port == "traffic-port" else self.health_check_port
        status = HealthStatus(id, port, check, *self.state(member))
        status.zone = member and member.zone
        return status

    def state(self, target):
        if target is None:
            text = "Target is not registered to the target group"
            return "unused", "Target.NotRegistered", text
        if target.gone is not None:
            text = "Target deregistration is in progress"
            return "draining", "Target.DeregistrationInProgress", text
        if not self.users:
            text = "Target group is not configured to receive traffic from the load balancer"
            return "unused", "Target.NotInUse", text
        if target.id.startswith("i-"):
            instance = self.ec2_backend.get_instance_by_id(target.id)
            if instance and instance.state == "stopped":
                return "unused", "Target.InvalidState", "Target is in the stopped state"
        forced = target.forced or self.forced
        checked = time.monotonic() - max(target.since, self.used_since)
        if forced == "unhealthy":
            return "unhealthy", "Target.FailedHealthChecks", "Health checks failed"
        if forced == "healthy":
            return ("healthy",)
        if checked < settings.HEALTH_SECONDS or target.seen < settings.HEALTH_CALLS:
            target.seen += 1
            return "initial", "Elb.RegistrationInProgress", "Target registration is in progress"
        return ("healthy",)
