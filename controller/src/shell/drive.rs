//! The loop that owns the engine: what happened goes in, what to do comes out, results go in again.
//!
//! Why it cannot deadlock: requests are futures that this same task polls, so their results need no
//! channel that could be full. The only channels are the inbox of the watches and the questions of the
//! webhook; this loop takes from both in every turn and never sends to them, so a full inbox only makes
//! the watches (and then the API server's TCP connections) wait, and a question that finds no room is
//! answered at once. What no lane has room for waits in a queue whose length the
//! engine bounds: it asks for one thing per Service, block or pool at a time.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt as _},
};
use kube::Client;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    announce::Desk,
    mailbox::Mailbox,
    metrics::Metrics,
    run::State,
    webhook::{self, Asked},
    write::{self, Call, Lane},
};
use crate::core::{
    admit::Answer,
    announce::Told,
    cloud::{Outcome, Request},
    effect::{Effect, Failure, Input, Now, Observed},
    engine::{Counters, Engine, Figures},
    hook,
};

/// Inputs taken before the engine is asked again what to do: enough that a block's commit gathers
/// many claims, little enough that a result never waits for long.
const BATCH: usize = 256;

/// Ledger requests at once: each is for another block.
const LEDGER_LANE: usize = 8;

/// Proving reads at once.
const PROOF_LANE: usize = 8;

/// Never look again sooner than this, whatever the engine says: a mistake there must not spin.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Look again at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a graceful end waits for requests under way; each ends by its own time-out.
const DRAIN: Duration = Duration::from_secs(10);

/// What the loop needs of an engine; tests script one.
pub(super) trait Machine {
    fn handle(&mut self, input: Input, now: Now);
    fn poll(&mut self, now: Now) -> Vec<Effect>;
    fn next_deadline(&self, now: Duration) -> Option<Duration>;
    fn synced(&self) -> bool;
    fn idle(&self) -> bool;
    fn counters(&self) -> Counters;
    fn figures(&self) -> Arc<Figures>;
    /// What the pools ask of the webhook.
    fn asked(&self) -> hook::Asked;
}

impl Machine for Engine {
    fn handle(&mut self, input: Input, now: Now) {
        self.handle(input, now);
    }

    fn poll(&mut self, now: Now) -> Vec<Effect> {
        self.poll(now)
    }

    fn next_deadline(&self, now: Duration) -> Option<Duration> {
        self.next_deadline(now)
    }

    fn synced(&self) -> bool {
        self.synced()
    }

    fn idle(&self) -> bool {
        self.is_idle()
    }

    fn counters(&self) -> Counters {
        self.counters()
    }

    fn figures(&self) -> Arc<Figures> {
        Arc::clone(self.figures())
    }

    fn asked(&self) -> hook::Asked {
        hook::Asked::of(self.index().pools())
    }
}

/// Until when this process may write; `None`: it may not.
pub type Mandate = Option<Instant>;

/// Returns when this process may not write any more.
pub(super) async fn lapsed(mut mandate: watch::Receiver<Mandate>) {
    loop {
        let Some(until) = *mandate.borrow_and_update() else {
            return;
        };
        tokio::select! {
            () = sleep_until(until) => if *mandate.borrow() == Some(until) { return },
            changed = mandate.changed() => if changed.is_err() { return },
        }
    }
}

/// What the loop lives in.
pub(super) struct World {
    pub(super) client: Client,
    pub(super) identity: Arc<str>,
    pub(super) concurrency: usize,
    pub(super) started: Instant,
    /// Unix seconds now.
    pub(super) wall: fn() -> i64,
    pub(super) metrics: Metrics,
    pub(super) state: watch::Sender<State>,
    pub(super) inbox: mpsc::Receiver<Observed>,
    pub(super) mandate: watch::Receiver<Mandate>,
    /// For the cloud's provider.
    pub(super) orders: Arc<Mailbox<Order>>,
    /// From it.
    pub(super) outcomes: Arc<Mailbox<Outcome>>,
    /// For the announcer.
    pub(super) desk: Arc<Desk>,
    /// From it.
    pub(super) told: Arc<Mailbox<Told>>,
    /// What the API server asks; `None`: there is no webhook.
    pub(super) questions: Option<mpsc::Receiver<Asked>>,
    /// What the pools ask of the webhook, once all have been seen.
    pub(super) asked: watch::Sender<Option<hook::Asked>>,
}

