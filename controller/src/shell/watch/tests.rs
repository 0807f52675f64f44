use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::shell::tests::{Answer, Log, Seen, added, listed, load_balancer, refusal, scripted};

/// Watches a kind of a scripted API server; aborted when dropped.
struct Watching {
    task: JoinHandle<()>,
    seen: mpsc::Receiver<Observed>,
    log: Log,
    metrics: Metrics,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    fn start<K: Watched<Seen = Observed>>(
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (client, log) = scripted(script);
        let (inbox, seen) = mpsc::channel(16);
        let metrics = Metrics::default();
        let counted = metrics.clone();
        let task = tokio::spawn(async move {
            drop(watch::<K>(client, true, inbox, counted).await);
        });
        Self {
            task,
            seen,
            log,
            metrics,
        }
    }

    async fn next(&mut self) -> Observed {
        timeout(Duration::from_secs(3600), self.seen.recv())
            .await
            .expect("comes within an hour")
            .expect("the watch goes on")
    }
}

fn named(mut object: Value, name: &str) -> Value {
    object["metadata"]["name"] = name.into();
    object
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_parsed_is_reported_and_the_next_one_is_seen() {
    let mut watching = Watching::start::<Service>(|_| {
        let mut broken = named(load_balancer(), "broken");
        broken["spec"]["ports"] = "none".into();
        Answer::Stream(vec![
            added(broken),
            added(named(load_balancer(), "web")),
            listed(),
        ])
    });
    assert_eq!(watching.next().await, Observed::Restarted(Kind::Service));
    let Observed::Unreadable { kind, name, .. } = watching.next().await else {
        panic!("the broken one is reported");
    };
    assert_eq!((kind, &*name), (Kind::Service, "shop/broken"));
    let Observed::Service(record) = watching.next().await else {
        panic!("the other one is seen");
    };
    assert_eq!(&*record.key.name, "web");
    assert_eq!(watching.next().await, Observed::Synced(Kind::Service));
    let labels = KindLabels {
        kind: WatchedKind::Engine(Kind::Service),
    };
    assert_eq!(watching.metrics.unreadable.get_or_create(&labels).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_told_apart_is_reported() {
    let mut watching = Watching::start::<Service>(|_| {
        let mut anonymous = load_balancer();
        anonymous["metadata"]["uid"] = Value::Null;
        Answer::Stream(vec![added(anonymous), listed()])
    });
    watching.next().await;
    let seen = watching.next().await;
    assert!(matches!(seen, Observed::Unreadable { .. }), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_names_the_uid_even_of_what_cannot_be_parsed() {
    let mut watching = Watching::start::<Service>(|_| {
        let mut broken = load_balancer();
        broken["spec"]["ports"] = "none".into();
        Answer::Stream(vec![
            listed(),
            json!({ "type": "DELETED", "object": broken }),
        ])
    });
    watching.next().await;
    watching.next().await;
    let deleted = Observed::ServiceDeleted(ServiceKey::new("shop", "web"), Uid::from("u-1"));
    assert_eq!(watching.next().await, deleted);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_streaming_lists_is_listed_in_pages() {
    let mut watching = Watching::start::<Service>(|seen| {
        if seen.query().contains("sendInitialEvents=true") {
            return refusal(
                422,
                "Invalid",
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
                "",
            );
        }
        if seen.watches() {
            return Answer::Stream(Vec::new());
        }
        Answer::Json(
            200,
            json!({
                "apiVersion": "v1", "kind": "ServiceList",
                "metadata": { "resourceVersion": "5" }, "items": [load_balancer()],
            }),
        )
    });
    assert_eq!(watching.next().await, Observed::Restarted(Kind::Service));
    assert!(matches!(watching.next().await, Observed::Service(_)));
    assert_eq!(watching.next().await, Observed::Synced(Kind::Service));
    assert!(watching.log.all()[1].query().contains("limit=100"));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_without_service_cidrs_has_none_and_is_asked_again_rarely() {
    let asked = AtomicUsize::new(0);
    let mut watching = Watching::start::<ServiceCIDR>(move |seen| {
        if seen.path() == "/version" {
            return version("1", "32");
        }
        if asked.fetch_add(1, Ordering::Relaxed) < 2 {
            let message = "the server could not find the requested resource";
            return refusal(404, "NotFound", message, "");
        }
        Answer::Stream(vec![listed()])
    });
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        let kind = Kind::ServiceCidr;
        let version = Observed::ServerVersion(Some((1, 32)));
        assert_eq!(watching.next().await, version);
        assert_eq!(watching.next().await, Observed::Restarted(kind));
        assert_eq!(watching.next().await, Observed::Synced(kind));
    }
    assert_eq!(began.elapsed(), 2 * ABSENT);
    let labels = KindLabels {
        kind: WatchedKind::Engine(Kind::ServiceCidr),
    };
    let errors = watching.metrics.watch_errors.get_or_create(&labels).get();
    assert_eq!(errors, 0, "it is none");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_say_its_version_has_none_and_is_served() {
    let mut watching = Watching::start::<ServiceCIDR>(move |seen| match seen.path() {
        "/version" => refusal(403, "Forbidden", "not for you", ""),
        _ => Answer::Stream(vec![listed()]),
    });
    assert_eq!(watching.next().await, Observed::ServerVersion(None));
    let kind = Kind::ServiceCidr;
    assert_eq!(watching.next().await, Observed::Restarted(kind));
    assert_eq!(watching.next().await, Observed::Synced(kind));
}

#[tokio::test(start_paused = true)]
async fn of_ip_addresses_only_ours_are_watched() {
    let mut watching = Watching::start::<IPAddress>(|_| Answer::Stream(vec![listed()]));
    let kind = Kind::Reservation;
    assert_eq!(watching.next().await, Observed::Restarted(kind));
    assert_eq!(watching.next().await, Observed::Synced(kind));
    let label = "labelSelector=ipaddress.kubernetes.io%2Fmanaged-by%3Dportolan.dev";
    assert!(watching.log.all()[0].query().contains(label));
}

fn version(major: &str, minor: &str) -> Answer {
    Answer::Json(
        200,
        json!({
            "major": major, "minor": minor, "gitVersion": "", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
        }),
    )
}

#[tokio::test(start_paused = true)]
async fn service_cidrs_that_were_there_are_not_forgotten_because_of_a_404() {
    let asked = AtomicUsize::new(0);
    let mut watching = Watching::start::<ServiceCIDR>(move |seen| {
        if seen.path() == "/version" {
            return version("1", "36+");
        }
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Stream(vec![listed()]),
            1..5 => refusal(404, "NotFound", "nothing here", ""),
            _ => {
                let mut cidr = json!({
                    "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
                    "spec": {"cidrs": ["10.0.0.0/24"]},
                });
                cidr["metadata"] = load_balancer()["metadata"].clone();
                Answer::Stream(vec![added(cidr), listed()])
            }
        }
    });
    let kind = Kind::ServiceCidr;
    let version = Observed::ServerVersion(Some((1, 36)));
    assert_eq!(watching.next().await, version);
    assert_eq!(watching.next().await, Observed::Restarted(kind));
    assert_eq!(watching.next().await, Observed::Synced(kind));
    let mut seen = watching.next().await;
    while seen == Observed::Restarted(kind) || seen == version {
        seen = watching.next().await;
    }
    assert!(matches!(seen, Observed::ServiceCidr(_)), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_installed_is_asked_for_until_it_is() {
    let asked = AtomicUsize::new(0);
    let mut watching = Watching::start::<AddressPool>(move |_| {
        if asked.fetch_add(1, Ordering::Relaxed) < 4 {
            return refusal(
                404,
                "NotFound",
                "the server could not find the requested resource",
                "",
            );
        }
        Answer::Stream(vec![listed()])
    });
    assert_eq!(
        watching.next().await,
        Observed::Restarted(Kind::AddressPool)
    );
    assert_eq!(watching.next().await, Observed::Synced(Kind::AddressPool));
    let labels = KindLabels {
        kind: WatchedKind::Engine(Kind::AddressPool),
    };
    assert_eq!(
        watching.metrics.watch_errors.get_or_create(&labels).get(),
        4
    );
}

#[test]
fn the_missing_definition_is_named() {
    assert_eq!(
        crd_name::<AddressPool>().as_deref(),
        Some("addresspools.portolan.dev")
    );
    assert_eq!(crd_name::<Service>(), None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_history_is_gone_lists_again() {
    let asked = AtomicUsize::new(0);
    let mut watching = Watching::start::<Namespace>(move |_| {
        if asked.fetch_add(1, Ordering::Relaxed) > 0 {
            return Answer::Stream(vec![listed()]);
        }
        Answer::Stream(vec![
            listed(),
            json!({ "type": "ERROR", "object": {
                "kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
                "message": "too old resource version",
            }}),
        ])
    });
    for expected in [
        Observed::Restarted(Kind::Namespace),
        Observed::Synced(Kind::Namespace),
        Observed::Restarted(Kind::Namespace),
        Observed::Synced(Kind::Namespace),
    ] {
        assert_eq!(watching.next().await, expected);
    }
}

fn pauses(trouble: &mut Trouble) -> Vec<Duration> {
    let error = watcher::Error::NoResourceVersion;
    (0..20).map(|_| trouble.pause(&error)).collect()
}

#[test]
fn the_pause_between_failures_grows() {
    let pauses = pauses(&mut Trouble::new(Kind::Service.into(), None));
    assert!(pauses[11] > pauses[0] * 8, "{pauses:?}");
    assert!(
        pauses.iter().all(|pause| *pause <= LONGEST_PAUSE),
        "{pauses:?}"
    );
}

#[test]
fn a_watch_that_has_worked_is_tried_again_within_two_seconds_for_as_long_as_it_fails() {
    let mut trouble = Trouble::new(Kind::Service.into(), None);
    trouble.over(&Event::<Service>::InitDone);
    let pauses = pauses(&mut trouble);
    assert!(
        pauses.iter().all(|pause| *pause <= Duration::from_secs(2)),
        "{pauses:?}"
    );
    assert!(pauses[0] <= Duration::from_millis(200), "{pauses:?}");
    let last = &pauses[10..];
    assert!(
        last.iter().any(|pause| *pause != last[0]),
        "controllers that fail together do not all come back together: {last:?}"
    );
}
