//! How AWS is reached: region, credentials, VPC, TLS. All of it by AWS's own default chain, so that
//! IRSA, Pod Identity, profiles, the environment and instance roles work as everywhere.
//!
//! The SDK never retries a call of ours: its retries would not pass the buckets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_config::{AppName, BehaviorVersion, Region, imds, provider_config::ProviderConfig};
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};

use super::{Cloud, Error, Inner, Limits, Purpose, TIMEOUT, account, call, network, throttle};

/// Shown in AWS's logs (CloudTrail: `userAgent`).
const APP_NAME: &str = "portolan";
/// AWS's own default.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);

/// What is told to [`Cloud::connect`].
#[derive(Clone, PartialEq)]
pub struct Connect {
    /// The cluster's name, as tags have it.
    pub cluster: String,
    /// `eu-central-1`; `None`: from AWS's chain (environment, profile, instance metadata).
    pub region: Option<String>,
    /// `vpc-…`; `None`: that of the instance we run on.
    pub vpc: Option<String>,
    /// A URL instead of AWS's, http or https: for tests and VPC endpoints. Both services use it.
    pub endpoint: Option<String>,
    /// How fast AWS is asked.
    pub limits: Limits,
    /// Key id and secret instead of AWS's chain: for tests, whose AWS takes any.
    pub keys: Option<(String, String)>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("cluster", &self.cluster)
            .field("region", &self.region)
            .field("vpc", &self.vpc)
            .field("endpoint", &self.endpoint)
            .field("limits", &self.limits)
            .finish_non_exhaustive() // no secrets in logs
    }
}

impl Connect {
    /// Everything from the chain.
    #[must_use]
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            region: None,
            vpc: None,
            endpoint: None,
            limits: Limits::default(),
            keys: None,
        }
    }
}

impl Cloud {
    /// Finds region and VPC. Whether the credentials are good shows with the first call.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no region or no VPC is given, and none can be found.
    pub async fn connect(connect: Connect) -> Result<Self, Error> {
        // ring, as in kube: two crypto providers in one process leave rustls without a default.
        let ring = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = Builder::new().tls_provider(ring).build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_timeout(TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.clone())
            .timeout_config(timeouts);
        if let Ok(name) = AppName::new(APP_NAME) {
            loader = loader.app_name(name);
        }
        if let Some(region) = connect.region {
            loader = loader.region(Region::new(region));
        }
        if let Some(endpoint) = connect.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some((id, secret)) = connect.keys {
            let keys = aws_sdk_ec2::config::Credentials::new(id, secret, None, None, "given");
            loader = loader.credentials_provider(keys);
        }
        let config = loader.load().await;
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(Error::Invalid {
                message: "no AWS region is given and none is found in the environment, the \
                    profile or the instance metadata: set the region"
                    .to_owned(),
            });
        };
        let vpc = match connect.vpc {
            Some(vpc) => vpc,
            None => own_vpc(&ProviderConfig::without_region().with_http_client(http)).await?,
        };
        // Only here: whoever fetches credentials (STS, IMDS) keeps the SDK's retries.
        let elb = aws_sdk_elasticloadbalancingv2::config::Builder::from(&config)
            .retry_config(RetryConfig::disabled())
            .build();
        let ec2 = aws_sdk_ec2::config::Builder::from(&config)
            .retry_config(RetryConfig::disabled())
            .build();
        let inner = Inner {
            elb: aws_sdk_elasticloadbalancingv2::Client::from_conf(elb),
            ec2: aws_sdk_ec2::Client::from_conf(ec2),
            region,
            vpc,
            cluster: connect.cluster,
            throttle: throttle::Throttle::new(&connect.limits, Instant::now()),
            counters: call::Counters::default(),
            account: account::Shared::default(),
            networks: network::Kept::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            purpose: Purpose::Change,
        })
    }
}

/// The VPC of the instance we run on. Pods reach the metadata service only with a hop limit of 2 or
/// on the host's network.
async fn own_vpc(config: &ProviderConfig) -> Result<String, Error> {
    let client = imds::Client::builder()
        .configure(config)
        .max_attempts(2)
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_secs(1))
        .build();
    let unknown = |error: imds::client::error::ImdsError| Error::Invalid {
        message: format!(
            "no VPC is given and the instance metadata does not tell ({error}): set the VPC"
        ),
    };
    let mac = client.get("/latest/meta-data/mac").await.map_err(unknown)?;
    let mac = mac.as_ref().trim();
    let path = format!("/latest/meta-data/network/interfaces/macs/{mac}/vpc-id");
    let vpc = client.get(path).await.map_err(unknown)?;
    Ok(vpc.as_ref().trim().to_owned())
}
