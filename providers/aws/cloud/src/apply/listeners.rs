//! Steps on listeners.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Certificate, ForwardActionConfig, ListenerAttribute, ProtocolEnum,
    TargetGroupTuple,
};

use super::{
    super::{Cloud, Error, Operation, account::Change, convert},
    keys, no_arn,
};
use aws::wanted::{Listener, Protocol, Tags};

/// A listener that is to be made.
pub(super) struct New<'a> {
    pub(super) load_balancer: &'a str,
    pub(super) port: u16,
    pub(super) listener: &'a Listener,
    pub(super) forward: BTreeMap<String, u32>,
}

/// One target group in the plain form that every listener takes; more with their weights.
fn action(forward: &BTreeMap<String, u32>) -> Action {
    let action = Action::builder().r#type(ActionTypeEnum::Forward);
    let mut arns = forward.keys();
    if let (Some(only), None) = (arns.next(), arns.next()) {
        return action.target_group_arn(only).build();
    }
    let tuples = forward.iter().map(|(arn, weight)| {
        let tuple = TargetGroupTuple::builder().target_group_arn(arn);
        tuple.weight(convert::signed(*weight)).build()
    });
    let config = ForwardActionConfig::builder();
    let config = config.set_target_groups(Some(tuples.collect())).build();
    action.forward_config(config).build()
}

fn certificate(arn: &str) -> Certificate {
    Certificate::builder().certificate_arn(arn).build()
}

/// The default one; further ones have calls of their own.
fn default_certificate(wanted: &Listener) -> Option<Vec<Certificate>> {
    let tls = wanted.protocol == Protocol::Tls;
    let first = wanted.certificates.first().filter(|_| tls)?;
    Some(vec![certificate(first)])
}

fn ssl_policy(wanted: &Listener) -> Option<String> {
    let tls = wanted.protocol == Protocol::Tls;
    wanted.ssl_policy.clone().filter(|_| tls)
}

impl Cloud {
    pub(super) async fn create_listener(
        &self,
        new: &New<'_>,
        tags: &Tags,
    ) -> Result<String, Error> {
        let wanted = new.listener;
        let tls = wanted.protocol == Protocol::Tls;
        let alpn = wanted.alpn.clone().filter(|_| tls);
        let answer = self
            .call(Operation::CreateListener, || {
                let call = self.inner.elb.create_listener();
                call.load_balancer_arn(new.load_balancer)
                    .port(i32::from(new.port))
                    .protocol(ProtocolEnum::from(wanted.protocol.as_str()))
                    .default_actions(action(&new.forward))
                    .set_certificates(default_certificate(wanted))
                    .set_ssl_policy(ssl_policy(wanted))
                    .set_alpn_policy(alpn.clone().map(|policy| vec![policy]))
                    .set_tags(Some(convert::elb_tags(tags)))
                    .send()
            })
            .await;
        let arn = match answer {
            Ok(made) => {
                let made = made.listeners().first();
                let arn = made.and_then(|made| made.listener_arn());
                arn.ok_or_else(|| no_arn("a listener"))?.to_owned()
            }
            Err(Error::Duplicate { message }) => {
                let all = self.describe_listeners(new.load_balancer).await?;
                let found = all
                    .iter()
                    .filter_map(convert::listener)
                    .find(|(port, _)| *port == new.port);
                let Some((_, found)) = found else {
                    return Err(Error::Duplicate { message });
                };
                self.ours(&found.arn, tags, &message).await?;
                self.modify_listener(&found.arn, new.port, wanted, &new.forward)
                    .await?;
                found.arn
            }
            Err(error) => return Err(error),
        };
        let load_balancer = new.load_balancer.to_owned();
        self.note(Change::Forwards(load_balancer, keys(&new.forward)));
        Ok(arn)
    }

    /// A listener that was found where ours should be: on a load balancer that is shared with
    /// others its tags decide, as for everything else.
    async fn ours(&self, arn: &str, wanted: &Tags, message: &str) -> Result<(), Error> {
        let tags = self.tags_of_one(arn).await?;
        if self.same_stack(&tags, wanted) {
            return Ok(());
        }
        Err(Error::Duplicate {
            message: message.to_owned(),
        })
    }

