#!/usr/bin/env python3
"""Imports endpoints from an export of Svix, Convoy or Hookdeck Outpost into Posthaste.

    import_endpoints.py svix    endpoints.json --secrets secrets.json [--headers headers.json] [--tenant acme]
    import_endpoints.py convoy  endpoints.json --subscriptions subscriptions.json [--tenant acme]
    import_endpoints.py outpost destinations.json --outpost-mode standard [--tenant acme]

Each endpoint is written with PUT /v1/endpoints/{uid}, so running it again changes nothing that is already as the export
says. Begin with --dry-run: it reads the files, checks them and sends nothing. Secrets are never printed.

The API's address is --api-url, else POSTHASTE_API_URL, else http://127.0.0.1:8080; the key is read from --api-key-file,
else POSTHASTE_API_KEY. It needs the scope `admin`. docs/migrating.md says how to make the exports.

Exit code: 0 all endpoints are as the export says; 1 some are not, each with its reason; 2 wrong use.
Needs Python 3.9 or newer and nothing else.
"""

import argparse
import base64
import binascii
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

KEY_BYTES = range(24, 65)  # what Standard Webhooks allows, and Posthaste accepts
TIMEOUT_MS = (1_000, 60_000)
UID = re.compile(r"(?!ep_)[A-Za-z0-9_-]{1,64}\Z")


class Refused(Exception):
    """Why one endpoint is not imported."""


class WrongUse(Exception):
    """Why nothing is."""


# ---- reading exports --------------------------------------------------------------------------------------------------


