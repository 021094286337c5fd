//! The queries against a real Prometheus that scrapes the built program.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::dashboards;
use super::queries::{Query, panel_queries, rule_queries};
use crate::support::prometheus::{Prometheus, Series};
use crate::support::promql::{Named, named};
use crate::support::{
    Api, Backend, Place, Process, Receiver, eventually, process, stranger, within,
};

/// The alert whose metrics are not Posthaste's but node_exporter's, which does not run here.
/// promtool's tests are the ones that show it at work.
const NOT_OURS: &str = "PosthasteDiskFilling";
/// What Grafana puts in for a variable where "All" is chosen.
const ALL: &str = ".*";

#[tokio::test]
async fn every_query_of_dashboards_and_rules_returns_series() {
    let place = Place::new(Backend::RabbitPostgres).await;
    assert!(
        process::run(&place, &["migrate"], &[], None)
            .await
            .status
            .success()
    );
    let api_process = Process::start(&place, &["api"]).await;
    let worker = Process::start(&place, &["worker"]).await;
    let address = |process: &Process| process.url.trim_start_matches("http://").to_owned();
    let prometheus = Prometheus::start(&[
        ("_interval: 15s", "_interval: 1s".to_owned()),
        ("api-1.internal:8080", address(&api_process)),
        ("worker-1.internal:9090", address(&worker)),
        ("db-1.internal:9100", "127.0.0.1:1".to_owned()),
    ])
    .await;
    // What happens once must happen between two scrapes: what a counter begins with is no increase.
    within(
        Duration::from_secs(30),
        "the first scrape of both",
        async || {
            (prometheus
                .query("posthaste_build_info")
                .await
                .unwrap()
                .len()
                == 2)
                .then_some(())
        },
    )
    .await;
    let receiver = Receiver::start().await;
    let done = AtomicBool::new(false);
    let checked = async {
        let mut queries = panel_queries(ALL, ALL);
        queries.extend(rule_queries(&prometheus).await);
        let not_ours: Vec<_> = queries
            .extract_if(.., |query| query.place.ends_with(NOT_OURS))
            .collect();
        assert_eq!(not_ours.len(), 1, "{NOT_OURS} alone is exempt");
        answers(&prometheus, &queries).await;
        wait_for_load(&prometheus).await;
        // Once more, now that there is something to see.
        let answers = answers(&prometheus, &queries).await;
        for (query, series) in queries.iter().zip(&answers) {
            check_names(&prometheus, query, series).await;
        }
        for query in panel_queries(&address(&worker).replace('.', r"\\."), "standard|raw") {
            let series = prometheus
                .query(&query.expression)
                .await
                .expect(&query.expression);
            assert!(!series.is_empty(), "of one worker: {query:?}");
        }
        check_rules_work(&prometheus).await;
        check_variables(&prometheus).await;
        print(&queries, &answers);
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(&place, &api_process, &receiver, &done), checked);
}

