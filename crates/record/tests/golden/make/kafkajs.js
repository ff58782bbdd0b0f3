// Sends the golden records with kafkajs, in the codecs that need no native build.

const fs = require('fs')
const path = require('path')
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
const codecs = {
  none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy,
}

const parseBytes = word => {
  if (word === '-') return null
  if (word.startsWith("'")) return Buffer.from(word.slice(1, -1))
  const [count, end] = word.split('*0..').map(Number)
  return Buffer.from(Array.from({ length: count }, (_, at) => at % end))
}

const parse = name =>
  fs.readFileSync(path.join(process.env.TABLES, name), 'utf8')
    .split('\n')
    .filter(line => line && !line.startsWith('#'))
    .map(line => {
      const [timestamp, key, value, ...rest] = line.split(' ')
      const headers = {}
      for (const header of rest) {
        const [name, word] = header.split(/=(.*)/)
        // It fails on null as a header's value.
        const value = parseBytes(word) ?? Buffer.alloc(0)
        headers[name] = name in headers ? [headers[name], value].flat() : value
      }
      return { timestamp, key: parseBytes(key), value: parseBytes(value), headers, partition: 0 }
    })

const main = async () => {
  const kafka = new Kafka({ brokers: [process.env.BOOTSTRAP], logLevel: logLevel.ERROR })
  const producer = kafka.producer()
  await producer.connect()
  for (const [codec, compression] of Object.entries(codecs)) {
    const messages = parse('records.txt').concat(codec === 'none' ? [] : parse('large.txt'))
    await producer.send({ topic: `kafkajs-${codec}`, compression, messages })
  }
  await producer.disconnect()
}

main()
