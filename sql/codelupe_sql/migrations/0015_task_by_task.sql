-- From task to task by index, also under plans made while the tables were empty: a session keeps those until the first
-- analyze, and joins compared every task with every other. Subqueries with a limit are not joined. Besides, a replay may
-- begin and a rebuild go on while a type that was added is caught up with.

-- Makes the first task of each of these streams the ready one, unless one is running; the streams are held. Subqueries
-- with a limit are not joined, so each goes by index to one stream, also under a plan from when the table was empty.
create or replace function settle_streams(of_subscription text, streams text[]) returns void language plpgsql as $$
declare
    it record;
begin
    for it in
        select asked.stream, active.position
        from (select distinct stream from unnest(streams) as asked (stream)) as asked
        left join lateral (
            select position, state from tasks
            where subscription = of_subscription and tasks.stream = asked.stream and state in ('ready', 'running')
            limit 1
        ) as active on true
        where active.position is null or active.state = 'ready' and (
            select true from tasks
            where subscription = of_subscription and tasks.stream = asked.stream and state = 'queued'
              and tasks.position < active.position
            limit 1
        )
    loop
        if it.position is not null then
            update tasks set state = 'queued'
            where subscription = of_subscription and stream = it.stream and position = it.position and state = 'ready';
            continue when not found;  -- it was claimed
        end if;
        perform ready_next_task(of_subscription, it.stream);
    end loop;
end $$;

-- Queues events as tasks of their streams, such that of each stream at most so many are queued ahead of what comes after
-- them. Returns how many tasks are new, and for each stream of which some were left out the first of those and how many
-- they are. The caller holds the subscription's cursor.
create or replace function queue_tasks(
    of_subscription text, streams text[], positions bigint[], types text[], versions integer[], at_most integer,
    out made integer, out left_streams text[], out left_positions bigint[], out left_counts bigint[]
) language plpgsql as $$
declare
    unheld constant text[] := hold_streams(of_subscription, streams);
begin
    with asked as (
        select stream, position, type, version, row_number() over (partition by stream order by position) as ordinal
        from unnest(streams, positions, types, versions) as asked (stream, position, type, version)
        where (
            select true from tasks
            where tasks.subscription = of_subscription and tasks.stream = asked.stream
              and tasks.position = asked.position
            limit 1
        ) is null
    ), placed as materialized (
        select stream, position, type, version, ordinal, max(case
            when ordinal > 1 then null
            when stream = any(unheld) then 0
            else at_most - (
                select count(*) from (
                    select from tasks
                    where subscription = of_subscription and tasks.stream = asked.stream and state = 'queued'
                      and tasks.position < asked.position
                    limit at_most
                ) as queued
            )
        end) over (partition by stream) as room
        from asked
    ), added as (
        insert into tasks (subscription, stream, position, type, version, state)
        select of_subscription, stream, position, type, version, 'queued' from placed where ordinal <= room
        on conflict do nothing
        returning 1
    ), left_out as (
        select stream, min(position) as position, count(*) as n from placed where ordinal > room group by stream
    )
    select (select count(*) from added), array_agg(stream), array_agg(position), array_agg(n)
    into made, left_streams, left_positions, left_counts from left_out;
    perform settle_streams(
        of_subscription, array(select stream from unnest(streams) as asked (stream) where stream <> all(unheld)));
end $$;

-- Makes tasks of events; what a stream has no room for is left to a catch-up of its own, as are all later events of a
-- stream that has one. Where the events are themselves from a catch-up, of_types says of which. Returns how many tasks
-- were made. The caller holds the subscription's cursor.
create or replace function make_tasks(
    of_subscription text, streams text[], positions bigint[], types text[], versions integer[], at_most integer,
    of_types text[] default null
) returns integer language plpgsql as $$
#variable_conflict use_column
declare
    queued record;
