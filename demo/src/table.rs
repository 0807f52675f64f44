//! The table: what each Service has and why, read from the object alone.

use k8s_openapi::api::core::v1::{Service, ServicePort};

/// States by an annotation what the demo should come to, so that `--once` can tell.
const EXPECT: &str = "demo.portolan.dev/expect";
/// What a Service that needs no number is expected to be.
const UNTOUCHED: &str = "Untouched";
/// What a Service that has everything is expected to be.
const ALLOCATED: &str = "Allocated";

/// One Service.
#[derive(Debug)]
pub(crate) struct Row {
    /// `namespace/name`.
    pub(crate) name: String,
    cells: [String; 6],
    /// A reason word, or nothing while it is open.
    state: Option<String>,
    expected: Option<String>,
}

impl Row {
    /// Whether the controller has come to a result.
    pub(crate) fn settled(&self) -> bool {
        self.state.is_some()
    }

    /// Whether the result is the one the manifest states, if it states one.
    pub(crate) fn as_expected(&self) -> bool {
        self.expected.is_none() || self.expected == self.state
    }

    /// What is not as expected.
    pub(crate) fn surprise(&self) -> String {
        format!(
            "expected {}, found {}",
            self.expected.as_deref().unwrap_or("nothing"),
            self.state.as_deref().unwrap_or("nothing yet"),
        )
    }
}

impl From<Service> for Row {
    fn from(service: Service) -> Self {
        let meta = service.metadata;
        let spec = service.spec.unwrap_or_default();
        let status = service.status.unwrap_or_default();
        let type_ = spec.type_.unwrap_or_else(|| "ClusterIP".to_owned());
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let cluster_ips = spec.cluster_ips.clone().unwrap_or_default();
        let ports = spec.ports.unwrap_or_default();
        let ingress: Vec<String> = status
            .load_balancer
            .and_then(|lb| lb.ingress)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|entry| entry.ip.or(entry.hostname))
            .collect();
        let condition = status
            .conditions
            .unwrap_or_default()
            .into_iter()
            .find(|condition| condition.type_ == "portolan.dev/AddressAllocated");
        let needs_ports = type_ == "NodePort"
            || (type_ == "LoadBalancer" && spec.allocate_load_balancer_node_ports != Some(false));
        let has_ports = ports
            .iter()
            .all(|port| port.node_port.is_some_and(|p| p != 0));
        let has_numbers = !cluster_ips.is_empty() && (has_ports || !needs_ports);
        let (state, why) = match condition {
            Some(condition) => (Some(condition.reason), condition.message),
            None if headless || type_ == "ExternalName" => {
                (Some(UNTOUCHED.to_owned()), "needs no number".to_owned())
            }
            None if has_numbers && type_ != "LoadBalancer" => {
                (Some(ALLOCATED.to_owned()), "has its numbers".to_owned())
            }
            None => (None, String::new()),
        };
        let or_dash = |text: String| {
            if text.is_empty() {
                "-".to_owned()
            } else {
                text
            }
        };
        Self {
            name: format!(
                "{}/{}",
                meta.namespace.unwrap_or_default(),
                meta.name.unwrap_or_default()
            ),
            cells: [
                type_,
                or_dash(if headless {
                    "None".to_owned()
                } else {
                    cluster_ips.join(",")
                }),
                or_dash(node_ports(&ports)),
                or_dash(ingress.join(",")),
                state.clone().unwrap_or_else(|| "...".to_owned()),
                why,
            ],
            state,
            expected: meta.annotations.unwrap_or_default().remove(EXPECT),
        }
    }
}

fn node_ports(ports: &[ServicePort]) -> String {
    let numbers: Vec<String> = ports
        .iter()
        .filter_map(|port| port.node_port.filter(|n| *n != 0))
        .map(|n| n.to_string())
        .collect();
    let mut unique = numbers;
    unique.dedup();
    unique.join(",")
}

/// The whole table, columns aligned; the last column is as long as it is.
pub(crate) fn render(rows: &[Row]) -> String {
    let head = [
        "SERVICE",
        "TYPE",
        "CLUSTER-IPS",
        "NODE-PORTS",
        "EXTERNAL",
        "STATE",
        "WHY",
    ];
    let lines: Vec<Vec<&str>> = std::iter::once(head.to_vec())
        .chain(rows.iter().map(|row| {
            std::iter::once(row.name.as_str())
                .chain(row.cells.iter().map(String::as_str))
                .collect()
        }))
        .collect();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_an_open_service_is_not_settled() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": "a", "name": "b"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]},
        }))
        .unwrap();
        let row = Row::from(service);
        assert!(!row.settled());
        let text = render(&[row]);
        let columns: Vec<usize> = text.lines().filter_map(|line| line.find("  ")).collect();
        assert_eq!(text.lines().count(), 2);
        assert!(columns.len() == 2, "{text}");
        assert!(text.contains("a/b      LoadBalancer  10.0.0.1"), "{text}");
    }
}
