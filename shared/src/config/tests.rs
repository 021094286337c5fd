use std::path::Path;

use super::*;

fn inputs(environment: &[(&str, &str)]) -> Inputs {
    Inputs {
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Inputs::default()
    }
}

fn problem(inputs: &Inputs) -> String {
    Config::load(Profile::Api, inputs).unwrap_err().to_string()
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn shown<'a>(config: &'a Config, key: &str) -> &'a Effective {
    config
        .effective()
        .iter()
        .find(|effective| effective.key == key)
        .unwrap()
}

#[test]
fn the_defaults_are_a_whole_configuration() {
    let config = Config::load(Profile::Api, &inputs(&[])).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(
        config.database.url.expose(),
        "sqlite://./posthaste-data/posthaste.db"
    );
    assert_eq!(config.broker.kind, BrokerKind::Embedded);
    assert_eq!(config.worker.slots, 1024);
    assert_eq!(config.worker.prefetch, 2048);
    assert_eq!(config.shutdown_grace, Duration::from_secs(10));
    assert_eq!(config.worker.retention, Duration::from_secs(30 * 86_400));
    assert!(config.egress.parse_url("http://127.0.0.1:9000/").is_err());
    let worker = Config::load(Profile::Worker, &inputs(&[])).unwrap();
    assert_eq!(worker.listen.to_string(), "127.0.0.1:9090");
}

#[test]
fn up_may_call_the_machine_itself() {
    let config = Config::load(Profile::Up, &inputs(&[])).unwrap();
    for url in [
        "http://127.0.0.1:9000/",
        "http://localhost:9000/",
        "http://[::1]:9000/",
    ] {
        assert!(config.egress.parse_url(url).is_ok(), "{url}");
    }
}

#[test]
fn flags_come_before_environment_before_file_before_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(
        directory.path(),
        "p.toml",
        "listen = \"127.0.0.1:1\"\nname_prefix = \"file\"\n[worker]\nslots = 7\n[egress]\nallow = \
         [\"10.0.0.0/8\", \"a.b\"]\n",
    );
    let mut inputs = inputs(&[
        ("POSTHASTE_LISTEN", "127.0.0.1:2"),
        ("POSTHASTE_NAME_PREFIX", "env"),
    ]);
    inputs.file = Some(file.clone());
    inputs.flags = vec![("listen", "127.0.0.1:3".to_owned())];
    let config = Config::load(Profile::Api, &inputs).unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.broker.name_prefix, "env");
    assert_eq!((config.worker.slots, config.worker.prefetch), (7, 14));
    assert!(config.egress.parse_url("https://10.1.1.1/").is_ok());
    assert_eq!(
        shown(&config, "listen").source,
        Source::Flag("--listen".to_owned())
    );
    assert_eq!(
        shown(&config, "name_prefix").source,
        Source::Environment("POSTHASTE_NAME_PREFIX".to_owned())
    );
    assert_eq!(shown(&config, "worker_slots").source, Source::File(file));
    assert_eq!(shown(&config, "retention").source, Source::Default);
}

#[test]
fn the_working_directory_may_hold_the_file() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), DEFAULT_FILE, "retention = \"7d\"");
    let inputs = Inputs {
        directory: Some(directory.path().to_owned()),
        ..inputs(&[])
    };
    assert_eq!(
        Config::load(Profile::Api, &inputs)
            .unwrap()
            .worker
            .retention,
        Duration::from_secs(7 * 86_400)
    );
}

#[test]
fn a_value_may_come_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "url", "postgres://u:hunter2@db/p\n");
    let path = path.to_str().unwrap();
    let config = Config::load(
        Profile::Api,
        &inputs(&[("POSTHASTE_DATABASE_URL_FILE", path)]),
    )
    .unwrap();
    assert_eq!(config.database.url.expose(), "postgres://u:hunter2@db/p");
    let both = inputs(&[
        ("POSTHASTE_DATABASE_URL_FILE", path),
        ("POSTHASTE_DATABASE_URL", "sqlite://x"),
    ]);
    assert!(
        problem(&both)
            .contains("POSTHASTE_DATABASE_URL and POSTHASTE_DATABASE_URL_FILE are both set")
    );
    let missing = inputs(&[("POSTHASTE_MASTER_KEY_FILE", "/nowhere/key")]);
    assert!(problem(&missing).contains("POSTHASTE_MASTER_KEY_FILE names /nowhere/key"));
}

#[test]
fn an_empty_file_of_a_secret_is_not_taken_for_none() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), MASTER_KEY_FILE, "\n");
    let path = directory.path().join(MASTER_KEY_FILE);
    for variable in ["POSTHASTE_MASTER_KEY_FILE", "POSTHASTE_DATA_DIR"] {
        let value = match variable {
            "POSTHASTE_DATA_DIR" => directory.path(),
            _ => &path,
        };
        let inputs = inputs(&[(variable, value.to_str().unwrap())]);
        let error = Config::load(Profile::Tool, &inputs).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(
            text.contains(path.to_str().unwrap()) && text.contains("it is empty"),
            "{text}"
        );
    }
}