def read(path):
    try:
        with sys.stdin if path == "-" else open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise WrongUse(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise WrongUse(f"{path} is not JSON: {error}") from None


def items(document, path, *members):
    """The endpoints of an answer, of several pages of answers, or of a plain list."""
    for member in members:
        if isinstance(document, dict) and member in document:
            return items(document[member], path, *members)
    if isinstance(document, dict) and ("id" in document or "uid" in document):
        return [document]
    if not isinstance(document, list):
        raise WrongUse(f"{path} has no list of endpoints: looked for a list, or for {' or '.join(members)}")
    found = []
    for entry in document:
        is_page = isinstance(entry, dict) and any(isinstance(entry.get(member), (list, dict)) for member in members)
        if is_page and "id" not in entry and "uid" not in entry:
            found += items(entry, path, *members)
        elif isinstance(entry, dict):
            found.append(entry)
        else:
            raise WrongUse(f"{path} has an entry that is not an object")
    return found


def by_id(path, *members):
    """{id: value}, where a value may be wrapped as the system's own answer has it."""
    if path is None:
        return {}
    document = read(path)
    if not isinstance(document, dict):
        raise WrongUse(f"{path} must be an object with a member for each endpoint's id")
    def unwrapped(value):
        return next((value[member] for member in members if isinstance(value, dict) and member in value), value)
    return {name: unwrapped(value) for name, value in document.items()}


# ---- what one endpoint becomes ----------------------------------------------------------------------------------------


def uid(system, name, own=None):
    """Stable, so that the same export writes the same endpoint. Ids of Svix begin with `ep_`, which uids must not."""
    if own and UID.match(own):
        return own
    made = f"{system}-{name}"
    if not UID.match(made):
        raise Refused(f"{made!r} cannot be a uid: 1 to 64 letters, digits, '_' or '-'")
    return made


def whsec(key):
    if len(key) not in KEY_BYTES:
        raise Refused(
            f"its secret has {len(key)} bytes, and Standard Webhooks needs 24 to 64: "
            "import it with --new-secrets FILE, and give the receiver the new one"
        )
    return "whsec_" + base64.b64encode(key).decode()


def secret_of_text(text):
    """A secret whose characters are the key."""
    return whsec(text.encode())


def secret_of_base64(text):
    """A secret of Standard Webhooks. One for ed25519 (whsk_) is passed on."""
    if text.startswith("whsk_"):
        return text
    try:
        return whsec(base64.b64decode(text.removeprefix("whsec_"), validate=True))
    except binascii.Error:
        raise Refused("its secret is not base64") from None


def seconds(value, what):
    """A number of seconds, or a text such as 30s or 1m."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", str(value))
    if not found:
        raise Refused(f"its {what} is neither a number of seconds nor such as 30s")
    return float(found[1]) * {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def draft(url, description, types, enabled, settings, headers=None):
    if not isinstance(url, str) or not url:
        raise Refused("it has no URL")
    wanted = {"url": url, "wire_format": "standard", "description": (description or "")[:1000], "settings": settings}
    if types and "*" not in types:
        wanted["subscription"] = {"types": sorted(set(types))}
    if headers:
        wanted["headers"] = headers
    if not enabled:
        wanted["enabled"] = False
    return wanted


def from_svix(options):
    """GET /api/v1/app/{app_id}/endpoint, with …/{endpoint_id}/secret and …/headers by id."""
    secrets, headers = by_id(options.secrets, "key"), by_id(options.headers)
    prefix = options.header_prefix or "svix"

    def one(endpoint):
        if endpoint.get("channels") and not options.ignore_filters:
            raise Refused("it listens to channels only, which Posthaste does not have: --ignore-filters imports it for all")
        given = headers.get(endpoint["id"]) or {}
        hidden = given.get("sensitive") or []
        if hidden and not options.ignore_hidden_headers:
            raise Refused(
                f"Svix does not show the values of its headers {', '.join(sorted(hidden))}: "
                "write them into the headers file, or import it without them with --ignore-hidden-headers"
            )
        settings = {"body": "payload", "header_prefix": prefix}
        static = given.get("headers", {}) if "headers" in given or "sensitive" in given else given
        wanted = draft(endpoint.get("url"), endpoint.get("description"), endpoint.get("filterTypes"),
                       not endpoint.get("disabled"), settings, static)
        rate = endpoint.get("throttleRate") or endpoint.get("rateLimit")
        return wanted, rate, secrets.get(endpoint["id"]) or endpoint.get("secret")

    def name(endpoint):
        return uid("svix", endpoint["id"], endpoint.get("uid"))

    return name, one, secret_of_base64, ("data",)


def from_convoy(options):
    """GET /api/v1/projects/{project}/endpoints, and …/subscriptions."""
    subscriptions = {}
    if options.subscriptions:
        for found in items(read(options.subscriptions), options.subscriptions, "data", "content"):
            of = (found.get("endpoint_metadata") or {}).get("uid") or found.get("endpoint_id")
            subscriptions.setdefault(of, []).append(found)
    elif not options.all_types:
        raise WrongUse("give --subscriptions FILE, or --all-types to let every endpoint have all types")

    def filtered(subscription):
        rules = (subscription.get("filter_config") or {}).get("filter") or {}
        return any(rules.get(part) for part in ("headers", "body"))

    def one(endpoint):
        mine = subscriptions.get(endpoint["uid"], [])
        if any(filtered(found) or found.get("function") for found in mine) and not options.ignore_filters:
            raise Refused("a subscription filters by content or has a function: write a transform, or use --ignore-filters")
        types = [kind for found in mine for kind in (found.get("filter_config") or {}).get("event_types") or ["*"]]
        wanted_by_nobody = bool(options.subscriptions) and not mine
        key = (endpoint.get("authentication") or {}).get("api_key") or {}
        headers = {key["header_name"]: key.get("header_value", "")} if key.get("header_name") else None
        kind = (endpoint.get("authentication") or {}).get("type")
        if kind not in (None, "", "api_key"):
            raise Refused(f"its authentication is {kind}, which the script cannot carry over: create it by hand")
        wanted = draft(endpoint.get("url") or endpoint.get("target_url"), endpoint.get("name") or endpoint.get("title"),
                       types, endpoint.get("status", "active") == "active" and not wanted_by_nobody,
                       {"body": "payload", "header_prefix": options.header_prefix or "webhook"}, headers)
        timeout = seconds(endpoint.get("http_timeout") or 0, "http_timeout")
        if timeout:
            wanted["timeout_ms"] = min(max(int(timeout * 1000), TIMEOUT_MS[0]), TIMEOUT_MS[1])
        rate = endpoint.get("rate_limit") or 0
        every = seconds(endpoint.get("rate_limit_duration") or 1, "rate_limit_duration")
        live = [found for found in endpoint.get("secrets") or [] if not found.get("expires_at")]
        if options.tenant_from_owner and endpoint.get("owner_id"):
            wanted["tenant"] = endpoint["owner_id"]
        return wanted, rate / every if rate else None, live[-1].get("value") if live else None

    return lambda endpoint: uid("convoy", endpoint["uid"]), one, secret_of_text, ("data", "content")


def from_outpost(options):
    """GET /tenants/{tenant}/destinations."""
    if not options.outpost_mode:
        raise WrongUse("give --outpost-mode: `standard` where DESTINATIONS_WEBHOOK_MODE is standard, else `default`")
    key = secret_of_base64 if options.outpost_mode == "standard" else secret_of_text

    def one(destination):
        if destination.get("type") != "webhook":
            raise Refused(f"it is of type {destination.get('type')}; Posthaste delivers to webhooks")
        if destination.get("filter") and not options.ignore_filters:
            raise Refused("it filters by content: write a transform, or use --ignore-filters")
        config, topics = destination.get("config") or {}, destination.get("topics") or []
        try:
            headers = json.loads(config.get("custom_headers") or "{}")
        except ValueError:
            raise Refused("its custom_headers are not JSON") from None
        wanted = draft(config.get("url"), (destination.get("metadata") or {}).get("description"),
                       [topics] if isinstance(topics, str) else topics, not destination.get("disabled_at"),
                       {"body": "payload", "header_prefix": options.header_prefix or "webhook"}, headers)
        return wanted, None, (destination.get("credentials") or {}).get("secret")

    return lambda destination: uid("outpost", destination["id"]), one, key, ("models", "data")


SYSTEMS = {"svix": from_svix, "convoy": from_convoy, "outpost": from_outpost}


def plan(options):
    """[(id in the other system, uid or None, endpoint or the reason why not)]"""
    name, one, key, members = SYSTEMS[options.system](options)
    planned, uids = [], {}
    for path in options.files:
        for entry in items(read(path), path, *members):
            there = str(entry.get("id") or entry.get("uid") or "?")
            try:
                if there == "?":
                    raise Refused("it has neither an id nor a uid")
                wanted, rate, secret = one(entry)
                named = name(entry)
                if uids.setdefault(named, there) != there:
                    raise Refused(f"{uids[named]} has the same uid, {named}")
                if options.tenant:
                    wanted.setdefault("tenant", options.tenant)
                if rate:
                    wanted["rate_limit_per_second"] = round(rate, 3)
                if options.disabled:
                    wanted["enabled"] = False
                try:
                    if not secret:
                        raise Refused("it has no secret in the export: --new-secrets FILE lets Posthaste generate one")
                    wanted["secret"] = key(secret)
                except Refused:
                    if not options.new_secrets:
                        raise
                planned.append((there, named, wanted))
            except Refused as reason:
                planned.append((there, None, str(reason)))
    return planned


# ---- Posthaste's API --------------------------------------------------------------------------------------------------


class Api:
    def __init__(self, options):
        self.url = (options.api_url or os.environ.get("POSTHASTE_API_URL") or "http://127.0.0.1:8080").rstrip("/")
        if options.api_key_file:
            try:
                with open(options.api_key_file, encoding="utf-8") as file:
                    self.key = file.read().strip()
            except OSError as error:
                raise WrongUse(f"{options.api_key_file} cannot be read: {error.strerror}") from None
        else:
            self.key = os.environ.get("POSTHASTE_API_KEY", "")
        if not self.key:
            raise WrongUse("there is no API key: set POSTHASTE_API_KEY, or name its file with --api-key-file")

    def request(self, method, named, tenant, body=None):
        """(status, ETag, answer)"""
        query = "?" + urllib.parse.urlencode({"tenant": tenant}) if tenant else ""
        url = f"{self.url}/v1/endpoints/{urllib.parse.quote(named)}{query}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers.get("ETag"), json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                return error.code, None, json.loads(text)
            except ValueError:
                return error.code, None, {"detail": f"the answer is not JSON: is {self.url} Posthaste?"}
        except urllib.error.URLError as error:
            raise WrongUse(f"nothing answers at {self.url}: {error.reason}") from None

    def write(self, named, wanted):
        """(what happened, the secret that Posthaste generated)"""
        tenant = wanted.get("tenant")
        status, before, answer = self.request("GET", named, tenant)
        if status in (200, 404):
            status, after, answer = self.request("PUT", named, tenant, wanted)
        if status == 201:
            return "created", answer.get("secret")
        if status == 200:
            return "unchanged" if before == after else "updated", None
        if status in (401, 403):
            raise WrongUse(f"the API refuses the key: {answer.get('detail')}")
        raise Refused(f"{answer.get('detail')} ({answer.get('code', status)})")


def shown(url):
    """A URL without what may be a credential: its user, its query, and its path, which often is one."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or "?"
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}/{'…' if parts.path.strip('/') else ''}"


