-- Lists jobs, newest first, without their payloads.
-- Locks: none.
-- Concurrency: reads one snapshot.
-- Index: job (id), walked backwards from the given id, filtered by queue and state.
-- Cost: the rows walked until the limit is met; with a rare queue or state that may be the whole table.
select {job_columns}
from {schema}.job join {schema}.queue on queue.id = job.queue_id
where queue.name is not null
  and ($1::text is null or queue.name = $1::text)
  and ($2::int2 is null or case when job.state = 0 and (job.held or queue.paused) then 4::int2 else job.state end = $2::int2)
  and ($3::uuid is null or job.id < $3::uuid)
order by job.id desc
limit $4::int8
