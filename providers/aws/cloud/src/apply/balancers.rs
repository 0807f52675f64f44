//! Steps on load balancers.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::types::{
    EnablePrefixForIpv6SourceNatEnum, EnforceSecurityGroupInboundRulesOnPrivateLinkTrafficEnum,
    IpAddressType as SdkIpAddressType, LoadBalancerAttribute, LoadBalancerSchemeEnum,
    LoadBalancerTypeEnum,
};

use super::{
    super::{
        Cloud, Error, Operation,
        account::{Change, Resource},
        convert,
    },
    no_arn,
};
use aws::{
    names, seen,
    wanted::{IpAddressType, LoadBalancer, Scheme, SubnetMapping},
};

const fn ip_address_type(wanted: IpAddressType) -> SdkIpAddressType {
    match wanted {
        IpAddressType::Ipv4 => SdkIpAddressType::Ipv4,
        IpAddressType::Dualstack => SdkIpAddressType::Dualstack,
    }
}

const fn source_nat(on: bool) -> EnablePrefixForIpv6SourceNatEnum {
    if on {
        EnablePrefixForIpv6SourceNatEnum::On
    } else {
        EnablePrefixForIpv6SourceNatEnum::Off
    }
}

impl Cloud {
    pub(super) async fn create_load_balancer(
        &self,
        wanted: &LoadBalancer,
        groups: Vec<String>,
    ) -> Result<seen::LoadBalancer, Error> {
        let scheme = match wanted.scheme {
            Scheme::Internal => LoadBalancerSchemeEnum::Internal,
            Scheme::InternetFacing => LoadBalancerSchemeEnum::InternetFacing,
        };
        let mappings: Vec<_> = wanted.subnets.iter().map(convert::mapping).collect();
        let answer = self
            .call(Operation::CreateLoadBalancer, || {
                let call = self.inner.elb.create_load_balancer();
                let call = call
                    .name(&wanted.name)
                    .r#type(LoadBalancerTypeEnum::Network)
                    .scheme(scheme.clone())
                    .ip_address_type(ip_address_type(wanted.ip_address_type))
                    .set_subnet_mappings(Some(mappings.clone()))
                    .set_tags(Some(convert::elb_tags(&wanted.tags)));
                // Without any it can never get one; an empty list is not the same as none.
                let call = call.set_security_groups((!groups.is_empty()).then(|| groups.clone()));
                let nat = wanted.ipv6_source_nat.then(|| source_nat(true));
                call.set_enable_prefix_for_ipv6_source_nat(nat).send()
            })
            .await;
        let found = match answer {
            Ok(made) => made.load_balancers().first().cloned(),
            Err(Error::Duplicate { message }) => {
                return self.find_load_balancer(wanted, message).await;
            }
            Err(error) => return Err(error),
        };
        let made = found.and_then(|found| convert::load_balancer(&found, wanted.tags.clone()));
        let made = made.ok_or_else(|| no_arn("a load balancer"))?;
        if !wanted.name.starts_with(names::GIVEN) {
            self.is_really_made(&made).await?;
        }
        self.note(Change::Created(Resource::LoadBalancer(made.clone())));
        // Creation has no word for it.
        if wanted.enforce_rules_on_private_link.is_some() && !groups.is_empty() {
            let enforce = wanted.enforce_rules_on_private_link;
            self.set_security_groups(&made.arn, groups, enforce).await?;
        }
        Ok(made)
    }

    /// AWS answers a creation with the one that is there when that has the same name and settings,
    /// whosever it is, and leaves its tags. Of names that are chosen nobody knows whose they are.
    async fn is_really_made(&self, made: &seen::LoadBalancer) -> Result<(), Error> {
        let tags = match self.tags_of_one(&made.arn).await {
            // AWS does not know everywhere yet what it has just made.
            Err(Error::NotFound { message }) => return Err(Error::Unavailable { message }),
            tags => tags?,
        };
        if self.same_stack(&tags, &made.tags) {
            return Ok(());
        }
        Err(Error::Duplicate {
            message: format!(
                "a load balancer is called {} that is not this Service's ({})",
                made.name, made.arn
            ),
        })
    }

