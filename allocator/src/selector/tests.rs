use super::*;

#[test]
fn every_operator_means_what_it_means_in_kubernetes() {
    use Operator::{DoesNotExist, Exists, In, NotIn};
    let labels: Labels = [("env", "prod"), ("team", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    for (key, operator, values, expected) in [
        ("env", In, &["prod", "test"][..], true),
        ("env", In, &["test"], false),
        ("env", In, &[], false),
        ("absent", In, &["prod"], false),
        ("env", NotIn, &["prod"], false),
        ("env", NotIn, &["test"], true),
        ("absent", NotIn, &["prod"], true),
        ("env", Exists, &[], true),
        ("team", Exists, &[], true),
        ("team", In, &[""], true),
        ("absent", Exists, &[], false),
        ("env", DoesNotExist, &[], false),
        ("absent", DoesNotExist, &[], true),
    ] {
        let values = values.iter().map(ToString::to_string).collect();
        let requirement = Requirement { key: key.to_owned(), operator, values };
        let selector = Selector { requirements: vec![requirement.clone()] };
        assert_eq!(selector.matches(&labels), expected, "{requirement:?}");
    }
}

#[test]
fn every_requirement_must_hold_and_none_matches_everything() {
    let exists = |key: &str| Requirement { key: key.to_owned(), operator: Operator::Exists, values: BTreeSet::new() };
    let labels: Labels = [("env".to_owned(), "prod".to_owned())].into();
    assert!(Selector::default().matches(&Labels::new()));
    assert!(Selector { requirements: vec![exists("env")] }.matches(&labels));
    assert!(!Selector { requirements: vec![exists("env"), exists("team")] }.matches(&labels));
}
