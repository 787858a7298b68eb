// mqtt.js over TCP or WebSocket (URL), in version 4 (3.1.1) or 5 (VERSION). Topics begin with PREFIX.
'use strict'

const assert = require('node:assert')
const mqtt = require('mqtt')

const { URL: url, PREFIX: prefix } = process.env
const protocolVersion = Number(process.env.VERSION)
const open = []

async function connect (options = {}) {
  const client = mqtt.connect(url, { protocolVersion, reconnectPeriod: 0, connectTimeout: 60000, ...options })
  const waiting = []
  const messages = []
  client.on('message', (topic, payload, packet) => {
    const message = { topic, payload: payload.toString(), packet }
    waiting.length ? waiting.shift()(message) : messages.push(message)
  })
  client.next = () => messages.length ? Promise.resolve(messages.shift()) : new Promise(resolve => waiting.push(resolve))
  open.push(client)
  // The handler is there first: what a session has kept follows CONNACK at once.
  await new Promise((resolve, reject) => client.once('connect', resolve).once('error', reject))
  return client
}

const stories = {
  async every_qos () {
    const client = await connect()
    const [granted] = await client.subscribeAsync(`${prefix}/#`, { qos: 2 })
    assert.strictEqual(granted.qos, 2)
    for (const qos of [0, 1, 2]) {
      await client.publishAsync(`${prefix}/q`, `qos ${qos}`, { qos })
      const { payload, packet } = await client.next()
      assert.deepStrictEqual([payload, packet.qos, packet.retain], [`qos ${qos}`, qos, false])
    }
    const large = 'x'.repeat(200000)
    await client.publishAsync(`${prefix}/large`, large, { qos: 1 })
    assert.strictEqual((await client.next()).payload.length, large.length)
  },

  async retained () {
    const publisher = await connect()
    await publisher.publishAsync(`${prefix}/r`, 'kept', { qos: 1, retain: true })
    const client = await connect()
    await client.subscribeAsync(`${prefix}/+`, { qos: 1 })
    const { payload, packet } = await client.next()
    assert.deepStrictEqual([payload, packet.retain], ['kept', true])
    await publisher.publishAsync(`${prefix}/r`, '', { qos: 1, retain: true })
  },

  async will () {
    const watcher = await connect()
    await watcher.subscribeAsync(`${prefix}/gone`, { qos: 1 })
    const client = await connect({ will: { topic: `${prefix}/gone`, payload: 'gone', qos: 1, retain: false } })
    client.stream.destroy()
    assert.strictEqual((await watcher.next()).payload, 'gone')
  },

  async session () {
    const durable = { clientId: `${prefix}-js`, clean: false, properties: protocolVersion === 5 ? { sessionExpiryInterval: 600 } : undefined }
    const first = await connect(durable)
    await first.subscribeAsync(`${prefix}/s`, { qos: 1 })
    await first.endAsync()
    const publisher = await connect()
    await publisher.publishAsync(`${prefix}/s`, 'while away', { qos: 1 })
    const second = await connect(durable)
    assert.strictEqual((await second.next()).payload, 'while away')
  },

  async properties () {
    const client = await connect({ properties: { topicAliasMaximum: 10 } })
    await client.subscribeAsync(`${prefix}/p`, { qos: 1, properties: { subscriptionIdentifier: 7 } })
    const properties = {
      contentType: 'text/plain', responseTopic: 'answers', correlationData: Buffer.from([0, 255]),
      userProperties: { a: ['1', '2'], b: '3' }, messageExpiryInterval: 600
    }
    for (let round = 0; round < 2; round++) {
      await client.publishAsync(`${prefix}/p`, 'x', { qos: 1, properties })
      const { topic, packet } = await client.next()
      assert.strictEqual(topic, `${prefix}/p`)
      assert.deepStrictEqual({ ...packet.properties.userProperties }, { a: ['1', '2'], b: '3' })
      assert.strictEqual(packet.properties.contentType, 'text/plain')
      assert.strictEqual(packet.properties.subscriptionIdentifier, 7)
      assert.deepStrictEqual([...packet.properties.correlationData], [0, 255])
    }
  }
}

async function main () {
  for (const story of process.argv.slice(2)) {
    try {
      await stories[story]()
      console.log(`ok ${story}`)
    } catch (error) {
      console.log(`failed ${story}: ${error.message.replaceAll('\n', ' ')}`)
    }
  }
  for (const client of open) await client.endAsync(true)
  process.exit(0)
}

main()
