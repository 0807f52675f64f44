"""EC2: a security group that something uses cannot be deleted; a subnet says that it has its IPv6 range."""

import time

from moto.ec2.exceptions import DependencyViolationError
from moto.ec2.models import EC2Backend, ec2_backends

from . import settings


class State(dict):
    """What moto keeps as a dictionary and writes into its answers as if it were a word."""

    def __str__(self):
        return self["State"]


class Backend(EC2Backend):
    __module__ = EC2Backend.__module__  # where moto looks for the URLs

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lingering = {}  # security group -> until when a deleted load balancer's interface has it

    def describe_tags(self, filters=None):
        """The same answer; moto compares an id with every tag of the account, for each resource anew."""
        ids = (filters or {}).get("resource-id", [])
        if not ids or any(set("*?\\") & set(id) for id in ids):
            return super().describe_tags(filters)
        everything = self.tags
        self.tags = {id: everything[id] for id in ids if id in everything}
        try:
            return super().describe_tags(filters)
        finally:
            self.tags = everything

    def linger(self, groups):
        until = time.monotonic() + settings.INTERFACE_SECONDS
        self.lingering.update(dict.fromkeys(groups, until))

    def delete_security_group(self, name=None, group_id=None):
        """AWS: DependencyViolation while an interface (here: an NLB's) or another group's rule has it."""
        from moto.elbv2.models import elbv2_backends

        group = self.get_security_group_by_name_or_id(group_id or name)
        if group:
            balancers = elbv2_backends[self.account_id][self.region_name].load_balancers.values()
            used = any(group.id in balancer.security_groups for balancer in balancers)
            used |= self.lingering.get(group.id, 0) > time.monotonic()
            used |= any(self.names(other, group.id) for other in self.groups[group.vpc_id].values())
            if used:
                raise DependencyViolationError(f"resource {group.id} has a dependent object")
        return super().delete_security_group(name, group_id)

    def associate_subnet_cidr_block(self, subnet_id, ipv6_cidr_block):
        """AWS: the state of the association is a word, `associated`."""
        association = super().associate_subnet_cidr_block(subnet_id, ipv6_cidr_block)
        association["ipv6CidrBlockState"] = State(association["ipv6CidrBlockState"])
        return association

    @staticmethod
    def names(other, group_id):
        rules = [*other.ingress_rules, *other.egress_rules]
        sources = [(rule.source_group or {}).get("GroupId") for rule in rules]
        return other.id != group_id and group_id in sources


def extend():
    ec2_backends.backend = Backend