/// A little of everything, until told to stop: deliveries, retries, failures, expiries, a dead
/// letter, an endpoint that is gone.
async fn load(place: &Place, process: &Process, receiver: &Receiver, done: &AtomicBool) {
    let api = Api::of(process);
    let no_retries = json!({"max_retries": 0});
    let endpoints = [
        api.endpoint(&receiver.url("/ok"), json!({})).await,
        api.endpoint(
            &receiver.url("/fail/1/503"),
            json!({"wire_format": "cloudevents"}),
        )
        .await,
        api.endpoint(&receiver.url("/status/400"), json!({"wire_format": "raw"}))
            .await,
        api.endpoint(
            &receiver.url("/hang"),
            json!({"timeout_ms": 1000, "retry": no_retries}),
        )
        .await,
        api.endpoint(
            "http://127.0.0.1:1/",
            json!({"wire_format": "raw", "retry": no_retries}),
        )
        .await,
        api.endpoint(&receiver.url("/status/503"), json!({})).await,
    ];
    let gone = api.endpoint(&receiver.url("/status/410"), json!({})).await;
    api.enqueue_to(&gone, json!({})).await;
    bury(place).await;
    while !done.load(Ordering::Relaxed) {
        for endpoint in &endpoints {
            api.enqueue_to(endpoint, json!({"ttl_seconds": 5})).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Publishes what cannot be read.
async fn bury(place: &Place) {
    stranger::publish(place, [(None, b"garbage".to_vec())]).await;
}

/// What each query returns, once each returns a number. It fails at once on a query that does not
/// parse.
async fn answers(prometheus: &Prometheus, queries: &[Query]) -> Vec<Vec<Series>> {
    let found: Mutex<BTreeMap<usize, Vec<Series>>> = Mutex::new(BTreeMap::new());
    let all = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            for (n, query) in queries.iter().enumerate() {
                if found.lock().unwrap().contains_key(&n) {
                    continue;
                }
                let series = prometheus.query(&query.expression).await;
                let series = series.unwrap_or_else(|error| {
                    panic!("{}: {error}\n{}", query.place, query.expression)
                });
                if series.iter().any(|series| series.value.is_finite()) {
                    found.lock().unwrap().insert(n, series);
                }
            }
            if found.lock().unwrap().len() == queries.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let in_time = all.await.is_ok();
    let found = found.into_inner().unwrap();
    let silent: Vec<_> = queries
        .iter()
        .enumerate()
        .filter(|(n, _)| !found.contains_key(n))
        .collect();
    for (_, query) in &silent {
        // A misspelt name says more than that there is no answer.
        check_names(prometheus, query, &[]).await;
    }
    assert!(in_time, "these return no number: {silent:#?}");
    found.into_values().collect()
}

/// How long it may take until a metric shows what happened. The gauges of the store are counted
/// again after a hundred times as long as counting them took, and on a busy machine that is long.
const SEEN: Duration = Duration::from_secs(120);

/// Prometheus has seen each kind of trouble that [`load`] makes.
async fn wait_for_load(prometheus: &Prometheus) {
    let results = ["2xx", "4xx", "5xx", "timeout", "network"]
        .map(|it| format!(r#"attempts_total{{result="{it}"}}"#));
    let outcomes = ["delivered", "failed", "expired"]
        .map(|it| format!(r#"deliveries_total{{outcome="{it}"}}"#));
    let others = [
        r#"endpoints{state="disabled"}"#,
        r#"queue_messages{queue="dead"}"#,
        r#"events_published_total{type="endpoint.disabled"}"#,
        r#"dead_letters_total{reason="undecodable"}"#,
        r#"broker_connections{state="up"}"#,
    ];
    for selector in results
        .into_iter()
        .chain(outcomes)
        .chain(others.map(str::to_owned))
    {
        within(SEEN, &selector, async || {
            let sum = prometheus
                .query(&format!("sum(posthaste_{selector})"))
                .await
                .unwrap();
            sum.first().is_some_and(|sum| sum.value > 0.0).then_some(())
        })
        .await;
    }
    within(SEEN, "one worker", async || {
        let count = prometheus.query("posthaste:workers:count").await.unwrap();
        count
            .first()
            .is_some_and(|count| (count.value - 1.0).abs() < 0.5)
            .then_some(())
    })
    .await;
}

/// Metrics, labels and values of labels that the query names are there.
async fn check_names(prometheus: &Prometheus, query: &Query, series: &[Series]) {
    let place = &query.place;
    let Named { selectors, labels } = named(&query.expression);
    assert!(!selectors.is_empty(), "{place}: {}", query.expression);
    let mut known = BTreeSet::new();
    for selector in &selectors {
        let of_metric = prometheus.labels(&selector.metric).await;
        assert!(
            !of_metric.is_empty(),
            "{place}: no metric {}",
            selector.metric
        );
        for matcher in &selector.matchers {
            assert!(
                of_metric.contains(&matcher.label),
                "{place}: {} has no {}",
                selector.metric,
                matcher.label
            );
            let values = prometheus.values(&selector.metric, &matcher.label).await;
            for value in matcher.listed() {
                assert!(
                    values.contains(value),
                    "{place}: {value} is none of {}: {values:?}",
                    matcher.label
                );
            }
        }
        assert!(
            prometheus.count(&selector.text).await > 0,
            "{place}: no series of {}",
            selector.text
        );
        known.extend(of_metric);
    }
    for label in &labels {
        assert!(
            known.contains(label),
            "{place}: no label {label}, there are {known:?}"
        );
    }
    for label in &query.legend {
        let without = series
            .iter()
            .find(|series| !series.labels.contains_key(label));
        assert!(
            without.is_none(),
            "{place}: the legend shows {label}, which is not in {without:?}"
        );
    }
}

/// Rules are evaluated without an error, and the one alert that is due is on its way.
async fn check_rules_work(prometheus: &Prometheus) {
    let rules = within(
        Duration::from_secs(20),
        "every rule is evaluated",
        async || {
            Some(prometheus.rules().await)
                .filter(|rules| rules.iter().all(|rule| rule["health"] != "unknown"))
        },
    )
    .await;
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let state =
        |name: &str| rules.iter().find(|rule| rule["name"] == name).expect(name)["state"].clone();
    eventually("dead letters are noticed", async || {
        let alerts = prometheus
            .query(r#"ALERTS{alertname="PosthasteDeadLetters"}"#)
            .await
            .unwrap();
        (alerts.len() == 1).then_some(())
    })
    .await;
    for quiet in [
        "PosthasteNoWorkers",
        "PosthasteStoreErrors",
        "PosthasteBrokerDisconnected",
        "PosthasteOutboxStuck",
    ] {
        assert_ne!(state(quiet), "firing", "{quiet}");
    }
}

/// `label_values(metric, label)` of each variable finds something.
async fn check_variables(prometheus: &Prometheus) {
    for dashboard in dashboards() {
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if variable["type"] == "query" {
                let query = variable["query"]["query"].as_str().unwrap();
                let inside = query
                    .strip_prefix("label_values(")
                    .and_then(|rest| rest.strip_suffix(')'))
                    .expect(query);
                let (metric, label) = inside.split_once(", ").expect(query);
                assert!(prometheus.values(metric, label).await.len() > 1, "{query}");
            }
        }
    }
}

fn print(queries: &[Query], answers: &[Vec<Series>]) {
    println!("| where | query | series | a value |\n| --- | --- | --- | --- |");
    for (query, series) in queries.iter().zip(answers) {
        let finite = series
            .iter()
            .map(|series| series.value)
            .filter(|value| value.is_finite());
        let value = finite.fold(f64::NEG_INFINITY, f64::max);
        let expression = query
            .expression
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace('|', "\\|");
        println!(
            "| {} | `{expression}` | {} | {value} |",
            query.place,
            series.len()
        );
    }
}
