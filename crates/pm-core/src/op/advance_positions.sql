-- Advances the sequence of positions past those in use if it is behind: after a failover by logical replication, or a partial restore.
-- Locks: an advisory lock until the end of the transaction, only if the sequence is behind. No other statement of pm waits for it.
-- Concurrency: of several sessions one advances the sequence. It is checked again under the lock, and never set back. Positions drawn concurrently are lower than the new value.
-- Index: job_line, one probe per line, at most 1,000 lines. How far the other lines were claimed is taken from the claim frontiers, which are all read.
-- Cost: about 5 us per line when the sequence is not behind.
do $pm$
declare
  used int8;
begin
  for round in 1..2 loop
    with recursive {lines}
    select {last_position} into used from (select line.seq from line limit 1000) line;
    exit when used is null or used <= coalesce(pg_catalog.pg_sequence_last_value('{schema}.job_seq'::pg_catalog.regclass), 0);
    if round = 1 then
      perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pm positions of schema {schema}', 0));
    else
      perform pg_catalog.setval('{schema}.job_seq'::pg_catalog.regclass, greatest(used + 1000, (select job_seq.last_value from {schema}.job_seq)));
    end if;
  end loop;
exception when others then
  -- There are no tables yet, the role lacks a privilege, or the server is a standby: another session has to do this.
  null;
end $pm$
