//! How AWS is reached, where nobody answers.

use aws::plan::{Action, Ref};
use aws_cloud::{Cloud, Connect, Error, Made, Operation};

use crate::lab::{connect, one, run};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9";

#[test]
fn nobody_at_home_is_unavailable_and_a_write_is_sent_once() {
    run(async {
        let cloud = connect(NOBODY, "nobody", "vpc-1").await;
        let error = cloud.health("group").await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert_eq!(cloud.calls().of(Operation::DescribeTargetHealth), 4);
        let plan = one(Action::DeleteTargetGroup {
            target_group: Ref::There("group".to_owned()),
        });
        let (_, error) = cloud.apply(&plan, &mut Made::default()).await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert_eq!(cloud.calls().writes(), 1);
    });
}

/// In a process of its own: the chain looks at the environment and the home folder.
#[test]
fn no_credentials_and_no_region_are_said_plainly() {
    const INNER: &str = "PORTOLAN_NO_CREDENTIALS";
    if std::env::var_os(INNER).is_none() {
        let home = std::env::temp_dir().join("portolan-nobody");
        let inner = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "chain::no_credentials_and_no_region_are_said_plainly",
            ])
            .env_clear()
            .env(INNER, "1")
            .env("HOME", home)
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", NOBODY)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inner.stdout);
        assert!(
            inner.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    run(async {
        let error = Cloud::connect(Connect::new("none")).await.unwrap_err();
        assert!(error.to_string().contains("region"), "{error}");
        let at_nobody = Connect {
            region: Some("eu-central-1".to_owned()),
            endpoint: Some(NOBODY.to_owned()),
            ..Connect::new("none")
        };
        let error = Cloud::connect(at_nobody.clone()).await.unwrap_err();
        assert!(error.to_string().contains("VPC"), "{error}");
        let vpc = Some("vpc-1".to_owned());
        let cloud = Cloud::connect(Connect { vpc, ..at_nobody }).await.unwrap();
        let error = cloud.health("group").await.unwrap_err();
        assert!(matches!(error, Error::Credentials { .. }), "{error:?}");
    });
}
