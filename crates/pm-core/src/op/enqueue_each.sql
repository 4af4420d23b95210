-- Does the same as enqueue_keyed, after that has met a locked key: inserts the jobs one by one, skipping those whose key is locked.
-- Locks: key share on the queues, skipping locked ones; then the new rows in the order of queue and key.
-- Concurrency: it waits 2 ms for each locked key, then skips the job; otherwise as enqueue_keyed.
-- Index: queue (name); job (id), job_line or job_wait, job_key; replacement (id).
-- Cost: about 50 us per job, which has its own subtransaction, and 2 ms per locked key.
-- Outcome: 1 no such queue, 2 the id exists or the key is reserved, or the item has replaced a job, 3 this item's queue may have idle workers, 4 the queue's row is locked, 5 the key is locked.
with known as materialized (
  select id, name, idle_until from {schema}.queue where name = any($2::pg_catalog.text[]) for key share skip locked
), replaced as materialized (
  select id from {schema}.replacement where id = any({first_after_items}::pg_catalog.uuid[])
), {new_jobs}, tried as materialized (
  select ordered.ordinal,
         {schema}.insert_job(job => '{schema}.job'::pg_catalog.regclass, id => id, queue_id => queue_id, seq => seq, run_at => starts_at,
                             paused => is_paused, key => key, key_until => key_until, {stored_arguments}) as outcome
  from (select * from new_job order by queue_id, key collate "C", ordinal offset 0) ordered
)
select item.ordinal, coalesce(tried.outcome, {not_added}) as outcome, null::pg_catalog.int4 as queue_id
from item left join tried on tried.ordinal = item.ordinal
where tried.outcome is distinct from 0::pg_catalog.int2
union all
{idle_queues}
