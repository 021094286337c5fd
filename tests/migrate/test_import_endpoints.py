"""deploy/migrate/import_endpoints.py against a running Posthaste: what it writes, and that receivers can go on verifying
with the secrets that they have.

    python3 tests/migrate/test_import_endpoints.py target/debug/posthaste

The exports are written by hand after the other systems' own descriptions of their answers:
  Svix     EndpointOut, ListResponse: svix/svix-webhooks, server/svix-server/src/v1/endpoints/endpoint/mod.rs
  Convoy   GET /v1/projects/{projectID}/endpoints and …/subscriptions: https://www.getconvoy.io/docs/api-reference
  Outpost  DestinationWebhook, WebhookCredentials: hookdeck/outpost, docs/apis/openapi.yaml
"""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import queue
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.request

SCRIPT = os.path.join(os.path.dirname(__file__), "../../deploy/migrate/import_endpoints.py")
PROGRAM = None  # of the command line

SVIX_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
CONVOY_SECRET = "Vuk5LM0uujddIsqO5v_eSuz88"
OUTPOST_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
SECRETS = (SVIX_SECRET, CONVOY_SECRET, OUTPOST_SECRET, "too-short", "header-value-1")


class Receiver:
    """Keeps (headers, body) of what it gets, and answers 204."""

    def __init__(self):
        self.requests = queue.Queue()
        requests = self.requests

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                requests.put(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self):
        return self.requests.get(timeout=20)


def fits(headers, body, key, prefix):
    signed = f"{headers[prefix + '-id']}.{headers[prefix + '-timestamp']}.".encode() + body
    right = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{right}" in headers[prefix + "-signature"].split(" ")


