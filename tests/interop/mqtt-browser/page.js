// mqtt.js over WebSocket as a page uses it. The address names the broker, the version (4 or 5), a prefix for topics and the
// stories; what comes of each is told to who serves the page, by POST.
'use strict'

const settings = new URLSearchParams(location.search)
const [url, prefix] = [settings.get('url'), settings.get('prefix')]
const protocolVersion = Number(settings.get('version'))

async function tell (what) {
  const answer = await fetch('/told', { method: 'POST', body: what })
  return answer.text()
}

function equal (found, wanted) {
  const [left, right] = [JSON.stringify(found), JSON.stringify(wanted)]
  if (left !== right) throw new Error(`${left} is not ${right}`)
}

async function connect (options = {}) {
  const client = mqtt.connect(url, { protocolVersion, reconnectPeriod: 0, connectTimeout: 60000, ...options })
  const [waiting, messages] = [[], []]
  client.on('message', (topic, payload, packet) => {
    const message = { topic, payload: payload.toString(), qos: packet.qos, retain: packet.retain }
    waiting.length ? waiting.shift()(message) : messages.push(message)
  })
  client.next = () => messages.length ? Promise.resolve(messages.shift()) : new Promise(resolve => waiting.push(resolve))
  await new Promise((resolve, reject) => client.once('connect', resolve).once('error', reject))
  return client
}

const stories = {
  async every_qos () {
    const client = await connect()
    const [granted] = await client.subscribeAsync(`${prefix}/q`, { qos: 2 })
    equal(granted.qos, 2)
    for (const qos of [0, 1, 2]) {
      await client.publishAsync(`${prefix}/q`, `qos ${qos}`, { qos })
      const { payload, qos: received, retain } = await client.next()
      equal([payload, received, retain], [`qos ${qos}`, qos, false])
    }
    const large = 'x'.repeat(300000)
    await client.publishAsync(`${prefix}/q`, large, { qos: 1 })
    equal((await client.next()).payload.length, large.length)
    await client.endAsync()
  },

  async retained () {
    const publisher = await connect()
    for (const qos of [0, 1, 2]) {
      await publisher.publishAsync(`${prefix}/r/${qos}`, `kept ${qos}`, { qos, retain: true })
      const client = await connect()
      await client.subscribeAsync(`${prefix}/r/+`, { qos: 2 })
      equal(await client.next(), { topic: `${prefix}/r/${qos}`, payload: `kept ${qos}`, qos, retain: true })
      await client.endAsync()
      await publisher.publishAsync(`${prefix}/r/${qos}`, '', { qos, retain: true })
    }
    await publisher.endAsync()
  },

  async will_of_a_closed_page () {
    const watcher = await connect()
    for (const qos of [0, 1, 2]) {
      const topic = `${prefix}/gone/${qos}`
      await watcher.subscribeAsync(topic, { qos })
      const connected = new Promise(resolve => addEventListener('message', resolve, { once: true }))
      const query = new URLSearchParams({ url, version: protocolVersion, topic, qos })
      const page = open(`leaving.html?${query}`)
      if (!page) throw new Error('no page opens')
      equal((await connected).data, 'connected')
      page.close()
      equal(await watcher.next(), { topic, payload: 'gone', qos, retain: false })
    }
    await watcher.endAsync()
  },

  // The broker goes and comes back: the client connects by itself, and finds its session.
  async reconnect () {
    const properties = protocolVersion === 5 ? { sessionExpiryInterval: 600 } : undefined
    const client = await connect({ clientId: `${prefix}-page`, clean: false, properties, reconnectPeriod: 100, resubscribe: false })
    await client.subscribeAsync(`${prefix}/s`, { qos: 2 })
    const gone = new Promise(resolve => client.once('close', resolve))
    const back = new Promise(resolve => client.once('connect', resolve))
    await tell('restart')
    await gone
    equal((await back).sessionPresent, true)
    const publisher = await connect()
    for (const qos of [1, 2]) {
      await publisher.publishAsync(`${prefix}/s`, `after ${qos}`, { qos })
      const { payload, qos: received } = await client.next()
      equal([payload, received], [`after ${qos}`, qos])
    }
    await publisher.endAsync()
    await client.endAsync()
  }
}

async function main () {
  for (const story of settings.get('stories').split(',')) {
    try {
      await stories[story]()
      await tell(`ok ${story}`)
    } catch (error) {
      await tell(`failed ${story}: ${error.message}`)
    }
  }
  await tell('end')
}

main()
