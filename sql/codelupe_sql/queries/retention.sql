-- Letting old partitions of the log go, whole and the oldest first: retired is what no cursor may go back to, then it
-- is dropped. Times are measured by the log's clock.

-- name: try_lock
-- One process at a time; the lock falls with its connection.
select pg_try_advisory_lock(20264)

-- name: high_water_mark
select high_water_mark()

-- name: partitions
-- All partitions, the oldest first: how large (events by the planner's estimate), how old, and who may still come back
-- to them. $1 is the high-water mark, asked for before. "open" is what may still get events, "ahead" what has none
-- yet, "retired" what only waits to be dropped.
select name, first, last,
       case
           when last <= log_start() then 'retired'
           when first > head.position then 'ahead'
           when last - 1 > $1 or last = (select max(last) from event_partitions) then 'open'
           when to_regclass(quote_ident(name || '_by_stream')) is null then 'full'
           else 'indexed'
       end as state,
       case
           when reltuples >= 0 and relpages > 0
               then (reltuples / relpages * pg_relation_size(partition) / current_setting('block_size')::integer)::bigint
           else greatest(least(head.position + 1, last) - greatest(first, 1), 0)
       end as events,
       coalesce(pg_total_relation_size(partition), 0) as bytes,
       oldest.recorded_at as oldest, newest.recorded_at as newest, log_time() - newest.recorded_at as age,
       array(
           select subscriptions.name from subscriptions where subscriptions.position < last - 1
           union select subscription from catch_ups where catch_ups.position < last - 1 order by 1
       ) as subscriptions_before,
       array(
           select distinct subscription from tasks where tasks.position >= first and tasks.position < last order by 1
       ) as subscriptions_with_tasks
from event_partitions
join pg_class on pg_class.oid = partition
cross join (select case when is_called then last_value else 0 end as position from events_position) as head
left join lateral (
    select recorded_at from events where position >= first and position < last order by position limit 1
) as oldest on true
left join lateral (
    select recorded_at from events where position >= first and position < last order by position desc limit 1
) as newest on true
order by first

-- name: contents
-- What exactly the positions from $1 to before $2 hold.
select count(*) as events, min(position) as first_position, max(position) as last_position,
       (select id::text from events where position >= $1 and position < $2 order by position limit 1) as first_id,
       (select id::text from events where position >= $1 and position < $2 order by position desc limit 1) as last_id
from events where position >= $1 and position < $2

-- name: read_page
select position, stream, type, version, id::text, data::text, metadata::text, recorded_at
from events where position > $1 and position < $2 order by position limit $3

-- name: set_patience
-- How many milliseconds this transaction waits for a lock.
select set_config('lock_timeout', $1::integer::text, true)

-- name: stop_cursors
-- For this transaction no cursor moves, no subscription begins, and no events are handed out again.
lock table subscriptions in share mode

-- name: retire
-- Unless a subscription may still come back to it; asked for while the cursors stand still.
insert into retired_partitions (first, last, events, host, path)
select $1, $2, $3, $4, $5
where not exists (select from subscriptions where position < $2::bigint - 1)
  and not exists (select from catch_ups where position < $2::bigint - 1)
  and not exists (select from tasks where position >= $1 and position < $2)
returning first

-- name: stop_partitions
-- For this transaction no partition is made or indexed.
select pg_advisory_xact_lock(20263)

-- name: drop_retired
select drop_retired_partitions()

-- name: hold_retiring_off
-- For this transaction nothing is retired.
lock table subscriptions in row exclusive mode

-- name: log_start
-- Where the log begins, and the newest of what lies before it: nothing where it begins with its first event.
select last as position, host, path from retired_partitions order by last desc limit 1
