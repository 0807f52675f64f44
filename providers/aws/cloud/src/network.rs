//! The VPC: CIDRs, subnets, which of them are public, security groups. Read at most once in ten
//! minutes; what `admit` writes in it is kept here, too.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_sdk_ec2::types::{RouteTable, Subnet, Vpc};
use ipnet::IpNet;
use tokio::sync::Semaphore;

use super::{
    Cloud, Error, Operation, convert,
    listing::{EC2_PAGE, PAGES, endless, filter},
};
use aws::{input, wanted::Source};

/// Subnets and their tags change rarely, and `available` need not be exact.
const AGE: Duration = Duration::from_secs(600);
/// A security group that a class names and that was not there is looked for again after so long.
const AGE_WITHOUT: Duration = Duration::from_secs(60);
/// After a refusal that will not pass by itself nothing is written for so long.
const REFUSED: Duration = Duration::from_secs(60);
/// Tags by which subnets are chosen for one scheme or the other (LBC, kubernetes.io).
const ROLES: [&str; 2] = ["kubernetes.io/role/elb", "kubernetes.io/role/internal-elb"];

/// A VPC and the node groups that a class names.
type Admission = (String, Vec<String>);

/// Networks as they were read.
pub(super) struct Kept {
    by_vpc: Mutex<HashMap<String, (Instant, Arc<input::Network>)>>,
    refused: Mutex<HashMap<Admission, (Instant, Error)>>,
    /// One reads.
    flight: Semaphore,
    /// One writes.
    pub(super) admission: Semaphore,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            by_vpc: Mutex::default(),
            refused: Mutex::default(),
            flight: Semaphore::new(1),
            admission: Semaphore::new(1),
        }
    }
}

impl Kept {
    fn get(&self, vpc: &str, node_groups: &[String]) -> Option<Arc<input::Network>> {
        let by_vpc = self.by_vpc.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, network) = by_vpc.get(vpc)?;
        let mut named = node_groups.iter();
        let age = match named.all(|id| network.security_groups.contains_key(id)) {
            true => AGE,
            false => AGE_WITHOUT,
        };
        (at.elapsed() <= age).then(|| Arc::clone(network))
    }

    fn put(&self, vpc: &str, network: &Arc<input::Network>) {
        let mut by_vpc = self.by_vpc.lock().unwrap_or_else(PoisonError::into_inner);
        by_vpc.insert(vpc.to_owned(), (Instant::now(), Arc::clone(network)));
    }

    /// Takes over the security groups, which makes what is kept no younger.
    pub(super) fn regroup(&self, network: &Arc<input::Network>) {
        let mut by_vpc = self.by_vpc.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, kept)) = by_vpc.get_mut(&network.vpc) {
            let groups = network.security_groups.clone();
            Arc::make_mut(kept).security_groups = groups;
        }
    }

    /// What was refused lately and would be again.
    pub(super) fn refused(&self, vpc: &str, node_groups: &[String]) -> Option<Error> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, error) = refused.get(&(vpc.to_owned(), node_groups.to_vec()))?;
        (at.elapsed() <= REFUSED).then(|| error.clone())
    }

    pub(super) fn refuse(&self, vpc: &str, node_groups: &[String], error: &Error) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, (at, _)| at.elapsed() <= REFUSED);
        let key = (vpc.to_owned(), node_groups.to_vec());
        refused.insert(key, (Instant::now(), error.clone()));
    }

    fn forget(&self) {
        let mut by_vpc = self.by_vpc.lock().unwrap_or_else(PoisonError::into_inner);
        by_vpc.clear();
    }
}

impl Cloud {
    /// The VPC as it was at most ten minutes ago; a minute when it has not all of `node_groups`,
    /// the security groups that a class says the nodes have. Reads only.
    ///
    /// Which subnets are public is found out only unless each role
    /// (`kubernetes.io/role/elb`, `…/internal-elb`) has a subnet that is tagged for it: only then
    /// does nobody ask for it.
    ///
    /// # Errors
    /// What AWS does not give.
    pub async fn network(
        &self,
        vpc: &str,
        node_groups: &[String],
    ) -> Result<Arc<input::Network>, Error> {
        if let Some(network) = self.inner.networks.get(vpc, node_groups) {
            return Ok(network);
        }
        // One reads, the others find what it has read. Never closed.
        let _turn = self.inner.networks.flight.acquire().await;
        if let Some(network) = self.inner.networks.get(vpc, node_groups) {
            return Ok(network);
        }
        let network = Arc::new(self.read_network(vpc).await?);
        self.inner.networks.put(vpc, &network);
        Ok(network)
    }

    /// The next [`Cloud::network`] reads again: for when subnets or security groups were not found.
    pub fn forget_networks(&self) {
        self.inner.networks.forget();
    }

