-- The event log: facts in order, who has read how far, and what is being worked on.
--
-- Appending and reading meet at a fence. An appender reads the sequence's last value L, takes a shared advisory
-- lock whose key is L, and only then draws its positions, which are therefore all above L. The lock falls at
-- commit. A reader looks at the sequence first and at the lowest such lock second: no transaction still open can
-- commit anything at or below the lower of the two. A plain "position > checkpoint" loses what commits late.

create sequence events_position;

-- The highest position ever drawn.
create function head_position() returns bigint language sql volatile as $$
    select coalesce(pg_sequence_last_value('events_position'::regclass), 0)
$$;

-- The log's own clock: leases, waits and schedules go by it alone, never by a worker's. Tests replace it.
create function log_time() returns timestamptz language sql stable as $$ select now() $$;

-- The facts, in order, never changed. stream is what is handled in order; id never changes, wherever the log goes;
-- metadata says which stage appended it ("by") and which event made it do so ("caused_by").
create table events (
    position bigint not null default nextval('events_position') primary key,
    stream text not null,
    type text not null,
    version integer not null,
    id uuid not null,
    data jsonb not null,
    metadata jsonb not null,
    recorded_at timestamptz not null default clock_timestamp()
) partition by range (position);

-- What is looked up now and then costs the appender next to nothing: ids and times grow with the position, and the
-- streams of each range of pages are kept as a Bloom filter. A full partition gets a proper index by stream.
create index events_in_ranges on events using brin (id, recorded_at, stream text_bloom_ops)
    with (pages_per_range = 64, autosummarize = on);

-- The fence, once a transaction: whatever appends to the log, an INSERT by hand too, passes it before it draws.
-- Assignments, since PL/pgSQL evaluates those without running a query.
create function raise_fence() returns void language plpgsql as $$
declare
    ignored text;
begin
    if current_setting('codelupe.fenced', true) = 'yes' then
        return;
    end if;
    ignored := pg_advisory_xact_lock_shared(20260, (head_position() & 2147483647)::integer);
    ignored := set_config('codelupe.fenced', 'yes', true);
end $$;

create function raise_fence_before_append() returns trigger language plpgsql as $$
declare
    ignored text;
begin
    ignored := raise_fence();
    return null;
end $$;

create trigger fence before insert on events for each statement
    when (current_setting('codelupe.fenced', true) is distinct from 'yes')
    execute function raise_fence_before_append();

-- The highest position up to which no open transaction can still commit an event. Volatile on purpose: each
-- statement sees its own moment. Keys are the low 31 bits of a position, so they are read as the position nearest
-- below the sequence; one that seems more than 2^30 back belongs to an appender ahead of it and does not matter.
create function settled_position() returns bigint language plpgsql volatile as $$
declare
    head bigint;
    lowest bigint;
begin
    if pg_is_in_recovery() then  -- it has no fences, and its sequence runs ahead of the primary's
        raise exception 'a standby cannot tell which events are settled' using errcode = 'read_only_sql_transaction';
    end if;
    head := head_position();
    select min(head - behind) into lowest
    from (
        select ((head & 2147483647) - objid::bigint) & 2147483647 as behind
        from pg_locks
        where locktype = 'advisory' and classid = 20260 and objsubid = 2
          and database = (select oid from pg_database where datname = current_database())
    ) as fences
    where behind < 1073741824;
    return least(head, lowest);
end $$;

-- Partitions, as from which position up to which (not included).
create view event_partitions as
select oid as partition, relname as name,
       (regexp_match(pg_get_expr(relpartbound, oid), 'FROM \(''(\d+)''\)'))[1]::bigint as first,
       (regexp_match(pg_get_expr(relpartbound, oid), 'TO \(''(\d+)''\)'))[1]::bigint as last
from pg_class join pg_inherits on inhrelid = oid
where inhparent = 'events'::regclass;

-- Keeps three empty partitions ahead of the newest event. A new size holds from the next partition on. They are made
-- first and attached then: CREATE TABLE … PARTITION OF would wait for every open transaction that has appended or
-- read, and make all others wait behind it.
create function create_event_partitions(size bigint default 2000000) returns integer language plpgsql as $$
declare
    head bigint;
    first bigint;
    created integer := 0;
begin
    head := head_position();
    select coalesce(max(last), 0) into first from event_partitions;
    while first <= head + 3 * size loop
        execute format('create table events_%s (like events including defaults)', first);
        execute format(
            'alter table events attach partition events_%s for values from (%s) to (%s)', first, first, first + size);
        first := first + size;
        created := created + 1;
    end loop;
    return created;
end $$;

select create_event_partitions();

-- Gives partitions that can grow no more their index by stream; returns how many.
create function index_full_partitions() returns integer language plpgsql as $$
declare
    settled constant bigint := settled_position();
    full_one record;
    indexed integer := 0;
begin
    for full_one in
        select name from event_partitions
        where last <= settled and to_regclass(name || '_by_stream') is null order by first
    loop
        execute format('create index %I on %I (stream, position)', full_one.name || '_by_stream', full_one.name);
        indexed := indexed + 1;
    end loop;
    return indexed;
