//! Every command as its users run it, against a live `up`.

mod dead;
mod deliveries;
mod doctor;
mod endpoints;
mod keys;

use serde_json::{Value, json};

use crate::support::cli::{Cli, Said};
use crate::support::{Api, Backend, Place, process, required};

fn id_of(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}

#[tokio::test]
async fn the_doctor_and_the_specifications_answer() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    let report = cli.json(&["doctor"]).await;
    let checks = report["checks"].as_array().expect("checks");
    assert!(
        checks.iter().all(|check| check["verdict"] == "ok"),
        "{report}"
    );
    let text = cli.ok(&["doctor"]).await;
    assert!(
        text.contains("master_key") && !text.contains("a-master-key-for-tests"),
        "{text}"
    );
    let away = [("POSTHASTE_BROKER_URL", "amqp://127.0.0.1:1")];
    let sick = cli.run_with(&["doctor", "--json"], &away, None).await;
    let report: Value = serde_json::from_str(&sick.out).expect("JSON");
    let broker = report["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .find(|check| check["name"] == "broker");
    assert_eq!(
        (sick.code, &broker.expect("broker")["verdict"]),
        (1, &json!("fail")),
        "{report}"
    );
    let broken = cli
        .run_with(&["doctor"], &[("POSTHASTE_LISTEN", "nowhere")], None)
        .await;
    assert!(
        broken.code == 1 && broken.out.contains("POSTHASTE_LISTEN"),
        "{broken:?}"
    );

    let openapi = cli.json(&["openapi"]).await;
    assert!(openapi["paths"]["/v1/notifications"].is_object() && openapi["openapi"] == "3.1.0");
    assert_eq!(
        Api::of(&cli.up).get("/openapi.json").await,
        openapi,
        "the served one is the same"
    );
    let asyncapi = cli.json(&["asyncapi"]).await;
    assert!(
        asyncapi["channels"]["notifications"].is_object(),
        "{asyncapi}"
    );
}

#[tokio::test]
async fn wrong_use_and_a_missing_api_are_explained() {
    let cli = Cli::start(Backend::EmbeddedSqlite).await;
    for wrong in [
        vec!["nonsense"],
        vec!["send"],
        vec!["send", "--type", "a", "--payload", "not JSON"],
        vec!["send", "--type", "a b", "--payload", "1"],
        vec!["send", "--file", "not-there.ndjson"],
        vec!["endpoint", "add"],
        vec![
            "endpoint",
            "add",
            "--url",
            "http://127.0.0.1/",
            "--wire-format",
            "nope",
        ],
        vec!["delivery", "list", "--status", "nope"],
        vec!["dead", "redrive"],
        vec!["key", "create", "--scope", "nope"],
        vec!["api", "--listen", "nowhere"],
    ] {
        let said = cli.fails(2, &wrong).await;
        assert!(
            !said.trim().is_empty() && !said.contains("panicked"),
            "{wrong:?}: {said}"
        );
    }
    for (wrong, says) in [
        (
            vec!["delivery", "list", "--limit", "0", "--json"],
            "it must be a whole number",
        ),
        (vec!["send", "--json"], "--type"),
    ] {
        let said = cli.fails(2, &wrong).await;
        let object: Value = serde_json::from_str(&said).expect("an object on a line");
        assert_eq!(object["code"], "wrong_use", "{object}");
        assert!(object["error"].to_string().contains(says), "{object}");
    }
    let nobody = ["endpoint", "list", "--api-url", "http://127.0.0.1:1"];
    let said = cli.fails(1, &nobody).await;
    assert!(
        said.contains("nothing answers at http://127.0.0.1:1/") && said.contains("posthaste up"),
        "{said}"
    );
    let help = cli.ok(&["--help"]).await;
    assert!(
        help.contains("Operate it:") && help.contains("reconcile"),
        "{help}"
    );
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_in_a_sentence() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let server = required("POSTHASTE_TEST_POSTGRES_URL");
    let (server, _) = server.rsplit_once('/').expect("a database in the URL");
    let url = format!("{server}/no-such-database");
    for command in ["migrate", "reconcile"] {
        let said: Said = process::run(&place, &[command, "--database-url", &url], &[], None)
            .await
            .into();
        assert_eq!(said.code, 1, "{said:?}");
        assert_eq!(
            said.err,
            "posthaste: the database server refuses the connection: database \"no-such-database\" \
             does not exist\n  create it, with `createdb` or CREATE DATABASE, or correct \
             POSTHASTE_DATABASE_URL\n",
            "{command}"
        );
    }
}

#[tokio::test]
async fn a_command_of_another_program_leads_to_ours() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let said: Said = process::run(&place, &["enqueue"], &[], None).await.into();
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("tip: ") && said.err.contains("'send'"),
        "{said:?}"
    );
}
