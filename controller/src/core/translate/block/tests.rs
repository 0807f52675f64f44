use model::{Port, Protocol};
use proptest::{collection::vec, option, prelude::*};
use serde_json::json;

use super::*;
use crate::core::translate::tests::read;

fn named(name: &str, spec: AllocationBlockSpec) -> Result<BlockRecord, Rejection> {
    let mut object = crds::AllocationBlock::new(name, spec);
    object.metadata.uid = Some("u".to_owned());
    object.metadata.resource_version = Some("7".to_owned());
    block(&object)
}

const HELD: &str = "203.0.113.7 LoadBalancer shop/web u1 5";
const RETAINED: &str = "203.0.113.8 Retained shop/old 9";

fn claims_of(claims: &[&str]) -> Result<Claims, Rejection> {
    let spec = read(
        json!({"formatVersion": 2, "sequence": 3, "writer": "w", "claims": claims.join("\n")}),
    );
    named("v4-203-0-113-0", spec).unwrap().claims
}

#[test]
fn a_block_becomes_claims() {
    let found = claims_of(&[HELD, RETAINED]);
    let number = |text| Number::parse(Space::V4, text).unwrap();
    let held = Holder {
        service: ServiceKey::new("shop", "web"),
        uid: Uid::from("u1"),
        usage: Use::LoadBalancer,
        at: "5".into(),
        sharing: None,
    };
    let retained = Claim::Retained {
        owner: ServiceKey::new("shop", "old"),
        until: 9,
    };
    let wanted = Claims::from([
        (number("203.0.113.7"), Claim::Held(vec![held])),
        (number("203.0.113.8"), retained),
    ]);
    assert_eq!(found, Ok(wanted));
}

#[test]
fn a_damaged_block_is_not_read_at_all_and_says_where() {
    let rows = [
        (
            "203.0.113.9",
            "spec.claims, line 4, has no kind; correct or remove the line",
        ),
        ("203.0.113.9 LoadBalancer", "line 4, has no Service"),
        (
            "203.0.113.9 LoadBalancer shop/web",
            "line 4, has no uid or time",
        ),
        ("203.0.113.9 LoadBalancer shop/web ", "line 4, has no uid"),
        (
            "203.0.113.9 LoadBalancer shop/web u2",
            "line 4, has no resourceVersion",
        ),
        (
            "203.0.113.9 LoadBalancer shop/web u2 ",
            "line 4, has no resourceVersion",
        ),
        (
            "banana LoadBalancer shop/web u2 5",
            "line 4, is of \"banana\", which is not an IPv4 address",
        ),
        (
            "2001:db8::1 LoadBalancer shop/web u2 5",
            "\"2001:db8::1\", which is not an IPv4 address",
        ),
        (
            "203.0.114.7 LoadBalancer shop/web u2 5",
            "203.0.114.7, which is not one of this block",
        ),
        (
            "203.0.113.9 LoadBalancer web u2 5",
            "is of \"web\", which is not NAMESPACE/NAME",
        ),
        (
            "203.0.113.9 LoadBalancer /web u2 5",
            "is of \"/web\", which is not NAMESPACE/NAME",
        ),
        (
            "203.0.113.9 NodePort shop/web u2 5",
            "is a NodePort, which does not fit such a number",
        ),
        (
            "203.0.113.9 Pod shop/web u2 5",
            "is of the unknown kind \"Pod\"",
        ),
        (
            "203.0.113.9 Retained shop/web soon",
            "is until \"soon\", which is not a time",
        ),
        (
            "203.0.113.9 Retained shop/web 9 9",
            "is until \"9 9\", which is not a time",
        ),
        (
            "203.0.113.7 Retained shop/web 9",
            "is of a number that another line has",
        ),
        (
            "203.0.113.8 Retained shop/old 9",
            "is of a number that another line has",
        ),
        (
            "203.0.113.8 LoadBalancer shop/web u1 5",
            "is of a number that another line retains",
        ),
        (HELD, "is the second of uid \"u1\" for LoadBalancer"),
        (
            "203.0.113.9 LoadBalancer shop/web u2 5 yes",
            "has terms of sharing that cannot be read (expected value at line 1 column 1)",
        ),
        (
            r#"203.0.113.9 LoadBalancer shop/web u2 5 {"key":"k","policy":"Near"}"#,
            "has the policy \"Near\", neither Cluster nor Local",
        ),
        (
            r#"203.0.113.9 LoadBalancer shop/web u2 5 {"key":"k","policy":"Local","ports":["80"]}"#,
            "has a port that is not like TCP/80",
        ),
    ];
    for (line, text) in rows {
        let rejection = claims_of(&[HELD, RETAINED, "", line]).unwrap_err();
        assert_eq!(rejection.reason, Reason::LedgerDamaged);
        let block = "AllocationBlock v4-203-0-113-0: spec.claims, line ";
        assert!(rejection.message.starts_with(block));
        assert!(rejection.message.contains(text), "{}", rejection.message);
    }
}

