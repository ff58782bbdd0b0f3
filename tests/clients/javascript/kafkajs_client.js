// kafkajs: the JavaScript client.
//
//     NODE_PATH=.cache/clients/node/node_modules node kafkajs_client.js BOOTSTRAP SCENARIO RUN [ARGUMENT...]
//
// The last line printed is the result: {"result": "pass" | "fail" | "skip", "reason": ..., "data": ...}.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { createHash } = require('node:crypto')
const fs = require('node:fs')
const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer, 3)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const [bootstrap, scenario, run, ...args] = process.argv.slice(2)
let topic = `${run}-kafkajs-${scenario}`
const SECONDS = 30
const PARTITIONS = [0, 1, 2, 3] // of a topic that is created by being used
const TOPIC_AUTHORIZATION_FAILED = 29
const INVALID_PARTITIONS = 37
const NON_EMPTY_GROUP = 68
const TOPIC_CONFIG = 2 // type of a config resource

const LOG = logLevel[process.env.LOG || 'NOTHING']

// How to log in, where the server is not open to everybody: what xtask/src/test/secure.rs writes.
const DOOR = process.env.DOOR && JSON.parse(fs.readFileSync(process.env.DOOR))

// How clients get their tokens; scenarios that are about tokens change it. `given` counts.
const tokens = { give: () => DOOR.token, given: 0 }

async function withTokens(give, action) {
  const before = tokens.give
  tokens.give = give
  try {
    return await action()
  } finally {
    tokens.give = before
  }
}

// One that is good for `token_seconds`.
function freshToken() {
  const [program, ...words] = DOOR.make_token
  return execFileSync(program, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
}

// When a token says that it expires.
const expiry = token => JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).exp * 1000

function bearer() {
  const give = tokens.give
  return async () => {
    tokens.given++
    return { value: give() }
  }
}

function login() {
  if (!DOOR) return {}
  const certificate = DOOR.certificate && fs.readFileSync(DOOR.certificate)
  const ssl = { ca: [fs.readFileSync(DOOR.authority)], ...(certificate && { cert: certificate, key: certificate }) }
  if (!DOOR.mechanism) return { ssl }
  const said = DOOR.token
    ? { oauthBearerProvider: bearer() }
    : { username: DOOR.user, password: DOOR.password }
  // Ten seconds before a login ends, unless it is told when: that is more than these have.
  const renewal = DOOR.token_seconds && { reauthenticationThreshold: 250 * DOOR.token_seconds }
  return { ssl, sasl: { mechanism: DOOR.mechanism.toLowerCase(), ...said }, ...renewal }
}

const kafka = new Kafka({ brokers: [bootstrap], clientId: 'kafkajs', logLevel: LOG, ...login() })
const admin = kafka.admin()

// ---- helpers

const numbered = (count, partition = 0, base = null, from = 0) =>
  Array.from({ length: count }, (_, i) => ({
    key: Buffer.from(`k${from + i}`),
    value: Buffer.from(`v${from + i}`),
    headers: {},
    partition,
    ...(base === null ? {} : { timestamp: String(base + i * 1000) }),
  }))

const everywhere = count => PARTITIONS.flatMap(p => numbered(count, p))

const unhex = text => (text === null ? null : Buffer.from(text, 'hex'))

// Records as the runner writes them; kafkajs keeps headers as an object, with a list for a repeated name.
function load(file) {
  return JSON.parse(fs.readFileSync(file)).map(r => {
    const headers = {}
    for (const [name, hex] of r.headers) {
      const value = unhex(hex)
      headers[name] = name in headers ? [].concat(headers[name], [value]) : value
    }
    const timestamp = r.timestamp === null ? {} : { timestamp: String(r.timestamp) }
    return { key: unhex(r.key), value: unhex(r.value), headers, partition: 0, ...timestamp }
  })
}

function equal(got, expected, what = '') {
  assert.equal(got.length, expected.length, `${what}number of records`)
  expected.forEach((e, i) => {
    for (const field of ['key', 'value', 'timestamp']) {
      if (field === 'timestamp' && !e.timestamp) continue
      const [mine, its] = [got[i][field], e[field]]
      const same = Buffer.isBuffer(mine) && Buffer.isBuffer(its) ? mine.equals(its) : mine === its
      assert(same, `${what}record ${i}: ${field} differs: ${String(mine).slice(0, 60)}`)
    }
    assert.deepEqual({ ...got[i].headers }, e.headers, `${what}record ${i}: headers`)
  })
}

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

