"""Renders the chart with several values and looks at what comes out.

    check_chart.py RENDERER NODE_MODULES

RENDERER is the program of render.go. Each file of values/ is checked against values.schema.json, rendered, validated
against the schemas of several versions of Kubernetes and those of the custom resources, and its parts against each
other: selectors, ports, secrets, names. Then come values that must be refused.
"""

import ipaddress
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jsonschema
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
CHART = HERE.parent / "posthaste"
# The oldest that Chart.yaml allows, one after `preStop.sleep` came, and a young one.
VERSIONS = ["1.25", "1.30", "1.34"]
SELECTORS = {"Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment"}
KINDS = {
    "minimal": {
        "Secret": 1, "ServiceAccount": 1, "Job": 1, "Deployment": 2, "Service": 2, "PodDisruptionBudget": 2,
        "NetworkPolicy": 1,
    },
    "existing-secret": {"Deployment": 2, "Service": 2},
    "full": {
        "Secret": 1, "ServiceAccount": 1, "Job": 1, "Deployment": 2, "Service": 2, "PodDisruptionBudget": 2,
        "HorizontalPodAutoscaler": 2, "Ingress": 1, "ServiceMonitor": 1, "NetworkPolicy": 1,
    },
    "keda": {
        "ServiceAccount": 1, "Job": 1, "Deployment": 2, "Service": 2, "PodDisruptionBudget": 2,
        "ScaledObject": 1, "TriggerAuthentication": 1, "NetworkPolicy": 1,
    },
    "keda-queue": {
        "ServiceAccount": 1, "Job": 1, "Deployment": 2, "Service": 2, "PodDisruptionBudget": 2,
        "ScaledObject": 1, "TriggerAuthentication": 1, "NetworkPolicy": 1,
    },
}
# Of each network that Posthaste itself refuses, one.
NOT_PUBLIC = [
    "0.1.2.3", "10.1.1.1", "100.100.100.200", "127.0.0.1", "168.63.129.16", "169.254.169.254", "172.16.0.1", "192.0.0.192",
    "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.2", "192.168.1.1", "192.175.48.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "255.255.255.255",
    "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:a00:1::1",
    "2620:4f:8000::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
]
SECRET = {"databaseUrl": "postgres://db/p", "brokerUrl": "amqp://mq", "masterKey": "k" * 32}
# Values, and what the refusal must speak of.
REFUSED = [
    ({}, "secret.databaseUrl or secret.existingSecret"),
    ({"secret": {**SECRET, "masterKey": ""}}, "secret.masterKey or secret.existingSecret"),
    ({"secret": {**SECRET, "masterKey": "short"}}, "short"),
    ({"secret": {**SECRET, "databaseUrl": "sqlite://file"}}, "sqlite://file"),
    ({"secret": SECRET, "worker": {"replica": 3}}, "replica"),
    ({"secret": SECRET, "replicas": 3}, "replicas"),
    ({"secret": SECRET, "worker": {"replicas": "3"}}, "integer"),
    ({"secret": SECRET, "env": {"POSTHASTE_LISTEN": "0.0.0.0:1"}}, "POSTHASTE_LISTEN"),
    ({"secret": SECRET, "tracing": {"otlpEndpoint": "collector:4317"}}, "collector:4317"),
    ({"secret": SECRET, "tracing": {"sampleRatio": 10}}, "10"),
    ({"secret": SECRET, "worker": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}}, "cannot both"),
    ({"secret": {**SECRET, "brokerUrl": "embedded"}, "worker": {"keda": {"enabled": True}}}, "needs RabbitMQ"),
    # Names may be asked of somebody, never of everybody.
    ({"secret": SECRET, "networkPolicy": {"egress": {"dns": {"to": []}}}}, "dns"),
    ({"secret": SECRET, "networkPolicy": {"egress": {"dns": {"to": [{}]}}}}, "dns"),
]


class Refused(Exception):
    """The chart does not take these values."""