#[test]
fn what_a_newer_version_adds_to_the_terms_of_sharing_does_no_harm() {
    let line = r#"203.0.113.9 LoadBalancer shop/web u2 5 {"key":"k","policy":"Local","weight":1}"#;
    assert!(claims_of(&[HELD, line]).is_ok());
}

#[test]
fn a_block_of_another_format_is_left_alone() {
    let spec = AllocationBlockSpec {
        format_version: 3,
        ..AllocationBlockSpec::default()
    };
    let rejection = named("port-30208", spec).unwrap().claims.unwrap_err();
    assert_eq!(
        rejection.message,
        "AllocationBlock port-30208: spec.formatVersion 3 is not 2, the one this version of \
         Portolan reads: run the version that wrote it"
    );
}

#[test]
fn a_name_that_is_not_that_of_a_block_is_refused() {
    for name in [
        "banana",
        "v4-203-0-113-7",
        "v6-2001-db8",
        "port-1",
        "v4-203-0-113-0-x",
    ] {
        let rejection = named(name, AllocationBlockSpec::default()).unwrap_err();
        assert_eq!(rejection.reason, Reason::LedgerDamaged, "{name}");
    }
}

fn any_holder(space: Space, index: usize) -> impl Strategy<Value = Holder> {
    let usage = if space == Space::Port {
        [Use::NodePort, Use::HealthCheckNodePort]
    } else {
        [Use::LoadBalancer, Use::ClusterIp]
    };
    let key = ("[a-z]{1,5}", "[a-z]{1,5}");
    let port = (any::<bool>(), 1..=u16::MAX).prop_map(|(tcp, number)| Port {
        protocol: if tcp { Protocol::Tcp } else { Protocol::Sctp },
        number,
    });
    let terms = (
        "(?s).{1,8}",
        vec("[a-z]{1,5}", 0..3),
        vec(port, 0..4),
        any::<bool>(),
        "(?s).{0,9}",
    );
    let sharing = terms.prop_map(|(key, with, ports, local, backend)| {
        Sharing::from(Terms {
            key: key.into(),
            with: with.into_iter().map(Arc::from).collect(),
            ports,
            policy: if local {
                TrafficPolicy::Local
            } else {
                TrafficPolicy::Cluster
            },
            backend: backend.into(),
        })
    });
    (key, any::<bool>(), "[0-9]{1,9}", option::of(sharing)).prop_map(
        move |((namespace, name), second, at, sharing)| Holder {
            service: ServiceKey::new(&namespace, &name),
            uid: Uid::from(format!("uid-{index}").as_str()),
            usage: usage[usize::from(second)],
            at: at.into(),
            sharing,
        },
    )
}

fn any_claim(space: Space) -> impl Strategy<Value = Claim> {
    let holders = (any_holder(space, 0), option::of(any_holder(space, 1)))
        .prop_map(|(first, second)| Claim::Held(std::iter::once(first).chain(second).collect()));
    let retained = (
        "[a-z]{1,5}",
        "[a-z]{1,5}(-\\*[a-z0-9-]{1,9})?",
        any::<i64>(),
    )
        .prop_map(|(namespace, name, until)| Claim::Retained {
            owner: ServiceKey::new(&namespace, &name),
            until,
        });
    prop_oneof![holders, retained]
}

fn any_block() -> impl Strategy<Value = (BlockId, Claims)> {
    let space = prop_oneof![Just(Space::V4), Just(Space::V6), Just(Space::Port)];
    (space, any::<u128>()).prop_flat_map(|(space, value)| {
        let value = value % space.last();
        let id = BlockId::of(Number { space, value });
        let offset = 0..=(id.last().value - id.first().value);
        vec((offset, any_claim(space)), 0..12).prop_map(move |claims| {
            let number = |offset| Number {
                space,
                value: id.first().value + offset,
            };
            let claims = claims
                .into_iter()
                .map(|(offset, claim)| (number(offset), claim));
            (id, claims.collect())
        })
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_as_it_was((id, claims) in any_block(), sequence in 0..i64::MAX) {
        let spec = block_spec(id, &claims, sequence, "portolan-0");
        let through_json = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
        prop_assert_eq!(&spec, &through_json);
        let record = named(&id.name(), through_json).unwrap();
        prop_assert_eq!(record.id, id);
        prop_assert_eq!(record.sequence, sequence);
        prop_assert_eq!(&*record.writer, "portolan-0");
        prop_assert_eq!(record.claims, Ok(claims));
    }
}

#[test]
fn a_number_of_another_block_is_never_written() {
    let number = Number::port(30000);
    let retained = Claim::Retained {
        owner: ServiceKey::new("a", "b"),
        until: 1,
    };
    let id = BlockId::of(Number::port(80));
    let spec = block_spec(id, &Claims::from([(number, retained)]), 1, "w");
    assert_eq!(spec.claims, "");
}
