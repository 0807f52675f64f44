//! What happens to Services while the controller is updated, killed and watched by others.

use std::{process::Stdio, thread, time::Duration};

use serde_json::{Value, json};

use super::{
    pods::{self, service},
    town::{NAMESPACE, Town},
};

/// Asks every 20 ms, each time by a new connection, until the file that stops it appears, at most
/// 5,000 times; prints a line of what came of each and when, for one that failed all that curl saw.
const LOAD: &str = r#"set -f
for try in $(seq 5000); do
    [ ! -e "$2" ] || exit 0
    seen=$(curl --silent --verbose --output /dev/null --max-time 10 \
        --write-out '\n%{http_code} after %{time_total} s' "$1" 2>&1)
    last=${seen##*
}
    case $last in 200*) seen= ;; esac
    echo "$last, number $try, at $(date --utc +%T.%N)" $seen
    sleep 0.02
done"#;

fn controllers(town: &Town) -> Vec<Value> {
    let pods = town.list("pods", NAMESPACE);
    let living = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    pods.into_iter().filter(living).collect()
}

/// The pod that holds the Lease.
fn leader(town: &Town) -> String {
    town.until("a living pod leads", || {
        let lease = town.get(NAMESPACE, "lease/portolan-controller");
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let pods = controllers(town);
        let mut names = pods
            .iter()
            .map(|pod| pod["metadata"]["name"].as_str().unwrap());
        let leader = names.find(|name| holder.starts_with(&format!("{name}_")));
        leader.map(str::to_owned).ok_or_else(|| holder.to_owned())
    })
}

pub(crate) fn a_rolling_update_and_a_killed_leader_cost_no_request(town: &Town) {
    let ns = &pods::namespace(town, "load");
    pods::run(town, ns, "load", 2);
    town.apply(&service(ns, "load", &json!({})));
    let address = town.address(ns, "load");
    let url = format!("http://{address}/hostname");
    town.curl(&url);

    let stop = format!("/tmp/portolan-{ns}");
    let load = town
        .client("sh")
        .args(["-c", LOAD, "load", &url, &stop])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();

    let deployment = "deployment/portolan";
    let status = [
        "-n",
        NAMESPACE,
        "rollout",
        "status",
        deployment,
        "--timeout=120s",
    ];
    town.kubectl(&["-n", NAMESPACE, "rollout", "restart", deployment]);
    town.kubectl(&status);
    // Whoever leads now dies without a word; a Service that comes then is served by the other.
    let dead = leader(town);
    let kill = ["delete", "pod", &dead, "--grace-period=0", "--force"];
    town.kubectl(&[&["-n", NAMESPACE][..], &kill].concat());
    let mut late = service(ns, "late", &json!({}));
    late["spec"]["selector"] = json!({"app": "load"});
    town.apply(&late);
    let other = town.address(ns, "late");
    assert_ne!(leader(town), dead);
    town.curl(&format!("http://{other}/hostname"));
    town.kubectl(&status);
    thread::sleep(Duration::from_millis(500)); // some requests more

    assert!(town.client("touch").arg(&stop).status().unwrap().success());
    let output = load.wait_with_output().unwrap();
    assert!(town.client("rm").arg(&stop).status().unwrap().success());
    let answers = String::from_utf8(output.stdout).unwrap();
    let failed = answers.lines().filter(|line| !line.starts_with("200 "));
    let failed: Vec<&str> = failed.collect();
    let asked = answers.lines().count();
    println!("{asked} requests, {} failed", failed.len());
    assert!(
        failed.is_empty(),
        "{} of {asked}: {failed:#?}\n{:#?}",
        failed.len(),
        town.writes(ns)
    );
    assert!(asked > 100, "the load did not run: {asked} requests");
    assert_eq!(town.address(ns, "load"), address);
}

pub(crate) fn the_deployment_runs_with_the_least_privilege(town: &Town) {
    let pods = town.until("two replicas are ready", || {
        let pods = controllers(town);
        let ready = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        match pods.iter().filter(ready).count() {
            2 => Ok(pods),
            count => Err(format!("{count} are ready")),
        }
    });
    for pod in pods {
        assert_eq!(pod["spec"]["serviceAccountName"], "portolan");
        let security = &pod["spec"]["containers"][0]["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true, "{security}");
        assert_eq!(
            security["capabilities"],
            json!({"drop": ["ALL"]}),
            "{security}"
        );
        assert_eq!(security["allowPrivilegeEscalation"], false, "{security}");
    }
    let ns = &pods::namespace(town, "rights");
    town.apply(&service(ns, "any", &json!({})));
    town.address(ns, "any");
    assert_eq!(town.refused(), [""; 0]);
}
