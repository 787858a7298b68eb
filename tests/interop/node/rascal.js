'use strict';
// rascal: configuration-driven publications and subscriptions with retries, over amqplib.

const { BrokerAsPromised } = require('rascal');
const { equal, gather, named, tell, url } = require('./stories');

async function withBroker(vhost, work) {
  const broker = await BrokerAsPromised.create({ vhosts: { '/': { connection: { url, retry: { min: 100, max: 500 } }, ...vhost } } });
  broker.on('error', (error) => console.log('broker:', error.message));
  try {
    return await work(broker);
  } finally {
    await broker.nuke();
  }
}

const stories = {
  publish_and_subscribe: () => withBroker({
    exchanges: { [named('events')]: { type: 'topic' } },
    queues: [named('orders')],
    bindings: [`${named('events')}[orders.#] -> ${named('orders')}`],
    publications: { order: { vhost: '/', exchange: named('events'), routingKey: 'orders.new', confirm: true } },
    subscriptions: { orders: { vhost: '/', queue: named('orders'), prefetch: 3 } },
  }, async (broker) => {
    const seen = gather(10);
    const subscription = await broker.subscribe('orders');
    subscription.on('message', (message, content, ackOrNack) => { seen.put(content); ackOrNack(); });
    subscription.on('error', (error) => console.log(error));
    const confirmed = gather(10);
    for (let id = 0; id < 10; id += 1) {
      const publication = await broker.publish('order', { id });
      publication.on('success', (messageId) => confirmed.put(messageId));
      publication.on('error', (error) => console.log(error));
    }
    await confirmed.all('confirms');
    await seen.all('orders');
    equal(seen.items.map((it) => it.id), [...Array(10).keys()], 'orders in their order');
  }),

  /** rascal's own recovery: the message is republished to its queue with a count in its headers, then dead-lettered. */
  republished_then_dead_lettered: () => withBroker({
    exchanges: ['', named('dlx')],
    queues: {
      [named('retried')]: { options: { arguments: { 'x-dead-letter-exchange': named('dlx') } } },
      [named('dead')]: {},
    },
    bindings: [`${named('dlx')}[#] -> ${named('dead')}`],
    publications: { job: { vhost: '/', exchange: '', routingKey: named('retried') } },
    subscriptions: { jobs: { vhost: '/', queue: named('retried') }, dead: { vhost: '/', queue: named('dead') } },
  }, async (broker) => {
    let attempts = 0;
    const jobs = await broker.subscribe('jobs');
    jobs.on('message', (message, content, ackOrNack) => {
      attempts += 1;
      ackOrNack(new Error('fails'), [{ strategy: 'republish', defer: 20, attempts: 3 }, { strategy: 'nack' }]);
    });
    jobs.on('error', () => {});
    const dead = gather(1);
    const morgue = await broker.subscribe('dead');
    morgue.on('message', (message, content, ackOrNack) => { dead.put(message); ackOrNack(); });
    morgue.on('error', () => {});
    const publication = await broker.publish('job', 'job');
    publication.on('error', (error) => console.log(error));
    const [message] = await dead.all('dead letters');
    equal(attempts, 4, 'attempts');
    equal(message.properties.headers['x-death'][0].reason, 'rejected', 'reason');
  }),

  /** The delayed retry of its documentation: a queue with a TTL in between, by a forward with a routing key. */
  delayed_retry: () => withBroker({
    exchanges: [named('work'), named('delay'), named('back')],
    queues: {
      [named('delayed-work')]: {},
      [named('1s')]: { options: { arguments: { 'x-message-ttl': 100, 'x-dead-letter-exchange': named('back') } } },
    },
    bindings: [
      `${named('work')}[job] -> ${named('delayed-work')}`,
      `${named('back')}[job] -> ${named('delayed-work')}`,
      `${named('delay')}[#] -> ${named('1s')}`,
    ],
    publications: {
      job: { vhost: '/', exchange: named('work'), routingKey: 'job' },
      later: { vhost: '/', exchange: named('delay') },
    },
    subscriptions: { jobs: { vhost: '/', queue: named('delayed-work') } },
  }, async (broker) => {
    const done = gather(1);
    let attempts = 0;
    const jobs = await broker.subscribe('jobs');
    jobs.on('message', (message, content, ackOrNack) => {
      attempts += 1;
      if (attempts < 3) {
        ackOrNack(new Error('again'), { strategy: 'forward', publication: 'later', options: { routingKey: 'job' } });
      } else {
        done.put(message);
        ackOrNack();
      }
    });
    jobs.on('error', () => {});
    (await broker.publish('job', 'job')).on('error', (error) => console.log(error));
    const [message] = await done.all('done');
    equal(attempts, 3, 'attempts');
    equal(message.properties.headers['x-death'][0].reason, 'expired', 'came back by expiry');
  }),

  returned: () => withBroker({
    exchanges: [named('nowhere')],
    publications: { lost: { vhost: '/', exchange: named('nowhere'), routingKey: 'x', options: { mandatory: true } } },
  }, async (broker) => {
    const returned = gather(1);
    const publication = await broker.publish('lost', 'lost');
    publication.on('return', (message) => returned.put(message.fields.replyText));
    publication.on('error', (error) => console.log(error));
    equal(await returned.all('returns'), ['NO_ROUTE'], 'returned');
  }),
};

tell(stories);
