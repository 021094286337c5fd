"""Installs the chart with Helm's own library and compares what Helm sends with what render.go renders.

    install_chart.py RENDERER LIBRARY

LIBRARY is libhelm_sdkpy.so: Helm's Go packages with a C interface, from the package helm-sdkpy of PyPI. There is no
cluster: `Cluster` below answers as an API server that keeps what it is given and checks nothing. So this says what Helm
does with the chart (linting, values, their schema, rendering, order, an upgrade, what it refuses), not what Kubernetes
does with the objects.
"""

import ctypes
import http.server
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import urllib.parse

import yaml
from check_chart import CHART, HERE, REFUSED, SECRET, VERSIONS, Refused, load, merged, objects, render

NAMESPACED = {
    "v1": ["Secret", "Service", "ServiceAccount", "Pod", "ConfigMap"],
    "apps/v1": ["Deployment"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "batch/v1": ["Job"],
    "keda.sh/v1alpha1": ["ScaledObject", "TriggerAuthentication"],
    "monitoring.coreos.com/v1": ["ServiceMonitor"],
    "networking.k8s.io/v1": ["Ingress", "NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
}
# Of Helm's lint: 2 is a warning, 3 an error. There is one piece of information: the chart has no icon.
INFORMATION = 1
OPTIONS = {
    "wait": False, "timeout_seconds": 60, "server_side_apply": "false", "disable_openapi_validation": True,
}


def plural(kind):
    name = kind.lower()
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}es" if name.endswith("s") else f"{name}s"


def fields(message):
    """The fields of a protobuf message, as (number, value): bytes, or a number."""
    at = 0

    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            assert tag & 7 == 2, f"wire type {tag & 7}"
            size = varint()
            at += size
            yield tag >> 3, message[at - size : at]


def field(number, value):
    """One field of bytes."""
    size, length = len(value), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def enveloped(kind, raw):
    """As Kubernetes sends protobuf: its `Unknown`, behind a magic number."""
    return b"k8s\0" + field(1, field(1, b"v1") + field(2, kind)) + field(2, raw)


class Record:
    """Helm's record of a release: a Secret that comes as protobuf, of which only name and labels are read."""

    def __init__(self, body):
        assert body.startswith(b"k8s\0"), body[:40]
        self.raw = dict(fields(body[4:]))[2]
        metadata = list(fields(dict(fields(self.raw))[1]))
        self.name = dict(metadata)[1].decode()
        labels = [dict(fields(value)) for number, value in metadata if number == 11]
        self.labels = {label[1].decode(): label[2].decode() for label in labels}


class Cluster(http.server.ThreadingHTTPServer):
    """An API server as far as Helm needs one: what there is, and objects by their path."""

    daemon_threads = True

    def __init__(self, version):
        super().__init__(("127.0.0.1", 0), Requests)
        self.version = version
        self.objects = {}
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def installed(self):
        with self.lock:
            return [one for one in self.objects.values() if isinstance(one, dict)]


class Requests(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, status=200):
        if isinstance(body, Record):
            body = enveloped(b"Secret", body.raw)
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "vnd.kubernetes.protobuf" if isinstance(body, bytes) else "json"
        self.send_header("Content-Type", f"application/{kind}")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def refuse(self, status, reason):
        failure = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status}
        self.answer(failure, status)

    def body(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        return Record(text) if "protobuf" in self.headers["Content-Type"] else json.loads(text)

    def discovery(self, path):
        if path == "/version":
            major, minor = self.server.version.split(".")
            return {"major": major, "minor": minor, "gitVersion": f"v{self.server.version}.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = []
            for version in sorted(NAMESPACED.keys() - {"v1"}):
                entry = {"groupVersion": version, "version": version.split("/")[1]}
                groups.append({"name": version.split("/")[0], "versions": [entry], "preferredVersion": entry})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        version = re.fullmatch(r"/(?:api|apis)/(.+)", path)
        if version and version[1] in NAMESPACED:
            verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
            return {
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version[1],
                "resources": [
                    {"name": plural(kind), "kind": kind, "singularName": "", "namespaced": True, "verbs": verbs}
                    for kind in NAMESPACED[version[1]]
                ],
            }
        return None

    def place(self):
        url = urllib.parse.urlsplit(self.path)
        return url.path.rstrip("/"), urllib.parse.parse_qs(url.query)

    def do_GET(self):
        path, query = self.place()
        known = self.discovery(path)
        if known is not None:
            return self.answer(known)
        with self.server.lock:
            if path in self.server.objects:
                return self.answer(self.server.objects[path])
            if re.fullmatch(r"/api/v1/namespaces/[^/]+/secrets", path):
                # Helm looks for its records alone.
                wanted = [term.split("=") for term in query.get("labelSelector", [""])[0].split(",") if term]
                records = [
                    one.raw for at, one in self.server.objects.items()
                    if at.startswith(f"{path}/") and isinstance(one, Record)
                    and all(one.labels.get(key) == value for key, value in wanted)
                ]
                return self.answer(enveloped(b"SecretList", field(1, b"") + b"".join(field(2, raw) for raw in records)))
        return self.refuse(404, "NotFound")

    def do_POST(self):
        path, _ = self.place()
        one = self.body()
        at = f"{path}/{one.name if isinstance(one, Record) else one['metadata']['name']}"
        with self.server.lock:
            if at in self.server.objects:
                return self.refuse(409, "AlreadyExists")
            self.server.objects[at] = one
        return self.answer(one, 201)

    def do_PUT(self):
        path, _ = self.place()
        one = self.body()
        with self.server.lock:
            self.server.objects[path] = one
        return self.answer(one)

    def do_PATCH(self):
        """Merges: enough for the members that an upgrade changes here; a list is replaced as a whole."""
        path, _ = self.place()
        change = self.body()
        with self.server.lock:
            if path not in self.server.objects:
                return self.refuse(404, "NotFound")
            one = self.server.objects[path] = patched(self.server.objects[path], change)
        return self.answer(one)

    def do_DELETE(self):
        path, _ = self.place()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            gone = self.server.objects.pop(path, None)
        if gone is None:
            return self.refuse(404, "NotFound")
        return self.answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})