    /// The one that has the name already, if it is ours.
    async fn find_load_balancer(
        &self,
        wanted: &LoadBalancer,
        message: String,
    ) -> Result<seen::LoadBalancer, Error> {
        let found = self
            .call(Operation::DescribeLoadBalancers, || {
                let call = self.inner.elb.describe_load_balancers();
                call.names(&wanted.name).send()
            })
            .await?;
        let Some(found) = found.load_balancers().first() else {
            return Err(Error::Duplicate { message });
        };
        let tags = self
            .tags_of_one(found.load_balancer_arn().unwrap_or_default())
            .await?;
        let ours = self.same_stack(&tags, &wanted.tags);
        let Some(there) = convert::load_balancer(found, tags).filter(|_| ours) else {
            return Err(Error::Duplicate { message });
        };
        self.note(Change::Created(Resource::LoadBalancer(there.clone())));
        Ok(there)
    }

    pub(super) async fn set_subnets(
        &self,
        arn: &str,
        subnets: &[SubnetMapping],
        ipv6_source_nat: bool,
    ) -> Result<(), Error> {
        let mappings: Vec<_> = subnets.iter().map(convert::mapping).collect();
        // Said only where it is or was of use: with IPv4 alone AWS refuses the word.
        let has = self.inner.account.newest().is_some_and(|account| {
            let mut all = account.load_balancers.values().flatten();
            all.any(|there| there.arn == arn && there.ipv6_source_nat)
        });
        let nat = (ipv6_source_nat || has).then(|| source_nat(ipv6_source_nat));
        self.call(Operation::SetSubnets, || {
            let call = self.inner.elb.set_subnets().load_balancer_arn(arn);
            call.set_subnet_mappings(Some(mappings.clone()))
                .set_enable_prefix_for_ipv6_source_nat(nat.clone())
                .send()
        })
        .await?;
        self.note(Change::Subnets(
            arn.to_owned(),
            subnets.to_vec(),
            ipv6_source_nat,
        ));
        Ok(())
    }

    pub(super) async fn set_security_groups(
        &self,
        arn: &str,
        groups: Vec<String>,
        enforce: Option<bool>,
    ) -> Result<(), Error> {
        let word = enforce.map(|on| match on {
            true => EnforceSecurityGroupInboundRulesOnPrivateLinkTrafficEnum::On,
            false => EnforceSecurityGroupInboundRulesOnPrivateLinkTrafficEnum::Off,
        });
        self.call(Operation::SetSecurityGroups, || {
            let call = self.inner.elb.set_security_groups().load_balancer_arn(arn);
            call.set_security_groups(Some(groups.clone()))
                .set_enforce_security_group_inbound_rules_on_private_link_traffic(word.clone())
                .send()
        })
        .await?;
        self.note(Change::SecurityGroups(
            arn.to_owned(),
            groups.into_iter().collect(),
            enforce,
        ));
        Ok(())
    }

    pub(super) async fn set_ip_address_type(
        &self,
        arn: &str,
        wanted: IpAddressType,
    ) -> Result<(), Error> {
        self.call(Operation::SetIpAddressType, || {
            let call = self.inner.elb.set_ip_address_type().load_balancer_arn(arn);
            call.ip_address_type(ip_address_type(wanted)).send()
        })
        .await?;
        self.note(Change::IpAddressType(arn.to_owned(), wanted));
        Ok(())
    }

    pub(super) async fn modify_load_balancer_attributes(
        &self,
        arn: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(key, value)| {
                let attribute = LoadBalancerAttribute::builder();
                attribute.key(key).value(value).build()
            })
            .collect();
        self.call(Operation::ModifyLoadBalancerAttributes, || {
            let call = self.inner.elb.modify_load_balancer_attributes();
            call.load_balancer_arn(arn)
                .set_attributes(Some(attributes.clone()))
                .send()
        })
        .await?;
        Ok(())
    }

    pub(super) async fn delete_load_balancer(&self, arn: &str) -> Result<(), Error> {
        let answer = self
            .call(Operation::DeleteLoadBalancer, || {
                let call = self.inner.elb.delete_load_balancer();
                call.load_balancer_arn(arn).send()
            })
            .await;
        self.gone(arn, answer.map(drop))
    }
}
