// graphile-worker: jobs are deleted on success; completions are gathered and not awaited, and jobs are fetched into a
// local queue, as its page on performance recommends.
import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import { handle, mail, serve, untilHandled } from './side.mjs'

const CONNECTIONS = 32
const LOCAL_QUEUE = 500
const BULK = 5000

// Errors are enough.
const logger = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message)
})

await serve(async (url) => {
  const utils = await makeWorkerUtils({ connectionString: url, maxPoolSize: CONNECTIONS, logger })
  await utils.migrate()
  return {
    enqueue: (number) => utils.addJob('mail', mail(number)),
    async enqueueMany(jobs) {
      for (let start = 0; start < jobs; start += BULK) {
        const length = Math.min(BULK, jobs - start)
        await utils.addJobs(
          Array.from({ length }, (_, index) => ({ identifier: 'mail', payload: mail(start + index) })),
        )
      }
    },
    async drain(jobs, handlers) {
      const runner = await run({
        connectionString: url,
        maxPoolSize: CONNECTIONS,
        concurrency: handlers,
        noHandleSignals: true,
        logger,
        taskList: { mail: async (payload) => handle(payload) },
        preset: { worker: { localQueue: { size: LOCAL_QUEUE }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
      })
      await untilHandled(jobs)
      await runner.stop()
    },
    close: () => utils.release(),
  }
})
