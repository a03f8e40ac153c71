// Flows of MQTT 3.1.1 and 5.0 between MQTT.js clients, through a broker of their own.
//
//     mqttjs_flows.mjs BROKER_BINARY
//
// Each flow is a function that takes a Bench; `flow` says in which versions it runs. A flow has its own topics, so
// that all can share one broker. It has three listeners more for the flows about users and TLS: one that asks for a
// user name and a password, the same with TLS, and one that asks for a certificate. Prints a line for each, then
// `N passed, N failed`; exits with 1 if any failed.
// MQTT.js stands in tests/.cache/node, where tests/run puts it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, openSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const require = createRequire(new URL("../.cache/node/", import.meta.url));
const mqtt = require("mqtt");
const makeCerts = fileURLToPath(new URL("../../conf/make-certs", import.meta.url));

// Milliseconds that anything which must happen may take; only a failing flow spends them.
const DEADLINE = 10_000;
const NAMES = { 4: "3.1.1", 5: "5.0" };
const flows = [];

function flow(versions, run) {
  for (const version of versions) flows.push({ version, run });
}

function withDeadline(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), DEADLINE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// An MQTT.js client whose calls end when the broker has answered, and whose messages wait in a queue.
class Client {
  constructor(url, options) {
    this.waiting = [];
    this.messages = [];
    this.mqtt = mqtt.connect(url, { reconnectPeriod: 0, ...options });
    this.mqtt.on("message", (topic, payload, packet) => this.arrived({ topic, payload, packet }));
    this.mqtt.on("error", () => {});
    this.mqtt.on("disconnect", (packet) => (this.goodbye = packet));
    this.closed = new Promise((resolve) => this.mqtt.once("close", resolve));
  }

  async connected() {
    const answer = new Promise((resolve, reject) => {
      this.mqtt.once("connect", resolve);
      this.mqtt.once("error", reject);
      this.mqtt.once("close", () => reject(new Error("closed before CONNACK")));
    });
    this.connack = await withDeadline(answer, "CONNACK");
    return this;
  }

  arrived(message) {
    const receiver = this.waiting.shift();
    if (receiver) receiver(message);
    else this.messages.push(message);
  }

  async subscribe(filter, options = {}) {
    const granted = await withDeadline(this.mqtt.subscribeAsync(filter, options), "SUBACK");
    assert.ok(granted.every(({ qos }) => qos < 0x80), "not subscribed");
    return this;
  }

  // Ends when the whole exchange of that QoS is done.
  async publish(topic, payload, options = {}) {
    await withDeadline(this.mqtt.publishAsync(topic, payload, options), "the acknowledgement");
  }

  next() {
    if (this.messages.length > 0) return Promise.resolve(this.messages.shift());
    return withDeadline(new Promise((resolve) => this.waiting.push(resolve)), "a message");
  }

  async expect(topic, payload, { qos = 0, retain = false } = {}) {
    const message = await this.next();
    const { packet } = message;
    const received = { topic: message.topic, qos: packet.qos, retain: packet.retain };
    assert.deepEqual(received, { topic, qos, retain });
    assert.ok(message.payload.equals(Buffer.from(payload)), "another payload");
    return packet.properties ?? {};
  }

  // Sends itself a message on `topic`: it must be the next to arrive.
  async expectNothingBefore(topic) {
    await this.subscribe(topic);
    await this.publish(topic, "fence");
    await this.expect(topic, "fence");
  }

  async disconnect() {
    await withDeadline(this.mqtt.endAsync(), "the end of the connection");
  }

  // Ends the connection without DISCONNECT, so that the broker must send the will.
  breakOff() {
    this.mqtt.stream.destroy();
  }
}

// What a flow works with: a version, a topic of its own, and clients that end with it.
class Bench {
  constructor(name, version, { ports, directory }) {
    this.version = version;
    this.topic = `${name}/${NAMES[version]}`;
    this.url = `mqtt://127.0.0.1:${ports.open}`;
    this.urls = {
      users: `mqtt://127.0.0.1:${ports.users}`,
      tls: `mqtts://localhost:${ports.tls}`,
      mutual: `mqtts://localhost:${ports.mutual}`,
    };
    this.directory = directory;
    this.clients = [];
  }

