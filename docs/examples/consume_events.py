#!/usr/bin/env python3
"""Takes Posthaste's events off a queue of its own and prints each on a line.

    pip install pika
    AMQP_URL=amqp://guest:guest@127.0.0.1:5672 python3 consume_events.py

The queue is durable, so events wait in it while this program is away. An event comes at least once: its id is
the same every time, so whoever acts on it remembers the ids that were dealt with.
"""

import json
import os

import pika

EXCHANGE = os.environ.get("EXCHANGE", "posthaste.events")
QUEUE = os.environ.get("QUEUE", "on-call.failed-deliveries")
BINDING = os.environ.get("BINDING", "delivery.*")


def handle(event):
    delivery = event["data"].get("delivery", {})
    print(event["id"], event["type"], event["subject"], delivery.get("last_error"), flush=True)


def received(channel, method, _properties, body):
    handle(json.loads(body))
    # Only now: an event whose handling failed comes again.
    channel.basic_ack(method.delivery_tag)


connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
channel.queue_bind(QUEUE, EXCHANGE, routing_key=BINDING)
channel.basic_qos(prefetch_count=100)
channel.basic_consume(QUEUE, received)
print("waiting for events", flush=True)
channel.start_consuming()