async function wait(what, condition, seconds = SECONDS) {
  const deadline = Date.now() + seconds * 1000
  for (;;) {
    const result = await condition()
    if (result) return result
    assert(Date.now() < deadline, `waited ${seconds} s in vain: ${what}`)
    await pause(20)
  }
}

async function refused(code, action) {
  try {
    await action()
  } catch (error) {
    const found = error.code ?? error.errors?.[0]?.code ?? error.groups?.[0]?.errorCode
    return assert.equal(found, code, `refused with ${error}`)
  }
  assert.fail(`not refused with error ${code}`)
}

// Sends in batches that stay below the broker's limit; kafkajs doesn't split what it is given.
async function produce(topic, records, { compression = 'none', acks = -1, ...options } = {}) {
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...options })
  await producer.connect()
  try {
    for (let at = 0; at < records.length; ) {
      const messages = []
      for (let size = 0; at < records.length && (size < 200_000 || !messages.length); at++) {
        size += records[at].value?.length ?? 0
        if (size > 900_000 && messages.length) break
        messages.push(records[at])
      }
      await producer.send({ topic, acks, compression: CODECS[compression], messages })
    }
  } finally {
    await producer.disconnect()
  }
}

// Reads `count` records of a partition. kafkajs reads only as a member of a group: one of its own here.
async function read(topic, partition, start, count, ready) {
  const bounds = (await admin.fetchTopicOffsets(topic)).find(p => p.partition === partition)
  const offset = { start: bounds.low, end: bounds.high }[start] ?? String(start)
  const groupId = `${topic}-read-${Math.random()}`
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 100 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  const got = []
  const joined = new Promise(resolve => consumer.on(consumer.events.GROUP_JOIN, resolve))
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      // What was on its way before the seek is not asked for.
      if (batch.partition === partition && Number(batch.firstOffset()) >= Number(offset)) got.push(...batch.messages)
    },
  })
  if (offset !== bounds.low) consumer.seek({ topic, partition, offset })
  await joined
  if (ready) await ready()
  try {
    await wait(`${count} records of ${topic}`, () => got.length >= count)
  } finally {
    await consumer.disconnect()
  }
  return got
}

// A member of a group: `seen` counts records by partition and offset; commits by hand after each batch
// unless told otherwise.
async function join(group, topic, { seen = new Map(), autoCommit = false, commit = !autoCommit, of = kafka } = {}) {
  const consumer = of.consumer({
    groupId: group,
    sessionTimeout: 10_000,
    heartbeatInterval: 300,
    maxWaitTimeInMs: 200,
    retry: { initialRetryTime: 50 },
  })
  const member = { seen, assigned: [], got: [], consumer, leave: () => consumer.disconnect() }
  consumer.on(consumer.events.GROUP_JOIN, e => (member.assigned = e.payload.memberAssignment[topic] ?? []))
  consumer.on(consumer.events.REBALANCING, () => (member.assigned = []))
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit,
    autoCommitInterval: 200,
    eachBatch: async ({ batch, resolveOffset, commitOffsetsIfNecessary }) => {
      for (const message of batch.messages) {
        const place = `${batch.partition}:${message.offset}`
        seen.set(place, (seen.get(place) ?? 0) + 1)
        member.got.push({ partition: batch.partition, ...message })
      }
      resolveOffset(batch.lastOffset())
      const next = String(Number(batch.lastOffset()) + 1)
      if (commit) await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }])
      else await commitOffsetsIfNecessary()
    },
  })
  return member
}

async function committed(group, topic) {
  const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
  return Object.fromEntries(found.partitions.map(p => [p.partition, Number(p.offset)]))
}

async function ends(topic) {
  return Object.fromEntries((await admin.fetchTopicOffsets(topic)).map(p => [p.partition, Number(p.high)]))
}

