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

-- name: begin_subscription
-- One that is not there yet.
insert into subscriptions (name, position, types, dead_letter_blocks, declared_by)
values ($1, case when $2 then high_water_mark() else greatest(log_start() - 1, 0) end, $3, $4, $5)
on conflict (name) do nothing
returning name

-- name: declared_subscription
-- What it wanted so far; its cursor is held until this transaction ends.
select types, dead_letter_blocks, declared_by from subscriptions where name = $1 for update

-- name: declare_subscription
select declare_subscription($1, $2, $3, $4, $5, $6, $7)

-- name: end_subscription
select end_subscription($1)

-- name: retirable
-- The subscriptions of this plugin, or of this name, with what waits as a task; of one event type if it is given.
select subscriptions.name as subscription, count(*) filter (where state <> 'dead_lettered') as tasks,
       count(*) filter (where state = 'dead_lettered') as dead_letters
from subscriptions left join tasks on tasks.subscription = subscriptions.name and ($2::text is null or type = $2)
where $1 in (subscriptions.name, split_part(subscriptions.name, '~', 1), split_part(subscriptions.name, '.', 1))
  and ($2::text is null or $2 = any(subscriptions.types))
group by subscriptions.name order by subscriptions.name

-- name: give_type_up
-- With its dead letters.
select give_type_up($1, $2)

-- name: feed
select subscription_name as subscription, delivered, caught_up, task_token, attempts, crashes, checkpoint, position, stream, type,
       version, id, data::text, metadata, recorded_at
from feed_and_claim($1, $2, $3, $4, $5, $6, $7, $8)

-- name: claim
select task_token, attempts, crashes, checkpoint, position, stream, type, version, id, data::text, metadata, recorded_at
from claim_tasks($1, $2, $3, $4, $5)

