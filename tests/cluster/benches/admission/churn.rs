//! Three replicas behind one address, one of them killed every ten seconds, while Services come and
//! go: no number may ever be two living Services', and in the end the ledger has what Services show
//! and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use allocator::block::Claim;
use cluster::balancer::Balancer;
use controller::core::translate;
use crds::AllocationBlock;
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client,
    api::{WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tests::fixtures::bare;
use tokio::{sync::watch, time::sleep};

use crate::town::{Replica, Town};

const REPLICAS: usize = 3;
/// Issue 7: one killed so often.
const KILL_EVERY: Duration = Duration::from_secs(10);
/// Requests under way.
const IN_FLIGHT: usize = 16;
/// Services that live at a time: of the pool's 2,768 numbers the lowest come and go.
const LIVING: usize = 300;
/// Past 90 s, for which a number is kept for a Service that never came, and a takeover of the lease.
const GRACE: Duration = Duration::from_secs(240);
/// How long after a Service's deletion a refusal is put down to that.
const JUST_NOW: Duration = Duration::from_secs(2);

/// When a number was whose.
struct Span {
    uid: String,
    since: Instant,
    until: Option<Instant>,
}

/// Everything that the watches of Services and of the ledger have told, in their order.
#[derive(Default)]
struct Seen {
    spans: BTreeMap<u16, Vec<Span>>,
    /// Numbers of each living Service.
    living: BTreeMap<String, BTreeSet<u16>>,
    /// What was never to be.
    doubles: Vec<String>,
}

impl Seen {
    fn shows(&mut self, uid: &str, numbers: BTreeSet<u16>) {
        let before = self.living.insert(uid.to_owned(), numbers.clone());
        let before = before.unwrap_or_default();
        for number in before.difference(&numbers) {
            self.ended(*number, uid);
        }
        for number in numbers.difference(&before) {
            let spans = self.spans.entry(*number).or_default();
            if let Some(other) = spans.iter().find(|span| span.until.is_none()) {
                let other = &other.uid;
                (self.doubles).push(format!("{number} is shown by {other} and {uid}"));
            }
            spans.push(Span {
                uid: uid.to_owned(),
                since: Instant::now(),
                until: None,
            });
        }
    }

    fn gone(&mut self, uid: &str) {
        for number in self.living.remove(uid).unwrap_or_default() {
            self.ended(number, uid);
        }
    }

    fn ended(&mut self, number: u16, uid: &str) {
        let spans = self.spans.get_mut(&number).unwrap();
        let open = |span: &&mut Span| span.uid == uid && span.until.is_none();
        spans.iter_mut().find(open).unwrap().until = Some(Instant::now());
    }

    /// Why the API server says that a number is taken.
    fn explain(&self, number: u16, at: Instant) -> &'static str {
        let spans = self.spans.get(&number).map_or(&[][..], Vec::as_slice);
        let has = |span: &&Span| {
            span.since <= at + JUST_NOW && span.until.is_none_or(|until| until >= at)
        };
        let had = |span: &&Span| {
            (span.until).is_some_and(|until| until < at && at.duration_since(until) < JUST_NOW)
        };
        if spans.iter().any(|span| had(&span)) {
            "of_a_service_just_deleted"
        } else if spans.iter().any(|span| has(&span)) {
            "of_another_service"
        } else {
            "of_nobody"
        }
    }
}

fn numbers(service: &Service) -> BTreeSet<u16> {
    let spec = service.spec.as_ref().unwrap();
    let ports = spec.ports.iter().flatten();
    ports
        .filter_map(|port| u16::try_from(port.node_port?).ok())
        .collect()
}