const shared = (...members) => () =>
  members.every(m => m.assigned.length) &&
  JSON.stringify(members.flatMap(m => m.assigned).sort()) === JSON.stringify(PARTITIONS)

const same = (a, b) => JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort())

const total = seen => [...seen.values()].reduce((sum, count) => sum + count, 0)

// ---- scenarios

const produceWith = compression => async file => {
  const records = load(file)
  await produce(topic, records, { compression })
  equal(await read(topic, 0, 'start', records.length), records)
}

const produceAcks = acks => async () => {
  await produce(topic, numbered(1)) // a topic that is just being created may lose what has acks=0
  await produce(topic, numbered(100), { acks })
  equal(await read(topic, 0, '1', 100), numbered(100))
}

async function idempotent() {
  await produce(topic, everywhere(500), { idempotent: true, maxInFlightRequests: 1 })
  for (const p of PARTITIONS) equal(await read(topic, p, 'start', 500), numbered(500, p))
  assert(same(await ends(topic), { 0: 500, 1: 500, 2: 500, 3: 500 }))
}

async function keys() {
  const records = Array.from({ length: 1000 }, (_, i) => ({ key: `key-${i % 50}`, value: String(i) }))
  await produce(topic, records)
  const places = new Map()
  let used = 0
  for (const [partition, count] of Object.entries(await ends(topic))) {
    if (!count) continue
    used++
    for (const { key, value } of await read(topic, Number(partition), 'start', count)) {
      places.set(String(key), [...(places.get(String(key)) ?? []), [partition, Number(value)]])
    }
  }
  assert(used > 1, 'one partition for 50 keys')
  assert.equal(places.size, 50)
  for (const [key, found] of places) {
    assert.equal(new Set(found.map(([p]) => p)).size, 1, `${key} in several partitions`)
    const values = found.map(([, value]) => value)
    assert.deepEqual(values, [...values].sort((a, b) => a - b), `${key} out of order`)
    assert.equal(values.length, 20)
  }
}

async function consumeFrom(start, first) {
  await produce(topic, numbered(100))
  const got = await read(topic, 0, start, 100 - first)
  equal(got, numbered(100).slice(first))
  assert.equal(got[0].offset, String(first))
}

async function consumeEnd() {
  await produce(topic, numbered(100))
  const got = await read(topic, 0, 'end', 10, () => produce(topic, numbered(10)))
  equal(got, numbered(10))
  assert.equal(got[0].offset, '100')
}

async function consumeTimestamp() {
  const base = Date.now() - 200_000
  await produce(topic, numbered(100, 0, base))
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, base + 41_500)
  const { offset } = found.find(p => p.partition === 0)
  equal(await read(topic, 0, offset, 58), numbered(100).slice(42))
}

async function commitManual() {
  await produce(topic, numbered(100))
  const first = await join(topic, topic, { commit: false })
  await wait('100 records', () => first.got.length >= 100)
  await first.consumer.commitOffsets([{ topic, partition: 0, offset: '60' }])
  await first.leave()
  assert.equal((await committed(topic, topic))[0], 60)
  const second = await join(topic, topic, { commit: false })
  await wait('40 records', () => second.got.length >= 40)
  await second.leave()
  assert.equal(second.got[0].offset, '60')
  assert.equal(second.got.length, 40)
}

async function commitAuto() {
  await produce(topic, numbered(100))
  const first = await join(topic, topic, { autoCommit: true })
  await wait('100 records', () => first.got.length >= 100)
  await wait('the automatic commit', async () => (await committed(topic, topic))[0] === 100)
  await first.leave()
  await produce(topic, numbered(10))
  const second = await join(topic, topic, { autoCommit: true })
  await wait('10 records', () => second.got.length >= 10)
  await second.leave()
  assert.equal(second.got[0].offset, '100')
  assert.equal(second.got.length, 10)
}

