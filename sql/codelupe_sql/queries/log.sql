-- The event log's statements. Positions are bigint, leases and waits are measured by the database's clock.

-- name: append_one
insert into events (stream, type, version, id, data, metadata) values ($1, $2, $3, $4, $5, $6)
returning position

-- name: append_few
select position, duplicate from append_events($1, $2, $3, $4, $5, $6, $7)

-- name: reserve_positions
select position, duplicate from reserve_positions($1)

-- name: advance_streams
-- Count events onto streams that stand where the caller expects; a stream that does not is not among the rows.
insert into stream_heads (stream, version)
select stream, expected + added from unnest($1::text[], $2::bigint[], $3::bigint[]) as wanted (stream, expected, added)
where expected = 0 or exists (select from stream_heads where stream_heads.stream = wanted.stream)
order by stream
on conflict (stream) do update set version = excluded.version
where stream_heads.version = (
    select expected from unnest($1::text[], $2::bigint[]) as wanted (stream, expected)
    where wanted.stream = stream_heads.stream)
returning stream

-- name: take_back_streams
update stream_heads set version = version - known.n
from unnest($1::text[], $2::bigint[]) as known (stream, n) where stream_heads.stream = known.stream

-- name: stream_versions
select stream, version from stream_heads where stream = any($1)

-- name: high_water_mark
select high_water_mark()

-- name: head_position
select head_position()

-- name: keep_partitions
-- Make room ahead, index what is full; one process at a time, the others have nothing to do.
select case when pg_try_advisory_xact_lock(20263) then create_event_partitions() + index_full_partitions() end

-- name: read_all
select position, stream, type, version, id, data::text, metadata, recorded_at
from events where position > $1 and position <= $2 order by position limit $3

-- name: read_stream
-- First found by the stream, then sorted; compared as a row, else the planner may walk along all positions instead.
with found as materialized (
    select position, stream, type, version, id, data::text, metadata, recorded_at
    from events where stream = $1 and (stream, position) > ($1, $2)
)
select position, stream, type, version, id, data, metadata, recorded_at from found order by position limit $3

-- name: read_latest
-- The newest events, newest first, of a type if one is given.
select position, stream, type, version, id, data::text, metadata, recorded_at
from events where position > $1 and ($2::text is null or type = $2) order by position desc limit $3

-- name: event_by_id
select position, stream, type, version, id, data::text, metadata, recorded_at from events where id = $1

-- name: event_at
select position, stream, type, version, id, data::text, metadata, recorded_at from events where position = $1

-- name: register_subscription
insert into subscriptions (name, position)
values ($1, case when $2 then high_water_mark() else greatest(log_start() - 1, 0) end)
on conflict (name) do nothing

-- name: feed
select subscription_name as subscription, delivered, caught_up, task_token, attempts, crashes, checkpoint, position, stream, type,
       version, id, data::text, metadata, recorded_at
from feed_and_claim($1, $2, $3, $4, $5, $6, $7, $8)

-- name: claim
select task_token, attempts, crashes, checkpoint, position, stream, type, version, id, data::text, metadata, recorded_at
from claim_tasks($1, $2, $3, $4)

