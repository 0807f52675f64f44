//! A reply body that can be broken off, after some lines or at a signal.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;
use tower::BoxError;

use super::FaultyBody;

fn broken() -> BoxError {
    // What hyper reports when a chunked body ends early; kube's watcher resumes from it.
    Box::new(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the connection was cut",
    ))
}

struct Cutting {
    inner: FaultyBody,
    /// Lines still let through.
    left: Option<usize>,
    signal: watch::Receiver<u64>,
    broken: bool,
}

/// Passes the body on until `lines` lines went through or the signal changes.
pub(super) fn cut<B>(inner: B, lines: Option<usize>, mut signal: watch::Receiver<u64>) -> FaultyBody
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    signal.mark_unchanged();
    let inner = inner.map_err(Into::into).boxed_unsync();
    let state = Cutting {
        inner,
        left: lines,
        signal,
        broken: false,
    };
    StreamBody::new(futures::stream::unfold(state, next)).boxed_unsync()
}

async fn next(mut body: Cutting) -> Option<(Result<Frame<Bytes>, BoxError>, Cutting)> {
    if body.broken {
        return None;
    }
    if body.left == Some(0) {
        body.broken = true;
        return Some((Err(broken()), body));
    }
    let frame = tokio::select! {
        biased;
        Ok(()) = body.signal.changed() => {
            body.broken = true;
            return Some((Err(broken()), body));
        }
        frame = body.inner.frame() => frame?,
    };
    let frame = match (frame, body.left) {
        (Ok(frame), Some(left)) => frame.map_data(|data| {
            let (kept, lines) = first_lines(&data, left);
            body.left = Some(left - lines);
            kept
        }),
        (Ok(frame), None) => frame,
        (Err(error), _) => {
            body.broken = true;
            return Some((Err(error), body));
        }
    };
    Some((Ok(frame), body))
}

/// At most `most` lines of the data, and how many they are.
fn first_lines(data: &Bytes, most: usize) -> (Bytes, usize) {
    let ends: Vec<usize> = data
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .map(|(i, _)| i + 1)
        .take(most)
        .collect();
    match ends.last() {
        Some(end) if ends.len() == most => (data.slice(..*end), most),
        _ => (data.clone(), ends.len()),
    }
}