async function group() {
  await produce(topic, everywhere(1))
  let loading = true
  let count = PARTITIONS.length
  const load = (async () => {
    for (; loading; await pause(100)) {
      await produce(topic, everywhere(25))
      count += 25 * PARTITIONS.length
    }
  })()
  const seen = new Map()
  const a = await join(topic, topic, { seen })
  await wait('the first member has all partitions', shared(a))
  let b = await join(topic, topic, { seen })
  await wait('two members share', shared(a, b))
  const c = await join(topic, topic, { seen })
  await wait('three members share', shared(a, b, c))
  await b.leave()
  await wait('two members share after one left', shared(a, c))
  b = await join(topic, topic, { seen })
  await wait('three members share again', shared(a, b, c))

  loading = false
  await load
  await wait(`all ${count} records seen`, () => seen.size >= count)
  assert.equal(seen.size, count)
  const settled = async () => same(await committed(topic, topic), await ends(topic)) && shared(a, b, c)()
  await wait('all committed', settled)
  const twice = total(seen) - count
  await produce(topic, everywhere(250))
  await wait('the next 1,000 records', () => seen.size >= count + 1000)
  await wait('the next 1,000 committed', settled)
  for (const member of [a, b, c]) await member.leave()
  assert.equal(total(seen), count + 1000 + twice, 'records seen twice after commits had settled')

  const last = await join(topic, topic)
  await wait('a new member has all partitions', shared(last))
  await produce(topic, everywhere(1))
  await wait('the new member sees the newest', () => last.seen.size >= PARTITIONS.length)
  await last.leave()
  assert.equal(last.seen.size, PARTITIONS.length, 'a new member saw what was committed before')
  return { records: count + 1000 + PARTITIONS.length, 'seen twice during rebalances': twice }
}

const topicListed = async () => (await admin.listTopics()).includes(topic)

// Creates the topic, and waits until the server shows it; false where it existed before.
async function create(numPartitions, configEntries = []) {
  const created = await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] })
  await wait('the topic is listed', topicListed)
  return created
}

const describeTopic = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions

async function topics() {
  assert.equal(await create(3, [{ name: 'retention.ms', value: '3600000' }]), true)
  // kafkajs answers "false" for a topic that exists, and throws for every other error.
  assert.equal(await create(3), false)
  const partitions = await describeTopic()
  assert.deepEqual(partitions.map(p => p.partitionId).sort(), [0, 1, 2])
  assert(partitions.every(p => p.leader >= 0))
  await admin.deleteTopics({ topics: [topic] })
  await wait('the topic is gone', async () => !(await topicListed()))
}

async function partitions() {
  await create(1)
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  await wait('five partitions', async () => (await describeTopic()).length === 5)
  await refused(INVALID_PARTITIONS, () => admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] }))
  await produce(topic, numbered(10, 4))
  equal(await read(topic, 4, 'start', 10), numbered(10))
}

async function describeConfigs() {
  const resources = [{ type: TOPIC_CONFIG, name: topic }]
  const found = await admin.describeConfigs({ resources, includeSynonyms: false })
  return Object.fromEntries(found.resources[0].configEntries.map(e => [e.configName, e]))
}

// AlterConfigs replaces all that was set, so what is to stay is named again.
async function alterConfigs(values, unset = []) {
  const kept = Object.values(await describeConfigs()).filter(e => e.configSource === 1 && !unset.includes(e.configName))
  const merged = { ...Object.fromEntries(kept.map(e => [e.configName, e.configValue])), ...values }
  const configEntries = Object.entries(merged).map(([name, value]) => ({ name, value }))
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: TOPIC_CONFIG, name: topic, configEntries }] })
}

async function configs() {
  await create(1, [{ name: 'retention.ms', value: '3600000' }])
  const value = async name => (await describeConfigs())[name].configValue
  assert.equal(await value('retention.ms'), '3600000')
  assert(Object.keys(await describeConfigs()).length > 20, 'a topic has more configs than that')
  const usual = await value('max.message.bytes')
  await alterConfigs({ 'max.message.bytes': '2000000', 'cleanup.policy': 'compact' })
  await wait('two configs set', async () => (await value('max.message.bytes')) === '2000000')
  assert.equal(await value('cleanup.policy'), 'compact')
  assert.equal(await value('retention.ms'), '3600000')
  await alterConfigs({}, ['max.message.bytes'])
  await wait('one config unset', async () => (await value('max.message.bytes')) === usual)
}

