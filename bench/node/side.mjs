// One side of a comparison in Node.js. The arguments and the lines that are exchanged are those of src/side.rs.
import { createInterface } from 'node:readline'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const nowNs = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** The payload, as in src/contender.rs. */
export const mail = (number) => ({
  to: `somebody.${String(number).padStart(6, '0')}@example.org`,
  subject: 'Your order is on its way',
  template: 'order-shipped/v3',
  number,
})

let handled = 0
let watch = () => {}
let wake = () => {}
let wanted = Infinity

/** The handler: it reads the payload and does nothing. */
export function handle(payload) {
  watch(payload.number)
  handled += 1
  if (handled >= wanted) wake()
}

/** Waits until this number of jobs has been handled. */
export const untilHandled = (jobs) =>
  new Promise((resolve) => {
    wanted = jobs
    wake = resolve
    if (handled >= wanted) resolve()
  })

export const handledSoFar = () => handled

/**
 * Does the work that the arguments name. `open` takes the URL and whether pick-up is measured, and returns an object
 * with `enqueue(number)`, `enqueueMany(jobs)`, `drain(jobs, handlers)` and `close()`.
 */
export async function serve(open) {
  const [url, work, argument] = process.argv.slice(2)
  const jobs = Number(argument)
  const peer = await open(url, work.startsWith('pick-up'))
  const begin = async () => {
    console.log('ready')
    await lines.next()
  }
  if (work === 'pick-up, worker') {
    await begin()
    watch = (number) => console.log(`${number} ${nowNs()}`)
    await peer.drain(Infinity, 1)
  } else if (work === 'pick-up, enqueuer') {
    await begin()
    for (let number = 0; number <= jobs; number++) {
      await sleep(47)
      const called = nowNs()
      await peer.enqueue(number)
      console.log(`${number} ${called} ${nowNs()}`)
    }
  } else {
    const run = running(peer, work, jobs)
    if (work.startsWith('drain')) await peer.enqueueMany(jobs)
    await begin()
    const before = process.cpuUsage()
    await run()
    const spent = process.cpuUsage(before)
    console.log(`${spent.user + spent.system} ${handled}`)
  }
  await peer.close()
  process.exit(0)
}

function running(peer, work, jobs) {
  const count = Number(work.match(/, (\d+) (handler|task)/)?.[1])
  if (work.startsWith('drain, ')) return () => peer.drain(jobs, count)
  if (work === 'enqueue in bulk') return () => peer.enqueueMany(jobs)
  if (work.startsWith('enqueue, ')) return () => enqueueEach(peer, jobs, count)
  throw new Error(`no benchmark named ${work}`)
}

async function enqueueEach(peer, jobs, tasks) {
  const task = async (first) => {
    for (let number = first; number < jobs; number += tasks) await peer.enqueue(number)
  }
  await Promise.all(Array.from({ length: tasks }, (_, first) => task(first)))
}
