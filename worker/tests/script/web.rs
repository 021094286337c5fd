//! The web API: what the standards say of it.

use crate::{call, failure, value};
use posthaste_worker::script::ScriptError;

/// Each expression in one script, so that a mistake shows which.
async fn assert_all(cases: &[(&str, &str)]) {
    for (expression, expected) in cases {
        assert_eq!(value(expression).await, *expected, "{expression}");
    }
}

#[tokio::test]
async fn text_and_base64() {
    assert_all(&[
        (
            "[...new TextEncoder().encode('aé€😀\\ud800')]",
            "[97,195,169,226,130,172,240,159,152,128,239,191,189]",
        ),
        (
            "new TextEncoder().encodeInto('aé€', new Uint8Array(4))",
            r#"{"read":2,"written":3}"#,
        ),
        (
            "new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 97, 0xff, 0xe2, 0x82, \
          98]))",
            "\"a\u{fffd}\u{fffd}b\"",
        ),
        (
            "new TextDecoder('utf-8', { ignoreBOM: true }).decode(new Uint8Array([0xef, 0xbb, \
          0xbf]).buffer).length",
            "1",
        ),
        (
            "(() => { const d = new TextDecoder(); return [0xe2, 0x82, 0xac].map((b) => \
             d.decode(Uint8Array.of(b), { stream: true })).join() + d.decode() })()",
            "\",,€\"",
        ),
        (
            "(() => { try { new TextDecoder('utf8', { fatal: true }).decode(Uint8Array.of(255)) } \
             catch (e) { return e.name } })()",
            "\"TypeError\"",
        ),
        (
            "(() => { try { new TextDecoder('latin1') } catch (e) { return String(e) } \
          })()",
            "\"RangeError: TextDecoder: only utf-8 is there for scripts, not \
                  \\\"latin1\\\"\"",
        ),
        (
            "[btoa('user:pässword'), \
          atob('dXNlcjpw5HNz')]",
            "[\"dXNlcjpw5HNzd29yZA==\",\"user:päss\"]",
        ),
        (
            "(() => { try { btoa('€') } catch (e) { return [e.name, e instanceof DOMException] } \
          })()",
            r#"["InvalidCharacterError",true]"#,
        ),
    ])
    .await;
}

