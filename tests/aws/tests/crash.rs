//! A controller that dies after each single call to AWS in turn, with and without having had the
//! reply: the next one finishes the work, and nothing is there twice or left over.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::time::Duration;

use aws_tests::{Play, service, tcp};
use tests::stage::Running;

/// More calls than anything here takes.
const MANY: usize = 60;

/// Lets `running` make `n` more calls, waits for the one that is cut off, and kills it. False: it came
/// to its end before.
async fn cut(play: &Play, running: Running, n: usize, end: impl AsyncFn() -> bool) -> bool {
    loop {
        let calls = play.aws.calls();
        // The last one that passes is answered or not; the one behind it is refused.
        if calls.len() > n
            || calls
                .get(n - 1)
                .is_some_and(|call| call.status.is_none() && call.forwarded)
        {
            running.crash().await;
            return true;
        }
        if end().await {
            running.crash().await;
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn creation(with_reply: bool) {
    let play = Play::new(&[]).await;
    for n in 1..MANY {
        let name = format!("web-{n}");
        play.aws.forget_calls();
        play.aws.stop_after(n, with_reply);
        let first = play.controller("first");
        play.cluster().create(service(&name, tcp(80))).await;
        let served = async || {
            let service = play.cluster().service(&name).await;
            aws_tests::reason(&service) == "Ready"
        };
        let cut = cut(&play, first, n, served).await;
        play.aws.resume();
        let second = play.controller("second");
        play.ready(&name).await;
        assert_eq!(play.load_balancers().await.len(), 1, "after call {n}");
        assert_eq!(play.target_groups().await.len(), 1, "after call {n}");
        if !cut {
            println!("{} calls", n - 1);
            play.fixed_point(second).await;
            return;
        }
        play.cluster()
            .delete("Service", &format!("default/{name}"))
            .await;
        play.gone(&name).await;
        play.nothing_left().await;
        second.crash().await;
    }
    panic!("never came to an end");
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn creation_survives_a_crash_after_each_reply() {
    creation(true).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn creation_survives_a_crash_after_each_call_without_its_reply() {
    creation(false).await;
}

async fn deletion(with_reply: bool) {
    let play = Play::new(&[]).await;
    for n in 1..MANY {
        let name = format!("web-{n}");
        let first = play.controller("first");
        play.cluster().create(service(&name, tcp(80))).await;
        play.ready(&name).await;
        play.aws.forget_calls();
        play.aws.stop_after(n, with_reply);
        let key = format!("default/{name}");
        play.cluster().delete("Service", &key).await;
        let gone = async || play.cluster().get("Service", &key).await.is_none();
        let cut = cut(&play, first, n, gone).await;
        play.aws.resume();
        let second = play.controller("second");
        play.gone(&name).await;
        play.nothing_left().await;
        second.crash().await;
        if !cut {
            println!("{} calls", n - 1);
            return;
        }
    }
    panic!("never came to an end");
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn deletion_survives_a_crash_after_each_reply() {
    deletion(true).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn deletion_survives_a_crash_after_each_call_without_its_reply() {
    deletion(false).await;
}
