-- The log's words are the field's: high-water mark (was: settled position), append barrier (fence), dead letter (parked
-- task), crashes (losses, of a worker), checkpoint (progress, of a task). Functions whose bodies or results name one of
-- them are made anew; nothing else about them changes.

alter table tasks rename column losses to crashes;
alter table tasks rename column progress to checkpoint;
alter table tasks rename column parked_at to dead_lettered_at;
drop index tasks_parked;
alter table tasks drop constraint tasks_state_check;
update tasks set state = 'dead_lettered' where state = 'parked';
alter table tasks add check (state in ('ready', 'running', 'dead_lettered'));
create index tasks_dead_lettered on tasks (id) where state = 'dead_lettered';

drop trigger fence on events;
drop function raise_fence_before_append();
drop function feed_and_claim(text[], text[], integer, uuid, text[], bigint[], integer[], boolean[]);
drop function feed_tasks(text[], text[], integer);
drop function claim_tasks(text, uuid, integer, boolean);
drop function open_batch(text, text[], integer, integer);
drop function raise_fence();
drop function settled_position();

-- The highest position up to which no open transaction can still commit an event. Volatile on purpose: each
-- statement sees its own moment. Keys are the low 31 bits of a position, so they are read as the position nearest
-- below the sequence; one that seems more than 2^30 back belongs to an appender ahead of it and does not matter.
create function high_water_mark() returns bigint language plpgsql volatile as $$
declare
    head bigint;
    lowest bigint;
begin
    if pg_is_in_recovery() then  -- it has no append barriers, and its sequence runs ahead of the primary's
        raise exception 'a standby cannot tell the high-water mark' using errcode = 'read_only_sql_transaction';
    end if;
    head := head_position();
    select min(head - behind) into lowest
    from (
        select ((head & 2147483647) - objid::bigint) & 2147483647 as behind
        from pg_locks
        where locktype = 'advisory' and classid = 20260 and objsubid = 2
          and database = (select oid from pg_database where datname = current_database())
    ) as barriers
    where behind < 1073741824;
    return least(head, lowest);
end $$;

-- The append barrier, once a transaction: whatever appends to the log, an INSERT by hand too, passes it before it
-- draws. Assignments, since PL/pgSQL evaluates those without running a query.
create function raise_append_barrier() returns void language plpgsql as $$
declare
    ignored text;
begin
    if current_setting('codelupe.append_barrier', true) = 'raised' then
        return;
    end if;
    ignored := pg_advisory_xact_lock_shared(20260, (head_position() & 2147483647)::integer);
    ignored := set_config('codelupe.append_barrier', 'raised', true);
end $$;

create function raise_append_barrier_before_insert() returns trigger language plpgsql as $$
declare
    ignored text;
begin
    ignored := raise_append_barrier();
    return null;
end $$;

create trigger append_barrier before insert on events for each statement
    when (current_setting('codelupe.append_barrier', true) is distinct from 'raised')
    execute function raise_append_barrier_before_insert();

-- Gives partitions that can grow no more their index by stream; returns how many.
create or replace function index_full_partitions() returns integer language plpgsql as $$
declare
    high_water constant bigint := high_water_mark();
    full_one record;
    indexed integer := 0;
begin
    for full_one in
        select name from event_partitions
        where last <= high_water and to_regclass(name || '_by_stream') is null order by first
    loop
        execute format('create index %I on %I (stream, position)', full_one.name || '_by_stream', full_one.name);
        indexed := indexed + 1;
    end loop;
    return indexed;
end $$;

