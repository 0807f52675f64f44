"""Network Load Balancers and their listeners. What is no NLB's goes to moto as it is.

Error texts are those that people have quoted from AWS where we have seen one.
"""

import base64
import re
import time

import moto.elb.urls
from botocore import xform_name
from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidSubnetIdError
from moto.elbv2 import models
from moto.elbv2.exceptions import ELBClientError as Error
from moto.elbv2.exceptions import (
    DuplicateListenerError,
    ListenerNotFoundError,
    LoadBalancerNotFoundError,
    SubnetNotFoundError,
    TargetGroupNotFoundError,
    ValidationError,
)
from moto.elbv2.ssl_policies import SSL_POLICIES
from moto.elbv2.utils import make_arn_for_load_balancer
from moto.moto_api._internal import mock_random

from . import settings
from .targets import PROTOCOLS, SEQUENCE, TargetGroup, attributes

ALPN = ["HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred", "None"]
# What a listener of a protocol may forward to: the NLB guide, "Listener configuration".
FORWARDS = {
    "TCP": ["TCP", "TCP_UDP"],
    "TLS": ["TCP", "TLS"],
    "UDP": ["UDP", "TCP_UDP"],
    "TCP_UDP": ["TCP_UDP"],
}
ADDRESSES = ["AllocationId", "PrivateIPv4Address", "IPv6Address"]


def invalid(text):
    return Error("InvalidConfigurationRequest", text)


def too_many(what):
    return Error(f"TooMany{what}", f"You've reached the limit on the number of {what}")


class LoadBalancer(models.FakeLoadBalancer):
    def __init__(self, mappings, **settings_):
        super().__init__(**settings_)
        self.sequence = next(SEQUENCE)
        self.since = time.monotonic()
        self.mappings = mappings  # subnet -> addresses of its SubnetMapping
        # AWS: "on" until set otherwise, and absent without security groups.
        on = "on" if self.security_groups else None
        self.enforce_security_group_inbound_rules_on_private_link_traffic = on
        # AWS: the names that an NLB has (API_LoadBalancerAttribute), and only they.
        self.attrs = {
            "access_logs.s3.enabled": "false",
            "access_logs.s3.bucket": "",
            "access_logs.s3.prefix": "",
            "deletion_protection.enabled": "false",
            "dns_record.client_routing_policy": "any_availability_zone",
            "ipv6.deny_all_igw_traffic": "false",
            "load_balancing.cross_zone.enabled": "false",
            "secondary_ips.auto_assigned.per_subnet": "0",
            "zonal_shift.config.enabled": "false",
        }

    def activate(self):
        if time.monotonic() - self.since >= settings.PROVISION_SECONDS:
            super().activate()

    @property
    def availability_zones(self):
        """AWS: with the addresses that were asked for."""
        zones = []
        for subnet in self.subnets:
            asked = self.mappings[subnet.id]
            public = {"IpAddress": asked["public"]} if "public" in asked else {}
            addresses = [{**public, **{k: asked[k] for k in ADDRESSES if k in asked}}]
            zones.append(
                {
                    "SubnetId": subnet.id,
                    "ZoneName": subnet.availability_zone,
                    "LoadBalancerAddresses": [a for a in addresses if a],
                }
            )
        return zones


class Listener(models.FakeListener):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sequence = next(SEQUENCE)
        self.more_certificates = []  # beside the default one, which alone DescribeListeners shows
        if self.protocol != "TCP":  # AWS: tcp.idle_timeout.seconds is TCP's only
            self.attributes = {}


