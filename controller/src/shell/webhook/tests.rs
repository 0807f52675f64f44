//! The server over real TLS, with a scripted engine behind it.

use std::{sync::Mutex, time::Duration};

use futures::future::join_all;
use http::{Request, Response};
use kube::client::Body;
use model::Reason;
use rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider, pki_types::ServerName};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    reply::{Fault, question},
    server::Limits,
    *,
};
use crate::{
    core::{
        admit::{Answer, Review},
        certificates::Terms,
    },
    shell::Ended,
};

fn review(name: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": format!("uid-{name}"),
            "kind": {"group": "", "version": "v1", "kind": "Service"},
            "resource": {"group": "", "version": "v1", "resource": "services"},
            "name": name, "namespace": "shop", "operation": "CREATE", "dryRun": false,
            "userInfo": {"username": "somebody"},
            "object": {
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"type": "NodePort", "ports": [{"port": 80}]},
            },
            "oldObject": null, "options": null,
        },
    })
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

struct Scene {
    address: SocketAddr,
    connector: TlsConnector,
    shown: Arc<tls::Shown>,
    state: sync::Sender<State>,
    metrics: Metrics,
    server: JoinHandle<Ended>,
    /// Until somebody takes questions.
    questions: Option<mpsc::Receiver<Asked>>,
    /// Requests to the API server.
    log: Arc<Mutex<Vec<String>>>,
}

/// What is trusted, and what is shown.
fn identity() -> (ClientConfig, Arc<rustls::sign::CertifiedKey>) {
    let terms = Terms::new(vec!["127.0.0.1".to_owned()]);
    let now = jiff::Timestamp::now().as_second();
    let fresh = certify(&terms, now).unwrap();
    let mut roots = RootCertStore::empty();
    let authorities = rustls::pki_types::pem::PemObject::pem_slice_iter(fresh.authority.as_bytes());
    roots.add_parsable_certificates(authorities.map(Result::unwrap));
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (config, Arc::new(fresh.pair.certified().unwrap()))
}

/// An API server that knows one IPAddress of ours and one of its own.
fn api(log: &Arc<Mutex<Vec<String>>>) -> Client {
    let log = Arc::clone(log);
    let answer = tower::service_fn(move |request: Request<Body>| {
        let (method, path) = (
            request.method().to_string(),
            request.uri().path().to_owned(),
        );
        log.lock().unwrap().push(format!("{method} {path}"));
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let managed = match name.as_str() {
            "10.96.0.7" => Some("portolan.dev"),
            "10.96.0.8" => Some("ipallocator.k8s.io"),
            _ => None,
        };
        let (code, body) = match managed {
            Some(by) => (
                200,
                json!({
                    "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                    "metadata": {
                        "name": name, "uid": "u", "resourceVersion": "5",
                        "labels": {"ipaddress.kubernetes.io/managed-by": by},
                    },
                    "spec": {"parentRef": {"resource": "addresspools", "name": "x"}},
                }),
            ),
            None => (
                404,
                json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "reason": "NotFound", "code": 404, "message": "not found",
                }),
            ),
        };
        async move {
            let reply = Response::builder()
                .status(code)
                .body(Body::from(body.to_string().into_bytes()));
            Ok::<_, tower::BoxError>(reply.unwrap())
        }
    });
    crate::shell::client_over(answer, "default")
}

async fn scene(limits: Limits, room: usize) -> Scene {
    let listener = run::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trusting, certified) = identity();
    let shown = Arc::<tls::Shown>::default();
    shown.set(certified);
    let (sender, questions) = mpsc::channel(room);
    let (state, metrics) = (sync::Sender::<State>::default(), Metrics::default());
    let log = Arc::<Mutex<Vec<String>>>::default();
    let server = server::Server {
        listener,
        acceptor: tls::acceptor(Arc::clone(&shown)).unwrap(),
        limits,
        questions: sender,
        client: api(&log),
        metrics: metrics.clone(),
        state: state.subscribe(),
    };
    Scene {
        address,
        connector: TlsConnector::from(Arc::new(trusting)),
        shown,
        state,
        metrics,
        server: tokio::spawn(server.serve()),
        questions: Some(questions),
        log,
    }
}