begin
    if exists (select from catch_ups where subscription = of_subscription and stream = any(streams)) then
        with asked as (
            select * from unnest(streams, positions, types, versions) as asked (stream, position, type, version)
        ), behind as materialized (
            select catch_up.id, asked.* from asked cross join lateral (
                select id from catch_ups
                where subscription = of_subscription and catch_ups.stream = asked.stream
                  and catch_ups.position < asked.position
                  and (catch_ups.types is null or asked.type = any(catch_ups.types))
                offset 0
            ) as catch_up
        ), counted as (
            update catch_ups set waiting = waiting + n
            from (select id, count(*) as n from behind group by id) as more where more.id = catch_ups.id
        )
        select array_agg(stream order by position), array_agg(position order by position),
               array_agg(type order by position), array_agg(version order by position)
        into streams, positions, types, versions
        from asked where position not in (select position from behind);
        if streams is null then
            return 0;
        end if;
    end if;
    queued := queue_tasks(of_subscription, streams, positions, types, versions, at_most);
    if queued.left_streams is not null then
        insert into catch_ups (subscription, stream, types, position, waiting, next_feed)
        select of_subscription, stream, of_types, position - 1, n, next_feed(of_subscription, stream, at_most)
        from unnest(queued.left_streams, queued.left_positions, queued.left_counts) as rest (stream, position, n)
        on conflict (subscription, stream, types) do update set position = least(catch_ups.position, excluded.position);
    end if;
    return queued.made;
end $$;

-- Turns events below the high-water mark into tasks and moves the cursors of these subscriptions, looking at no more
-- than fifty times at_most positions. A cursor that another process moves is left alone. Returns how many tasks each
-- subscription ever had, and whether it has seen all there is. That a crash forgets it does no harm: cursor and tasks
-- are forgotten together.
create or replace function feed_tasks(subscription_names text[], at_most integer)
returns table (subscription_name text, delivered bigint, caught_up boolean) language plpgsql
-- As for claims, below: from task to task by index.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
    high_water constant bigint := high_water_mark();
    cursor record;
    horizon bigint;
    found record;
    made integer;
begin
    perform set_config('synchronous_commit', 'off', true);
    for cursor in
        select name, position, types from subscriptions
        where name = any(subscription_names) and types is not null
          and (position < high_water or exists (select from catch_ups where subscription = name))
        order by name for update of subscriptions skip locked
    loop
        made := 0;
        horizon := cursor.position;
        if cursor.position < high_water then
            horizon := least(high_water, cursor.position + 50 * at_most);
            -- Asked only now that the cursor is locked: what is declared of the subscription is seen whole or not at all.
            if exists (select from catch_ups where subscription = cursor.name) then
                cursor.types := array(
                    select type from unnest(cursor.types) as wanted (type)
                    where not exists (
                        select from catch_ups
                        where subscription = cursor.name and stream is null and type = any(catch_ups.types)));
            end if;
            with batch as materialized (
                select position, stream, type, version from events
                where position > cursor.position and position <= horizon and type = any(cursor.types)
                order by position limit at_most
            ), free as (  -- what finds its stream without a task, in one statement; what does not, below
                insert into tasks (subscription, stream, position, type, version, state)
                select distinct on (stream) cursor.name, stream, position, type, version, 'ready' from batch
                where (
                    select true from tasks where tasks.subscription = cursor.name and tasks.stream = batch.stream limit 1
                ) is null and (
                    select true from catch_ups
                    where catch_ups.subscription = cursor.name and catch_ups.stream = batch.stream limit 1
                ) is null
                order by stream, position
                on conflict do nothing
                returning position
            )
            select (select count(*) from batch) as n, (select max(position) from batch) as last,
                   (select count(*) from free) as made, array_agg(stream) as streams, array_agg(position) as positions,
                   array_agg(type) as types, array_agg(version) as versions
            into found
            from (select * from batch where position not in (select position from free) order by position) as rest;
            made := found.made;
            if found.n = at_most then
                horizon := found.last;
            end if;
            if found.streams is not null then
                made := made + make_tasks(
                    cursor.name, found.streams, found.positions, found.types, found.versions, at_most);
            end if;
            update subscriptions set position = horizon where name = cursor.name;
        end if;
        made := made + feed_catch_ups(cursor.name, true, at_most);
        if made > 0 then
            update subscriptions set delivered = delivered + made where name = cursor.name;
        end if;
    end loop;
    return query
    select name, delivered, position >= high_water and not has_catch_up_to_feed(name) from subscriptions
    where name = any(subscription_names);
