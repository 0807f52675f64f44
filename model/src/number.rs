//! A number: an IPv4 address, an IPv6 address or a port. One type, so that one ledger and one
//! allocator serve them all.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// IP family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The word Kubernetes uses in `ipFamilies`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The one it is not.
    pub const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The space a number lives in; numbers of different spaces never collide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Space {
    /// IPv4 addresses.
    V4,
    /// IPv6 addresses.
    V6,
    /// Ports of nodes.
    Port,
}

impl From<Family> for Space {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::V4,
            Family::V6 => Self::V6,
        }
    }
}

impl Space {
    /// The highest value in the space.
    pub const fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
            Self::Port => u16::MAX as u128,
        }
    }

    /// The family, unless these are ports.
    pub const fn family(self) -> Option<Family> {
        match self {
            Self::V4 => Some(Family::V4),
            Self::V6 => Some(Family::V6),
            Self::Port => None,
        }
    }
}

/// One address or one port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Number {
    /// Where it lives.
    pub space: Space,
    /// The address or port as an integer; at most [`Space::last`].
    pub value: u128,
}

impl Number {
    /// A port number.
    pub const fn port(port: u16) -> Self {
        Self {
            space: Space::Port,
            value: port as u128,
        }
    }

    /// The address, unless it is a port.
    pub fn address(self) -> Option<IpAddr> {
        match self.space {
            Space::V4 => u32::try_from(self.value)
                .ok()
                .map(|bits| Ipv4Addr::from_bits(bits).into()),
            Space::V6 => Some(Ipv6Addr::from_bits(self.value).into()),
            Space::Port => None,
        }
    }

    /// The port, unless it is an address.
    pub fn as_port(self) -> Option<u16> {
        match self.space {
            Space::Port => u16::try_from(self.value).ok(),
            Space::V4 | Space::V6 => None,
        }
    }

    /// Reads what [`fmt::Display`] writes: an address in any notation, or a port, for that space.
    pub fn parse(space: Space, text: &str) -> Option<Self> {
        match space {
            Space::Port => text.parse().ok().map(Self::port),
            Space::V4 | Space::V6 => {
                let number = Self::from(text.parse::<IpAddr>().ok()?);
                (number.space == space).then_some(number)
            }
        }
    }
}

impl From<IpAddr> for Number {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self {
                space: Space::V4,
                value: u128::from(v4.to_bits()),
            },
            IpAddr::V6(v6) => Self {
                space: Space::V6,
                value: v6.to_bits(),
            },
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => address.fmt(f),
            None => self.value.fmt(f),
        }
    }
}

/// What a Service holds a number for. One Service may hold one address of a family as clusterIP
/// and another for its load balancer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Use {
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer,
    /// `spec.clusterIPs[]`.
    ClusterIp,
    /// `spec.ports[].nodePort`.
    NodePort,
    /// `spec.healthCheckNodePort`.
    HealthCheckNodePort,
}

impl Use {
    /// Every use.
    pub const ALL: [Self; 4] = [
        Self::LoadBalancer,
        Self::ClusterIp,
        Self::NodePort,
        Self::HealthCheckNodePort,
    ];

    /// The field's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoadBalancer => "LoadBalancer",
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::HealthCheckNodePort => "HealthCheckNodePort",
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
