// A remote hand: what an app with a provider's own SDK does for a Hitless server, which decides.
// The protocol is docs/reference/protocol.md. No media here: put your SDK in the place of `sdk`.
//   HITLESS_KEY=... node examples/hand.mjs https://hitless.example.com phone-7
// Where there is no WebSocket (Node 20: --experimental-websocket) it speaks by REST. Typed, a line each:
//   publish STREAM | watch STREAM WAIT_S | finish STREAM             what a person does
//   silent LEG WHY | heard LEG | lost LEG ERROR | fails PROVIDER [ERROR]      what an SDK does
import { createInterface } from 'node:readline'
const [url, client = 'hand'] = process.argv.slice(2), key = process.env.HITLESS_KEY
const RETRY_S = 0.5, RETRY_S_MAX = 10 // between tries to connect

// --- The SDK's part: a real one joins a channel, and calls `live` at the first frame ---
const faults = new Map() // provider -> name of the error
const sdk = {
  open (leg, credential, live, failed, error = faults.get(leg.provider)) {
    setTimeout(error ? failed : live, error === 'hangs' ? 6000 : 20, error)
  },
  close (leg) {}
}

// --- What is known; it survives a lost connection ---
const streams = new Map() // id -> {stream, role, wait_s, epoch, provider, plan, legs: Map(number -> leg)}
let send = null, numbered = 0, reports = null
const live = s => [...s.legs.values()].filter(leg => leg.state !== 'opening')
const onAir = s => live(s).find(leg => leg.provider === s.provider) ?? live(s).at(-1)
const up = message => send?.(message) // while cut off nothing is said: `hello` says what counts
const seen = s => ({
  stream: s.stream, role: s.role, epoch: s.epoch, provider: onAir(s)?.provider ?? '', wait_s: s.wait_s,
  plan: s.plan?.token ?? '', legs: live(s).map(({ leg, provider }) => ({ leg, provider }))
})
const hello = () => up({ type: 'hello', version: 1, client, hands: true, streams: [...streams.values()].map(seen) })
function tell (leg, state, more = {}) {
  console.log(`${leg.stream}: leg ${leg.leg} on ${leg.provider}: ${state}`)
  up({ type: 'leg', stream: leg.stream, leg: leg.leg, provider: leg.provider, state, ...more })
}

// --- Legs ---
const open = (s, number, provider, credential = {}) => new Promise(resolve => { // to whether it is live
  const leg = { leg: number, provider, stream: s.stream, state: 'opening' }
  numbered = Math.max(numbered, number)
  if (s.legs.has(number)) sdk.close(s.legs.get(number)) // left from before a new hello, and not live
  s.legs.set(number, leg)
  sdk.open(leg, credential, () => {
    if (s.legs.get(number) !== leg) return resolve(false) // closed meanwhile
    leg.state = 'live'
    tell(leg, 'live')
    resolve(true)
  }, error => { drop(s, leg, 'failed', { error, because: `${provider}: ${error}` }); resolve(false) })
})
function drop (s, leg, state, more) {
  if (!leg || s.legs.get(leg.leg) !== leg) return // it has gone already
  s.legs.delete(leg.leg)
  sdk.close(leg)
  tell(leg, state, more)
}
async function walk (s) { // cut off: go on from the plan, best first, until one carries it
  if (s.isWalking) return
  s.isWalking = true // and stop when the server is back
  if (s.role === 'publisher' && s.plan?.slot_s) await new Promise(go => setTimeout(go, 1000 * s.plan.slot_s))
  for (let n = 0; !send && s.plan && streams.has(s.stream) && !live(s).some(leg => leg.state === 'live'); n++) {
    const others = s.plan.order.filter(name => live(s).every(leg => leg.provider !== name)), provider = others[n % others.length]
    if (!provider) break
    if (!await open(s, numbered + 1, provider, s.plan.credentials[provider])) await pause(n)
    else for (const old of live(s)) if (old.state === 'silent') drop(s, old, 'closed')
  }
  s.isWalking = false
}