/// What the cloud's provider is told.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    /// Its number: the outcome names it.
    pub number: u64,
    /// Which time it is that this process leads: what was told before is void.
    pub epoch: u64,
    /// What is wanted.
    pub request: Arc<Request>,
}

/// Requests of one lane: those under way and those that wait.
struct Queue {
    lane: Lane,
    running: usize,
    limit: usize,
    waiting: VecDeque<Call>,
}

impl Queue {
    fn new(lane: Lane, limit: usize) -> Self {
        Self {
            lane,
            running: 0,
            limit: limit.max(1),
            waiting: VecDeque::new(),
        }
    }

    fn next(&mut self) -> Option<Call> {
        if self.running >= self.limit {
            return None;
        }
        let call = self.waiting.pop_front();
        self.running += usize::from(call.is_some());
        call
    }
}

type Ended = (Lane, Option<Input>);

/// Everything asked of the API server.
struct Requests {
    queues: [Queue; 3],
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Changes when the mandate ends: what needs one and is under way is dropped at once.
    revoked: watch::Sender<u64>,
}

impl Requests {
    fn new(concurrency: usize) -> Self {
        Self {
            queues: [
                Queue::new(Lane::Ledger, LEDGER_LANE),
                Queue::new(Lane::Proofs, PROOF_LANE),
                Queue::new(Lane::Objects, concurrency),
            ],
            running: FuturesUnordered::new(),
            revoked: watch::Sender::new(0),
        }
    }

    fn push(&mut self, call: Call) {
        let lane = call.about.lane();
        for queue in &mut self.queues {
            if queue.lane == lane {
                queue.waiting.push_back(call);
                return;
            }
        }
    }

    /// Starts what there is room for.
    fn start(&mut self, world: &World) {
        for queue in &mut self.queues {
            while let Some(call) = queue.next() {
                let lane = queue.lane;
                let client = world.client.clone();
                let metrics = world.metrics.clone();
                let mut revoked = self.revoked.subscribe();
                self.running.push(Box::pin(async move {
                    if !call.about.needs_mandate() {
                        return (lane, write::perform(&client, call, &metrics).await);
                    }
                    let about = call.about.clone();
                    let input = tokio::select! {
                        biased;
                        _ = revoked.changed() => write::failed(about, lost(), &metrics),
                        input = write::perform(&client, call, &metrics) => input,
                    };
                    (lane, input)
                }));
            }
        }
    }

    fn ended(&mut self, lane: Lane) {
        for queue in &mut self.queues {
            if queue.lane == lane {
                queue.running = queue.running.saturating_sub(1);
            }
        }
    }

    /// Drops everything that only a leader may do: what is under way ends as [`Failure::Unknown`] when
    /// polled next, what waits is returned as inputs that say so.
    fn revoke(&mut self, metrics: &Metrics) -> Vec<Input> {
        self.revoked.send_modify(|epoch| *epoch += 1);
        let mut inputs = Vec::new();
        for queue in &mut self.queues {
            let (dropped, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut queue.waiting)
                .into_iter()
                .partition(|call| call.about.needs_mandate());
            queue.waiting = kept;
            inputs.extend(
                dropped
                    .into_iter()
                    .filter_map(|call| write::failed(call.about, lost(), metrics)),
            );
        }
        inputs
    }

