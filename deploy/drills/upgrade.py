#!/usr/bin/env python3
"""Drill: a store of an earlier schema with a million rows comes up to date under load.

    cargo build --release
    deploy/drills/upgrade.py [postgres] [sqlite] [--from 1] [--rows 1000000] [--rate 200]

The store gets the migrations up to `--from`, and rows as programs of that schema wrote them: finished deliveries with
their attempts, and pending ones (due, parked, scheduled, in flight with a lease that ended). On Postgres, pgbench goes on
writing such rows while `posthaste migrate` runs, in the place of the older programs, and after it. Then this version's
API and two workers start, under a load of their own. Says how long each migration took, which is the longest that it
can have held its locks, and how long a transaction of the load had to wait meanwhile. Exit code 1 when a pending delivery
has no outcome, a finished one is gone or is sent again, or the books are not in order.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import time

import drill
from drill import say, until

KINDS = ("postgres", "sqlite")
ENDPOINTS = 10
# Of each kind of pending delivery, as a share of all rows.
PENDING = 0.005

# For both databases. {n} is the number of a row, {id} an id made of it, {now} microseconds.
ROWS = """
INSERT INTO notifications (tenant, id, type, target, payload, accepted_at, priority, origin, fan_out)
SELECT 'default', '{name}-' || n, 'drill.old', {endpoint}, {payload}, {now} - 3600000000, 'normal', 'producer', 1
FROM {numbers};
INSERT INTO deliveries (id, notification_id, tenant, type, endpoint_id, wire_format, status, wait, hold, due_at, round,
    attempt_count, round_base, created_at, origin, finished_at)
SELECT {id}, '{name}-' || n, 'default', 'drill.old', {endpoint}, 'raw', '{status}', {wait}, {hold}, {due}, 1,
    {attempts}, 0, {now} - 3600000000, 'producer', {finished}
FROM {numbers};
"""
ATTEMPTS = """
INSERT INTO attempts (delivery_id, number, round, started_at, duration_us, phases, result, status_code, request_headers,
    worker)
SELECT {id}, 1, 1, {now} - 3600000000 - n, 4000, '{{"connect":0.4,"wait":2.5,"body":0.1}}', '{result}', {code},
    '[["content-type","application/json"],["user-agent","posthaste"]]', 'worker-of-then'
