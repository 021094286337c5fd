//! fetch, over real sockets.

use std::time::{Duration, Instant};

use posthaste_shared::domain::hops::Hops;
use posthaste_worker::script::{Call, Called, Returned, Returns, ScriptError};
use posthaste_worker::send::SendError;

use crate::server::Server;
use crate::{call, call_within, engine, failure, returned};

/// The first sample of Authgear's guide.
const SAMPLE: &str = concat!(
    r#"import { CustomSMSGatewayPayload, CustomSMSGatewayResponse } from "#,
    r#""https://deno.land/x/authgear_deno_hook@v1.5.0/mod.ts";

export default async function (e: CustomSMSGatewayPayload): Promise<CustomSMSGatewayResponse> {
  const body = JSON.stringify(e);
  const response = await fetch("https://some.sms.gateway", {
    method: "POST",
    body: body,
  });

  if (!response.ok) {
    return {
      code: "delivery_rejected",
    }
  }

  return {
    code: "ok",
  }
}
"#,
);

/// The second.
const SAMPLE_WITH_AUTH: &str = include_str!("sample.ts");

const PAYLOAD: &str = r#"{"to":"+44123456789","body":"420240 is your code"}"#;

fn json(called: &Called) -> &str {
    match &called.result {
        Ok(Returned::Json(json)) => json,
        other => panic!("{other:?}\n{}", called.console),
    }
}

