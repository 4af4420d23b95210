job.id, queue.name, case when job.state = 0 and (job.held or queue.paused) then 4::int2 else job.state end as state,
       job.priority, job.attempt, job.retry_count, coalesce(job.max_retries, queue.max_retries) as max_retries, job.codec,
       job.created_at, job.run_at, job.ended_at, job.lease_expires_at, case when job.state = 1 then job.lease end as lease,
       job.worker, job.key, job.description, job.reason,
       octet_length(coalesce(job.payload, (select payload.data from {schema}.payload where payload.id = job.payload_id)))::int8 as payload_bytes,
       statement_timestamp() as read_at
