-- The event log's statements. Positions are bigint, leases and waits are measured by the database's clock.

-- name: append
select id, position, duplicate from append_events($1, $2, $3, $4, $5::text[]::jsonb[], $6::text[]::jsonb[], $7)

-- name: earlier_positions
-- Where the events with these idempotency keys stand.
select key, position from event_keys where key = any($1)

-- name: settled_position
select settled_position()

-- name: head_position
select case when is_called then last_value else 0 end from events_position

-- name: create_partitions
select create_event_partitions()

-- name: read_all
select position, stream, type, version, id, data, metadata, recorded_at
from events where position > $1 and position <= $2 order by position limit $3

-- name: read_stream
select position, stream, type, version, id, data, metadata, recorded_at
from events where stream = $1 and position > $2 order by position limit $3

-- name: read_latest
-- The newest events, newest first, of a type if one is given.
select position, stream, type, version, id, data, metadata, recorded_at
from events where position > $1 and ($2::text is null or type = $2) order by position desc limit $3

-- name: event_by_id
select position, stream, type, version, id, data, metadata, recorded_at from events where id = $1

-- name: event_at
select position, stream, type, version, id, data, metadata, recorded_at from events where position = $1

-- name: register_subscription
insert into subscriptions (name, position) values ($1, case when $2 then settled_position() else 0 end)
on conflict (name) do nothing

-- name: feed
-- Turn settled events into tasks and move the cursor, in one statement. A cursor that another process moves is
-- left alone. Returns the number of events looked at; fewer than the limit means that the subscription is level.
with cursor as materialized (
    select name, position from subscriptions where name = $1 and position < $2 for update skip locked
), batch as materialized (
    select events.position, events.stream
    from events, cursor
    where events.position > cursor.position and events.position <= $2 and events.type = any($3)
    order by events.position limit $4
), made as (
    insert into tasks (subscription, stream, position)
    select $1, stream, position from batch
    on conflict do nothing
    returning 1
)
update subscriptions set
    position = case when (select count(*) from batch) < $4 then $2 else (select max(position) from batch) end,
    delivered = delivered + (select count(*) from made)
from cursor where subscriptions.name = cursor.name
returning (select count(*) from batch)

-- name: claim
-- Take ready tasks at the head of their streams. A parked task holds its stream back if $4 says so.
with ready as materialized (
    select id from tasks
    where subscription = $1 and state = 'ready' and run_at <= now()
      and not exists (
          select from tasks as earlier
          where earlier.subscription = tasks.subscription and earlier.stream = tasks.stream
            and earlier.position < tasks.position and (earlier.state <> 'parked' or $4)
      )
    order by position limit $3 for update skip locked
), claimed as (
    update tasks set state = 'running', worker = $2, token = gen_random_uuid(), started_at = now()
    from ready where tasks.id = ready.id
    returning tasks.id, tasks.token, tasks.position, tasks.attempts, tasks.losses, tasks.progress
)
select claimed.id as task_id, claimed.token, claimed.attempts, claimed.losses, claimed.progress,
       events.position, events.stream, events.type, events.version, events.id, events.data, events.metadata,
       events.recorded_at
from claimed join events using (position) order by position

-- name: finish
-- The fence: no row means that the task belongs to somebody else by now.
delete from tasks where id = $1 and token = $2 returning id

-- name: hold
-- The fence for a transaction that does not finish the task.
select id from tasks where id = $1 and token = $2 for update

-- name: save_progress
update tasks set progress = $3::text::jsonb where id = $1 and token = $2 returning id

-- name: retry
update tasks set state = 'ready', worker = null, token = null, attempts = attempts + $3::integer,
    run_at = now() + $4::interval, error = $5, traceback = $6
where id = $1 and token = $2 returning id

-- name: park
update tasks set state = 'parked', worker = null, token = null, attempts = attempts + 1, parked_at = now(),
    error = $3, traceback = $4
where id = $1 and token = $2 returning id

-- name: release
-- Give tasks back untouched: the worker is stopping.
update tasks set state = 'ready', worker = null, token = null where worker = $1

-- name: register_worker
insert into workers (id, lease_until, host, boot_id, pid, pid_started)
values ($1, now() + $2::interval, $3, $4, $5, $6)

-- name: heartbeat
update workers set lease_until = now() + $2::interval where id = $1 returning id

-- name: workers_on_this_machine
select id, pid, pid_started from workers where host = $1 and boot_id = $2 and id <> $3