async function describeGroup() {
  const { state, members } = (await admin.describeGroups([topic])).groups[0]
  return `${state} ${members.length}`
}

const listed = async () => (await admin.listGroups()).groups.some(g => g.groupId === topic)

async function groups() {
  await produce(topic, everywhere(1))
  const member = await join(topic, topic)
  await wait('all seen', () => member.seen.size === PARTITIONS.length)
  assert(await listed())
  assert.equal(await describeGroup(), 'Stable 1')
  await member.leave()
  await wait('the group is empty', async () => (await describeGroup()) === 'Empty 0')
}

async function deleteGroup() {
  await produce(topic, everywhere(1))
  const member = await join(topic, topic)
  await wait('the member has all partitions', shared(member))
  await refused(NON_EMPTY_GROUP, () => admin.deleteGroups([topic]))
  await member.leave()
  await admin.deleteGroups([topic])
  await wait('the group is gone', async () => !(await listed()))
}

async function listOffsets() {
  const base = Date.now() - 200_000
  await produce(topic, numbered(100, 0, base))
  const { low, high } = (await admin.fetchTopicOffsets(topic)).find(p => p.partition === 0)
  assert.deepEqual([low, high], ['0', '100'])
  for (const [asked, expected] of [[base, '0'], [base + 41_500, '42'], [base + 99_000, '99']]) {
    const found = await admin.fetchTopicOffsetsByTimestamp(topic, asked)
    assert.equal(found.find(p => p.partition === 0).offset, expected)
  }
}

async function deleteRecords() {
  await produce(topic, numbered(100))
  await admin.fetchTopicOffsets(topic) // else: "Topic metadata not loaded" (kafkajs 2.2.4)
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '40' }] })
  const low = async () => (await admin.fetchTopicOffsets(topic)).find(p => p.partition === 0).low
  await wait('the start has moved', async () => (await low()) === '40')
  const got = await read(topic, 0, 'start', 60)
  assert.equal(got[0].offset, '40')
}

async function readOthers(...pairs) {
  if (!pairs.length) return { skip: 'no other client has produced in this run' }
  for (const pair of pairs) {
    const [other, file] = pair.split('=')
    const expected = load(file)
    equal(await read(other, 0, 'start', expected.length), expected, `${other}: `)
  }
  return { topics: pairs.length }
}

// Number of records and SHA-256 over key and value of each, in order.
class Digest {
  count = 0
  hash = createHash('sha256')

  add(key, value) {
    this.count++
    this.hash.update(key).update('\n').update(value).update('\n')
  }

  summary() {
    return [this.count, this.hash.digest('hex')]
  }
}

async function tableProduce(topic, file) {
  const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n')
  const records = lines.map(line => ({ key: line.slice(0, line.indexOf('\t')), value: line.slice(line.indexOf('\t') + 1) }))
  const digests = {}
  // The only place where kafkajs tells which partition a record goes to.
  const createPartitioner = () => {
    const choose = Partitioners.DefaultPartitioner()
    return choice => {
      const partition = choose(choice)
      digests[partition] ??= new Digest()
      digests[partition].add(choice.message.key, choice.message.value)
      return partition
    }
  }
  await produce(topic, records, { compression: 'gzip', createPartitioner })
  return { [topic]: Object.fromEntries(Object.entries(digests).map(([p, d]) => [p, d.summary()])) }
}

async function tablesRead(...topics) {
  if (!topics.length) return { skip: 'no table has been produced in this run' }
  const found = {}
  for (const topic of topics) {
    found[topic] = {}
    for (const [partition, count] of Object.entries(await ends(topic))) {
      if (!count) continue
      const digest = new Digest()
      for (const { key, value } of await read(topic, Number(partition), 'start', count)) digest.add(key, value)
      found[topic][partition] = digest.summary()
    }
  }
  return found
}

// ---- transactions

const transactional = timeout =>
  kafka.producer({
    transactionalId: topic,
    transactionTimeout: timeout,
    idempotent: true,
    maxInFlightRequests: 1,
    createPartitioner: Partitioners.DefaultPartitioner,
    retry: { initialRetryTime: 50 },
  })

