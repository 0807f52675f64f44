use model::{Port, Protocol};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::core::translate::tests::read;

fn named(name: &str, spec: AllocationBlockSpec) -> Result<BlockRecord, Rejection> {
    let mut object = crds::AllocationBlock::new(name, spec);
    object.metadata.uid = Some("u".to_owned());
    object.metadata.resource_version = Some("7".to_owned());
    block(&object)
}

fn holder() -> Value {
    json!({"namespace": "shop", "name": "web", "uid": "u1", "kind": "LoadBalancer", "at": "5"})
}

fn with(holder: Value, key: &str, value: Value) -> Value {
    let mut holder = holder;
    holder[key] = value;
    holder
}

fn claims_of(claims: Value) -> Result<Claims, Rejection> {
    let spec = read(json!({"formatVersion": 1, "sequence": 3, "writer": "w", "claims": claims}));
    named("v4-203-0-113-0", spec).unwrap().claims
}

#[test]
fn a_block_becomes_claims() {
    let found = claims_of(json!([
        {"number": "203.0.113.7", "holders": [holder()]},
        {"number": "203.0.113.8", "retained": {"namespace": "shop", "name": "old", "until": 9}},
    ]));
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
    let claim = |number: &str, holder: Value| json!([{"number": number, "holders": [holder]}]);
    let sharing = |policy: &str, port: &str| json!({"key": "k", "policy": policy, "ports": [port]});
    const IP: &str = "203.0.113.7";
    let retained = json!({"namespace": "shop", "name": "old", "until": 9});
    let rows = [
        (
            claim("banana", holder()),
            "spec.claims[0].number \"banana\" is not an IPv4 address; correct or remove the entry",
        ),
        (
            claim("2001:db8::1", holder()),
            ".number \"2001:db8::1\" is not an IPv4 address",
        ),
        (
            claim("203.0.114.7", holder()),
            "[0].number 203.0.114.7 is not one of this block's",
        ),
        (
            json!([{"number": IP, "holders": [holder()]}, {"number": IP, "retained": retained}]),
            "spec.claims[1].number 203.0.113.7 is there twice; remove the wrong entry",
        ),
        (
            json!([{"number": IP}]),
            "spec.claims[0] has neither holders nor retained",
        ),
        (
            json!([{"number": IP, "holders": [holder()], "retained": retained}]),
            "spec.claims[0] has both holders and retained",
        ),
        (
            json!([{"number": IP, "retained": {"namespace": "", "name": "x", "until": 1}}]),
            "spec.claims[0].retained has no namespace or no name",
        ),
        (
            claim(IP, with(holder(), "name", json!(""))),
            ".holders[0] has no namespace or no name",
        ),
        (
            claim(IP, with(holder(), "uid", json!(""))),
            ".holders[0] has no uid",
        ),
        (
            claim(IP, with(holder(), "at", json!(""))),
            ".holders[0] has no at",
        ),
        (
            claim(IP, with(holder(), "kind", json!("NodePort"))),
            ".holders[0].kind NodePort does not fit such a number",
        ),
        (
            json!([{"number": IP, "holders": [holder(), holder()]}]),
            ".holders[1] is the second of uid \"u1\" for LoadBalancer",
        ),
        (
            claim(IP, with(holder(), "sharing", sharing("Near", "TCP/80"))),
            ".holders[0].sharing.policy \"Near\" is neither Cluster nor Local",
        ),
        (
            claim(IP, with(holder(), "sharing", sharing("Local", "80"))),
            ".holders[0].sharing.ports has an entry that is not like TCP/80",
        ),
    ];
    for (claims, text) in rows {
        let rejection = claims_of(claims).unwrap_err();
        assert_eq!(rejection.reason, Reason::LedgerDamaged);
        assert!(
            rejection
                .message
                .starts_with("AllocationBlock v4-203-0-113-0: spec.claims[")
        );
        assert!(rejection.message.contains(text), "{}", rejection.message);
    }
}

#[test]
fn a_block_of_another_format_is_left_alone() {
    let spec = AllocationBlockSpec {
        format_version: 2,
        ..AllocationBlockSpec::default()
    };
    let rejection = named("port-30208", spec).unwrap().claims.unwrap_err();
    assert_eq!(
        rejection.message,
        "AllocationBlock port-30208: spec.formatVersion 2 is not 1, the one this version of \
         Portolan reads: run the version that wrote it"
    );
}

#[test]
fn an_unknown_kind_of_holder_does_not_even_parse() {
    let claims = json!([{"number": "1", "holders": [with(holder(), "kind", json!("Pod"))]}]);
    let spec = json!({"formatVersion": 1, "sequence": 3, "writer": "w", "claims": claims});
    assert!(serde_json::from_value::<AllocationBlockSpec>(spec).is_err());
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
        ".{1,8}",
        vec("[a-z]{1,5}", 0..3),
        vec(port, 0..4),
        any::<bool>(),
        ".{0,9}",
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
    let retained =
        ("[a-z]{1,5}", "[a-z]{1,5}", any::<i64>()).prop_map(|(namespace, name, until)| {
            Claim::Retained {
                owner: ServiceKey::new(&namespace, &name),
                until,
            }
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
    assert_eq!(spec.claims, vec![]);
}
