-- The event log: facts in order, who has read how far, and what is being worked on.
--
-- Appending and reading meet at a fence. An appender reads the sequence's last value L, takes a shared advisory
-- lock whose key is L, and only then draws its positions, which are therefore all above L. The lock falls at
-- commit. A reader looks at the sequence first and at the lowest such lock second: no transaction still open can
-- commit anything at or below the lower of the two. A plain "position > checkpoint" loses what commits late.

create sequence events_position;

-- The facts, in order, never changed. stream is what is handled in order; id never changes, wherever the log goes;
-- metadata says which stage appended it ("by") and which event made it do so ("caused_by").
create table events (
    position bigint not null,
    stream text not null,
    type text not null,
    version integer not null,
    id uuid not null,
    data jsonb not null,
    metadata jsonb not null,
    recorded_at timestamptz not null default clock_timestamp()
) partition by range (position);

create index events_by_position on events (position);
create index events_by_stream on events (stream, position);
create index events_by_id on events (id);

-- Partitions hold ten million positions each; two lie ahead of the newest event at any time.
create function create_event_partitions() returns integer language plpgsql as $$
declare
    size constant bigint := 10000000;
    head bigint;
    first bigint;
    created integer := 0;
begin
    select last_value into head from events_position;
    for step in 0..2 loop
        first := (head / size + step) * size;
        if to_regclass(format('events_%s', first)) is null then
            execute format(
                'create table if not exists events_%s partition of events for values from (%s) to (%s)',
                first, first, first + size);
            created := created + 1;
        end if;
    end loop;
    return created;
end $$;

select create_event_partitions();

-- An idempotency key names one event for ever. Uniqueness cannot live on a table partitioned by position.
create table event_keys (
    key uuid primary key,
    position bigint not null
);

-- Appends events in the order given and returns one row for each: its position, and whether the key was there
-- already (then nothing is written and the position is the earlier event's). Call it last in a transaction: the
-- fence stands until commit and holds readers back.
create function append_events(
    ids uuid[], streams text[], types text[], versions integer[], datas jsonb[], metadatas jsonb[], keys uuid[]
) returns table (id uuid, "position" bigint, duplicate boolean) language plpgsql as $$
#variable_conflict use_column
declare
    last_position bigint;
begin
    select case when is_called then last_value else 0 end into last_position from events_position;
    perform pg_advisory_xact_lock_shared(20260, (last_position & 2147483647)::integer);
    return query
    with numbered as materialized (
        select nextval('events_position') as position, entry.*
        from unnest(ids, streams, types, versions, datas, metadatas, keys)
            as entry (id, stream, type, version, data, metadata, key)
    ), claimed as (
        insert into event_keys (key, position)
        select key, position from numbered where key is not null order by key, position
        on conflict do nothing
        returning position
    ), inserted as (
        insert into events (position, stream, type, version, id, data, metadata)
        select position, stream, type, version, id, data, metadata from numbered
        where key is null or position in (select position from claimed)
        returning position
    )
    select numbered.id, numbered.position, inserted.position is null
    from numbered left join inserted using (position)
    order by numbered.position;
end $$;

-- The highest position up to which no open transaction can still commit an event. Volatile on purpose: each
-- statement sees its own moment. Keys are the low 31 bits of a position, so they are read as the position nearest
-- below the sequence; one that seems more than 2^30 back belongs to an appender ahead of it and does not matter.
create function settled_position() returns bigint language plpgsql volatile as $$
declare
    head bigint;
    lowest bigint;
begin
    select case when is_called then last_value else 0 end into head from events_position;
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

-- How far each subscription has turned events into tasks. "delivered" counts the tasks ever made, so that what is
-- done is delivered less what is still in tasks; nothing is counted while handling.
create table subscriptions (
    name text primary key,
    position bigint not null,
    delivered bigint not null default 0,
    created_at timestamptz not null default now()
);

-- One row a running process. Its lease is kept by a heartbeat, judged by the database's clock alone.
create table workers (
    id uuid primary key,
    lease_until timestamptz not null,
    host text not null,
    boot_id text not null,
    pid integer not null,
    pid_started text not null,
    started_at timestamptz not null default now()
);

-- What is to be done: small, since a task that is done is deleted. The token is the fence: it changes with every
-- claim, and a completion names the token it was given.
create table tasks (
    id bigint generated always as identity primary key,
    subscription text not null references subscriptions (name),
    stream text not null,
    position bigint not null,
    state text not null default 'ready' check (state in ('ready', 'running', 'parked')),
    attempts integer not null default 0,
    losses integer not null default 0,
    run_at timestamptz not null default now(),
    worker uuid references workers (id),
    token uuid,
    started_at timestamptz,
    parked_at timestamptz,
    progress jsonb,
    error text,
    traceback text,
    check ((state = 'running') = (worker is not null and token is not null)),
    unique (subscription, stream, position)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

create index tasks_ready on tasks (subscription, position) where state = 'ready';
create index tasks_by_worker on tasks (worker) where worker is not null;
create unique index tasks_one_running_per_stream on tasks (subscription, stream) where state = 'running';

-- When each job last began and ended, so that a schedule survives a restart.
create table jobs (
    name text primary key,
    started_at timestamptz,
    finished_at timestamptz,
    error text
);
