#!/usr/bin/env node
// Takes Posthaste's events off a queue of its own and prints each on a line.
//
//     npm install amqplib
//     AMQP_URL=amqp://guest:guest@127.0.0.1:5672 node consume_events.js
//
// The queue is durable, so events wait in it while this program is away. An event comes at least once: its id
// is the same every time, so whoever acts on it remembers the ids that were dealt with.

const amqp = require("amqplib");

const exchange = process.env.EXCHANGE ?? "posthaste.events";
const queue = process.env.QUEUE ?? "on-call.failed-deliveries";
const binding = process.env.BINDING ?? "delivery.*";

async function handle(event) {
  const delivery = event.data.delivery ?? {};
  console.log(event.id, event.type, event.subject, delivery.last_error);
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum" } });
  await channel.bindQueue(queue, exchange, binding);
  await channel.prefetch(100);
  await channel.consume(queue, async (message) => {
    await handle(JSON.parse(message.content.toString("utf8")));
    // Only now: an event whose handling failed comes again.
    channel.ack(message);
  });
  console.log("waiting for events");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