def counted(number, what):
    return f"{number} {what}{'' if number == 1 else 's'}"


def line(wanted):
    subscription = wanted.get("subscription")
    facts = [
        f"tenant {wanted['tenant']}" if "tenant" in wanted else "",
        counted(len(subscription["types"]), "type") if subscription else "all types",
        "secret kept" if "secret" in wanted else "new secret",
        counted(len(wanted["headers"]), "header") if "headers" in wanted else "",
        f"{wanted['rate_limit_per_second']}/s" if "rate_limit_per_second" in wanted else "",
        "" if wanted.get("enabled", True) else "disabled",
    ]
    return f"{shown(wanted['url'])}  {', '.join(fact for fact in facts if fact)}"


def save(path, secrets):
    """Only the user may read it; a file that is there is not replaced."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(secrets, file, indent=2)
        file.write("\n")


def run(options):
    if options.new_secrets and os.path.exists(options.new_secrets):
        raise WrongUse(f"{options.new_secrets} exists: name a file that does not")
    planned = plan(options)
    api = None if options.dry_run else Api(options)
    counts, generated = {}, {}
    try:
        for there, named, wanted in planned:
            what, rest = "refused", wanted
            try:
                if named is not None:
                    rest = f"{named}  {line(wanted)}"
                    what = "would write"
                    if api:
                        what, secret = api.write(named, wanted)
                        if secret:
                            generated[named] = secret
            except Refused as reason:
                what, rest = "refused", str(reason)
            counts[what] = counts.get(what, 0) + 1
            print(f"{what:<11}  {there}  {rest}")
    finally:
        if generated:
            save(options.new_secrets, generated)
            print(f"{len(generated)} new secrets are in {options.new_secrets}: give them to the receivers, then delete it")
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "the export has no endpoints")
    return 1 if counts.get("refused") else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("system", choices=sorted(SYSTEMS))
    add("files", nargs="+", metavar="FILE", help="the export: one answer of the API, or several; - for stdin")
    add("--dry-run", action="store_true", help="check the export, and send nothing")
    add("--tenant", help="the tenant of all endpoints [default: the key's, else `default`]")
    add("--disabled", action="store_true", help="create them disabled, to enable them when you switch over")
    add("--header-prefix", choices=["webhook", "svix"], help="of the signature's headers [default: svix for Svix, else webhook]")
    add("--new-secrets", metavar="FILE",
        help="let Posthaste generate a secret where the old one cannot be kept, and write these to FILE (mode 600)")
    add("--ignore-filters", action="store_true", help="import endpoints with channels or filters, without them")
    add("--secrets", metavar="FILE", help="Svix: {endpoint id: secret}")
    add("--headers", metavar="FILE", help="Svix: {endpoint id: headers}")
    add("--ignore-hidden-headers", action="store_true", help="Svix: leave out headers whose values it does not show")
    add("--subscriptions", metavar="FILE", help="Convoy: the export of the subscriptions, for the types")
    add("--all-types", action="store_true", help="Convoy: all types for every endpoint, without --subscriptions")
    add("--tenant-from-owner", action="store_true", help="Convoy: an endpoint's owner_id is its tenant")
    add("--outpost-mode", choices=["default", "standard"], help="Outpost: its DESTINATIONS_WEBHOOK_MODE")
    add("--api-url", metavar="URL")
    add("--api-key-file", metavar="FILE")
    options = parser.parse_args()
    return options


def main():
    try:
        return run(arguments())
    except WrongUse as error:
        print(f"import_endpoints: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