def patched(old, change):
    new = dict(old)
    for key, value in change.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = patched(new.get(key) or {}, value)
        elif not key.startswith("$"):
            new[key] = value
    return new


class Helm:
    """The library, against one cluster."""

    def __init__(self, library, cluster, scratch):
        self.library = library
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{cluster.server_port}"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "nobody"}}],
            "users": [{"name": "nobody", "user": {}}],
        }
        path = pathlib.Path(scratch, f"kubeconfig-{cluster.server_port}")
        path.write_text(yaml.safe_dump(config))
        self.handle = ctypes.c_ulonglong()
        self.done(library.helm_sdkpy_config_create(b"messaging", bytes(path), None, b"{}", ctypes.byref(self.handle)))

    def done(self, status):
        if status:
            raise Refused(self.library.helm_sdkpy_last_error().decode())

    def act(self, action, values):
        result = ctypes.c_char_p()
        self.done(action(
            self.handle, b"hooks", bytes(CHART), json.dumps(values).encode(), b"", json.dumps(OPTIONS).encode(),
            ctypes.byref(result),
        ))

    def install(self, values):
        self.act(self.library.helm_sdkpy_install, values)

    def lint(self, chart):
        result = ctypes.c_char_p()
        self.done(self.library.helm_sdkpy_lint(self.handle, bytes(chart), ctypes.byref(result)))
        return json.loads(result.value)

    def upgrade(self, values):
        self.act(self.library.helm_sdkpy_upgrade, values)


