//! A private Prometheus with the configuration that is shipped, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use url::form_urlencoded::Serializer;

/// Where the shipped configuration is.
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// A series of a query's answer.
#[derive(Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Killed when dropped, its data removed.
pub struct Prometheus {
    child: Child,
    client: reqwest::Client,
    url: String,
    dir: TempDir,
}

impl Prometheus {
    /// Starts it with the shipped configuration and rules, but these texts replaced in the former.
    pub async fn start(replaced: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config =
            std::fs::read_to_string(shipped().join("prometheus.yml")).expect("prometheus.yml");
        for (from, to) in replaced {
            assert!(config.contains(from), "prometheus.yml has no {from}");
            config = config.replace(from, to);
        }
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("a file");
        std::fs::create_dir(dir.path().join("rules")).expect("a directory");
        for file in std::fs::read_dir(shipped().join("rules")).expect("rules") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), dir.path().join("rules").join(file.file_name()))
                .expect("copied");
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::new();
        // Another test may take the port between our look and its start.
        for _ in 0..5 {
            let port = free_port();
            let mut child = spawn(dir.path(), port);
            let url = format!("http://127.0.0.1:{port}");
            if ready(&mut child, &client, &url).await {
                return Self {
                    child,
                    client,
                    url,
                    dir,
                };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("Prometheus does not start:\n{}", log(dir.path()));
    }

    /// Asks for an instant vector or scalar.
    ///
    /// # Errors
    /// What Prometheus says is wrong with the query.
    pub async fn query(&self, query: &str) -> Result<Vec<Series>, String> {
        let answer = self.get("query", &[("query", query)]).await?;
        if answer["resultType"] == "scalar" {
            return Ok(vec![Series {
                labels: BTreeMap::new(),
                value: number(&answer["result"]),
            }]);
        }
        let rows = answer["result"].as_array().expect("rows");
        let series = |row: &Value| Series {
            labels: serde_json::from_value(row["metric"].clone()).expect("labels"),
            value: number(&row["value"]),
        };
        Ok(rows.iter().map(series).collect())
    }

    /// The labels that a metric has.
    pub async fn labels(&self, metric: &str) -> BTreeSet<String> {
        let answer = self
            .get("labels", &[("match[]", metric)])
            .await
            .expect("labels");
        serde_json::from_value(answer).expect("labels")
    }

    /// The values that a label of a metric has.
    pub async fn values(&self, metric: &str, label: &str) -> BTreeSet<String> {
        let answer = self
            .get(&format!("label/{label}/values"), &[("match[]", metric)])
            .await
            .expect("values");
        serde_json::from_value(answer).expect("values")
    }

    /// How many series a selector has.
    pub async fn count(&self, selector: &str) -> usize {
        let answer = self
            .get("series", &[("match[]", selector)])
            .await
            .expect("series");
        answer.as_array().expect("series").len()
    }

    /// All rules, as Prometheus reads them.
    pub async fn rules(&self) -> Vec<Value> {
        let answer = self.get("rules", &[]).await.expect("rules");
        let groups = answer["groups"].as_array().expect("groups");
        groups
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("rules").clone())
            .collect()
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let parameters = Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let answer = self
            .client
            .get(format!("{}/api/v1/{path}?{parameters}", self.url))
            .send()
            .await;
        let text = answer
            .expect("Prometheus answers")
            .text()
            .await
            .expect("a body");
        let mut answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["data"].take()),
        }
    }
}

/// Runs `promtool`; what it prints. Panics when it complains.
pub fn promtool(arguments: &[&str], files: &[PathBuf]) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .args(files)
        .output();
    let output = output.expect("promtool (Debian: apt-get install prometheus)");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "promtool {arguments:?}:\n{text}");
    text
}

/// Below the range that outgoing connections take.
fn free_port() -> u16 {
    (0..100)
        .map(|_| 20_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 12_000).expect("small"))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

fn spawn(dir: &Path, port: u16) -> Child {
    let log = File::create(dir.join("log")).expect("a log");
    Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            dir.join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.join("data").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("prometheus (Debian: apt-get install prometheus)")
}

/// Whether it is there before it ends or time is up.
async fn ready(child: &mut Child, client: &reqwest::Client, url: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end && child.try_wait().expect("wait").is_none() {
        if client
            .get(format!("{url}/-/ready"))
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

fn number(pair: &Value) -> f64 {
    pair[1]
        .as_str()
        .and_then(|text| text.replace("Inf", "inf").parse().ok())
        .expect("a number")
}

fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- prometheus\n{}", log(self.dir.path()));
        }
    }
}
