use super::*;

fn number(text: &str) -> Number {
    match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => Number::port(text.parse().unwrap()),
    }
}

#[test]
fn a_block_is_named_by_its_first_number() {
    for (inside, name, last) in [
        ("203.0.113.7", "v4-203-0-113-0", "203.0.113.255"),
        ("0.0.0.0", "v4-0-0-0-0", "0.0.0.255"),
        ("255.255.255.255", "v4-255-255-255-0", "255.255.255.255"),
        ("2001:db8::1:2", "v6-2001-0db8-0000-0000-0000-0000-0001-0000", "2001:db8::1:ff"),
        (
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "v6-ffff-ffff-ffff-ffff-ffff-ffff-ffff-ff00",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        ("30217", "port-30208", "30463"),
        ("1", "port-0", "255"),
    ] {
        let block = BlockId::of(number(inside));
        assert_eq!(block.name(), name);
        assert_eq!(BlockId::parse_name(name), Some(block));
        assert_eq!(block.last(), number(last), "{name}");
    }
}

#[test]
fn only_canonical_names_are_read() {
    for name in [
        "",
        "v4",
        "v4-",
        "v4-203-0-113-7",
        "v4-203-0-113",
        "v4-203-0-113-256",
        "v4-203.0.113.0",
        "v6-2001-db8-0000-0000-0000-0000-0001-0000",
        "v6-2001-0DB8-0000-0000-0000-0000-0001-0000",
        "v6--",
        "port-30209",
        "port-65536",
        "port-030208",
        "port--1",
        "v5-1-2-3-0",
        "port-30208 ",
    ] {
        assert_eq!(BlockId::parse_name(name), None, "{name:?}");
    }
}
