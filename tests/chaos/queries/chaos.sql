-- What the crash test keeps in tables of its own, and what it asks of the server that it hurts.

-- name: create_tables
-- Nothing here is unique on purpose: what is done twice must be seen, not prevented.
create table chaos_subscriptions (name text, event_type text, emits_every bigint);
create table chaos_intended (number bigint, batch bigint);
create table chaos_appends (chunk bigint primary key);
create table chaos_effects (
    id bigserial,
    subscription text not null,
    stream text not null,
    position bigint not null,
    attempt integer not null,
    version text not null
);
create table chaos_clock (ahead interval not null);
insert into chaos_clock values ('0');
create table chaos_hot_stream (blocked boolean not null);
insert into chaos_hot_stream values (true);
-- The events by the number that each root has and that what is emitted because of it carries on.
create view chaos_numbered as
select position, type, metadata ->> 'by' as by, coalesce(data ->> 'files', data ->> 'url')::bigint as number
from events where type in ('BatchReady', 'RepoEmpty', 'RepoEchoed')

-- name: take_clock_over
create or replace function log_time() returns timestamptz language sql stable
as $$ select now() + ahead from chaos_clock $$

-- name: set_clock
update chaos_clock set ahead = $1

-- name: is_clock_seen
select bool_and(abs(extract(epoch from log_time() - seen_at)) < 60) from log_clock

-- name: is_hot_stream_blocked
select blocked from chaos_hot_stream

-- name: unblock_hot_stream
-- Returns how many of its events wait.
with unblocked as (update chaos_hot_stream set blocked = false)
select count(*) from events
where stream = $1 and type = 'BatchReady' and not exists (
    select from chaos_effects where subscription = 'chaos.each' and chaos_effects.position = events.position
)

-- name: insert_subscription
insert into chaos_subscriptions (name, event_type, emits_every) values ($1, $2, $3)

-- name: mark_append
-- No row: the transaction whose end we did not learn had committed.
insert into chaos_appends (chunk) values ($1) on conflict do nothing returning chunk

-- name: insert_effect
insert into chaos_effects (subscription, stream, position, attempt, version) values ($1, $2, $3, $4, $5)

-- name: break_high_water_mark
-- Sabotage: readers take every position that was drawn for settled, as a plain "position > last" does.
create or replace function high_water_mark() returns bigint language sql volatile as
$$ select case when is_called then last_value else 0 end from events_position $$

-- name: is_work_left
-- Whether an event has not reached every subscription, or a task is not done.
with mark as materialized (select high_water_mark() as position)
select exists (select from tasks) or exists (select from catch_ups)
    or exists (select from subscriptions, mark where subscriptions.position < mark.position)
    or (select count(distinct name) from subscriptions) < (select count(distinct name) from chaos_subscriptions)
    or exists (
        select from chaos_subscriptions join subscriptions using (name)
        where chaos_subscriptions.event_type <> all(subscriptions.types)
    )
    or (select position < last_value from mark, events_position)

-- name: count_events
select count(*) from events

-- name: count_effects
select count(*) as all, count(*) filter (where attempt > 1) as later from chaos_effects

-- name: is_at_work
-- Whether this process holds a task.
select exists (select from tasks join workers on workers.id = tasks.worker where workers.pid = $1)

-- name: has_lease
select exists (select from workers where pid = $1 and lease_until >= log_time())

-- name: moment
select log_time()

-- name: registered_pids
-- The processes whose leases last longer than those from before that moment; none if there is any other lease.
select coalesce(
    (select array_agg(pid order by pid) from workers having min(lease_until) > $1::timestamptz + $2::interval), '{}')

-- name: client_backends
select pid from pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid() order by pid

-- name: terminate_backends
-- Returns how many were there to be ended.
select count(*) filter (where pg_terminate_backend(pid)) from unnest($1::integer[]) as backend (pid)

-- name: postmaster_pid
select split_part(pg_read_file('postmaster.pid'), e'\n', 1)::integer

-- name: server_started
select pg_postmaster_start_time()

-- name: stuck_subscriptions
select name, position, high_water_mark() as high_water_mark from subscriptions

-- name: stuck_tasks
select subscription, state, count(*), min(position) as first, max(attempts) as attempts, max(crashes) as crashes,
       min(run_at) as next_run, now() as now, (array_agg(error order by position))[1] as error
from tasks group by subscription, state

-- name: stuck_catch_ups
select subscription, stream, types, position, waiting from catch_ups

-- name: stuck_workers
select id, pid, lease_until, now() as now from workers

-- name: stuck_backends
select pid, application_name, state, wait_event_type, wait_event, now() - xact_start as open_for,
       pg_blocking_pids(pid) as blocked_by, left(query, 100) as query
from pg_stat_activity where backend_type = 'client backend' and xact_start is not null and pid <> pg_backend_pid()