impl Scene {
    /// Answers every question like this.
    fn script(
        &mut self,
        answer: impl Fn(&Review) -> Option<Answer> + Send + 'static,
    ) -> JoinHandle<()> {
        let mut questions = self.questions.take().unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some(asked) = questions.recv().await {
                match answer(&asked.review) {
                    Some(answer) => drop(asked.answer.send(answer)),
                    None => kept.push(asked),
                }
            }
        })
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::from(self.address.ip());
        self.connector.connect(name, stream).await.unwrap()
    }

    async fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect().await;
        send(&mut stream, request.as_bytes()).await;
        reply(&mut stream).await
    }

    async fn review(&self, name: &str) -> Value {
        let (code, body) = self.ask(&post(PATH, &review(name).to_string())).await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

async fn send(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

/// One reply; the connection stays open.
async fn reply(stream: &mut TlsStream<TcpStream>) -> (u16, String) {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.unwrap().parse().unwrap() {
                return (head[9..12].parse().unwrap(), body.to_owned());
            }
        }
        let mut some = [0; 4096];
        let count = stream.read(&mut some).await.unwrap();
        assert!(count > 0, "closed after {text:?}");
        read.extend_from_slice(&some[..count]);
    }
}

/// Until the other side has closed.
async fn closed(stream: &mut TlsStream<TcpStream>) {
    let mut rest = Vec::new();
    let _reset = stream.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
}

fn page(scene: &Scene) -> String {
    let state = scene.state.subscribe();
    let page = crate::shell::metrics::Exposition::new(&scene.metrics, state, None);
    page.render().unwrap()
}