    async fn read_network(&self, vpc: &str) -> Result<input::Network, Error> {
        let found = self
            .call(Operation::DescribeVpcs, || {
                self.inner.ec2.describe_vpcs().vpc_ids(vpc).send()
            })
            .await?;
        let found = found.vpcs().first().ok_or_else(|| Error::NotFound {
            message: format!("the VPC {vpc} does not exist in {}", self.region()),
        })?;
        let mut network = input::Network {
            vpc: vpc.to_owned(),
            cidrs: cidrs(found),
            ..input::Network::default()
        };
        let subnets = self.describe_subnets(vpc).await?;
        let tagged = |role: &str| {
            let mut tags = subnets.iter().flat_map(Subnet::tags);
            tags.any(|tag| tag.key() == Some(role))
        };
        let public = if ROLES.into_iter().all(tagged) {
            Routes::default()
        } else {
            Routes::of(&self.describe_route_tables(vpc).await?)
        };
        network.subnets = subnets
            .iter()
            .filter_map(|found| subnet(found, &public))
            .collect();
        network.subnets.sort_by(|a, b| a.id.cmp(&b.id));
        let groups = self
            .describe_security_groups(&[filter("vpc-id", vpc)])
            .await?;
        network.security_groups = groups
            .iter()
            .filter_map(|found| {
                let mut found = convert::security_group(found)?;
                found.rules.retain(|rule| match rule.source {
                    Source::SecurityGroup(_) => true,
                    Source::Ipv4(_) | Source::Ipv6(_) | Source::PrefixList(_) => false,
                });
                let group = input::SecurityGroup {
                    name: found.name,
                    rules: found.rules,
                    tags: found.tags,
                };
                Some((found.id, group))
            })
            .collect();
        Ok(network)
    }

    async fn describe_subnets(&self, vpc: &str) -> Result<Vec<Subnet>, Error> {
        let mut all = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let page = self
                .call(Operation::DescribeSubnets, || {
                    let call = self.inner.ec2.describe_subnets();
                    call.filters(filter("vpc-id", vpc))
                        .max_results(EC2_PAGE)
                        .set_next_token(token.clone())
                        .send()
                })
                .await?;
            all.extend(page.subnets.unwrap_or_default());
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(all);
            }
        }
        Err(endless(Operation::DescribeSubnets))
    }

    async fn describe_route_tables(&self, vpc: &str) -> Result<Vec<RouteTable>, Error> {
        let mut all = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let page = self
                .call(Operation::DescribeRouteTables, || {
                    let call = self.inner.ec2.describe_route_tables();
                    call.filters(filter("vpc-id", vpc))
                        // EC2 gives at most 100 of these at once.
                        .max_results(100)
                        .set_next_token(token.clone())
                        .send()
                })
                .await?;
            all.extend(page.route_tables.unwrap_or_default());
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(all);
            }
        }
        Err(endless(Operation::DescribeRouteTables))
    }
}

/// What the VPC's addresses are, as far as they are associated.
fn cidrs(vpc: &Vpc) -> Vec<IpNet> {
    let ipv4 = vpc.cidr_block_association_set().iter().filter(|found| {
        let state = found.cidr_block_state().and_then(|state| state.state());
        state.is_none_or(|state| state.as_str() == "associated")
    });
    let ipv6 = vpc
        .ipv6_cidr_block_association_set()
        .iter()
        .filter(|found| {
            let state = found
                .ipv6_cidr_block_state()
                .and_then(|state| state.state());
            state.is_none_or(|state| state.as_str() == "associated")
        });
    let texts: BTreeSet<&str> = vpc
        .cidr_block()
        .into_iter()
        .chain(ipv4.filter_map(|found| found.cidr_block()))
        .chain(ipv6.filter_map(|found| found.ipv6_cidr_block()))
        .collect();
    texts
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

/// Which subnets lead to an internet gateway.
#[derive(Default)]
struct Routes {
    by_subnet: BTreeMap<String, bool>,
    /// For subnets without a table of their own.
    main: bool,
}

impl Routes {
    fn of(tables: &[RouteTable]) -> Self {
        let mut routes = Self::default();
        for table in tables {
            let public = table.routes().iter().any(|route| {
                let gateway = route.gateway_id();
                gateway.is_some_and(|id| id.starts_with("igw-"))
            });
            for association in table.associations() {
                if let Some(subnet) = association.subnet_id() {
                    routes.by_subnet.insert(subnet.to_owned(), public);
                }
                if association.main() == Some(true) {
                    routes.main = public;
                }
            }
        }
        routes
    }

    fn public(&self, subnet: &str) -> bool {
        self.by_subnet.get(subnet).copied().unwrap_or(self.main)
    }
}

fn subnet(found: &Subnet, routes: &Routes) -> Option<input::Subnet> {
    let id = found.subnet_id()?;
    let associated = found
        .ipv6_cidr_block_association_set()
        .iter()
        .filter(|found| {
            let state = found
                .ipv6_cidr_block_state()
                .and_then(|state| state.state());
            state.is_none_or(|state| state.as_str() == "associated")
        });
    Some(input::Subnet {
        id: id.to_owned(),
        zone: found.availability_zone()?.to_owned(),
        // One of IPv6 only has none.
        ipv4: found.cidr_block().and_then(|cidr| cidr.parse().ok()),
        ipv6: associated
            .filter_map(|found| found.ipv6_cidr_block()?.parse().ok())
            .collect(),
        available: found
            .available_ip_address_count()
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or_default(),
        tags: convert::tags_of_ec2(found.tags()),
        public: routes.public(id),
        outpost: found.outpost_arn().map(str::to_owned),
    })
}
