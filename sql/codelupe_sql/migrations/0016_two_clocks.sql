-- Leases and jobs follow a clock that was set back at once, also while a process that stands still has tasks locked.

alter table log_clock add column follower text not null default 'leases';
alter table log_clock alter column follower drop default, add primary key (follower);
insert into log_clock (follower, seen_at) select 'tasks', seen_at from log_clock;
comment on column log_clock.follower is 'What has been set back with the clock: leases and jobs, or tasks.';

-- Remembers what time it is. If that is earlier than it was before, by more than a second, the clock was set back:
-- returns by how much.
create function step_back(what text) returns interval language plpgsql as $$
declare
    now constant timestamptz := log_time();
    seen timestamptz;
begin
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

-- Sets back with the clock what tasks wait for; returns whether it was set back. It does not wait for long for tasks
-- that others have locked, and holds up none that works on others meanwhile.
create function set_tasks_back() returns boolean language plpgsql as $$
declare
    now constant timestamptz := log_time();
    back constant interval := step_back('tasks');
begin
    update tasks set run_at = run_at - back where back is not null and state <> 'dead_lettered' and run_at > now;
    return back is not null;
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

alter function set_tasks_back() set lock_timeout = '200ms';