class Backend(models.ELBv2Backend):
    __module__ = models.ELBv2Backend.__module__  # where moto looks for the URLs

    # Load balancers

    def subnets_of(self, mappings, scheme):
        """AWS: one subnet a zone, and one is enough; fixed addresses as the scheme allows."""
        zones = {}
        for mapping in mappings:
            try:
                subnet = self.ec2_backend.get_subnet(mapping["SubnetId"])
            except InvalidSubnetIdError:
                raise SubnetNotFoundError()
            if zones.setdefault(subnet.availability_zone, subnet) is not subnet:
                raise invalid("A load balancer cannot be attached to multiple subnets in the same Availability Zone")
            if "AllocationId" in mapping:
                if scheme != "internet-facing":
                    raise invalid("Allocation IDs are only supported for internet-facing load balancers")
                known = {a.allocation_id: a.public_ip for a in self.ec2_backend.addresses}
                if mapping["AllocationId"] not in known:
                    raise Error("AllocationIdNotFound", "The specified allocation ID does not exist")
                mapping["public"] = known[mapping["AllocationId"]]
            if "PrivateIPv4Address" in mapping and scheme != "internal":
                raise invalid("Private IPv4 addresses are only supported for internal load balancers")
        if not zones:
            raise ValidationError("At least one subnet must be specified")
        return list(zones.values())

    def check_groups(self, groups):
        for group in groups:
            if self.ec2_backend.get_security_group_from_id(group) is None:
                raise Error("InvalidSecurityGroup", f"Security group {group} does not exist")

    def create_load_balancer(
        self,
        name,
        security_groups,
        subnet_ids,
        subnet_mappings=None,
        scheme=None,
        loadbalancer_type=None,
        ip_address_type="ipv4",
        tags=None,
    ):
        if loadbalancer_type != "network":
            raise Error("OperationNotPermitted", "portolan_moto knows load balancers of type network")
        if not re.fullmatch(r"(?!internal-)(?!-)[A-Za-z0-9-]{1,32}(?<!-)", name or ""):
            raise ValidationError(f"The load balancer name '{name}' is not valid")
        if ip_address_type not in ["ipv4", "dualstack"]:
            raise ValidationError(f"Value '{ip_address_type}' at 'ipAddressType' is not valid")
        scheme = scheme or "internet-facing"
        mappings = subnet_mappings or [{"SubnetId": subnet} for subnet in subnet_ids]
        subnets = self.subnets_of(mappings, scheme)
        self.check_groups(security_groups)
        mappings = {mapping["SubnetId"]: mapping for mapping in mappings}
        # AWS: the same again succeeds and changes nothing, not even tags; other settings are refused.
        for old in self.load_balancers.values():
            if old.name == name:
                has = old.scheme, old.mappings, set(old.security_groups), old.ip_address_type
                if has == (scheme, mappings, set(security_groups), ip_address_type):
                    return old
                text = f"A load balancer with the same name '{name}' exists, but with different settings"
                raise Error("DuplicateLoadBalancerName", text)
        if len(self.load_balancers) >= settings.LOAD_BALANCERS:
            raise too_many("LoadBalancers")
        id = mock_random.get_random_hex(16)
        arn = make_arn_for_load_balancer(self.account_id, id, name, self.region_name)
        balancer = LoadBalancer(
            mappings,
            name=name,
            security_groups=security_groups,
            subnets=subnets,
            vpc_id=subnets[0].vpc_id,
            # AWS: net for a network load balancer, and elb before the region.
            arn=arn.replace("loadbalancer/app/", "loadbalancer/net/"),
            dns_name=f"{name}-{id}.elb.{self.region_name}.amazonaws.com",
            state="provisioning",
            scheme=scheme,
            loadbalancer_type="network",
            ip_address_type=ip_address_type,
        )
        self.load_balancers[balancer.arn] = balancer
        self.tagging_service.tag_resource(balancer.arn, tags)
        return balancer

    def describe_load_balancers(self, arns, names):
        """AWS: at most 20 ARNs or names (for names: our caution), and one missing is an error."""
        balancers = self.load_balancers.values()
        if max(len(arns or []), len(names or [])) > 20:
            raise ValidationError("Up to 20 load balancers can be described by ARN or name")
        for balancer in balancers:
            balancer.activate()
        found = [b for b in balancers if b.arn in arns or b.name in names]
        if len(found) < len(set(arns)) + len(set(names)):
            raise LoadBalancerNotFoundError()
        return found if arns or names else list(balancers)

    def delete_load_balancer(self, arn):
        """AWS: OperationNotPermitted while protected; an absent one is no error."""
        balancer = self.load_balancers.get(arn)
        if balancer is None:
            return
        if balancer.attrs["deletion_protection.enabled"] == "true":
            text = f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
            raise Error("OperationNotPermitted", text)
        for listener in balancer.listeners.values():
            self.forward(listener, [])
        self.ec2_backend.linger(balancer.security_groups)
        super().delete_load_balancer(arn)

    def set_security_groups(self, arn, sec_groups):
        """AWS: an NLB without security groups never gets any, and one with never loses the last."""
        balancer = self.load_balancer(arn)
        if not balancer.security_groups:
            text = "You cannot set security groups on a Network Load Balancer which was created without any security groups."
            raise invalid(text)
        if not sec_groups:
            raise invalid("You cannot remove all security groups from a Network Load Balancer")
        super().set_security_groups(arn, sec_groups)

    def set_subnets(self, arn, subnets, subnet_mappings):
        """AWS: replaces all, also by a single one, with the addresses that it names."""
        balancer = self.load_balancer(arn)
        mappings = subnet_mappings or [{"SubnetId": subnet} for subnet in subnets]
        balancer.subnets = self.subnets_of(mappings, balancer.scheme)
        balancer.mappings = {mapping["SubnetId"]: mapping for mapping in mappings}
        return balancer.availability_zones

    def modify_load_balancer_attributes(self, arn, attrs):
        balancer = self.load_balancer(arn)
        for key in attrs:
            if key not in balancer.attrs:
                text = f"Load balancer attribute key '{key}' is not supported on load balancers with type 'network'"
                raise invalid(text)
        if attrs.get("load_balancing.cross_zone.enabled") == "true":
            self.check_targets(balancer, cross_zone=True)
        return super().modify_load_balancer_attributes(arn, attrs)

    def load_balancer(self, arn):
        if arn not in self.load_balancers:
            raise LoadBalancerNotFoundError()
        return self.load_balancers[arn]

    # Target groups

    def create_target_group(self, name, **settings_):
        """AWS: the same again succeeds and changes nothing; other settings are refused."""
        http = settings_.get("healthcheck_protocol") == "HTTP"
        if settings_.get("protocol") in PROTOCOLS and http:  # AWS: an NLB's HTTP check takes 6 s
            settings_["healthcheck_timeout_seconds"] = settings_.get("healthcheck_timeout_seconds") or 6
        old = next((g for g in self.target_groups.values() if g.name == name), None)
        if old is None and len(self.target_groups) >= settings.TARGET_GROUPS:
            raise too_many("TargetGroups")
        if old is None:
            return super().create_target_group(name, **settings_)
        del self.target_groups[old.arn]  # for moto to judge and build what is asked for
        try:
            asked = super().create_target_group(name, **{**settings_, "tags": None})
            del self.target_groups[asked.arn]
        finally:
            self.target_groups[old.arn] = old
        compared = ["protocol", "port", "vpc_id", "target_type", "ip_address_type", "matcher"]
        compared += [key for key in vars(asked) if key.startswith(("health_check", "healthy", "unhealthy"))]
        if any(str(getattr(old, key, None)) != str(getattr(asked, key, None)) for key in compared):
            text = f"A target group with the same name '{name}' exists, but with different settings"
            raise Error("DuplicateTargetGroupName", text)
        return old

    def modify_target_group(self, arn, health_check_proto=None, *args, **kwargs):
        """AWS: path and matcher go and come with the protocol, and the matcher can be changed."""
        group = self.target_group(arn)
        path, matcher = args[1], args[6]
        after = health_check_proto or group.health_check_protocol
        if group.is_network and after == "TCP" and (matcher or path):
            raise ValidationError("A health check path or matcher cannot be specified with protocol 'TCP'")
        super().modify_target_group(arn, health_check_proto, *args, **kwargs)
        if group.is_network:
            group.health_checks_by(after, {"HttpCode": matcher} if matcher else None)
        return group

    def modify_target_group_attributes(self, target_group_arn, attributes_):
        """AWS: only what an NLB's group has, and what its protocol can do."""
        group = self.target_group(target_group_arn)
        if not group.is_network:
            return super().modify_target_group_attributes(target_group_arn, attributes_)
        for key, value in attributes_.items():
            if key not in attributes(group.protocol, group.target_type):
                raise invalid("The provided target group attribute is not supported")
            if key == "deregistration_delay.timeout_seconds" and not 0 <= int(value) <= 3600:
                raise ValidationError(f"'{key}' value '{value}' must be between '0-3600' inclusive")
            if (key, value) == ("preserve_client_ip.enabled", "false") and "UDP" in group.protocol:
                raise invalid(f"Client IP preservation cannot be disabled with protocol {group.protocol}")
            if key == "stickiness.type" and value != "source_ip":
                text = f"Stickiness type '{value}' is not supported for target groups with the {group.protocol} protocol"
                raise invalid(text)
        group.attributes.update(attributes_)

    def register_targets(self, target_group_arn, instances):
        group = self.target_group(target_group_arn)
        plus = {group.arn: set(map(group.key, instances))}
        if len(group.live() | plus[group.arn]) > settings.TARGETS_PER_GROUP:
            raise too_many("Targets")
        for arn in group.load_balancer_arns:
            self.check_targets(self.load_balancers[arn], plus)
        group.register(instances)

    def check_targets(self, balancer, plus=None, cross_zone=False):
        """AWS: TooManyTargets; a target counts once in each group that the load balancer uses."""
        plus = plus or {}
        used = {arn for l in balancer.listeners.values() for arn in self.groups_of(l.default_actions)}
        groups = [self.target_groups[arn] for arn in used | set(plus)]
        keys = [key for group in groups for key in group.live() | plus.get(group.arn, set())]
        settings_ = [balancer.attrs, *(group.attributes for group in groups)]
        cross_zone |= any(s["load_balancing.cross_zone.enabled"] == "true" for s in settings_)
        limit = settings.TARGETS_CROSS_ZONE if cross_zone else settings.TARGETS
        if len(keys) > limit:
            raise too_many("Targets")
        if not cross_zone and len(keys) > settings.TARGETS_PER_ZONE:
            found = self.ec2_backend.all_reservations()
            zones = {i.id: i.placement.zone for r in found for i in r.instances}
            zones = [zones.get(id) for id, _ in keys]  # an address has none here, and is not counted
            if any(zones.count(z) > settings.TARGETS_PER_ZONE for z in set(zones) - {None}):
                raise too_many("Targets")

    def describe_target_health(self, target_group_arn, targets):
        """AWS: without targets, all of them; also those that drain."""
        group = self.target_group(target_group_arn)
        group.live()
        targets = targets or [{"Id": id, "Port": port} for id, port in group.members]
        return [group.health_for(target, self.ec2_backend) for target in targets]

    def target_group(self, arn):
        if arn not in self.target_groups:
            raise TargetGroupNotFoundError()
        return self.target_groups[arn]

    def _any_listener_using(self, target_group_arn):
        return bool(self.target_groups[target_group_arn].users)

    # Listeners

    def groups_of(self, actions):
        return [arn for action in actions for arn in self._get_target_group_arns_from(action.data)]

    def forward(self, listener, actions):
        """Notes which groups a listener uses from now on: what health and ResourceInUse go by."""
        old, new = set(self.groups_of(listener.default_actions)), set(self.groups_of(actions))
        for arn in old - new:
            self.target_groups[arn].users.pop(listener.arn, None)
        for arn in new:
            self.target_groups[arn].use(listener.arn, listener.load_balancer_arn)
        listener.default_actions = actions
        listener._default_rule[0].actions = actions

    def actions_of(self, balancer, protocol, asked):
        """AWS: one forward to up to five weighted groups, which no other load balancer uses."""
        if len(asked) != 1 or asked[0].get("Type") != "forward":
            raise Error("InvalidLoadBalancerAction", "A network listener has one action, of type forward")
        config = asked[0].get("ForwardConfig", {})
        groups = config.get("TargetGroups") or [{"TargetGroupArn": asked[0].get("TargetGroupArn")}]
        groups = [{"TargetGroupArn": g["TargetGroupArn"], "Weight": int(g.get("Weight", 1))} for g in groups]
        if len(groups) > 5 or len({g["TargetGroupArn"] for g in groups}) < len(groups):
            raise ValidationError("A forward action takes up to 5 different target groups")
        for chosen in groups:
            group = self.target_group(chosen["TargetGroupArn"])
            if not 0 <= chosen["Weight"] <= 999:
                raise ValidationError(f"Weight '{chosen['Weight']}' must be between '0-999' inclusive")
            if group.protocol not in FORWARDS[protocol]:
                text = f"A {protocol} listener cannot forward to a target group with protocol {group.protocol}"
                raise Error("IncompatibleProtocols", text)
            if set(group.load_balancer_arns) - {balancer.arn}:
                text = f"Target group '{group.arn}' is used by another load balancer"
                raise Error("TargetGroupAssociationLimit", text)
        self.check_targets(balancer, {g["TargetGroupArn"]: set() for g in groups})
        action = {"Type": "forward", "ForwardConfig": {**config, "TargetGroups": groups}}
        if len(groups) == 1:
            action["TargetGroupArn"] = groups[0]["TargetGroupArn"]
        return [models.FakeAction(action)]

    def check_tls(self, protocol, ssl_policy, certificates, alpn_policy):
        """AWS: certificate, policy and ALPN are for TLS, which needs the first."""
        if protocol not in PROTOCOLS:
            raise ValidationError(f"Listener protocol '{protocol}' must be one of '{', '.join(PROTOCOLS)}'")
        if protocol != "TLS" and (certificates or ssl_policy or alpn_policy):
            text = f"A certificate, SSL policy or ALPN policy cannot be specified for {protocol} listeners"
            raise ValidationError(text)
        if protocol == "TLS" and not certificates:
            raise ValidationError("A certificate must be specified for TLS listeners")
        for arn in certificates:
            if not self._certificate_exists(arn):
                raise Error("CertificateNotFound", f"Certificate '{arn}' not found")
        if ssl_policy and ssl_policy not in SSL_POLICIES:
            raise Error("SSLPolicyNotFound", f"SSL policy '{ssl_policy}' not found")
        if len(alpn_policy or []) > 1 or set(alpn_policy or []) - set(ALPN):
            raise Error("ALPNPolicyNotFound", f"ALPN policy {alpn_policy} is not supported")

    def check_port(self, balancer, port, but=None):
        """AWS: DuplicateListener for a port in use."""
        if not 1 <= int(port) <= 65535:
            raise ValidationError(f"Port '{port}' must be between '1-65535' inclusive")
        if any(l is not but and int(l.port) == int(port) for l in balancer.listeners.values()):
            raise DuplicateListenerError()

    def create_listener(
        self,
        load_balancer_arn,
        protocol,
        port,
        ssl_policy,
        certificate,
        actions,
        alpn_policy=None,
        tags=None,
    ):
        balancer = self.load_balancer(load_balancer_arn)
        self.check_port(balancer, port)
        self.check_tls(protocol, ssl_policy, [certificate] if certificate else [], alpn_policy)
        if len(balancer.listeners) >= settings.LISTENERS:
            raise too_many("Listeners")
        actions = self.actions_of(balancer, protocol, actions)
        arn = load_balancer_arn.replace(":loadbalancer/", ":listener/")
        arn += f"/{mock_random.get_random_hex(16)}"
        policy = (ssl_policy or "ELBSecurityPolicy-2016-08") if protocol == "TLS" else None
        listener = Listener(load_balancer_arn, arn, protocol, port, policy, certificate, [], alpn_policy)
        balancer.listeners[arn] = listener
        self.forward(listener, actions)
        self.tagging_service.tag_resource(arn, tags)
        return listener

    def modify_listener(
        self,
        arn,
        port=None,
        protocol=None,
        ssl_policy=None,
        certificates=None,
        actions=None,
        alpn_policy=None,
    ):
        """AWS: any NLB protocol to any other; what is not named stays, as far as the protocol has it."""
        listener = self.listener(arn)
        balancer = self.load_balancers[listener.load_balancer_arn]
        if port is not None:
            self.check_port(balancer, port, but=listener)
        protocol = protocol or listener.protocol
        certificates = [c["CertificateArn"] for c in certificates or []]
        if len(certificates) > 1:
            raise ValidationError("Exactly one default certificate can be specified")
        kept = listener.certificates if protocol == "TLS" else []
        self.check_tls(protocol, ssl_policy, certificates or kept, alpn_policy)
        asked = actions or [action.data for action in listener.default_actions]
        self.forward(listener, self.actions_of(balancer, protocol, asked))
        if protocol != listener.protocol:
            listener.attributes = {"tcp.idle_timeout.seconds": "350"} if protocol == "TCP" else {}
        listener.port, listener.protocol = port or listener.port, protocol
        listener.certificates = certificates or kept
        if protocol == "TLS":
            listener.ssl_policy = ssl_policy or listener.ssl_policy or "ELBSecurityPolicy-2016-08"
            listener.alpn_policy = listener.alpn_policy if alpn_policy is None else alpn_policy
        else:
            listener.ssl_policy, listener.alpn_policy, listener.more_certificates = None, [], []
        return listener

    def delete_listener(self, listener_arn):
        self.forward(self.listener(listener_arn), [])
        return super().delete_listener(listener_arn)

    def describe_listeners(self, load_balancer_arn, listener_arns):
        """AWS: one missing is an error."""
        found = super().describe_listeners(load_balancer_arn, listener_arns)
        if not load_balancer_arn and len(found) < len(set(listener_arns)):
            raise ListenerNotFoundError()
        return found

    def listener(self, arn):
        return self.describe_listeners(None, [arn])[0]

    def add_listener_certificates(self, arn, certificates):
        """AWS: adding again is no error; 25 certificates a load balancer beside the default ones."""
        listener = self.listener(arn)
        certificates = [c["CertificateArn"] for c in certificates]
        self.check_tls(listener.protocol, None, certificates, None)
        had = [*listener.certificates, *listener.more_certificates]
        new = [c for c in certificates if c not in had]
        balancer = self.load_balancers[listener.load_balancer_arn]
        count = sum(len(l.more_certificates) for l in balancer.listeners.values())
        if count + len(new) > settings.CERTIFICATES:
            raise too_many("Certificates")
        listener.more_certificates += new
        return certificates

    def describe_listener_certificates(self, arn):
        listener = self.listener(arn)
        return [*listener.certificates, *listener.more_certificates]

    def remove_listener_certificates(self, arn, certificates):
        """AWS: the default one cannot be removed; an unknown one is no error."""
        listener = self.listener(arn)
        certificates = [c["CertificateArn"] for c in certificates]
        if set(certificates) & set(listener.certificates):
            raise Error("OperationNotPermitted", "Default certificate cannot be removed")
        listener.more_certificates = [c for c in listener.more_certificates if c not in certificates]

    def modify_listener_attributes(self, listener_arn, attrs):
        """AWS: tcp.idle_timeout.seconds, 60 to 6000, of TCP listeners."""
        listener = self.listener(listener_arn)
        for attribute in attrs:
            if attribute["Key"] not in listener.attributes:
                text = f"Listener attribute key '{attribute['Key']}' is not supported by {listener.protocol} listeners"
                raise invalid(text)
            if not 60 <= int(attribute["Value"]) <= 6000:
                raise ValidationError("tcp.idle_timeout.seconds must be between '60-6000' inclusive")
        return super().modify_listener_attributes(listener_arn, attrs)

    # Tags

    def add_tags(self, resource_arns, tags):
        """AWS: 50 tags a resource, and no keys of its own prefix."""
        for arn in resource_arns:
            self._get_resource_by_arn(arn)
            keys = {*self.tagging_service.get_tag_dict_for_resource(arn), *(t["Key"] for t in tags)}
            if len(keys) > 50:
                raise too_many("Tags")
            self.tagging_service.tag_resource(arn, tags)

    def describe_tags(self, resource_arns):
        """AWS: at most 20 resources, and all of them exist."""
        if len(resource_arns) > 20:
            raise ValidationError(f"Up to 20 resources can be described at a time, {len(resource_arns)} were")
        for arn in resource_arns:
            self._get_resource_by_arn(arn)
        return super().describe_tags(resource_arns)