// Records for every partition; the word and a number are their values.
const onEach = (word, count = 1) =>
  Array.from({ length: count }, (_, i) => PARTITIONS.map(partition => ({ partition, value: word + i }))).flat()

// Partition to the values in it, each to the end that the isolation level shows. That has come when a fetch from
// all partitions brought nothing; the next one begins only when what a fetch has brought is dealt with.
async function values(topic, readUncommitted) {
  const groupId = `${topic}-values-${Math.random()}`
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 100, readUncommitted })
  const found = PARTITIONS.map(() => [])
  const { FETCH, FETCH_START, GROUP_JOIN, START_BATCH_PROCESS } = consumer.events
  const joined = new Promise(resolve => consumer.on(GROUP_JOIN, resolve))
  let [fetched, brought, empty] = [false, false, 0]
  consumer.on(FETCH_START, () => {
    if (fetched) empty = brought ? 0 : empty + 1
    fetched = brought = false
  })
  consumer.on(FETCH, () => (fetched = true))
  consumer.on(START_BATCH_PROCESS, () => (brought = true))
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => found[partition].push(String(message.value)),
  })
  await joined
  try {
    await wait(`the end of ${topic}`, () => empty >= 2)
  } finally {
    await consumer.disconnect()
  }
  return found
}

// Each partition shows these values and no others.
async function sees(topic, readUncommitted, expected) {
  const found = await values(topic, readUncommitted)
  for (const p of PARTITIONS) assert.deepEqual(found[p], expected, `partition ${p}`)
}

const seesCommitted = (...expected) => sees(topic, false, expected)
const seesAll = (...expected) => sees(topic, true, expected)

async function transactions() {
  await produce(topic, onEach('plain'))
  const producer = transactional(60_000)
  await producer.connect()
  let transaction = await producer.transaction()
  await transaction.send({ topic, messages: onEach('kept', 2) })
  await transaction.commit()
  transaction = await producer.transaction()
  await transaction.send({ topic, messages: onEach('open', 3) })
  await produce(topic, onEach('later'))
  const before = ['plain0', 'kept0', 'kept1']
  const opened = ['open0', 'open1', 'open2']
  await seesCommitted(...before)
  await seesAll(...before, ...opened, 'later0')
  await transaction.abort()
  await seesCommitted(...before, 'later0')
  await seesAll(...before, ...opened, 'later0')
  const kept = []
  for (let n = 0; n < 20; n++) {
    transaction = await producer.transaction()
    await transaction.send({ topic, messages: onEach(`row${n}-`) })
    if (n % 3 === 1) await transaction.abort()
    else {
      await transaction.commit()
      kept.push(`row${n}-0`)
    }
  }
  await producer.disconnect()
  await seesCommitted(...before, 'later0', ...kept)
  // 27 records, and a marker for each of 22 transactions.
  assert(same(await ends(topic), { 0: 49, 1: 49, 2: 49, 3: 49 }), JSON.stringify(await ends(topic)))
}

async function transactionsFencing() {
  await produce(topic, onEach('plain'))
  const [old, fresh] = [transactional(60_000), transactional(60_000)]
  await old.connect()
  const lost = await old.transaction()
  await lost.send({ topic, messages: onEach('lost') })
  await fresh.connect()
  const next = await fresh.transaction() // takes the id, and begins a transaction of its own
  await produce(topic, onEach('later'))
  await seesCommitted('plain0', 'later0')
  await assert.rejects(lost.commit(), error => ['PRODUCER_FENCED', 'INVALID_PRODUCER_EPOCH'].includes(error.type))
  await next.send({ topic, messages: onEach('new') })
  await next.commit()
  await fresh.disconnect()
  await seesCommitted('plain0', 'later0', 'new0')
  await seesAll('plain0', 'lost0', 'later0', 'new0')
}