#[tokio::test]
async fn an_answer_comes_back_with_the_uid_and_the_patch_as_the_api_server_wants_them() {
    let mut scene = scene(Limits::default(), 8).await;
    let _engine = scene.script(|review| {
        let patch = json!({"op": "add", "path": "/spec/ports/0/nodePort", "value": 30_010});
        Some(match &*review.object.key.name {
            "given" => Answer::Allow {
                patch: vec![patch],
                warnings: vec!["look here".to_owned()],
                unreserve: Vec::new(),
            },
            "refused" => Answer::Deny {
                reason: Reason::PoolExhausted,
                message: "spec.ports[0].nodePort: pool team has none left".to_owned(),
            },
            _ => Answer::unchanged(),
        })
    });
    let given = scene.review("given").await;
    assert_eq!(given["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(given["kind"], "AdmissionReview");
    let response = &given["response"];
    assert_eq!(response["uid"], "uid-given");
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    assert_eq!(response["warnings"], json!(["look here"]));
    let patch: k8s_openapi::ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: Value = serde_json::from_slice(&patch.0).unwrap();
    assert_eq!(
        patch,
        json!([{"op": "add", "path": "/spec/ports/0/nodePort", "value": 30010}])
    );

    let refused = &scene.review("refused").await["response"];
    assert_eq!(refused["allowed"], false);
    assert_eq!(
        refused["status"],
        json!({
            "code": 422, "reason": "PoolExhausted",
            "message": "spec.ports[0].nodePort: pool team has none left",
        })
    );
    let other = &scene.review("other").await["response"];
    assert_eq!(
        (&other["allowed"], &other["patch"]),
        (&json!(true), &Value::Null)
    );
    let page = page(&scene);
    for outcome in ["Changed", "Refused", "Unchanged"] {
        let line = format!("portolan_admission_review_seconds_count{{outcome=\"{outcome}\"}} 1\n");
        assert!(page.contains(&line), "{page}");
    }
}

#[tokio::test]
async fn what_is_no_question_is_told_what_would_be_and_the_next_one_is_answered() {
    let limits = Limits {
        body: Duration::from_millis(200),
        ..Limits::default()
    };
    let mut scene = scene(limits, 8).await;
    let _engine = scene.script(|_| Some(Answer::unchanged()));
    let secret = review("secret").to_string();
    let with = |pointer: &str, value: Value| {
        let mut review = review("web");
        *review.pointer_mut(pointer).unwrap() = value;
        post(PATH, &review.to_string())
    };
    let mut status = review("web");
    status["request"]["subResource"] = json!("status");
    for (request, code, says) in [
        (post("/", &secret), 404, "/services"),
        (post("/services/", &secret), 404, "/services"),
        (
            "GET /services HTTP/1.1\r\nHost: webhook\r\n\r\n".to_owned(),
            405,
            "POST",
        ),
        (post(PATH, ""), 400, "AdmissionReview"),
        (post(PATH, &secret[..secret.len() - 9]), 400, "column"),
        (post(PATH, "{\"secret\": tru}"), 400, "line 1"),
        (post(PATH, "[]"), 400, "AdmissionReview"),
        (with("/kind", json!("Review")), 400, "services"),
        (
            with("/apiVersion", json!("admission.k8s.io/v1beta1")),
            400,
            "services",
        ),
        (
            with("/request/resource/resource", json!("pods")),
            400,
            "services",
        ),
        (post(PATH, &status.to_string()), 400, "subresource"),
        (with("/request/object/spec", json!("secret")), 400, "column"),
        // It says that there is more, and nothing comes.
        (
            post(PATH, &secret).replace("Content-Length: ", "Content-Length: 1"),
            408,
            "in time",
        ),
    ] {
        let (answered, text) = scene.ask(&request).await;
        assert_eq!(answered, code, "{request}: {text}");
        assert!(text.contains(says), "{request}: {text}");
        assert!(
            !text.contains("secret"),
            "{text}: of the object itself nothing is told"
        );
    }
    assert_eq!(scene.review("web").await["response"]["allowed"], true);
    assert!(
        page(&scene)
            .contains("portolan_admission_review_seconds_count{outcome=\"Malformed\"} 13\n")
    );
}

#[tokio::test]
async fn a_body_larger_than_the_api_server_takes_is_not_read() {
    let mut scene = scene(Limits::default(), 8).await;
    let _engine = scene.script(|_| Some(Answer::unchanged()));
    let mut huge = review("huge");
    huge["request"]["object"]["metadata"]["annotations"] = json!({"a": "x".repeat(4 << 20)});
    let mut stream = scene.connect().await;
    let request = post(PATH, &huge.to_string());
    // It may close while we still write.
    let writing = stream.write_all(&request.as_bytes()[..3_200_000]).await;
    let (code, text) = reply(&mut stream).await;
    assert_eq!(code, 413, "{writing:?} {text}");
    assert!(text.contains("3145728 bytes"), "{text}");
    let mut chunked = String::from(
        "POST /services HTTP/1.1\r\nHost: webhook\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    chunked += &format!("{:x}\r\n{}\r\n", 3_200_000, "x".repeat(3_200_000));
    assert_eq!(scene.ask(&chunked).await.0, 413);
    assert_eq!(scene.review("web").await["response"]["allowed"], true);
}

#[tokio::test]
async fn one_connection_serves_one_question_after_the_other_and_many_serve_many_at_once() {
    let mut scene = scene(Limits::default(), 64).await;
    let engine = scene.script(|_| Some(Answer::unchanged()));
    let mut stream = scene.connect().await;
    for number in 0..3 {
        let request = post(PATH, &review(&format!("s{number}")).to_string());
        send(&mut stream, request.as_bytes()).await;
        assert_eq!(reply(&mut stream).await.0, 200);
    }
    let names: Vec<String> = (0..64).map(|number| format!("n{number}")).collect();
    let answers = join_all(names.iter().map(|name| scene.review(name))).await;
    for (name, answer) in names.iter().zip(answers) {
        assert_eq!(answer["response"]["uid"], format!("uid-{name}"));
    }
    assert!(!engine.is_finished());
}

#[tokio::test]
async fn with_too_many_questions_or_no_answer_in_time_the_failure_policy_decides() {
    let limits = Limits {
        answer: Duration::from_millis(100),
        grace: Duration::from_millis(100),
        ..Limits::default()
    };
    let mut scene = scene(limits, 1).await;
    // Nobody takes the first, so that there is no room for a second.
    let request = post(PATH, &review("web").to_string());
    let both = futures::join!(scene.ask(&request), scene.ask(&request));
    let mut told = [both.0, both.1];
    told.sort();
    assert_eq!(told.clone().map(|(code, _)| code), [503, 503]);
    assert_eq!(told[0].1, "no answer in time\n");
    assert_eq!(told[1].1, "too many questions at once\n");
    // The engine knew until when.
    let first = scene.questions.as_mut().unwrap().recv().await.unwrap();
    assert!(first.deadline < Instant::now());
    drop(first);
    let _engine = scene.script(|_| None);
    assert_eq!(
        scene.ask(&request).await,
        (503, "no answer in time\n".to_owned())
    );
    let line = "portolan_admission_review_seconds_count{outcome=\"Unavailable\"} 3\n";
    assert!(page(&scene).contains(line));
}

#[tokio::test]
async fn of_too_many_connections_the_one_idle_longest_is_closed_and_none_that_waits_for_an_answer()
{
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let mut scene = scene(limits, 8).await;
    let mut questions = scene.questions.take().unwrap();
    let mut busy = scene.connect().await;
    let request = post(PATH, &review("busy").to_string());
    send(&mut busy, request.as_bytes()).await;
    let asked = questions.recv().await.unwrap();
    let mut idle = scene.connect().await;
    let mut third = scene.connect().await;
    closed(&mut idle).await;
    asked.answer.send(Answer::unchanged()).unwrap();
    assert_eq!(reply(&mut busy).await.0, 200);
    scene.questions = Some(questions);
    let _engine = scene.script(|_| Some(Answer::unchanged()));
    send(&mut third, request.as_bytes()).await;
    assert_eq!(reply(&mut third).await.0, 200);
}

#[tokio::test]
async fn whoever_says_nothing_is_let_go() {
    let limits = Limits {
        handshake: Duration::from_millis(50),
        headers: Duration::from_millis(50),
        ..Limits::default()
    };
    let scene = scene(limits, 8).await;
    let mut silent = TcpStream::connect(scene.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0, "no handshake");
    let mut half = scene.connect().await;
    send(&mut half, b"POST /services HTTP/1.1\r\nHost:").await;
    // Closed, with or without a word about it.
    let mut rest = Vec::new();
    let _reset = half.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_whoever_comes_and_nobody_who_is_there_notices() {
    let mut scene = scene(Limits::default(), 8).await;
    let _engine = scene.script(|_| Some(Answer::unchanged()));
    let mut before = scene.connect().await;
    let (trusting, certified) = identity();
    scene.shown.set(certified);
    let request = post(PATH, &review("web").to_string());
    send(&mut before, request.as_bytes()).await;
    assert_eq!(reply(&mut before).await.0, 200);
    let stream = TcpStream::connect(scene.address).await.unwrap();
    let name = ServerName::from(scene.address.ip());
    assert!(
        scene.connector.connect(name, stream).await.is_err(),
        "it trusts the old one only"
    );
    scene.connector = TlsConnector::from(Arc::new(trusting));
    assert_eq!(scene.review("web").await["response"]["allowed"], true);
}

#[tokio::test]
async fn on_its_way_out_it_answers_who_has_asked_and_lets_nobody_else_in() {
    let mut scene = scene(Limits::default(), 8).await;
    let mut questions = scene.questions.take().unwrap();
    let mut idle = scene.connect().await;
    let mut stream = scene.connect().await;
    let request = post(PATH, &review("web").to_string());
    send(&mut stream, request.as_bytes()).await;
    let asked = questions.recv().await.unwrap();
    scene.state.send_modify(|state| state.draining = true);
    closed(&mut idle).await;
    while TcpStream::connect(scene.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    asked.answer.send(Answer::unchanged()).unwrap();
    assert_eq!(reply(&mut stream).await.0, 200);
    closed(&mut stream).await;
    let end = timeout(Duration::from_secs(10), questions.recv()).await;
    assert!(
        end.unwrap().is_none(),
        "the engine learns that nobody asks any more"
    );
    assert!(!scene.server.is_finished(), "it ends with the process");
}

#[tokio::test]
async fn only_our_own_reservations_are_taken_away_before_the_answer() {
    let mut scene = scene(Limits::default(), 8).await;
    let _engine = scene.script(|_| {
        Some(Answer::Allow {
            patch: Vec::new(),
            warnings: Vec::new(),
            unreserve: ["10.96.0.7", "10.96.0.8", "10.96.0.9"]
                .map(|ip| ip.parse().unwrap())
                .into(),
        })
    });
    assert_eq!(scene.review("web").await["response"]["allowed"], true);
    let log = scene.log.lock().unwrap().clone();
    let deleted: Vec<&String> = log
        .iter()
        .filter(|line| line.starts_with("DELETE"))
        .collect();
    assert_eq!(
        deleted,
        ["DELETE /apis/networking.k8s.io/v1/ipaddresses/10.96.0.7"],
        "{log:?}"
    );
}

#[test]
fn a_question_about_what_cannot_be_judged_lets_it_go_on_as_it_is() {
    let mut none = review("web");
    none["request"]["object"] = Value::Null;
    none["request"]["operation"] = json!("DELETE");
    let question = question(1, none.to_string().as_bytes()).unwrap();
    assert!(question.review.is_none());
    assert_eq!(question.uid, "uid-web");
}

#[test]
fn what_has_no_name_yet_says_of_what_it_will_be_made() {
    let mut nameless = review("web");
    nameless["request"]["name"] = json!("");
    nameless["request"]["dryRun"] = json!(true);
    nameless["request"]["object"]["metadata"] = json!({"generateName": "web-"});
    let review = question(7, nameless.to_string().as_bytes())
        .unwrap()
        .review
        .unwrap();
    assert_eq!(review.id, 7);
    assert_eq!(&*review.call, "uid-web");
    assert!(
        review.object.key.name.starts_with("web-*"),
        "no Service can have that name"
    );
    assert_eq!(&*review.object.key.namespace, "shop");
    assert!(review.dry_run);
    assert!(review.old.is_none());
}

#[test]
fn a_fault_has_no_word_of_the_object_in_it() {
    let secret =
        r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": "secret"}"#;
    let Err(Fault::Syntax { line: 1, column }) = question(1, secret.as_bytes()) else {
        panic!("it was understood");
    };
    assert!(column > 0);
}