  // The same name is the same client identifier.
  client(name, { url = this.url, ...options } = {}) {
    const clientId = `${this.topic}-${name}`;
    const client = new Client(url, { protocolVersion: this.version, clientId, ...options });
    this.clients.push(client);
    return client.connected();
  }

  // A client whose session stays when it goes.
  sleeper(name, sessionExpiryInterval = 600) {
    const properties = this.version === 5 ? { sessionExpiryInterval } : undefined;
    return this.client(name, { clean: false, properties });
  }

  // Expects the client not to be let in, and returns why not.
  async refused(name, options) {
    try {
      await this.client(name, options);
    } catch (error) {
      return error;
    }
    return assert.fail(`${name} was let in`);
  }

  // The certificates that a client trusts, and the one that it shows.
  authority(made = "certs") {
    return { ca: readFileSync(path.join(this.directory, made, "ca.crt")) };
  }

  certificate(name, made = "certs") {
    const file = (ending) => readFileSync(path.join(this.directory, made, name + ending));
    return { ...this.authority(), cert: file(".crt"), key: file(".key") };
  }

  close() {
    for (const client of this.clients) client.mqtt.end(true);
  }
}

flow([4, 5], async function everyQosBothWays(bench) {
  for (const out of [0, 1, 2]) {
    const subscriber = await bench.client(`subscriber${out}`);
    await subscriber.subscribe(bench.topic, { qos: out });
    const publisher = await bench.client(`publisher${out}`);
    for (const qos of [0, 1, 2]) {
      await publisher.publish(bench.topic, `${qos} to ${out}`, { qos });
      await subscriber.expect(bench.topic, `${qos} to ${out}`, { qos: Math.min(qos, out) });
    }
  }
});

flow([4, 5], async function manyMessagesInOrder(bench) {
  const subscriber = await bench.client("subscriber");
  await subscriber.subscribe(bench.topic, { qos: 2 });
  const publisher = await bench.client("publisher");
  // MQTT.js does not heed the broker's Receive Maximum, so no more than 20 are under way at once.
  for (const qos of [0, 1, 2]) {
    for (let batch = 0; batch < 15; batch++) {
      const payloads = Array.from({ length: 20 }, (_, number) => `${qos}-${batch}-${number}`);
      const exchanges = payloads.map((payload) => publisher.publish(bench.topic, payload, { qos }));
      for (const payload of payloads) await subscriber.expect(bench.topic, payload, { qos });
      await Promise.all(exchanges);
    }
  }
});

flow([4, 5], async function retainedMessages(bench) {
  const publisher = await bench.client("publisher");
  const options = { qos: 1, retain: true };
  await publisher.publish(bench.topic, "first", options);
  await publisher.publish(bench.topic, "second", options);
  const subscriber = await bench.client("subscriber");
  await subscriber.subscribe(bench.topic, { qos: 1 });
  await subscriber.expect(bench.topic, "second", options);
  await publisher.publish(bench.topic, "live", options);
  await subscriber.expect(bench.topic, "live", { qos: 1 });
  await publisher.publish(bench.topic, "", options);
  const late = await bench.client("late");
  await late.subscribe(bench.topic);
  await late.expectNothingBefore(`${bench.topic}/fence`);
});

flow([4, 5], async function wills(bench) {
  const watcher = await bench.client("watcher");
  await watcher.subscribe(bench.topic, { qos: 2 });
  for (const qos of [0, 1, 2]) {
    const will = { topic: bench.topic, payload: Buffer.from(`gone ${qos}`), qos, retain: false };
    const leaving = await bench.client("leaving", { will });
    await leaving.disconnect();
    const breaking = await bench.client("breaking", { will });
    breaking.breakOff();
    await watcher.expect(bench.topic, `gone ${qos}`, { qos });
  }
});