-- name: complete
select complete_task($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: finish
select finish_task($1, $2, $3, $4)

-- name: hold
-- The fencing token holds for a transaction that does not finish the task.
select 1 from tasks where subscription = $1 and stream = $2 and position = $3 and token = $4 for update

-- name: save_checkpoint
-- Work that comes forward is not what its workers died of.
update tasks set checkpoint = $5, crashes = 0
where subscription = $1 and stream = $2 and position = $3 and token = $4 returning 1

-- name: retry
select retry_task($1, $2, $3, $4, $5, $6, $7, $8)

-- name: dead_letter
select dead_letter_task($1, $2, $3, $4, $5, $6)

-- name: release
-- Give tasks back: the worker is stopping. Those with the tokens $2 had begun, and end with it.
select give_tasks_back(array[$1::uuid], false, $2)

-- name: register_worker
insert into workers (id, lease_until, host, boot_id, pid, pid_started)
values ($1, log_time() + $2::interval, $3, $4, $5, $6)

-- name: heartbeat
update workers set lease_until = log_time() + $2::interval, beat_at = log_time() where id = $1 returning id

-- name: workers_on_this_machine
select id, pid, pid_started from workers where host = $1 and boot_id = $2 and id <> $3

-- name: lock_lost_workers
-- Workers whose lease ran out, and those known to be dead. Locking them first waits for claims in flight.
select id from workers where lease_until < log_time() or id = any($1) order by id for update

-- name: requeue_lost_tasks
-- Also those that a lost worker claimed while it was being deleted.
select give_tasks_back($1, true, null)

-- name: delete_workers
delete from workers where id = any($1)

-- name: open_batch
-- With the last call for this cursor, if it has not ended.
select opened.catch_up, after, opened.reached, types, more, has_tasks, position, stream, type, version, id, data::text,
       batch_calls.reached as cut_off, alone
from open_batch($1, $2, $3) as opened
left join batch_calls on subscription = $1 and batch_calls.catch_up = coalesce(opened.catch_up, 0)

-- name: begin_batch_call
-- Note that a call begins, ahead of the transaction in which it runs: up to which position ($3), and of which event
-- alone ($4).
insert into batch_calls (subscription, catch_up, reached, alone) values ($1, $2, $3, $4)
on conflict (subscription, catch_up)
    do update set reached = greatest(batch_calls.reached, excluded.reached), alone = excluded.alone

-- name: end_batch_call
-- The call up to there ($3) has ended; one that was to go further is still suspected.
with ended as (delete from batch_calls where subscription = $1 and catch_up = $2 and reached <= $3)
update batch_calls set alone = null where subscription = $1 and catch_up = $2 and reached > $3

-- name: read_batch
select position, stream, type, version, id, data::text
from events where position > $1 and position <= $2 and type = any($3) order by position limit $4

-- name: events_at
select position, stream, type, version, id, data::text, metadata, recorded_at
from events where position = any($1) order by position

-- name: streams_with_tasks
-- Streams of which something still waits, as a task or in the log; a dead letter counts if $3 says so.
select distinct stream from tasks where subscription = $1 and stream = any($2) and ($3 or state <> 'dead_lettered')
union
select stream from catch_ups where subscription = $1 and stream = any($2)

-- name: make_tasks
select make_tasks($1, $2, $3, $4, $5, $6, $7)

-- name: move_cursor
select move_cursor($1, $2, $3, $4)

-- name: is_busy
-- Whether these subscriptions have something left to do: a task that runs or, of a type and version that is handled by
-- this code, is ready; an event up to a position that has yet to become a task. What waits behind a dead letter of its
-- stream is not left to do, since only a person can set it going. That holds for a rebuilding with a dead letter, too;
-- any other is left to be swapped in.
select exists (
    select from unnest($3::text[], $4::text[], $5::integer[]) as handled (subscription, type, version)
    join tasks on tasks.subscription = handled.subscription and tasks.state = 'ready' and tasks.type = handled.type
        and tasks.version = handled.version
) or exists (
    select from tasks where subscription = any($1) and state = 'running'
) or exists (
    select from subscriptions
    where name = any($1) and (
        position < $2 or has_catch_up_to_feed(name) or name like '%~rebuild' and not exists (
            select from tasks where subscription = name and state = 'dead_lettered'))
)

-- name: ended
-- Those of these subscriptions that an operator has retired.
select asked.name from unnest($1::text[]) as asked (name)
where not exists (select from subscriptions where subscriptions.name = asked.name)

-- name: waiting_for_other_code
-- Ready tasks of these subscriptions whose type and version this code, which handles the others, does not know.
select subscription, type, version, count(*) as events from tasks
where subscription = any($1) and state = 'ready' and not exists (
    select from unnest($2::text[], $3::text[], $4::integer[]) as handled (subscription, type, version)
    where handled.subscription = tasks.subscription and handled.type = tasks.type
      and handled.version = tasks.version
)
group by subscription, type, version order by subscription, type, version

-- name: subscriptions
-- Each with its tasks by state, and the events of streams behind it that are known to wait in the log.
select subscriptions.name, subscriptions.position, subscriptions.delivered,
       count(*) filter (where state in ('queued', 'ready')) as waiting,
       count(*) filter (where state = 'running') as running,
       count(*) filter (where state = 'dead_lettered') as dead_lettered,
       (select coalesce(sum(waiting), 0)::bigint from catch_ups where subscription = subscriptions.name) as in_log
from subscriptions left join tasks on tasks.subscription = subscriptions.name
group by subscriptions.name order by subscriptions.name

-- name: job_begin
-- Take the job if it is due (or if $3) and mark its beginning; returns how many runs before it ended with their process.
insert into jobs (name, started_at, crashes) values ($1, log_time(), 1)
on conflict (name) do update set started_at = log_time(), error = null, crashes = jobs.crashes + 1, is_wanted = false
where $3 or jobs.is_wanted or jobs.finished_at is null or jobs.finished_at + $2::interval <= log_time()
returning crashes - 1

-- name: job_end
update jobs set finished_at = log_time(), error = $2, crashes = 0 where name = $1

-- name: job_left
-- The run has not come to its end, but neither has its process.
update jobs set crashes = 0 where name = $1

-- name: job_due
-- Seconds until the job is due; below zero when it is late. If the clock was set back, and what was to happen has not
-- been set back with it yet, it is time to ask again in a second.
select case
    when log_time() < (select seen_at from log_clock where follower = 'leases') - interval '1 second' then 1
    when is_wanted then 0
    else coalesce(extract(epoch from finished_at + $2::interval - log_time()), 0)
end::float from jobs where name = $1

-- name: want_job
-- A job that has never run is due anyway.
update jobs set is_wanted = true where name = $1 and not is_wanted

-- name: job_states
select name, started_at, finished_at, error from jobs order by name

-- name: check_clock
-- How many seconds the database's clock was set back, where it was; leases and jobs are with it.
select check_clock()

-- name: set_tasks_back
-- Whether tasks were set back with it: at once, or once nothing had them locked any more.
select set_tasks_back()

-- name: sequences_behind
-- Sequences that would draw what is taken: a position up to an event's or a cursor's, a number of a task or a catch-up.
-- Each with what it drew last, what is taken, and what mends it.
select sequence::text, coalesce(pg_sequence_last_value(sequence), 0) as drawn, taken,
       format('select setval(%L, %s)', sequence::text, taken) as statement
from (
    select 'events_position'::regclass as sequence, greatest(
        (select max(position) from subscriptions),
        (select position from events order by position desc limit 1),
        (select max(last) - 1 from retired_partitions)
    ) as taken
    union all
    select pg_get_serial_sequence('tasks', 'id')::regclass, (select max(id) from tasks)
    union all
    select pg_get_serial_sequence('catch_ups', 'id')::regclass, (select max(id) from catch_ups)
) as known
where taken > coalesce(pg_sequence_last_value(sequence), 0)

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
select rewind_subscription($1, $2)

-- name: redeliver_stream
-- Hand the events of one stream out again.
select redeliver_stream($1, $2, $3)

-- name: notify_without_waiting_for_the_disk
-- For this session: a notification that a crash takes away is one of a log that is read again anyway.
set synchronous_commit = off

-- name: own_pid
-- The server's process, whose number a pooler does not tell; notifications name it.
select pg_backend_pid()

-- name: notify
notify codelupe_log

-- name: notify_of_tasks
-- What waits was changed from outside: retried, dropped, handed out again.
notify codelupe_log, 'tasks'
