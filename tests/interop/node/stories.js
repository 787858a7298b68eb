'use strict';
// What the programs of this folder share: telling stories, and waiting for things.

const readline = require('node:readline');

const PATIENCE = 60000;
const url = process.env.AMQP_URL;
const prefix = process.env.PREFIX;

function named(suffix) {
  return `${prefix}-${suffix}`;
}

function equal(actual, expected, what) {
  const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: ${left} instead of ${right}`);
}

/** What `start` resolves or calls back with, within the time. */
function within(promise, what, limit = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${limit} ms`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A promise that is resolved from outside once so many things were put in. */
function gather(count) {
  const items = [];
  let done;
  const all = new Promise((resolve) => { done = resolve; });
  return {
    items,
    put(item) {
      items.push(item);
      if (items.length === count) done(items);
    },
    all: (what) => within(all, `${what} (${count})`),
  };
}

/** Asks the test to restart the broker, and waits until it is there again. */
async function restartBroker() {
  const lines = readline.createInterface({ input: process.stdin });
  const answered = new Promise((resolve) => lines.once('line', resolve));
  console.log('restart');
  await within(answered, 'the restart', 300000);
  lines.close();
}

async function tell(stories) {
  for (const name of process.argv.slice(2)) {
    try {
      await within(stories[name](), name, 240000);
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`failed ${name}: ${error.stack.replaceAll('\n', ' | ')}`);
    }
  }
  process.exit(0);
}

module.exports = { PATIENCE, equal, gather, named, restartBroker, tell, url, within };
