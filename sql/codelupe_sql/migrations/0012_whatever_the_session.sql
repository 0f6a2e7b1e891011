-- The log stands whatever the session is set to and whatever the clock does.

-- --- functions with one meaning for ever, whatever is in front of the search_path ---

create or replace function head_position() returns bigint language sql volatile
begin atomic
    select coalesce(pg_sequence_last_value('events_position'::regclass), 0);
end;

create or replace function log_start() returns bigint language sql stable
begin atomic
    select coalesce(max(last), 0) from retired_partitions;
end;

-- The append barrier, once a transaction: whatever appends to the log, an INSERT by hand too, passes it before it
-- draws. What it uses is named with its schema, since to set a search_path for each append would take time. Assignments,
-- since PL/pgSQL evaluates those without running a query.
do $$
begin
    execute format($body$
        create or replace function raise_append_barrier() returns void language plpgsql as $function$
        declare
            ignored text;
        begin
            if current_setting('codelupe.append_barrier', true) is distinct from 'raised' then
                ignored := pg_advisory_xact_lock_shared(
                    20260, (coalesce(pg_sequence_last_value('%1$I.events_position'), 0) & 2147483647)::integer);
                ignored := set_config('codelupe.append_barrier', 'raised', true);
            end if;
        end $function$;

        create or replace function raise_append_barrier_before_insert() returns trigger language plpgsql as $function$
        declare
            ignored text;
        begin
            ignored := %1$I.raise_append_barrier();
            return null;
        end $function$;
    $body$, current_schema());
end $$;

drop trigger append_barrier on events;
create trigger append_barrier before insert on events for each statement
    execute function raise_append_barrier_before_insert();

-- --- an INSERT straight into a partition raises the append barrier, too ---

-- Keeps three empty partitions ahead of the newest event. A new size holds from the next partition on. They are made
-- first and attached then: CREATE TABLE … PARTITION OF would wait for every open transaction that has appended or
-- read, and make all others wait behind it.
create or replace function create_event_partitions(size bigint default 2000000) returns integer language plpgsql as $$
declare
    head bigint;
    first bigint;
    created integer := 0;
begin
    head := head_position();
    select coalesce(max(last), 0) into first from event_partitions;
    while first <= head + 3 * size loop
        execute format('create table events_%s (like events including defaults)', first);
        perform guard_partition(format('events_%s', first));
        execute format(
            'alter table events attach partition events_%s for values from (%s) to (%s)', first, first, first + size);
        first := first + size;
        created := created + 1;
    end loop;
    return created;
end $$;

-- Of a partition that is inserted into through the log's table, the trigger on that table is the one that fires.
create function guard_partition(name text) returns void language plpgsql as $$
begin
    execute format($guard$
        create trigger append_barrier before insert on %I for each statement
            execute function raise_append_barrier_before_insert()
    $guard$, name);
end $$;

select guard_partition(name) from event_partitions;

-- --- a clock that is set back ---

-- The latest time that a process has seen.
create table log_clock (
    seen_at timestamptz not null
);
insert into log_clock values (log_time());

alter table workers add column beat_at timestamptz not null default log_time();
comment on column workers.beat_at is 'When the lease was last extended.';

-- Remembers what time it is. If that is earlier than it was before, by more than a second, the clock was set back: what
-- was to happen at times of the old clock is set back with it, and the seconds are returned.
create function check_clock() returns double precision language plpgsql as $$
declare
    now constant timestamptz := log_time();
    seen timestamptz;
    back interval;
begin
    select seen_at into seen from log_clock for update skip locked;
    if seen is null or now between seen - interval '1 second' and seen + interval '0.5 seconds' then
        return null;
    end if;
    update log_clock set seen_at = now;
    if now > seen then
        return null;
    end if;
    back := seen - now;
    update tasks set run_at = run_at - back where state <> 'dead_lettered' and run_at > now;
    update workers set lease_until = lease_until - back, beat_at = beat_at - back where beat_at > now;
    update jobs set started_at = started_at - back, finished_at = finished_at - back
    where greatest(started_at, finished_at) > now;
    return extract(epoch from back);
end $$;

-- --- functions find their tables under any search_path, such as the empty one under which pg_dump restores ---

do $$
declare
    it regprocedure;
begin
    for it in
        select pg_proc.oid from pg_proc join pg_language on pg_language.oid = prolang
        where pronamespace = current_schema()::regnamespace and lanname in ('plpgsql', 'sql') and prosqlbody is null
          and proname in (
              'append_events', 'begin_rebuild', 'catch_up_is_due', 'check_clock', 'claim_tasks', 'complete_task',
              'create_event_partitions', 'dead_letter_task', 'declare_subscription', 'drop_retired_partitions',
              'end_subscription', 'feed_and_claim', 'feed_catch_ups', 'feed_tasks', 'finish_rebuild', 'finish_task',
              'give_tasks_back', 'give_type_up', 'guard_partition', 'has_catch_up_to_feed', 'high_water_mark',
              'hold_and_settle_streams', 'hold_streams', 'index_full_partitions', 'make_tasks', 'may_be_ready',
              'move_cursor', 'next_feed', 'open_batch', 'queue_tasks', 'ready_next_task', 'rebuild_name', 'rebuild_schema',
              'redeliver_stream', 'reserve_positions', 'retry_task', 'rewind_subscription', 'settle_streams'
          )
    loop
        execute format('alter function %s set search_path = %I, pg_temp', it, current_schema());
    end loop;
end $$;