class Response(moto.elb.urls.ELBV2Response):
    """The parameters that moto does not read, and pages."""

    def page(self, what, items):
        """AWS: PageSize 1 to 400, by default 400, and a Marker that means nothing to the caller."""
        size = self._get_int_param("PageSize", 400)
        if not 1 <= size <= 400:
            raise ValidationError(f"Page size '{size}' must be between '1-400' inclusive")
        try:
            after = int(base64.b64decode(self._get_param("Marker", ""), validate=True) or 0)
        except ValueError:
            raise ValidationError("The marker is not valid")
        items = sorted((i for i in items if i.sequence > after), key=lambda item: item.sequence)
        more = len(items) > size
        marker = base64.b64encode(str(items[size - 1].sequence).encode()).decode() if more else None
        return ActionResult({what: items[:size], "NextMarker": marker})

    def describe_load_balancers(self):
        named = self._get_param("LoadBalancerArns", []), self._get_param("Names", [])
        return self.page("LoadBalancers", self.elbv2_backend.describe_load_balancers(*named))

    def describe_target_groups(self):
        return self.page("TargetGroups", super().describe_target_groups().result["TargetGroups"])

    def describe_listeners(self):
        return self.page("Listeners", super().describe_listeners().result["Listeners"])

    def create_listener(self):
        certificates = self._get_param("Certificates", [])
        if len(certificates) > 1:
            raise ValidationError("Exactly one default certificate can be specified")
        listener = self.elbv2_backend.create_listener(
            self._get_param("LoadBalancerArn"),
            self._get_param("Protocol"),
            self._get_param("Port", 0),
            self._get_param("SslPolicy"),
            certificates[0]["CertificateArn"] if certificates else None,
            self._get_param("DefaultActions", []),
            self._get_param("AlpnPolicy"),
            self._get_param("Tags"),
        )
        return ActionResult({"Listeners": [listener]})

    def modify_listener(self):
        names = "ListenerArn Port Protocol SslPolicy Certificates DefaultActions AlpnPolicy"
        listener = self.elbv2_backend.modify_listener(*map(self._get_param, names.split()))
        return ActionResult({"Listeners": [listener]})

    def modify_target_group_attributes(self):
        """AWS: answers with all of them."""
        super().modify_target_group_attributes()
        return self.describe_target_group_attributes()

    def set_security_groups(self):
        arn, groups = self._get_param("LoadBalancerArn"), self._get_param("SecurityGroups", [])
        self.elbv2_backend.set_security_groups(arn, groups)
        balancer = self.elbv2_backend.load_balancer(arn)
        enforced = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"
        value = self._get_param(enforced, getattr(balancer, xform_name(enforced)))
        setattr(balancer, xform_name(enforced), value)
        return ActionResult({"SecurityGroupIds": groups, enforced: value})

    def set_subnets(self):
        result = super().set_subnets()
        if kind := self._get_param("IpAddressType"):
            self.elbv2_backend.set_ip_address_type(self._get_param("LoadBalancerArn"), kind)
        balancer = self.elbv2_backend.load_balancer(self._get_param("LoadBalancerArn"))
        return ActionResult({**result.result, "IpAddressType": balancer.ip_address_type})


def extend():
    models.FakeTargetGroup = TargetGroup
    models.elbv2_backends.backend = Backend
    moto.elb.urls.ELBV2Response = Response
