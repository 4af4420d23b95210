-- Advances the sequence of positions beyond those that jobs have, when it is behind: after a failover by logical replication, or a partial restore.
-- Locks: an advisory one for the transaction, only when it is behind; none that a statement of pm's waits for.
-- Concurrency: of several at once one advances it; looked at again under the lock, it never goes back. Positions drawn meanwhile are lower than the one it goes to.
-- Index: job_line, one probe a line, 1,000 lines at most. How far lines beyond those were claimed shows in the claim frontiers, read from end to end, each of which stands at most 1,000 above that.
-- Cost: about 5 us a line when nothing is behind.
do $pm$
declare
  used int8;
begin
  for round in 1..2 loop
    with recursive {lines}
    select greatest(pg_catalog.max(walked.seq), (select pg_catalog.max(claim_frontier.seq) - 1000 from {schema}.claim_frontier)) into used
    from (select line.seq from line limit 1000) walked;
    exit when used is null or used <= coalesce(pg_catalog.pg_sequence_last_value('{schema}.job_seq'::pg_catalog.regclass), 0);
    if round = 1 then
      perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pm positions of schema {schema}', 0));
    else
      perform pg_catalog.setval('{schema}.job_seq'::pg_catalog.regclass, greatest(used + 1000, (select job_seq.last_value from {schema}.job_seq)));
    end if;
  end loop;
exception when others then
  -- No tables yet, no privilege, a standby: then it is not for this session to mend.
  null;
end $pm$
