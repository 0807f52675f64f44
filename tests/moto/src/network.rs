//! What a test finds before it starts: a VPC with public subnets and instances, a certificate; and
//! what it does to targets meanwhile. All past the proxy.

use crate::{Aws, Failed, REGION, Reply, Service};

/// A VPC as a cluster has it.
#[derive(Debug, Clone)]
pub struct Network {
    /// `vpc-...`, 10.0.0.0/16.
    pub vpc: String,
    /// Public, each in a zone of its own, tagged for load balancers of both schemes.
    pub subnets: Vec<Subnet>,
    /// Dealt out to the subnets in turn.
    pub instances: Vec<Instance>,
    /// The security group of the instances, without rules for incoming traffic.
    pub security_group: String,
}

/// A subnet.
#[derive(Debug, Clone)]
pub struct Subnet {
    /// `subnet-...`
    pub id: String,
    /// Such as `eu-central-1a`.
    pub zone: String,
    /// Such as `10.0.0.0/24`.
    pub cidr: String,
}

/// An instance, which is a node.
#[derive(Debug, Clone)]
pub struct Instance {
    /// `i-...`
    pub id: String,
    /// As in `Node.spec.providerID`: `aws:///eu-central-1a/i-...`
    pub provider_id: String,
    /// Its private address.
    pub address: String,
}

/// What a target's health shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// `unhealthy`, from now on.
    Unhealthy,
    /// `healthy`, from now on and without waiting.
    Healthy,
    /// By time, as at first.
    Automatic,
}

/// A step of the set-up failed.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// No reply.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// Not the reply that was expected.
    #[error("{action} says {status}: {body}")]
    Said {
        /// Which call.
        action: String,
        /// Of HTTP.
        status: u16,
        /// What it said.
        body: String,
    },
}

impl SetUpError {
    fn said(action: &str, reply: &Reply) -> Self {
        Self::Said {
            action: action.to_owned(),
            status: reply.status.as_u16(),
            body: reply.body.clone(),
        }
    }
}

impl Aws {
    /// Makes a VPC with an internet gateway, up to three public subnets and some instances.
    ///
    /// # Errors
    ///
    /// When a call fails.
    pub async fn network(&self, subnets: usize, instances: usize) -> Result<Network, SetUpError> {
        let range = [("CidrBlock", "10.0.0.0/16")];
        let vpc = self.make("CreateVpc", &range, "vpcId").await?;
        let gateway = "internetGatewayId";
        let gateway = self.make("CreateInternetGateway", &[], gateway).await?;
        let attach = [("InternetGatewayId", &*gateway), ("VpcId", &vpc)];
        self.ec2("AttachInternetGateway", &attach).await?;
        let of = [("VpcId", &*vpc)];
        let table = self.make("CreateRouteTable", &of, "routeTableId").await?;
        let route = [
            ("RouteTableId", &*table),
            ("DestinationCidrBlock", "0.0.0.0/0"),
            ("GatewayId", &gateway),
        ];
        self.ec2("CreateRoute", &route).await?;
        let group = [
            ("GroupName", "nodes"),
            ("GroupDescription", "nodes"),
            ("VpcId", &vpc),
        ];
        let security_group = self.make("CreateSecurityGroup", &group, "groupId").await?;

        let mut network = Network {
            vpc,
            subnets: Vec::new(),
            instances: Vec::new(),
            security_group,
        };
        for (number, letter) in ('a'..).take(subnets).enumerate() {
            let subnet = self.subnet(&network.vpc, &table, number, letter).await?;
            let count = instances / subnets + usize::from(number < instances % subnets);
            let more = self.instances(&subnet, &network.security_group, count);
            network.instances.extend(more.await?);
            network.subnets.push(subnet);
        }
        Ok(network)
    }

    async fn subnet(
        &self,
        vpc: &str,
        table: &str,
        number: usize,
        letter: char,
    ) -> Result<Subnet, SetUpError> {
        let (zone, cidr) = (format!("{REGION}{letter}"), format!("10.0.{number}.0/24"));
        let tag = "TagSpecification.1.Tag";
        let parameters = [
            ("VpcId", vpc),
            ("AvailabilityZone", &zone),
            ("CidrBlock", &cidr),
            ("TagSpecification.1.ResourceType", "subnet"),
            (&*format!("{tag}.1.Key"), "kubernetes.io/role/elb"),
            (&format!("{tag}.1.Value"), "1"),
            (&format!("{tag}.2.Key"), "kubernetes.io/role/internal-elb"),
            (&format!("{tag}.2.Value"), "1"),
        ];
        let id = self.make("CreateSubnet", &parameters, "subnetId").await?;
        let associate = [("RouteTableId", table), ("SubnetId", &id)];
        self.ec2("AssociateRouteTable", &associate).await?;
        Ok(Subnet { id, zone, cidr })
    }

