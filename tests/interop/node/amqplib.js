'use strict';
// amqplib: the client that most Node applications use, directly or below something else.

const amqplib = require('amqplib');
const { equal, gather, named, restartBroker, tell, url, within } = require('./stories');

async function connected(work) {
  const connection = await amqplib.connect(url);
  connection.on('error', () => {});
  try {
    return await work(connection);
  } finally {
    await connection.close().catch(() => {});
  }
}

/** Consumes until the queue is deleted, which amqplib tells by a null. */
function consume(channel, queue, handle, options) {
  return channel.consume(queue, (message) => { if (message !== null) handle(message); }, options);
}

const stories = {
  /** Persistent jobs, confirmed; two workers with prefetch 1 share them and one gives a job back. */
  work_queue: () => connected(async (connection) => {
    const queue = named('work');
    const publisher = await connection.createConfirmChannel();
    await publisher.assertQueue(queue, { durable: true });
    const jobs = gather(20);
    const workers = [0, 0];
    let given = false;
    for (const number of [0, 1]) {
      const channel = await connection.createChannel();
      await channel.prefetch(1);
      await consume(channel, queue, (message) => {
        const job = message.content.toString();
        if (job === '7' && !given) {
          given = true;
          channel.nack(message);
          return;
        }
        if (job === '7') equal(message.fields.redelivered, true, 'given back');
        workers[number] += 1;
        jobs.put(job);
        channel.ack(message);
      });
    }
    for (let job = 0; job < 20; job += 1) publisher.sendToQueue(queue, Buffer.from(`${job}`), { persistent: true });
    await publisher.waitForConfirms();
    await jobs.all('jobs');
    equal([...jobs.items].sort((a, b) => a - b), [...Array(20).keys()].map(String), 'each job once');
    equal(workers.every((it) => it > 0), true, 'both workers work');
    equal((await publisher.deleteQueue(queue)).messageCount, 0, 'left over');
  }),

  topic_exchange: () => connected(async (connection) => {
    const channel = await connection.createChannel();
    const exchange = named('logs');
    await channel.assertExchange(exchange, 'topic', { durable: false, autoDelete: true });
    const wanted = { 'kern.*': ['kern.critical'], '*.critical': ['kern.critical', 'cron.critical'], '#': ['kern.critical', 'cron.critical', 'cron.info.daily'] };
    const seen = {};
    const all = gather(6);
    for (const pattern of Object.keys(wanted)) {
      const { queue } = await channel.assertQueue('', { exclusive: true });
      await channel.bindQueue(queue, exchange, pattern);
      seen[pattern] = [];
      await consume(channel, queue, (message) => { seen[pattern].push(message.fields.routingKey); all.put(1); }, { noAck: true });
    }
    for (const key of ['kern.critical', 'cron.critical', 'cron.info.daily']) channel.publish(exchange, key, Buffer.from(key));
    await all.all('messages');
    equal(seen, wanted, 'what each pattern sees');
  }),

  /** Requests to a server through direct reply-to, many at once. */
  rpc: () => connected(async (connection) => {
    const queue = named('rpc');
    const server = await connection.createChannel();
    await server.assertQueue(queue, { autoDelete: true });
    await consume(server, queue, (message) => {
      const answer = `${Number(message.content.toString()) ** 2}`;
      server.sendToQueue(message.properties.replyTo, Buffer.from(answer), { correlationId: message.properties.correlationId });
      server.ack(message);
    });
    const client = await connection.createChannel();
    const answers = gather(10);
    await consume(client, 'amq.rabbitmq.reply-to', (message) => {
      answers.put([Number(message.properties.correlationId), Number(message.content.toString())]);
    }, { noAck: true });
    for (let n = 0; n < 10; n += 1) client.sendToQueue(queue, Buffer.from(`${n}`), { correlationId: `${n}`, replyTo: 'amq.rabbitmq.reply-to' });
    await answers.all('answers');
    equal(answers.items.every(([n, square]) => square === n * n), true, 'right answers');
  }),

  /** A job that fails is parked for a while in a second queue, comes back, and is given up after three attempts. */
  retry: () => connected(async (connection) => {
    const channel = await connection.createChannel();
    const [work, wait, failed] = ['retry', 'retry.wait', 'retry.failed'].map(named);
    await channel.assertQueue(work, { deadLetterExchange: '', deadLetterRoutingKey: wait });
    await channel.assertQueue(wait, { messageTtl: 50, deadLetterExchange: '', deadLetterRoutingKey: work });
    await channel.assertQueue(failed);
    const given = gather(1);
    const attempts = [];
    await consume(channel, work, (message) => {
      const deaths = message.properties.headers['x-death'] || [];
      const rejected = deaths.find((it) => it.queue === work && it.reason === 'rejected');
      attempts.push(rejected ? rejected.count : 0);
      if (attempts.length < 3) {
        channel.nack(message, false, false);
      } else {
        channel.sendToQueue(failed, message.content, { headers: message.properties.headers });
        channel.ack(message);
      }
    });
    await consume(channel, failed, (message) => given.put(message), { noAck: true });
    channel.sendToQueue(work, Buffer.from('fails'));
    const [message] = await given.all('parked');
    equal(attempts, [0, 1, 2], 'attempts as the header counts them');
    equal(message.properties.headers['x-first-death-reason'], 'rejected', 'first death');
    equal(message.properties.headers['x-death'].map((it) => [it.queue, it.reason, it.count]),
      [[wait, 'expired', 2], [work, 'rejected', 2]], 'deaths');
    for (const queue of [work, wait, failed]) await channel.deleteQueue(queue);
  }),

  ttl: () => connected(async (connection) => {
    const channel = await connection.createChannel();
    const [queue, dead] = ['ttl', 'ttl.dead'].map(named);
    await channel.assertQueue(dead, { exclusive: true });
    await channel.assertQueue(queue, { exclusive: true, deadLetterExchange: '', deadLetterRoutingKey: dead });
    const expired = gather(1);
    await consume(channel, dead, (message) => expired.put(message), { noAck: true });
    channel.sendToQueue(queue, Buffer.from('short'), { expiration: 40 });
    const [message] = await expired.all('expired');
    equal(message.properties.expiration, undefined, 'the expiration is taken away');
    equal(message.properties.headers['x-death'][0]['original-expiration'], '40', 'and remembered');
  }),

  priorities: () => connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const queue = named('priorities');
    await channel.assertQueue(queue, { exclusive: true, maxPriority: 10 });
    for (const priority of [1, 9, 5, 1, 9]) channel.sendToQueue(queue, Buffer.from(`${priority}`), { priority });
    await channel.waitForConfirms();
    const order = [];
    for (let message; (message = await channel.get(queue, { noAck: true }));) order.push(Number(message.content.toString()));
    equal(order, [9, 9, 5, 1, 1], 'order');
  }),

  /** What cannot be routed comes back before its confirm; what a full queue refuses is nacked. */
  returns_and_nacks: () => connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const events = [];
    channel.on('return', (message) => events.push(`return ${message.content} ${message.fields.replyCode} ${message.fields.replyText}`));
    await new Promise((resolve, reject) => {
      channel.publish('', named('nowhere'), Buffer.from('lost'), { mandatory: true }, (error) => {
        events.push(error ? 'nack' : 'ack');
        if (error) reject(error); else resolve();
      });
    });
    equal(events, ['return lost 312 NO_ROUTE', 'ack'], 'events');
    const queue = named('full');
    await channel.assertQueue(queue, { exclusive: true, maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } });
    const verdicts = [];
    for (const body of ['fits', 'too many']) {
      await new Promise((resolve) => {
        channel.sendToQueue(queue, Buffer.from(body), {}, (error) => { verdicts.push(error ? 'nack' : 'ack'); resolve(); });
      });
    }
    equal(verdicts, ['ack', 'nack'], 'verdicts');
  }),

  headers_exchange: () => connected(async (connection) => {
    const channel = await connection.createChannel();
    const exchange = named('headers');
    await channel.assertExchange(exchange, 'headers', { autoDelete: true });
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, exchange, '', { 'x-match': 'any', kind: 'pdf', pages: 3 });
    for (const headers of [{ kind: 'doc' }, { kind: 'pdf' }, { pages: 3 }, {}]) channel.publish(exchange, '', Buffer.from(JSON.stringify(headers)), { headers });
    const found = [];
    for (let message; (message = await channel.get(queue, { noAck: true }));) found.push(JSON.parse(message.content.toString()));
    equal(found, [{ kind: 'pdf' }, { pages: 3 }], 'matched');
  }),

  /** A channel that made a mistake is gone with RabbitMQ's words; the connection is not. */
  channel_errors: () => connected(async (connection) => {
    const broken = await connection.createChannel();
    const told = new Promise((resolve) => broken.once('error', resolve));
    await broken.checkQueue(named('missing')).catch(() => {});
    const error = await within(told, 'the error');
    equal([error.code, error.message.includes(`NOT_FOUND - no queue '${named('missing')}' in vhost '/'`)], [404, true], 'error');
    const channel = await connection.createChannel();
    await channel.assertQueue(named('fine'), { exclusive: true });
  }),

  consumer_cancelled: () => connected(async (connection) => {
    const channel = await connection.createChannel();
    const queue = named('cancelled');
    await channel.assertQueue(queue);
    const cancelled = new Promise((resolve) => {
      channel.consume(queue, (message) => { if (message === null) resolve(); });
    });
    await channel.checkQueue(queue);
    await (await connection.createChannel()).deleteQueue(queue);
    await within(cancelled, 'the cancellation');
  }),

  /** The library connects again by itself and sets up what it was told to; durable things are still there. */
  recovery: async () => {
    const queue = named('recovered');
    const seen = gather(2);
    let setups = 0;
    const again = {};
    again.ready = new Promise((resolve) => { again.done = resolve; });
    const connection = await amqplib.connect(url, {
      recovery: {
        initialDelay: 50,
        maxDelay: 500,
        maxRetries: 600,
        async setup(model) {
          const channel = await model.createConfirmChannel();
          await channel.assertQueue(queue, { durable: true });
          setups += 1;
          again.channel = channel;
          if (setups === 2) {
            await consume(channel, queue, (message) => { seen.put(message.content.toString()); channel.ack(message); });
            again.done();
          }
        },
      },
    });
    connection.on('error', () => {});
    again.channel.sendToQueue(queue, Buffer.from('before'), { persistent: true });
    await again.channel.waitForConfirms();
    await restartBroker();
    await within(again.ready, 'connected again', 120000);
    again.channel.sendToQueue(queue, Buffer.from('after'), { persistent: true });
    equal(await seen.all('messages'), ['before', 'after'], 'messages');
    await connection.close();
  },
};

tell(stories);