/// Every event of all objects of a kind, from before the first of them.
fn events<K>(api: Api<K>) -> impl Stream<Item = WatchEvent<K>>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + kube::Resource + 'static,
{
    let from = Arc::new(Mutex::new("0".to_owned()));
    stream::repeat(()).flat_map(move |()| {
        let (api, from) = (api.clone(), Arc::clone(&from));
        stream::once(async move {
            let version = from.lock().unwrap().clone();
            let watch = api.watch(&WatchParams::default(), &version).await.unwrap();
            watch.map(move |event| {
                let event = event.unwrap();
                if let WatchEvent::Added(object)
                | WatchEvent::Modified(object)
                | WatchEvent::Deleted(object) = &event
                {
                    let version = object.meta().resource_version.clone();
                    *from.lock().unwrap() = version.unwrap();
                }
                event
            })
        })
        .flatten()
    })
}

async fn follow_services(client: Client, seen: Arc<Mutex<Seen>>) {
    let mut events = std::pin::pin!(events(Api::<Service>::all(client)));
    while let Some(event) = events.next().await {
        let mut seen = seen.lock().unwrap();
        match event {
            WatchEvent::Added(service) | WatchEvent::Modified(service) => {
                seen.shows(service.metadata.uid.as_ref().unwrap(), numbers(&service));
            }
            WatchEvent::Deleted(service) => seen.gone(service.metadata.uid.as_ref().unwrap()),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(error) => panic!("{error:?}"),
        }
    }
}

async fn follow_ledger(client: Client, seen: Arc<Mutex<Seen>>) {
    let mut events = std::pin::pin!(events(Api::<AllocationBlock>::all(client)));
    while let Some(event) = events.next().await {
        match event {
            WatchEvent::Added(block) | WatchEvent::Modified(block) => {
                for (number, claim) in translate::block(&block).unwrap().claims.unwrap() {
                    if let Claim::Held(holders) = claim
                        && holders.len() > 1
                    {
                        let held = format!("{number} is held by {holders:?}");
                        seen.lock().unwrap().doubles.push(held);
                    }
                }
            }
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(error) => panic!("{error:?}"),
        }
    }
}

/// What the ledger has that no Service shows, and the other way round.
async fn strays(town: &Town) -> Vec<String> {
    let mut shown = BTreeSet::new();
    for (number, by) in town.cluster.shown().await {
        for (uid, usage, _) in by {
            if number.as_port().is_some() {
                shown.insert((number.to_string(), uid, usage.to_string()));
            }
        }
    }
    let mut strays = Vec::new();
    for (number, claim) in town.cluster.ledger().await {
        match claim {
            Claim::Held(holders) => {
                for holder in holders {
                    let held = (
                        number.to_string(),
                        holder.uid.to_string(),
                        holder.usage.to_string(),
                    );
                    if !shown.remove(&held) {
                        strays.push(format!("{held:?} is held and not shown"));
                    }
                }
            }
            Claim::Retained { owner, .. } => {
                strays.push(format!("{number} is kept for {owner}"));
            }
        }
    }
    strays.extend(shown.iter().map(|shown| format!("{shown:?} is not held")));
    strays
}

/// How creations were refused.
#[derive(Default)]
struct Refusals {
    taken: Mutex<Vec<(u16, Instant)>>,
    others: Mutex<BTreeMap<String, usize>>,
}