end $$;

-- Partitions that were let go of: into a file of a host, or for good, then without a path. The log begins after them.
create table retired_partitions (
    first bigint primary key,
    last bigint not null,
    events bigint not null,
    host text,
    path text,
    retired_at timestamptz not null default log_time()
);

-- The first position that the log still has. Who must not fall behind it locks subscriptions in row exclusive mode
-- first, by a write or by name, and asks then: nothing is retired meanwhile.
create function log_start() returns bigint language sql stable as $$
    select coalesce(max(last), 0) from retired_partitions
$$;

-- Drops the retired partitions; returns how many. It waits for all that uses the log and holds up what comes after,
-- so it needs a lock_timeout.
create function drop_retired_partitions() returns integer language plpgsql as $$
declare
    retired record;
    dropped integer := 0;
begin
    for retired in select name from event_partitions where last <= log_start() order by first loop
        execute format('drop table %I', retired.name);
        dropped := dropped + 1;
    end loop;
    return dropped;
end $$;

-- An idempotency key names one event for ever. Uniqueness cannot live on a table partitioned by position.
create table event_keys (
    key uuid primary key,
    position bigint not null
);

-- How many events a stream has, for streams whose writers say how many they expect.
create table stream_heads (
    stream text primary key,
    version bigint not null
);