async function transactionsOffsets() {
  const sink = `${topic}-sink`
  const total = 100 * PARTITIONS.length
  await produce(topic, onEach('in', 100))
  const producer = transactional(60_000)
  await producer.connect()
  let [rounds, counted] = [0, 0]
  while (counted < total) {
    // Whoever joins goes on from what is committed. A member leaves when its transaction was aborted, and once after
    // a commit: what it has read and not counted comes again.
    const consumer = kafka.consumer({ groupId: topic, maxWaitTimeInMs: 200, sessionTimeout: 10_000 })
    let [left, failed] = [false, null]
    const take = async (partition, some) => {
      const transaction = await producer.transaction()
      await transaction.send({ topic: sink, messages: some.map(({ value }) => ({ partition, value })) })
      const partitions = [{ partition, offset: String(Number(some.at(-1).offset) + 1) }]
      await transaction.sendOffsets({ consumerGroupId: topic, topics: [{ topic, partitions }] })
      rounds++
      left = [1, 3, 4, 7].includes(rounds)
      if (left && rounds !== 3) return transaction.abort()
      await transaction.commit()
      counted += some.length
    }
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch: { partition, messages } }) => {
        try {
          for (let at = 0; at < messages.length && !left && !failed; at += 30) {
            await take(partition, messages.slice(at, at + 30))
          }
        } catch (error) {
          failed = error
        }
      },
    })
    await wait('records', () => left || failed || counted >= total)
    await consumer.disconnect()
    if (failed) throw failed
  }
  await producer.disconnect()
  assert(same(await committed(topic, topic), { 0: 100, 1: 100, 2: 100, 3: 100 }))
  await sees(sink, false, Array.from({ length: 100 }, (_, i) => `in${i}`))
  const all = (await values(sink, true)).flat().length
  assert(all > total, 'nothing was aborted')
  return { transactions: rounds }
}

async function transactionsTimeout() {
  await produce(topic, onEach('plain'))
  const abandoned = transactional(2000)
  await abandoned.connect()
  const transaction = await abandoned.transaction()
  await transaction.send({ topic, messages: onEach('lost') })
  await produce(topic, onEach('later'))
  await wait('readers go on', async () => (await values(topic, false)).every(its => its.length > 1))
  await seesCommitted('plain0', 'later0')
  await seesAll('plain0', 'lost0', 'later0')
  await assert.rejects(transaction.commit())
  await seesCommitted('plain0', 'later0')
}

// ---- logins and rights

// Some of the scenarios above, one after the other, and what nobody has given a right to.
async function roundTrip() {
  const [base, done] = [topic, ['topics', 'acks-all', 'commit-manual']]
  for (const name of done) {
    topic = `${base}-${name}`
    await SCENARIOS[name]()
  }
  topic = `other-${base}`
  await refused(TOPIC_AUTHORIZATION_FAILED, () => create(1))
  return done
}

// A client that can't log in says so.
async function badCredentials() {
  if (!DOOR.bad_tokens) return turnedAway()
  const said = {}
  for (const [what, token] of Object.entries(DOOR.bad_tokens)) said[what] = await withTokens(() => token, turnedAway)
  return said
}

async function turnedAway() {
  const client = new Kafka({ brokers: [bootstrap], logLevel: LOG, ...login(), retry: { retries: 0 } }).admin()
  const error = await client.connect().then(() => client.listTopics()).then(() => null, error => error)
  let refused = DOOR.mechanism ? error?.name === 'KafkaJSSASLAuthenticationError' : /alert/.test(error?.message)
  // It does not look at what it is answered to a token, and finds the connection closed; sooner or later.
  if (DOOR.token) refused = error?.name === 'KafkaJSConnectionClosedError' || /No brokers/.test(error?.message)
  assert(refused, `refused with ${error}`)
  return String(error)
}

