// kafkajs against the broker in KAFKA. Topics, groups and transactional ids begin with PREFIX.
'use strict';

const assert = require('node:assert');
const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs');
const { named, restartBroker, tell, within } = require('./stories.js');

const kafka = new Kafka({ clientId: 'kafkajs', brokers: [process.env.KAFKA], logLevel: logLevel.NOTHING });
// A minute ago: what is much older is removed by retention, sooner or later.
const THEN = String(Date.now() - 60000);
// A group is there quickly and sees quickly that a member has gone.
const GROUP = { heartbeatInterval: 100, sessionTimeout: 6000, rebalanceTimeout: 10000, maxWaitTimeInMs: 200 };

/** Lends a connected client to `work`, and disconnects it. */
async function using(client, work) {
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.disconnect();
  }
}

const withAdmin = (work) => using(kafka.admin(), work);

function create(topic, numPartitions = 1) {
  return withAdmin((admin) => admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1 }] }));
}

function produce(topic, values, settings = {}) {
  return using(kafka.producer(settings), (producer) => producer.send({ topic, messages: values.map((value) => ({ value })) }));
}

/** Waits until `holds`, which it asks again and again. */
async function until(holds, what) {
  const deadline = Date.now() + 60000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within 60 s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A member of a group, which keeps what it is given. */
class Member {
  constructor(groupId, topic, { run = {}, ...settings } = {}) {
    this.got = [];
    this.assigned = [];
    this.consumer = kafka.consumer({ groupId, ...GROUP, ...settings });
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.assigned = payload.memberAssignment[topic] ?? [];
    });
    this.topic = topic;
    this.settings = run;
  }

  async start() {
    await this.consumer.connect();
    await this.consumer.subscribe({ topic: this.topic, fromBeginning: true });
    await this.consumer.run({
      eachMessage: async ({ partition, message }) => { this.got.push({ partition, ...message }); },
      ...this.settings,
    });
    return this;
  }

  values() {
    return this.got.map((it) => it.value.toString());
  }

  async has(count) {
    await until(() => this.got.length >= count, `${count} messages`);
    assert.strictEqual(this.got.length, count);
  }

  stop() {
    return this.consumer.disconnect();
  }
}

/** What a group of its own reads from the beginning: `count` messages. */
async function read(topic, count, settings = {}) {
  const member = await new Member(`${topic}-${Math.random()}`, topic, settings).start();
  await member.has(count);
  await member.stop();
  return member;
}

const numbers = (from, to) => Array.from({ length: to - from }, (_, index) => String(from + index));

