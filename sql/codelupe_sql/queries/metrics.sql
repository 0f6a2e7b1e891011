-- How far the log and its readers are: what the metrics and `codelupe doctor` show.

-- name: positions
-- The highest position ever drawn, up to where readers may go, and how many processes hold a lease.
select high_water_mark() as high_water_mark,
       (select case when is_called then last_value else 0 end from events_position) as head,
       (select count(*) from workers where lease_until > log_time()) as workers

-- name: append_barriers
-- Open transactions that have appended, which hold readers back; the oldest first. Of another role's transaction a
-- role without pg_read_all_stats sees the pid only; one that is prepared has none.
select pid, application_name as application, state, extract(epoch from log_time() - xact_start)::float as seconds
from pg_locks left join pg_stat_activity using (pid)
where locktype = 'advisory' and classid = 20260 and objsubid = 2
  and database = (select oid from pg_database where datname = current_database())
order by xact_start nulls first

-- name: consumers
-- Each subscription's positions after its cursor, its tasks, the events of streams behind it that are known to wait in
-- the log, how many events it has done with, and the age of the oldest event that waits: of any type after the cursor or
-- behind it where a part is catching up, or of a task that is no dead letter.
select subscriptions.name,
       (select case when is_called then last_value else 0 end from events_position) - subscriptions.position
           as undelivered,
       coalesce(behind.waiting, 0) as in_log,
       coalesce(queued, 0) as queued, coalesce(ready, 0) as ready, coalesce(running, 0) as running,
       coalesce(dead_lettered, 0) as dead_lettered,
       delivered - coalesce(queued + ready + running + dead_lettered, 0) as handled,
       coalesce(greatest(extract(epoch from log_time() - least(
           (select recorded_at from events
            where events.position > least(subscriptions.position, behind.position) order by position limit 1),
           (select recorded_at from events where events.position = tally.position)
       )), 0), 0)::float as seconds
from subscriptions left join (
    select subscription,
           count(*) filter (where state = 'queued') as queued,
           count(*) filter (where state = 'ready') as ready,
           count(*) filter (where state = 'running') as running,
           count(*) filter (where state = 'dead_lettered') as dead_lettered,
           min(position) filter (where state <> 'dead_lettered') as position
    from tasks group by subscription
) as tally on tally.subscription = subscriptions.name
left join (
    select subscription, sum(waiting)::bigint as waiting, min(position) as position from catch_ups group by subscription
) as behind on behind.subscription = subscriptions.name
order by subscriptions.name

-- name: paused
select plugin, kind, name from pauses order by plugin, kind, name

-- name: cursors_at_rest
-- Those of these subscriptions whose cursor is not locked: a batch is handled under its lock.
select name from subscriptions where name = any($1) for key share skip locked

-- name: newest_types
-- Types and versions among the newest events.
select type, version, count(*) as events, max(position) as newest
from (select type, version, position from events order by position desc limit $1) as newest
group by type, version order by type, version

-- name: room
-- How many positions the partitions that exist have left, and how many the last of them holds.
select last - 1 - (select case when is_called then last_value else 0 end from events_position) as positions,
       last - first as partition
from event_partitions order by last desc limit 1

-- name: is_read_only
-- A standby, or a database whose default says so.
select current_setting('transaction_read_only')::boolean
