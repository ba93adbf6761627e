-- Removes old history from the PostgreSQL of a self-hosted Inngest, which never removes any by itself: events, which hold
-- your users' data, and runs that have ended. Runs that go on stay, and so do their events. Run it every night:
--
--   psql --set days=30 --file deploy/inngest-retention.sql postgres://…
--
-- What may go, and how Inngest's tables refer to each other, is from
-- https://github.com/inngest/inngest/blob/v1.44.0/docs/POSTGRES_RETENTION.md; read it again before you upgrade Inngest.
\set ON_ERROR_STOP on
\if :{?days} \else
  \set days 30
\endif
SELECT set_config('retention.days', :'days', false) AS days \gset

-- Without these, each step reads a whole table.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_trace_runs_status_ended_at ON trace_runs (status, ended_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_function_finishes_created_at ON function_finishes (created_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_traces_run_id ON traces (run_id);

DO $$
DECLARE
  days integer := current_setting('retention.days');
  before timestamp := now() - make_interval(days => days);
  -- The statuses are overflowed, completed, failed, cancelled and skipped: all in which a run has ended.
  traced text := 'status IN (50, 300, 400, 500, 600) AND ended_at < extract(epoch FROM $1::timestamptz) * 1000';
  finished text := 'created_at < $1';
  of_traced text := format('run_id IN (SELECT run_id FROM trace_runs WHERE %s)', traced);
  of_finished text := format('run_id IN (SELECT run_id FROM function_finishes WHERE %s)', finished);
  step text[];
  removed bigint;
  total bigint;
BEGIN
  IF days < 1 THEN
    RAISE EXCEPTION 'days is %: set it to 1 or more', days;
  END IF;
  -- What tells that a run has ended goes after all that is removed because of it.
  FOREACH step SLICE 1 IN ARRAY ARRAY[
    ['spans', of_traced], ['traces', of_traced], ['event_batches', of_traced], ['trace_runs', traced],
    ['history', of_finished], ['function_runs', of_finished], ['function_finishes', finished],
    ['events', 'received_at < $1 AND NOT EXISTS (SELECT FROM function_runs r WHERE r.event_id = events.internal_id
      AND NOT EXISTS (SELECT FROM function_finishes f WHERE f.run_id = r.run_id))']
  ] LOOP
    total := 0;
    LOOP -- in small steps, so that Inngest does not wait for locks
      EXECUTE format('DELETE FROM %1$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$I WHERE %2$s LIMIT 5000))',
        step[1], step[2]) USING before;
      GET DIAGNOSTICS removed = ROW_COUNT;
      COMMIT;
      total := total + removed;
      EXIT WHEN removed = 0;
    END LOOP;
    RAISE NOTICE '%: % rows removed', step[1], total;
  END LOOP;
END $$;
