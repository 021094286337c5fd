//! The queries of dashboards and rules.

use super::{dashboards, panels};
use crate::support::prometheus::Prometheus;
use crate::support::promql::unfiltered;

/// A query, and where it stands.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) place: String,
    pub(super) expression: String,
    /// Labels that its legend shows.
    pub(super) legend: Vec<String>,
}

/// The queries of all panels, with variables put in as Grafana does. Times are for a scrape each
/// second.
pub(super) fn panel_queries(instance: &str, wire_format: &str) -> Vec<Query> {
    let variables = [
        ("$__rate_interval", "15s"),
        ("$__range", "1m"),
        ("$instance", instance),
        ("$wire_format", wire_format),
    ];
    let mut queries = Vec::new();
    for dashboard in dashboards() {
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let mut expression = target["expr"].as_str().expect("a query").to_owned();
                for (variable, value) in variables {
                    expression = expression.replace(variable, value);
                }
                assert!(
                    !expression.contains('$'),
                    "an unknown variable: {expression}"
                );
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                let legend = legend
                    .split("{{")
                    .skip(1)
                    .map(|label| label.split("}}").next().unwrap().to_owned());
                let uid = dashboard["uid"].as_str().unwrap();
                let title = panel["title"].as_str().unwrap();
                let place = format!("{uid}: {title}");
                queries.push(Query {
                    place,
                    expression,
                    legend: legend.collect(),
                });
            }
        }
    }
    assert!(queries.len() > 50, "{}", queries.len());
    queries
}

/// The queries of all rules; those of alerts without their filters.
pub(super) async fn rule_queries(prometheus: &Prometheus) -> Vec<Query> {
    let mut queries = Vec::new();
    for rule in prometheus.rules().await {
        let name = rule["name"].as_str().unwrap();
        let expression = rule["query"].as_str().unwrap();
        let (place, expression) = match rule["type"].as_str().unwrap() {
            "alerting" => (format!("alert {name}"), unfiltered(expression)),
            _ => (format!("record {name}"), expression.to_owned()),
        };
        queries.push(Query {
            place,
            expression,
            legend: Vec::new(),
        });
    }
    assert!(queries.len() >= 20, "{}", queries.len());
    queries
}
