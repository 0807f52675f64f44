//! Which addresses must have one owner: those of one Service, and of all that share one with it. A
//! group is a connected component; a change looks at the groups that it touches and at no other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use model::ServiceKey;

use super::Wish;

/// Addresses that one node at a time answers for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Group {
    /// And the pools that they are from; IPv4 first.
    pub(super) addresses: BTreeMap<IpAddr, Arc<str>>,
    pub(super) services: BTreeSet<ServiceKey>,
}

/// All groups, by the name of their Announcement.
#[derive(Debug, Default)]
pub(super) struct Groups {
    wishes: HashMap<ServiceKey, Arc<Wish>>,
    sharers: HashMap<IpAddr, BTreeSet<ServiceKey>>,
    groups: BTreeMap<Arc<str>, Group>,
    /// The name of each address's group.
    named: HashMap<IpAddr, Arc<str>>,
}

impl Groups {
    /// Keeps a wish, `None`: forgets it. Returns the names of the groups that were touched, those
    /// that are no more among them.
    pub(super) fn set(&mut self, key: &ServiceKey, wish: Option<Arc<Wish>>) -> BTreeSet<Arc<str>> {
        if self.wishes.get(key) == wish.as_ref() {
            return BTreeSet::new();
        }
        let mut touched = BTreeSet::new();
        if let Some(old) = self.wishes.remove(key) {
            touched.extend(old.addresses.keys().copied());
            for ip in old.addresses.keys() {
                if let Some(sharers) = self.sharers.get_mut(ip) {
                    sharers.remove(key);
                    if sharers.is_empty() {
                        self.sharers.remove(ip);
                    }
                }
            }
        }
        if let Some(wish) = wish.filter(|wish| !wish.addresses.is_empty()) {
            touched.extend(wish.addresses.keys().copied());
            for ip in wish.addresses.keys() {
                self.sharers.entry(*ip).or_default().insert(key.clone());
            }
            self.wishes.insert(key.clone(), wish);
        }
        self.regroup(touched)
    }

    fn regroup(&mut self, mut touched: BTreeSet<IpAddr>) -> BTreeSet<Arc<str>> {
        let names = touched.iter().filter_map(|ip| self.named.get(ip));
        let mut names: BTreeSet<Arc<str>> = names.cloned().collect();
        for name in &names {
            if let Some(group) = self.groups.remove(name) {
                for ip in group.addresses.keys() {
                    self.named.remove(ip);
                    touched.insert(*ip);
                }
            }
        }
        while let Some(first) = touched.pop_first() {
            let group = self.component(first);
            let Some(name) = group.addresses.keys().next().map(|ip| name(*ip)) else {
                continue;
            };
            for ip in group.addresses.keys() {
                touched.remove(ip);
                // An address that no change touched, in a group that one has joined.
                if let Some(before) = self.named.insert(*ip, Arc::clone(&name))
                    && before != name
                {
                    self.groups.remove(&before);
                    names.insert(before);
                }
            }
            self.groups.insert(Arc::clone(&name), group);
            names.insert(name);
        }
        names
    }

    fn component(&self, first: IpAddr) -> Group {
        let mut group = Group::default();
        let mut open = vec![first];
        while let Some(ip) = open.pop() {
            for key in self.sharers.get(&ip).into_iter().flatten() {
                if !group.services.insert(key.clone()) {
                    continue;
                }
                for (ip, pool) in self.wishes.get(key).into_iter().flat_map(|w| &w.addresses) {
                    if group.addresses.insert(*ip, Arc::clone(pool)).is_none() {
                        open.push(*ip);
                    }
                }
            }
        }
        group
    }

    pub(super) fn get(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    pub(super) fn wish(&self, key: &ServiceKey) -> Option<&Arc<Wish>> {
        self.wishes.get(key)
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.wishes.keys()
    }

    /// The name of the group that an address is in.
    pub(super) fn name_of(&self, ip: IpAddr) -> Option<&Arc<str>> {
        self.named.get(&ip)
    }

    /// The Services with this address.
    pub(super) fn sharers(&self, ip: IpAddr) -> impl Iterator<Item = &ServiceKey> {
        self.sharers.get(&ip).into_iter().flatten()
    }

    /// The group that a Service is in, with its name.
    pub(super) fn of(&self, wish: &Wish) -> Option<(&Arc<str>, &Group)> {
        let (ip, _) = wish.addresses.first_key_value()?;
        self.groups.get_key_value(self.named.get(ip)?)
    }
}

/// The name of the Announcement of the group whose first address this is: the address, an IPv6 one
/// with all its groups and `-` for `:`.
fn name(ip: IpAddr) -> Arc<str> {
    match ip {
        IpAddr::V4(ip) => ip.to_string().into(),
        IpAddr::V6(ip) => {
            let groups = ip.segments().map(|group| format!("{group:x}"));
            groups.join("-").into()
        }
    }
}