impl Refusals {
    fn note(&self, told: &str) {
        let number = || {
            let (_, rest) = told.split_once("nodePort: Invalid value: ")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        match number().filter(|_| told.contains("already allocated")) {
            Some(number) => (self.taken.lock().unwrap()).push((number, Instant::now())),
            None => {
                // Without what is different each time.
                let words: String = told.chars().filter(|c| !c.is_ascii_digit()).collect();
                *self.others.lock().unwrap().entry(words).or_insert(0) += 1;
            }
        }
    }
}

async fn create(town: &Town, name: &str, refusals: &Refusals) {
    for _ in 0..50 {
        match town.cluster.try_create(bare(name, "NodePort")).await {
            Ok(_) => return,
            Err(error) => refusals.note(&error.to_string()),
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{name} cannot be created");
}

pub async fn churn(binary: PathBuf, services: usize) -> Value {
    let town = Town::new(binary).await;
    let balancer = Balancer::start().await.unwrap();
    let mut replicas: Vec<Replica> = Vec::new();
    for number in 0..REPLICAS {
        let name = format!("replica-{number}");
        let replica = town.replica(&name, Some(balancer.url())).await;
        balancer.add(replica.address);
        replicas.push(replica);
    }
    town.ask(true).await;
    let mark = town.settled().await;
    let seen = Arc::<Mutex<Seen>>::default();
    let followers = [
        tokio::spawn(follow_services(town.cluster.client(), Arc::clone(&seen))),
        tokio::spawn(follow_ledger(town.cluster.client(), Arc::clone(&seen))),
    ];
    let (refusals, living) = (Refusals::default(), Mutex::new(VecDeque::new()));
    let (over, ending) = watch::channel(false);
    let kills = AtomicUsize::new(0);
    let begun = Instant::now();
    let load = async {
        stream::iter(0..services)
            .for_each_concurrent(IN_FLIGHT, |number| {
                let (town, refusals, living) = (&town, &refusals, &living);
                async move {
                    let name = format!("s{number:05}");
                    create(town, &name, refusals).await;
                    let oldest = {
                        let mut living = living.lock().unwrap();
                        living.push_back(name);
                        if living.len() > LIVING {
                            living.pop_front()
                        } else {
                            None
                        }
                    };
                    town.delete(oldest).await;
                }
            })
            .await;
        let seconds = begun.elapsed().as_secs_f64();
        let rest: Vec<String> = living.lock().unwrap().drain(..).collect();
        // Some stay, so that what is held and shown can be compared.
        town.delete(rest.into_iter().skip(50)).await;
        over.send_replace(true);
        seconds
    };
    let killing = async {
        let mut ending = ending;
        for turn in 0.. {
            tokio::select! {
                _ = ending.wait_for(|over| *over) => break,
                () = sleep(KILL_EVERY) => {}
            }
            let replica = replicas.remove(0);
            kills.fetch_add(1, Ordering::Relaxed);
            replicas.push(town.kill(replica).await);
            eprintln!("churn: kill {turn}, {:.0} s", begun.elapsed().as_secs_f64());
        }
    };
    let (seconds, ()) = tokio::join!(load, killing);

    let ended = Instant::now();
    let mut left = strays(&town).await;
    let at_once = left.len();
    while !left.is_empty() && ended.elapsed() < GRACE {
        sleep(Duration::from_secs(1)).await;
        left = strays(&town).await;
    }
    let clean = ended.elapsed().as_secs_f64();
    let (writes, conflicts) = town.ledger_writes(mark);
    let lines = town.plane.audit().unwrap();
    let created = (lines.iter().skip(mark))
        .filter(|line| line.verb == "create" && line.resource() == "services");
    let open = created
        .flat_map(|line| line.consulted("portolan"))
        .filter(|asked| asked.failed_open)
        .count();
    for follower in followers {
        assert!(!follower.is_finished(), "a watch has ended");
        follower.abort();
    }
    let seen = seen.lock().unwrap();
    let mut because = BTreeMap::new();
    for (number, at) in refusals.taken.lock().unwrap().iter() {
        *because.entry(seen.explain(*number, *at)).or_insert(0) += 1;
    }
    json!({
        "creations_and_deletions": services,
        "replicas": REPLICAS,
        "in_flight": IN_FLIGHT,
        "kills": kills.load(Ordering::Relaxed),
        "per_second": services as f64 / seconds,
        "doubles": seen.doubles.len(),
        "doubles_told": seen.doubles.iter().take(5).collect::<Vec<_>>(),
        "strays_at_the_end_of_the_load": at_once,
        "leaked": left.len(),
        "leaked_told": left.iter().take(5).collect::<Vec<_>>(),
        "seconds_until_nothing_is_left": clean,
        "refused_already_allocated": because.values().sum::<usize>(),
        "refused_because": because,
        "refused_otherwise": *refusals.others.lock().unwrap(),
        "passed_without_an_answer": open,
        "ledger_writes_per_creation": writes as f64 / services as f64,
        "ledger_conflicts": conflicts,
    })
}
