//! What the API server asks on its way through the loop.

use allocator::block::BlockId;
use crds::AllocationBlockSpec;
use k8s_openapi::api::core::v1::Service;
use model::Space;
use tokio::sync::oneshot;

use super::*;
use crate::{
    core::{admit, translate},
    shell::webhook::Asked,
};

const BLOCK: BlockId = BlockId {
    space: Space::Port,
    index: 117,
};

/// An engine that reserves in a block before it answers.
#[derive(Default)]
struct Reserving {
    effects: Vec<Effect>,
    waiting: Vec<u64>,
    told: Arc<Mutex<Vec<Input>>>,
}

impl Machine for Reserving {
    fn handle(&mut self, input: Input, _now: Now) {
        match &input {
            Input::Review { review, .. } => {
                self.waiting.push(review.id);
                self.effects.push(Effect::WriteBlock {
                    id: BLOCK,
                    version: None,
                    spec: AllocationBlockSpec::default(),
                });
            }
            Input::BlockWritten { .. } => {
                let answer = |id| Effect::Answer {
                    id,
                    answer: admit::Answer::unchanged(),
                };
                self.effects.extend(self.waiting.drain(..).map(answer));
            }
            Input::Observed(_)
            | Input::Leading(_)
            | Input::ServiceWritten { .. }
            | Input::ServiceRead { .. }
            | Input::BlockRead { .. }
            | Input::ReservationWritten { .. }
            | Input::AddressesListed(_)
            | Input::PoolStatusWritten { .. }
            | Input::Announced(_)
            | Input::Converged(_)
            | Input::ClassStatusWritten { .. } => {}
        }
        self.told.lock().unwrap().push(input);
    }

    fn poll(&mut self, _now: Now) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn next_deadline(&self, _now: Duration) -> Option<Duration> {
        None
    }

    fn synced(&self) -> bool {
        true
    }

    fn idle(&self) -> bool {
        true
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }

    fn figures(&self) -> Arc<Figures> {
        Arc::default()
    }

    fn asked(&self) -> crate::core::hook::Asked {
        crate::core::hook::Asked::default()
    }
}

fn question(id: u64) -> (Asked, oneshot::Receiver<admit::Answer>) {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "u", "resourceVersion": "1"},
    }))
    .unwrap();
    let review = admit::Review {
        id,
        call: "call".into(),
        object: Arc::new(translate::service(&service).unwrap()),
        old: None,
        dry_run: false,
    };
    let (answer, answered) = oneshot::channel();
    let asked = Asked {
        review: Arc::new(review),
        deadline: Instant::now() + Duration::from_secs(2),
        answer,
    };
    (asked, answered)
}

fn slow_block() -> (Client, Log) {
    let written = json!({ "metadata": { "resourceVersion": "4" } });
    scripted(move |_| Answer::Late(Duration::from_secs(3), written.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_follower_writes_the_ledger_and_answers_and_losing_the_lead_drops_neither() {
    let (client, log) = slow_block();
    let (mut world, _inbox, mandate) = world(client);
    let (sender, questions) = mpsc::channel(4);
    world.questions = Some(questions);
    let (asked, answered) = question(1);
    sender.try_send(asked).unwrap();
    let mut machine = Reserving::default();
    let told = Arc::clone(&machine.told);
    let beside = async {
        sleep(Duration::from_secs(1)).await;
        mandate.send_replace(None);
        assert_eq!(answered.await.unwrap(), admit::Answer::unchanged());
        let (asked, answered) = question(2);
        sender.try_send(asked).unwrap();
        assert_eq!(answered.await.unwrap(), admit::Answer::unchanged());
        drop(sender);
    };
    let driving = drive(&mut machine, world, sleep(Duration::from_secs(30)));
    let (driven, ()) = futures::join!(driving, beside);
    driven.unwrap();
    assert_eq!(log.writes().len(), 2);
    let told = told.lock().unwrap();
    let written = told.iter().filter(
        |input| matches!(input, Input::BlockWritten { result: Ok(version), .. } if &**version == "4"),
    );
    assert_eq!(written.count(), 2);
    assert!(told.contains(&Input::Leading(false)));
}

#[tokio::test(start_paused = true)]
async fn on_its_way_out_it_answers_until_nobody_asks_any_more_and_leads_no_longer() {
    let (client, log) = slow_block();
    let (mut world, _inbox, _mandate) = world(client);
    let (sender, questions) = mpsc::channel(4);
    world.questions = Some(questions);
    let mut machine = Reserving {
        effects: (0..5).map(status_write).collect(),
        ..Reserving::default()
    };
    let told = Arc::clone(&machine.told);
    let started = Instant::now();
    let beside = async {
        sleep(Duration::from_secs(2)).await;
        let (asked, answered) = question(1);
        sender.try_send(asked).unwrap();
        assert_eq!(answered.await.unwrap(), admit::Answer::unchanged());
        drop(sender);
    };
    let driving = drive(&mut machine, world, sleep(Duration::from_secs(1)));
    let (driven, ()) = futures::join!(driving, beside);
    driven.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    // Two of the Services were under way, and the block.
    assert_eq!(log.writes().len(), 3);
    assert!(told.lock().unwrap().contains(&Input::Leading(false)));
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_never_closes_does_not_keep_the_process() {
    let (client, _log) = slow_block();
    let (mut world, _inbox, _mandate) = world(client);
    let (_sender, questions) = mpsc::channel(4);
    world.questions = Some(questions);
    let started = Instant::now();
    let mut machine = Reserving::default();
    let ended = drive(&mut machine, world, sleep(Duration::from_secs(1)));
    ended.await.unwrap();
    assert!(started.elapsed() <= Duration::from_secs(11));
}