def opened(path, scratch):
    os.environ["HOME"] = scratch  # Helm has caches there. Go reads the environment when it is loaded.
    library = ctypes.CDLL(path)
    library.helm_sdkpy_last_error.restype = ctypes.c_char_p
    handle, text, out = ctypes.c_ulonglong, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)
    library.helm_sdkpy_config_create.argtypes = [text, text, text, text, ctypes.POINTER(ctypes.c_ulonglong)]
    library.helm_sdkpy_lint.argtypes = [handle, text, out]
    library.helm_sdkpy_install.argtypes = [handle, text, text, text, text, text, out]
    library.helm_sdkpy_upgrade.argtypes = [handle, text, text, text, text, text, out]
    return library


def without_helms(one):
    """Without what Helm adds by itself: whose release it is."""
    one = json.loads(json.dumps(one))
    metadata = one["metadata"]
    annotations = metadata.get("annotations", {})
    metadata["annotations"] = {key: value for key, value in annotations.items() if not key.startswith("meta.helm.sh/")}
    if not metadata["annotations"]:
        del metadata["annotations"]
    metadata.pop("namespace", None)
    return one


def by_name(found):
    return {(one["kind"], one["metadata"]["name"]): without_helms(one) for one in found}


def compare(case, installed, rendered):
    ours, helms = by_name(rendered), by_name(installed)
    assert ours.keys() == helms.keys(), f"{case}: {ours.keys() ^ helms.keys()}"
    for key, one in helms.items():
        assert one == ours[key], f"{case}, {key}:\nHelm:   {json.dumps(one)}\nrender: {json.dumps(ours[key])}"


def main():
    renderer, path = map(os.path.abspath, sys.argv[1:])
    cases = {path.stem: load(path) for path in sorted((HERE / "values").glob("*.yaml"))}
    with tempfile.TemporaryDirectory() as scratch:
        library = opened(path, scratch)
        for case, values in cases.items():
            # The library lints with the chart's own values alone.
            chart = shutil.copytree(CHART, pathlib.Path(scratch, case))
            (chart / "values.yaml").write_text(yaml.safe_dump(merged(load(CHART / "values.yaml"), values)))
            lint = Helm(library, Cluster(VERSIONS[-1]), scratch).lint(chart)
            worst = max((message["Severity"] for message in lint["Messages"]), default=0)
            assert not lint["Errors"] and worst <= INFORMATION, f"{case}: {lint}"
            for kubernetes in VERSIONS:
                cluster = Cluster(kubernetes)
                Helm(library, cluster, scratch).install(values)
                compare(case, cluster.installed(), objects(render(renderer, values, kubernetes)))
        print(f"Helm: lints and installs {len(cases)} sets of values, with the objects that render.go renders")

        for values, word in REFUSED:
            cluster = Cluster(VERSIONS[-1])
            try:
                Helm(library, cluster, scratch).install(values)
            except Refused as refusal:
                said = str(refusal)
                assert word in said, f"{values}: {said}"
                assert not cluster.installed(), f"{values}: refused, and installed"
            else:
                raise AssertionError(f"Helm takes {values}")
        print(f"Helm: refuses {len(REFUSED)} wrong values")

        cluster = Cluster(VERSIONS[-1])
        helm = Helm(library, cluster, scratch)
        helm.install({"secret": SECRET})
        first = by_name(cluster.installed())
        helm.upgrade({"secret": SECRET, "image": {"tag": "0.2.0"}, "worker": {"replicas": 5}})
        second = by_name(cluster.installed())
        jobs = [{name for kind, name in found if kind == "Job"} for found in (first, second)]
        assert len(jobs[1]) == 1 and not jobs[0] & jobs[1], f"the upgrade has no migration of its own: {jobs}"
        worker = second["Deployment", "hooks-posthaste-worker"]["spec"]
        assert worker["replicas"] == 5
        assert worker["template"]["spec"]["containers"][0]["image"].endswith(":0.2.0")
        print("Helm: an upgrade changes the Deployments and has a migration of its own")


if __name__ == "__main__":
    main()