    pub(super) async fn modify_listener(
        &self,
        arn: &str,
        port: u16,
        wanted: &Listener,
        forward: &BTreeMap<String, u32>,
    ) -> Result<(), Error> {
        // Left out it would stay as it is.
        let alpn = match wanted.protocol {
            Protocol::Tls => Some(vec![
                wanted.alpn.clone().unwrap_or_else(|| "None".to_owned()),
            ]),
            Protocol::Tcp | Protocol::Udp | Protocol::TcpUdp => None,
        };
        self.call(Operation::ModifyListener, || {
            let call = self.inner.elb.modify_listener().listener_arn(arn);
            call.port(i32::from(port))
                .protocol(ProtocolEnum::from(wanted.protocol.as_str()))
                .default_actions(action(forward))
                .set_certificates(default_certificate(wanted))
                .set_ssl_policy(ssl_policy(wanted))
                .set_alpn_policy(alpn.clone())
                .send()
        })
        .await?;
        if let Some(load_balancer) = load_balancer_of(arn) {
            self.note(Change::Forwards(load_balancer, keys(forward)));
        }
        Ok(())
    }

    pub(super) async fn modify_listener_attributes(
        &self,
        arn: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(key, value)| {
                let attribute = ListenerAttribute::builder();
                attribute.key(key).value(value).build()
            })
            .collect();
        self.call(Operation::ModifyListenerAttributes, || {
            let call = self.inner.elb.modify_listener_attributes();
            call.listener_arn(arn)
                .set_attributes(Some(attributes.clone()))
                .send()
        })
        .await?;
        Ok(())
    }

    pub(super) async fn add_certificates(&self, arn: &str, more: &[String]) -> Result<(), Error> {
        let certificates: Vec<_> = more.iter().map(|arn| certificate(arn)).collect();
        self.call(Operation::AddListenerCertificates, || {
            let call = self.inner.elb.add_listener_certificates().listener_arn(arn);
            call.set_certificates(Some(certificates.clone())).send()
        })
        .await?;
        Ok(())
    }

    pub(super) async fn remove_certificates(
        &self,
        arn: &str,
        less: &[String],
    ) -> Result<(), Error> {
        let certificates: Vec<_> = less.iter().map(|arn| certificate(arn)).collect();
        let answer = self
            .call(Operation::RemoveListenerCertificates, || {
                let call = self.inner.elb.remove_listener_certificates();
                call.listener_arn(arn)
                    .set_certificates(Some(certificates.clone()))
                    .send()
            })
            .await;
        match answer {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Which target groups lose it shows with the next look.
    pub(super) async fn delete_listener(&self, arn: &str) -> Result<(), Error> {
        let answer = self
            .call(Operation::DeleteListener, || {
                self.inner.elb.delete_listener().listener_arn(arn).send()
            })
            .await;
        self.gone(arn, answer.map(drop))
    }
}

/// `…:listener/net/NAME/ID/LISTENER` belongs to `…:loadbalancer/net/NAME/ID`.
fn load_balancer_of(listener: &str) -> Option<String> {
    let (front, _) = listener.rsplit_once('/')?;
    let (before, after) = front.split_once(":listener/")?;
    Some(format!("{before}:loadbalancer/{after}"))
}

#[cfg(test)]
mod tests {
    use super::load_balancer_of;

    #[test]
    fn the_arn_of_a_listener_tells_its_load_balancer() {
        let listener = "arn:aws:elasticloadbalancing:eu-central-1:1:listener/net/web/50dc/f2f7";
        let load_balancer = "arn:aws:elasticloadbalancing:eu-central-1:1:loadbalancer/net/web/50dc";
        assert_eq!(load_balancer_of(listener).as_deref(), Some(load_balancer));
        assert_eq!(load_balancer_of("arn:aws:elasticloadbalancing"), None);
    }
}