#[test]
fn what_up_left_in_the_data_directory_is_found() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        MASTER_KEY_FILE,
        &format!("{}\n", "k".repeat(43)),
    );
    write(directory.path(), API_KEY_FILE, "phk_1\n");
    let data_dir = directory.path().to_str().unwrap();
    let config = Config::load(Profile::Tool, &inputs(&[("POSTHASTE_DATA_DIR", data_dir)])).unwrap();
    assert_eq!(config.master_key.unwrap().expose(), "k".repeat(43));
    assert_eq!(config.client.api_key.unwrap().expose(), "phk_1");
}

#[test]
fn errors_name_setting_source_and_remedy() {
    for (variable, value, expected) in [
        (
            "POSTHASTE_LISTEN",
            "8080",
            "listen (from POSTHASTE_LISTEN) is \"8080\", but must be an address with a port",
        ),
        ("POSTHASTE_RETENTION", "30", "must be a duration such as"),
        ("POSTHASTE_RETENTION", "1s", "must be 1h to 3650d"),
        (
            "POSTHASTE_WORKER_SLOTS",
            "0",
            "must be a whole number from 1 to 65536",
        ),
        (
            "POSTHASTE_BROKER_URL",
            "redis://x",
            "broker_url (from POSTHASTE_BROKER_URL) must be amqp://…",
        ),
        (
            "POSTHASTE_BROKER_URL",
            "amqp://u:hunter2@a:5672,b:5672",
            "a whole URL each",
        ),
        (
            "POSTHASTE_BROKER_URL",
            "embedded,amqp://a",
            "a whole URL each",
        ),
        (
            "POSTHASTE_DATABASE_URL",
            "mysql://u:hunter2@x",
            "must be sqlite://PATH or postgres://",
        ),
        (
            "POSTHASTE_EGRESS_ALLOW",
            "10.0.0.0/99",
            "egress_allow (from POSTHASTE_EGRESS_ALLOW) is \"10.0.0.0/99\"",
        ),
        ("POSTHASTE_EGRESS_HTTP", "maybe", "must be deny or allow"),
        ("POSTHASTE_MASTER_KEY", "hunter2", "at least 32 characters"),
        (
            "POSTHASTE_MAX_BATCH_BYTES",
            "1KiB",
            "must not be less than max_body_bytes",
        ),
        (
            "POSTHASTE_LOG",
            "posthaste=loud",
            "log (from POSTHASTE_LOG)",
        ),
        ("RUST_LOG", "x=y=z", "log (from RUST_LOG)"),
        (
            "POSTHASTE_BROKER_CLIENT_CERT_FILE",
            "/c.pem",
            "needs broker_client_key_file",
        ),
        (
            "POSTHASTE_TRACING_OTLP_ENDPOINT",
            "collector:4317",
            "tracing_otlp_endpoint (from POSTHASTE_TRACING_OTLP_ENDPOINT)",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://u:hunter2@c:4318",
            "put credentials into tracing_headers",
        ),
        (
            "POSTHASTE_TRACING_SAMPLE_RATIO",
            "1.5",
            "must be a number from 0 (none) to 1 (all)",
        ),
    ] {
        let problem = problem(&inputs(&[(variable, value)]));
        assert!(problem.contains(expected), "{variable}={value}: {problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let directory = tempfile::tempdir().unwrap();
    for (text, expected) in [
        (
            "databse_url = \"x\"",
            "there is no setting \"databse_url\"; did you mean \"database_url\"?",
        ),
        ("[worker]\nslotz = 3", "did you mean \"worker_slots\"?"),
        ("colour_of_the_sky = 3", "docs/configuration.md lists them"),
        ("listen = {a = {b = 1}}", "there is no setting"),
        ("listen = 2020-01-01", "not a TOML datetime"),
        ("listen = ", "cannot be read"),
        // Said without the line itself, which may hold a secret.
        ("\nadmin_key = hunter2", "line 2: "),
        ("database_url = \"postgres://u:hunter2@h/d", "line 1: "),
    ] {
        let mut inputs = inputs(&[]);
        inputs.file = Some(write(directory.path(), "p.toml", text));
        let problem = problem(&inputs);
        assert!(problem.contains(expected), "{text}: {problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    let typo = inputs(&[
        ("POSTHASTE_DATABSE_URL", "x"),
        ("POSTHASTE_SERVICE_HOST", "x"),
    ]);
    assert_eq!(
        mistyped_variables(&typo),
        [("POSTHASTE_DATABSE_URL".to_owned(), "POSTHASTE_DATABASE_URL")]
    );
}

#[test]
fn an_empty_allow_list_closes_what_up_opens() {
    let calls_loopback = |environment: &[(&str, &str)]| {
        let config = Config::load(Profile::Up, &inputs(environment)).unwrap();
        config
            .egress
            .check_address(None, "127.0.0.1".parse().unwrap())
            .is_ok()
    };
    assert!(calls_loopback(&[]));
    for value in ["", " ", "none"] {
        assert!(
            !calls_loopback(&[("POSTHASTE_EGRESS_ALLOW", value)]),
            "{value:?}"
        );
    }
    let takes_http = |environment: &[(&str, &str)]| {
        let config = Config::load(Profile::Up, &inputs(environment)).unwrap();
        config
            .egress
            .check_url(&"http://127.0.0.1/".parse().unwrap())
            .is_ok()
    };
    assert!(takes_http(&[]));
    assert!(!takes_http(&[("POSTHASTE_EGRESS_HTTP", "")]));
}

#[test]
fn secrets_are_shown_nowhere() {
    let secret = "hunter2-hunter2-hunter2-hunter2-hunter2";
    let config = Config::load(
        Profile::Api,
        &inputs(&[
            (
                "POSTHASTE_DATABASE_URL",
                "postgres://u:hunter2@db/p?sslpassword=hunter2",
            ),
            ("POSTHASTE_BROKER_URL", "amqp://u:hunter2@mq/%2f"),
            ("POSTHASTE_MASTER_KEY", secret),
            ("POSTHASTE_ADMIN_KEY", secret),
            ("POSTHASTE_API_KEY", secret),
        ]),
    )
    .unwrap();
    let everything = format!("{config:?}");
    assert!(!everything.contains("hunter2"), "{everything}");
    assert_eq!(
        shown(&config, "broker_url").shown,
        "amqp://u:redacted@mq/%2f"
    );
    let nodes = inputs(&[(
        "POSTHASTE_BROKER_URL",
        "amqp://u:hunter2@a/v, amqp://u:hunter2,too@b/v",
    )]);
    let config_of_nodes = Config::load(Profile::Api, &nodes).unwrap();
    assert_eq!(
        shown(&config_of_nodes, "broker_url").shown,
        "amqp://u:redacted@a/v,amqp://u:redacted@b/v"
    );
    assert_eq!(
        shown(&config, "database_url").shown,
        "postgres://u:redacted@db/p?sslpassword=redacted"
    );
    assert_eq!(shown(&config, "master_key").shown, "[redacted]");
    for unescaped in [
        "postgres://u:12/hunter2@db/p",
        "postgres://u:12?hunter2@db/p",
        "postgres://u:12#hunter2@db/p",
        "postgres://u/:hunter2@db",
    ] {
        let url = inputs(&[("POSTHASTE_DATABASE_URL", unescaped)]);
        match Config::load(Profile::Api, &url) {
            Ok(config) => assert_eq!(shown(&config, "database_url").shown, "[redacted]"),
            Err(error) => assert!(!error.to_string().contains("hunter2"), "{error}"),
        }
    }
    let file = inputs(&[("POSTHASTE_DATABASE_URL", "sqlite:///data/a@b.db")]);
    let of_file = Config::load(Profile::Up, &file).unwrap();
    assert_eq!(
        shown(&of_file, "database_url").shown,
        "sqlite:///data/a@b.db"
    );
}

#[test]
fn tracing_is_off_until_it_has_a_collector_and_ours_win_over_opentelemetrys() {
    let tracing = |environment: &[(&str, &str)]| {
        Config::load(Profile::Api, &inputs(environment))
            .unwrap()
            .tracing
    };
    assert_eq!(tracing(&[]), None);
    // Where nothing is traced, what is there for other programs is not looked at.
    assert_eq!(tracing(&[("OTEL_RESOURCE_ATTRIBUTES", "not a list")]), None);
    let theirs = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://theirs:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "key=hunter2"),
        ("OTEL_SERVICE_NAME", "theirs"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,a=b"),
    ];
    let read = tracing(&theirs).unwrap();
    assert_eq!(read.endpoint.as_str(), "http://theirs:4318/v1/traces");
    assert_eq!(read.headers[0].1, "hunter2");
    assert!((read.sample_ratio - 1.0).abs() < f64::EPSILON);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        read.resource,
        [pair("a", "b"), pair("service.name", "theirs")]
    );
    let mut both = theirs.to_vec();
    both.extend([
        ("POSTHASTE_TRACING_OTLP_ENDPOINT", "http://ours:4318"),
        ("POSTHASTE_TRACING_SERVICE_NAME", "ours"),
    ]);
    let read = tracing(&both).unwrap();
    assert_eq!(read.endpoint.as_str(), "http://ours:4318/v1/traces");
    assert_eq!(read.resource[1], pair("service.name", "ours"));
    both.push(("POSTHASTE_TRACING_OTLP_ENDPOINT", "off"));
    assert_eq!(tracing(&both), None);
    let config = Config::load(Profile::Api, &inputs(&theirs)).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    assert_eq!(shown(&config, "tracing_headers").shown, "[redacted]");
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("POSTHASTE_WRITE_DOCS").is_some() {
        std::fs::write(&path, reference_markdown()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == reference_markdown(),
        "docs/configuration.md is out of date: run POSTHASTE_WRITE_DOCS=1 cargo test -p \
         posthaste-shared config"
    );
}
