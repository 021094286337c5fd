"""Checks compose.yaml for what its schema does not see: variables, names, secrets.

    check_compose.py COMPOSE ENV_EXAMPLE
"""

import pathlib
import re
import sys

import yaml

VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")
compose_path, env_path = map(pathlib.Path, sys.argv[1:])
text = compose_path.read_text()
compose = yaml.safe_load(text)
services = compose["services"]

# Every variable is in the example; those without which nothing starts are there to be filled in, and empty.
example = env_path.read_text()
to_fill_in = set(re.findall(r"^(\w+)=$", example, re.M))
optional = set(re.findall(r"^#(\w+)=.+$", example, re.M))
assert len(to_fill_in) + len(optional) == len(re.findall(r"^#?\w+=", example, re.M)), "an example has a secret in it"
used = {name: kind for name, kind, _ in VARIABLE.findall(text)}
required = {name for name, kind in used.items() if kind == ":?"}
assert required == to_fill_in, f"required and in the example: {required ^ to_fill_in}"
assert set(used) - required == optional, f"optional and in the example: {(set(used) - required) ^ optional}"
assert "$" not in VARIABLE.sub("", text), "a $ that is no ${NAME:-default} or ${NAME:?message}"

for name, service in services.items():
    for other, condition in dict.fromkeys(service.get("depends_on", []), {}).items():
        assert other in services, f"{name} depends on {other}, which is not there"
    conditions = service.get("depends_on", {})
    for other, condition in conditions.items() if isinstance(conditions, dict) else []:
        if condition["condition"] == "service_healthy":
            assert "test" in services[other]["healthcheck"], f"{name} waits for {other}, which has no health check"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (compose_path.parent / source).exists(), f"{name} mounts {source}, which is not there"
            assert volume.endswith(":ro"), f"{name} may write to {source}"
        else:
            assert source in compose["volumes"], f"{name}: there is no volume {source}"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{name} has the port {port} for everybody"

for name in ("migrate", "api", "worker"):
    service = services[name]
    assert service["command"] == [name] and service["read_only"] and service["cap_drop"] == ["ALL"]
    grace = int(re.fullmatch(r".*:-(\d+)s\}", service["environment"]["POSTHASTE_SHUTDOWN_GRACE"])[1])
    assert int(service["stop_grace_period"].removesuffix("s")) >= grace + 20, "it is killed before it is done"
# Otherwise there could not be several.
assert not services["worker"].keys() & {"ports", "container_name", "hostname"}
print(f"compose: {len(services)} services, {len(used)} variables")