-- Draws a position for each key and claims the keys; a null key is nobody's. A key that was claimed before comes back
-- with the earlier event's position. What is new is the caller's to insert, in this transaction.
create function reserve_positions(keys uuid[]) returns table ("position" bigint, duplicate boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    drawn bigint[];
    claimed integer;
begin
    perform raise_fence();
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
-- fence stands until commit and holds readers back.
create function append_events(
    streams text[], types text[], versions integer[], ids uuid[], datas jsonb[], metadatas jsonb[], keys uuid[]
) returns table ("position" bigint, duplicate boolean) language plpgsql as $$
#variable_conflict use_column
declare
    ignored text;
    drawn bigint[];
    known boolean[];
begin
    if cardinality(ids) = 1 and keys[1] is not null then  -- what handlers do most, in the fewest steps
        ignored := raise_fence();
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

-- How far each subscription has come. "delivered" counts the events ever handed to it: those whose tasks were made,
-- and for batches those handled, so that what is done is delivered less what is still in tasks.
create table subscriptions (
    name text primary key,
    position bigint not null,
    delivered bigint not null default 0,
    created_at timestamptz not null default log_time()
) with (fillfactor = 50);

-- One row a running process. Its lease is kept by a heartbeat, judged by the database's clock alone.
create table workers (
    id uuid primary key,
    lease_until timestamptz not null,
    host text not null,
    boot_id text not null,
    pid integer not null,
    pid_started text not null,
    started_at timestamptz not null default log_time()
) with (fillfactor = 50);

-- What is to be done: small, since a task that is done is deleted. The token is the fence: it changes with every
-- claim, and a completion names the token it was given. No foreign keys: they would be looked up at every claim, and
-- a claim whose worker is gone is found by the reaper anyway.
create table tasks (
    subscription text not null,
    stream text not null,
    position bigint not null,
    id bigint generated always as identity,
    state text not null default 'ready' check (state in ('ready', 'running', 'parked')),
    attempts integer not null default 0,
    losses integer not null default 0,
    run_at timestamptz not null default log_time(),
    worker uuid,
    token uuid,
    started_at timestamptz,
    parked_at timestamptz,
    progress jsonb,
    error text,
    traceback text,
    check ((state = 'running') = (worker is not null and token is not null)),
    primary key (subscription, stream, position)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

create index tasks_ready on tasks (subscription, position) where state = 'ready';
create unique index tasks_running on tasks (subscription, stream) where state = 'running';
create index tasks_parked on tasks (id) where state = 'parked';

-- Turns settled events into tasks and moves the cursors, for each stage that wants types[i] of stages[i], looking at
-- no more than fifty times at_most positions. A cursor that another process moves is left alone. Returns how many
-- tasks each stage ever had, and whether it has seen all there is. That a crash forgets it does no harm: cursor and
-- tasks are forgotten together.
create function feed_tasks(stages text[], types text[], at_most integer)
returns table (stage text, delivered bigint, level boolean) language plpgsql as $$
#variable_conflict use_column
declare
    settled constant bigint := settled_position();
    cursor record;
    horizon bigint;
begin
    perform set_config('synchronous_commit', 'off', true);
    for cursor in
        select name, position from subscriptions where name = any(stages) and position < settled
        order by name for update skip locked
    loop
        horizon := least(settled, cursor.position + 50 * at_most);
        with batch as materialized (
            select events.position, events.stream from events
            where events.position > cursor.position and events.position <= horizon
              and events.type in (
                  select wanted.type from unnest(stages, types) as wanted (stage, type)
                  where wanted.stage = cursor.name)
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
    return query select name, delivered, position >= settled from subscriptions where name = any(stages);
end $$;

-- Takes ready tasks at the head of their streams. A parked task holds its stream back if parked_blocks. A claim that
-- a crash forgets is made again, and the work under the forgotten one cannot be completed.
create function claim_tasks(stage text, claimer uuid, at_most integer, parked_blocks boolean)
returns table (
    task_token uuid, attempts integer, losses integer, progress jsonb, "position" bigint, stream text, type text,
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
        where subscription = stage and state = 'ready' and run_at <= log_time()
          and not exists (
              select from tasks as earlier
              where earlier.subscription = tasks.subscription and earlier.stream = tasks.stream
                and earlier.position < tasks.position and (parked_blocks or earlier.state <> 'parked')
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
        where subscription = stage and tasks.stream = ready.stream and tasks.position = ready.position
          and exists (select from workers where id = claimer)
        returning tasks.token, tasks.attempts, tasks.losses, tasks.progress, tasks.position
    )
    select claimed.token, claimed.attempts, claimed.losses, claimed.progress, events.position, events.stream,
           events.type, events.version, events.id, events.data, events.metadata, events.recorded_at
    from claimed join events on events.position = claimed.position order by events.position;
end $$;

-- Feeds stages, and where that brought something takes what a worker wants of it, so that an event reaches an idle
-- worker in one round trip. known[i] is what was delivered to stages_wanting[i] when the worker last looked. Returns a
-- row for each stage, without a token, and one for each task taken.
create function feed_and_claim(
    stages text[], types text[], at_most integer,
    claimer uuid, stages_wanting text[], known bigint[], wanted integer[], parked_blocks boolean[]
) returns table (
    stage text, delivered bigint, level boolean,
    task_token uuid, attempts integer, losses integer, progress jsonb, "position" bigint, stream text, type text,
    version integer, id uuid, data jsonb, metadata jsonb, recorded_at timestamptz
) language plpgsql as $$
declare
    fed record;
    i integer;
begin
    for fed in select * from feed_tasks(stages, types, at_most) loop
        return query select fed.stage, fed.delivered, fed.level, null::uuid, null::integer, null::integer, null::jsonb,
            null::bigint, null::text, null::text, null::integer, null::uuid, null::jsonb, null::jsonb,
            null::timestamptz;
        i := array_position(stages_wanting, fed.stage);
        if fed.delivered <> known[i] then
            begin
                return query select fed.stage, fed.delivered, fed.level, claimed.*
                from claim_tasks(fed.stage, claimer, wanted[i], parked_blocks[i]) as claimed;
            exception when unique_violation then
                null; -- another worker was faster
            end;
        end if;
    end loop;
end $$;

-- Deletes a task that is done, or fails with CL001: it belongs to somebody else by now.
create function finish_task(of_subscription text, of_stream text, at_position bigint, by_token uuid)
returns void language plpgsql as $$
begin
    delete from tasks
    where subscription = of_subscription and stream = of_stream and position = at_position and token = by_token;
    if not found then
        raise exception 'the task belongs to another worker' using errcode = 'CL001';
    end if;
end $$;

-- Finishes a task and appends what came of it, in one go.
create function complete_task(
    of_subscription text, of_stream text, at_position bigint, by_token uuid,
    streams text[], types text[], versions integer[], ids uuid[], datas jsonb[], metadatas jsonb[], keys uuid[]
) returns table ("position" bigint, duplicate boolean) language plpgsql as $$
declare
    ignored text;
begin
    ignored := finish_task(of_subscription, of_stream, at_position, by_token);
    if cardinality(ids) > 0 then
        return query select * from append_events(streams, types, versions, ids, datas, metadatas, keys);
    end if;
end $$;

-- Locks a subscription's cursor for this transaction, unless another process has it, and reads the first few events of
-- a batch behind it, which looks at no more than fifty times at_most positions. Each row says where the cursor stands,
-- how far the batch reaches, whether there is more, and whether some of the subscription's events have become tasks;
-- without events there is one such row. A function keeps its rows until it ends, so the caller reads longer batches
-- by himself.
create function open_batch(of_subscription text, types text[], at_most integer, few integer)
returns table (
    after bigint, reached bigint, more boolean, has_tasks boolean,
    "position" bigint, stream text, type text, version integer, id uuid, data jsonb
) language plpgsql as $$
#variable_conflict use_column
declare
    settled constant bigint := settled_position();
    start bigint;
    horizon bigint;
    tasks_exist boolean;
begin
    select position into start from subscriptions where name = of_subscription for update skip locked;
    horizon := least(settled, start + 50 * at_most);
    if start is null or start >= settled then
        return;
    end if;
    tasks_exist := (  -- in this order, else the planner may look through the tasks of all subscriptions for one
        select position from tasks where subscription = of_subscription order by stream, position limit 1
    ) is not null;
    return query
    select start, horizon, horizon < settled, tasks_exist,
           events.position, events.stream, events.type, events.version, events.id, events.data
    from (values (1)) as always
    left join lateral (
        select * from events
        where events.position > start and events.position <= horizon and events.type = any(types)
        order by events.position limit least(at_most, few)
    ) as events on true;
end $$;

-- When each job last began and ended, so that a schedule survives a restart.
create table jobs (
    name text primary key,
    started_at timestamptz,
    finished_at timestamptz,
    error text
);