flow([4, 5], async function persistentSessionWithOfflineQueue(bench) {
  const first = await bench.sleeper("sleeper");
  assert.equal(first.connack.sessionPresent, false);
  await first.subscribe(bench.topic, { qos: 2 });
  await first.disconnect();
  const publisher = await bench.client("publisher");
  const numbers = Array.from({ length: 50 }, (_, number) => `waiting ${number}`);
  for (const number of numbers) await publisher.publish(bench.topic, number, { qos: 1 });
  const second = await bench.sleeper("sleeper");
  assert.equal(second.connack.sessionPresent, true);
  for (const number of numbers) await second.expect(bench.topic, number, { qos: 1 });
  await second.mqtt.unsubscribeAsync(bench.topic);
  await second.expectNothingBefore(`${bench.topic}/fence`);
});

flow([4, 5], async function wildcards(bench) {
  const client = await bench.client("client");
  await client.subscribe([`${bench.topic}/+/end`, `${bench.topic}/deep/#`]);
  for (const [topic, matches] of [
    ["one/end", true],
    ["one/two/end", false],
    ["/end", true],
    ["deep", true],
    ["deep/er/and/deeper", true],
    ["deeper", false],
  ]) {
    await client.publish(`${bench.topic}/${topic}`, topic);
    if (matches) await client.expect(`${bench.topic}/${topic}`, topic);
  }
  await client.expectNothingBefore(`${bench.topic}/fence`);
});

flow([4, 5], async function largePayloads(bench) {
  const client = await bench.client("client");
  await client.subscribe(bench.topic, { qos: 2 });
  const payload = Buffer.alloc(200_000, "0123456789");
  for (const qos of [0, 1, 2]) {
    await client.publish(bench.topic, payload, { qos });
    await client.expect(bench.topic, payload, { qos });
  }
});

flow([4, 5], async function takeOver(bench) {
  const old = await bench.client("client");
  const next = await bench.client("client");
  await withDeadline(old.closed, "the end of the old connection");
  if (bench.version === 5) assert.equal(old.goodbye?.reasonCode, 0x8e);
  await next.expectNothingBefore(`${bench.topic}/fence`);
});

flow([4, 5], async function sharedSubscription(bench) {
  const members = [];
  for (const name of ["a", "b", "c"]) {
    const member = await bench.client(name);
    members.push(await member.subscribe(`$share/group/${bench.topic}`, { qos: 1 }));
  }
  const publisher = await bench.client("publisher");
  for (let number = 0; number < 30; number++) {
    await publisher.publish(bench.topic, String(number), { qos: 1 });
  }
  const received = [];
  for (const member of members) {
    for (let count = 0; count < 10; count++) received.push(Number((await member.next()).payload));
  }
  received.sort((a, b) => a - b);
  assert.deepEqual(received, Array.from({ length: 30 }, (_, number) => number));
});

flow([5], async function propertiesPassThrough(bench) {
  const client = await bench.client("client");
  await client.subscribe(bench.topic, { qos: 1 });
  await client.publish(bench.topic, "payload", {
    qos: 1,
    properties: {
      payloadFormatIndicator: true,
      contentType: "text/plain",
      responseTopic: "answers/here",
      correlationData: Buffer.from([0, 255]),
      messageExpiryInterval: 100,
      userProperties: { a: ["1", "2"], b: "3" },
    },
  });
  const properties = await client.expect(bench.topic, "payload", { qos: 1 });
  assert.equal(properties.payloadFormatIndicator, true);
  assert.equal(properties.contentType, "text/plain");
  assert.equal(properties.responseTopic, "answers/here");
  assert.deepEqual([...properties.correlationData], [0, 255]);
  assert.ok(properties.messageExpiryInterval >= 98 && properties.messageExpiryInterval <= 100);
  assert.deepEqual({ ...properties.userProperties }, { a: ["1", "2"], b: "3" });
});

flow([5], async function messageExpiry(bench) {
  const sleeper = await bench.sleeper("sleeper");
  await sleeper.subscribe(bench.topic, { qos: 1 });
  await sleeper.disconnect();
  const publisher = await bench.client("publisher");
  const publish = (payload, messageExpiryInterval) =>
    publisher.publish(bench.topic, payload, { qos: 1, properties: { messageExpiryInterval } });
  await publish("short", 1);
  await publish("long", 600);
  await sleep(2500);
  const awake = await bench.sleeper("sleeper");
  const properties = await awake.expect(bench.topic, "long", { qos: 1 });
  assert.ok(properties.messageExpiryInterval < 600);
});