class UniqueKeys(yaml.CSafeLoader):
    """YAML in which a key that comes twice is an error, as it is for Helm."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key comes twice: {keys}"
        return super().construct_mapping(node, deep)


UniqueKeys.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node, deep=True))


def load(path):
    return yaml.load(path.read_text(), UniqueKeys) or {}


def merged(base, over):
    """As Helm merges values: maps key by key, everything else as a whole; null removes."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def render(renderer, over, kubernetes):
    values = merged(load(CHART / "values.yaml"), over)
    try:
        jsonschema.Draft7Validator(json.loads((CHART / "values.schema.json").read_text())).validate(values)
    except jsonschema.ValidationError as error:
        raise Refused(f"/{'/'.join(map(str, error.absolute_path))}: {error.message}") from error
    chart = load(CHART / "Chart.yaml")
    context = {
        "Values": values,
        "Chart": {key[0].upper() + key[1:]: value for key, value in chart.items()},
        "Release": {"Name": "hooks", "Namespace": "messaging", "Service": "Helm", "Revision": 1},
        "Capabilities": {"KubeVersion": {"Version": f"v{kubernetes}.0"}},
        "Template": {"BasePath": "posthaste/templates"},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(context, file)
        file.flush()
        done = subprocess.run([renderer, CHART, file.name], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Refused(done.stderr)
    return json.loads(done.stdout)


def objects(files):
    found = []
    for name, text in files.items():
        assert "<no value>" not in text, f"{name}: a value is missing:\n{text}"
        if name.endswith(".yaml"):
            found += [document for document in yaml.load_all(text, UniqueKeys) if document]
    return found


def check_kubernetes(found, kubernetes):
    for one in found:
        if one["apiVersion"].split("/")[0] not in {"keda.sh", "monitoring.coreos.com"}:
            kubernetes_validate.validate(one, kubernetes, strict=True)


def check_custom(found, modules):
    custom = [one for one in found if one["apiVersion"].split("/")[0] in {"keda.sh", "monitoring.coreos.com"}]
    environment = {**os.environ, "NODE_PATH": modules}
    command = ["node", HERE / "crds.cjs"]
    done = subprocess.run(command, input=json.dumps(custom), text=True, env=environment, timeout=60)
    assert done.returncode == 0, "a custom resource is not valid"


def templates(found):
    return {one["metadata"]["name"]: one["spec"]["template"] for one in found if one["kind"] in {"Deployment", "Job"}}


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def check_selectors(found):
    """What selects pods selects those that it is for, and never those of the migration."""
    pods = templates(found)
    for one in found:
        spec, name = one["spec"] if "spec" in one else {}, one["metadata"]["name"]
        if one["kind"] not in SELECTORS:
            continue
        selector = spec["podSelector"] if one["kind"] == "NetworkPolicy" else spec["selector"]
        selector = selector.get("matchLabels", selector)
        chosen = {pod for pod, template in pods.items() if selects(selector, template["metadata"]["labels"])}
        component = one["metadata"]["labels"].get("app.kubernetes.io/component")
        whole = {pod for pod in pods if pod.endswith(("-api", "-worker"))}
        expected = {pod for pod in whole if pod.endswith(f"-{component}")} or whole
        assert chosen == expected, f"{one['kind']} {name} selects {chosen}, not {expected}"
        for port in spec.get("ports", []) if one["kind"] == "Service" else []:
            for pod in chosen:
                names = {port["name"] for port in pods[pod]["spec"]["containers"][0]["ports"]}
                assert port["targetPort"] in names, f"{name}: {pod} has no port {port['targetPort']}"


def check_pods(found, over):
    secrets = [one for one in found if one["kind"] == "Secret"]
    external = over["secret"].get("existingSecret")
    for name, template in templates(found).items():
        spec = template["spec"]
        (container,) = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False, name
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}, name
        environment = {variable["name"]: variable for variable in container["env"]}
        assert len(environment) == len(container["env"]), f"{name} has a variable twice"
        for variable in environment.values():
            assert isinstance(variable.get("value", ""), str)
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference and external:
                assert reference["name"] == external
            elif reference and not reference.get("optional"):
                assert any(
                    secret["metadata"]["name"] == reference["name"] and reference["key"] in secret["stringData"]
                    for secret in secrets
                ), f"{name}: {reference} is nowhere"
        if "-migrate-" not in name:
            grace = int(environment["POSTHASTE_SHUTDOWN_GRACE"]["value"].removesuffix("s"))
            assert spec["terminationGracePeriodSeconds"] == grace + 25, name
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            listens = {int(environment[key]["value"].split(":")[1]) for key in environment if key.endswith("LISTEN")}
            assert listens == set(ports.values()), f"{name} listens on {listens}, and has the ports {ports}"
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in ports, f"{name}: {probe}"


def check_references(found):
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names)), f"a name comes twice: {names}"
    assert all(len(name) <= 63 for _, name in names), names
    services = {one["metadata"]["name"]: one for one in found if one["kind"] == "Service"}
    for one in found:
        if one["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}:
            target = one["spec"]["scaleTargetRef"]["name"]
            (deployment,) = [d for d in found if (d["kind"], d["metadata"]["name"]) == ("Deployment", target)]
            assert "replicas" not in deployment["spec"], f"{target} has fixed replicas and is scaled"
        if one["kind"] == "ScaledObject":
            for trigger in one["spec"]["triggers"]:
                assert all(isinstance(value, str) for value in trigger["metadata"].values()), trigger
                reference = trigger.get("authenticationRef", {}).get("name")
                assert reference is None or ("TriggerAuthentication", reference) in names
        if one["kind"] == "Ingress":
            backend = one["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
            assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
        if one["kind"] == "ServiceMonitor":
            labels = one["spec"]["selector"]["matchLabels"]
            (service,) = [s for s in services.values() if selects(labels, s["metadata"]["labels"])]
            assert one["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}


def check_network(found, over):
    """Outwards: names of the cluster's resolver alone, public addresses, and what is listed."""
    egress_on = over.get("networkPolicy", {}).get("egress", {}).get("enabled", True)
    for one in found:
        if one["kind"] != "NetworkPolicy":
            continue
        spec = one["spec"]
        assert spec["policyTypes"] == (["Ingress", "Egress"] if egress_on else ["Ingress"]), spec["policyTypes"]
        assert ("egress" in spec) == egress_on
        if not egress_on:
            continue
        names, public, *internal = spec["egress"]
        (resolver,) = names["to"]
        assert resolver["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}, resolver
        assert resolver["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}, resolver
        assert [(port["port"], port["protocol"]) for port in names["ports"]] == [(53, "UDP"), (53, "TCP")]
        # No other rule is a way to a name server, or to everybody.
        assert internal, "no way to the database"
        for rule in internal:
            assert rule["ports"] and not any(port.get("port") == 53 for port in rule["ports"]), rule
        blocks = [peer["ipBlock"] for peer in public["to"]]
        assert [port["protocol"] for port in public["ports"]] == ["TCP"], "UDP to everybody"
        for address in NOT_PUBLIC:
            address = ipaddress.ip_address(address)
            reached = [
                block["cidr"] for block in blocks
                if address in ipaddress.ip_network(block["cidr"])
                and not any(address in ipaddress.ip_network(net) for net in block["except"])
            ]
            assert not reached, f"{address} is reached by {reached}"


def check_values_survive(found, over):
    """Odd characters come through quoting as they are."""
    for one in found:
        if one["kind"] == "Secret":
            given = over["secret"]
            assert one["stringData"]["broker-url"] == given["brokerUrl"]
            assert one["stringData"]["master-key"] == given["masterKey"]
            assert one["stringData"].get("admin-key", "") == given.get("adminKey", "")


def check_schema(schema, at="values"):
    """Nowhere does a misspelt value pass."""
    if "properties" in schema:
        assert schema.get("additionalProperties") is False, f"{at} takes unknown values"
        for name, member in schema["properties"].items():
            check_schema(member, f"{at}.{name}")


def main():
    renderer, modules = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    cases = {path.stem: load(path) for path in sorted((HERE / "values").glob("*.yaml"))}
    assert cases.keys() == KINDS.keys(), "values/ and KINDS name different cases"
    schema = json.loads((CHART / "values.schema.json").read_text())
    check_schema(schema)
    for name, definition in schema["definitions"].items():
        check_schema(definition, name)
    for case, over in cases.items():
        for kubernetes in VERSIONS:
            found = objects(render(renderer, over, kubernetes))
            kinds = {kind: sum(one["kind"] == kind for one in found) for kind in {one["kind"] for one in found}}
            assert kinds == KINDS[case], f"{case}: {kinds}"
            check_kubernetes(found, kubernetes)
            check_selectors(found)
            check_pods(found, over)
            check_references(found)
            check_network(found, over)
            check_values_survive(found, over)
        check_custom(found, modules)
        print(f"chart, {case}: {len(found)} objects are valid for Kubernetes {', '.join(VERSIONS)}")
    for over, word in REFUSED:
        try:
            render(renderer, over, VERSIONS[-1])
        except Refused as refusal:
            assert word in str(refusal), f"{over}: {refusal}"
        else:
            raise AssertionError(f"{over} is not refused")
    print(f"chart: {len(REFUSED)} wrong values are refused")


if __name__ == "__main__":
    main()
