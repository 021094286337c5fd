"""Checks of the HTTP API beside schemathesis' own."""

import schemathesis

# What fits the schema and is refused all the same, by operation: the members that may be wrong then, and why no schema
# can say so. Anything else that fits the schema must be accepted.
REFUSED = {
    # An endpoint that is there; the order of two times; what the endpoint's wire format needs.
    "enqueue": {"endpoint_id", "expires_at", "ttl_seconds", "delay_seconds", "id"},
    # Where the URL leads; what the wire format needs; headers that Posthaste writes itself, or names twice.
    # A uid that looks like an id, or is not the path's; another tenant than in the query.
    "create_endpoint": {"url", "secret", "settings", "headers", "uid"},
    "put_endpoint": {"url", "secret", "settings", "headers", "uid", "tenant", "wire_format"},
    "change_endpoint": {"url", "settings", "headers"},
    "test_endpoint": {"expires_at", "ttl_seconds", "delay_seconds", "id", "notification"},
    # Only for wire formats that sign; what a secret looks like is the wire format's matter.
    "rotate_secret": {"secret", "wire_format"},
    # A filter that would match everything or nothing; one of two members.
    "replay_deliveries": {"", "status"},
    "redrive_dead_letters": {"", "ids"},
    # A time that is over.
    "create_key": {"expires_at"},
    # As for what is enqueued, since it is a notification.
    "show_audience": {"endpoint_id", "expires_at", "ttl_seconds", "delay_seconds", "id"},
    "render_endpoint": {"notification"},
    "try_transform": {"notification"},
    # How far back roll-ups reach; the lengths of a row, which only the description says.
    "stats": {"since", "step"},
    # Cursors are opaque.
    "list_audit": {"cursor"},
    "list_deliveries": {"cursor"},
    "list_endpoints": {"cursor"},
    "list_events": {"cursor"},
    "list_notifications": {"cursor"},
    "list_replays": {"cursor"},
    "list_redrives": {"cursor"},
}


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.check
def refuses_only_what_no_schema_can_say(ctx, response, case):
    if response.status_code != 422 or not is_positive(case):
        return
    operation = case.operation.definition.raw.get("operationId")
    problem = response.json()
    fields = {error["field"].split(".")[0].split("[")[0] for error in problem.get("errors", [])}
    allowed = REFUSED.get(operation, set())
    assert fields and fields <= allowed, f"{operation} refused what fits its schema: {problem['detail']}"


@schemathesis.check
def answers_every_item_of_a_batch(ctx, response, case):
    if case.operation.definition.raw.get("operationId") != "enqueue_batch" or response.status_code != 202:
        return
    answer = response.json()
    rejected = [item["error"] for item in answer["items"] if "error" in item]
    assert answer["rejected"] == len(rejected)
    assert answer["accepted"] + answer["rejected"] == len(answer["items"])
    if is_positive(case):
        fields = {error["field"].split(".")[0] for one in rejected for error in one.get("errors", [])}
        assert fields <= REFUSED["enqueue"], f"an item that fits its schema was refused: {rejected}"


@schemathesis.check
def names_the_request(ctx, response, case):
    if case.path.startswith("/v1/"):
        named = response.headers.get("x-request-id")
        assert named, "no X-Request-Id"
        if response.status_code >= 400:
            assert response.json()["request_id"] == named[0]
