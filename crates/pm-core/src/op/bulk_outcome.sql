-- Part of other statements: the outcome of one item of a bulk action. `item` has the id; `judged` has the job if it could be locked; the changed jobs are in `@`.
-- Locks: none.
-- Concurrency: a job that is deleted at the same time may count as locked; a later try does not find it.
-- Index: job (id).
-- Cost: one probe per item that could not be locked.
-- Outcome: 0 not found, 1 changed, 2 refused, 3 in another queue, 5 locked by another transaction.
case when judged.id is null and exists (select from {schema}.job where job.id = any(array[item.id])) then 5::pg_catalog.int2
            when judged.id is null then 0::pg_catalog.int2
            when judged.id in (select id from @) then 1::pg_catalog.int2
            when judged.is_in_queue then 2::pg_catalog.int2
            else 3::pg_catalog.int2 end