FROM {numbers};
"""

TOOK = "SELECT version, description, execution_time / 1e9 FROM _sqlx_migrations ORDER BY version"

# What pgbench runs: a delivery is accepted and delivered, another is accepted and has failed once.
BENCH = """
\\set n random(1, 1000000000000)
BEGIN;
INSERT INTO notifications (tenant, id, type, payload, accepted_at, priority, origin, fan_out)
    VALUES ('default', 'load-' || :n::text, 'drill.old', convert_to('{"id":"load-' || :n::text || '"}', 'UTF8'),
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 'normal', 'producer', 2);
INSERT INTO deliveries (id, notification_id, tenant, type, endpoint_id, wire_format, status, round, attempt_count,
    round_base, created_at, origin, finished_at)
    VALUES (md5('delivered ' || :n::text)::uuid, 'load-' || :n::text, 'default', 'drill.old', '%s', 'raw', 'delivered', 1, 1, 0,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 'producer',
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
INSERT INTO deliveries (id, notification_id, tenant, type, endpoint_id, wire_format, status, wait, due_at, round,
    attempt_count, round_base, created_at, origin)
    VALUES (md5('pending ' || :n::text)::uuid, 'load-' || :n::text, 'default', 'drill.old', '%s', 'raw', 'pending', 'retry',
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 1, 1, 0,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 'producer');
INSERT INTO attempts (delivery_id, number, round, started_at, duration_us, phases, result, request_headers, worker)
    VALUES (md5('delivered ' || :n::text)::uuid, 1, 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 4000, '{}', '2xx',
        '[]', 'worker-of-then'),
    (md5('pending ' || :n::text)::uuid, 1, 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 4000, '{}', '5xx',
        '[]', 'worker-of-then');
END;
"""


def migrations(kind, until_version):
    """(version, description, text) of each migration up to that version, as sqlx reads the folder."""
    for path in sorted((drill.REPOSITORY / "migrations" / kind).glob("*.sql")):
        version, _, description = path.stem.partition("_")
        if int(version) <= until_version:
            yield int(version), description.replace("_", " "), path.read_text()


class Postgres:
    kind = "postgres"

    def __init__(self, here):
        self.server = here.server("postgres")
        self.url = self.server.url

    def sql(self, text):
        done = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.url, "-f", "-"], input=text, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise RuntimeError(f"{text[:200]}: {done.stderr}")
        return [line.split("|") for line in done.stdout.splitlines()]

    def bring_to(self, version):
        self.sql("""CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
            installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL,
            execution_time BIGINT NOT NULL)""")
        for number, description, text in migrations(self.kind, version):
            checksum = hashlib.sha384(text.encode()).hexdigest()
            self.sql(f"BEGIN; {text}; INSERT INTO _sqlx_migrations (version, description, success, checksum, "
                     f"execution_time) VALUES ({number}, '{description}', true, '\\x{checksum}', 0); COMMIT")

    def words(self, name, count):
        return {
            "numbers": f"generate_series(1, {count}) AS n", "id": f"md5('{name} ' || n)::uuid",
            "payload": f"convert_to('{{\"id\":\"{name}-' || n || '\"}}', 'UTF8')",
            "now": "(extract(epoch FROM now()) * 1000000)::bigint", "array": "(ARRAY[%s])[1 + n %% %d]",
        }

    def took(self):
        """(version, description, seconds) of each migration."""
        return [(int(version), what, float(took)) for version, what, took in self.sql(TOOK)]


class Sqlite:
    kind = "sqlite"

    def __init__(self, here):
        self.path = here.root / "store.db"
        self.url = f"sqlite://{self.path}"
        with open(self.path, "ab"):
            pass
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = OFF")
        self.connection.create_function("md5", 1, lambda text: hashlib.md5(text.encode()).digest(), deterministic=True)

    def sql(self, text):
        if text.lstrip().upper().startswith("SELECT"):
            return self.connection.execute(text).fetchall()
        self.connection.executescript(f"BEGIN; {text}; COMMIT")
        return []

    def bring_to(self, version):
        self.sql("""CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
            installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL,
            execution_time BIGINT NOT NULL)""")
        for number, description, text in migrations(self.kind, version):
            checksum = hashlib.sha384(text.encode()).hexdigest()
            self.sql(f"{text}; INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) "
                     f"VALUES ({number}, '{description}', true, X'{checksum}', 0)")

    def words(self, name, count):
        return {
            "numbers": f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) "
                       "SELECT n FROM c)",
            "id": f"md5('{name} ' || n)",
            "payload": f"CAST('{{\"id\":\"{name}-' || n || '\"}}' AS BLOB)",
            "now": str(time.time_ns() // 1000), "array": None,
        }

    def took(self):
        return self.sql(TOOK)


def fill(store, name, count, endpoints, status, wait="NULL", due=None, hold="NULL", attempts=1):
    """`count` deliveries of one state, over all endpoints."""
    words = store.words(name, count)
    names = ", ".join(f"'{endpoint}'" for endpoint in endpoints)
    if words["array"]:
        words["endpoint"] = words["array"] % (names, len(endpoints))
    else:
        cases = " ".join(f"WHEN {index} THEN '{endpoint}'" for index, endpoint in enumerate(endpoints))
        words["endpoint"] = f"CASE n % {len(endpoints)} {cases} END"
    final = status != "pending"
    words.update(name=name, status=status, wait=wait, hold=hold, attempts=attempts,
                 due=f"{words['now']} + {due}" if due is not None else "NULL",
                 finished=f"{words['now']} - 3500000000" if final else "NULL",
                 result="2xx" if final else "5xx", code=200 if final else 503)
    store.sql(ROWS.format(**words))
    if attempts:
        store.sql(ATTEMPTS.format(**words))


def borrow_endpoints(here, store, receiver):
    """Endpoints as they are stored, with what is encrypted in them: this version makes them in a store of its own."""
    environment = {"POSTHASTE_DATABASE_URL": f"sqlite://{here.root}/scratch.db", "POSTHASTE_BROKER_URL": "embedded"}
    process = drill.Process(here, ["up"], environment)
    api = drill.Api(process)
    for number in range(ENDPOINTS):
        api.endpoint(f"{receiver.url}/{number}", max_in_flight=64)
    process.stop()
    scratch = sqlite3.connect(here.root / "scratch.db")
    scratch.row_factory = sqlite3.Row
    rows = scratch.execute("SELECT * FROM endpoints").fetchall()
    scratch.close()
    known = ("id", "tenant", "url", "wire_format", "description", "subscription", "confidential", "timeout_ms", "retry",
             "max_in_flight", "status", "created_at", "updated_at", "version")

    def literal(value):
        if isinstance(value, bytes):
            return f"'\\x{value.hex()}'::bytea" if store.kind == "postgres" else f"X'{value.hex()}'"
        return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"

    for row in rows:
        values = ", ".join(literal(row[name]) for name in known)
        store.sql(f"INSERT INTO endpoints ({', '.join(known)}) VALUES ({values})")
    store.sql(f"UPDATE versions SET value = {max(row['version'] for row in rows)} WHERE name = 'endpoints'")
    return [row["id"] for row in rows]


class Bench:
    """The load of the older programs: pgbench, with a line in its log for each transaction."""

    def __init__(self, here, store, endpoint, rate):
        self.here = here
        script = here.root / "bench.sql"
        script.write_text(BENCH % (endpoint, endpoint))
        bins = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
        program = shutil.which("pgbench") or (bins and str(bins[-1])) or sys.exit("pgbench is not installed")
        self.child = subprocess.Popen(
            [program, "-n", "-c", "4", "-R", str(rate), "-T", "100000", "-l", f"--log-prefix={here.root}/transactions",
             "--max-tries=10", "-M", "extended", "-f", str(script), store.url],
            stdout=subprocess.DEVNULL, stderr=open(here.root / "pgbench.err", "wb"))

    def transactions(self):
        """(when it ended, seconds it took), seconds since 1970."""
        found = []
        for line in (line for log in self.here.root.glob("transactions.*") for line in log.read_text().splitlines()):
            # The last line may not be whole yet.
            fields = line.split()
            if len(fields) >= 6 and fields[2].isdigit():
                found.append((int(fields[4]) + int(fields[5]) / 1e6, int(fields[2]) / 1e6))
        return found

    def stop(self):
        self.child.terminate()
        self.child.wait(30)


def longest(transactions, begun, ended):
    """The longest transaction of those under way in that time, from when it should have begun."""
    return max((took for at, took in transactions if at >= begun and at - took <= ended), default=0.0)


def run(here, store, options):
    receiver = drill.Receiver.start()
    say(f"{store.kind}: a store of schema {options.start}")
    store.bring_to(options.start)
    endpoints = borrow_endpoints(here, store, receiver)
    each = max(1, int(options.rows * PENDING))
    at = time.monotonic()
    fill(store, "done", options.rows - 4 * each, endpoints, "delivered")
    fill(store, "due", each, endpoints, "pending", "'retry'", -1_000_000)
    fill(store, "parked", each, endpoints, "pending", "'parked'", None, "'max_in_flight'", 0)
    fill(store, "leased", each, endpoints, "pending", "'in_flight'", -1_000_000, attempts=0)
    fill(store, "later", each, endpoints, "pending", "'scheduled'", 86_400_000_000, attempts=0)
    if store.kind == "postgres":
        store.sql("ANALYZE")
    say(f"{options.rows} deliveries are in it, {4 * each} of them pending ({time.monotonic() - at:.0f} s)")
    here.environment.update(POSTHASTE_DATABASE_URL=store.url, POSTHASTE_BROKER_URL="embedded")
    bench = None
    if store.kind == "postgres":
        bench = Bench(here, store, endpoints[0], options.rate)
        until("the older programs write", 30, lambda: len(bench.transactions()) > options.rate)
    begun = time.time()
    said = here.run("migrate").stdout.strip()
    ended = time.time()
    say(f"{said} {ended - begun:.2f} s")
    time.sleep(3 if bench else 0)
    print("\n| migration | took, s |\n| --- | --- |")
    for version, what, took in store.took():
        if version > options.start:
            print(f"| {version} {what} | {took:.3f} |")
    print()
    if bench:
        before = bench.transactions()
        say(f"the longest transaction of the older programs meanwhile: {longest(before, begun, ended):.2f} s; before: "
            f"{longest(before, 0, begun):.2f} s")
    api = drill.Process(here, ["api"])
    workers = [drill.Process(here, ["worker"]) for _ in range(2)]
    client = drill.Api(api)
    load = drill.Load(client, endpoints, options.rate, "new")
    load.start()
    time.sleep(10)
    if bench:
        bench.stop()
    accepted = load.stop()
    names = set(accepted)
    waiting = {f"{name}-{n}" for name in ("due", "parked", "leased") for n in range(1, each + 1)}

    def quiet():
        found = drill.books(here, names)
        deliveries = found["accounting"]["deliveries"]
        return found if deliveries.get("pending", 0) == each and not found["missing"] else None

    found = until("only what is scheduled for tomorrow is pending", 600, quiet)
    if bench:
        loaded = {name for name, in store.sql("SELECT id FROM notifications WHERE id LIKE 'load-%'")}
        say(f"the older programs' load: {len(bench.transactions())} transactions, {len(loaded)} of them found")
        if len(loaded) < len(bench.transactions()):
            sys.exit("a committed transaction is gone")
        waiting |= loaded
    lost = (names | waiting) - receiver.names
    again = [name for name in receiver.names if name.startswith("done-") or name.startswith("later-")]
    (done,), = store.sql("SELECT count(*) FROM deliveries WHERE status = 'delivered' AND notification_id LIKE 'done-%'")
    calls = receiver.ids()
    figures = {
        "accepted since": len(names), "pending before": len(waiting), "lost": len(lost),
        "finished before": int(done), "sent again": len(again), "sent twice": len(calls) - len(set(calls)),
        "reconcile": "adds up" if found["adds_up"] else json.dumps(found),
    }
    say("  ".join(f"{name}: {value}" for name, value in figures.items()))
    for process in [api, *workers]:
        process.stop()
    if lost or again or int(done) != options.rows - 4 * each or not found["adds_up"]:
        sys.exit("the books are not in order")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kinds", nargs="*", metavar="DATABASE", help="postgres, sqlite; default: both")
    options.add_argument("--from", dest="start", type=int, default=1, help="the schema before")
    options.add_argument("--rows", type=int, default=1_000_000, help="deliveries in the store before")
    options.add_argument("--rate", type=int, default=200, help="transactions, and later notifications, a second")
    options = options.parse_args()
    for kind in options.kinds or KINDS:
        if kind not in KINDS:
            raise SystemExit(f"there is no database {kind}: choose of {', '.join(KINDS)}")
        with drill.Drill(f"upgrade-{kind}") as here:
            run(here, Postgres(here) if kind == "postgres" else Sqlite(here), options)


if __name__ == "__main__":
    main()