#[tokio::test]
async fn the_samples_of_authgears_guide_run_as_they_are() {
    let server = Server::json(200, "{}").await;
    let called = call(
        &SAMPLE.replace("https://some.sms.gateway", &server.url),
        PAYLOAD,
    )
    .await;
    assert_eq!(json(&called), r#"{"code":"ok"}"#);
    let asked = server.only();
    assert_eq!(asked.line, "POST / HTTP/1.1");
    assert_eq!(
        asked.header("content-type"),
        Some("text/plain;charset=UTF-8")
    );
    assert_eq!(asked.body, PAYLOAD);

    let refusing = Server::json(400, "{}").await;
    let called = call(
        &SAMPLE_WITH_AUTH.replace("https://api.example.com", &refusing.url),
        PAYLOAD,
    )
    .await;
    assert_eq!(json(&called), r#"{"code":"delivery_rejected"}"#);
    let asked = refusing.only();
    assert_eq!(asked.line, "POST /sendsms.json HTTP/1.1");
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(
        asked.body,
        concat!(
            r#"{"SMS":{"auth":{"username":"user@example.com","apikey":"abc13de25fgh46"},"#,
            r#""message":{"sender":"AG Test","messagetext":"420240 is your code","flash":"0"},"#,
            r#""recipients":{"gsm":[{"msidn":"+44123456789"}]}}}"#,
        )
    );
}

#[tokio::test]
async fn an_answer_is_what_the_server_said() {
    let answer = "HTTP/1.1 201 Created\r\nX-A: 1\r\nx-a: 2\r\nset-cookie: a=b\r\nset-cookie: \
                  c=d\r\n\
                  content-length: 8\r\n\r\n{\"a\":\"\u{e9}\"}";
    let server = Server::answering(answer.replace("content-length: 8", "content-length: 10")).await;
    let source = format!(
        "export default async () => {{ const r = await fetch('{}/x?y=1#z'); return [r.status, \
         r.statusText, r.ok, \
         r.redirected, r.url.endsWith('/x?y=1'), r.headers.get('X-A'), r.headers.getSetCookie(), \
         await r.json()] }}",
        server.url
    );
    assert_eq!(
        returned(&source).await,
        r#"[201,"Created",true,false,true,"1, 2",["a=b","c=d"],{"a":"é"}]"#
    );
    assert_eq!(server.only().line, "GET /x?y=1 HTTP/1.1");
}

#[tokio::test]
async fn bodies_have_their_content_types_and_connections_their_own_headers() {
    let server = Server::json(200, "{}").await;
    let source = format!(
        "const post = (body, headers = {{}}) => fetch('{}', {{ method: 'PUT', body, headers }});\n\
         export default async () => {{\n\
           await post(new URLSearchParams({{ a: 'b c' }}));\n\
           await post(new Blob(['x'], {{ type: 'text/x' }}));\n\
           await post(Uint8Array.of(120, 121).subarray(1));\n\
           const form = new FormData(); form.set('a', 'ü'); await post(form);\n\
           await post('x', {{ host: 'evil', 'content-length': '5', connection: 'x', cookie: \
           'a=b', 'user-agent': 'u', 'Proxy-Authorization': 'x' }});\n\
         }}",
        server.url
    );
    let called = call(&source, "null").await;
    assert_eq!(called.result, Ok(Returned::Nothing));
    let asked = server.asked();
    let seen: Vec<_> = asked
        .iter()
        .map(|asked| (asked.header("content-type"), asked.body.as_str()))
        .collect();
    assert_eq!(
        seen[0],
        (
            Some("application/x-www-form-urlencoded;charset=UTF-8"),
            "a=b+c"
        )
    );
    assert_eq!(seen[1], (Some("text/x"), "x"));
    assert_eq!(seen[2], (None, "y"));
    assert!(
        seen[3]
            .0
            .unwrap()
            .starts_with("multipart/form-data; boundary=")
    );
    assert!(seen[3].1.contains("name=\"a\"\r\n\r\nü\r\n--"));
    let last = &asked[4];
    assert!(
        server.url.ends_with(last.header("host").unwrap()),
        "{last:?}"
    );
    assert_eq!(
        (last.header("content-length"), last.header("cookie")),
        (Some("1"), Some("a=b"))
    );
    assert_eq!(
        (
            last.header("user-agent"),
            last.header("proxy-authorization")
        ),
        (Some("u"), None)
    );
}

#[tokio::test]
async fn redirects_are_given_and_not_followed() {
    let target = Server::json(200, "{}").await;
    let answer = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        target.url
    );
    let server = Server::answering(answer).await;
    for redirect in ["follow", "manual"] {
        let source = format!(
            "export default async () => {{ const r = await fetch('{}', {{ redirect: '{redirect}' \
             }}); return [r.status, r.headers.has('location')] }}",
            server.url
        );
        assert_eq!(returned(&source).await, "[302,true]");
    }
    let error = failure(&format!(
        "export default () => fetch('{}', {{ redirect: 'error' }})",
        server.url
    ))
    .await;
    let ScriptError::Threw { text } = error else {
        panic!("{error:?}")
    };
    assert!(
        text.starts_with("TypeError: fetch failed: the answer is a redirect (302)"),
        "{text}"
    );
    assert!(target.asked().is_empty());
}

#[tokio::test]
async fn addresses_that_are_not_public_are_blocked_at_once() {
    let begun = Instant::now();
    let error = failure(
        "export default async () => {\n  await \
                 fetch('http://169.254.169.254/latest/meta-data');\n}",
    )
    .await;
    let ScriptError::Fetch {
        error: SendError::Blocked(refusal),
        text,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(refusal.code(), "private_address");
    assert!(
        text.starts_with("TypeError: fetch failed: 169.254.169.254 is not a public address"),
        "{text}"
    );
    assert!(text.ends_with("(line 2, column 9)"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    for url in [
        "https://metadata.google.internal/",
        "https://localhost/",
        "ftp://example.com/",
        "https://10.0.0.1",
    ] {
        let error = failure(&format!("export default () => fetch('{url}')")).await;
        let blocked = matches!(
            error,
            ScriptError::Fetch {
                error: SendError::Blocked(_),
                ..
            }
        );
        assert!(blocked || url.contains("localhost"), "{url}: {error:?}");
    }
    let error = failure("export default () => fetch('https://u:p@example.com/')").await;
    let ScriptError::Threw { text } = error else {
        panic!("{error:?}")
    };
    assert!(text.contains("user or password"), "{text}");
}

#[tokio::test]
async fn a_failure_that_is_caught_is_the_scripts_own_affair() {
    let source = "export default async () => { try { await fetch('http://10.0.0.1/') } catch (e) \
                  { return [e.name, e.message, e.cause.code] } }";
    assert_eq!(
        returned(source).await,
        concat!(
            r#"["TypeError","fetch failed: 10.0.0.1 is not a public address: if it is meant, add "#,
            r#"it to POSTHASTE_EGRESS_ALLOW","private_address"]"#,
        )
    );
    let source = "export default async () => { try { await fetch('http://10.0.0.1/') } catch (e) \
                  { throw new Error('no luck', { cause: e }) } }";
    let ScriptError::Threw { text } = failure(source).await else {
        panic!("the script did not throw")
    };
    assert!(text.starts_with("Error: no luck"), "{text}");
}

#[tokio::test]
async fn a_failure_of_the_network_is_told_as_one() {
    // A port that was just free, and on which nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = failure(&format!(
        "export default () => fetch('http://127.0.0.1:{port}/')"
    ))
    .await;
    let ScriptError::Fetch {
        error: SendError::Network(error),
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(error.code, "connection_refused");
    let error = failure(&format!(
        "await fetch('http://127.0.0.1:{port}/'); export default () => 1"
    ))
    .await;
    assert!(
        matches!(error, ScriptError::Fetch { .. }),
        "at the top level: {error:?}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_the_calls_time_and_no_more() {
    let server = Server::answering("").await;
    let begun = Instant::now();
    let source = format!("export default () => fetch('{}')", server.url);
    let called = call_within(&source, "null", Duration::from_secs(3)).await;
    let timed_out = matches!(
        called.result,
        Err(ScriptError::Fetch {
            error: SendError::Timeout(_),
            ..
        })
    );
    assert!(timed_out, "{:?}", called.result);
    let source = format!(
        "export default async () => {{ try {{ await fetch('{}') }} catch {{ return 'late' }} }}",
        server.url
    );
    let called = call_within(&source, "null", Duration::from_secs(3)).await;
    assert_eq!(
        json(&called),
        "\"late\"",
        "the script can still say what it makes of it"
    );
    let source = format!(
        "export default async () => {{ try {{ await fetch('{}', {{ signal: \
         AbortSignal.timeout(30) }}) }} catch (e) {{ return e.name }} }}",
        server.url
    );
    assert_eq!(returned(&source).await, "\"TimeoutError\"");
    // A result is a result, though a request is still under way.
    assert_eq!(
        returned(&format!(
            "export default () => {{ fetch('{}'); return 1 }}",
            server.url
        ))
        .await,
        "1"
    );
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn requests_are_given_up_with_the_call() {
    let server = Server::answering("").await;
    let source = format!(
        "export default async () => {{ fetch('{}'); await new Promise((done) => setTimeout(done, \
         300)); return 1 }}",
        server.url
    );
    assert_eq!(returned(&source).await, "1");
    let closed = async {
        while server.closed() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .unwrap();
}

#[tokio::test]
async fn long_answers_are_never_read_as_whole() {
    let long = "x".repeat(64 * 1024 + 1);
    let server = Server::json(200, &long).await;
    let error = failure(&format!(
        "export default async () => (await fetch('{}')).json()",
        server.url
    ))
    .await;
    let ScriptError::Threw { text } = error else {
        panic!("{error:?}")
    };
    assert!(
        text.starts_with("TypeError: the answer has more than 65536 bytes, and no more are read"),
        "{text}"
    );
    let whole = Server::json(200, &long[1..]).await;
    assert_eq!(
        returned(&format!(
            "export default async () => (await (await fetch('{}')).text()).length",
            whole.url
        ))
        .await,
        "65536"
    );
    assert_eq!(
        returned(&format!(
            "export default async () => (await fetch('{}')).status",
            server.url
        ))
        .await,
        "200"
    );
}

#[tokio::test]
async fn requests_are_bounded() {
    let server = Server::json(200, "{}").await;
    let source = format!(
        "export default async () => {{ for (let i = 0; i < 20; i++) await fetch('{0}'); try {{ \
         await fetch('{0}') }} catch (e) {{ return e.message }} }}",
        server.url
    );
    assert_eq!(
        returned(&source).await,
        "\"fetch failed: a call may make 20 requests\""
    );
    assert_eq!(server.asked().len(), 20);
    let source = format!(
        "const post = async (length) => {{ try {{ return (await fetch('{}', {{ method: 'POST', \
         body: 'x'.repeat(length) }})).status }} catch (e) {{ return e.message }} }};\n\
         export default async () => [await post(1048576), await post(1048577)]",
        server.url
    );
    assert_eq!(
        returned(&source).await,
        r#"[200,"fetch failed: the body has 1048577 bytes; 1048576 are allowed"]"#
    );
}

#[tokio::test]
async fn a_transform_has_no_network() {
    let server = Server::json(200, "{}").await;
    let engine = engine();
    let script = crate::script(
        &engine,
        &format!("export default () => fetch('{}')", server.url),
    )
    .await;
    let call = Call {
        deadline: tokio::time::Instant::now() + Duration::from_secs(10),
        network: false,
        hops: Hops::default(),
        returns: Returns::Json,
    };
    let called = engine.call(&crate::tenant(), &script, "null", call).await;
    let Err(ScriptError::Threw { text }) = called.result else {
        panic!("{:?}", called.result)
    };
    assert!(
        text.starts_with("TypeError: fetch failed: there is no network in a transform"),
        "{text}"
    );
    assert!(server.asked().is_empty());
}

/// The page's examples, in their order, as they are there.
fn examples() -> Vec<String> {
    let page = include_str!("../../../docs/scripts.md");
    let blocks = page
        .split("```ts\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"));
    blocks
        .map(|(source, _)| source.to_owned())
        .filter(|source| source.contains("export default"))
        .collect()
}

#[tokio::test]
async fn the_examples_of_the_documentation_run() {
    let [first, basic, signed, transform] = examples().try_into().unwrap();
    let at = |source: &str, server: &Server| {
        let host = source
            .split("fetch(\"https://")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        source.replace(&format!("https://{host}"), &server.url)
    };
    let server = Server::json(200, "{}").await;
    assert_eq!(
        json(&call(&at(&first, &server), PAYLOAD).await),
        r#"{"code":"ok"}"#
    );
    assert_eq!(
        server.only().body,
        r#"{"recipient":"+44123456789","text":"420240 is your code"}"#
    );

    let server = Server::json(400, r#"{"code":21211}"#).await;
    let called = call(&at(&basic, &server), PAYLOAD).await;
    assert_eq!(
        json(&called),
        r#"{"code":"delivery_rejected","provider_error_code":"21211"}"#
    );
    let asked = server.only();
    assert_eq!(
        asked.header("authorization"),
        Some("Basic YWNjb3VudC0xNzowYzVhN2UyZjli")
    );
    assert_eq!(asked.body, "to=%2B44123456789&text=420240+is+your+code");

    let server = Server::json(200, "{}").await;
    assert_eq!(
        json(&call(&at(&signed, &server), PAYLOAD).await),
        r#"{"code":"ok"}"#
    );
    let asked = server.only();
    // openssl dgst -sha256 -hmac whk_5b1f0d3c
    let proof = "69d3e10ea5af446cc61b2c664f20ec4b63470370970fc5a2fc2d39c532d41c42";
    assert_eq!(
        (asked.body.as_str(), asked.header("x-signature")),
        (PAYLOAD, Some(proof))
    );

    let notification = r#"{"type":"order","payload":{"id":7,"status":"paid"}}"#;
    let called = call(&transform, notification).await;
    assert_eq!(
        json(&called),
        r#"{"payload":{"text":"Order 7: paid"},"headers":{"x-order":"7"}}"#
    );
    let called = call(&transform, r#"{"type":"order","payload":{"test":true}}"#).await;
    assert_eq!(json(&called), r#"{"skip":true}"#);
}