// --- What the server says; a field that is left out has its default ---
const place = (s, { epoch, provider }) => { if (epoch > s.epoch) Object.assign(s, { epoch, provider }) }
const orders = {
  welcome (_, { node, report_s = 10 }) {
    console.log(`connected to ${node}`)
    clearInterval(reports)
    reports = setInterval(report, 1000 * report_s)
    for (const leg of [...streams.values()].flatMap(live)) if (leg.why) words.silent([0, leg], leg.why)
  },
  problem (s, { code, message }) {
    console.log(`problem: ${code}: ${message}`)
    if (s && !s.plan) streams.delete(s.stream) // it was never begun
  },
  plan (s, { plan }) {
    place(s, s.plan = { order: [], credentials: {}, outage_s: 0, ...plan })
    clearTimeout(s.renewal) // what is kept for a bad day must not be too old then
    s.renewal = setTimeout(up, Math.min(500 * s.plan.outage_s || 6e5, 2 ** 31 - 1), { type: 'renew', stream: s.stream })
  },
  placement: place,
  open: (s, { leg, provider, credential }) => { open(s, leg, provider, credential) },
  close: (s, { leg }) => drop(s, s.legs.get(leg), 'closed'),
  over (s, { because }) {
    for (const leg of s.legs.values()) sdk.close(leg)
    clearTimeout(s.renewal)
    streams.delete(s.stream)
    console.log(`${s.stream}: over: ${because}`)
  }
}
function hear (m) { // of unknown types, and of streams that are over, nothing is obeyed
  const s = streams.get(m.stream || m.plan?.stream)
  if (s || m.type === 'welcome' || m.type === 'problem') orders[m.type]?.(s, m)
}
const report = () => [...streams.values()].map(onAir).filter(leg => leg?.state === 'live')
  .forEach(({ stream, provider }) => up({ type: 'report', stream, provider }))

// --- The link: one WebSocket, or the same messages by REST; full jitter between tries ---
const pause = n => new Promise(go => setTimeout(go, 1000 * Math.random() * Math.min(RETRY_S_MAX, RETRY_S * 2 ** n)))
const connect = () => new Promise(resolve => {
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/v1/connect`, ['hitless.v1', ...key ? [`bearer.${key}`] : []])
  socket.binaryType = 'arraybuffer'
  socket.onopen = () => { send = m => socket.send(JSON.stringify(m)); hello() }
  socket.onmessage = e => hear(JSON.parse(typeof e.data === 'string' ? e.data : new TextDecoder().decode(e.data)))
  socket.onclose = socket.onerror = resolve
})
async function exchange () { // any error ends it, and the next hello begins it anew
  const messages = [], headers = { 'content-type': 'application/json', ...key && { authorization: `Bearer ${key}` } }
  for (send = m => messages.push(m), hello(); ;) {
    const body = JSON.stringify({ client, messages: messages.splice(0), wait_s: 0.5 })
    const answer = await fetch(`${url}/v1/exchange`, { method: 'POST', headers, body })
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`)
    for (const m of (await answer.json()).data.messages) hear(m)
  }
}
async function link () {
  for (let tries = 0, since = Date.now(); ; tries++, since = Date.now()) {
    await (globalThis.WebSocket ? connect() : exchange()).catch(() => {})
    if (Date.now() - since > 1000 * RETRY_S_MAX) tries = 0 // it was a connection worth the name
    send = null
    for (const s of streams.values()) if (s.plan && live(s).length) walk(s)
    await pause(tries)
  }
}

// --- A person and an SDK, typed in ---
const find = number => [...streams.values()].map(s => [s, s.legs.get(Number(number))]).find(([, leg]) => leg)
const begin = (stream, role, wait_s) =>
  hello(streams.set(stream, { stream, role, wait_s, epoch: 0, provider: '', plan: null, legs: new Map() }))
const words = {
  publish: stream => begin(stream, 'publisher', 0),
  watch: (stream, wait_s) => begin(stream, 'viewer', Number(wait_s)),
  finish: stream => up({ type: 'finish', stream }),
  fails: (provider, error) => error ? faults.set(provider, error) : faults.delete(provider),
  lost: ([s, leg], error) => drop(s, leg, 'failed', { error, because: error }),
  heard: ([, leg]) => tell(Object.assign(leg, { state: 'live', why: '' }), 'heard'),
  silent: ([, leg], why) => tell(Object.assign(leg, { state: 'silent', why }), 'silent', { because: why })
}
createInterface({ input: process.stdin }).on('close', () => process.exit()).on('line', line => {
  const [word, what, ...rest] = line.trim().split(' '), found = find(what)
  words[word]?.(found ?? what, rest.join(' '))
  if (found) walk(found[0])
})
link()