-- name: lock_lost_workers
-- Workers whose lease ran out, and those known to be dead. Locking them first waits for claims in flight.
select id from workers where lease_until < now() or id = any($1) for update

-- name: requeue_lost_tasks
update tasks set state = 'ready', worker = null, token = null, losses = losses + 1 where worker = any($1)

-- name: delete_workers
delete from workers where id = any($1)

-- name: counts
-- What is left to do for these subscriptions, and whether each has seen everything up to a position. What waits
-- behind a parked task of its stream is not left to do: only a person can set it going.
select count(*) filter (where tasks.state = 'ready') as waiting,
       count(*) filter (where tasks.state = 'running') as running,
       (select bool_and(position >= $2) from subscriptions where name = any($1)) as level
from unnest($1::text[], $3::boolean[]) as stage (name, parked_blocks)
join tasks on tasks.subscription = stage.name and tasks.state <> 'parked'
where not (
    stage.parked_blocks and tasks.state = 'ready' and exists (
        select from tasks as parked
        where parked.subscription = tasks.subscription and parked.stream = tasks.stream
          and parked.position < tasks.position and parked.state = 'parked'
    )
)

-- name: stages
select subscriptions.name, subscriptions.position, subscriptions.delivered,
       count(*) filter (where state = 'ready') as waiting,
       count(*) filter (where state = 'running') as running,
       count(*) filter (where state = 'parked') as parked
from subscriptions left join tasks on tasks.subscription = subscriptions.name
group by subscriptions.name order by subscriptions.name

-- name: job_begin
-- Take the job if it is due (or if $3) and mark its beginning.
insert into jobs (name, started_at) values ($1, now())
on conflict (name) do update set started_at = now(), error = null
where $3 or jobs.finished_at is null or jobs.finished_at + $2::interval <= now()
returning name

-- name: job_end
update jobs set finished_at = now(), error = $2 where name = $1

-- name: job_due
-- Seconds until the job is due; below zero when it is late.
select coalesce(extract(epoch from finished_at + $2::interval - now()), 0)::float from jobs where name = $1

-- name: job_states
select name, started_at, finished_at, error from jobs order by name

-- name: try_leader_lock
select pg_try_advisory_lock(20261, hashtext($1))

-- name: leader_unlock
select pg_advisory_unlock(20261, hashtext($1))

-- name: dead_letters
select tasks.id, tasks.subscription, tasks.stream, tasks.position, tasks.attempts, tasks.losses, tasks.parked_at,
       tasks.error, tasks.traceback, events.id as event_id, events.type
from tasks join events using (position)
where tasks.state = 'parked' and ($1::text is null or tasks.subscription = $1)
order by tasks.parked_at, tasks.id

-- name: retry_parked
-- The same task comes back with all its attempts before it.
update tasks set state = 'ready', attempts = 0, run_at = now(), parked_at = null
where state = 'parked' and id = any($1) returning id

-- name: drop_parked
with dropped as (
    delete from tasks where state = 'parked' and id = any($1) returning id, subscription
), counted as (
    update subscriptions set delivered = delivered - dropped_here.n
    from (select subscription, count(*) as n from dropped group by subscription) as dropped_here
    where subscriptions.name = dropped_here.subscription
)
select id from dropped

-- name: replayable_events
-- How many events a rewind of a subscription would hand out again.
select count(*) from events, subscriptions
where subscriptions.name = $1 and events.type = any($2) and events.position > $3
  and events.position <= subscriptions.position and ($4::text is null or events.stream = $4)

-- name: position_at_time
-- The last position recorded before a moment.
select coalesce(max(position), 0) from events where recorded_at < $1

-- name: rewind
update subscriptions set position = least(position, $2) where name = $1 returning position

-- name: redeliver_stream
-- Hand the events of one stream out again; the cursor stays.
with made as (
    insert into tasks (subscription, stream, position)
    select subscriptions.name, events.stream, events.position from events, subscriptions
    where subscriptions.name = $1 and events.type = any($2) and events.position > $3 and events.stream = $4
      and events.position <= subscriptions.position
    on conflict do nothing
    returning 1
)
update subscriptions set delivered = delivered + (select count(*) from made) where name = $1
returning (select count(*) from made)

-- name: notify
notify codelupe_log

-- name: fences
-- Open transactions that hold readers back: for how long, and what each is doing.
select pg_stat_activity.pid, extract(epoch from now() - xact_start)::float as seconds, state, application_name
from pg_locks join pg_stat_activity using (pid)
where locktype = 'advisory' and classid = 20260 and objsubid = 2
order by xact_start
