-- Leases and jobs follow a clock that was set back at once, and of tasks all but those that a process that stands still
-- has locked.

alter table log_clock add column follower text not null default 'leases';
alter table log_clock alter column follower drop default, add primary key (follower);
insert into log_clock (follower, seen_at) select 'tasks', seen_at from log_clock;
comment on column log_clock.follower is 'What has been set back with the clock: leases and jobs, or tasks.';

-- Tasks that are to be set back once those that have them locked let go.
create table tasks_to_set_back (
    subscription text not null,
    stream text not null,
    position bigint not null,
    run_at timestamptz not null,
    back interval not null,
    primary key (subscription, stream, position)
);

-- Remembers what time it is. If that is earlier than it was before, by more than a second, the clock was set back:
-- returns by how much.
create function step_back(what text) returns interval language plpgsql as $$
declare
    now constant timestamptz := log_time();
    seen timestamptz;
begin
    insert into log_clock (follower, seen_at) select what, now
    where not exists (select from log_clock where follower = what) on conflict do nothing;
    select seen_at into seen from log_clock where follower = what for update skip locked;
    if seen is null or now between seen - interval '1 second' and seen + interval '0.5 seconds' then
        return null;
    end if;
    update log_clock set seen_at = now where follower = what;
    return case when now < seen then seen - now end;
end $$;

-- Sets leases and jobs back with a clock that was; returns by how many seconds.
create or replace function check_clock() returns double precision language plpgsql as $$
declare
    now constant timestamptz := log_time();
    back constant interval := step_back('leases');
begin
    if back is null then
        return null;
    end if;
    update workers set lease_until = lease_until - back, beat_at = beat_at - back where beat_at > now;
    update jobs set started_at = started_at - back, finished_at = finished_at - back
    where greatest(started_at, finished_at) > now;
    return extract(epoch from back);
end $$;

-- Sets back with the clock what tasks wait for: those that are locked at a later call, unless they wait for something
-- else by then. Returns whether there were any. One process at a time. As for claims, by index whatever the plan.
create function set_tasks_back() returns boolean language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    now constant timestamptz := log_time();
    went_back interval;
    gone integer;
begin
    perform from log_clock where follower = 'tasks' for update skip locked;
    if not found and exists (select from log_clock where follower = 'tasks') then
        return false;
    end if;
    went_back := step_back('tasks');
    if went_back is not null then
        insert into tasks_to_set_back (subscription, stream, position, run_at, back)
        select tasks.subscription, tasks.stream, tasks.position, tasks.run_at, went_back
        from tasks where state <> 'dead_lettered' and tasks.run_at > now
        on conflict (subscription, stream, position) do update
            set run_at = excluded.run_at, back = tasks_to_set_back.back + excluded.back;
    end if;
    if not exists (select from tasks_to_set_back) then
        return false;
    end if;
    delete from tasks_to_set_back as late where not exists (
        select from tasks
        where tasks.subscription = late.subscription and tasks.stream = late.stream and tasks.position = late.position
    );
    with free as materialized (
        select tasks.ctid, late.ctid as place, late.back, tasks.run_at = late.run_at as waits
        from tasks_to_set_back as late join tasks
            on tasks.subscription = late.subscription and tasks.stream = late.stream and tasks.position = late.position
        for update of tasks skip locked
    ), moved as (
        update tasks set run_at = tasks.run_at - free.back from free where tasks.ctid = free.ctid and free.waits
    )
    delete from tasks_to_set_back where ctid = any(array(select place from free));
    get diagnostics gone = row_count;
    return gone > 0;
end $$;

-- As in 0012: under any search_path, such as the empty one under which pg_dump restores.
do $$
declare
    it regprocedure;
begin
    for it in
        select oid from pg_proc
        where pronamespace = current_schema()::regnamespace and proname in ('step_back', 'check_clock', 'set_tasks_back')
    loop
        execute format('alter function %s set search_path = %I, pg_temp', it, current_schema());
    end loop;
end $$;