const stories = {
  async keys_headers_and_gzip() {
    const topic = named('gzip');
    await create(topic, 2);
    const headers = { one: 'first', twice: ['a', 'b'], raw: Buffer.from([0, 255]) };
    const messages = numbers(0, 100).map((value) => ({ key: `key-${value % 10}`, value, headers, timestamp: THEN }));
    const [sent] = await using(kafka.producer(), (producer) =>
      producer.send({ topic, messages, acks: -1, compression: CompressionTypes.GZIP }));
    assert.deepStrictEqual([sent.topicName, sent.errorCode], [topic, 0]);
    const { got } = await read(topic, 100);
    const [first] = got;
    assert.deepStrictEqual(
      [first.headers.one.toString(), first.headers.twice.map(String), [...first.headers.raw], first.timestamp],
      ['first', ['a', 'b'], [0, 255], THEN]);
    for (let key = 0; key < 10; key++) {
      const same = got.filter((it) => it.key.toString() === `key-${key}`);
      assert.strictEqual(new Set(same.map((it) => it.partition)).size, 1, 'a key has one partition');
      assert.deepStrictEqual(same.map((it) => Number(it.value)), numbers(0, 10).map((it) => key + 10 * it), 'in order');
    }
    assert.strictEqual(new Set(got.map((it) => it.partition)).size, 2);
  },

  async empty_values_and_tombstones() {
    const topic = named('empty');
    await create(topic);
    await using(kafka.producer(), (producer) =>
      producer.send({ topic, messages: [{ key: 'gone', value: null }, { value: '' }, { key: '', value: 'x' }] }));
    const { got } = await read(topic, 3);
    assert.deepStrictEqual(got.map((it) => it.value && it.value.toString()), [null, '', 'x']);
    assert.deepStrictEqual(got.map((it) => it.key && it.key.toString()), ['gone', null, '']);
  },

  async acks() {
    const topic = named('acks');
    await create(topic);
    await using(kafka.producer(), async (producer) => {
      for (const acks of [0, 1, -1]) await producer.send({ topic, acks, messages: [{ value: String(acks) }] });
    });
    const member = await read(topic, 3);
    assert.deepStrictEqual(member.values(), ['0', '1', '-1']);
  },

  async idempotent_producer() {
    const topic = named('idempotent');
    await create(topic);
    await using(kafka.producer({ idempotent: true, maxInFlightRequests: 1 }), async (producer) => {
      for (let batch = 0; batch < 10; batch++) {
        const values = numbers(10 * batch, 10 * batch + 10);
        const [sent] = await producer.send({ topic, messages: values.map((value) => ({ value })) });
        assert.strictEqual(Number(sent.baseOffset), 10 * batch);
      }
    });
    assert.deepStrictEqual((await read(topic, 100)).values(), numbers(0, 100));
  },

  async transactions() {
    const topic = named('transactions');
    await create(topic, 2);
    const settings = { transactionalId: topic, idempotent: true, maxInFlightRequests: 1 };
    await using(kafka.producer(settings), async (producer) => {
      for (const [value, ends] of [['kept 1', 'commit'], ['dropped', 'abort'], ['kept 2', 'commit']]) {
        const transaction = await producer.transaction();
        await transaction.send({ topic, messages: [0, 1].map((partition) => ({ partition, value })) });
        await transaction[ends]();
      }
    });
    assert.deepStrictEqual((await read(topic, 4)).values().sort(), ['kept 1', 'kept 1', 'kept 2', 'kept 2']);
    await read(topic, 6, { readUncommitted: true });
  },

  async offsets_in_a_transaction() {
    const topic = named('input');
    const output = named('output');
    const group = named('worker');
    await create(topic);
    await create(output);
    await produce(topic, numbers(0, 20));
    const settings = { transactionalId: group, idempotent: true, maxInFlightRequests: 1 };
    await using(kafka.producer(settings), async (producer) => {
      for (const ends of ['abort', 'commit']) {
        const transaction = await producer.transaction();
        await transaction.send({ topic: output, messages: numbers(0, 12).map((value) => ({ value })) });
        await transaction.sendOffsets({
          consumerGroupId: group, topics: [{ topic, partitions: [{ partition: 0, offset: '12' }] }],
        });
        await transaction[ends]();
        const [committed] = await withAdmin((admin) => admin.fetchOffsets({ groupId: group, topics: [topic] }));
        assert.strictEqual(committed.partitions[0].offset, ends === 'commit' ? '12' : '-1');
      }
    });
    const rest = await new Member(group, topic).start();
    await rest.has(8);
    assert.deepStrictEqual(rest.values(), numbers(12, 20));
    await rest.stop();
    await read(output, 12);
  },

  async manual_commit() {
    const topic = named('manual');
    const group = named('manual-group');
    await create(topic);
    await produce(topic, numbers(0, 10));
    const first = await new Member(group, topic, { run: { autoCommit: false } }).start();
    await first.has(10);
    await first.consumer.commitOffsets([{ topic, partition: 0, offset: '6', metadata: 'a note' }]);
    await first.stop();
    const [committed] = await withAdmin((admin) => admin.fetchOffsets({ groupId: group, topics: [topic] }));
    assert.deepStrictEqual(committed.partitions, [{ partition: 0, offset: '6', metadata: 'a note' }]);
    const second = await new Member(group, topic, { run: { autoCommit: false } }).start();
    await second.has(4);
    assert.deepStrictEqual(second.values(), numbers(6, 10));
    await second.stop();
  },

  async seek_pause_and_resume() {
    const topic = named('seek');
    await create(topic);
    await produce(topic, numbers(0, 10));
    const member = await new Member(named('seek-group'), topic).start();
    await member.has(10);
    member.consumer.seek({ topic, partition: 0, offset: '7' });
    await member.has(13);
    assert.deepStrictEqual(member.values().slice(10), numbers(7, 10));
    member.consumer.pause([{ topic }]);
    await produce(topic, ['paused']);
    member.consumer.resume([{ topic }]);
    await member.has(14);
    await member.stop();
  },

  async two_members_rebalance() {
    const topic = named('rebalance');
    const group = named('rebalance-group');
    await create(topic, 4);
    const first = await new Member(group, topic).start();
    await until(() => first.assigned.length === 4, 'the first has all');
    const second = await new Member(group, topic).start();
    await until(() => first.assigned.length === 2 && second.assigned.length === 2, 'each has two');
    assert.deepStrictEqual([...first.assigned, ...second.assigned].sort(), [0, 1, 2, 3]);
    await using(kafka.producer(), (producer) =>
      producer.send({ topic, messages: [0, 1, 2, 3].map((partition) => ({ partition, value: String(partition) })) }));
    await first.has(2);
    await second.has(2);
    await second.stop();
    await until(() => first.assigned.length === 4, 'the first has all again');
    await first.stop();
  },

  async admin_topics() {
    const topic = named('topics');
    await withAdmin(async (admin) => {
      const wanted = { topic, numPartitions: 2, configEntries: [{ name: 'retention.ms', value: '60000' }] };
      assert.strictEqual(await admin.createTopics({ topics: [wanted] }), true);
      assert.strictEqual(await admin.createTopics({ topics: [wanted] }), false, 'it is there');
      assert((await admin.listTopics()).includes(topic));
      await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
      const { topics: [metadata] } = await admin.fetchTopicMetadata({ topics: [topic] });
      assert.deepStrictEqual(metadata.partitions.map((it) => it.partitionId).sort(), [0, 1, 2]);
      const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
      await admin.alterConfigs({
        validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '70000' }] }],
      });
      const { resources: [described] } = await admin.describeConfigs({
        includeSynonyms: true, resources: [{ ...resource, configNames: ['retention.ms', 'cleanup.policy'] }],
      });
      const values = Object.fromEntries(described.configEntries.map((it) => [it.configName, it.configValue]));
      assert.deepStrictEqual(values, { 'retention.ms': '70000', 'cleanup.policy': 'delete' });
      await produce(topic, numbers(0, 30));
      const offsets = await admin.fetchTopicOffsets(topic);
      assert.strictEqual(offsets.reduce((sum, it) => sum + Number(it.high), 0), 30);
      const [{ partition, high }] = offsets.filter((it) => Number(it.high) > 1);
      await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: '1' }] });
      const after = (await admin.fetchTopicOffsets(topic)).find((it) => it.partition === partition);
      assert.deepStrictEqual([after.low, after.high], ['1', high]);
      const later = await admin.fetchTopicOffsetsByTimestamp(topic, Date.now() + 60000);
      assert.strictEqual(later.length, 3);
      await admin.deleteTopics({ topics: [topic] });
      assert(!(await admin.listTopics()).includes(topic));
    });
  },

  async admin_groups() {
    const topic = named('groups');
    const group = named('groups-group');
    await create(topic);
    await produce(topic, numbers(0, 10));
    const member = await new Member(group, topic).start();
    await member.has(10);
    await withAdmin(async (admin) => {
      const { groups } = await admin.listGroups();
      assert.deepStrictEqual(groups.find((it) => it.groupId === group), { groupId: group, protocolType: 'consumer' });
      const { groups: [described] } = await admin.describeGroups([group]);
      assert.deepStrictEqual([described.state, described.protocol, described.members.length], ['Stable', 'RoundRobinAssigner', 1]);
      assert.strictEqual(described.members[0].clientId, 'kafkajs');
      await assert.rejects(admin.deleteGroups([group]), (error) => error.groups[0].error.type === 'NON_EMPTY_GROUP');
      await member.stop();
      // kafkajs commits -2, which it knows as the earliest offset.
      await admin.resetOffsets({ groupId: group, topic, earliest: true });
      const [fetched] = await admin.fetchOffsets({ groupId: group });
      assert.deepStrictEqual([fetched.topic, fetched.partitions[0].offset], [topic, '-2']);
      await admin.deleteGroups([group]);
      assert(!(await admin.listGroups()).groups.some((it) => it.groupId === group));
    });
  },

  async admin_cluster() {
    await withAdmin(async (admin) => {
      const { brokers, controller, clusterId } = await admin.describeCluster();
      assert.deepStrictEqual(brokers.map((it) => it.nodeId), [controller]);
      assert(clusterId.length > 0);
      const { resources: [described] } = await admin.describeConfigs({
        resources: [{ type: ConfigResourceTypes.BROKER, name: String(controller) }],
      });
      assert(described.configEntries.some((it) => it.configName === 'num.partitions'));
      const { topics } = await admin.listPartitionReassignments({});
      assert.deepStrictEqual(topics, []);
    });
  },

  async recovery() {
    const topic = named('recovery');
    await create(topic);
    const member = await new Member(named('recovery-group'), topic).start();
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({ topic, messages: [{ value: 'before' }] });
    await member.has(1);
    await restartBroker();
    await producer.send({ topic, messages: [{ value: 'after' }] });
    await within(until(() => member.values().includes('after'), 'it goes on'), 'it goes on', 30000);
    await producer.disconnect();
    await member.stop();
  },
};

tell(stories);