    /// Leaves what waits undone, but for the ledger: whoever has asked waits for that.
    fn leave(&mut self) {
        for queue in &mut self.queues {
            match queue.lane {
                Lane::Objects | Lane::Proofs => queue.waiting.clear(),
                Lane::Ledger => {}
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.running.is_empty() && self.queues.iter().all(|queue| queue.waiting.is_empty())
    }
}

fn lost() -> Failure {
    Failure::Unknown("this process does not lead any more".to_owned())
}

/// Whoever waits for an answer, by the number of the question.
#[derive(Default)]
struct Open(HashMap<u64, oneshot::Sender<Answer>>);

impl Open {
    fn ask<M: Machine>(&mut self, machine: &mut M, world: &World, asked: Asked) {
        let Asked {
            review,
            deadline,
            answer,
        } = asked;
        self.0.insert(review.id, answer);
        let deadline = deadline.saturating_duration_since(world.started);
        machine.handle(Input::Review { review, deadline }, world.now());
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        if let Some(waiting) = self.0.remove(&id) {
            // Whoever asked may have given up.
            let _gone = waiting.send(answer);
        }
    }
}

/// The next question; never, where there is no webhook.
async fn next(questions: &mut Option<mpsc::Receiver<Asked>>) -> Option<Asked> {
    match questions {
        Some(questions) => questions.recv().await,
        None => std::future::pending().await,
    }
}

/// The inbox has no senders left: the watches are gone.
#[derive(Debug, thiserror::Error)]
#[error("no watch is left")]
pub(super) struct Blind;

/// Runs until `shutdown`; then starts nothing new and waits for what is under way, at most [`DRAIN`].
pub(super) async fn drive<M: Machine>(
    machine: &mut M,
    mut world: World,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Blind> {
    let mut shutdown = pin!(shutdown);
    let mut requests = Requests::new(world.concurrency);
    let mut open = Open::default();
    let mut leading = false;
    let mut pools_changed = true;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let now = world.now();
        let mandate = *world.mandate.borrow_and_update();
        let leads = mandate.is_some_and(|until| Instant::now() < until);
        if leads != leading {
            leading = leads;
            info!(leading, "leadership changed");
            machine.handle(Input::Leading(leading), now);
            if !leading {
                world.desk.void();
                for input in requests.revoke(&world.metrics) {
                    machine.handle(input, now);
                }
            }
        }
        for effect in machine.poll(now) {
            match effect {
                Effect::Converge {
                    number,
                    epoch,
                    request,
                } => {
                    let order = Order {
                        number,
                        epoch,
                        request,
                    };
                    world.orders.put(order.request.key.clone(), order);
                }
                Effect::Announce(word) => world.desk.put(word),
                Effect::Answer { id, answer } => open.answer(id, answer),
                effect @ (Effect::WriteService { .. }
                | Effect::ReadService { .. }
                | Effect::WriteBlock { .. }
                | Effect::ReadBlock { .. }
                | Effect::ListAddresses
                | Effect::Emit(_)
                | Effect::WritePoolStatus { .. }
                | Effect::WriteClassStatus { .. }
                | Effect::WriteReservation { .. }) => {
                    if let Some(call) = write::call(effect, &world.identity, now.wall) {
                        requests.push(call);
                    }
                }
            }
        }
        requests.start(&world);
        world.publish(machine, leading, &requests);
        if pools_changed && machine.synced() {
            pools_changed = false;
            world.publish_asked(machine);
        }

        let mut wake = Instant::now() + LONGEST_PAUSE;
        if let Some(deadline) = machine.next_deadline(now.mono) {
            wake = wake.min(world.started + deadline.max(now.mono + SHORTEST_PAUSE));
        }
        if let Some(until) = mandate.filter(|_| leading) {
            wake = wake.min(until);
        }
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            changed = world.mandate.changed() => if changed.is_err() {
                // Whoever kept the mandate is gone: supervised elsewhere, and no reason to go on.
                return Err(Blind);
            },
            Some((lane, input)) = requests.running.next(), if !requests.running.is_empty() => {
                let now = world.now();
                requests.ended(lane);
                if let Some(input) = input {
                    machine.handle(input, now);
                }
            }
            Some(asked) = next(&mut world.questions) => open.ask(machine, &world, asked),
            taken = world.inbox.recv_many(&mut batch, BATCH) => if taken == 0 {
                return Err(Blind);
            },
            () = world.outcomes.filled() => {}
            () = world.told.filled() => {}
            () = sleep_until(wake) => {}
        }
        // Whatever woke us, take what else is there, so that results cannot keep the inbox waiting
        // nor the other way round.
        let now = world.now();
        while let Some(Some((lane, input))) = requests.running.next().now_or_never() {
            requests.ended(lane);
            if let Some(input) = input {
                machine.handle(input, now);
            }
        }
        for outcome in world.outcomes.take() {
            machine.handle(Input::Converged(outcome), now);
        }
        for told in world.told.take() {
            machine.handle(Input::Announced(told), now);
        }
        // As many as the channel holds, so that this ends.
        for _ in 0..webhook::QUESTIONS {
            let Some(Ok(asked)) = world.questions.as_mut().map(mpsc::Receiver::try_recv) else {
                break;
            };
            open.ask(machine, &world, asked);
        }
        while batch.len() < BATCH {
            let Ok(observed) = world.inbox.try_recv() else {
                break;
            };
            batch.push(observed);
        }
        for observed in batch.drain(..) {
            pools_changed |= match &observed {
                Observed::Pool(_) | Observed::PoolDeleted(..) | Observed::Synced(_) => true,
                Observed::Service(_)
                | Observed::ServiceDeleted(..)
                | Observed::Namespace(_)
                | Observed::NamespaceDeleted(_)
                | Observed::Class(_)
                | Observed::ClassDeleted(_)
                | Observed::Block(_)
                | Observed::BlockDeleted(_)
                | Observed::ServiceCidr(_)
                | Observed::ServiceCidrDeleted(_)
                | Observed::ServerVersion(_)
                | Observed::Reservation(_)
                | Observed::ReservationDeleted(_)
                | Observed::Unreadable { .. }
                | Observed::Restarted(_) => false,
            };
            machine.handle(Input::Observed(observed), now);
        }
    }

    info!(
        under_way = requests.running.len(),
        "shutting down: nothing new is started"
    );
    world.state.send_modify(|state| state.draining = true);
    if leading {
        // From here on only what is asked by the API server is answered.
        machine.handle(Input::Leading(false), world.now());
    }
    requests.leave();
    let rest = drain(machine, &mut world, &mut requests, &mut open);
    if timeout(DRAIN, rest).await.is_err() {
        warn!("shutting down with requests under way");
    }
    Ok(())
}

/// Waits for what is under way and answers whoever asks, until the webhook is closed.
async fn drain<M: Machine>(
    machine: &mut M,
    world: &mut World,
    requests: &mut Requests,
    open: &mut Open,
) {
    loop {
        let now = world.now();
        for effect in machine.poll(now) {
            match effect {
                Effect::Answer { id, answer } => open.answer(id, answer),
                effect @ (Effect::WriteBlock { .. } | Effect::ReadBlock { .. }) => {
                    if let Some(call) = write::call(effect, &world.identity, now.wall) {
                        requests.push(call);
                    }
                }
                // Nothing of a leader's is begun any more.
                Effect::WriteService { .. }
                | Effect::ReadService { .. }
                | Effect::ListAddresses
                | Effect::Converge { .. }
                | Effect::Announce(_)
                | Effect::Emit(_)
                | Effect::WritePoolStatus { .. }
                | Effect::WriteClassStatus { .. }
                | Effect::WriteReservation { .. } => {}
            }
        }
        requests.start(world);
        if requests.is_empty() && world.questions.is_none() {
            return;
        }
        let mut wake = Instant::now() + LONGEST_PAUSE;
        if let Some(deadline) = machine.next_deadline(now.mono) {
            wake = wake.min(world.started + deadline.max(now.mono + SHORTEST_PAUSE));
        }
        tokio::select! {
            biased;
            Some((lane, input)) = requests.running.next(), if !requests.running.is_empty() => {
                requests.ended(lane);
                if let Some(input) = input {
                    machine.handle(input, world.now());
                }
            }
            asked = next(&mut world.questions) => match asked {
                Some(asked) => open.ask(machine, world, asked),
                // Everybody has an answer.
                None => world.questions = None,
            },
            () = sleep_until(wake) => {}
        }
    }
}

impl World {
    fn now(&self) -> Now {
        Now {
            mono: self.started.elapsed(),
            wall: (self.wall)(),
        }
    }

    fn publish_asked<M: Machine>(&self, machine: &M) {
        let asked = Some(machine.asked());
        self.asked.send_if_modified(|known| {
            let changed = *known != asked;
            *known = asked;
            changed
        });
    }

    fn publish<M: Machine>(&self, machine: &M, leading: bool, requests: &Requests) {
        let (synced, counters) = (machine.synced(), machine.counters());
        let idle = synced && machine.idle() && requests.is_empty() && self.inbox.is_empty();
        self.state.send_if_modified(|state| {
            let next = State {
                synced,
                leading,
                idle,
                counters,
                figures: machine.figures(),
                ..state.clone()
            };
            let changed = *state != next;
            *state = next;
            changed
        });
    }
}
