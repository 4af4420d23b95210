// pg-boss: jobs are fetched and completed in batches of as many as there are handlers; it keeps a history. Its polling
// workers wait between batches, so that only pick-up is measured with one, woken by NOTIFY.
import { PgBoss } from 'pg-boss'
import { handle, handledSoFar, mail, serve } from './side.mjs'

const CONNECTIONS = 32
const AHEAD = 100
const BULK = 5000
const QUEUE = 'bench'

await serve(async (url, isPickup) => {
  const boss = new PgBoss({ connectionString: url, max: CONNECTIONS, useListenNotify: isPickup })
  boss.on('error', (error) => console.error(error))
  await boss.start()
  await boss.createQueue(QUEUE, { notify: isPickup })

  async function work() {
    await boss.work(QUEUE, async (jobs) => jobs.forEach((job) => handle(job.data)))
    await new Promise(() => {})
  }

  async function drainOneByOne(jobs) {
    while (handledSoFar() < jobs) {
      for (const job of await boss.fetch(QUEUE, { batchSize: AHEAD })) {
        handle(job.data)
        await boss.complete(QUEUE, job.id)
      }
    }
  }

  async function drainInBatches(jobs, handlers) {
    while (handledSoFar() < jobs) {
      const batch = await boss.fetch(QUEUE, { batchSize: handlers })
      batch.forEach((job) => handle(job.data))
      if (batch.length > 0) await boss.complete(QUEUE, batch.map((job) => job.id))
    }
  }

  return {
    enqueue: (number) => boss.send(QUEUE, mail(number)),
    async enqueueMany(jobs) {
      for (let start = 0; start < jobs; start += BULK) {
        const length = Math.min(BULK, jobs - start)
        await boss.insert(QUEUE, Array.from({ length }, (_, index) => ({ data: mail(start + index) })))
      }
    },
    drain: (jobs, handlers) =>
      isPickup ? work() : handlers === 1 ? drainOneByOne(jobs) : drainInBatches(jobs, handlers),
    close: () => boss.stop({ graceful: false }),
  }
})