flow([5], async function topicAliasesBothWays(bench) {
  const properties = { topicAliasMaximum: 5 };
  const subscriber = await bench.client("subscriber", { properties });
  await subscriber.subscribe(bench.topic);
  const publisher = await bench.client("publisher", { autoAssignTopicAlias: true });
  assert.ok(publisher.connack.properties.topicAliasMaximum >= 1);
  for (let number = 0; number < 5; number++) await publisher.publish(bench.topic, String(number));
  for (let number = 0; number < 5; number++) await subscriber.expect(bench.topic, String(number));
});

flow([5], async function subscriptionOptions(bench) {
  const publisher = await bench.client("publisher");
  await publisher.publish(bench.topic, "retained", { retain: true });
  const client = await bench.client("client");
  const identified = { nl: true, rh: 2, properties: { subscriptionIdentifier: 42 } };
  await client.subscribe(bench.topic, identified);
  await client.publish(bench.topic, "own");
  await publisher.publish(bench.topic, "other");
  const { subscriptionIdentifier } = await client.expect(bench.topic, "other");
  assert.deepEqual([subscriptionIdentifier].flat(), [42]);
  await client.subscribe(bench.topic, { rap: true, rh: 1 });
  await publisher.publish(bench.topic, "flagged", { retain: true });
  await client.expect(bench.topic, "flagged", { retain: true });
});

flow([5], async function assignedClientIdentifier(bench) {
  const client = await bench.client("unused", { clientId: "" });
  assert.match(client.connack.properties.assignedClientIdentifier, /^auto-/);
});

// Not authorized, as it stands in a CONNACK of each version.
const NOT_AUTHORIZED = { 4: 5, 5: 0x87 };

flow([4, 5], async function userNameAndPassword(bench) {
  const url = bench.urls.users;
  const ann = await bench.client("ann", { url, username: "ann", password: "ann's" });
  await ann.subscribe(bench.topic, { qos: 1 });
  await ann.publish(bench.topic, "mine", { qos: 1 });
  await ann.expect(bench.topic, "mine", { qos: 1 });
  for (const user of [
    {},
    { username: "ann" },
    { username: "ann", password: "wrong" },
    { username: "nobody", password: "ann's" },
  ]) {
    const { code } = await bench.refused("refused", { url, ...user });
    assert.equal(code, NOT_AUTHORIZED[bench.version]);
  }
});

flow([4, 5], async function tlsWithAPassword(bench) {
  const settings = { url: bench.urls.tls, username: "ann", ...bench.authority() };
  const ann = await bench.client("ann", { ...settings, password: "ann's" });
  await ann.subscribe(bench.topic, { qos: 2 });
  for (const [qos, length] of [5, 200_000, 0].entries()) {
    await ann.publish(bench.topic, "x".repeat(length), { qos });
    await ann.expect(bench.topic, "x".repeat(length), { qos });
  }
  const { code } = await bench.refused("refused", { ...settings, password: "wrong" });
  assert.equal(code, NOT_AUTHORIZED[bench.version]);
});

flow([4, 5], async function tlsOfAServerThatNobodyKnows(bench) {
  const ann = { url: bench.urls.tls, username: "ann", password: "ann's" };
  for (const trusted of [bench.authority("others"), {}]) {
    const { code } = await bench.refused("ann", { ...ann, ...trusted });
    assert.match(code, /^(UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT_LOCALLY)$/);
  }
});

flow([4, 5], async function tlsWithCertificates(bench) {
  const settings = { url: bench.urls.mutual, ...bench.certificate("meter") };
  const meter = await bench.client("meter", settings);
  await meter.subscribe("meters/#", { qos: 1 });
  // Its certificate says who it is and so what it may write, whatever user name it sends.
  const liar = await bench.client("liar", { ...settings, username: "ann", password: "ann's" });
  await liar.publish("meters/other/power", "not the meter's");
  await liar.publish("meters/meter/power", bench.topic, { qos: 1 });
  await meter.expect("meters/meter/power", bench.topic, { qos: 1 });
});

