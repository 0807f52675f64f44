//! The real controller over the embedded API server, on a paused clock: first the sentences that hold
//! on any API server ([`tests::suite`]), then what only this one can show.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use tests::{for_every_sentence, stage::Stage, suite};

macro_rules! each {
    ($($sentence:ident)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $sentence() {
            suite::$sentence(Stage::devapi().await).await;
        }
    )* };
}

for_every_sentence!(each);