end $$;

-- Takes ready tasks whose event is of one of these types and versions, those that have waited longest first. A claim
-- that a crash forgets is made again, and the work under the forgotten one cannot be completed.
create or replace function claim_tasks(
    subscription_name text, claimer uuid, at_most integer, types text[], versions integer[]
) returns table (
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
    with known as materialized (
        select ready.ctid, ready.position, ready.run_at from unnest(types, versions) as known (type, version)
        cross join lateral (
            select ctid, position, run_at from tasks
            where subscription = subscription_name and state = 'ready' and tasks.type = known.type
              and tasks.version = known.version and run_at <= log_time()
            order by run_at, position limit at_most for no key update skip locked
        ) as ready
    ), claimed as (
        -- They are locked, so that they stay where they are.
        update tasks set state = 'running', worker = claimer, token = gen_random_uuid(), started_at = log_time()
        where ctid = any(array(select known.ctid from known order by run_at, position limit at_most))
          and exists (select from workers where id = claimer)
        returning tasks.token, tasks.attempts, tasks.crashes, tasks.checkpoint, tasks.position
    )
    select claimed.token, claimed.attempts, claimed.crashes, claimed.checkpoint, events.position, events.stream,
           events.type, events.version, events.id, events.data, events.metadata, events.recorded_at
    from claimed join events on events.position = claimed.position order by events.position;
end $$;

-- Sets a cursor back; returns where it stands then.
create or replace function rewind_subscription(of_subscription text, after bigint) returns bigint language plpgsql as $$
#variable_conflict use_column
declare
    reached bigint;
begin
    update subscriptions set position = least(position, after) where name = of_subscription
    returning position into reached;
    delete from catch_ups where subscription = of_subscription and stream is null and position >= reached;
    update catch_ups set position = reached where subscription = of_subscription and position > reached;
    return reached;
end $$;

-- Says what a subscription wants from now on. Of the types that are added, events before the cursor are caught up
-- with, unless from_now; of those that are dropped, what waits is given up. Returns how many tasks that were. The caller
-- holds the cursor.
create or replace function declare_subscription(
    of_subscription text, wanted text[], added text[], dropped text[], from_now boolean, blocks boolean, version text
) returns integer language plpgsql as $$
#variable_conflict use_column
declare
    start constant bigint := greatest(log_start() - 1, 0);
    streams text[];
    given_up integer;
begin
    update subscriptions set types = wanted, dead_letter_blocks = blocks, declared_by = version
    where name = of_subscription;
    if cardinality(added) > 0 and not from_now then
        insert into catch_ups (subscription, types, position)
        select name, added, start from subscriptions where name = of_subscription and position > start
        on conflict (subscription, stream, types) do update set position = excluded.position;
    end if;
    delete from tasks
    where subscription = of_subscription and type = any(dropped) and state in ('queued', 'ready');
    get diagnostics given_up = row_count;
    update subscriptions set delivered = delivered - given_up where name = of_subscription and given_up > 0;
    delete from catch_ups where subscription = of_subscription and types <@ dropped;
    update catch_ups set types = array(select type from unnest(types) as kept (type) where type <> all(dropped))
    where subscription = of_subscription and types && dropped;
    perform hold_and_settle_streams(
        of_subscription,
        array(select distinct stream from tasks where subscription = of_subscription and state = 'queued'));
    perform from subscriptions where name = rebuild_name(of_subscription) for update;
    if found then
        perform declare_subscription(
            rebuild_name(of_subscription), wanted, added, dropped, from_now, blocks, version);
    end if;
    return given_up;
end $$;

-- As in 0012: under any search_path, such as the empty one under which pg_dump restores.
do $$
declare
    it regprocedure;
begin
    for it in
        select oid from pg_proc
        where pronamespace = current_schema()::regnamespace and proname in (
            'settle_streams', 'queue_tasks', 'make_tasks', 'feed_tasks', 'claim_tasks', 'rewind_subscription',
            'declare_subscription'
        )
    loop
        execute format('alter function %s set search_path = %I, pg_temp', it, current_schema());
    end loop;
end $$;