flow([4, 5], async function tlsWithoutAGoodCertificate(bench) {
  const url = bench.urls.mutual;
  for (const shown of [bench.authority(), bench.certificate("meter", "others")]) {
    await bench.refused("stranger", { url, ...shown });
  }
});

const RIGHTS = "user meter\ntopic write meters/meter/#\ntopic read meters/#\nuser ann\ntopic readwrite #\n";

async function freePort() {
  const probe = net.createServer();
  await new Promise((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

const configuration = (ports, directory) => `
user ${os.userInfo().username}
per_listener_settings true

listener ${ports.open} 127.0.0.1
allow_anonymous true

listener ${ports.users} 127.0.0.1
password_file ${directory}/passwords

listener ${ports.tls} 127.0.0.1
password_file ${directory}/passwords
certfile ${directory}/certs/server.crt
keyfile ${directory}/certs/server.key

listener ${ports.mutual} 127.0.0.1
acl_file ${directory}/rights
certfile ${directory}/certs/server.crt
keyfile ${directory}/certs/server.key
cafile ${directory}/certs/ca.crt
require_certificate true
use_identity_as_username true
`;

// A broker on free loopback ports, and how to end it.
async function startBroker(binary) {
  const ports = {};
  for (const listener of ["open", "users", "tls", "mutual"]) ports[listener] = await freePort();
  const directory = mkdtempSync(path.join(os.tmpdir(), "midge-clients-"));
  for (const made of ["certs", "others"]) {
    execFileSync("sh", [makeCerts, "--client", "meter", path.join(directory, made)]);
  }
  const passwords = path.join(directory, "passwords");
  execFileSync(binary, ["passwd", "-c", "-b", passwords, "ann", "ann's"]);
  writeFileSync(path.join(directory, "rights"), RIGHTS, { mode: 0o600 });
  const config = path.join(directory, "midge.conf");
  const log = path.join(directory, "log");
  writeFileSync(config, configuration(ports, directory));
  const child = spawn(binary, ["-c", config], { stdio: ["ignore", "ignore", openSync(log, "w")] });
  process.once("exit", () => child.kill("SIGKILL"));
  const ended = new Promise((resolve) => {
    child.once("exit", (code, signal) => resolve(code ?? signal));
    child.once("error", resolve);
  });
  const stop = async () => {
    child.kill("SIGTERM");
    const code = await withDeadline(ended, "the end of the broker");
    if (code !== 0) console.log(readFileSync(log, "utf8"), `the broker ended with ${code}`);
    rmSync(directory, { recursive: true });
    return code === 0;
  };
  const early = ended.then((code) => {
    throw new Error(`the broker ended with ${code}: ${readFileSync(log, "utf8")}`);
  });
  const allOpened = Promise.all(Object.values(ports).map(opened));
  await withDeadline(Promise.race([allOpened, early]), "the broker's ports");
  early.catch(() => {});
  return { ports, directory, stop };
}

async function opened(port) {
  const attempt = () =>
    new Promise((resolve) => {
      const socket = net.connect(port, "127.0.0.1", () => resolve(true));
      socket.once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
  while (!(await attempt())) await sleep(20);
}

async function passes({ version, run }, broker) {
  const bench = new Bench(run.name, version, broker);
  try {
    await run(bench);
    console.log(`ok ${run.name} (${NAMES[version]})`);
    return true;
  } catch (error) {
    console.log(`FAILED ${run.name} (${NAMES[version]})\n${error.stack}`);
    return false;
  } finally {
    bench.close();
  }
}

const [binary, ...rest] = process.argv.slice(2);
if (!binary || rest.length > 0) {
  console.log("usage: mqttjs_flows.mjs BROKER_BINARY");
  process.exit(2);
}
const broker = await startBroker(binary);
let failed = 0;
for (const each of flows) if (!(await passes(each, broker))) failed += 1;
const ended = await broker.stop();
console.log(`${flows.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 && ended ? 0 : 1);