    async fn instances(
        &self,
        subnet: &Subnet,
        security_group: &str,
        count: usize,
    ) -> Result<Vec<Instance>, SetUpError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let parameters = [
            ("ImageId", "ami-12345678"),
            ("MinCount", &*count.to_string()),
            ("MaxCount", &count.to_string()),
            ("SubnetId", &subnet.id),
            ("SecurityGroupId.1", security_group),
        ];
        let reply = self.ec2("RunInstances", &parameters).await?;
        let instance = |id: String| {
            let item = reply.body.split(&format!("<instanceId>{id}<")).nth(1)?;
            let (_, rest) = item.split_once("<privateIpAddress>")?;
            Some(Instance {
                provider_id: format!("aws:///{}/{id}", subnet.zone),
                address: rest.split('<').next()?.to_owned(),
                id,
            })
        };
        let found: Vec<_> = (reply.all("instanceId").into_iter())
            .filter_map(instance)
            .collect();
        if found.len() == count {
            Ok(found)
        } else {
            Err(SetUpError::said("RunInstances", &reply))
        }
    }

    /// Gives the VPC a range of IPv6 addresses and each subnet a part of it: what all addresses begin
    /// with, and the subnet's number is to follow as a hexadecimal digit.
    ///
    /// # Errors
    ///
    /// When a call fails.
    pub async fn dual_stack(&self, network: &Network) -> Result<String, SetUpError> {
        let of = [
            ("VpcId", network.vpc.as_str()),
            ("AmazonProvidedIpv6CidrBlock", "true"),
        ];
        let reply = self.ec2("AssociateVpcCidrBlock", &of).await?;
        let range = reply.first("ipv6CidrBlock");
        let prefix = range
            .as_deref()
            .and_then(|range| range.strip_suffix("0::/56"));
        let Some(prefix) = prefix else {
            return Err(SetUpError::said("AssociateVpcCidrBlock", &reply));
        };
        for (number, subnet) in network.subnets.iter().enumerate() {
            let cidr = format!("{prefix}{number:x}::/64");
            let of = [("SubnetId", subnet.id.as_str()), ("Ipv6CidrBlock", &cidr)];
            self.ec2("AssociateSubnetCidrBlock", &of).await?;
        }
        Ok(prefix.to_owned())
    }

    /// Makes a server certificate and returns its ARN, for TLS listeners.
    ///
    /// # Errors
    ///
    /// When the call fails.
    pub async fn certificate(&self, name: &str) -> Result<String, SetUpError> {
        let action = "UploadServerCertificate";
        let parameters = [
            ("ServerCertificateName", name),
            ("CertificateBody", "none"),
            ("PrivateKey", "none"),
        ];
        let reply = self.query().call(Service::Iam, action, &parameters).await?;
        reply
            .first("Arn")
            .ok_or_else(|| SetUpError::said(action, &reply))
    }

    /// Sets the health of a target group, or of one of its targets: instance or address, and port.
    ///
    /// # Errors
    ///
    /// When there is no such group or target.
    pub async fn set_health(
        &self,
        group: &str,
        target: Option<(&str, u16)>,
        health: Health,
    ) -> Result<(), SetUpError> {
        let state = match health {
            Health::Unhealthy => "unhealthy",
            Health::Healthy => "healthy",
            Health::Automatic => "",
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("group", group).append_pair("state", state);
        if let Some((id, port)) = target {
            form.append_pair("id", id)
                .append_pair("port", &port.to_string());
        }
        let path = "/portolan/health";
        let reply = self.query().post(path, None, form.finish()).await?;
        if reply.status.is_success() {
            Ok(())
        } else {
            Err(SetUpError::said(path, &reply))
        }
    }

    async fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> Result<Reply, SetUpError> {
        let reply = self.query().call(Service::Ec2, action, parameters).await?;
        if reply.status.is_success() {
            Ok(reply)
        } else {
            Err(SetUpError::said(action, &reply))
        }
    }

    /// Calls EC2 and returns the id of what it made.
    async fn make(
        &self,
        action: &str,
        parameters: &[(&str, &str)],
        element: &str,
    ) -> Result<String, SetUpError> {
        let reply = self.ec2(action, parameters).await?;
        reply
            .first(element)
            .ok_or_else(|| SetUpError::said(action, &reply))
    }
}