-- name: complete
select complete_task($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: finish
select finish_task($1, $2, $3, $4)

-- name: hold
-- The fencing token holds for a transaction that does not finish the task.
select 1 from tasks where subscription = $1 and stream = $2 and position = $3 and token = $4 for update

-- name: save_checkpoint
update tasks set checkpoint = $5
where subscription = $1 and stream = $2 and position = $3 and token = $4 returning 1

-- name: retry
update tasks set state = 'ready', worker = null, token = null, attempts = attempts + $5::integer,
    run_at = log_time() + $6::interval, error = $7, traceback = $8
where subscription = $1 and stream = $2 and position = $3 and token = $4 returning 1

-- name: dead_letter
update tasks set state = 'dead_lettered', worker = null, token = null, attempts = attempts + 1,
    dead_lettered_at = log_time(), error = $5, traceback = $6
where subscription = $1 and stream = $2 and position = $3 and token = $4 returning 1

-- name: release
-- Give tasks back untouched: the worker is stopping.
update tasks set state = 'ready', worker = null, token = null where state = 'running' and worker = $1

-- name: register_worker
insert into workers (id, lease_until, host, boot_id, pid, pid_started)
values ($1, log_time() + $2::interval, $3, $4, $5, $6)

-- name: heartbeat
update workers set lease_until = log_time() + $2::interval where id = $1 returning id

-- name: workers_on_this_machine
select id, pid, pid_started from workers where host = $1 and boot_id = $2 and id <> $3

-- name: lock_lost_workers
-- Workers whose lease ran out, and those known to be dead. Locking them first waits for claims in flight.
select id from workers where lease_until < log_time() or id = any($1) order by id for update

-- name: requeue_lost_tasks
-- Also those that a lost worker claimed while it was being deleted.
update tasks set state = 'ready', worker = null, token = null, crashes = crashes + 1
where state = 'running' and (worker = any($1) or not exists (select from workers where id = tasks.worker))
returning subscription

-- name: delete_workers
delete from workers where id = any($1)

-- name: open_batch
select after, reached, more, has_tasks, position, stream, type, version, id, data::text
from open_batch($1, $2, $3, $4)

-- name: read_batch
select position, stream, type, version, id, data::text
from events where position > $1 and position <= $2 and type = any($3) order by position limit $4

-- name: events_at
select position, stream, type, version, id, data::text, metadata, recorded_at
from events where position = any($1) order by position

-- name: streams_with_tasks
-- Streams of which something still waits; a dead letter counts if $3 says so.
select distinct stream from tasks where subscription = $1 and stream = any($2) and ($3 or state <> 'dead_lettered')

-- name: make_tasks
insert into tasks (subscription, stream, position) select $1, stream, position from unnest($2::text[], $3::bigint[])
    as batch (stream, position)
on conflict do nothing returning 1

-- name: move_cursor
update subscriptions set position = $2, delivered = delivered + $3 where name = $1

-- name: counts
-- What is left to do for these subscriptions, and whether each has seen everything up to a position. What waits
-- behind a dead letter of its stream is not left to do: only a person can set it going. That holds for a rebuilding
-- with a dead letter, too; any other is left to be swapped in.
select count(*) filter (where tasks.state = 'ready') as waiting,
       count(*) filter (where tasks.state = 'running') as running,
       (select bool_and(position >= $2 and (
                   name not like '%~rebuild'
                   or exists (select from tasks where tasks.subscription = name and state = 'dead_lettered')))
        from subscriptions where name = any($1)) as caught_up
from unnest($1::text[], $3::boolean[]) as subscription (name, dead_letter_blocks)
join tasks on tasks.subscription = subscription.name and tasks.state <> 'dead_lettered'
where not (
    subscription.dead_letter_blocks and tasks.state = 'ready' and exists (
        select from tasks as dead
        where dead.subscription = tasks.subscription and dead.stream = tasks.stream
          and dead.position < tasks.position and dead.state = 'dead_lettered'
    )
)

-- name: subscriptions
select subscriptions.name, subscriptions.position, subscriptions.delivered,
       count(*) filter (where state = 'ready') as waiting,
       count(*) filter (where state = 'running') as running,
       count(*) filter (where state = 'dead_lettered') as dead_lettered
from subscriptions left join tasks on tasks.subscription = subscriptions.name
group by subscriptions.name order by subscriptions.name

-- name: job_begin
-- Take the job if it is due (or if $3) and mark its beginning.
insert into jobs (name, started_at) values ($1, log_time())
on conflict (name) do update set started_at = log_time(), error = null
where $3 or jobs.finished_at is null or jobs.finished_at + $2::interval <= log_time()
returning name

-- name: job_end
update jobs set finished_at = log_time(), error = $2 where name = $1

-- name: job_due
-- Seconds until the job is due; below zero when it is late.
select coalesce(extract(epoch from finished_at + $2::interval - log_time()), 0)::float from jobs where name = $1

-- name: job_states
select name, started_at, finished_at, error from jobs order by name

-- name: try_leader_lock
select pg_try_advisory_lock(20261, hashtext($1))

-- name: replayable_events
-- How many events a rewind of a subscription would hand out again.
select count(*) from events, subscriptions
where subscriptions.name = $1 and events.type = any($2) and events.position > $3
  and events.position <= subscriptions.position and ($4::text is null or events.stream = $4)

-- name: position_at_time
-- The last position before all that was recorded since a moment.
select coalesce((select min(position + 0) - 1 from events where recorded_at >= $1),
                head_position())

-- name: rewind
update subscriptions set position = least(position, $2) where name = $1 returning position

-- name: redeliver_stream
-- Hand the events of one stream out again; the cursor stays, and is held meanwhile so that nothing overtakes them.
with cursor as materialized (
    select name, position from subscriptions where name = $1 for update
), made as (
    insert into tasks (subscription, stream, position)
    select cursor.name, events.stream, events.position from events, cursor
    where events.stream = $4 and events.type = any($2)
      and (events.stream, events.position) > ($4, $3) and (events.stream, events.position) <= ($4, cursor.position)
    on conflict do nothing
    returning 1
)
update subscriptions set delivered = delivered + (select count(*) from made) where name = $1
returning (select count(*) from made)

-- name: notify_without_waiting_for_the_disk
-- For this session: a notification that a crash takes away is one of a log that is read again anyway.
set synchronous_commit = off

-- name: notify
notify codelupe_log

-- name: notify_of_tasks
-- What waits was changed from outside: retried, dropped, handed out again.
notify codelupe_log, 'tasks'