#[tokio::test]
async fn urls() {
    assert_all(&[
        ("new URL('../x?a=1#h', \
          'https://user:pw@Example.com:8443/a/b/c').href",
         "\"https://user:pw@example.com:8443/a/x?a=1#h\""),
        (
            "(() => { const u = new URL('https://example.com'); u.pathname = '/a b'; u.port = \
             '99'; u.hash = 'x'; u.searchParams.append('q', 'ü&'); u.searchParams.append('q', \
             '2'); return [u.href, u.host, u.origin, JSON.stringify(u)] })()",
            concat!(
                r#"["https://example.com:99/a%20b?q=%C3%BC%26&q=2#x","example.com:99","#,
                r#""https://example.com:99","\"https://example.com:99/a%20b?q=%C3%BC%26&q=2#x\""]"#,
            ),
        ),
        (
            "(() => { const u = new URL('https://e.com/?a=1&b=2'); const p = u.searchParams; \
             u.search = '?c=3'; const c = p.get('c'); p.delete('c'); return [c, u.href, p.size] \
             })()",
            r#"["3","https://e.com/",0]"#,
        ),
        ("(() => { const u = new URL('https://e.com'); u.port = 'x'; u.protocol = 'nope:'; return \
          u.href })()", "\"https://e.com/\""),
        ("[URL.canParse('nope'), URL.canParse('/a', 'https://e.com'), \
          URL.parse('nope')]", "[false,true,null]"),
        ("(() => { try { new URL('nope') } catch (e) { return String(e) } \
          })()", r#""TypeError: Invalid URL: \"nope\"""#),
        ("new URLSearchParams({ a: 'b c', d: 'é' }).toString()", "\"a=b+c&d=%C3%A9\""),
        ("[...new URLSearchParams('?a=1&b=2&a=3')]", r#"[["a","1"],["b","2"],["a","3"]]"#),
        (
            "(() => { const p = new URLSearchParams([['b', '1'], ['a', '2'], ['b', '3']]); \
             p.sort(); p.set('b', 'x'); return [String(p), p.getAll('b'), p.has('a', '2'), \
             p.has('a', '3'), p.get('z'), [...p.keys()]] })()",
            r#"["a=2&b=x",["x"],true,false,null,["a","b"]]"#,
        ),
    ])
    .await;
}

#[tokio::test]
async fn headers_requests_and_responses() {
    assert_all(&[
        (
            "(() => { const h = new Headers({ 'X-B': ' 1 ', a: '2' }); h.append('x-b', '3'); \
             h.append('Set-Cookie', 'a'); h.append('set-cookie', 'b'); return [[...h], \
             h.get('X-b'), h.has('A'), h.getSetCookie(), h.get('z')] })()",
            concat!(
                r#"[[["a","2"],["set-cookie","a"],["set-cookie","b"],["x-b","1, 3"]],"1, 3",true,"#,
                r#"["a","b"],null]"#,
            ),
        ),
        ("['a b', '', 'é'].map((n) => { try { new Headers([[n, '1']]) } catch (e) { return e.name \
          } })", r#"["TypeError","TypeError","TypeError"]"#),
        ("(() => { try { new Headers({ a: 'x\\r\\ny: z' }) } catch (e) { return String(e) } \
          })()", r#""TypeError: Headers: the value of \"a\" is none that a header can have""#),
        (
            "(() => { const r = new Request('https://e.com/#x', { method: 'post', body: new \
             URLSearchParams({ a: 1 }) }); return [r.method, r.url, \
             r.headers.get('content-type'), r.bodyUsed] })()",
            concat!(
                r#"["POST","https://e.com/#x","application/x-www-form-urlencoded;charset=UTF-8","#,
                r#"false]"#,
            ),
        ),
        ("new Request(new Request('https://e.com', { method: 'PUT', body: 'b', headers: { a: '1' \
          } }), { method: 'POST' }).text()", "\"b\""),
        (
            "['https://u:p@e.com', 'nope', '/a'].map((u) => { try { new Request(u) } catch (e) { \
             return e.name } })",
            r#"["TypeError","TypeError","TypeError"]"#,
        ),
        (
            "[{ method: 'TRACE' }, { body: 'x' }, { redirect: 'x' }].map((i) => { try { new \
             Request('https://e.com', i) } catch (e) { return e.message } })",
            concat!(
                r#"["Request: method \"TRACE\"; there are GET, HEAD, POST, PUT, PATCH, DELETE, "#,
                r#"OPTIONS","Request: GET has no body","Request: redirect is one of follow, "#,
                r#"manual, error"]"#,
            ),
        ),
        (
            "(async () => { const r = new Response('\\ufeff{\"a\":1}', { status: 404, headers: { \
             a: 'b' } }); const c = r.clone(); return [r.ok, r.status, await r.json(), \
             r.bodyUsed, c.bodyUsed, await c.text(), c.headers.get('A'), \
             r.headers.get('content-type')] })()",
            r#"[false,404,{"a":1},true,false,"{\"a\":1}","b","text/plain;charset=UTF-8"]"#,
        ),
        (
            "(async () => { const r = Response.json({ a: 1 }, { status: 201 }); const t = await \
             r.arrayBuffer(); try { await r.text() } catch (e) { return [t.byteLength, \
             r.headers.get('content-type'), String(e)] } })()",
            r#"[7,"application/json","TypeError: the body was read before"]"#,
        ),
        ("(() => { const r = Response.error(); return [r.type, r.status, r.ok] \
          })()", r#"["error",0,false]"#),
        ("(async () => [...await new Response(Uint8Array.of(1, 2)).bytes()])()", "[1,2]"),
    ])
    .await;
}

#[tokio::test]
async fn blobs_and_forms() {
    assert_all(&[
        (
            "(async () => { const b = new Blob(['a', Uint8Array.of(98), new Blob(['c'])], { type: \
          'Text/Plain' }); return [b.size, b.type, await b.text(), await b.slice(1, -1).text()] \
          })()",
            r#"[3,"text/plain","abc","b"]"#,
        ),
        (
            "(async () => { const f = new FormData(); f.append('a', '1'); f.append('f', new \
             Blob(['x'], { type: 'text/x' }), 'n\"m.txt'); const r = new Request('https://e.com', \
             { method: 'POST', body: f }); const type = r.headers.get('content-type'); return \
             [type.startsWith('multipart/form-data; boundary=----posthaste'), (await \
             r.text()).replaceAll(type.split('=')[1], 'B')] })()",
            concat!(
                r#"[true,"--B\r\nContent-Disposition: form-data; "#,
                r#"name=\"a\"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; name=\"f\"; "#,
                r#"filename=\"n%22m.txt\"\r\nContent-Type: text/x\r\n\r\nx\r\n--B--\r\n"]"#,
            ),
        ),
        (
            "(async () => [...await new Response(new \
          URLSearchParams('a=1&b=2')).formData()])()",
            r#"[["a","1"],["b","2"]]"#,
        ),
    ])
    .await;
}

const HEX: &str = "const hex = (b) => [...new Uint8Array(b)].map((x) => \
                   x.toString(16).padStart(2, '0')).join('');";

#[tokio::test]
async fn digests_and_hmac_have_the_known_values() {
    let cases = [
        (
            "await crypto.subtle.digest('SHA-1', text('abc'))",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
        ),
        (
            "await crypto.subtle.digest({ name: 'sha-256' }, text('abc'))",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            "await crypto.subtle.digest('SHA-384', text('abc').buffer)",
            concat!(
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed",
                "8086072ba1e7cc2358baeca134c825a7",
            ),
        ),
        (
            "await crypto.subtle.digest('SHA-512', text('abc'))",
            concat!(
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a",
                "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ),
        // RFC 4231, test case 2; RFC 2202, test case 2.
        (
            "await hmac('SHA-256', 'raw', text('Jefe'))",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            "await hmac('SHA-256', 'jwk', { kty: 'oct', k: 'SmVmZQ' })",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            "await hmac('SHA-1', 'raw', text('Jefe'))",
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ),
        (
            "await hmac('SHA-384', 'raw', text('Jefe'))",
            concat!(
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e",
                "8e2240ca5e69e2c78b3239ecfab21649",
            ),
        ),
        (
            "await hmac('SHA-512', 'raw', text('Jefe'))",
            concat!(
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554",
                "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ),
    ];
    for (expression, expected) in cases {
        let source = format!(
            "{HEX} const text = (t) => new TextEncoder().encode(t);
             const hmac = async (hash, format, key) => crypto.subtle.sign('HMAC',
               await crypto.subtle.importKey(format, key, {{ name: 'HMAC', hash }},
                 false, ['sign']),
               text('what do ya want for nothing?'));
             export default async () => hex({expression});"
        );
        assert_eq!(
            crate::returned(&source).await,
            format!("\"{expected}\""),
            "{expression}"
        );
    }
    assert_all(&[
        (
            "(async () => { const key = await crypto.subtle.importKey('raw', Uint8Array.of(1), { \
             name: 'HMAC', hash: 'SHA-256' }, true, ['sign', 'verify']); const mac = await \
             crypto.subtle.sign('HMAC', key, new ArrayBuffer(2)); const yes = await \
             crypto.subtle.verify('HMAC', key, mac, new ArrayBuffer(2)); const no = await \
             crypto.subtle.verify('HMAC', key, mac, new ArrayBuffer(3)); return [yes, no, \
             key.type, key.algorithm.hash.name, [...new Uint8Array(await \
             crypto.subtle.exportKey('raw', key))]] })()",
            r#"[true,false,"secret","SHA-256",[1]]"#,
        ),
        (
            "(async () => { try { await crypto.subtle.importKey('raw', new ArrayBuffer(1), { \
             name: 'AES-GCM' }, true, ['sign']) } catch (e) { return e.name } })()",
            "\"NotSupportedError\"",
        ),
        (
            "crypto.getRandomValues(new Uint8Array(64)).some((b) => b !== 0)",
            "true",
        ),
        (
            "/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/\
          .test(crypto.randomUUID())",
            "true",
        ),
        (
            "(() => { try { crypto.getRandomValues(new Uint8Array(65537)) } catch (e) { return \
          e.name } })()",
            "\"QuotaExceededError\"",
        ),
    ])
    .await;
}

#[tokio::test]
async fn timers_aborting_and_cloning() {
    assert_all(&[
        (
            "new Promise((done) => { const seen = []; setTimeout(() => seen.push('early'), 1); \
             const gone = setTimeout(() => seen.push('never'), 2); clearTimeout(gone); \
             queueMicrotask(() => seen.push('micro')); let n = 0; \
             const late = (x) => { seen.push(x); done(seen) }; const i = setInterval(() => { \
             if (++n === 3) { clearInterval(i); seen.push('third'); setTimeout(late, 20, 'late') } \
             }, 1) })",
            r#"["micro","early","third","late"]"#,
        ),
        (
            "(() => { const c = new AbortController(); const seen = []; \
          c.signal.addEventListener('abort', (e) => seen.push(e.type, c.signal.aborted)); \
          c.signal.onabort = () => seen.push('on'); c.abort(); c.abort(); return [seen, \
          c.signal.reason.name] })()",
            r#"[["on","abort",true],"AbortError"]"#,
        ),
        (
            "new Promise((done) => { const s = AbortSignal.any([AbortSignal.timeout(5), new \
          AbortController().signal]); s.onabort = () => done([s.reason.name, s.aborted]) \
          })",
            r#"["TimeoutError",true]"#,
        ),
        (
            "(() => { try { AbortSignal.abort('why').throwIfAborted() } catch (e) { return e } \
          })()",
            "\"why\"",
        ),
        (
            "(() => { const a = { d: new Date(0), m: new Map([[1, { x: [undefined] }]]), b: \
             Uint8Array.of(1) }; a.self = a; const c = structuredClone(a); return [c !== a, \
             c.self === c, c.d.getTime(), c.m.get(1).x.length, c.m.get(1) !== a.m.get(1), \
             [...c.b]] })()",
            "[true,true,0,1,true,[1]]",
        ),
        (
            "(() => { try { structuredClone({ f() {} }) } catch (e) { return e.name } })()",
            "\"DataCloneError\"",
        ),
        (
            "[Number.isInteger(performance.now()), typeof Deno, typeof require, typeof Intl]",
            r#"[true,"undefined","undefined","undefined"]"#,
        ),
    ])
    .await;
}

#[tokio::test]
async fn errors_of_callbacks_go_to_the_console() {
    let source = "export default async () => { setTimeout(() => { throw new Error('late') }, 1);\n\
                  const t = new EventTarget(); t.addEventListener('x', () => { throw 1 }); \
                  t.dispatchEvent(new Event('x'));\n\
                  await new Promise((done) => setTimeout(done, 20)); return 1 }";
    let called = call(source, "null").await;
    assert!(called.result.is_ok());
    assert_eq!(
        called.console,
        "Uncaught 1 (not an Error)\nUncaught Error: late (line 1, column 59)\n"
    );
}

#[tokio::test]
async fn a_script_may_spoil_its_built_ins_and_still_return() {
    let source = "JSON.stringify = null; JSON.parse = null; Promise.prototype.then = null; \
                  Array.prototype.map = null;\n\
                  Uint8Array.prototype.toBase64 = null; Object.prototype.get = 1; \
                  Error.prototype.toString = null;\n\
                  export default (e) => e";
    let called = call(source, "[1]").await;
    assert_eq!(format!("{:?}", called.result), r#"Ok(Json("[1]"))"#);
    let error =
        failure("Error.prototype.name = null; export default () => { throw new Error('x') }").await;
    assert!(matches!(error, ScriptError::Threw { .. }), "{error:?}");
}

/// Whatever a script does with the console, it does not fail for it.
#[tokio::test]
async fn the_console_has_all_methods() {
    let source = r#"export default () => {
      console.group("outer"); console.dir({ a: 1 }); console.groupCollapsed();
      console.table([{ a: 1 }, 2]);
      console.groupEnd(); console.groupEnd(); console.groupEnd();
      console.count(); console.count(); console.countReset(); console.count("n");
      console.time("t"); console.timeLog("t", "so far"); console.timeEnd("t");
      console.timeEnd("none"); console.timeStamp();
      console.assert(true, "not shown"); console.assert(false, "so %s", "it is");
      console.trace("here");
      console.dirxml(1);
      console.profile(); console.profileEnd(); console.clear();
      console.log("%s is %d, %i, %j%% %c.", "it", "1.5", 2.7, { a: 1 }, "color: red", "more");
      console.log({ get a() { throw new Error("no"); } }); console.table(null);
      console.log(Symbol("s"), 1n);
      return Object.keys(console).length;
    }"#;
    let called = crate::call(source, "null").await;
    assert!(
        matches!(
            &called.result,
            Ok(posthaste_worker::script::Returned::Json(_))
        ),
        "{called:?}"
    );
    for line in [
        "outer\n",
        "  {\"a\":1}\n",
        "0: {\"a\":1}\n",
        "default: 2\n",
        "n: 1\n",
        "so far\n",
        "Timer 'none' does not exist\n",
        "Assertion failed: so it is\n",
        "Trace: here\n",
        "it is 1.5, 2, {\"a\":1}% . more\n",
        "[cannot be shown]\n",
        "Symbol(s) 1n\n",
    ] {
        assert!(
            called.console.contains(line),
            "{line:?}\n{}",
            called.console
        );
    }
    assert!(!called.console.contains("not shown"));
}

/// What there is not is said, and is never ignored in silence.
#[tokio::test]
async fn what_scripts_do_not_have_is_named() {
    for (expression, told) in [
        (
            "new Date(0).toLocaleString('de-DE', { timeZone: 'Europe/Berlin' })",
            "scripts have no Intl",
        ),
        (
            "new Date(0).toLocaleTimeString(undefined, { timeZone: 'UTC' })",
            "toLocaleTimeString: scripts have no Intl",
        ),
        (
            "new Date(0).toLocaleDateString('en-GB')",
            "scripts have no Intl",
        ),
        ("(1234.5).toLocaleString('de')", "scripts have no Intl"),
        ("[1].toLocaleString('de')", "scripts have no Intl"),
        ("'a'.localeCompare('b', 'sv')", "scripts have no Intl"),
        ("'i'.toLocaleUpperCase('tr')", "scripts have no Intl"),
        ("Deno.env.get('KEY')", "scripts have no Deno"),
        ("process.env.KEY", "scripts have no process"),
        ("Buffer.from('a')", "TextEncoder"),
        ("new Intl.DateTimeFormat('de')", "scripts have no Intl"),
        ("Temporal.Now.instant()", "use Date"),
        ("new WebSocket('wss://example.com')", "use fetch"),
        ("require('crypto')", "must be in the script itself"),
        ("new Response('a').body.getReader()", "no streams"),
        (
            "await crypto.subtle.deriveKey({}, {}, {}, true, [])",
            "scripts have digest",
        ),
    ] {
        let error = crate::failure(&format!("export default async () => ({expression})"))
            .await
            .to_string();
        assert!(error.contains(told), "{expression}: {error}");
    }
    let there = "[new Date(0).toLocaleString().length > 5, (5).toLocaleString(), \
        'i'.toLocaleUpperCase('en'), \
        typeof Deno, ['b', 'a'].sort((a, b) => a.localeCompare(b)), new Response(null).body]";
    assert_eq!(
        crate::value(there).await,
        r#"[true,"5","I","undefined",["a","b"],null]"#
    );
}
