job.id, queue.name, {shown_state:job} as state,
       job.priority, job.attempt, job.retry_count, coalesce(job.snoozes, 0) as snoozes, coalesce(job.max_retries, queue.max_retries) as max_retries, job.codec,
       job.created_at, job.run_at, job.expires_at, coalesce(job.timeout_ms, queue.timeout_ms) as timeout_ms, job.ended_at, job.cancelled_at, job.cancel_reason, job.lease_expires_at, case when job.state = 1 then job.lease end as lease,
       job.worker, job.key, job.description, job.reason, job.trace, job.progress,
       coalesce(pg_catalog.octet_length({payload_of:job}), 0)::pg_catalog.int8 as payload_bytes,
       pg_catalog.octet_length(job.result)::pg_catalog.int8 as result_bytes,
       pg_catalog.statement_timestamp() as read_at