class Import(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.folder = cls.stack.enter_context(tempfile.TemporaryDirectory(prefix="posthaste-import."))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTHASTE_")}
        cls.posthaste = subprocess.Popen(
            [PROGRAM, "up", "--listen", "127.0.0.1:0", "--data-dir", os.path.join(cls.folder, "data")],
            cwd=cls.folder, env={**kept, "POSTHASTE_LOG": "warn"}, stdout=subprocess.PIPE, text=True,
        )
        first = cls.posthaste.stdout.readline()
        cls.api = re.search(r"http://[0-9.:]+", first).group()
        cls.key_file = os.path.join(cls.folder, "data", "api-key")
        cls.posthaste.stdout.readline()  # the key is on disk once it is printed
        cls.environment = {**kept, "POSTHASTE_API_URL": cls.api}
        cls.receiver = Receiver()

    @classmethod
    def tearDownClass(cls):
        cls.receiver.server.shutdown()
        cls.receiver.server.server_close()
        cls.posthaste.send_signal(signal.SIGTERM)
        cls.posthaste.wait(timeout=30)
        cls.posthaste.stdout.close()
        cls.stack.close()

    def file(self, content):
        handle, path = tempfile.mkstemp(dir=self.folder, suffix=".json")
        with os.fdopen(handle, "w") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        return path

    def run_script(self, *arguments, code=0, key=True):
        given = ["--api-key-file", self.key_file] if key else []
        done = subprocess.run(
            [sys.executable, SCRIPT, *arguments, *given], env=self.environment, capture_output=True, text=True, timeout=60
        )
        said = done.stdout + done.stderr
        self.assertEqual(done.returncode, code, said)
        for secret in SECRETS:
            self.assertNotIn(secret, said)
        self.assertNotIn("Traceback", said)
        return said

    def call(self, method, path, body=None):
        with open(self.key_file) as file:
            headers = {"Authorization": f"Bearer {file.read().strip()}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.api + path, data, headers, method=method)) as answer:
            return json.load(answer)

    def endpoints(self, tenant):
        return {found["uid"]: found for found in self.call("GET", f"/v1/endpoints?tenant={tenant}")["items"]}

    def deliver(self, tenant, kind, payload):
        self.call("POST", "/v1/notifications", {"tenant": tenant, "type": kind, "payload": payload})
        return self.receiver.next()

    def svix(self):
        common = {"description": "", "version": 1, "channels": None, "metadata": {},
                  "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"}
        pages = [
            {"data": [{**common, "id": "ep_2a", "uid": None, "url": self.receiver.url + "/svix?token=header-value-1",
                       "disabled": False, "filterTypes": ["invoice.paid"], "rateLimit": 100, "description": "billing"}],
             "iterator": "ep_2a", "done": False},
            {"data": [{**common, "id": "ep_2b", "uid": "crm", "url": "http://127.0.0.1:9/", "disabled": True,
                       "filterTypes": None, "rateLimit": None}],
             "iterator": "ep_2b", "done": True},
        ]
        secrets = {"ep_2a": {"key": SVIX_SECRET}, "ep_2b": SVIX_SECRET}
        headers = {"ep_2a": {"headers": {"X-Team": "header-value-1"}, "sensitive": []}}
        return pages, ["--secrets", self.file(secrets), "--headers", self.file(headers), "--tenant", "svix-app"]

    def test_endpoints_of_svix_go_on_with_their_secrets_and_headers(self):
        pages, options = self.svix()
        export = self.file(pages)
        said = self.run_script("svix", export, *options, "--dry-run", key=False)
        self.assertIn("2 would write", said)
        self.assertEqual(self.endpoints("svix-app"), {})

        said = self.run_script("svix", export, *options)
        self.assertIn("2 created", said)
        found = self.endpoints("svix-app")
        self.assertEqual(set(found), {"svix-ep_2a", "crm"})
        billing, crm = found["svix-ep_2a"], found["crm"]
        self.assertEqual(billing["subscription"]["types"], ["invoice.paid"])
        self.assertEqual((billing["description"], billing["rate_limit_per_second"]), ("billing", 100))
        self.assertEqual((crm["enabled"], crm["subscription"].get("types", [])), (False, []))

        headers, body = self.deliver("svix-app", "invoice.paid", {"amount": 1})
        self.assertEqual(json.loads(body), {"amount": 1}, "the payload alone, as Svix sends it")
        self.assertTrue(fits(headers, body, base64.b64decode(SVIX_SECRET.removeprefix("whsec_")), "svix"))
        self.assertEqual(headers["x-team"], "header-value-1")

        self.assertIn("2 unchanged", self.run_script("svix", export, *options))
        pages[0]["data"][0]["filterTypes"] = ["invoice.*"]
        said = self.run_script("svix", self.file(pages), *options)
        self.assertIn("1 unchanged, 1 updated", said)

    def test_what_svix_does_not_show_is_not_left_out_in_silence(self):
        pages, options = self.svix()
        options[3] = self.file({"ep_2a": {"headers": {}, "sensitive": ["authorization"]}})
        pages[1]["data"][0]["channels"] = ["project_1"]
        said = self.run_script("svix", self.file(pages), *options, "--dry-run", code=1)
        self.assertIn("authorization", said)
        self.assertIn("channels", said)
        self.assertIn("2 refused", said)

    def convoy(self):
        secret = {"uid": "s1", "value": CONVOY_SECRET, "expires_at": None, "created_at": "2026-01-01T00:00:00Z"}
        common = {"project_id": "p1", "status": "active", "http_timeout": 30, "rate_limit": 0, "rate_limit_duration": 0,
                  "advanced_signatures": False, "secrets": [secret], "authentication": None, "owner_id": "customer-7"}
        endpoints = [
            {**common, "uid": "01H3A", "name": "orders", "url": self.receiver.url + "/convoy", "rate_limit": 120,
             "rate_limit_duration": 60,
             "authentication": {"type": "api_key", "api_key": {"header_name": "X-Key", "header_value": "header-value-1"}}},
            {**common, "uid": "01H3B", "name": "nobody", "url": "http://127.0.0.1:9/", "http_timeout": 0},
            {**common, "uid": "01H3C", "name": "short", "url": "http://127.0.0.1:9/",
             "secrets": [{**secret, "value": "too-short"}]},
        ]
        subscriptions = [
            {"uid": "sub1", "endpoint_metadata": {"uid": "01H3A"}, "filter_config": {"event_types": ["order.paid"], "filter": {}}},
            {"uid": "sub2", "endpoint_metadata": {"uid": "01H3A"}, "filter_config": {"event_types": ["order.sent"]}},
            {"uid": "sub3", "endpoint_metadata": {"uid": "01H3C"}, "filter_config": {"event_types": ["*"]}},
        ]

        def answer(content):
            return {"status": True, "message": "fetched", "data": {"content": content, "pagination": {"per_page": 20}}}

        return answer(endpoints), answer(subscriptions)

    def test_endpoints_of_convoy_keep_the_key_and_get_their_subscriptions_types(self):
        endpoints, subscriptions = self.convoy()
        given = [self.file(endpoints), "--subscriptions", self.file(subscriptions), "--tenant-from-owner"]
        said = self.run_script("convoy", *given, code=1)
        self.assertIn("2 created, 1 refused", said)
        self.assertIn("9 bytes", said)
        found = self.endpoints("customer-7")
        orders = found["convoy-01H3A"]
        self.assertEqual(orders["subscription"]["types"], ["order.paid", "order.sent"])
        self.assertEqual((orders["timeout_ms"], orders["rate_limit_per_second"]), (30000, 2))
        self.assertFalse(found["convoy-01H3B"]["enabled"], "nothing subscribes it")

        headers, body = self.deliver("customer-7", "order.paid", {"order": 1})
        self.assertTrue(fits(headers, body, CONVOY_SECRET.encode(), "webhook"))
        self.assertEqual(headers["x-key"], "header-value-1")

        new = os.path.join(self.folder, "new-secrets.json")
        said = self.run_script("convoy", *given, "--new-secrets", new)
        self.assertIn("1 created, 2 unchanged", said)
        self.assertEqual(stat.S_IMODE(os.stat(new).st_mode), 0o600)
        with open(new) as file:
            secrets = json.load(file)
        self.assertEqual(list(secrets), ["convoy-01H3C"])
        self.assertTrue(secrets["convoy-01H3C"].startswith("whsec_"))
        self.assertNotIn(secrets["convoy-01H3C"], said)
        self.assertIn("exists", self.run_script("convoy", *given, "--new-secrets", new, code=2))

    def test_a_convoy_endpoint_without_subscriptions_is_asked_about(self):
        said = self.run_script("convoy", self.file(self.convoy()[0]), "--dry-run", code=2)
        self.assertIn("--subscriptions", said)

    def outpost(self, **changes):
        return {"id": "des_1", "type": "webhook", "topics": ["user.created"], "disabled_at": None, "filter": None,
                "config": {"url": self.receiver.url + "/outpost", "custom_headers": '{"x-api-key":"header-value-1"}'},
                "credentials": {"secret": OUTPOST_SECRET}, "created_at": "2026-01-01T00:00:00Z", **changes}

    def test_webhooks_of_outpost_are_imported_and_queues_are_not(self):
        destinations = [self.outpost(), self.outpost(id="des_2", type="aws_sqs"), self.outpost(id="des_3", topics="*")]
        destinations[2]["disabled_at"] = "2026-01-02T00:00:00Z"
        given = [self.file(destinations), "--tenant", "outpost"]
        self.assertIn("--outpost-mode", self.run_script("outpost", *given, code=2))
        said = self.run_script("outpost", *given, "--outpost-mode", "standard", code=1)
        self.assertIn("2 created, 1 refused", said)
        self.assertIn("aws_sqs", said)
        headers, body = self.deliver("outpost", "user.created", {"id": 1})
        self.assertTrue(fits(headers, body, base64.b64decode(OUTPOST_SECRET.removeprefix("whsec_")), "webhook"))
        self.assertEqual(headers["x-api-key"], "header-value-1")
        self.assertFalse(self.endpoints("outpost")["outpost-des_3"]["enabled"])

    def test_in_outposts_default_mode_the_secrets_text_is_the_key(self):
        given = [self.file([self.outpost()]), "--tenant", "outpost-default", "--outpost-mode", "default"]
        self.assertIn("1 created", self.run_script("outpost", *given))
        headers, body = self.deliver("outpost-default", "user.created", {"id": 1})
        self.assertTrue(fits(headers, body, OUTPOST_SECRET.encode(), "webhook"))

    def test_all_may_be_created_disabled_for_a_later_switch(self):
        given = [self.file([self.outpost()]), "--tenant", "later", "--outpost-mode", "standard"]
        self.run_script("outpost", *given, "--disabled")
        self.assertFalse(self.endpoints("later")["outpost-des_1"]["enabled"])
        # Another run without the flag leaves it to whoever enables it.
        self.assertIn("1 unchanged", self.run_script("outpost", *given))

    def test_what_the_api_refuses_is_said_and_stops_nothing(self):
        destinations = [self.outpost(), self.outpost(id="des_2")]
        destinations[0]["config"] = {"url": "http://10.0.0.1/"}
        said = self.run_script("outpost", self.file(destinations), "--tenant", "refused", "--outpost-mode", "standard", code=1)
        self.assertIn("not a public address", said)
        self.assertIn("1 created, 1 refused", said)

    def test_wrong_use_is_one_sentence(self):
        export = self.file([self.outpost()])
        mode = ["--outpost-mode", "standard"]
        self.assertIn("there is no API key", self.run_script("outpost", export, *mode, key=False, code=2))
        self.assertIn("is not JSON", self.run_script("outpost", self.file("{"), *mode, code=2))
        self.assertIn("cannot be read", self.run_script("outpost", "/nowhere.json", *mode, code=2))
        self.assertIn("no list of endpoints", self.run_script("outpost", self.file({"a": 1}), *mode, code=2))
        self.assertIn("nothing answers", self.run_script("outpost", export, *mode, "--api-url", "http://127.0.0.1:1", code=2))
        wrong = self.file("not-a-key")
        said = self.run_script("outpost", export, *mode, "--api-key-file", wrong, key=False, code=2)
        self.assertIn("refuses the key", said)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
