//! The options of `portolan controller` about the admission webhook.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use controller::{
    core::hook::Target,
    shell::{Certificates, SecretName, Webhook},
};

/// The port of the Service by which the API server finds the webhook.
const PORT: u16 = 443;

/// How the API server may ask before it stores a Service; without an address it does not.
#[derive(Args)]
pub(crate) struct WebhookArguments {
    /// Where the admission webhook is served, by HTTPS.
    #[arg(long, value_name = "IP:PORT", requires = "target")]
    webhook_address: Option<SocketAddr>,
    #[command(flatten)]
    target: TargetArguments,
    /// The MutatingWebhookConfiguration to fill in; it must be there and have the label
    /// portolan.dev/webhook=services, as the chart's has.
    #[arg(long, default_value = "portolan", value_name = "NAME")]
    webhook_configuration: String,
    /// Which Secret, in the Lease's namespace, to keep the webhook's certificate in; made if there is
    /// none.
    #[arg(long, default_value = "portolan-webhook", value_name = "NAME")]
    webhook_secret: String,
    /// A folder with tls.crt, tls.key and ca.crt that somebody else keeps, cert-manager for example;
    /// then no Secret is made.
    #[arg(long, value_name = "FOLDER")]
    webhook_certificates: Option<PathBuf>,
}

/// Where the API server finds the webhook.
#[derive(Args)]
#[group(id = "target", multiple = false)]
struct TargetArguments {
    /// The Service by which the API server finds the webhook, on port 443.
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "webhook_address", value_parser = service)]
    webhook_service: Option<Target>,
    /// The address at which it finds it, for a controller outside the cluster.
    #[arg(long, value_name = "https://HOST:PORT", requires = "webhook_address", value_parser = url)]
    webhook_url: Option<Target>,
}

fn service(text: &str) -> Result<Target, String> {
    let (namespace, name) = (text.split_once('/'))
        .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        .ok_or("write its namespace and its name, for example portolan-system/portolan-webhook")?;
    Ok(Target::Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port: PORT,
    })
}

fn url(text: &str) -> Result<Target, String> {
    let target = Target::Url(text.trim_end_matches('/').to_owned());
    let rest = text.strip_prefix("https://").unwrap_or_default();
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#', '@']) || target.host().is_empty() {
        return Err("write a host and a port, for example https://192.0.2.1:9443".to_owned());
    }
    Ok(target)
}

impl WebhookArguments {
    /// `namespace` is Portolan's own.
    pub(crate) fn webhook(self, namespace: &str) -> Option<Webhook> {
        let TargetArguments {
            webhook_service,
            webhook_url,
        } = self.target;
        let (address, target) = self.webhook_address.zip(webhook_service.or(webhook_url))?;
        let secret = SecretName {
            namespace: namespace.to_owned(),
            name: self.webhook_secret,
        };
        let certificates = match self.webhook_certificates {
            Some(folder) => Certificates::Files(folder),
            None => Certificates::own(secret, &target),
        };
        Some(Webhook {
            address,
            target,
            namespace: namespace.to_owned(),
            certificates,
            configuration: self.webhook_configuration,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_finds_it_by_a_service_or_an_address() {
        let target = service("portolan-system/portolan-webhook").unwrap();
        assert_eq!(target.host(), "portolan-webhook.portolan-system.svc");
        for wrong in ["", "portolan", "/portolan", "portolan/"] {
            assert!(service(wrong).is_err(), "{wrong}");
        }
        for (text, host) in [
            ("https://192.0.2.1:9443", "192.0.2.1"),
            ("https://[2001:db8::1]:9443/", "2001:db8::1"),
            ("https://hook.example.com", "hook.example.com"),
        ] {
            assert_eq!(url(text).unwrap().host(), host);
        }
        for wrong in [
            "",
            "https://",
            "http://192.0.2.1",
            "https://host/path",
            "https://user@host",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