// Two clients renew their tokens for three lifetimes, while one writes and one reads.
async function tokenRenewal() {
  await create(PARTITIONS.length)
  await produce(topic, everywhere(1), { idempotent: true, maxInFlightRequests: 1 })
  const seen = new Map()
  let [count, asked] = [1, 0]
  await withTokens(freshToken, async () => {
    const client = new Kafka({ brokers: [bootstrap], clientId: 'kafkajs', logLevel: LOG, ...login() })
    const member = await join(topic, topic, { seen, of: client })
    await wait('the member has all partitions', shared(member))
    const producer = client.producer({
      createPartitioner: Partitioners.DefaultPartitioner,
      idempotent: true,
      maxInFlightRequests: 1,
    })
    await producer.connect()
    const sendToAll = async () => {
      await producer.send({ topic, messages: PARTITIONS.flatMap(p => numbered(1, p, null, count)) })
      count++
    }
    await sendToAll()
    const before = tokens.given
    for (const end = Date.now() + 3000 * DOOR.token_seconds; Date.now() < end; await pause(50)) await sendToAll()
    asked = tokens.given - before
    await producer.disconnect()
    await wait('all records seen', () => seen.size >= count * PARTITIONS.length)
    await member.leave()
  })
  for (const p of PARTITIONS) equal(await read(topic, p, 'start', count), numbered(count, p))
  assert(Object.values(await ends(topic)).every(end => end === count), `not ${count} records in each partition`)
  assert.equal(seen.size, count * PARTITIONS.length)
  // Two clients, for three lifetimes: each asks at least twice more.
  assert(asked >= 4, `${asked} tokens asked for`)
  const twice = total(seen) - count * PARTITIONS.length
  return { records: count * PARTITIONS.length, tokens: asked, 'seen twice': twice, 'logs in again': true }
}

// A producer whose token is not renewed writes until it has expired, and nothing afterwards.
async function tokenExpiry() {
  await create(1)
  const token = freshToken()
  const end = expiry(token)
  let [taken, said] = [0, null]
  await withTokens(() => token, async () => {
    const client = new Kafka({ brokers: [bootstrap], logLevel: LOG, ...login(), retry: { retries: 2 } })
    const producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner })
    await producer.connect()
    while (!said) {
      const began = Date.now()
      said = await producer.send({ topic, messages: numbered(1, 0, null, taken) }).then(() => null, error => error)
      if (said) break
      // A login ends to the millisecond; the broker's clock is this one.
      assert(began < end + 1000, `a record was taken ${began - end} ms after the token had expired`)
      taken++
      await pause(50)
    }
    await wait('the token has expired', () => Date.now() > end)
    await turnedAway()
  })
  assert(taken, 'no record was taken before')
  equal(await read(topic, 0, 'start', taken), numbered(taken))
  assert.equal((await ends(topic))[0], taken, 'a record was written that was not acknowledged')
  return { records: taken, said: String(said) }
}

const SCENARIOS = {
  ...Object.fromEntries(Object.keys(CODECS).map(codec => [`produce-${codec}`, produceWith(codec)])),
  'acks-0': produceAcks(0),
  'acks-1': produceAcks(1),
  'acks-all': produceAcks(-1),
  idempotent,
  keys,
  'consume-start': () => consumeFrom('start', 0),
  'consume-end': consumeEnd,
  'consume-offset': () => consumeFrom(42, 42),
  'consume-timestamp': consumeTimestamp,
  'commit-manual': commitManual,
  'commit-auto': commitAuto,
  group,
  topics,
  partitions,
  configs,
  groups,
  'delete-group': deleteGroup,
  'list-offsets': listOffsets,
  'delete-records': deleteRecords,
  transactions,
  'transactions-fencing': transactionsFencing,
  'transactions-offsets': transactionsOffsets,
  'transactions-timeout': transactionsTimeout,
  'round-trip': roundTrip,
  'bad-credentials': badCredentials,
  'token-renewal': tokenRenewal,
  'token-expiry': tokenExpiry,
  'read-others': readOthers,
  'table-produce': tableProduce,
  'tables-read': tablesRead,
}
const LACKS = { 'static-members': 'kafkajs has no static members' }

async function attempt() {
  if (scenario === 'version') return { result: 'pass', data: require('kafkajs/package.json').version }
  if (!SCENARIOS[scenario]) return { result: 'skip', reason: LACKS[scenario] ?? 'not a scenario of this client' }
  try {
    await zstd.init()
    if (scenario !== 'bad-credentials') await admin.connect()
    const data = await SCENARIOS[scenario](...args)
    return data?.skip ? { result: 'skip', reason: data.skip } : { result: 'pass', data }
  } catch (error) {
    console.error(error.stack)
    return { result: 'fail', reason: String(error) }
  }
}

attempt().then(result => {
  // Members of a failed scenario may still be running: don't wait for them.
  process.stdout.write(JSON.stringify(result) + '\n', () => process.exit(0))
})
