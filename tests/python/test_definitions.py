"""Definitions and the management API: what RabbitMQ's tools ask for, in RabbitMQ's format."""

import json
import subprocess
import time

import pika
import pytest

from broker import Broker, binary
from clients import PATIENCE, pika_channel
from management import Management

# The example of RabbitMQ's documentation of password hashes: "test12".
HASH = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def document(vhost):
    """As RabbitMQ writes it."""
    return {
        "rabbit_version": "3.12.1",
        "users": [
            {
                "name": f"user-{vhost}",
                "password_hash": HASH,
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": "management,policymaker",
                "limits": {},
            }
        ],
        "vhosts": [{"name": vhost, "metadata": {"description": "a shop", "tags": [], "default_queue_type": "classic"}}],
        "permissions": [
            {"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}
            for user in ("guest", f"user-{vhost}")
        ],
        "topic_permissions": [],
        "parameters": [
            {
                "vhost": vhost,
                "component": "operator_policy",
                "name": "cap",
                "value": {"pattern": "^q", "apply-to": "queues", "priority": 0, "definition": {"max-length": 100}},
            }
        ],
        "global_parameters": [{"name": "cluster_name", "value": "rabbit@here"}],
        "policies": [
            {
                "vhost": vhost,
                "name": "ttl",
                "pattern": "^q",
                "apply-to": "queues",
                "priority": 1,
                "definition": {"message-ttl": 3600000},
            }
        ],
        "queues": [
            {
                "name": "q1",
                "vhost": vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": {"x-queue-type": "classic", "x-max-length": 10},
            },
            {"name": "q2", "vhost": vhost, "durable": True, "auto_delete": False, "arguments": {}},
        ],
        "exchanges": [
            {
                "name": "x",
                "vhost": vhost,
                "type": "topic",
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {"alternate-exchange": "amq.fanout"},
            }
        ],
        "bindings": [
            {
                "source": "x",
                "vhost": vhost,
                "destination": "q1",
                "destination_type": "queue",
                "routing_key": "a.#",
                "arguments": {},
            },
            {
                "source": "x",
                "vhost": vhost,
                "destination": "amq.headers",
                "destination_type": "exchange",
                "routing_key": "b",
                "arguments": {},
            },
        ],
    }


def connect(broker, user, password, vhost):
    credentials = pika.PlainCredentials(user, password)
    parameters = pika.ConnectionParameters("127.0.0.1", broker.port("amqp"), vhost, credentials)
    return pika.BlockingConnection(parameters)


def part(exported, kind, vhost):
    """The items of one vhost, in an order of their own."""
    items = [item for item in exported[kind] if item["vhost"] == vhost]
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def test_what_is_exported_is_what_was_imported(broker, name):
    management = Management(broker)
    wanted = document(name)
    for _ in range(2):  # importing again changes nothing
        management.post("definitions", body=wanted)
        exported = management.get("definitions")
        assert exported["rabbit_version"] and exported["product_name"] == "Trivium"
        for kind in ("permissions", "policies", "parameters", "bindings"):
            assert part(exported, kind, name) == part(wanted, kind, name), kind
        assert part(exported, "exchanges", name) == wanted["exchanges"]
        queues = part(exported, "queues", name)
        assert [queue["name"] for queue in queues] == ["q1", "q2"]
        assert queues[0]["arguments"] == {"x-queue-type": "classic", "x-max-length": 10}
        user = next(user for user in exported["users"] if user["name"] == f"user-{name}")
        assert (user["password_hash"], user["tags"]) == (HASH, ["management", "policymaker"])
    with connect(broker, f"user-{name}", "test12", name) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("x", "a.b", b"routed", mandatory=True)
        assert channel.queue_declare("q1", durable=True, passive=True).method.message_count == 1


def test_quotas_of_clients_are_among_them(own_broker, tmp_path):
    quotas = [
        {"user": "u", "client-id": "<default>", "limits": {"producer_byte_rate": 1000.0, "request_percentage": 12.5}},
        {"ip": "10.0.0.1", "limits": {"connection_creation_rate": 5.0}},
    ]
    broker = own_broker()
    management = Management(broker)
    management.post("definitions", body={"trivium_client_quotas": quotas})
    management.post("definitions", body={"trivium_client_quotas": quotas})
    broker.kill()
    broker.start()
    exported = Management(broker).get("definitions")["trivium_client_quotas"]
    key = lambda quota: json.dumps(quota, sort_keys=True)  # noqa: E731
    assert sorted(exported, key=key) == sorted(quotas, key=key)
    for wrong, why in [
        ({"user": "u", "limits": {"connection_creation_rate": 1}}, "Invalid configuration key connection_creation_rate"),
        ({"ip": "10.0.0.1", "user": "u", "limits": {}}, "Invalid quota entity combination, IP entity should"),
        ({"user": "u", "limits": {"speed": 1}}, "trivium_client_quotas[0]: unknown limit 'speed'"),
        ({"limits": {"producer_byte_rate": 1}}, "Invalid empty client quota entity"),
    ]:
        status, answer = Management(broker).ask("POST", "definitions", {"trivium_client_quotas": [wrong]})
        assert status == 400 and why in answer["reason"], answer
    gone = [{**quota, "limits": {}} for quota in quotas]
    Management(broker).post("definitions", body={"trivium_client_quotas": gone})
    assert Management(broker).get("definitions")["trivium_client_quotas"] == []


def test_definitions_of_one_vhost_name_none(broker, name):
    management = Management(broker)
    management.put("vhosts", name)
    body = {
        "queues": [{"name": "q", "durable": True, "auto_delete": False, "arguments": {}}],
        "policies": [{"name": "p", "pattern": "", "definition": {"max-length": 1}}],
    }
    management.post("definitions", name, body=body)
    exported = management.get("definitions", name)
    assert [queue["name"] for queue in exported["queues"]] == ["q"]
    assert [policy["apply-to"] for policy in exported["policies"]] == ["all"]
    assert exported["users"] == []


def test_what_is_wrong_is_refused_and_nothing_is_done(broker, name):
    management = Management(broker)
    wanted = document(name)
    wanted["queues"].append({"name": "q", "vhost": f"{name}-nowhere", "durable": True, "arguments": {}})
    status, answer = management.ask("POST", "definitions", wanted)
    assert (status, answer["reason"]) == (400, f"vhost {name}-nowhere not found")
    assert name not in [vhost["name"] for vhost in management.get("vhosts")]
    wanted = document(name)
    del wanted["queues"][0]["name"]
    status, answer = management.ask("POST", "definitions", wanted)
    assert (status, answer["reason"]) == (400, "queues[0]: name is missing")


def test_a_vhost_that_is_not_there_takes_no_definitions(broker, name):
    status, answer = Management(broker).ask("POST", f"definitions/{name}", {"queues": []})
    assert (status, answer["error"]) == (404, "Object Not Found")


def test_what_went_with_its_connection_does_not_stop_an_import(broker, name):
    """`rabbitmqctl export_definitions` names bindings of exclusive queues, but not the queues; and queues that the
    broker has named are like any other."""
    management = Management(broker)
    named = f"amq.gen-{name}"[:30].ljust(30, "x")
    bindings = [
        {"source": "amq.topic", "vhost": "/", "destination": it, "destination_type": "queue", "routing_key": name, "arguments": {}}
        for it in (f"{name}-gone", named)
    ]
    queues = [{"name": named, "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}]
    management.post("definitions", body={"queues": queues, "bindings": bindings})
    with pika_channel(broker) as channel:
        channel.basic_publish("amq.topic", name, b"m")
        assert channel.queue_declare(named, passive=True).method.message_count == 1
        channel.queue_delete(named)


def test_only_administrators_and_known_users_are_served(broker, name):
    status, answer = Management(broker, "guest", "wrong").ask("GET", "whoami")
    assert (status, answer) == (401, {"error": "not_authorized", "reason": "Not_Authorized"})
    admin = Management(broker)
    assert admin.get("whoami") == {"name": "guest", "tags": ["administrator"]}
    admin.put("users", name, password="secret", tags="")
    assert Management(broker, name, "secret").ask("GET", "queues")[0] == 401
    admin.put("users", name, password="secret", tags="management")
    user = Management(broker, name, "secret")
    assert user.ask("PUT", f"vhosts/{name}", {})[0] == 401
    assert user.get("queues") == []
    assert user.ask("GET", "nothing/here")[0] == 404
    admin.delete("users", name)
    assert user.ask("GET", "whoami")[0] == 401


def test_users_and_permissions_are_managed(broker, name):
    management = Management(broker)
    assert management.put("users", name, password="one", tags="monitoring") == 201
    assert management.put("users", name, password="two", tags=["monitoring"]) == 204
    user = management.get("users", name)
    assert user["tags"] == ["monitoring"] and user["hashing_algorithm"] == "rabbit_password_hashing_sha256"
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        connect(broker, name, "one", "/")
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
        connect(broker, name, "two", "/")
    rights = {"configure": "", "write": ".*", "read": ".*"}
    assert management.put("permissions", "/", name, **rights) == 201
    assert management.get("permissions", "/", name) == {"user": name, "vhost": "/", **rights}
    with connect(broker, name, "two", "/") as connection:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
            connection.channel().queue_declare(name)
    refused = f"ACCESS_REFUSED - configure access to queue '{name}' in vhost '/' refused for user '{name}'"
    assert (closed.value.reply_code, closed.value.reply_text) == (403, refused)
    topics = {"exchange": "amq.topic", "write": "^a", "read": ""}
    management.put("topic-permissions", "/", name, **topics)
    assert management.get("topic-permissions", "/", name) == [{"user": name, "vhost": "/", **topics}]
    management.delete("topic-permissions", "/", name)
    management.delete("permissions", "/", name)
    management.delete("users", name)
    assert management.ask("GET", f"users/{name}")[0] == 404


def test_policies_are_managed_and_shown_where_they_count(broker, name):
    management = Management(broker)
    with pika_channel(broker) as channel:
        channel.queue_declare(name, durable=True, arguments={"x-max-length": 5})
        body = {"pattern": f"^{name}$", "apply-to": "queues", "priority": 7, "definition": {"message-ttl": 60000}}
        assert management.put("policies", "/", name, **body) == 201
        assert management.get("policies", "/", name) == {"vhost": "/", "name": name, **body}
        cap = {"pattern": f"^{name}$", "definition": {"max-length": 3, "message-ttl": 1000}}
        assert management.put("operator-policies", "/", name, **cap) == 201
        queue = management.get("queues", "/", name)
        assert (queue["policy"], queue["operator_policy"]) == (name, name)
        assert queue["effective_policy_definition"] == {"message-ttl": 1000, "max-length": 3}
        assert queue["arguments"] == {"x-queue-type": "classic", "x-max-length": 5}
        channel.basic_publish("", name, b"one")
        deadline = time.monotonic() + PATIENCE
        while management.get("queues", "/", name)["messages_ready"] != 1:
            assert time.monotonic() < deadline
        status, answer = management.ask("PUT", f"policies/%2F/{name}", {"pattern": "", "definition": {"foo": 5}})
        reason = 'Validation failed\n\n[{<<"foo">>,5}] are not recognised policy settings\n'
        assert (status, answer) == (400, {"error": "bad_request", "reason": reason})
        management.delete("operator-policies", "/", name)
        management.delete("policies", "/", name)
        assert management.get("queues", "/", name)["policy"] is None
        channel.queue_delete(name)


def test_lists_come_in_pages(broker, name):
    management = Management(broker)
    management.put("vhosts", name)
    queues = [{"name": f"q{n}", "durable": True, "auto_delete": False, "arguments": {}} for n in range(25)]
    management.post("definitions", name, body={"queues": queues})
    status, page = management.ask("GET", f"queues/{name}?page=2&page_size=10&name=%5Eq&use_regex=true&columns=name")
    assert status == 200
    assert (page["page_count"], page["filtered_count"], page["item_count"]) == (3, 25, 10)
    assert all(set(item) == {"name"} for item in page["items"])
    assert management.ask("GET", f"queues/{name}?page=4&page_size=10")[0] == 400
    assert len(management.get("exchanges", name)) == 7
    assert management.get("exchanges", name, "amq.default")["name"] == ""
    management.delete("vhosts", name)
    assert management.ask("GET", f"queues/{name}")[0] == 404


def test_limits_of_vhosts_are_kept(broker, name):
    management = Management(broker)
    management.put("vhosts", name)
    assert management.put("vhost-limits", name, "max-queues", value=1) == 204
    assert management.get("vhost-limits", name) == [{"vhost": name, "value": {"max-queues": 1}}]
    with connect(broker, "guest", "guest", name) as connection:
        connection.channel().queue_declare("q1")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
            connection.channel().queue_declare("q2")
        reason = f"PRECONDITION_FAILED - cannot declare queue 'q2': queue limit in vhost '{name}' (1) is reached"
        assert (closed.value.reply_code, closed.value.reply_text) == (406, reason)
        management.delete("vhost-limits", name, "max-queues")
        connection.channel().queue_declare("q2")


def test_a_file_is_imported_at_start(tmp_path, own_broker):
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(document("shop")))
    broker = own_broker(definitions__file=file)
    queues = Management(broker).get("queues", "shop")
    assert [queue["name"] for queue in queues] == ["q1", "q2"]
    broker.restart()
    assert Management(broker).get("queues", "shop", "q1")["arguments"]["x-max-length"] == 10


@pytest.mark.parametrize("content, reason", [(None, "No such file"), ("{", "not JSON"), ('{"queues": 1}', "queues")])
def test_a_file_that_cannot_be_imported_closes_the_door(tmp_path, content, reason):
    file = tmp_path / "definitions.json"
    if content is not None:
        file.write_text(content)
    broker = Broker(tmp_path / "data", definitions__file=file)
    with pytest.raises(AssertionError) as failed:
        broker.start()
    assert "definitions.file" in str(failed.value) and reason in str(failed.value)


def test_the_command_exports_and_imports(tmp_path, own_broker):
    first, second = own_broker(), own_broker()
    Management(first).post("definitions", body=document("shop"))
    file = tmp_path / "out.json"

    def trivium(broker, *arguments):
        command = [binary(), "definitions", *arguments, "--http", broker.addresses["http"]]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    exported = trivium(first, "export", str(file))
    assert exported.returncode == 0, exported.stderr
    imported = trivium(second, "import", str(file))
    assert imported.returncode == 0, imported.stderr
    assert Management(second).get("definitions") == json.loads(file.read_text())
    refused = trivium(second, "export", "--password", "wrong")
    assert refused.returncode == 1 and "401: Not_Authorized" in refused.stderr


def test_much_is_imported_in_seconds_and_is_there_after_a_kill(own_broker):
    broker = own_broker()
    management = Management(broker)
    queues = [
        {"name": f"q{n}", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}} for n in range(5000)
    ]
    bindings = [
        {
            "source": "amq.topic",
            "vhost": "/",
            "destination": f"q{n % 5000}",
            "destination_type": "queue",
            "routing_key": f"k.{n}",
            "arguments": {},
        }
        for n in range(10000)
    ]
    management.post("definitions", body={"queues": queues, "bindings": bindings})
    broker.kill()
    broker.start()
    exported = management.get("definitions")
    assert (len(exported["queues"]), len(exported["bindings"])) == (5000, 10000)
