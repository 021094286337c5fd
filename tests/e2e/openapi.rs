//! The OpenAPI document and the API say the same: other people's tools find no difference.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::support::api::ADMIN_KEY;
use crate::support::{Backend, Place, Process, required};

/// A tool of the test's Python.
fn tool(name: &str) -> Command {
    let python = required("POSTHASTE_TEST_PYTHON");
    let mut command = Command::new(Path::new(&python).with_file_name(name));
    command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .env("NO_COLOR", "1");
    command
}

async fn output(mut command: Command) -> (Output, String) {
    let ran = tokio::time::timeout(Duration::from_secs(600), command.output())
        .await
        .expect("it ends in time");
    let ran = ran.expect("it starts");
    let text = [ran.stdout.as_slice(), &ran.stderr].concat();
    (ran, String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_difference_with_all_checks() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let api = Process::start(&place, &["up", "--listen", "127.0.0.1:0"]).await;
    let mut command = tool("st");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/schemathesis");
    for file in ["schemathesis.toml", "hooks.py"] {
        std::fs::copy(config.join(file), place.dir.path().join(file)).expect("copied");
    }
    command.current_dir(place.dir.path());
    command.args([
        "run",
        &format!("{}/openapi.json", api.url),
        "--checks",
        "all",
        "--max-examples",
        "12",
    ]);
    command.args([
        "--generation-deterministic",
        "--request-timeout",
        "60",
        "--no-color",
    ]);
    command.args([
        "--suppress-health-check",
        "all",
        "--header",
        &format!("Authorization: Bearer {ADMIN_KEY}"),
    ]);
    let (ran, text) = output(command).await;
    assert!(ran.status.success(), "schemathesis complains:\n{text}");
    assert!(
        text.contains("Tested: ") && !text.contains("Tested: 0"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_is_generated_without_a_warning() {
    let place = Place::new(Backend::EmbeddedSqlite).await;
    let document = place.dir.path().join("openapi.json");
    let printed = crate::support::process::run(&place, &["openapi"], &[], None).await;
    assert!(printed.status.success());
    std::fs::write(&document, &printed.stdout).expect("written");
    // The generator knows no NDJSON. The same body can be sent as an array.
    let config = place.dir.path().join("config.yml");
    std::fs::write(
        &config,
        "post_hooks: []\ncontent_type_overrides:\n  application/x-ndjson: \
         application/octet-stream\n",
    )
    .expect("written");
    let client = place.dir.path().join("client");
    let mut command = tool("openapi-python-client");
    command
        .arg("generate")
        .arg("--path")
        .arg(&document)
        .arg("--config")
        .arg(&config);
    command
        .arg("--output-path")
        .arg(&client)
        .arg("--fail-on-warning");
    let (ran, text) = output(command).await;
    assert!(
        ran.status.success() && !text.contains("WARNING"),
        "the generator complains:\n{text}"
    );
    // What was generated can be used.
    let mut import = Command::new(required("POSTHASTE_TEST_PYTHON"));
    import
        .current_dir(&client)
        .args(["-c", IMPORT])
        .kill_on_drop(true);
    let (ran, text) = output(import).await;
    assert!(
        ran.status.success(),
        "what was generated cannot be imported:\n{text}"
    );
}

const IMPORT: &str = "
import importlib, pathlib, pkgutil
package = next(path.parent for path in pathlib.Path('.').glob('*/__init__.py'))
module = importlib.import_module(package.name)
names = [name.name for name in pkgutil.walk_packages(module.__path__, package.name + '.')]
assert len(names) > 50, names
for name in names:
    importlib.import_module(name)
";
