// A page that connects with a will and waits to be closed by who has opened it.
'use strict'

const settings = new URLSearchParams(location.search)
const will = { topic: settings.get('topic'), payload: 'gone', qos: Number(settings.get('qos')), retain: false }
const client = mqtt.connect(settings.get('url'), { protocolVersion: Number(settings.get('version')), will })
client.once('connect', () => opener.postMessage('connected', location.origin))
