//! The query protocol of EC2, ELBv2 and IAM as far as tests need it: a form goes out, XML comes
//! back and is searched by element name. It signs nothing, moto verifies nothing.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::REGION;

/// Whom a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// EC2, API version 2016-11-15.
    Ec2,
    /// Elastic Load Balancing v2, API version 2015-12-01.
    Elbv2,
    /// IAM, API version 2010-05-08; and in the log of the proxy whatever is neither of the above.
    Iam,
}

impl Service {
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Ec2 => ("ec2", "2016-11-15"),
            Self::Elbv2 => ("elasticloadbalancing", "2015-12-01"),
            Self::Iam => ("iam", "2010-05-08"),
        }
    }

    /// By the service of the SigV4 credential scope, else by the API version.
    pub(crate) fn of(authorization: Option<&str>, version: Option<&str>) -> Self {
        let scope = authorization
            .and_then(|text| text.split_once("Credential="))
            .and_then(|(_, scope)| scope.split('/').nth(3));
        let by = |service: &Self| {
            let (name, number) = service.names();
            scope.map_or(version == Some(number), |scope| scope == name)
        };
        let services = [Self::Ec2, Self::Elbv2];
        services.into_iter().find(by).unwrap_or(Self::Iam)
    }
}

/// Why there is no reply: the connection was refused, or ended before one came.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// No connection.
    #[error("connect to 127.0.0.1:{port}: {source}")]
    Connect {
        /// Of whom.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// A connection, but no whole reply.
    #[error("no reply from 127.0.0.1:{port}: {source}")]
    Reply {
        /// Of whom.
        port: u16,
        /// What hyper said.
        source: hyper::Error,
    },
    /// The request is none.
    #[error("request: {0}")]
    Request(#[from] http::Error),
}

/// One request on a connection of its own.
pub(crate) async fn send(
    port: u16,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, Failed> {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .map_err(|source| Failed::Connect { port, source })?;
    let no_reply = |source| Failed::Reply { port, source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(no_reply)?;
    let connection = tokio::spawn(connection);
    let (parts, body) = sender
        .send_request(request)
        .await
        .map_err(no_reply)?
        .into_parts();
    let body = body.collect().await.map_err(no_reply)?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(parts, body))
}

/// A client of the query protocol.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    port: u16,
}

impl Query {
    pub(crate) const fn on(port: u16) -> Self {
        Self { port }
    }

    /// Calls an action with parameters such as `("Targets.member.1.Id", "i-1")`.
    ///
    /// # Errors
    ///
    /// When no reply comes; an error of AWS is a [`Reply`].
    pub async fn call(
        &self,
        service: Service,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Reply, Failed> {
        let (name, version) = service.names();
        let scope = format!("test/20260101/{REGION}/{name}/aws4_request");
        let signed =
            format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action)
            .append_pair("Version", version)
            .extend_pairs(parameters);
        self.post("/", Some(&signed), form.finish()).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        authorization: Option<&str>,
        form: String,
    ) -> Result<Reply, Failed> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, format!("127.0.0.1:{}", self.port))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = send(self.port, request.body(Full::from(form))?).await?;
        Ok(Reply {
            status: response.status(),
            body: String::from_utf8_lossy(response.body()).into_owned(),
        })
    }
}

/// What AWS said.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Of HTTP.
    pub status: StatusCode,
    /// XML.
    pub body: String,
}

impl Reply {
    /// The text of each element of that name that holds no other, in order.
    #[must_use]
    pub fn all(&self, element: &str) -> Vec<String> {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let body = self
            .body
            .replace(&format!("<{element}/>"), &format!("{open}{close}"));
        let texts = body.split(&open).skip(1);
        let texts = texts.filter_map(|rest| rest.split(&close).next());
        let unescape = |text: &str| {
            text.replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&amp;", "&")
        };
        texts
            .filter(|text| !text.contains('<'))
            .map(unescape)
            .collect()
    }

    /// The text of the first such element, or nothing.
    #[must_use]
    pub fn first(&self, element: &str) -> Option<String> {
        self.all(element).into_iter().next()
    }

    /// The code of an error, such as `TooManyTargets`.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        (!self.status.is_success())
            .then(|| self.first("Code"))
            .flatten()
    }
}