-- Draws a position for each key and claims the keys; a null key claims nothing. A key that was claimed before comes
-- back with the earlier event's position. What is new is the caller's to insert, in this transaction.
create or replace function reserve_positions(keys uuid[]) returns table ("position" bigint, duplicate boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    drawn bigint[];
    claimed integer;
begin
    perform raise_append_barrier();
    drawn := array(select nextval('events_position') from unnest(keys));
    insert into event_keys (key, position)
    select key, position from unnest(keys, drawn) as fresh (key, position) where key is not null order by key, position
    on conflict do nothing;
    get diagnostics claimed = row_count;
    if claimed = cardinality(array_remove(keys, null)) then
        return query select position, false from unnest(drawn) with ordinality as fresh (position, ordinal) order by ordinal;
        return;
    end if;
    return query
    select coalesce(event_keys.position, asked.position), coalesce(event_keys.position <> asked.position, false)
    from unnest(keys, drawn) with ordinality as asked (key, position, ordinal)
    left join event_keys using (key)
    order by asked.ordinal;
end $$;

-- Appends a few events in the order given and returns one row for each: its position, and whether the key was there
-- already (then nothing is written and the position is the earlier event's). Call it last in a transaction: the
-- append barrier stands until commit and holds readers back.
create or replace function append_events(
    streams text[], types text[], versions integer[], ids uuid[], datas jsonb[], metadatas jsonb[], keys uuid[]
) returns table ("position" bigint, duplicate boolean) language plpgsql as $$
#variable_conflict use_column
declare
    ignored text;
    drawn bigint[];
    known boolean[];
begin
    if cardinality(ids) = 1 and keys[1] is not null then  -- what handlers do most, in the fewest steps
        ignored := raise_append_barrier();
        position := nextval('events_position');
        insert into event_keys (key, position) values (keys[1], position) on conflict do nothing;
        duplicate := not found;
        if duplicate then
            select position into position from event_keys where key = keys[1];
        else
            insert into events (position, stream, type, version, id, data, metadata)
            values (position, streams[1], types[1], versions[1], ids[1], datas[1], metadatas[1]);
        end if;
        return next;
        return;
    end if;
    select array_agg(reserved.position order by ordinal), array_agg(reserved.duplicate order by ordinal)
    into drawn, known
    from reserve_positions(keys) with ordinality as reserved (position, duplicate, ordinal);
    insert into events (position, stream, type, version, id, data, metadata)
    select position, stream, type, version, id, data, metadata
    from unnest(drawn, known, streams, types, versions, ids, datas, metadatas)
        as entry (position, known, stream, type, version, id, data, metadata)
    where not known;
    return query select * from unnest(drawn, known);
end $$;

-- Turns events below the high-water mark into tasks and moves the cursors, for each subscription that wants types[i]
-- of subscription_names[i], looking at no more than fifty times at_most positions. A cursor that another process
-- moves is left alone. Returns how many tasks each subscription ever had, and whether it has seen all there is. That
-- a crash forgets it does no harm: cursor and tasks are forgotten together.
create function feed_tasks(subscription_names text[], types text[], at_most integer)
returns table (subscription_name text, delivered bigint, caught_up boolean) language plpgsql as $$
#variable_conflict use_column
declare
    high_water constant bigint := high_water_mark();
    cursor record;
    horizon bigint;
begin
    perform set_config('synchronous_commit', 'off', true);
    for cursor in
        select name, position from subscriptions where name = any(subscription_names) and position < high_water
        order by name for update skip locked
    loop
        horizon := least(high_water, cursor.position + 50 * at_most);
        with batch as materialized (
            select events.position, events.stream from events
            where events.position > cursor.position and events.position <= horizon
              and events.type in (
                  select wanted.type from unnest(subscription_names, types) as wanted (subscription_name, type)
                  where wanted.subscription_name = cursor.name)
            order by events.position limit at_most
        ), made as (
            insert into tasks (subscription, stream, position)
            select cursor.name, stream, position from batch
            on conflict do nothing
            returning 1
        )
        update subscriptions set
            position = case when (select count(*) from batch) < at_most
                            then horizon else (select max(position) from batch) end,
            delivered = delivered + (select count(*) from made)
        where name = cursor.name;
    end loop;
    return query select name, delivered, position >= high_water from subscriptions where name = any(subscription_names);
end $$;

-- Takes ready tasks at the head of their streams. A dead letter holds its stream back if dead_letter_blocks. A claim
-- that a crash forgets is made again, and the work under the forgotten one cannot be completed.
create function claim_tasks(subscription_name text, claimer uuid, at_most integer, dead_letter_blocks boolean)
returns table (
    task_token uuid, attempts integer, crashes integer, checkpoint jsonb, "position" bigint, stream text, type text,
    version integer, id uuid, data jsonb, metadata jsonb, recorded_at timestamptz
) language plpgsql
-- One plan for all claims, which goes from task to task by index, whatever the planner thinks of the limit, and also
-- when it is made while the table is empty.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
begin
    perform set_config('synchronous_commit', 'off', true);
    return query
    with ready as materialized (
        select stream, position from tasks
        where subscription = subscription_name and state = 'ready' and run_at <= log_time()
          and not exists (
              select from tasks as earlier
              where earlier.subscription = tasks.subscription and earlier.stream = tasks.stream
                and earlier.position < tasks.position and (dead_letter_blocks or earlier.state <> 'dead_lettered')
          )
          and (  -- a later one: an event that was handed out again comes before it; a join would look at all that run
              select running.position from tasks as running
              where running.subscription = tasks.subscription and running.stream = tasks.stream
                and running.state = 'running' limit 1
          ) is null
        order by position limit at_most for update skip locked
    ), claimed as (
        update tasks set state = 'running', worker = claimer, token = gen_random_uuid(), started_at = log_time()
        from ready
        where subscription = subscription_name and tasks.stream = ready.stream and tasks.position = ready.position
          and exists (select from workers where id = claimer)
        returning tasks.token, tasks.attempts, tasks.crashes, tasks.checkpoint, tasks.position
    )
    select claimed.token, claimed.attempts, claimed.crashes, claimed.checkpoint, events.position, events.stream,
           events.type, events.version, events.id, events.data, events.metadata, events.recorded_at
    from claimed join events on events.position = claimed.position order by events.position;
end $$;

-- Feeds subscriptions, and where that brought something takes what a worker wants of it, so that an event reaches an
-- idle worker in one round trip. known[i] is what was delivered to claiming_for[i] when the worker last looked.
-- Returns a row for each subscription, without a token, and one for each task taken.
create function feed_and_claim(
    subscription_names text[], types text[], at_most integer,
    claimer uuid, claiming_for text[], known bigint[], wanted integer[], dead_letter_blocks boolean[]
) returns table (
    subscription_name text, delivered bigint, caught_up boolean,
    task_token uuid, attempts integer, crashes integer, checkpoint jsonb, "position" bigint, stream text, type text,
    version integer, id uuid, data jsonb, metadata jsonb, recorded_at timestamptz
) language plpgsql as $$
declare
    fed record;
    i integer;
begin
    for fed in select * from feed_tasks(subscription_names, types, at_most) loop
        return query select fed.subscription_name, fed.delivered, fed.caught_up, null::uuid, null::integer,
            null::integer, null::jsonb, null::bigint, null::text, null::text, null::integer, null::uuid, null::jsonb, null::jsonb,
            null::timestamptz;
        i := array_position(claiming_for, fed.subscription_name);
        if fed.delivered <> known[i] then
            begin
                return query select fed.subscription_name, fed.delivered, fed.caught_up, claimed.*
                from claim_tasks(fed.subscription_name, claimer, wanted[i], dead_letter_blocks[i]) as claimed;
            exception when unique_violation then
                null; -- another worker was faster
            end;
        end if;
    end loop;
end $$;

-- Locks a subscription's cursor for this transaction, unless another process has it, and reads the first few events
-- of a batch behind it, which looks at no more than fifty times at_most positions. Each row says where the cursor
-- stands, how far the batch reaches, whether there is more, and whether some of the subscription's events have
-- become tasks; without events there is one such row. A function keeps its rows until it ends, so the caller reads
-- longer batches with a query of its own.
create function open_batch(of_subscription text, types text[], at_most integer, few integer)
returns table (
    after bigint, reached bigint, more boolean, has_tasks boolean,
    "position" bigint, stream text, type text, version integer, id uuid, data jsonb
) language plpgsql as $$
#variable_conflict use_column
declare
    high_water constant bigint := high_water_mark();
    start bigint;
    horizon bigint;
    tasks_exist boolean;
begin
    select position into start from subscriptions where name = of_subscription for update skip locked;
    horizon := least(high_water, start + 50 * at_most);
    if start is null or start >= high_water then
        return;
    end if;
    tasks_exist := (  -- in this order, else the planner may look through the tasks of all subscriptions for one
        select position from tasks where subscription = of_subscription order by stream, position limit 1
    ) is not null;
    return query
    select start, horizon, horizon < high_water, tasks_exist,
           events.position, events.stream, events.type, events.version, events.id, events.data
    from (values (1)) as always
    left join lateral (
        select * from events
        where events.position > start and events.position <= horizon and events.type = any(types)
        order by events.position limit least(at_most, few)
    ) as events on true;
end $$;
